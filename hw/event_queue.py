"""From rows of law results to an event stream: a queue of non-zero rows and a scanner.

Rows without a value are dropped as they come (a tick's last row is kept: it carries the end-of-tick). A row that finds
the queue empty and the scanner free goes past the queue. The scanner sends, each cycle, the lowest waiting neuron of
every residue class modulo E. The producer must own credits: `room` says that a whole tick's rows fit; it lowers the
credits with `reserve`. There is room for two ticks: one leaves while the next one's rows come. A map's queue is a block
RAM where it is deep; rows then don't go past it.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from apical.hw.arithmetic import shape_of
from apical.hw.events import EventLayout
from apical.hw.neuron_array import NeuronArray
from apical.sw.geometry import Shape, map_bits

DEEP = 256  # rows of a map's queue above which it is a block RAM


class EventQueue(wiring.Component):  # type: ignore[misc]
    """Queue and scanner of one population.

    Ports: `push` with `last`, `final`, `values`: one row of results, never refused; `ahead`: the row that comes
    next; `room`, `reserve`: credits; `events`: the stream out; `count`: events sent in this cycle (for the counter). Of
    a gated population also `block`, of the row that is pushed, and `reserved`, the rows that `reserve` takes.
    A row's first beat is offered `latency` cycles after its push; throughput: one beat per cycle.
    """

    def __init__(self, neurons: NeuronArray, layout: EventLayout) -> None:
        self.layout, self.rows, self.lanes = layout, neurons.rows, neurons.lanes
        self.value_shape = shape_of(neurons.value_interval)
        self.first_row = [int(row[0]) // layout.lanes for row in neurons.neuron_of]
        self.order, self.gated = neurons.order, neurons.switch is not None
        self.depth = 2 * self.rows
        super().__init__(
            {
                "push": In(1),
                "ahead": In(range(max(self.rows, 2))),
                "last": In(1),
                "final": In(1),
                "values": In(data.ArrayLayout(self.value_shape, self.lanes.neuron)),
                "room": Out(1),
                "reserve": In(1),
                "events": Out(stream.Signature(layout)),
                "count": Out(range(layout.lanes + 1)),
                **(
                    {"block": In(neurons.out_block.shape()), "reserved": In(range(self.rows + 1))} if self.gated else {}
                ),
            }
        )

    @property
    def latency(self) -> int:
        """Cycles through an empty queue: graded values are compared with zero in one of their own."""
        return (2 if self.layout.binary else 3) + 2 * self.deep

    @property
    def deep(self) -> bool:
        """Is the queue a block RAM?"""
        return self.layout.shape is not None and self.depth > DEEP

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n, layout = self.lanes.neuron, self.layout
        entry = data.StructLayout(
            {
                "keep": n,
                "base": layout.row_bits,
                "last": 1,
                "final": 1,
                "values": data.ArrayLayout(layout.value_shape, 0 if layout.binary else n),
            }
        )
        # The row with its keep mask, and whether anything of it is to be sent.
        row, row_valid, wanted = Signal(entry, reset_less=True), Signal(), Signal()
        base = Signal(layout.row_bits, reset_less=True)
        if layout.shape is None:
            bases = Array(Const(max(b, 0), layout.row_bits) for b in self.first_row)
            m.d.sync += base.eq(bases[self.ahead] if self.rows > 1 else bases[0])
        else:
            m.d.comb += base.eq(self._coordinates(m, layout.shape))
        made = [row_valid.eq(self.push), row.keep.eq(Cat(v.any() for v in self.values)), row.base.eq(base)]
        made += [row.last.eq(self.last), row.final.eq(self.final)]
        if layout.binary:
            m.d.comb += made
        else:
            m.d.sync += [*made, *(row.values[j].eq(self.values[j]) for j in range(n))]
        m.d.comb += wanted.eq(row_valid & (row.keep.any() | row.last))

        if self.deep:
            takes, pop = Signal(), Signal()
            m.submodules.store = fifo = SyncFIFOBuffered(width=entry.size, depth=self.depth)
            m.d.comb += [fifo.w_data.eq(row), fifo.w_en.eq(wanted), fifo.r_en.eq(takes), pop.eq(takes & fifo.r_rdy)]
            self._credit(m, row_valid & ~wanted, pop)
            self._scan(m, data.View(entry, fifo.r_data), pop, takes, entry)
            return m
        width = entry.size
        size = 1 << max(1, (self.depth - 1).bit_length())
        store = memory.Memory(shape=unsigned(width), depth=size, init=[], attrs={"ram_style": "distributed"})
        m.submodules.store = store
        read, write = store.read_port(domain="comb"), store.write_port()
        head, tail = Signal(range(2 * size)), Signal(range(2 * size))  # one bit more than the address
        empty, takes, past, pop = Signal(), Signal(), Signal(), Signal()
        m.d.comb += [
            empty.eq(head == tail),
            past.eq(takes & empty & wanted),
            pop.eq(takes & ~empty),
            write.addr.eq(tail[:-1]),
            write.data.eq(row),
            write.en.eq(wanted & ~past),
            read.addr.eq(head[:-1]),
        ]
        m.d.sync += [tail.eq(tail + write.en), head.eq(head + pop)]

        self._credit(m, row_valid & (~wanted | past), pop)
        front = data.View(entry, Mux(empty, row.as_value(), read.data))
        self._scan(m, front, pop | past, takes, entry)
        return m

    def _credit(self, m: Module, unused: Value, pop: Value) -> None:
        """Credits: rows that may still come. A row gives its credit back when it is dropped, goes past or is popped."""
        free = Signal(range(self.depth + 1), init=self.depth)
        spared = Signal()
        m.d.comb += [spared.eq(unused), self.room.eq(free >= self.rows)]
        m.d.sync += free.eq(free + spared + pop - Mux(self.reserve, self.reserved if self.gated else self.rows, 0))

    def _coordinates(self, m: Module, shape: Shape) -> Value:
        """Base of the row that is pushed: through the columns and rows of one block of channels, then of the next."""
        _, height, width = shape
        lanes = self.order.lanes
        channel_bits, column_bits, row_bits = map_bits(shape, self.layout.classes)
        x, y = Signal(range(max(width, 2))), Signal(range(max(height, 2)))
        blocks = self.rows // self.order.positions
        block = Signal(range(max(blocks, 2)))
        with m.If(self.push):
            m.d.sync += x.eq(x + 1)
            with m.If(x == width - 1):
                m.d.sync += [x.eq(0), y.eq(y + 1)]
                with m.If(y == height - 1):
                    m.d.sync += [y.eq(0), block.eq(block + 1)]
                    with m.If(block == blocks - 1):
                        m.d.sync += block.eq(0)
        words = self.order.channel_words
        firsts = [(b % words) * lanes.synapse + (b // words) * lanes.neuron for b in range(blocks)]
        wide = max(channel_bits - (self.layout.classes - 1).bit_length(), 0)
        channels = Array(Const((c // self.layout.classes) % (1 << wide), max(wide, 1)) for c in firsts)
        channel = channels[self.block if self.gated else block] if blocks > 1 else channels[0]
        return Cat(channel[:wide], x[:column_bits], y[:row_bits])

    def _scan(self, m: Module, front: data.View, load: Value, takes: Signal, entry: data.StructLayout) -> None:
        n, e, layout = self.lanes.neuron, self.layout.lanes, self.layout
        s_valid, s = Signal(), Signal(entry, reset_less=True)
        advance, rest = Signal(), Signal(n)
        out_valid, out = Signal(), Signal(layout, reset_less=True)
        m.d.comb += [
            advance.eq(~out_valid | self.events.ready),
            self.events.valid.eq(out_valid),
            self.events.payload.eq(out),
            takes.eq(~s_valid | (advance & ~rest.any())),
        ]
        rest_bits = [Const(0, 1)] * n
        with m.If(advance):
            ends = s.last & ~rest.any()
            m.d.sync += [out_valid.eq(s_valid), out.last.eq(ends), out.final.eq(ends & s.final)]
        for i in range(e):
            waiting = [s.keep[j] for j in range(i, n, e)]
            chosen, before = [], Const(0, 1)
            for bit in waiting:
                chosen.append(bit & ~before)
                before = before | bit
            for c, j, bit in zip(chosen, range(i, n, e), waiting, strict=True):
                rest_bits[j] = bit & ~c
            offset = _encode(chosen)
            with m.If(advance):
                m.d.sync += [out.keep[i].eq(before), out.rows[i].eq(s.base + offset)]
                if not layout.binary:
                    picked = [Mux(c, s.values[j], 0) for c, j in zip(chosen, range(i, n, e), strict=True)]
                    m.d.sync += out.values[i].eq(_any_of(picked))
        m.d.comb += rest.eq(Cat(rest_bits))
        with m.If(load):
            m.d.sync += [s_valid.eq(1), s.eq(front)]
        with m.Elif(advance):
            m.d.sync += [s_valid.eq(s_valid & rest.any()), s.keep.eq(rest)]
        sent = Signal()
        m.d.comb += sent.eq(out_valid & self.events.ready)
        m.d.sync += self.count.eq(Mux(sent, sum(out.keep[i] for i in range(e)), 0))


def _encode(one_hot: list) -> Cat:  # type: ignore[type-arg]
    """Index of the set bit."""
    bits = max(1, (len(one_hot) - 1).bit_length())
    return Cat(Cat(b for j, b in enumerate(one_hot) if j >> bit & 1).any() for bit in range(bits))


def _any_of(values: list) -> Cat:  # type: ignore[type-arg]
    """Bitwise or of values of which at most one isn't zero."""
    width = max(len(v) for v in values)
    return Cat(Cat(v[b] if b < len(v) else v[-1] for v in values).any() for b in range(width))
