"""The golden model against a reference of plain Python loops, which shares no code with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apical.sw import golden
from apical.sw.laws import LeakyIntegrator, Lif, Relu
from apical.sw.network import Input, IntArray, Network, NetworkError, Population, Projection


def ints(*values: int) -> IntArray:
    return np.array(values, np.int64)


def clip(a: int, low: int, high: int) -> int:
    return max(low, min(high, a))


def neuron(law: Any, v: int, currents: dict[str, int], p: dict[str, int]) -> tuple[int, int]:
    """One tick of one neuron in Python integers, written from the equations in the laws' docstrings."""
    if law.name == "lif":
        u = clip(v * p["decay"] // 2**law.decay_bits + currents["basal"] + p["bias"], *law.states()["v"].bounds)
        spike = u > p["threshold"] if law.compare == "gt" else u >= p["threshold"]
        after = p["v_reset"] if law.reset == "value" else u - p["threshold"]
        return (after if spike else u), int(spike)
    if law.name == "leaky_integrator":
        u = clip(v * p["decay"] // 2**law.decay_bits + currents["basal"] + p["bias"], *law.states()["v"].bounds)
        return u, u // 2**law.shift
    if law.name == "relu":
        return 0, clip((currents["basal"] + p["bias"]) // 2**law.shift, 0, 2**law.value_bits - 1)
    one = 2**law.fraction_bits
    r = clip((currents["basal"] + p["bias_basal"]) // 2**law.shift, -one, 8 * one - 1)
    c = clip((currents["apical"] + p["bias_apical"]) // 2**law.shift, -8 * one, 8 * one - 1)
    m = r * r + 2 * one * r + c * (one + abs(r))
    top = min(6 * 2**law.value_fraction_bits, 2**law.value_bits - 1)
    return 0, clip(m // 2 ** (2 * law.fraction_bits - law.value_fraction_bits), 0, top)


def reference(network: Network, x: IntArray) -> dict[str, IntArray]:
    """What every node sends, [samples, ticks, size], tick by tick, neuron by neuron, weight by weight."""
    samples, ticks, _ = x.shape
    sent = {n.name: np.zeros((samples, ticks, n.size), np.int64) for n in network.nodes.values()}
    start = 0
    for node in network.inputs:
        sent[node.name][:] = x[:, :, start : start + node.size]
        start += node.size
    by_name = {p.name: p for p in network.populations}
    for s in range(samples):
        state = {p.name: [int(a) for a in np.broadcast_to(p.initial.get("v", 0), p.size)] for p in network.populations}
        for t in range(ticks):
            for name in network.order:
                population = by_name[name]
                for i in range(population.size):
                    currents = dict.fromkeys(population.law.compartments, 0)
                    for q in network.incoming(name):
                        for j in range(q.weights.shape[1] if t >= q.delay else 0):
                            currents[q.compartment] += int(q.weights[i, j]) * int(sent[q.source][s, t - q.delay, j])
                    params = {k: int(np.broadcast_to(a, population.size)[i]) for k, a in population.params.items()}
                    state[name][i], value = neuron(population.law, state[name][i], currents, params)
                    sent[name][s, t, i] = value
    return sent


def recurrent(seed: int = 0, *, compare: Any = "gt", reset: Any = "subtract") -> Network:
    """LIF cells that excite themselves one and three ticks later, read by a leaky integrator."""
    random = np.random.default_rng(seed)
    params = {"decay": random.integers(0, 257, 4), "threshold": ints(40), "bias": random.integers(-9, 9, 4)}
    if reset == "value":
        params["v_reset"] = ints(-7)
    cells = Population("cells", 4, Lif(reset=reset, compare=compare, state_bits=9), params, {"v": ints(1, -2, 3, -4)})
    out = Population("out", 2, LeakyIntegrator(shift=2, state_bits=10), {"decay": ints(200), "bias": ints(0, -1)})
    return Network(
        (Input("in", 3),),
        (out, cells),
        (
            Projection("read", "cells", "out", random.integers(-128, 128, (2, 4))),
            Projection("feed", "in", "cells", random.integers(-128, 128, (4, 3))),
            Projection("back", "cells", "cells", random.integers(-128, 128, (4, 4)), delay=1),
            Projection("late", "cells", "cells", random.integers(-128, 128, (4, 4)), delay=3),
        ),
        ("out", "cells"),
        decoder="last",
    )


def assert_as_reference(network: Network, x: IntArray) -> None:
    trace, expected = golden.run(network, x, batch=3), reference(network, x)
    for population in network.populations:
        np.testing.assert_array_equal(trace.values[population.name], expected[population.name])
        assert trace.counters[f"population {population.name}: events"] == (expected[population.name] != 0).sum()
        assert trace.counters[f"population {population.name}: updates"] == x.shape[0] * x.shape[1] * population.size
    for p in network.projections:
        delivered = expected[p.source][:, : max(x.shape[1] - p.delay, 0)]
        assert trace.counters[f"projection {p.name}: events"] == (delivered != 0).sum()


def test_lif_layers_equal_the_reference(lif: Network, make_input: Callable[..., IntArray]) -> None:
    assert_as_reference(lif, make_input(lif, 7, 6))


def test_two_point_cells_equal_the_reference(two_point: Network, make_input: Callable[..., IntArray]) -> None:
    assert_as_reference(two_point, make_input(two_point, 7, 3))


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10**6),
    compare=st.sampled_from(["gt", "ge"]),
    reset=st.sampled_from(["subtract", "value"]),
    ticks=st.integers(1, 7),
)
def test_recurrence_and_delays_equal_the_reference(seed: int, compare: str, reset: str, ticks: int) -> None:
    network = recurrent(seed, compare=compare, reset=reset)
    assert_as_reference(network, np.random.default_rng(seed).integers(0, 2, (4, ticks, 3)))


def wide(weight: int, value_bits: int, sources: int) -> Network:
    """Sums near the float types' edges: `sources` equal events through equal weights."""
    from apical.sw.laws import Format

    return Network(
        (Input("in", sources, Format(value_bits, signed=False)),),
        (Population("out", 1, LeakyIntegrator(state_bits=32), {"decay": ints(0), "bias": ints(0)}),),
        (Projection("p", "in", "out", np.full((1, sources), weight), weight_bits=16),),
        ("out",),
    )


@pytest.mark.parametrize(
    ("weight", "bits", "sources"),
    [(127, 4, 2), (4097, 12, 1), (4097, 12, 3), (32767, 15, 2), (32767, 16, 65), (-32768, 16, 3)],
)
def test_sums_are_exact_at_every_magnitude(weight: int, bits: int, sources: int) -> None:
    x = np.full((1, 1, sources), (1 << bits) - 1)
    x[0, 0, 0] -= 1  # an odd sum, the first that a too narrow float rounds
    total = weight * int(x.sum())
    y = golden.run(wide(weight, bits, sources), x).values["out"][0, 0, 0]
    assert y == clip(total, -(1 << 31), (1 << 31) - 1)


def test_states_are_kept_on_demand() -> None:
    network = recurrent()
    x = np.ones((2, 3, 3), np.int64)
    assert golden.run(network, x).states == {}
    kept = golden.run(network, x, states=True).states
    assert kept["cells"]["v"].shape == (2, 3, 4)
    assert kept["out"]["v"].shape == (2, 3, 2)
    np.testing.assert_array_equal(kept["out"]["v"] >> 2, golden.run(network, x).values["out"])


def test_the_batch_size_changes_nothing(lif: Network, make_input: Callable[..., IntArray]) -> None:
    x = make_input(lif, 7)
    whole, pieces = golden.run(lif, x), golden.run(lif, x, batch=2)
    assert whole.counters == pieces.counters
    np.testing.assert_array_equal(whole.outputs["out"], pieces.outputs["out"])


def test_progress_reaches_the_end(lif: Network, make_input: Callable[..., IntArray]) -> None:
    seen: list[tuple[int, int]] = []
    golden.run(lif, make_input(lif, 5), batch=2, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(2, 5), (4, 5), (5, 5)]


@pytest.mark.parametrize(
    ("decoder", "expected"),
    [("sum", [1]), ("last", [0]), ("rate", [0]), (None, None)],
)
def test_decoders_read_the_class(decoder: str | None, expected: list[int] | None) -> None:
    relu = Population("out", 3, Relu(shift=0), {"bias": ints(0)})
    network = Network(
        (Input("in", 3, Relu().states().get("v") or _byte()),),
        (relu,),
        (Projection("p", "in", "out", np.eye(3, dtype=np.int64)),),
        ("out",),
        decoder=decoder,
    )
    x = np.array([[[1, 0, 0], [1, 9, 0], [5, 0, 5]]])
    classes = golden.decode(network, golden.run(network, x))
    assert (None if classes is None else classes.tolist()) == expected


def _byte() -> Any:
    from apical.sw.laws import Format

    return Format(8, signed=False)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((1, 2, 6)), "input x: expected integers, got float64"),
        (np.zeros((1, 2, 5), int), r"input x: expected shape \[samples, ticks, 6\], got \[1, 2, 5\]"),
        (np.zeros((2, 6), int), r"input x: expected shape \[samples, ticks, 6\], got \[2, 6\]"),
        (np.zeros((0, 2, 6), int), r"input x: expected shape \[samples, ticks, 6\], got \[0, 2, 6\]"),
        (np.full((1, 2, 6), 2), "input 'in': expected values 0 to 1, got 2 at sample 0, tick 0, channel 0"),
        (np.full((1, 2, 6), -1), "input 'in': expected values 0 to 1, got -1 at sample 0, tick 0, channel 0"),
        (np.array([["a"]]), "input x: expected integers, got <U1"),
        (np.full((1, 1, 6), 2**64 - 1, np.uint64), "input 'in': expected values 0 to 1, got 18446744073709551615"),
    ],
)
def test_a_bad_input_is_named(lif: Network, x: np.ndarray, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        golden.run(lif, x)


def test_a_bad_value_is_placed_in_its_own_input(two_point: Network) -> None:
    x = np.zeros((2, 3, 8), np.int64)
    x[1, 2, 6] = 16
    with pytest.raises(NetworkError, match="'right': expected values 0 to 15, got 16 at sample 1, tick 2, channel 1"):
        golden.run(two_point, x)


def test_one_source_onto_many_targets_is_exact_every_time() -> None:
    weights = ints(5, -7, 100, -100)[:, None]
    network = Network(
        (Input("in", 1),),
        (Population("out", 4, LeakyIntegrator(), {"decay": ints(0), "bias": ints(0)}),),
        (Projection("p", "in", "out", weights),),
        ("out",),
    )
    for _ in range(20):
        x = np.ones((3, 2, 1), np.int64)
        assert np.array_equal(golden.run(network, x).outputs["out"], np.broadcast_to(weights[:, 0], (3, 2, 4)))
