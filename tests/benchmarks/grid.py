"""Error against transmissions on GRID: two-point cells and point neurons of the same size, each tuned on its own.

    APICAL_DATA=... python tests/benchmarks/grid.py [--workers 2] [STAGE ...]

Stages, in this order (default: all): ``rates`` (learning rates by the validation error of seed 0, per net and
contexts), ``curve`` (penalty λ × net × seeds, at each net's best rate and contexts), ``frames`` (single frames: which
contexts pay where the past must be remembered), ``failing`` (a stream fails for a while, in training too), ``words``
and ``pairs`` (spoken digits with lips; digits seen and heard, also with a stream missing or a stranger's). Every run is
kept in grid.json beside this file, and those that are there aren't repeated; ``--summary`` only prints.

Errors, accuracies and counters are golden's, on the validation part (for every choice) and the test part.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import statistics
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apical.sw import cooperative_recipes as recipes
from apical.sw import datasets, golden, grid, streams, train
from apical.sw.augment import plain
from apical.sw.cooperative import parameters, transmissions
from apical.sw.data import Data
from apical.sw.layers import Model
from apical.sw.network import Network

FILE = Path(__file__).with_suffix(".json")
NETS = ("two_point", "relu")
RATES = {"two_point": (1.5e-3, 3e-3, 6e-3), "relu": (2e-3, 4e-3, 8e-3)}
PLAIN, RECURRENT, ALL = ("distal",), ("proximal", "distal"), ("proximal", "distal", "universal")
PENALTIES = (0.0, 0.1, 0.4, 1.0, 4.0)
CLASSES = {"grid-words": (0.0, 1.0, 10.0, 100.0, 300.0), "av-mnist": (0.0, 1.0, 10.0, 100.0, 300.0)}  # their penalties
PAIRS = 20_000  # training samples of av-mnist that are used
EPOCHS = recipes.TWO_POINT.epochs
Job = dict[str, Any]
KEYS = ("data", "train", "net", "layers", "cells", "contexts", "rate", "penalty", "seed", "epochs")
SIZE = {"layers": 2, "cells": 64}


def job(net: str, contexts: Sequence[str], rate: float, **changes: Any) -> Job:
    """A run's settings."""
    base = {"data": "grid", "train": "noisy", **SIZE, "penalty": 0.0, "seed": 0, "epochs": EPOCHS}
    return {"net": net, "contexts": list(contexts), "rate": rate, **base, **changes}


def key(run: Job) -> str:
    """What makes two runs the same."""
    return json.dumps([run[k] for k in KEYS])


def prepare(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> torch.Tensor:
    """Noise that was drawn once; and in half of the sentences a stream that fails for a while, drawn anew."""
    now = replace(data.rows(rows), images=recipes.in_noise(data, rows, epoch, generator).numpy(), sound=None)
    return grid.fickle(now, np.arange(len(rows)), epoch, generator)


def measure(network: Network, data: Data) -> dict[str, float]:
    """Error or accuracy, and transmissions per frame."""
    trace = golden.run(network, data.encode(network.encoding))
    found = transmissions(network, trace.counters, data.images.shape[0] * data.images.shape[1])
    reached = datasets.figures(network, trace, data.truth)
    return {**{k: v for k, v in reached.items() if v is not None}, **found}


def failing(data: Data) -> dict[str, Data]:
    """The same data with one stream gone for a second in the middle, or altogether; or a stranger's."""
    ticks = data.images.shape[1]
    out = {f"no {s.name}": streams.missing(data, s.name) for s in data.streams}
    if ticks > 1:
        out |= {f"{s.name} off": streams.fail(data, s.name, ticks // 3, ticks // 3) for s in data.streams}
    if data.targets is None:
        out |= {f"a stranger's {s.name}": streams.incongruent(data, s.name) for s in data.streams}
    return out


def trained(work: Job, parts: dict[str, Data]) -> tuple[Model, train.Fitted]:
    """The net of a job."""
    settings, kinds = recipes.TWO_POINT, parts["train"].streams
    made = recipes.in_noise if work["train"] == "noisy" else prepare
    classes = 10 if work["data"] in CLASSES else 0
    if classes:
        pairs = work["data"] == "av-mnist"
        settings = replace(settings, loss="classes", batch=128 if pairs else 32, part=0, gain=1.0 if pairs else 0.25)
        settings = replace(settings, label_smoothing=0.1)
        made = plain if pairs else made
    model = recipes.grid_net(
        work["net"],
        work["data"],
        kinds=kinds,
        contexts=work["contexts"],
        layers=work["layers"],
        cells=work["cells"],
        classes=classes,
    )
    settings = replace(
        settings,
        learning_rate=work["rate"],
        transmissions=work["penalty"],
        seed=work["seed"],
        epochs=work["epochs"],
    )
    used = parts["train"].first(PAIRS)
    return model, train.fit(model, used, parts["validation"], settings, prepare=made, progress=False)


def run(work: Job) -> Job:
    """Train one net and measure it."""
    torch.set_num_threads(1)
    torch.manual_seed(work["seed"])
    parts = {split: datasets.load(f"{work['data']}:{split}") for split in ("train", "validation", "test")}
    model, fitted = trained(work, parts)
    network = model.export()
    out = {**work, "parameters": parameters(model), "seconds": round(sum(fitted.seconds))}
    out["validation"] = measure(network, parts["validation"])
    out["test"] = measure(network, parts["test"])
    out["history"] = [1 - score for score in fitted.history]
    if work["train"] != "noisy" or work["penalty"] in (0.0, 1.0):
        kind = "accuracy" if work["data"] in CLASSES else "error"
        out["failing"] = {name: measure(network, part)[kind] for name, part in failing(parts["test"]).items()}
    return dict(_rounded(out))


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def stored() -> list[Job]:
    """All runs so far."""
    found: list[Job] = json.loads(FILE.read_text(encoding="utf-8"))["runs"] if FILE.exists() else []
    return found


def keep(found: Job) -> None:
    """Add a run to the file."""
    runs = sorted([r for r in stored() if key(r) != key(found)] + [found], key=key)
    lines = ",\n".join(json.dumps(r) for r in runs)
    FILE.write_text(f'{{"summary": {json.dumps(summary(runs), indent=1)},\n"runs": [\n{lines}\n]}}\n')


def finish(jobs: Iterable[Job], workers: int) -> None:
    """Run what isn't there yet."""
    done = {key(r) for r in stored()}
    waiting = [{k: j[k] for k in KEYS} for j in jobs if key(j) not in done]
    if not waiting:
        return
    for name in sorted({j["data"] for j in waiting if j["data"].startswith("grid")}):
        data = datasets.load(f"{name}:train")
        for draw in range(recipes.DRAWS):  # before the workers are forked, so that they share it
            recipes.in_noise(data, np.arange(1), draw, torch.Generator())
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        for found in pool.map(run, waiting):
            keep(found)
            short = {k: found[k] for k in KEYS}
            print(json.dumps({**short, "validation": found["validation"], "test": found["test"]}), flush=True)


def best(runs: list[Job], net: str, data: str, contexts: Sequence[str] | None = None) -> Job | None:
    """The unpenalized run of seed 0 with the lowest validation error."""
    fitting = [
        r
        for r in runs
        if (r["net"], r["data"], r["train"], r["penalty"], r["seed"]) == (net, data, "noisy", 0.0, 0)
        and r["contexts"] in ([list(contexts)] if contexts else [list(PLAIN), list(ALL)])
        and all(r[k] == SIZE[k] for k in SIZE)
    ]
    return min(fitting, key=lambda r: score(r["validation"]), default=None)


def score(found: dict[str, float]) -> float:
    """The error, or the share of wrong answers."""
    return found["error"] if "error" in found else 1 - found["accuracy"]


def group(runs: list[Job], like: Job, **changes: Any) -> list[Job]:
    """Runs that differ from `like` in the seed alone, after changes."""
    wanted = {**like, **changes}
    return [r for r in runs if all(r[k] == wanted[k] for k in KEYS if k != "seed")]


def mean_of(runs: list[Job], part: str, kind: str) -> dict[str, float]:
    """Mean and standard deviation over the seeds."""
    values = [r[part][kind] for r in runs]
    return {"mean": statistics.mean(values), "deviation": statistics.stdev(values) if len(values) > 1 else 0.0}


def epochs_to(run: Job, error: float) -> int | None:
    """Epochs after which the validation error is at or below `error`; None: never."""
    return next((n for n, e in enumerate(run["history"], 1) if e <= error), None)


def summary(runs: list[Job]) -> dict[str, Any]:
    """Per net: the chosen rate and contexts, the curve, learning speed and failing streams, means over the seeds."""
    out: dict[str, Any] = {}
    goals = (0.3, 0.25, 0.22)
    for net, contexts in itertools.product(NETS, (ALL, PLAIN)):
        if (like := best(runs, net, "grid", contexts)) is None:
            continue
        mine: dict[str, Any] = {"rate": like["rate"], "parameters": like["parameters"], "curve": {}}
        for penalty in PENALTIES:
            if seeds := group(runs, like, penalty=penalty):
                mine["curve"][str(penalty)] = {
                    "seeds": len(seeds),
                    "test_error": mean_of(seeds, "test", "error"),
                    "validation_error": mean_of(seeds, "validation", "error"),
                    "transmissions": mean_of(seeds, "test", "hidden"),
                    "epochs_to": {str(goal): [epochs_to(r, goal) for r in seeds] for goal in goals},
                }
        seeds = group(runs, like)
        mine["failing"] = {k: mean_of(seeds, "failing", k) for k in seeds[0]["failing"]}
        out[f"{net}: {' '.join(contexts)}"] = mine
    out |= {name: classes(runs, name) for name in CLASSES}
    out["frames"], out["fickle"] = {}, {}
    for net in NETS:
        for contexts in (PLAIN, RECURRENT, ALL):
            name = f"{net}: {' '.join(contexts)}"
            if (found := best(runs, net, "grid-frames", contexts)) is not None:
                seeds = group(runs, found)
                out["frames"][name] = {
                    "seeds": len(seeds), "rate": found["rate"], "parameters": found["parameters"],
                    "test_error": mean_of(seeds, "test", "error"), "transmissions": mean_of(seeds, "test", "hidden"),
                }  # fmt: skip
        fickle = [r for r in runs if r["net"] == net and r["train"] == "fickle" and r["cells"] == SIZE["cells"]]
        if fickle:
            each = {k: mean_of(fickle, "failing", k) for k in fickle[0]["failing"]}
            whole = {"test_error": mean_of(fickle, "test", "error"), "transmissions": mean_of(fickle, "test", "hidden")}
            out["fickle"][net] = {"seeds": len(fickle), **whole, "failing": each}
    return _rounded(out)  # type: ignore[no-any-return]


def classes(runs: list[Job], data: str) -> dict[str, Any]:
    """Per net and penalty: accuracy and transmissions per frame; and what bad streams do without a penalty."""
    out: dict[str, Any] = {}
    for net in NETS:
        if (like := best(runs, net, data)) is None:
            continue
        out[net] = {"rate": like["rate"], "contexts": like["contexts"], "parameters": like["parameters"], "curve": {}}
        for penalty in CLASSES[data]:
            if seeds := group(runs, like, penalty=penalty):
                out[net]["curve"][str(penalty)] = {
                    "seeds": len(seeds),
                    "test_accuracy": mean_of(seeds, "test", "accuracy"),
                    "validation_accuracy": mean_of(seeds, "validation", "accuracy"),
                    "transmissions": mean_of(seeds, "test", "hidden"),
                }
        seeds = group(runs, like)
        out[net]["failing"] = {k: mean_of(seeds, "failing", k) for k in seeds[0]["failing"]}
    return out


def stage(name: str, seeds: int, workers: int) -> None:
    """Run one of the stages."""
    if name == "rates":
        finish([job(n, c, r) for n in NETS for c in (ALL, PLAIN) for r in RATES[n]], workers)
        return
    runs = stored()
    chosen = {(n, c): best(runs, n, "grid", c) for n in NETS for c in (ALL, PLAIN)}
    likes = {of: like for of, like in chosen.items() if like is not None}
    if len(likes) < len(chosen):
        raise SystemExit("grid: run the stage 'rates' first")
    several = [(n, s) for s in range(seeds) for n in NETS]
    rate = {n: likes[n, ALL]["rate"] for n in NETS}
    if name in ("words", "pairs"):
        data, contexts, epochs = ("grid-words", ALL, 60) if name == "words" else ("av-mnist", PLAIN, 6)
        rates = (1.5e-3, 4e-3)
        finish([job(n, contexts, r, data=data, epochs=epochs) for n in NETS for r in rates], workers)
        runs = stored()
        found = {n: best(runs, n, data) for n in NETS}
        each = [(like, s) for s in range(seeds) for like in found.values() if like is not None]
        finish([{**like, "penalty": p, "seed": s} for like, s in each for p in CLASSES[data]], workers)
    elif name == "curve":
        each = [(likes[n, c], s) for c in (ALL, PLAIN) for n, s in several]
        finish([{**like, "penalty": p, "seed": s} for like, s in each for p in PENALTIES], workers)
    elif name == "failing":
        finish([{**likes[n, ALL], "train": "fickle", "seed": s} for n, s in several], workers)
    else:
        frames = [(n, c, s) for n, s in several for c in (PLAIN, RECURRENT, ALL)]
        finish([job(n, c, rate[n], data="grid-frames", seed=s) for n, c, s in frames], workers)


def main() -> None:
    stages = ("rates", "curve", "frames", "failing", "words", "pairs")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=stages)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    for name in () if given.summary else given.stages:
        stage(name, given.seeds, given.workers)
    print(json.dumps(summary(stored()), indent=1))


if __name__ == "__main__":
    main()
