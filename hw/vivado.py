"""From a design and a board to a folder that Vivado builds: IP, block design, scripts, constraints.

Nothing here was run in Vivado or on silicon: scripts are compared with stored text and executed by a Tcl interpreter
that knows Vivado's commands and options (tests/fake_tools/vivado). A model's strings never reach a script: every value
that does is checked to be a plain word.

Boards with a processing system get it with an AXI DMA. Others get a JTAG-AXI master and a stream FIFO: registers and
events then go over the programming cable, with no pin but the clock's, no protocol of our own and no host program
but Vivado's; slow, and the place where a PCIe bridge would go.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2

from apical.hw.boards import Board

BASES = {True: (0xA000_0000, 0xA001_0000, 0), False: (0x4400_0000, 0x4410_0000, 0x4420_0000)}
"""Addresses of the registers, of the DMA's (with a processor) or the FIFO's registers, and of the FIFO's words."""
TOP, ACCELERATOR = "apical_axi", "core"
_WORD = re.compile(r"[A-Za-z0-9_.:+/-]{0,80}")
BANNER = "# Written by apical for {board} ({part}). Not run in Vivado and not on silicon by its authors."


class VivadoError(ValueError):
    """A board or value that a Vivado project can't be made of; or a report that can't be read."""


@dataclass(frozen=True)
class Interface:
    """What the scripts need to know of the top module.

    :param identity: hexadecimal hash of the network.
    :param address_bits: of its AXI4-Lite port.
    :param data_bits: of its streams.
    """

    identity: str
    address_bits: int = 12
    data_bits: int = 64
    top: str = TOP


class Raw(str):
    """Text of our own that goes into a script as it is."""


def word(value: object) -> str:
    """A value as one Tcl word: letters, digits and ``_ . : + / -``.

    :raises VivadoError: anything else: it could be more than a word.
    """
    text = f"{value:.12g}" if isinstance(value, float) else str(value)
    if isinstance(value, Raw):
        return text
    if not _WORD.fullmatch(text):
        raise VivadoError(f"script: expected a plain word, got {text[:80]!r}")
    return text


def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        finalize=word,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.globals["brace"] = lambda value: Raw(f"{{{word(value)}}}")
    return environment


REPORTS = {"utilization.rpt": "report_utilization", "timing.rpt": "report_timing_summary", "power.rpt": "report_power"}
_REPORT_LINES = Raw(
    "report_utilization -file [file join $reports utilization.rpt]\n"
    "report_utilization -hierarchical -file [file join $reports utilization_hierarchical.rpt]\n"
    "report_timing_summary -max_paths 10 -report_unconstrained -file [file join $reports timing.rpt]\n"
    "report_power -file [file join $reports power.rpt]"
)


def _board_lines(board: Board) -> Raw:
    if board.board_part is None:
        return Raw("# no board files are known for this board")
    part = word(board.board_part)
    return Raw(
        f"if {{[llength [get_board_parts -quiet {part}]]}} {{\n    set_property board_part {part} [current_project]\n}}"
    )


def _range(bits: int) -> str:
    """A block design's address range, at least 4K."""
    size = 1 << max(bits, 12)
    return f"{size >> 10}K" if size < 1 << 20 else f"{size >> 20}M"


def values(board: Board, interface: Interface, mhz: float) -> dict[str, Any]:
    """What the templates are filled with.

    :raises VivadoError: not an UltraScale+ board, or one without a processor whose clock isn't known.
    """
    if board.flow != "xcup" or board.part is None:
        raise VivadoError(f"board {board.name}: expected an xcup board with a part, got flow {board.flow!r}")
    if not board.processor and (board.clock is None or board.clock.negative is None):
        raise VivadoError(
            f"board {board.name}: expected a processing system or a differential clock in its table, got neither: "
            "only out_of_context.tcl can be made"
        )
    base, second, third = BASES[board.processor]
    return {
        "banner": Raw(BANNER.format(board=word(board.name), part=word(board.part))),
        "board": board.name,
        "part": board.part,
        "processor": board.processor,
        "top": interface.top,
        "identity": interface.identity,
        "accelerator": ACCELERATOR,
        "saif_path": "TOP/apical_top/accelerator",
        "address_range": _range(interface.address_bits),
        "data_bits": interface.data_bits,
        "jtag_bits": min(interface.data_bits, 64),
        "base": f"0x{base:08X}",
        "second": f"0x{second:08X}",
        "third": f"0x{third:08X}",
        "mhz": float(mhz),
        "period": round(1e3 / mhz, 3),
        "io_delay": round(1e3 / mhz / 3, 3),
        "clock": board.clock,
        "clock_mhz": board.clock.frequency_mhz if board.clock else 0.0,
        "clock_hz": round(board.clock.frequency_mhz * 1e6) if board.clock else 0,
        "clock_period": round(1e3 / board.clock.frequency_mhz, 3) if board.clock else 0.0,
        "reset": board.reset,
        "board_lines": _board_lines(board),
        "report_lines": _REPORT_LINES,
    }


def render(template: str, known: Mapping[str, Any]) -> str:
    """A template of this folder, ``vivado_*.j2``, filled in.

    :raises VivadoError: a value that isn't a plain word (`word`).
    """
    return _environment().get_template(f"vivado_{template}.j2").render(known)


def scripts(board: Board, interface: Interface, mhz: float | None = None) -> dict[str, str]:
    """Every script and constraint file by its path in the folder.

    :param mhz: the design's clock; the board's `design_mhz` unless given.
    :raises VivadoError: a board without what a project needs.
    """
    known = values(board, interface, float(mhz or board.design_mhz or 100.0))

    def text(template: str) -> str:
        return render(template, known)

    system = "zynq.tcl" if board.processor else "jtag.tcl"
    return {
        "vivado/package_ip.tcl": text("package.tcl"),
        "vivado/system.tcl": text(system),
        "vivado/project.tcl": text("project.tcl"),
        "vivado/non_project.tcl": text("non_project.tcl"),
        "vivado/out_of_context.tcl": text("out_of_context.tcl"),
        "constraints/board.xdc": text("board.xdc"),
        f"constraints/{interface.top}_ooc.xdc": text("out_of_context.xdc"),
    }


def write(folder: Path, files: Mapping[str, str]) -> None:
    """Text files by their paths, into an existing folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
