"""Small networks that use everything that synthesis maps: each registered law, recurrence, maps, gates, event lanes,
multipliers, block RAM, LUT RAM. For the equality of netlists (`apical.sim.gate_level`)."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from apical.hw.design import HardwareOptions, default_options
from apical.sim.random_networks import Case, Stimulus, random_x
from apical.sim.verilated import Stalls
from apical.sw.geometry import Geometry
from apical.sw.laws import LAWS, AdaptiveLif, Format, Law, LeakyIntegrator, Lif, Relu
from apical.sw.network import Gate, Input, IntArray, Network, Population, Projection

GRADED = Format(4, signed=False)
SIGNED = Format(5)


def laws() -> tuple[str, ...]:
    """Registered laws that ship."""
    return tuple(sorted(n for n, cls in LAWS.items() if cls.__module__.startswith("apical.sw.laws")))


class _Maker:
    """Random parts of the networks of one seed."""

    def __init__(self, seed: int) -> None:
        self.numbers = np.random.default_rng(seed)

    def weights(self, shape: Sequence[int], bits: int = 6) -> IntArray:
        low, high = Format(bits).bounds
        return self.numbers.integers(low, high + 1, tuple(shape))

    def population(self, name: str, size: int, law: Law, shape: tuple[int, int, int] | None = None) -> Population:
        """Parameters around the sums of a few weights, so that every branch of the law is taken."""
        params = {}
        for key, spec in law.parameters().items():
            if spec.levels is not None:
                values = self.numbers.choice(spec.levels, size)
            elif spec.unit == "fraction":
                values = self.numbers.integers(spec.high // 2, spec.high + 1, size)
            else:
                values = self.numbers.integers(max(spec.low, -40), min(spec.high, 60) + 1, size)
            params[key] = np.asarray(values, np.int64)
        return Population(name, size, law, params, shape=shape)

    def dense(
        self,
        name: str,
        source: str,
        target: Population,
        sources: int,
        compartment: str = "basal",
        weight_bits: int = 6,
        delay: int = 0,
    ) -> Projection:
        weights = self.weights((target.size, sources), weight_bits)
        return Projection(name, source, target.name, weights, compartment, weight_bits, delay)


def of_law(name: str) -> Network:
    """Six cells of a law with its default options between graded input and a read-out, some of them recurrent."""
    make, law = _Maker(len(name)), LAWS[name]()
    cells = make.population("cells", 6, law)
    read = make.population("read", 3, LeakyIntegrator(state_bits=24))
    projections = [make.dense(c, "in", cells, 9, compartment=c) for c in law.compartments]
    projections.append(make.dense("out", "cells", read, 6))
    return Network((Input("in", 9, GRADED),), (cells, read), tuple(projections), ("cells", "read"), name=name)


def recurrent() -> Network:
    """Adaptive cells that see their own spikes one and three ticks later."""
    make = _Maker(1)
    cells, read = make.population("cells", 8, AdaptiveLif()), make.population("read", 3, Lif())
    projections = (
        make.dense("in", "x", cells, 10),
        make.dense("back", "cells", cells, 8, delay=1),
        make.dense("late", "read", cells, 3, delay=3),
        make.dense("out", "cells", read, 8),
    )
    return Network((Input("x", 10),), (cells, read), projections, ("read", "cells"), name="recurrent")


def convolution(*, gated: bool = False) -> Network:
    """A convolution, a pool, a second convolution (its kernels gated by the input where asked), a dense read-out."""
    make = _Maker(2)
    first, pool = Geometry((2, 6, 6), 4, (3, 3), padding=(1, 1)), Geometry((4, 6, 6), 4, (2, 2), (2, 2), groups=4)
    second = Geometry(pool.target, 6, (2, 2))
    maps = [
        make.population(name, int(np.prod(g.target)), law, g.target)
        for name, g, law in (
            ("a", first, Relu(value_bits=5, shift=3)),
            ("p", pool, Relu(value_bits=5, shift=0)),
            ("b", second, Relu(value_bits=6, shift=4)),
        )
    ]
    read = make.population("read", 5, LeakyIntegrator(state_bits=24))

    def conv(name: str, source: str, target: str, g: Geometry) -> Projection:
        return Projection(
            name, source, target, make.weights(g.weights_shape), weight_bits=6, pattern="conv", geometry=g
        )

    projections = (
        conv("k1", "x", "a", first),
        Projection("k2", "a", "p", np.zeros(0, np.int64), pattern="pool", geometry=pool),
        conv("k3", "p", "b", second),
        make.dense("out", "b", read, maps[2].size),
    )
    gates = (
        (Gate("x", "b", make.weights((2, 3, 2)), make.numbers.integers(-900, 900, (2, 3)), window=2),) if gated else ()
    )
    name = "gated" if gated else "convolution"
    return Network(
        (Input("x", 72, GRADED, (2, 6, 6)),), (*maps, read), projections, ("read", "b"), name=name, gates=gates
    )


def wide() -> Network:
    """Signed graded events into multipliers, weights deep enough for block RAM, several words per neuron row."""
    make = _Maker(3)
    cells = make.population("cells", 24, Lif(decay_bits=12, state_bits=24))
    read = make.population("read", 5, LeakyIntegrator(state_bits=30))
    projections = (
        make.dense("in", "x", cells, 40, weight_bits=12),
        make.dense("out", "cells", read, 24, weight_bits=16),
    )
    return Network((Input("x", 40, SIGNED),), (cells, read), projections, ("read", "cells"), name="wide")


def _lanes(network: Network, synapse: int, neuron: int, event: int = 1) -> HardwareOptions:
    return default_options(network, synapse_lanes=synapse, neuron_lanes=neuron, event_lanes=event)


def cases() -> dict[str, tuple[Network, HardwareOptions]]:
    """Networks and lanes by name."""
    out = {name: (n := of_law(name), _lanes(n, 4, 2)) for name in laws()}
    out |= {"recurrent": (n := recurrent(), _lanes(n, 4, 2)), "convolution": (n := convolution(), _lanes(n, 4, 2))}
    out |= {"gated": (n := convolution(gated=True), _lanes(n, 4, 2)), "wide": (n := wide(), _lanes(n, 8, 2))}
    out |= {"event lanes": (n := wide(), _lanes(n, 8, 4, 4)), "one word": (n := wide(), _lanes(n, 24, 4, 2))}
    return out


def case(name: str, samples: int = 6, ticks: int = 8, seed: int = 0) -> Case:
    """A network with three stimuli: as fast as it goes, with stalls on both ends, with a reset in the middle.

    :param samples, ticks: of each stimulus.
    """
    network, options = cases()[name]
    rng = random.Random(seed)
    runs = [
        Stimulus(random_x(rng, network, samples, ticks), stalls, reset_at)
        for stalls, reset_at in ((Stalls(), 0), (Stalls(0.3, 0.4, seed), 0), (Stalls(), 40))
    ]
    return Case(network, options, tuple(runs))
