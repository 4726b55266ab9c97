"""Width analysis: interval arithmetic over the same `step` that trains and runs.

`IntervalOps` evaluates a law on closed integer intervals, remembering the largest magnitude that any intermediate
can take. From it follow the float type in which training is exact (float32 below 2^24, else float64 below 2^53), the
integer type of the golden model, and the proof that every state stays in its declared format (by induction: states
in their formats before the tick imply states in their formats after it).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from apical.sw.arithmetic import Ops

if TYPE_CHECKING:
    from apical.sw.laws import Law


@dataclass(frozen=True)
class Interval:
    """Closed integer interval [low, high]."""

    low: int
    high: int

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"interval: expected low <= high, got [{self.low}, {self.high}]")

    def hull(self, other: Interval) -> Interval:
        """Smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    @property
    def magnitude(self) -> int:
        """Largest absolute value in the interval."""
        return max(abs(self.low), abs(self.high))

    def inside(self, other: Interval) -> bool:
        """True where every value of this interval lies in `other`."""
        return other.low <= self.low and self.high <= other.high


@dataclass
class IntervalOps(Ops[Interval]):
    """The ops protocol on intervals; `magnitude` collects the largest |intermediate| seen."""

    magnitude: int = 0
    intermediates: list[Interval] = field(default_factory=list)

    @staticmethod
    def _interval(a: Interval | int) -> Interval:
        return Interval(a, a) if isinstance(a, int) else a

    def _seen(self, low: int, high: int) -> Interval:
        out = Interval(low, high)
        self.magnitude = max(self.magnitude, out.magnitude)
        self.intermediates.append(out)
        return out

    def add(self, a: Interval | int, b: Interval | int) -> Interval:
        a, b = self._interval(a), self._interval(b)
        return self._seen(a.low + b.low, a.high + b.high)

    def sub(self, a: Interval | int, b: Interval | int) -> Interval:
        a, b = self._interval(a), self._interval(b)
        return self._seen(a.low - b.high, a.high - b.low)

    def mul(self, a: Interval | int, b: Interval | int) -> Interval:
        if a is b and isinstance(a, Interval):  # a square is never negative
            low = 0 if a.low <= 0 <= a.high else min(a.low**2, a.high**2)
            return self._seen(low, a.magnitude**2)
        a, b = self._interval(a), self._interval(b)
        corners = [x * y for x in (a.low, a.high) for y in (b.low, b.high)]
        return self._seen(min(corners), max(corners))

    def shift(self, a: Interval, n: int) -> Interval:
        return self._seen(a.low >> n, a.high >> n)

    def clip(self, a: Interval, low: int, high: int) -> Interval:
        if low > high:
            raise ValueError(f"clip: expected low <= high, got [{low}, {high}]")
        return self._seen(min(max(a.low, low), high), min(max(a.high, low), high))

    def _compare(self, a: Interval | int, b: Interval | int) -> Interval:
        self.sub(a, b)  # training forms the difference
        return Interval(0, 1)

    def gt(self, a: Interval | int, b: Interval | int) -> Interval:
        return self._compare(a, b)

    def ge(self, a: Interval | int, b: Interval | int) -> Interval:
        return self._compare(a, b)

    def select(self, condition: Interval, a: Interval | int, b: Interval | int) -> Interval:
        out = self._interval(a).hull(self._interval(b))
        return self._seen(out.low, out.high)

    def absolute(self, a: Interval) -> Interval:
        return self._seen(0 if a.low <= 0 <= a.high else min(abs(a.low), abs(a.high)), a.magnitude)

    def table(self, a: Interval, values: Sequence[int], low: int) -> Interval:
        last = len(values) - 1
        first_entry, last_entry = min(max(a.low - low, 0), last), min(max(a.high - low, 0), last)
        part = values[first_entry : last_entry + 1]
        return self._seen(min(part), max(part))


@dataclass(frozen=True)
class LawRanges:
    """Result of the width analysis of one law in one population."""

    magnitude: int
    states: Mapping[str, Interval]
    value: Interval


def analyse(law: Law, currents: Mapping[str, Interval], params: Mapping[str, Interval], where: str = "") -> LawRanges:
    """Run the law's `step` on intervals and prove that it keeps its declared formats.

    :param currents: interval of each compartment's accumulator.
    :param params: interval of each parameter array.
    :param where: name of the population, for the message.
    :raises ValueError: a state or the value can leave its format, with both ranges.
    """
    ops = IntervalOps()
    for each in (*currents.values(), *params.values()):
        ops.magnitude = max(ops.magnitude, each.magnitude)
    states = {name: Interval(*fmt.bounds) for name, fmt in law.states().items()}
    after, value = law.step(ops, states, currents, params)
    if set(after) != set(states):
        raise ValueError(f"law {law.name}{where}: step returned states {sorted(after)}, declared {sorted(states)}")
    for name, interval in states.items():
        if not after[name].inside(interval):
            raise ValueError(
                f"law {law.name}{where}: state {name!r} is declared in [{interval.low}, {interval.high}] but step can "
                f"leave it at [{after[name].low}, {after[name].high}]; clip it"
            )
    declared = Interval(*law.value_range())
    if not value.inside(declared):
        raise ValueError(
            f"law {law.name}{where}: the value is declared in [{declared.low}, {declared.high}] but step can return "
            f"[{value.low}, {value.high}]; clip it"
        )
    return LawRanges(ops.magnitude, after, value)
