"""The golden model: the network's integer semantics, exact, batched.

Sums are matrix products: of 8-bit integers with 32-bit sums where weights and events fit and the machine's kernel is
exact (tested once), else of floats, exact because every partial sum is bounded below 2^24 (float32) or 2^53
(float64); those of maps are convolutions of floats
(`apical.sw.convolution`), by the same bounds. Laws run in int32 or int64, as the
width analysis proves sufficient.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apical.sw.arithmetic import IntegerOps
from apical.sw.convolution import convolve
from apical.sw.network import IntArray, Network, NetworkError, Population, Projection
from apical.sw.trace import Trace as Trace
from apical.sw.trace import classes

Progress = Callable[[int, int], None]
Arrays = dict[str, np.ndarray]
SUMS_HELD = 1 << 22  # neurons x ticks x samples whose sums are held at a time, at most (if one tick is less)


def check_input(network: Network, x: np.ndarray) -> np.ndarray:
    """Validate `x` of shape [samples, ticks, inputs] against the inputs' formats.

    :raises NetworkError: wrong rank, size, type, or a value that an input can't carry, naming the first one.
    """
    x = np.asarray(x)
    if x.dtype.kind not in "iub":
        raise NetworkError(f"input x: expected integers, got {x.dtype}")
    if x.ndim != 3 or x.shape[2] != network.input_size or 0 in x.shape[:2]:
        raise NetworkError(f"input x: expected shape [samples, ticks, {network.input_size}], got {list(x.shape)}")
    start = 0
    for node in network.inputs:
        part, (low, high) = x[:, :, start : start + node.size], node.value_range
        if part.min() < low or part.max() > high:
            s, t, i = np.argwhere((part < low) | (part > high))[0]
            raise NetworkError(
                f"input {node.name!r}: expected values {low} to {high}, got {part[s, t, i]} at sample {s}, tick {t}, "
                f"channel {i}"
            )
        start += node.size
    return x


def split_input(network: Network, x: np.ndarray) -> dict[str, np.ndarray]:
    """Each input's part of `x`."""
    out, start = {}, 0
    for node in network.inputs:
        out[node.name] = x[:, :, start : start + node.size]
        start += node.size
    return out


def decode(network: Network, trace: Trace) -> IntArray | None:
    """Class by the network's decoder, [samples], or for ``tick`` [samples, ticks]; None without a decoder."""
    return classes(network.decoder, trace.outputs[network.outputs[0]])


@cache
def _bytes_are_exact() -> bool:
    """Does this machine's 8-bit matrix product keep every sum? Some older vector units saturate pairs of products."""
    ends = torch.tensor([-128, 127], dtype=torch.int8)
    pick = torch.Generator().manual_seed(0)
    try:
        for rows, inner, columns in ((33, 784, 40), (1, 16, 3)):
            a = ends[torch.randint(0, 2, (rows, inner), generator=pick)]
            b = ends[torch.randint(0, 2, (inner, columns), generator=pick)]
            a[0], b[:, 0] = 127, 127
            if not torch.equal(torch._int_mm(a, b).to(torch.int64), a.to(torch.int64) @ b.to(torch.int64)):
                return False
    except (RuntimeError, AttributeError):
        return False
    return True


def _product_type(weights: IntArray, value_range: tuple[int, int], magnitude: int) -> torch.dtype | None:
    """Fastest type whose product is exact; None where there is none."""
    extremes = (*value_range, int(weights.min()), int(weights.max()))
    # With one source the 8-bit product returns uninitialized memory (seen with torch 2.13); it pays for many only.
    small = max(extremes) <= 127 and min(extremes) >= -128 and magnitude < 1 << 31
    if weights.shape[1] >= 16 and small and _bytes_are_exact():
        return torch.int8
    return _float_type(magnitude)


def _float_type(magnitude: int) -> torch.dtype | None:
    """Smallest float type that holds every sum; None where there is none."""
    if magnitude < 1 << 24:
        return torch.float32
    return torch.float64 if magnitude < 1 << 53 else None


def _product(y: Tensor, weights: Tensor) -> Tensor:
    """y @ weights, [rows, sources] by [sources, targets], in the weights' type."""
    y = y.to(weights.dtype)
    return torch._int_mm(y.contiguous(), weights) if weights.dtype == torch.int8 else y @ weights


class Synapses:
    """A projection's sums, exact: call it with events [rows, sources] for the sums [rows, targets].

    :raises NetworkError: sums beyond float64's exact range.
    """

    def __init__(self, projection: Projection, value_range: tuple[int, int]) -> None:
        self.source, self.compartment, self.delay = projection.source, projection.compartment, projection.delay
        self.geometry = projection.geometry
        magnitude = projection.sum_interval(value_range).magnitude
        kernel = projection.kernel
        if self.geometry is None:
            kind = _product_type(kernel, value_range, magnitude)
        else:
            kind = _float_type(magnitude)
        if kind is None:
            raise NetworkError(f"projection {projection.name!r}: sums reach {magnitude}, beyond float64's exact 2^53")
        weights = torch.from_numpy(kernel.copy()).to(kind)
        self.weights = weights.T if self.geometry is None else weights

    def __call__(self, y: Tensor) -> Tensor:
        if self.geometry is None:
            return _product(y, self.weights)
        return convolve(y.to(self.weights.dtype), self.weights, self.geometry)


class _Cell:
    """One population's law, ready to run on tensors."""

    def __init__(self, network: Network, population: Population) -> None:
        wide = network.ranges[population.name].magnitude >= 1 << 31
        self.dtype = torch.int64 if wide else torch.int32
        self.ops, self.population = IntegerOps(self.dtype), population
        self.params = {k: self._tensor(a) for k, a in population.params.items()}
        self.synapses = [Synapses(p, network.nodes[p.source].value_range) for p in network.incoming(population.name)]

    def _tensor(self, array: IntArray) -> Tensor:
        return torch.from_numpy(self.population.spread(array).copy()).to(self.dtype)

    def ops_step(self, state: dict[str, Tensor], currents: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        return self.population.law.step(self.ops, state, currents, self.params)

    def start(self, samples: int) -> dict[str, Tensor]:
        return {k: self._tensor(a).expand(samples, self.population.size) for k, a in self.population.initial.items()}


def _loops(network: Network) -> list[list[str]]:
    """Populations in groups that feed back on each other (most often one each), in an order in which events flow.

    Within a group in `Network.order`.
    """
    groups: dict[frozenset[str], list[str]] = {}  # by the group and all that comes before it: grows along every path
    for name in network.order:
        found, waiting = {name}, [name]
        while waiting:
            sources = network.sources(waiting.pop()) & set(network.order) - found
            found |= sources
            waiting += sources
        groups.setdefault(frozenset(found), []).append(name)
    return [groups[found] for found in sorted(groups, key=len)]


def _arrays(network: Network, samples: int, ticks: int, states: bool) -> tuple[Arrays, dict[str, Arrays]]:
    """Room for what each population sends, [samples, ticks, neurons], and for its states where they are wanted."""
    values = {p.name: np.zeros((samples, ticks, p.size), _small_type(p.value_range)) for p in network.populations}
    kept = network.populations if states else ()
    return values, {p.name: {k: np.zeros((samples, ticks, p.size), np.int64) for k in p.initial} for p in kept}


class Machine:
    """A network at work on some sequences side by side; their states and delayed events stay from push to push.

    :ivar state: per population and state, [samples, neurons], after the last tick.
    :ivar past: per node with delayed projections, what it sent in its last ticks, [samples, longest delay, size].
    :ivar counters: of all that was pushed, whatever was started anew in between.
    :ivar window, partial: ticks of all gates' windows together; the last push ended within one, so it ended the sample.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        by_name = {p.name: p for p in network.populations}
        self._groups = [[_Cell(network, by_name[name]) for name in names] for names in _loops(network)]
        self._cells = [cell for group in self._groups for cell in group]
        self._depth = {n: max((q.delay for q in network.outgoing(n)), default=0) for n in network.nodes}
        self.counters = dict.fromkeys(network.counter_names, 0)
        self.window = math.lcm(*(g.window for g in network.gates))
        self.start(1)

    def start(self, samples: int) -> None:
        """Begin `samples` new sequences: start states, nothing under way."""
        self.partial = False
        self.state = {c.population.name: c.start(samples) for c in self._cells}
        self.past = {
            name: torch.from_numpy(np.zeros((samples, self._depth[name], node.size), _small_type(node.value_range)))
            for name, node in self.network.nodes.items()
        }

    def push(self, x: np.ndarray, states: bool = False) -> tuple[Arrays, dict[str, Arrays]]:
        """Run the next ticks.

        :param x: checked integers, [samples, ticks, inputs].
        :returns: per population what it sent, [samples, ticks, neurons], and its states after each tick, or nothing.
        """
        values, history = _arrays(self.network, x.shape[0], x.shape[1], states)
        self.fill(x, values, history)
        return values, history

    def fill(self, x: np.ndarray, values: Arrays, history: Mapping[str, Arrays]) -> None:
        """The same into given arrays; states of the populations that `history` has."""
        samples, ticks, _ = x.shape
        if self.partial:
            raise NetworkError(
                f"network {self.network.name!r}: expected ticks by whole windows of its gates, {self.window}, or all "
                "of a sample at once"
            )
        self.partial = ticks % self.window != 0
        step = max(1, SUMS_HELD // (samples * max(p.size for p in self.network.populations)))
        step = max(1, step // self.window) * self.window  # gates decide from whole windows
        with torch.no_grad():
            for start in range(0, ticks, step):
                part = slice(start, min(start + step, ticks))
                kept = {name: {k: a[:, part] for k, a in s.items()} for name, s in history.items()}
                for name, sent in self._advance(x[:, part], kept).items():
                    values[name][:, part] = sent.numpy()

    def _advance(self, x: np.ndarray, history: Mapping[str, Arrays]) -> dict[str, Tensor]:
        """The same for few enough ticks; fills `history` where it has the population."""
        ticks = x.shape[1]
        self._on: dict[str, IntArray] = {}  # per gated population: channels that are on, [samples, ticks]
        sent: dict[str, Tensor] = {}  # per node: its past, then this part's ticks
        for name, piece in split_input(self.network, x).items():
            new = torch.from_numpy(np.ascontiguousarray(piece, dtype=_small_type(self.network.nodes[name].value_range)))
            sent[name] = torch.cat([self.past[name], new], dim=1)
        for group in self._groups:
            # Sums of what is known already, for all ticks at once; a loop's own events come tick by tick.
            ahead = [self._ahead(cell, sent, ticks) for cell in group]
            gated = [self._gate(cell, sent, ticks) for cell in group]
            for cell in group:
                past = self.past[cell.population.name]
                sent[cell.population.name] = torch.cat([past, past.new_zeros(len(past), ticks, past.shape[2])], dim=1)
            for t in range(ticks):
                for cell, (known, own), on in zip(group, ahead, gated, strict=True):
                    name = cell.population.name
                    currents = {k: v[:, t] for k, v in known.items()}
                    for q in own:
                        part = q(sent[q.source][:, self._depth[q.source] + t - q.delay]).to(cell.dtype)
                        currents[q.compartment] = currents[q.compartment] + part if q.compartment in currents else part
                    self.state[name], value = cell.ops_step(self.state[name], currents)
                    if on is not None:
                        value = value * on[:, t]
                    sent[name][:, self._depth[name] + t] = value
                    for k, array in history.get(name, {}).items():
                        array[:, t] = (self.state[name][k] if on is None else self.state[name][k] * on[:, t]).numpy()
                    if on is not None:  # what is off begins anew
                        first = cell.start(len(value))
                        self.state[name] = {k: torch.where(on[:, t], v, first[k]) for k, v in self.state[name].items()}
        self._count(sent, ticks)
        self.past = {name: y[:, ticks:].clone() for name, y in sent.items()}
        return {c.population.name: sent[c.population.name][:, self._depth[c.population.name] :] for c in self._cells}

    def _ahead(self, cell: _Cell, sent: Mapping[str, Tensor], ticks: int) -> tuple[dict[str, Tensor], list[Synapses]]:
        """Compartment sums [samples, ticks, neurons] of the sources in `sent`, and the projections from others."""
        sums: dict[str, Tensor] = {}
        own = []
        for q in cell.synapses:
            if q.source not in sent:
                own.append(q)
                continue
            start = self._depth[q.source] - q.delay
            y = sent[q.source][:, start : start + ticks]
            part = q(y.reshape(-1, y.shape[2])).to(cell.dtype).reshape(*y.shape[:2], -1)
            sums[q.compartment] = sums[q.compartment] + part if q.compartment in sums else part
        return sums, own

    def _gate(self, cell: _Cell, sent: Mapping[str, Tensor], ticks: int) -> Tensor | None:
        """Which neurons of a gated population are on, [samples, ticks, neurons]; None where it has no gate."""
        gate, population = self.network.gate_of(cell.population.name), cell.population
        if gate is None or population.shape is None:
            return None
        values = sent[gate.source][:, self._depth[gate.source] :]
        on = gate.decide(values.numpy(), self.network.point)
        self.counters[f"gate {gate.target}: events"] += int(values.count_nonzero())
        self.counters[f"gate {gate.target}: windows"] += on.shape[0] * on.shape[1]
        self.counters[f"gate {gate.target}: on"] += int(on.sum())
        by_tick = np.repeat(on, gate.window, axis=1)[:, :ticks]
        self._on[population.name] = by_tick.sum(2) * (population.shape[0] // gate.groups)
        return torch.from_numpy(np.repeat(by_tick, population.size // gate.groups, axis=2))

    def _count(self, sent: Mapping[str, Tensor], ticks: int) -> None:
        for q in self.network.projections:
            start = self._depth[q.source] - q.delay
            delivered = sent[q.source][:, start : start + ticks]
            self.counters[f"projection {q.name}: events"] += int(delivered.count_nonzero())
            if q.geometry is not None and q.target in self._on:
                positions = (delivered != 0).numpy() @ (q.fan_out // q.geometry.group_channels)
                self.counters[f"projection {q.name}: synapses"] += int((positions * self._on[q.target]).sum())
            elif q.geometry is not None:
                by_source = delivered.count_nonzero((0, 1)).numpy()
                reached = int(by_source @ q.fan_out) // q.geometry.group_channels
                self.counters[f"projection {q.name}: positions"] += reached
        for p in self.network.populations:
            y = sent[p.name][:, self._depth[p.name] :]
            self.counters[f"population {p.name}: events"] += int(y.count_nonzero())
            updates = y.numel()
            if p.name in self._on and p.shape is not None:
                updates = int(self._on[p.name].sum()) * (p.size // p.shape[0])
            self.counters[f"population {p.name}: updates"] += updates


def _small_type(value_range: tuple[int, int]) -> type[np.signedinteger[Any]]:
    """Smallest signed type that holds the values."""
    low, high = value_range
    for kind in (np.int8, np.int16, np.int32):
        if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return kind
    return np.int64


def run(
    network: Network,
    x: np.ndarray,
    *,
    states: bool = False,
    batch: int = 500,
    progress: Progress | None = None,
) -> Trace:
    """Run the golden model.

    :param x: integers, [samples, ticks, inputs].
    :param states: keep every state after every tick.
    :param batch: samples computed together.
    :param progress: called with (samples done, samples).
    :raises NetworkError: `x` doesn't fit the network.
    """
    x = check_input(network, x)
    began = time.perf_counter()
    samples, ticks, _ = x.shape
    machine = Machine(network)
    values, history = _arrays(network, samples, ticks, states)
    for start in range(0, samples, batch):
        part = slice(start, min(start + batch, samples))
        machine.start(part.stop - part.start)
        kept = {name: {k: a[part] for k, a in s.items()} for name, s in history.items()}
        machine.fill(x[part], {name: a[part] for name, a in values.items()}, kept)
        if progress is not None:
            progress(part.stop, samples)
    outputs = {name: values[name] for name in network.outputs}
    return Trace(values, outputs, machine.counters, history, seconds=time.perf_counter() - began)
