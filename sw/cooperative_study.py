"""The stored study of cooperating streams, and the figures that follow from it.

``tests/benchmarks/grid.py`` trains the nets and keeps every run here (`FILE`); golden measured them, and the RTL those
that have ``rtl``. A net is a law with its modulation, its contexts and the data it learned; its runs differ in penalty
and seed. Every choice (learning rate, penalty) is made on the validation part, every figure is of the test part.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FILE = Path(__file__).parent / "studies" / "cooperative.json"
Run = Mapping[str, Any]
Curve = dict[float, list[Run]]
GOALS = (0.3, 0.25, 0.22, 0.2)
KEYS = ("data", "train", "net", "modulation", "layers", "cells", "contexts", "rate", "penalty", "seed", "epochs")
SAME = ("data", "train", "net", "modulation", "layers", "cells", "contexts")


class StudyError(ValueError):
    """Stored runs that lack something; the message says what."""


def stored(file: Path = FILE) -> list[Run]:
    """All runs.

    :raises StudyError: no such file, or not the runs of this study.
    """
    try:
        runs = json.loads(file.read_text(encoding="utf-8"))["runs"]
        missing = [k for r in runs for k in (*KEYS, "validation", "test", "history") if k not in r]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{file.name}: expected the runs of tests/benchmarks/grid.py: {error!r}") from None
    if missing:
        raise StudyError(f"{file.name}: expected runs with {missing[0]!r}, got one without")
    return list(runs)


def label(run: Run) -> str:
    """What a net is called: ``two-point mcc, proximal distal``."""
    law = f"two-point {run['modulation']}" if run["net"] == "two_point" else "point"
    return f"{law}, {' '.join(run['contexts'])}"


def score(found: Mapping[str, float]) -> float:
    """The error, or the share of wrong answers."""
    return found["error"] if "error" in found else 1 - found["accuracy"]


def best_rates(runs: Iterable[Run]) -> list[Run]:
    """Of each net and penalty the runs at one learning rate.

    The search has seed 0 alone at most rates; where several have all seeds, the best mean validation score decides.
    """
    groups: dict[str, dict[float, list[Run]]] = {}
    for r in runs:
        groups.setdefault(json.dumps([r[k] for k in SAME] + [r["penalty"]]), {}).setdefault(r["rate"], []).append(r)
    out: list[Run] = []
    for rates in groups.values():
        most = max(len(same) for same in rates.values())
        whole = [same for same in rates.values() if len(same) == most]
        chosen: list[Run] = min(whole, key=lambda same: mean(same, "validation"))
        out += chosen
    return out


def curves(runs: Iterable[Run], data: str, train: str = "noisy") -> dict[str, Curve]:
    """Per net the runs by penalty, at the best rates."""
    out: dict[str, Curve] = {}
    for r in best_rates([r for r in runs if (r["data"], r["train"]) == (data, train)]):
        out.setdefault(label(r), {}).setdefault(r["penalty"], []).append(r)
    return {name: dict(sorted(curve.items())) for name, curve in sorted(out.items())}


def mean(runs: Sequence[Run], part: str, kind: str = "score") -> float:
    """Mean over the seeds of ``score``, or of ``hidden``, ``input`` or ``dense`` transmissions per tick."""
    return statistics.fmean(score(r[part]) if kind == "score" else r[part][kind] for r in runs)


def spread(runs: Sequence[Run], part: str) -> float:
    """Standard deviation of the score over the seeds; 0 of one."""
    return statistics.stdev(score(r[part]) for r in runs) if len(runs) > 1 else 0.0


def quietest(curve: Curve, goal: float) -> float | None:
    """The penalty with the fewest hidden transmissions among those whose validation score is no worse than `goal`."""
    fits = [p for p, same in curve.items() if mean(same, "validation") <= goal]
    return min(fits, key=lambda p: mean(curve[p], "validation", "hidden"), default=None)


def swept(found: Mapping[str, Curve]) -> dict[str, Curve]:
    """The nets whose penalty was varied, by short name: ``point``, or the modulation of a two-point net."""
    return {short(next(iter(c.values()))[0]): c for c in found.values() if len(c) > 1 and 0.0 in c}


def short(run: Run) -> str:
    """``point``, or the modulation of a two-point net."""
    return "point" if run["net"] == "relu" else str(run["modulation"])


def at_same_score(ours: Curve, theirs: Curve) -> list[float]:
    """Their test transmissions over ours at the test score of each of our points that lies within their curve."""
    points = sorted((mean(same, "test"), mean(same, "test", "hidden")) for same in theirs.values())
    scores, sent = (np.array(column) for column in zip(*points, strict=True))
    sent = np.minimum.accumulate(sent)  # what they need at most for a score: the lower envelope
    out = []
    for same in ours.values():
        reached = mean(same, "test")
        if scores[0] <= reached <= scores[-1]:
            out.append(float(np.exp(np.interp(reached, scores, np.log(sent)))) / mean(same, "test", "hidden"))
    return out


def epochs_to(run: Run, goal: float) -> int | None:
    """Epochs after which the validation score is at or below `goal`; None: never."""
    return next((n for n, e in enumerate(run["history"], 1) if e <= goal), None)


def growth(runs: Sequence[Run], what: str, share: float) -> list[float]:
    """By how much the test score got worse with a share dead, one number per run and draw."""
    return [
        score(row) - score(run["test"])
        for run in runs
        for row in run.get("damage", ())
        if (row["what"], row["share"]) == (what, share)
    ]


def points(curve: Curve) -> dict[str, dict[str, float]]:
    """A curve as numbers: seeds, scores and transmissions by penalty."""
    return {
        str(p): {
            "rate": same[0]["rate"],
            "seeds": len(same),
            "validation": mean(same, "validation"),
            "test": mean(same, "test"),
            "deviation": spread(same, "test"),
            "transmissions": mean(same, "test", "hidden"),
            "with_input": mean(same, "test", "hidden") + mean(same, "test", "input"),
            "dense": mean(same, "test", "dense"),
        }
        for p, same in curve.items()
    }


def summary(runs: Sequence[Run]) -> dict[str, Any]:
    """All curves as numbers, learning speed, and what failing streams do, by data set and training."""
    out: dict[str, Any] = {}
    for data, train in sorted({(r["data"], r["train"]) for r in runs}):
        for name, curve in curves(runs, data, train).items():
            mine: dict[str, Any] = {"parameters": next(iter(curve.values()))[0]["parameters"], "curve": points(curve)}
            first = next(iter(curve.values()))
            if data == "grid":
                mine["epochs_to"] = {str(goal): [epochs_to(r, goal) for r in first] for goal in GOALS}
            if failing := [r["failing"] for r in first if "failing" in r]:
                mine["failing"] = {k: statistics.fmean(f[k] for f in failing) for k in failing[0]}
            out.setdefault(f"{data}, {train}", {})[name] = mine
    return out


def _comparison(found: Mapping[str, Curve], prefix: str) -> dict[str, float | int | None]:
    """Two-point nets beside the point net, on one data set.

    ``saving``: fewer hidden transmissions at a net's quietest penalty that is no worse than the unpenalized point net
    (by validation); of ``point_sparse``: what the same rule gives the point net with a penalty of its own.
    ``saving_no_worse_on_test``: the same where the test part itself says which penalty is no worse (so it flatters).
    ``ratio_dense``: beside the same point net sending every value, zeros too. ``ratio_to_point_sparse``: the penalized
    point net's transmissions over a two-point net's at the same test score, geometric mean along the curve.
    """
    if "point" not in found:
        return {}
    bare = found["point"][0.0]
    goal, sent, dense = mean(bare, "validation"), mean(bare, "test", "hidden"), mean(bare, "test", "dense")
    out: dict[str, float | int | None] = {
        "seeds": min(len(same) for curve in found.values() for same in curve.values()),
        "point_score": mean(bare, "test"),
        "point_transmissions": sent,
        "point_dense": dense,
    }
    for net, curve in found.items():
        name, penalty = "point_sparse" if net == "point" else net, quietest(curve, goal)
        out[f"{name}_penalty"] = penalty
        if penalty is not None:
            same = curve[penalty]
            own = mean(same, "test", "hidden")
            out |= {f"{name}_score": mean(same, "test"), f"{name}_transmissions": own, f"{name}_saving": 1 - own / sent}
            out |= {f"{name}_ratio": sent / own, f"{name}_ratio_dense": dense / own}
        if quiet := [mean(c, "test", "hidden") for c in curve.values() if mean(c, "test") <= mean(bare, "test")]:
            out[f"{name}_saving_no_worse_on_test"] = 1 - min(quiet) / sent
        if net != "point" and (ratios := at_same_score(curve, found["point"])):
            out[f"{name}_ratio_to_point_sparse"] = float(np.exp(np.mean(np.log(ratios))))
    return {f"{prefix}_{k}": v for k, v in out.items()}


def figures(runs: Sequence[Run]) -> dict[str, float | int | None]:
    """Flat figures of the study: ratios at equal score, learning speed, damage, failing streams, the RTL's proof."""
    out: dict[str, float | int | None] = {}
    for data, prefix in (("grid", "grid"), ("grid-words", "words"), ("av-mnist", "pairs")):
        out |= _comparison(swept(curves(runs, data)), prefix)
    for name, curve in swept(curves(runs, "grid")).items():
        for goal in GOALS:
            taken = [epochs_to(r, goal) for r in curve[0.0]]
            known = [n for n in taken if n is not None]
            out[f"epochs_{name}_{goal}"] = statistics.fmean(known) if len(known) == len(taken) else None
    out |= _damage(runs) | _conditions(runs)
    for key, proven in rtl(runs).items():
        out |= {f"rtl_{key}_{k}": v for k, v in proven.items()}
    return out


def _damage(runs: Sequence[Run]) -> dict[str, float | int | None]:
    """By how much the error grows with a share dead: means over seeds and draws, by shipped bundle."""
    out: dict[str, float | int | None] = {}
    hurt = [r for r in runs if "damage" in r]
    for bundle in sorted({r["rtl"]["bundle"] for r in hurt}):
        same = [r for r in hurt if r["rtl"]["bundle"] == bundle]
        for what, share in sorted({(row["what"], row["share"]) for r in same for row in r["damage"]}):
            key = f"damage_{bundle.replace('-', '_')}_{what}_{round(100 * share)}"
            out[key] = statistics.fmean(growth(same, what, share))
    return out


def _conditions(runs: Sequence[Run]) -> dict[str, float | int | None]:
    """Unpenalized nets where a stream fails or is a stranger's, where targets aren't clean, and of single frames."""
    out: dict[str, float | int | None] = {}
    kinds = {("grid", "noisy"): "grid", ("grid", "fickle"): "fickle", ("av-mnist", "noisy"): "pairs"}
    for (data, train), prefix in kinds.items():
        for curve in curves(runs, data, train).values():
            each = [r for r in curve.get(0.0, ()) if "failing" in r and (prefix != "grid" or len(curve) > 1)]
            if not each:
                continue
            key = f"{prefix}_{short(each[0])}_failing"
            whole = [r["test"].get("error", r["test"].get("accuracy")) for r in each]
            out[f"{key}_nothing"] = statistics.fmean(whole)
            for what in each[0]["failing"]:
                name = what.replace("'", "").replace(" ", "_")
                out[f"{key}_{name}"] = statistics.fmean(r["failing"][what] for r in each)
    for data, train, prefix in (("grid", "unclean", "unclean"), ("grid-frames", "noisy", "frames")):
        for curve in curves(runs, data, train).values():
            bare = curve[0.0]
            key = f"{prefix}_{short(bare[0])}_{'_'.join(bare[0]['contexts'])}"
            out |= {f"{key}_score": mean(bare, "test"), f"{key}_transmissions": mean(bare, "test", "hidden")}
    return out


def rtl(runs: Sequence[Run]) -> dict[str, dict[str, float | int]]:
    """What the RTL's counters said of the runs that ran on it: means over the seeds, by bundle."""
    out: dict[str, dict[str, float | int]] = {}
    for bundle in sorted({r["rtl"]["bundle"] for r in runs if "rtl" in r}):
        same = [r["rtl"] for r in runs if "rtl" in r and r["rtl"]["bundle"] == bundle]
        kinds = [k for k in same[0] if k not in ("bundle", "mismatches", "equal")]
        means = {k: statistics.fmean(r[k] for r in same) for k in kinds}
        mismatches = sum(int(r["mismatches"]) for r in same)
        out[bundle.replace("-", "_")] = {"seeds": len(same), "mismatches": mismatches, **means}
    return out
