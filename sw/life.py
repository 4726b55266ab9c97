"""A device's life: energy of inference and learning, and wear of the weights' memory, beyond a run that was counted.

Both are piecewise linear in the learned samples: as counted to the middle of the run, and from there on, beyond its
end, at the rate of the second half. docs/reference/energy.md, section "A device's life".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from apical.sw import golden, learning_energy, on_chip_recipe
from apical.sw.network import IntArray, Network
from apical.sw.on_chip import Learning, OnChip
from apical.sw.prices import DEFAULT, EnergyError, Technology, technology

DAYS = 365.25  # of a year
POINTS = 40  # of a curve
RULES: dict[str, Learning] = {
    "ungated": on_chip_recipe.learning("none"),
    "margin": on_chip_recipe.learning("lazy"),
    "thresholds": replace(on_chip_recipe.learning("all"), margin=None),
    "gated": on_chip_recipe.learning("all"),
}
"""Rules of the digit learner that are set side by side: no gate, a margin, thresholds, both."""

Floats = NDArray[np.float64]
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Device:
    """How a device lives.

    :param per_day: samples that it answers.
    :param learned: share of them that it learns from.
    """

    per_day: float = 28_800.0  # 20 a minute: CHIMERA, VLSI Symposium 2021, for 10 years of training
    learned: float = 1.0
    years: float = 10.0

    def __post_init__(self) -> None:
        for name in ("per_day", "years"):
            if not 0 < getattr(self, name) < float("inf"):
                raise EnergyError(f"life: {name}: expected a number above 0, got {getattr(self, name)}")
        if not 0 <= self.learned <= 1:
            raise EnergyError(f"life: learned: expected a share from 0 to 1, got {self.learned}")

    def learned_by(self, years: float | Floats) -> Any:
        """Samples learned in so many years."""
        return self.per_day * DAYS * years * self.learned

    def years_of(self, learned: float) -> float | None:
        """Years until so many samples are learned; None: never."""
        each_year = self.learned_by(1.0)
        return learned / each_year if each_year and learned < float("inf") else None


@dataclass(frozen=True)
class Mark:
    """What a run had done after some samples.

    :param writes: of each weight, in the projections' order, [sources, targets] each.
    """

    samples: int
    counters: Mapping[str, int]
    writes: tuple[IntArray, ...]

    @property
    def flat(self) -> IntArray:
        """Writes of all weights, one after the other."""
        return np.concatenate([w.ravel() for w in self.writes])


@dataclass(frozen=True)
class Run:
    """A run that learned every sample: what it had done at its middle and at its end."""

    network: Network
    learning: Learning
    middle: Mark
    end: Mark

    @property
    def writes_unseen(self) -> int:
        """Writes that left their weight as it was, at an end of its range: counted, but not by weight."""
        counted = sum(n for name, n in self.end.counters.items() if name.endswith(": weight writes"))
        return counted - int(self.end.flat.sum())


def run(
    network: Network, learning: Learning, x: IntArray, labels: IntArray, progress: Progress | None = None
) -> tuple[OnChip, Run]:
    """Learn from events [samples, 1, inputs] on the golden chip, counting the writes of every weight.

    :raises EnergyError: fewer than two samples. :raises NetworkError: as `OnChip.learn`.
    """
    if len(labels) < 2:
        raise EnergyError(f"life: expected at least 2 samples, got {len(labels)}")
    chip, marks = OnChip(network, learning), []
    writes = [np.zeros(tuple(w.shape), np.int64) for w in chip.weights]
    before = [w.clone() for w in chip.weights]
    for n in range(len(labels)):
        chip.learn(x[n : n + 1], labels[n : n + 1])
        for count, old, new in zip(writes, before, chip.weights, strict=True):
            count += (new != old).numpy()
            old.copy_(new)
        if n + 1 in (len(labels) // 2, len(labels)):
            marks.append(Mark(n + 1, dict(chip.counters), tuple(w.copy() for w in writes)))
        if progress is not None:
            progress(n + 1, len(labels))
    return chip, Run(network, learning, marks[0], marks[1])


def accuracy(chip: OnChip, x: IntArray, labels: IntArray) -> float:
    """Share of right answers of the chip as it is now, without learning."""
    outputs = golden.run(chip.network(), x).outputs[chip.start.outputs[0]][:, 0]
    return float((outputs.argmax(axis=1) == labels).mean())


def along(run: Run, middle: Any, end: Any, learned: Any) -> Any:
    """A quantity after `learned` samples, from what it is at the run's middle and end."""
    half = run.middle.samples
    late = middle + (end - middle) / (run.end.samples - half) * (learned - half)
    return np.where(np.asarray(learned) <= half, middle / half * learned, late)


def reached(run: Run, middle: Floats, end: Floats, limit: float) -> float:
    """Learned samples after which the first of some quantities is at its limit; infinite: none ever."""
    half = run.middle.samples
    with np.errstate(divide="ignore", invalid="ignore"):
        early = half * limit / middle
        late = half + (limit - middle) / ((end - middle) / (run.end.samples - half))
    return float(np.where(middle >= limit, early, np.where(end > middle, late, np.inf)).min())


def _joules(run: Run, mark: Mark, table: Technology) -> dict[str, float | None]:
    """Joules of a run up to a mark, by part."""
    each = learning_energy.report(run.network, run.learning, mark.counters, table)["joules_per_sample"]
    return {part: None if value is None else value * mark.samples for part, value in each.items() if part != "total"}


def spent(run: Run, device: Device, which: str | Path | Technology = DEFAULT) -> dict[str, Any]:
    """Energy and wear over a device's life on one technology.

    :returns: plain data (JSON): `technology`, `title`; `joules` over the life by part and `total` (None as in
        `learning_energy.report`), `joules_per_sample` late in the run, `writes_per_sample` late in the run;
        `writes_per_weight` over the life (`mean`, `most`), also `by_projection`; `endurance` and `endurance_source`,
        None where not known;
        `life_years` (`most_written`: each weight in its place, `levelled`: all worn alike; None: endurance unknown or
        never reached); `unpriced`, `notes`; `curve`: over `years` the joules of `inference`, `learning` and its
        `writes`, and `most_written`.
    """
    table, samples = technology(which), run.end.samples
    late = samples - run.middle.samples
    middle, end = (_joules(run, mark, table) for mark in (run.middle, run.end))
    years = np.geomspace(min(1 / DAYS, device.years), device.years, POINTS)
    learned = device.learned_by(years)
    answered = device.per_day * DAYS * years - learned
    each: dict[str, float | None] = {}
    curves: dict[str, Floats | None] = {}
    for part, last in end.items():
        first = middle[part]
        if first is None or last is None:
            each[part] = curves[part] = None
            continue
        each[part] = rate = (last - first) / late
        curves[part] = along(run, first, last, learned) + (answered * rate if part == "inference" else 0)
    found = learning_energy.report(run.network, run.learning, run.end.counters, table)
    early, whole = (m.flat.astype(np.float64) for m in (run.middle, run.end))
    endurance = table.endurance
    life: dict[str, float | None] = {"most_written": None, "levelled": None}
    if endurance is not None:
        life["most_written"] = device.years_of(reached(run, early, whole, endurance.value))
        life["levelled"] = device.years_of(
            reached(run, early.mean(keepdims=True), whole.mean(keepdims=True), endurance.value)
        )
    ends = {part: None if curve is None else float(curve[-1]) for part, curve in curves.items()}
    worn = along(run, early, whole, learned[-1])
    counted = sum(
        n - run.middle.counters[name] for name, n in run.end.counters.items() if name.endswith(": weight writes")
    )
    return {
        "technology": table.name,
        "title": table.title,
        "joules": {**ends, "total": _total(ends)},
        "joules_per_sample": {**each, "total": _total(each)},
        "writes_per_sample": counted / late,
        "writes_per_weight": {"mean": float(worn.mean()), "most": float(worn.max())},
        "by_projection": _by_projection(run, learned[-1]),
        "endurance": None if endurance is None else endurance.value,
        "endurance_source": None if endurance is None else endurance.source,
        "life_years": life,
        "unpriced": found["unpriced"],
        "notes": found["notes"],
        "curve": {
            "years": years.tolist(),
            "inference": _listed([curves["inference"]]),
            "learning": _listed([curves[p] for p in learning_energy.PARTS]),
            "writes": _listed([curves["writes"]]),
            "most_written": [float(along(run, early, whole, n).max()) for n in learned],
        },
    }


def _by_projection(run: Run, learned: float) -> dict[str, dict[str, float]]:
    """Writes of a projection's weights after so many learned samples: mean and most."""
    names = [p.name for p in OnChip(run.network, run.learning).projections]
    worn = [along(run, a, b, learned) for a, b in zip(run.middle.writes, run.end.writes, strict=True)]
    return {n: {"mean": float(w.mean()), "most": float(w.max())} for n, w in zip(names, worn, strict=True)}


def _total(parts: Mapping[str, float | None]) -> float | None:
    """Sum of what has a price; None where the writes have none."""
    return None if parts["writes"] is None else sum(p for p in parts.values() if p is not None)


def _listed(curves: list[Floats | None]) -> list[float] | None:
    """The sum of the curves that have prices; None where the last, the writes, has none."""
    if curves[-1] is None:
        return None
    total: list[float] = sum(c for c in curves if c is not None).tolist()  # type: ignore[union-attr]
    return total


def compare(
    runs: Mapping[str, tuple[Run, float]], device: Device, tables: Sequence[str | Path | Technology]
) -> list[dict[str, Any]]:
    """One row per rule and technology: `spent`, with `rule`, `accuracy`, `samples`, `writes_unseen`, `device`.

    :param runs: by rule the run and the accuracy after it.
    """
    rows = []
    for rule, (found, right) in runs.items():
        facts = {"rule": rule, "accuracy": right, "samples": found.end.samples, "writes_unseen": found.writes_unseen}
        rows += [{**facts, "device": asdict(device), **spent(found, device, table)} for table in tables]
    return rows
