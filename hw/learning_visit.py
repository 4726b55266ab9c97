"""The visits of one learning projection: every source that was active once, one word of its row a cycle.

Pipeline of a visit, in the order of the semantics (docs/reference/plasticity.md): product, gates, the weight's read,
the new weight's write; where the source is a population also the sum of weight times error over the row, whose end is
that cell's error. What the laws cost in stages `AmaranthOps` decides; everything else follows their stages.

Only one phase of a sample runs at a time, so no weight is read before an earlier sample's write has landed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory

from apical.hw.arithmetic import ANY_STAGE, AmaranthOps, Wire, constant, shape_of
from apical.hw.learning_store import ErrorStore, SlopeStore, later, rom
from apical.hw.synapse_array import SynapseArray, WeightPort
from apical.sw import on_chip
from apical.sw.law import Format
from apical.sw.network import IntArray
from apical.sw.on_chip import Learning
from apical.sw.ranges import Interval

KINDS = ("visits", "candidates", "frozen", "gated", "zero", "weight writes", "learning reads", "saturations")
LIMIT = 8  # bits that are added up between two registers
WRITES = Interval(0, (1 << 31) - 1)


def number_of_ones(m: Module, bits: Sequence[Value]) -> tuple[Value, int]:
    """How many are 1, and the cycles that this takes."""
    parts, cycles = list(bits), 0
    while len(parts) > 1 or not cycles:
        added = []
        for at in range(0, len(parts), LIMIT):
            few = parts[at : at + LIMIT]
            total = Signal(range(sum((1 << len(p)) - 1 for p in few) + 1), reset_less=True)
            m.d.sync += total.eq(sum(few[1:], few[0]))
            added.append(total)
        parts, cycles = added, cycles + 1
    return parts[0], cycles


@dataclass
class Target:
    """Where a visited cell's own errors go: the stores of its compartments, and the slopes; None where they are 1."""

    stores: Mapping[str, ErrorStore]
    slopes: SlopeStore | None


class Visitor(Elaboratable):  # type: ignore[misc]
    """Visits the rows of one projection.

    Driven from outside: `log` (an event of `log_row`, `log_value` was accepted), `forget` (empties the log), `start`,
    `sample` (its number), `host` with `host_address`. It drives the weight port and reads the errors of the target.
    `busy` from the cycle after `start` until the last write has landed and the threshold is steered. `counts`: by kind,
    to be added in every cycle. `threshold`: as it is now; `load_threshold` with `loaded` sets it.

    :param place: of the projection in the chain, from 0.
    :param source: where the cells' errors go; None where the source is the input.
    :param plastic: bits of the source's and the target's cells, or None where all are.
    """

    def __init__(
        self,
        array: SynapseArray,
        port: WeightPort,
        learning: Learning,
        place: int,
        errors: ErrorStore,
        source: Target | None,
        plastic: tuple[IntArray | None, IntArray | None],
    ) -> None:
        self.array, self.port, self.learning, self.place = array, port, learning, place
        self.site, self.errors, self.source, self.plastic = learning.sites[place], errors, source, plastic
        layout, lanes = array.layout, array.lanes.synapse
        self.log, self.log_row = Signal(), Signal(layout.row_bits)
        self.log_value, self.forget = Signal(layout.value_shape), Signal()
        self.start, self.busy, self.sample = Signal(), Signal(), Signal(on_chip.NOISE_BITS)
        self.host, self.host_address = Signal(), Signal.like(port.address)
        self.host_write, self.host_lane, self.host_data = Signal(), Signal(range(max(lanes, 2))), Signal(32)
        self.host_word, self.threshold = Signal(array.projection.weight_bits * lanes), Signal(31)
        self.load_threshold, self.loaded = Signal(), Signal(31)
        targets = array.projection.sizes[0]
        most = {**dict.fromkeys(KINDS, lanes), "visits": 1, "learning reads": targets if source else lanes}
        self.counts = {k: Signal(range(n + 1), name=f"count_{k.replace(' ', '_')}") for k, n in most.items()}
        self.error_cut = Signal(range(len(source.stores) + 1 if source else 2))

    def elaborate(self, platform: object) -> Module:
        m = Module()
        valid, k, row, value = self._issue(m)
        ops = AmaranthOps(m)
        site, learning, order = self.site, self.learning, self.array.order
        lanes, low_high = order.lanes.synapse, Format(learning.error_bits).bounds
        v = Wire(value, Interval(*self.array.layout.value_range), 0)
        words = [self.errors.errors[j * learning.error_bits :][: learning.error_bits] for j in range(lanes)]
        errors = [Wire(e.as_signed(), Interval(*low_high), 0) for e in words]
        products = [ops.mul(v, e) for e in errors]
        threshold = Wire(self.threshold, WRITES, ANY_STAGE, at=lambda stage: self.threshold)
        above = [constant(1)] * lanes
        if site.target_writes is not None:
            above = [on_chip.exceeds(ops, q, threshold, learning.gain) for q in products]
        noise = self._noise(m, ops, k, row)
        deltas = [on_chip.change(ops, q, r, site.rate_shift) for q, r in zip(products, noise, strict=True)]
        stage = max(w.stage for each in (products, above, deltas) for w in each)
        valids = [valid]
        for _ in range(stage + 4):
            valids.append(Signal(name=f"valid{len(valids)}"))
            m.d.sync += valids[-1].eq(valids[-2])

        # The gates, then the read.
        ks, rows = later(m, k, stage), later(m, row, stage)
        there = self._ones(ks, [order.target_of[:, j] >= 0 for j in range(lanes)])
        ends = self._plastic(m, k, row, stage)
        candidates, opened, selected, written = [], [], [], []
        for j in range(lanes):
            candidates.append(valids[stage] & there[j] & (ops.delay(products[j], stage) != 0))
            opened.append(candidates[j] & ends[j])
            selected.append(opened[j] & (ops.delay(above[j], stage) != 0))
            written.append(selected[j] & (ops.delay(deltas[j], stage) != 0))
        write = Signal(lanes)
        m.d.sync += write.eq(Cat(written))
        address = later(m, self._address(m, ks, rows), 1)  # with `write`
        weight_at = stage + 3  # read in stage + 1, there a cycle later, registered
        word = Signal(len(self.host_word), reset_less=True)
        m.d.sync += word.eq(Cat(self.port.words[0]))
        bits = self.array.projection.weight_bits
        weights = [
            Wire(word[j * bits : (j + 1) * bits].as_signed(), Interval(*Format(bits).bounds), weight_at)
            for j in range(lanes)
        ]
        wanted = [ops.add(w, d) for w, d in zip(weights, deltas, strict=True)]
        after = [on_chip.limited(ops, w, bits) for w in wanted]
        landed = max(w.stage for w in after)
        writes = later(m, write, landed - stage - 1)
        cut = [writes[j] & (ops.delay(wanted[j], landed) != ops.delay(after[j], landed)) for j in range(lanes)]
        n = self.array.lanes.neuron
        shown = [Mux(self.host_write, self.host_data[:bits], ops.delay(w, landed)[:bits]) for w in after]
        chosen = Mux(self.host_write, Const(1, lanes) << self.host_lane, writes)
        m.d.comb += [
            self.port.taken.eq(self.busy | self.host),
            self.port.address.eq(Mux(self.host, self.host_address, address)),
            self.port.write_address.eq(Mux(self.host, self.host_address, later(m, address, landed - stage - 1))),
            self.host_word.eq(word),
            *(w.eq(Cat(shown[g * n : (g + 1) * n])) for g, w in enumerate(self.port.write_words)),
            *(w.eq(chosen[g * n : (g + 1) * n]) for g, w in enumerate(self.port.write_enable[0])),
        ]
        last = landed
        if self.source is not None:
            last = self._back(m, ops, self.source, weights, errors, valid, k, row)
        counted = self._count(m, valid, k, [candidates, opened, selected, written], cut)
        drain = max(last, stage + counted, landed + counted) + 4
        self._finish(m, drain)
        return m

    def _issue(self, m: Module) -> tuple[Value, Value, Value, Value]:
        """Log the events of a sample; replay them: valid, word, row, value, with the errors of that word."""
        layout, words = self.array.layout, self.array.words
        entry = layout.row_bits + len(self.log_value)
        log = memory.Memory(shape=unsigned(entry), depth=max(layout.sources, 2), init=[])
        m.submodules.log = log
        write, read = log.write_port(), log.read_port()
        count, at = Signal(range(layout.sources + 1)), Signal(range(layout.sources + 1))
        k = Signal(range(max(words, 2)))
        self._replaying = replaying = Signal()
        m.d.comb += [
            write.addr.eq(count),
            write.data.eq(Cat(self.log_row, self.log_value)),
            write.en.eq(self.log),
            read.addr.eq(at),
            self.errors.address.eq(k),
        ]
        with m.If(self.forget):
            m.d.sync += count.eq(0)
        with m.Elif(self.log):
            m.d.sync += count.eq(count + 1)
        with m.If(self.start):
            m.d.sync += [replaying.eq(count != 0), at.eq(0), k.eq(0)]
        with m.Elif(replaying):
            m.d.sync += k.eq(k + 1)
            with m.If(k == words - 1):
                m.d.sync += [k.eq(0), at.eq(at + 1), replaying.eq(at + 1 != count)]
        valid, word = Signal(name="visit_valid"), Signal.like(k, name="visit_word")
        m.d.sync += [valid.eq(replaying), word.eq(k)]
        row, value = read.data[: layout.row_bits], read.data[layout.row_bits :]
        return valid, word, row, value.as_signed() if layout.value_shape.signed else value

    def _noise(self, m: Module, ops: AmaranthOps, k: Value, row: Value) -> Sequence[Wire | int]:
        shift, lanes = self.site.rate_shift, self.array.order.lanes.synapse
        if self.learning.rounding != "stochastic":
            return [on_chip.half(shift) if self.learning.rounding == "nearest" else 0] * lanes
        sample = Wire(self.sample, Interval(0, (1 << on_chip.NOISE_BITS) - 1), 0)
        rows = Wire(row, Interval(0, (1 << len(row)) - 1), 0)
        base = on_chip.noise_base(ops, sample, rows, self.place)
        phases, at = on_chip.noise_lanes(self.array.projection.sizes[0]), self.array.order.target_of
        out: list[Wire | int] = []
        for j in range(lanes):
            table = [int(phases[max(t, 0)]) for t in at[:, j]]
            if len(set(table)) == 1:
                phase = constant(table[0])
            else:
                entries = Array(Const(p, on_chip.NOISE_BITS) for p in table)
                phase = Wire(entries[k], Interval(0, max(table)), 0)
            out.append(on_chip.noise(ops, base, phase, shift))
        return out

    def _ones(self, k: Value, tables: Sequence[np.ndarray]) -> list[Value]:
        """Bits by lane at word `k`."""
        out: list[Value] = []
        for table in tables:
            bits = [int(b) for b in table]
            out.append(Const(bits[0], 1) if len(set(bits)) == 1 else Array(Const(b, 1) for b in bits)[k])
        return out

    def _plastic(self, m: Module, k: Value, row: Value, stage: int) -> list[Value]:
        """By lane: both ends may learn, at `stage`."""
        source, target = self.plastic
        order, lanes = self.array.order, self.array.order.lanes.synapse
        ends: list[Value] = [Const(1, 1)] * lanes
        if target is not None:
            ends = self._ones(later(m, k, stage), [target[np.maximum(order.target_of[:, j], 0)] for j in range(lanes)])
        if source is not None:
            bit = later(m, rom(m, "plastic", [int(b) for b in source], row), stage - 1)
            ends = [e & bit for e in ends]
        return ends

    def _address(self, m: Module, k: Value, row: Value) -> Value:
        """Word k of row r is at k * rows + r."""
        if self.array.words == 1:
            return row
        bases = Array(Const(w * self.array.layout.rows, len(self.port.address)) for w in range(self.array.words))
        return (bases[k] + row)[: len(self.port.address)]

    def _back(
        self,
        m: Module,
        ops: AmaranthOps,
        source: Target,
        weights: Sequence[Wire],
        errors: Sequence[Wire],
        valid: Value,
        k: Value,
        row: Value,
    ) -> int:
        """The visited cell's errors, from the sum over its row; the stage in which the last one is written."""
        terms: list[Wire] = [ops.mul(w, e) for w, e in zip(weights, errors, strict=True)]
        here = self._ones(
            later(m, k, terms[0].stage), [self.array.order.target_of[:, j] >= 0 for j in range(len(terms))]
        )
        at = terms[0].stage
        terms = [Wire(Mux(h, t.value, 0), t.interval, at) for h, t in zip(here, terms, strict=True)]
        while len(terms) > 1:
            pairs = [ops.add(a, b) for a, b in zip(terms[::2], terms[1::2], strict=False)]
            terms = pairs + ([terms[-1]] if len(terms) % 2 else [])
        at, words, total = terms[0].stage, self.array.words, terms[0]
        first, ends = later(m, k == 0, at), later(m, valid & (k == words - 1), at)
        bounds = Interval(words * min(total.interval.low, 0), words * max(total.interval.high, 0))
        back = Signal(shape_of(bounds), reset_less=True)
        m.d.sync += back.eq(total.value + Mux(first, 0, back))
        whole, stages, cuts = Wire(back, bounds, at + 1), [], []
        slopes = {} if source.slopes is None else source.slopes.read(m, row, at + 1)
        for n, (compartment, store) in enumerate(source.stores.items()):
            wanted = on_chip.hidden_error(ops, slopes.get(compartment, 1), whole, self.site.back_shift)
            error = on_chip.limited(ops, wanted, self.learning.error_bits)
            stages.append(error.stage)
            cells = store.order.target_of.reshape(-1)
            places = np.zeros((2, cells.max() + 1), np.int64)
            places[:, cells[cells >= 0]] = np.divmod(np.nonzero(cells >= 0)[0], store.order.lanes.synapse)
            word, lane = (
                rom(m, f"{what}{n}", t.tolist(), row) for what, t in zip(("word", "lane"), places, strict=True)
            )
            done = later(m, ends, error.stage - at)
            m.d.comb += [
                store.write.eq(done),
                store.write_word.eq(later(m, word, error.stage - 1)),
                store.write_lane.eq(later(m, lane, error.stage - 1)),
                store.value.eq(error.value),
            ]
            cuts.append(done & (ops.delay(wanted, error.stage) != error.value))
        m.d.comb += self.error_cut.eq(sum(cuts[1:], cuts[0]))
        return max(stages)

    def _count(self, m: Module, valid: Value, k: Value, bits: Sequence[Sequence[Value]], cut: Sequence[Value]) -> int:
        """Feed the counters; cycles from the last bit to the last count."""
        cycles: int
        (candidates, cycles), *rest = (number_of_ones(m, b) for b in bits)
        opened, selected, written = (r[0] for r in rest)
        saturated, _ = number_of_ones(m, cut)
        visit = valid & (k == 0)
        kinds = self.counts
        m.d.comb += [
            kinds["visits"].eq(visit),
            kinds["candidates"].eq(candidates),
            kinds["frozen"].eq(candidates - opened),
            kinds["gated"].eq(opened - selected),
            kinds["zero"].eq(selected - written),
            kinds["weight writes"].eq(written),
            kinds["saturations"].eq(saturated),
        ]
        reads = Mux(visit, self.array.projection.sizes[0], 0) if self.source is not None else written
        m.d.comb += kinds["learning reads"].eq(reads)
        return cycles

    def _finish(self, m: Module, drain: int) -> None:
        """Busy until everything has landed; then the threshold."""
        wait, writes = Signal(range(drain + 1)), Signal(31)
        threshold, written = (Wire(s, WRITES, 0) for s in (self.threshold, writes))
        pause = 0
        if self.site.target_writes is not None:
            ops = AmaranthOps(m)
            steered = on_chip.steered(ops, threshold, written, self.site.target_writes)
            pause = steered.stage
        settle = Signal(range(pause + 2))
        steer = Signal()
        with m.If(self.start):
            m.d.sync += [self.busy.eq(1), wait.eq(drain), settle.eq(pause + 1), writes.eq(0)]
        with m.Elif(self.busy):
            m.d.sync += writes.eq(writes + self.counts["weight writes"])
            with m.If(self._replaying):
                m.d.sync += wait.eq(drain)
            with m.Elif(wait != 0):
                m.d.sync += wait.eq(wait - 1)
            with m.Elif(settle != 0):
                m.d.sync += settle.eq(settle - 1)
            with m.Else():
                m.d.sync += self.busy.eq(0)
                m.d.comb += steer.eq(1)
        with m.If(self.load_threshold):
            m.d.sync += self.threshold.eq(self.loaded)
        if self.site.target_writes is not None:
            with m.Elif(steer):
                m.d.sync += self.threshold.eq(steered.value)
