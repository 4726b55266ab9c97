"""Training: AdamW on a `Model`, whose forward pass is the integer network itself.

What is kept is the epoch that is best on the *validation part of the training data*, as integers; test data play
no part. With an average over the steps (`Settings.average`), the averaged latent parameters are what is judged.
"""

from __future__ import annotations

import copy
import dataclasses
import io
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recomputed

from apical.sw import execution, losses
from apical.sw.augment import Prepare, plain
from apical.sw.bundle import write_file
from apical.sw.data import Data, errors
from apical.sw.encodings import Encoder
from apical.sw.execution import State
from apical.sw.fitted import Fitted as Fitted
from apical.sw.fitted import write_record
from apical.sw.layers import Model


@dataclass(frozen=True)
class Settings:
    """How to train.

    :param gain: logits = gain x decoder's score / unit of the first output.
    :param warmup: share of the steps in which the learning rate rises; then it falls as a cosine to 0.
    :param clip: largest norm of the gradient.
    :param median_clip: where not 0: instead, each parameter's gradient is clipped to this many times the median of its
        norms in the last 100 steps. Long recurrent sequences need it: one exploding step can ruin a net for good.
    :param rollback: where not 0: an epoch whose loss is more than this many times the lowest so far is undone: training
        goes on from the parameters of that lowest epoch.
    :param neuron_rate: learning rate of the neurons' parameters (decays, thresholds, ...) relative to the weights'.
    :param part: ticks after which gradients are cut off and a step is taken (truncated back-propagation through time);
        0: whole sequences.
    :param keep: memory for time: only the states every so many ticks are kept, the rest is computed again backward.
    :param unlabelled: weight in the loss of ticks without a label (they have class 0).
    :param patience: epochs without a better validation accuracy after which training ends; 0: never early.
    :param average: decay per step of the running mean of the latent parameters; 0: none.
    :param activity: weight of the penalty on the mean |value| / unit of the populations that aren't the first output.
    :param loss: ``classes``: cross entropy; ``squared``: of the first output / its unit against the data's targets.
    :param transmissions: weight of `apical.sw.losses.transmissions`, rising from 0 between 10 and 40 % of the steps.
    :param gating: weight of the gates' own losses (`apical.sw.gate_layers.KernelGate`), rising alike.
    """

    epochs: int = 20
    batch: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05
    clip: float = 1.0
    median_clip: float = 0.0
    rollback: float = 0.0
    neuron_rate: float = 1.0
    part: int = 0
    keep: int = 0
    unlabelled: float = 1.0
    patience: int = 0
    label_smoothing: float = 0.0
    average: float = 0.0
    activity: float = 0.0
    loss: Literal["classes", "squared"] = "classes"
    transmissions: float = 0.0
    gain: float = 1.0
    gating: float = 0.0
    seed: int = 0


class TrainingError(RuntimeError):
    """Training that can't go on: a checkpoint of another run, or a loss that isn't a number."""


def _rate(settings: Settings, step: int, steps: int) -> float:
    rising = max(round(settings.warmup * steps), 1)
    if step < rising:
        return settings.learning_rate * (step + 1) / rising
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - rising) / max(steps - rising, 1)))


@torch.no_grad()
def accuracy(model: Model, data: Data, *, batch: int = 100_000) -> float:
    """Share of right classes by the model's integer forward, among those that count; without a decoder 1 - error.

    :param batch: ticks of all samples together that run at once.
    """
    device = next(model.parameters()).device
    encoder, found = Encoder(model.encoding, device), []
    ticks = encoder(torch.tensor(data.images[:1]).to(device)).shape[1]
    for start in range(0, len(data), size := min(max(batch // ticks, 1), 1000)):
        values = model(encoder(torch.tensor(data.images[start : start + size]).to(device)))
        answer = model.scores(values).argmax(-1) if model.decoder else values[model.outputs[0]]
        found.append(answer.cpu().numpy())
    if model.decoder:
        return data.truth.accuracy(np.concatenate(found)) or 0.0
    return 1 - errors(np.concatenate(found), data, model.units[model.outputs[0]])


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
            [
                {"params": weights, "weight_decay": settings.weight_decay, "rate": 1.0},
                {"params": others, "weight_decay": 0.0, "rate": settings.neuron_rate},
            ],
            lr=settings.learning_rate,
        )
        self.epoch = self.step = 0
        self.norms: list[list[float]] = [[] for _ in self.trained()]
        self.calm: dict[str, Any] | None = None  # parameters and optimizer after the epoch of the lowest loss

    def settle(self, loss: float) -> bool:
        """Keep the state of the lowest loss, or go back to it; True where the epoch was undone."""
        factor, lowest = self.settings.rollback, min(self.fitted.losses, default=math.inf)
        if not factor:
            return False
        if self.calm is not None and not loss <= factor * lowest:
            self.model.load_state_dict(self.calm["model"])
            self.optimizer.load_state_dict(self.calm["optimizer"])
            return True
        if loss <= lowest:
            self.calm = copy.deepcopy({"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()})
        return False

    def trained(self) -> list[nn.Parameter]:
        """Parameters that train."""
        return [p for p in self.model.parameters() if p.requires_grad]

    def clip(self) -> None:
        """Limit the gradients as the settings say."""
        if not self.settings.median_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.settings.clip)
            return
        for parameter, norms in zip(self.trained(), self.norms, strict=True):
            if parameter.grad is None:
                continue
            norm = float(parameter.grad.norm())
            if not math.isfinite(norm):
                parameter.grad.zero_()
                continue
            limit = self.settings.median_clip * float(np.median(norms)) if len(norms) >= 10 else math.inf
            if norm > limit:
                parameter.grad.mul_(limit / norm)
            norms.append(norm)
            del norms[:-100]

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
            "norms": self.norms,
            "calm": self.calm,
        }

    def save(self, path: Path) -> None:
        buffer = io.BytesIO()
        torch.save(self.state(), buffer)
        write_file(path, buffer.getvalue())

    def load(self, path: Path) -> None:
        try:
            state = torch.load(path, weights_only=True)
            kept = {**dataclasses.asdict(Settings()), **state["settings"]}  # of before a setting was added
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
        self.epoch, self.step, self.norms = state["epoch"], state["step"], state["norms"]
        self.calm = state["calm"]

    def average(self) -> None:
        """Update the running mean; early on it forgets faster, so that the start doesn't linger."""
        decay = min(self.settings.average, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for mean, now in zip(self.mean.parameters(), self.model.parameters(), strict=True):
                mean.lerp_(now, 1 - decay)
            for kept, given in zip(self.mean.buffers(), self.model.buffers(), strict=True):  # statistics of norms
                kept.lerp_(given, 1 - decay)


def _weights(data: Data, rows: np.ndarray, unlabelled: float) -> Tensor | None:
    """What each label counts in the loss; None: all the same."""
    weight = None if data.counted is None else torch.from_numpy(data.counted[rows]).float()
    if data.labelled is not None and unlabelled != 1:
        labelled = torch.where(torch.from_numpy(data.labelled[rows]), 1.0, unlabelled)
        weight = labelled if weight is None else weight * labelled
    return weight


def _advance(model: Model, x: Tensor, state: State, keep: int) -> tuple[dict[str, Tensor], State]:
    """`Model.advance`; with `keep`, in pieces whose inner values are computed again in the backward pass."""
    if not keep:
        return model.advance(x, state)
    pieces: list[dict[str, Tensor]] = []
    for piece in torch.split(x, keep, dim=1):
        values, state = recomputed(model.advance, piece, state, use_reentrant=False)
        pieces.append(values)
    return {name: torch.cat([p[name] for p in pieces], 1) for name in pieces[0]}, state


def _loss(
    run: _Run, values: dict[str, Tensor], wanted: Tensor, weight: Tensor | None, before: Tensor
) -> tuple[Tensor, Tensor]:
    """The settings' loss of one part, and the scores so far; `before` has those of the parts before."""
    settings, model = run.settings, run.model
    first = model.outputs[0]
    if settings.loss == "squared":
        return losses.squared(values[first] / model.units[first], wanted, weight), before
    scores = model.scores(values)
    if model.decoder in ("sum", "rate"):
        scores = scores + before
    logits = scores * (settings.gain / model.units[first])
    return losses.cross_entropy(logits, wanted, weight, settings.label_smoothing), scores.detach()


def _batch(run: _Run, x: Tensor, wanted: Tensor, weight: Tensor | None, steps: int) -> Iterator[float]:
    """Train on one batch, part by part; yields each part's loss.

    Every part is asked for the label: the ticks' classes or targets, or the decoder's score up to the part's end.
    """
    settings, model = run.settings, run.model
    state = execution.start(model, x.shape[0])
    length, before = settings.part or x.shape[1], torch.zeros((), device=x.device)
    for gate in model.gate_of.values():
        gate.schedule(run.step / steps)
    points = len(next(iter(model.gate_of.values())).gains) if model.gate_of else 1
    for first in range(0, x.shape[1], length):
        if points > 1:  # each gate set in turn; the weights serve them all
            model.point = run.step % points
        part = slice(first, first + length)
        values, state = _advance(model, x[:, part], state.detach(), settings.keep)
        asked, counts = wanted, weight
        if wanted.ndim > 1:
            asked, counts = wanted[:, part], None if weight is None else weight[:, part]
        loss, before = _loss(run, values, asked, counts, before)
        found = float(loss.detach())
        if not math.isfinite(found):
            raise TrainingError(f"epoch {run.epoch + 1}: the loss is {found}; lower the learning rate")
        if settings.activity:
            for name in model.units.keys() - {model.outputs[0]}:
                loss = loss + settings.activity * values[name].abs().mean() / model.units[name]
        if settings.transmissions:
            rising = min(max((run.step / steps - 0.1) / 0.3, 0.0), 1.0)
            loss = loss + settings.transmissions * rising * losses.transmissions(model, values)
        if settings.gating:
            rising = min(max((run.step / steps - 0.1) / 0.3, 0.0), 1.0)
            for gate in model.gate_of.values():
                loss = loss + settings.gating * rising * gate.loss()
        for group in run.optimizer.param_groups:
            group["lr"] = group["rate"] * _rate(settings, run.step, steps)
        run.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        run.clip()
        run.optimizer.step()
        model.clamp_()
        run.average()
        run.step += 1
        yield found


def _epoch(run: _Run, data: Data, prepare: Prepare, encoder: Encoder, advance: Callable[[], None]) -> float:
    """Train one epoch; its mean loss."""
    settings = run.settings
    device = next(run.model.parameters()).device
    generator = torch.Generator().manual_seed(settings.seed * 100_003 + run.epoch)
    order = torch.randperm(len(data), generator=generator).numpy()
    per_epoch = max(len(data) // settings.batch, 1)
    found: list[float] = []
    for n in range(per_epoch):
        rows = order[n * settings.batch : (n + 1) * settings.batch]
        x = encoder(prepare(data, rows, run.epoch, generator).to(device))
        weight = _weights(data, rows, settings.unlabelled)
        given = data.labels if settings.loss == "classes" else data.targets
        if given is None:
            raise TrainingError(f"data {data.name}:{data.split}: expected targets for the squared loss, got none")
        wanted = torch.from_numpy(given[rows]).to(device)
        parts = math.ceil(x.shape[1] / settings.part) if settings.part else 1
        steps = parts * per_epoch * settings.epochs
        found += _batch(run, x, wanted, None if weight is None else weight.to(device), steps)
        advance()
    run.epoch += 1
    return float(np.mean(found))


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
    record: Path | None = None,
) -> Fitted:
    """Train `model` in place and leave the best epoch's parameters in it.

    :param data: raw training data; each batch of it goes through `prepare`, then the model's encoding.
    :param validation: a part of the training data that `data` doesn't hold; the best epoch is chosen on it.
    :param checkpoint: file written after each epoch; where it exists, training goes on from it, with the same result.
    :param progress: show a progress bar.
    :param log: called with one line per epoch.
    :param record: CSV file of the epochs so far: epoch, loss, validation accuracy, seconds.
    :raises TrainingError: a checkpoint of another run, a loss that isn't finite, or parts that cut a gate's window.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model.to(device)
    for gate in model.gate_of.values():
        if settings.part % gate.window:
            raise TrainingError(
                f"part: expected a multiple of {gate.window} ticks, the window of the gate of {gate.target!r}, got "
                f"{settings.part}"
            )
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
        task = bar.add_task("training", total=per_epoch * settings.epochs, completed=per_epoch * run.epoch)
        while run.epoch < settings.epochs and not fitted.waited(settings.patience):
            began = time.perf_counter()
            loss = _epoch(run, data, prepare, encoder, lambda: bar.advance(task))
            undone = run.settle(loss)
            judged = run.mean if settings.average else model
            model.point = judged.point  # of several, the first is the one that is judged
            now = accuracy(judged, validation)
            fitted.history.append(now)
            fitted.losses.append(loss)
            if now > fitted.accuracy or run.epoch == 1:
                fitted.accuracy, fitted.epoch = now, run.epoch
                run.best = {k: v.clone() for k, v in judged.state_dict().items()}
            fitted.seconds.append(time.perf_counter() - began)
            line = f"epoch {run.epoch}/{settings.epochs}: validation {now:.4f}, best {fitted.accuracy:.4f}"
            bar.update(task, description=f"training, validation {100 * now:.2f} %")
            if log is not None:
                log(line + (", undone: the loss rose" if undone else ""))
            if record is not None:
                write_record(record, fitted)
            if checkpoint is not None:
                run.save(checkpoint)
    model.load_state_dict(run.best)
    model.to("cpu")
    return fitted
