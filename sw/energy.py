"""Energy: work is counted from a run's counters, then priced by a technology table.

``counts`` is one formula over the trace's counters, the same for golden and RTL; where the counters agree, the joules
do. Prices come from tables in `sw/technologies/` or a user's file. The page docs/reference/energy.md explains both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apical.sw import baselines, ratios
from apical.sw.counting import add_counts, parts_of
from apical.sw.golden import Trace
from apical.sw.network import Network
from apical.sw.prices import DEFAULT, EnergyError, Joules, Technology, joules, load_technology, technologies, technology
from apical.sw.recurrent_baselines import CONSTANTS, UNITS, Constants

__all__ = [
    "DEFAULT",
    "EnergyError",
    "Joules",
    "Technology",
    "activity",
    "baseline",
    "counts",
    "counts_by_part",
    "joules",
    "load_technology",
    "report",
    "table",
    "technologies",
    "technology",
]

_pick = technology  # `report` has a parameter of that name


def counts(network: Network, trace: Trace) -> dict[str, int]:
    """Counted work of a run, by kind: one formula over the trace's counters, for golden and RTL alike.

    :returns: every kind of `apical.sw.counting.KINDS` (``law_update`` by law: ``law_update:lif``); memory kinds in
        words and, with `` bits`` behind the name, in bits.
    :raises EnergyError: a counter that the network needs is missing from the trace.
    """
    total: dict[str, int] = {}
    for part in counts_by_part(network, trace).values():
        total = add_counts(total, part)
    return total


def counts_by_part(network: Network, trace: Trace) -> dict[str, dict[str, int]]:
    """`counts`, split into `apical.sw.counting.PARTS`: synapses, neuron updates, events."""
    total: dict[str, dict[str, int]] = {}
    try:
        for population in network.populations:
            for part, work in parts_of(network, population, trace.counters).items():
                total[part] = add_counts(total.get(part, {}), work)
    except KeyError as error:
        raise EnergyError(f"trace of engine {trace.engine!r}: counter {error} is missing") from None
    return total


def activity(network: Network, trace: Trace) -> dict[str, float]:
    """Share of non-zero values of every input and population: events ÷ (neurons × ticks × samples).

    An input has no counter of its own: its events are those that its least delayed projection integrated.
    """
    steps = trace.steps
    out = {}
    for node in network.inputs:
        events = max((trace.counters[f"projection {p.name}: events"] for p in network.outgoing(node.name)), default=0)
        out[node.name] = events / (node.size * steps)
    for p in network.populations:
        out[p.name] = trace.counters[f"population {p.name}: events"] / (p.size * steps)
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
    every_tick = ticks > 1 and network.decoder in (None, "tick")  # an answer in every tick: so many passes
    main = next(v.name for v in baselines.VARIANTS if v.passes == ("tick" if every_tick else "single"))
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
    *,
    units: int = UNITS,
    constants: Sequence[Constants] = CONSTANTS,
) -> dict[str, Any]:
    """Energy of a run on one technology, beside dense and recurrent baselines.

    :param clock_mhz: clock of the design; with the trace's cycles it gives the time for static power.
    :param units: cells of the recurrent baselines.
    :param constants: price the papers' formulas.
    :returns: plain data (JSON): `joules_per_sample`, `by_kind` and `by_part` (per sample), `update_share` (of counted
        joules), `unpriced`, `counts` (of the run), `technology`, `baseline` (dense), `activity`,
        `transmissions_per_sample`, `samples`, `ticks`, `notes`; where samples last several ticks also the keys of
        `apical.sw.ratios.report`.
    """
    if clock_mhz is not None and not 0 < clock_mhz < float("inf"):
        raise EnergyError(f"clock: expected a frequency above 0 MHz, got {clock_mhz}")
    table = _pick(technology)
    samples, ticks = trace.samples, next(iter(trace.values.values())).shape[1]
    work, parts = counts(network, trace), counts_by_part(network, trace)
    seconds = trace.cycles / (clock_mhz * 1e6) if trace.cycles is not None and clock_mhz is not None else None
    priced = joules(work, table, seconds)
    own = priced.total / samples
    by_part = {part: joules(each, table).dynamic / samples for part, each in parts.items()}
    active = activity(network, trace)
    answer = {
        "technology": table.name,
        "title": table.title,
        "joules_per_sample": own,
        "by_kind": {k: v / samples for k, v in priced.by_kind.items()},
        "by_part": by_part,
        "update_share": by_part["updates"] * samples / priced.dynamic if priced.dynamic else None,
        "static_joules_per_sample": None if priced.static is None else priced.static / samples,
        "unpriced": priced.unpriced,
        "counts": work,
        "samples": samples,
        "ticks": ticks,
        "activity": active,
        "transmissions_per_sample": work["synaptic_operation"] / samples,
        "baseline": _baseline_report(network, samples, ticks, table, priced.dynamic / samples),
        "notes": list(priced.notes),
    }
    if ticks > 1:
        answer |= ratios.report(network, trace, parts, active, table, units=units, constants=constants)
    return answer


def table(
    network: Network,
    trace: Trace,
    clock_mhz: float | None = None,
    *,
    units: int = UNITS,
    constants: Sequence[Constants] = CONSTANTS,
) -> list[dict[str, Any]]:
    """`report` for every technology that ships, side by side."""
    return [report(network, trace, t, clock_mhz, units=units, constants=constants) for t in technologies().values()]
