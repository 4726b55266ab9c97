"""Prices of counted work: technology tables, and joules from counts.

A table is a YAML file in `sw/technologies/` or a user's own; docs/reference/energy.md lists the shipped ones.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

import pydantic

from apical.sw.bundle import BundleError, read_yaml
from apical.sw.counting import COMPONENTS, KINDS, MEMORY, MULTIPLICATIONS, by_memory

FOLDER = Path(__file__).parent / "technologies"
DEFAULT = "horowitz-45nm"
PICO = 1e-12
SMALLEST = 1024
"""Bytes below which a memory gets no cheaper: smaller ones are far from what the sources state."""


class EnergyError(ValueError):
    """A technology table, or a request for energy, that can't be used; the message names file and field."""


class Price(pydantic.BaseModel):
    """Price of one kind of work.

    :param value: energy of one unit of work, in `unit`; above zero, finite.
    :param unit: ``pJ`` per counted word or operation, or ``pJ/bit``: per bit of the words (memory kinds), per product
        of the operands' widths (multiplications).
    :param at_bytes: size of the memory for which a memory kind's price holds; other sizes cost in proportion to the
        square root of theirs, those below `SMALLEST` bytes as that. None: the price holds for any size.
    :param status: ``published`` (as printed in the source), ``derived`` (calculated from it, `note` says how),
        ``measured`` (by the owner of the table).
    :param source: full citation.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)
    value: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    unit: Literal["pJ", "pJ/bit"]
    status: Literal["published", "derived", "measured"]
    source: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=600)]
    note: Annotated[str, pydantic.StringConstraints(max_length=600)] = ""
    at_bytes: Annotated[int, pydantic.Field(ge=1)] | None = None

    def joules(self, kind: str, counts: Mapping[str, int]) -> float:
        """Energy of all work of a kind."""
        if self.at_bytes is not None:
            sizes = by_memory(counts, kind).items()
            work = sum(bits * math.sqrt(max(held, SMALLEST) / self.at_bytes) for held, bits in sizes)
        else:
            work = counts[f"{kind} bits" if self.unit == "pJ/bit" else kind]
        return work * self.value * PICO


class StaticPower(pydantic.BaseModel):
    """Power that flows whether or not there is work; counted where the run's time is known."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)
    value: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    unit: Literal["mW"]
    status: Literal["published", "derived", "measured"]
    source: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=600)]
    note: Annotated[str, pydantic.StringConstraints(max_length=600)] = ""


class Endurance(pydantic.BaseModel):
    """How often a weight's memory can be written before it fails: `value` writes of one word."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)
    value: Annotated[int, pydantic.Field(ge=1)]
    status: Literal["published", "derived", "measured"]
    source: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=600)]
    note: Annotated[str, pydantic.StringConstraints(max_length=600)] = ""


class Technology(pydantic.BaseModel):
    """A technology table: what one unit of each kind of work costs, and where that is written.

    :param like: name of a table that ships, whose prices hold where `prices` has none.
    :param absent: by kind why there is no price; a note wherever such work is counted.
    """

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)
    apical_technology: Literal[1]
    name: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    title: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=120)]
    about: Annotated[str, pydantic.StringConstraints(max_length=1200)] = ""
    prices: Annotated[dict[str, Price], pydantic.Field(min_length=1)]
    static_power: StaticPower | None = None
    like: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")] | None = None
    absent: dict[str, Annotated[str, pydantic.StringConstraints(min_length=1, max_length=600)]] = {}
    endurance: Endurance | None = None

    def price_of(self, kind: str) -> Price | None:
        """Price of a kind; ``law_update:LAW`` falls back to ``law_update``. None where the table has none."""
        return self.prices.get(kind) or self.prices.get(kind.partition(":")[0])

    def covers(self, composite: str) -> bool:
        """True where the table prices a composite kind as a whole (with ``law_update``: for any law)."""
        return any(kind.partition(":")[0] == composite for kind in self.prices)


def _check_prices(technology: Technology, where: str) -> None:
    for kind, price in technology.prices.items():
        base, _, law = kind.partition(":")
        if base not in KINDS or (law and base != "law_update") or kind.endswith(":"):
            raise EnergyError(f"{where}: prices: unknown kind {kind!r}; known: {', '.join(KINDS)} (or law_update:LAW)")
        if price.unit == "pJ/bit" and kind not in (*MEMORY, *MULTIPLICATIONS):
            which = "memory kinds and multiplications"
            raise EnergyError(f"{where}: prices.{kind}: expected unit pJ, got pJ/bit, which only {which} have")
        if price.at_bytes is not None and (kind not in MEMORY or price.unit != "pJ/bit"):
            raise EnergyError(f"{where}: prices.{kind}: at_bytes is for memory kinds priced in pJ/bit")
    for kind in technology.absent:
        if kind not in KINDS or kind in technology.prices:
            raise EnergyError(f"{where}: absent.{kind}: expected a kind without a price in this table")
    for composite, parts in COMPONENTS.items():
        both = [part for part in parts if part in technology.prices]
        if technology.covers(composite) and both:
            raise EnergyError(
                f"{where}: prices: {composite} already contains {both[0]}; expected a price for one of them, got both"
            )


def load_technology(path: Path) -> Technology:
    """Read and check a technology table.

    :raises EnergyError: no such file, not plain YAML, or out of schema; the message names file and field.
    """
    if not path.is_file():
        raise EnergyError(f"technology: expected a file {path.name}, found none")
    try:
        raw = read_yaml(path)
    except BundleError as error:
        raise EnergyError(f"technology {error}") from None
    where = f"technology {path.name}"
    if not isinstance(raw, dict):
        raise EnergyError(f"{where}: expected a mapping, got {type(raw).__name__}")
    try:
        technology = Technology.model_validate(raw)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise EnergyError(f"{where}: {place}: {first['msg']}, got {str(first['input'])[:80]!r}") from None
    if technology.like is not None:
        base = FOLDER / f"{technology.like}.yaml"
        if not base.is_file() or base.samefile(path):
            raise EnergyError(f"{where}: like: expected another table that ships, got {technology.like!r}")
        prices = {**load_technology(base).prices, **technology.prices}
        technology = technology.model_copy(update={"prices": prices})
    _check_prices(technology, where)
    return technology


@cache
def _shipped() -> dict[str, Technology]:
    paths = sorted(FOLDER.glob("*.yaml"), key=lambda path: (path.stem != DEFAULT, path.stem))
    return {path.stem: load_technology(path) for path in paths}


def technologies() -> dict[str, Technology]:
    """The technology tables that ship, by name, the default first."""
    return dict(_shipped())


def technology(which: str | Path | Technology) -> Technology:
    """A technology by name, or a user's own table by path (ending in ``.yaml`` or ``.yml``).

    :raises EnergyError: neither; the message lists the names.
    """
    if isinstance(which, Technology):
        return which
    if str(which) in _shipped():
        return _shipped()[str(which)]
    if Path(which).suffix in (".yaml", ".yml"):
        return load_technology(Path(which))
    raise EnergyError(
        f"technology {str(which)!r}: expected one of {', '.join(_shipped())}, or the path of a .yaml table"
    )


@dataclass(frozen=True)
class Joules:
    """Energy of counted work.

    :param by_kind: joules of each priced kind, of the whole run.
    :param unpriced: kinds with work that the technology has no price for, and how much work; not in the total.
    :param static: static power × time, joules; None where the technology has no static power or the time isn't known.
    """

    by_kind: dict[str, float]
    unpriced: dict[str, int]
    static: float | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def dynamic(self) -> float:
        """Joules of counted work."""
        return sum(self.by_kind.values())

    @property
    def total(self) -> float:
        """Joules of the run: counted work, and static energy where known."""
        return self.dynamic + (self.static or 0.0)


def _has(counts: Mapping[str, int], composite: str) -> bool:
    """True where there is work of a composite kind (``law_update``: of any law)."""
    return any(n for kind, n in counts.items() if kind.partition(":")[0] == composite)


def joules(counts: Mapping[str, int], which: str | Path | Technology, seconds: float | None = None) -> Joules:
    """Price counted work: E = Σ counts × price + static power × time.

    :param seconds: duration of the run; without it static power stays out, and a note says so.
    """
    table = technology(which)
    by_kind: dict[str, float] = {}
    unpriced: dict[str, int] = {}
    for kind, count in counts.items():
        if " bits" in kind or not count:
            continue
        price = table.price_of(kind)
        base = kind.partition(":")[0]
        whole = next((c for c, parts in COMPONENTS.items() if base in parts), None)
        if price is not None:
            by_kind[kind] = price.joules(kind, counts)
        elif base in COMPONENTS:
            if not any(part in table.prices for part in COMPONENTS[base]):
                unpriced[kind] = count
        elif whole is None or not _has(counts, whole):
            unpriced[kind] = count  # nothing that contains it was counted, as in learning
        elif not table.covers(whole) and any(part in table.prices for part in COMPONENTS[whole]):
            unpriced[kind] = count
    static, notes = None, [f"{kind} has no price: {why}" for kind, why in table.absent.items() if kind in unpriced]
    if table.static_power is not None:
        if seconds is None:
            notes.append(
                f"static power of {table.static_power.value:g} mW not counted: the run has no cycles or no clock"
            )
        else:
            static = table.static_power.value * 1e-3 * seconds
    return Joules(by_kind, unpriced, static, tuple(notes))
