"""The study of cooperating streams: what follows from stored runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from apical.sw import cooperative_study as study
from apical.sw.cooperative_study import StudyError


def run(net: str, penalty: float, error: float, sent: float, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "data": "grid",
        "train": "noisy",
        "net": net,
        "modulation": "mcc" if net == "two_point" else "none",
    }
    base |= {"layers": 1, "cells": 4, "contexts": ["distal"], "rate": 1e-3, "penalty": penalty, "seed": 0, "epochs": 3}
    base |= {"parameters": 10, "history": [0.4, 0.26, error]}
    found = {"error": error, "hidden": sent, "input": 10.0, "dense": 1000.0}
    return {**base, "validation": found, "test": found, **changes}


POINT = [run("relu", 0.0, 0.2, 100.0), run("relu", 1.0, 0.22, 50.0), run("relu", 4.0, 0.3, 25.0)]
TWO = [run("two_point", 0.0, 0.19, 80.0), run("two_point", 1.0, 0.2, 40.0), run("two_point", 4.0, 0.22, 20.0)]


def test_the_saving_is_at_the_quietest_penalty_that_is_no_worse() -> None:
    found = study.figures([*POINT, *TWO])
    assert found["grid_mcc_penalty"] == 1.0
    assert found["grid_mcc_saving"] == pytest.approx(0.6)
    assert found["grid_mcc_saving_no_worse_on_test"] == pytest.approx(0.6)
    assert found["grid_mcc_ratio_dense"] == pytest.approx(25)
    assert found["grid_point_sparse_saving"] == pytest.approx(0)
    assert found["grid_mcc_ratio_to_point_sparse"] == pytest.approx(2.5)


def test_curves_are_compared_at_the_same_score() -> None:
    found = study.curves([*POINT, *TWO], "grid")
    ratios = study.at_same_score(found["two-point mcc, distal"], found["point, distal"])
    assert ratios == pytest.approx([2.5, 2.5])  # .19 is beyond the point net's curve


def test_the_best_rate_is_among_those_with_all_seeds() -> None:
    def seeds(rate: float, *errors: float) -> list[dict[str, Any]]:
        return [run("relu", 0.0, e, 1.0, rate=rate, seed=s) for s, e in enumerate(errors)]

    searched, worse, better = seeds(3e-3, 0.1), seeds(1e-3, 0.18, 0.3), seeds(2e-3, 0.2, 0.22)
    assert study.best_rates([*searched, *worse, *better]) == better
    assert study.best_rates([*searched, *seeds(4e-3, 0.2)]) == searched


def test_means_and_learning_speed_are_over_the_seeds() -> None:
    runs = [*TWO, *POINT, run("relu", 0.0, 0.22, 120.0, seed=1, history=[0.5, 0.3, 0.22])]
    found = study.figures(runs)
    assert found["grid_point_score"] == pytest.approx(0.21) and found["grid_point_transmissions"] == 110
    assert found["epochs_point_0.25"] == 3 and found["epochs_mcc_0.3"] == 2
    assert found["epochs_point_0.2"] is None  # one of them never gets there


def test_damage_is_by_how_much_the_error_grows() -> None:
    hurt = [{"what": "cells", "share": 0.3, "seed": s, "error": e} for s, e in ((0, 0.3), (1, 0.4))]
    found = study.figures([*POINT, {**TWO[0], "damage": hurt, "rtl": {"bundle": "grid-mcc", "mismatches": 0}}])
    assert found["damage_grid_mcc_cells_30"] == pytest.approx(0.16)
    assert not [k for k in found if k.startswith("damage_point")]


def test_failing_streams_are_of_the_unpenalized_nets() -> None:
    gone = {"no audio": 0.5, "a stranger's lips": 0.25}
    pairs = {"accuracy": 0.75, "hidden": 5.0, "input": 1.0, "dense": 9.0}
    of = {"data": "av-mnist", "validation": pairs, "test": pairs}
    runs = [
        run("relu", 0.0, 0.2, 1.0, train="fickle", failing=gone),
        run("relu", 0.0, 0.2, 1.0, failing={"no audio": 0.7}, **of),
        run("relu", 3.0, 0.2, 1.0, **of),
    ]
    found = study.figures(runs)
    assert found["fickle_point_failing_nothing"] == 0.2 and found["fickle_point_failing_a_strangers_lips"] == 0.25
    assert found["pairs_point_failing_nothing"] == 0.75 and found["pairs_point_failing_no_audio"] == 0.7


def test_the_rtl_is_summed_up_by_bundle() -> None:
    proven = {"bundle": "grid-mcc", "mismatches": 0, "error": 0.2}
    found = study.rtl([{**TWO[0], "rtl": proven}, {**TWO[1], "rtl": {**proven, "mismatches": 2, "error": 0.4}}])
    assert found == {"grid_mcc": {"seeds": 2, "mismatches": 2, "error": pytest.approx(0.3)}}


@pytest.mark.parametrize("text", ["", "[]", '{"runs": [{"data": "grid"}]}', '{"runs": 3}'])
def test_a_file_without_the_runs_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(text)
    with pytest.raises(StudyError, match=r"^study\.json: expected (the )?runs"):
        study.stored(tmp_path / "study.json")


def test_runs_are_read_as_they_were_written(tmp_path: Path) -> None:
    (tmp_path / "study.json").write_text(json.dumps({"runs": TWO}))
    assert study.stored(tmp_path / "study.json") == TWO
