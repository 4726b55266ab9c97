"""Training: it learns, it resumes to the same bits, and it refuses what it can't use."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apical.sw import augment, train, zoo
from apical.sw.datasets import Data
from apical.sw.laws import AdaptiveLif, LeakyIntegrator, Lif
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.network import IntArray
from apical.sw.surrogate import multi_gaussian
from apical.sw.train import Settings, TrainingError

torch.set_num_threads(1)  # small tensors; threads that wait for each other on a busy machine cost minutes

SETTINGS = Settings(epochs=4, batch=20, learning_rate=0.01, average=0.9, gain=0.3, seed=3)


def stripes(samples: int, seed: int) -> Data:
    """Classes: a bright left, middle or right stripe in noise."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, samples)
    images = rng.integers(0, 60, (samples, 4, 6))
    for n, label in enumerate(labels):
        images[n, :, 2 * label : 2 * label + 2] += 150
    return Data(images.astype(np.uint8), labels, np.arange(samples), "stripes", "train")


def small(seed: int = 0, hidden: int = 12) -> Model:
    torch.manual_seed(seed)
    pixels, cells = Input("pixels", 24), Population("cells", hidden, Lif())
    read = Population("read", 3, LeakyIntegrator(state_bits=16), scale=64, unit=64)
    return Model(
        [pixels],
        [cells, read],
        [Dense(pixels, cells), Dense(cells, read)],
        decoder="sum",
        encoding={"kind": "rate", "ticks": 5},
    )


def test_training_learns_and_keeps_the_best_epoch_as_golden_sees_it() -> None:
    model, held = small(), stripes(60, 1)
    before = train.accuracy(model, held)
    lines: list[str] = []
    fitted = train.fit(model, stripes(200, 0), held, SETTINGS, progress=False, log=lines.append)
    assert fitted.accuracy > max(0.9, before)
    assert fitted.accuracy == max(fitted.history) == fitted.history[fitted.epoch - 1]
    assert len(lines) == len(fitted.history) == 4
    assert train.accuracy(model, held) == fitted.accuracy == zoo.accuracy(model.export(), held)


def test_the_same_seed_gives_the_same_network_and_another_seed_another() -> None:
    networks = []
    for seed in (1, 1, 2):
        model = small()
        settings = dataclasses.replace(SETTINGS, epochs=2, seed=seed)
        train.fit(model, stripes(100, 0), stripes(30, 1), settings, progress=False)
        networks.append(model.export().projections[0].weights)
    np.testing.assert_array_equal(networks[0], networks[1])
    assert (networks[0] != networks[2]).any()


def test_a_resumed_run_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    data, held = stripes(100, 0), stripes(30, 1)
    whole = small()
    expected = train.fit(whole, data, held, SETTINGS, progress=False)
    seen = 0

    def stop(line: str) -> None:
        nonlocal seen
        seen += 1
        if seen == 3:  # in the third epoch, before its checkpoint
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train.fit(small(), data, held, SETTINGS, checkpoint=tmp_path / "run.ckpt", progress=False, log=stop)
    resumed = small(seed=9)  # another start: everything comes from the checkpoint
    fitted = train.fit(resumed, data, held, SETTINGS, checkpoint=tmp_path / "run.ckpt", progress=False)
    assert fitted == expected
    for p, q in zip(whole.export().projections, resumed.export().projections, strict=True):
        np.testing.assert_array_equal(p.weights, q.weights)


def test_checkpoints_of_other_runs_are_refused(tmp_path: Path) -> None:
    data, held, path = stripes(40, 0), stripes(10, 1), tmp_path / "run.ckpt"
    train.fit(small(), data, held, SETTINGS, checkpoint=path, progress=False)
    other = dataclasses.replace(SETTINGS, seed=4)
    with pytest.raises(TrainingError, match=r"a checkpoint of another run: seed: expected 4, got 3"):
        train.fit(small(), data, held, other, checkpoint=path, progress=False)
    with pytest.raises(TrainingError, match="a checkpoint of another model"):
        train.fit(small(hidden=13), data, held, SETTINGS, checkpoint=path, progress=False)
    path.write_bytes(b"not a checkpoint")
    with pytest.raises(TrainingError, match="expected a checkpoint of apical, can't be read"):
        train.fit(small(), data, held, SETTINGS, checkpoint=path, progress=False)


def test_a_loss_that_is_no_number_stops_the_training() -> None:
    model = small()
    with torch.no_grad():
        next(iter(model.projections)).latent.fill_(float("nan"))  # type: ignore[operator]
    with pytest.raises(TrainingError, match="epoch 1: the loss is nan"):
        train.fit(model, stripes(40, 0), stripes(10, 1), SETTINGS, progress=False)


def test_the_activity_penalty_lowers_activity() -> None:
    events = []
    for weight in (0.0, 20.0):
        model = small()
        settings = dataclasses.replace(SETTINGS, activity=weight)
        train.fit(model, stripes(200, 0), stripes(30, 1), settings, progress=False)
        x = torch.tensor(stripes(30, 1).encode(model.encoding)).float()
        with torch.no_grad():
            events.append(float(model.activity(x)["cells"].sum()))
    assert events[1] < 0.7 * events[0]


def test_deformation_moves_strokes_a_little_and_keeps_them() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.zeros(50, 28, 28)
    images[:, 10:18, 12:16] = 255
    same = augment.deform(images, generator, degrees=0, zoom=0, shift=0, elastic=0)
    torch.testing.assert_close(same, images, atol=0.1, rtol=0)  # bilinear sampling at the pixels themselves
    moved = augment.deform(images, generator, degrees=10, zoom=0.1, shift=1.5, elastic=0.7)
    mass = moved.sum((1, 2)) / images.sum((1, 2))
    assert float(mass.min()) > 0.6 and float(mass.max()) < 1.6
    assert float((moved - images).abs().mean((1, 2)).min()) > 0.5
    rows = (moved.sum(2) * torch.arange(28)).sum(1) / moved.sum((1, 2))
    assert float((rows - 13.5).abs().max()) < 4


def ramps(samples: int, seed: int) -> Data:
    """Sequences whose class in every tick tells which of two channels was the last to speak; tick 0 doesn't count."""
    rng = np.random.default_rng(seed)
    images = (rng.random((samples, 12, 2)) < 0.2).astype(np.uint8)
    images[:, :, 1] &= 1 - images[:, :, 0]
    labels = np.zeros((samples, 12), np.int64)
    for t in range(12):
        before = labels[:, t - 1] if t else np.zeros(samples, np.int64)
        labels[:, t] = np.where(images[:, t, 0], 0, np.where(images[:, t, 1], 1, before))
    counted = np.ones((samples, 12), bool)
    counted[:, 0] = False
    return Data(images, labels, np.arange(samples), "ramps", "train", counted, counted)


def recurrent(seed: int = 0, decoder: str = "tick") -> Model:
    torch.manual_seed(seed)
    source = Input("x", 2)
    cells = Population("cells", 8, AdaptiveLif(state_bits=14), scale=100, surrogate=multi_gaussian, attach=True)
    read = Population("read", 2, LeakyIntegrator(state_bits=14), scale=100, unit=100)
    links = [Dense(source, cells, std=1.0), Dense(cells, cells, delay=1, std=0.3), Dense(cells, read, std=0.5)]
    encoding: dict[str, str | int | float] = {"kind": "events", "bits": 1}
    return Model([source], [cells, read], links, decoder=decoder, encoding=encoding)


SEQUENCE = Settings(epochs=25, batch=40, learning_rate=0.05, median_clip=2.0, neuron_rate=0.5, weight_decay=0.0)


@pytest.mark.parametrize("changes", [{}, {"part": 5}, {"keep": 4}, {"rollback": 1.2}], ids=str)
def test_a_class_per_tick_is_learned_also_in_parts(changes: dict[str, Any]) -> None:
    model, held = recurrent(), ramps(60, 1)
    settings = dataclasses.replace(SEQUENCE, **changes)
    fitted = train.fit(model, ramps(200, 0), held, settings, progress=False)
    assert fitted.accuracy == zoo.accuracy(model.export(), held) > 0.85


def test_recomputed_states_change_nothing() -> None:
    data, held = ramps(80, 0), ramps(20, 1)
    found: list[IntArray] = []
    for keep in (0, 5):
        model = recurrent()
        train.fit(model, data, held, dataclasses.replace(SEQUENCE, epochs=3, keep=keep), progress=False)
        found.append(model.export().projections[1].weights)
    np.testing.assert_array_equal(found[0], found[1])


def test_training_ends_early_and_records_its_epochs(tmp_path: Path) -> None:
    settings = dataclasses.replace(SEQUENCE, learning_rate=0.0, patience=3)
    fitted = train.fit(
        recurrent(), ramps(40, 0), ramps(20, 1), settings, progress=False, record=tmp_path / "epochs.csv"
    )
    assert len(fitted.history) == 4 and fitted.epoch == 1
    rows = (tmp_path / "epochs.csv").read_text().splitlines()
    assert rows[0] == "epoch,loss,validation_accuracy,seconds" and len(rows) == 5
    assert rows[4].startswith(f"4,{fitted.losses[3]:.6f},{fitted.history[3]:.6f},")


def test_an_epoch_whose_loss_jumps_is_undone() -> None:
    model, lines = recurrent(), []
    settings = dataclasses.replace(SEQUENCE, epochs=3, rollback=1e-6)
    before: list[dict[str, torch.Tensor]] = []

    def log(line: str) -> None:
        lines.append(line)
        before.append({k: v.clone() for k, v in model.state_dict().items()})

    train.fit(model, ramps(80, 0), ramps(20, 1), settings, progress=False, log=log)
    assert [line.endswith("undone: the loss rose") for line in lines] == [False, True, True]
    for name, value in before[0].items():
        assert torch.equal(value, before[1][name]) and torch.equal(value, before[2][name])


@pytest.mark.parametrize("decoder", ["sum", "last"])
def test_other_decoders_train_in_parts_too(decoder: str) -> None:
    data = ramps(200, 0)
    often = (data.images[:, :, 1].sum(1, dtype=int) > data.images[:, :, 0].sum(1, dtype=int)).astype(np.int64)
    one = dataclasses.replace(data, labels=often, counted=None, labelled=None)
    fitted = train.fit(
        recurrent(decoder=decoder), one, one, dataclasses.replace(SEQUENCE, part=6, epochs=10), progress=False
    )
    assert fitted.losses[-1] < fitted.losses[0] and fitted.accuracy > 0.7
