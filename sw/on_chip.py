"""On-chip learning in integers: its laws, written once in the ops protocol, and the golden model that runs them.

The semantics, the counters and which laws can learn: docs/reference/plasticity.md, section "On the chip".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from apical.sw.arithmetic import IntegerOps, Ops, V
from apical.sw.golden import check_input
from apical.sw.law import Format
from apical.sw.laws import LeakyIntegrator, Relu
from apical.sw.network import IntArray, Network, NetworkError, Population, Projection

Rounding = Literal["floor", "nearest", "stochastic"]
NOISE_BITS = 24
# Odd, near 2^24 times (√5 - 1)/2, √2 - 1 and (√13 - 3)/2, the numbers that fractions approach worst: additive sequences
# that fill time, rows and lanes evenly. The last one parts projections.
NOISE_SAMPLE, NOISE_ROW, NOISE_LANE, NOISE_PROJECTION = 10368889, 6949351, 5079733, 4294967
THRESHOLD = Format(32)


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


def hidden_error(ops: Ops[V], slope: V, back: V, shift: int) -> V:
    """round(slope · back / 2^shift), before `limited`; `back` is the sum of weight times error over the cell's row."""
    return nearest(ops, ops.select(slope, back, 0), shift)


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


def relu_slope(ops: Ops[V], value: V) -> V:
    """1 where the cell sent something; its ceiling passes the error, so that a cell can come down from it."""
    return ops.gt(value, 0)


SLOPES: dict[str, Callable[[Ops[Any], Any], Any]] = {Relu.name: relu_slope}
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


def chain(network: Network, learning: Learning) -> tuple[list[Projection], list[Population]]:
    """Projections and populations from the input to the output.

    :raises NetworkError: what can't learn on the chip, and why.
    """
    where = f"network {network.name!r}: on-chip learning"
    if len(network.inputs) != 1 or len(network.projections) != len(network.populations):
        raise NetworkError(f"{where}: expected one input and a chain of populations, one projection to each")
    projections, populations, node = [], [], network.inputs[0].name
    for _ in network.populations:
        out = network.outgoing(node)
        if len(out) != 1 or out[0].delay or out[0].pattern != "dense":
            raise NetworkError(f"{where}: expected one dense projection of delay 0 from {node!r}, got {len(out)}")
        projections.append(out[0])
        node = out[0].target
        populations.append(next(p for p in network.populations if p.name == node))
    for n, population in enumerate(populations):
        last, law = n == len(populations) - 1, population.law.name
        known = OUTPUTS if last else tuple(SLOPES)
        if law not in known:
            raise NetworkError(
                f"{where}: population {population.name!r}: law {law} can't be a learning "
                f"{'output' if last else 'hidden population'}; these can: {', '.join(known)}"
            )
    if network.outputs != (populations[-1].name,):
        raise NetworkError(f"{where}: expected {populations[-1].name!r} as the only output, got {network.outputs}")
    if len(learning.sites) != len(projections):
        raise NetworkError(f"{where}: expected {len(projections)} sites, got {len(learning.sites)}")
    hidden = {p.name: p.size for p in populations[:-1]}
    for name, bits in learning.plastic.items():
        if bits.shape != (hidden.get(name),):
            raise NetworkError(f"{where}: plastic: expected one bit per cell of {hidden}, got {name!r} {bits.shape}")
    return projections, populations


class OnChip:
    """The golden model of a learning chip: weights, thresholds, the sample number and the counters.

    :raises NetworkError: what can't learn on the chip, and why.
    """

    def __init__(self, network: Network, learning: Learning) -> None:
        self.start, self.learning, self.samples = network, learning, 0
        self.projections, self.populations = chain(network, learning)
        self.ops = IntegerOps()
        self.weights = [torch.from_numpy(p.weights.T.copy()) for p in self.projections]  # rows of sources
        self.thresholds = [torch.zeros((), dtype=torch.int64) for _ in self.projections]
        everything = {p.name: np.ones(p.size, np.int64) for p in self.populations}
        self.plastic = [torch.from_numpy({**everything, **learning.plastic}[p.name] != 0) for p in self.populations]
        self.params = [{k: torch.from_numpy(p.spread(a).copy()) for k, a in p.params.items()} for p in self.populations]
        self.lanes = [torch.arange(p.size) for p in self.populations]
        self.phases = [torch.from_numpy(noise_lanes(p.size)) for p in self.populations]
        self.errors = [torch.zeros(p.size, dtype=torch.int64) for p in self.populations]
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
        sent, rows, value = [], [], events
        for n, population in enumerate(self.populations):
            active = value.nonzero()[:, 0]
            sent.append(value[active])
            rows.append(active)
            current = sent[n] @ self.weights[n][active]
            state = {k: torch.from_numpy(population.spread(a).copy()) for k, a in population.initial.items()}
            currents = {population.law.compartments[0]: current}
            _, value = population.law.step(self.ops, state, currents, self.params[n])
            self._count(f"projection {self.projections[n].name}", events=len(active))
            self._count(f"population {population.name}", events=int((value != 0).sum()), updates=population.size)
        right, others = value[label], value.clone()
        others[label] = torch.iinfo(torch.int64).min
        skipped = self.learning.margin is not None and bool(right - others.max() >= self.learning.margin)
        ops, learning, wanted = self.ops, self.learning, (self.lanes[-1] == label).long()
        cut = self._error(-1, output_error(ops, value, wanted, learning.target, learning.error_shift))
        self._count("learning", samples=1, **{"skipped passes" if skipped else "backward passes": 1})
        if not skipped:
            self._count(f"population {self.populations[-1].name}", **{"error saturations": cut})
            self._backward(sent, rows)
        self.samples = (self.samples + 1) % (1 << NOISE_BITS)
        return value

    def _backward(self, sent: list[Tensor], rows: list[Tensor]) -> None:
        ops, learning = self.ops, self.learning
        for n in reversed(range(len(self.projections))):
            pre, visited, site = sent[n], rows[n], learning.sites[n]
            if n == 1:  # a frozen cell of the first population needs no error and has nothing that could be written
                kept = self.plastic[0][visited]
                pre, visited = pre[kept], visited[kept]
            before, errors = self.weights[n][visited], self.errors[n]
            writes = self._visit(n, site, pre, visited, before, errors)
            if n:
                slope = SLOPES[self.populations[n - 1].law.name](ops, pre)
                found = hidden_error(ops, slope, before @ errors, site.back_shift)
                silent = torch.zeros(self.populations[n - 1].size, dtype=torch.int64)
                cut = self._error(n - 1, silent.index_put_((visited,), found))
                self._count(f"population {self.populations[n - 1].name}", **{"error saturations": cut})
            reads = len(visited) * len(self.lanes[n]) if n else writes
            self._count(f"projection {self.projections[n].name}", visits=len(visited), **{"learning reads": reads})

    def _visit(self, n: int, site: Site, pre: Tensor, rows: Tensor, before: Tensor, errors: Tensor) -> int:
        """Gate and update the rows, steer the threshold; how many weights were written."""
        ops, projection = self.ops, self.projections[n]
        product = ops.mul(pre[:, None], errors)
        candidates = product != 0
        plastic = self.plastic[n].expand_as(product)
        if n:
            plastic = plastic & self.plastic[n - 1][rows][:, None]
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
        """Keep the errors of a population's cells, within their bits; how many were cut."""
        self.errors[n] = limited(self.ops, wanted, self.learning.error_bits)
        return int((self.errors[n] != wanted).sum())
