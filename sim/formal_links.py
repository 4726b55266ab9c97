"""Harnesses of the gate of kernels and of the serial link's frames."""

from __future__ import annotations

from typing import Any

import numpy as np
from amaranth.hdl import Assert, Assume, Module, Mux, Signal, signed

from apical.hw.events import EventLayout
from apical.hw.uart import FrameParser
from apical.sim import formal_checks as f
from apical.sw.kernel_gates import Gate


class GateHarness(f.Harness):
    """A decision is made of all events of its window and of no other; it stays until it is taken."""

    def __init__(self, unit: Any, window: int = 2) -> None:
        self.gate = Gate("in", "out", np.array([[[2, -3]]]), np.array([[1]]), window, 3)
        super().__init__(unit(self.gate, EventLayout(2, (0, 1), 2, 1)))

    def properties(self, m: Module) -> None:
        u, events = self.unit, self.unit.events
        moves = f.offered(m, events)
        f.fair(m, u.take, f.PATIENCE)
        # The window's sums, as beats come in; a window ends with its last tick or its sample's.
        sums = [Signal(4, name=f"sum{c}") for c in range(2)]
        tick, closed, decided, count = Signal(1), Signal(2), Signal(2), Signal(4)
        p = events.payload
        closes = moves & p.last & (p.final | (tick == self.gate.window - 1))
        here = [sum((p.keep[e] & (p.rows[e] == c) for e in range(2)), Signal()) for c in range(2)]
        m.d.comb += Assume(~events.valid | (p.last | ~p.final))
        with m.If(moves & p.last):
            m.d.sync += tick.eq(Mux(closes, 0, tick + 1))
        for c, total in enumerate(sums):
            m.d.sync += total.eq(Mux(moves, total + here[c], total))
            once = Signal(name=f"once{c}")  # a source sends at most once in a tick
            m.d.sync += once.eq(Mux(moves, (once | (here[c] != 0)) & ~p.last, once))
            m.d.comb += Assume(~moves | (here[c] + once <= 1))
            with m.If(u.window):
                m.d.sync += total.eq(Mux(moves, here[c], 0))
        weights, bias = self.gate.weights[0, 0], int(self.gate.bias[0, 0])
        dot = Signal(signed(8))
        m.d.comb += dot.eq(bias + sum(int(w) * s for w, s in zip(weights, sums, strict=True)))
        m.d.sync += [closed.eq(closed + closes), decided.eq(decided + u.window)]
        m.d.comb += [
            Assert(~u.window | (u.on == (dot > 0))),
            Assert(~u.window | (closed != decided)),
            Assert((closed - decided)[:2] <= 1),
        ]
        held, kept = Signal(), Signal()
        m.d.sync += [held.eq(u.valid & ~u.take), kept.eq(u.on)]
        m.d.comb += Assert(~held | (u.valid & (u.on == kept)))
        f.within(m, closed != decided, u.window, 14)
        m.d.sync += count.eq(count + sum((here[c] for c in range(2)), Signal()) * moves - u.count)
        f.within(m, count != 0, u.count | u.valid, 14)


class FrameHarness(f.Harness):
    """What a frame's writer sends, the parser takes apart again: its bytes in order, then a good checksum."""

    def __init__(self, unit: Any, size: int = 2) -> None:
        self.size = size
        super().__init__(unit())

    def properties(self, m: Module) -> None:
        m.submodules.parser = parser = FrameParser()
        tokens, out = self.unit.tokens, self.unit.bytes
        moves = f.offered(m, tokens)
        sent, number, first = Signal(range(self.size + 2)), Signal(range(self.size + 2)), Signal(8)
        which = f.any_constant(m, "which", 0, self.size - 1)
        m.d.comb += Assume(~tokens.valid | (tokens.payload.end == (sent == self.size)))
        with m.If(moves):
            m.d.sync += sent.eq(Mux(tokens.payload.end, 0, sent + 1))
            with m.If(sent == which):
                m.d.sync += first.eq(tokens.payload.data)
        wanted = Mux(tokens.valid & (sent == which), tokens.payload.data, first)
        # The line takes a byte every second cycle at most, which is what the parser needs.
        ready, busy = Signal(), Signal()
        f.anything(m, ready)
        m.d.sync += busy.eq(out.valid & out.ready)
        m.d.comb += [out.ready.eq(ready & ~busy), parser.strobe.eq(out.valid & out.ready), parser.data.eq(out.payload)]
        with m.If(parser.byte_valid):
            m.d.sync += number.eq(number + 1)
        with m.If(parser.good):
            m.d.sync += number.eq(0)
        m.d.comb += [
            Assert(~parser.bad),
            Assert(~parser.good | (number == self.size + 2)),
            Assert(~parser.byte_valid | (number < self.size + 2)),
            Assert(~(parser.byte_valid & (number == which)) | (parser.byte == wanted)),
        ]
        f.patient(m, out.valid, out.payload, out.ready)
