"""The zoo: trained bundles that ship with the package, and the way to train them again.

Each bundle's `recipe` says how it was made (command, seed, epochs) and its proven accuracy, as the golden model
measures it. Test data are used once, after training, for that figure.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from apical.sw import bundle, datasets, golden
from apical.sw.datasets import Data, DataError
from apical.sw.fitted import Fitted
from apical.sw.layers import Model
from apical.sw.network import Network
from apical.sw.recipe import Recipe
from apical.sw.recipes import RECIPES
from apical.sw.train import Settings, fit

BUNDLES = Path(__file__).parent / "bundles"


class ZooError(ValueError):
    """A name that the zoo doesn't have."""


def names() -> list[str]:
    """Names of the bundles that ship."""
    return sorted(p.name for p in BUNDLES.iterdir() if (p / "network.yaml").is_file()) if BUNDLES.is_dir() else []


def path(name: str) -> Path:
    """Folder of a shipped bundle.

    :raises ZooError: no such bundle.
    """
    if name not in names():
        raise ZooError(f"zoo: expected one of {names()}, got {name!r}")
    return BUNDLES / name


def load(name: str) -> Network:
    """A shipped network."""
    return bundle.load(path(name))


def study(name: str) -> Path | None:
    """The stored runs that a shipped bundle is one point of; None where there are none."""
    file = RECIPES[name].study if name in RECIPES else ""
    return BUNDLES.with_name("studies") / file if file else None


def describe(name: str) -> dict[str, str | int | float | bool]:
    """A shipped bundle's recipe: summary, data, command, seed, epochs, accuracy (validation, test, shipped sample)."""
    return bundle.load_recipe(path(name))


def accuracies(network: Network, data: Data, *, batch: int = 100_000) -> dict[str, float]:
    """What the golden model gets right: of ``accuracy``, ``accuracy_labelled`` and ``error`` those that there are.

    :param batch: ticks of all samples together that run at once.
    :raises DataError: the network has no decoder and the data no targets, or it doesn't fit the data.
    """
    if network.decoder is None and data.targets is None:
        raise DataError(f"network {network.name!r}: has no decoder, so no accuracy")
    ticks = datasets.encode(data.first(1), network).shape[1]
    first, parts = network.outputs[0], []
    for start in range(0, len(data), size := min(max(batch // ticks, 1), 1000)):
        x = datasets.encode(data.rows(slice(start, start + size)), network)
        parts.append(golden.run(network, x).outputs[first])
    outputs = {first: np.concatenate(parts)}
    found = datasets.figures(network, golden.Trace(outputs, outputs, {}), data.truth)
    return {name: figure for name, figure in found.items() if figure is not None}


def accuracy(network: Network, data: Data, *, batch: int = 100_000) -> float:
    """Share of right classes among those that count, as `accuracies`."""
    return accuracies(network, data, batch=batch)["accuracy"]


def recipe_of(name: str) -> Recipe:
    """The recipe by name.

    :raises ZooError: no such recipe.
    """
    if name not in RECIPES:
        raise ZooError(f"zoo: expected a recipe of {sorted(RECIPES)}, got {name!r}")
    return RECIPES[name]


def _split(data: Data, last: int) -> tuple[Data, Data]:
    """All but the last samples, and the last ones."""
    return data.rows(slice(0, -last)), data.rows(slice(-last, None))


def _fit(
    model: Model,
    recipe: Recipe,
    settings: Settings,
    raw: Data,
    judged: Data,
    quick: bool,
    checkpoint: Path | None,
    progress: bool,
    log: Callable[[str], None] | None,
    record: Path | None,
) -> Fitted:
    """Train, in real numbers first where the recipe says so."""
    if recipe.real is not None and not quick:
        model.real = True
        first = None if checkpoint is None else checkpoint.with_name(checkpoint.name + ".real")
        stage = replace(recipe.real, seed=settings.seed)
        fit(model, raw, judged, stage, prepare=recipe.prepare, checkpoint=first, progress=progress, log=log)
        model.real = False
    return fit(
        model,
        raw,
        judged,
        settings,
        prepare=recipe.prepare,
        checkpoint=checkpoint,
        progress=progress,
        log=log,
        record=record,
    )


def train(
    name: str,
    out: Path,
    seed: int = 0,
    quick: bool = False,
    *,
    epochs: int | None = None,
    checkpoint: Path | None = None,
    progress: bool = True,
    log: Callable[[str], None] | None = None,
    record: Path | None = None,
) -> Network:
    """Train a recipe and write its bundle.

    :param out: bundle folder to write.
    :param quick: about a minute on the shipped sample alone (needs no data); else the recipe's full training.
    :param epochs: another number of epochs than the recipe's.
    :param checkpoint: file to resume from and to write after each epoch.
    :param record: CSV file of the epochs: loss, validation accuracy, seconds.
    :raises ZooError: no such recipe. :raises DataError: full training without the data.
    """
    recipe = recipe_of(name)
    settings = recipe.quick if quick else recipe.settings
    changes = {"seed": seed} if epochs is None else {"seed": seed, "epochs": epochs}
    settings = type(settings)(**{**vars(settings), **changes})
    if quick:
        raw, held = _split(datasets.load(f"{recipe.train}:sample-train"), recipe.held)
        judged = _split(datasets.load(f"{recipe.test}:sample-train"), len(held))[1]
        tests = ["sample"]
    else:
        raw, judged = datasets.load(f"{recipe.train}:train"), datasets.load(f"{recipe.test}:validation")
        tests = ["sample", "test"]
    torch.manual_seed(seed)
    model = recipe.build()
    began = time.perf_counter()
    fitted = _fit(model, recipe, settings, raw, judged, quick, checkpoint, progress, log, record)
    network = model.export()
    command = f"apical train {name} --seed {seed}{' --quick' if quick else ''}"
    facts: dict[str, str | int | float | bool] = {
        "summary": recipe.summary,
        "command": command + (f" --epochs {epochs}" if epochs is not None else ""),
        "data": f"{raw.name}:{raw.split}",
        "seed": seed,
        "epochs": settings.epochs,
        "best_epoch": fitted.epoch,
        "training_seconds": round(time.perf_counter() - began),
    }
    parts = {"validation": judged, **{split: datasets.load(f"{recipe.test}:{split}") for split in tests}}
    for split, part in parts.items():
        facts |= {f"{split}_{name}": round(share, 5) for name, share in accuracies(network, part).items()}
    bundle.save(network, out, facts)
    return network
