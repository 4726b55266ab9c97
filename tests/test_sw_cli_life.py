"""The command `life`, and what the report draws of its answer."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sw import bundle, datasets, golden, life, on_chip_recipe, report, report_learning
from apical.sw.cli_common import read_results
from apical.sw.network import Network
from apical.sw.report_two_point import ResultsError

Apical = Any  # the fixture's type
SHORT = ("life", "--samples", "12", "--cells", "8", "--technology", "odin", "--technology", "pcm-weights")


@pytest.fixture
def rows(apical: Apical, tmp_path: Path) -> list[dict[str, Any]]:
    ran = apical(*SHORT, "-o", tmp_path / "life.json", "--json")
    assert ran.status == 0
    found = read_results([tmp_path / "life.json"])["life"]
    assert found == json.loads(ran.out)["life"]
    return found


def test_the_answer_has_a_row_per_rule_and_technology(rows: list[dict[str, Any]]) -> None:
    assert [(r["rule"], r["technology"]) for r in rows] == [(n, t) for n in life.RULES for t in ("odin", "pcm-weights")]
    assert {*report_learning.KEYS, "samples", "joules_per_sample", "unpriced", "notes", "writes_unseen"} <= set(rows[0])
    assert set(rows[0]["joules"]) == {"inference", "gates", "errors", "updates", "writes", "total"}
    priced = rows[1]["joules"]
    assert priced["total"] == pytest.approx(sum(v for k, v in priced.items() if k != "total"))
    assert 0 < rows[1]["life_years"]["most_written"] < rows[1]["life_years"]["levelled"]


def test_gates_save_writes_energy_and_life() -> None:
    network = on_chip_recipe.network()
    data = datasets.load("mnist:sample-train").first(300)
    x, labels = data.encode(network.encoding).astype(np.int64), np.asarray(data.labels, np.int64)
    ungated, gated = (
        life.spent(life.run(network, life.RULES[rule], x, labels)[1], life.Device(), "pcm-weights")
        for rule in ("ungated", "gated")
    )
    assert ungated["writes_per_sample"] > 3 * gated["writes_per_sample"]
    assert ungated["joules"]["writes"] > 3 * gated["joules"]["writes"]
    assert ungated["life_years"]["levelled"] < gated["life_years"]["levelled"] / 3
    assert ungated["joules"]["inference"] == pytest.approx(gated["joules"]["inference"], rel=0.1)


def test_a_technology_without_a_write_price_says_so(apical: Apical, rows: list[dict[str, Any]]) -> None:
    assert rows[0]["joules"]["writes"] is rows[0]["joules"]["total"] is None
    ran = apical(*SHORT)
    assert ran.status == 0 and "no price" in ran.out
    assert ran.out.count("note: odin: weight_write has no price") == 1 and "1,000,000,000 writes" in ran.out


def test_twice_the_years_are_twice_the_joules(apical: Apical, rows: list[dict[str, Any]]) -> None:
    longer = json.loads(apical(*SHORT, "--years", "20", "--json").out)["life"]
    for short, long in zip(rows, longer, strict=True):
        assert long["joules"]["inference"] == pytest.approx(2 * short["joules"]["inference"], rel=1e-4)
        assert long["life_years"] == short["life_years"] and long["accuracy"] == short["accuracy"]


def test_what_the_gated_chip_learned_is_a_bundle(apical: Apical, tmp_path: Path) -> None:
    assert apical(*SHORT, "--bundle", tmp_path / "learned", "--page", tmp_path / "life.html").status == 0
    network = bundle.load(tmp_path / "learned")
    start = on_chip_recipe.network(8)
    assert network.projections[0].weights.shape == (8, 785)
    assert not np.array_equal(network.projections[0].weights, start.projections[0].weights)
    assert "most" not in (tmp_path / "life.html").read_text(encoding="utf-8")[:200]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--learned", "2"), "life: learned: expected a share from 0 to 1, got 2.0"),
        (("--years", "0"), "life: years: expected a number above 0, got 0.0"),
        (("--technology", "warp"), "technology 'warp': expected one of horowitz-45nm"),
    ],
)
def test_wrong_options_are_refused_before_anything_runs(apical: Apical, words: tuple[str, str], message: str) -> None:
    ran = apical("life", *words)
    assert ran.status == 2 and message in ran.err and ran.out == ""


def page(network: Network, results: dict[str, Any]) -> str:
    trace = golden.run(network, np.ones((2, 3, network.input_size), np.int64))
    summary = {"equal": True, "samples": 2, "cycles_per_sample": 1, "cycles_per_tick": 1}
    return report.render(
        [report.SystemReport("net", network, trace, replace(trace, engine="RTL"), summary, [], results=results)]
    )


def test_the_report_draws_a_life(lif: Network, rows: list[dict[str, Any]]) -> None:
    text = page(lif, {"life": rows})
    assert "Learning over a device’s life" in text and 'href="#s0-life"' in text
    assert "No price of a weight write in odin: inference only." in text
    assert 'data-life="pcm-weights gated"' in text and text.count("no price</td>") == 2 * len(life.RULES)
    assert "Learning over a device’s life" not in page(lif, {})


def test_figures_show_each_rule_and_what_a_memory_stands(rows: list[dict[str, Any]]) -> None:
    energy, wear = (figures[0] for _, _, figures in report_learning.section(rows))
    names = [t.name for t in energy.data if t.showlegend is not False]
    assert list(dict.fromkeys(names)) == list(life.RULES) == names
    gated = rows[-1]["curve"]
    solid = next(t for t in energy.data if t.name == "gated" and t.line.dash is None)
    dotted = next(t for t in energy.data if t.name == "gated" and t.line.dash == "dot" and t.xaxis == solid.xaxis)
    ratio = (gated["inference"][-1] + gated["learning"][-1]) / gated["inference"][-1]
    assert solid.y[-1] / dotted.y[-1] == pytest.approx(ratio)
    assert [t.y[0] for t in wear.data if "stands" in t.hovertemplate] == [10**9]
    assert wear.data[0].y == tuple(rows[0]["curve"]["most_written"])


@pytest.mark.parametrize(
    ("years", "text"),
    [(None, "–"), (0.0016, "14 hours"), (0.1, "36.5 days"), (1.0, "1 years"), (5063.2, "5,063 years")],
)
def test_times_have_a_fitting_unit(years: float | None, text: str) -> None:
    assert report_learning.span(years) == text


@pytest.mark.parametrize(
    ("kept", "message"),
    [
        ({"rule": "x"}, r"^life, row 0: expected rule, accuracy, .*, got none of 'accuracy'$"),
        (dict.fromkeys(report_learning.KEYS, 1), r"^life: expected rows as `apical life -o` writes them: TypeError"),
    ],
)
def test_a_file_that_holds_something_else_is_refused(lif: Network, kept: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        page(lif, {"life": [kept]})
