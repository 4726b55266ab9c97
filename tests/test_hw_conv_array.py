"""The convolution array: golden and RTL are equal in everything, and an event costs the cycles that the docs say."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from apical.hw.conv_array import Plan, event_cycles
from apical.hw.conv_sums import SETTLE
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.order import Order
from apical.sim.equivalence import cosim, lane_utilization
from apical.sim.scoreboard import first_divergence
from apical.sim.verilated import Stalls, simulate
from apical.sw import golden
from apical.sw.geometry import Geometry
from apical.sw.laws import Format, Lif, Relu
from apical.sw.network import Input, IntArray, Network, Population, Projection

GRADED, SPIKES = Format(4, signed=False), Format(1, signed=False)


def one_map(g: Geometry, values: Format = GRADED, *, pool: bool = False, silent: bool = False) -> Network:
    random = np.random.default_rng(0)
    bias = np.full(1, -(1 << 20)) if silent else random.integers(-20, 20, g.channels)
    cells = Population("map", math.prod(g.target), Relu(shift=2), {"bias": bias}, shape=g.target)
    weights = np.zeros(0, np.int64) if pool else random.integers(-8, 8, g.weights_shape)
    wire = Projection("p", "in", "map", weights, weight_bits=4, pattern="pool" if pool else "conv", geometry=g)
    return Network((Input("in", math.prod(g.source), values, g.source),), (cells,), (wire,), ("map",))


def events(network: Network, samples: int, ticks: int, share: float) -> IntArray:
    random = np.random.default_rng(1)
    shape = (samples, ticks, network.input_size)
    high = network.inputs[0].value_range[1]
    return np.asarray(random.integers(0, high + 1, shape) * (random.random(shape) < share), np.int64)


COSTED = (
    (Geometry((2, 6, 5), 6, (3, 3), padding=(1, 0)), Lanes(6, 2), GRADED, False),
    (Geometry((1, 7, 7), 5, (3, 2), (2, 1), (1, 1), (1, 2)), Lanes(2, 2), SPIKES, False),
    (Geometry((4, 5, 5), 6, (2, 2), groups=2), Lanes(2, 1), GRADED, False),
    (Geometry((3, 4, 4), 3, (2, 2), (2, 2), groups=3), Lanes(3, 1), GRADED, True),
)


@pytest.mark.parametrize(("g", "lanes", "values", "pool"), COSTED)
def test_an_event_costs_the_cycles_that_the_formula_says(g: Geometry, lanes: Lanes, values: Format, pool: bool) -> None:
    network = one_map(g, values, pool=pool, silent=True)
    options = HardwareOptions({"map": lanes}, {"in": 2})
    x = events(network, 3, 2, 0.7)
    x[1, 0] = 0  # a silent tick
    cost = event_cycles(network.projections[0], lanes)
    rows = Order(network.populations[0].size, g.target, lanes).rows
    by_tick = (x != 0).reshape(-1, x.shape[2]) @ cost
    expected = int(np.maximum(np.maximum(by_tick, 1), rows + SETTLE).sum())
    once, thrice = (
        simulate(network, options, np.concatenate([x] * n), workers=1, fast_build=True).cycles or 0 for n in (1, 3)
    )
    assert thrice - once == 2 * expected


@pytest.mark.parametrize("g", [Geometry((3, 4, 3), 4, (1, 1)), Geometry((2, 5, 5), 3, (3, 3), (2, 2), (1, 1))])
def test_visits_of_one_sum_that_follow_each_other_add_up(g: Geometry) -> None:
    """One position, channel after channel: every visit needs what the one before it has not yet written."""
    network = one_map(g)
    x = events(network, 2, 3, 1.0)
    result = cosim(network, x, options=HardwareOptions({"map": Lanes(2, 1)}, {"in": 4}), workers=1)
    assert result.equal, result.divergence


def test_few_starts_reach_far() -> None:
    """One source position begins at one address only; the words of the next channels lie beyond its width."""
    network = one_map(Geometry((1, 1, 1), 6, (3, 2), padding=(2, 1)))
    x = events(network, 2, 3, 1.0)
    result = cosim(network, x, options=HardwareOptions({"map": Lanes(5, 1)}, {"in": 1}), workers=1)
    assert result.equal, result.divergence


def chain() -> Network:
    """Spikes: conv, pool, depthwise conv with a recurrent one, dense; more rows than go into LUT RAM."""
    random = np.random.default_rng(3)
    first = Geometry((2, 12, 12), 4, (3, 3), padding=(1, 1))
    pool = Geometry(first.target, 4, (2, 2), (2, 2), groups=4)
    deep = Geometry(pool.target, 4, (3, 3), padding=(1, 1), groups=4)
    back = replace(deep, groups=1)

    def lif(name: str, g: Geometry) -> Population:
        size = math.prod(g.target)
        params = {
            "decay": random.integers(100, 256, 4),
            "threshold": np.full(1, 20),
            "bias": random.integers(-2, 3, size),
        }
        return Population(name, size, Lif(), params, shape=g.target)

    def conv(name: str, source: str, target: str, g: Geometry, delay: int = 0) -> Projection:
        weights = random.integers(-12, 16, g.weights_shape)
        return Projection(name, source, target, weights, delay=delay, pattern="conv", geometry=g)

    none = np.zeros(0, np.int64)
    pooled = Population("pooled", 144, Relu(value_bits=1, shift=0), {"bias": np.zeros(1, np.int64)}, shape=pool.target)
    out = Population("out", 3, Relu(shift=2), {"bias": np.zeros(1, np.int64)})
    return Network(
        (Input("in", 288, SPIKES, (2, 12, 12)),),
        (lif("first", first), pooled, lif("deep", deep), out),
        (
            conv("c", "in", "first", first),
            Projection("p", "first", "pooled", none, weight_bits=2, pattern="pool", geometry=pool),
            conv("d", "pooled", "deep", deep),
            conv("r", "deep", "deep", back, 1),
            Projection("o", "deep", "out", random.integers(-8, 16, (3, 144))),
        ),
        ("out",),
        "sum",
    )


def test_a_deep_spiking_network_is_equal_with_stalls_and_a_reset() -> None:
    from apical.hw.verilog import generate
    from apical.sim.verilated import run_design

    network = chain()
    lanes = {"first": Lanes(4, 4, 2), "pooled": Lanes(4, 2), "deep": Lanes(2, 2, 2), "out": Lanes(3, 1)}
    design = generate(network, HardwareOptions(lanes, {"in": 2}, monitor=True, monitor_states=True))
    x = events(network, 2, 3, 0.2)
    expected = golden.run(network, x, states=True)
    assert all((y != 0).any() for y in expected.values.values())
    for stalls, reset_at in ((Stalls(), 0), (Stalls(0.3, 0.5, 7), 0), (Stalls(), 700)):
        rtl = run_design(design, x, workers=1, stalls=stalls, reset_at=reset_at, fast_build=True)
        assert (difference := first_divergence(expected, rtl)) is None, difference


def test_a_busy_map_uses_its_lanes() -> None:
    network = one_map(Geometry((4, 8, 8), 8, (3, 3), padding=(1, 1)), silent=True)
    options = HardwareOptions({"map": Lanes(8, 8)}, {"in": 1})
    trace = simulate(network, options, events(network, 8, 1, 0.4), workers=1, fast_build=True)
    assert lane_utilization(network, options, trace)["p"] > 0.9


def test_a_plan_visits_what_the_geometry_reaches() -> None:
    g, lanes = Geometry((4, 7, 6), 6, (3, 2), (2, 1), (1, 1), (1, 2), 2), Lanes(2, 1)
    p = one_map(g).projections[0]
    order = Order(p.sizes[0], g.target, lanes)
    plan = Plan(p, order)
    for y in range(7):
        for x in range(6):
            places = set()
            for ny in range(plan.rows[y][0] + 1):
                for nx in range(plan.columns[x][0] + 1):
                    places.add(
                        plan.rows[y][1] + ny * plan.steps["row"][0] + plan.columns[x][1] + nx * plan.steps["column"][0]
                    )
            reached = {oy * g.target[2] + ox for _, oy in g.axes[0].reached(y) for _, ox in g.axes[1].reached(x)}
            assert places == reached
    assert event_cycles(p, lanes).tolist() == np.maximum(np.tile(g.positions.reshape(-1) * 2, 4), 1).tolist()


def test_a_map_leaves_the_chip_by_coordinates() -> None:
    network = one_map(Geometry((2, 5, 3), 5, (3, 2), (2, 1)))
    options = HardwareOptions({"map": Lanes(4, 2, 2)}, {"in": 2})
    x = events(network, 2, 2, 0.5)
    for engine in ("verilated", "cocotb"):
        result = cosim(network, x, options=options, engine=engine, workers=1)
        assert result.equal, result.divergence
        assert (result.golden.values["map"] != 0).any()
