"""The convolution array of one projection between maps: from an event to the positions it reaches, one a cycle.

A visit adds L output channels (a word) at one target position, so an event costs (positions it reaches) x (words of its
group's channels) cycles, at least 1, and nothing else: the next tick's first event follows a tick's last one at once.

An event becomes two progressions, along rows and along columns (`apical.sw.geometry.Axis`); small tables by row,
column and channel hold where they begin and how long they are, and from there every address is one addition away: no
multiplication, no division, no position outside a border. Words are the outer loop; of a gated population the words
whose channels are all off are left out, of the visits and of the walk over the sums.

The sums of a map are in memory, in two banks: one is added to while the neuron array takes the other and clears it
behind itself. After a reset both are cleared first, K cycles, in which no event is accepted.

Pipeline of a visit, cycles after issue: memory, weight, [product], sum. Front: head, tables, start addresses, visits.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.arithmetic import shape_of
from apical.hw.conv_flatten import coordinates
from apical.hw.conv_sums import SETTLE, Fields, multiplies, sums
from apical.hw.design import Lanes
from apical.hw.events import EventLayout
from apical.hw.kernel_gate import Switch, next_set
from apical.hw.order import Order
from apical.hw.synapse_array import BLOCK_RAM_ROWS, LOGIC_ROWS, WeightPort, pack_words, read_words
from apical.sw.geometry import IntArray
from apical.sw.network import Projection
from apical.sw.ranges import Interval


def base_latency(projection: Projection, layout: EventLayout) -> int:
    """Cycles from `go` to the first sums."""
    return SETTLE + 1 + multiplies(projection, layout)


def event_cycles(projection: Projection, lanes: Lanes) -> IntArray:
    """Cycles that an event of each source takes, [sources]: positions reached x words of its group, at least 1."""
    g = projection.geometry
    assert g is not None
    order = Order(projection.sizes[0], g.target, lanes)
    words = np.array([c[0] + 1 for c in Plan(projection, order).channels], np.int64)
    return np.asarray(np.maximum((words[:, None, None] * g.positions).reshape(-1), 1), np.int64)


class Plan:
    """Tables and weights: what a visit's addresses are made of.

    :ivar rows, columns: per source coordinate (visits - 1, first sum address, first weight address); no visit: -1.
    :ivar channels: per source channel (words - 1, first sum address, first weight address, lane); lane is a pool's.
    :ivar steps: additions per step: column and row (sums, weights), word (sums, weights).
    """

    def __init__(self, projection: Projection, order: Order) -> None:
        g = projection.geometry
        assert g is not None
        lanes, (kh, kw) = order.lanes.synapse, g.kernel
        taps = kh * kw if projection.pattern == "conv" else 0
        ys, xs = g.axes
        self.rows = [self._line(ys.reached(i), g.target[2], kw) for i in range(ys.source)]
        self.columns = [self._line(xs.reached(i), 1, 1) for i in range(xs.source)]
        self.steps = {
            "column": (-xs.steps[1], xs.steps[0]),
            "row": (-ys.steps[1] * g.target[2], ys.steps[0] * kw),
            "word": (order.positions, taps),
        }
        self.channels: list[tuple[int, int, int, int]] = []
        used = 0
        for c in range(g.source[0]):
            first = (c // g.weights_shape[1]) * g.group_channels
            start, words = first // lanes, (first + g.group_channels - 1) // lanes - first // lanes + 1
            self.channels.append((words - 1, start * order.positions, used, first % lanes))
            used += words * taps
        self.depth = used

    @staticmethod
    def _line(reached: list[tuple[int, int]], target: int, tap: int) -> tuple[int, int, int]:
        first = reached[0] if reached else (0, 0)
        return len(reached) - 1, first[1] * target, first[0] * tap


class ConvArray(wiring.Component):  # type: ignore[misc]
    """Integrates the events of a conv or pool projection.

    Ports as `apical.hw.synapse_array.SynapseArray`; also `positions`: target positions reached in this cycle, 0 or 1.
    `at_last` is high while the tick's last visit waits; it is made in the cycle of `go`. Where there is a `switch`:
    `on`, the groups that are on in this tick, steady from before its first event until `go`; `closed`, the same of the
    tick that `go` closed, from then to the next `go`; `synapses`: channels that a visit of this cycle reaches.
    """

    def __init__(
        self,
        projection: Projection,
        layout: EventLayout,
        lanes: Lanes,
        extra_delay: int = 0,
        lut_ram: bool = True,
        *,
        order: Order,
        switch: Switch | None = None,
    ) -> None:
        self.projection, self.layout, self.lanes, self.order = projection, layout, lanes, order
        self.extra_delay, self.lut_ram, self.switch = extra_delay, lut_ram, switch
        bounds = projection.sum_interval(layout.value_range)
        self.interval = Interval(min(bounds.low, 0), max(bounds.high, 0))
        self.words, self.groups = order.words, lanes.synapse // lanes.neuron
        self.plan = Plan(projection, order)
        self.port: WeightPort | None = None
        super().__init__(
            {
                "events": In(stream.Signature(layout)),
                "at_last": Out(1),
                "final": Out(1),
                "go": In(1),
                "sums": Out(data.ArrayLayout(data.ArrayLayout(shape_of(self.interval), lanes.neuron), self.groups)),
                "count": Out(1),
                "positions": Out(1),
                **(
                    {}
                    if switch is None
                    else {
                        "on": In(switch.gate.groups),
                        "closed": In(switch.gate.groups),
                        "synapses": Out(range(lanes.synapse + 1)),
                    }
                ),
            }
        )

    def writable(self) -> WeightPort:
        """Make the weights writable, before elaboration; not of a pool. The projection should be `free`."""
        self.port = WeightPort(self.plan.depth, self.groups, self.lanes.neuron, self.projection.weight_bits)
        return self.port

    @cached_property
    def latency(self) -> int:
        """Cycles from `go` to the first sums."""
        return base_latency(self.projection, self.layout) + self.extra_delay

    @property
    def spacing(self) -> int:
        """Least distance of two `go`: one bank is taken and cleared before the other is closed."""
        return self.order.rows + SETTLE + self.extra_delay

    def memory_words(self, group: int) -> list[int]:
        """Weights of a group's lanes by address: source channel, word, kernel row, kernel column."""
        g, w, size = self.projection.geometry, self.projection.weights, self.lanes.synapse
        assert g is not None
        lane = group * self.lanes.neuron + np.arange(self.lanes.neuron)
        parts = []
        for c, (words, _, _, _) in enumerate(self.plan.channels):
            part, inside = divmod(c, g.weights_shape[1])
            first = part * g.group_channels
            for word in range(first // size, first // size + words + 1):
                channel = word * size + lane
                own = (channel >= first) & (channel < first + g.group_channels)
                taps = w[np.where(own, channel, 0), inside].reshape(len(lane), -1).T
                parts.append(np.where(own, taps, 0))
        return pack_words(np.concatenate(parts), self.projection.weight_bits)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        sweep, sweeping = Signal(range(max(self.words, 2))), Signal(init=1)
        with m.If(sweeping):
            m.d.sync += [sweep.eq(sweep + 1), sweeping.eq(sweep != self.words - 1)]
        taken = Signal()
        item = self._front(m, sweeping, taken)
        visit = self._visits(m, item, taken)
        terms = self._terms(m, visit)
        sums(m, self, visit, terms, sweep, sweeping)
        return m

    def _front(self, m: Module, sweeping: Value, taken: Value) -> Fields:
        """Events one by one, with where their visits begin; `taken` accepts the one that is there."""
        layout, lanes = self.layout, self.layout.lanes
        head, head_valid, left = Signal(layout, reset_less=True), Signal(), Signal(lanes)
        look_valid, item_valid = Signal(), Signal()
        look_moves, item_moves, moves, ends, held = Signal(), Signal(), Signal(), Signal(), Signal()
        rest = (left & (left - 1))[:lanes]
        if self.projection.delay:  # its line must not be read beyond a tick before that is closed (`Delay.flush`)
            with m.If(self.go):
                m.d.sync += held.eq(0)
            with m.Elif(self.events.valid & self.events.ready & self.events.payload.last):
                m.d.sync += held.eq(1)
        m.d.comb += [
            item_moves.eq(~item_valid | taken),
            look_moves.eq(~look_valid | item_moves),
            moves.eq(head_valid & look_moves),
            ends.eq(~rest.any()),
            self.events.ready.eq((~head_valid | (moves & ends)) & ~sweeping & ~held),
        ]
        with m.If(self.events.valid & self.events.ready):
            m.d.sync += [head_valid.eq(1), head.eq(self.events.payload), left.eq(self.events.payload.keep)]
        with m.Elif(moves):
            m.d.sync += [head_valid.eq(~ends), left.eq(rest)]
        with m.If(look_moves):
            m.d.sync += look_valid.eq(head_valid)
        with m.If(item_moves):
            m.d.sync += item_valid.eq(look_valid)

        def lowest(values: list[Value]) -> Value:  # of the lanes that are left
            out = values[-1]
            for i in reversed(range(lanes - 1)):
                out = Mux(left[i], values[i], out)
            return out

        at = [coordinates(layout, head.rows[i]) for i in range(lanes)]
        channel, y, x = (lowest([each[n] for each in at]) for n in range(3))
        class_bits = (layout.classes - 1).bit_length()
        lane = lowest([Const(i % layout.classes, max(class_bits, 1)) for i in range(lanes)])
        marks: Fields = {"real": left.any(), "last": head.last & ends, "final": head.final}
        if not layout.binary:
            marks["value"] = lowest([head["values"][i] for i in range(lanes)])
        found = {
            **_table("y", self.plan.rows, y),
            **_table("x", self.plan.columns, x),
            **_table("c", self.plan.channels, Cat(lane[:class_bits], channel)),
            **marks,
        }
        look = _registers(m, "look", found, look_moves)
        reaches = ~((look["y0"] < 0) | (look["x0"] < 0))
        start: Fields = {
            "visits_y": Mux(look["real"] & reaches, look["y0"], 0),
            "visits_x": Mux(look["real"] & reaches, look["x0"], 0),
            "words": Mux(look["real"] & reaches, look["c0"], 0),
            "sum": _address(look["y1"] + look["x1"] + look["c1"], self.words),
            "weight": _address(look["y2"] + look["x2"] + look["c2"], self.plan.depth),
            "lane": look["c3"],
            "reaches": look["real"] & reaches,
        }
        return _registers(m, "item", {**start, **{k: look[k] for k in marks}}, item_moves) | {"valid": item_valid}

    def _visits(self, m: Module, item: Fields, taken: Signal) -> Fields:
        """One visit a cycle: columns, then rows, then words."""
        valid, first, steps = Signal(), Signal(), self.plan.steps
        now = {k: Signal.like(v, name=f"visit_{k}", reset_less=True) for k, v in item.items() if k != "valid"}
        left = {k: Signal.like(item[k], name=f"left_{k}", reset_less=True) for k in ("visits_y", "visits_x", "words")}
        kinds = ("sum", "weight")
        row = {k: Signal.like(item[k], name=f"row_{k}", reset_less=True) for k in kinds}
        word = {k: Signal.like(item[k], name=f"word_{k}", reset_less=True) for k in kinds}
        final_visit, issue, done = Signal(), Signal(), Signal()
        self.next_word = Signal()
        item, more, skipped = self._switched(m, item, taken, now["reaches"], left["words"])
        m.d.comb += [
            final_visit.eq((left["visits_x"] == 0) & (left["visits_y"] == 0) & ~more),
            self.at_last.eq(valid & now["last"] & final_visit),
            self.final.eq(now["final"]),
            issue.eq(valid & (~(now["last"] & final_visit) | self.go)),
            done.eq(issue & final_visit),
            taken.eq(item["valid"] & (~valid | done)),
            self.count.eq(done & now["real"]),
            self.positions.eq(issue & now["reaches"] & first),
        ]
        with m.If(taken):
            m.d.sync += [valid.eq(1), first.eq(1), *(now[k].eq(item[k]) for k in now)]
            m.d.sync += [left[k].eq(item[k]) for k in left]
            m.d.sync += [s[k].eq(item[k]) for s in (row, word) for k in kinds]
        with m.Elif(done):
            m.d.sync += valid.eq(0)
        with m.Elif(issue):
            with m.If(left["visits_x"] != 0):
                m.d.sync += left["visits_x"].eq(left["visits_x"] - 1)
                m.d.sync += [now[k].eq(now[k] + d) for k, d in zip(kinds, steps["column"], strict=True)]
            with m.Elif(left["visits_y"] != 0):
                m.d.sync += [left["visits_x"].eq(now["visits_x"]), left["visits_y"].eq(left["visits_y"] - 1)]
                for k, d in zip(kinds, steps["row"], strict=True):
                    m.d.sync += [s.eq(row[k] + d) for s in (now[k], row[k])]
            with m.Else():
                m.d.sync += [left[k].eq(now[k]) for k in ("visits_x", "visits_y")]
                m.d.comb += self.next_word.eq(1)
                m.d.sync += [left["words"].eq(left["words"] - 1), first.eq(0)]
                for k, d in zip(kinds, steps["word"], strict=True):
                    step = (
                        d if skipped is None else Array(Const(d * n) for n in range(self.order.channel_words))[skipped]
                    )
                    m.d.sync += [s.eq(word[k] + step) for s in (now[k], row[k], word[k])]
        if self.switch is not None:
            m.d.comb += self.synapses.eq(Mux(issue & now["reaches"], self.reached, 0))
        return now | {"valid": issue & now["reaches"]}

    def _switched(
        self, m: Module, item: Fields, taken: Value, reaches: Value, left: Value
    ) -> tuple[Fields, Value, Value | None]:
        """What a gate changes of an event's visits: the item begun at the first word that is on; whether another word
        follows, and how far it is from this one. `reached` counts the channels of the word of this cycle."""
        if self.switch is None:
            return item, left != 0, None
        count = self.order.channel_words
        words = self.switch.words(self.on)
        word = Signal(range(max(count, 2)), name="visited_word")
        some, first = next_set(words)
        more, following = next_set(words, word)
        begin = {
            k: _address(item[k] + Array(Const(d * n) for n in range(count))[first], depth)
            for k, d, depth in zip(
                ("sum", "weight"), self.plan.steps["word"], (self.words, self.plan.depth), strict=True
            )
        }
        with m.If(taken):
            m.d.sync += word.eq(first)
        with m.Elif(self.next_word):
            m.d.sync += word.eq(following)
        self.reached = Array(self.switch.channels_on(self.on, n) for n in range(count))[word]
        goes = item["reaches"] & some
        marks = {k: Mux(goes, item[k], 0) for k in ("visits_x", "visits_y")}
        return {**item, **begin, **marks, "reaches": goes}, more & reaches, (following - word)[: len(word)]

    def _terms(self, m: Module, visit: Fields) -> list[list[Value]]:
        """What each group's lanes add, two cycles after the visit; with products three."""
        n, bits = self.lanes.neuron, self.projection.weight_bits
        value1: Value = Const(1, 1)
        value2: Value = Const(1, 1)
        if "value" in visit:
            value1, value2 = (Signal.like(visit["value"], name=f"value{i}", reset_less=True) for i in (1, 2))
            m.d.sync += [value1.eq(visit["value"]), value2.eq(value1)]
        if self.projection.pattern == "pool":
            lane = Signal.like(visit["lane"], name="lane1", reset_less=True)
            m.d.sync += lane.eq(visit["lane"])
            pooled = [Signal.like(value1, name=f"term_{j}", reset_less=True) for j in range(self.lanes.synapse)]
            m.d.sync += [t.eq(Mux(lane == j, value1, 0)) for j, t in enumerate(pooled)]
            return [list(pooled[g * n : (g + 1) * n]) for g in range(self.groups)]
        block_rows = BLOCK_RAM_ROWS if self.lut_ram else LOGIC_ROWS + 1
        out: list[list[Value]] = []
        for g in range(self.groups):
            words, at = self.memory_words(g), visit["weight"]
            if self.port is None:
                read = read_words(m, f"bank{g}", words, n * bits, at, block_rows)
            else:
                style = "block" if len(words) >= block_rows else "distributed"
                read = self.port.bank(m, f"bank{g}", (g, 0), words, at, style)
            weight = Signal(n * bits, name=f"weight{g}", reset_less=True)
            m.d.sync += weight.eq(read)
            lanes: list[Value] = [weight[j * bits : (j + 1) * bits].as_signed() for j in range(n)]
            if multiplies(self.projection, self.layout):
                products = [
                    Signal.like(w * value2, name=f"product{g}_{j}", reset_less=True) for j, w in enumerate(lanes)
                ]
                m.d.sync += [p.eq(w * value2) for p, w in zip(products, lanes, strict=True)]
                lanes = list(products)
            out.append(lanes)
        return out


def _table(name: str, entries: Sequence[tuple[int, ...]], index: Value) -> Fields:
    """Columns of a small table at an index."""
    out: Fields = {}
    for n, column in enumerate(zip(*entries, strict=True)):
        shape = shape_of(Interval(min(column), max(column)))
        consts = Array(Const(v, shape) for v in column)
        out[f"{name}{n}"] = consts[index] if len(consts) > 1 else consts[0]
    return out


def _address(start: Value, depth: int) -> Value:
    """As wide as steps from it may need, however few starts there are."""
    width = max(depth.bit_length(), 1)
    return (start + Const(0, width))[:width]


def _registers(m: Module, name: str, values: Fields, load: Value) -> Fields:
    """Registers of the values' shapes, loaded together."""
    out: Fields = {k: Signal(v.shape(), name=f"{name}_{k}", reset_less=True) for k, v in values.items()}
    with m.If(load):
        m.d.sync += [out[k].eq(v) for k, v in values.items()]
    return out
