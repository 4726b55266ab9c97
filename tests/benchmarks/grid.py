"""Cooperating streams: two-point cells beside point neurons of the same size, each tuned on its own.

    APICAL_DATA=... python tests/benchmarks/grid.py [--workers 2] [STAGE ...]

Stages, in this order (default: all):

===========  ==============================================================================================
``rates``    learning rates of each net, without a penalty and with one, by the validation error of seed 0
``curve``    penalty λ × net × seeds on GRID, at each net's best rates
``frames``   single frames: which contexts pay where the past must be remembered
``failing``  a stream fails for a while, in training too
``unclean``  targets that aren't clean: the same sentences in another noise (learning without clean targets)
``words``    spoken digits with lips, classified: penalty × net × seeds
``pairs``    digits seen and heard, also with a stream missing or a stranger's
``proof``    the nets of the shipped bundles, every seed: RTL counters on the whole test part, joules, damage
===========  ==============================================================================================

Every run is kept in the study that ships with the package (`apical.sw.cooperative_study`), and those that are there
aren't repeated; ``--summary`` only prints. Errors, accuracies and counters are golden's, on the validation part (for
every choice) and the test part; those of ``proof`` are the RTL's, where any difference from golden ends the stage.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from apical.sim import equivalence
from apical.sw import cooperative_recipes as recipes
from apical.sw import cooperative_study as study
from apical.sw import damage, datasets, energy, golden, grid, streams, train
from apical.sw.audio_features import from_mu_law, log_bank, mix
from apical.sw.augment import plain
from apical.sw.bundle import write_file
from apical.sw.cli_bench_grid import TECHNOLOGIES
from apical.sw.cooperative import parameters, transmissions
from apical.sw.data import Data
from apical.sw.laws import Modulation
from apical.sw.layers import Model
from apical.sw.network import Network

Job = dict[str, Any]
KEYS = study.KEYS
PAIR = (("two_point", "mcc"), ("relu", "none"))
NETS = (*PAIR, ("two_point", "linear"))
RATES = {"two_point": (1e-3, 1.5e-3, 3e-3, 4.5e-3, 6e-3, 8e-3), "relu": (1.5e-3, 2.5e-3, 4e-3, 6e-3, 8e-3, 1.2e-2)}
PLAIN, RECURRENT, ALL = ("distal",), ("proximal", "distal"), ("proximal", "distal", "universal")
PENALTIES = (0.0, 0.2, 0.5, 1.0, 1.5, 2.0, 4.0)
SEARCHED = (0.0, 1.0)  # penalties whose learning rates are searched; the others take the rate of the nearest
CLASS_PENALTIES = (0.0, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
CLASSES = {"grid-words": (ALL, 60), "av-mnist": (PLAIN, 6)}  # contexts and epochs
CLASS_RATES = (1.5e-3, 4e-3, 8e-3)
CLASSED = {"words": "grid-words", "pairs": "av-mnist"}  # stages
PAIRS = 20_000  # training samples of av-mnist that are used
EPOCHS = recipes.TWO_POINT.epochs
SIZE = {"layers": 2, "cells": 64}
KILLED = ((0.1, "cells"), (0.3, "cells"), (0.5, "cells"), (0.3, "synapses"))
UNCLEAN_DRAW = 40_000  # of the noise on unclean targets: training draws 16 to 16,399
DRAWS = (0, 1, 2)  # of which cells die


def job(net: str, modulation: str, contexts: Sequence[str], rate: float, **changes: Any) -> Job:
    """A run's settings."""
    base = {"data": "grid", "train": "noisy", **SIZE, "penalty": 0.0, "seed": 0, "epochs": EPOCHS}
    return {"net": net, "modulation": modulation, "contexts": list(contexts), "rate": rate, **base, **changes}


def key(run: study.Run) -> str:
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


def unclean(data: Data) -> Data:
    """Targets as a second, independent noise leaves them: nothing that is learned from was ever clean."""
    assert data.sound is not None
    own = np.arange(len(data))
    noise, level = grid.noise_of(data.index, UNCLEAN_DRAW, data.sound, own)
    heard = log_bank(mix(from_mu_law(data.sound), noise, level), data.images.shape[1])
    return replace(data, targets=grid.targets_of(heard))


def trained(work: Job, parts: dict[str, Data]) -> tuple[Model, train.Fitted]:
    """The net of a job."""
    settings, kinds = recipes.TWO_POINT, parts["train"].streams
    made = prepare if work["train"] == "fickle" else recipes.in_noise
    classes = 10 if work["data"] in CLASSES else 0
    if classes:
        pairs = work["data"] == "av-mnist"
        settings = replace(settings, loss="classes", batch=128 if pairs else 32, part=0, gain=1.0 if pairs else 0.25)
        settings = replace(settings, label_smoothing=0.1)
        made = plain if pairs else made
    shape = {k: work[k] for k in ("contexts", "layers", "cells")}
    modulation: Modulation = "mcc" if work["net"] == "relu" else work["modulation"]
    model = recipes.grid_net(work["net"], work["data"], kinds=kinds, classes=classes, modulation=modulation, **shape)
    changes = {"learning_rate": work["rate"], "transmissions": work["penalty"], "seed": work["seed"]}
    settings = replace(settings, **changes, epochs=work["epochs"])
    used = parts["train"].first(PAIRS)
    if work["train"] == "unclean":
        used = unclean(used)
    return model, train.fit(model, used, parts["validation"], settings, prepare=made, progress=False)


def load(work: Job) -> dict[str, Data]:
    """The parts of a job's data."""
    return {split: datasets.load(f"{work['data']}:{split}") for split in ("train", "validation", "test")}


def run(work: Job) -> Job:
    """Train one net and measure it."""
    torch.set_num_threads(1)
    torch.manual_seed(work["seed"])
    parts = load(work)
    model, fitted = trained(work, parts)
    network = model.export()
    out = {**work, "parameters": parameters(model), "seconds": round(sum(fitted.seconds))}
    out["validation"] = measure(network, parts["validation"])
    out["test"] = measure(network, parts["test"])
    out["history"] = [1 - score for score in fitted.history]
    if work["train"] == "fickle" or work["penalty"] == 0.0:
        kind = "accuracy" if work["data"] in CLASSES else "error"
        out["failing"] = {name: measure(network, part)[kind] for name, part in failing(parts["test"]).items()}
    return dict(_rounded(out))


def prove(work: Job) -> Job:
    """Train a stored net again and run it on the RTL; its golden figures must be the stored ones."""
    torch.set_num_threads(1)
    torch.manual_seed(work["seed"])
    parts = load(work)
    network, test = trained(work, parts)[0].export(), parts["test"]
    if (again := _rounded(measure(network, test))) != work["test"]:
        raise SystemExit(f"grid: training isn't repeatable: stored {work['test']}, now {again}")
    result = equivalence.cosim(network, test.encode(network.encoding), labels=test.truth, workers=1)
    if not result.equal:
        raise SystemExit(f"grid: golden and RTL differ: {result.divergence}")
    ticks = test.images.shape[0] * test.images.shape[1]
    found = {"bundle": work["bundle"], "mismatches": result.mismatches, "error": result.error}
    found |= {"cycles_per_tick": result.cycles_per_tick, **transmissions(network, result.rtl.counters, ticks)}
    for name, technology in TECHNOLOGIES.items():
        found[name] = energy.report(network, result.rtl, technology)["joules_per_sample"] / test.images.shape[1]
    killed = [
        {"what": what, "share": share, "seed": seed, "error": damage.measure(left, test)["error"]}
        for share, what in KILLED
        for seed in DRAWS
        for left in [damage.damage(network, share, seed, what)]
    ]
    return {**{k: v for k, v in work.items() if k != "bundle"}, "rtl": _rounded(found), "damage": _rounded(killed)}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _rounded(v) for k, v in value.items()}
    if isinstance(value, list):
        return [_rounded(v) for v in value]
    return float(f"{value:.5g}") if isinstance(value, float) else value


def keep(found: study.Run) -> None:
    """Add a run to the study, or put it in the place of the same one."""
    runs = sorted([r for r in stored() if key(r) != key(found)] + [found], key=key)
    lines = ",\n".join(json.dumps(r) for r in runs)
    study.FILE.parent.mkdir(exist_ok=True)
    write_file(study.FILE, f'{{"runs": [\n{lines}\n]}}\n')


def stored() -> list[study.Run]:
    """All runs so far."""
    return study.stored() if study.FILE.exists() else []


def finish(jobs: Iterable[Job], workers: int) -> None:
    """Run what isn't there yet."""
    done = {key(r) for r in stored()}
    waiting = {key(j): {k: j[k] for k in KEYS} for j in jobs if key(j) not in done}
    each(run, list(waiting.values()), workers)


def each(work: Callable[[Job], Job], jobs: Sequence[Job], workers: int) -> None:
    """Do the jobs side by side; keep each as it ends."""
    if not jobs:
        return
    for name in sorted({j["data"] for j in jobs if j["data"].startswith("grid")}):
        data = datasets.load(f"{name}:train")
        for draw in range(recipes.DRAWS):  # before the workers are forked, so that they share it
            recipes.in_noise(data, np.arange(1), draw, torch.Generator())
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        for n, found in enumerate(pool.map(work, jobs), 1):
            keep(found)
            short = {k: found[k] for k in KEYS}
            print(f"{n}/{len(jobs)}", json.dumps({**short, "validation": found["validation"]}), flush=True)


def rate(runs: Sequence[study.Run], net: str, modulation: str, contexts: Sequence[str], **where: Any) -> float:
    """The best learning rate of a net by the validation score of seed 0, at the searched penalty nearest below."""
    like = {"data": "grid", "train": "noisy", **SIZE, "penalty": 0.0, **where}
    like |= {"net": net, "modulation": modulation, "contexts": list(contexts), "seed": 0}
    like["penalty"] = max(p for p in SEARCHED if p <= like["penalty"]) if like["data"] == "grid" else 0.0
    fits = [r for r in runs if all(r[k] == v for k, v in like.items())]
    if not fits:
        raise SystemExit(f"grid: run the stage that searches the rates first; none of {like}")
    return float(min(fits, key=lambda r: study.score(r["validation"]))["rate"])


def stage(name: str, seeds: int, workers: int) -> None:
    """Run one of the stages."""
    several = [(n, s) for s in range(seeds) for n in (NETS if name in ("curve", *CLASSED) else PAIR)]
    if name == "rates":
        nets = [(*n, ALL, p) for n in NETS for p in SEARCHED] + [(*n, PLAIN, 0.0) for n in NETS]
        rates = {(n, c): RATES[n][1:4] if c == PLAIN else RATES[n] for n in RATES for c in (PLAIN, ALL)}
        finish([job(n, m, c, r, penalty=p) for n, m, c, p in nets for r in rates[n, c]], workers)
    elif name in CLASSED:
        data = CLASSED[name]
        contexts, epochs = CLASSES[data]
        finish([job(*n, contexts, r, data=data, epochs=epochs) for n in NETS for r in CLASS_RATES], workers)
        runs = stored()
        best = {n: rate(runs, *n, contexts, data=data) for n in NETS}
        same: Job = {"data": data, "epochs": epochs}
        finish(
            [job(*n, contexts, best[n], **same, penalty=p, seed=s) for n, s in several for p in CLASS_PENALTIES],
            workers,
        )
    elif name == "proof":
        each(prove, [j for j in proofs(stored()) if "rtl" not in j], workers)
    else:
        runs = stored()
        at = {(n, p): rate(runs, *n, ALL, penalty=p) for n in NETS for p in PENALTIES}
        jobs = {
            "curve": [job(*n, ALL, at[n, p], penalty=p, seed=s) for n, s in several for p in PENALTIES]
            + [job(*n, PLAIN, rate(runs, *n, PLAIN), seed=s) for n, s in several],
            "failing": [job(*n, ALL, at[n, 0.0], train="fickle", seed=s) for n, s in several],
            "unclean": [job(*n, ALL, at[n, 0.0], train="unclean", seed=s) for n, s in several],
            "frames": [
                job(*n, c, at[n, 0.0], data="grid-frames", seed=s) for n, s in several for c in (PLAIN, RECURRENT, ALL)
            ],
        }
        finish(jobs[name], workers)


def proofs(runs: Sequence[study.Run]) -> list[Job]:
    """The stored runs of the shipped bundles' settings, all seeds."""
    out = []
    for name, wanted in recipes.SHIPPED.items():
        like = {"data": "grid", "train": "noisy", **SIZE, "contexts": list(ALL), "epochs": EPOCHS, **wanted}
        out += [{**r, "bundle": name} for r in runs if all(r[k] == v for k, v in like.items())]
    return out


def main() -> None:
    stages = ("rates", "curve", "frames", "failing", "unclean", "words", "pairs", "proof")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=stages)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    for name in () if given.summary else given.stages:
        stage(name, given.seeds, given.workers)
    print(json.dumps(_rounded({"figures": study.figures(stored()), "nets": study.summary(stored())}), indent=1))


if __name__ == "__main__":
    main()
