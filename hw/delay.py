"""Delay lines of projections with a delay of d ticks: d silent ticks at a sample's start, its last d ticks dropped.

The reader says when it has closed a sample (`flush`); what is still in the line then belongs to ticks beyond the
sample's end. For d >= 2 a queue holds the d - 1 ticks that are under way; it has room for one event per beat, so that
the line always accepts what the reader must wait for: docs/explanation/recurrence.md says why nothing deadlocks.
"""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from apical.hw.events import EventLayout


class Delay(wiring.Component):  # type: ignore[misc]
    """Delays an event stream by `ticks`.

    Ports: `i`, `o`: streams. `flush`: high in the cycle in which the reader closes a sample's last tick; `o.valid` is
    low in that cycle. `busy`: ticks of a closed sample are still to be dropped; the reader must not flush. Latency
    0 cycles for one tick (beats pass through), 1 to 2 for more.
    """

    def __init__(self, layout: EventLayout, ticks: int) -> None:
        self.layout, self.ticks = layout, ticks
        self.depth = (ticks - 1) * (layout.sources + 1)
        super().__init__(
            {"i": In(stream.Signature(layout)), "o": Out(stream.Signature(layout)), "flush": In(1), "busy": Out(1)}
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        silent, dropping = Signal(range(self.ticks + 1), init=self.ticks), Signal(range(self.ticks + 1))
        front = self.i
        if self.depth:
            m.submodules.queue = queue = SyncFIFOBuffered(width=self.layout.size, depth=self.depth)
            front = stream.Signature(self.layout).create()
            m.d.comb += [
                queue.w_data.eq(self.i.payload),
                queue.w_en.eq(self.i.valid),
                self.i.ready.eq(queue.w_rdy),
                front.payload.eq(queue.r_data),
                front.valid.eq(queue.r_rdy),
                queue.r_en.eq(front.ready),
            ]
        m.d.comb += self.busy.eq(dropping != 0)
        with m.If(self.flush):
            # Of the sample's T ticks the reader took min(d, T) silent ones: as many are left in the line.
            m.d.sync += [silent.eq(self.ticks), dropping.eq(self.ticks - silent)]
        with m.Elif(silent != 0):
            m.d.comb += [self.o.valid.eq(1), self.o.payload.last.eq(1)]
            with m.If(self.o.ready):
                m.d.sync += silent.eq(silent - 1)
        with m.Elif(dropping == 0):
            m.d.comb += [
                self.o.valid.eq(front.valid),
                self.o.payload.eq(front.payload),
                front.ready.eq(self.o.ready),
            ]
        with m.If(~self.flush & (dropping != 0)):
            m.d.comb += front.ready.eq(1)
            with m.If(front.valid & front.payload.last):
                m.d.sync += dropping.eq(dropping - 1)
        return m
