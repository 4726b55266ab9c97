"""Energy: work is counted from a run's counters, then priced by a technology table.

``counts`` is one formula over the trace's counters, the same for golden and RTL; where the counters agree, the joules
do. Prices come from tables in `sw/technologies/` or a user's file. The page docs/reference/energy.md explains both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic

from apical.sw import baselines
from apical.sw.bundle import BundleError, read_yaml
from apical.sw.counting import COMPONENTS, KINDS, MEMORY, add_counts, counts_of
from apical.sw.golden import Trace
from apical.sw.network import Network

FOLDER = Path(__file__).parent / "technologies"
DEFAULT = "horowitz-45nm"
PICO = 1e-12


class EnergyError(ValueError):
    """A technology table or a request for energy that can't be used; the message names file and field."""


class Price(pydantic.BaseModel):
    """Price of one kind of work.

    :param value: energy of one unit of work, in `unit`; above zero, finite.
    :param unit: ``pJ`` per counted word or operation, or ``pJ/bit`` (memory kinds): per bit of the words.
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


class StaticPower(pydantic.BaseModel):
    """Power that flows whether or not there is work; counted where the run's time is known."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)
    value: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    unit: Literal["mW"]
    status: Literal["published", "derived", "measured"]
    source: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=600)]
    note: Annotated[str, pydantic.StringConstraints(max_length=600)] = ""


class Technology(pydantic.BaseModel):
    """A technology table: what one unit of each kind of work costs, and where that is written."""

    model_config = pydantic.ConfigDict(extra="forbid", strict=True, frozen=True)
    apical_technology: Literal[1]
    name: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]{0,40}$")]
    title: Annotated[str, pydantic.StringConstraints(min_length=1, max_length=120)]
    about: Annotated[str, pydantic.StringConstraints(max_length=1200)] = ""
    prices: Annotated[dict[str, Price], pydantic.Field(min_length=1)]
    static_power: StaticPower | None = None

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
        if price.unit == "pJ/bit" and kind not in MEMORY:
            raise EnergyError(f"{where}: prices.{kind}: expected unit pJ, got pJ/bit, which only memory kinds have")
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
    _check_prices(technology, where)
    return technology


@cache
def _shipped() -> dict[str, Technology]:
    return {path.stem: load_technology(path) for path in sorted(FOLDER.glob("*.yaml"))}


def technologies() -> dict[str, Technology]:
    """The technology tables that ship, by name."""
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


_pick = technology  # `report` has a parameter of that name


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


def counts(network: Network, trace: Trace) -> dict[str, int]:
    """Counted work of a run, by kind: one formula over the trace's counters, for golden and RTL alike.

    :returns: every kind of `apical.sw.counting.KINDS` (``law_update`` by law: ``law_update:lif``); memory kinds in
        words and, with `` bits`` behind the name, in bits.
    :raises EnergyError: a counter that the network needs is missing from the trace.
    """
    total: dict[str, int] = {}
    for part in counts_by_population(network, trace).values():
        total = add_counts(total, part)
    return total


def counts_by_population(network: Network, trace: Trace) -> dict[str, dict[str, int]]:
    """`counts`, split: each population with its incoming projections."""
    try:
        return {p.name: counts_of(network, p, trace.counters) for p in network.populations}
    except KeyError as error:
        raise EnergyError(f"trace of engine {trace.engine!r}: counter {error} is missing") from None


def joules(counts: Mapping[str, int], which: str | Path | Technology, seconds: float | None = None) -> Joules:
    """Price counted work: E = Σ counts × price + static power × time.

    :param seconds: duration of the run; without it static power stays out, and a note says so.
    """
    table = technology(which)
    by_kind: dict[str, float] = {}
    unpriced: dict[str, int] = {}
    for kind, count in counts.items():
        if kind.endswith(" bits") or not count:
            continue
        price = table.price_of(kind)
        base = kind.partition(":")[0]
        whole = next((c for c, parts in COMPONENTS.items() if base in parts), None)
        if price is not None:
            by_kind[kind] = (counts[f"{kind} bits"] if price.unit == "pJ/bit" else count) * price.value * PICO
        elif base in COMPONENTS:
            if not any(part in table.prices for part in COMPONENTS[base]):
                unpriced[kind] = count
        elif whole is None or (not table.covers(whole) and any(part in table.prices for part in COMPONENTS[whole])):
            unpriced[kind] = count
    static, notes = None, []
    if table.static_power is not None:
        if seconds is None:
            notes.append(
                f"static power of {table.static_power.value:g} mW not counted: the run has no cycles or no clock"
            )
        else:
            static = table.static_power.value * 1e-3 * seconds
    return Joules(by_kind, unpriced, static, tuple(notes))


def activity(network: Network, trace: Trace) -> dict[str, float]:
    """Share of non-zero values of every input and population: events ÷ (neurons × ticks × samples).

    An input has no counter of its own: its events are those that its least delayed projection integrated.
    """
    first = network.populations[0]
    steps = trace.counters[f"population {first.name}: updates"] // first.size
    out = {}
    for node in network.inputs:
        events = max((trace.counters[f"projection {p.name}: events"] for p in network.outgoing(node.name)), default=0)
        out[node.name] = events / (node.size * steps)
    for p in network.populations:
        out[p.name] = trace.counters[f"population {p.name}: events"] / trace.counters[f"population {p.name}: updates"]
    return out


def baseline(network: Network, samples: int, ticks: int) -> dict[str, dict[str, int]]:
    """Counted work of the dense point-neuron MLP of the same task, by variant; see `apical.sw.baselines.VARIANTS`."""
    return {v.name: baselines.dense(network, samples, ticks, v) for v in baselines.VARIANTS}


def _tells_apart(table: Technology, work: Mapping[str, int]) -> bool:
    """False for a baseline variant that only differs in kinds which the table has no price for."""
    if work["fp32_multiply"]:
        return "fp32_multiply" in table.prices
    return bool(work["accumulator_read"]) or table.price_of("accumulator_read") is not None


def _baseline_report(network: Network, samples: int, ticks: int, table: Technology, own: float) -> dict[str, Any]:
    variants: dict[str, Any] = {}
    for name, work in baseline(network, samples, ticks).items():
        if not _tells_apart(table, work):
            continue  # said under "left_out"
        priced = joules(work, table)
        each = priced.total / samples
        variants[name] = {
            "joules_per_sample": each,
            "ratio": each / own if own else None,
            "by_kind": {k: v / samples for k, v in priced.by_kind.items()},
            "transmissions_per_sample": work["synaptic_operation"] / samples,
            "counts": work,
        }
    main = baselines.VARIANTS[0].name
    return {
        "variant": main,
        "about": "dense point-neuron MLP of the same layer sizes, every value sent, on the same technology",
        "joules_per_sample": variants[main]["joules_per_sample"],
        "ratio": variants[main]["ratio"],
        "variants": variants,
        "left_out": [v.name for v in baselines.VARIANTS if v.name not in variants],
    }


def report(
    network: Network,
    trace: Trace,
    technology: str | Path | Technology = DEFAULT,
    clock_mhz: float | None = None,
) -> dict[str, Any]:
    """Energy of a run on one technology, beside the dense baseline on the same technology.

    :param clock_mhz: clock of the design; with the trace's cycles it gives the time for static power.
    :returns: plain data (JSON): `joules_per_sample`, `by_kind` (per sample), `unpriced`, `counts` (of the run),
        `technology`, `baseline`, `activity`, `transmissions_per_sample`, `samples`, `ticks`, `notes`.
    """
    if clock_mhz is not None and not 0 < clock_mhz < float("inf"):
        raise EnergyError(f"clock: expected a frequency above 0 MHz, got {clock_mhz}")
    table = _pick(technology)
    samples, ticks = trace.samples, next(iter(trace.values.values())).shape[1]
    work = counts(network, trace)
    seconds = trace.cycles / (clock_mhz * 1e6) if trace.cycles is not None and clock_mhz is not None else None
    priced = joules(work, table, seconds)
    own = priced.total / samples
    return {
        "technology": table.name,
        "title": table.title,
        "joules_per_sample": own,
        "by_kind": {k: v / samples for k, v in priced.by_kind.items()},
        "static_joules_per_sample": None if priced.static is None else priced.static / samples,
        "unpriced": priced.unpriced,
        "counts": work,
        "samples": samples,
        "ticks": ticks,
        "activity": activity(network, trace),
        "transmissions_per_sample": work["synaptic_operation"] / samples,
        "baseline": _baseline_report(network, samples, ticks, table, priced.dynamic / samples),
        "notes": list(priced.notes),
    }


def table(network: Network, trace: Trace, clock_mhz: float | None = None) -> list[dict[str, Any]]:
    """`report` for every technology that ships, side by side."""
    return [report(network, trace, t, clock_mhz) for t in technologies().values()]
