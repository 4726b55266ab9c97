"""AXI4-Stream out: event streams to words, and the register in front of the bus that outlives a soft reset."""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from apical.hw.axi_stream import Skid, WordLayout, slot_layout, without_lowest
from apical.hw.events import EventLayout
from apical.sw.axi_words import SlotFormat


class OutWord(data.StructLayout):  # type: ignore[misc]
    """A word that is complete: `last` ends its tick, `final` its sample."""

    def __init__(self, bits: int) -> None:
        super().__init__({"data": bits, "last": 1, "final": 1})


class Packer(wiring.Component):  # type: ignore[misc]
    """Event streams (`events0` …, one per output) to `words`: one event per cycle, a tick begins in a new word.

    An output that has closed a tick waits until all have; events of the same tick are taken from any of them, the
    lowest first. `busy`: something is on its way through.

    :param depths: beats that each output may be ahead of the others by, where a gate makes it (`apical.hw.lookahead`).
    """

    def __init__(self, slots: SlotFormat, layouts: list[EventLayout], depths: list[int]) -> None:
        self.slots, self.layouts, self.depths = slots, layouts, depths
        super().__init__(
            {
                **{f"events{o}": In(stream.Signature(layout)) for o, layout in enumerate(layouts)},
                "words": Out(stream.Signature(OutWord(slots.data_bits))),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.slot = skid = Skid(slot_layout(self.slots))
        takes = Signal()
        offers = [self._offer(m, o, layout) for o, layout in enumerate(self.layouts)]
        closed = Signal(len(self.layouts))
        chosen: Value = Const(0, 1)  # an output before this one
        picked: list[Value] = []
        for o, (valid, _, _, _, _) in enumerate(offers):
            here = valid & ~closed[o]
            picked.append(here & ~chosen)
            chosen = chosen | here
        ends = Signal()
        event, final = Signal(), Signal()
        body: Value = Const(0, 1)
        for o, (_, has, piece, over, ended) in enumerate(offers):
            others = (closed | (1 << o)).all()
            with m.If(picked[o]):
                m.d.comb += [event.eq(has), ends.eq(ended & others), final.eq(ended & others & over)]
                with m.If(takes & ended):
                    m.d.sync += closed.eq(Mux(others, 0, closed | (1 << o)))
            body = body | Mux(picked[o] & has, piece, 0)
        given = skid.i.payload
        m.d.comb += [takes.eq(chosen & skid.i.ready), skid.i.valid.eq(chosen & (event | ends)), given.eq(body)]
        m.d.comb += [given.event.eq(event), given.last.eq(ends), given.final.eq(final)]
        for o, pick in enumerate(picked):
            m.d.comb += self._moves[o].eq(takes & pick)
        m.d.comb += skid.o.ready.eq(self._words(m, skid.o.payload, skid.o.valid))
        holding = Cat(*(valid for valid, *_ in offers), *self._queued).any()
        m.d.comb += self.busy.eq(holding | skid.o.valid | self._filled)
        return m

    def _queue(self, m: Module, o: int, layout: EventLayout) -> wiring.PureInterface:
        """An output's stream behind its queue, or two beats that cut `ready` from the datapath's."""
        events = wiring.flipped(getattr(self, f"events{o}"))
        if o == 0:
            self._queued: list[Value] = []
        if not self.depths[o]:
            m.submodules[f"skid{o}"] = skid = Skid(layout)
            wiring.connect(m, events, skid.i)
            self._queued.append(skid.o.valid)
            return skid.o
        m.submodules[f"queue{o}"] = fifo = SyncFIFOBuffered(width=layout.size, depth=self.depths[o])
        out = stream.Signature(layout).create()
        m.d.comb += [
            fifo.w_data.eq(events.payload),
            fifo.w_en.eq(events.valid),
            events.ready.eq(fifo.w_rdy),
            out.payload.eq(fifo.r_data),
            out.valid.eq(fifo.r_rdy),
            fifo.r_en.eq(out.ready),
        ]
        self._queued.append(fifo.level != 0)
        return out

    def _offer(self, m: Module, o: int, layout: EventLayout) -> tuple[Value, Value, Value, Value, Value]:
        """A beat of one output, event by event: valid, has an event, the slot, ends a sample, this ends the tick."""
        port, events = self.slots.ports[o], self._queue(m, o, layout)
        beat, left, valid = Signal(layout, name=f"beat{o}", reset_less=True), Signal(layout.lanes), Signal()
        moves = Signal(name=f"moves{o}")
        if o == 0:
            self._moves: list[Signal] = []
        self._moves.append(moves)
        rest = without_lowest(left)
        done = ~rest.any()
        m.d.comb += events.ready.eq(~valid | (moves & done))
        with m.If(events.ready):
            m.d.sync += [valid.eq(events.valid), beat.eq(events.payload), left.eq(events.payload.keep)]
        with m.Elif(moves):
            m.d.sync += left.eq(rest)
        class_bits = (port.classes - 1).bit_length()
        piece: Value = Const(0, 1)
        before: Value = Const(0, 1)
        for e in range(layout.lanes):
            index = Cat(Const(e % port.classes, class_bits), beat.rows[e])[: self.slots.index_bits]
            parts = [_wide(index, self.slots.index_bits)]
            value = Const(1, 1) if layout.binary else beat["values"][e]
            parts.append(_wide(value, self.slots.field_bits) if self.slots.graded else Const(0, self.slots.field_bits))
            parts.append(Const(o, self.slots.port_bits))
            piece = piece | Mux(left[e] & ~before, Cat(parts), 0)
            before = before | left[e]
        return valid, left.any(), piece, beat.final, beat.last & done

    def _words(self, m: Module, slot: data.View, valid: Value) -> Value:
        """Slots into words; returns whether a slot that is there goes on."""
        count, width = self.slots.slots, self.slots.slot_bits
        parts = Signal(data.ArrayLayout(width, count), reset_less=True)
        at = Signal(range(max(count, 2)))
        self._filled = at != 0
        out, complete = self.words, slot.last | (at == count - 1)
        goes = valid & (~complete | out.ready)
        word = [Mux(at == n, slot.as_value(), Mux(at > n, parts[n], 0)) for n in range(count)]
        m.d.comb += [
            out.valid.eq(valid & complete),
            out.payload.data.eq(Cat(word)),
            out.payload.last.eq(slot.last),
            out.payload.final.eq(slot.final),
        ]
        with m.If(goes):
            m.d.sync += at.eq(Mux(complete, 0, at + 1))
            for n in range(count):
                with m.If(at == n):
                    m.d.sync += parts[n].eq(slot)
        return goes


def _wide(value: Value, width: int) -> Value:
    """Extended by its sign where it has one."""
    value = Value.cast(value)
    if len(value) >= width:
        return value[:width]
    fill = value[-1].replicate(width - len(value)) if value.shape().signed else Const(0, width - len(value))
    return Cat(value, fill)


class OutputGate(wiring.Component):  # type: ignore[misc]
    """The word on the bus. It stays until taken, soft reset or not; a packet that a soft reset cuts gets an end.

    `resetting`: the soft reset is on; `ticks`: packets end with ticks; `taken`: a sample's last word was taken; `busy`:
    a word waits, or the end of a packet that was cut is to come.
    """

    def __init__(self, slots: SlotFormat) -> None:
        self.slots = slots
        super().__init__(
            {
                "words": In(stream.Signature(OutWord(slots.data_bits))),
                "bus": Out(stream.Signature(WordLayout(slots.data_bits))),
                "resetting": In(1),
                "ticks": In(1),
                "taken": Out(1),
                "busy": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, word, final = Signal(), Signal(WordLayout(self.slots.data_bits)), Signal()
        inside, cut, free = Signal(), Signal(), Signal()
        given, ends = self.words.payload, Signal()
        m.d.comb += [
            self.bus.valid.eq(valid),
            self.bus.payload.eq(word),
            self.bus.payload.keep.eq(-1),
            free.eq(~valid | self.bus.ready),
            self.words.ready.eq(free & ~cut & ~self.resetting),
            self.busy.eq(valid | cut),
            ends.eq(given.final | (self.ticks & given.last)),
            self.taken.eq(valid & self.bus.ready & final & ~self.resetting),
        ]
        with m.If(self.resetting):
            m.d.sync += [final.eq(0), cut.eq(inside)]
        with m.If(free):
            m.d.sync += valid.eq(0)
            with m.If(cut & ~self.resetting):
                m.d.sync += [valid.eq(1), cut.eq(0), inside.eq(0)]
                m.d.sync += [word.data.eq(self.slots.final), word.last.eq(1), word.user.eq(0), final.eq(0)]
            with m.Elif(self.words.valid & self.words.ready):
                m.d.sync += [valid.eq(1), inside.eq(~ends), final.eq(given.final)]
                m.d.sync += [word.data.eq(given.data), word.last.eq(ends), word.user.eq(given.last)]
        return m
