"""Boards: one YAML table each in `boards/`, with device, clock, pins and capacity."""

from __future__ import annotations

import importlib.resources
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from apical.sw.bundle import BundleError, read_yaml


class BoardError(ValueError):
    """A board that isn't known, or whose table breaks the schema; the message names file and field."""


_Pin = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Z]{0,2}[0-9]{1,2}$")]
_Count = Annotated[int, pydantic.Field(ge=0, le=10_000_000)]


class _Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)


class Pin(_Strict):
    """One package ball with its I/O standard.

    :param invert: the board's signal is active low.
    """

    ball: _Pin
    standard: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Z0-9_]{1,16}$")] = "LVCMOS33"
    pull: Literal["NONE", "UP", "DOWN"] = "NONE"
    invert: bool = False


class Clock(_Strict):
    """The board's oscillator.

    :param negative: the other ball of a differential pair.
    """

    pin: Pin
    frequency_mhz: Annotated[float, pydantic.Field(gt=0, le=1000)]
    negative: Pin | None = None


class Uart(_Strict):
    """Serial port seen from the FPGA: `transmit` is driven by it.

    :param baud: rate that the design and the host script use unless told otherwise.
    """

    transmit: Pin
    receive: Pin
    baud: Annotated[int, pydantic.Field(ge=300, le=12_000_000)] = 1_000_000


class Capacity(_Strict):
    """What the device has. `bram` counts blocks of `bram_kilobits`; `uram` blocks of 288 kbit."""

    lut: _Count
    ff: _Count
    dsp: _Count
    bram: _Count
    uram: _Count = 0
    bram_kilobits: Literal[4, 18, 36]
    lut_inputs: Literal[4, 6]


class Board(_Strict):
    """One board, or one device where the table only bounds what fits.

    :param flow: ``ecp5`` and ``ice40`` build bitstreams with open tools; ``xcup`` is synthesized for its area.
    :param part, board_part: Vivado's names of the device and, where there are board files, of the board.
    :param processor: the device has a processing system (Zynq UltraScale+), which feeds the design.
    :param design_mhz: clock that an UltraScale+ design is constrained to unless told otherwise.
    :param reset: push button that resets the design where no processor does.
    :param source: where pins and capacities come from.
    :param load: the command that loads a bitstream, `{bitstream}` standing for its file.
    """

    board: Literal[1]
    name: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    title: str
    flow: Literal["ecp5", "ice40", "xcup"]
    device: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9-]{1,40}$")]
    package: Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9-]{1,20}$")]
    speed_grade: Annotated[str, pydantic.StringConstraints(pattern=r"^[-A-Za-z0-9]{1,8}$")]
    capacity: Capacity
    source: list[str]
    part: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9]+-[a-z0-9]+-[0-9][A-Z]{0,2}-[a-z]$")] | None = (
        None
    )
    board_part: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9_.]+:[a-z0-9_]+:part0:[0-9.]+$")] | None = (
        None
    )
    processor: bool = False
    design_mhz: Annotated[float, pydantic.Field(gt=0, le=800)] | None = None
    clock: Clock | None = None
    reset: Pin | None = None
    uart: Uart | None = None
    leds: tuple[Pin, ...] = ()
    load: list[str] = []

    @pydantic.field_validator("leds", mode="before")
    @classmethod
    def _list_as_tuple(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value

    @pydantic.model_validator(mode="after")
    def _check(self) -> Board:
        balls = [p.ball for p in self.leds]
        balls += [pin.ball for pin in (self.clock.pin, self.clock.negative) if pin] if self.clock else []
        balls += [self.reset.ball] if self.reset else []
        balls += [self.uart.transmit.ball, self.uart.receive.ball] if self.uart else []
        if twice := sorted({b for b in balls if balls.count(b) > 1}):
            raise ValueError(f"ball {twice[0]} is used twice")
        if self.flow != "xcup" and (self.clock is None or self.uart is None):
            raise ValueError(f"an {self.flow} board needs clock and uart")
        if self.flow != "xcup" and (self.part or self.processor or self.reset or (self.clock and self.clock.negative)):
            raise ValueError(f"part, processor, reset and a differential clock are for xcup boards, not {self.flow}")
        if self.flow == "xcup" and (self.part is None or self.design_mhz is None):
            raise ValueError("an xcup board needs part and design_mhz")
        stem = f"{self.device}-{self.package}{self.speed_grade}-".lower()
        if self.part is not None and not self.part.lower().startswith(stem):
            raise ValueError(f"part: expected {stem}… as device, package and speed grade say, got {self.part}")
        if not self.source:
            raise ValueError("expected at least one source of the pins and capacities")
        return self


def _folder() -> Path:
    return Path(str(importlib.resources.files("apical.boards")))


def names() -> list[str]:
    """Boards that ship, in alphabetical order."""
    return sorted(path.stem for path in _folder().glob("*.yaml"))


def read(path: Path) -> Board:
    """Read and check one board's table.

    :raises BoardError: missing, not YAML, or against the schema.
    """
    try:
        raw = read_yaml(path)
        board = Board.model_validate(raw)
    except BundleError as error:
        raise BoardError(str(error).replace("network.yaml", path.name)) from None
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "table"
        raise BoardError(f"{path.name}: {field}: {first['msg']}, got {str(first['input'])[:80]!r}") from None
    if board.name != path.stem:
        raise BoardError(f"{path.name}: name: expected {path.stem!r} as the file's name says, got {board.name!r}")
    return board


def load(name: str) -> Board:
    """A shipped board by its name, or one's own by the path of its ``.yaml`` file.

    :raises BoardError: unknown (the message lists the known ones) or malformed.
    """
    if name.endswith(".yaml"):
        return read(Path(name))
    if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name) or name not in names():
        raise BoardError(f"board {name!r}: expected one of {', '.join(names())}, or a path of a .yaml file")
    return read(_folder() / f"{name}.yaml")
