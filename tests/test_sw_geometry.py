"""Convolution geometry, projections between maps and golden's sums, against PyTorch's and a plain loop."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from apical.sw import convolution, golden
from apical.sw.geometry import Axis, Geometry, GeometryError
from apical.sw.laws import Format, Relu
from apical.sw.network import Input, Network, NetworkError, Population, Projection

SHAPES = (
    Geometry((2, 7, 6), 6, (3, 3), (2, 1), (1, 0), (1, 2), 2),
    Geometry((3, 5, 5), 4, (3, 3), padding=(1, 1)),
    Geometry((1, 9, 4), 2, (2, 4), (3, 1), (4, 2)),
    Geometry((4, 6, 6), 4, (2, 2), (2, 2), groups=4),
    Geometry((2, 4, 4), 3, (1, 1), (3, 2)),
    Geometry((1, 8, 8), 1, (3, 2), (2, 3), (2, 1), (2, 3)),
)


def network(g: Geometry, pattern: Any = "conv") -> Network:
    random = np.random.default_rng(1)
    weights = random.integers(-8, 8, g.weights_shape) if pattern == "conv" else np.zeros(0, np.int64)
    size, sources = int(np.prod(g.target)), int(np.prod(g.source))
    cells = Population("map", size, Relu(shift=1), {"bias": random.integers(-9, 9, g.channels)}, shape=g.target)
    wire = Projection("p", "in", "map", weights, pattern=pattern, geometry=g)
    return Network((Input("in", sources, Format(4, False), g.source),), (cells,), (wire,), ("map",))


def as_dense(n: Network) -> Network:
    wires = [Projection(q.name, q.source, q.target, q.dense(), q.compartment) for q in n.projections]
    return replace(n, projections=tuple(wires))


@pytest.mark.parametrize("g", SHAPES)
def test_a_matrix_of_a_convolution_is_torch_s(g: Geometry) -> None:
    weights = np.random.default_rng(0).integers(-9, 9, g.weights_shape)
    basis = torch.eye(int(np.prod(g.source)), dtype=torch.float64).reshape(-1, *g.source)
    kernel = torch.from_numpy(weights).double()
    columns = torch.nn.functional.conv2d(basis, kernel, None, g.stride, g.padding, g.dilation, g.groups)
    assert tuple(columns.shape[1:]) == g.target
    np.testing.assert_array_equal(g.matrix(weights).T, columns.flatten(1).numpy())


@pytest.mark.parametrize("g", SHAPES)
def test_what_a_source_reaches_is_a_progression(g: Geometry) -> None:
    for axis in g.axes:
        tap_step, target_step = axis.steps
        for i in range(axis.source):
            pairs = axis.reached(i)
            first = pairs[0] if pairs else (0, 0)
            assert pairs == [(first[0] + n * tap_step, first[1] - n * target_step) for n in range(len(pairs))]


@pytest.mark.parametrize("g", SHAPES)
@pytest.mark.parametrize("pattern", ["conv", "pool"])
def test_golden_of_a_map_is_golden_of_its_matrix(g: Geometry, pattern: str) -> None:
    if pattern == "pool":
        g = replace(g, channels=g.source[0], groups=g.source[0])
    n = network(g, pattern)
    random = np.random.default_rng(2)
    x = random.integers(0, 16, (4, 3, n.input_size)) * (random.random((4, 3, n.input_size)) < 0.5)
    a, b = golden.run(n, x), golden.run(as_dense(n), x)
    np.testing.assert_array_equal(a.values["map"], b.values["map"])
    assert a.counters["projection p: events"] == b.counters["projection p: events"]
    ones = replace(n.projections[0], pattern="conv", weights=np.ones(g.weights_shape, np.int64)).dense()
    reached = int((x != 0).sum((0, 1)) @ (ones != 0).sum(0))
    assert n.projections[0].operations(a.counters) == reached
    np.testing.assert_array_equal(n.projections[0].fan_out, (ones != 0).sum(0))


@pytest.mark.parametrize("exact", [True, False])
def test_sums_at_the_bound_are_exact(monkeypatch: pytest.MonkeyPatch, exact: bool) -> None:
    monkeypatch.setattr(convolution, "_is_exact", lambda dtype: exact)
    g = Geometry((16, 6, 6), 5, (3, 3), padding=(1, 1))
    random = np.random.default_rng(0)
    for bits, dtype in ((24, torch.float32), (53, torch.float64)):
        most = int((2**bits / 144) ** 0.5)
        maps, kernel = random.integers(0, most + 1, (3, 16 * 36)), random.integers(most - 9, most + 1, g.weights_shape)
        got = convolution.convolve(torch.from_numpy(maps).to(dtype), torch.from_numpy(kernel).to(dtype), g)
        np.testing.assert_array_equal(got.long().numpy(), maps @ g.matrix(kernel).T)


def test_this_machine_s_convolution_is_tested_for_exactness() -> None:
    def rounds(maps: torch.Tensor, kernel: torch.Tensor, g: Geometry) -> torch.Tensor:
        return torch.nn.functional.conv2d(maps * 0.1, kernel * 10, None, g.stride, g.padding, g.dilation, g.groups)

    original, convolution._direct = convolution._direct, rounds
    try:
        assert not convolution._is_exact.__wrapped__(torch.float32)
    finally:
        convolution._direct = original
    assert convolution._is_exact.__wrapped__(torch.float32)


def test_the_bound_of_a_map_s_sum_is_reached() -> None:
    g = Geometry((2, 4, 4), 3, (3, 3))
    weights = np.random.default_rng(0).integers(-8, 8, g.weights_shape)
    p = Projection("p", "a", "b", weights, pattern="conv", geometry=g)
    bound, rows = p.sum_interval((0, 15)), weights.reshape(3, -1)
    assert bound.high == 15 * np.maximum(rows, 0).sum(1).max() and bound.low == 15 * np.minimum(rows, 0).sum(1).min()


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: Geometry((1, 4, 4), 1, (5, 5)),
            "kernel: (5, 5) with dilation (1, 1) doesn't fit into a map of (4, 4)",
        ),
        (lambda: Geometry((3, 4, 4), 4, (1, 1), groups=2), "groups: expected a number that divides 3 source and 4"),
        (lambda: Geometry((1, 4), 1, (1, 1)), "source: expected a shape (channels, height, width)"),  # type: ignore[arg-type]
        (lambda: Geometry((1, 4, 4), 1, (1, 1), (0, 1)), "stride: expected (rows, columns), each 1 to 63, got (0, 1)"),
    ],
)
def test_an_impossible_geometry_is_refused(build: Any, message: str) -> None:
    with pytest.raises(GeometryError, match="^" + re.escape(message)):
        build()


def changed(**more: Any) -> Projection:
    return replace(network(SHAPES[1]).projections[0], **more)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: changed(pattern="dense"), "projection 'p': expected a geometry for conv and pool only"),
        (lambda: changed(geometry=None), "projection 'p': expected a geometry for conv and pool only"),
        (lambda: changed(pattern="pool"), "projection 'p': expected weights of shape (0,), got (4, 3, 3, 3)"),
        (
            lambda: changed(pattern="pool", weights=np.zeros(0, np.int64)),
            "projection 'p': a pool has as many groups and target channels as source channels, 3, got 1 and 4",
        ),
        (
            lambda: changed(weights=np.full((4, 3, 3, 3), 128)),
            "projection 'p': expected weights of 8 bits, -128 to 127, got 128 at target 0, source 0, tap (0, 0)",
        ),
        (
            lambda: Network((Input("in", 75, Format(4, False)),), *made()),
            "projection 'p': expected 'in' of shape (3, 5, 5), got None",
        ),
        (
            lambda: Population("m", 8, Relu(), {"bias": np.zeros(1, np.int64)}, shape=(2, 2, 3)),
            "population 'm': expected a shape of 8 in all, got (2, 2, 3), 12",
        ),
        (
            lambda: Population("m", 8, Relu(), {"bias": np.zeros(3, np.int64)}, shape=(2, 2, 2)),
            "population 'm', parameter 'bias': expected shape (1,) or (2,) or (8,), got (3,)",
        ),
    ],
)
def test_a_projection_that_breaks_a_rule_is_refused(build: Any, message: str) -> None:
    with pytest.raises(NetworkError, match="^" + re.escape(message)):
        build()


def made() -> tuple[Any, ...]:
    n = network(SHAPES[1])
    return n.populations, n.projections, n.outputs


def test_an_axis_without_padding_reaches_fewer_at_its_ends() -> None:
    assert Axis(5, 3, 1, 0, 1).counts.tolist() == [1, 2, 3, 2, 1]
    assert Axis(5, 2, 2, 0, 1).counts.tolist() == [1, 1, 1, 1, 0]


def test_work_of_a_map_is_counted_at_its_borders() -> None:
    from apical.sw import energy

    for pattern in ("conv", "pool"):
        g = replace(SHAPES[3], padding=(1, 1))
        n = network(g, pattern)
        x = np.ones((1, 1, n.input_size), np.int64)
        trace = golden.run(n, x)
        counts = energy.counts(n, trace)
        assert counts["synaptic_operation"] == n.projections[0].fan_out.sum() < 4 * n.input_size
        assert counts["weight_read"] == counts["multiply"] == (counts["add"] if pattern == "conv" else 0)
        assert counts["parameter_read"] == n.populations[0].size  # read per neuron, held per channel
        assert energy.baseline(n, 1, 1)["int8, one pass"]["synaptic_operation"] == counts["synaptic_operation"]


def test_single_cells_of_a_map_can_t_die_but_its_kernels_can() -> None:
    from apical.sw.damage import DamageError, damage

    n = network(SHAPES[1])
    with pytest.raises(DamageError, match=r"^population 'map': expected cells with weights of their own, got a map"):
        damage(n, 0.5, what="stream:map")
    damaged = damage(n, 0.5, what="synapses")
    assert damaged.synapses == round(np.count_nonzero(n.projections[0].weights) * 0.5)
    half = damage(n, 0.5, what="stream:in")
    assert half.facts()["channels"] == 38 and half.network == n
