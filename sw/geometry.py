"""The geometry of a projection between maps: which kernel tap of which target an event of a source reaches.

A map is indexed (channel, row, column), flat index = (channel x height + row) x width + column, as torch flattens it.
Source coordinate i reaches target t by tap k where t x stride = i + padding - k x dilation, along each axis alone.
docs/reference/convolution.md is the whole of it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Shape = tuple[int, int, int]
Pair = tuple[int, int]
LONGEST = 1024  # height or width of a map, and padding


class GeometryError(ValueError):
    """A shape, kernel, stride, padding, dilation or group count that can't be."""


def check_shape(shape: Shape, size: int | None, where: str) -> Shape:
    """(channels, height, width) of a map, as plain integers.

    :param size: what their product must be; None: anything.
    :raises GeometryError: not three positive integers, a side beyond `LONGEST`, or another size.
    """
    if len(shape) != 3 or any(int(n) != n or n < 1 for n in shape) or max(shape[1:]) > LONGEST:
        raise GeometryError(
            f"{where}: expected a shape (channels, height, width) of positive integers, sides up to {LONGEST}, "
            f"got {tuple(shape)}"
        )
    if size is not None and math.prod(shape) != size:
        raise GeometryError(f"{where}: expected a shape of {size} in all, got {tuple(shape)}, {math.prod(shape)}")
    return (int(shape[0]), int(shape[1]), int(shape[2]))


def map_bits(shape: Shape, classes: int) -> tuple[int, int, int]:
    """Bits of a map's channel, column and row in an event's index; the channel has those of the class at least."""
    channels, height, width = shape
    return (
        max((channels - 1).bit_length(), (classes - 1).bit_length()),
        (width - 1).bit_length(),
        (height - 1).bit_length(),
    )


def index_of(size: int, shape: Shape | None, classes: int) -> IntArray:
    """What stands for each neuron in a stream, [size]: its index, or of a map its coordinates {row, column, channel},
    each in as many bits as it needs, so that a reader takes them apart without a division."""
    if shape is None:
        return np.arange(size)
    channel_bits, column_bits, _ = map_bits(shape, classes)
    channel, row, column = np.unravel_index(np.arange(size), shape)
    return np.asarray((row << (column_bits + channel_bits)) | (column << channel_bits) | channel, np.int64)


@dataclass(frozen=True)
class Axis:
    """One axis, rows or columns: source and kernel lengths, stride, padding (each side), dilation."""

    source: int
    kernel: int
    stride: int
    padding: int
    dilation: int

    @property
    def target(self) -> int:
        """Length of the target."""
        return (self.source + 2 * self.padding - self.dilation * (self.kernel - 1) - 1) // self.stride + 1

    @property
    def steps(self) -> Pair:
        """From one reached target to the next of the same source: the tap rises by the first, the target falls by the
        second number."""
        common = math.gcd(self.stride, self.dilation)
        return self.stride // common, self.dilation // common

    def reached(self, i: int) -> list[Pair]:
        """(tap, target) pairs that source coordinate `i` reaches, by rising tap: a progression of `steps`."""
        out = []
        for tap in range(self.kernel):
            at, rest = divmod(i + self.padding - tap * self.dilation, self.stride)
            if not rest and 0 <= at < self.target:
                out.append((tap, at))
        return out

    @cached_property
    def counts(self) -> IntArray:
        """How many targets each source coordinate reaches, [source]."""
        return np.array([len(self.reached(i)) for i in range(self.source)], np.int64)


@dataclass(frozen=True)
class Geometry:
    """A convolution's geometry.

    :param source: (channels, height, width) of the source map.
    :param channels: of the target map.
    :param kernel, stride, padding, dilation: (rows, columns). Padding is zeros on both sides.
    :param groups: source and target channels fall into as many equal parts; targets see their own part only.
    :raises GeometryError: something that can't be, or a target without a position.
    """

    source: Shape
    channels: int
    kernel: Pair
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "source", check_shape(self.source, None, "source"))
        for what, low, high in (("kernel", 1, 63), ("stride", 1, 63), ("padding", 0, LONGEST), ("dilation", 1, 63)):
            pair = getattr(self, what)
            if len(pair) != 2 or any(int(n) != n or not low <= n <= high for n in pair):
                raise GeometryError(f"{what}: expected (rows, columns), each {low} to {high}, got {tuple(pair)}")
            object.__setattr__(self, what, (int(pair[0]), int(pair[1])))
        if self.groups < 1 or self.source[0] % self.groups or self.channels < 1 or self.channels % self.groups:
            raise GeometryError(
                f"groups: expected a number that divides {self.source[0]} source and {self.channels} target channels, "
                f"got {self.groups}"
            )
        if min(a.target for a in self.axes) < 1:
            raise GeometryError(
                f"kernel: {self.kernel} with dilation {self.dilation} doesn't fit into a map of {self.source[1:]} with "
                f"padding {self.padding}"
            )

    @cached_property
    def axes(self) -> tuple[Axis, Axis]:
        """Rows and columns."""
        rows, columns = (
            Axis(self.source[1 + n], self.kernel[n], self.stride[n], self.padding[n], self.dilation[n])
            for n in range(2)
        )
        return rows, columns

    @property
    def target(self) -> Shape:
        """(channels, height, width) of the target map."""
        return self.channels, self.axes[0].target, self.axes[1].target

    @property
    def weights_shape(self) -> tuple[int, int, int, int]:
        """[target channels, source channels / groups, kernel rows, kernel columns], torch's own order."""
        return self.channels, self.source[0] // self.groups, *self.kernel

    @property
    def group_channels(self) -> int:
        """Target channels that an event reaches at each position."""
        return self.channels // self.groups

    @cached_property
    def positions(self) -> IntArray:
        """How many target positions an event reaches, by its own position, [height, width]."""
        return np.outer(self.axes[0].counts, self.axes[1].counts)

    def matrix(self, weights: IntArray) -> IntArray:
        """The same as a matrix [targets, sources]; for small maps and tests."""
        (co, oh, ow), (ci, h, w) = self.target, self.source
        out = np.zeros((co, oh, ow, ci, h, w), np.int64)
        inside, across = self.weights_shape[1], self.group_channels
        for y in range(h):
            for ky, oy in self.axes[0].reached(y):
                for x in range(w):
                    for kx, ox in self.axes[1].reached(x):
                        for g in range(self.groups):
                            to, of = slice(g * across, (g + 1) * across), slice(g * inside, (g + 1) * inside)
                            out[to, oy, ox, of, y, x] += weights[to, :, ky, kx]
        return out.reshape(co * oh * ow, ci * h * w)
