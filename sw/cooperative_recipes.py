"""Recipes of cooperating streams, not in the zoo yet: clean speech from noisy audio and lips, words, letters."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from apical.sw import grid
from apical.sw.audio_features import BANDS
from apical.sw.cooperative import cooperative
from apical.sw.data import Data, Stream
from apical.sw.laws import Format
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
        basal=spread,
        apical=0.2,
        decoder="sum" if classes else None,
        encoding={"kind": "signed", "bits": 5, **(extra or {})},
        name=name,
    )


# Learning rates by the validation error of seed 0, of nets of 3 layers x 88 cells. The penalty awaits the curve; the
# recipes join `apical.sw.recipes` with their bundles.
TWO_POINT = Settings(epochs=16, batch=16, learning_rate=1.5e-3, weight_decay=0.1, part=25, loss="squared")
POINT = replace(TWO_POINT, learning_rate=4e-3)
PENALTY = 1.0
QUICK = replace(TWO_POINT, epochs=20, batch=6)


def _recipe(summary: str, law: str, name: str, settings: Settings) -> Recipe:
    quick = replace(QUICK, learning_rate=settings.learning_rate, transmissions=settings.transmissions)
    build = partial(grid_net, law, name)
    return Recipe(f"{summary} estimate clean speech from noisy audio and lips", build, "grid", "grid", settings, quick,
                  in_noise, held=2)  # fmt: skip


COOPERATIVE: dict[str, Recipe] = {
    "grid-mcc": _recipe(
        "two-point cells, 2 streams x 2 layers x 64, 6-bit events, few transmissions:",
        "two_point",
        "grid-mcc",
        replace(TWO_POINT, transmissions=PENALTY),
    ),
    "grid-point": _recipe(
        "point neurons with the projections of grid-mcc, no penalty on transmissions:", "relu", "grid-point", POINT
    ),
    "grid-point-sparse": _recipe(
        "point neurons with the projections and the penalty of grid-mcc:",
        "relu",
        "grid-point-sparse",
        replace(POINT, transmissions=PENALTY),
    ),
}
