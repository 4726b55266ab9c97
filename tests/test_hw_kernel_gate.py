"""Gates of kernels: golden and RTL are equal in everything, and what is off costs no cycles."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from apical.hw.accelerator import HardwareError
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.events import EventLayout
from apical.hw.kernel_gate import KernelGate
from apical.hw.lookahead import gate_ticks_queued, ticks_ahead, ticks_queued
from apical.hw.verilog import generate
from apical.sim import bench
from apical.sim.scoreboard import first_divergence
from apical.sim.verilated import Stalls, run_design, simulate
from apical.sw import golden
from apical.sw.geometry import Geometry
from apical.sw.geometry import index_of as layout_index
from apical.sw.laws import Format, Law, Lif, Relu
from apical.sw.network import Gate, Input, IntArray, Network, Population, Projection

OPENING = 5  # cycles from a tick's `go` until the next one's first visit
DECIDING = 5  # cycles of a decision beside its products
GRADED, SPIKES = Format(4, signed=False), Format(1, signed=False)


def gated(
    *, groups: int = 4, window: int = 1, points: int = 1, spiking: bool = False, bias: int | None = None
) -> Network:
    """A gated convolution of two maps, then gated neurons that see all of it, then a dense read-out."""
    random = np.random.default_rng(5)
    form = SPIKES if spiking else GRADED
    g = Geometry((3, 6, 5), 8, (3, 3), padding=(1, 1))
    full = Geometry(g.target, 6, g.target[1:])
    law: Law = Lif() if spiking else Relu(value_bits=4, shift=3)

    def cells(name: str, shape: tuple[int, int, int]) -> Population:
        params = {"bias": random.integers(-20, 20, shape[0])}
        if spiking:
            params = {"decay": np.full(1, 220), "threshold": np.full(1, 20), "bias": random.integers(-2, 4, shape[0])}
        return Population(name, math.prod(shape), law, params, {"v": np.full(1, 7)} if spiking else {}, shape)

    def gate(source: str, target: str, n: int, channels: int, size: int) -> Gate:
        weights = random.integers(-30, 31, (points, n, channels))
        offset = -weights.sum(2) * size // channels if bias is None else np.full((points, n), bias)
        return Gate(source, target, weights, offset, window)

    first, second = cells("first", g.target), cells("second", full.target)
    wires = (
        Projection("a", "in", "first", random.integers(-9, 12, g.weights_shape), pattern="conv", geometry=g),
        Projection("b", "too", "first", random.integers(-9, 12, g.weights_shape), pattern="conv", geometry=g),
        Projection("c", "first", "second", random.integers(-9, 12, full.weights_shape), pattern="conv", geometry=full),
        Projection("d", "second", "out", random.integers(-9, 9, (4, 6))),
    )
    scale = (2 if spiking else 8) * window
    gates = (gate("in", "first", groups, 3, 30 * scale // 2), gate("first", "second", 3, 8, 30 * scale))
    inputs = (Input("in", 90, form, (3, 6, 5)), Input("too", 90, form, (3, 6, 5)))
    read = Population("out", 4, Relu(shift=2), {"bias": np.zeros(1, np.int64)})
    return Network(inputs, (first, second, read), wires, ("out", "first"), "sum", gates=gates)


def events(network: Network, samples: int, ticks: int) -> IntArray:
    """Maps whose channels are full or nearly silent, by chance."""
    random = np.random.default_rng(1)
    high, shape = network.inputs[0].value_range[1], (samples, ticks, 6, 30)
    share = random.choice((0.02, 0.4, 0.9), (samples, ticks, 6, 1))
    x = random.integers(0, high + 1, shape) * (random.random(shape) < share)
    return np.asarray(x.reshape(samples, ticks, 180), np.int64)


NETWORKS = {
    "groups": (gated(), 3),
    "kernels": (gated(groups=8), 1),
    "whole": (gated(groups=1, window=2), 5),
    "spiking": (gated(spiking=True), 5),
    "windows": (gated(spiking=True, window=3, groups=2), 7),
    "points": (gated(points=2).at(1), 2),
}
LANES = {
    "words": (Lanes(2, 2), Lanes(2, 1)),
    "wide": (Lanes(4, 2, 2), Lanes(3, 3)),
    "one word": (Lanes(8, 2), Lanes(1, 1)),
}
LIGHT = (("groups", "words"), ("windows", "wide"))


def check_equal(network: str, lanes: str) -> None:
    """Without stalls, with stalls on both sides, and with a reset in the middle."""
    net, ticks = NETWORKS[network]
    first, second = LANES[lanes]
    options = HardwareOptions(
        {"first": first, "second": second, "out": Lanes(4, 2)}, {"in": 2}, monitor=True, monitor_states=True
    )
    design, x = generate(net, options), events(net, 4, ticks)
    expected = golden.run(net, x, states=True)
    opened, windows = (expected.counters[f"gate first: {what}"] for what in ("on", "windows"))
    assert 0 < opened < windows * net.gates[0].groups
    for stalls, reset_at in ((Stalls(), 0), (Stalls(0.3, 0.5, 7), 0), (Stalls(), 300)):
        rtl = run_design(design, x, workers=1, stalls=stalls, reset_at=reset_at, fast_build=True)
        assert (difference := first_divergence(expected, rtl)) is None, difference


@pytest.mark.parametrize(("network", "lanes"), LIGHT)
def test_gated_rtl_is_golden(network: str, lanes: str) -> None:
    check_equal(network, lanes)


@pytest.mark.heavy
@pytest.mark.parametrize(("network", "lanes"), [(n, k) for n in NETWORKS for k in LANES if (n, k) not in LIGHT])
def test_gated_rtl_is_golden_whatever_the_lanes(network: str, lanes: str) -> None:
    check_equal(network, lanes)


def one_layer(bias: int) -> Network:
    """A gated map that sends nothing: 4 groups of 2 channels, all on or all off by the bias."""
    random = np.random.default_rng(0)
    g = Geometry((2, 6, 6), 8, (3, 3), padding=(1, 1))
    cells = Population("map", 288, Relu(), {"bias": np.full(1, -(1 << 20))}, shape=g.target)
    wire = Projection("p", "in", "map", random.integers(-8, 8, g.weights_shape), pattern="conv", geometry=g)
    weights = np.array([[[1, 0], [1, 0], [0, 1], [-1, -1]]])  # two groups look at channel 0, one at 1, one never opens
    gate = Gate("in", "map", weights, np.full((1, 4), bias))
    return Network((Input("in", 72, GRADED, (2, 6, 6)),), (cells,), (wire,), ("map",), gates=(gate,))


@pytest.mark.parametrize(("channel", "words"), [(None, 4), (0, 2), (1, 1)])
def test_an_event_costs_its_positions_times_the_words_that_are_on(channel: int | None, words: int) -> None:
    network = one_layer(1 << 20 if channel is None else 0)
    maps = np.zeros((3, 1, 2, 36), np.int64)
    maps[:, :, 0 if channel is None else channel] = 3
    x = maps.reshape(3, 1, 72)
    options = HardwareOptions({"map": Lanes(2, 2)}, {"in": 1})
    g = network.projections[0].geometry
    assert g is not None
    once, thrice = (
        simulate(network, options, np.concatenate([x] * n), workers=1, fast_build=True).cycles or 0 for n in (1, 3)
    )
    visits = int(g.positions.sum()) * words
    assert thrice - once == 6 * (visits + OPENING)


def test_a_tick_without_any_word_still_ends() -> None:
    network = one_layer(-(1 << 20))
    x = np.ones((2, 3, 72), np.int64)
    trace = simulate(network, HardwareOptions({"map": Lanes(2, 2)}, {"in": 1}), x, workers=1, fast_build=True)
    assert first_divergence(golden.run(network, x), trace) is None
    assert trace.counters["projection p: synapses"] == trace.counters["population map: updates"] == 0


def test_a_window_beyond_any_queue_is_refused() -> None:
    network = one_layer(0)
    wide = replace(network, gates=(replace(network.gates[0], window=4000),))
    with pytest.raises(HardwareError, match=r"'in' to 'map': 4000 ticks must wait .* expected a shorter window"):
        generate(wide, HardwareOptions({"map": Lanes(2, 2)}))


def looking_ahead() -> Network:
    """Two gates of the same input, of windows 3 and 1, one behind the other; a read-out that sees everything."""
    random = np.random.default_rng(3)
    g = Geometry((2, 4, 4), 4, (3, 3), padding=(1, 1))
    again = Geometry(g.target, 4, (3, 3), padding=(1, 1))

    def cells(name: str) -> Population:
        return Population(name, 64, Relu(value_bits=4, shift=3), {"bias": random.integers(-9, 30, 4)}, shape=g.target)

    def wire(name: str, source: str, size: int, delay: int = 0) -> Projection:
        return Projection(name, source, "out", random.integers(-9, 9, (3, size)), delay=delay)

    wires = (
        Projection("a", "in", "long", random.integers(-9, 12, g.weights_shape), pattern="conv", geometry=g),
        Projection("b", "long", "short", random.integers(-9, 12, again.weights_shape), pattern="conv", geometry=again),
        wire("c", "short", 64),
        wire("d", "in", 32),
        wire("e", "in", 32, delay=2),
    )
    gates = tuple(
        Gate("in", name, random.integers(-9, 20, (1, 2, 2)), np.full((1, 2), -60 * window), window)
        for name, window in (("long", 3), ("short", 1))
    )
    read = Population("out", 3, Relu(shift=4), {"bias": np.zeros(1, np.int64)})
    return Network((Input("in", 32, GRADED, (2, 4, 4)),), (cells("long"), cells("short"), read), wires, ("out",),
                   "sum", gates=gates)  # fmt: skip


def test_streams_beside_a_gate_run_ahead_without_stopping_it() -> None:
    network, random = looking_ahead(), np.random.default_rng(2)
    assert ticks_ahead(network) == {"in": 0, "long": 2, "short": 2, "out": 2}
    assert [ticks_queued(network, q) for q in network.projections] == [3, 1, 0, 2, 2]
    assert [gate_ticks_queued(network, g) for g in network.gates] == [0, 1]
    x = random.integers(0, 16, (3, 8, 32)) * (random.random((3, 8, 32)) < 0.7)
    expected = golden.run(network, x)
    options = HardwareOptions({"long": Lanes(2, 2), "short": Lanes(4, 2), "out": Lanes(3, 1)}, monitor=True)
    for stalls, reset_at in ((Stalls(), 0), (Stalls(0.3, 0.6, 3), 0), (Stalls(), 500)):
        rtl = run_design(generate(network, options), x, workers=1, stalls=stalls, reset_at=reset_at, fast_build=True)
        assert (difference := first_divergence(expected, rtl)) is None, difference


@pytest.mark.parametrize("lanes", [1, 4])
def test_each_decision_takes_the_point_that_is_set_when_it_begins(lanes: int) -> None:
    """The unit alone: the port switches between windows; sums by numpy, decisions by the gate's own rule in Python."""
    random = np.random.default_rng(2)
    gate = Gate("in", "map", random.integers(-9, 10, (3, 12, 5)), random.integers(-40, 41, (3, 12)), window=2)
    layout = EventLayout(5 * 6, (0, 15), lanes, shape=(5, 2, 3))
    unit, index = KernelGate(gate, layout), layout_index(30, (5, 2, 3), layout.classes)
    x = random.integers(0, 16, (4, 2, 30)) * (random.random((4, 2, 30)) < 0.5)
    points, found, spent = (2, 0, 1, 2), [], []

    async def play(ctx: Any) -> None:
        async def send(keep: int, rows: list[int], values: list[int], last: int) -> None:
            ctx.set(unit.events.payload.keep, keep)
            for e, (row, value) in enumerate(zip(rows, values, strict=True)):
                ctx.set(unit.events.payload.rows[e], row)
                ctx.set(unit.events.payload["values"][e], value)
            ctx.set(unit.events.payload.last, last)
            ctx.set(unit.events.valid, 1)
            await ctx.tick().until(unit.events.ready)
            ctx.set(unit.events.valid, 0)

        for sample, point in zip(x, points, strict=True):
            ctx.set(unit.point, point)
            for tick in sample:
                for n in np.flatnonzero(tick):
                    e = int(index[n]) % layout.classes
                    values = [int(tick[n]) if k == e else 0 for k in range(lanes)]
                    await send(1 << e, [int(index[n]) // layout.classes] * lanes, values, 0)
                await send(0, [0] * lanes, [0] * lanes, 1)
            cycles = 0
            while not ctx.get(unit.valid):
                await ctx.tick()
                cycles += 1
            ctx.set(unit.point, (point + 1) % 3)  # too late for this one
            spent.append(cycles)
            found.append(ctx.get(unit.on))
            ctx.set(unit.take, 1)
            await ctx.tick()
            ctx.set(unit.take, 0)

    simulator = Simulator(unit)
    simulator.add_clock(1e-6)
    simulator.add_testbench(play)
    simulator.run()
    for sample, point, on, cycles in zip(x, points, found, spent, strict=True):
        sums = sample.sum(0).reshape(5, 6).sum(1).tolist()
        for g in range(12):
            z = int(gate.bias[point, g]) + sum(int(v) * s for v, s in zip(gate.weights[point, g], sums, strict=True))
            assert (on >> g & 1) == (z > 0)
        assert cycles == 2 * 5 + DECIDING  # 12 groups by 6 multipliers, 5 channels


@pytest.mark.heavy
@pytest.mark.parametrize("network", ["windows", "points"])
def test_gated_rtl_is_golden_in_the_bench(network: str) -> None:
    net, ticks = NETWORKS[network]
    options = HardwareOptions({"first": Lanes(2, 2), "second": Lanes(2, 1), "out": Lanes(4, 2)}, {"in": 2})
    x = events(net, 3, ticks)
    rtl = bench.simulate(net, options, x, states=True)
    assert (difference := first_divergence(golden.run(net, x, states=True), rtl)) is None, difference
