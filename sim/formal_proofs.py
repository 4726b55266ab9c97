"""The proofs by name, with the faults that each must find."""

from __future__ import annotations

from functools import partial

from apical.hw.axi_lite import RegisterFile
from apical.hw.axi_stream import Skid, Unpacker
from apical.hw.counters import Counter
from apical.hw.delay import Delay
from apical.hw.design import Lanes
from apical.hw.event_queue import EventQueue
from apical.hw.events import Fork
from apical.hw.kernel_gate import KernelGate
from apical.hw.uart import FrameWriter
from apical.sim import formal_axi as axi
from apical.sim import formal_links as links
from apical.sim import formal_units as units
from apical.sim.formal import Proof

PROOFS: dict[str, Proof] = {
    p.name: p
    for p in (
        Proof(
            "fork",
            Fork,
            "each of two readers takes each beat once, unchanged and in order; none waits for the other's patience",
            units.ForkHarness,
            "induction",
            8,
            (
                ("taken & ~taken.all().replicate(self.readers)", "taken"),
                ("out.valid.eq(self.i.valid & ~done[n])", "out.valid.eq(self.i.valid)"),
                ("self.i.ready.eq(taken.all())", "self.i.ready.eq(taken.any())"),
            ),
        ),
        Proof(
            "counter",
            Counter,
            "the total is the sum modulo 2^32; its top bit falls where it wraps and nowhere else, which is what "
            "raises the flag WRAPPED",
            units.CounterHarness,
            "induction",
            3,
            (
                ("self.total + held", "self.total + held[:2]"),
                ("held.eq(self.increment)", "held.eq(self.increment + 1)"),
            ),
        ),
        Proof(
            "skid",
            Skid,
            "words come out once, unchanged and in order, from the next cycle on",
            units.SkidHarness,
            "induction",
            10,
            (
                ("self.i.ready.eq(up & ~skid_valid)", "self.i.ready.eq(up)"),
                ("Mux(skid_valid, skid.as_value(), self.i.payload.as_value())", "self.i.payload.as_value()"),
            ),
        ),
        Proof(
            "event-queue",
            EventQueue,
            "spikes of two lanes: an event leaves once, in its tick; ticks end once and in order; events are counted; "
            "something leaves where a tick waits",
            units.QueueHarness,
            "bounded",
            15,
            (
                ("past.eq(takes & empty & wanted)", "past.eq(takes & wanted)"),
                ("wanted.eq(row_valid & (row.keep.any() | row.last))", "wanted.eq(row_valid & row.keep.any())"),
                ("s.keep.eq(rest)", "s.keep.eq(s.keep)"),
                ("advance.eq(~out_valid | self.events.ready)", "advance.eq(1)"),
                ("sent.eq(out_valid & self.events.ready)", "sent.eq(out_valid)"),
            ),
        ),
        Proof(
            "event-queue-graded",
            EventQueue,
            "the same of graded values, padding and two event lanes",
            partial(units.QueueHarness, size=5, lanes=Lanes(4, 4, 2), high=3),
            "bounded",
            14,
            (("out.values[i].eq(_any_of(picked))", "out.values[i].eq(picked[0])"), ("ends & s.final", "s.final")),
        ),
        Proof(
            "delay",
            Delay,
            "tick t of a sample is what went in as its tick t - 1, the first a bare end; nothing of the sample before",
            units.DelayHarness,
            "bounded",
            16,
            (
                ("dropping.eq(self.ticks - silent)", "dropping.eq(0)"),
                ("silent.eq(self.ticks), dropping", "silent.eq(0), dropping"),
                ("silent.eq(silent - 1)", "silent.eq(silent)"),
            ),
        ),
        Proof(
            "axi-lite",
            RegisterFile,
            "one answer for each access, patient; a legal write changes its bytes, an illegal one nothing and is an "
            "error; a read shows what is there",
            axi.RegistersHarness,
            "bounded",
            11,
            (
                ("has_address & has_data)", "has_address)"),
                ("m.d.comb += legal.eq(fits)", "m.d.comb += legal.eq(1)"),
                ("with m.If(fits):", "with m.If(1):"),
                ("bus.bresp.eq(Mux(bad, SLVERR, OKAY))", "bus.bresp.eq(OKAY)"),
                ("rdata.eq(value)", "rdata.eq(value + 1)"),
                ("with m.If(bus.rready):", "with m.If(1):"),
            ),
        ),
        Proof(
            "axi-stream",
            Unpacker,
            "of good words of two slots, with two lanes: each event leaves once, in its tick; each tick ends once; "
            "nothing stops",
            axi.UnpackerHarness,
            "bounded",
            11,
            (
                ("left.eq(left & ~group)", "left.eq(0)"),
                ("goes_on = goes & ~(left[j] & s.last)", "goes_on = goes"),
                ("room = room & (~here | (rank < port.lanes // port.classes))", "room = room"),
            ),
        ),
        Proof(
            "axi-stream-blocks",
            Unpacker,
            "the same with one lane, so that a word takes several cycles",
            partial(axi.UnpackerHarness, lanes=1, classes=1),
            "bounded",
            11,
            (
                ("m.d.sync += blocks.eq(following)", "m.d.sync += blocks.eq(blocks)"),
                ("chosen = Mux(blocks[b], pieces[b], chosen)", "chosen = pieces[b]"),
            ),
        ),
        Proof(
            "kernel-gate",
            KernelGate,
            "windows of two ticks, two channels: a decision is made, once, of all events of its window and no other; "
            "it stays until it is taken",
            links.GateHarness,
            "bounded",
            18,
            (
                ("write.data.eq(Mux(sweeping | deciding, 0, stored + value))", "write.data.eq(stored + value)"),
                ("(~head_valid | (ends & ~head.last))", "(~head_valid | ends)"),
                ("with m.Elif(self.take):", "with m.Elif(1):"),
            ),
        ),
        Proof(
            "frames",
            FrameWriter,
            "a frame of one byte: the parser takes out what the writer put in, and its checksum is good",
            partial(links.FrameHarness, size=1),
            "bounded",
            16,
            (
                ("((raw == FLAG) | (raw == ESCAPE)) & ~escape", "(raw == FLAG) & ~escape"),
                ("raw.eq(crc.crc[8:])", "raw.eq(crc.crc[:8])"),
                ("token.ready.eq(out.ready & ~wants)", "token.ready.eq(out.ready)"),
            ),
        ),
    )
}
