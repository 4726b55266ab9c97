"""Weights through AXI registers (docs/reference/axi.md): where each one is, images to write, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
import numpy.typing as npt

from apical.sw.axi_words import positions
from apical.sw.geometry import IntArray, Shape
from apical.sw.widths import bounds_of

Image = npt.NDArray[np.uint32]  # [rows, chunks]


@dataclass(frozen=True)
class Site:
    """The weights of one projection in the hardware.

    :param number: what register SITE takes.
    :param shape: of the weights: [targets, sources], or of a convolution [channels, channels / groups, rows, columns].
    :param lanes: synapse lanes.
    :param classes: residue classes of a dense projection's source stream.
    :param source, target: shapes of its ends where they are maps.
    :param groups: of a convolution.
    :param field_bits: of a weight in a chunk of 32 bits; 32 in learning designs.
    """

    number: int
    projection: str
    kind: Literal["dense", "conv"]
    shape: tuple[int, ...]
    weight_bits: int
    lanes: int
    classes: int = 1
    source: Shape | None = None
    target: Shape | None = None
    groups: int = 1
    field_bits: int = 8

    @property
    def chunks(self) -> int:
        """Chunks of 32 bits in a row."""
        return -(-self.lanes * self.field_bits // 32)

    @cached_property
    def rows(self) -> int:
        """Rows in all."""
        if self.kind == "conv":
            return int(self._conv_bases()[0][-1])
        channels = self.shape[0] // positions(self.target)
        return -(-channels // self.lanes) * positions(self.target) * self._span

    @property
    def _channels(self) -> int:
        """Of a dense projection's source, padded to whole classes."""
        channels = self.shape[1] // positions(self.source)
        return -(-channels // self.classes) * self.classes

    @property
    def _span(self) -> int:
        return positions(self.source) * self._channels

    def _conv_bases(self) -> tuple[IntArray, IntArray]:
        """By source channel, and one beyond the last: its first row; by source channel its group's first word."""
        out, inside, kh, kw = self.shape
        across = out // self.groups
        group = np.arange(inside * self.groups) // inside
        first = group * across // self.lanes
        words = (group * across + across - 1) // self.lanes - first + 1
        return np.concatenate([[0], np.cumsum(words * kh * kw)]), first

    @cached_property
    def places(self) -> tuple[IntArray, IntArray]:
        """Row and lane of every weight, both of the weights' shape."""
        if self.kind == "conv":
            out, inside, kh, kw = self.shape
            base, first = self._conv_bases()
            o, i, y, x = np.indices(self.shape)
            channel = o // (out // self.groups) * inside + i
            return base[channel] + (o // self.lanes - first[channel]) * kh * kw + y * kw + x, o % self.lanes
        t, s = np.indices(self.shape)
        at, channel = t % positions(self.target), t // positions(self.target)
        word = channel // self.lanes * positions(self.target) + at
        index = s % positions(self.source) * self._channels + s // positions(self.source)
        return word * self._span + index, channel % self.lanes

    def image(self, weights: IntArray) -> Image:
        """The words to write to DATA from row 0 on, [rows, chunks].

        :raises ValueError: another shape, or a weight out of range.
        """
        low, high = bounds_of(self.weight_bits)
        w = np.asarray(weights, np.int64)
        if w.shape != self.shape or w.min() < low or w.max() > high:
            raise ValueError(
                f"projection {self.projection!r}: expected weights {self.shape} of {low} to {high}, got {w.shape}, "
                f"{w.min()} to {w.max()}"
            )
        per = 32 // self.field_bits
        fields = np.zeros((self.rows, self.chunks * per), np.uint32)
        fields[self.places] = w & ((1 << self.field_bits) - 1)
        shifts = np.arange(per, dtype=np.uint32) * np.uint32(self.field_bits)
        parts = fields.reshape(self.rows, self.chunks, per) << shifts
        return np.asarray(np.bitwise_or.reduce(parts, axis=2), np.uint32)

    def weights(self, image: Image) -> IntArray:
        """The inverse of `image`."""
        per, bits = 32 // self.field_bits, self.field_bits
        shifts = np.arange(per, dtype=np.uint32) * np.uint32(bits)
        wide = np.asarray(image, np.uint32).reshape(self.rows, self.chunks, 1) >> shifts
        fields = (wide.astype(np.int64) & ((1 << bits) - 1)).reshape(self.rows, -1)
        signed = np.where(fields >> (bits - 1) == 1, fields - (1 << bits), fields)
        return np.asarray(signed[self.places], np.int64)


@dataclass(frozen=True)
class Store:
    """What else lasts in a learning design, at a site of its own.

    :param what: ``errors`` of a population, the ``threshold`` of a projection, or the number of ``samples``.
    :param of: the population's or projection's name.
    :param chunks: numbers in a row, 32 bits each; the last row may have fewer.
    """

    number: int
    what: Literal["errors", "threshold", "samples"]
    of: str
    rows: int
    chunks: int
    size: int
    writable: bool = True
