"""Streams on the RTL: equal to golden for ever, no sample's end, outputs of a tick before the next is offered."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out
from amaranth.sim import Simulator

from apical.hw import accelerator
from apical.hw.counters import Counter
from apical.hw.design import HardwareOptions, Lanes, default_options
from apical.hw.events import EventLayout, Fork
from apical.hw.verilog import generate
from apical.sim.random_networks import random_network, random_options, random_x
from apical.sim.streaming import LONGEST_GAP, StreamRun, Timing, run_stream, simulate_stream
from apical.sim.verilated import SimulationError, Stalls
from apical.sw.network import IntArray, Network
from apical.sw.streaming import Stream

Monitor = Callable[..., Network]
Spikes = Callable[..., IntArray]
BOTH = ("read", "hidden")  # outputs
SHAPES = (
    HardwareOptions({"hidden": Lanes(36, 6), "read": Lanes(6, 6)}),
    HardwareOptions({"hidden": Lanes(9, 3), "read": Lanes(2, 1)}),
    HardwareOptions({"hidden": Lanes(36, 4, 4), "read": Lanes(6, 6, 2)}, {"leads": 4}),
)


def assert_equal(network: Network, x: IntArray, ran: StreamRun) -> None:
    """Outputs of every tick and all counters; a delayed projection may already have taken the tick that follows."""
    golden = Stream(network)
    np.testing.assert_array_equal(ran.outputs, golden.push(x))
    sent = {p.name: ran.trace.values[p.name][0] for p in network.populations}
    for q in network.projections:
        expected, got = (
            golden.counters[f"projection {q.name}: events"],
            ran.trace.counters[f"projection {q.name}: events"],
        )
        ahead = 0
        if q.delay and q.source in sent:
            ahead = int(np.count_nonzero(sent[q.source][len(x) - q.delay :][:1]))
        elif q.delay:
            ahead = network.nodes[q.source].size
        assert expected <= got <= expected + ahead
    for p in network.populations:
        for what in ("events", "updates"):
            assert golden.counters[f"population {p.name}: {what}"] == ran.trace.counters[f"population {p.name}: {what}"]


@pytest.mark.parametrize(
    "options", [*SHAPES[:2], pytest.param(SHAPES[2], marks=pytest.mark.heavy)], ids=["wide", "narrow", "four events"]
)
def test_every_tick_leaves_before_the_next_is_offered_and_within_its_bound(
    monitor: Monitor, spikes: Spikes, options: HardwareOptions
) -> None:
    network, x = monitor(outputs=BOTH), np.concatenate([spikes(400), spikes(50, 1.0), spikes(50, 0.0)])
    timing = Timing(network, options)
    worst = timing.bounds()
    ran = simulate_stream(network, options, x, gap=max(worst.rest - worst.latency, 0), fast_build=True)
    assert_equal(network, x, ran)
    assert (ran.taken[1:] > ran.left[:-1]).all()
    sent = [np.count_nonzero(ran.trace.values[n][0], axis=1) for n in ("hidden", "read")]
    bounds = [timing.bounds({"hidden": int(h), "read": int(r)}).latency for h, r in zip(*sent, strict=True)]
    assert (ran.latency <= bounds).all()
    assert (np.array(bounds) - ran.latency).min() <= 5  # a bound that nothing comes near would prove nothing
    assert max(bounds) <= worst.latency


def test_the_clock_of_the_input_makes_no_difference(monitor: Monitor, spikes: Spikes) -> None:
    network, x = monitor(outputs=BOTH), spikes(200)
    fast, paced, stalled = (
        simulate_stream(network, SHAPES[1], x, gap=gap, stalls=stalls, fast_build=True)
        for gap, stalls in ((None, None), (700, None), (3, Stalls(0.4, 0.4, 1)))
    )
    for ran in (fast, paced, stalled):
        assert_equal(network, x, ran)
    assert (np.diff(paced.taken) > 700).all()
    assert fast.left[-1] < paced.left[-1] / 10


@pytest.mark.parametrize("seed", [3, pytest.param(range(10, 40), marks=pytest.mark.heavy)], ids=str)
def test_random_networks_stream_as_golden(seed: int | range) -> None:
    for one in [seed] if isinstance(seed, int) else seed:
        rng = random.Random(one)
        network = random_network(rng)
        options = random_options(rng, network)
        x = random_x(rng, network, 1, 60)[0]
        design = generate(network, replace(options, monitor=True, monitor_states=True))
        timing = Timing(network, options)
        worst = timing.bounds()
        for gap, stalls in ((worst.rest, None), (None, Stalls(0.3, 0.3, one))):
            ran = run_stream(design, x, gap=gap, stalls=stalls, fast_build=True)
            print(f"replay: random.Random({one})")
            assert_equal(network, x, ran)
            if gap is not None:
                sent = {p.name: np.count_nonzero(ran.trace.values[p.name][0], axis=1) for p in network.populations}
                for t in range(len(x)):
                    assert ran.latency[t] <= timing.bounds({name: int(n[t]) for name, n in sent.items()}).latency


@pytest.mark.parametrize("ticks", [6_000, pytest.param(250_000, marks=pytest.mark.heavy)])
def test_a_long_stream_equals_golden(monitor: Monitor, spikes: Spikes, ticks: int) -> None:
    """Every pointer and credit of the datapath goes round thousands of times."""
    network, x = monitor(outputs=BOTH), spikes(ticks, 0.1)
    ran = simulate_stream(network, default_options(network), x, gap=None, fast_build=True)
    assert_equal(network, x, ran)


class HoldBack(wiring.Component):  # type: ignore[misc]
    """A fork with a defect: it hands a beat on only when the next one has come."""

    def __init__(self, layout: EventLayout, readers: int) -> None:
        self.fork = Fork(layout, readers)
        outputs: dict[str, Any] = {f"o{n}": Out(stream.Signature(layout)) for n in range(readers)}
        super().__init__({"i": In(stream.Signature(layout)), **outputs})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.fork = fork = self.fork
        held, full, free = Signal.like(self.i.payload.as_value()), Signal(), Signal()
        m.d.comb += [
            fork.i.payload.eq(held),
            fork.i.valid.eq(full & self.i.valid),
            free.eq(~full | (fork.i.valid & fork.i.ready)),
            self.i.ready.eq(free),
        ]
        with m.If(free):
            m.d.sync += [held.eq(self.i.payload.as_value()), full.eq(self.i.valid)]
        for n in range(fork.readers):
            wiring.connect(m, getattr(fork, f"o{n}"), wiring.flipped(getattr(self, f"o{n}")))
        return m


def test_a_tick_held_back_would_be_found(monitor: Monitor, spikes: Spikes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "Fork", HoldBack)
    network = monitor(outputs=BOTH)
    design = generate(network, replace(SHAPES[1], monitor=True))
    with pytest.raises(SimulationError, match=r"^deadlock: nothing moved .* output 0 closed 0 of 20 ticks"):
        run_stream(design, spikes(20), gap=0, fast_build=True)


def test_event_counters_wrap_at_32_bits_and_at_nothing_less() -> None:
    counter = Counter(1 << 31)
    seen = []

    async def bench(ctx: Any) -> None:
        ctx.set(counter.increment, 1 << 31)
        for _ in range(5):
            await ctx.tick()
            seen.append(ctx.get(counter.total))

    simulator = Simulator(counter)
    simulator.add_clock(1e-8)
    simulator.add_testbench(bench)
    simulator.run()
    assert seen == [0, 1 << 31, 0, 1 << 31, 0]


def test_a_gap_and_events_that_cannot_be_run_are_refused(monitor: Monitor, spikes: Spikes) -> None:
    network = monitor(outputs=BOTH)
    with pytest.raises(ValueError, match=rf"^gap: expected 0 to {LONGEST_GAP} cycles, got -1$"):
        simulate_stream(network, SHAPES[0], spikes(3), gap=-1)
    with pytest.raises(ValueError, match=r"^events: expected at least one tick, got none$"):
        simulate_stream(network, SHAPES[0], spikes(0))
