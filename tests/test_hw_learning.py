"""Chips that learn: the RTL equals golden in outputs, weights, errors, thresholds and counters after every sample."""

from __future__ import annotations

import itertools
import random

import numpy as np
import pytest

from apical.hw.accelerator import HardwareError
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.learning import learning_options
from apical.sim.learning import Learned, LearningRun, State, divergence, state_of
from apical.sim.verilated import Stalls
from apical.sw.laws import Format, LeakyIntegrator, Modulation, Relu, TwoPoint
from apical.sw.network import Input, IntArray, Network, Population, Projection
from apical.sw.on_chip import Learning, OnChip, Site

KINDS = ("candidates", "frozen", "gated", "zero", "weight writes", "saturations")


def net(sizes: tuple[int, ...], seed: int, weight_bits: int = 8, input_bits: int = 4) -> Network:
    rng = np.random.default_rng(seed)
    populations, projections = [], []
    for n, (before, size) in enumerate(itertools.pairwise(sizes)):
        last = n == len(sizes) - 2
        source, name = f"p{n}" if n else "in", f"p{n + 1}"
        weights = rng.integers(-(1 << (weight_bits - 2)), 1 << (weight_bits - 2), (size, before))
        projections.append(Projection(f"w{n}", source, name, weights, weight_bits=weight_bits))
        zero, bias = np.zeros(1, np.int64), rng.integers(-20, 60, size)
        law = LeakyIntegrator(state_bits=20, shift=2) if last else Relu(value_bits=6, shift=3)
        populations.append(Population(name, size, law, {"decay": zero, "bias": bias} if last else {"bias": bias}))
    inputs = (Input("in", sizes[0], Format(input_bits, signed=False)),)
    return Network(inputs, tuple(populations), tuple(projections), (populations[-1].name,))


def events(network: Network, samples: int, seed: int = 0, density: float = 0.4) -> tuple[IntArray, IntArray]:
    rng = np.random.default_rng(seed)
    high = min(i.format.bounds[1] for i in network.inputs)
    shape = (samples, 1, network.input_size)
    x = rng.integers(0, high + 1, shape) * (rng.random(shape) < density)
    x[0] = 0  # a silent sample
    return x, rng.integers(0, network.populations[-1].size, samples)


def check(network: Network, learning: Learning, options: HardwareOptions, samples: int, period: int = 1) -> OnChip:
    x, labels = events(network, samples)
    run = LearningRun(network, learning, options, fast_build=True)
    for stalls in (Stalls(), Stalls(0.3, 0.4, 5)):
        chip = OnChip(network, learning)
        assert divergence(chip, x, labels, run.run(x, labels, period=period, stalls=stalls)) is None
    return chip


GATED = Learning((Site(4, 0, 4), Site(3, 8, 2)), 60, 6, 8, "nearest", 400, gain=0)
FROZEN = {"p2": (np.arange(5) % 3 > 0).astype(np.int64), "p1": np.array([1, 0, 1, 1, 1, 0, 1])}
STOCHASTIC = Learning((Site(9), Site(7, 8), Site(4, 8)), 60, 6, 8, "stochastic", plastic=FROZEN)
TWO_WORDS = {"p1": Lanes(4, 2), "p2": Lanes(4, 1)}
THREE_LAYERS = {"p1": Lanes(7, 7), "p2": Lanes(3, 3), "p3": Lanes(4, 2)}


@pytest.mark.parametrize(
    ("sizes", "learning", "lanes", "expected"),
    [
        ((12, 7, 4), GATED, TWO_WORDS, {"gated", "saturations"}),
        ((12, 7, 5, 4), STOCHASTIC, THREE_LAYERS, {"frozen", "zero"}),
    ],
    ids=["gates, two words a row", "stochastic rounding, frozen cells, three layers"],
)
def test_a_chip_learns_as_golden_does(
    sizes: tuple[int, ...], learning: Learning, lanes: dict[str, Lanes], expected: set[str]
) -> None:
    chip = check(net(sizes, 1), learning, HardwareOptions(lanes), 40)
    seen = {kind for kind in KINDS if any(chip.counters[f"projection {p.name}: {kind}"] for p in chip.projections)}
    assert seen >= {"candidates", "weight writes"} | expected
    if learning is GATED:
        assert 0 < chip.counters["learning: skipped passes"] < 40
        assert any(int(t) for t in chip.thresholds)


def context_net(rng: np.random.Generator, sizes: tuple[int, ...], modulation: Modulation = "mcc") -> Network:
    """Two-point populations with context from either of two inputs, and a linear output."""
    law = TwoPoint(value_bits=7, value_fraction_bits=4, fraction_bits=5, shift=3, modulation=modulation)
    inputs = tuple(Input(name, int(rng.integers(2, 9)), Format(3, signed=False)) for name in ("in", "too"))
    populations, wires = [], []

    def wire(name: str, source: str, target: str, shape: tuple[int, int], compartment: str = "basal") -> None:
        wires.append(Projection(name, source, target, rng.integers(-20, 40, shape), compartment, weight_bits=8))

    before, width = "in", inputs[0].size
    for n, size in enumerate(sizes[:-1]):
        bias = {k: rng.integers(-20, 20, size) for k in ("bias_basal", "bias_apical")}
        populations.append(Population(f"p{n}", size, law, bias))
        context = inputs[int(rng.integers(2))]
        wire(f"a{n}", context.name, f"p{n}", (size, context.size), "apical")
        wire(f"b{n}", before, f"p{n}", (size, width))
        before, width = f"p{n}", size
    zero = np.zeros(1, np.int64)
    populations.append(
        Population("out", sizes[-1], LeakyIntegrator(state_bits=20, shift=2), {"decay": zero, "bias": zero})
    )
    wire("out", before, "out", (sizes[-1], width))
    return Network(inputs, tuple(populations), tuple(wires), ("out",))


@pytest.mark.parametrize("modulation", ["mcc", "linear"])
def test_two_point_cells_learn_as_golden_does(modulation: Modulation) -> None:
    network = context_net(np.random.default_rng(1), (6, 5, 3), modulation)
    sites = (Site(6, 0, 3), Site(6), Site(6, 9), Site(6), Site(5, 9))
    lanes = {"p0": Lanes(3, 1), "p1": Lanes(5, 5), "out": Lanes(2, 2)}
    chip = check(network, Learning(sites, 60, 1, 9, "stochastic", 200), HardwareOptions(lanes), 40)
    assert all(chip.counters[f"projection {p.name}: weight writes"] > 0 for p in chip.projections)
    assert chip.counters["population p0: error saturations"] > 0


def test_a_chip_that_is_switched_off_answers_and_counts_no_learning() -> None:
    network, options = net((6, 5, 3), 2), HardwareOptions({"p1": Lanes(5, 1), "p2": Lanes(3, 1)})
    learning = Learning((Site(4), Site(3, 4)), 60, 1, 8)
    run, (x, labels) = LearningRun(network, learning, options, fast_build=True), events(network, 12)
    off = run.run(x, labels, learn=False)
    assert np.array_equal(off.states[-1].weights[0], network.projections[0].weights)
    assert not any(n for name, n in off.states[-1].counters.items() if "learning" in name or "weight" in name)
    fresh = OnChip(network, learning)
    assert off.outputs[1].tolist() == fresh.learn(x[1:2], labels[1:2])[0].tolist()
    # The host reads what was learned, and a chip after reset goes on from it.
    first = run.run(x[:6], labels[:6])
    rest = run.run(x[6:], labels[6:], resume=first.states[-1])
    chip = OnChip(network, learning)
    outputs = chip.learn(x, labels)
    assert np.array_equal(rest.outputs, outputs[6:])
    assert all(np.array_equal(w, g.T.numpy()) for w, g in zip(rest.states[-1].weights, chip.weights, strict=True))
    assert rest.states[-1].number == 12


def test_a_difference_is_named() -> None:
    network, learning = net((6, 5, 3), 2), Learning((Site(4), Site(3, 4)), 60, 1, 8)
    chip, (x, labels) = OnChip(network, learning), events(network, 2)
    good = chip.learn(x, labels)
    fine = state_of(chip, 2)
    assert divergence(OnChip(network, learning), x, labels, Learned(good, (fine,), 0)) is None
    weights = tuple(w.copy() for w in fine.weights)
    weights[1][2, 3] += 1
    other = State(2, weights, fine.errors, fine.thresholds, fine.number, fine.counters)
    said = divergence(OnChip(network, learning), x, labels, Learned(good, (other,), 0))
    assert said is not None and said.startswith("after sample 1: weights of 1 at (2, 3): golden ")
    counters = {**fine.counters, "learning: samples": 3}
    other = State(2, fine.weights, fine.errors, fine.thresholds, fine.number, counters)
    said = divergence(OnChip(network, learning), x, labels, Learned(good, (other,), 0))
    assert said == "after sample 1: counter 'learning: samples': golden 2, RTL 3"
    said = divergence(OnChip(network, learning), x, labels, Learned(good + 1, (fine,), 0))
    assert said is not None and said.startswith("sample 0, output 0: golden ")


def test_widths_hold_for_any_weights() -> None:
    network = net((6, 5, 3), 2)
    for p in network.freed().projections:
        assert p.sum_interval((0, 15)).low == -128 * 15 * p.weights.shape[1]
    with pytest.raises(HardwareError, match="expected one event a cycle"):
        LearningRun(network, GATED, HardwareOptions({"p1": Lanes(5, 1), "p2": Lanes(3, 1)}, {"in": 2}))


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(12))
def test_random_chips_learn_as_golden_does(seed: int) -> None:
    rng = random.Random(seed)
    sizes = (rng.randint(2, 30), *(rng.randint(2, 14) for _ in range(rng.randint(1, 2))), rng.randint(2, 6))
    if seed % 3:
        network = net(sizes, seed, rng.randint(3, 12), rng.randint(1, 6))
    else:
        network = context_net(np.random.default_rng(seed), sizes[1:], rng.choice(["mcc", "linear"]))
    sites = tuple(
        Site(rng.randint(0, 12), rng.randint(0, 9), rng.choice([None, 0, 3, 40])) for _ in network.projections
    )
    plastic = {
        p.name: np.array([rng.random() < 0.6 for _ in range(p.size)], np.int64)
        for p in network.populations[:-1]
        if rng.random() < 0.5
    }
    learning = Learning(
        sites,
        rng.randint(-100, 300),
        rng.randint(0, 4),
        rng.randint(2, 12),
        rng.choice(["floor", "nearest", "stochastic"]),
        rng.choice([None, 1, 60]),
        rng.randint(0, 8),
        plastic,
    )
    synapse = rng.randint(1, 14)
    check(network, learning, learning_options(network, synapse, rng.randint(1, synapse)), 40)
