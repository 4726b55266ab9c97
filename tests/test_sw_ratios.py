"""The one table: our network's energy three ways, beside the baselines."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from apical.sw import cli_energy, energy, golden, ratios
from apical.sw.cli_common import CliError
from apical.sw.golden import Trace
from apical.sw.laws import AdaptiveLif, Law, LeakyIntegrator, Lif, Relu
from apical.sw.network import Input, IntArray, Network, Population, Projection
from apical.sw.recurrent_baselines import CONSTANTS, Constants

SAMPLES, TICKS = 3, 40
OUTPUT = AdaptiveLif(sends="membrane", shift=2)


def adaptive(name: str, size: int, law: AdaptiveLif, adaptation: int) -> Population:
    rng = np.random.default_rng(size)
    params = {
        "decay": rng.integers(900, 1000, size),
        "adaptation_decay": rng.integers(1000, 1020, size),
        "threshold": rng.integers(100, 200, size),
        "adaptation": np.array([adaptation]),
        "bias": rng.integers(0, 20, size),
    }
    return Population(name, size, law, params)


def ecg_like(hidden: AdaptiveLif = AdaptiveLif(), output: Law = OUTPUT) -> Network:  # noqa: B008 (frozen)
    """4-12 recurrent-6, random: hidden cells without adaptation, outputs that adapt and send their membrane."""
    rng = np.random.default_rng(1)
    out = adaptive("out", 6, output, 9) if isinstance(output, AdaptiveLif) else other(output)
    return Network(
        (Input("ecg", 4),),
        (adaptive("hidden", 12, hidden, 0), out),
        (
            Projection("in", "ecg", "hidden", rng.integers(-20, 120, (12, 4))),
            Projection("again", "hidden", "hidden", rng.integers(-30, 30, (12, 12)), delay=1),
            Projection("read", "hidden", "out", rng.integers(-20, 60, (6, 12))),
        ),
        ("out",),
    )


def other(law: Law) -> Population:
    return Population("out", 6, law, {name: np.array([max(0, spec.low)]) for name, spec in law.parameters().items()})


def events() -> IntArray:
    return (np.random.default_rng(2).random((SAMPLES, TICKS, 4)) < 0.2).astype(np.int64)


@cache
def run(states: bool = True) -> tuple[Network, Trace]:
    network = ecg_like()
    return network, golden.run(network, events(), states=states)


@cache
def answer() -> dict[str, Any]:
    return energy.report(*run())


def row(name: str, constants: str, with_updates: bool = True, by: str = "formula") -> dict[str, Any]:
    found = [
        r
        for r in answer()["baselines"]
        if (r["name"], r["constants"], r["with_updates"], r["by"]) == (name, constants, with_updates, by)
    ]
    assert len(found) == 1
    return dict(found[0])


def ours(name: str, constants: str) -> dict[str, Any]:
    return next(r for r in answer()["ours"] if (r["name"], r["constants"]) == (name, constants))


def test_the_table_has_every_baseline_with_and_without_updates() -> None:
    rows = answer()["baselines"]
    names = {r["name"] for r in rows if r["by"] == "formula"}
    assert names == {"lif", "adaptive", "rnn", "gru", "lstm", "bi-lstm"}
    assert len(rows) == 2 * 2 * 6 + 2 * 4
    assert {r["units"] for r in rows if r["name"] == "rnn"} == {290}
    assert json.loads(json.dumps(answer())) == answer()


def test_by_formula_worked_by_hand_at_the_measured_rates() -> None:
    _, trace = run()
    steps = SAMPLES * TICKS
    fr_in = events().mean()
    fr_hidden = trace.values["hidden"].mean()
    fr_out = trace.states["out"]["s"].mean()  # the membrane goes out, the spikes stay inside
    assert 0 < fr_out < 1
    assert fr_out != np.count_nonzero(trace.values["out"]) / (6 * steps)
    lif = (4 * 12 * fr_in + (12 * 12 + 12) * fr_hidden) * 0.1 + 12 * 3.2
    adapting = (12 * 6 * fr_hidden + 2 * 6 * fr_out) * 0.1 + 3 * 6 * 3.2
    assert math.isclose(ours("formula", "int32-45nm")["picojoules_per_tick"], lif + adapting)
    all_lif = lif + (12 * 6 * fr_hidden + 6 * fr_out) * 0.1 + 6 * 3.2
    assert math.isclose(row("lif", "int32-45nm")["picojoules_per_tick"], all_lif)
    bare = (4 * 12 * fr_in + (12 * 12 + 12 * 6) * fr_hidden) * 0.1
    assert math.isclose(row("adaptive", "int32-45nm", False)["picojoules_per_tick"], bare)


def test_a_ratio_is_the_baseline_divided_by_ours_of_that_kind() -> None:
    for constants in ("int32-45nm", "fp32-45nm"):
        for with_updates, key in ((True, "picojoules_per_tick"), (False, "picojoules_per_tick_without_updates")):
            lstm = row("lstm", constants, with_updates)
            theirs = lstm["picojoules_per_tick"]
            assert math.isclose(lstm["ratio_counted"], theirs / ours("counted", "horowitz-45nm")[key])
            assert math.isclose(lstm["ratio_operations"], theirs / ours("operations", constants)[key])
            assert math.isclose(lstm["ratio_formula"], theirs / ours("formula", constants)[key])


def test_counted_baselines_have_only_the_counted_ratio() -> None:
    rnn = row("rnn", "horowitz-45nm", by="counted")
    assert rnn["ratio_counted"] > 1
    assert rnn["ratio_operations"] is None
    assert rnn["ratio_formula"] is None
    # 8-bit weight from 32 KB, 8-bit multiply, add: 2.5 + 0.2 + 0.1 pJ
    synapses = row("rnn", "horowitz-45nm", False, by="counted")["picojoules_per_tick"]
    assert math.isclose(synapses, (4 * 290 + 290 * 290 + 290 * 6) * 2.8)


def test_counted_joules_split_into_parts_that_sum() -> None:
    got = answer()
    assert math.isclose(sum(got["by_part"].values()), got["joules_per_sample"], rel_tol=1e-12)
    counted = ours("counted", "horowitz-45nm")
    assert math.isclose(counted["picojoules_per_tick"] * TICKS * 1e-12, got["joules_per_sample"], rel_tol=1e-12)
    assert math.isclose(counted["update_share"], got["update_share"], rel_tol=1e-9)
    parts = energy.counts_by_part(*run())
    work = energy.counts(*run())
    assert all(sum(part.get(kind, 0) for part in parts.values()) == n for kind, n in work.items())
    assert parts["synapses"]["law_add"] == parts["updates"]["add"] == 0
    steps = SAMPLES * TICKS
    assert parts["updates"]["accumulator_read"] == 18 * steps


def test_counted_operations_are_priced_by_the_same_constants() -> None:
    work = energy.counts(*run())
    adds = work["add"] + work["law_add"] + work["law_compare"]
    assert work["multiply"] == 0  # spikes only
    expected = (adds * 0.1 + work["law_multiply"] * 3.1) / (SAMPLES * TICKS)
    assert math.isclose(ours("operations", "int32-45nm")["picojoules_per_tick"], expected)


def forms(network: Network, trace: Trace) -> dict[str, dict[str, Any]]:
    return {r["name"]: r for r in energy.report(network, trace)["update_forms"] if r["constants"] == "int32-45nm"}


def test_update_forms_count_their_multiplications() -> None:
    got = forms(*run())
    # hidden: α·u and ρ·a, published also (1-α)·I; outputs adapt, published also β·η
    assert got["as published"]["multiplications_per_tick"] == 12 * 3 + 6 * 4
    assert got["folded"]["multiplications_per_tick"] == 18 * 2
    assert got["folded, shift decays"]["multiplications_per_tick"] == 0
    assert [r["built"] for r in got.values()] == [False, True, False]
    share = [r["update_share"] for r in got.values()]
    assert share[0] > share[1] > share[2] > 0
    built = got["folded"]["picojoules_per_tick"]
    assert math.isclose(built, ours("operations", "int32-45nm")["picojoules_per_tick"])
    # a shift decay has a subtraction where the other has a multiplication
    assert math.isclose(built - got["folded, shift decays"]["picojoules_per_tick"], 36 * (3.1 - 0.1))


def test_a_network_with_shift_decays_says_so_and_multiplies_nothing() -> None:
    network, _ = run()
    shifted = []
    for p in network.populations:
        params = dict(p.params) | {"decay": np.array([1024 - 64]), "adaptation_decay": np.array([1024 - 8])}
        shifted.append(Population(p.name, p.size, replace(p.law, leak="shift"), params))  # type: ignore[type-var]
    other_network = replace(network, populations=tuple(shifted))
    other_trace = golden.run(other_network, events(), states=True)
    got = forms(other_network, other_trace)
    assert [r["built"] for r in got.values()] == [False, False, True]
    assert energy.counts(other_network, other_trace)["law_multiply"] == 0
    assert got["folded"]["multiplications_per_tick"] == 36


def test_without_states_a_hidden_firing_rate_is_unknown_and_named() -> None:
    network, trace = run(states=False)
    got = energy.report(network, trace)
    assert got["firing_rates"]["out"] is None
    assert got["ratio_notes"] == ["firing rate of out: counted as 1, needs a trace with states"]
    bound = next(r for r in got["ours"] if r["name"] == "formula")["picojoules_per_tick"]
    assert bound > ours("formula", "int32-45nm")["picojoules_per_tick"]


def test_the_command_runs_with_states_only_where_a_rate_needs_them() -> None:
    def none(done: int, of: int) -> None:
        return None

    network, _ = run()
    assert cli_energy.count(network, events(), none).states["out"]["s"].shape == (SAMPLES, TICKS, 6)
    spikes = ecg_like(output=AdaptiveLif())
    assert not ratios.needs_states(spikes)
    assert not cli_energy.count(spikes, events(), none).states


def test_a_law_without_a_formula_leaves_only_the_conventional_baselines() -> None:
    network = ecg_like(output=Relu())
    got = energy.report(network, golden.run(network, events()))
    assert {r["name"] for r in got["baselines"]} == {"rnn", "gru", "lstm", "bi-lstm"}
    assert all(r["ratio_formula"] is None and r["ratio_counted"] > 1 for r in got["baselines"])
    assert "the papers have no formula for law relu" in got["ratio_notes"][0]


@pytest.mark.parametrize("law", [Lif(), LeakyIntegrator()])
def test_cells_are_known_by_the_papers_names(law: Law) -> None:
    assert ratios.cell_of(other(law)) == law.name
    assert ratios.cell_of(adaptive("a", 3, AdaptiveLif(), 0)) == "lif"
    assert ratios.cell_of(adaptive("a", 3, AdaptiveLif(), 1)) == "adaptive"
    assert ratios.cell_of(other(Relu())) is None


def test_own_constants_and_units_reach_the_table() -> None:
    mine = Constants("mine", 2.0, 0.5, "bench")
    got = energy.report(*run(), units=10, constants=[mine])
    rows = [r for r in got["baselines"] if r["by"] == "formula"]
    assert {r["constants"] for r in rows} == {"mine"}
    rnn = next(r for r in rows if r["name"] == "rnn")
    assert (rnn["units"], rnn["picojoules_per_tick"]) == (10, (40 + 100 + 60) * 2.0)
    with pytest.raises(ValueError, match=r"^recurrent baseline: expected at least 1 unit, got 0$"):
        energy.report(*run(), units=0)


def test_constants_of_the_command_line_come_in_pairs() -> None:
    assert cli_energy.constants(None, None) == CONSTANTS
    assert cli_energy.constants(2.0, 0.5)[-1] == Constants("own", 2.0, 0.5, "given on the command line")
    with pytest.raises(CliError, match=r"^--mac and --ac: expected both, got one$"):
        cli_energy.constants(2.0, None)
    with pytest.raises(CliError, match=r"^--mac and --ac: constants 'own': expected 0 < E_AC < E_MAC"):
        cli_energy.constants(0.5, 2.0)


def test_a_sample_of_one_tick_has_no_recurrent_table() -> None:
    network = ecg_like()
    got = energy.report(network, golden.run(network, events()[:, :1]))
    assert "baselines" not in got
    assert "joules per sample" in cli_energy.text(got)


def test_the_printed_table_has_a_line_for_every_baseline() -> None:
    lines = cli_energy.text(answer()).splitlines()
    head = next(line for line in lines if line.startswith("network"))
    rnn = row("rnn", "int32-45nm")
    line = next(line for line in lines if line.startswith("rnn-290") and "int32-45nm" in line)
    assert len(head) >= len(line.rstrip()) - 1
    assert f"{rnn['picojoules_per_tick']:,.0f}" in line
    for start in ("lif ", "adaptive ", "gru-290", "lstm-290", "bi-lstm-290"):
        assert sum(line.startswith(start) for line in lines) in (2, 3), start
    assert sum("as built" in line for line in lines) == 3
