"""Digits seen and heard: the pairs, what ships, the recordings' checks, new noise in training."""

from __future__ import annotations

import io
import wave

import numpy as np
import pytest
import torch

from apical.sw import av_mnist, datasets, streams
from apical.sw.data import REST, DataError

have = pytest.mark.skipif(not datasets.available("av-mnist:test"), reason="APICAL_DATA doesn't hold MNIST and FSDD")


def test_the_shipped_sample_needs_no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APICAL_DATA", raising=False)
    for split, size in (("sample", 500), ("sample-train", 340)):
        data = datasets.load(f"av-mnist:{split}")
        assert data.images.shape == (size, 1, 1152) and data.images.dtype == np.uint8
        digits = datasets.load(f"two-view-digits:{split}")
        kept = np.isin(digits.index, data.index)
        seen = data.images[:, 0, 368:].astype(int) - REST
        np.testing.assert_array_equal(seen, digits.images[kept][:, 0].reshape(size, 784) // 2)
    generator = torch.Generator().manual_seed(0)
    np.testing.assert_array_equal(av_mnist.another(data, np.array([3]), 0, generator), data.images[3:4])


def test_a_partner_is_of_the_same_class_and_part() -> None:
    classes, index = np.arange(2000) % 10, np.arange(2000)
    seen = {}
    for part, (first, end) in av_mnist.TAKES.items():
        numbers = seen[part] = av_mnist.partners(classes, index, part)
        assert (numbers // 200 == classes).all()
        assert (numbers % 50 >= first).all() and (numbers % 50 < end).all()
        assert set(numbers % 200 // 50) == {0, 1, 2, 3}
    assert len(np.unique(seen["test"])) == 200
    assert (av_mnist.partners(classes, index, "train", 1) != seen["train"]).mean() > 0.9


@have
def test_the_sample_is_a_part_of_the_test_split() -> None:
    whole, part = datasets.load("av-mnist:test"), datasets.load("av-mnist:sample")
    assert len(whole) == 10_000
    np.testing.assert_array_equal(whole.images[part.index], part.images)
    np.testing.assert_array_equal(whole.labels[part.index], part.labels)
    assert abs(part.images[:, 0, :368].mean() - REST) < 3


@have
def test_training_hears_another_recording_in_new_noise() -> None:
    data = datasets.load("av-mnist:validation")
    with_noise = av_mnist.another(data, np.arange(5), 0, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_array_equal(with_noise, data.images[:5])  # only the training part changes
    train = datasets.Data(data.images, data.labels, data.index, "av-mnist", "train", streams=data.streams)
    one, two, again = (
        av_mnist.another(train, np.arange(5), 0, torch.Generator().manual_seed(seed)).numpy() for seed in (0, 1, 0)
    )
    np.testing.assert_array_equal(one, again)
    assert (one[:, 0, :368] != two[:, 0, :368]).mean() > 0.5
    np.testing.assert_array_equal(one[:, 0, 368:], data.images[:5, 0, 368:])


def test_a_modality_can_be_missing_or_a_stranger_s() -> None:
    data = datasets.load("av-mnist:sample")
    assert (streams.missing(data, "image").images[:, 0, 368:] == REST).all()
    other = streams.strangers(data)
    out = streams.incongruent(data, "audio").images
    np.testing.assert_array_equal(out[:, 0, :368], data.images[other][:, 0, :368])
    assert (data.labels[other] != data.labels).all()


def wav(rate: int) -> bytes:
    packed = io.BytesIO()
    with wave.open(packed, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.array([0, 16384, -32768], "<i2").tobytes())
    return packed.getvalue()


def test_recordings_of_another_kind_are_told() -> None:
    np.testing.assert_array_equal(av_mnist._wav(wav(8000), "a.wav"), [0, 0.5, -1])
    with pytest.raises(DataError, match=r"^a.wav: expected 8000 Hz, 1 channel, 2 bytes, got \(16000, 1, 2\)$"):
        av_mnist._wav(wav(16000), "a.wav")
    with pytest.raises(DataError, match=r"^a.wav: expected a wav file, can't be read"):
        av_mnist._wav(b"RIFF", "a.wav")
