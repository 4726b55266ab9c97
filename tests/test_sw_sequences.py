"""Sequences: the ECG set's rules and checks, spoken digits as spikes, digits pixel by pixel."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sim import verilated
from apical.sw import bundle, datasets, golden, report_plots, sequences, zoo
from apical.sw.datasets import DataError
from apical.sw.laws import AdaptiveLif, Lif
from apical.sw.network import Input, IntArray, Network, Population, Projection
from apical.sw.sequences import ECG_TICKS

SHIPPED = [("ecg-qtdb", 20, 40), ("spoken-digits", 20, 40), ("sequential-mnist", 500, 2750)]


def have(spec: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not datasets.available(spec), reason=f"APICAL_DATA doesn't hold {spec}")


@pytest.mark.parametrize(("name", "test", "train"), SHIPPED)
def test_the_shipped_samples_need_no_data(name: str, test: int, train: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APICAL_DATA", raising=False)
    shapes = {"ecg-qtdb": (1301, 4), "spoken-digits": (100, 140), "sequential-mnist": (784, 1)}
    for split, size in (("sample", test), ("sample-train", train)):
        data = datasets.load(f"{name}:{split}")
        assert data.images.shape == (size, *shapes[name]) and data.images.dtype == np.uint8
        assert len(set(data.index.tolist())) == size
    with pytest.raises(DataError, match="set APICAL_DATA to a folder that holds"):
        datasets.load(f"{name}:test")


@pytest.mark.parametrize("name", ["ecg-qtdb", "spoken-digits"])
def test_a_sample_is_a_part_of_its_split(name: str) -> None:
    if not datasets.available(f"{name}:test"):
        pytest.skip("APICAL_DATA doesn't hold it")
    for split, sample in (("test", "sample"), ("train", "sample-train")):
        whole, part = datasets.load(f"{name}:{split}"), datasets.load(f"{name}:{sample}")
        same = whole.rows(np.array([whole.index.tolist().index(i) for i in part.index]))
        for field in ("images", "labels", "counted", "labelled"):
            np.testing.assert_array_equal(getattr(same, field), getattr(part, field))


def test_ecg_counts_the_protocol_s_ticks_and_knows_what_has_a_label() -> None:
    data = datasets.load("ecg-qtdb:sample")
    assert data.counted is not None and data.labelled is not None
    assert data.labels.shape == data.counted.shape == data.labelled.shape == (20, ECG_TICKS)
    assert not data.counted[:, :10].any() and data.counted[:, 10:].all()
    assert data.images.max() == 1 and 0.06 < data.images.mean() < 0.08
    assert set(np.unique(data.labels)) == set(range(6)) and (data.labels[~data.labelled] == 0).all()
    assert 0.8 < data.labelled.mean() < 0.95


def mat(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **changes: Any) -> np.ndarray:
    """A training file of 100 sequences below APICAL_DATA; returns its spikes as the loader should read them."""
    from scipy.io import savemat

    rng = np.random.default_rng(0)
    x = (rng.random((100, ECG_TICKS, 4)) < 0.1).astype(float)
    x[:, -1, 0] = -1
    y = np.eye(7)[rng.integers(0, 7, (100, ECG_TICKS))][..., :6]
    packed = io.BytesIO()
    savemat(packed, {"x": x, "y": y, **changes}, do_compression=True)
    (tmp_path / "qtdb_ecg").mkdir()
    (tmp_path / "qtdb_ecg" / "QTDB_train.mat").write_bytes(packed.getvalue())
    digest = hashlib.sha256(packed.getvalue()).hexdigest()
    monkeypatch.setenv("APICAL_DATA", str(tmp_path))
    monkeypatch.setitem(sequences.ECG_FILES, "train", ("qtdb_ecg/QTDB_train.mat", digest))
    x[:, -1, 0] = 0
    return x


def test_ecg_splits_are_a_fixed_shuffle(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    x = mat(monkeypatch, tmp_path)
    train, validation = datasets.load("ecg-qtdb:train"), datasets.load("ecg-qtdb:validation")
    assert (len(train), len(validation)) == (10, 90)
    assert sorted([*train.index, *validation.index]) == list(range(100))
    np.testing.assert_array_equal(train.images, x[train.index])  # and the encoder's -1 is gone
    np.testing.assert_array_equal(validation.images, x[validation.index])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"x": np.zeros((2, 1300, 4))}, r"QTDB_train.mat: x: expected shape \[samples, 1301, 4\], got \(2, 1300, 4\)"),
        ({"x": np.full((2, ECG_TICKS, 4), -1.0)}, "x: expected 0 and 1, got -1 to 0"),
        ({"y": np.ones((2, ECG_TICKS, 6))}, "y: expected at most one class in a tick, got 6"),
    ],
)
def test_an_ecg_file_that_breaks_a_rule_is_told(
    changes: dict[str, Any], message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    mat(monkeypatch, tmp_path, **changes)
    with pytest.raises(DataError, match=message):
        datasets.load("ecg-qtdb:train")


def test_a_wrong_ecg_file_is_told_by_its_checksum(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    mat(monkeypatch, tmp_path)
    (tmp_path / "qtdb_ecg" / "QTDB_train.mat").write_bytes(b"MATLAB 5.0 MAT-file")
    with pytest.raises(DataError, match=r"QTDB_train\.mat: expected SHA-256 .*, got .*; fetch the file anew"):
        datasets.load("ecg-qtdb:train")


@have("ecg-qtdb:test")
def test_the_ecg_set_is_whole() -> None:
    parts = {split: datasets.load(f"ecg-qtdb:{split}") for split in ("train", "validation", "test")}
    assert [len(p) for p in parts.values()] == [528, 90, 141]
    assert sorted([*parts["train"].index, *parts["validation"].index]) == list(range(618))
    labelled = parts["test"].labelled
    assert labelled is not None and (~labelled).sum() == 19056
    spikes = {image.tobytes() for part in parts.values() for image in part.images}
    assert len(spikes) == 618 + 141  # no sequence comes twice


def test_spikes_are_counted_per_tick_and_channel() -> None:
    unit, time = np.array([3, 3, 3, 3, 3, 139, 0]), np.array([0, 1, 2, 63, 64, 6399, 0], np.uint16)
    x = sequences.bin_spikes(unit, time, np.array([0, 6, 6, 7]))
    assert x.shape == (3, 100, 140)
    assert (x[0, 0, 3], x[0, 1, 3], x[0, 99, 139], x[2, 0, 0]) == (3, 1, 1, 1)  # four in a tick count as three
    assert x.sum() == 6 and not x[1].any()
    with pytest.raises(DataError, match="channels below 140 and times below 6400, got 3 and 6400"):
        sequences.bin_spikes(np.array([3]), np.array([6400]), np.array([0, 1]))


@have("spoken-digits:test")
def test_spoken_digits_split_by_take() -> None:
    parts = {split: datasets.load(f"spoken-digits:{split}") for split in ("train", "validation", "test")}
    assert [len(p) for p in parts.values()] == [320, 80, 200]
    for part in parts.values():
        assert len(set(np.bincount(part.labels).tolist())) == 1
    assert (parts["test"].index % 15 < 5).all()  # the file has 15 takes of a digit by a speaker in a row
    assert sorted(i for p in parts.values() for i in p.index) == list(range(600))


def test_pixels_come_one_by_one_and_permuted() -> None:
    digits, rows, mixed = (datasets.load(f"{n}:sample") for n in ("mnist", "sequential-mnist", "permuted-mnist"))
    np.testing.assert_array_equal(rows.images[:, :, 0], digits.images.reshape(500, 784))
    np.testing.assert_array_equal(np.sort(mixed.images, axis=1), np.sort(rows.images, axis=1))
    moved = rows.images[:, :, 0].argmax(1) != mixed.images[:, :, 0].argmax(1)
    assert moved.mean() > 0.9
    assert rows.name == "sequential-mnist" and mixed.name == "permuted-mnist"
    np.testing.assert_array_equal(mixed.labels, digits.labels)


def ecg_network(seed: int = 0) -> Network:
    """4-12 recurrent-6: random LIF cells and adaptive outputs that send their membrane, a class in every tick."""
    rng = np.random.default_rng(seed)

    def ints(*values: int) -> np.ndarray:
        return np.array(values, np.int64)

    law = AdaptiveLif(sends="membrane")
    hidden = {"decay": rng.integers(150, 250, 12), "threshold": ints(120), "bias": ints(4)}
    read: dict[str, np.ndarray] = {}
    for name, spec in law.parameters().items():
        known = {"decay": 230, "threshold": 200, "bias": 0}
        read[name] = ints(min(max(known.get(name, spec.low + 1), spec.low), spec.high))
    return Network(
        (Input("leads", 4),),
        (Population("hidden", 12, Lif(), hidden), Population("read", 6, law, read)),
        (
            Projection("in", "leads", "hidden", rng.integers(-60, 100, (12, 4))),
            Projection("loop", "hidden", "hidden", rng.integers(-40, 40, (12, 12)), delay=1),
            Projection("out", "hidden", "read", rng.integers(-60, 60, (6, 12))),
        ),
        ("read",),
        "tick",
        {"kind": "events"},
        "ecg-random",
    )


def test_a_class_in_every_tick_is_judged_by_the_protocol() -> None:
    network, data = ecg_network(), datasets.load("ecg-qtdb:sample").first(3)
    trace = golden.run(network, datasets.encode(data, network))
    classes = golden.decode(network, trace)
    assert classes is not None and classes.shape == (3, ECG_TICKS) and len(np.unique(classes)) > 2
    y = trace.outputs["read"].astype(int)
    assert classes[1, 77] == int(np.argmax(y[1, 77]))
    assert data.labelled is not None
    hits = (classes == data.labels)[:, 10:]
    shares = zoo.accuracies(network, data, batch=2 * ECG_TICKS)
    assert shares == {"accuracy": hits.mean(), "accuracy_labelled": hits[data.labelled[:, 10:]].mean()}
    assert zoo.accuracy(network, data) == hits.mean()


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden in place of the RTL: no simulator is built."""

    def run(network: Network, options: object, x: np.ndarray, **more: object) -> golden.Trace:
        return replace(golden.run(network, x, states=True), cycles=1)

    monkeypatch.setattr(verilated, "simulate", run)


def test_a_report_of_ticks_is_over_what_has_a_label(
    apical: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []
    shown = report_plots.confusion

    def confusion(given: IntArray, labels: IntArray) -> Any:
        seen.append(len(labels))
        return shown(given, labels)

    monkeypatch.setattr(report_plots, "confusion", confusion)
    pretend(monkeypatch)
    bundle.save(ecg_network(), tmp_path / "net")
    page = tmp_path / "report.html"
    ran = apical("report", tmp_path / "net", "--data", "ecg-qtdb:sample", "--limit", 2, "-o", page)
    assert ran.status == 0, ran.err
    assert seen == [int(datasets.load("ecg-qtdb:sample").first(2).truth.known.sum())]
    text = page.read_text(encoding="utf-8")
    assert "Accuracy where labelled" in text and "First samples" not in text  # a sequence is no picture


@pytest.mark.parametrize("engine", ["pretended", pytest.param("rtl", marks=pytest.mark.heavy)])
def test_commands_print_both_accuracies(
    engine: str, apical: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, data = ecg_network(), datasets.load("ecg-qtdb:sample").first(2)
    bundle.save(network, tmp_path / "net")
    if engine == "pretended":
        pretend(monkeypatch)
    for command in ("golden", "cosim"):
        ran = apical(command, tmp_path / "net", "--data", "ecg-qtdb:sample", "--limit", 2, "--json")
        assert ran.status == 0, ran.err
        shares = zoo.accuracies(network, data)
        assert {name: json.loads(ran.out)[name] for name in shares} == shares
        assert set(shares) == {"accuracy", "accuracy_labelled"}
