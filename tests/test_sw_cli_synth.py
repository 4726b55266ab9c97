"""The commands fit, synth and reports: from a bundle to all that Vivado needs, and back from its reports."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
from collections.abc import Callable
from importlib import util
from pathlib import Path
from typing import Any

import pytest

from apical.hw import vivado
from apical.sw import bundle
from apical.sw.network import Network

Apical = Callable[..., Any]
HERE = Path(__file__).parent
needs_tcl = pytest.mark.skipif(
    shutil.which("tclsh") is None and util.find_spec("_tkinter") is None,
    reason="no Tcl interpreter (tclsh, or Python's tkinter) to execute the scripts with",
)


def answer(ran: Any) -> dict[str, Any]:
    assert ran.status == 0, ran.err
    found: dict[str, Any] = json.loads(ran.out)
    return found


@pytest.fixture
def fake_vivado(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_VIVADO", str(HERE / "fake_tools" / "vivado"))
    monkeypatch.setenv("FAKE_REPORTS", str(HERE / "expected" / "vivado_reports"))


@pytest.fixture
def no_vivado(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("APICAL_VIVADO", raising=False)
    folders = [p for p in os.environ["PATH"].split(os.pathsep) if not (Path(p) / "vivado").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(folders))


def test_fit_says_lanes_shares_and_what_binds(apical: Apical, lif_bundle: Path) -> None:
    found = answer(apical("fit", lif_bundle, "--board", "zcu104", "--json"))
    assert found["device"] == "xczu7ev-ffvc1156-2-e" and set(found["lanes"]) == {"hidden", "out"}
    assert 0 < found["percent"]["lut"] < 10 and found["binds"] and found["cycles_per_tick"] >= 6
    text = apical("fit", lif_bundle, "--board", "zcu104").out
    assert "of device" in text and f"binds     {found['binds']}" in text


def test_fit_counts_activity_on_data(apical: Apical, lif_bundle: Path, lif_input: Path) -> None:
    found = answer(apical("fit", lif_bundle, "--board", "kv260", "--input", lif_input, "--json"))
    assert found["activity"]["in"] not in (0.1, 0) and set(found["activity"]) == {"in", "hidden", "out"}


def test_fit_of_an_unknown_board_lists_the_known_ones(apical: Apical, lif_bundle: Path) -> None:
    ran = apical("fit", lif_bundle, "--board", "arty")
    assert ran.status == 2
    assert re.search(r"^apical: --board 'arty': expected one of colorlight-i5, .*zcu104", ran.err, re.MULTILINE)


@pytest.mark.parametrize("target", ["kv260", "vcu118"])
def test_one_command_writes_ip_scripts_constraints_driver_and_lists(
    target: str, apical: Apical, lif_bundle: Path, tmp_path: Path, no_vivado: None
) -> None:
    out = tmp_path / "out"
    found = answer(apical("synth", lif_bundle, "--target", target, "-o", out, "--no-area", "--json"))
    made = {p.relative_to(out).as_posix() for p in out.rglob("*") if p.is_file()}
    assert {str(out / name) for name in made} == set(found["files"])
    for name in ("package_ip", "system", "project", "non_project", "out_of_context"):
        assert f"vivado/{name}.tcl" in made
    assert {"rtl/apical_axi.v", "constraints/board.xdc", "driver/apical_registers.h", "apical.core"} <= made
    assert {"driver/registers.json", "driver/registers.rdl", "driver/registers.md", "apical.eda.yml"} <= made
    assert found["label"] == "not run in Vivado, not run on silicon"
    assert found["vivado"] == "not on PATH: scripts written, not run"
    assert "Not run in Vivado and not on silicon" in (out / "README.md").read_text()
    facts = json.loads((out / "design.json").read_text())
    assert facts["identity"] == found["identity"] and facts["addresses"]["registers"] % 4096 == 0


def test_the_driver_on_the_board_needs_nothing_but_numpy_and_pynq(
    apical: Apical, lif_bundle: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    answer(apical("synth", lif_bundle, "--target", "kv260", "-o", out, "--no-area", "--json"))
    files = {p.stem: p for p in (out / "driver" / "python" / "apical" / "sw").glob("*.py")}
    assert "pynq_driver" in files
    outside = set()
    for file in files.values():
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                if name.startswith("apical."):
                    assert name.split(".")[2] in files, f"{file.name} imports {name}"
                else:
                    outside.add(name.split(".")[0])
    assert outside - set(sys.stdlib_module_names) <= {"numpy", "pynq"}


def test_the_same_bundle_gives_the_same_bytes(apical: Apical, lif_bundle: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        answer(apical("synth", lif_bundle, "--target", "zcu104", "-o", tmp_path / name, "--no-area", "--json"))
    files = [p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file()]
    assert len(files) > 10
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes(), file


def test_a_model_s_strings_reach_no_script(apical: Apical, awkward: Network, tmp_path: Path) -> None:
    bundle.save(awkward, tmp_path / "net")
    answer(apical("synth", tmp_path / "net", "--target", "kv260", "-o", tmp_path / "out", "--no-area", "--json"))
    for file in [*(tmp_path / "out").rglob("*.tcl"), *(tmp_path / "out").rglob("*.xdc"), tmp_path / "out/apical.core"]:
        text = file.read_text(encoding="utf-8")
        for hostile in ('say "hi"', "été", "endmodule --", "[exec ls]", "{x}"):
            assert hostile not in text, file


@needs_tcl
@pytest.mark.parametrize("target", ["kv260", "kcu116"])
def test_the_written_scripts_run_on_the_generated_block(
    target: str, apical: Apical, lif_bundle: Path, tmp_path: Path, fake_vivado: None
) -> None:
    out = tmp_path / "out"
    words = ("synth", lif_bundle, "--target", target, "-o", out, "--no-area", "--json", "--run")
    timed = answer(apical(*words, "timing"))["vivado"]
    assert timed["ran"] == ["out_of_context.tcl"]
    assert timed["utilization"]["lut"] == 6521 and timed["timing"]["fmax_mhz"] == 250.0
    built = answer(apical(*words, "bitstream"))["vivado"]
    assert built["ran"] == ["package_ip.tcl", "non_project.tcl"]
    assert (out / "vivado" / "apical_axi.bit").is_file() and (out / "ip" / "apical_axi" / "component.xml").is_file()


@needs_tcl
def test_a_vivado_that_stops_shows_its_last_lines(
    apical: Apical, lif_bundle: Path, tmp_path: Path, fake_vivado: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vivado, "_REPORT_LINES", vivado.Raw("report_utilisation -file x"))
    ran = apical("synth", lif_bundle, "--target", "kv260", "-o", tmp_path / "o", "--no-area", "--run", "timing")
    assert ran.status == 2 and 'invalid command name "report_utilisation"' in ran.err


def test_without_vivado_run_says_how_to_get_it(
    apical: Apical, lif_bundle: Path, tmp_path: Path, no_vivado: None
) -> None:
    out = tmp_path / "out"
    ran = apical("synth", lif_bundle, "--target", "kv260", "-o", out, "--no-area", "--run", "timing")
    assert ran.status == 2 and "vivado is missing" in ran.err and "settings64.sh" in ran.err
    assert (out / "vivado" / "out_of_context.tcl").is_file()


@pytest.mark.parametrize("words", [("--target", "xcup"), ("--target", "ulx3s", "-o", "x")])
def test_run_is_for_ultrascale_boards(words: tuple[str, ...], apical: Apical, lif_bundle: Path) -> None:
    ran = apical("synth", lif_bundle, *words, "--run", "timing")
    assert ran.status == 2 and "--run: expected an UltraScale+ board as --target" in ran.err


def test_reports_are_figures(apical: Apical) -> None:
    found = answer(apical("reports", HERE / "expected" / "vivado_reports", "--json"))
    assert found["utilization"]["bram"] == 64.5 and found["timing"]["met"] and found["power"]["dynamic_w"] == 0.188


def test_prices_come_from_the_power_report_and_the_counted_workload(apical: Apical, tmp_path: Path) -> None:
    counted = {"identity": "12ab", "seconds": 0.01, "counts": {"weight_read": 10, "weight_read bits": 8_000_000}}
    (tmp_path / "a.json").write_text(json.dumps(counted))
    folder, table = HERE / "expected" / "vivado_reports", tmp_path / "mine.yaml"
    found = answer(apical("reports", folder, "--activity", tmp_path / "a.json", "--prices", table, "--json"))
    assert found["technology"]["prices"] == {"weight_read": 100.0}
    assert "network 12ab" in table.read_text()


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, "expected both or neither"), ("{}", "expected what `apical activity` wrote: KeyError")],
)
def test_prices_without_a_workload_are_refused(
    content: str | None, message: str, apical: Apical, tmp_path: Path
) -> None:
    words: list[object] = ["reports", HERE / "expected" / "vivado_reports", "--prices", tmp_path / "t.yaml"]
    if content is not None:
        (tmp_path / "a.json").write_text(content)
        words += ["--activity", tmp_path / "a.json"]
    ran = apical(*words)
    assert ran.status == 2 and message in ran.err


@pytest.mark.heavy
def test_area_and_depth_are_counted_by_a_real_yosys(apical: Apical, lif_bundle: Path, tmp_path: Path) -> None:
    found = answer(apical("synth", lif_bundle, "--target", "kv260", "-o", tmp_path / "out", "--json"))
    assert 300 < found["lut"] < 3000 and found["percent"]["lut"] == round(100 * found["lut"] / 117_120, 2)
    assert found["levels"] <= 6 and found["dsp_levels"] in (None, 0, 1)
    kept = json.loads((tmp_path / "out" / "area.json").read_text())
    assert kept["depth"]["path"]["levels"] == found["levels"]
