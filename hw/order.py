"""In what order a population's neurons are taken: which neuron is in which word and lane, and in which row.

L synapse lanes and N neuron lanes; a word is one address of the accumulators, a row is what N law pipelines take.
Flat: word k has the neurons k·L … k·L + L - 1. Map: the lanes are channels, and word = (channel div L)·P + position
with P positions, so that one word is L channels of one position. Rows: r = g·K + k for group g = lane div N of K words.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from apical.hw.design import Lanes
from apical.sw.geometry import IntArray, Shape


@dataclass(frozen=True)
class Order:
    """The order of `size` neurons (of a map where there is a `shape`) in given lanes."""

    size: int
    shape: Shape | None
    lanes: Lanes

    @property
    def positions(self) -> int:
        """Positions of a map."""
        return 1 if self.shape is None else self.shape[1] * self.shape[2]

    @property
    def channel_words(self) -> int:
        """Words at each position of a map; all words where there is none."""
        channels = self.size if self.shape is None else self.shape[0]
        return -(-channels // self.lanes.synapse)

    @property
    def words(self) -> int:
        """K, words in all."""
        return self.channel_words * self.positions

    @property
    def rows(self) -> int:
        """Rows of neuron lanes."""
        return self.words * (self.lanes.synapse // self.lanes.neuron)

    @cached_property
    def target_of(self) -> IntArray:
        """Neuron by [word, synapse lane]; -1 is padding."""
        k, lane = np.arange(self.words)[:, None], np.arange(self.lanes.synapse)[None, :]
        channels = self.size // self.positions
        channel, position = (k // self.positions) * self.lanes.synapse + lane, k % self.positions
        return np.where(channel < channels, channel * self.positions + position, -1)

    @cached_property
    def neuron_of(self) -> IntArray:
        """Neuron by [row, neuron lane]; -1 is padding."""
        groups = self.lanes.synapse // self.lanes.neuron
        by_group = self.target_of.reshape(self.words, groups, self.lanes.neuron)
        return np.ascontiguousarray(by_group.transpose(1, 0, 2)).reshape(self.rows, self.lanes.neuron)
