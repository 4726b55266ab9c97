"""Projections: weighted connections by a pattern, and all that follows from the pattern and the weights."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from apical.sw.geometry import Geometry
from apical.sw.law import Format
from apical.sw.ranges import Interval

IntArray = npt.NDArray[np.int64]
PATTERNS = ("dense", "conv", "pool")


class NetworkError(ValueError):
    """A network that breaks a rule; the message names the population or projection."""


def check_name(name: object, what: str) -> None:
    """Refuse what can't be a name.

    :raises NetworkError: not a text of 1 to 100 characters without control characters.
    """
    if not isinstance(name, str) or not 1 <= len(name) <= 100:
        raise NetworkError(f"{what}: expected a name of 1 to 100 characters, got {name!r}")
    if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise NetworkError(f"{what}: expected a name without control characters, got {name!r}")


def integers(array: object, where: str) -> IntArray:
    """Read-only int64 copy of an integer array.

    :raises NetworkError: not integers.
    """
    a = np.asarray(array)
    if a.dtype.kind not in "iu":
        raise NetworkError(f"{where}: expected integers, got {a.dtype}")
    out = a.astype(np.int64)
    out.setflags(write=False)
    return out


@dataclass(frozen=True)
class Projection:
    """Connections from `source` to one compartment of `target`.

    :param weights: integers of `weight_bits` bits. ``dense``: shape [targets, sources]; ``conv``: [target channels,
        source channels / groups, kernel rows, kernel columns]; ``pool``: none, shape (0,): every weight is 1.
    :param delay: ticks; 0 for feed-forward, at least 1 for recurrence and feedback.
    :param pattern: ``dense``: all to all. ``conv``: shared kernels. ``pool``: sums over windows, channel by channel.
    :param geometry: of ``conv`` and ``pool``; both ends then have a shape.
    :param free: bounds hold for any weights of the declared bits, as hardware needs whose weights change at run time.
    """

    name: str
    source: str
    target: str
    weights: IntArray
    compartment: str = "basal"
    weight_bits: int = 8
    delay: int = 0
    pattern: Literal["dense", "conv", "pool"] = "dense"
    geometry: Geometry | None = None
    free: bool = False

    def __post_init__(self) -> None:
        check_name(self.name, "projection")
        where = f"projection {self.name!r}"
        if self.pattern not in PATTERNS:
            raise NetworkError(f"{where}: expected a pattern of {PATTERNS}, got {self.pattern!r}")
        if not 2 <= self.weight_bits <= 16:
            raise NetworkError(f"{where}: expected 2 to 16 weight bits, got {self.weight_bits}")
        if not 0 <= self.delay <= 1024:
            raise NetworkError(f"{where}: expected a delay of 0 to 1024 ticks, got {self.delay}")
        if (self.geometry is None) != (self.pattern == "dense"):
            raise NetworkError(f"{where}: expected a geometry for conv and pool only, got {self.geometry}")
        weights = integers(self.weights, f"{where}, weights")
        self._check_shape(weights, where)
        low, high = Format(self.weight_bits).bounds
        if weights.size and (weights.min() < low or weights.max() > high):
            at = tuple(int(i) for i in np.argwhere((weights < low) | (weights > high))[0])
            place = f"target {at[0]}, source {at[1]}" + (f", tap {at[2:]}" if at[2:] else "")
            raise NetworkError(
                f"{where}: expected weights of {self.weight_bits} bits, {low} to {high}, got {weights[at]} at {place}"
            )
        object.__setattr__(self, "weights", weights)

    def _check_shape(self, weights: IntArray, where: str) -> None:
        g = self.geometry
        if g is None:
            if weights.ndim != 2 or 0 in weights.shape:
                raise NetworkError(f"{where}: expected weights of shape (targets, sources), got {weights.shape}")
            return
        expected = g.weights_shape if self.pattern == "conv" else (0,)
        if weights.shape != expected:
            raise NetworkError(f"{where}: expected weights of shape {expected}, got {weights.shape}")
        if self.pattern == "pool" and not g.groups == g.channels == g.source[0]:
            raise NetworkError(
                f"{where}: a pool has as many groups and target channels as source channels, {g.source[0]}, got "
                f"{g.groups} and {g.channels}"
            )

    @property
    def sizes(self) -> tuple[int, int]:
        """Targets and sources."""
        if self.geometry is None:
            return self.weights.shape[0], self.weights.shape[1]
        return int(np.prod(self.geometry.target)), int(np.prod(self.geometry.source))

    @property
    def kernel(self) -> IntArray:
        """Weights as they count: those of a pool are ones, [channels, 1, rows, columns]."""
        if self.pattern != "pool":
            return self.weights
        assert self.geometry is not None
        return np.broadcast_to(np.ones(1, np.int64), self.geometry.weights_shape)

    def dense(self) -> IntArray:
        """The same as a matrix [targets, sources]; for small networks and tests."""
        return self.weights if self.geometry is None else self.geometry.matrix(self.kernel)

    @property
    def fan_in(self) -> int:
        """Terms of a target's sum (away from borders)."""
        return int(np.prod(self.kernel.shape[1:]))

    @cached_property
    def fan_out(self) -> IntArray:
        """Targets that an event of each source reaches, [sources]; at borders fewer."""
        targets, sources = self.sizes
        g = self.geometry
        if g is None:
            return np.full(sources, targets, np.int64)
        return np.tile((g.positions * g.group_channels).reshape(-1), g.source[0])

    @property
    def counter_names(self) -> tuple[str, ...]:
        """What golden and the hardware count of it: events, and for maps the positions that they reached."""
        name = f"projection {self.name}"
        return (f"{name}: events",) if self.geometry is None else (f"{name}: events", f"{name}: positions")

    def operations(self, counters: Mapping[str, int]) -> int:
        """Synaptic operations of a run, from its counters: events reaching targets; those outside a border, and
        those of channels that a gate has switched off, left out.

        :raises KeyError: a counter is missing.
        """
        events = counters[f"projection {self.name}: events"]
        if (gated := counters.get(f"projection {self.name}: synapses")) is not None:
            return gated
        if self.geometry is None:
            return events * self.sizes[0]
        return counters[f"projection {self.name}: positions"] * self.geometry.group_channels

    @property
    def weight_interval(self) -> Interval:
        """Bounds of a weight: of the actual ones, or, where they are `free`, of any."""
        if self.free and self.pattern != "pool":
            return Interval(*Format(self.weight_bits).bounds)
        return Interval(int(self.kernel.min()), int(self.kernel.max()))

    def sum_interval(self, value_range: tuple[int, int]) -> Interval:
        """Bounds of any target's sum in any tick, by the weights (see `free`); holds for every partial sum too."""
        low, high = min(value_range[0], 0), max(value_range[1], 0)
        if self.free:
            w = self.weight_interval
            corners = [self.fan_in * x * y for x in (w.low, w.high) for y in (low, high)]
            return Interval(min(*corners, 0), max(*corners, 0))
        rows = self.kernel.reshape(self.kernel.shape[0], -1)
        positive = np.maximum(rows, 0).sum(axis=1)
        negative = np.minimum(rows, 0).sum(axis=1)
        return Interval(int((negative * high + positive * low).min()), int((positive * high + negative * low).max()))
