"""Data sets, their checks, and the encodings."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch

from apical.sw import datasets, encodings
from apical.sw.datasets import DataError
from apical.sw.encodings import EncodingError
from apical.sw.laws import Relu
from apical.sw.network import Input, Network, Population, Projection


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APICAL_DATA", raising=False)


def network(inputs: int, encoding: dict[str, str | int | float]) -> Network:
    cells = Population("cells", 2, Relu(), {"bias": np.zeros(1, np.int64)})
    weights = Projection("w", "in", "cells", np.ones((2, inputs), np.int64))
    return Network((Input("in", inputs),), (cells,), (weights,), ("cells",), encoding=encoding)


@pytest.mark.usefixtures("no_data")
@pytest.mark.parametrize(("split", "size"), [("sample", 500), ("sample-train", 2750)])
def test_the_shipped_sample_needs_no_data(split: str, size: int) -> None:
    data = datasets.load(f"mnist:{split}")
    assert data.images.shape == (size, 28, 28) and data.images.dtype == np.uint8
    assert np.bincount(data.labels, minlength=10).min() >= size // 15
    assert data.images.max() == 255
    assert data.index[:3].tolist() == [0, 20, 40]


def test_the_shipped_sample_is_small_and_says_its_licence() -> None:
    assert sum(f.stat().st_size for f in datasets.SAMPLES.iterdir()) < 1_250_000
    text = (datasets.SAMPLES / "README.md").read_text()
    assert "CC BY-SA 3.0" in text and all(f.name in text for f in datasets.SAMPLES.glob("*.npz"))


@pytest.mark.usefixtures("no_data")
def test_without_data_the_error_says_what_to_set() -> None:
    with pytest.raises(DataError, match=r"set APICAL_DATA to a folder that holds mnist/train-images-idx3-ubyte\.gz"):
        datasets.load("mnist:test")


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"expected .*t10k-images-idx3-ubyte\.gz \(APICAL_DATA is .*found none"):
        datasets.load("mnist:test")


def test_a_wrong_checksum_names_both(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    content = bytes([0, 0, 8, 1, 0, 0, 0, 2, 7, 9])
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(gzip.compress(content))
    got = hashlib.sha256(content).hexdigest()
    with pytest.raises(DataError, match=f"expected SHA-256 0fa7898d.* unpacked, got {got}"):
        datasets.load("mnist:test")


def test_a_damaged_archive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    (tmp_path / "mnist" / "t10k-images-idx3-ubyte.gz").write_bytes(b"not gzip")
    with pytest.raises(DataError, match=r"t10k-images-idx3-ubyte\.gz: expected a gzip file"):
        datasets.load("mnist:test")


def test_idx_files_are_read_with_their_shape(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_DATA", str(tmp_path))
    (tmp_path / "mnist").mkdir()
    shape, pixels = (6000, 2, 3), np.arange(36000) % 251
    for part, count in (("train", 6000), ("t10k", 6000)):
        header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in shape)
        images, labels = header + bytes(pixels.tolist()), bytes([0, 0, 8, 1]) + count.to_bytes(4, "big") + bytes(count)
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            name = f"{part}-{kind}-ubyte"
            (tmp_path / "mnist" / f"{name}.gz").write_bytes(gzip.compress(content))
            monkeypatch.setitem(datasets.MNIST_FILES, name, hashlib.sha256(content).hexdigest())
    train, validation, test = (datasets.load(f"mnist:{s}") for s in ("train", "validation", "test"))
    assert (len(train), len(validation), len(test)) == (1000, 5000, 6000)
    assert validation.index[0] == 1000
    np.testing.assert_array_equal(validation.images.ravel(), pixels[6000:])


@pytest.mark.skipif(not datasets.available("mnist:test"), reason="APICAL_DATA doesn't hold MNIST")
def test_the_sample_is_a_part_of_the_data_set() -> None:
    for split, sample in (("test", "sample"), ("train", "sample-train")):
        whole, part = datasets.load(f"mnist:{split}"), datasets.load(f"mnist:{sample}")
        np.testing.assert_array_equal(whole.images[part.index], part.images)
        np.testing.assert_array_equal(whole.labels[part.index], part.labels)


def test_unknown_names_and_splits_are_refused() -> None:
    with pytest.raises(DataError, match=r"expected one of \['av-mnist', .*'two-view-digits'\], got 'nist'"):
        datasets.load("nist:test")
    with pytest.raises(DataError, match=r"data set mnist: expected a split of .*got 'tset'"):
        datasets.load("mnist:tset")


def test_two_views_are_a_function_of_index_and_draw_alone() -> None:
    digits = datasets.load("mnist:sample").first(40)
    views = datasets.two_views(digits.images, digits.index)
    again = datasets.two_views(digits.images[7:9], digits.index[7:9])
    np.testing.assert_array_equal(views[7:9], again)
    assert (datasets.two_views(digits.images, digits.index, draw=1) != views).any()
    np.testing.assert_array_equal(
        datasets.load("two-view-digits:sample").images[:40, 0] > 0,
        (datasets.two_views(digits.images, digits.index, datasets.DRAWS["sample"])[:, 0] > 0),
    )


def test_two_views_never_change() -> None:
    white = np.full((2, 28, 28), 200, np.uint8)
    digest = hashlib.sha256(datasets.two_views(white, np.array([0, 9999]), 2).tobytes()).hexdigest()
    assert digest == "49884a7d0575bdcbccb539fb212af9ce626510e5fb1be0dc0017b874d65eb5a1"


def test_two_views_have_the_noise_that_they_state() -> None:
    white = np.full((400, 28, 28), 200, np.uint8)
    basal, apical = datasets.two_views(white, np.arange(400)).swapaxes(0, 1)
    assert abs((basal == 200).mean() - (1 - 140 / 256) * (1 - 20 / 256)) < 0.01
    seen = (28 - 12) / 28
    assert abs((apical == 200).mean() - seen * (1 - 40 / 256) * (1 - 10 / 256)) < 0.01
    silent = (apical == 0).all(axis=2).sum(axis=1), (apical == 0).all(axis=1).sum(axis=1)
    assert set(np.maximum(*silent).tolist()) == {12}  # the band, rows or columns


def test_rate_coding_sends_the_value_in_spikes_evenly() -> None:
    table = encodings.table({"kind": "rate", "ticks": 8}).astype(int)
    assert table.shape == (8, 256)
    np.testing.assert_array_equal(table.sum(axis=0), (2 * 8 * np.arange(256) + 255) // 510)  # nearest
    assert table[:, 255].tolist() == [1] * 8
    assert table[:, 64].tolist() == [0, 1, 0, 0, 0, 1, 0, 0]
    assert encodings.table({"kind": "rate", "ticks": 8, "levels": 4})[:, 255].tolist() == [1, 0] * 4


def test_graded_coding_sends_the_upper_bits() -> None:
    data = np.array([[0, 15, 16, 255]], np.uint8)
    assert encodings.encode(data, {"kind": "graded", "bits": 4, "ticks": 2}).tolist() == [[[0, 0, 1, 15]] * 2]


def test_events_are_the_data_up_to_the_bits() -> None:
    data = np.array([[[0, 1, 2], [3, 9, 255]]], np.uint8)
    np.testing.assert_array_equal(encodings.encode(data, {"kind": "events"}), data)
    assert encodings.encode(data, {"kind": "events", "bits": 2}).tolist() == [[[0, 1, 2], [3, 3, 3]]]


def test_each_level_has_a_channel() -> None:
    data = np.array([[[0], [31], [32], [255], [128]]], np.uint8)
    x = encodings.encode(data, {"kind": "levels", "levels": 4})  # nearest of 0, 63.75, 127.5, 191.25, 255
    assert x.tolist() == [[[0, 0, 0, 0], [0, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 1], [0, 1, 0, 0]]]
    two = encodings.encode(np.array([[[255, 0], [0, 128]]], np.uint8), {"kind": "levels", "levels": 2})
    assert two.tolist() == [[[0, 1, 0, 0], [0, 0, 1, 0]]]  # channels of a data channel lie together


@pytest.mark.parametrize("kind", [{"kind": "rate", "ticks": 2}, {"kind": "levels", "levels": 3}, {"kind": "events"}])
def test_a_constant_channel_spikes_in_every_tick(kind: dict[str, str | int | float]) -> None:
    data = np.zeros((2, 5, 3), np.uint8)
    plain, biased = encodings.encode(data, kind), encodings.encode(data, kind | {"constant": 1})
    np.testing.assert_array_equal(biased[:, :, :-1], plain)
    assert (biased[:, :, -1] == 1).all()
    assert biased.shape[2] == encodings.channels(kind | {"constant": 1}, (5, 3)) == plain.shape[2] + 1


@pytest.mark.parametrize(
    "encoding",
    [
        {"kind": "rate", "ticks": 8},
        {"kind": "graded", "bits": 3, "constant": 1},
        {"kind": "levels", "levels": 5},
        {"kind": "events", "bits": 3, "constant": 1},
    ],
)
def test_training_encodes_like_the_loader(encoding: dict[str, str | int | float]) -> None:
    data = datasets.load("mnist:sample").first(9)
    x = encodings.Encoder(encoding)(torch.tensor(data.images))
    np.testing.assert_array_equal(x.numpy(), data.encode(encoding))


def test_a_kind_for_sequences_needs_ticks() -> None:
    with pytest.raises(EncodingError, match=r"'events': expected data of shape \[samples, ticks, channels\], got"):
        encodings.encode(np.zeros((2, 5), np.uint8), {"kind": "events"})


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ({"kind": "morse"}, r"expected a kind of \['events', 'graded', 'levels', 'rate', 'signed'\], got 'morse'"),
        ({"kind": "rate"}, "ticks: expected 1 to 1024, got None"),
        ({"kind": "rate", "ticks": 8, "levels": 9}, "levels: expected 1 to 8, got 9"),
        ({"kind": "graded", "bits": 4.5}, "bits: expected 1 to 8, got 4.5"),
        ({"kind": "events", "bits": 9}, "bits: expected 1 to 8, got 9"),
        ({"kind": "levels"}, "levels: expected 1 to 255, got None"),
    ],
)
def test_wrong_encodings_are_refused(encoding: dict[str, str | int | float], message: str) -> None:
    with pytest.raises(EncodingError, match=message):
        encodings.table(encoding)


def test_data_that_do_not_fit_the_network_are_refused() -> None:
    data = datasets.load("mnist:sample").first(2)
    with pytest.raises(DataError, match="has 784 values per sample, network 'network' expects 12"):
        datasets.encode(data, network(12, {"kind": "rate", "ticks": 2}))
    with pytest.raises(DataError, match="has no encoding"):
        datasets.encode(data, network(784, {}))
    assert datasets.encode(data, network(784, {"kind": "rate", "ticks": 2})).shape == (2, 2, 784)
