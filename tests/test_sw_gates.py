"""Where context opened and closed the gate, against what golden runs without context say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from apical.sw import golden
from apical.sw.gates import gated, gates
from apical.sw.laws import Format, TwoPoint
from apical.sw.network import Input, IntArray, Network, NetworkError, Population, Projection

MakeInput = Callable[..., IntArray]


def cooperating(seed: int = 0) -> Network:
    """Two streams of two-point cells; context from the other stream and from the cells themselves a tick ago."""
    random = np.random.default_rng(seed)
    law = TwoPoint(shift=2, modulation="mcc")

    def cells(name: str) -> Population:
        return Population(name, 6, law, {"bias_basal": np.array([3]), "bias_apical": random.integers(-90, 30, 6)})

    def weights(sources: int) -> IntArray:
        return random.integers(-20, 22, (6, sources))

    values = Format(4, signed=False)
    return Network(
        (Input("ears", 5, values), Input("eyes", 7, values)),
        (cells("a"), cells("b")),
        (
            Projection("ra", "ears", "a", weights(5)),
            Projection("rb", "eyes", "b", weights(7)),
            Projection("ca", "eyes", "a", weights(7), "apical"),
            Projection("cb", "a", "b", weights(6), "apical"),
            Projection("pa", "a", "a", weights(6), "apical", delay=1),
            Projection("pb", "a", "b", weights(6), "apical", delay=2),
        ),
        ("b",),
    )


@pytest.mark.parametrize("name", ["a", "b"])
def test_the_value_alone_is_what_the_network_sends_without_apical_projections(name: str, make_input: MakeInput) -> None:
    network = cooperating()
    x = make_input(network, samples=5, ticks=7)
    whole = golden.run(network, x)
    population = next(p for p in network.populations if p.name == name)
    found = gates(network, population, x, whole.values)
    assert np.array_equal(found.value, whole.values[name])
    # the basal projections alone, run as a network of its own; `b` sees nothing but the eyes there
    mute = replace(population, params={**population.params, "bias_apical": np.array([0])})
    cut = tuple(
        q if q.compartment == "basal" else replace(q, weights=q.weights * 0)
        for q in network.projections
        if q.target == name and q.source not in ("a", "b")
    )
    if name == "b":
        cut = (*cut, Projection("none", "ears", "b", np.zeros((6, 5), np.int64), "apical"))
    alone = golden.run(Network(network.inputs, (mute,), cut, (name,)), x).values[name]
    assert np.array_equal(found.alone, alone)
    assert found.opened.any() and found.closed.any()
    assert np.array_equal(found.opened, (alone == 0) & (whole.values[name] != 0))
    assert np.array_equal(found.closed, (alone != 0) & (whole.values[name] == 0))


def test_currents_have_delays_and_biases(make_input: MakeInput) -> None:
    network = cooperating()
    x = make_input(network, samples=1, ticks=4)
    values = golden.run(network, x).values
    a, weights = network.populations[0], {q.name: q.weights for q in network.projections}
    found = gates(network, a, x, values)
    for t in range(4):
        before = values["a"][0, t - 1].astype(int) if t else np.zeros(6, int)
        assert np.array_equal(found.basal[0, t], weights["ra"] @ x[0, t, :5] + 3)
        expected = weights["ca"] @ x[0, t, 5:] + weights["pa"] @ before + a.params["bias_apical"]
        assert np.array_equal(found.apical[0, t], expected)


def test_shares_count_cells_and_ticks(make_input: MakeInput) -> None:
    network = cooperating()
    x = make_input(network)
    found = gates(network, network.populations[0], x, golden.run(network, x).values)
    shares = found.shares()
    assert shares["sent"] == np.count_nonzero(found.value) / found.value.size
    assert shares["sent"] - shares["alone"] == pytest.approx(shares["opened"] - shares["closed"])


def test_values_of_another_run_are_refused(make_input: MakeInput) -> None:
    network = cooperating()
    x, other = make_input(network), make_input(network, seed=9)
    with pytest.raises(NetworkError, match=r"^population 'a': expected the values of a run on this input, got others$"):
        gates(network, network.populations[0], x, golden.run(network, other).values)


def test_cells_without_context_are_refused(lif: Network, make_input: MakeInput) -> None:
    x = make_input(lif)
    assert gated(lif) == []
    with pytest.raises(NetworkError, match=r"^population 'hidden': expected cells with an apical compartment"):
        gates(lif, lif.populations[0], x, golden.run(lif, x).values)
