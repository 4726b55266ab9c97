"""Gates of kernels: which output channels of a population are computed, decided from sums over its input map.

Learned kernel activation (arXiv 1701.05221); the integers are those of docs/reference/gating.md.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from apical.sw.geometry import Shape
from apical.sw.law import Format
from apical.sw.projection import IntArray, NetworkError, integers
from apical.sw.ranges import Interval

BIAS_BITS = 32
LONGEST_WINDOW = 1 << 16


@dataclass(frozen=True)
class Gate:
    """Switches groups of channels of `target` by what `source` sends in a window of ticks.

    :param weights: V, [operating points, groups, source channels], integers of `weight_bits` bits.
    :param bias: b, [operating points, groups], 32-bit integers.
    :param window: ticks that a decision is made from and holds for; from the sample's ticks on: per sample.
    """

    source: str
    target: str
    weights: IntArray
    bias: IntArray
    window: int = 1
    weight_bits: int = 8

    def __post_init__(self) -> None:
        where = f"gate of {self.target!r}"
        if not 2 <= self.weight_bits <= 16:
            raise NetworkError(f"{where}: expected 2 to 16 weight bits, got {self.weight_bits}")
        if not 1 <= self.window <= LONGEST_WINDOW:
            raise NetworkError(f"{where}: expected a window of 1 to {LONGEST_WINDOW} ticks, got {self.window}")
        weights, bias = integers(self.weights, f"{where}, weights"), integers(self.bias, f"{where}, bias")
        if weights.ndim != 3 or 0 in weights.shape or not 1 <= weights.shape[0] <= 16:
            raise NetworkError(
                f"{where}: expected weights of shape (1 to 16 points, groups, source channels), got {weights.shape}"
            )
        if bias.shape != weights.shape[:2]:
            raise NetworkError(f"{where}: expected a bias of shape {weights.shape[:2]}, got {bias.shape}")
        for what, array, bits in (("weights", weights, self.weight_bits), ("bias", bias, BIAS_BITS)):
            low, high = Format(bits).bounds
            if array.min() < low or array.max() > high:
                raise NetworkError(f"{where}: expected {what} of {bits} bits, got {array.min()} to {array.max()}")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "bias", bias)

    @property
    def points(self) -> int:
        """Operating points."""
        return int(self.weights.shape[0])

    @property
    def groups(self) -> int:
        """Groups of channels."""
        return int(self.weights.shape[1])

    @property
    def channels(self) -> int:
        """Channels of the source."""
        return int(self.weights.shape[2])

    @property
    def counter_names(self) -> tuple[str, ...]:
        """What golden and the hardware count of it."""
        return tuple(f"gate {self.target}: {what}" for what in ("events", "windows", "on"))

    def windows(self, ticks: int) -> int:
        """Decisions in so many ticks of a sample."""
        return -(-ticks // self.window)

    def sum_interval(self, value_range: tuple[int, int], positions: int) -> Interval:
        """Bounds of a channel's sum over a window, of every part of it too."""
        most = positions * self.window
        return Interval(min(value_range[0], 0) * most, max(value_range[1], 0) * most)

    def interval(self, value_range: tuple[int, int], positions: int) -> Interval:
        """Bounds of z, of every partial sum too."""
        sums = self.sum_interval(value_range, positions)
        positive, negative = np.maximum(self.weights, 0).sum(2), np.minimum(self.weights, 0).sum(2)
        low = np.minimum(self.bias, 0) + positive * sums.low + negative * sums.high
        high = np.maximum(self.bias, 0) + positive * sums.high + negative * sums.low
        return Interval(int(low.min()), int(high.max()))

    def decide(self, values: np.ndarray, point: int) -> np.ndarray:
        """Which groups are on, [samples, windows, groups].

        :param values: what the source sent from a window's first tick on, integers, [samples, ticks, neurons].
        """
        samples, ticks, size = values.shape
        count = self.windows(ticks)
        by_channel = values.reshape(samples, ticks, self.channels, size // self.channels).sum(3, dtype=np.int64)
        padded = np.zeros((samples, count * self.window, self.channels), np.int64)
        padded[:, :ticks] = by_channel
        sums = padded.reshape(samples, count, self.window, self.channels).sum(2)
        return np.asarray(sums @ self.weights[point].T + self.bias[point] > 0)


def check_gate(gate: Gate, source: tuple[int, Shape | None], target: tuple[int, Shape | None]) -> None:
    """Check a gate against (size, shape) of its ends.

    :raises NetworkError: they don't fit.
    """
    where = f"gate of {gate.target!r}"
    channels = source[0] if source[1] is None else source[1][0]
    if gate.channels != channels:
        raise NetworkError(f"{where}: expected weights of {channels} channels of {gate.source!r}, got {gate.channels}")
    if target[1] is None:
        raise NetworkError(f"{where}: expected a target with a shape, got a flat one; n gated neurons are (n, 1, 1)")
    if target[1][0] % gate.groups:
        raise NetworkError(f"{where}: expected groups that divide {target[1][0]} channels, got {gate.groups}")
