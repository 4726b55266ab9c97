"""The float twin: a graph under a source profile, computed as its source computes it.

`of_graph` (of `apical.sw.nir_wires`) makes the network, `run` computes it.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.sparse as sparse
import torch
from scipy.sparse import csgraph
from torch import Tensor

from apical.sw.nir_profiles import Cell
from apical.sw.nir_read import NirError
from apical.sw.nir_shapes import Shape
from apical.sw.nir_wires import FloatNetwork, Wire, of_graph

__all__ = ["FloatNetwork", "Wire", "of_graph", "run", "split"]
HELD = 1 << 24  # numbers of one array at a time


class _State:
    """One cell at work."""

    def __init__(self, cell: Cell, samples: int) -> None:
        self.cell, self.dtype = cell, getattr(torch, cell.dtype)

        def tensor(a: np.ndarray | None) -> Tensor | None:
            return None if a is None else torch.from_numpy(a).to(self.dtype)

        self.alpha, self.weight, self.rate, self.leak = map(tensor, (cell.alpha, cell.weight, cell.rate, cell.leak))
        self.theta, self.v_reset, self.floor = map(tensor, (cell.threshold, cell.v_reset, cell.floor))
        self.beta, self.drive, self.gain = (
            torch.from_numpy(a).to(self.dtype) for a in (cell.beta, cell.drive, cell.gain)
        )
        self.scaled = cell.rate is not None and bool(np.allclose(cell.gain, cell.rate))
        self.plain, self.driven = bool((cell.gain == 1).all()), bool(cell.drive.any())
        start = np.zeros(cell.size) if cell.start is None else cell.start
        self.v = torch.from_numpy(start).to(self.dtype).expand(samples, cell.size)
        self.i = torch.zeros(samples, cell.size, dtype=self.dtype)

    def step(self, currents: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Sent value and membrane before the reset."""
        u = self._charged([c.to(self.dtype) for c in currents])
        cell, theta = self.cell, self.theta
        if theta is None:
            self.v = u
            return u, u
        late = self._above(self.v) if cell.reset in ("subtract_late", "zero_late", "subtract_twice") else None
        if late is not None:
            u = u * (1 - late) if cell.reset == "zero_late" else u - late * theta
        n = self._above(u)
        if cell.graded:
            n = n * torch.trunc(u / theta)
        if cell.reset == "subtract":
            self.v = u - n * theta
        elif cell.reset == "subtract_twice":
            assert late is not None
            self.v = u - (n - late) * theta
        elif cell.reset == "value":
            assert self.v_reset is not None
            self.v = torch.where(n > 0, self.v_reset, u)
        else:
            self.v = u
        if self.floor is not None:
            self.v = torch.maximum(self.v, self.floor)
        return n, u

    def _above(self, v: Tensor) -> Tensor:
        assert self.theta is not None
        return ((v - self.theta > 0) if self.cell.compare == "gt" else (v >= self.theta)).to(self.dtype)

    def _charged(self, currents: list[Tensor]) -> Tensor:
        if self.alpha is not None:
            assert self.weight is not None
            self.i = self.alpha * self.i
            for c in currents:
                self.i = self.i + (c if bool((self.weight == 1).all()) else self.weight * c)
            currents = [self.i]
        if self.rate is not None and self.leak is not None and self.scaled:
            total = currents[0]
            for c in currents[1:]:
                total = total + c
            return self.v + self.rate * ((self.leak - self.v) + total)
        u = self.beta * self.v
        for c in currents:
            u = u + (c if self.plain else self.gain * c)
        return u + self.drive if self.driven else u


def split(network: FloatNetwork, x: np.ndarray) -> dict[str, np.ndarray]:
    """Each input's part of x [samples, ticks, channels].

    :raises NirError: another shape, or values that aren't finite.
    """
    if x.ndim != 3 or x.shape[2] != network.input_size or 0 in x.shape:
        raise NirError(f"input x: expected shape [samples, ticks, {network.input_size}], got {list(x.shape)}")
    if x.dtype.kind not in "iufb" or not np.isfinite(x).all():
        raise NirError(f"input x: expected finite numbers, got {x.dtype}")
    cuts = np.cumsum([math.prod(s) for s in network.inputs.values()])[:-1]
    return dict(zip(network.inputs, np.split(x, cuts, axis=2), strict=True))


@torch.no_grad()
def run(network: FloatNetwork, x: np.ndarray, every: bool = False) -> dict[str, np.ndarray]:
    """What the outputs send (or every cell), [samples, ticks, neurons]; membranes where they are read.

    :param x: values [samples, ticks, channels].
    :raises NirError: `x` doesn't fit, or a cell's values become infinite.
    """
    split(network, x)
    widest = max((c.size for c in network.cells.values()), default=1)
    batch = max(1, HELD // (x.shape[1] * max(widest, network.input_size)))
    kept = list(network.cells) if every else list(network.outputs)
    parts = [_run(network, x[k : k + batch], kept) for k in range(0, len(x), batch)]
    return {n: np.concatenate([p[n] for p in parts]) for n in kept}


def _run(network: FloatNetwork, x: np.ndarray, kept: list[str]) -> dict[str, np.ndarray]:
    samples, ticks = x.shape[:2]
    shape = {**network.inputs, **{n: c.shape for n, c in network.cells.items()}}
    sent = {n: torch.from_numpy(np.ascontiguousarray(a)).to(torch.float32) for n, a in split(network, x).items()}
    membranes: dict[str, Tensor] = {}
    for group in _groups(network):
        states = {n: _State(network.cells[n], samples) for n in group}
        ahead = {n: [_all_ticks(w, sent[w.source], shape[w.source], states[n].dtype) for w in network.wires[n]
                     if w.source in sent] for n in group}  # fmt: skip
        own = {n: [w for w in network.wires[n] if w.source not in sent] for n in group}
        values = {n: torch.zeros(samples, ticks, network.cells[n].size, dtype=states[n].dtype) for n in group}
        for n in network.membranes & set(group):
            membranes[n] = torch.zeros_like(values[n])
        for t in range(ticks):
            for n in group:
                currents = [a[:, t] for a in ahead[n]]
                for w in own[n]:
                    past = (
                        values[w.source][:, t - w.delay] if t >= w.delay else torch.zeros_like(values[w.source][:, 0])
                    )
                    currents.append(w.apply(past.reshape(samples, *shape[w.source]).to(states[n].dtype)))
                values[n][:, t], u = states[n].step(currents)
                if n in membranes:
                    membranes[n][:, t] = u
        for n in group:
            _check_finite(network.cells[n], values[n], membranes.get(n, states[n].v))
        sent.update(values)
    return {n: membranes.get(n, sent[n]).numpy() for n in kept}


def _check_finite(cell: Cell, *values: Tensor) -> None:
    """Refuse a cell that left the numbers: its weights, gains or biases are too large for its type.

    :raises NirError: with the node.
    """
    for each in values:
        if not bool(torch.isfinite(each).all()):
            bad = float(each[~torch.isfinite(each)].reshape(-1)[0])
            raise NirError(
                f"node {cell.name!r} ({cell.type}): expected finite values, it reaches {bad} in {cell.dtype}: its "
                f"weights, gains or biases are too large"
            )


def _all_ticks(wire: Wire, values: Tensor, shape: Shape, dtype: torch.dtype) -> Tensor:
    """Currents of all ticks, [samples, ticks, neurons]."""
    samples, ticks = values.shape[:2]
    if wire.delay:
        values = torch.nn.functional.pad(values, (0, 0, wire.delay, 0))[:, :ticks]
    flat = values.reshape(samples * ticks, *shape).to(dtype)
    step = max(1, HELD // max(math.prod(s.given) for s in wire.steps)) if wire.steps else len(flat)
    parts = [wire.apply(flat[k : k + step]) for k in range(0, len(flat), step)]
    return torch.cat(parts).reshape(samples, ticks, -1)


def _groups(network: FloatNetwork) -> list[list[str]]:
    """Cells that feed back on each other together, in the order of computation."""
    names = list(network.cells)
    place = {n: k for k, n in enumerate(names)}
    pairs = [(place[w.source], place[n]) for n in names for w in network.wires[n] if w.source in place]
    rows, columns = [a for a, _ in pairs], [b for _, b in pairs]
    matrix = sparse.csr_matrix((np.ones(len(pairs), np.int8), (rows, columns)), shape=(len(names), len(names)))
    _, label = csgraph.connected_components(matrix, directed=True, connection="strong")
    groups: dict[int, list[str]] = {}
    for n, k in zip(names, label, strict=True):
        groups.setdefault(int(k), []).append(n)
    done: set[str] = set()
    out: list[list[str]] = []
    waiting = list(groups.values())
    while waiting:
        for g in waiting:
            if all(
                w.source in done or w.source in g or w.source in network.inputs for n in g for w in network.wires[n]
            ):
                break
        waiting.remove(g)
        done |= set(g)
        out.append(g)
    return out
