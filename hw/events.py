"""Event streams: the payload of a beat, and a fork for sources with several readers.

A beat of an E-lane stream of C classes (C divides E) carries up to E events; lane e only sources with index ≡ e modulo
C, sent as row = index div C. The reader has one weight bank per lane: fewer classes balance the lanes better and it
costs copies of the weights. `last` closes the tick (the beat may carry events), `final` with it closes the sample.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.hdl import Shape as Bits
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from apical.sw.geometry import IntArray, Shape


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


class EventLayout(data.StructLayout):  # type: ignore[misc]
    """Payload of a beat: keep[E], rows[E], values[E] (absent for spikes), last, final.

    :param size: number of sources.
    :param value_range: smallest and largest event value; (0, 1) are spikes.
    :param classes: residue classes of sources; as many as lanes unless given.
    :param shape: of a map, whose events carry coordinates: see `index_of`.
    """

    def __init__(
        self,
        size: int,
        value_range: tuple[int, int],
        lanes: int,
        classes: int | None = None,
        shape: Shape | None = None,
    ) -> None:
        low, high = value_range
        self.sources, self.value_range, self.lanes, self.shape = size, value_range, lanes, shape
        self.classes = classes or lanes
        self.rows = (
            -(-size // self.classes) if shape is None else (1 << sum(map_bits(shape, self.classes))) // self.classes
        )
        self.row_bits = max(1, (self.rows - 1).bit_length())
        self.binary = value_range == (0, 1)
        self.value_shape: Bits = (
            unsigned(max(1, high.bit_length()))
            if low >= 0
            else signed(max(high.bit_length(), (-low - 1).bit_length()) + 1)
        )
        members: dict[str, Any] = {"keep": unsigned(lanes), "rows": data.ArrayLayout(unsigned(self.row_bits), lanes)}
        if not self.binary:
            members["values"] = data.ArrayLayout(self.value_shape, lanes)
        super().__init__({**members, "last": unsigned(1), "final": unsigned(1)})


class Fork(wiring.Component):  # type: ignore[misc]
    """Copies each beat to `readers` streams; a beat leaves when all have taken it. No latency, full throughput.

    Each output's valid stays until its reader takes the beat; readers may take it in different cycles.
    """

    def __init__(self, layout: EventLayout, readers: int) -> None:
        self.readers = readers
        super().__init__(
            {"i": In(stream.Signature(layout)), **{f"o{n}": Out(stream.Signature(layout)) for n in range(readers)}}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        outputs = [getattr(self, f"o{n}") for n in range(self.readers)]
        done = Signal(self.readers)
        taken = Signal(self.readers)
        m.d.comb += self.i.ready.eq(taken.all())
        for n, out in enumerate(outputs):
            m.d.comb += [
                out.valid.eq(self.i.valid & ~done[n]),
                out.payload.eq(self.i.payload),
                taken[n].eq(done[n] | out.ready),
            ]
        with m.If(self.i.valid):
            m.d.sync += done.eq(taken & ~taken.all().replicate(self.readers))
        return m
