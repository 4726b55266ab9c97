"""Event streams: the payload of a beat, and a fork for sources with several readers.

A beat of an E-lane stream of C classes (C divides E) carries up to E events; lane e only sources with index ≡ e modulo
C, sent as row = index div C. The reader has one weight bank per lane: fewer classes balance the lanes better and it
costs copies of the weights. `last` closes the tick (the beat may carry events), `final` with it closes the sample.
"""

from __future__ import annotations

from typing import Any

from amaranth.hdl import Module, Signal, signed, unsigned
from amaranth.hdl import Shape as Bits
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from apical.sw.geometry import Shape, map_bits
from apical.sw.widths import bits_of


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
        bits = bits_of(low, high)
        self.value_shape: Bits = signed(bits) if low < 0 else unsigned(bits)
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
