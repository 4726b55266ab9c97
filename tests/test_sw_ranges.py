"""Width analysis: intervals hold every value that can come, and a law that leaves its formats is refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apical.sw.arithmetic import IntegerOps, Ops, V
from apical.sw.laws import LAWS, Format, Law
from apical.sw.ranges import Interval, IntervalOps, analyse

BOUNDS = st.tuples(st.integers(-300, 300), st.integers(-300, 300)).map(lambda p: Interval(min(p), max(p)))
OPERATIONS = ("add", "sub", "mul", "square", "shift", "clip", "gt", "ge", "select", "absolute", "table")


def apply(ops: Any, name: str, a: Any, b: Any) -> Any:
    if name in ("add", "sub", "mul", "gt", "ge"):
        return getattr(ops, name)(a, b)
    if name == "square":
        return ops.mul(a, a)
    if name == "shift":
        return ops.shift(a, 2)
    if name == "clip":
        return ops.clip(a, -20, 35)
    if name == "select":
        return ops.select(ops.gt(a, b), a, b)
    return ops.absolute(a) if name == "absolute" else ops.table(a, (5, -3, 8, 0, 2), -1)


@pytest.mark.parametrize("name", OPERATIONS)
@given(a=BOUNDS, b=BOUNDS, data=st.data())
def test_an_interval_holds_every_result(name: str, a: Interval, b: Interval, data: st.DataObject) -> None:
    x, y = (data.draw(st.integers(i.low, i.high)) for i in (a, b))
    interval = apply(IntervalOps(), name, a, b)
    value = int(apply(IntegerOps(), name, torch.tensor([x]), torch.tensor([y])))
    assert interval.low <= value <= interval.high


@pytest.mark.parametrize("name", ["add", "sub", "mul", "shift", "clip", "absolute"])
@given(a=BOUNDS, b=BOUNDS)
def test_an_interval_is_no_wider_than_its_corners(name: str, a: Interval, b: Interval) -> None:
    corners = [(x, y) for x in {a.low, a.high, min(max(0, a.low), a.high)} for y in (b.low, b.high)]
    values = [int(apply(IntegerOps(), name, torch.tensor([x]), torch.tensor([y]))) for x, y in corners]
    assert apply(IntervalOps(), name, a, b) == Interval(min(values), max(values))


@pytest.mark.parametrize("name", sorted(LAWS))
@settings(max_examples=40)
@given(data=st.data())
def test_every_law_keeps_its_formats(name: str, data: st.DataObject) -> None:
    law = LAWS[name]()
    currents = {c: data.draw(BOUNDS) for c in law.compartments}
    params = {k: Interval(p.low, p.high) for k, p in law.parameters().items()}
    found = analyse(law, currents, params)
    assert all(found.states[k].inside(Interval(*f.bounds)) for k, f in law.states().items())
    assert found.magnitude >= max(i.magnitude for i in currents.values())


@dataclass(frozen=True)
class Leaky(Law):
    """A law with a defect: nothing bounds its state."""

    name: ClassVar[str] = "test_leaky"
    keeps: bool = False

    def states(self) -> dict[str, Format]:
        return {"v": Format(8)}

    def value_range(self) -> tuple[int, int]:
        return 0, 1

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        v = ops.add(state["v"], currents["basal"])
        kept = ops.clip(v, -128, 127) if self.keeps else v
        return {"v": kept}, kept


def test_a_state_that_leaves_its_format_is_named() -> None:
    with pytest.raises(
        ValueError,
        match=r"^law test_leaky of population 'x': state 'v' is declared in \[-128, 127\] but step can leave it at "
        r"\[-128, 130\]; clip it$",
    ):
        analyse(Leaky(), {"basal": Interval(0, 3)}, {}, " of population 'x'")


def test_a_value_that_leaves_its_range_is_named() -> None:
    with pytest.raises(ValueError, match=r"value is declared in \[0, 1\] but step can return \[-128, 127\]; clip it$"):
        analyse(Leaky(keeps=True), {"basal": Interval(0, 3)}, {})


def test_magnitude_covers_the_widest_intermediate() -> None:
    ops = IntervalOps()
    ops.shift(ops.mul(Interval(-7, 9), Interval(0, 100)), 8)
    assert ops.magnitude == 900


def test_an_empty_interval_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^interval: expected low <= high, got \[2, 1\]$"):
        Interval(2, 1)
