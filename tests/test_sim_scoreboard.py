"""The scoreboard names the first difference: sample, tick, population, neuron, signal and both values."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from apical.sim.scoreboard import first_divergence, mismatches
from apical.sw.golden import Trace


def make_trace() -> Trace:
    """Two populations of 4 and 2 neurons, 3 samples of 5 ticks; the second is the output."""
    r = np.random.default_rng(0)
    hidden, out = r.integers(0, 2, (3, 5, 4)), r.integers(-9, 9, (3, 5, 2))
    return Trace(
        {"hidden": hidden, "out": out},
        {"out": out.copy()},
        {"projection a: events": 7, "population out: updates": 30},
        {"hidden": {"v": r.integers(-50, 50, (3, 5, 4)), "a": r.integers(0, 9, (3, 5, 4))}},
    )


@pytest.fixture
def golden() -> Trace:
    return make_trace()


@pytest.fixture
def rtl() -> Trace:
    return copy.deepcopy(make_trace())


def test_equal_traces_have_no_divergence(golden: Trace, rtl: Trace) -> None:
    assert first_divergence(golden, rtl) is None
    assert mismatches(golden, rtl) == 0


def test_a_value_is_named_with_place_and_both_values(golden: Trace, rtl: Trace) -> None:
    golden.values["hidden"][1, 2, 3], rtl.values["hidden"][1, 2, 3] = 1, 0
    assert str(first_divergence(golden, rtl)) == (
        "first divergence: sample 1, tick 2, population 'hidden', neuron 3, value: golden 1, RTL 0"
    )


def test_a_state_is_named(golden: Trace, rtl: Trace) -> None:
    golden.states["hidden"]["a"][2, 4, 0], rtl.states["hidden"]["a"][2, 4, 0] = 8, -2
    assert str(first_divergence(golden, rtl)) == (
        "first divergence: sample 2, tick 4, population 'hidden', neuron 0, a: golden 8, RTL -2"
    )


def test_an_output_that_differs_from_the_law_s_result_is_named_as_output(golden: Trace, rtl: Trace) -> None:
    golden.outputs["out"][0, 3, 1], rtl.outputs["out"][0, 3, 1] = 5, 0
    assert str(first_divergence(golden, rtl)) == (
        "first divergence: sample 0, tick 3, population 'out', neuron 1, output: golden 5, RTL 0"
    )


def test_a_counter_is_named_where_nothing_else_differs(golden: Trace, rtl: Trace) -> None:
    rtl.counters["projection a: events"] = 8
    found = first_divergence(golden, rtl)
    assert str(found) == "first divergence: counter 'projection a: events': golden 7, RTL 8"
    assert found is not None and found.sample is None


def test_any_array_comes_before_a_counter(golden: Trace, rtl: Trace) -> None:
    rtl.counters["projection a: events"] = 8
    rtl.values["out"][2, 4, 1] += 1
    found = first_divergence(golden, rtl)
    assert found is not None and (found.sample, found.tick, found.neuron, found.signal) == (2, 4, 1, "value")


@pytest.mark.parametrize(("late", "early"), [((1, 0), (0, 4)), ((2, 3), (2, 1))])
def test_the_earliest_sample_and_tick_win_over_the_order_of_populations(
    golden: Trace, rtl: Trace, late: tuple[int, int], early: tuple[int, int]
) -> None:
    rtl.values["hidden"][(*late, 0)] += 1
    rtl.values["out"][(*early, 1)] += 1
    found = first_divergence(golden, rtl)
    assert found is not None and (found.population, found.sample, found.tick) == ("out", *early)


def test_within_a_tick_a_state_comes_before_the_value_that_it_causes(golden: Trace, rtl: Trace) -> None:
    rtl.values["hidden"][1, 1, 0] += 1
    rtl.states["hidden"]["v"][1, 1, 2] += 1
    found = first_divergence(golden, rtl)
    assert found is not None and (found.signal, found.neuron) == ("v", 2)


def test_states_are_compared_only_where_both_have_them(golden: Trace, rtl: Trace) -> None:
    rtl.states.clear()
    assert first_divergence(golden, rtl) is None


def test_mismatches_counts_samples_once(golden: Trace, rtl: Trace) -> None:
    rtl.values["hidden"][0] += 1
    rtl.outputs["out"][0, 0, 0] += 1
    rtl.states["hidden"]["v"][2, 3, 1] += 1
    assert mismatches(golden, rtl) == 2


def test_an_output_missing_in_the_rtl_is_an_error(golden: Trace, rtl: Trace) -> None:
    del rtl.outputs["out"]
    with pytest.raises(ValueError, match=r"^scoreboard: the RTL's trace has no output 'out'; has \[\]$"):
        first_divergence(golden, rtl)


def test_a_population_missing_in_the_rtl_is_an_error(golden: Trace, rtl: Trace) -> None:
    del rtl.values["hidden"]
    with pytest.raises(ValueError, match=r"^scoreboard: the RTL's trace has no population 'hidden'; has \['out'\]$"):
        first_divergence(golden, rtl)


def test_traces_of_other_shapes_are_an_error(golden: Trace, rtl: Trace) -> None:
    rtl.values["hidden"] = rtl.values["hidden"][:, :4]
    message = r"^scoreboard: 'hidden' value: golden has shape \(3, 5, 4\), the RTL \(3, 4, 4\)$"
    with pytest.raises(ValueError, match=message):
        first_divergence(golden, rtl)


def test_a_counter_in_one_trace_only_is_an_error(golden: Trace, rtl: Trace) -> None:
    del rtl.counters["population out: updates"]
    with pytest.raises(ValueError, match=r"^scoreboard: counter 'population out: updates' is in one trace only$"):
        first_divergence(golden, rtl)
