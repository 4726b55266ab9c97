"""Damage: a network that has lost some of its cells, synapses or a whole stream, and what it still can do.

A damaged network is just another network, so golden and RTL run it alike. A dead cell receives nothing, sends nothing
and costs no event; a dead synapse has the weight 0. The same seed kills in the same order: a larger share kills the
smaller one's victims and more.

==================  ==================================================================================
what                of what the share dies
==================  ==================================================================================
``cells``           the cells of all populations but the outputs, taken together
``synapses``        the weights that aren't 0, of all projections together
``stream:NAME``     the channels of one input, or the cells of one population
==================  ==================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from apical.sw import datasets, golden
from apical.sw.arithmetic import IntegerOps
from apical.sw.data import Data, Flags, permutation
from apical.sw.network import IntArray, Network, Population, Projection

TICKS_HELD = 100_000  # ticks of all samples together that golden runs at once
Progress = Callable[[int, int], None]


class DamageError(ValueError):
    """Damage that can't be done to a network; the message says what can."""


@dataclass(frozen=True)
class Damaged:
    """What damage has left.

    :param dead: per input or population that lost some: which channels or cells, [size].
    :param synapses: weights that were set to 0.
    """

    network: Network
    dead: Mapping[str, Flags]
    synapses: int

    def input(self, x: np.ndarray) -> np.ndarray:
        """`x` [samples, ticks, inputs] without the events of dead channels."""
        alive = [~self.dead.get(i.name, np.zeros(i.size, bool)) for i in self.network.inputs]
        return x if all(a.all() for a in alive) else x * np.concatenate(alive).astype(x.dtype)

    def facts(self) -> dict[str, int]:
        """How much was lost: channels of inputs, cells, synapses."""
        inputs = {i.name for i in self.network.inputs}
        lost = {name: int(flags.sum()) for name, flags in self.dead.items()}
        return {
            "channels": sum(n for name, n in lost.items() if name in inputs),
            "cells": sum(n for name, n in lost.items() if name not in inputs),
            "synapses": self.synapses,
        }


def _silent(population: Population) -> Flags:
    """Which cells never send: without currents they stay where they are and send nothing, by the law itself."""
    ops, size = IntegerOps(), population.size

    def tensors(arrays: Mapping[str, IntArray]) -> dict[str, torch.Tensor]:
        return {k: torch.from_numpy(population.spread(a).copy()).expand(size) for k, a in arrays.items()}

    currents = {c: torch.zeros(size, dtype=torch.int64) for c in population.law.compartments}
    state = tensors(population.initial)
    after, value = population.law.step(ops, state, currents, tensors(population.params))
    quiet = value.expand(size) == 0
    for name, old in state.items():
        quiet = quiet & (after[name].expand(size) == old)
    return quiet.numpy()


def _silenced(population: Population, dead: Flags) -> Population:
    """Parameters and start states under which the dead cells send nothing as long as nothing comes in.

    :raises DamageError: a law whose cells can't be silenced so.
    """

    def put(arrays: Mapping[str, IntArray], values: Mapping[str, int]) -> dict[str, IntArray]:
        out = {}
        for name, array in arrays.items():
            each = population.spread(array)
            full = np.where(dead, values.get(name, each), each)
            out[name] = array if (full == each).all() else full  # shared ones stay shared where they can
        return out

    rest = replace(population, initial=put(population.initial, dict.fromkeys(population.initial, 0)))
    specs = {k: s for k, s in population.law.parameters().items() if s.unit == "current"}
    zero = {k: min(max(0, s.low), s.high) for k, s in specs.items()}
    # Biases 0; where that doesn't do, what is never negative (a threshold) goes to its top.
    for values in (zero, {k: s.high if s.low >= 0 else zero[k] for k, s in specs.items()}):
        tried = replace(rest, params=put(rest.params, values))
        if _silent(tried)[dead].all():
            return tried
    raise DamageError(f"population {population.name!r}: cells of the law {population.law.name!r} can't be silenced")


def _first(count: int, share: float, seed: int) -> IntArray:
    """The share of 0 … count - 1 that dies first, as positions."""
    return permutation(count, seed)[: round(share * count)]


def _flags(sizes: Mapping[str, int], chosen: IntArray) -> dict[str, Flags]:
    """Chosen positions of parts laid one after the other, as flags per part."""
    flags = np.zeros(sum(sizes.values()), bool)
    flags[chosen] = True
    out, start = {}, 0
    for name, size in sizes.items():
        out[name] = flags[start : start + size]
        start += size
    return out


def _candidates(network: Network, what: str) -> dict[str, int]:
    """Sizes of the inputs and populations whose channels and cells may die."""
    if what == "cells":
        sizes = {p.name: p.size for p in network.populations if p.name not in network.outputs}
        if not sizes:
            raise DamageError(f"cells: network {network.name!r} has outputs only; expected synapses or stream:NAME")
        return sizes
    name = what.removeprefix("stream:")
    if name == what or name not in network.nodes:
        streams = ", ".join(f"stream:{n}" for n in network.nodes)
        raise DamageError(f"what: expected cells, synapses, {streams}, got {what!r}")
    return {name: network.nodes[name].size}


def damage(network: Network, share: float, seed: int = 0, what: str = "cells") -> Damaged:
    """Kill a share of a network.

    :param share: 0 to 1.
    :param seed: which die, 0 to 65535; the same everywhere.
    :param what: ``cells``, ``synapses`` or ``stream:NAME``, as the table above says.
    :raises DamageError: out of range, or nothing of that name in the network.
    """
    if not 0 <= share <= 1:
        raise DamageError(f"share: expected 0 to 1, got {share}")
    if not 0 <= seed < 1 << 16:
        raise DamageError(f"seed: expected 0 to 65535, got {seed}")
    dead: dict[str, Flags] = {}
    cut: dict[str, Flags] = {}
    if what == "synapses":
        alive = {q.name: np.flatnonzero(q.weights) for q in network.projections}
        sizes = {name: len(at) for name, at in alive.items()}
        for name, flags in _flags(sizes, _first(sum(sizes.values()), share, seed)).items():
            cut[name] = np.zeros(next(q.weights.size for q in network.projections if q.name == name), bool)
            cut[name][alive[name][flags]] = True
    else:
        sizes = _candidates(network, what)
        found = _flags(sizes, _first(sum(sizes.values()), share, seed))
        dead = {name: flags for name, flags in found.items() if flags.any()}

    def projection(q: Projection) -> Projection:
        gone = cut.get(q.name, np.zeros(q.weights.size, bool)).reshape(q.weights.shape).copy()
        if q.geometry is not None:  # a dead source sends nothing; its weights are the living ones' too
            if q.target in dead:
                raise DamageError(
                    f"population {q.target!r}: expected cells with weights of their own, got a map whose kernels are "
                    f"shared ({q.pattern} {q.name!r}); damage synapses (of kernels) or a stream that only feeds it"
                )
            return replace(q, weights=np.where(gone, 0, q.weights)) if gone.any() else q
        gone |= dead.get(q.target, np.zeros(q.weights.shape[0], bool))[:, None]
        gone |= dead.get(q.source, np.zeros(q.weights.shape[1], bool))[None, :]
        return replace(q, weights=np.where(gone, 0, q.weights)) if gone.any() else q

    projections = tuple(projection(q) for q in network.projections)
    populations = tuple(_silenced(p, dead[p.name]) if p.name in dead else p for p in network.populations)
    before, after = (int(sum(np.count_nonzero(q.weights) for q in qs)) for qs in (network.projections, projections))
    if not dead and before == after:
        return Damaged(network, {}, 0)
    return Damaged(replace(network, populations=populations, projections=projections), dead, before - after)


def measure(damaged: Damaged, data: Data) -> dict[str, float]:
    """What golden makes of a data set: ``accuracy`` (and ``accuracy_labelled``) or ``error``, as
    `apical.sw.datasets.figures` has them, and ``transmissions``, synaptic operations per sample."""
    network = damaged.network
    ticks = datasets.encode(data.first(1), network).shape[1]
    size = max(TICKS_HELD // ticks, 1)
    operations, parts = 0, []
    for start in range(0, len(data), size):
        x = damaged.input(datasets.encode(data.rows(slice(start, start + size)), network))
        trace = golden.run(network, x)
        operations += sum(q.operations(trace.counters) for q in network.projections)
        parts.append(trace.outputs)
    outputs = {name: np.concatenate([part[name] for part in parts]) for name in network.outputs}
    found = datasets.figures(network, golden.Trace(outputs, outputs, {}), data.truth)
    return {k: v for k, v in found.items() if v is not None} | {"transmissions": operations / len(data)}


def curve(
    name: str,
    network: Network,
    data: Data,
    *,
    shares: Sequence[float],
    seeds: Iterable[int] = (0, 1, 2),
    what: str = "cells",
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Error and accuracy against the share that died: one row per share and seed.

    Rows: ``net``, ``what``, ``share``, ``seed``, what died (`Damaged.facts`), and the figures of `measure`. Nothing or
    all of a thing dies in one way only: one seed.
    """
    jobs = [(share, seed) for share in shares for seed in (list(seeds) if 0 < share < 1 else [0])]
    rows = []
    for done, (share, seed) in enumerate(jobs):
        damaged = damage(network, share, seed, what)
        rows.append(
            {"net": name, "what": what, "share": share, "seed": seed, **damaged.facts(), **measure(damaged, data)}
        )
        if progress is not None:
            progress(done + 1, len(jobs))
    return rows
