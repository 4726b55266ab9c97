"""The ops protocol: every backend computes what Python integers compute; gradients pass as documented."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from apical.sw.arithmetic import IntegerOps, TrainingOps, nearest_straight_through, round_straight_through

SMALL = st.integers(-(2**20), 2**20)
TABLE = (3, -1, 4, 1, -5, 9)

CASES: dict[str, tuple[Callable[[Any, Any, Any], Any], Callable[[int, int], int]]] = {
    "add": (lambda o, a, b: o.add(a, b), lambda a, b: a + b),
    "sub": (lambda o, a, b: o.sub(a, b), lambda a, b: a - b),
    "mul": (lambda o, a, b: o.mul(a, b), lambda a, b: a * b),
    "gt": (lambda o, a, b: o.gt(a, b), lambda a, b: int(a > b)),
    "ge": (lambda o, a, b: o.ge(a, b), lambda a, b: int(a >= b)),
    "shift": (lambda o, a, b: o.shift(a, 3), lambda a, b: a // 8),
    "no shift": (lambda o, a, b: o.shift(a, 0), lambda a, b: a),
    "clip": (lambda o, a, b: o.clip(a, -100, 77), lambda a, b: max(-100, min(77, a))),
    "select": (lambda o, a, b: o.select(o.gt(a, b), a, b), lambda a, b: max(a, b)),
    "absolute": (lambda o, a, b: o.absolute(a), lambda a, b: abs(a)),
    "table": (lambda o, a, b: o.table(a, TABLE, -2), lambda a, b: TABLE[max(0, min(5, a + 2))]),
    "leak": (
        lambda o, a, b: o.leak(a, o.add(o.select(o.gt(b, 0), 7, 6), 0 * a), 3),
        lambda a, b: (a * (6 + (b > 0))) // 8,
    ),
    "constant first": (lambda o, a, b: o.sub(7, a), lambda a, b: 7 - a),
}


@pytest.mark.parametrize("case", sorted(CASES))
@pytest.mark.parametrize("backend", ["int64", "training"])
@given(a=SMALL | st.integers(-5, 5), b=SMALL | st.integers(-5, 5))
def test_a_backend_computes_as_integers_do(case: str, backend: str, a: int, b: int) -> None:
    run, expected = CASES[case]
    ops: Any = IntegerOps() if backend == "int64" else TrainingOps()
    dtype = torch.int64 if backend == "int64" else torch.float64
    got = run(ops, torch.tensor([a], dtype=dtype), torch.tensor([b], dtype=dtype))
    assert got.dtype == dtype
    assert int(got) == expected(a, b)


def gradient(run: Callable[[torch.Tensor], torch.Tensor], at: float) -> float:
    x = torch.tensor([at], dtype=torch.float64, requires_grad=True)
    run(x).sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    return float(x.grad)


def test_gradient_of_a_shift_is_the_slope() -> None:
    assert gradient(lambda x: TrainingOps().shift(x, 3), 13.0) == 1 / 8


def test_gradient_of_a_clip_stops_outside() -> None:
    assert gradient(lambda x: TrainingOps().clip(x, -4, 4), 3.0) == 1
    assert gradient(lambda x: TrainingOps().clip(x, -4, 4), 5.0) == 0


@pytest.mark.parametrize(("at", "slope"), [(10.0, 0.25), (12.0, 0.125), (15.0, 0.0)])
def test_gradient_of_a_compare_is_the_surrogate(at: float, slope: float) -> None:
    """The triangle of width 4 around the threshold of 10: max(0, 1 - |d|/4)/4."""
    assert gradient(lambda x: TrainingOps(4.0).gt(x, 10), at) == slope


def test_gradient_of_a_round_is_one() -> None:
    assert gradient(round_straight_through, 2.3) == 1


def test_gradient_of_a_leak_is_that_of_the_product() -> None:
    """floor(v d / 16): d / 16 for the value, v / 16 for the decay."""
    ops, fixed = TrainingOps(), torch.tensor([14.0], dtype=torch.float64)
    assert gradient(lambda v: ops.leak(v, fixed, 4), -13.0) == 14 / 16
    assert gradient(lambda d: ops.leak(fixed, d, 4), 12.0) == 14 / 16


@pytest.mark.parametrize(("x", "level"), [(-3.0, 0), (3.9, 0), (4.1, 8), (10.0, 8), (10.1, 12), (13.1, 14), (99.0, 16)])
def test_the_nearest_level_is_taken_and_the_gradient_is_one(x: float, level: int) -> None:
    levels = (0, 8, 12, 14, 15, 16)
    assert nearest_straight_through(torch.tensor([x]), levels).item() == level
    assert gradient(lambda t: nearest_straight_through(t, levels), x) == 1


def test_gradient_of_a_table_is_the_slope_of_its_neighbours() -> None:
    assert gradient(lambda x: TrainingOps().table(x, (0, 1, 4, 9), 0), 2.0) == 4  # (9 - 1) / 2
