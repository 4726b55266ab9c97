"""The neuron array: N law pipelines that visit a population's rows, with state and parameter memories.

`start` begins a tick; row r enters the pipeline r cycles later and leaves `latency` cycles after that. States are
read when a row enters and written when it leaves, so ticks must start at least `spacing` cycles apart.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property

import numpy as np
from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value, unsigned
from amaranth.lib import data, memory, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.arithmetic import ANY_STAGE, AmaranthOps, Wire, shape_of
from apical.hw.design import Lanes
from apical.sw.network import IntArray, Population
from apical.sw.ranges import Interval, LawRanges


class _Nowhere:
    """Takes a module's statements and forgets them: to learn a law's latency without building it."""

    def __init__(self) -> None:
        self.comb, self.sync = self, self

    @property
    def d(self) -> _Nowhere:
        return self

    def __iadd__(self, statements: object) -> _Nowhere:
        return self


class NeuronArray(wiring.Component):  # type: ignore[misc]
    """Applies the law to row after row.

    Ports: `start` (with `start_final`: the tick is its sample's last) in the cycle before the first row's currents;
    `row`, `row_valid`: the row whose `currents` must be present in this cycle. Results: `out_valid`, `out_row`,
    `out_last`, `out_final`, `values` and `states` (after the tick) of N neurons.
    """

    def __init__(
        self, population: Population, ranges: LawRanges, lanes: Lanes, currents: Mapping[str, list[Interval]]
    ) -> None:
        self.population, self.ranges, self.lanes, self.intervals = population, ranges, lanes, currents
        words = -(-population.size // lanes.synapse)
        self.rows = words * (lanes.synapse // lanes.neuron)
        r, j = np.arange(self.rows)[:, None], np.arange(lanes.neuron)[None, :]
        index = (r % words) * lanes.synapse + (r // words) * lanes.neuron + j
        self.neuron_of: IntArray = np.where(index < population.size, index, -1)
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
                "out_last": Out(1),
                "out_final": Out(1),
                "values": Out(data.ArrayLayout(shape_of(self.value_interval), n)),
                "states": Out(data.StructLayout(state_shapes)),
            }
        )

    @cached_property
    def latency(self) -> int:
        """Pipeline stages of the law, from registered currents to registered results."""
        return self._build(_Nowhere(), {})[1]

    @property
    def spacing(self) -> int:
        """Least distance of two starts: all rows entered, and every state written before it is read again."""
        return max(self.rows, self.latency + 2)

    def _row_rom(self, m: Module | _Nowhere, table: list[int], interval: Interval, row: Value) -> Value:
        """Registered look-up by row."""
        shape = shape_of(interval)
        out = Signal(shape, reset_less=True)
        entries = Array(Const(v, shape) for v in table)
        m.d.sync += out.eq(entries[row] if len(table) > 1 else entries[0])
        return out

    def _parameter(self, m: Module | _Nowhere, array: IntArray, lane: int, row_at: Mapping[int, Value]) -> Wire:
        """Constant where all of the lane's neurons share it, else a word per row."""
        here = [int(i) for i in self.neuron_of[:, lane]]
        first = next((i for i in here if i >= 0), 0)  # stands for padding, whose results are never read
        table = [int(array[min(i if i >= 0 else first, len(array) - 1)]) for i in here]
        interval = Interval(min(table), max(table))
        if interval.low == interval.high:
            return Wire(Const(interval.low, shape_of(interval)), interval, ANY_STAGE)
        made: dict[int, Value] = {}

        def at(stage: int) -> Value:
            if stage not in made:
                made[stage] = self._row_rom(m, table, interval, row_at.get(stage - 1, Const(0, 1)))
            return made[stage]

        return Wire(Const(0, 1), interval, ANY_STAGE, at, frozenset(table))

    def _build(
        self, m: Module | _Nowhere, row_at: Mapping[int, Value], stored: Mapping[str, list[Value]] | None = None
    ) -> tuple[list[tuple[dict[str, Value], Value]], int]:
        """Lay out N law pipelines in `m`; results are aligned to the returned stage."""
        ops = AmaranthOps(m)
        results: list[tuple[dict[str, Wire], Wire]] = []
        law = self.population.law
        for j in range(self.lanes.neuron):
            currents = {}
            for c, parts in self.intervals.items():
                wires = []
                for i, interval in enumerate(parts):
                    held = Signal(shape_of(interval), name=f"current_{c}{i}_{j}", reset_less=True)
                    m.d.sync += held.eq(self.currents[f"{c}{i}"][j] if stored is not None else 0)
                    wires.append(Wire(held, interval, 0))
                total = wires[0]
                for w in wires[1:]:
                    total = ops.add(total, w)
                currents[c] = total
            state = {
                name: Wire(stored[name][j] if stored is not None else Const(0, 1), Interval(*fmt.bounds), 0)
                for name, fmt in law.states().items()
            }
            params = {k: self._parameter(m, a, j, row_at) for k, a in self.population.params.items()}
            results.append(law.step(ops, state, currents, params))
        final = max(w.stage for states, value in results for w in (*states.values(), value))
        final = max(final, 0)
        out = [({k: ops.delay(w, final) for k, w in s.items()}, ops.delay(v, final)) for s, v in results]
        return out, final

    def elaborate(self, platform: object) -> Module:
        m = Module()
        n = self.lanes.neuron
        # Row counter: visible (stage -1) one cycle before the currents are registered (stage 0).
        final_tick, next_first, first_tick = Signal(), Signal(init=1), Signal()
        last_row = Signal()
        m.d.comb += last_row.eq(self.row == self.rows - 1)
        with m.If(self.start):
            m.d.sync += [
                self.row.eq(0),
                self.row_valid.eq(1),
                final_tick.eq(self.start_final),
                first_tick.eq(next_first),
                next_first.eq(self.start_final),
            ]
        with m.Elif(last_row):
            m.d.sync += self.row_valid.eq(0)
        with m.Else():
            m.d.sync += self.row.eq(self.row + 1)

        latency = self.latency
        row_at: dict[int, Value] = {-1: self.row}
        marks = Cat(last_row, final_tick)
        valid: Value = self.row_valid
        for stage in range(latency + 1):
            later_row = Signal.like(self.row, name=f"row_{stage}", reset_less=True)
            later_marks = Signal(2, name=f"marks_{stage}", reset_less=True)
            later_valid = Signal(name=f"valid_{stage}")
            m.d.sync += [later_row.eq(row_at[stage - 1]), later_marks.eq(marks), later_valid.eq(valid)]
            row_at[stage], marks, valid = later_row, later_marks, later_valid

        stored, write_ports = self._state_memory(m, first_tick)
        results, _ = self._build(m, row_at, stored)
        padded = self._padding(m, row_at[latency - 1])
        for j, (states, value) in enumerate(results):
            for name, v in states.items():
                m.d.comb += self.states[name][j].eq(v)
            m.d.comb += self.values[j].eq(value if padded is None else Mux(padded[j], 0, value))
        for name, port in write_ports.items():
            m.d.comb += [
                port.addr.eq(row_at[latency]),
                port.data.eq(Cat(self.states[name][j] for j in range(n))),
                port.en.eq(valid),
            ]
        m.d.comb += [
            self.out_valid.eq(valid),
            self.out_row.eq(row_at[latency]),
            self.out_last.eq(marks[0]),
            self.out_final.eq(marks[1]),
        ]
        return m

    def _padding(self, m: Module, row: Value) -> list[Value] | None:
        """Per lane: the row's neuron doesn't exist; valid with the results. None where there is no padding."""
        if (self.neuron_of >= 0).all():
            return None
        return [
            self._row_rom(m, [int(i < 0) for i in self.neuron_of[:, j]], Interval(0, 1), row)
            for j in range(self.lanes.neuron)
        ]

    def _state_memory(self, m: Module, first_tick: Value) -> tuple[dict[str, list[Value]], dict[str, memory.WritePort]]:
        """State words read at stage -1, or the start values in a sample's first tick, registered at stage 0."""
        stored, ports = {}, {}
        for name, fmt in self.population.law.states().items():
            shape = shape_of(Interval(*fmt.bounds))
            width = shape.width
            bank = memory.Memory(
                shape=unsigned(width * self.lanes.neuron),
                depth=max(self.rows, 2),
                init=[],
                attrs={"ram_style": "distributed"},
            )
            m.submodules[f"state_{name}"] = bank
            read = bank.read_port(domain="comb")
            ports[name] = bank.write_port()
            m.d.comb += read.addr.eq(self.row)
            initial = self.population.initial[name]
            lanes: list[Value] = []
            for j in range(self.lanes.neuron):
                held = Signal(shape, name=f"{name}_{j}", reset_less=True)
                word = read.data[j * width : (j + 1) * width]
                table = [int(initial[min(max(i, 0), len(initial) - 1)]) for i in self.neuron_of[:, j]]
                entries = Array(Const(v, shape) for v in table)
                start = entries[0] if len(set(table)) == 1 else entries[self.row]
                m.d.sync += held.eq(Mux(first_tick, start, word.as_signed() if shape.signed else word))
                lanes.append(held)
            stored[name] = lanes
        return stored, ports
