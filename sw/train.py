"""Training: AdamW on a `Model`, whose forward pass is the integer network itself.

What is kept is the epoch that is best on the *validation part of the training data*, as integers; test data play
no part. With an average over the steps (`Settings.average`), the averaged latent parameters are what is judged.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn

from apical.sw.bundle import write_file
from apical.sw.datasets import Data
from apical.sw.encodings import Encoder
from apical.sw.layers import Model

# Makes a batch of raw data in 0..255: (training data, rows [batch], epoch, generator) -> [batch, ...].
Prepare = Callable[[Data, np.ndarray, int, torch.Generator], Tensor]


@dataclass(frozen=True)
class Settings:
    """How to train.

    :param gain: logits = gain x decoder's score / unit of the first output.
    :param warmup: share of the steps in which the learning rate rises; then it falls as a cosine to 0.
    :param clip: largest norm of the gradient.
    :param average: decay per step of the running mean of the latent parameters; 0: none.
    :param activity: weight of the penalty on the mean |value| / unit of the populations that aren't the first output.
    """

    epochs: int = 20
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip: float = 1.0
    label_smoothing: float = 0.0
    average: float = 0.0
    activity: float = 0.0
    gain: float = 1.0
    seed: int = 0


class TrainingError(RuntimeError):
    """Training that can't go on: a checkpoint of another run, or a loss that isn't a number."""


@dataclass
class Fitted:
    """What `fit` found; the model holds the best epoch's parameters.

    :param history: validation accuracy after each epoch.
    """

    accuracy: float = 0.0
    epoch: int = 0
    history: list[float] = field(default_factory=list)


def deform(
    images: Tensor, generator: torch.Generator, *, degrees: float, zoom: float, shift: float, elastic: float
) -> Tensor:
    """Random turn, zoom and shear, shift and elastic deformation of [batch, rows, columns] images.

    :param degrees: largest turn, and largest shear angle.
    :param zoom: largest change of size, each axis for itself.
    :param shift: largest shift in pixels.
    :param elastic: standard deviation, in pixels, of the shifts of a coarse 5 x 5 grid.
    """
    batch, rows, columns = images.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * 2 - 1

    angle, shear = (uniform(batch, 2) * math.radians(degrees)).unbind(1)
    size = 1 + uniform(batch, 2) * zoom
    cos, sin = torch.cos(angle), torch.sin(angle)
    offset = uniform(batch, 2) * shift * torch.tensor([2 / columns, 2 / rows])
    first = torch.stack([size[:, 0] * cos, -size[:, 1] * torch.sin(angle + shear), offset[:, 0]], 1)
    second = torch.stack([size[:, 0] * sin, size[:, 1] * torch.cos(angle + shear), offset[:, 1]], 1)
    grid = nn.functional.affine_grid(torch.stack([first, second], 1), [batch, 1, rows, columns], align_corners=False)
    if elastic:
        coarse = torch.randn(batch, 2, 5, 5, generator=generator) * (2 * elastic / columns)
        fine = nn.functional.interpolate(coarse, (rows, columns), mode="bicubic", align_corners=True)
        grid = grid + fine.permute(0, 2, 3, 1)
    return nn.functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def plain(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """The images as they are."""
    return torch.from_numpy(data.images[rows])


def _rate(settings: Settings, step: int, steps: int) -> float:
    rising = max(round(settings.warmup * steps), 1)
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


def logits(model: Model, values: dict[str, Tensor], gain: float) -> Tensor:
    """The decoder's scores in units that a cross entropy likes."""
    return model.scores(values) * (gain / model.units[model.outputs[0]])


@torch.no_grad()
def accuracy(model: Model, data: Data, *, batch: int = 1000) -> float:
    """Share of samples whose class the model's integer forward names."""
    device = next(model.parameters()).device
    encoder, right = Encoder(model.encoding, device), 0
    for start in range(0, len(data), batch):
        part = slice(start, start + batch)
        x = encoder(torch.tensor(data.images[part]).to(device))
        labels = torch.from_numpy(data.labels[part]).to(device)
        right += int((model.scores(model(x)).argmax(1) == labels).sum())
    return right / len(data)


class _Run:
    """State of a training run, as a checkpoint keeps it."""

    def __init__(self, model: Model, settings: Settings) -> None:
        self.model, self.settings = model, settings
        self.mean = copy.deepcopy(model)
        self.best = {k: v.clone() for k, v in model.state_dict().items()}
        self.fitted = Fitted()
        weights = [d.latent for d in model.projections]
        others = [p for p in model.parameters() if p.requires_grad and not any(p is w for w in weights)]
        self.optimizer = torch.optim.AdamW(
            [{"params": weights, "weight_decay": settings.weight_decay}, {"params": others, "weight_decay": 0.0}],
            lr=settings.learning_rate,
        )
        self.epoch = self.step = 0

    def state(self) -> dict[str, Any]:
        return {
            "settings": dataclasses.asdict(self.settings),
            "model": self.model.state_dict(),
            "mean": self.mean.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "fitted": dataclasses.asdict(self.fitted),
            "epoch": self.epoch,
            "step": self.step,
        }

    def save(self, path: Path) -> None:
        buffer = io.BytesIO()
        torch.save(self.state(), buffer)
        write_file(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
            kept = state["settings"]
        except Exception as error:  # torch.load raises many kinds
            raise TrainingError(f"{path}: expected a checkpoint of apical, can't be read: {error}") from None
        wanted = dataclasses.asdict(self.settings)
        if kept != wanted:
            key = next((k for k in wanted if kept.get(k) != wanted[k]), "settings")
            raise TrainingError(
                f"{path}: a checkpoint of another run: {key}: expected {wanted.get(key)!r}, got {kept.get(key)!r}"
            )
        try:
            self.model.load_state_dict(state["model"])
            self.mean.load_state_dict(state["mean"])
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise TrainingError(f"{path}: a checkpoint of another model: {reason}") from None
        self.best, self.fitted = state["best"], Fitted(**state["fitted"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step = state["epoch"], state["step"]

    def average(self) -> None:
        """Update the running mean; early on it forgets faster, so that the start doesn't linger."""
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.mean.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)


def _epoch(run: _Run, data: Data, prepare: Prepare, encoder: Encoder, advance: Callable[[float], None]) -> None:
    settings, model = run.settings, run.model
    device = next(model.parameters()).device
    generator = torch.Generator().manual_seed(settings.seed * 100_003 + run.epoch)
    order = torch.randperm(len(data), generator=generator).numpy()
    per_epoch = max(len(data) // settings.batch, 1)
    for n in range(per_epoch):
        rows = order[n * settings.batch : (n + 1) * settings.batch]
        raw = prepare(data, rows, run.epoch, generator).to(device)
        labels = torch.from_numpy(data.labels[rows]).to(device)
        values = model.activity(encoder(raw))
        loss = nn.functional.cross_entropy(
            logits(model, values, settings.gain), labels, label_smoothing=settings.label_smoothing
        )
        if not math.isfinite(float(loss.detach())):
            raise TrainingError(f"epoch {run.epoch + 1}: the loss is {float(loss.detach())}; lower the learning rate")
        if settings.activity:
            for name in model.units.keys() - {model.outputs[0]}:
                loss = loss + settings.activity * values[name].abs().mean() / model.units[name]
        for group in run.optimizer.param_groups:
            group["lr"] = _rate(settings, run.step, per_epoch * settings.epochs)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(model.parameters(), settings.clip)
        run.optimizer.step()
        model.clamp_()
        run.average()
        run.step += 1
        advance(float(loss.detach()))
    run.epoch += 1


def fit(
    model: Model,
    data: Data,
    validation: Data,
    settings: Settings,
    *,
    prepare: Prepare = plain,
    checkpoint: Path | None = None,
    progress: bool = True,
    log: Callable[[str], None] | None = None,
) -> Fitted:
    """Train `model` in place and leave the best epoch's parameters in it.

    :param data: raw training data; each batch of it goes through `prepare`, then the model's encoding.
    :param validation: a part of the training data that `data` doesn't hold; the best epoch is chosen on it.
    :param checkpoint: file written after each epoch; where it exists, training goes on from it, with the same result.
    :param progress: show a progress bar.
    :param log: called with one line per epoch.
    :raises TrainingError: a checkpoint of another run, or a loss that isn't finite.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    run = _Run(model, settings)
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
    encoder, fitted = Encoder(model.encoding, device), run.fitted
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not progress) as bar:
        per_epoch = max(len(data) // settings.batch, 1)
        task = bar.add_task("training", total=per_epoch * settings.epochs, completed=run.step)
        while run.epoch < settings.epochs:
            _epoch(run, data, prepare, encoder, lambda loss: bar.advance(task))
            judged = run.mean if settings.average else model
            now = accuracy(judged, validation)
            fitted.history.append(now)
            if now > fitted.accuracy or run.epoch == 1:
                fitted.accuracy, fitted.epoch = now, run.epoch
                run.best = {k: v.clone() for k, v in judged.state_dict().items()}
            line = f"epoch {run.epoch}/{settings.epochs}: validation {now:.4f}, best {fitted.accuracy:.4f}"
            bar.update(task, description=f"training, validation {100 * now:.2f} %")
            if log is not None:
                log(line)
            if checkpoint is not None:
                run.save(checkpoint)
    model.load_state_dict(run.best)
    model.to("cpu")
    return fitted
