"""Random networks, hardware options, stimuli and stalls, for the random equality tests.

Structure is drawn from a `random.Random` (hypothesis hands one in whose draws it controls); long arrays come from a
numpy generator whose seed is drawn the same way. So one integer, `random.Random(seed)`, replays a case.
"""

from __future__ import annotations

import contextlib
import math
import random
from dataclasses import dataclass, fields, replace
from typing import Any, get_args, get_type_hints

import numpy as np

from apical.hw.design import HardwareOptions, Lanes
from apical.sim.verilated import Stalls
from apical.sw.geometry import Geometry, GeometryError, Shape
from apical.sw.laws import LAWS, Format, Law, Parameter
from apical.sw.network import Gate, Input, IntArray, Network, NetworkError, Population, Projection

NAMES = ("plain", "a b", 'x"y', "été", "endmodule", "$(rm)", "[0]", "日本", "wire", "a;b{}")


@dataclass(frozen=True)
class Stimulus:
    """One run of a network.

    :param x: integers, [samples, ticks, inputs].
    :param stalls: random stalls of that run.
    :param reset_at: cycle of a reset in the middle, after which all samples run again; 0: none.
    """

    x: IntArray
    stalls: Stalls
    reset_at: int


@dataclass(frozen=True)
class Case:
    """A network, its hardware options and the runs to make with one build of it."""

    network: Network
    options: HardwareOptions
    runs: tuple[Stimulus, ...]


def random_law(rng: random.Random, name: str) -> Law:
    """A law with random options: literals and booleans by choice, integers by trying until the law accepts them."""
    cls = LAWS[name]
    hints = get_type_hints(cls)
    for _ in range(200):
        options: dict[str, Any] = {}
        for f in fields(cls):  # type: ignore[arg-type]
            if choices := get_args(hints[f.name]):
                options[f.name] = rng.choice(choices)
            elif hints[f.name] is bool:
                options[f.name] = rng.random() < 0.5
            elif rng.random() < 0.7:
                options[f.name] = rng.randint(0, rng.choice((4, 12, 24)))
        try:
            return cls(**options)
        except ValueError:
            continue
    return cls()


def _parameter(rng: random.Random, numbers: np.random.Generator, spec: Parameter, size: int) -> IntArray:
    low, high = spec.low, spec.high
    if spec.unit != "fraction" and rng.random() < 0.85:  # where something happens: around the sums of a few weights
        span = rng.choice((4, 40, 400))
        low, high = max(low, -span), min(high, span)
    values = numbers.integers(low, high + 1, size)
    if rng.random() < 0.2:
        values[0] = rng.choice((spec.low, spec.high))
    if spec.levels is not None:
        values = numbers.choice(spec.levels, values.shape)
    return np.asarray(values, np.int64)


def _population(rng: random.Random, numbers: np.random.Generator, name: str, shape: Shape | None) -> Population:
    known = sorted(n for n, cls in LAWS.items() if cls.__module__.startswith("apical.sw.laws"))
    law = random_law(rng, rng.choice(known))
    size = rng.randint(1, 10) if shape is None else math.prod(shape)
    counts = [1, size] if shape is None else [1, size, shape[0], shape[0]]
    params = {k: _parameter(rng, numbers, spec, rng.choice(counts)) for k, spec in law.parameters().items()}
    initial = {}
    if rng.random() < 0.4:
        for k, fmt in law.states().items():
            low, high = (max(fmt.bounds[0], -100), min(fmt.bounds[1], 100)) if rng.random() < 0.8 else fmt.bounds
            initial[k] = np.asarray(numbers.integers(low, high + 1, rng.choice(counts)), np.int64)
    return Population(name, size, law, params, initial, shape)


def _input(rng: random.Random, name: str) -> Input:
    formats = (Format(1, False), Format(1, False), Format(rng.randint(1, 8), False), Format(rng.randint(1, 8), True))
    if rng.random() < 0.5:
        return Input(name, rng.randint(1, 14), rng.choice(formats))
    shape = (rng.randint(1, 4), rng.randint(1, 7), rng.randint(1, 7))
    return Input(name, math.prod(shape), rng.choice(formats), shape)


def random_geometry(rng: random.Random, source: Shape, pool: bool = False) -> Geometry:
    """A convolution of a small map, or a pool: kernels, strides, paddings, dilations, groups; at most 300 targets."""
    for _ in range(100):
        groups = source[0] if pool else rng.choice([g for g in range(1, source[0] + 1) if not source[0] % g])
        channels = groups * (1 if pool else rng.randint(1, max(1, 8 // groups)))
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
            (rng.choice(few), rng.choice(few)) for few in ((1, 2, 3, 3, 4), (1, 1, 2, 3), (0, 0, 1, 2), (1, 1, 1, 2))
        )
        try:
            g = Geometry(source, channels, (kh, kw), (sh, sw), (ph, pw), (dh, dw), groups)
        except GeometryError:
            continue
        if math.prod(g.target) <= 300:
            return g
    return Geometry(source, source[0], (1, 1), groups=source[0])


def _matching(rng: random.Random, source: Shape | None, target: Shape | None) -> Geometry | None:
    """A geometry from one map to another, where one is found soon."""
    if source is None or target is None:
        return None
    for _ in range(20):
        g = random_geometry(rng, source)
        if g.target[1:] == target[1:] and not target[0] % g.groups:
            return replace(g, channels=target[0])
    return None


def _weights(rng: random.Random, numbers: np.random.Generator, bits: int, shape: tuple[int, ...]) -> IntArray:
    low, high = Format(bits).bounds
    if rng.random() < 0.15:  # every sum at its bound
        return np.where(numbers.random(shape) < 0.5, low, high)
    scale = rng.choice((1, 1, 4, 16))
    return np.asarray(numbers.integers(low // scale, high // scale + 1, shape), np.int64)


def _projections(
    rng: random.Random,
    numbers: np.random.Generator,
    inputs: list[Input],
    populations: list[Population],
    maps: dict[str, tuple[str, Geometry, bool]],
    gated: set[str],
) -> list[Projection]:
    """Each compartment gets one or two projections; every population has one of delay 0 from before it.

    Those onto gated populations are convolutions of one group, undelayed.
    """
    out: list[Projection] = []
    everything: list[Input | Population] = [*inputs, *populations]
    named = {n.name: n for n in everything}

    def add(source: Input | Population, p: Population, compartment: str, delay: int) -> None:
        bits, name = rng.choice((2, 3, 4, 6, 8, 8, 12, 16)), f"{rng.choice(NAMES)} {len(out)}"
        made, pool = maps.get(p.name), False
        geometry: Geometry | None = None
        if p.name in gated and made is not None:
            delay, geometry = 0, None if source is p or delay else _matching(rng, source.shape, p.shape)
            if geometry is None:
                source, geometry = named[made[0]], made[1]
            geometry = replace(geometry, groups=1)
        elif made is not None:
            del maps[p.name]
            source, geometry, pool = named[made[0]], made[1], made[2]
        elif rng.random() < 0.7:
            geometry = _matching(rng, source.shape, p.shape)
        ends = (name, source.name, p.name)
        if geometry is None:
            weights = _weights(rng, numbers, bits, (p.size, source.size)).astype(np.int64)
            out.append(Projection(*ends, weights, compartment, bits, delay))
        elif pool:
            out.append(Projection(*ends, np.zeros(0, np.int64), compartment, bits, delay, "pool", geometry))
        else:
            weights = _weights(rng, numbers, bits, geometry.weights_shape).astype(np.int64)
            out.append(Projection(*ends, weights, compartment, bits, delay, "conv", geometry))

    for at, p in enumerate(populations):
        before = everything[: len(inputs) + at]
        wanted = [(p.law.compartments[rng.randrange(len(p.law.compartments))], 0)]
        wanted += [(c, rng.choice((0, 0, 0, 1, 2, 4))) for c in p.law.compartments if c != wanted[0][0]]
        wanted += [(rng.choice(p.law.compartments), rng.choice((0, 1, 1, 3))) for _ in range(rng.choice((0, 0, 1, 2)))]
        for compartment, delay in wanted:
            add(rng.choice(everything if delay else before[-rng.randint(1, len(before)) :]), p, compartment, delay)
    rng.shuffle(out)
    return out


def _gate(
    rng: random.Random, numbers: np.random.Generator, source: Input | Population, p: Population, points: int
) -> Gate:
    """A gate whose sums most often lie on both sides of 0."""
    assert p.shape is not None
    groups = rng.choice([n for n in range(1, p.shape[0] + 1) if p.shape[0] % n == 0])
    channels = source.size if source.shape is None else source.shape[0]
    bits, window = rng.choice((2, 4, 8, 16)), rng.choice((1, 1, 2, 3, 8))
    weights = _weights(rng, numbers, bits, (points, groups, channels)).astype(np.int64)
    middle = rng.choice((0.05, 0.2, 0.5)) * sum(source.value_range) / 2 * source.size / channels * window
    bias = -(weights.sum(2) * middle).astype(np.int64) + numbers.integers(-8, 9, (points, groups))
    return Gate(source.name, p.name, weights, np.clip(bias, -(1 << 31), (1 << 31) - 1), window, bits)


def random_network(rng: random.Random) -> Network:
    """1 to 3 inputs, 1 to 4 populations, flat, maps, gated: chains, branches, skips, feedback, recurrence; any law."""
    numbers = np.random.default_rng(rng.randrange(1 << 32))
    inputs = [_input(rng, f"{rng.choice(NAMES)} i{i}") for i in range(rng.choice((1, 1, 2, 3)))]
    count = rng.choice((1, 2, 2, 3, 4))
    populations: list[Population] = []
    gated: set[str] = set()
    maps: dict[str, tuple[str, Geometry, bool]] = {}  # by target: source, geometry, is it a pool
    for i in range(count):
        name, shape = f"{rng.choice(NAMES)} p{i}", None
        nodes: list[Input | Population] = [*inputs, *populations]
        shaped = [n for n in nodes if n.shape is not None]
        if shaped and rng.random() < 0.7:
            source, pool = rng.choice(shaped), rng.random() < 0.3
            if rng.random() < 0.4:
                gated.add(name)
                pool = False
            assert source.shape is not None
            geometry = random_geometry(rng, source.shape, pool)
            maps[name], shape = (source.name, geometry, pool), geometry.target
        populations.append(_population(rng, numbers, name, shape))
    nodes = [*inputs, *populations]
    before = {p.name: nodes[: len(inputs) + n] for n, p in enumerate(populations)}
    projections = _projections(rng, numbers, inputs, populations, maps, gated)
    outputs = [p.name for p in populations if rng.random() < 0.5] or [populations[-1].name]
    rng.shuffle(outputs)
    rng.shuffle(populations)
    decoder = rng.choice((None, "sum", "last", "rate"))
    network = Network(tuple(inputs), tuple(populations), tuple(projections), tuple(outputs), decoder)
    points = rng.choice((1, 1, 2, 3))
    for p in populations:
        if p.name in gated:
            gate = _gate(rng, numbers, rng.choice(before[p.name]), p, points)
            with contextlib.suppress(NetworkError):  # some are part of a loop
                network = replace(network, gates=(*network.gates, gate), point=points - 1)
    return network


def random_options(rng: random.Random, network: Network) -> HardwareOptions:
    """Synapse lanes fewer than, as many as and more than the targets; 1, 2 or 4 event lanes."""
    lanes = {}
    for p in network.populations:
        event = rng.choice((1, 1, 2, 4))
        neuron = event * rng.randint(1, 3)
        across = p.size if p.shape is None else p.shape[0]
        groups = rng.randint(1, max(1, 2 * across // neuron))
        lanes[p.name] = Lanes(neuron * min(groups, 6), neuron, event)
    return HardwareOptions(lanes, {i.name: rng.choice((1, 1, 2, 4)) for i in network.inputs}, True, True)


def random_x(rng: random.Random, network: Network, samples: int, ticks: int) -> IntArray:
    """Input with silent and with full ticks, values from the whole range or only its ends; [samples, ticks, inputs]."""
    numbers = np.random.default_rng(rng.randrange(1 << 32))
    parts = []
    for node in network.inputs:
        shape = (samples, ticks, node.size)
        low, high = node.value_range
        ends, share = rng.random() < 0.3, rng.choice((0.1, 0.5, 1.0))
        values = numbers.choice((low, high), shape) if ends else numbers.integers(low, high + 1, shape)
        parts.append(values * (numbers.random(shape) < share) * (numbers.random((samples, ticks, 1)) < 0.8))
    return np.concatenate(parts, axis=2).astype(np.int64)


def random_case(rng: random.Random, runs: int = 3) -> Case:
    """A network with options and `runs` stimuli: the first without stalls, the last with a reset in the middle."""
    network = random_network(rng)
    made = []
    for r in range(runs):
        x = random_x(rng, network, rng.randint(1, 4), rng.randint(1, 7))
        stalls = (
            Stalls(rng.choice((0.0, 0.3, 0.8)), rng.choice((0.0, 0.3, 0.8)), rng.randrange(1 << 16)) if r else Stalls()
        )
        made.append(Stimulus(x, stalls, rng.randint(1, 60) if runs > 1 and r == runs - 1 else 0))
    return Case(network, random_options(rng, network), tuple(made))
