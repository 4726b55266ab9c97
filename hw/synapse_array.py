"""The synapse array of one projection: weight memory, optional multipliers, adder tree and accumulators.

A beat costs K = ceil(targets / L) cycles (L synapse lanes, in G groups of N neuron lanes) and nothing else.

Group g runs g·K cycles after group 0, so its sums of a tick are final exactly when the neuron array comes for them
and one set of accumulators serves both the tick being integrated and the one being read: no shadow registers.
A `first` flag on a tick's first beat clears the accumulator inside its adder: changing ticks costs no cycle. A lane
without an event clears its weight register (spikes) or multiplies by zero (graded events).

Pipeline of group 0, cycles after issue: [address, where K > 1], memory, weight, [product], adder tree (log2 E), sum.
"""

from __future__ import annotations

from functools import cached_property

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, signed, unsigned
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.arithmetic import shape_of
from apical.hw.design import Lanes
from apical.hw.events import EventLayout
from apical.hw.order import Order
from apical.sw.network import IntArray, Projection
from apical.sw.ranges import Interval

BLOCK_RAM_ROWS = 64  # from this depth on, weights go to block RAM: a RAM32M is 32 deep, a block RAM 512 or more
LOGIC_ROWS = 16  # up to this depth a bank is logic: one LUT4 per bit, read without a register of its own


def pack_words(values: IntArray, bits: int) -> list[int]:
    """Rows of two's-complement integers packed to one word each, column 0 lowest. Shape [rows, columns]."""
    if values.shape[1] == 0:
        return [0] * values.shape[0]
    unsigned_values = (values & ((1 << bits) - 1)).astype(np.uint64)
    digits = (unsigned_values[:, :, None] >> np.arange(bits, dtype=np.uint64)) & np.uint64(1)
    flat = np.packbits(digits.reshape(values.shape[0], -1).astype(np.uint8), axis=1, bitorder="little")
    return [int.from_bytes(row.tobytes(), "little") for row in flat]


def base_latency(layout: EventLayout, words: int) -> int:
    """Cycles from `go` to the first sums: [address], memory, weight, [product], tree, accumulator."""
    return 3 + (words > 1) + (not layout.binary) + int(layout.lanes - 1).bit_length()


def read_words(m: Module, name: str, words: list[int], width: int, address: Signal, block_rows: int) -> Value:
    """A weight bank: the word at `address`, one cycle later."""
    if len(words) <= LOGIC_ROWS:
        later = Signal.like(address, reset_less=True)
        m.d.sync += later.eq(address)
        entries = Array(Const(w, width) for w in words)
        return entries[later] if len(words) > 1 else entries[0]
    # below `block_rows` the synthesizer chooses (logic or LUT RAM)
    attrs = {"ram_style": "block"} if len(words) >= block_rows else {}
    bank = memory.Memory(shape=unsigned(width), depth=len(words), init=words, attrs=attrs)
    m.submodules[name] = bank
    port = bank.read_port()
    m.d.comb += port.addr.eq(address)
    return port.data


class WeightPort:
    """A second way to a projection's weights, for learning and for the host: signals that others drive.

    There are `groups` x `banks` banks: one for each residue class of a dense projection's sources. While `taken` they
    are read at `address` instead of where events are; their words are in `words` a cycle later, by bank and group.
    Writes go lane by lane, to all copies of a bank.
    """

    def __init__(self, depth: int, groups: int, lanes: int, bits: int, banks: int = 1) -> None:
        self.banks, self.depth = banks, depth
        self.taken, self.address = Signal(), Signal(range(max(depth, 2)))
        self.words = [[Signal(lanes * bits, name=f"word{b}_{g}") for g in range(groups)] for b in range(banks)]
        self.write_address = Signal.like(self.address)
        self.write_enable = [[Signal(lanes, name=f"enable{b}_{g}") for g in range(groups)] for b in range(banks)]
        self.write_words = [Signal(lanes * bits, name=f"write_word{g}") for g in range(groups)]

    def bank(
        self,
        m: Module,
        name: str,
        at: tuple[int, int],
        words: list[int],
        address: Value,
        style: str,
        first: bool = True,
    ) -> Value:
        """A weight bank with the second way to it: the word at `address` (an event's), one cycle later.

        :param at: which one: group and bank.
        :param first: of the copies of the bank, the one that the port reads.
        """
        group, bank = at
        width, lanes = len(self.write_words[group]), len(self.write_enable[bank][group])
        store = memory.Memory(shape=unsigned(width), depth=max(len(words), 2), init=words, attrs={"ram_style": style})
        m.submodules[name] = store
        read, write = store.read_port(), store.write_port(granularity=width // lanes)
        m.d.comb += [
            read.addr.eq(Mux(self.taken, self.address, address)),
            write.addr.eq(self.write_address),
            write.data.eq(self.write_words[group]),
            write.en.eq(self.write_enable[bank][group]),
        ]
        if first:
            m.d.comb += self.words[bank][group].eq(read.data)
        return read.data


class SynapseArray(wiring.Component):  # type: ignore[misc]
    """Integrates a dense projection's events.

    :param order: of the targets, where they are a map.
    :param sources: source neuron of each index of the stream, -1 for none; in order unless given.

    Ports: `events`, the stream in. Barrier: `at_last` is high while a tick's last beat waits; it is issued in a cycle
    where the population raises `go`; `final` qualifies it. `sums`: G groups of N sums; row r = g·K + k of the tick
    closed by the `go` of cycle t is in group g's sums in cycle t + latency + r only. `count`, `counted`: events issued.
    """

    def __init__(
        self,
        projection: Projection,
        layout: EventLayout,
        lanes: Lanes,
        extra_delay: int = 0,
        lut_ram: bool = True,
        *,
        order: Order | None = None,
        sources: IntArray | None = None,
    ) -> None:
        self.order, self.sources = order or Order(projection.sizes[0], None, lanes), sources
        self.projection, self.layout, self.lanes, self.extra_delay = projection, layout, lanes, extra_delay
        self.block_rows = BLOCK_RAM_ROWS if lut_ram else LOGIC_ROWS + 1
        bounds = projection.sum_interval(layout.value_range)
        self.interval = Interval(min(bounds.low, 0), max(bounds.high, 0))
        self.words = self.order.words
        self.groups = lanes.synapse // lanes.neuron
        self.port: WeightPort | None = None
        super().__init__(
            {
                "events": In(stream.Signature(layout)),
                "at_last": Out(1),
                "final": Out(1),
                "go": In(1),
                "sums": Out(data.ArrayLayout(data.ArrayLayout(shape_of(self.interval), lanes.neuron), self.groups)),
                "count": Out(range(layout.lanes + 1)),
            }
        )

    def writable(self) -> WeightPort:
        """Make the weights writable, before elaboration. The projection should be `free`."""
        self.port = WeightPort(
            self.depth, self.groups, self.lanes.neuron, self.projection.weight_bits, self.layout.classes
        )
        return self.port

    @cached_property
    def latency(self) -> int:
        """Cycles from `go` to the first sums."""
        cycles: int = base_latency(self.layout, self.words) + self.extra_delay
        return cycles

    @property
    def depth(self) -> int:
        """Words in a weight bank."""
        return int(self.words * self.layout.rows)

    def memory_words(self, group: int, lane: int) -> list[int]:
        """Contents of one bank: word k of row r at address k·rows + r."""
        w = self.projection.weights
        rows, classes = self.layout.rows, self.layout.classes
        full = np.zeros((self.words * self.lanes.synapse, rows * classes), np.int64)
        target, source = (
            self.order.target_of.reshape(-1),
            np.arange(w.shape[1]) if self.sources is None else self.sources,
        )
        full[:, : len(source)] = np.where((target[:, None] >= 0) & (source >= 0), w[target[:, None], source], 0)
        words = []
        for k in range(self.words):
            start = k * self.lanes.synapse + group * self.lanes.neuron
            part = full[start : start + self.lanes.neuron, lane % classes :: classes].T
            words += pack_words(part, self.projection.weight_bits)
        return words

    def elaborate(self, platform: object) -> Module:
        m = Module()
        e, layout = self.layout.lanes, self.layout
        # Head: one beat, held for its K cycles.
        head_valid, first = Signal(), Signal(init=1)
        head = Signal(layout, reset_less=True)
        k, row_base = Signal(range(self.words)), Signal(range(self.depth + 1))
        issue, done = Signal(), Signal()
        m.d.comb += [
            self.at_last.eq(head_valid & head.last & (k == 0)),
            self.final.eq(head.final),
            issue.eq(head_valid & (~head.last | (k != 0) | self.go)),
            done.eq(issue & (k == self.words - 1)),
            self.events.ready.eq(~head_valid | done),
        ]
        with m.If(self.events.ready):
            m.d.sync += [head_valid.eq(self.events.valid), head.eq(self.events.payload)]
        with m.If(issue):
            m.d.sync += [k.eq(Mux(done, 0, k + 1)), row_base.eq(Mux(done, 0, row_base + layout.rows))]
        with m.If(done):
            m.d.sync += first.eq(head.last)
        popcount = Signal(range(e + 1))
        m.d.comb += popcount.eq(sum(head.keep[i] for i in range(e)))
        m.d.sync += self.count.eq(Mux(done, popcount, 0))

        # Address stage (with one word per row the head itself), then a chain of cycles that the groups tap g·K apart.
        valid, flags = Signal(), Signal(data.StructLayout({"first": 1, "k": k.shape(), "keep": e}), reset_less=True)
        stage = m.d.comb if self.words == 1 else m.d.sync
        stage += [valid.eq(issue), flags.first.eq(first), flags.k.eq(k), flags.keep.eq(head.keep)]
        address = [Signal(range(max(self.depth, 2)), name=f"address{i}", reset_less=True) for i in range(e)]
        value = [Signal(layout.value_shape, name=f"value{i}", reset_less=True) for i in range(e)]
        for i in range(e):
            row = head.rows[i] if self.words == 1 else head.rows[i] + row_base
            stage += address[i].eq(row)
            if not layout.binary:
                stage += value[i].eq(Mux(head.keep[i], head.values[i], 0))
        chain = (valid, flags, address, value)
        chain = self._delayed(m, chain, self.extra_delay)
        for g in range(self.groups):
            m.d.comb += self.sums[g].eq(self._group(m, g, *chain))
            if g + 1 < self.groups:
                chain = self._delayed(m, chain, self.words)
        return m

    Chain = tuple[Signal, Signal, list[Signal], list[Signal]]

    def _delayed(self, m: Module, chain: Chain, cycles: int) -> Chain:
        for _ in range(cycles):
            valid, flags, address, value = chain
            later = (
                Signal(),
                Signal(flags.shape(), reset_less=True),
                [Signal.like(a, reset_less=True) for a in address],
                [Signal.like(v, reset_less=True) for v in value],
            )
            m.d.sync += [later[0].eq(valid), later[1].eq(flags)]
            m.d.sync += [new.eq(old) for new, old in zip(later[2], address, strict=True)]
            if not self.layout.binary:
                m.d.sync += [new.eq(old) for new, old in zip(later[3], value, strict=True)]
            chain = later
        return chain

    def _flag_chain(self, m: Module, valid: Signal, flags: Signal, cycles: int) -> list[tuple[Signal, Signal]]:
        """(valid, flags) after 0, 1, … cycles."""
        out = [(valid, flags)]
        for _ in range(cycles):
            later = Signal(), Signal(flags.shape(), reset_less=True)
            m.d.sync += [later[0].eq(out[-1][0]), later[1].eq(out[-1][1])]
            out.append(later)
        return out

    def _group(
        self, m: Module, g: int, valid: Signal, flags: Signal, address: list[Signal], value: list[Signal]
    ) -> Cat:
        n, bits = self.lanes.neuron, self.projection.weight_bits
        terms: list[list[Signal]] = [[] for _ in range(n)]  # per neuron lane, one term per event lane
        kept = Signal(self.layout.lanes, name=f"kept{g}", reset_less=True)
        m.d.sync += kept.eq(flags.keep)
        for i, (a, v) in enumerate(zip(address, value, strict=True)):
            words = self.memory_words(g, i)
            if self.port is None:
                read = read_words(m, f"bank{g}_{i}", words, n * bits, a, self.block_rows)
            else:
                style = "block" if len(words) >= self.block_rows else "distributed"
                classes = self.layout.classes
                read = self.port.bank(m, f"bank{g}_{i}", (g, i % classes), words, a, style, i < classes)
            weight = Signal(n * bits, name=f"weight{g}_{i}", reset_less=True)
            m.d.sync += weight.eq(Mux(kept[i], read, 0) if self.layout.binary else read)
            lanes = [weight[j * bits : (j + 1) * bits].as_signed() for j in range(n)]
            if not self.layout.binary:
                v1, v2 = Signal.like(v, reset_less=True), Signal.like(v, reset_less=True)
                m.d.sync += [v1.eq(v), v2.eq(v1)]
                products = [Signal(shape_of(self._product_interval), reset_less=True) for _ in range(n)]
                m.d.sync += [p.eq(w * v2) for p, w in zip(products, lanes, strict=True)]
                lanes = products
            for j in range(n):
                terms[j].append(lanes[j])
        while len(terms[0]) > 1:  # a register after every adder
            terms = [self._pairs(m, t) for t in terms]
        # From the address stage to the accumulator's adder.
        after = self.latency - self.extra_delay - 1 - (self.words > 1)
        stages = self._flag_chain(m, valid, flags, after)
        return self._accumulate(m, g, [t[0] for t in terms], stages)

    @cached_property
    def _product_interval(self) -> Interval:
        w, (low, high) = self.projection.weight_interval, self.layout.value_range
        corners = [x * y for x in (w.low, w.high, 0) for y in (low, high)]
        return Interval(min(corners), max(corners))

    @staticmethod
    def _pairs(m: Module, terms: list[Signal]) -> list[Signal]:
        out = []
        for a, b in zip(terms[::2], terms[1::2], strict=True):
            width = max(len(a), len(b)) + 1
            s = Signal(signed(width), reset_less=True)
            m.d.sync += s.eq(a + b)
            out.append(s)
        return out

    def _accumulate(self, m: Module, g: int, terms: list[Signal], stages: list[tuple[Signal, Signal]]) -> Cat:
        """acc <- term + (first ? 0 : acc); with K words the old sums come from a small memory."""
        shape = shape_of(self.interval)
        valid, flags = stages[-1]
        acc = [Signal(shape, name=f"acc{g}_{j}", reset_less=True) for j in range(self.lanes.neuron)]
        old = acc
        new = [Signal(shape, name=f"new{g}_{j}") for j in range(self.lanes.neuron)]
        if self.words > 1:
            # The read of word k is registered one cycle before the adder; the write of the beat before was K >= 2
            # cycles earlier, so it is visible.
            width = len(acc[0])
            store = memory.Memory(
                shape=unsigned(width * len(acc)), depth=self.words, init=[], attrs={"ram_style": "distributed"}
            )
            m.submodules[f"store{g}"] = store
            read, write = store.read_port(domain="comb"), store.write_port()
            held = Signal(width * len(acc), name=f"held{g}", reset_less=True)
            m.d.comb += [
                read.addr.eq(stages[-2][1].k),
                write.addr.eq(flags.k),
                write.data.eq(Cat(new)),
                write.en.eq(valid),
            ]
            m.d.sync += held.eq(read.data)
            parts = [held[j * width : (j + 1) * width] for j in range(len(acc))]
            old = [p.as_signed() if shape.signed else p for p in parts]
        for a, b, t, o in zip(acc, new, terms, old, strict=True):
            # The term first: then one LUT per bit holds the adder and the clear.
            m.d.comb += b.eq(t + Mux(flags.first, Const(0, shape), o))
            with m.If(valid):
                m.d.sync += a.eq(b)
        return Cat(*acc)
