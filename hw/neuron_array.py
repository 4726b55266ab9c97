"""The neuron array: N law pipelines that visit a population's rows, with state and parameter memories.

`start` begins a tick; row r enters the pipelines (`apical.hw.law_pipeline`) r cycles later, its results leave `latency`
cycles after that. The words that the next tick needs are read when a row enters and written `settled` cycles later, so
ticks must start at least `spacing` cycles apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Shape, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.arithmetic import ANY_STAGE, FIXED, STATE, Wire, constant, shape_of
from apical.hw.design import Lanes
from apical.hw.kernel_gate import Switch, next_set
from apical.hw.law_pipeline import LawPipeline, Nowhere, first_words
from apical.hw.order import Order
from apical.sw.network import IntArray, Population
from apical.sw.ranges import Interval, LawRanges

DEEP = 128  # rows of a map from which on its states go to block RAM


class NeuronArray(wiring.Component):  # type: ignore[misc]
    """Applies the law to row after row.

    Ports: `start` (with `start_final`: the tick is its sample's last) in the cycle before the first row's currents;
    `row`, `row_valid`: the row whose `currents` must be present in this cycle. Results: `out_valid`, `out_row`,
    `out_last`, `out_final`, `values` and `states` (after the tick) of N neurons; `out_ahead`: the row of the next
    cycle's results. Where there is a `switch`: `on`, the groups that are on in the tick that `start` begins; rows of
    words that are off are left out, values and states of lanes that are off are 0; `out_block`: of the results' row.
    """

    def __init__(
        self,
        population: Population,
        ranges: LawRanges,
        lanes: Lanes,
        currents: Mapping[str, list[Interval]],
        lut_ram: bool = True,
        switch: Switch | None = None,
    ) -> None:
        self.population, self.ranges, self.lanes, self.intervals = population, ranges, lanes, currents
        self.switch = switch
        self.lut_ram, self._roms = lut_ram, 0
        self.order = Order(population.size, population.shape, lanes)
        self.rows, self.neuron_of = self.order.rows, self.order.neuron_of
        if population.shape is not None and self.rows >= DEEP:
            self.lut_ram = False
        value = ranges.value
        self.value_interval = Interval(min(value.low, 0), max(value.high, 0))  # padding sends 0
        n = lanes.neuron
        state_shapes = {
            name: data.ArrayLayout(shape_of(Interval(*fmt.bounds)), n) for name, fmt in population.law.states().items()
        }
        super().__init__(
            {
                "start": In(1),
                "start_final": In(1),
                "row": Out(range(max(self.rows, 2))),
                "row_valid": Out(1),
                "currents": In(
                    data.StructLayout(
                        {
                            f"{c}{i}": data.ArrayLayout(shape_of(interval), n)
                            for c, parts in currents.items()
                            for i, interval in enumerate(parts)
                        }
                    )
                ),
                "out_valid": Out(1),
                "out_row": Out(range(max(self.rows, 2))),
                "out_ahead": Out(range(max(self.rows, 2))),
                "out_last": Out(1),
                "out_final": Out(1),
                "values": Out(data.ArrayLayout(shape_of(self.value_interval), n)),
                "states": Out(data.StructLayout(state_shapes)),
                **(
                    {} if switch is None else {"on": In(switch.gate.groups), "out_block": Out(range(self._block_count))}
                ),
            }
        )

    @property
    def _block_count(self) -> int:
        return max(self.rows // self.order.positions, 2)

    @cached_property
    def _plan(self) -> tuple[list[LawPipeline], int, int]:
        return self._build(Nowhere(), {}, 0, None)

    @property
    def latency(self) -> int:
        """Stages from registered currents to registered results."""
        return self._plan[1]

    @property
    def settled(self) -> int:
        """Stages from registered currents until the words for the next tick are known."""
        return self.latency + self._plan[2]

    @property
    def word_bits(self) -> int:
        """Bits that a row stores from one tick to the next."""
        return sum(shape_of(word.wire.interval).width for lane in self._plan[0] for word in lane.words)

    @property
    def spacing(self) -> int:
        """Least distance of two starts: all rows entered, and every word written before it is read again."""
        reading = 1 if self.lut_ram else 2  # block RAM is read a cycle ahead
        if self.switch is not None and self.population.law.states():  # the next walk may leave words out
            return self.rows + self.settled + 1 + reading
        return max(self.rows, self.settled + 1 + reading) if self.population.law.states() else self.rows

    def _by_block(self, table: list[int]) -> list[int] | None:
        """The table by block of rows (those of one channel in each lane); None where it isn't one number a block."""
        blocks = np.reshape(table, (-1, self.order.positions))
        return [int(v) for v in blocks[:, 0]] if (blocks == blocks[:, :1]).all() else None

    def _row_rom(self, m: Module | Nowhere, table: list[int], interval: Interval, row: Value, block: Value) -> Value:
        """Registered look-up by row; by block where that is enough, from a memory where a map needs each row's."""
        shape = shape_of(interval)
        out = Signal(shape, reset_less=True)
        if (blocks := self._by_block(table)) is None:
            if isinstance(m, Module):
                m.d.comb += out.eq(self._memory_rom(m, table, shape, row))
            return out
        at = row if self.order.positions == 1 else block
        entries = Array(Const(v, shape) for v in blocks)
        m.d.sync += out.eq(entries[at] if len(blocks) > 1 else entries[0])
        return out

    def _memory_rom(self, m: Module, table: list[int], shape: Shape, row: Value) -> Value:
        """The same from a memory, a cycle after `row`."""
        rom = memory.Memory(shape=unsigned(shape.width), depth=len(table), init=[v % (1 << shape.width) for v in table])
        self._roms += 1
        m.submodules[f"rom{self._roms}"] = rom
        port = rom.read_port()
        m.d.comb += port.addr.eq(row)
        return port.data.as_signed() if shape.signed else port.data

    def _parameter(
        self,
        m: Module | Nowhere,
        array: IntArray,
        lane: int,
        row_at: Mapping[int, Value],
        block_at: Mapping[int, Value],
    ) -> Wire:
        """Constant where all of the lane's neurons share it, else a word per row."""
        array = self.population.spread(array)
        here = [int(i) for i in self.neuron_of[:, lane]]
        first = next((i for i in here if i >= 0), 0)  # stands for padding, whose results are never read
        table = [int(array[min(i if i >= 0 else first, len(array) - 1)]) for i in here]
        interval = Interval(min(table), max(table))
        if interval.low == interval.high:
            return constant(interval.low)
        made: dict[int, Value] = {}

        def at(stage: int) -> Value:
            if stage not in made:
                row, block = (at.get(stage - 1, Const(0, 1)) for at in (row_at, block_at))
                made[stage] = self._row_rom(m, table, interval, row, block)
            return made[stage]

        return Wire(Const(0, 1), interval, ANY_STAGE, at, frozenset(table), FIXED)

    def _build(
        self,
        m: Module | Nowhere,
        row_at: Mapping[int, Value],
        behind: int,
        held: list[list[Signal]] | None,
        block_at: Mapping[int, Value] | None = None,
    ) -> tuple[list[LawPipeline], int, int]:
        """Lay out the lanes' laws in `m`: pipelines, stage of the results, stages from there until all words are known.

        :param behind: stage of the results, as an earlier call has found it.
        :param held: per lane the stored words at stage 0; None to learn which there are.
        """
        lanes = []
        for j in range(self.lanes.neuron):
            currents: dict[str, list[Wire]] = {}
            for c, parts in self.intervals.items():
                currents[c] = []
                for i, interval in enumerate(parts):
                    sums = Signal(shape_of(interval), name=f"current_{c}{i}_{j}", reset_less=True)
                    m.d.sync += sums.eq(self.currents[f"{c}{i}"][j])
                    currents[c].append(Wire(sums, interval, 0))
            state = {
                name: Wire(self.states[name][j], Interval(*fmt.bounds), behind, source=STATE)
                for name, fmt in self.population.law.states().items()
            }
            params = {k: self._parameter(m, a, j, row_at, block_at or {}) for k, a in self.population.params.items()}
            lanes.append(LawPipeline(m, self.population, state, currents, params, None if held is None else held[j]))
        latency = max(0, *(w.stage for lane in lanes for w in (*lane.states.values(), lane.value)))
        settled = max(behind, *(word.wire.stage for lane in lanes for word in lane.words), behind)
        return lanes, latency, settled - behind

    def elaborate(self, platform: object) -> Module:
        m = Module()
        # Row counter: visible (stage -1) one cycle before the currents are registered (stage 0).
        final_tick, next_first, first_tick = Signal(), Signal(init=1), Signal()
        last_row = Signal()
        row_next = Signal.like(self.row)
        if self.switch is None:
            m.d.comb += last_row.eq(self.row == self.rows - 1)
            m.d.comb += row_next.eq(Mux(self.start, 0, Mux(last_row, self.row, self.row + 1)))
        m.d.sync += self.row.eq(row_next)
        with m.If(self.start):
            m.d.sync += [
                self.row_valid.eq(1),
                final_tick.eq(self.start_final),
                first_tick.eq(next_first),
                next_first.eq(self.start_final),
            ]
        with m.Elif(last_row):
            m.d.sync += self.row_valid.eq(0)

        on: list[Value] = []
        if self.switch is None:
            block: Value = self._blocks(m, last_row)
        else:
            block, on = self._gated_blocks(m, self.switch, row_next, last_row)
        latency, settled = self.latency, self.settled
        block_at: dict[int, Value] = {-1: block}
        row_at: dict[int, Value] = {-1: self.row}
        marks: dict[int, Value] = {-1: Cat(last_row, final_tick, *on)}
        valid: dict[int, Value] = {-1: self.row_valid}
        for stage in range(settled + 1):
            later_row = Signal.like(self.row, name=f"row_{stage}", reset_less=True)
            later_marks = Signal(2 + len(on), name=f"marks_{stage}", reset_less=True)
            later_valid = Signal(name=f"valid_{stage}")
            m.d.sync += [
                later_row.eq(row_at[stage - 1]),
                later_marks.eq(marks[stage - 1]),
                later_valid.eq(valid[stage - 1]),
            ]
            row_at[stage], marks[stage], valid[stage] = later_row, later_marks, later_valid
            if isinstance(block, Signal):
                block_at[stage] = Signal.like(block, name=f"block_{stage}", reset_less=True)
                m.d.sync += block_at[stage].eq(block_at[stage - 1])

        held = self._state_memory(m, first_tick, row_next, block)
        lanes, _, _ = self._build(m, row_at, latency, held, block_at)
        padded = self._padding(m, row_at[latency - 1], block_at.get(latency - 1, Const(0, 1)))
        for j, lane in enumerate(lanes):
            shown = marks[latency][2 + j] if on else Const(1, 1)
            for name, state in lane.states.items():
                m.d.comb += self.states[name][j].eq(Mux(shown, lane.ops.delay(state, latency), 0))
            value = lane.ops.delay(lane.value, latency)
            value = Mux(shown, value, 0) if on else value
            m.d.comb += self.values[j].eq(value if padded is None else Mux(padded[j], 0, value))
        if self._write is not None:
            m.d.comb += [
                self._write.addr.eq(row_at[settled]),
                self._write.en.eq(valid[settled]),
                self._write.data.eq(Cat(lane.ops.delay(w.wire, settled) for lane in lanes for w in lane.words)),
            ]
        m.d.comb += [
            self.out_valid.eq(valid[latency]),
            self.out_row.eq(row_at[latency]),
            self.out_ahead.eq(row_at[latency - 1]),
            self.out_last.eq(marks[latency][0]),
            self.out_final.eq(marks[latency][1]),
        ]
        if self.switch is not None:
            m.d.comb += self.out_block.eq(block_at[latency])
        return m

    def _gated_blocks(
        self, m: Module, switch: Switch, row_next: Signal, last_row: Signal
    ) -> tuple[Signal, list[Value]]:
        """The block of the row counter, through the words that are on; and which lanes of it are on. Leaves in
        `_began` per lane whether it was on in the tick before, too."""
        positions = self.order.positions
        count = self.rows // positions
        on, before = Signal(switch.gate.groups), Signal(switch.gate.groups)
        block, position = Signal(range(self._block_count), name="block"), Signal(range(max(positions, 2)))
        firsts = Array(Const(b * positions, range(max(self.rows, 2))) for b in range(count))

        def walked(bits: Value) -> Value:
            return Cat(*[switch.walked(bits)] * (count // self.order.channel_words))

        turns = position == positions - 1
        (_, now), (more, following) = next_set(walked(self.on)), next_set(walked(on), block)
        m.d.comb += [
            last_row.eq(turns & ~more),
            row_next.eq(
                Mux(self.start, firsts[now], Mux(last_row, self.row, Mux(turns, firsts[following], self.row + 1)))
            ),
        ]
        with m.If(self.start):
            m.d.sync += [on.eq(self.on), before.eq(on), block.eq(now), position.eq(0)]
        with m.Elif(~last_row):
            m.d.sync += position.eq(Mux(turns, 0, position + 1))
            with m.If(turns):
                m.d.sync += block.eq(following)
        self._began = switch.lane_bits(before, block)
        return block, switch.lane_bits(on, block)

    def _blocks(self, m: Module, last_row: Value) -> Value:
        """The block of the row counter; of flat populations nothing."""
        if self.order.positions == 1:
            return Const(0, 1)
        position = Signal(range(self.order.positions))
        block = Signal(range(max(self.rows // self.order.positions, 2)))
        with m.If(self.start):
            m.d.sync += [position.eq(0), block.eq(0)]
        with m.Elif(position == self.order.positions - 1):
            m.d.sync += [position.eq(0), block.eq(block + 1)]
        with m.Elif(~last_row):
            m.d.sync += position.eq(position + 1)
        return block

    def _padding(self, m: Module, row: Value, block: Value) -> list[Value] | None:
        """Per lane: the row's neuron doesn't exist; valid with the results. None where there is no padding."""
        if (self.neuron_of >= 0).all():
            return None
        return [
            self._row_rom(m, [int(i < 0) for i in self.neuron_of[:, j]], Interval(0, 1), row, block)
            for j in range(self.lanes.neuron)
        ]

    def _state_memory(self, m: Module, first_tick: Value, row_next: Value, block: Value) -> list[list[Signal]]:
        """Per lane the stored words read at stage -1, or what the start values make of them in a sample's first tick,
        registered at stage 0. Leaves the write port in `_write`."""
        shapes = [[shape_of(word.wire.interval) for word in lane.words] for lane in self._plan[0]]
        width = self.word_bits
        self._write: memory.WritePort | None = None
        if not width:
            return [[] for _ in shapes]
        attrs = {"ram_style": "distributed" if self.lut_ram else "block"}
        bank = memory.Memory(shape=unsigned(width), depth=max(self.rows, 2), init=[], attrs=attrs)
        m.submodules.state = bank
        read, self._write = bank.read_port(domain="comb" if self.lut_ram else "sync"), bank.write_port()
        m.d.comb += read.addr.eq(self.row if self.lut_ram else row_next)
        first, at = first_words(self.population), 0
        held: list[list[Signal]] = []
        for j, lane in enumerate(self._plan[0]):
            held.append([])
            for n, (word, shape) in enumerate(zip(lane.words, shapes[j], strict=True)):
                stored = read.data[at : at + shape.width]
                at += shape.width
                table = [int(first[word.made_by][max(i, 0)]) for i in self.neuron_of[:, j]]
                if (blocks := self._by_block(table)) is None:
                    start = self._memory_rom(m, table, shape, row_next)
                else:
                    entries = Array(Const(v, shape) for v in blocks)
                    at_row = self.row if self.order.positions == 1 else block
                    start = entries[0] if len(set(blocks)) == 1 else entries[at_row]
                held[j].append(Signal(shape, name=f"word{n}_{j}", reset_less=True))
                begins = first_tick if self.switch is None else first_tick | ~self._began[j]
                m.d.sync += held[j][n].eq(Mux(begins, start, stored.as_signed() if shape.signed else stored))
        return held
