"""What a recipe of a shipped bundle is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from apical.sw.augment import Prepare, plain
from apical.sw.layers import Model
from apical.sw.train import Settings


@dataclass(frozen=True)
class Recipe:
    """How a shipped bundle is made.

    :param build: makes the untrained model.
    :param train: data set whose splits ``train`` or ``sample-train`` give raw data for `prepare`.
    :param test: data set whose splits ``validation``, ``test`` and ``sample`` judge the network.
    :param settings: the full training's; `quick` that of the shipped sample alone.
    :param real: settings of a training in real numbers that comes first (`Model.real`); `settings` then goes on from it
        under the integer rule.
    :param held: samples of the shipped ``sample-train`` that the quick training is judged on.
    :param study: of the package's stored runs the file in ``studies`` whose curves the bundle is a point of.
    """

    summary: str
    build: Callable[[], Model]
    train: str
    test: str
    settings: Settings
    quick: Settings
    prepare: Prepare = plain
    held: int = 350
    real: Settings | None = None
    study: str = ""
