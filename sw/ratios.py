"""One table: this network's energy per tick, counted and by formula, beside conventional recurrent networks.

`report` is part of `apical.sw.energy.report`. Three figures of our own network are set against every baseline, because
they answer different questions:

* counted: all counted work at the technology's prices, memory and all; hard on us where a baseline has no memory;
* operations: the counted arithmetic alone, at the formula's own constants: the same scope as the formulas;
* formula: what the papers' formula says of this network at its measured firing rates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from apical.sw import recurrent_baselines as formulas
from apical.sw.counting import add_counts, multiply, updates_of
from apical.sw.golden import Trace
from apical.sw.laws import AdaptiveLif, LeakyIntegrator, Lif, make_law
from apical.sw.network import Network, Population
from apical.sw.prices import PICO, Price, Technology, joules
from apical.sw.recurrent_baselines import CONSTANTS, RECURRENT, SPIKING, UNITS, Constants, Operations

Counts = Mapping[str, int]
Parts = Mapping[str, Counts]


def arithmetic(constants: Constants) -> Technology:
    """A technology that prices arithmetic by the papers' two constants and has no memory: multiply = E_MAC - E_AC."""
    add = Price(value=constants.ac_pj, unit="pJ", status="published", source=constants.source)
    multiply = Price(value=constants.mac_pj - constants.ac_pj, unit="pJ", status="published", source=constants.source)
    prices = {"add": add, "multiply": multiply, "law_add": add, "law_compare": add, "law_multiply": multiply}
    return Technology(apical_technology=1, name="arithmetic", title=constants.name, prices=prices)


def _hides_spikes(population: Population) -> bool:
    """True where a neuron spikes inside and sends something else (an adaptive cell's membrane)."""
    return "s" in population.law.states() and population.value_range != (0, 1)


def needs_states(network: Network) -> bool:
    """True where a firing rate can only be read from a trace with states."""
    return any(_hides_spikes(p) for p in network.populations)


def firing_rates(network: Network, trace: Trace) -> dict[str, float | None]:
    """Spikes per neuron and tick of every population; None where they are in states that the trace doesn't have."""
    out: dict[str, float | None] = {}
    for p in network.populations:
        if _hides_spikes(p):
            spikes = trace.states.get(p.name, {}).get("s")
            out[p.name] = None if spikes is None else float(spikes.mean())
        elif p.value_range == (0, 1):
            events, updates = (trace.counters[f"population {p.name}: {what}"] for what in ("events", "updates"))
            out[p.name] = events / updates
        else:
            out[p.name] = 0.0
    return out


def cell_of(population: Population) -> str | None:
    """The papers' name of a population's cell; None where they have no formula for its law."""
    if isinstance(population.law, AdaptiveLif):
        return "adaptive" if population.params["adaptation"].any() else "lif"
    if isinstance(population.law, Lif):
        return "lif"
    return "leaky_integrator" if isinstance(population.law, LeakyIntegrator) else None


def by_formula(
    network: Network, active: Mapping[str, float], rates: Mapping[str, float | None], cell: str | None = None
) -> Operations:
    """Operations per tick of this network by the papers' formula, layer by layer.

    :param active: share of non-zero values of every input and population.
    :param rates: as `firing_rates`; a rate that isn't known counts as 1, its upper bound.
    :param cell: take every spiking population as this cell; None: each as it is.
    :raises ValueError: the papers have no formula for a population's law, or a source sends graded values.
    """
    layers = []
    for p in network.populations:
        kind = cell_of(p)
        if kind is None:
            raise ValueError(f"population {p.name!r}: the papers have no formula for law {p.law.name}")
        if cell is not None and kind != "leaky_integrator":
            kind = cell
        sources = []
        for q in network.incoming(p.name):
            if q.geometry is not None:
                raise ValueError(f"projection {q.name!r}: the papers' formula is for dense layers, it is {q.pattern}")
            if network.nodes[q.source].value_range != (0, 1):
                raise ValueError(f"projection {q.name!r}: the papers' formula is for spikes, {q.source!r} is graded")
            sources.append((network.nodes[q.source].size, active[q.source]))
        rate = rates[p.name]
        layers.append(formulas.spiking(kind, p.size, 1.0 if rate is None else rate, sources))
    return formulas.total(layers)


def _priced(parts: Parts, technology: Technology, steps: int, with_updates: bool) -> float:
    """Picojoules per tick of counted parts."""
    chosen = [work for part, work in parts.items() if with_updates or part != "updates"]
    return sum(joules(work, technology).dynamic for work in chosen) / steps / PICO


def _ratio(theirs: float, ours: float | None) -> float | None:
    return theirs / ours if ours else None


class _Ours:
    """This network's picojoules per tick: counted, counted arithmetic, by formula; with updates and without."""

    def __init__(self, parts: Parts, formula: Operations | None, technology: Technology, steps: int) -> None:
        self.parts, self.own, self.technology, self.steps = parts, formula, technology, steps

    def counted(self, with_updates: bool) -> float:
        return _priced(self.parts, self.technology, self.steps, with_updates)

    def operations(self, constants: Constants, with_updates: bool) -> float:
        return _priced(self.parts, arithmetic(constants), self.steps, with_updates)

    def formula(self, constants: Constants, with_updates: bool) -> float | None:
        return None if self.own is None else self.own.picojoules(constants, with_updates)

    def rows(self, constants: Sequence[Constants]) -> list[dict[str, Any]]:
        out = [_our_row("counted", self.technology.name, self.counted(True), self.counted(False))]
        for c in constants:
            out.append(_our_row("operations", c.name, self.operations(c, True), self.operations(c, False)))
            if self.own is not None:
                pair = self.own.picojoules(c), self.own.picojoules(c, with_updates=False)
                out.append(_our_row("formula", c.name, *pair))
        return out

    def against(
        self, name: str, units: int | None, theirs: float, with_updates: bool, constants: Constants | None = None
    ) -> dict[str, Any]:
        """A baseline's row; `theirs` in picojoules per tick, by formula at `constants` or, without, counted."""
        alike: tuple[float | None, float | None] = (None, None)
        if constants is not None:
            alike = (
                _ratio(theirs, self.operations(constants, with_updates)),
                _ratio(theirs, self.formula(constants, with_updates)),
            )
        return {
            "name": name,
            "units": units,
            "by": "counted" if constants is None else "formula",
            "constants": self.technology.name if constants is None else constants.name,
            "with_updates": with_updates,
            "picojoules_per_tick": theirs,
            "ratio_counted": _ratio(theirs, self.counted(with_updates)),
            "ratio_operations": alike[0],
            "ratio_formula": alike[1],
        }


def _our_row(name: str, constants: str, whole: float, bare: float) -> dict[str, Any]:
    return {
        "name": name,
        "constants": constants,
        "picojoules_per_tick": whole,
        "picojoules_per_tick_without_updates": bare,
        "update_share": (whole - bare) / whole if whole else None,
    }


FORMS = ("as published", "folded", "folded, shift decays")


def _other_forms(network: Network, trace: Trace) -> tuple[dict[str, Counts], set[str]]:
    """Counted work of all updates in each of `FORMS`, and which forms the network's populations have."""
    out: dict[str, Counts] = {form: {} for form in FORMS}
    built = set()
    for p in network.populations:
        folded, shift, extra = p.law, p.law, 0
        if "leak" in getattr(p.law, "__dataclass_fields__", {}):
            folded, shift = (make_law(p.law.name, p.law.options() | {"leak": leak}) for leak in ("multiply", "shift"))
            extra = 1 + (cell_of(p) == "adaptive")
            built.add("folded" if p.law == folded else "folded, shift decays")
        for form, law in zip(FORMS, (folded, folded, shift), strict=True):
            work = updates_of(network, p, trace.counters, law)
            if form == "as published":
                updates = trace.counters[f"population {p.name}: updates"]
                each = work["law_multiply bits"] // max(work["law_multiply"], 1)  # as wide as its decays
                multiply(work, "law_multiply", extra * updates, each)
            out[form] = add_counts(out[form], work)
    return out, built


def update_forms(
    network: Network, trace: Trace, parts: Parts, technologies: Mapping[str, Technology], steps: int
) -> list[dict[str, Any]]:
    """What neuron updates cost in three forms of the same laws, all other work as it was counted.

    As published: (1-α)·I and β·η are multiplied out at every update, a multiplication each beside the decays. Folded:
    (1-α) is in the weights and β(1-ρ) in one constant. Shift: folded, and a decay is a shift and a subtraction.

    :returns: per form and technology, energy and share of updates; `built` where all of the network has this form.
        Empty where no law decays.
    """
    forms, built = _other_forms(network, trace)
    rows = []
    for form, work in forms.items() if built else ():
        for name, technology in technologies.items():
            other = {**parts, "updates": work}
            whole, bare = (_priced(other, technology, steps, updates) for updates in (True, False))
            more = {"built": built == {form}, "multiplications_per_tick": work["law_multiply"] / steps}
            rows.append(_our_row(form, name, whole, bare) | more)
    return rows


def report(
    network: Network,
    trace: Trace,
    parts: Parts,
    active: Mapping[str, float],
    technology: Technology,
    *,
    units: int = UNITS,
    constants: Sequence[Constants] = CONSTANTS,
) -> dict[str, Any]:
    """The table as plain data (JSON).

    :param parts: counted work of the run by part, as `apical.sw.energy.counts_by_part`.
    :param active: share of non-zero values, as `apical.sw.energy.activity`.
    :param units: cells of each recurrent baseline, in each direction.
    :returns: `ours` (counted, operations, formula), `baselines` (a row per baseline, constants and with or without
        updates; `by` is ``formula`` or ``counted``; a ``ratio_…`` is its energy divided by ours of that kind, at the
        same constants and the same `with_updates`; None where there is no such figure), `update_forms`,
        `firing_rates`, `constants`, `formulas`, `ratio_notes`.
    :raises ValueError: no units.
    """
    if units < 1:
        raise ValueError(f"recurrent baseline: expected at least 1 unit, got {units}")
    steps = trace.steps
    classes = network.nodes[network.outputs[0]].size
    rates = firing_rates(network, trace)
    notes = [
        f"firing rate of {name}: counted as 1, needs a trace with states" for name, r in rates.items() if r is None
    ]
    layers: dict[str, Operations] = {}
    own = None
    try:
        layers = {cell: by_formula(network, active, rates, cell) for cell in ("lif", "adaptive")}
        own = by_formula(network, active, rates)
    except ValueError as error:
        notes.append(f"this network by formula is left out: {error}")
    layers |= {cell.name: cell.operations(network.input_size, units, classes) for cell in RECURRENT}
    ours = _Ours(parts, own, technology, steps)
    rows = []
    for c in constants:
        for with_updates in (True, False):
            for name, layer in layers.items():
                size = None if name in SPIKING else units
                rows.append(ours.against(name, size, layer.picojoules(c, with_updates), with_updates, c))
    for cell in RECURRENT:
        work = cell.counts(network.input_size, units, classes, steps)
        for with_updates in (True, False):
            given = _priced(work, technology, steps, with_updates)
            rows.append(ours.against(cell.name, units, given, with_updates))
    by_name = {technology.name: technology} | {c.name: arithmetic(c) for c in constants}
    return {
        "ours": ours.rows(constants),
        "baselines": rows,
        "update_forms": update_forms(network, trace, parts, by_name, steps),
        "firing_rates": rates,
        "constants": [asdict(c) for c in constants],
        "formulas": {n: c.formula for n, c in SPIKING.items()} | {c.name: c.formula for c in RECURRENT},
        "ratio_notes": notes,
    }
