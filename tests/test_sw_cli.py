"""The command line: its answers, for people and for programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apical.sw import bundle, golden
from apical.sw.network import Network

Apical = Callable[..., Any]


COMMANDS = [
    "demo",
    "train",
    "zoo",
    "export",
    "golden",
    "build",
    "cosim",
    "energy",
    "synth",
    "report",
    "bench",
    "doctor",
    "stream",
    "import",
    "prove",
    "damage",
    "gates",
    "life",
    "fit",
    "activity",
    "reports",
]


def answer(ran: Any, status: int = 0) -> dict[str, Any]:
    """The one JSON object on standard output."""
    assert ran.status == status, ran.err
    assert ran.out.endswith("}\n")
    assert ran.out.count("\n") == 1
    found: dict[str, Any] = json.loads(ran.out)
    return found


def test_help_names_every_command(apical: Apical) -> None:
    ran = apical("--help")
    assert ran.status == 0
    listed = ran.out.split("Commands:")[1].split("Start with")[0]
    assert sorted(line.split()[0] for line in listed.splitlines() if re.match("  [a-z]", line)) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_has_an_example(apical: Apical, command: str) -> None:
    ran = apical(command, "--help")
    assert ran.status == 0
    assert f"Example: apical {command}" in ran.out


def test_help_loads_no_heavy_library() -> None:
    code = (
        "import sys; sys.argv = ['apical', '--help']\n"
        "from apical.sw.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'amaranth', 'plotly') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_golden_answers_with_the_promised_keys(apical: Apical, lif_bundle: Path, lif_input: Path) -> None:
    got = answer(apical("golden", lif_bundle, "--input", lif_input, "--json"))
    assert set(got) == {"samples", "accuracy", "accuracy_labelled", "error", "counts", "samples_per_second"}
    assert got["samples"] == 4
    assert 0 <= got["accuracy"] <= 1


def test_golden_writes_output_class_and_events(
    apical: Apical, lif: Network, lif_bundle: Path, lif_input: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.npz"
    got = answer(apical("golden", lif_bundle, "--input", lif_input, "-o", out, "--json"))
    trace = golden.run(lif, np.load(lif_input)["x"])
    with np.load(out) as arrays:
        assert sorted(arrays) == ["class", "events/hidden", "events/out", "output"]
        np.testing.assert_array_equal(arrays["output"], trace.outputs["out"])
        np.testing.assert_array_equal(arrays["class"], golden.decode(lif, trace))
        np.testing.assert_array_equal(arrays["events/hidden"], trace.values["hidden"])
    assert got["counts"] == trace.counters


def test_golden_without_labels_has_no_accuracy(apical: Apical, lif_bundle: Path, lif_input: Path) -> None:
    np.savez(lif_input, x=np.load(lif_input)["x"])
    assert answer(apical("golden", lif_bundle, "--input", lif_input, "--json"))["accuracy"] is None


def test_golden_for_people_prints_a_table(apical: Apical, lif_bundle: Path, lif_input: Path) -> None:
    ran = apical("golden", lif_bundle, "--input", lif_input)
    assert ran.status == 0
    assert "samples_per_second" in ran.out
    assert "population hidden: events" in ran.out


def test_limit_takes_the_first_samples(apical: Apical, lif_bundle: Path, lif_input: Path) -> None:
    got = answer(apical("golden", lif_bundle, "--input", lif_input, "--limit", 3, "--json"))
    assert got["samples"] == 3


def test_export_writes_an_equal_bundle(apical: Apical, lif: Network, lif_bundle: Path, tmp_path: Path) -> None:
    got = answer(apical("export", lif_bundle, "-o", tmp_path / "copy", "--json"))
    assert got["identity"] == bundle.identity(lif) == bundle.identity(bundle.load(tmp_path / "copy"))


def test_awkward_names_go_through(apical: Apical, awkward: Network, lif_input: Path, tmp_path: Path) -> None:
    bundle.save(awkward, tmp_path / "awkward")
    answer(apical("export", tmp_path / "awkward", "-o", tmp_path / "again", "--json"))
    got = answer(apical("golden", tmp_path / "again", "--input", lif_input, "-o", tmp_path / "out.npz", "--json"))
    names = [p.name for p in awkward.populations]
    assert {f"population {n}: events" for n in names} <= set(got["counts"])
    with np.load(tmp_path / "out.npz") as arrays:
        assert {f"events/{n}" for n in names} <= set(arrays)
    built = answer(apical("build", tmp_path / "again", "-o", tmp_path / "rtl", "--json"))
    text = "".join(Path(f).read_text() for f in built["files"] if f.endswith(".v"))
    assert "module " in text
    assert not any(n in text for n in ("été", "puts", "say", str(tmp_path), "[exec"))


def test_build_is_deterministic(apical: Apical, lif_bundle: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        answer(apical("build", lif_bundle, "-o", tmp_path / name, "--json"))
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 2
    for file in files:
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_energy_answers_with_the_promised_keys(apical: Apical, lif_bundle: Path, lif_input: Path) -> None:
    got = answer(apical("energy", lif_bundle, "--input", lif_input, "--json"))
    assert {"joules_per_sample", "counts", "technology", "baseline"} <= set(got)
    assert got["joules_per_sample"] > 0


def test_energy_of_all_technologies_is_side_by_side(apical: Apical, lif_bundle: Path, lif_input: Path) -> None:
    got = answer(apical("energy", lif_bundle, "--input", lif_input, "--technology", "all", "--json"))
    assert len(got) >= 4
    assert all(row["joules_per_sample"] > 0 for row in got.values())


def test_doctor_names_a_missing_tool_and_what_to_do(apical: Apical, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_VERILATOR", "no-such-program")
    got = answer(apical("doctor", "--json"), status=1)
    assert not got["ok"]
    assert got["tools"]["verilator"]["do"] == "APICAL_VERILATOR names 'no-such-program', which is no program"
    assert {"yosys", "g++", "make", "perl", "vivado"} <= set(got["tools"])


def test_a_checkpoint_exports_its_best_epoch(apical: Apical, tmp_path: Path) -> None:
    from apical.sw.recipes import RECIPES

    model = RECIPES["mnist-lif"].build()
    torch.save({"best": model.state_dict(), "fitted": {"epoch": 3, "accuracy": 0.5}}, tmp_path / "run.pt")
    got = answer(apical("export", tmp_path / "run.pt", "--recipe", "mnist-lif", "-o", tmp_path / "net", "--json"))
    assert got["identity"] == bundle.identity(model.export()) == bundle.identity(bundle.load(tmp_path / "net"))


def test_awkward_names_are_proven_equal(apical: Apical, awkward: Network, lif_input: Path, tmp_path: Path) -> None:
    bundle.save(awkward, tmp_path / "awkward")
    ran = apical("cosim", tmp_path / "awkward", "--input", lif_input, "--json")
    got = answer(ran)
    keys = (
        "equal samples mismatches accuracy cycles_per_sample cycles_per_tick lane_utilization samples_per_second engine"
    )
    assert set(keys.split()) <= set(got)
    assert (got["equal"], got["samples"], got["mismatches"], got["engine"]) == (True, 4, 0, "verilated")


def test_cosim_says_the_sentence_and_a_mismatch_ends_with_1(
    apical: Apical, lif_bundle: Path, lif_input: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = apical("cosim", lif_bundle, "--input", lif_input)
    assert ran.status == 0
    assert ran.out.splitlines()[0] == "equal: 4 of 4 samples, every tick, every counter"
    exact = golden.run

    def faulty(*words: Any, **options: Any) -> golden.Trace:
        trace = exact(*words, **options)
        trace.values["hidden"][2, 3, 1] ^= 1
        return trace

    monkeypatch.setattr(golden, "run", faulty)
    ran = apical("cosim", lif_bundle, "--input", lif_input)
    assert ran.status == 1
    assert ran.out.startswith("NOT equal: 3 of 4 samples; first divergence: ")
    assert answer(apical("cosim", lif_bundle, "--input", lif_input, "--json"), status=1)["equal"] is False
