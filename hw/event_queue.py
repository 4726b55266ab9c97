"""From rows of law results to an event stream: a queue of non-zero rows and a scanner.

Rows without a value are dropped as they come (a tick's last row is kept: it carries the end-of-tick). The scanner
sends, each cycle, the lowest waiting neuron of every residue class modulo E. The producer must own credits:
`room` says that a whole tick's rows fit; it lowers the credits with `reserve`.
"""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.arithmetic import shape_of
from apical.hw.events import EventLayout
from apical.hw.neuron_array import NeuronArray


class EventQueue(wiring.Component):  # type: ignore[misc]
    """Queue and scanner of one population.

    Ports: `push` with `row`, `last`, `final`, `values`: one row of results, never refused; `room`, `reserve`:
    credits; `events`: the stream out; `counted`: events sent in this cycle (for the counter). Latency of a row: 4
    cycles; throughput: one beat per cycle.
    """

    def __init__(self, neurons: NeuronArray, layout: EventLayout) -> None:
        self.layout, self.rows, self.lanes = layout, neurons.rows, neurons.lanes
        self.value_shape = shape_of(neurons.value_interval)
        self.first_row = [int(row[0]) // layout.lanes for row in neurons.neuron_of]
        self.depth = 2 * self.rows
        super().__init__(
            {
                "push": In(1),
                "row": In(range(max(self.rows, 2))),
                "last": In(1),
                "final": In(1),
                "values": In(data.ArrayLayout(self.value_shape, self.lanes.neuron)),
                "room": Out(1),
                "reserve": In(1),
                "events": Out(stream.Signature(layout)),
                "count": Out(range(layout.lanes + 1)),
            }
        )

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
        # Stage q: the row with its keep mask; stage w: decide whether to write it.
        q, q_valid, q_write = Signal(entry, reset_less=True), Signal(), Signal()
        bases = Array(Const(max(b, 0), layout.row_bits) for b in self.first_row)
        m.d.sync += [
            q_valid.eq(self.push),
            q.keep.eq(Cat(v.any() for v in self.values)),
            q.base.eq(bases[self.row] if self.rows > 1 else bases[0]),
            q.last.eq(self.last),
            q.final.eq(self.final),
        ]
        if not layout.binary:
            m.d.sync += [q.values[j].eq(self.values[j]) for j in range(n)]
        m.d.comb += q_write.eq(q_valid & (q.keep.any() | q.last))

        width = entry.size
        size = 1 << max(1, (self.depth - 1).bit_length())
        store = memory.Memory(shape=unsigned(width), depth=size, init=[], attrs={"ram_style": "distributed"})
        m.submodules.store = store
        read, write = store.read_port(domain="comb"), store.write_port()
        head, tail = Signal(range(2 * size)), Signal(range(2 * size))  # one bit more than the address
        pop = Signal()
        not_empty = Signal()
        m.d.comb += [
            write.addr.eq(tail[:-1]),
            write.data.eq(q),
            write.en.eq(q_write),
            read.addr.eq(head[:-1]),
            not_empty.eq(head != tail),
        ]
        m.d.sync += [tail.eq(tail + q_write), head.eq(head + pop)]

        # Credits: rows that may still come. A dropped row gives its credit back at once, a stored one when popped.
        free = Signal(range(self.depth + 1), init=self.depth)
        dropped = Signal()
        m.d.comb += [dropped.eq(q_valid & ~q_write), self.room.eq(free >= self.rows)]
        m.d.sync += free.eq(free + dropped + pop - Mux(self.reserve, self.rows, 0))
        self._scan(m, data.View(entry, read.data), not_empty, pop, entry)
        return m

    def _scan(self, m: Module, front: data.View, not_empty: Signal, pop: Signal, entry: data.StructLayout) -> None:
        n, e, layout = self.lanes.neuron, self.layout.lanes, self.layout
        s_valid, s = Signal(), Signal(entry, reset_less=True)
        advance, rest = Signal(), Signal(n)
        out_valid, out = Signal(), Signal(layout, reset_less=True)
        m.d.comb += [
            advance.eq(~out_valid | self.events.ready),
            self.events.valid.eq(out_valid),
            self.events.payload.eq(out),
            pop.eq(not_empty & (~s_valid | (advance & ~rest.any()))),
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
        with m.If(pop):
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
