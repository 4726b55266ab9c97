"""From a map's events to those of a flat source: coordinates become one index, without holes."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Const, Module, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.events import EventLayout
from apical.sw.geometry import IntArray, map_bits


def coordinates(layout: EventLayout, row: Value) -> tuple[Value, Value, Value]:
    """(channel div classes, row, column) of an event of a map."""
    assert layout.shape is not None
    channel_bits, column_bits, _ = map_bits(layout.shape, layout.classes)
    at = channel_bits - (layout.classes - 1).bit_length()
    return row[:at], row[at + column_bits :], row[at : at + column_bits]


def times(a: Value, factor: int) -> Value:
    """a x factor by shifts and additions: no multiplier."""
    total: Value = Const(0, 1)
    for n in range(factor.bit_length()):
        if factor >> n & 1:
            total = total + (a << n)
    return total


def flat_layout(layout: EventLayout) -> EventLayout:
    """Layout of a map's events as those of a flat source, holes left in for whole classes of channels."""
    assert layout.shape is not None
    channels, height, width = layout.shape
    wide = -(-channels // layout.classes) * layout.classes
    return EventLayout(height * width * wide, layout.value_range, layout.lanes, layout.classes)


class Flatten(wiring.Component):  # type: ignore[misc]
    """Streams `i` (a map's) to `o` (index = (row x width + column) x channels + channel), a register between.

    `layout`: of `o`; `sources`: the neuron of each of its indices, -1 for none. Throughput: one beat per cycle.
    """

    def __init__(self, layout: EventLayout) -> None:
        assert layout.shape is not None
        self.source = layout
        channels, height, width = layout.shape
        self.channel_rows = -(-channels // layout.classes)
        wide = self.channel_rows * layout.classes
        index = np.arange(height * width * wide)
        channel, position = index % wide, index // wide
        self.sources: IntArray = np.where(channel < channels, channel * height * width + position, -1)
        self.layout = flat_layout(layout)
        super().__init__({"i": In(stream.Signature(layout)), "o": Out(stream.Signature(self.layout))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        assert self.source.shape is not None
        valid, beat, given = Signal(), Signal(self.layout, reset_less=True), self.i.payload
        m.d.comb += [self.i.ready.eq(~valid | self.o.ready), self.o.valid.eq(valid), self.o.payload.eq(beat)]
        with m.If(self.i.ready):
            m.d.sync += [valid.eq(self.i.valid), beat.keep.eq(given.keep)]
            m.d.sync += [beat.last.eq(given.last), beat.final.eq(given.final)]
            for e in range(self.source.lanes):
                channel, y, x = coordinates(self.source, given.rows[e])
                position = times(y, self.source.shape[2]) + x
                m.d.sync += beat.rows[e].eq(times(position, self.channel_rows) + channel)
                if not self.source.binary:
                    m.d.sync += beat["values"][e].eq(given["values"][e])
        return m
