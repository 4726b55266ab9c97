"""Delay lines: silent ticks at a sample's start, its last ticks dropped, nothing left over for the next sample."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from apical.hw.delay import Delay, ticks_held
from apical.hw.events import EventLayout
from apical.sw.laws import Lif
from apical.sw.network import Input, Network, Population, Projection

Tick = list[int]  # rows of a tick's events


def run_delay(
    delay: int, held: int, samples: list[list[Tick]], *, stall_in: float = 0.0, stall_out: float = 0.0, seed: int = 0
) -> list[list[Tick]]:
    """Send samples of ticks through a delay line into a reader that closes each sample after as many ticks."""
    dut, dice = Delay(EventLayout(8, (0, 1), 1), delay, held), random.Random(seed)
    beats = [(row, n == len(tick)) for sample in samples for tick in sample for n, row in enumerate([*tick, -1])]
    got: list[list[Tick]] = [[]]
    open_tick: Tick = []

    async def bench(ctx: Any) -> None:
        nonlocal open_tick
        sent, offered, idle = 0, False, 0
        while sent < len(beats) or len(got) <= len(samples):
            idle += 1
            assert idle < 200, f"stuck after {sent} of {len(beats)} beats and {len(got) - 1} samples"
            reading = len(got) <= len(samples) and len(got[-1]) < len(samples[len(got) - 1])
            flush = not reading and len(got) <= len(samples) and not ctx.get(dut.busy) and dice.random() >= stall_out
            offered = sent < len(beats) and (offered or dice.random() >= stall_in)
            ctx.set(dut.i.valid, offered)
            if offered:
                row, last = beats[sent]
                ctx.set(dut.i.payload, {"keep": row >= 0, "rows": [max(row, 0)], "last": last, "final": 0})
            accepts = reading and dice.random() >= stall_out
            ctx.set(dut.o.ready, accepts)
            ctx.set(dut.flush, flush)
            if flush:
                assert not ctx.get(dut.o.valid)
                got.append([])
                idle = 0
            elif accepts and ctx.get(dut.o.valid):
                p = ctx.get(dut.o.payload)
                open_tick += [p.rows[0]] if p.keep else []
                idle = 0
                if p.last:
                    got[-1].append(open_tick)
                    open_tick = []
            moved = offered and ctx.get(dut.i.ready)
            await ctx.tick()
            if moved:
                sent, offered, idle = sent + 1, False, 0

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return got[: len(samples)]


def expected(delay: int, sample: list[Tick]) -> list[Tick]:
    """Rule 3 of docs/reference/semantics.md: tick t delivers the events of tick t - d, nothing while t < d."""
    return [sample[t - delay] if t >= delay else [] for t in range(len(sample))]


def random_sample(ticks: int, dice: random.Random) -> list[Tick]:
    return [sorted(dice.sample(range(8), dice.randrange(4))) for _ in range(ticks)]


def test_a_tick_by_hand() -> None:
    assert run_delay(1, 0, [[[3], [], [5, 6]], [[7]]]) == [[[], [3], []], [[]]]


@pytest.mark.parametrize("extra", [0, 1], ids=["source behind reader", "source ahead"])
@pytest.mark.parametrize("delay", [1, 2, 3])
@pytest.mark.parametrize("stalls", [(0.0, 0.0), (0.5, 0.2), (0.1, 0.7)])
def test_events_come_as_many_ticks_later_and_stay_in_their_sample(
    delay: int, extra: int, stalls: tuple[float, float]
) -> None:
    dice = random.Random(delay)
    samples = [random_sample(ticks, dice) for ticks in (5, 5, 4, 6)]
    got = run_delay(delay, delay - 1 + extra, samples, stall_in=stalls[0], stall_out=stalls[1], seed=delay)
    assert got == [expected(delay, sample) for sample in samples]


@pytest.mark.parametrize("ticks", [1, 2, 3])
def test_a_sample_shorter_than_the_delay_delivers_nothing(ticks: int) -> None:
    dice = random.Random(ticks)
    samples = [[[dice.randrange(8)] for _ in range(ticks)] for _ in range(4)]
    assert run_delay(3, 3, [*samples, [[1], [2], [3], [4], [5]]]) == [
        *[[[]] * ticks] * 4,
        [[], [], [], [1], [2]],
    ]


def test_a_queue_has_room_for_full_ticks_before_the_first_is_read() -> None:
    """Two whole ticks of one event per beat fit a line of two held ticks while the reader takes nothing."""
    layout = EventLayout(8, (0, 1), 1)
    dut = Delay(layout, 2, 2)
    taken = 0

    async def bench(ctx: Any) -> None:
        nonlocal taken
        ctx.set(dut.i.valid, 1)
        for cycle in range(40):
            ctx.set(dut.i.payload.last, cycle % 9 == 8)
            taken += ctx.get(dut.i.ready)
            await ctx.tick()

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert taken >= 2 * (8 + 1)


def recurrent(delay: int) -> Network:
    """in -> a -> b, and b -> a and in -> b delayed."""
    one = np.array([1])
    params = {"decay": 200 * one, "threshold": 10 * one, "bias": 0 * one}
    return Network(
        (Input("in", 2),),
        (Population("a", 2, Lif(), params), Population("b", 2, Lif(), params)),
        (
            Projection("in-a", "in", "a", np.ones((2, 2), np.int64)),
            Projection("a-b", "a", "b", np.ones((2, 2), np.int64)),
            Projection("b-a", "b", "a", np.ones((2, 2), np.int64), delay=delay),
            Projection("in-b", "in", "b", np.ones((2, 2), np.int64), delay=delay),
        ),
        ("b",),
    )


@pytest.mark.parametrize("delay", [1, 3])
def test_only_a_source_that_waits_for_its_reader_saves_a_tick(delay: int) -> None:
    by_name = {q.name: q for q in recurrent(delay).projections}
    # b closes a tick only after a did; the input doesn't wait for b.
    assert ticks_held(recurrent(delay), by_name["b-a"]) == delay - 1
    assert ticks_held(recurrent(delay), by_name["in-b"]) == delay
