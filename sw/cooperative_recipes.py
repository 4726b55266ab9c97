"""Cooperating streams of the data sets, and how they train: clean speech from noisy audio and lips, words, letters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from apical.sw import grid
from apical.sw.audio_features import BANDS
from apical.sw.cooperative import cooperative
from apical.sw.data import Data, Stream
from apical.sw.laws import Format, Modulation
from apical.sw.layers import Input, Model
from apical.sw.recipe import Recipe
from apical.sw.train import Settings

DRAWS = 8  # different noises that a training sentence is heard in
UNIT = 8.0  # event value of an input that counts as 1: about a standard deviation
CONTEXTS = ("proximal", "distal", "universal")

_held: dict[tuple[str, str, int, int], Tensor] = {}


def in_noise(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """Training sentences or words in one of `DRAWS` noises, the same for every seed; made once, since it takes long."""
    draw = epoch % DRAWS
    key = (data.name, data.split, len(data), draw)
    if key not in _held:
        _held[key] = grid.noisy(data, np.arange(len(data)), draw, torch.Generator().manual_seed(draw))
    return _held[key][torch.from_numpy(np.asarray(rows))]


def streams(kinds: Collection[Stream]) -> list[Input]:
    """An input of 5-bit signed events for each stream of a data set."""
    return [Input(s.name, s.size, Format(5), unit=UNIT) for s in kinds]


def grid_net(
    law: str,
    name: str,
    *,
    kinds: Collection[Stream] = grid.WINDOW,
    contexts: Collection[str] = CONTEXTS,
    layers: int = 2,
    cells: int = 64,
    classes: int = 0,
    modulation: Modulation = "mcc",
    extra: Mapping[str, str | int | float] | None = None,
) -> Model:
    """Two streams × 2 layers × 64 cells with 6-bit events and 8-bit weights, estimating 23 clean bands in every tick.

    :param kinds: the data's streams: `grid.WINDOW` or, of single frames, `grid.FRAME`.
    :param classes: where not 0: the read-out's sum over the ticks names one of so many words.
    """
    spread = 0.35 if law == "two_point" else 1.0 if len(contexts) < 2 else 0.7
    return cooperative(
        streams(kinds),
        layers,
        cells,
        classes or BANDS,
        law=law,
        contexts=contexts,
        modulation=modulation,
        basal=spread,
        apical=0.2,
        bias=0.0,
        decoder="sum" if classes else None,
        encoding={"kind": "signed", "bits": 5, **(extra or {})},
        name=name,
    )


TWO_POINT = Settings(epochs=32, batch=16, learning_rate=3e-3, weight_decay=0.1, part=25, loss="squared")
# Of the study's nets those that ship: rate by the validation error of seed 0, penalty by the validation curve.
SHIPPED: dict[str, dict[str, Any]] = {
    "grid-mcc": {"net": "two_point", "modulation": "mcc", "rate": 4.5e-3, "penalty": 1.0},
    "grid-linear": {"net": "two_point", "modulation": "linear", "rate": 6e-3, "penalty": 1.0},
    "grid-point": {"net": "relu", "modulation": "none", "rate": 4e-3, "penalty": 0.0},
    "grid-point-sparse": {"net": "relu", "modulation": "none", "rate": 8e-3, "penalty": 1.0},
}
CELLS = {
    "mcc": "two-point cells that guide each other",
    "linear": "two-point cells that guide each other (linear modulation)",
    "none": "point neurons with the same projections",
}


def shipped(name: str, net: str, modulation: str, rate: float, penalty: float) -> Recipe:
    """The recipe of a shipped net."""
    settings = replace(TWO_POINT, learning_rate=rate, transmissions=penalty)
    quiet = f", penalty {penalty:g} on transmissions" if penalty else ""
    law: Modulation = "linear" if modulation == "linear" else "mcc"
    return Recipe(
        f"clean speech from noisy audio and lips (GRID): 2 streams x 2 layers x 64 {CELLS[modulation]}{quiet}, "
        "8-bit weights",
        lambda: grid_net(net, name, modulation=law),
        "grid",
        "grid",
        settings,
        replace(settings, epochs=60, batch=3),
        in_noise,
        held=2,
        study="cooperative.json",
    )


COOPERATIVE = {name: shipped(name, **of) for name, of in SHIPPED.items()}
