"""The command line and mistakes: one clear line each, exit status, nothing half-written, Ctrl-C ends the children."""

from __future__ import annotations

import os
import pickle
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sw import bundle, cli_common, golden
from apical.sw.laws import Relu
from apical.sw.network import Input, Network, Population, Projection

Apical = Callable[..., Any]


MAIN = "from apical.sw.cli import main; main()"


def refused(ran: Any, message: str) -> None:
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"apical: {message}\n" if not message.endswith("…") else message[:-1] in ran.err
    assert len([line for line in ran.err.splitlines() if line.startswith("apical: ")]) == 1
    assert "Traceback" not in ran.err


def test_a_missing_tool_is_one_line(
    apical: Apical, lif_bundle: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("APICAL_YOSYS", "no-such-program")
    monkeypatch.setenv("APICAL_CACHE", str(tmp_path / "cache"))
    refused(apical("synth", lif_bundle), "yosys is missing (needed for …")


@pytest.mark.parametrize("words", [["golden"], ["golden", "x", "--limit", "0"], ["nonsense"], ["golden", "x", "-w"]])
def test_bad_usage_ends_with_2(apical: Apical, words: list[str]) -> None:
    ran = apical(*words)
    assert (ran.status, ran.out) == (2, "")
    assert "Error: " in ran.err


def test_a_missing_bundle_is_named(apical: Apical) -> None:
    message = "BUNDLE 'nowhere': expected a bundle's folder or zoo:NAME, got no such folder"
    refused(apical("golden", "nowhere", "--input", "x.npz"), message)


def test_neither_or_both_inputs_are_refused(apical: Apical, lif_bundle: Path) -> None:
    message = "expected one of --input FILE.npz and --data NAME[:SPLIT], got "
    refused(apical("golden", lif_bundle), message + "neither")
    refused(apical("golden", lif_bundle, "--input", "x", "--data", "y"), message + "both")


def test_an_unknown_data_set_is_named(apical: Apical, lif_bundle: Path) -> None:
    refused(apical("golden", lif_bundle, "--data", "imagenet"), "data set: expected one of …")


def test_a_damaged_bundle_is_one_line(apical: Apical, lif_bundle: Path, lif_input: Path) -> None:
    (lif_bundle / "arrays" / "projection0.weights.npy").unlink()
    message = "projection 'in-hidden', weights: array file arrays/projection0.weights.npy is missing"
    refused(apical("golden", lif_bundle, "--input", lif_input, "--json"), message)


class Poison:
    """Unpickling it would leave a trace."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("poisoned",)


ZERO = np.zeros((4, 5, 6), np.int64)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": np.array([Poison()], dtype=object)}, "x: expected a plain integer array, got none: Object arrays…"),
        ({"x": ZERO.astype(float)}, "input x: expected integers, got float64…"),
        ({"x": ZERO[..., :5]}, "input x: expected shape [samples, ticks, 6], got [4, 5, 5]…"),
        ({"x": ZERO + 2}, "input 'in': expected values 0 to 1, got 2 at sample 0, tick 0, channel 0…"),
        ({"y": ZERO}, "expected arrays 'x' and 'labels', got 'y' as well…"),
        ({"labels": ZERO}, "expected an array 'x' [samples, ticks, inputs], got ['labels']…"),
        ({"x": ZERO, "labels": np.zeros(3, int)}, "labels: expected integers of shape [4], got int64 of shape [3]…"),
        ({"x": ZERO, "labels": np.zeros(4)}, "labels: expected integers of shape [4], got float64 of shape [4]…"),
    ],
    ids=["pickle", "floats", "shape", "range", "name", "no x", "short labels", "float labels"],
)
def test_a_bad_input_file_is_named(
    apical: Apical,
    lif_bundle: Path,
    tmp_path: Path,
    arrays: dict[str, np.ndarray],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    np.savez(tmp_path / "bad.npz", **arrays)  # type: ignore[arg-type]
    refused(apical("golden", lif_bundle, "--input", "bad.npz", "--json"), message)
    assert not (tmp_path / "poisoned").exists()


def test_a_plain_pickle_in_place_of_an_npz_is_refused(
    apical: Apical, lif_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.npz").write_bytes(pickle.dumps(Poison()))
    refused(apical("golden", lif_bundle, "--input", "bad.npz"), "expected an .npz file as numpy.savez writes it: …")
    assert not Path("poisoned").exists()


def test_an_input_that_unpacks_to_too_much_is_refused(
    apical: Apical, lif_bundle: Path, lif_input: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli_common, "LIMIT_INPUT", 1000)
    refused(apical("golden", lif_bundle, "--input", lif_input), "x: expected at most 1000 bytes, got 1088…")


def test_event_lanes_that_are_no_power_of_two_are_refused(apical: Apical, lif_bundle: Path, tmp_path: Path) -> None:
    ran = apical("build", lif_bundle, "-o", tmp_path / "rtl", "--event-lanes", 3)
    refused(ran, "--event-lanes: expected a power of two, got 3")


def test_a_full_disk_is_one_line_and_leaves_nothing(lif_bundle: Path, lif_input: Path, tmp_path: Path) -> None:
    """A limit on the size of files makes the system refuse a write half-way, as a full disk does."""

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))

    folder = tmp_path / "results"
    folder.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", MAIN, "golden", lif_bundle, "--input", lif_input, "-o", folder / "out.npz"],
        capture_output=True,
        text=True,
        preexec_fn=limit,
        check=False,
    )
    assert done.returncode == 2
    assert [line for line in done.stderr.splitlines() if line.startswith("apical: ")] == ["apical: File too large"]
    assert list(folder.iterdir()) == []


def test_output_that_is_a_folder_of_other_things_is_left_alone(
    apical: Apical, lif_bundle: Path, tmp_path: Path
) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "letters.txt").write_text("dear")
    refused(apical("export", lif_bundle, "-o", tmp_path / "home"), "found 'letters.txt' in it…")
    assert (tmp_path / "home" / "letters.txt").exists()


def test_a_defect_of_ours_shows_its_traceback(
    apical: Apical, lif_bundle: Path, lif_input: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(golden, "run", broken)
    with pytest.raises(KeyError, match="ours"):
        apical("golden", lif_bundle, "--input", lif_input)


def alive(pid: int) -> bool:
    """True where the process runs (a zombie has ended)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_the_children_too(tmp_path: Path, number: signal.Signals) -> None:
    """The command waits for a child that waits for a grandchild; a signal to the command alone ends all three."""
    grandchild = "import os, time, pathlib; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(600)"
    child = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    code = (
        "import sys, subprocess\n"
        "from apical.sw import cli\n"
        "@cli.app.command()\n"
        f"def hang() -> None: subprocess.Popen([sys.executable, '-c', {child!r}]).wait()\n"
        "sys.argv = ['apical', 'hang']\n"
        "cli.main()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, start_new_session=True
    )
    try:
        for _ in range(600):
            if (tmp_path / "pid").is_file() and (tmp_path / "pid").read_text():
                break
            time.sleep(0.05)
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
        process.send_signal(number)
        assert process.wait(30) == 130
        for _ in range(200):
            if not alive(pid):
                break
            time.sleep(0.05)
        assert not alive(pid)
    finally:
        process.kill()
        process.communicate()


def test_a_pickle_in_place_of_a_checkpoint_is_refused(
    apical: Apical, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.pt").write_bytes(pickle.dumps({"best": Poison()}))
    ran = apical("export", "run.pt", "--recipe", "mnist-lif", "-o", "net")
    refused(ran, "SOURCE run.pt: expected a checkpoint of recipe mnist-lif: …")
    assert not Path("poisoned").exists()
    assert not Path("net").exists()


def test_a_checkpoint_without_its_recipe_is_named(apical: Apical, tmp_path: Path) -> None:
    (tmp_path / "run.pt").write_bytes(b"x")
    refused(apical("export", tmp_path / "run.pt", "-o", tmp_path / "net"), "expected --recipe NAME with a checkpoint…")


def test_an_unknown_recipe_is_named(apical: Apical, tmp_path: Path) -> None:
    refused(apical("train", "imagenet", "-o", tmp_path / "net"), "zoo: expected a recipe of ['ecg-srnn', …")


def test_too_many_lanes_for_a_board_say_what_would_fit(apical: Apical, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    cells = Population("cells", 2048, Relu(), {"bias": np.zeros(1, np.int64)})
    weights = Projection("p", "in", "cells", random.integers(-128, 128, (2048, 64)))
    bundle.save(Network((Input("in", 64),), (cells,), (weights,), ("cells",)), tmp_path / "wide")
    ran = apical("synth", tmp_path / "wide", "--target", "ulx3s", "--synapse-lanes", 2048, "-o", tmp_path / "out")
    assert (ran.status, ran.out) == (2, "")
    assert re.search(r"^apical: .*ulx3s.*fit", ran.err, re.MULTILINE), ran.err
    assert not (tmp_path / "out").exists()


def test_an_unknown_target_is_named(apical: Apical, lif_bundle: Path) -> None:
    refused(
        apical("synth", lif_bundle, "--target", "spartan"),
        "--target 'spartan': expected xcup or one of colorlight-i5, …",
    )
