"""The golden model: the network's integer semantics, exact, batched.

Sums are float matrix products, exact because every partial sum is bounded below 2^24 (float32) or 2^53 (float64);
laws run in int32 or int64, as the width analysis proves sufficient.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from apical.sw.arithmetic import IntegerOps
from apical.sw.network import IntArray, Network, NetworkError, Population

Progress = Callable[[int, int], None]


@dataclass
class Trace:
    """What a run of a network produced, by golden or by RTL.

    :param values: per population, [samples, ticks, neurons]: what each neuron sent (0: nothing).
    :param states: per population and state, [samples, ticks, neurons], after each tick; empty unless asked for.
    :param outputs: per output population, the same array as it left the chip (for golden: equal to `values`).
    :param counters: ``population NAME: events``, ``population NAME: updates``, ``projection NAME: events``; totals
        of the run.
    :param cycles: clock cycles of the whole run; None for golden.
    :param engine: what produced it.
    """

    values: dict[str, IntArray]
    outputs: dict[str, IntArray]
    counters: dict[str, int]
    states: dict[str, dict[str, IntArray]] = field(default_factory=dict)
    cycles: int | None = None
    seconds: float = 0.0
    engine: str = "golden"

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(next(iter(self.values.values())).shape[0])


def check_input(network: Network, x: np.ndarray) -> IntArray:
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
    return x.astype(np.int64, copy=False)


def split_input(network: Network, x: IntArray) -> dict[str, IntArray]:
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
            if magnitude >= 1 << 53:
                raise NetworkError(f"projection {p.name!r}: sums reach {magnitude}, beyond float64's exact 2^53")
            kind = torch.float32 if magnitude < 1 << 24 else torch.float64
            self.weights.append((p.source, p.compartment, p.delay, torch.from_numpy(p.weights.copy()).to(kind).T))

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
                part = (y[:, tick - delay].to(weights.dtype) @ weights).to(cell.dtype)
        else:
            part = (y.reshape(-1, y.shape[2]).to(weights.dtype) @ weights).to(cell.dtype)
            part = part.reshape(y.shape[0], y.shape[1], -1)
        out[compartment] = out[compartment] + part if compartment in out else part
    return out


def _run_batch(network: Network, x: IntArray, states: bool) -> tuple[dict[str, Tensor], dict[str, dict[str, Tensor]]]:
    samples, ticks = x.shape[:2]
    cells = [_Cell(network, p) for name in network.order for p in network.populations if p.name == name]
    values = {name: torch.from_numpy(part).to(torch.float32) for name, part in split_input(network, x).items()}
    state = {c.population.name: c.start(samples) for c in cells}
    history: dict[str, dict[str, list[Tensor]]] = {
        c.population.name: {k: [] for k in c.population.initial} for c in cells
    }

    def tick_of(cell: _Cell, currents: dict[str, Tensor]) -> Tensor:
        name = cell.population.name
        state[name], value = cell.ops_step(state[name], currents)
        if states:
            for k, v in state[name].items():
                history[name][k].append(v)
        return value

    if any(p.delay for p in network.projections):
        for c in cells:
            values[c.population.name] = torch.zeros(samples, ticks, c.population.size, dtype=c.dtype)
        for t in range(ticks):
            for c in cells:
                values[c.population.name][:, t] = tick_of(c, _currents(c, values, t))
    else:
        for c in cells:
            all_ticks = _currents(c, values, None)
            sent = [tick_of(c, {k: v[:, t] for k, v in all_ticks.items()}) for t in range(ticks)]
            values[c.population.name] = torch.stack(sent, 1)
    stacked = {n: {k: torch.stack(v, 1) for k, v in h.items()} for n, h in history.items()} if states else {}
    return values, stacked


def _batches(samples: int, size: int) -> Iterator[slice]:
    for start in range(0, samples, size):
        yield slice(start, min(start + size, samples))


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
    collected: dict[str, list[IntArray]] = {p.name: [] for p in network.populations}
    kept: dict[str, dict[str, list[IntArray]]] = {p.name: {k: [] for k in p.initial} for p in network.populations}
    counters = {f"projection {q.name}: events": 0 for q in network.projections}
    ticks = x.shape[1]
    with torch.no_grad():
        for part in _batches(x.shape[0], batch):
            values, history = _run_batch(network, x[part], states)
            for name in collected:
                collected[name].append(values[name].numpy().astype(np.int64))
                for k, v in history.get(name, {}).items():
                    kept[name][k].append(v.numpy().astype(np.int64))
            for q in network.projections:
                delivered = values[q.source][:, : max(ticks - q.delay, 0)]
                counters[f"projection {q.name}: events"] += int(torch.count_nonzero(delivered))
            if progress is not None:
                progress(part.stop, x.shape[0])
    out = {name: np.concatenate(parts) for name, parts in collected.items()}
    for p in network.populations:
        counters[f"population {p.name}: events"] = int(np.count_nonzero(out[p.name]))
        counters[f"population {p.name}: updates"] = x.shape[0] * ticks * p.size
    state_arrays = {n: {k: np.concatenate(v) for k, v in h.items() if v} for n, h in kept.items()} if states else {}
    outputs = {name: out[name] for name in network.outputs}
    return Trace(out, outputs, counters, state_arrays, seconds=time.perf_counter() - began)
