"""The sums of a convolution array: two banks of words in memory, and the walk that takes and clears one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory

from apical.hw.arithmetic import shape_of
from apical.hw.events import EventLayout
from apical.hw.kernel_gate import next_set
from apical.hw.synapse_array import BLOCK_RAM_ROWS
from apical.sw.network import Projection

if TYPE_CHECKING:
    from apical.hw.conv_array import ConvArray

Fields = dict[str, Value]
SETTLE = 3  # cycles from a visit's read of its sums to the first cycle in which they can be read anew


def multiplies(projection: Projection, layout: EventLayout) -> bool:
    """Does a visit take a product? Not of spikes, and not of a pool."""
    return not layout.binary and projection.pattern == "conv"


def _walk(m: Module, array: ConvArray, k: Value, start: Value) -> tuple[Value, Value, Value]:
    """Of the walk over the words, once for each group of lanes: the first, the one after `k`, and whether `k` is
    the last."""
    if array.switch is None:
        ends = k == array.words - 1
        return Const(0, 1), Mux(ends, 0, k + 1), ends
    count, positions = array.order.channel_words, array.order.positions
    walked, word, position = (
        Signal(count, name="walked_words"),
        Signal(range(max(count, 2)), name="walked_word"),
        Signal(range(max(positions, 2)), name="walked_position"),
    )
    given = array.switch.walked(array.closed)
    firsts = Array(Const(n * positions, range(max(array.words, 2))) for n in range(count))
    (_, now), (_, first), (more, following) = next_set(given), next_set(walked), next_set(walked, word)
    turns = position == positions - 1
    after = Mux(more, following, first)
    with m.If(start):
        m.d.sync += [walked.eq(given), word.eq(now), position.eq(0)]
    with m.Else():
        m.d.sync += position.eq(Mux(turns, 0, position + 1))
        with m.If(turns):
            m.d.sync += word.eq(after)
    return firsts[now], Mux(turns, firsts[after], k + 1), turns & ~more


def sums(m: Module, array: ConvArray, visit: Fields, terms: list[list[Value]], sweep: Signal, sweeping: Signal) -> None:
    """Both banks of every group: visits add to one, the walk of the rows takes and clears the other."""
    bank, shape, n = Signal(), shape_of(array.interval), array.lanes.neuron
    with m.If(array.go):
        m.d.sync += bank.eq(~bank)
    at = range(max(array.words, 2))
    slots = [(visit["valid"], Cat(visit["sum"], bank))]  # a visit by cycles after its issue
    for cycle in range(SETTLE - 1 + multiplies(array.projection, array.layout)):
        valid, place = Signal(name=f"slot{cycle}"), Signal(len(slots[0][1]), name=f"place{cycle}", reset_less=True)
        m.d.sync += [valid.eq(slots[-1][0]), place.eq(slots[-1][1])]
        slots.append((valid, place))
    read, found, adds = slots[multiplies(array.projection, array.layout) :]
    # The sum that the visit before, or the one before that, is about to write isn't in the memory yet.
    again, once_more = Signal(), Signal()
    m.d.sync += [
        once_more.eq(adds[0] & (adds[1] == read[1])),
        again.eq(adds[0] & (adds[1] == found[1])),
    ]

    # The walk: rows in order, from latency - 1 cycles after `go`.
    start = array.go
    for cycle in range(array.latency - 2):
        later = Signal(name=f"walk{cycle}")
        m.d.sync += later.eq(start)
        start = later
    k, group, walking, walked = Signal(at), Signal(range(max(array.groups, 2))), Signal(), Signal()
    clear_k, clear_group, clearing, cleared = Signal(at), Signal.like(group), Signal(), Signal()
    m.d.sync += [clear_k.eq(k), clear_group.eq(group), clearing.eq(walking), cleared.eq(walked)]
    first_k, next_k, ends = _walk(m, array, k, start)
    with m.If(start):
        m.d.sync += [walking.eq(1), k.eq(first_k), group.eq(0), walked.eq(~bank)]
    with m.Elif(walking):
        m.d.sync += k.eq(next_k)
        with m.If(ends):
            m.d.sync += group.eq(group + 1)
            with m.If(group == array.groups - 1):
                m.d.sync += [walking.eq(0), group.eq(0)]

    style = "block" if array.words >= BLOCK_RAM_ROWS or not array.lut_ram else "distributed"
    width = shape.width
    for g in range(array.groups):
        acc = [Signal(shape, name=f"acc{g}_{j}", reset_less=True) for j in range(n)]
        new = [Signal(shape, name=f"new{g}_{j}") for j in range(n)]
        held = Signal(n * width, name=f"held{g}", reset_less=True)
        data_of = []
        for b in range(2):
            store = memory.Memory(shape=unsigned(n * width), depth=array.words, init=[], attrs={"ram_style": style})
            m.submodules[f"store{g}_{b}"] = store
            reads, writes = store.read_port(), store.write_port()
            clears = clearing & (clear_group == g) & (cleared == b)
            m.d.comb += [
                reads.addr.eq(Mux(read[1][-1] == b, read[1][:-1], k)),
                writes.addr.eq(Mux(sweeping, sweep, Mux(clears, clear_k, adds[1][:-1]))),
                writes.data.eq(Mux(sweeping | clears, 0, Cat(new))),
                writes.en.eq(sweeping | clears | (adds[0] & (adds[1][-1] == b))),
            ]
            data_of.append(reads.data)
        m.d.comb += array.sums[g].eq(Mux(cleared, data_of[1], data_of[0]))
        m.d.sync += held.eq(Mux(once_more, Cat(acc), Mux(found[1][-1], data_of[1], data_of[0])))
        for j, (a, total, term) in enumerate(zip(acc, new, terms[g], strict=True)):
            old = held[j * width : (j + 1) * width]
            m.d.comb += total.eq(term + Mux(again, a, old.as_signed() if shape.signed else old))
            with m.If(adds[0]):
                m.d.sync += a.eq(total)
