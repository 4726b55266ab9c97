"""A third witness for random input: an interpreter in plain Python from the published equations, and vectors by hand.

Neither uses the laws' `step`; golden and RTL must both agree with them, in values, outputs and states.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from apical.hw.design import default_options
from apical.sim import verilated
from apical.sw import golden
from apical.sw.golden import Trace
from apical.sw.laws import AdaptiveLif, Format, Law, LeakyIntegrator, Lif, Relu, TwoPoint
from apical.sw.network import Input, IntArray, Network, Population, Projection

NEURONS, TICKS, SAMPLES, RANDOM = 4, 8, 6, 8  # RANDOM: channels that only the neurons 1 … 3 listen to

Numbers = dict[str, int]
Step = Callable[[Numbers, Numbers, Numbers], tuple[Numbers, int]]


def clip(a: int, low: int, high: int) -> int:
    return low if a < low else high if a > high else a


# The equations of docs/reference/laws.md with the options that the network below uses. `//` is the floor.


def lif_like(strict: bool, to_value: bool) -> Step:
    def step(state: Numbers, current: Numbers, p: Numbers) -> tuple[Numbers, int]:
        u = clip(p["decay"] * state["v"] // 256 + current["basal"] + p["bias"], -128, 127)
        if not (u > p["threshold"] or (u == p["threshold"] and not strict)):
            return {"v": u}, 0
        return {"v": p["v_reset"] if to_value else u - p["threshold"]}, 1

    return step


def integrate(state: Numbers, current: Numbers, p: Numbers) -> tuple[Numbers, int]:
    v = clip(p["decay"] * state["v"] // 256 + current["basal"] + p["bias"], -512, 511)
    return {"v": v}, v // 4


def rectify(state: Numbers, current: Numbers, p: Numbers) -> tuple[Numbers, int]:
    return {}, clip((current["basal"] + p["bias"]) // 8, 0, 15)


def modulate(state: Numbers, current: Numbers, p: Numbers) -> tuple[Numbers, int]:
    # F = 2, G = 1, S = 1, V = 4
    r = clip((current["basal"] + p["bias_basal"]) // 2, -4, 31)
    c = clip((current["apical"] + p["bias_apical"]) // 2, -32, 31)
    return {}, clip((r * r + 8 * r + c * (4 + (r if r >= 0 else -r))) // 8, 0, 12)


def adapt(state: Numbers, current: Numbers, p: Numbers) -> tuple[Numbers, int]:
    a = clip(p["adaptation_decay"] * state["a"] // 16 + p["adaptation"] * state["s"], 0, 127)
    threshold = p["threshold"] + a
    v = p["decay"] * state["v"] // 16 + current["basal"] + p["bias"] - threshold * state["s"]
    v = clip(v, -128, 127)
    spike = 1 if v > threshold else 0
    return {"v": v, "a": a, "s": spike}, spike


@dataclass(frozen=True)
class Subject:
    """One law: neuron 0 gets the hand-worked input through one weight, the others random parameters and weights.

    :param hand: per compartment, the channel's values by tick (sample 0).
    :param weight: of neuron 0's only connection per compartment.
    :param values, states: what the hand says comes of it.
    :param params: neuron 0's parameters; the others draw from `ranges`.
    """

    law: Law
    step: Step
    hand: dict[str, list[int]]
    weight: int
    values: list[int]
    states: dict[str, list[int]]
    params: Numbers
    ranges: dict[str, tuple[int, int]]
    initial: dict[str, list[int]] = field(default_factory=dict)


LIF_INPUT = {"basal": [20, 10, 100, -100, 0, 0, 47, 0]}
LIF_PARAMS = {"decay": 230, "threshold": 100, "bias": 2}
LIF_RANGES = {"decay": (0, 256), "threshold": (0, 127), "bias": (-20, 20)}
# Currents are 4·x: 80, 40, 400, -400, 0, 0, 188, 0. Leaks by 230/256, then +2 and the current:
# t0: 0 + 82 = 82. t1: ⌊73.67⌋ + 42 = 115, spike. t2: the sum saturates at 127, spike. t3: saturates at -128.
# t4: -115 + 2 = -113. t5: ⌊-101.52⌋ + 2 = -100. t6: ⌊-89.84⌋ + 190 = 100, a spike only by ≥. t7: a leak only.
SUBJECTS = {
    "lif, subtract, gt": Subject(
        Lif("subtract", "gt", state_bits=8),
        lif_like(strict=True, to_value=False),
        LIF_INPUT,
        4,
        [0, 1, 1, 0, 0, 0, 0, 0],
        # t1: 115 - 100. t2: 127 - 100. t7: ⌊230·100/256⌋ + 2
        {"v": [82, 15, 27, -128, -113, -100, 100, 91]},
        LIF_PARAMS,
        LIF_RANGES,
    ),
    "lif, subtract, ge": Subject(
        Lif("subtract", "ge", state_bits=8),
        lif_like(strict=False, to_value=False),
        LIF_INPUT,
        4,
        [0, 1, 1, 0, 0, 0, 1, 0],
        {"v": [82, 15, 27, -128, -113, -100, 0, 2]},
        LIF_PARAMS,
        LIF_RANGES,
    ),
    "lif, value, gt": Subject(
        Lif("value", "gt", state_bits=8),
        lif_like(strict=True, to_value=True),
        LIF_INPUT,
        4,
        [0, 1, 1, 0, 0, 0, 0, 0],
        {"v": [82, -5, -5, -128, -113, -100, 100, 91]},
        {**LIF_PARAMS, "v_reset": -5},
        {**LIF_RANGES, "v_reset": (-128, 127)},
    ),
    "lif, value, ge": Subject(
        Lif("value", "ge", state_bits=8),
        lif_like(strict=False, to_value=True),
        LIF_INPUT,
        4,
        [0, 1, 1, 0, 0, 0, 1, 0],
        # t7: ⌊230·(-5)/256⌋ + 2 = -5 + 2
        {"v": [82, -5, -5, -128, -113, -100, -5, -3]},
        {**LIF_PARAMS, "v_reset": -5},
        {**LIF_RANGES, "v_reset": (-128, 127)},
        initial={"v": [0, -128, 127, 50]},
    ),
    "leaky_integrator": Subject(
        LeakyIntegrator(state_bits=10, shift=2),
        integrate,
        {"basal": [100, 100, -128, 0, -128, -128, 6, 0]},
        4,
        # v/4, floored: 100.25, 127.75, -6.5, -6, -128, -128, -115.25, -109.25
        [100, 127, -7, -6, -128, -128, -116, -110],
        # t1: ⌊243·401/256⌋ = 380, + 401 saturates. t2: 485 - 511. t3: ⌊-24.68⌋ + 1. t4: ⌊-22.78⌋ - 511 saturates.
        # t5: -486 - 511 saturates. t6: -486 + 25. t7: ⌊243·(-461)/256⌋ = ⌊-437.59⌋, + 1
        {"v": [401, 511, -26, -24, -512, -512, -461, -437]},
        {"decay": 243, "bias": 1},
        {"decay": (0, 256), "bias": (-50, 50)},
        initial={"v": [0, 511, -512, -1]},
    ),
    "relu": Subject(
        Relu(value_bits=4, shift=3),
        rectify,
        {"basal": [0, 1, 2, 3, 16, 32, 33, -50]},
        4,
        # (4x - 3)/8: -0.4, 0.1, 0.6, 1.1, 7.6, 15.6, 16.1, -25.4
        [0, 0, 0, 1, 7, 15, 15, 0],
        {},
        {"bias": -3},
        {"bias": (-100, 100)},
    ),
    "two_point": Subject(
        TwoPoint(value_bits=4, value_fraction_bits=1, fraction_bits=2, shift=1),
        modulate,
        {"basal": [4, 9, -20, 2, 0, 100, 6, -1], "apical": [2, -3, 20, -1, 7, 0, -100, 127]},
        1,
        # R: 2, 4, -4 (clamped), 1, 0, 31, 3, -1 (floor). C: 1, -2, 10, -1, 3, 0, -32 (clamped), 31.
        # M: 4+16+6 = 26, 16+32-16 = 32, 16-32+80 = 64, 1+8-5 = 4, 12, 961+248 = 1209, 9+24-224 < 0, 1-8+155 = 148
        [3, 4, 8, 0, 1, 12, 0, 12],
        {},
        {"bias_basal": 0, "bias_apical": 0},
        {"bias_basal": (-10, 10), "bias_apical": (-10, 10)},
    ),
    "adaptive_lif": Subject(
        AdaptiveLif(state_bits=8, decay_bits=4),
        adapt,
        {"basal": [30, 30, 30, 127, -128, -128, 95, 127]},
        1,
        # against thresholds of 20, 30, 27, 35, 41, 35, 31 (equal is no spike), 28
        [1, 0, 1, 1, 0, 0, 0, 1],
        {
            # t1: 15 + 30 - 30. t2: 7 + 30. t3: 18 + 127 - 35. t4: 55 - 128 - 41. t5: -185. t6: -64 + 95. t7: 142
            "v": [30, 15, 37, 110, -114, -128, 31, 127],
            # 3/4 of the last, floored, + 10 after a spike
            "a": [0, 10, 7, 15, 21, 15, 11, 8],
            "s": [1, 0, 1, 1, 0, 0, 0, 1],
        },
        {"decay": 8, "adaptation_decay": 12, "threshold": 20, "adaptation": 10, "bias": 0},
        {
            "decay": (0, 16),
            "adaptation_decay": (0, 16),
            "threshold": (0, 100),
            "adaptation": (0, 90),
            "bias": (-9, 9),
        },
        initial={"v": [0, 90, -128, 5], "a": [0, 127, 3, 60], "s": [0, 1, 1, 0]},
    ),
}


@dataclass(frozen=True)
class Case:
    """All laws in one network, its input, and what golden and RTL make of it."""

    network: Network
    x: IntArray
    golden: Trace
    rtl: Trace


@pytest.fixture(scope="module")
def case() -> Case:
    random = np.random.default_rng(11)
    hands = [(name, compartment, s) for name, s in SUBJECTS.items() for compartment in s.hand]
    channels = RANDOM + len(hands)
    x = random.integers(-128, 128, (SAMPLES, TICKS, channels)) * random.integers(0, 2, (SAMPLES, TICKS, channels))
    populations, projections = [], []
    for k, (name, compartment, s) in enumerate(hands):
        x[0, :, RANDOM + k] = s.hand[compartment]
        weights = random.integers(-2, 3, (NEURONS, channels))
        weights[0], weights[0, RANDOM + k] = 0, s.weight
        projections.append(Projection(f"{name}, {compartment}", "x", name, weights, compartment, weight_bits=4))
    for name, s in SUBJECTS.items():
        params = {
            p: np.concatenate([[value], random.integers(s.ranges[p][0], s.ranges[p][1] + 1, NEURONS - 1)])
            for p, value in s.params.items()
        }
        initial = {k: np.array(v, np.int64) for k, v in s.initial.items()}
        populations.append(Population(name, NEURONS, s.law, params, initial))
    network = Network((Input("x", channels, Format(8)),), tuple(populations), tuple(projections), tuple(SUBJECTS))
    options = default_options(network, neuron_lanes=2)
    rtl = verilated.simulate(network, options, x, workers=1, states=True, fast_build=True)
    return Case(network, x, golden.run(network, x, states=True), rtl)


def interpret(network: Network, x: IntArray, name: str) -> tuple[IntArray, dict[str, IntArray]]:
    """Values [samples, ticks, neurons] and states of one population, in Python's own integers."""
    population = next(p for p in network.populations if p.name == name)
    states = {k: np.zeros((*x.shape[:2], NEURONS), np.int64) for k in population.initial}
    values = np.zeros((*x.shape[:2], NEURONS), np.int64)

    def of(arrays: Mapping[str, IntArray], n: int) -> Numbers:
        return {k: int(a[n % a.size]) for k, a in arrays.items()}

    for sample in range(x.shape[0]):
        for n in range(NEURONS):
            state = of(population.initial, n)
            for t, row in enumerate(x[sample].tolist()):
                current = {
                    q.compartment: sum(w * v for w, v in zip(q.weights[n].tolist(), row, strict=True))
                    for q in network.incoming(name)
                }
                state, value = SUBJECTS[name].step(state, current, of(population.params, n))
                values[sample, t, n] = value
                for k, v in state.items():
                    states[k][sample, t, n] = v
    return values, states


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("side", ["golden", "rtl"])
def test_hand_worked_vectors(case: Case, name: str, side: str) -> None:
    trace: Trace = getattr(case, side)
    assert trace.values[name][0, :, 0].tolist() == SUBJECTS[name].values
    assert trace.outputs[name][0, :, 0].tolist() == SUBJECTS[name].values
    states = {k: a[0, :, 0].tolist() for k, a in trace.states.get(name, {}).items()}
    assert states == SUBJECTS[name].states


@pytest.mark.parametrize("name", SUBJECTS)
@pytest.mark.parametrize("side", ["golden", "rtl"])
def test_the_interpreter_agrees(case: Case, name: str, side: str) -> None:
    trace: Trace = getattr(case, side)
    values, states = interpret(case.network, case.x, name)
    assert len(np.unique(values)) > 1  # something is sent, and not always
    np.testing.assert_array_equal(trace.values[name], values)
    np.testing.assert_array_equal(trace.outputs[name], values)
    assert set(trace.states.get(name, {})) == set(states)
    for k, expected in states.items():
        np.testing.assert_array_equal(trace.states[name][k], expected, err_msg=k)


@pytest.mark.parametrize("side", ["golden", "rtl"])
def test_counters_by_plain_counting(case: Case, side: str) -> None:
    counters = getattr(case, side).counters
    events = sum(1 for value in case.x.reshape(-1).tolist() if value)
    for q in case.network.projections:
        assert counters[f"projection {q.name}: events"] == events
    for name in SUBJECTS:
        values, _ = interpret(case.network, case.x, name)
        assert counters[f"population {name}: events"] == sum(1 for value in values.reshape(-1).tolist() if value)
        assert counters[f"population {name}: updates"] == SAMPLES * TICKS * NEURONS
