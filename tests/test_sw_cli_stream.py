"""`apical stream`: an endless sequence from a file, a data set or standard input, on golden and on the RTL."""

from __future__ import annotations

import io
import json
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sw import bundle
from apical.sw.datasets import folder as data_folder
from apical.sw.laws import LeakyIntegrator, Lif
from apical.sw.level_crossing import MITBIH_FILE
from apical.sw.network import Input, IntArray, Network, Population, Projection
from apical.sw.streaming import Stream

Apical = Callable[..., Any]
HOW_TO = (Path(__file__).parent.parent / "docs" / "how-to" / "monitor-an-ecg.md").read_text(encoding="utf-8")


@pytest.fixture
def network() -> Network:
    """Four inputs, five cells that excite each other a tick later, three read-outs, a class in every tick."""
    numbers = np.random.default_rng(0)
    cells = {"decay": numbers.integers(200, 257, 5), "threshold": np.array([60]), "bias": np.array([4])}
    read = {"decay": np.array([230]), "bias": np.array([0])}
    return Network(
        (Input("leads", 4),),
        (Population("cells", 5, Lif(), cells), Population("read", 3, LeakyIntegrator(shift=2), read)),
        (
            Projection("in", "leads", "cells", numbers.integers(-60, 128, (5, 4))),
            Projection("back", "cells", "cells", numbers.integers(-60, 60, (5, 5)), delay=1),
            Projection("out", "cells", "read", numbers.integers(-100, 100, (3, 5))),
        ),
        ("read",),
        decoder="tick",
        encoding={"kind": "events"},
    )


@pytest.fixture
def folder(network: Network, tmp_path: Path) -> Path:
    bundle.save(network, tmp_path / "net")
    return tmp_path / "net"


def spikes(ticks: int) -> IntArray:
    return (np.random.default_rng(1).random((ticks, 4)) < 0.3).astype(np.int64)


def saved(tmp_path: Path, x: IntArray) -> Path:
    np.save(tmp_path / "events.npy", x)
    return tmp_path / "events.npy"


def test_a_file_gives_outputs_and_a_class_in_every_tick(
    apical: Apical, network: Network, folder: Path, tmp_path: Path
) -> None:
    x = spikes(200)
    ran = apical("stream", folder, "--input", saved(tmp_path, x), "-o", tmp_path / "out.npz", "--json")
    assert ran.status == 0, ran.err
    answer, expected = json.loads(ran.out), Stream(network)
    outputs = expected.push(x)
    classes = expected.classes(outputs)
    assert classes is not None
    with np.load(tmp_path / "out.npz", allow_pickle=False) as written:
        np.testing.assert_array_equal(written["output"], outputs)
        np.testing.assert_array_equal(written["class"], classes)
    assert answer["ticks"] == answer["ticks_since_start"] == sum(answer["classes"].values()) == 200
    assert answer["transitions"] == np.count_nonzero(np.diff(classes)) > 0
    assert answer["counts"] == expected.counters


def test_the_rtl_equals_golden_and_says_how_long_a_tick_takes(apical: Apical, folder: Path, tmp_path: Path) -> None:
    words = ("stream", folder, "--input", saved(tmp_path, spikes(300)), "--ticks", "250", "--engine", "rtl")
    ran = apical(*words, "-o", tmp_path / "out.npz", "--page", tmp_path / "page.html", "--json")
    assert ran.status == 0, ran.err
    answer = json.loads(ran.out)
    assert (answer["equal"], answer["mismatches"], answer["ticks"]) == (True, 0, 250)
    with np.load(tmp_path / "out.npz", allow_pickle=False) as written:
        latency = written["latency"]
    assert latency.shape == (250,)
    assert answer["latency_cycles_max"] == latency.max() <= answer["latency_cycles_bound"]
    assert answer["latency_cycles_mean"] == pytest.approx(latency.mean())
    assert "<title>events.npy</title>" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_samples_of_a_data_set_are_streamed_one_after_the_other(
    apical: Apical, network: Network, folder: Path, tmp_path: Path
) -> None:
    x = spikes(60)
    np.savez(tmp_path / "samples.npz", x=x.reshape(3, 20, 4))
    ran = apical("stream", folder, "--input", tmp_path / "samples.npz", "-o", tmp_path / "out.npz")
    assert ran.status == 0, ran.err
    with np.load(tmp_path / "out.npz") as written:
        np.testing.assert_array_equal(written["output"], Stream(network).push(x))
    ran = apical("stream", folder, "--data", "ecg-qtdb:sample", "--ticks", "1500", "--json")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out)["ticks"] == 1500


def test_lines_are_answered_one_by_one_and_the_state_goes_on(
    apical: Apical, network: Network, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x, got = spikes(40), []
    for part in (x[:25], x[25:]):
        text = "# leads\n" + "".join(" ".join(map(str, tick)) + "\n\n" for tick in part.tolist())
        monkeypatch.setattr("sys.stdin", io.StringIO(text))
        ran = apical("stream", folder, "--input", "-", "--state", tmp_path / "state.npz")
        assert ran.status == 0, ran.err
        got += [int(line) for line in ran.out.splitlines()]
    stream = Stream(network)
    expected = stream.classes(stream.push(x))
    assert expected is not None
    assert got == expected.tolist()


def test_a_line_is_answered_before_the_next_is_read(
    apical: Apical, network: Network, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle.save(replace(network, decoder="last"), folder.parent / "last")
    before: list[int] = []  # ticks answered when each line is read
    answered = 0
    push = Stream.push

    def counted(self: Stream, events: IntArray) -> IntArray:
        nonlocal answered
        answered += len(events)
        return push(self, events)

    def lines() -> Iterator[str]:
        for line in ("1 0 0 1\n", "0,0,0,0\n", "1 1 1 1\n"):
            before.append(answered)
            yield line

    monkeypatch.setattr(Stream, "push", counted)
    monkeypatch.setattr("sys.stdin", lines())
    ran = apical("stream", folder.parent / "last", "--input", "-")
    assert ran.status == 0, ran.err
    assert before == [0, 1, 2]
    assert [len(line.split()) for line in ran.out.splitlines()] == [3, 3, 3]  # without a class, the outputs


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "expected one of --input FILE and --data NAME, got neither"),
        (("--data", "mitbih:x"), "--data mitbih:x: expected mitbih:RECORD with a record's number, got 'x'"),
        (("--input", "none.npy"), "--input none.npy: no such file"),
        (("--input", "-", "--engine", "rtl"), "--input -: expected --engine golden, got rtl, which starts from reset"),
        (("--input", "-", "-o", "out.npz"), "-o: expected --input FILE or --data, got lines, which have no end"),
    ],
)
def test_a_wrong_request_is_one_clear_line(apical: Apical, folder: Path, words: tuple[str, ...], message: str) -> None:
    ran = apical("stream", folder, *words)
    assert (ran.status, ran.out) == (2, "")
    assert ran.err == f"apical: {message}\n"


def test_a_wrong_line_names_its_number(apical: Apical, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("0 0 0 0\n1 0 x 0\n"))
    ran = apical("stream", folder, "--input", "-")
    assert ran.status == 2
    assert ran.err == "apical: line 2: expected 4 integers, got '1 0 x 0'\n"


def test_a_pickled_file_is_refused(apical: Apical, folder: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "bad.npy", np.array([{}]), allow_pickle=True)
    ran = apical("stream", folder, "--input", tmp_path / "bad.npy")
    assert ran.status == 2
    assert "expected a plain integer array [ticks, inputs], got none" in ran.err


def test_the_how_to_runs(apical: Apical, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a small network in place of the trained one, and shipped data where the record isn't here."""
    monkeypatch.chdir(tmp_path)
    commands = [line for block in re.findall(r"```sh\n(.*?)```", HOW_TO, re.DOTALL) for line in block.splitlines()]
    assert len(commands) == 3
    for command in commands:
        lines, _, words = command.rpartition(" | ")
        if lines:
            text = shlex.split(lines)[1].replace("\\n", "\n")
            monkeypatch.setattr("sys.stdin", io.StringIO(text))
        if not (data_folder() or Path()).joinpath(MITBIH_FILE).is_file():
            words = words.replace("mitbih:100", "ecg-qtdb:sample")
        program, *given = shlex.split(words.replace("zoo:ecg-srnn", str(folder)))
        ran = apical(*given)
        assert (program, ran.status) == ("apical", 0), f"{command}: {ran.err}"
    assert {"ecg.html", "ecg.npz", "patient.npz"} <= {p.name for p in tmp_path.iterdir()}
    (block,) = re.findall(r"```python\n(.*?)```", HOW_TO, re.DOTALL)
    monkeypatch.setattr("apical.sw.zoo.path", lambda name: folder)
    exec(block, {})
