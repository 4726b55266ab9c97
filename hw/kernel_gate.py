"""The gate of a population's kernels: sums per channel as events stream in, small dot products, signs: a bitmap.

`KernelGate` decides; `Switch` is what a bitmap means for the words and lanes of a gated population. Semantics and
schedule: docs/reference/gating.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory, stream, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.arithmetic import shape_of
from apical.hw.conv_flatten import coordinates
from apical.hw.events import EventLayout
from apical.hw.order import Order
from apical.sw.kernel_gates import Gate
from apical.sw.ranges import Interval

MOST_MULTIPLIERS = 8


def queue_depth(gate: Gate, neurons: int) -> int:
    """Beats that a window can have at most: every neuron's event in a beat of its own, and a bare end of the tick."""
    return gate.window * (neurons + 1)


def ones(bits: Value) -> Value:
    """How many bits are set."""
    return sum((bits[i] for i in range(len(bits))), Const(0, 1))


def next_set(bits: Value, after: Value | None = None) -> tuple[Value, Value]:
    """Is there a set bit (beyond `after`), and the lowest such index."""
    n = len(bits)
    left = bits if after is None else Cat(bits[i] & (after < i) for i in range(n))
    index: Value = Const(n - 1, range(max(n, 2)))
    for i in reversed(range(n - 1)):
        index = Mux(left[i], i, index)
    return left.any(), index


@dataclass(frozen=True)
class Switch:
    """A gate's groups on the words and lanes of its target."""

    gate: Gate
    order: Order

    @cached_property
    def channels(self) -> int:
        """Channels of the target."""
        return self.order.size // self.order.positions

    @property
    def per_group(self) -> int:
        """Channels of a group."""
        return self.channels // self.gate.groups

    def words(self, on: Value) -> Value:
        """Which words are on: those with any channel that is."""
        out = []
        for w in range(self.order.channel_words):
            first = w * self.order.lanes.synapse
            last = min(first + self.order.lanes.synapse, self.channels) - 1
            out.append(Cat(on[g] for g in range(first // self.per_group, last // self.per_group + 1)).any())
        return Cat(out)

    def walked(self, on: Value) -> Value:
        """Words whose rows are walked: those that are on; the first where none is, so that the tick has its end."""
        words = self.words(on)
        return Cat(words[0] | ~words.any(), words[1:])

    def channels_on(self, on: Value, word: int) -> Value:
        """How many channels of a word are on."""
        first = word * self.order.lanes.synapse
        last = min(first + self.order.lanes.synapse, self.channels)
        total: Value = Const(0, 1)
        for g in range(first // self.per_group, (last - 1) // self.per_group + 1):
            count = min(last, (g + 1) * self.per_group) - max(first, g * self.per_group)
            total = total + Mux(on[g], count, 0)
        return total

    def lane_bits(self, on: Value, block: Value) -> list[Value]:
        """Per neuron lane: is its channel on, in a block of rows?"""
        lanes, words = self.order.lanes, self.order.channel_words
        out: list[Value] = []
        for j in range(lanes.neuron):
            bits = []
            for b in range(words * (lanes.synapse // lanes.neuron)):
                channel = (b % words) * lanes.synapse + (b // words) * lanes.neuron + j
                bits.append(on[channel // self.per_group] if channel < self.channels else Const(0, 1))
            out.append(Array(bits)[block] if len(bits) > 1 else bits[0])
        return out


class KernelGate(wiring.Component):  # type: ignore[misc]
    """Decides from one source's events, window by window.

    Ports: `events`: its own copy of the source's stream; `point`: the operating point of the next decision; `on`,
    valid while `valid` is high, until `take`. Counters' increments: `count` (an event), `window` (a decision, with
    `opened` groups). An event takes a cycle, a decision ⌈groups / multipliers⌉ x channels + 5, in which none is taken.
    """

    def __init__(self, gate: Gate, layout: EventLayout) -> None:
        self.gate, self.layout = gate, layout
        self.channels = gate.channels
        positions = layout.sources // self.channels
        self.sums = gate.sum_interval(layout.value_range, positions)
        self.total = gate.interval(layout.value_range, positions)
        self.lanes = max(d for d in range(1, MOST_MULTIPLIERS + 1) if gate.groups % d == 0)
        super().__init__(
            {
                "events": In(stream.Signature(layout)),
                "point": In(range(max(gate.points, 2))),
                "on": Out(gate.groups),
                "valid": Out(1),
                "take": In(1),
                "count": Out(1),
                "window": Out(1),
                "opened": Out(range(gate.groups + 1)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sum_shape = shape_of(self.sums)
        store = memory.Memory(shape=unsigned(sum_shape.width), depth=max(self.channels, 2), init=[])
        m.submodules.sums = store
        read, write = store.read_port(domain="comb"), store.write_port()
        stored = read.data.as_signed() if sum_shape.signed else read.data
        at = Signal(range(max(self.channels, 2)))  # of the sweep after a reset, then of the dot products
        sweeping, deciding = Signal(init=1), Signal()
        channel, value, real, closes = self._events(m, sweeping | deciding | self.valid)
        clearing = Signal()
        m.d.comb += [
            read.addr.eq(Mux(deciding, at, channel)),
            write.addr.eq(Mux(sweeping | deciding, at, channel)),
            write.data.eq(Mux(sweeping | deciding, 0, stored + value)),
            write.en.eq(sweeping | clearing | real),
            self.count.eq(real),
        ]
        wraps = at == self.channels - 1
        with m.If(sweeping):
            m.d.sync += [at.eq(Mux(wraps, 0, at + 1)), sweeping.eq(~wraps)]
        self._dot(m, at, wraps, deciding, clearing, closes, stored)
        return m

    def _events(self, m: Module, busy: Value) -> tuple[Value, Value, Value, Value]:
        """Events one by one: channel, value, whether there is one in this cycle, and whether it closes a window."""
        layout, lanes = self.layout, self.layout.lanes
        head, head_valid, left = Signal(layout, reset_less=True), Signal(), Signal(lanes)
        tick = Signal(range(max(self.gate.window, 2)))
        rest = (left & (left - 1))[:lanes]
        moves, ends = Signal(), Signal()
        m.d.comb += [
            moves.eq(head_valid & ~busy),
            ends.eq(~rest.any()),
            self.events.ready.eq(~busy & (~head_valid | (ends & ~head.last))),
        ]
        with m.If(self.events.valid & self.events.ready):
            m.d.sync += [head_valid.eq(1), head.eq(self.events.payload), left.eq(self.events.payload.keep)]
        with m.Elif(moves):
            m.d.sync += [head_valid.eq(~ends), left.eq(rest)]
        closes = Signal()
        m.d.comb += closes.eq(moves & ends & head.last & (head.final | (tick == self.gate.window - 1)))
        with m.If(moves & ends & head.last):
            m.d.sync += tick.eq(Mux(closes, 0, tick + 1))
        bits = (layout.classes - 1).bit_length()

        def channel(i: int) -> Value:
            lane = Const(i % layout.classes, bits) if bits else Const(0, 0)
            return Cat(lane, coordinates(layout, head.rows[i])[0] if layout.shape is not None else head.rows[i])

        found: Value = channel(lanes - 1)
        value: Value = Const(1, 1) if layout.binary else head["values"][lanes - 1]
        for i in reversed(range(lanes - 1)):
            found = Mux(left[i], channel(i), found)
            value = value if layout.binary else Mux(left[i], head["values"][i], value)
        return found, value, moves & left.any(), closes

    def _rom(self, m: Module, at: Value) -> list[Value]:
        """Weights of the multipliers a cycle after their address: {point, word of groups, channel}."""
        gate, bits = self.gate, self.gate.weight_bits
        words = gate.weights.reshape(gate.points, -1, self.lanes, self.channels).transpose(0, 1, 3, 2)
        init = [sum(int(v) % (1 << bits) << n * bits for n, v in enumerate(w)) for w in words.reshape(-1, self.lanes)]
        rom = memory.Memory(shape=unsigned(self.lanes * bits), depth=max(len(init), 2), init=init)
        m.submodules.weights = rom
        port = rom.read_port()
        m.d.comb += port.addr.eq(at)
        return [port.data[n * bits : (n + 1) * bits].as_signed() for n in range(self.lanes)]

    def _dot(
        self, m: Module, at: Signal, wraps: Value, deciding: Signal, clearing: Signal, closes: Value, stored: Value
    ) -> None:
        gate = self.gate
        rounds = gate.groups // self.lanes
        issuing, turn, address = Signal(), Signal(range(max(rounds, 2))), Signal(range(max(gate.weights.size, 2)))
        last_turn = turn == rounds - 1
        starts = Array(Const(p * rounds * self.channels) for p in range(gate.points))
        point = Signal.like(self.point)
        m.d.comb += clearing.eq(issuing & last_turn)
        with m.If(closes):
            m.d.sync += [deciding.eq(1), issuing.eq(1), at.eq(0), turn.eq(0), point.eq(self.point)]
            m.d.sync += address.eq(starts[self.point] if gate.points > 1 else 0)
        with m.Elif(issuing):
            m.d.sync += [at.eq(Mux(wraps, 0, at + 1)), address.eq(address + 1)]
            with m.If(wraps):
                m.d.sync += [turn.eq(turn + 1), issuing.eq(~last_turn)]
        # Stages: 1 sum and weight, 2 product, 3 total, then the sign.
        sum1 = Signal(shape_of(self.sums), reset_less=True)
        weights = self._rom(m, address)
        marks: list[list[Signal]] = []
        before: list[Value] = [issuing, issuing & (at == 0), issuing & wraps, turn]
        for stage in range(3):
            marks.append([Signal.like(v, name=f"mark{stage}_{n}") for n, v in enumerate(before)])
            m.d.sync += [a.eq(b) for a, b in zip(marks[-1], before, strict=True)]
            before = list(marks[-1])
        m.d.sync += sum1.eq(stored)
        biases = gate.bias.reshape(gate.points, rounds, self.lanes)
        shape = shape_of(self.total)
        for n, weight in enumerate(weights):
            product = Signal.like(weight * sum1, name=f"product{n}", reset_less=True)
            total = Signal(shape, name=f"total{n}", reset_less=True)
            flat = biases[:, :, n].reshape(-1)
            table = Array(Const(int(b), shape_of(Interval(int(flat.min()), int(flat.max())))) for b in flat)
            bias = table[point * rounds + marks[1][3]] if len(flat) > 1 else table[0]
            m.d.sync += product.eq(weight * sum1)
            with m.If(marks[1][0]):
                m.d.sync += total.eq(Mux(marks[1][1], bias, total) + product)
            with m.If(marks[2][2]), m.Switch(marks[2][3]):
                for r in range(rounds):
                    with m.Case(r):
                        m.d.sync += self.on[r * self.lanes + n].eq(total > 0)
        done = Signal()
        m.d.sync += done.eq(marks[2][2] & (marks[2][3] == rounds - 1))
        m.d.comb += [self.window.eq(done), self.opened.eq(ones(self.on))]
        with m.If(done):
            m.d.sync += [deciding.eq(0), self.valid.eq(1)]
        with m.Elif(self.take):
            m.d.sync += self.valid.eq(0)
