"""Competitive plasticity: what nets of several sizes pay, in updates, until they name 95 % of the digits.

    APICAL_DATA=... python tests/benchmarks/plasticity.py [--cells 100 300 ...] [--workers 2] [--minutes 30] [STAGE ...]

Stages, in this order (default: all):

============  =============================================================================================
``rules``     plain learning and rules 1 to 3, their fractions, subnets and rates (the tuning), seed 0
``lazy``      the same with updates on mistakes and near mistakes alone
``controls``  random synapses and the largest weights in place of the largest updates; caching
``seeds``     more seeds of the settings that the first seed's validation chose
============  =============================================================================================

Every run is kept in the study that ships with the package (`apical.sw.plasticity_study`), and those that are there
aren't repeated; ``--summary`` only prints. Small nets come first; after ``--minutes`` no further run begins.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from typing import Any

import torch

from apical.sw import plasticity_study as study
from apical.sw.bundle import write_file
from apical.sw.plasticity_protocol import Part, Settings, parts, reach

Job = dict[str, Any]
CELLS = (100, 300, 1000, 3000)
FRACTIONS, SUBNETS = (0.1, 0.01, 0.003, 0.002, 0.001), (60, 100, 200)
MARGIN = 0.3  # of the lazy rules: a third of the way between the targets
RATES = (0.02, 0.01, 0.03)  # in the order in which they are tried
MOST = 80_000  # samples: more than twice what plain learning needs at any size
DATA: dict[str, Part] = {}  # filled before the workers are forked, so that they share it


def job(cells: int, rate: float, **rule: Any) -> Job:
    """A run's settings."""
    base = {"fraction": None, "subnet": None, "select": "update", "lazy": None, "cache": None, "seed": 0}
    return {"cells": cells, "rate": rate, **base, **rule}


def key(run: study.Run) -> str:
    """What makes two runs the same."""
    return json.dumps([run[k] for k in study.KEYS])


def rules(cells: int) -> Iterator[Job]:
    """Plain and rules 1 to 3."""
    subnets = [k for k in SUBNETS if k < cells]
    for rate in RATES:
        yield job(cells, rate if rate < 0.03 else 0.005)  # plain learning wants lower ones
        yield from (job(cells, rate, fraction=p) for p in FRACTIONS)
        yield from (job(cells, rate, subnet=k) for k in subnets)
        yield from (job(cells, rate, subnet=k, fraction=p) for k in subnets for p in (0.1, 0.01))


def controls(cells: int) -> Iterator[Job]:
    """What a fraction does that isn't that of the largest updates; and caching."""
    for select, rate in itertools.product(("random", "weight"), (0.01, 0.03)):
        yield job(cells, rate, fraction=0.1, select=select)
    for cache in (0.003, 0.01, 0.03):
        yield job(cells, 0.01, cache=cache)


def lazy(cells: int) -> Iterator[Job]:
    """The most promising of `rules` with a margin."""
    yield from (job(cells, r, lazy=MARGIN) for r in (0.005, 0.01))
    yield from (job(cells, r, fraction=p, lazy=MARGIN) for p in (0.01, 0.003, 0.001) for r in (0.01, 0.02))
    subnets = [k for k in SUBNETS if 100 <= k < cells]
    yield from (
        job(cells, r, subnet=k, fraction=p, lazy=MARGIN) for k in subnets for p in (0.1, 0.01) for r in (0.01, 0.02)
    )


def seeds(cells: int, count: int) -> Iterator[Job]:
    """More seeds of what was chosen."""
    runs = stored()
    paper = [r for r in runs if r["rate"] == study.PAPER_RATE]
    for chosen in (study.choices(runs, cells), study.choices(paper, cells)):
        for same in chosen.values():
            yield from ({**{k: same[0][k] for k in study.KEYS}, "seed": s} for s in range(1, count))


def run(work: Job) -> Job:
    """One run."""
    torch.set_num_threads(1)
    settings = Settings(work["cells"], study.rule(work), work["rate"], work["seed"], most=MOST)
    found = reach(settings, DATA)
    rounded: Job = {}
    for k, v in found.items():
        rounded[k] = (
            {n: float(f"{x:.6g}") if isinstance(x, float) else x for n, x in v.items()} if isinstance(v, dict) else v
        )
    return {**work, **rounded}


def stored() -> list[study.Run]:
    """All runs so far."""
    return study.stored() if study.FILE.exists() else []


def keep(found: study.Run) -> None:
    """Add a run to the study, or put it in the place of the same one."""
    runs = sorted([r for r in stored() if key(r) != key(found)] + [found], key=key)
    lines = ",\n".join(json.dumps(r) for r in runs)
    study.FILE.parent.mkdir(exist_ok=True)
    write_file(study.FILE, f'{{"runs": [\n{lines}\n]}}\n')


def finish(jobs: Iterable[Job], workers: int, until: float) -> None:
    """Run what isn't there yet, side by side; keep each as it ends."""
    done = {key(r) for r in stored()}
    waiting = list({key(j): j for j in jobs if key(j) not in done}.values())
    if not waiting:
        return
    if not DATA:
        DATA.update(parts())
    with ProcessPoolExecutor(workers, multiprocessing.get_context("fork")) as pool:
        running: set[Future[Job]] = set()
        while running or (waiting and time.monotonic() < until):
            while waiting and len(running) < workers and time.monotonic() < until:
                running.add(pool.submit(run, waiting.pop(0)))
            ended, running = wait(running, return_when=FIRST_COMPLETED)
            for future in ended:
                found = future.result()
                keep(found)
                print(f"{len(waiting)} to do; {found['seconds']:.0f} s: {study.table([found])}", flush=True)


def main() -> None:
    stages = ("rules", "lazy", "controls", "seeds")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stages", nargs="*", default=stages)
    parser.add_argument("--cells", type=int, nargs="+", default=CELLS)
    parser.add_argument("--rates", type=float, nargs="+", help="of the stages but `seeds` only these")
    parser.add_argument("--families", nargs="+", help="only these, as 'rule 3'")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--summary", action="store_true")
    given = parser.parse_args()
    until = time.monotonic() + 60 * given.minutes
    for name in () if given.summary else given.stages:
        for cells in given.cells:
            made = {"rules": rules, "lazy": lazy, "controls": controls}
            jobs = list(seeds(cells, given.seeds) if name == "seeds" else made[name](cells))
            jobs = [j for j in jobs if not given.families or study.family(j) in given.families]
            jobs = [j for j in jobs if name == "seeds" or not given.rates or j["rate"] in given.rates]
            finish(jobs, given.workers, until)
    runs = stored()
    print(study.table(runs))
    print(json.dumps({k: v if v is None else float(f"{v:.4g}") for k, v in study.figures(runs).items()}, indent=1))


if __name__ == "__main__":
    main()
