"""The network graph: inputs, populations, projections. Immutable and checked when built.

The integer semantics of a network are in docs/reference/semantics.md; the short form:

* time is a sequence of ticks, grouped into independent samples; states start anew with each sample;
* a projection of delay d delivers in tick t what its source sent in tick t - d (nothing while t < d);
* a compartment's current is the exact sum of its projections' weighted events; accumulators never overflow;
* then every population applies its law once, per neuron, and sends the non-zero values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from apical.sw.geometry import GeometryError, Shape, check_shape
from apical.sw.kernel_gates import Gate, check_gate
from apical.sw.laws import Format, Law
from apical.sw.projection import PATTERNS, IntArray, NetworkError, Projection, check_name, integers
from apical.sw.ranges import Interval, LawRanges, analyse

__all__ = [
    "DECODERS",
    "PATTERNS",
    "Gate",
    "Input",
    "IntArray",
    "Network",
    "NetworkError",
    "Node",
    "Population",
    "Projection",
]

DECODERS = ("sum", "last", "rate", "tick")


def _shape(shape: Shape | None, size: int, where: str) -> Shape | None:
    try:
        return None if shape is None else check_shape(shape, size, where)
    except GeometryError as error:
        raise NetworkError(str(error)) from None


@dataclass(frozen=True)
class Input:
    """A source of events from outside: `size` channels whose values fit `format`.

    :param shape: (channels, height, width) where it is a map, in that order of indices.
    """

    name: str
    size: int
    format: Format = field(default_factory=lambda: Format(1, signed=False))
    shape: Shape | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "input")
        if not 1 <= self.size <= 1 << 20:
            raise NetworkError(f"input {self.name!r}: expected 1 to {1 << 20} channels, got {self.size}")
        object.__setattr__(self, "shape", _shape(self.shape, self.size, f"input {self.name!r}"))

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest event value; 0 is not sent."""
        return self.format.bounds


@dataclass(frozen=True)
class Population:
    """`size` neurons of one law.

    :param params: integer arrays, of shape (1,) where shared, (size,) per neuron or, of a map, (channels,) per channel;
        all of the law's parameters.
    :param initial: start states by name, same shapes; absent ones are 0.
    :param shape: (channels, height, width) where it is a map, in that order of indices.
    """

    name: str
    size: int
    law: Law
    params: Mapping[str, IntArray]
    initial: Mapping[str, IntArray] = field(default_factory=dict)
    shape: Shape | None = None

    def __post_init__(self) -> None:
        check_name(self.name, "population")
        where = f"population {self.name!r}"
        if not 1 <= self.size <= 1 << 20:
            raise NetworkError(f"{where}: expected 1 to {1 << 20} neurons, got {self.size}")
        object.__setattr__(self, "shape", _shape(self.shape, self.size, where))
        specs = self.law.parameters()
        if set(self.params) != set(specs):
            raise NetworkError(f"{where}: expected parameters {sorted(specs)}, got {sorted(self.params)}")
        bounds = {name: (spec.low, spec.high) for name, spec in specs.items()}
        object.__setattr__(self, "params", self._checked(self.params, bounds, "parameter"))
        for name, spec in specs.items():
            if spec.levels is not None and not (fits := np.isin(self.params[name], spec.levels)).all():
                raise NetworkError(
                    f"{where}, parameter {name!r}: expected values v where {1 << spec.fraction_bits} - v is 0 or a "
                    f"power of two, got {self.params[name][~fits][0]}"
                )
        bounds = {name: fmt.bounds for name, fmt in self.law.states().items()}
        if unknown := sorted(set(self.initial) - set(bounds)):
            raise NetworkError(f"{where}: unknown state {unknown[0]!r} among the start states; has {sorted(bounds)}")
        initial = {name: self.initial.get(name, np.zeros(1, np.int64)) for name in bounds}
        object.__setattr__(self, "initial", self._checked(initial, bounds, "start state"))

    def _checked(
        self, arrays: Mapping[str, IntArray], bounds: Mapping[str, tuple[int, int]], what: str
    ) -> dict[str, IntArray]:
        out = {}
        for name, array in arrays.items():
            where = f"population {self.name!r}, {what} {name!r}"
            a = integers(array, where)
            shapes = [(1,), *([] if self.shape is None else [self.shape[:1]]), (self.size,)]
            if a.shape not in shapes:
                raise NetworkError(f"{where}: expected shape {' or '.join(map(str, shapes))}, got {a.shape}")
            low, high = bounds[name]
            if a.min() < low or a.max() > high:
                bad = int(a.min()) if a.min() < low else int(a.max())
                raise NetworkError(f"{where}: expected {low} to {high}, got {bad}")
            out[name] = a
        return out

    def spread(self, array: IntArray) -> IntArray:
        """A parameter or start state as one number per neuron, [size], or (1,) where they share it."""
        if self.shape is None or len(array) in (1, self.size):
            return array
        return np.repeat(array, self.size // self.shape[0])

    @property
    def value_range(self) -> tuple[int, int]:
        """Smallest and largest event value; 0 is not sent."""
        return self.law.value_range()


Node = Input | Population


@dataclass(frozen=True)
class Network:
    """The whole graph.

    :param outputs: names of populations whose events leave the chip; the first is the classifier's.
    :param decoder: how a class is read from the first output: ``sum`` of values over the ticks, ``last`` tick's
        values, ``rate`` (count of events), ``tick``: a class in every tick; the largest wins, the lowest index on a
        tie. None: no classes.
    :param encoding: free description of how `x` is made from raw data (used by the data loaders), stored as is.
    :param gates: which populations' kernels are switched by the input: see `apical.sw.kernel_gates`.
    :param point: the gates' operating point that is in effect.
    """

    inputs: tuple[Input, ...]
    populations: tuple[Population, ...]
    projections: tuple[Projection, ...]
    outputs: tuple[str, ...]
    decoder: str | None = None
    encoding: Mapping[str, str | int | float] = field(default_factory=dict)
    name: str = "network"
    gates: tuple[Gate, ...] = ()
    point: int = 0

    def __post_init__(self) -> None:
        check_name(self.name, "network")
        for what, given in (("inputs", self.inputs), ("populations", self.populations), ("outputs", self.outputs)):
            if not given:
                raise NetworkError(f"network {self.name!r}: expected at least one of {what}, got none")
        self._check_names()
        for projection in self.projections:
            self._check_projection(projection)
        for population in self.populations:
            have = {p.compartment for p in self.projections if p.target == population.name}
            if missing := [c for c in population.law.compartments if c not in have]:
                raise NetworkError(f"population {population.name!r}: compartment {missing[0]!r} has no projection")
        by_name = {p.name for p in self.populations}
        for name in self.outputs:
            if name not in by_name:
                raise NetworkError(f"output {name!r}: no such population; has {sorted(by_name)}")
        if len(set(self.outputs)) != len(self.outputs):
            raise NetworkError(f"outputs: a name comes twice in {list(self.outputs)}")
        if self.decoder is not None and self.decoder not in DECODERS:
            raise NetworkError(f"decoder: expected one of {DECODERS} or none, got {self.decoder!r}")
        for gate in self.gates:
            self._check_gate(gate)
        if len({g.points for g in self.gates}) > 1 or not 0 <= self.point < self.points:
            raise NetworkError(
                f"network {self.name!r}: expected gates of as many points, and one of them in effect, got "
                f"{[g.points for g in self.gates]} and point {self.point}"
            )
        _ = self.order, self.ranges

    def _check_names(self) -> None:
        nodes = [i.name for i in self.inputs] + [p.name for p in self.populations]
        for what, names in (("node", nodes), ("projection", [p.name for p in self.projections])):
            seen: set[str] = set()
            for name in names:
                if name in seen:
                    raise NetworkError(f"{what} {name!r}: the name comes twice")
                seen.add(name)

    def _check_projection(self, p: Projection) -> None:
        where = f"projection {p.name!r}"
        for end in (p.source, p.target):
            if end not in self.nodes:
                raise NetworkError(f"{where}: no node {end!r}; has {sorted(self.nodes)}")
        target = self.nodes[p.target]
        if isinstance(target, Input):
            raise NetworkError(f"{where}: its target {p.target!r} is an input")
        if p.compartment not in target.law.compartments:
            raise NetworkError(
                f"{where}: law {target.law.name} has compartments {target.law.compartments}, got {p.compartment!r}"
            )
        source = self.nodes[p.source]
        if p.geometry is None:
            if p.weights.shape != (target.size, source.size):
                expected = (target.size, source.size)
                raise NetworkError(f"{where}: expected weights of shape {expected}, got {p.weights.shape}")
            return
        for node, shape in ((source, p.geometry.source), (target, p.geometry.target)):
            if node.shape != shape:
                raise NetworkError(f"{where}: expected {node.name!r} of shape {shape}, got {node.shape}")

    def _check_gate(self, gate: Gate) -> None:
        where = f"gate of {gate.target!r}"
        if sum(g.target == gate.target for g in self.gates) > 1:
            raise NetworkError(f"{where}: comes twice")
        target, source = self.nodes.get(gate.target), self.nodes.get(gate.source)
        if not isinstance(target, Population):
            raise NetworkError(f"{where}: no such population; has {sorted(p.name for p in self.populations)}")
        if source is None:
            raise NetworkError(f"{where}: no source {gate.source!r}; has {sorted(self.nodes)}")
        check_gate(gate, (source.size, source.shape), (target.size, target.shape))
        for q in self.incoming(gate.target):
            if q.pattern != "conv" or q.delay or q.geometry is None or q.geometry.groups > 1:
                raise NetworkError(
                    f"{where}: expected convolutions of delay 0 and one group onto it, got {q.name!r}: {q.pattern}, "
                    f"delay {q.delay}; a dense layer is a convolution whose kernel covers its source"
                )
        if gate.target in self._before(gate.target):
            raise NetworkError(f"{where}: it is part of a loop; a gate sees all of a window before its target begins")

    def _before(self, name: str) -> set[str]:
        """All nodes that a node depends on, over any delay."""
        seen: set[str] = set()
        waiting = [name]
        while waiting:
            for source in self.sources(waiting.pop()) - seen:
                seen.add(source)
                waiting.append(source)
        return seen

    @property
    def points(self) -> int:
        """Operating points of the gates; 1 without gates."""
        return self.gates[0].points if self.gates else 1

    def at(self, point: int) -> Network:
        """The same network with another operating point in effect."""
        return replace(self, point=point)

    def freed(self) -> Network:
        """The same network with bounds that hold for any weights of the declared bits: what hardware needs whose
        weights are learned or loaded."""
        return replace(self, projections=tuple(replace(q, free=True) for q in self.projections))

    def gate_of(self, population: str) -> Gate | None:
        """The gate that switches a population's channels, if there is one."""
        return next((g for g in self.gates if g.target == population), None)

    def sources(self, node: str) -> set[str]:
        """Nodes that send to a node or to its gate."""
        return {q.source for q in self.incoming(node)} | {g.source for g in self.gates if g.target == node}

    def counters_of(self, projection: Projection) -> tuple[str, ...]:
        """What golden and the hardware count of a projection: events; of maps positions, or synapses where gated."""
        if self.gate_of(projection.target) is not None:
            return f"projection {projection.name}: events", f"projection {projection.name}: synapses"
        return projection.counter_names

    @property
    def counter_names(self) -> tuple[str, ...]:
        """All counters, in the order of the hardware's."""
        names = [name for q in self.projections for name in self.counters_of(q)]
        for p in self.populations:
            names += [f"population {p.name}: events", f"population {p.name}: updates"]
        return (*names, *(name for g in self.gates for name in g.counter_names))

    @cached_property
    def nodes(self) -> dict[str, Node]:
        """Inputs and populations by name."""
        out: dict[str, Node] = {i.name: i for i in self.inputs}
        out.update({p.name: p for p in self.populations})
        return out

    def incoming(self, population: str) -> list[Projection]:
        """Projections onto a population, in the network's order."""
        return [p for p in self.projections if p.target == population]

    def outgoing(self, node: str) -> list[Projection]:
        """Projections from an input or population, in the network's order."""
        return [p for p in self.projections if p.source == node]

    @cached_property
    def order(self) -> tuple[str, ...]:
        """Populations so that every zero-delay projection points forward.

        :raises NetworkError: the zero-delay projections form a cycle.
        """
        waiting = {
            p.name: {q.source for q in self.incoming(p.name) if q.delay == 0}
            | {g.source for g in self.gates if g.target == p.name}
            for p in self.populations
        }
        done, out = {i.name for i in self.inputs}, []
        while waiting:
            ready = [name for name, sources in waiting.items() if sources <= done]
            if not ready:
                raise NetworkError(
                    f"populations {sorted(waiting)} form a cycle of delay 0; give one projection delay 1"
                )
            for name in ready:
                del waiting[name]
                done.add(name)
                out.append(name)
        return tuple(out)

    def currents(self, population: Population) -> dict[str, Interval]:
        """Interval of each compartment's summed current."""
        out: dict[str, Interval] = {}
        for p in self.incoming(population.name):
            part = p.sum_interval(self.nodes[p.source].value_range)
            old = out.get(p.compartment, Interval(0, 0))
            out[p.compartment] = Interval(old.low + part.low, old.high + part.high)
        return out

    @cached_property
    def ranges(self) -> dict[str, LawRanges]:
        """The width analysis of every population; proves that each law keeps its formats."""
        out = {}
        for population in self.populations:
            params = {k: Interval(int(a.min()), int(a.max())) for k, a in population.params.items()}
            where = f" of population {population.name!r}"
            out[population.name] = analyse(population.law, self.currents(population), params, where)
        return out

    @property
    def input_size(self) -> int:
        """Length of the last axis of `x`: the inputs' channels one after the other."""
        return sum(i.size for i in self.inputs)
