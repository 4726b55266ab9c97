"""AXI4-Stream in: words to event streams. A word is checked as a whole, then taken apart block by block.

Stages: two words in front (a skid: TREADY is a register's), the checked word, a block of as many slots as a cycle can
use, the beats. A block gives, each cycle, the longest run of its slots that fits the event lanes of one beat and
doesn't pass a tick's end; with one input a full beat can leave in every cycle. With several inputs the last beat of
each waits for the next one or for the tick's end, so that the end costs no beat of its own.
"""

from __future__ import annotations

from amaranth.hdl import Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.axi_lite import any_of
from apical.hw.events import EventLayout
from apical.sw.axi_words import LABEL, Port, SlotFormat

STREAM_ERRORS = ("MALFORMED", "INDEX", "VALUE", "FRAMING")


class WordLayout(data.StructLayout):  # type: ignore[misc]
    """A word on AXI4-Stream."""

    def __init__(self, bits: int) -> None:
        super().__init__({"data": bits, "keep": bits // 8, "last": 1, "user": 1})


class Skid(wiring.Component):  # type: ignore[misc]
    """Two words (or beats) of buffer that cut `ready`: it depends on registers alone. Latency 1, one per cycle."""

    def __init__(self, shape: data.Layout) -> None:
        super().__init__({"i": In(stream.Signature(shape)), "o": Out(stream.Signature(shape))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        front, front_valid = Signal(self.i.payload.shape(), reset_less=True), Signal()
        skid, skid_valid, up = Signal(self.i.payload.shape(), reset_less=True), Signal(), Signal()
        moves = self.i.valid & self.i.ready
        m.d.sync += up.eq(1)
        m.d.comb += [
            self.i.ready.eq(up & ~skid_valid),
            self.o.valid.eq(front_valid),
            self.o.payload.eq(front),
        ]
        with m.If(self.o.ready | ~front_valid):
            m.d.sync += [front_valid.eq(skid_valid | moves), skid_valid.eq(0)]
            m.d.sync += front.eq(Mux(skid_valid, skid.as_value(), self.i.payload.as_value()))
        with m.Elif(moves):
            m.d.sync += [skid.eq(self.i.payload), skid_valid.eq(1)]
        return m


def without_lowest(bits: Value) -> Value:
    """The bits without the lowest that is set; few bits, so no carry chain."""
    return Cat(Const(0, 1), *(bits[i] & bits[:i].any() for i in range(1, len(bits))))


def slot_layout(slots: SlotFormat) -> data.StructLayout:
    """A slot, lowest bits first."""
    return data.StructLayout(
        {
            "index": slots.index_bits,
            "field": slots.field_bits,
            "port": slots.port_bits,
            "final": 1,
            "last": 1,
            "event": 1,
        }
    )


class Unpacker(wiring.Component):  # type: ignore[misc]
    """Words (`words`) to event streams (`events0` …, one per input).

    Controls: `enable`, `flush`, `by_user`, `by_last` as in docs/reference/axi.md; `hold`: no sample may begin. Status:
    `errors`, raised for a cycle each; `stopped`, from then on; `middle`: a sample has begun and not ended; `ended`: a
    sample's end goes into the datapath in this cycle. `label` comes with `labelled`, for a cycle.
    """

    def __init__(self, slots: SlotFormat, layouts: list[EventLayout]) -> None:
        self.slots, self.layouts = slots, layouts
        self.learns = slots.ports[-1].name == LABEL and len(slots.ports) > len(layouts)
        label = slots.ports[-1].size if self.learns else 2
        super().__init__(
            {
                "words": In(stream.Signature(WordLayout(slots.data_bits))),
                **{f"events{i}": Out(stream.Signature(layout)) for i, layout in enumerate(layouts)},
                **{name: In(1) for name in ("enable", "flush", "by_user", "by_last", "hold")},
                "errors": Out(len(STREAM_ERRORS)),
                "stopped": Out(1),
                "middle": Out(1),
                "ended": Out(1),
                "label": Out(range(label)),
                "labelled": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.skid = skid = Skid(self.words.payload.shape())
        wiring.connect(m, wiring.flipped(self.words), skid.i)
        count, size = self.slots.slots, self.slots.block
        layout = slot_layout(self.slots)
        word = Signal(data.ArrayLayout(layout, count), reset_less=True)
        blocks = Signal(count // size)  # of the word that are still to be taken
        bad = Signal(len(STREAM_ERRORS))
        checked, wrong = self._check(m, skid.o)
        block, left = Signal(data.ArrayLayout(layout, size), reset_less=True), Signal(size)
        group, takes = Signal(size), Signal()
        block_moves, word_moves, drops = Signal(), Signal(), Signal()
        following = without_lowest(blocks)
        m.d.comb += [
            drops.eq(self.stopped | self.flush),
            block_moves.eq((left & ~Mux(takes, group, 0)) == 0),
            word_moves.eq(~following.any() & (block_moves | ~blocks.any()) & ~bad.any()),
            skid.o.ready.eq(word_moves | drops),
            self.errors.eq(bad),
        ]
        # The word: a bad one is dropped a cycle later, and everything after it.
        m.d.sync += bad.eq(0)
        some = [Cat(checked[b * size + j][flag] for j in range(size) for flag in ("event", "last")).any()
                for b in range(count // size)]  # fmt: skip
        with m.If(bad.any()):
            m.d.sync += [self.stopped.eq(1), blocks.eq(0)]
        with m.Elif(word_moves):
            m.d.sync += [word.eq(Cat(c.as_value() for c in checked)), blocks.eq(0)]
            with m.If(skid.o.valid & ~drops):
                m.d.sync += [blocks.eq(Cat(some)), bad.eq(wrong)]
        with m.Elif(block_moves):
            m.d.sync += blocks.eq(following)
        # The block: the lowest that is left.
        pieces = [Cat(word[b * size + j].as_value() for j in range(size)) for b in range(count // size)]
        chosen: Value = pieces[-1]
        for b in reversed(range(len(pieces) - 1)):
            chosen = Mux(blocks[b], pieces[b], chosen)
        piece = data.View(data.ArrayLayout(layout, size), chosen)
        same = {(i, j): Signal(name=f"same{i}_{j}", reset_less=True) for j in range(size) for i in range(j)}
        with m.If(block_moves):
            good = blocks.any() & ~bad.any()
            m.d.sync += [block.eq(piece), left.eq(Mux(good, Cat(s.event | s.last for s in piece), 0))]
            m.d.sync += [s.eq(self._same(piece[i], piece[j])) for (i, j), s in same.items()]
        with m.Elif(takes):
            m.d.sync += left.eq(left & ~group)
        with m.If(self.flush):
            m.d.sync += [blocks.eq(0), left.eq(0)]
        ranks = self._group(m, block, left, same, group)
        self._beats(m, block, group, ranks, left.any(), takes)
        return m

    # What a word must be.

    def _check(self, m: Module, source: wiring.PureInterface) -> tuple[list[data.View], Value]:
        """The slots of the word in front, with what TUSER and TLAST add; and its errors."""
        count, layout, given = self.slots.slots, slot_layout(self.slots), source.payload
        width, size = self.slots.slot_bits, self.slots.slot_bits // 8
        raw, real, cut = [], [], []
        for j in range(count):
            keep = given.keep[j * size : (j + 1) * size]
            raw.append(data.View(layout, Mux(keep.all(), given.data[j * width : (j + 1) * width], 0)))
            real.append(raw[-1].event | raw[-1].last | raw[-1].final)
            cut.append(keep.any() & ~keep.all())
        tick_open, none = Signal(), Signal()
        m.d.comb += none.eq(~Cat(real).any())
        ends_tick = (self.by_user & given.user) | (self.by_last & given.last)
        ends_sample = self.by_last & given.last
        out, at_odds, closed = [], Const(0, 1), none & ~tick_open
        for j in range(count):
            latest = (real[j] & ~Cat(real[j + 1 :]).any()) | (none if j == count - 1 else Const(0, 1))
            s = Signal(layout, name=f"slot{j}")
            m.d.comb += s.eq(raw[j])
            m.d.comb += s.last.eq(raw[j].last | (latest & ends_tick))
            m.d.comb += s.final.eq(raw[j].final | (latest & ends_sample))
            out.append(s)
            at_odds = at_odds | (s.final & ~s.last)
            at_odds = at_odds | (self.by_user & raw[j].last & ~(latest & ends_tick))
            at_odds = at_odds | (self.by_last & raw[j].final & ~(latest & given.last))
            closed = closed | (latest & s.last)
        with m.If(source.valid & source.ready & ~self.stopped & ~self.flush):
            m.d.sync += tick_open.eq(~closed)
        wrong = [self._slot_errors(raw[j], cut[j]) for j in range(count)]
        kinds = [Cat(w[k] for w in wrong).any() for k in range(3)]
        return out, Cat(*kinds, at_odds | (given.last & ~closed))

    def _slot_errors(self, s: data.View, cut: Value) -> tuple[Value, Value, Value]:
        """Malformed, index, value."""
        slots = self.slots
        known: Value = Const(1, 1)
        if len(slots.ports) < 1 << slots.port_bits:
            known = s.port < len(slots.ports)
        malformed = cut | (~s.event & Cat(s.index, s.field, s.port).any()) | (s.event & ~known)
        if not slots.graded and slots.field_bits:
            malformed = malformed | s.field.any()
        index, value = Const(0, 1), Const(0, 1)
        for n, port in enumerate(slots.ports):
            here = s.event & ((s.port == n) if slots.port_bits else Const(1, 1))
            index = index | (here & self._beyond(port, s.index))
            if slots.graded:
                value = value | (here & ~self._fits(port, s.field))
        return malformed, index, value

    @staticmethod
    def _beyond(port: Port, index: Value) -> Value:
        """Is there no such source?"""
        if port.shape is None:
            return index >= port.size
        channel, column, row = port.coordinate_bits
        channels, height, width = port.shape
        parts = ((0, channel, channels), (channel, column, width), (channel + column, row, height))
        out = index[port.index_bits :].any() if len(index) > port.index_bits else Const(0, 1)
        for low, bits, most in parts:
            if most < 1 << bits:
                out = out | (index[low : low + bits] >= most)
        return out

    @staticmethod
    def _fits(port: Port, field: Value) -> Value:
        """Is it a value that the port's format holds, and not 0?"""
        if port.binary:
            return field == 1
        upper = Cat(field[port.value_bits - int(port.signed) :], Const(0, int(not port.signed)))
        return (~upper.any() | (upper.all() & port.signed)) & field.any()

    # Which slots go together.

    @staticmethod
    def _class(port: Port, index: Value) -> Value:
        return index[: (port.classes - 1).bit_length()] if port.classes > 1 else Const(0, 1)

    def _same(self, a: data.View, b: data.View) -> Value:
        """Two events that need lanes of the same class."""
        out: Value = Const(0, 1)
        for n, port in enumerate(self.slots.ports):
            here = (a.port == n) & (b.port == n) if self.slots.port_bits else Const(1, 1)
            out = out | (here & (self._class(port, a.index) == self._class(port, b.index)))
        return out & a.event & b.event

    def _group(
        self, m: Module, block: data.View, left: Signal, same: dict[tuple[int, int], Signal], group: Signal
    ) -> list[Value]:
        """The slots of this cycle; returns how many before each one need its class."""
        ranks: list[Value] = []
        goes_on: Value = Const(1, 1)
        for j in range(self.slots.block):
            s = block[j]
            rank = Signal(range(max(j + 1, 2)), name=f"rank{j}")
            m.d.comb += rank.eq(sum((left[i] & same[i, j] for i in range(j)), Const(0, 1)))
            ranks.append(rank)
            room: Value = Const(1, 1)
            for n, port in enumerate(self.slots.ports):
                here = (s.port == n) if self.slots.port_bits else Const(1, 1)
                room = room & (~here | (rank < port.lanes // port.classes))
            goes = Signal(name=f"goes{j}")
            m.d.comb += goes.eq(goes_on & (~left[j] | ~s.event | room))
            m.d.comb += group[j].eq(left[j] & goes)
            goes_on = goes & ~(left[j] & s.last)
        return ranks

    # Beats.

    def _beats(
        self, m: Module, block: data.View, group: Signal, ranks: list[Value], some: Value, takes: Signal
    ) -> None:
        ends, final, free = Signal(), Signal(), Signal()
        m.d.comb += [
            ends.eq(Cat(group[j] & s.last for j, s in enumerate(block)).any()),
            final.eq(Cat(group[j] & s.final for j, s in enumerate(block)).any()),
        ]
        waits: list[Value] = []
        self._held: list[tuple[Signal, Signal]] = []
        for i, layout in enumerate(self.layouts):
            waits.append(self._beat(m, i, layout, block, group, ranks, ends, final, takes))
        if self.learns:
            labels = [group[j] & s.event & self._is_label(s) for j, s in enumerate(block)]
            number = len(self.layouts)
            outs = [getattr(self, f"events{i}") for i in range(number)]
            # A sample's last beats take the label along; the next one waits for them.
            ending = [o.valid & o.payload.final & ~o.ready for o in outs]
            ending += [valid & held.final for valid, held in self._held[: number if number > 1 else 0]]
            m.d.comb += self.labelled.eq(takes & Cat(labels).any())
            for own, s in zip(labels, block, strict=True):
                with m.If(own):
                    m.d.comb += self.label.eq(s.index)
            m.d.comb += free.eq(~Cat(waits).any() & ~(Cat(labels).any() & Cat(ending).any()))
        else:
            m.d.comb += free.eq(~Cat(waits).any())
        m.d.comb += takes.eq(some & free & self.enable & ~self.flush & (~self.hold | self.middle))
        m.d.comb += self.ended.eq(takes & final)
        events = Cat(group[j] & s.event & ~self._is_label(s) for j, s in enumerate(block)).any()
        with m.If(takes & (events | ends)):
            m.d.sync += self.middle.eq(~final)

    def _is_label(self, s: data.View) -> Value:
        return s.port == len(self.layouts) if self.learns else Const(0, 1)

    def _beat(
        self,
        m: Module,
        i: int,
        layout: EventLayout,
        block: data.View,
        group: Signal,
        ranks: list[Value],
        ends: Signal,
        final: Signal,
        takes: Signal,
    ) -> Value:
        """The beat of one input; returns whether the group must wait for it."""
        port, out = self.slots.ports[i], getattr(self, f"events{i}")
        class_bits = (port.classes - 1).bit_length()
        beat = Signal(layout, name=f"beat{i}")
        for e in range(layout.lanes):
            chosen = []
            for j, s in enumerate(block):
                here = group[j] & s.event & ((s.port == i) if self.slots.port_bits else Const(1, 1))
                chosen.append(here & (self._class(port, s.index) == e % port.classes) & (ranks[j] == e // port.classes))
            m.d.comb += beat.keep[e].eq(Cat(chosen).any())
            rows = [Mux(c, s.index[class_bits : port.index_bits], 0) for c, s in zip(chosen, block, strict=True)]
            m.d.comb += beat.rows[e].eq(any_of(rows))
            if not layout.binary:
                values = [Mux(c, s.field[: port.value_bits], 0) for c, s in zip(chosen, block, strict=True)]
                m.d.comb += beat["values"][e].eq(any_of(values))
        m.d.comb += [beat.last.eq(ends), beat.final.eq(final)]
        has, needed = beat.keep.any(), Signal(name=f"needed{i}")
        held, held_valid = Signal(layout, name=f"held{i}", reset_less=True), Signal(name=f"held_valid{i}")
        goes = Signal(name=f"goes_on{i}")
        self._held.append((held_valid, held))
        if len(self.layouts) == 1:
            m.d.comb += [out.valid.eq(held_valid), out.payload.eq(held), needed.eq(has | ends)]
            m.d.comb += goes.eq(out.ready)
        else:
            sent, sent_valid = Signal(layout, name=f"sent{i}", reset_less=True), Signal(name=f"sent_valid{i}")
            m.d.comb += [out.valid.eq(sent_valid), out.payload.eq(sent)]
            m.d.comb += needed.eq(has | (ends & held_valid & held.last))
            m.d.comb += goes.eq((~sent_valid | out.ready) & (held.last | (takes & has)))
            with m.If(out.ready):
                m.d.sync += sent_valid.eq(0)
            with m.If(goes & held_valid):
                m.d.sync += [sent.eq(held), sent_valid.eq(1)]
            with m.If(takes & ends & ~has & held_valid & ~held.last):
                m.d.sync += [held.last.eq(1), held.final.eq(final)]
        bare = Const(1, 1) if len(self.layouts) == 1 else ~held_valid | held.last
        with m.If(takes & (has | (ends & bare))):
            m.d.sync += [held.eq(beat), held_valid.eq(1)]
        with m.Elif(goes):
            m.d.sync += held_valid.eq(0)
        # With several inputs `goes` needs `takes`, so what it waits for is the register behind.
        room = out.ready if len(self.layouts) == 1 else ~out.valid | out.ready
        return needed & held_valid & ~room
