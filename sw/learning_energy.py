"""Energy of learning on the chip: work counted from the counters of a run that learns, by part, then priced.

One formula for golden and RTL, since their counters are equal; docs/reference/energy.md, section "Learning", gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from apical.sw import on_chip
from apical.sw.counting import add_counts, bits_of, move, multiply, no_counts, parts_of, text_of
from apical.sw.law import Format
from apical.sw.network import Network, Population, Projection
from apical.sw.on_chip import NOISE_BITS, THRESHOLD, Learning, OnChip, Site
from apical.sw.prices import DEFAULT, EnergyError, Technology, joules, technology
from apical.sw.ranges import Interval, IntervalOps

PARTS = {
    "gates": "visits: products of value and error, running thresholds, the margin",
    "errors": "errors of the outputs, and of hidden cells from the sums over their rows",
    "updates": "rounding what passes the gates, and adding it to the weights",
    "writes": "weights written",
}
"""Parts of learning, beside `inference`: the forward pass of every sample."""

Counts = dict[str, int]
NOISE = Interval(0, (1 << NOISE_BITS) - 1)


def inference_counts(network: Network, counters: Mapping[str, int]) -> Counts:
    """Counted work of the forward passes of a learning chip."""
    forward = {k: n for k, n in counters.items() if not k.endswith(": weight writes")}
    total, sized = no_counts(), network.freed()
    try:
        for population in sized.populations:
            for part in parts_of(sized, population, forward).values():
                total = add_counts(total, part)
    except KeyError as error:
        raise EnergyError(f"learning: counter {error} is missing") from None
    return total


def learning_counts(network: Network, learning: Learning, counters: Mapping[str, int]) -> dict[str, Counts]:
    """Counted work of learning, by part, as `apical.sw.counting.KINDS`.

    :raises EnergyError: a counter is missing: the run didn't learn.
    :raises NetworkError: what can't learn on the chip.
    """
    work = {part: no_counts() for part in PARTS}
    samples, passes = (_count(counters, f"learning: {what}") for what in ("samples", "backward passes"))
    outputs = network.nodes[network.outputs[0]].size
    _outputs(work["errors"], network, learning, samples, outputs)
    if learning.margin is not None:
        work["gates"]["law_compare"] += samples * outputs
        work["gates"]["law_add"] += samples
    projections = OnChip(network, learning).projections
    for place, (p, site) in enumerate(zip(projections, learning.sites, strict=True)):
        one = {what: _count(counters, f"projection {p.name}: {what}") for what in ("visits", "zero", "weight writes")}
        one["events"] = _count(counters, f"projection {p.name}: events")
        one["reads"] = _count(counters, f"projection {p.name}: learning reads")
        _gates(work["gates"], network, learning, p, site, one, passes)
        _updates(work["updates"], network, learning, p, site, one, place)
        weights, inputs = p.weights.size, {i.name for i in network.inputs}
        if p.source in inputs:
            move(work["updates"], "weight_read", one["reads"], p.weight_bits, weights)
        else:
            _hidden(work["errors"], network, learning, p, site, one, passes)
        move(work["writes"], "weight_write", one["weight writes"], p.weight_bits, weights)
    return work


def _count(counters: Mapping[str, int], name: str) -> int:
    try:
        return counters[name]
    except KeyError:
        raise EnergyError(f"learning: counter {name!r} is missing: expected a run that learns") from None


def _evaluate(counts: Counts, times: int, text: Callable[..., object], *operands: Interval | int) -> None:
    """Count evaluations of a law's text."""
    for kind, each in text_of(text, *operands).items():
        counts[kind] += times * each


def _limit(counts: Counts, times: int, bits: int) -> None:
    _evaluate(counts, times, lambda ops, a: on_chip.limited(ops, a, bits), Interval(*Format(bits + 1).bounds))


def _outputs(counts: Counts, network: Network, learning: Learning, samples: int, outputs: int) -> None:
    """Errors of the outputs: in every sample, learned or skipped."""
    values = Interval(*network.nodes[network.outputs[0]].value_range)

    def text(ops: Any, value: Any, wanted: Any) -> object:
        return on_chip.output_error(ops, value, wanted, learning.target, learning.error_shift)

    _evaluate(counts, samples * outputs, text, values, Interval(0, 1))
    _limit(counts, samples * outputs, learning.error_bits)
    move(counts, "state_write", samples * outputs, learning.error_bits, outputs)


def _gates(
    counts: Counts,
    network: Network,
    learning: Learning,
    p: Projection,
    site: Site,
    one: Mapping[str, int],
    passes: int,
) -> None:
    """The log, the errors read, the products, the threshold."""
    targets, sources = p.weights.shape
    values, errors = Interval(*network.nodes[p.source].value_range), Interval(*Format(learning.error_bits).bounds)
    lanes, entry = one["visits"] * targets, bits_of(Interval(0, sources - 1)) + bits_of(values)
    move(counts, "state_write", one["events"], entry, sources)
    move(counts, "state_read", one["visits"], entry, sources)
    move(counts, "state_read", lanes, learning.error_bits, targets)
    multiply(counts, "multiply", lanes, bits_of(values) * learning.error_bits)
    if site.target_writes is not None:
        target, threshold = site.target_writes, Interval(0, THRESHOLD.bounds[1])
        product = Interval(-values.magnitude * errors.magnitude, values.magnitude * errors.magnitude)
        _evaluate(counts, lanes, lambda ops, q, t: on_chip.exceeds(ops, q, t, learning.gain), product, threshold)
        _evaluate(counts, passes, lambda ops, t, n: on_chip.steered(ops, t, n, target), threshold, threshold)


def _updates(
    counts: Counts,
    network: Network,
    learning: Learning,
    p: Projection,
    site: Site,
    one: Mapping[str, int],
    place: int,
) -> None:
    """Rounding, and the addition to the weight."""
    rounded, shift = one["zero"] + one["weight writes"], site.rate_shift
    if learning.rounding != "floor" and shift:
        _evaluate(counts, rounded, lambda ops, q, r: on_chip.change(ops, q, r, shift), NOISE, NOISE)
    if learning.rounding == "stochastic" and shift:
        _evaluate(counts, rounded, lambda ops, b, lane: on_chip.noise(ops, b, lane, shift), NOISE, NOISE)
        row = Interval(0, p.weights.shape[1] - 1)
        _evaluate(counts, one["visits"], lambda ops, n, i: on_chip.noise_base(ops, n, i, place), NOISE, row)
    counts["add"] += one["weight writes"]
    _limit(counts, one["weight writes"], p.weight_bits)


def _hidden(
    counts: Counts,
    network: Network,
    learning: Learning,
    p: Projection,
    site: Site,
    one: Mapping[str, int],
    passes: int,
) -> None:
    """Errors of the cells that a projection comes from: sums over the rows, slopes, one error per compartment."""
    reads, bits = one["reads"], learning.error_bits
    move(counts, "weight_read", reads, p.weight_bits, p.weights.size)
    multiply(counts, "multiply", reads, p.weight_bits * bits)
    counts["add"] += reads
    source = next(q for q in network.populations if q.name == p.source)
    limit = p.weights.shape[0] << (p.weight_bits + bits - 2)
    for slope in _slopes(counts, one["visits"], network, source):

        def text(ops: Any, back: Any, times: Any) -> object:
            return on_chip.hidden_error(ops, times, back, site.back_shift)

        _evaluate(counts, one["visits"], text, Interval(-limit, limit), slope)
        _limit(counts, one["visits"], bits)
        move(counts, "state_write", passes * source.size + one["visits"], bits, source.size)


def _slopes(counts: Counts, times: int, network: Network, population: Population) -> list[Interval | int]:
    """Count evaluations of a law's slopes; what they can be, by driven compartment. A relu cell that sent has 1."""
    law, currents = population.law, network.freed().currents(population)
    names = (*law.compartments, *population.params)
    given = [currents.get(c, Interval(0, 0)) for c in law.compartments]
    given += [Interval(int(a.min()), int(a.max())) for a in population.params.values()]

    def text(ops: Any, *values: Any) -> Any:
        parts = dict(zip(names, values, strict=True))
        return law.slopes(ops, {c: parts[c] for c in law.compartments}, {k: parts[k] for k in population.params})

    _evaluate(counts, times, text, *given)
    found = text(IntervalOps(), *given)
    return [found[c] for c in currents]


def report(
    network: Network, learning: Learning, counters: Mapping[str, int], which: str | Path | Technology = DEFAULT
) -> dict[str, Any]:
    """Joules per sample of a run that learned, by part.

    :param counters: of golden or RTL, whose every sample was learned.
    :returns: plain data (JSON): `technology`, `title`, `samples`, `backward_passes`, `joules_per_sample` (`inference`
        and every one of `PARTS`, None where nothing of its work has a price; `total`, None where the writes have none),
        `unpriced` (part and kind to count per sample; not in the total), `notes`, `counts` (by part, of the run).
    :raises EnergyError: counters of a run that didn't learn.
    """
    table, samples = technology(which), _count(counters, "learning: samples")
    if not samples:
        raise EnergyError("learning: expected at least one learned sample, got none")
    work = {"inference": inference_counts(network, counters), **learning_counts(network, learning, counters)}
    priced = {part: joules(counts, table) for part, counts in work.items()}
    each = {p: None if f.unpriced and not f.by_kind else f.dynamic / samples for p, f in priced.items()}
    known = sum(e for e in each.values() if e is not None)
    unpriced = {f"{p}: {kind}": n / samples for p, f in priced.items() for kind, n in f.unpriced.items()}
    return {
        "technology": table.name,
        "title": table.title,
        "samples": samples,
        "backward_passes": _count(counters, "learning: backward passes"),
        "joules_per_sample": {**each, "total": None if each["writes"] is None else known},
        "unpriced": unpriced,
        "notes": list(dict.fromkeys(note for found in priced.values() for note in found.notes)),
        "counts": work,
    }
