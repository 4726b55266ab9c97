"""Laws: vectors worked by hand from the published equations, checks of options, and training equal to golden."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from apical.sw.arithmetic import IntegerOps, TrainingOps
from apical.sw.laws import LAWS, AdaptiveLif, Law, LeakyIntegrator, Lif, Relu, TwoPoint, make_law, register


def tick(
    law: Law, state: dict[str, int], currents: dict[str, int], params: dict[str, int]
) -> tuple[dict[str, int], int]:
    """One neuron, one tick, on the golden backend."""

    def tensors(values: dict[str, int]) -> dict[str, torch.Tensor]:
        return {k: torch.tensor([v]) for k, v in values.items()}

    after, value = law.step(IntegerOps(), tensors(state), tensors(currents), tensors(params))
    return {k: int(v) for k, v in after.items()}, int(value)


LIF = {"decay": 230, "threshold": 100, "bias": 2}


@pytest.mark.parametrize(
    ("law", "v", "current", "after", "spike"),
    [
        # 230·50/256 = 44.92 -> 44; 44 + 30 + 2 = 76
        (Lif(), 50, 30, 76, 0),
        # floor goes down: 230·(-1)/256 = -0.9 -> -1; -1 + 0 + 2 = 1
        (Lif(), -1, 0, 1, 0),
        # 0 + 98 + 2 = 100: not above 100, but not below it either
        (Lif(), 0, 98, 100, 0),
        (Lif(compare="ge"), 0, 98, 0, 1),
        # 0 + 150 + 2 = 152; minus 100
        (Lif(), 0, 150, 52, 1),
        # the sum saturates at 127 before the compare, so 27 is left
        (Lif(state_bits=8), 0, 500, 27, 1),
        (Lif(state_bits=8), 0, -500, -128, 0),
    ],
)
def test_lif_by_hand(law: Lif, v: int, current: int, after: int, spike: int) -> None:
    assert tick(law, {"v": v}, {"basal": current}, LIF) == ({"v": after}, spike)


def test_lif_resets_to_a_value() -> None:
    params = {**LIF, "v_reset": -5}
    assert tick(Lif(reset="value"), {"v": 0}, {"basal": 150}, params) == ({"v": -5}, 1)
    assert tick(Lif(reset="value"), {"v": 0}, {"basal": 10}, params) == ({"v": 12}, 0)


def test_leaky_integrator_by_hand() -> None:
    # 243·(-100)/256 = -94.92 -> -95; -95 + 7 + 1 = -87; -87/4 = -21.75 -> -22
    assert tick(LeakyIntegrator(shift=2), {"v": -100}, {"basal": 7}, {"decay": 243, "bias": 1}) == ({"v": -87}, -22)


@pytest.mark.parametrize(("current", "value"), [(-1, 0), (0, 0), (63, 0), (64, 1), (639, 9), (10**6, 255)])
def test_relu_by_hand(current: int, value: int) -> None:
    assert tick(Relu(), {}, {"basal": current}, {"bias": 0}) == ({}, value)


@pytest.mark.parametrize(
    ("r", "c", "y"),
    [
        # in reals: y = ReLU6(R² + 2R + C(1 + |R|)); arXiv 2211.01950
        (1.0, 0.0, 3.0),
        (1.0, 1.0, 5.0),  # context amplifies
        (1.0, -1.0, 1.0),  # and attenuates
        (0.0, 0.5, 0.5),  # and drives alone
        (2.0, 3.0, 6.0),  # 4 + 4 + 9 saturates at 6
        (-1.0, 0.5, 0.0),  # 1 - 2 + 1 = 0
        (-3.0, 1.0, 1.0),  # R is clamped at -1: 1 - 2 + 2
        (0.5, 0.25, 1.625),  # 0.25 + 1 + 0.375
    ],
)
def test_two_point_by_hand(r: float, c: float, y: float) -> None:
    law = TwoPoint()  # 6 fraction bits after a shift of 5, values in 1/32
    currents = {"basal": int(r * 64 * 32), "apical": int(c * 64 * 32)}
    assert tick(law, {}, currents, {"bias_basal": 0, "bias_apical": 0}) == ({}, int(y * 32))


MODULATIONS = {
    "mcc": lambda r, c: r * r + 2 * r + c * (1 + abs(r)),
    "linear": lambda r, c: r + r * c,
    "tanh": lambda r, c: r * (1 + math.tanh(r * c)),
    "exp": lambda r, c: r * (1 + math.exp(r * c)) / 2,
    "power": lambda r, c: r * 2 ** (r * c),
}


@pytest.mark.parametrize("modulation", MODULATIONS)
def test_every_modulation_is_its_published_formula(modulation: Any) -> None:
    law = TwoPoint(modulation=modulation)  # 6 fraction bits after a shift of 5, values in 1/32
    for r in (-1.0, -0.5, 0.0, 0.25, 0.5, 1.0, 2.0):  # products of sixteenths: entries of the tables
        for c in (-4.0, -1.5, -1.0, -0.25, 0.0, 0.25, 0.5, 1.0, 2.0, 4.0):
            currents = {"basal": int(r * 64 * 32), "apical": int(c * 64 * 32)}
            _, value = tick(law, {}, currents, {"bias_basal": 0, "bias_apical": 0})
            expected = min(max(MODULATIONS[modulation](r, c), 0), 6) * 32
            assert abs(value - expected) <= 1 + abs(r) * 16 / 64 + (abs(r * c) > 4) * 64, (r, c)


def test_a_modulation_of_few_fraction_bits_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^law two_point: option fraction_bits: expected 3 to 10, got 2$"):
        TwoPoint(modulation="exp", fraction_bits=2)


SHIFTS = [law(leak="shift") for law in (Lif, LeakyIntegrator, AdaptiveLif)]
MODULATED = [
    TwoPoint(modulation="tanh", value_bits=2),
    TwoPoint(modulation="exp", value_bits=6),
    TwoPoint(modulation="power", value_bits=4),
    TwoPoint(modulation="linear", value_bits=8),
]


@pytest.mark.parametrize("law", [*(LAWS[name]() for name in sorted(LAWS)), *SHIFTS, *MODULATED], ids=str)
@settings(max_examples=60)
@given(data=st.data())
def test_training_computes_what_golden_computes(law: Law, data: st.DataObject) -> None:

    def draw(low: int, high: int) -> int:
        return data.draw(st.integers(low, high))

    state = {k: draw(*f.bounds) for k, f in law.states().items()}
    currents = {c: draw(-(2**15), 2**15) for c in law.compartments}
    params = {
        k: draw(p.low, p.high) if p.levels is None else data.draw(st.sampled_from(p.levels))
        for k, p in law.parameters().items()
    }
    expected_state, expected = tick(law, state, currents, params)

    def floats(values: dict[str, int]) -> dict[str, torch.Tensor]:
        return {k: torch.tensor([float(v)], dtype=torch.float64) for k, v in values.items()}

    after, value = law.step(TrainingOps(), floats(state), floats(currents), floats(params))
    assert {k: float(v) for k, v in after.items()} == expected_state
    assert float(value) == expected
    low, high = law.value_range()
    assert low <= expected <= high


def test_decays_of_one_shift_are_one_minus_a_power_of_two() -> None:
    decay = LeakyIntegrator(decay_bits=4, leak="shift").parameters()["decay"]
    assert decay.levels == (0, 8, 12, 14, 15, 16)
    assert LeakyIntegrator(decay_bits=4).parameters()["decay"].levels is None


def test_a_shift_leak_equals_the_multiplied_one_on_its_levels() -> None:
    params = {**LIF, "decay": 224}  # 256 - 32
    for v in (-1000, -33, -32, -1, 0, 1, 31, 32, 90):
        assert tick(Lif(leak="shift"), {"v": v}, {"basal": 3}, params) == tick(Lif(), {"v": v}, {"basal": 3}, params)
    assert tick(Lif(leak="shift"), {"v": -33}, {"basal": 0}, {**params, "bias": 0}) == ({"v": -29}, 0)  # -28.875


def test_an_added_option_is_stored_only_where_it_differs() -> None:
    assert "leak" not in Lif().options()
    assert Lif(leak="shift").options()["leak"] == "shift"
    assert "modulation" not in TwoPoint().options()


def test_an_unknown_law_is_named() -> None:
    with pytest.raises(ValueError, match=r"^unknown law 'izhikevich'; known: .*two_point"):
        make_law("izhikevich", {})


def test_options_make_the_law_again() -> None:
    law = Lif(compare="ge", state_bits=9)
    assert make_law("lif", law.options()) == law


def test_a_second_law_of_one_name_is_refused() -> None:
    @dataclass(frozen=True)
    class Other(Law):
        name: ClassVar[str] = "lif"

    with pytest.raises(ValueError, match=r"^law 'lif' is registered already by apical.sw.laws_lif.Lif$"):
        register(Other)


@pytest.mark.parametrize(
    ("law", "options", "message"),
    [
        (Relu, {"value_bits": 0}, "law relu: option value_bits: expected 1 to 16, got 0"),
        (TwoPoint, {"fraction_bits": 11}, "law two_point: option fraction_bits: expected 2 to 10, got 11"),
        (LeakyIntegrator, {"shift": 20}, "law leaky_integrator: option shift: expected 0 to 19, got 20"),
        (Lif, {"reset": "zero"}, r"law lif: option reset: expected one of \('subtract', 'value', .*, got 'zero'"),
    ],
)
def test_a_bad_option_is_named(law: type[Law], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        law(**options)
