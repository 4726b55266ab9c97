"""The accelerator that learns: the forward datapath as it is, and an engine that visits what was active.

While `learn` is high, the inputs wait after a sample's last beat until the sample is learned; else nothing waits and
nothing is counted. The phases of a sample: forward, scan of the outputs (errors, margin), then per projection from the
last to the first its visits (`apical.hw.learning_visit`). Semantics: docs/reference/plasticity.md.

The host reads and writes weights, errors, thresholds and the sample's number while nothing is under way (`busy` low,
`host` high): site n < P: weight (`host_at`: word k of row r at k·rows + r; `host_lane`); P + n: error of the n-th
projection's targets, word and lane (read only); 2P + n: threshold; 3P: number. `host_value` holds it `HOST_CYCLES`
later.
"""

from __future__ import annotations

from dataclasses import replace

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.accelerator import Accelerator, HardwareError, Top, check_options
from apical.hw.arithmetic import AmaranthOps, Wire
from apical.hw.counters import Counter
from apical.hw.design import HardwareOptions, Lanes, event_lanes
from apical.hw.learning_store import ErrorStore, Sloped, SlopeStore, later, with_slopes
from apical.hw.learning_visit import Target, Visitor
from apical.hw.order import Order
from apical.hw.synapse_array import SynapseArray
from apical.sw import on_chip
from apical.sw.network import Network
from apical.sw.on_chip import Learning
from apical.sw.ranges import Interval

HOST_CYCLES = 4


def check_learning(network: Network, learning: Learning, options: HardwareOptions) -> None:
    """Check a network, its learning and the lanes, before anything is built.

    :raises HardwareError, NetworkError: what can't learn on the chip.
    """
    on_chip.chain(network, learning)
    check_options(network, options)
    if any(event_lanes(network, options, node) != 1 for node in network.nodes):
        raise HardwareError("learning: expected one event a cycle in every stream")


def learning_options(network: Network, synapse: int = 128, neuron: int = 8) -> HardwareOptions:
    """Lanes for every population, one event a cycle: at most so many of each."""
    lanes = {}
    for p in network.populations:
        s = min(synapse, p.size)
        lanes[p.name] = Lanes(s, max(d for d in range(1, min(neuron, s) + 1) if s % d == 0))
    return HardwareOptions(lanes)


class Learner(Accelerator):
    """As `Accelerator`, with `learn`, `label`, `busy` and the host's way in.

    :raises HardwareError, NetworkError: what can't learn on the chip.
    """

    def __init__(self, network: Network, learning: Learning, options: HardwareOptions) -> None:
        self.chain = on_chip.chain(network, learning)
        self.projections, self.populations = self.chain.projections, self.chain.populations
        self.learning, self.options = learning, options
        hidden = {p.name: with_slopes(p) for p in self.populations[:-1]}
        told = replace(network, populations=tuple(hidden.get(p.name, p) for p in network.populations))
        self.inner = Accelerator(told.freed(), options)
        self.network, self.layouts, self.units = self.inner.network, self.inner.layouts, self.inner.units
        self.errors = [
            ErrorStore(Order(len(p.weights), None, options.lanes[p.target]), learning.error_bits)
            for p in self.projections
        ]
        self.slopes = {
            p.name: SlopeStore(self.units[p.name].neurons, p.law.formats)
            for p in hidden.values()
            if isinstance(p.law, Sloped)
        }
        self.visitors = [self._visitor(n) for n in range(len(self.projections))]
        names = (*self.inner.counters, *on_chip.OnChip(network, learning).counters)
        self.counters = {n: Signal(32, name=f"learning_counter{i}") for i, n in enumerate(dict.fromkeys(names))}
        self.classes = self.populations[-1].size
        sites = 3 * len(self.projections) + 1
        deepest = max(max(v.array.depth for v in self.visitors), max(e.order.words for e in self.errors))
        widest = max(v.array.lanes.synapse for v in self.visitors)
        output = self.layouts[self.populations[-1].name]
        wiring.Component.__init__(
            self,
            {
                **{f"input{i}": In(stream.Signature(s.payload.shape())) for i, s in enumerate(self.inner.inputs)},
                "output0": Out(stream.Signature(output)),
                "learn": In(1),
                "label": In(range(self.classes)),
                "busy": Out(1),
                "host": In(1),
                "host_site": In(range(sites)),
                "host_at": In(range(max(deepest, 2))),
                "host_lane": In(range(max(widest, 2))),
                "host_write": In(1),
                "host_data": In(32),
                "host_value": Out(32),
            },
        )

    def _visitor(self, n: int) -> Visitor:
        projection = self.projections[n]
        (array,) = (a for a in self.units[projection.target].arrays if a.projection.name == projection.name)
        assert isinstance(array, SynapseArray)
        port, plastic = array.writable(), self.learning.plastic
        source, ends = None, (plastic.get(projection.source), plastic.get(projection.target))
        if (before := self.chain.source[n]) >= 0:
            stores = {self.projections[k].compartment: self.errors[k] for k in self.chain.incoming(before)}
            source = Target(stores, self.slopes.get(projection.source))
        return Visitor(array, port, self.learning, n, self.errors[n], source, ends)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.inner = inner = self.inner
        for n, (visitor, store) in enumerate(zip(self.visitors, self.errors, strict=True)):
            m.submodules[f"visitor{n}"], m.submodules[f"errors{n}"] = visitor, store
        for n, slopes in enumerate(self.slopes.values()):
            m.submodules[f"slopes{n}"] = slopes
        label, sample = Signal.like(self.label), Signal(on_chip.NOISE_BITS)
        holds = [Signal(name=f"held{i}") for i in range(len(self.inputs))]
        streams: dict[str, wiring.PureInterface] = {p.name: self.units[p.name].events for p in self.populations[:-1]}
        for i, (outer, within, hold) in enumerate(zip(self.inputs, inner.inputs, holds, strict=True)):
            streams[self.network.inputs[i].name] = within
            m.d.comb += [
                within.valid.eq(outer.valid & ~hold),
                within.payload.eq(outer.payload),
                outer.ready.eq(within.ready & ~hold),
            ]
            with m.If(outer.valid & outer.ready & outer.payload.final & self.learn):
                m.d.sync += [hold.eq(1), label.eq(self.label)]
        m.d.comb += [
            self.output0.valid.eq(inner.output0.valid),
            self.output0.payload.eq(inner.output0.payload),
            inner.output0.ready.eq(self.output0.ready),
        ]
        frozen = self.learning.plastic.get(self.populations[0].name)
        for n, (visitor, projection) in enumerate(zip(self.visitors, self.projections, strict=True)):
            s = streams[projection.source]
            moves, kept = s.valid & s.ready & s.payload.keep[0], Const(1, 1)
            if self.chain.source[n] == 0 and frozen is not None:  # nothing of theirs can be written
                kept = Array(Const(int(b), 1) for b in frozen)[s.payload.rows[0]]
            m.d.comb += [
                visitor.log.eq(moves & self.learn & kept),
                visitor.log_row.eq(s.payload.rows[0]),
                visitor.log_value.eq(Const(1, 1) if self._binary(n) else s.payload.values[0]),
                visitor.sample.eq(sample),
            ]
        held = Signal()
        m.d.comb += held.eq(Cat(holds).any())
        outputs = self._outputs(m)
        skip, scanned, cut, start_scan = self._scan(m, outputs, label)
        self._sequence(m, holds, held, sample, skip, scanned, cut, start_scan, outputs)
        self._host(m, held, sample)
        return m

    def _binary(self, n: int) -> bool:
        return self.visitors[n].array.layout.binary

    def _outputs(self, m: Module) -> Array:
        """The outputs of the sample, by class; 0 where nothing was sent."""
        s = self.inner.output0
        shape = self.layouts[self.populations[-1].name].value_shape
        values = Array(Signal(shape, name=f"y{c}") for c in range(self.classes))
        with m.If(s.valid & s.ready & s.payload.keep[0] & self.learn):
            m.d.sync += values[s.payload.rows[0]].eq(s.payload.values[0])
        return values

    def _scan(self, m: Module, values: Array, label: Value) -> tuple[Value, Value, Value, Signal]:
        """Every output's error into its store, one a cycle; (no backward pass is needed, a pulse at the end, clips)."""
        learning, store = self.learning, self.errors[-1]
        start, running, c = Signal(name="scan_start"), Signal(name="scanning"), Signal(range(self.classes))
        with m.If(start):
            m.d.sync += [running.eq(1), c.eq(0)]
        with m.Elif(running):
            m.d.sync += c.eq(c + 1)
            with m.If(c == self.classes - 1):
                m.d.sync += [running.eq(0), c.eq(0)]
        y = Signal.like(values[0], name="scan_value")
        right, valid, at = Signal(name="scan_right"), Signal(name="scan_valid"), Signal.like(c, name="scan_at")
        m.d.sync += [y.eq(values[c]), right.eq(c == label), valid.eq(running), at.eq(c)]
        ops = AmaranthOps(m)
        bounds = Interval(*self.layouts[self.populations[-1].name].value_range)
        value, wanted_one = Wire(y, bounds, 0), Wire(right, Interval(0, 1), 0)
        wanted = on_chip.output_error(ops, value, wanted_one, learning.target, learning.error_shift)
        error = on_chip.limited(ops, wanted, learning.error_bits)
        stage, lanes = error.stage, store.order.lanes.synapse
        places = [divmod(i, lanes) for i in range(self.classes)]
        there = later(m, valid, stage)
        word, lane = (
            Array(Const(p[n], max(len(s), 1)) for p in places)[later(m, at, stage)]
            for n, s in enumerate((store.write_word, store.write_lane))
        )
        m.d.comb += [
            store.write.eq(there),
            store.write_word.eq(word),
            store.write_lane.eq(lane),
            store.value.eq(error.value),
        ]
        cuts, is_cut = Signal(range(self.classes + 1)), Signal()
        m.d.comb += is_cut.eq(there & (ops.delay(wanted, stage) != ops.delay(error, stage)))
        with m.If(start):
            m.d.sync += cuts.eq(0)
        with m.Elif(is_cut):
            m.d.sync += cuts.eq(cuts + 1)
        best, any_other, own = Signal.like(y, name="best_other"), Signal(), Signal.like(y, name="own_value")
        with m.If(start):
            m.d.sync += any_other.eq(0)
        with m.Elif(valid):
            with m.If(right):
                m.d.sync += own.eq(y)
            with m.Elif(~any_other | (y > best)):
                m.d.sync += [best.eq(y), any_other.eq(1)]
        skip = Signal(name="skip")
        if learning.margin is not None:
            m.d.comb += skip.eq(own - best >= learning.margin)
        ended = later(m, valid & (at == self.classes - 1), stage + 2)
        return skip, ended, cuts, start

    def _sequence(
        self,
        m: Module,
        holds: list[Signal],
        held: Signal,
        sample: Signal,
        skip: Value,
        scanned: Value,
        cut: Value,
        start_scan: Signal,
        outputs: Array,
    ) -> None:
        """Forward, scan, visits; and the counters."""
        s, end, back, passed = self.inner.output0, Signal(), Signal(), Signal()
        starts = [v.start for v in self.visitors]
        m.d.comb += self.busy.eq(held)
        with m.FSM(name="phase"):
            with m.State("FORWARD"), m.If(Cat(holds).all() & s.valid & s.ready & s.payload.last):
                m.next = "SCAN"
            with m.State("SCAN"):
                m.d.comb += start_scan.eq(1)
                m.d.comb += [e.clear.eq(1) for e in self.errors[:-1]] if self.learning.margin is None else []
                m.next = "SCANNING"
            with m.State("SCANNING"), m.If(scanned):
                m.next = "DECIDE"
            with m.State("DECIDE"):
                with m.If(skip):
                    m.d.comb += passed.eq(1)
                    m.next = "END"
                with m.Else():
                    m.d.comb += back.eq(1)
                    m.next = "CLEAR" if self.learning.margin is not None else f"START{len(starts) - 1}"
            if self.learning.margin is not None:  # errors of the last backward pass stay until the next one
                deepest = max((e.order.words for e in self.errors[:-1]), default=0)
                wait = Signal(range(deepest + 2))
                with m.State("CLEAR"):
                    m.d.comb += [e.clear.eq(1) for e in self.errors[:-1]]
                    m.d.sync += wait.eq(deepest + 1)
                    m.next = "CLEARING"
                with m.State("CLEARING"):
                    m.d.sync += wait.eq(wait - 1)
                    with m.If(wait == 0):
                        m.next = f"START{len(starts) - 1}"
            for n in reversed(range(len(starts))):
                with m.State(f"START{n}"):
                    m.d.comb += starts[n].eq(1)
                    m.next = f"VISIT{n}"
                with m.State(f"VISIT{n}"), m.If(~self.visitors[n].busy & ~starts[n]):
                    m.next = f"START{n - 1}" if n else "END"
            with m.State("END"):
                m.d.comb += end.eq(1)
                m.d.sync += [*(h.eq(0) for h in holds), sample.eq(sample + 1)]
                m.next = "FORWARD"
        m.d.comb += [v.forget.eq(end | ~self.learn) for v in self.visitors]
        with m.If(end | ~self.learn):
            m.d.sync += [y.eq(0) for y in outputs]
        self._counters(m, end, back, passed, cut)

    def _counters(self, m: Module, end: Value, back: Value, passed: Value, cut: Value) -> None:
        m.d.comb += [self.counters[n].eq(c) for n, c in self.inner.counters.items()]
        added: dict[str, tuple[Value, int]] = {
            "learning: samples": (end, 1),
            "learning: backward passes": (back, 1),
            "learning: skipped passes": (passed, 1),
            f"population {self.populations[-1].name}: error saturations": (Mux(back, cut, 0), self.classes),
        }
        for n, (projection, visitor) in enumerate(zip(self.projections, self.visitors, strict=True)):
            for kind, count in visitor.counts.items():
                added[f"projection {projection.name}: {kind}"] = count, (1 << len(count)) - 1
            if self.chain.source[n] >= 0:
                cuts = visitor.error_cut
                added[f"population {projection.source}: error saturations"] = cuts, (1 << len(cuts)) - 1
        for i, (name, (value, most)) in enumerate(added.items()):
            counter = Counter(most)
            m.submodules[f"learning_count{i}"] = counter
            m.d.comb += [counter.increment.eq(value), self.counters[name].eq(counter.total)]

    def _host(self, m: Module, held: Value, sample: Signal) -> None:
        """The host's way to everything that lasts."""
        idle, count = self.host & ~held, len(self.projections)
        found: list[Value] = []
        for n, v in enumerate(self.visitors):
            here = idle & (self.host_site == n)
            bits = v.array.projection.weight_bits
            m.d.comb += [
                v.host.eq(here),
                v.host_address.eq(self.host_at),
                v.host_lane.eq(self.host_lane),
                v.host_data.eq(self.host_data),
                v.host_write.eq(here & self.host_write),
                v.load_threshold.eq(idle & self.host_write & (self.host_site == 2 * count + n)),
                v.loaded.eq(self.host_data),
            ]
            found.append(_chosen(v.host_word, bits, v.array.lanes.synapse, self.host_lane))
        for e in self.errors:
            m.d.comb += [e.host.eq(idle), e.host_address.eq(self.host_at)]
            found.append(_chosen(e.errors, e.bits, e.order.lanes.synapse, self.host_lane))
        found += [v.threshold for v in self.visitors]
        found.append(sample)
        with m.If(idle & self.host_write & (self.host_site == 3 * count)):
            m.d.sync += sample.eq(self.host_data)
        wide = [Signal(32, name=f"found{i}") for i in range(len(found))]
        m.d.comb += [w.eq(f) for w, f in zip(wide, found, strict=True)]
        m.d.sync += self.host_value.eq(Array(wide)[self.host_site])


def _chosen(word: Value, bits: int, lanes: int, lane: Value) -> Value:
    """A lane of a word, with its sign."""
    parts = [word[j * bits : (j + 1) * bits].as_signed() for j in range(lanes)]
    return Array(parts)[lane] if lanes > 1 else parts[0]


class LearningTop(Top):
    """The learning accelerator with plain ports: those of `Top`, and `PORTS`."""

    PORTS = (
        "learn",
        "label",
        "busy",
        "host",
        "host_site",
        "host_at",
        "host_lane",
        "host_write",
        "host_data",
        "host_value",
    )

    def __init__(self, network: Network, learning: Learning, options: HardwareOptions) -> None:
        learner = Learner(network, learning, options)
        super().__init__(learner.network, options, learner)

    def elaborate(self, platform: object) -> Module:
        m: Module = super().elaborate(platform)
        for name in self.PORTS:
            inside = getattr(self.accelerator, name)
            port = self._port(name, inside)
            driven = name in ("busy", "host_value")
            m.d.comb += port.eq(inside) if driven else inside.eq(port)
        return m
