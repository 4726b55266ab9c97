"""The network graph: every rule is checked when it is built, and the message says where."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from apical.sw.laws import Format, Lif
from apical.sw.network import Input, IntArray, Network, NetworkError, Population, Projection
from apical.sw.ranges import Interval


def ints(*values: int) -> IntArray:
    return np.array(values, np.int64)


def cell(name: str = "a", size: int = 2, **params: IntArray) -> Population:
    return Population(name, size, Lif(), {"decay": ints(0), "threshold": ints(1), "bias": ints(0), **params})


def wire(name: str, source: str, target: str, shape: tuple[int, int] = (2, 2), **more: Any) -> Projection:
    return Projection(name, source, target, np.ones(shape, np.int64), **more)


def two_cells(*projections: Projection, **more: Any) -> Network:
    parts: dict[str, Any] = {"outputs": ("b",), **more}
    return Network((Input("in", 2),), (cell("a"), cell("b")), projections, **parts)


CHAIN = (wire("p", "in", "a"), wire("q", "a", "b"))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Input("", 2), "input: expected a name of 1 to 100 characters, got ''"),
        (lambda: Input("a\nb", 2), "input: expected a name without control characters"),
        (lambda: Input("a", 0), "input 'a': expected 1 to 1048576 channels, got 0"),
        (lambda: cell("a", 0), "population 'a': expected 1 to 1048576 neurons, got 0"),
        (
            lambda: Population("a", 2, Lif(), {}),
            r"'a': expected parameters \['bias', 'decay', 'threshold'\], got",
        ),
        (lambda: cell(decay=ints(257)), "population 'a', parameter 'decay': expected 0 to 256, got 257"),
        (
            lambda: Population("a", 2, Lif(leak="shift"), dict(cell(decay=ints(252, 250)).params)),
            r"'a', parameter 'decay': expected values v where 256 - v is 0 or a power of two, got 250",
        ),
        (lambda: cell(decay=ints(1, 2, 3)), r"parameter 'decay': expected shape \(1,\) or \(2,\), got \(3,\)"),
        (lambda: cell(decay=np.array([0.5])), "parameter 'decay': expected integers, got float64"),
        (lambda: replace(cell(), initial={"w": ints(0)}), r"unknown state 'w' among the start states; has \['v'\]"),
        (lambda: replace(cell(), initial={"v": ints(40000)}), "start state 'v': expected -32768 to 32767, got 40000"),
        (lambda: wire("p", "x", "a", weight_bits=1), "projection 'p': expected 2 to 16 weight bits, got 1"),
        (lambda: wire("p", "x", "a", delay=-1), "projection 'p': expected a delay of 0 to 1024 ticks, got -1"),
        (lambda: wire("p", "x", "a", shape=(0, 2)), r"expected weights of shape \(targets, sources\), got \(0, 2\)"),
        (lambda: two_cells(), "population 'a': compartment 'basal' has no projection"),
        (lambda: two_cells(*CHAIN, outputs=("c",)), r"output 'c': no such population; has \['a', 'b'\]"),
        (lambda: two_cells(*CHAIN, outputs=()), "network 'network': expected at least one of outputs, got none"),
        (lambda: two_cells(*CHAIN, outputs=("b", "b")), "outputs: a name comes twice"),
        (
            lambda: two_cells(*CHAIN, decoder="mean"),
            r"decoder: expected one of \('sum', 'last', 'rate', 'tick'\) or none",
        ),
        (lambda: two_cells(*CHAIN, wire("p", "in", "b")), "projection 'p': the name comes twice"),
        (lambda: two_cells(*CHAIN, wire("r", "c", "b")), "projection 'r': no node 'c'; has"),
        (lambda: two_cells(*CHAIN, wire("r", "a", "in")), "projection 'r': its target 'in' is an input"),
        (
            lambda: two_cells(*CHAIN, wire("r", "a", "b", compartment="apical")),
            r"projection 'r': law lif has compartments \('basal',\), got 'apical'",
        ),
        (
            lambda: two_cells(*CHAIN, wire("r", "a", "b", shape=(2, 3))),
            r"projection 'r': expected weights of shape \(2, 2\), got \(2, 3\)",
        ),
        (lambda: two_cells(*CHAIN, wire("r", "b", "a")), r"populations \['a', 'b'\] form a cycle of delay 0"),
    ],
)
def test_a_broken_rule_is_named(build: Callable[[], object], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        build()


def test_a_cycle_with_a_delay_is_a_network() -> None:
    network = two_cells(*CHAIN, wire("back", "b", "a", delay=1))
    assert network.order == ("a", "b")


def test_order_follows_the_projections_not_the_listing() -> None:
    network = two_cells(wire("p", "in", "b"), wire("q", "b", "a"), outputs=("a",))
    assert network.order == ("b", "a")


def test_weights_are_a_read_only_copy() -> None:
    mine = np.ones((2, 2), np.int64)
    projection = Projection("p", "in", "a", mine)
    mine[0, 0] = 99
    assert projection.weights[0, 0] == 1
    with pytest.raises(ValueError, match="read-only"):
        projection.weights[0, 0] = 3


@pytest.mark.parametrize(
    ("value_range", "expected"),
    [((0, 1), Interval(-5, 4)), ((0, 3), Interval(-15, 12)), ((-2, 1), Interval(-13, 14)), ((2, 3), Interval(-15, 12))],
)
def test_sum_interval_bounds_every_partial_sum(value_range: tuple[int, int], expected: Interval) -> None:
    weights = np.array([[4, -5, 0], [1, 1, 1]], np.int64)
    assert Projection("p", "in", "a", weights).sum_interval(value_range) == expected


def test_currents_add_up_over_projections() -> None:
    network = two_cells(*CHAIN, wire("r", "in", "b"))
    assert network.currents(network.populations[1]) == {"basal": Interval(0, 4)}


def test_a_format_has_its_bounds() -> None:
    assert Format(8).bounds == (-128, 127)
    assert Format(1, signed=False).bounds == (0, 1)
