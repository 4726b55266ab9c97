"""The command `gates`, and the zoo's gated network: what is left of the work, and on which kernels."""

from __future__ import annotations

import json
from typing import Any

import pytest

from apical.sw import datasets, golden, zoo
from apical.sw.gating import report
from apical.sw.network import Network

Apical = Any  # the fixture's type


def test_the_command_sets_a_gated_network_beside_the_plain_one(apical: Apical) -> None:
    words = ("zoo:mnist-conv-gated", "--data", "mnist:sample", "--limit", "100", "--against", "zoo:mnist-conv")
    ran = apical("gates", *words, "--json")
    assert ran.status == 0
    answer = json.loads(ran.out)
    gated, plain = answer["networks"]["zoo:mnist-conv-gated"], answer["networks"]["zoo:mnist-conv"]
    ratio = answer["ratios"]["zoo:mnist-conv-gated"]["multiply_accumulates"]
    assert ratio == pytest.approx(plain["multiply_accumulates"] / gated["multiply_accumulates"])
    assert ratio > 2
    assert plain["gates"] == {} and plain["by_projection"]["gates"] == 0
    assert set(gated["gates"]) == {"second", "third"}
    ran = apical("gates", *words)
    assert ran.status == 0 and "times fewer multiply accumulates" in ran.out


def test_a_network_without_gates_is_refused(apical: Apical) -> None:
    ran = apical("gates", "zoo:mnist-conv", "--data", "mnist:sample")
    assert ran.status == 2 and "expected a network with gates, got none" in ran.err


def figures(network: Network) -> dict[str, Any]:
    x = datasets.encode(datasets.load("mnist:sample"), network).astype("int64")
    return report(network, golden.run(network, x), x)


def test_shares_add_up_and_some_kernels_depend_on_the_input() -> None:
    network = zoo.load("mnist-conv-gated")
    found = figures(network)
    for gate in network.gates:
        share = found["gates"][gate.target]
        assert share["never"] + share["always"] + share["by_input"] == pytest.approx(1)
        assert share["by_input"] > 0.2
        assert len(share["on_by_group"]) == gate.groups and share["on"] == pytest.approx(
            sum(share["on_by_group"]) / gate.groups, abs=1e-3
        )
    assert found["by_projection"]["gates"] == 32 * 16 + 8 * 32  # one window of one tick: groups x source channels
    plain = figures(zoo.load("mnist-conv"))
    assert plain["multiply_accumulates"] > 5 * found["multiply_accumulates"]
