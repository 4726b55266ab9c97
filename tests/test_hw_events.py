"""The fork: every reader gets every beat once, in order, whatever the readiness of the others."""

from __future__ import annotations

import random
from typing import Any

import pytest
from amaranth.sim import Simulator

from apical.hw.events import EventLayout, Fork

Beat = tuple[int, int, int, int]  # keep, row, last, final


def run_fork(beats: list[Beat], readers: int, ready: float, offer: float, seed: int) -> tuple[list[list[Beat]], int]:
    """What each reader took, and the cycles until the last one had all; probabilities are per cycle."""
    dut, dice = Fork(EventLayout(8, (0, 1), 1), readers), random.Random(seed)
    taken: list[list[Beat]] = [[] for _ in range(readers)]
    cycles = 0

    async def bench(ctx: Any) -> None:
        nonlocal cycles
        sent, offered = 0, False
        waits: list[bool] = [False] * readers
        outputs = [getattr(dut, f"o{n}") for n in range(readers)]
        while any(len(t) < len(beats) for t in taken):
            assert cycles < 100 * len(beats), f"stuck with {[len(t) for t in taken]} of {len(beats)} beats"
            offered = sent < len(beats) and (offered or dice.random() < offer)
            ctx.set(dut.i.valid, offered)
            if offered:
                keep, row, last, final = beats[sent]
                ctx.set(dut.i.payload, {"keep": keep, "rows": [row], "last": last, "final": final})
            for n, out in enumerate(outputs):
                assert ctx.get(out.valid) or not waits[n], f"reader {n}: valid fell before the beat was taken"
                accepts = dice.random() < ready
                ctx.set(out.ready, accepts)
                if ctx.get(out.valid) and accepts:
                    p = ctx.get(out.payload)
                    taken[n].append((p.keep, p.rows[0], p.last, p.final))
                waits[n] = bool(ctx.get(out.valid)) and not accepts
            moved = offered and ctx.get(dut.i.ready)
            await ctx.tick()
            cycles += 1
            if moved:
                sent, offered = sent + 1, False

    simulator = Simulator(dut)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    return taken, cycles


def some_beats(count: int, seed: int) -> list[Beat]:
    dice = random.Random(seed)
    return [(dice.randrange(2), dice.randrange(8), dice.randrange(2), dice.randrange(2)) for _ in range(count)]


@pytest.mark.parametrize(("readers", "ready", "offer"), [(2, 0.5, 0.5), (2, 0.1, 1.0), (3, 0.5, 1.0), (3, 0.9, 0.3)])
def test_every_reader_gets_every_beat_once(readers: int, ready: float, offer: float) -> None:
    beats = some_beats(60, seed=readers)
    taken, _ = run_fork(beats, readers, ready, offer, seed=7)
    assert taken == [beats] * readers


def test_ready_readers_cost_no_cycle() -> None:
    beats = some_beats(40, seed=1)
    taken, cycles = run_fork(beats, 3, ready=1.0, offer=1.0, seed=0)
    assert taken == [beats] * 3
    assert cycles == len(beats)


@pytest.mark.parametrize(
    ("value_range", "width", "signed"),
    [((0, 1), 1, False), ((0, 255), 8, False), ((-1, 0), 1, True), ((-8, 7), 4, True), ((-9, 7), 5, True)],
)
def test_the_value_field_is_as_wide_as_the_values_need(value_range: tuple[int, int], width: int, signed: bool) -> None:
    layout = EventLayout(10, value_range, 2)
    assert (layout.value_shape.width, layout.value_shape.signed) == (width, signed)
    assert ("values" in dict(layout)) == (value_range != (0, 1))


def test_a_single_class_has_a_row_per_source() -> None:
    assert (EventLayout(10, (0, 1), 4).rows, EventLayout(10, (0, 1), 4, classes=1).rows) == (3, 10)
