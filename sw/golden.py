"""The golden model: the network's integer semantics, exact, batched.

Sums are matrix products: of 8-bit integers with 32-bit sums where weights and events fit and the machine's kernel is
exact (tested once), else of floats, exact because every partial sum is bounded below 2^24 (float32) or 2^53
(float64). Laws run in int32 or int64, as the width analysis proves sufficient.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apical.sw.arithmetic import IntegerOps
from apical.sw.network import IntArray, Network, NetworkError, Population

Progress = Callable[[int, int], None]


@dataclass
class Trace:
    """What a run of a network produced, by golden or by RTL.

    :param values: per population, [samples, ticks, neurons], any integer type: what each neuron sent (0: nothing).
    :param states: per population and state, [samples, ticks, neurons], after each tick; empty unless asked for.
    :param outputs: per output population, the same array as it left the chip (for golden: equal to `values`).
    :param counters: ``population NAME: events``, ``population NAME: updates``, ``projection NAME: events``; totals
        of the run.
    :param cycles: clock cycles of the whole run; None for golden.
    :param engine: what produced it.
    """

    values: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    counters: dict[str, int]
    states: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    cycles: int | None = None
    seconds: float = 0.0
    engine: str = "golden"

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(next(iter(self.values.values())).shape[0])


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
    """Class per sample by the network's decoder, [samples]; None without one."""
    y = trace.outputs[network.outputs[0]]
    if network.decoder is None:
        return None
    if network.decoder == "sum":
        score = y.sum(axis=1)
    elif network.decoder == "last":
        score = y[:, -1]
    else:
        score = (y != 0).sum(axis=1)
    return np.asarray(score.argmax(axis=1), dtype=np.int64)


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
    if magnitude < 1 << 24:
        return torch.float32
    return torch.float64 if magnitude < 1 << 53 else None


def _product(y: Tensor, weights: Tensor) -> Tensor:
    """y @ weights, [rows, sources] by [sources, targets], in the weights' type."""
    y = y.to(weights.dtype)
    return torch._int_mm(y.contiguous(), weights) if weights.dtype == torch.int8 else y @ weights


class _Cell:
    """One population's law, ready to run on tensors."""

    def __init__(self, network: Network, population: Population) -> None:
        wide = network.ranges[population.name].magnitude >= 1 << 31
        self.dtype = torch.int64 if wide else torch.int32
        self.ops, self.population = IntegerOps(self.dtype), population
        self.params = {k: torch.from_numpy(a.copy()).to(self.dtype) for k, a in population.params.items()}
        self.weights: list[tuple[str, str, int, Tensor]] = []
        for p in network.incoming(population.name):
            magnitude = p.sum_interval(network.nodes[p.source].value_range).magnitude
            kind = _product_type(p.weights, network.nodes[p.source].value_range, magnitude)
            if kind is None:
                raise NetworkError(f"projection {p.name!r}: sums reach {magnitude}, beyond float64's exact 2^53")
            weights = torch.from_numpy(p.weights.copy()).to(kind).T
            self.weights.append((p.source, p.compartment, p.delay, weights))

    def ops_step(self, state: dict[str, Tensor], currents: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        return self.population.law.step(self.ops, state, currents, self.params)

    def start(self, samples: int) -> dict[str, Tensor]:
        return {
            k: torch.from_numpy(a.copy()).to(self.dtype).expand(samples, self.population.size)
            for k, a in self.population.initial.items()
        }


def _currents(cell: _Cell, sources: Mapping[str, Tensor], tick: int | None) -> dict[str, Tensor]:
    """Compartment sums, of all ticks at once (`tick` None) or of one tick from the sources' history."""
    out: dict[str, Tensor] = {}
    for source, compartment, delay, weights in cell.weights:
        y = sources[source]
        if tick is not None:
            if tick < delay:
                part = torch.zeros(y.shape[0], cell.population.size, dtype=cell.dtype)
            else:
                part = _product(y[:, tick - delay], weights).to(cell.dtype)
        else:
            part = _product(y.reshape(-1, y.shape[2]), weights).to(cell.dtype)
            part = part.reshape(y.shape[0], y.shape[1], -1)
        out[compartment] = out[compartment] + part if compartment in out else part
    return out


class _Runner:
    """Cells in order, and the whole run's arrays, filled batch by batch."""

    def __init__(self, network: Network, samples: int, ticks: int, states: bool) -> None:
        self.network, self.states = network, states
        by_name = {p.name: p for p in network.populations}
        self.cells = [_Cell(network, by_name[name]) for name in network.order]
        self.recurrent = any(q.delay for q in network.projections)
        self.values = {
            p.name: np.zeros((samples, ticks, p.size), _small_type(p.value_range)) for p in network.populations
        }
        self.history = {
            p.name: {k: np.zeros((samples, ticks, p.size), np.int64) for k in p.initial}
            for p in (network.populations if states else ())
        }
        self.counters = {f"projection {q.name}: events": 0 for q in network.projections}

    def batch(self, x: np.ndarray, part: slice) -> None:
        """Run samples `part` of the whole input."""
        ticks = x.shape[1]
        sources = {
            node.name: torch.from_numpy(np.ascontiguousarray(piece, dtype=_small_type(node.value_range)))
            for node, piece in zip(self.network.inputs, split_input(self.network, x[part]).values(), strict=True)
        }
        sources.update({name: torch.from_numpy(array[part]) for name, array in self.values.items()})
        state = {c.population.name: c.start(part.stop - part.start) for c in self.cells}
        if self.recurrent:
            for t in range(ticks):
                for c in self.cells:
                    self._tick(c, state, _currents(c, sources, t), part, t)
        else:
            for c in self.cells:
                all_ticks = _currents(c, sources, None)
                for t in range(ticks):
                    self._tick(c, state, {k: v[:, t] for k, v in all_ticks.items()}, part, t)
        for q in self.network.projections:
            delivered = sources[q.source][:, : max(ticks - q.delay, 0)].numpy()
            self.counters[f"projection {q.name}: events"] += int(np.count_nonzero(delivered != 0))

    def _tick(
        self, cell: _Cell, state: dict[str, dict[str, Tensor]], currents: dict[str, Tensor], part: slice, t: int
    ) -> None:
        name = cell.population.name
        state[name], value = cell.ops_step(state[name], currents)
        self.values[name][part, t] = value.numpy()
        if self.states:
            for k, v in state[name].items():
                self.history[name][k][part, t] = v.numpy()

    def trace(self, seconds: float) -> Trace:
        """Everything that was run."""
        for p in self.network.populations:
            y = self.values[p.name]
            self.counters[f"population {p.name}: events"] = int(np.count_nonzero(y != 0))
            self.counters[f"population {p.name}: updates"] = int(y.size)
        outputs = {name: self.values[name] for name in self.network.outputs}
        return Trace(self.values, outputs, self.counters, self.history, seconds=seconds)


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
    runner = _Runner(network, x.shape[0], x.shape[1], states)
    with torch.no_grad():
        for start in range(0, x.shape[0], batch):
            part = slice(start, min(start + batch, x.shape[0]))
            runner.batch(x, part)
            if progress is not None:
                progress(part.stop, x.shape[0])
    return runner.trace(time.perf_counter() - began)
