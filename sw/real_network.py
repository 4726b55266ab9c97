"""A network in real numbers: the same laws and the same graph, before anything is rounded. Importers make it.

Parameters keep their real values: currents in the float network's own unit, fractions as they are (0 to 1). `run`
evaluates the laws' `step` on real numbers, without floors; `scaled` goes to integer steps, `rounded` rounds part of
it (so that each rounding's cost can be told), `integers` gives the `Network` that the chip computes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from apical.sw.arithmetic import TrainingOps
from apical.sw.convolution import convolve
from apical.sw.geometry import Geometry, Shape
from apical.sw.laws import Format, Law, Parameter
from apical.sw.network import Input, IntArray, Network, Population, Projection

RealArray = npt.NDArray[np.float64]
FLAG = Format(1, signed=False)  # a state of this format is a flag (the last spike), not a current


@dataclass(frozen=True)
class RealPopulation:
    """`size` neurons of one law with real parameters and start states, each of shape (size,).

    :param shape: (channels, height, width) of a map; its neurons then share a scale within a channel.
    """

    name: str
    size: int
    law: Law
    params: Mapping[str, RealArray]
    initial: Mapping[str, RealArray] = field(default_factory=dict)
    shape: Shape | None = None

    def __post_init__(self) -> None:
        for what, given, known in (
            ("parameter", self.params, self.law.parameters()),
            ("start state", self.initial, self.law.states()),
        ):
            if unknown := sorted(set(given) - set(known)):
                raise ValueError(f"population {self.name!r}: no {what} {unknown[0]!r}; has {sorted(known)}")
            for name, array in given.items():
                if array.shape != (self.size,) or not np.isfinite(array).all():
                    raise ValueError(
                        f"population {self.name!r}, {what} {name!r}: expected {self.size} finite numbers, got shape "
                        f"{array.shape}, from {array.min()} to {array.max()}"
                    )
        if missing := sorted(set(self.law.parameters()) - set(self.params)):
            raise ValueError(f"population {self.name!r}: parameter {missing[0]!r} is missing")

    @property
    def spikes(self) -> bool:
        """True where it sends numbers of spikes, so that each neuron may have a scale of its own."""
        return self.law.counts

    def scaled(self, scale: RealArray) -> RealPopulation:
        """Currents and states times `scale` (shape (size,))."""
        specs, states = self.law.parameters(), self.law.states()
        params = {k: a * scale if specs[k].unit == "current" else a for k, a in self.params.items()}
        initial = {k: a if states[k] == FLAG else a * scale for k, a in self.initial.items()}
        return replace(self, params=params, initial=initial)

    def rounded(self, fractions: bool, currents: bool) -> RealPopulation:
        """The nearest integers in place of some: fractions to their fraction bits, currents with the start states."""
        out = {}
        for name, array in self.params.items():
            spec = self.law.parameters()[name]
            wanted = fractions if spec.unit == "fraction" else currents
            out[name] = _nearest(array, spec) if wanted else array
        formats = self.law.states()
        initial = {k: np.clip(np.rint(a), *formats[k].bounds) if currents else a for k, a in self.initial.items()}
        return replace(self, params=out, initial=initial)

    def shared(self, array: RealArray) -> RealArray:
        """A parameter or state, one number per channel where a map's neurons have the same in each."""
        if self.shape is None:
            return array
        rows = array.reshape(self.shape[0], -1)
        return rows[:, 0] if (rows == rows[:, :1]).all() else array

    def steps(self, name: str) -> RealArray:
        """A parameter as the law takes it: fractions times 2^fraction_bits."""
        spec = self.law.parameters()[name]
        return self.params[name] * (1 << spec.fraction_bits if spec.unit == "fraction" else 1)


@dataclass(frozen=True)
class RealProjection:
    """Real weights that will be integers of `bits` bits; the target's law multiplies by its gain.

    :param weights: [targets, sources]; where there is a `geometry` a kernel between maps, in its `weights_shape`.
    """

    name: str
    source: str
    target: str
    weights: RealArray
    delay: int = 0
    bits: int = 8
    compartment: str = "basal"
    geometry: Geometry | None = None

    @property
    def sizes(self) -> tuple[int, int]:
        """Targets and sources."""
        if self.geometry is None:
            return self.weights.shape[0], self.weights.shape[1]
        return int(np.prod(self.geometry.target)), int(np.prod(self.geometry.source))

    def scaled(self, scale: RealArray) -> RealProjection:
        """Weights times the scale of their target (shape (targets,), within a channel of a map the same)."""
        if self.geometry is None:
            return replace(self, weights=self.weights * scale[:, None])
        by_channel = scale.reshape(self.geometry.channels, -1)
        assert (by_channel == by_channel[:, :1]).all(), self.name
        return replace(self, weights=self.weights * by_channel[:, 0][:, None, None, None])

    def sums(self, events: Tensor, weights: Tensor) -> Tensor:
        """What events [..., sources] add to the targets, [..., targets]; `weights` as a tensor."""
        return events @ weights.T if self.geometry is None else convolve(events, weights, self.geometry)

    def rounded(self) -> RealProjection:
        """The nearest integers, clipped to the bits."""
        return replace(self, weights=np.clip(np.rint(self.weights), *Format(self.bits).bounds))


def _nearest(array: RealArray, spec: Parameter) -> RealArray:
    """The nearest admitted value; fractions stay in 0 to 1."""
    unit = 1 << spec.fraction_bits if spec.unit == "fraction" else 1
    if spec.levels is None:
        return np.asarray(np.clip(np.rint(array * unit), spec.low, spec.high) / unit)
    levels = np.array(spec.levels)
    return np.asarray(levels[np.abs(array[:, None] * unit - levels).argmin(axis=1)] / unit)


@dataclass(frozen=True)
class RealNetwork:
    """The whole graph; populations in an order in which projections without delay point forward.

    :param outputs, decoder, encoding, name: as in `apical.sw.network.Network`.
    :raises ValueError: a projection without delay that points backward, graded events between populations, a shape
        that doesn't fit.
    """

    inputs: tuple[Input, ...]
    populations: tuple[RealPopulation, ...]
    projections: tuple[RealProjection, ...]
    outputs: tuple[str, ...]
    decoder: str | None = None
    encoding: Mapping[str, str | int | float] = field(default_factory=dict)
    name: str = "network"

    def __post_init__(self) -> None:
        nodes: dict[str, Input | RealPopulation] = {i.name: i for i in self.inputs}
        nodes.update({p.name: p for p in self.populations})
        place = {name: k for k, name in enumerate(nodes)}
        for p in self.projections:
            where = f"projection {p.name!r}"
            if p.source not in nodes or not isinstance(target := nodes.get(p.target), RealPopulation):
                raise ValueError(f"{where}: expected ends of {sorted(nodes)}, got {p.source!r} to {p.target!r}")
            expected = (target.size, nodes[p.source].size) if p.geometry is None else p.geometry.weights_shape
            if p.weights.shape != expected:
                raise ValueError(f"{where}: expected weights of shape {expected}, got {p.weights.shape}")
            if p.geometry is not None and (nodes[p.source].shape, target.shape) != (
                p.geometry.source,
                p.geometry.target,
            ):
                raise ValueError(
                    f"{where}: expected maps of {p.geometry.source} and {p.geometry.target}, got "
                    f"{nodes[p.source].shape} and {target.shape}"
                )
            if not p.delay and place[p.source] >= place[p.target]:
                raise ValueError(f"{where}: without delay it must point forward, got {p.source!r} to {p.target!r}")
            if isinstance(source := nodes[p.source], RealPopulation) and not source.spikes:
                raise ValueError(f"{where}: expected spikes from {p.source!r}, got graded events of {source.law.name}")

    def population(self, name: str) -> RealPopulation:
        """A population by its name."""
        return next(p for p in self.populations if p.name == name)

    def incoming(self, name: str) -> list[RealProjection]:
        """Projections onto a population."""
        return [p for p in self.projections if p.target == name]

    def scaled(self, scales: Mapping[str, RealArray]) -> RealNetwork:
        """In integer steps, not yet rounded.

        :param scales: steps per real unit of each neuron, by population, shape (size,).
        """
        cells = tuple(p.scaled(scales[p.name]) for p in self.populations)
        wires = tuple(p.scaled(scales[p.target]) for p in self.projections)
        return replace(self, populations=cells, projections=wires)

    def rounded(self, *, weights: bool = False, fractions: bool = False, currents: bool = False) -> RealNetwork:
        """Part of a scaled network rounded: weights; decays; thresholds, biases, adaptation and start states."""
        cells = tuple(p.rounded(fractions, currents) for p in self.populations)
        wires = tuple(p.rounded() for p in self.projections) if weights else self.projections
        return replace(self, populations=cells, projections=wires)

    def integers(self) -> Network:
        """The integer network: everything of a scaled network rounded."""
        whole = self.rounded(weights=True, fractions=True, currents=True)

        def ints(array: RealArray) -> IntArray:
            return np.asarray(np.rint(array), np.int64)

        return Network(
            self.inputs,
            tuple(
                Population(
                    p.name,
                    p.size,
                    p.law,
                    {k: ints(p.shared(p.steps(k))) for k in p.params},
                    {k: ints(p.shared(a)) for k, a in p.initial.items()},
                    p.shape,
                )
                for p in whole.populations
            ),
            tuple(
                Projection(
                    p.name,
                    p.source,
                    p.target,
                    ints(p.weights),
                    p.compartment,
                    p.bits,
                    p.delay,
                    "dense" if p.geometry is None else "conv",
                    p.geometry,
                )
                for p in whole.projections
            ),
            self.outputs,
            self.decoder,
            self.encoding,
            self.name,
        )

    @torch.no_grad()
    def run(self, x: np.ndarray, *, floor: bool = False) -> tuple[dict[str, np.ndarray], dict[str, float]]:
        """What every node sends, [samples, ticks, neurons] (float32), and the largest |state| of each population.

        :param x: events [samples, ticks, inputs].
        :param floor: floor where the chip does (the network is `scaled`); else real arithmetic throughout.
        """
        size = sum(i.size for i in self.inputs)
        if x.ndim != 3 or x.shape[2] != size:
            raise ValueError(f"input x: expected shape [samples, ticks, {size}], got {list(x.shape)}")
        samples, ticks, ops = x.shape[0], x.shape[1], TrainingOps(real=not floor)
        sent = {p.name: np.zeros((samples, ticks, p.size), np.float32) for p in self.populations}
        parts = np.split(x, np.cumsum([i.size for i in self.inputs])[:-1], axis=2)
        for node, events in zip(self.inputs, parts, strict=True):
            sent[node.name] = np.ascontiguousarray(events, dtype=np.float32)
        views = {name: torch.from_numpy(a) for name, a in sent.items()}
        params = {p.name: {k: torch.from_numpy(p.steps(k)) for k in p.params} for p in self.populations}
        weights = {p.name: torch.from_numpy(np.ascontiguousarray(p.weights)) for p in self.projections}
        states = {
            p.name: {
                k: torch.from_numpy(p.initial.get(k, np.zeros(p.size))).expand(samples, p.size) for k in p.law.states()
            }
            for p in self.populations
        }
        largest = dict.fromkeys(params, 0.0)
        for t in range(ticks):
            for cell in self.populations:
                zero = torch.zeros(samples, cell.size, dtype=torch.float64)
                currents = dict.fromkeys(cell.law.compartments, zero)
                for p in self.incoming(cell.name):
                    if t >= p.delay:
                        part = p.sums(views[p.source][:, t - p.delay].double(), weights[p.name])
                        currents[p.compartment] = currents[p.compartment] + part
                states[cell.name], value = cell.law.step(ops, states[cell.name], currents, params[cell.name])
                views[cell.name][:, t] = value
                formats = cell.law.states()
                reached = [float(a.abs().max()) for k, a in states[cell.name].items() if formats[k] != FLAG]
                largest[cell.name] = max(largest[cell.name], *reached)
        return sent, largest
