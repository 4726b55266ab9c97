"""Harnesses of the stream units: what each must keep, whatever surrounds it; for `apical.sim.formal_proofs`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from amaranth.hdl import Assert, Assume, Cat, Const, Module, Mux, Signal, Value

from apical.hw.design import Lanes
from apical.hw.events import EventLayout
from apical.hw.order import Order
from apical.sim import formal_checks as f
from apical.sw.ranges import Interval

BEATS = EventLayout(4, (0, 1), 2)  # two lanes of spikes of four sources
ONE_LANE = Lanes(4, 2, 1)


class ForkHarness(f.Harness):
    """Each reader takes each beat once, unchanged; a beat leaves when all have."""

    def __init__(self, unit: Any, readers: int = 2) -> None:
        super().__init__(unit(BEATS, readers))

    def properties(self, m: Module) -> None:
        i = self.unit.i
        moves = f.offered(m, i)
        quiet = Signal(range(f.PATIENCE + 1))
        m.d.sync += quiet.eq(Mux(i.valid, 0, quiet + 1))
        m.d.comb += Assume(i.valid | (quiet < f.PATIENCE - 1))
        has = []
        for n in range(self.unit.readers):
            o, taken = getattr(self.unit, f"o{n}"), Signal(name=f"taken{n}")
            f.fair(m, o.ready, f.PATIENCE)
            m.d.sync += taken.eq(~moves & (taken | (o.valid & o.ready)))
            m.d.comb += [Assert(o.valid == (i.valid & ~taken))]
            m.d.comb += Assert(~o.valid | (o.payload.as_value() == i.payload.as_value()))
            f.patient(m, o.valid, o.payload.as_value(), o.ready)
            has.append(taken | (o.valid & o.ready))
        m.d.comb += Assert(moves == (i.valid & Cat(has).all()))
        f.within(m, i.valid, moves, 2 * f.PATIENCE)


class CounterHarness(f.Harness):
    """The total is the sum modulo 2^32, two cycles later; its top bit falls where a carry is lost, and only there."""

    def __init__(self, unit: Any, most: int = 5) -> None:
        self.most = most
        super().__init__(unit(most))

    def properties(self, m: Module) -> None:
        c = self.unit
        f.anything(m, c.increment)
        m.d.comb += Assume(c.increment <= self.most)
        held, total, before = Signal.like(c.increment), Signal(40), Signal(40)
        m.d.sync += [held.eq(c.increment), total.eq(total + held), before.eq(total)]
        fell, top, begun = Signal(), Signal(), f.started(m)
        m.d.sync += top.eq(c.total[-1])
        m.d.comb += fell.eq(top & ~c.total[-1])
        m.d.comb += [
            Assert(c.total == total[:32]),
            Assert(~begun | (fell == (total[32:] != before[32:]))),
            Assert(~begun | (top == before[31])),
            Assert(~begun | (total - before <= self.most)),
        ]


class SkidHarness(f.Harness):
    """What goes in comes out once, unchanged, in order, from the next cycle on; there is room for two."""

    room, latency = 2, 1

    def __init__(self, unit: Any) -> None:
        super().__init__(unit(BEATS))

    def properties(self, m: Module) -> None:
        i, o = self.unit.i, self.unit.o
        comes = f.offered(m, i)
        f.fair(m, o.ready, f.PATIENCE)
        goes = o.valid & o.ready
        payload, out = i.payload.as_value(), o.payload.as_value()
        inside = [Signal(len(payload), name=f"inside{n}") for n in range(self.room + 1)]
        count = Signal(range(self.room + 2))
        m.d.comb += [
            Assert(o.valid == (count != 0)),
            Assert(~o.valid | (out == inside[0])),
            Assert(i.ready == (f.started(m) & (count != self.room))),
            Assert(count <= self.room),
        ]
        m.d.sync += count.eq(count + comes - goes)
        for n, slot in enumerate(inside):
            after = inside[n + 1] if n < self.room else slot
            with m.If(comes & (count - goes == n)):
                m.d.sync += slot.eq(payload)
            with m.Elif(goes):
                m.d.sync += slot.eq(after)
        f.patient(m, o.valid, out, o.ready)
        f.within(m, count != 0, goes, f.PATIENCE + self.latency)


def queue(unit: Any, *, size: int = 4, lanes: Lanes, high: int = 1) -> Any:
    """An event queue behind no real neuron array; with the neurons' order."""
    order = Order(size, None, lanes)
    neurons: Any = SimpleNamespace(
        rows=order.rows,
        lanes=lanes,
        value_interval=Interval(0, high),
        neuron_of=order.neuron_of,
        order=order,
        switch=None,
    )
    made = unit(neurons, EventLayout(size, (0, high), lanes.event))
    made.neuron_of = order.neuron_of
    return made


class QueueHarness(f.Harness):
    """Of any tick and neuron: its value leaves once, in its tick, where it isn't zero; every tick ends once, after all
    of its events and before the next one's; what leaves is counted."""

    TICKS = 2  # of which each is looked at

    def __init__(self, unit: Any, *, size: int = 4, lanes: Lanes = ONE_LANE, high: int = 1) -> None:
        super().__init__(queue(unit, size=size, lanes=lanes, high=high))

    def properties(self, m: Module) -> None:
        q = self.unit
        rows, order, values = q.rows, q.neuron_of, [q.values[j] for j in range(q.lanes.neuron)]
        row, closes, pushed = self._producer(m, order)
        f.fair(m, q.events.ready, 2)
        tick = f.any_constant(m, "tick", 0, self.TICKS - 1)
        neuron = f.any_constant(m, "neuron", 0, q.layout.sources - 1)
        given, final = Signal(len(values[0])), Signal()
        with m.If(q.push & (pushed == tick)):
            for r in range(rows):
                for j, i in enumerate(order[r]):
                    with m.If((row == r) & (neuron == int(i))):
                        m.d.sync += given.eq(values[j])
            with m.If(closes):
                m.d.sync += final.eq(q.final)
        s, got, left = q.events, Signal(), Signal.like(pushed)
        moves = s.valid & s.ready
        here = moves & (left == tick)
        m.d.sync += left.eq(left + (moves & s.payload.last & (left <= self.TICKS)))
        hits: list[Value] = []
        for e in range(q.layout.lanes):
            source = s.payload.rows[e] * q.layout.classes + e % q.layout.classes
            hits.append(here & s.payload.keep[e] & (source == neuron))
            value = Const(1, 1) if q.layout.binary else s.payload["values"][e]
            m.d.comb += Assert(~hits[-1] | (~got & (value == given)))
        with m.If(Cat(hits).any()):
            m.d.sync += got.eq(1)
        m.d.comb += [
            Assert(left <= pushed),
            Assert(~(here & s.payload.last) | ((given != 0) == (got | Cat(hits).any()))),
            Assert(~(here & s.payload.last) | (s.payload.final == final)),
            Assert(~(moves & s.payload.final) | s.payload.last),
        ]
        f.patient(m, s.valid, s.payload.as_value(), s.ready)
        f.within(m, pushed > left, moves, q.latency + 2)
        sent, counted = Signal(5), Signal(5)
        m.d.sync += sent.eq(sent + Mux(moves, sum(s.payload.keep[e] for e in range(q.layout.lanes)), 0))
        m.d.sync += counted.eq(counted + q.count)
        m.d.comb += Assert((counted + q.count)[:5] == sent)

    def _producer(self, m: Module, order: Any) -> tuple[Signal, Value, Signal]:
        """Whole ticks of rows, in order, for which there was room. Returns the row, whether it is its tick's last, and
        how many ticks have been pushed."""
        q = self.unit
        values = [q.values[j] for j in range(q.lanes.neuron)]
        f.anything(m, q.push, q.final, q.reserve, *values)
        row, owed, pushed = Signal(range(max(q.rows, 2))), Signal(range(2 * q.rows + 1)), Signal(range(self.TICKS + 2))
        following = Mux(row == q.rows - 1, 0, row + 1)
        m.d.comb += [
            q.last.eq(row == q.rows - 1),
            q.ahead.eq(Mux(q.push, following, row)),
            Assume(~q.reserve | q.room),
            Assume(~q.push | (owed != 0)),
        ]
        m.d.sync += owed.eq(owed + Mux(q.reserve, q.rows, 0) - q.push)
        closes = q.push & q.last
        m.d.sync += pushed.eq(pushed + (closes & (pushed <= self.TICKS)))
        with m.If(q.push):
            m.d.sync += row.eq(following)
        for r in range(q.rows):
            for j, i in enumerate(order[r]):
                if i < 0:
                    m.d.comb += Assume(~q.push | (row != r) | (values[j] == 0))
        return row, closes, pushed


class DelayHarness(f.Harness):
    """Tick t of a sample is what went in as its tick t - d, or a bare end of the tick where t < d."""

    SAMPLES, BEATS = 2, 2

    def __init__(self, unit: Any, ticks: int = 1, held: int = 1, sources: int = 2) -> None:
        self.ticks = ticks
        super().__init__(unit(EventLayout(sources, (0, 1), 1), ticks, held))

    def properties(self, m: Module) -> None:
        u, i, o = self.unit, self.unit.i, self.unit.o
        length = f.any_constant(m, "length", 1, 2)  # ticks of every sample
        sample = f.any_constant(m, "sample", 0, self.SAMPLES - 1)
        tick, number = f.any_constant(m, "tick", 0, 1), f.any_constant(m, "number", 0, self.BEATS - 1)
        comes = f.offered(m, i)
        f.fair(m, i.valid, f.PATIENCE)
        f.anything(m, o.ready, u.flush)
        # The source: samples of ticks of few beats; it runs ahead as far as the line lets it.
        given = self._place(m, comes, i.payload.last, length, "in")
        here = comes & (given[0] == sample) & (given[1] == tick) & (given[2] == number)
        payload, there, closed = Signal(len(i.payload.as_value())), Signal(), Signal()
        with m.If(here):
            m.d.sync += [payload.eq(i.payload.as_value()), there.eq(1)]
        with m.If(comes & i.payload.last & (given[0] == sample) & (given[1] == tick)):
            m.d.sync += closed.eq(1)
        m.d.comb += Assume(~(i.valid & ~i.payload.last) | (given[2] < self.BEATS - 1))
        # The reader: after a sample's last tick it takes nothing until it has flushed.
        full = Signal()
        takes = o.valid & o.ready
        read = self._place(m, takes, o.payload.last, length, "out")
        ends = takes & o.payload.last & (read[1] == length - 1)
        m.d.comb += [Assume(u.flush == (full & ~u.busy & u.flush)), Assume(~full | ~o.ready | u.flush)]
        m.d.sync += full.eq((full | ends) & ~u.flush)
        m.d.comb += Assert(~(u.flush & o.valid))
        late = (read[0] == sample) & (read[1] == tick + self.ticks) & (read[2] == number)
        m.d.comb += [
            Assert(~(takes & late) | (there & (o.payload.as_value() == payload))),
            Assert(~(takes & (read[1] < self.ticks)) | (o.payload.last & ~o.payload.keep.any())),
        ]
        last = (read[0] == sample) & (read[1] == tick + self.ticks) & takes & o.payload.last
        m.d.comb += Assert(~last | (closed & ((read[2] >= number) == there)))
        f.patient(m, o.valid & ~full, o.payload.as_value(), o.ready)

    def _place(self, m: Module, moves: Value, last: Value, length: Value, name: str) -> tuple[Signal, Signal, Signal]:
        """Sample, tick and beat of what comes next; samples beyond those of interest aren't told apart."""
        sample, tick = Signal(range(self.SAMPLES + 1), name=f"{name}_sample"), Signal(2, name=f"{name}_tick")
        beat = Signal(range(self.BEATS + 1), name=f"{name}_beat")
        with m.If(moves & last):
            m.d.sync += [beat.eq(0), tick.eq(tick + 1)]
            with m.If(tick == length - 1):
                m.d.sync += [tick.eq(0), sample.eq(Mux(sample == self.SAMPLES, sample, sample + 1))]
        with m.Elif(moves & (beat != self.BEATS)):
            m.d.sync += beat.eq(beat + 1)
        return sample, tick, beat
