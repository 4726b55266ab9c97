"""Damage: what dies stays silent, the same seed kills the same, and golden and RTL agree on what is left."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.hw.design import default_options
from apical.sim.scoreboard import first_divergence
from apical.sim.verilated import simulate
from apical.sw import bundle, datasets, golden, zoo
from apical.sw.damage import DamageError, curve, damage, measure
from apical.sw.data import Data
from apical.sw.laws import AdaptiveLif, LeakyIntegrator, Lif, Relu
from apical.sw.network import Input, IntArray, Network, Population, Projection

MakeInput = Callable[..., IntArray]


def test_a_dead_cell_gets_nothing_sends_nothing_and_costs_no_event(two_point: Network, make_input: MakeInput) -> None:
    left = damage(two_point, 0.5)
    dead = left.dead["cells"]
    assert dead.sum() == 2 and set(left.dead) == {"cells"}
    for q in left.network.projections:
        lost = q.weights[dead] if q.target == "cells" else q.weights[:, dead]
        assert (lost == 0).all()
    x = make_input(two_point)
    trace, whole = (golden.run(n, x) for n in (left.network, two_point))
    assert (whole.values["cells"][:, :, dead] != 0).any() and (trace.values["cells"][:, :, dead] == 0).all()
    assert np.array_equal(trace.values["cells"][:, :, ~dead], whole.values["cells"][:, :, ~dead])
    assert trace.counters["projection read: events"] < whole.counters["projection read: events"]


@pytest.mark.parametrize(
    ("law", "params"),
    [
        (Lif(compare="ge"), {"decay": [250], "threshold": [0], "bias": [5]}),
        (Lif(compare="ge", reset="value"), {"decay": [256], "threshold": [3], "bias": [4], "v_reset": [7]}),
        (AdaptiveLif(), dict(decay=[1000], adaptation_decay=[1000], threshold=[9], adaptation=[3], bias=[20])),
        (LeakyIntegrator(), {"decay": [255], "bias": [-3]}),
        (Relu(), {"bias": [4000]}),
    ],
    ids=lambda v: getattr(v, "name", ""),
)
def test_a_cell_that_fires_by_itself_is_silenced(law: Any, params: dict[str, list[int]], make_input: MakeInput) -> None:
    arrays = {k: np.array(v) for k, v in params.items()}
    start = {name: np.array([1]) for name in law.states()}
    cells = Population("cells", 4, law, arrays, start)
    w = np.ones((4, 3), np.int64)
    read = Population("out", 1, Relu(), {"bias": np.array([0])})
    network = Network(
        (Input("in", 3),),
        (cells, read),
        (Projection("p", "in", "cells", w), Projection("q", "cells", "out", np.ones((1, 4), np.int64))),
        ("out",),
    )
    x = make_input(network, ticks=12)
    whole, left = golden.run(network, x).values["cells"], damage(network, 0.5)
    values, dead = golden.run(left.network, x).values["cells"], left.dead["cells"]
    assert (whole[:, :, dead] != 0).any() and (values[:, :, dead] == 0).all()
    assert np.array_equal(values[:, :, ~dead], whole[:, :, ~dead])


def test_a_larger_share_kills_the_smaller_ones_victims_too(lif: Network) -> None:
    small, large = (damage(lif, share, seed=3) for share in (0.4, 0.8))
    assert small.dead["hidden"].sum() == 2 and large.dead["hidden"].sum() == 4
    assert (large.dead["hidden"] >= small.dead["hidden"]).all()
    assert not np.array_equal(small.dead["hidden"], damage(lif, 0.4, seed=4).dead["hidden"])


def test_synapses_die_where_there_are_some(lif: Network) -> None:
    first = lif.projections[0]
    sparse = np.where(np.arange(first.weights.size).reshape(first.weights.shape) % 3 == 0, first.weights, 0)
    thin = replace(lif, projections=(replace(first, weights=sparse), lif.projections[1]))
    alive = sum(np.count_nonzero(q.weights) for q in thin.projections)
    left = damage(thin, 0.5, what="synapses")
    assert left.synapses == round(alive / 2) and left.facts()["cells"] == 0
    for before, after in zip(thin.projections, left.network.projections, strict=True):
        assert ((after.weights == before.weights) | (after.weights == 0)).all()


def test_no_damage_leaves_the_network_as_it_is(lif: Network) -> None:
    assert bundle.identity(damage(lif, 0).network) == bundle.identity(lif)


def test_outputs_stay_alive(lif: Network) -> None:
    left = damage(lif, 1)
    assert left.dead["hidden"].all() and "out" not in left.dead


def test_a_lost_input_brings_no_events(two_point: Network, make_input: MakeInput) -> None:
    left = damage(two_point, 1, what="stream:left")
    x = make_input(two_point)
    trace = golden.run(left.network, left.input(x))
    assert trace.counters["projection basal: events"] == 0
    assert trace.counters["projection apical: events"] == np.count_nonzero(x[:, :, 5:])
    assert left.facts() == {"channels": 5, "cells": 0, "synapses": np.count_nonzero(two_point.projections[0].weights)}


@pytest.mark.parametrize(
    ("share", "seed", "what", "message"),
    [
        (1.5, 0, "cells", r"^share: expected 0 to 1, got 1\.5$"),
        (0.5, 1 << 16, "cells", r"^seed: expected 0 to 65535, got 65536$"),
        (0.5, 0, "neurons", r"^what: expected cells, synapses, stream:in, stream:hidden, stream:out, got 'neurons'$"),
        (0.5, 0, "stream:eyes", r"^what: .*, got 'stream:eyes'$"),
    ],
)
def test_damage_that_cannot_be_is_refused(lif: Network, share: float, seed: int, what: str, message: str) -> None:
    with pytest.raises(DamageError, match=message):
        damage(lif, share, seed, what)


def test_a_network_of_outputs_only_has_no_cells_to_lose(lif: Network) -> None:
    both = replace(lif, outputs=("out", "hidden"))
    with pytest.raises(DamageError, match=r"has outputs only; expected synapses or stream:NAME$"):
        damage(both, 0.5)


@pytest.mark.parametrize(("what", "share"), [("cells", 0.5), ("stream:right", 1)])
def test_golden_and_rtl_agree_on_a_damaged_network(
    two_point: Network, make_input: MakeInput, what: str, share: float
) -> None:
    left = damage(two_point, share, what=what)
    x = left.input(make_input(two_point))
    rtl = simulate(left.network, default_options(left.network), x, workers=1, fast_build=True)
    assert first_divergence(golden.run(left.network, x), rtl) is None


def test_the_curve_has_the_accuracy_and_the_transmissions_of_every_share() -> None:
    network, data = zoo.load("two-view-digits"), datasets.load("two-view-digits:sample").first(100)
    rows = curve("tv", network, data, shares=[0, 0.5, 1], seeds=(0, 1))
    assert [(r["share"], r["seed"], r["cells"]) for r in rows] == [(0, 0, 0), (0.5, 0, 48), (0.5, 1, 48), (1, 0, 96)]
    assert rows[0]["accuracy"] == zoo.accuracy(network, data)
    assert rows[0]["accuracy"] > rows[1]["accuracy"] > rows[3]["accuracy"]
    left = damage(network, 0.5, 1)
    trace = golden.run(left.network, datasets.encode(data, network))
    operations = sum(trace.counters[f"projection {q.name}: events"] * len(q.weights) for q in network.projections)
    assert rows[2]["transmissions"] == operations / 100


def test_the_commands_run_the_damaged_network(apical: Callable[..., Any], lif_bundle: Path, lif_input: Path) -> None:
    words = (lif_bundle, "--input", lif_input, "--kill", 40, "--damage-seed", 3, "--json")
    answers = {}
    for command in ("golden", "cosim", "energy"):
        ran = apical(command, *words)
        assert ran.status == 0, ran.err
        answers[command] = json.loads(ran.out)
        said = answers[command]["damage"]
        assert (said["kill"], said["what"], said["damage_seed"], said["cells"]) == (40, "cells", 3, 2)
    assert answers["cosim"]["equal"] and answers["cosim"]["accuracy"] == answers["golden"]["accuracy"]
    counts = answers["golden"]["counts"]
    assert (
        counts["population hidden: events"]
        == answers["energy"]["counts"]["event_sent"] - counts["population out: events"]
    )
    whole = json.loads(apical("golden", lif_bundle, "--input", lif_input, "--json").out)
    assert "damage" not in whole and whole["counts"] != counts


def test_the_how_to_runs(apical: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "damage-a-network.md").read_text(encoding="utf-8")
    commands = [line for block in re.findall(r"```sh\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    ran = set()
    for program, command, *words in map(shlex.split, commands):
        assert program == "apical"
        if command not in ("cosim", "report"):  # these build hardware; other tests run them
            found = apical(command, *words)
            assert found.status == 0, found.err
            ran.add(command)
    assert ran == {"golden", "energy", "damage"}
    assert json.loads((tmp_path / "damage.json").read_text())["damage"]
    for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL):
        exec(block, {})


def test_where_the_data_have_targets_the_error_is_measured(two_point: Network, make_input: MakeInput) -> None:
    network = replace(two_point, decoder=None, encoding={"kind": "events", "bits": 4, "target_unit": 8})
    x = make_input(network, samples=3, ticks=4)
    left = damage(network, 0.5)
    y = golden.run(left.network, x).outputs["out"]
    targets = (y / 8 + 0.5).astype(np.float32)
    data = Data(x.astype(np.uint8), np.zeros((3, 4), np.int64), np.arange(3), "some", "test", targets=targets)
    assert measure(left, data)["error"] == pytest.approx(0.25)
    assert "accuracy" not in measure(left, data)
