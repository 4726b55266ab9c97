"""Spoken digits: a recurrent net in float, the same net at 8 bits, and a feed-forward snnTorch net of the same size.

    APICAL_DATA=... python tests/benchmarks/spoken_digits.py

Float net and peer go through `apical.sw.train.fit` with the recipe's settings: the same epochs, batches, random replays
of the recordings, optimizer and choice of the epoch on the validation part. The integer net goes on from the float one
under the integer rule, as the recipe's second stage. Each learning rate is chosen by the validation accuracy of seed 0;
then the seeds run. Runs are kept in the file that the script writes, spoken_digits.yaml: those that are there aren't
repeated.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor, nn

from apical.sw import datasets, train
from apical.sw.execution import State
from apical.sw.layers import Model
from apical.sw.recurrent_recipes import RECURRENT, decays
from apical.sw.train import Settings

RECIPE = RECURRENT["spoken-digits"]
KINDS = ("float", "integer", "snntorch")
TRAINED = ("float", "snntorch")
RATES = (5e-3, 1e-2)
FIRST = cast(Settings, RECIPE.real)
FILE = Path(__file__).with_suffix(".yaml")


class Layer(nn.Linear):
    """A linear layer, named as `fit` names a projection."""

    delay = 0

    @property
    def latent(self) -> Tensor:
        return self.weight


class FeedForward(nn.Module):
    """140-128-128-10 of snnTorch's ``Leaky`` with trained decay and threshold per neuron, its read-out without reset.

    Time constants and weights start as in our net, whose recurrent weights it doesn't have. It has what `fit` asks of
    a `Model`.
    """

    inputs, cells, decoder, outputs = (), cast(dict[str, Any], {}), "sum", ("digits",)
    encoding = RECIPE.build().encoding

    def __init__(self) -> None:
        super().__init__()
        import snntorch
        from snntorch import surrogate

        sizes, std = (140, 128, 128, 10), (0.25, 0.35, 0.1)
        self.units = {"digits": 10.0}
        self.projections = nn.ModuleList(Layer(a, b) for a, b in pairwise(sizes))
        for layer, spread in zip(self.projections, std, strict=True):
            nn.init.normal_(cast(Layer, layer).weight, 0, spread)
            nn.init.zeros_(cast(Layer, layer).bias)
        start = torch.tensor(decays(128, 4, 0.8))
        self.spiking = nn.ModuleList(
            snntorch.Leaky(
                beta=start.clone(),
                threshold=torch.ones(128),
                learn_beta=True,
                learn_threshold=True,
                spike_grad=surrogate.atan(),
            )
            for _ in range(2)
        )
        self.read = snntorch.Leaky(beta=torch.full((10,), 0.95), learn_beta=True, reset_mechanism="none")

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Membranes of the read-out, [batch, ticks, 10], for spikes [batch, ticks, 140]."""
        first, second, last = self.projections
        membranes: list[Tensor | None] = [torch.zeros(x.shape[0], 128), torch.zeros(x.shape[0], 128)]
        out, read = [], torch.zeros(x.shape[0], 10)
        for current in first(x).unbind(1):
            spikes, membranes[0] = self.spiking[0](current, membranes[0])
            spikes, membranes[1] = self.spiking[1](second(spikes), membranes[1])
            read = self.read(last(spikes), read)[1]
            out.append(read)
        return {"digits": torch.stack(out, 1)}

    def advance(self, x: Tensor, state: State) -> tuple[dict[str, Tensor], State]:
        return self(x), state

    def scores(self, values: dict[str, Tensor]) -> Tensor:
        return values["digits"].sum(1)

    def clamp_(self) -> None:
        """Nothing to pull back."""


def build(kind: str) -> Model:
    """The untrained net."""
    if kind == "snntorch":
        return cast(Model, FeedForward())
    return RECIPE.build()


def run(job: tuple[str, float, int, int]) -> list[dict[str, Any]]:
    """Train one net: (kind, learning rate, seed, epochs); after the float one, go on with it at 8 bits."""
    kind, rate, seed, epochs = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    parts = {split: datasets.load(f"{RECIPE.test}:{split}") for split in ("train", "validation", "test")}
    model = build(kind)
    stages = {kind: replace(FIRST, learning_rate=rate, seed=seed, epochs=epochs)}
    if kind == "float":
        stages["integer"] = replace(RECIPE.settings, seed=seed)
    out = []
    for stage, settings in stages.items():
        model.real = stage == "float"
        fitted = train.fit(model, parts["train"], parts["validation"], settings, prepare=RECIPE.prepare, progress=False)
        reached = {split: round(train.accuracy(model, part), 4) for split, part in parts.items()}
        facts = {"kind": stage, "learning_rate": rate, "seed": seed, "epochs": settings.epochs}
        out.append({**facts, "best_epoch": fitted.epoch, **reached})
    return out


def finish(jobs: Iterable[tuple[str, float, int, int]], runs: list[dict[str, Any]], workers: int) -> None:
    """Run what isn't there yet; the file is written after each."""
    done = {(r["kind"], r["learning_rate"], r["seed"], r["epochs"]) for r in runs}
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        for found in pool.map(run, [job for job in jobs if job not in done]):
            runs += found
            print(found, flush=True)
            write(runs)


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Per kind the chosen learning rate and, over its seeds, the accuracies."""
    out: dict[str, Any] = {}
    for kind in KINDS:
        first = [r for r in runs if r["kind"] == kind and r["seed"] == 0]
        if not first:
            continue
        floats = [r for r in runs if r["kind"] == ("snntorch" if kind == "snntorch" else "float") and r["seed"] == 0]
        rate = max(floats, key=lambda r: r["validation"])["learning_rate"]
        chosen = sorted((r for r in runs if r["kind"] == kind and r["learning_rate"] == rate), key=lambda r: r["seed"])
        out[kind] = {"learning_rate": rate}
        for split in ("validation", "test"):
            each = [r[split] for r in chosen]
            out[kind] |= {split: each, f"{split}_mean": round(statistics.mean(each), 4)}
    return out


def write(runs: list[dict[str, Any]]) -> None:
    """All runs and their summary."""
    FILE.write_text(yaml.safe_dump({"summary": summary(runs), "runs": runs}, sort_keys=False), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=FIRST.epochs)
    parser.add_argument("--workers", type=int, default=2)
    given = parser.parse_args()
    runs = yaml.safe_load(FILE.read_text(encoding="utf-8"))["runs"] if FILE.exists() else []
    finish(((k, rate, 0, given.epochs) for k in TRAINED for rate in RATES), runs, given.workers)
    rates = {kind: found["learning_rate"] for kind, found in summary(runs).items()}
    finish(((k, rates[k], s, given.epochs) for s in range(1, given.seeds) for k in TRAINED), runs, given.workers)
    print(yaml.safe_dump(summary(runs), sort_keys=False))


if __name__ == "__main__":
    main()
