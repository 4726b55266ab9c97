"""A third witness: vectors worked by hand from the laws' equations, made by neither golden nor RTL, against both.

Every input has the weight 1, so an input's value is the current; each column of a table is one tick.
"""

from __future__ import annotations

import numpy as np
import pytest

from apical.hw.design import HardwareOptions, Lanes
from apical.sim import verilated
from apical.sw import golden
from apical.sw.golden import Trace
from apical.sw.laws import (
    LAWS,
    AdaptiveLif,
    CubaLi,
    CubaLif,
    Format,
    IntegrateFire,
    LeakyIntegrator,
    Lif,
    Relu,
    TwoPoint,
)
from apical.sw.network import Input, IntArray, Network, Population, Projection

TICKS = 7

# Currents by input channel, then what must come of them: (population, signal, neuron) by tick.
CURRENTS: dict[str, list[list[int]]] = {
    "to lif": [
        [10, 15, 2, -40, 0, 127, 127],
        [19, 1, 2, 0, 0, 0, 0],
    ],
    "to reset lif": [
        [3, 4, 4, -20, 1, 0, 0],
        [-1, -9, 0, 1, -32, 0, 0],
    ],
    "to integrator": [[20, 20, 20, -50, 3, 0, 4]],
    "to relu": [[0, 3, 10, 115, 123, -6, -127]],
    "to basal": [[7, 0, -20, -4, 100, 2, 3]],
    "to apical": [[6, 0, 40, 9, -100, -3, 127]],
    "to adaptive": [[12, 30, 5, 40, -127, 10, -100]],
    "to shifted": [
        [25, 1, -40, -6, 0, 0, 127],
        [25, 1, -40, -6, 0, 0, 127],
        [25, 1, -40, -6, 0, 0, 127],
        [25, 1, -40, -6, 0, 0, 127],
    ],
    "to counting": [[25, 4, 11, -60, 40, 127, 0]],
    "to late": [[20, 0, 31, 31, -32, 0, 0]],
    "to zeroed": [[5, 60, 1, 4, 2, -3, 0]],
    "to twice": [[35, 3, 12, 0, -5, 21, 0]],
    "to open": [[9, -9, 0, 63, 63, -1, 0]],
    "to synapse": [[5, -10, 20, 0, 7, -40, 1]],
    "spikes": [
        [1, 0, 0, 1, 0, 0, 1],
        [0, 1, 0, 1, 0, 0, 0],
    ],
}
EXPECTED: dict[tuple[str, str, int], list[int]] = {
    # 8 bits, decay 3/4, threshold 20, bias 1, u > threshold, minus the threshold. u by tick: 0+10+1 = 11;
    # ⌊33/4⌋+16 = 24; ⌊12/4⌋+3 = 6; ⌊18/4⌋-39 = -35; ⌊-105/4⌋+1 = -27+1; ⌊-78/4⌋+128 = -20+128; 66+128 = 194 -> 127.
    ("lif", "value", 0): [0, 1, 0, 0, 0, 1, 1],
    ("lif", "v", 0): [11, 4, 6, -35, -26, 88, 107],
    # 19+1 = 20 is not above 20; ⌊60/4⌋+2 = 17; ⌊51/4⌋+3 = 15; ⌊45/4⌋+1 = 12; 9+1 = 10; ⌊30/4⌋+1 = 8; 6+1 = 7.
    ("lif", "value", 1): [0, 0, 0, 0, 0, 0, 0],
    ("lif", "v", 1): [20, 17, 15, 12, 10, 8, 7],
    # 5 bits, start 2, u >= threshold, then v_reset. Decay 1, threshold 5, v_reset -3:
    # 2+3 = 5; -3+4 = 1; 1+4 = 5; -3-20 = -23 -> -16; -16+1; -15; -15.
    ("reset lif", "value", 0): [1, 0, 1, 0, 0, 0, 0],
    ("reset lif", "v", 0): [-3, 1, -3, -16, -15, -15, -15],
    # Decay 1/2, threshold 0, v_reset 7: 1-1 = 0; ⌊14/4⌋-9 = -6; -3; ⌊-6/4⌋+1 = -1; ⌊-2/4⌋-32 = -33 -> -16; -8; -4.
    ("reset lif", "value", 1): [1, 0, 0, 0, 0, 0, 0],
    ("reset lif", "v", 1): [7, -6, -3, -1, -16, -8, -4],
    # 6 bits, decay 5/8, bias -2, value ⌊v/2⌋: 18; ⌊90/8⌋+18 = 29; ⌊145/8⌋+18 = 36 -> 31; ⌊155/8⌋-52 = -33 -> -32;
    # -20+1 = -19; ⌊-95/8⌋-2 = -14; ⌊-70/8⌋+2 = -7.
    ("integrator", "v", 0): [18, 29, 31, -32, -19, -14, -7],
    ("integrator", "value", 0): [9, 14, 15, -16, -10, -7, -4],
    # 4 bits, bias 5, ⌊·/8⌋: 5, 8, 15, 120, 128 (saturates), -1, -122.
    ("relu", "value", 0): [0, 1, 1, 15, 15, 0, 0],
    # F = 2, G = 2, 5 bits (at most 24), S = 1, biases 1 and -2: R = ⌊(I+1)/2⌋ in -4..31, C = ⌊(I-2)/2⌋ in -32..31,
    # M = R² + 8R + C(4+|R|), value ⌊M/4⌋:
    #   R, C = 4, 2: 16+32+16 = 64     0, -1: -4               -10 -> -4, 19: 16-32+152 = 136
    #   -2, 3: 4-16+18 = 6             50 -> 31, -51 -> -32: 961+248-1120 = 89
    #   1, -3: 1+8-15 = -6             2, 62 -> 31: 4+16+186 = 206
    ("two point", "value", 0): [16, 0, 24, 1, 22, 0, 24],
    # 8 bits, decay 3/4, adaptation decay 1/2, threshold 10, adaptation 6. a: 0, 6, 3+6, ⌊9/2⌋, 2+6, 4, 2; threshold
    # 10 + a: 10, 16, 19, 14, 18, 14, 12. v: 12; 9+30-16 = 23; ⌊69/4⌋+5-19 = 3; ⌊9/4⌋+40 = 42; ⌊126/4⌋-127-18 = -114;
    # ⌊-342/4⌋+10 = -86+10; ⌊-228/4⌋-100 = -157 -> -128.
    ("adaptive", "a", 0): [0, 6, 9, 4, 8, 4, 2],
    ("adaptive", "v", 0): [12, 23, 3, 42, -114, -76, -128],
    ("adaptive", "value", 0): [1, 1, 0, 1, 0, 0, 0],
    # 7 bits, F = 3, threshold 63 (never passed), decays 7/8, 6/8, 8/8 and 0:
    # 25; ⌊175/8⌋+1 = 22; ⌊154/8⌋-40 = -21; ⌊-147/8⌋-6 = -25; ⌊-175/8⌋ = -22; ⌊-154/8⌋ = -20; ⌊-140/8⌋+127 = 109 -> 63.
    ("shifted", "v", 0): [25, 22, -21, -25, -22, -20, 63],
    # 25; ⌊150/8⌋+1 = 19; ⌊114/8⌋-40 = -26; ⌊-156/8⌋-6 = -26; ⌊-156/8⌋ = -20; ⌊-120/8⌋ = -15; ⌊-90/8⌋+127 = 115 -> 63.
    ("shifted", "v", 1): [25, 19, -26, -26, -20, -15, 63],
    # 25; 26; -14; -20; -20; -20; 107 -> 63.
    ("shifted", "v", 2): [25, 26, -14, -20, -20, -20, 63],
    # No memory at all.
    ("shifted", "v", 3): [25, 1, -40, -6, 0, 0, 63],
    ("shifted", "value", 3): [0, 0, 0, 0, 0, 0, 0],
    # 8 bits, threshold 10, u >= threshold, up to 3 spikes, floor -4: 25 = 2·10 + 5; 9; 9+11 = 20; -60 -> -4; 36;
    # 6+127 = 133 -> 127, three of twelve; 97.
    ("counting", "value", 0): [2, 0, 2, 0, 3, 3, 3],
    ("counting", "v", 0): [5, 9, 0, -4, 6, 97, 67],
    # Current of 6 bits, decay 1/2, bias 1: 21; 10+1; 5+32 = 37 -> 31; 15+32 -> 31; 15-31; -8+1; ⌊-7/2⌋+1.
    # Membrane of 8 bits, decay 3/4, drive -1, minus the threshold 10 after a tick above it:
    # 20; 15-1-10+11; ⌊45/4⌋-11+31; ⌊93/4⌋-11+31; ⌊129/4⌋-11-16; ⌊15/4⌋-1-7; ⌊-15/4⌋-1-3.
    ("late", "i", 0): [21, 11, 31, 31, -16, -7, -3],
    ("late", "v", 0): [20, 15, 31, 43, 5, -5, -8],
    ("late", "value", 0): [1, 1, 1, 1, 0, 0, 0],
    # Each weight counts 2, nothing leaks, threshold 10 (>=); the tick after a spike is 0 whatever comes.
    ("zeroed", "v", 0): [10, 0, 2, 10, 0, -6, -6],
    ("zeroed", "value", 0): [1, 0, 0, 1, 0, 0, 0],
    # Decay 1/2, threshold 10: 35 - 10 = 25, still above: u = 12+3-10 = 5, no spike, v = 5+10; u = 7+12-10, v = 9+10;
    # u = 9-10, v = 9; 4-5 = -1; -1+21 = 20 fires, v = 10, not above 10; 5.
    ("twice", "v", 0): [25, 15, 19, 9, -1, 10, 5],
    ("twice", "value", 0): [1, 0, 0, 0, 0, 1, 0],
    # Decay 1/2, bias 1, 7 bits, never reset, value ⌊v/2⌋: 10; 5-8; ⌊-3/2⌋+1; ⌊-1/2⌋+64; 31+64 -> 63; 31; 16.
    ("open", "v", 0): [10, -3, -1, 63, 63, 31, 16],
    ("open", "value", 0): [5, -2, -1, 31, 31, 15, 8],
    # Each weight counts 2. Current of 6 bits, decay 1/4, bias -2: 8; 2-22; -5+38 -> 31; 7-2; 1+12; 3-82 -> -32; -8+0.
    # Membrane of 7 bits, decay 3/4, drive 3: 11; 8+3-20; ⌊-27/4⌋+34; 20+8; 21+16; ⌊111/4⌋-29; ⌊-6/4⌋-5; value ⌊v/2⌋.
    ("synapse", "i", 0): [8, -20, 31, 5, 13, -32, -8],
    ("synapse", "v", 0): [11, -9, 27, 28, 37, -2, -7],
    ("synapse", "value", 0): [5, -5, 13, 14, 18, -1, -4],
    # Spikes weigh 1 and 2 at once, 10 and 20 two ticks later.
    ("delayed", "value", 0): [1, 2, 10, 23, 0, 30, 1],
}


def ints(*values: int) -> IntArray:
    return np.array(values, np.int64)


def lif(decay: int) -> dict[str, IntArray]:
    return {"decay": ints(decay), "threshold": ints(10), "bias": ints(0)}


def network() -> Network:
    """One population per law, each driven by inputs of its own."""
    graded, spikes = Format(8), Format(1, signed=False)
    lif_params = {"decay": ints(3), "threshold": ints(20), "bias": ints(1)}
    reset_params = {"decay": ints(4, 2), "threshold": ints(5, 0), "bias": ints(0), "v_reset": ints(-3, 7)}
    adaptive_params = {"threshold": ints(10), "adaptation": ints(6), "decay": ints(3), "adaptation_decay": ints(2)}
    synapse_params = {"decay": ints(3), "bias": ints(1), "drive": ints(-1)}
    shifted_params = {"decay": ints(7, 6, 8, 0), "threshold": ints(63), "bias": ints(0)}
    populations = (
        Population("lif", 2, Lif(state_bits=8, decay_bits=2), lif_params),
        Population("reset lif", 2, Lif("value", "ge", 5, 2), reset_params, {"v": ints(2)}),
        Population("integrator", 1, LeakyIntegrator(6, 3, 1), {"decay": ints(5), "bias": ints(-2)}),
        Population("relu", 1, Relu(value_bits=4, shift=3), {"bias": ints(5)}),
        Population("two point", 1, TwoPoint(5, 2, 2, 1), {"bias_basal": ints(1), "bias_apical": ints(-2)}),
        Population("adaptive", 1, AdaptiveLif(8, 2), {**adaptive_params, "bias": ints(0)}),
        Population("shifted", 4, Lif("subtract", "gt", 7, 3, "shift"), shifted_params),
        Population(
            "counting",
            1,
            IntegrateFire(compare="ge", state_bits=8, count_bits=2, floored=True),
            {"threshold": ints(10), "bias": ints(0), "floor": ints(-4)},
        ),
        Population(
            "late",
            1,
            CubaLif("subtract_late", state_bits=8, decay_bits=2, current_bits=6),
            {**synapse_params, "current_decay": ints(2), "threshold": ints(10)},
        ),
        Population("zeroed", 1, Lif("zero_late", "ge", 8, 2, gain_bits=1), lif(4)),
        Population("twice", 1, Lif("subtract_twice", state_bits=8, decay_bits=2), lif(2)),
        Population(
            "open", 1, Lif("none", state_bits=7, decay_bits=2, sends="membrane", shift=1), {**lif(2), "bias": ints(1)}
        ),
        Population(
            "synapse",
            1,
            CubaLi(7, 6, 2, 1, gain_bits=1),
            {**synapse_params, "bias": ints(-2), "drive": ints(3), "current_decay": ints(1)},
        ),
        Population("delayed", 1, Relu(value_bits=8, shift=0), {"bias": ints(0)}),
    )
    onto = {
        "to lif": ("lif", "basal"),
        "to reset lif": ("reset lif", "basal"),
        "to integrator": ("integrator", "basal"),
        "to relu": ("relu", "basal"),
        "to basal": ("two point", "basal"),
        "to apical": ("two point", "apical"),
        "to adaptive": ("adaptive", "basal"),
        "to shifted": ("shifted", "basal"),
        "to counting": ("counting", "basal"),
        "to late": ("late", "basal"),
        "to zeroed": ("zeroed", "basal"),
        "to twice": ("twice", "basal"),
        "to open": ("open", "basal"),
        "to synapse": ("synapse", "basal"),
    }
    projections = [
        Projection(source, source, target, np.eye(len(CURRENTS[source]), dtype=np.int64), compartment)
        for source, (target, compartment) in onto.items()
    ]
    projections.append(Projection("at once", "spikes", "delayed", ints(1, 2)[None, :]))
    projections.append(Projection("later", "spikes", "delayed", ints(10, 20)[None, :], delay=2))
    inputs = tuple(Input(n, len(c), spikes if n == "spikes" else graded) for n, c in CURRENTS.items())
    return Network(inputs, populations, tuple(projections), tuple(p.name for p in populations))


def stimulus() -> IntArray:
    """The tables as input, twice: the second sample must start anew."""
    one = np.array([channel for channels in CURRENTS.values() for channel in channels]).T
    return np.stack([one, one]).astype(np.int64)


@pytest.fixture(scope="module")
def traces() -> dict[str, Trace]:
    net, x = network(), stimulus()
    options = HardwareOptions({p.name: Lanes(p.size, 1) for p in net.populations})
    rtl = verilated.simulate(net, options, x, states=True, workers=1, fast_build=True)
    return {"golden": golden.run(net, x, states=True), "RTL": rtl}


@pytest.mark.parametrize("engine", ["golden", "RTL"])
@pytest.mark.parametrize("where", EXPECTED, ids=lambda w: f"{w[0]}-{w[1]}{w[2]}")
def test_the_law_gives_what_was_worked_by_hand(
    traces: dict[str, Trace], where: tuple[str, str, int], engine: str
) -> None:
    population, signal, neuron = where
    trace = traces[engine]
    got = trace.values[population] if signal == "value" else trace.states[population][signal]
    assert got[:, :, neuron].tolist() == [EXPECTED[where]] * 2


@pytest.mark.parametrize("engine", ["golden", "RTL"])
def test_counters_are_those_counted_in_the_tables(traces: dict[str, Trace], engine: str) -> None:
    counters = traces[engine].counters
    for name, channels in CURRENTS.items():
        if name != "spikes":
            sent = sum(value != 0 for channel in channels for value in channel)
            assert counters[f"projection {name}: events"] == 2 * sent
    assert counters["projection at once: events"] == 2 * 5
    assert counters["projection later: events"] == 2 * 4  # what was sent in the last two ticks isn't delivered: one
    assert counters["population delayed: events"] == 2 * 6
    assert counters["population lif: updates"] == 2 * TICKS * 2


def test_every_law_has_a_witness() -> None:
    shipped = {name for name, law in LAWS.items() if law.__module__.startswith("apical.sw.laws")}
    assert {p.law.name for p in network().populations} == shipped
