"""The report page: self-contained, safe with any name, and showing the figures it was given."""

from __future__ import annotations

import base64
import json
import re
import shutil
import subprocess
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from markupsafe import escape
from plotly.offline import get_plotlyjs

from apical.sw import energy, golden, report, report_graph
from apical.sw.golden import Trace
from apical.sw.laws import Format, LeakyIntegrator, Lif, TwoPoint
from apical.sw.network import Input, Network, Population, Projection

NASTY = "</script><script>alert('x')</script><b>&amp;"


def ints(*values: int) -> np.ndarray:
    return np.array(values)


def spiking() -> Network:
    rng = np.random.default_rng(5)
    lif = {"decay": ints(230), "threshold": rng.integers(20, 60, 6), "bias": ints(0)}
    return Network(
        (Input("pixels", 9),),
        (
            Population(NASTY, 6, Lif(), lif),
            Population("readout", 3, LeakyIntegrator(), {"decay": ints(250), "bias": ints(0)}),
        ),
        (
            Projection("in", "pixels", NASTY, rng.integers(-30, 40, (6, 9))),
            Projection("again", NASTY, NASTY, rng.integers(-9, 9, (6, 6)), delay=1),
            Projection("out", NASTY, "readout", rng.integers(-30, 40, (3, 6))),
        ),
        ("readout",),
        "sum",
    )


def graded() -> Network:
    rng = np.random.default_rng(6)
    views = tuple(Input(name, 4, Format(4, signed=False)) for name in ("view a", "view b"))
    return Network(
        views,
        (Population("cells", 5, TwoPoint(shift=2), {"bias_basal": ints(0), "bias_apical": ints(0)}),),
        (
            Projection("r", "view a", "cells", rng.integers(0, 8, (5, 4)), weight_bits=4),
            Projection("c", "view b", "cells", rng.integers(-4, 4, (5, 4)), "apical", 4),
        ),
        ("cells",),
        "sum",
    )


def as_rtl(trace: Trace) -> Trace:
    return replace(trace, engine="verilated", cycles=1234, counters=dict(trace.counters))


def system(network: Network, ticks: int, top: int, name: str, **more: Any) -> report.SystemReport:
    x = np.random.default_rng(7).integers(0, top + 1, (8, ticks, network.input_size))
    trace = golden.run(network, x, states=True)
    summary = {
        "equal": True,
        "samples": 8,
        "mismatches": 0,
        "accuracy": 0.875,
        "cycles_per_sample": 1234.5,
        "cycles_per_tick": 205.75,
        "lane_utilization": 0.9375,
        "engine": "verilated",
    }
    given: dict[str, Any] = {"golden": trace, "rtl": as_rtl(trace), "summary": summary}
    given["energy"] = energy.table(network, trace)
    return report.SystemReport(name, network, **(given | more))


def both() -> list[report.SystemReport]:
    rng = np.random.default_rng(8)
    area = {"target": "xcup", "lut": 6321, "ff": 7000, "dsp": 12, "bram": 40, "uram": 0}
    board = {"target": "board <x>", "lut": 9876, "ff": 5432, "fmax_mhz": 117.5, "bitstream": "top.bit"}
    images = rng.integers(0, 256, (8, 6, 6))
    labels = rng.integers(0, 3, 8)
    return [
        system(spiking(), 6, 1, "spikes", images=images, labels=labels, utilization=area, bitstream=board),
        system(graded(), 1, 15, NASTY, images=rng.random((8, 2, 4, 4)), provenance={"seed": 42}),
    ]


def page_of(systems: list[report.SystemReport]) -> str:
    """The page without the plotting library's own text."""
    text = report.render(systems, title="test " + NASTY)
    assert text.count(get_plotlyjs()) == 1
    return text.replace(get_plotlyjs(), "")


def figures_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="figures">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    figures: dict[str, Any] = json.loads(found[1])
    return figures


def plot_called(page: str, title: str) -> list[dict[str, Any]]:
    """Variants of the plot whose accessible name starts with `title`."""
    found = re.search(rf'aria-label="{re.escape(title)}\.[^"]*" data-variants="([^"]+)"', page)
    assert found is not None, title
    return [figures_of(page)[name] for name in found[1].split()]


def test_the_page_loads_nothing_from_outside() -> None:
    page = page_of(both())
    assert not re.search(r"https?://|@import|//cdn", page)
    targets = re.findall(r'\b(?:src|href|data|action|poster)\s*=\s*"([^"]*)"', page)
    assert targets
    assert all(t.startswith(("#", "data:image/png;base64,")) for t in targets)
    assert all(t.startswith("#") for t in re.findall(r"url\(([^)]*)\)", page))
    assert "default-src 'none'" in page  # and the browser enforces it


def test_names_never_become_markup() -> None:
    page = page_of(both())
    assert "alert(" in page
    assert "<script>alert" not in page
    assert "</script><script>" not in page.replace("</script>\n<script>", "")
    assert page.count("<script") == 3  # figures, library, ours
    assert "<b>" not in page


def test_names_in_plots_are_text_for_plotly_too() -> None:
    events = plot_called(page_of(both()), "Events per tick")[0]
    names = [trace["name"] for trace in events["data"]]
    assert names[0] == "&lt;/script&gt;&lt;script&gt;alert('x')&lt;/script&gt;&lt;b&gt;&amp;amp;, golden"


def test_headline_figures_are_those_given() -> None:
    page = page_of(both())

    def shown(key: str) -> list[str]:
        return re.findall(rf'<dd data-key="{key}">([^<]*)</dd>', page)

    rows = [energy.report(s.network, s.golden) for s in both()]
    assert page.count("equal: 8 of 8 samples, every tick, every counter") == 2
    assert shown("accuracy") == ["87.50 %"] * 2
    assert shown("cycles_per_sample") == ["1,234"] * 2
    assert shown("lane_utilization") == ["0.938"] * 2
    assert shown("lut") == ["6,321 LUT"]
    assert shown("fmax_mhz") == ["117.5 MHz"]
    assert shown("joules_per_sample") == [report.joules_text(r["joules_per_sample"]) for r in rows]


def test_plots_hold_the_traces() -> None:
    systems = both()
    page, trace = page_of(systems), systems[0].golden
    spikes = plot_called(page, "Spikes of " + str(escape(NASTY)))
    for sample, figure in enumerate(spikes):
        ticks, neurons = np.nonzero(trace.values[NASTY][sample])
        for drawn in figure["data"]:
            assert (drawn["x"], drawn["y"]) == (ticks.tolist(), neurons.tolist())
    membranes = plot_called(page, "State v of readout")[1]
    for n in range(3):
        assert membranes["data"][2 * n]["y"] == trace.states["readout"]["v"][1, :, n].tolist()
        assert membranes["data"][2 * n + 1]["y"] == trace.states["readout"]["v"][1, :, n].tolist()


def test_golden_and_rtl_are_drawn_from_their_own_traces() -> None:
    one = both()[1]
    rtl = as_rtl(one.golden)
    rtl.values = {"cells": one.golden.values["cells"] + 1}
    page = page_of([replace(one, rtl=rtl, summary={**one.summary, "equal": False, "mismatches": 8})])
    values = plot_called(page, "Values of cells")[0]["data"]
    assert [trace["name"] for trace in values] == ["golden", "RTL"]
    assert values[1]["y"] == rtl.values["cells"][0, 0].tolist()
    assert values[0]["y"] != values[1]["y"]


def test_energy_plot_holds_the_joules_of_the_table() -> None:
    systems = both()
    row = systems[0].energy[0]
    figure = plot_called(page_of(systems), "Energy by kind of work, horowitz-45nm")[0]
    unit = {"pJ per sample": 1e-12, "nJ per sample": 1e-9}[figure["layout"]["xaxis"]["title"]["text"]]
    total = sum(trace["x"][0] for trace in figure["data"]) * unit
    assert np.isclose(total, row["joules_per_sample"], rtol=1e-9)


def test_the_recurrent_baselines_stand_in_a_table_where_samples_have_ticks() -> None:
    systems = both()
    rows = [r for r in systems[0].energy[0]["baselines"] if r["name"] == "lstm" and r["constants"] == "int32-45nm"]
    assert len(rows) == 2
    page = page_of(systems)
    for row in rows:
        cells = [report.number_text(row[k]) for k in ("picojoules_per_tick", "ratio_counted", "ratio_operations")]
        assert "".join(f'<td class="n">{cell}</td>' for cell in cells) in page
    assert page.count("Picojoules per tick beside recurrent networks") == 1  # the graded system has one tick
    assert page.count("Share of neuron updates, by the form of the laws") == 1


def test_confusion_matrix_counts_every_sample() -> None:
    systems = both()
    figure = plot_called(page_of(systems), "Confusion matrix")[0]
    matrix = np.array(figure["data"][0]["z"])
    truth, given = systems[0].truth, golden.decode(spiking(), systems[0].rtl)
    assert truth is not None
    assert given is not None
    assert matrix.sum() == 8
    assert np.trace(matrix) == int((truth.classes == given).sum())


def test_a_mismatch_is_said_first_and_loud() -> None:
    one = both()[0]
    said = "sample 3, tick 1: population 'readout', neuron 2, value: golden 5, RTL <6>"
    summary = {**one.summary, "equal": False, "mismatches": 1, "divergence": said}
    page = page_of([replace(one, summary=summary)])
    assert "not equal: 1 of 8 samples differ" in page
    assert "RTL &lt;6&gt;" in page
    assert "every tick, every counter" not in page


def test_a_counter_that_differs_is_marked() -> None:
    one = both()[0]
    rtl = as_rtl(one.golden)
    rtl.counters["projection out: events"] += 1
    page = page_of([replace(one, rtl=rtl, summary={**one.summary, "equal": False})])
    row = re.search(r'<th scope="row">projection out: events</th>(.*?)</tr>', page)
    assert row is not None
    assert row[1].endswith("<td>NO</td>")


def test_a_page_never_says_equal_where_its_traces_differ() -> None:
    one = both()[0]
    rtl = as_rtl(one.golden)
    rtl.counters["projection out: events"] += 1
    with pytest.raises(ValueError, match=r"^report: system 'spikes': said to be equal, but counter 'projection out"):
        report.render([replace(one, rtl=rtl)])
    rtl = as_rtl(one.golden)
    rtl.outputs = {"readout": one.golden.outputs["readout"] + 1}
    with pytest.raises(ValueError, match=r"^report: system 'spikes': said to be equal, but outputs of "):
        report.render([replace(one, rtl=rtl)])


def test_a_trace_without_a_populations_values_is_refused() -> None:
    one = both()[1]
    with pytest.raises(ValueError, match=r"^report: system .*: expected values of every population"):
        report.render([replace(one, rtl=replace(one.rtl, values={"other": one.rtl.values["cells"]}))])


def test_a_report_needs_a_system() -> None:
    with pytest.raises(ValueError, match=r"^report: expected at least one system, got none$"):
        report.render([])


def test_parts_that_were_not_given_are_left_out() -> None:
    bare = replace(both()[1], energy=(), images=None, summary={"equal": True, "samples": 8})
    page = page_of([bare])
    assert 'id="s0-energy"' not in page
    assert 'id="s0-area"' not in page
    assert 'id="s0-predictions"' not in page
    assert 'id="s0-signals"' in page


def test_contents_lead_to_parts_that_are_there_and_ids_are_unique() -> None:
    page = page_of(both())
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    links = re.findall(r'href="#([^"]+)"', page)
    assert links
    assert set(links) <= set(ids)


def test_tables_plots_and_images_say_what_they_are() -> None:
    page = page_of(both())
    assert page.count("<table>") == page.count("<caption>")
    assert all(alt for alt in re.findall(r'<img [^>]*alt="([^"]*)"', page))
    assert not re.search(r"<img (?![^>]*alt=)", page)
    assert not re.search(r'class="plot" (?!role="img" aria-label="[^"]+")', page)


def test_an_image_is_the_pixels_given() -> None:
    images = both()[0].images
    assert images is not None
    address = report._image(images[0].astype(float), 255.0)
    data = base64.b64decode(address.partition(",")[2])
    start = data.index(b"IDAT") + 4
    length = int.from_bytes(data[start - 8 : start - 4])
    rows = np.frombuffer(zlib.decompress(data[start : start + length]), np.uint8).reshape(6, 7)
    assert np.array_equal(rows[:, 1:], images[0])


def test_a_failed_write_leaves_no_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fdopen", full)
    with pytest.raises(OSError, match="No space left"):
        report.write_report(tmp_path / "report.html", both())
    assert list(tmp_path.iterdir()) == []


def test_the_drawing_has_every_node_and_projection_inside_its_frame() -> None:
    for network in (spiking(), graded()):
        drawing = report_graph.draw(network)
        assert {b.full for b in drawing.boxes} == set(network.nodes)
        assert len(drawing.edges) == len(network.projections)
        for box in drawing.boxes:
            assert 0 <= box.x <= drawing.width - report_graph.BOX_WIDTH
            assert 0 <= box.y <= drawing.height - report_graph.BOX_HEIGHT
        places = [(b.x, b.y) for b in drawing.boxes]
        assert len(set(places)) == len(places)


@pytest.mark.parametrize(
    ("joules", "text"), [(8.41e-7, "841 nJ"), (1.5e-6, "1.5 µJ"), (3e-12, "3 pJ"), (0.25, "250 mJ"), (0.0, "0 pJ")]
)
def test_joules_are_written_with_a_fitting_unit(joules: float, text: str) -> None:
    assert report.joules_text(joules) == text


def chromium() -> str:
    found = [p for name in ("chromium", "chromium-browser", "google-chrome") if (p := shutil.which(name))]
    if not found:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    return found[0]


def open_page(page: Path, query: str = "") -> tuple[str, list[str]]:
    """Open a page in headless Chromium: its final document, and what it wrote to the console."""
    done = subprocess.run(
        [
            chromium(),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            f"--user-data-dir={page.parent / 'profile'}",
            "--enable-logging=stderr",
            "--virtual-time-budget=30000",
            "--window-size=1280,2000",
            "--dump-dom",
            page.as_uri() + query,
        ],
        capture_output=True,
        text=True,
        timeout=240,
        check=True,
    )
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_chromium_draws_every_plot_without_a_console_message(tmp_path: Path, theme: str) -> None:
    path = tmp_path / "report.html"
    report.write_report(path, both())
    document, console = open_page(path, f"?theme={theme}")
    assert console == []
    places = path.read_text(encoding="utf-8").count('class="plot"')
    assert f'data-plots="{places}"' in document
    assert f'data-theme="{theme}"' in document
    spikes = int(np.count_nonzero(both()[0].golden.values[NASTY][0]))
    raster = document[document.index('aria-label="Spikes of') : document.index('aria-label="State v of')]
    assert len(re.findall(r'<path class="point"', raster)) == 2 * spikes  # golden's rings and the RTL's dots


def test_chromium_would_report_a_broken_page(tmp_path: Path) -> None:
    path = tmp_path / "broken.html"
    path.write_text("<!DOCTYPE html><body><script>undefinedFunction()</script>", encoding="utf-8")
    _, console = open_page(path)
    assert len(console) == 1
    assert "undefinedFunction" in console[0]
