"""The stored study of competitive plasticity, and the figures that follow from it.

``tests/benchmarks/plasticity.py`` makes the runs and keeps each here (`FILE`): what
`apical.sw.plasticity_protocol.reach` found at its goals on the validation part, where every choice is made, and on the
test part, where every figure is from.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from apical.sw.plasticity import Rule

FILE = Path(__file__).parent / "studies" / "plasticity.json"
RULE = ("fraction", "subnet", "select", "lazy", "cache")
SETTING = (*RULE, "rate")
KEYS = ("cells", *SETTING, "seed")
FAMILIES = ("plain", "rule 1", "rule 2", "rule 3", "random", "weight")
COMPETITIVE = ("rule 1", "rule 2", "rule 3")
PATIENCE = 2.0  # times the samples of plain learning that a choice ``…_within_2x`` may take
PAPER_RATE = 0.01
Run = Mapping[str, Any]


class StudyError(ValueError):
    """Stored runs that lack something; the message says what."""


def stored(file: Path = FILE) -> list[Run]:
    """All runs.

    :raises StudyError: no such file, or not the runs of this study.
    """
    try:
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
        missing = [k for r in runs for k in (*KEYS, "validation", "test") if k not in r]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{file.name}: expected the runs of tests/benchmarks/plasticity.py: {error!r}") from None
    if missing:
        raise StudyError(f"{file.name}: expected runs with {missing[0]!r}, got one without")
    return list(runs)


def rule(run: Run) -> Rule:
    """The rule of a run."""
    return Rule(**{k: run[k] for k in RULE})


def family(run: Run) -> str:
    """What a rule is called: ``rule 3``, ``random``; with ``lazy`` or ``cached`` before it."""
    if run["select"] != "update":
        name = str(run["select"])
    else:
        name = FAMILIES[(run["fraction"] is not None) + 2 * (run["subnet"] is not None)]
    return " ".join([w for w, k in (("lazy", "lazy"), ("cached", "cache")) if run[k] is not None] + [name])


def _setting(run: Run) -> str:
    return json.dumps([run[k] for k in SETTING])


def choices(runs: Sequence[Run], cells: int, patience: float = PATIENCE) -> dict[str, list[Run]]:
    """Of each family the runs at one setting, all seeds: the one with the fewest updates to the validation goal by seed
    0, among those that need at most `patience` times the samples of the plain choice."""
    here = [r for r in runs if r["cells"] == cells]
    found = {_setting(r): r for r in here if r["seed"] == 0 and r["validation"] is not None}
    best: dict[str, Run] = {}
    for name in sorted({family(r) for r in found.values()}, key=lambda n: n != "plain"):
        fits = [r for r in found.values() if family(r) == name]
        if name != "plain" and "plain" in best:
            most = patience * best["plain"]["validation"]["samples"]
            fits = [r for r in fits if r["validation"]["samples"] <= most]
        if fits:
            best[name] = min(fits, key=lambda r: (r["validation"]["updates"], r["validation"]["change"]))
    return {name: [r for r in here if _setting(r) == _setting(one)] for name, one in best.items()}


def mean(runs: Sequence[Run], what: str) -> float | None:
    """Mean over the seeds of something spent to the test goal; None where a seed never got there."""
    found = [r["test"][what] for r in runs if r["test"] is not None]
    return statistics.fmean(found) if len(found) == len(runs) and found else None


def against(plain: Sequence[Run], other: Sequence[Run]) -> dict[str, float | int | None]:
    """What a rule saves: M0 and M1 of plain learning over its own, its samples over those of plain learning.

    Ratios of means over the seeds that both have.
    """
    seeds = {r["seed"] for r in plain} & {r["seed"] for r in other}
    ours, theirs = ([r for r in runs if r["seed"] in seeds] for runs in (other, plain))
    out: dict[str, float | int | None] = {"seeds": len(seeds)}
    for name, what in (("m0_saving", "updates"), ("m1_saving", "change"), ("m0_saving_dense", "updates")):
        top, bottom = mean(theirs, "dense_updates" if name == "m0_saving_dense" else what), mean(ours, what)
        out[name] = top / bottom if top is not None and bottom else None
    top, bottom = mean(ours, "samples"), mean(theirs, "samples")
    out["samples_ratio"] = top / bottom if top is not None and bottom else None
    return out


def of_rule(run: Run) -> dict[str, float | int | None]:
    """The settings of a run as numbers."""
    return {k: run[k] for k in ("rate", "fraction", "subnet", "lazy", "cache") if run[k] is not None}


def figures(runs: Sequence[Run]) -> dict[str, float | int | None]:
    """Flat figures. ``m0_saving_n1000`` is of the best of rules 1 to 3, tuned, over tuned plain learning;
    ``…_rule_3_n1000`` of one family; ``…_within_2x`` of those that need at most `PATIENCE` times the samples of plain
    learning; ``…_paper_rate`` the same with every net at the paper's rate."""
    out: dict[str, float | int | None] = {}
    paper = [r for r in runs if r["rate"] == PAPER_RATE]
    for cells in sorted({r["cells"] for r in runs}):
        for suffix, part, patience in (
            ("", runs, float("inf")),
            ("_within_2x", runs, PATIENCE),
            ("_paper_rate", paper, PATIENCE),
        ):
            chosen = choices(part, cells, patience)
            if "plain" not in chosen:
                continue
            plain = chosen["plain"]
            for what in ("samples", "updates", "change"):
                out[f"plain_{what}_n{cells}{suffix}"] = mean(plain, what)
            named = {n: same for n, same in chosen.items() if n != "plain"}
            rivals = {n: same for n, same in named.items() if n in COMPETITIVE}
            if rivals:
                first = {n: next(r for r in same if r["seed"] == 0)["validation"] for n, same in rivals.items()}
                named[""] = rivals[min(first, key=lambda n: first[n]["updates"])]
            for name, same in named.items():
                tail = f"{'_' + name.replace(' ', '_') if name else ''}_n{cells}{suffix}"
                out |= {f"{k}{tail}": v for k, v in against(plain, same).items()}
                out |= {f"{k}{tail}": v for k, v in of_rule(same[0]).items()}
                out |= {f"updates{tail}": mean(same, "updates"), f"change{tail}": mean(same, "change")}
    return out


def table(runs: Sequence[Run]) -> str:
    """All runs, by net and family, as lines of text: samples, M0, M1 to the validation goal, then to the test goal."""
    lines = []
    for r in sorted(runs, key=lambda r: (r["cells"], family(r), json.dumps([r[k] for k in KEYS]))):
        spent = [
            "never".rjust(7).ljust(29) if s is None else f"{s['samples']:>7} {s['updates']:10.3g} {s['change']:10.4g}"
            for s in (r["validation"], r["test"])
        ]
        rest = " ".join(f"{k} {v}" for k, v in of_rule(r).items())
        lines.append(f"{r['cells']:>6} {family(r):<14} {rest:<42} seed {r['seed']} {' | '.join(spent)}")
    return "\n".join(lines)
