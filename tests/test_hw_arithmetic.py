"""The backends of the ops protocol agree, and hardware is no wider than the width analysis proves."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from amaranth.back import rtlil
from amaranth.hdl import Module, Signal
from amaranth.sim import Simulator
from hypothesis import given, settings
from hypothesis import strategies as st

from apical.hw.arithmetic import AmaranthOps, Wire, constant, shape_of
from apical.sw.arithmetic import IntegerOps, TrainingOps
from apical.sw.ranges import Interval, IntervalOps

Expression = tuple[Any, ...]


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> Expression:
    """A random tree of operations over the inputs a, b, c."""
    if depth == 0 or draw(st.integers(0, 5)) == 0:
        return ("input", draw(st.sampled_from("abc")))
    sub = expressions(depth=depth - 1)
    kind = draw(
        st.sampled_from(
            ["add", "sub", "mul", "mul_constant", "shift", "clip", "gt", "ge", "select", "absolute", "table", "square"]
        )
    )
    if kind in ("add", "sub", "mul", "gt", "ge"):
        return (kind, draw(sub), draw(sub))
    if kind == "mul_constant":
        return (kind, draw(sub), draw(st.integers(-40, 40)))
    if kind == "shift":
        return (kind, draw(sub), draw(st.integers(0, 6)))
    if kind == "clip":
        low = draw(st.integers(-300, 300))
        power = draw(st.integers(1, 8))
        formats = [(-(1 << power), (1 << power) - 1), (0, (1 << power) - 1), (low, low + draw(st.integers(0, 300)))]
        return (kind, draw(sub), *draw(st.sampled_from(formats)))
    if kind == "select":
        return (kind, ("gt", draw(sub), draw(sub)), draw(sub), draw(sub))
    if kind == "table":
        return (kind, draw(sub), tuple(draw(st.lists(st.integers(-20, 20), min_size=1, max_size=9))), -3)
    return (kind, draw(sub))


def evaluate(ops: Any, expression: Expression, inputs: dict[str, Any]) -> Any:
    kind, *args = expression
    if kind == "input":
        return inputs[args[0]]
    values = [evaluate(ops, a, inputs) if isinstance(a, tuple) and a and isinstance(a[0], str) else a for a in args]
    if kind == "square":
        return ops.mul(values[0], values[0])
    return getattr(ops, "mul" if kind == "mul_constant" else kind)(*values)


RANGES = {"a": Interval(-100, 100), "b": Interval(0, 15), "c": Interval(-8, 7)}
POINTS = [(-100, 0, -8), (100, 15, 7), (0, 0, 0), (37, 3, -5), (-1, 15, -1), (64, 8, 1)]


@settings(max_examples=60, derandomize=True)
@given(expressions())
def test_every_backend_computes_the_same_integers_within_the_proven_interval(expression: Expression) -> None:
    ranges = IntervalOps()
    interval = evaluate(ranges, expression, RANGES)
    if ranges.magnitude >= 1 << 24:
        return  # float32 training isn't exact there; the width analysis would choose float64
    m = Module()
    m._MustUse__silence = True  # a failing example leaves it unused
    signals = {k: Signal(shape_of(r), name=k) for k, r in RANGES.items()}
    out = evaluate(AmaranthOps(m), expression, {k: Wire(s, RANGES[k], 0) for k, s in signals.items()})
    assert interval.low <= out.interval.low and out.interval.high <= interval.high
    dut_out = Signal(shape_of(out.interval))
    m.d.comb += dut_out.eq(out.value)
    expected = []
    for point in POINTS:
        integers = evaluate(IntegerOps(), expression, dict(zip("abc", map(torch.tensor, point), strict=True)))
        floats = evaluate(
            TrainingOps(), expression, dict(zip("abc", map(torch.tensor, map(float, point)), strict=True))
        )
        assert int(integers) == float(floats), f"{expression} at {point}"
        assert interval.low <= int(integers) <= interval.high
        expected.append(int(integers))

    got = []

    async def bench(ctx: Any) -> None:
        for point in POINTS:
            for k, v in zip("abc", point, strict=True):
                ctx.set(signals[k], v)
            for _ in range(max(out.stage, 0)):
                await ctx.tick()
            got.append(ctx.get(dut_out))

    m.d.sync += Signal().eq(1)  # a clock even for expressions without registers
    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert got == expected, f"{expression}: expected {expected}, got {got}"


@pytest.mark.parametrize(("factor", "multiplier"), [(1, False), (64, False), (240, False), (-96, False), (201, True)])
def test_constant_factors_of_two_powers_need_no_multiplier(factor: int, multiplier: bool) -> None:
    m = Module()
    m._MustUse__silence = True
    a = Wire(Signal(8), Interval(0, 255), 0)
    product = AmaranthOps(m).mul(a, constant(factor))
    assert (product.stage == 2) == multiplier  # a multiplier takes two stages, a shift none, one add or subtract one


@pytest.mark.parametrize("factors", [(15,), (16,), (0, 8), (12, 15, 16), (0, 8, 12, 14, 15, 16)], ids=str)
@pytest.mark.parametrize("bounds", [(-37, 90), (0, 63), (-256, 255)], ids=str)
def test_a_leak_by_shifts_is_the_floored_product_without_a_multiplier(
    factors: tuple[int, ...], bounds: tuple[int, int]
) -> None:
    m = Module()
    interval, ranges = Interval(*bounds), Interval(min(factors), max(factors))
    a, d = Signal(shape_of(interval)), Signal(shape_of(ranges))
    made = AmaranthOps(m).leak(Wire(a, interval, 0), Wire(d, ranges, 0, values=frozenset(factors)), 4)
    out = Signal(shape_of(made.interval))
    m.d.comb += out.eq(made.value)
    m.d.sync += Signal().eq(1)
    assert "$mul" not in rtlil.convert(m, ports=[a, d, out])
    wrong = []

    async def bench(ctx: Any) -> None:
        for v in range(bounds[0], bounds[1] + 1):
            for factor in factors:
                ctx.set(a, v)
                ctx.set(d, factor)
                await ctx.tick().repeat(max(made.stage, 1))
                if ctx.get(out) != v * factor // 16:
                    wrong.append((v, factor, ctx.get(out)))

    simulator = Simulator(m)
    simulator.add_clock(1e-6)
    simulator.add_testbench(bench)
    simulator.run()
    assert wrong == []
    assert made.stage == (0 if factors == (16,) else 1 if len(factors) <= 2 else 2)


def test_shape_is_the_narrowest() -> None:
    assert [shape_of(Interval(*r)).width for r in ((0, 0), (0, 1), (-1, 0), (-128, 127), (0, 256))] == [1, 1, 1, 8, 9]
