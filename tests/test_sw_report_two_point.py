"""The report's figures of two-point nets: what they show is what the arrays and rows say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sw import golden, report
from apical.sw import report_two_point as figures
from apical.sw.cli_common import CliError, read_results
from apical.sw.gates import gates
from apical.sw.network import IntArray, Network
from apical.sw.report_two_point import ResultsError

MakeInput = Callable[..., IntArray]
SWEEP = [
    {
        "net": net,
        "seed": seed,
        "penalty": penalty,
        "error": 0.1 * (penalty + 1) + 0.01 * seed,
        "transmissions": 1000 * k,
    }
    for k, net in enumerate(("mcc", "point <b>"), 1)
    for seed in (0, 1)
    for penalty in (0, 0.4)
]


def test_over_several_ticks_inputs_and_gates_are_stacked_over_time(two_point: Network, make_input: MakeInput) -> None:
    x = make_input(two_point)
    trace = golden.run(two_point, x)
    cells = two_point.populations[0]
    found = gates(two_point, cells, x, trace.values)
    drawn = figures.context(cells, found, {"left": x[:, :, :5], "right": x[:, :, 5:]}, 2)
    panels = [np.array(d.z) for d in drawn.data]
    assert [p.shape for p in panels] == [(5, 5), (3, 5), (4, 5), (4, 5), (4, 5), (4, 5)]
    assert np.array_equal(panels[0], x[2, :, :5].T)
    assert np.allclose(panels[2], found.basal[2].T / 256, atol=1e-3)  # shift 2 and 6 fraction bits
    assert np.array_equal(panels[4], trace.values["cells"][2].T)
    assert np.array_equal(panels[5] > 0, found.opened[2].T) and np.array_equal(panels[5] < 0, found.closed[2].T)


def test_in_a_single_tick_every_cell_is_one_point(two_point: Network, make_input: MakeInput) -> None:
    x = make_input(two_point, ticks=1, samples=30)
    found = gates(two_point, two_point.populations[0], x, golden.run(two_point, x).values)
    total = {"opened by context": 0, "closed by context": 0}
    for sample in range(30):
        points = {d.name: len(d.x) for d in figures.context(two_point.populations[0], found, {}, sample).data}
        assert sum(points.values()) == 4
        total = {k: n + points[k] for k, n in total.items()}
    assert list(total.values()) == [found.opened.sum(), found.closed.sum()]


def test_the_sweep_has_every_run_and_the_means_of_the_seeds() -> None:
    drawn = figures.sweep(SWEEP)
    assert [d.name for d in drawn.data if d.name] == ["mcc", "point &lt;b&gt;"]
    dots, line = drawn.data[:2]
    assert len(dots.x) == 4 and list(line.y) == pytest.approx([0.105, 0.145])
    assert drawn.layout.xaxis.type == "log"


def run(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "data": "grid",
        "train": "noisy",
        "net": "relu",
        "modulation": "none",
        "contexts": ["distal"],
    }
    base |= {"layers": 1, "cells": 4, "epochs": 2, "rate": 1e-3, "seed": 0, "penalty": 0.0}
    return {**base, "validation": {"error": 0.3}, "test": {"error": 0.25, "hidden": 7.0}, **changes}


def test_runs_of_the_study_become_one_curve_per_data_set() -> None:
    words = {"data": "grid-words", "validation": {"accuracy": 0.5}, "test": {"accuracy": 0.75, "hidden": 5.0}}
    worse = run(rate=2e-3, validation={"error": 0.4})
    found = figures.sweeps_of(
        [worse, run(), run(seed=2), run(penalty=1.0), run(**words), run(**words, penalty=4.0), run(net="two_point")]
    )
    row = {"net": "point, distal", "seed": 0, "penalty": 0.0, "error": 0.25, "transmissions": 7.0}
    assert found["grid"] == [row, {**row, "seed": 2}, {**row, "penalty": 1.0}]
    assert found["grid-words"] == [{**row, "transmissions": 5.0}, {**row, "penalty": 4.0, "transmissions": 5.0}]


def test_damage_of_the_study_is_drawn_by_what_died(lif: Network) -> None:
    hurt = [{"what": "cells", "share": 0.3, "seed": s, "error": 0.3 + s} for s in (0, 1)]
    found = figures.damage_of([run(), run(damage=hurt)])
    net = {"net": "point, distal, penalty 0", "what": "cells"}
    assert found == {"cells": [{**net, "share": 0, "seed": 0, "error": 0.25}, *({**net, **h} for h in hurt)]}
    titles = [title for title, _, _ in figures.section(lif, None, {}, {"runs": [run(damage=hurt)]}, 1)]
    assert titles == ["Damage, cells"]


def test_each_data_set_has_a_figure_of_its_own(lif: Network) -> None:
    runs = [run(data=d, penalty=p) for d in ("grid", "av-mnist") for p in (0.0, 1.0)]
    titles = [title for title, _, _ in figures.section(lif, None, {}, {"runs": runs, "sweep": SWEEP}, 1)]
    assert titles == [f"Error against transmissions{name}" for name in ("", ", grid", ", av-mnist")]


def test_damage_shows_how_much_worse_than_undamaged() -> None:
    rows = [
        {"net": "n", "what": "cells", "share": share, "seed": seed, "error": 0.2 + share * (1 + seed)}
        for share in (0, 0.5)
        for seed in (0, 1)
    ]
    absolute, growth = figures.damage(rows).data
    assert list(absolute.y) == pytest.approx([0.2, 0.95]) and list(growth.y) == pytest.approx([0, 0.75])
    assert list(absolute.x) == [0, 50]
    assert list(growth.error_y.array) == pytest.approx([0, 0.25])


def test_a_loss_of_accuracy_is_positive() -> None:
    rows = [{"net": "n", "what": "cells", "share": s, "seed": 0, "accuracy": 0.9 - s} for s in (0, 0.5)]
    assert list(figures.damage(rows).data[1].y) == pytest.approx([0, 0.5])


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ({"curves": []}, r"^results: expected sweep, runs, damage and life, got 'curves'$"),
        ({"sweep": []}, r"^sweep: expected a list of rows, got none$"),
        ({"sweep": [*SWEEP, {"net": "x"}]}, r"^sweep, row 8: expected net, seed, .*, got none of 'seed'$"),
        ({"runs": [{"net": "relu"}]}, r"^runs, row 0: expected data, .*, got none of 'data'$"),
        ({"damage": [3]}, r"^damage, row 0: expected net, .*, got none of 'net'$"),
        (
            {"damage": [{"net": "x", "what": "cells", "share": 0, "seed": 0}]},
            r"^damage: expected rows that all have error or all have accuracy$",
        ),
    ],
)
def test_results_that_lack_something_are_refused(lif: Network, results: dict[str, Any], message: str) -> None:
    with pytest.raises(ResultsError, match=message):
        figures.section(lif, None, {}, results, 1)


def test_a_network_without_context_and_results_adds_nothing(lif: Network, make_input: MakeInput) -> None:
    x = make_input(lif)
    assert figures.section(lif, x, golden.run(lif, x).values, {}, 2) == []


def test_the_damage_command_writes_rows_a_picture_and_a_table(apical: Callable[..., Any], tmp_path: Path) -> None:
    words = ["damage", "zoo:two-view-digits", "zoo:two-view-digits", "--data", "two-view-digits:sample"]
    words += ["--limit", "60", "--shares", "0,50", "--seeds", "2"]
    ran = apical(*words, "-o", tmp_path / "d.json", "--page", tmp_path / "d.html")
    assert ran.status == 0, ran.err
    assert [line.split()[1] for line in ran.out.splitlines()] == ["dead,", "0", "50"]
    rows = json.loads((tmp_path / "d.json").read_text())["damage"]
    assert [(r["share"], r["seed"], r["cells"]) for r in rows[:3]] == [(0, 0, 0), (0.5, 0, 48), (0.5, 1, 48)]
    assert rows[0]["accuracy"] > rows[1]["accuracy"]
    page = (tmp_path / "d.html").read_text()
    assert "loss of accuracy" in page and "<script src" not in page


@pytest.mark.parametrize(("shares", "message"), [("0,x", "got '0,x'"), ("0,200", "expected 0 to 100 percent")])
def test_shares_that_are_none_are_refused(apical: Callable[..., Any], shares: str, message: str) -> None:
    ran = apical("damage", "zoo:two-view-digits", "--data", "two-view-digits:sample", "--shares", shares)
    assert ran.status == 2 and message in ran.err


@pytest.mark.parametrize("text", ["[]", "{", '{"damage": 3}', '{"curves": []}'])
def test_files_that_hold_no_results_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "r.json").write_text(text)
    with pytest.raises(CliError, match=r"^--results .*r\.json: expected (a JSON file|an object with a list damage)"):
        read_results([tmp_path / "r.json"])


def test_rows_of_several_files_come_together(tmp_path: Path) -> None:
    for n in (0, 1):
        (tmp_path / f"{n}.json").write_text(json.dumps({"damage": [{"net": n}], "summary": {}}))
    assert read_results([tmp_path / "0.json", tmp_path / "1.json"]) == {"damage": [{"net": 0}, {"net": 1}]}


def test_the_page_has_them_under_a_heading_of_their_own(two_point: Network, make_input: MakeInput) -> None:
    x = make_input(two_point, samples=2)
    trace = golden.run(two_point, x)
    rtl = replace(trace, engine="verilated", cycles=9)
    summary = {"equal": True, "samples": 2, "cycles_per_sample": 4.5}
    page = report.render(
        [report.SystemReport("net", two_point, trace, rtl, summary, [], x=x, results={"sweep": SWEEP})]
    )
    after = page.split('<h3 id="s0-context">')[1].split("<h3")[0]
    assert re.findall(r'aria-label="([^."]*)\.', after) == ["Context of cells", "Error against transmissions"]
    assert len(re.findall(r'data-variants="([^"]*)"', after)[0].split()) == 2  # one per sample, by the page's chooser
    assert 'href="#s0-context"' in page
