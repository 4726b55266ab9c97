"""Delay lines of projections with a delay of d ticks: d silent ticks at a sample's start, its last d ticks dropped.

The reader says when it has closed a sample (`flush`); what is still in the line then belongs to ticks beyond the
sample's end. A queue holds the ticks that are under way, d of them (d - 1 where the source closes a tick only after the
reader); it has room for one event per beat, so that the line always accepts what any reader of the same source must
wait for: docs/explanation/recurrence.md says why nothing deadlocks.
"""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from apical.hw.events import EventLayout
from apical.sw.network import Network, Projection


def ticks_held(network: Network, projection: Projection) -> int:
    """Ticks that a delayed projection's line must hold: d, or d - 1 where the source closes a tick after the reader.

    A reader that has closed tick r frees tick r - d. Other readers of the source may need its tick r + 1 before this
    one can close its own r + 1; unless the source itself waits for the reader, the line must take that tick: d in all.
    """
    behind, waiting = set(), [projection.source]
    while waiting:
        name = waiting.pop()
        if name not in behind:
            behind.add(name)
            waiting += [q.source for q in network.projections if q.target == name and q.delay == 0]
    return projection.delay - (projection.target in behind)


class Delay(wiring.Component):  # type: ignore[misc]
    """Delays an event stream by `ticks`; its queue holds `held` whole ticks.

    Ports: `i`, `o`: streams. `flush`: high in the cycle in which the reader closes a sample's last tick; `o.valid` is
    low in that cycle. `busy`: ticks of a closed sample are still to be dropped; the reader must not flush. Latency
    0 cycles without a queue (beats pass through), 1 to 2 with one.
    """

    def __init__(self, layout: EventLayout, ticks: int, held: int) -> None:
        self.layout, self.ticks = layout, ticks
        self.depth = held * (layout.sources + 1)
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
