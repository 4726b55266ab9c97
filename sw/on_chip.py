"""On-chip learning in integers: its laws, written once in the ops protocol, and the golden model that runs them.

The semantics, the counters and which laws can learn: docs/reference/plasticity.md, section "On the chip".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from apical.sw.arithmetic import IntegerOps, Ops, V
from apical.sw.golden import check_input
from apical.sw.law import Format
from apical.sw.laws import LeakyIntegrator, Relu, TwoPoint
from apical.sw.network import IntArray, Network, NetworkError, Population, Projection
from apical.sw.ranges import Interval, IntervalOps

Rounding = Literal["floor", "nearest", "stochastic"]
NOISE_BITS = 24
# Odd, near 2^24 times (√5 - 1)/2, √2 - 1 and (√13 - 3)/2, the numbers that fractions approach worst: additive sequences
# that fill time, rows and lanes evenly. The last one parts projections.
NOISE_SAMPLE, NOISE_ROW, NOISE_LANE, NOISE_PROJECTION = 10368889, 6949351, 5079733, 4294967
THRESHOLD = Format(32)
CURRENT_BITS = 48  # wider than any accumulator


def half(shift: int) -> int:
    """What makes a floor by `shift` a rounding to nearest."""
    return 1 << (shift - 1) if shift else 0


def nearest(ops: Ops[V], value: V, shift: int) -> V:
    """value / 2^shift, rounded to nearest, a half up."""
    return ops.shift(ops.add(value, half(shift)), shift)


def limited(ops: Ops[V], value: V, bits: int) -> V:
    """Clipped to `bits` bits: what an error and a weight end in. What it cuts is a saturation."""
    return ops.clip(value, *Format(bits).bounds)


def output_error(ops: Ops[V], value: V, wanted: V, target: int, shift: int) -> V:
    """round((target · wanted - value) / 2^shift), before `limited`; `wanted` is 1 for the right class, else 0."""
    return nearest(ops, ops.sub(ops.mul(wanted, target), value), shift)


def hidden_error(ops: Ops[V], slope: V | int, back: V, shift: int) -> V:
    """round(slope · back / 2^shift), before `limited`; `back` is the sum of weight times error over the cell's row."""
    return nearest(ops, ops.mul(back, slope), shift)


def exceeds(ops: Ops[V], product: V, threshold: V, gain: int) -> V:
    """1 where |product| · 2^gain is above the projection's running threshold."""
    return ops.gt(ops.mul(ops.absolute(product), 1 << gain), threshold)


def change(ops: Ops[V], product: V, noise: V | int, shift: int) -> V:
    """floor((product + noise) / 2^shift)."""
    return ops.shift(ops.add(product, noise), shift)


def steered(ops: Ops[V], threshold: V, writes: V, target: int) -> V:
    """The running threshold after a sample: up by the writes above the target, down by those below."""
    return ops.clip(ops.add(threshold, ops.sub(writes, target)), 0, THRESHOLD.bounds[1])


def noise_base(ops: Ops[V], sample: V, row: V, projection: int) -> V:
    """What all lanes of a row share: 24 bits that count up by odd numbers, sample by sample and row by row."""
    phase = ops.add(ops.mul(sample, NOISE_SAMPLE), ops.mul(row, NOISE_ROW))
    return ops.wrap(ops.add(phase, projection * NOISE_PROJECTION), NOISE_BITS)


def noise_lanes(targets: int) -> IntArray:
    """What each target adds to it, [targets]."""
    return np.arange(targets) * NOISE_LANE % (1 << NOISE_BITS)


def noise(ops: Ops[V], base: V, lane: V, shift: int) -> V:
    """The upper `shift` of 24 bits."""
    return ops.shift(ops.wrap(ops.add(base, lane), NOISE_BITS), NOISE_BITS - shift)


HIDDEN = (Relu.name, TwoPoint.name)  # laws with `slopes`, and nothing that lasts from tick to tick
OUTPUTS = (LeakyIntegrator.name,)


@dataclass(frozen=True)
class Site:
    """How one projection learns.

    :param rate_shift: S: an update is its product over 2^S.
    :param back_shift: B, of the errors of its source's cells; unused where the source is the input.
    :param target_writes: mean number of writes per backward pass that its threshold is steered to; None: no threshold.
    """

    rate_shift: int
    back_shift: int = 0
    target_writes: int | None = None

    def __post_init__(self) -> None:
        for name, most in (("rate_shift", NOISE_BITS), ("back_shift", 32)):
            if not 0 <= getattr(self, name) <= most:
                raise ValueError(f"on-chip learning: {name}: expected 0 to {most}, got {getattr(self, name)}")
        if self.target_writes is not None and self.target_writes < 0:
            raise ValueError(f"on-chip learning: target_writes: expected at least 0, got {self.target_writes}")


@dataclass(frozen=True)
class Learning:
    """How a network learns.

    :param sites: of each projection, from the input to the output.
    :param target: what the right output should send; the others 0.
    :param error_shift, error_bits: of the errors.
    :param margin: no backward pass where the right output is at least so much above every other one; None: always.
    :param gain: a threshold moves by 2^-gain of the writes too many.
    :param plastic: by hidden population, which cells may learn, [cells]; absent: all.
    """

    sites: tuple[Site, ...]
    target: int
    error_shift: int = 0
    error_bits: int = 9
    rounding: Rounding = "nearest"
    margin: int | None = None
    gain: int = 6
    plastic: Mapping[str, IntArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.rounding not in get_args(Rounding):
            raise ValueError(f"on-chip learning: rounding: expected {get_args(Rounding)}, got {self.rounding!r}")
        for name, low, high in (("error_shift", 0, 24), ("error_bits", 2, 16), ("gain", 0, 16)):
            if not low <= getattr(self, name) <= high:
                raise ValueError(f"on-chip learning: {name}: expected {low} to {high}, got {getattr(self, name)}")
        if self.margin is not None and self.margin < 1:
            raise ValueError(f"on-chip learning: margin: expected at least 1, got {self.margin}")


@dataclass(frozen=True)
class Chain:
    """What learns, from the input to the output: populations in a row, each with a projection per compartment driven.

    :param projections: population by population, each one's in the order of its law's compartments.
    :param target, source: of each projection the place in `populations`; source -1: an input.
    """

    projections: tuple[Projection, ...]
    populations: tuple[Population, ...]
    target: tuple[int, ...]
    source: tuple[int, ...]

    def incoming(self, population: int) -> tuple[int, ...]:
        """The projections onto a population, by their places."""
        return tuple(n for n, t in enumerate(self.target) if t == population)


def chain(network: Network, learning: Learning) -> Chain:
    """Projections and populations from the input to the output.

    :raises NetworkError: what can't learn on the chip, and why.
    """
    where = f"network {network.name!r}: on-chip learning"
    inputs = {i.name for i in network.inputs}
    driven: dict[str, dict[str, Projection]] = {p.name: {} for p in network.populations}
    for p in network.projections:
        if p.delay or p.pattern != "dense" or p.compartment in driven[p.target]:
            raise NetworkError(
                f"{where}: expected one dense projection of delay 0 to each compartment of {p.target!r}, got "
                f"{p.name!r} ({p.pattern}, delay {p.delay})"
            )
        driven[p.target][p.compartment] = p
    row: list[Population] = []
    while len(row) < len(network.populations):
        before = {row[-1].name} if row else inputs
        found = [p for p in network.populations if _basal(driven, p) in before and p not in row]
        if len(found) != 1:
            raise NetworkError(
                f"{where}: expected one population whose basal input is {sorted(before)}, got {len(found)}"
            )
        row += found
    projections, target = list[Projection](), list[int]()
    for n, population in enumerate(row):
        last, law = n == len(row) - 1, population.law
        known = OUTPUTS if last else HIDDEN
        if law.name not in known or (not last and slopes_of(population) is None):
            raise NetworkError(
                f"{where}: population {population.name!r}: law {law.name} can't be a learning "
                f"{'output' if last else 'hidden population'}; these can: {', '.join(known)}"
                + ("" if law.name not in known else " (two_point: mcc and linear)")
            )
        for c in law.compartments:
            if c not in driven[population.name]:
                continue
            projections.append(driven[population.name][c])
            target.append(n)
            if c != law.compartments[0] and projections[-1].source not in inputs:
                what = projections[-1]
                raise NetworkError(f"{where}: {what.name!r}: expected context from an input, got {what.source!r}")
    if network.outputs != (row[-1].name,):
        raise NetworkError(f"{where}: expected {row[-1].name!r} as the only output, got {network.outputs}")
    if len(learning.sites) != len(projections):
        raise NetworkError(f"{where}: expected {len(projections)} sites, got {len(learning.sites)}")
    hidden = {p.name: p.size for p in row[:-1]}
    for name, bits in learning.plastic.items():
        if bits.shape != (hidden.get(name),):
            raise NetworkError(f"{where}: plastic: expected one bit per cell of {hidden}, got {name!r} {bits.shape}")
    places = {p.name: n for n, p in enumerate(row)}
    source = tuple(places.get(p.source, -1) for p in projections)
    return Chain(tuple(projections), tuple(row), tuple(target), source)


def _basal(driven: Mapping[str, Mapping[str, Projection]], population: Population) -> str | None:
    found = driven[population.name].get(population.law.compartments[0])
    return None if found is None else found.source


def slopes_of(population: Population) -> Mapping[str, Interval | int] | None:
    """By compartment what the law's slopes can be; None where it has none."""
    ops = IntervalOps()
    currents = {c: Interval(*Format(CURRENT_BITS).bounds) for c in population.law.compartments}
    params = {k: Interval(int(a.min()), int(a.max())) for k, a in population.params.items()}
    return population.law.slopes(ops, currents, params)


class OnChip:
    """The golden model of a learning chip: weights, thresholds, the sample number and the counters.

    :raises NetworkError: what can't learn on the chip, and why.
    """

    def __init__(self, network: Network, learning: Learning) -> None:
        self.start, self.learning, self.samples = network, learning, 0
        self.chain = chain(network, learning)
        self.projections, self.populations = self.chain.projections, self.chain.populations
        self.ops = IntegerOps()
        self.weights = [torch.from_numpy(p.weights.T.copy()) for p in self.projections]  # rows of sources
        self.thresholds = [torch.zeros((), dtype=torch.int64) for _ in self.projections]
        everything = {p.name: np.ones(p.size, np.int64) for p in self.populations}
        self.plastic = [torch.from_numpy({**everything, **learning.plastic}[p.name] != 0) for p in self.populations]
        self.params = [{k: torch.from_numpy(p.spread(a).copy()) for k, a in p.params.items()} for p in self.populations]
        self.phases = [torch.from_numpy(noise_lanes(len(p.weights))) for p in self.projections]
        self.errors = [torch.zeros(len(p.weights), dtype=torch.int64) for p in self.projections]  # of its compartment
        ends = np.cumsum([0, *(i.size for i in network.inputs)])
        self.parts = {i.name: slice(a, b) for i, a, b in zip(network.inputs, ends, ends[1:], strict=False)}
        self.counters = dict.fromkeys(network.counter_names, 0)
        kinds = ("visits", "candidates", "frozen", "gated", "zero", "weight writes", "learning reads", "saturations")
        self.counters |= dict.fromkeys((f"learning: {k}" for k in ("samples", "backward passes", "skipped passes")), 0)
        self.counters |= dict.fromkeys((f"projection {p.name}: {k}" for p in self.projections for k in kinds), 0)
        self.counters |= dict.fromkeys((f"population {p.name}: error saturations" for p in self.populations), 0)

    def network(self) -> Network:
        """The network with the weights of now."""
        learned = {p.name: w.T.numpy().copy() for p, w in zip(self.projections, self.weights, strict=True)}
        return replace(
            self.start, projections=tuple(replace(p, weights=learned[p.name]) for p in self.start.projections)
        )

    def learn(self, x: np.ndarray, labels: Sequence[int] | IntArray) -> IntArray:
        """Learn from events [samples, 1, inputs] one after the other; the outputs before learning, [samples, outputs].

        :raises NetworkError: events that don't fit the input, more than one tick, a label without an output.
        """
        x, labels = check_input(self.start, x), np.asarray(labels)
        classes = self.populations[-1].size
        if x.shape[1] != 1 or labels.shape != x.shape[:1]:
            raise NetworkError(
                f"on-chip learning: expected samples of one tick and a label each, got {x.shape}, {labels.shape}"
            )
        if labels.min() < 0 or labels.max() >= classes:
            raise NetworkError(f"on-chip learning: expected labels 0 to {classes - 1}")
        out = np.empty((len(x), classes), np.int64)
        for n, (events, label) in enumerate(zip(torch.from_numpy(x[:, 0].astype(np.int64)), labels, strict=True)):
            out[n] = self._sample(events, int(label)).numpy()
        return out

    def _sample(self, events: Tensor, label: int) -> Tensor:
        values = {name: events[part] for name, part in self.parts.items()}
        sent, rows, slopes = list[Tensor](), list[Tensor](), list[Mapping[str, Tensor | int]]()
        for n, population in enumerate(self.populations):
            law = population.law
            currents = {c: torch.zeros(population.size, dtype=torch.int64) for c in law.compartments}
            for k in self.chain.incoming(n):
                projection = self.projections[k]
                rows.append(values[projection.source].nonzero()[:, 0])
                sent.append(values[projection.source][rows[k]])
                currents[projection.compartment] = sent[k] @ self.weights[k][rows[k]]
                self._count(f"projection {projection.name}", events=len(rows[k]))
            state = {k: torch.from_numpy(population.spread(a).copy()) for k, a in population.initial.items()}
            _, value = law.step(self.ops, state, currents, self.params[n])
            found: Mapping[str, Tensor | int] | None = law.slopes(self.ops, currents, self.params[n])
            slopes.append(found or {})
            values[population.name] = value
            self._count(f"population {population.name}", events=int((value != 0).sum()), updates=population.size)
        right, others = value[label], value.clone()
        others[label] = torch.iinfo(torch.int64).min
        skipped = self.learning.margin is not None and bool(right - others.max() >= self.learning.margin)
        ops, learning, wanted = self.ops, self.learning, (torch.arange(len(value)) == label).long()
        cut = self._error(-1, output_error(ops, value, wanted, learning.target, learning.error_shift))
        self._count("learning", samples=1, **{"skipped passes" if skipped else "backward passes": 1})
        if not skipped:
            self._count(f"population {self.populations[-1].name}", **{"error saturations": cut})
            self._backward(sent, rows, slopes)
        self.samples = (self.samples + 1) % (1 << NOISE_BITS)
        return value

    def _backward(self, sent: list[Tensor], rows: list[Tensor], slopes: list[Mapping[str, Tensor | int]]) -> None:
        ops, learning = self.ops, self.learning
        for n in reversed(range(len(self.projections))):
            pre, visited, site, source = sent[n], rows[n], learning.sites[n], self.chain.source[n]
            if source == 0:  # nothing of a frozen cell could be written, and the first population's need no error
                kept = self.plastic[0][visited]
                pre, visited = pre[kept], visited[kept]
            before, errors = self.weights[n][visited], self.errors[n]
            writes = self._visit(n, site, pre, visited, before, errors)
            for k in self.chain.incoming(source) if source >= 0 else ():
                slope = slopes[source][self.projections[k].compartment]
                at = slope[visited] if isinstance(slope, Tensor) else slope
                found = hidden_error(ops, at, before @ errors, site.back_shift)
                cut = self._error(k, torch.zeros_like(self.errors[k]).index_put_((visited,), found))
                self._count(f"population {self.populations[source].name}", **{"error saturations": cut})
            reads = len(visited) * len(errors) if source >= 0 else writes
            self._count(f"projection {self.projections[n].name}", visits=len(visited), **{"learning reads": reads})

    def _visit(self, n: int, site: Site, pre: Tensor, rows: Tensor, before: Tensor, errors: Tensor) -> int:
        """Gate and update the rows, steer the threshold; how many weights were written."""
        ops, projection = self.ops, self.projections[n]
        product = ops.mul(pre[:, None], errors)
        candidates = product != 0
        plastic, source = self.plastic[self.chain.target[n]].expand_as(product), self.chain.source[n]
        if source >= 0:
            plastic = plastic & self.plastic[source][rows][:, None]
        open_ = candidates & plastic
        if site.target_writes is not None:
            selected = open_ & (exceeds(ops, product, self.thresholds[n], self.learning.gain) != 0)
        else:
            selected = open_
        r: Tensor | int = 0
        if self.learning.rounding == "nearest":
            r = half(site.rate_shift)
        elif self.learning.rounding == "stochastic":
            base = noise_base(ops, torch.tensor(self.samples), rows[:, None], n)
            r = noise(ops, base, self.phases[n], site.rate_shift)
        delta = change(ops, product, r, site.rate_shift)
        written = selected & (delta != 0)
        wanted = ops.add(before, delta * written)
        after = limited(ops, wanted, projection.weight_bits)
        self.weights[n][rows] = after
        writes = int(written.sum())
        counts = [int(t.sum()) for t in (candidates, open_, selected)]
        self._count(
            f"projection {projection.name}",
            candidates=counts[0],
            frozen=counts[0] - counts[1],
            gated=counts[1] - counts[2],
            zero=counts[2] - writes,
            saturations=int((after != wanted).sum()),
            **{"weight writes": writes},
        )
        if site.target_writes is not None:
            self.thresholds[n] = steered(ops, self.thresholds[n], torch.tensor(writes), site.target_writes)
        return writes

    def _count(self, what: str, **counts: int) -> None:
        for kind, count in counts.items():
            self.counters[f"{what}: {kind}"] += count

    def _error(self, n: int, wanted: Tensor) -> int:
        """Keep the errors of a projection's targets, within their bits; how many were cut."""
        self.errors[n] = limited(self.ops, wanted, self.learning.error_bits)
        return int((self.errors[n] != wanted).sum())
