"""Harnesses of the AXI units: answers and addresses on AXI4-Lite, words into event streams."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data

from apical.hw.axi_lite import OKAY, SLVERR
from apical.hw.axi_stream import slot_layout
from apical.hw.events import EventLayout
from apical.hw.register_map import Field, Register
from apical.sim import formal_checks as f
from apical.sw.axi_words import Port, SlotFormat

MOST = 9  # that the control register's field takes
REGISTERS = (
    Register("CONTROL", 0, "", (Field("MODE", 0, 4, "", "rw", most=MOST), Field("SPARE", 8, 8, "", "rw", reset=3))),
    Register("ERRORS", 4, "", (Field("ANY", 0, 2, "", "w1c"),)),
    Register("DATA", 8, "", (Field("VALUE", 0, 32, "", "rw"),), window=True),
)


class RegistersHarness(f.Harness):
    """A write is answered once, after both of its halves, a read once, after its address; answers wait as they are. A
    legal write changes its bytes, any other access nothing, and is an error; what is read is what is there."""

    def __init__(self, unit: Any) -> None:
        super().__init__(unit(SimpleNamespace(registers=REGISTERS, options=SimpleNamespace(address_bits=4))))

    def properties(self, m: Module) -> None:
        u, bus = self.unit, self.unit.bus
        for valid, ready, payload in (
            (bus.awvalid, bus.awready, Cat(bus.awaddr, bus.awprot)),
            (bus.wvalid, bus.wready, Cat(bus.wdata, bus.wstrb)),
            (bus.arvalid, bus.arready, Cat(bus.araddr, bus.arprot)),
        ):
            f.anything(m, valid)
            for part in payload.parts:
                f.anything(m, part)
            f.patient(m, valid, payload, ready, Assume)
        f.fair(m, bus.bready, f.PATIENCE)
        f.fair(m, bus.rready, f.PATIENCE)
        f.fair(m, u.window.done, f.PATIENCE)
        f.anything(m, u.window.ok, u.window.value, u["ERRORS", "ANY"].raised)
        f.patient(m, bus.bvalid, bus.bresp, bus.bready)
        f.patient(m, bus.rvalid, Cat(bus.rresp, bus.rdata), bus.rready)
        writes = self._answered(m, [bus.awvalid & bus.awready, bus.wvalid & bus.wready], bus.bvalid, bus.bready)
        self._answered(m, [bus.arvalid & bus.arready], bus.rvalid, bus.rready)
        # What a write that is under way may do, and did.
        address, word, strobe = Signal(4), Signal(32), Signal(4)
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += address.eq(bus.awaddr)
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [word.eq(bus.wdata), strobe.eq(bus.wstrb)]
        mode, spare = u["CONTROL", "MODE"].value, u["CONTROL", "SPARE"].value
        was_mode, was_spare = Signal(4), Signal(8, init=3)
        m.d.sync += [was_mode.eq(mode), was_spare.eq(spare)]
        new_mode, new_spare = Mux(strobe[0], word[:4], was_mode), Mux(strobe[1], word[8:16], was_spare)
        changes = (mode != was_mode) | (spare != was_spare)
        legal = (address == 0) & (new_mode <= MOST)
        m.d.comb += [
            Assert(mode <= MOST),
            Assert(~changes | (writes & legal & (mode == new_mode) & (spare == new_spare))),
        ]
        answers, before = Signal(), Signal()
        m.d.sync += before.eq(bus.bvalid)
        m.d.comb += answers.eq(bus.bvalid & ~before)
        known = (address == 0) | (address == 4) | (address == 8)
        m.d.comb += [
            Assert(~answers | (address != 0) | (legal == (bus.bresp == OKAY))),
            Assert(~answers | (address != 4) | (bus.bresp == OKAY)),
            Assert(~answers | known | (bus.bresp == SLVERR)),
            Assert(~answers | ~legal | ((mode == new_mode) & (spare == new_spare))),
        ]
        asked, reads, read_before = Signal(4), Signal(), Signal()
        m.d.sync += read_before.eq(bus.rvalid)
        m.d.comb += reads.eq(bus.rvalid & ~read_before)
        with m.If(bus.arvalid & bus.arready):
            m.d.sync += asked.eq(bus.araddr)
        shown = Cat(was_mode, Const(0, 4), was_spare, Const(0, 16))
        good = (asked == 0) | (asked == 4)
        m.d.comb += [
            Assert(~reads | (asked != 0) | (bus.rdata == shown)),
            Assert(~reads | ~good | (bus.rresp == OKAY)),
            Assert(~reads | good | (asked == 8) | ((bus.rresp == SLVERR) & (bus.rdata == 0))),
        ]

    def _answered(self, m: Module, halves: list[Value], valid: Value, ready: Value) -> Value:
        """One answer for each request, within some cycles; returns whether a whole request is under way."""
        moves, under_way = valid & ready, []
        for half in halves:
            waiting = Signal(2)  # the next request's halves may come while an answer waits
            m.d.sync += waiting.eq(waiting + half - moves)
            m.d.comb += Assert(waiting + half - moves <= 2)
            under_way.append(waiting != 0)
        whole = Cat(under_way).all()
        m.d.comb += Assert(~valid | whole)
        f.within(m, whole, moves, 16)
        return whole


class UnpackerHarness(f.Harness):
    """Of words of good slots: each event leaves once, in its tick, and each tick ends once; nothing stops."""

    TICKS = 2

    def __init__(self, unit: Any, sources: int = 3, lanes: int = 2, classes: int = 2) -> None:
        self.sources = sources
        self.slots = SlotFormat((Port("in", sources, (0, 1), lanes, classes),), 32)
        super().__init__(unit(self.slots, [EventLayout(sources, (0, 1), lanes, classes)]))

    def properties(self, m: Module) -> None:
        u, words, layout = self.unit, self.unit.words, slot_layout(self.slots)
        m.d.comb += u.enable.eq(1)
        comes = f.offered(m, words)
        parts = [words.payload.data[16 * j : 16 * (j + 1)] for j in range(self.slots.slots)]
        pieces = [data.View(layout, p) for p in parts]
        m.d.comb += Assume(words.payload.keep.all() & ~words.payload.last & ~words.payload.user)
        for s in pieces:
            m.d.comb += Assume((s.event & (s.index < self.sources)) | (s.index == 0))
            m.d.comb += Assume((s.field == 0) & (~s.final | s.last))
        tick = f.any_constant(m, "tick", 0, self.TICKS - 1)
        source = f.any_constant(m, "source", 0, self.sources - 1)
        # In: slots in order. How often this source has sent in this tick, and which ticks have ended.
        came, ended, final = Signal(3), Signal(range(2 * self.TICKS + 4)), Signal()
        at: Value = ended
        hits, closes = Const(0, 1), Const(0, 1)
        for s in pieces:
            here = at == tick
            hits = hits + (here & s.event & (s.index == source))
            closes = closes | (here & s.last & s.final)
            at = at + s.last
        with m.If(comes):
            m.d.sync += [
                came.eq(came + hits),
                final.eq(final | closes),
                ended.eq(Mux(at > self.TICKS, self.TICKS + 1, at)),
            ]
        m.d.comb += Assume(~comes | (came < 4))
        # Out.
        o = u.events0
        f.fair(m, o.ready, 2)
        moves = o.valid & o.ready
        left, went = Signal.like(ended), Signal(3)
        here = moves & (left == tick)
        lanes = o.payload.keep.shape().width if hasattr(o.payload.keep, "shape") else len(o.payload.keep)
        out: Value = Const(0, 1)
        for e in range(lanes):
            index = o.payload.rows[e] * self.slots.ports[0].classes + e % self.slots.ports[0].classes
            m.d.comb += Assert(~(moves & o.payload.keep[e]) | (index < self.sources))
            out = out + (o.payload.keep[e] & (index == source))
        with m.If(here):
            m.d.sync += went.eq(went + out)
        m.d.sync += left.eq(left + (moves & o.payload.last & (left <= self.TICKS)))
        m.d.comb += [
            Assert(~(here & o.payload.last) | (ended > tick)),
            Assert(~(here & o.payload.last) | (((went + out)[:3] == came) & (o.payload.final == final))),
            Assert(~here | ((went + out)[:3] <= came)),
            Assert(~u.stopped & ~u.errors.any()),
        ]
        f.patient(m, o.valid, o.payload.as_value(), o.ready)
        f.within(m, ended > left, moves, 10)
