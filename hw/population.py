"""One population: a synapse array per projection, the neuron array, the event queue, and the barrier that joins them.

A tick closes when every projection's last beat waits, the neuron array can start and the queue has room for all rows
(`go`). Until then arrays integrate whatever comes; after it they begin the next tick in the very next cycle.
"""

from __future__ import annotations

from amaranth.hdl import Const, Module, Mux, Signal, Value
from amaranth.lib import data, stream, wiring
from amaranth.lib.fifo import SyncFIFOBuffered
from amaranth.lib.wiring import In, Out

from apical.hw import conv_array
from apical.hw.conv_array import ConvArray
from apical.hw.conv_flatten import Flatten
from apical.hw.delay import Delay, ticks_held
from apical.hw.design import Lanes
from apical.hw.event_queue import EventQueue
from apical.hw.events import EventLayout
from apical.hw.kernel_gate import KernelGate, Switch, ones
from apical.hw.lookahead import beats, gate_ticks_queued, ticks_queued
from apical.hw.neuron_array import NeuronArray
from apical.hw.order import Order
from apical.hw.synapse_array import SynapseArray, base_latency
from apical.sw.network import Network, Population


class PopulationUnit(wiring.Component):  # type: ignore[misc]
    """Streams in (`events0` …, one per projection, in the network's order) to the stream out (`events`).

    :param layouts: event layouts of the incoming projections' sources, in the same order.
    :param gate_layout: of the source of the population's gate, where it has one; it comes in on `gate_events`.
    :param lut_ram: as in `apical.hw.design.HardwareOptions`.
    """

    def __init__(
        self,
        network: Network,
        population: Population,
        lanes: Lanes,
        layouts: list[EventLayout],
        lut_ram: bool = True,
        gate_layout: EventLayout | None = None,
    ) -> None:
        self.network, self.population, self.lanes = network, population, lanes
        incoming = network.incoming(population.name)
        order = Order(population.size, population.shape, lanes)
        gate = network.gate_of(population.name)
        self.switch = None if gate is None else Switch(gate, order)
        self.kernel_gate = None if gate is None or gate_layout is None else KernelGate(gate, gate_layout)
        self.flattens = [
            Flatten(layout) if p.geometry is None and layout.shape is not None else None
            for p, layout in zip(incoming, layouts, strict=True)
        ]
        read = [layout if f is None else f.layout for f, layout in zip(self.flattens, layouts, strict=True)]
        latencies = [
            base_latency(layout, order.words) if p.geometry is None else conv_array.base_latency(p, layout)
            for p, layout in zip(incoming, read, strict=True)
        ]
        self.arrays: list[SynapseArray | ConvArray] = []
        for p, layout, flatten, latency in zip(incoming, read, self.flattens, latencies, strict=True):
            extra = max(latencies) - latency
            if p.geometry is None:
                sources = None if flatten is None else flatten.sources
                array = SynapseArray(p, layout, lanes, extra, lut_ram, order=order, sources=sources)
            else:
                array = ConvArray(p, layout, lanes, extra, lut_ram, order=order, switch=self.switch)
            self.arrays.append(array)
        self.by_compartment: dict[str, list[SynapseArray | ConvArray]] = {c: [] for c in population.law.compartments}
        for array in self.arrays:
            self.by_compartment[array.projection.compartment].append(array)
        intervals = {c: [a.interval for a in arrays] for c, arrays in self.by_compartment.items()}
        self.neurons = NeuronArray(population, network.ranges[population.name], lanes, intervals, lut_ram, self.switch)
        self.queue = EventQueue(
            self.neurons, EventLayout(population.size, population.value_range, lanes.event, shape=population.shape)
        )
        super().__init__(
            {
                **{f"events{i}": In(stream.Signature(layout)) for i, layout in enumerate(layouts)},
                "events": Out(stream.Signature(self.queue.layout)),
                "tick": Out(1),
                "updates": Out(range(population.size + 1)),
                **(
                    {}
                    if gate is None
                    else {"gate_events": In(stream.Signature(gate_layout)), "point": In(range(max(gate.points, 2)))}
                ),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        neurons, queue, arrays = self.neurons, self.queue, self.arrays
        m.submodules.neurons, m.submodules.queue = neurons, queue
        clear = Signal(len(arrays), init=-1)
        spacing = max(neurons.spacing, *(a.spacing for a in arrays if isinstance(a, ConvArray)), 0)
        go, wait, rested = Signal(), Signal(range(spacing)), Signal(init=1)  # rested: wait is 0
        pause: Value = Const(spacing - 1)
        # The first undelayed projection says which tick is a sample's last; delayed ones run into the next sample.
        final = next(a.final for a in arrays if a.projection.delay == 0)
        opened = None
        if self.switch is not None and self.kernel_gate is not None:
            pause, opened = self._gated(m, self.switch, self.kernel_gate, go, final)
        else:
            m.d.comb += self.updates.eq(self.population.size)
        at_last = Signal()
        for i, array in enumerate(arrays):
            m.submodules[f"synapses{i}"] = array
            source = wiring.flipped(getattr(self, f"events{i}"))
            if (flatten := self.flattens[i]) is not None:
                m.submodules[f"flatten{i}"] = flatten
                wiring.connect(m, source, flatten.i)
                source = flatten.o
            waiting = ticks_queued(self.network, array.projection)
            if array.projection.delay:  # delayed lines must be clear of one sample before the next one closes
                held = ticks_held(self.network, array.projection) + waiting
                delay, waiting = Delay(array.layout, array.projection.delay, held), 0
                m.submodules[f"delay{i}"] = delay
                wiring.connect(m, source, delay.i)
                m.d.comb += [delay.flush.eq(go & final), clear[i].eq(~delay.busy)]
                source = delay.o
            if opened is None:
                wiring.connect(m, _queued(m, f"buffer{i}", source, array.layout, waiting), array.events)
            else:
                self._buffer(m, i, source, array, opened, go)
            m.d.comb += array.go.eq(go)
        m.d.comb += [
            at_last.eq(_all([a.at_last for a in arrays])),
            go.eq(at_last & rested & queue.room & (clear.all() | ~final)),
            queue.reserve.eq(go),
        ]
        with m.If(go):
            m.d.sync += [wait.eq(pause), rested.eq(pause == 0)]
        with m.Elif(~rested):
            m.d.sync += [wait.eq(wait - 1), rested.eq(wait == 1)]

        start = go
        for cycle in range(arrays[0].latency - 1):
            later, later_final = Signal(name=f"start_{cycle}"), Signal(name=f"final_{cycle}", reset_less=True)
            m.d.sync += [later.eq(start), later_final.eq(final)]
            start, final = later, later_final
        m.d.comb += [neurons.start.eq(start), neurons.start_final.eq(final), self.tick.eq(start)]
        for c, members in self.by_compartment.items():
            for i, array in enumerate(members):
                sums = neurons.currents[f"{c}{i}"]
                if self.population.shape is not None:
                    self._choose(m, sums, array)
                    continue
                with m.Switch(neurons.row):
                    for r in range(neurons.rows):
                        with m.Case(r) if r + 1 < neurons.rows else m.Default():
                            m.d.comb += sums.eq(array.sums[r // array.words])
        m.d.comb += [
            queue.push.eq(neurons.out_valid),
            queue.ahead.eq(neurons.out_ahead),
            queue.last.eq(neurons.out_last),
            queue.final.eq(neurons.out_final),
            queue.values.eq(neurons.values),
        ]
        wiring.connect(m, wiring.flipped(self.events), queue.events)
        return m

    def _gated(self, m: Module, switch: Switch, unit: KernelGate, go: Value, final: Value) -> tuple[Value, Value]:
        """The bitmap of the tick under way: least distance to the next `go`, and whether events may enter."""
        groups, window, per_word = (
            switch.gate.groups,
            switch.gate.window,
            switch.order.rows // switch.order.channel_words,
        )
        m.submodules.gate = unit
        waiting = gate_ticks_queued(self.network, switch.gate)
        events = _queued(m, "gate_buffer", wiring.flipped(self.gate_events), unit.layout, waiting)
        wiring.connect(m, events, unit.events)
        on, closed, armed, asks = Signal(groups), Signal(groups), Signal(), Signal(init=1)
        tick, updates = Signal(range(max(window, 2))), Signal.like(self.updates)
        m.d.comb += [unit.point.eq(self.point), unit.take.eq(~armed & asks & unit.valid)]
        ends = final | (tick == window - 1)
        with m.If(go):
            m.d.sync += [closed.eq(on), armed.eq(0), asks.eq(ends), tick.eq(Mux(ends, 0, tick + 1))]
            m.d.sync += updates.eq(ones(on) * (self.population.size // groups))
        with m.Elif(~armed & (~asks | unit.valid)):
            m.d.sync += armed.eq(1)
            with m.If(asks):
                m.d.sync += on.eq(unit.on)
        words = ones(switch.walked(on))
        rest = max(self.neurons.spacing - self.neurons.rows, *(a.spacing - a.order.rows for a in self.arrays))
        for array in self.arrays:
            m.d.comb += [array.on.eq(on), array.closed.eq(closed)]
        m.d.comb += [
            self.neurons.on.eq(closed),
            self.updates.eq(updates),
            self.queue.block.eq(self.neurons.out_block),
            self.queue.reserved.eq(words * per_word),
        ]
        return words * per_word + rest - 1, armed

    def _buffer(
        self, m: Module, i: int, source: wiring.PureInterface, array: ConvArray, opened: Value, go: Value
    ) -> None:
        """A queue of a projection's events, that opens for a tick when its bitmap is there."""
        assert self.switch is not None
        queue = _queued(m, f"buffer{i}", source, array.layout, ticks_queued(self.network, array.projection))
        passed, moves = Signal(name=f"passed{i}"), Signal(name=f"moves{i}")
        m.d.comb += [
            array.events.valid.eq(queue.valid & opened & ~passed),
            array.events.payload.eq(queue.payload),
            moves.eq(array.events.valid & array.events.ready),
            queue.ready.eq(moves),
        ]
        with m.If(go):
            m.d.sync += passed.eq(0)
        with m.Elif(moves & queue.payload.last):
            m.d.sync += passed.eq(1)

    def _choose(self, m: Module, sums: data.View, array: SynapseArray | ConvArray) -> None:
        """A map's sums by group: its rows are too many to list."""
        m.d.comb += sums.eq(array.sums[array.groups - 1])
        for g in reversed(range(array.groups - 1)):
            with m.If(self.neurons.row < (g + 1) * array.words):
                m.d.comb += sums.eq(array.sums[g])


def _queued(
    m: Module, name: str, source: wiring.PureInterface, layout: EventLayout, ticks: int
) -> wiring.PureInterface:
    """The stream behind a queue for so many ticks; itself where there are none."""
    if not ticks:
        return source
    fifo = SyncFIFOBuffered(width=layout.size, depth=beats(ticks, layout.sources))
    m.submodules[name] = fifo
    out = stream.Signature(layout).create()
    m.d.comb += [
        fifo.w_data.eq(source.payload),
        fifo.w_en.eq(source.valid),
        source.ready.eq(fifo.w_rdy),
        out.payload.eq(fifo.r_data),
        out.valid.eq(fifo.r_rdy),
        fifo.r_en.eq(out.ready),
    ]
    return out


def _all(bits: list) -> Signal:  # type: ignore[type-arg]
    out = bits[0]
    for b in bits[1:]:
        out = out & b
    return out
