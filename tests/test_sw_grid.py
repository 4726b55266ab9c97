"""GRID: what ships, splits, windows of the past, noise drawn the same everywhere and anew in training, the error."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apical.sim import verilated
from apical.sw import bundle, datasets, golden, grid, zoo
from apical.sw.audio_features import BANDS, from_mu_law, log_bank, mix
from apical.sw.data import REST, Data, DataError, errors
from apical.sw.laws import Format, LeakyIntegrator
from apical.sw.network import Input, IntArray, Network, Population, Projection

SHAPES = {"grid": (75, 252), "grid-frames": (75, 103), "grid-words": (12, 252), "grid-letters": (12, 252)}
SIZES = {"grid": (6, 8), "grid-frames": (6, 8), "grid-words": (30, 60), "grid-letters": (30, 60)}
load = cache(datasets.load)
have = pytest.mark.skipif(not datasets.available("grid:test"), reason="APICAL_DATA doesn't hold GRID")


@pytest.mark.parametrize("name", SHAPES)
def test_the_shipped_samples_need_no_data(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APICAL_DATA", raising=False)
    grid._file.cache_clear()
    for split, size in zip(("sample", "sample-train"), SIZES[name], strict=True):
        data = datasets.load(f"{name}:{split}")
        assert data.images.shape == (size, *SHAPES[name]) and data.images.dtype == np.uint8
        assert sum(s.size for s in data.streams) == SHAPES[name][1]
        assert len(set(data.index.tolist())) == size
    with pytest.raises(DataError, match=r"set APICAL_DATA to a folder that holds grid_s1_av/grid_s1_dev\.npz"):
        datasets.load(f"{name}:test")


@have
@pytest.mark.parametrize("name", ["grid", "grid-words", "grid-letters"])
def test_a_sample_is_a_part_of_its_split(name: str) -> None:
    for split, sample in (("test", "sample"), ("train", "sample-train")):
        whole, part = load(f"{name}:{split}"), load(f"{name}:{sample}")
        same = whole.rows(np.array([whole.index.tolist().index(i) for i in part.index]))
        for field in ("images", "labels", "counted", "targets"):
            np.testing.assert_array_equal(getattr(same, field), getattr(part, field))


@have
def test_the_set_is_whole_and_its_targets_are_normal() -> None:
    parts = {split: load(f"grid:{split}") for split in ("train", "validation", "test")}
    assert [len(p) for p in parts.values()] == [520, 80, 100]
    assert sorted(np.concatenate([p.index for p in parts.values()])) == list(range(700))
    train = parts["train"]
    assert train.targets is not None and train.counted is not None
    counted = train.targets[train.counted]
    assert np.abs(counted.mean(axis=0)).max() < 0.001 and np.abs(counted.std(axis=0) - 1).max() < 0.001
    frames = grid._file()["frames"][train.index]
    np.testing.assert_array_equal(train.counted.sum(axis=1), frames - 3)
    assert abs(train.images[:, :, :BANDS].mean() - REST) < 2 and abs(train.images[:, :, 92:].mean() - REST) < 2


@have
def test_words_are_named_by_their_class() -> None:
    for name, classes, counts in (("grid-words", 10, 40), ("grid-letters", 25, 15)):
        labels = load(f"{name}:train").labels
        assert len(labels) == 520 and set(labels.tolist()) == set(range(classes))
        assert np.bincount(labels).min() > counts / 2


def test_the_window_holds_the_past_and_nothing_before_the_start() -> None:
    data, frames = (load(f"{name}:sample").images for name in ("grid", "grid-frames"))
    for k, lag in enumerate((0, 1, 2, 3)):
        block = data[:, :, 23 * k : 23 * (k + 1)]
        np.testing.assert_array_equal(block[:, lag:], frames[:, : 75 - lag, :23])
        assert (block[:, :lag] == REST).all()
    np.testing.assert_array_equal(data[:, :, 92:172], frames[:, :, 23:])
    np.testing.assert_array_equal(data[:, 2:, 172:], frames[:, :-2, 23:])


def test_targets_are_the_clean_sound_s_bank() -> None:
    data = load("grid:sample-train")
    assert data.sound is not None and data.targets is not None
    clean = log_bank(from_mu_law(data.sound), 75)
    np.testing.assert_allclose(data.targets * np.array(grid.DEVIATION) + np.array(grid.MEAN), clean, atol=1e-3)


def test_noise_is_white_or_the_babble_of_others_at_the_drawn_level() -> None:
    data = load("grid:sample-train")
    assert data.sound is not None
    index, own = np.arange(200), np.arange(200) % 8
    noise, level = grid.noise_of(index, 5, data.sound, own)
    assert -9 <= level.min() < -8.5 and -0.5 < level.max() <= 0 and abs(level.mean() + 4.5) < 0.5
    coloured = np.abs(np.mean(noise[:, 1:] * noise[:, :-1], axis=1) / np.mean(noise**2, axis=1)) > 0.1
    assert 70 < coloured.sum() < 130
    # Babble of the eight: a sentence is never in its own babble, at any shift.
    voice = from_mu_law(data.sound)
    shifted = np.fft.rfft(voice).conj()
    rows = np.nonzero(coloured)[0][:20]
    match = np.array([np.fft.irfft(np.fft.rfft(noise[row]) * shifted).max(axis=1) for row in rows])
    match /= np.sqrt((noise[rows] ** 2).sum(axis=1)[:, None] * (voice**2).sum(axis=1))
    assert match[np.arange(20), own[rows]].max() < 0.25 < 0.3 < match.max(axis=1).min()
    again, _ = grid.noise_of(index[rows], 5, data.sound, own[rows])
    np.testing.assert_array_equal(again, noise[rows])


@have
def test_a_split_s_noise_is_that_of_its_draw() -> None:
    test, train = load("grid:test"), load("grid:train")
    assert test.sound is not None and train.sound is not None
    noise, level = grid.noise_of(test.index[:3], grid.DRAWS["test"], train.sound)
    heard = log_bank(mix(from_mu_law(test.sound[:3]), noise, level), 75)
    np.testing.assert_array_equal(grid.bands_of(heard), test.images[:3, :, :BANDS])


def test_training_hears_new_noise_and_sees_the_same_lips() -> None:
    data, rows = load("grid:sample-train"), np.array([5, 1])
    first, second, again = (
        grid.noisy(data, rows, 0, torch.Generator().manual_seed(seed)).numpy() for seed in (0, 1, 0)
    )
    np.testing.assert_array_equal(first, again)
    assert (first[:, :, :92] != second[:, :, :92]).mean() > 0.5
    np.testing.assert_array_equal(first[:, :, 92:], data.images[rows][:, :, 92:])
    np.testing.assert_array_equal(first[:, 3:, 69:92], first[:, :-3, :23])
    frames = load("grid-frames:sample-train")
    alone = grid.noisy(frames, rows, 0, torch.Generator().manual_seed(0)).numpy()
    np.testing.assert_array_equal(alone[:, :, :23], first[:, :, :23])


def test_fickle_training_loses_one_stream_in_half_of_the_samples() -> None:
    data = load("grid-frames:sample-train")
    rows = np.arange(len(data))
    lost = {"audio": 0, "lips": 0, "none": 0, "both": 0}
    for seed in range(12):
        images = grid.fickle(data, rows, 0, torch.Generator().manual_seed(seed)).numpy()
        audio, lips = ((images[:, :, part] == REST).all(axis=2).sum(axis=1) for part in (slice(23), slice(23, None)))
        for a, b in zip(audio, lips, strict=True):
            lost["both" if a and b else "audio" if a else "lips" if b else "none"] += 1
            assert not max(a, b) or 9 <= max(a, b) <= 37
    assert lost["both"] == 0 and all(12 < lost[k] < 36 for k in ("audio", "lips")) and 32 < lost["none"] < 64


@have
def test_words_hear_what_was_before_them_and_new_noise() -> None:
    data, rows = load("grid-letters:validation"), np.arange(4)
    assert data.sound is not None and data.sound.shape == (80, 15 * 320)
    assert (data.images[:, 0, 69:92] != REST).any() and (data.images[:, 0, 172:] != REST).any()
    images = grid.noisy(data, rows, 0, torch.Generator().manual_seed(0)).numpy()
    assert images.shape == (4, 12, 252) and (images[:, :, :92] != data.images[:4, :, :92]).mean() > 0.5
    np.testing.assert_array_equal(images[:, :, 92:], data.images[:4, :, 92:])
    np.testing.assert_array_equal(images[:, 3:, 69:92], images[:, :-3, :23])
    whole = grid._file()
    letter = from_mu_law(data.sound[:4, 3 * 320 :])  # the word's middle is loud where the file's times say it is
    assert (letter.std(axis=1) > 0.3 * from_mu_law(whole["sound"][data.index[:4]]).std(axis=1)).all()


def reader(unit: int = 4) -> Network:
    """Sums of the first tick's bands, by random weights."""
    rng = np.random.default_rng(0)
    read = Population(
        "read", BANDS, LeakyIntegrator(state_bits=20), {k: np.zeros(1, np.int64) for k in ("decay", "bias")}
    )
    weights = Projection("w", "in", "read", rng.integers(-2, 3, (BANDS, 103)))
    encoding: dict[str, str | int | float] = {"kind": "signed", "bits": 4}
    if unit:
        encoding["target_unit"] = unit
    return Network((Input("in", 103, Format(4)),), (read,), (weights,), ("read",), encoding=encoding)


def pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Golden in place of the RTL: no simulator is built."""

    def run(network: Network, options: object, x: np.ndarray, **more: object) -> golden.Trace:
        return replace(golden.run(network, x, states=True), cycles=1)

    monkeypatch.setattr(verilated, "simulate", run)


def by_hand(network: Network, data: Data) -> float:
    y: IntArray = golden.run(network, datasets.encode(data, network)).outputs["read"]
    assert data.targets is not None
    return float(((y[:, 3:] / 4 - data.targets[:, 3:]) ** 2).mean(dtype=np.float64))


@pytest.mark.parametrize("engine", ["pretended", pytest.param("rtl", marks=pytest.mark.heavy)])
def test_commands_and_the_zoo_s_facts_have_the_error(
    engine: str, apical: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network, data = reader(), load("grid-frames:sample").first(2)
    wanted = by_hand(network, data)
    assert zoo.accuracies(network, data, batch=80) == {"error": pytest.approx(wanted, rel=1e-12)}
    bundle.save(network, tmp_path / "net")
    if engine == "pretended":
        pretend(monkeypatch)
    for command in ("golden", "cosim", "energy"):
        ran = apical(command, tmp_path / "net", "--data", "grid-frames:sample", "--limit", 2, "--json")
        assert ran.status == 0, ran.err
        answer = json.loads(ran.out)
        assert answer["accuracy"] is None and answer["error"] == pytest.approx(wanted, rel=1e-12)


def test_without_targets_there_is_no_error(apical: Callable[..., Any], tmp_path: Path) -> None:
    network = reader()
    bundle.save(network, tmp_path / "net")
    np.savez(tmp_path / "in.npz", x=np.zeros((1, 2, 103), np.int8))
    ran = apical("golden", tmp_path / "net", "--input", tmp_path / "in.npz", "--json")
    assert ran.status == 0 and json.loads(ran.out)["error"] is None, ran.err


def test_a_network_that_does_not_say_its_unit_is_told() -> None:
    with pytest.raises(DataError, match=r"^target_unit: expected a number above 0, got 0"):
        zoo.accuracies(reader(0), load("grid-frames:sample"))


def test_always_saying_the_mean_has_an_error_near_1() -> None:
    data = load("grid:sample")
    assert data.targets is not None
    assert 0.8 < errors(np.zeros(data.targets.shape, np.int64), data, 16) < 1.2
