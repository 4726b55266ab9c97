"""The accelerator: the network's populations chained by event streams, and its counters.

`Accelerator` has Amaranth streams (for wrappers: UART, AXI); `Top` gives the plain ports of
docs/reference/semantics.md.
"""

from __future__ import annotations

from amaranth.hdl import Module, Mux, Signal, Value
from amaranth.lib import stream, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.conv_array import ConvArray
from apical.hw.counters import Counter
from apical.hw.design import HardwareOptions, Manifest, MonitorPort, StreamPort, event_lanes
from apical.hw.events import EventLayout, Fork
from apical.hw.lookahead import DEEPEST, beats, gate_ticks_queued, ticks_queued
from apical.hw.population import PopulationUnit
from apical.sw.network import Network


class HardwareError(ValueError):
    """Options that don't fit the network; the message names the population."""


def _power_of_two(n: int) -> bool:
    return n >= 1 and n & (n - 1) == 0


def check_options(network: Network, options: HardwareOptions) -> None:
    """Check lanes, and the queues of gated populations, against the network.

    :raises HardwareError: missing or impossible lanes, or a feature that the hardware doesn't have.
    """
    names = {p.name for p in network.populations}
    if unknown := sorted(set(options.lanes) - names):
        raise HardwareError(f"lanes: no population {unknown[0]!r}; has {sorted(names)}")
    for p in network.populations:
        where, lanes = f"population {p.name!r}", options.lanes.get(p.name)
        if lanes is None:
            raise HardwareError(f"{where}: expected lanes, got none")
        if not 1 <= lanes.neuron <= lanes.synapse <= 4096 or lanes.synapse % lanes.neuron:
            raise HardwareError(
                f"{where}: expected neuron lanes that divide 1 to 4096 synapse lanes, got {lanes.neuron} and "
                f"{lanes.synapse}"
            )
        if not _power_of_two(lanes.event) or lanes.neuron % lanes.event:
            raise HardwareError(
                f"{where}: expected event lanes that are a power of two and divide {lanes.neuron} neuron lanes, "
                f"got {lanes.event}"
            )
        if all(q.delay for q in network.incoming(p.name)):
            raise HardwareError(f"{where}: expected at least one projection of delay 0, which says where samples end")
    queues = [(q.source, q.target, ticks_queued(network, q)) for q in network.projections]
    queues += [(g.source, g.target, gate_ticks_queued(network, g)) for g in network.gates]
    for source, target, ticks in queues:
        if (depth := beats(ticks, network.nodes[source].size)) > DEEPEST:
            raise HardwareError(
                f"{source!r} to {target!r}: {ticks} ticks must wait for a gate's window and may have {depth} events, "
                f"more than the {DEEPEST} that a queue can hold; expected a shorter window"
            )
    for i in network.inputs:
        if not _power_of_two(options.input_event_lanes.get(i.name, 1)):
            raise HardwareError(
                f"input {i.name!r}: expected a power of two of event lanes, got {options.input_event_lanes[i.name]}"
            )


BANK_ROWS = 512  # depth of a RAMB36 at its widest (72 bits, UG573) and of an ECP5 DP16KD at 36 bits: free up to here


def event_classes(network: Network, options: HardwareOptions, node: str) -> int:
    """Residue classes of a node's event stream: for inputs as few as leave each weight bank within `BANK_ROWS` rows,
    so that the lanes balance without more memory; for populations one per lane (the scanner's rule)."""
    lanes = event_lanes(network, options, node)
    if network.nodes[node].shape is not None and node in {i.name for i in network.inputs}:
        return 1  # a convolution takes a beat's events one after the other
    if node not in {i.name for i in network.inputs}:
        return lanes
    words = [-(-network.nodes[q.target].size // options.lanes[q.target].synapse) for q in network.outgoing(node)]
    classes = 1
    while classes < lanes and -(-network.nodes[node].size // classes) * max(words, default=1) > BANK_ROWS:
        classes *= 2
    return classes


class Accelerator(wiring.Component):  # type: ignore[misc]
    """Event streams in (`input0` …), event streams out (`output0` …), `counters` by name after elaboration.

    A source with several readers is forked; no buffer is added: a reader that waits for another path's tick holds
    only beats of later ticks back, and the tick it waits for has already passed the fork, so nothing can deadlock.
    """

    def __init__(self, network: Network, options: HardwareOptions) -> None:
        check_options(network, options)
        self.network, self.options = network, options
        self.layouts = {
            name: EventLayout(
                node.size,
                node.value_range,
                event_lanes(network, options, name),
                event_classes(network, options, name),
                node.shape,
            )
            for name, node in network.nodes.items()
        }
        self.units = {
            p.name: PopulationUnit(
                network,
                p,
                options.lanes[p.name],
                [self.layouts[q.source] for q in network.incoming(p.name)],
                options.lut_ram,
                None if (gate := network.gate_of(p.name)) is None else self.layouts[gate.source],
            )
            for p in network.populations
        }
        self.counters: dict[str, Signal] = {
            name: Signal(32, name=f"counter{i}") for i, name in enumerate(network.counter_names)
        }
        super().__init__(
            {
                **{f"input{i}": In(stream.Signature(self.layouts[n.name])) for i, n in enumerate(network.inputs)},
                **{f"output{o}": Out(stream.Signature(self.layouts[n])) for o, n in enumerate(network.outputs)},
                **({"point": In(range(network.points), init=network.point)} if network.points > 1 else {}),
            }
        )

    @property
    def inputs(self) -> list[wiring.PureInterface]:
        """Input streams, in the network's order."""
        return [getattr(self, f"input{i}") for i in range(len(self.network.inputs))]

    @property
    def outputs(self) -> list[wiring.PureInterface]:
        """Output streams, in the order of the network's outputs."""
        return [getattr(self, f"output{o}") for o in range(len(self.network.outputs))]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        network = self.network
        sources = {n.name: wiring.flipped(stream_) for n, stream_ in zip(network.inputs, self.inputs, strict=True)}
        for i, p in enumerate(network.populations):
            m.submodules[f"population{i}"] = self.units[p.name]
            sources[p.name] = self.units[p.name].events
        readers: dict[str, list[wiring.PureInterface]] = {name: [] for name in sources}
        for p in network.populations:
            for j, q in enumerate(network.incoming(p.name)):
                readers[q.source].append(getattr(self.units[p.name], f"events{j}"))
            if (gate := network.gate_of(p.name)) is not None:
                readers[gate.source].append(self.units[p.name].gate_events)
                if network.points > 1:
                    m.d.comb += self.units[p.name].point.eq(self.point)
        for name, out in zip(network.outputs, self.outputs, strict=True):
            readers[name].append(wiring.flipped(out))
        for i, (name, source) in enumerate(sources.items()):
            targets = readers[name]
            if not targets:
                m.d.comb += source.ready.eq(1)
            elif len(targets) == 1:
                wiring.connect(m, source, targets[0])
            else:
                fork = Fork(self.layouts[name], len(targets))
                m.submodules[f"fork{i}"] = fork
                wiring.connect(m, source, fork.i)
                for n, target in enumerate(targets):
                    wiring.connect(m, getattr(fork, f"o{n}"), target)
        self._count(m)
        return m

    def _count(self, m: Module) -> None:
        for i, p in enumerate(self.network.populations):
            unit = self.units[p.name]
            projections = self.network.incoming(p.name)
            increments: list[tuple[str, Value, int]] = [
                (f"projection {q.name}: events", a.count, 1 if isinstance(a, ConvArray) else a.layout.lanes)
                for q, a in zip(projections, unit.arrays, strict=True)
            ]
            for q, a in zip(projections, unit.arrays, strict=True):
                if isinstance(a, ConvArray) and a.switch is None:
                    increments.append((f"projection {q.name}: positions", a.positions, 1))
                elif isinstance(a, ConvArray):
                    increments.append((f"projection {q.name}: synapses", a.synapses, unit.lanes.synapse))
            if (gate := unit.kernel_gate) is not None:
                counts = zip(
                    gate.gate.counter_names, (gate.count, gate.window, Mux(gate.window, gate.opened, 0)), strict=True
                )
                increments += [(name, value, gate.gate.groups) for name, value in counts]
            increments.append((f"population {p.name}: events", unit.queue.count, unit.lanes.event))
            increments.append((f"population {p.name}: updates", Mux(unit.tick, unit.updates, 0), p.size))
            for c, (name, increment, most) in enumerate(increments):
                counter = Counter(most)
                m.submodules[f"counter{i}_{c}"] = counter
                m.d.comb += [counter.increment.eq(increment), self.counters[name].eq(counter.total)]


class Top(wiring.Elaboratable):  # type: ignore[misc]
    """The accelerator with plain ports of safe names; `ports` lists them, `manifest` says what they are."""

    def __init__(self, network: Network, options: HardwareOptions, accelerator: Accelerator | None = None) -> None:
        self.accelerator = accelerator or Accelerator(network, options)
        self.network, self.options = network, options
        self.ports: dict[str, Signal] = {}
        acc = self.accelerator
        self.manifest = Manifest(
            "apical_top",
            tuple(self._stream_port(f"in{i}", n.name) for i, n in enumerate(network.inputs)),
            tuple(self._stream_port(f"out{o}", name) for o, name in enumerate(network.outputs)),
            tuple(acc.counters),
            tuple(self._monitor_port(i) for i in range(len(network.populations))) if options.monitor else (),
            network.point if network.points > 1 else None,
        )

    def _stream_port(self, prefix: str, node: str) -> StreamPort:
        layout = self.accelerator.layouts[node]
        shape = layout.value_shape
        return StreamPort(
            prefix,
            node,
            layout.sources,
            layout.lanes,
            layout.classes,
            layout.row_bits,
            shape.width,
            shape.signed,
            layout.shape,
        )

    def _monitor_port(self, i: int) -> MonitorPort:
        p = self.network.populations[i]
        neurons = self.accelerator.units[p.name].neurons
        shape = neurons.values[0].shape()
        states = {k: (f.bits, f.signed) for k, f in p.law.states().items()} if self.options.monitor_states else {}
        table = tuple(tuple(int(x) for x in row) for row in neurons.neuron_of)
        gated = neurons.switch is not None
        return MonitorPort(f"mon{i}", p.name, table, shape.width, shape.signed, states, gated)

    def _port(self, name: str, like: Value) -> Signal:
        self.ports[name] = Signal(like.shape(), name=name)
        return self.ports[name]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = acc = self.accelerator
        for spec, s in zip(self.manifest.inputs, acc.inputs, strict=True):
            m.d.comb += s.valid.eq(self._port(f"{spec.prefix}_valid", s.valid))
            m.d.comb += self._port(f"{spec.prefix}_ready", s.ready).eq(s.ready)
            for name, part in self._fields(spec, s.payload):
                m.d.comb += part.eq(self._port(name, part))
        for spec, s in zip(self.manifest.outputs, acc.outputs, strict=True):
            m.d.comb += self._port(f"{spec.prefix}_valid", s.valid).eq(s.valid)
            m.d.comb += s.ready.eq(self._port(f"{spec.prefix}_ready", s.ready))
            for name, part in self._fields(spec, s.payload):
                m.d.comb += self._port(name, part).eq(part)
        if self.manifest.point is not None:
            m.d.comb += acc.point.eq(self._port("point", acc.point))
        for c, total in enumerate(acc.counters.values()):
            m.d.comb += self._port(f"cnt{c}", total).eq(total)
        for monitor in self.manifest.monitors:
            neurons = acc.units[monitor.population].neurons
            m.d.comb += self._port(f"{monitor.prefix}_valid", neurons.out_valid).eq(neurons.out_valid)
            m.d.comb += self._port(f"{monitor.prefix}_row", neurons.out_row).eq(neurons.out_row)
            if monitor.gated:
                m.d.comb += self._port(f"{monitor.prefix}_last", neurons.out_last).eq(neurons.out_last)
            for j in range(neurons.lanes.neuron):
                for name, value in [("value", neurons.values[j])] + [
                    (state, neurons.states[state][j]) for state in monitor.state_formats
                ]:
                    m.d.comb += self._port(f"{monitor.prefix}_{name}{j}", value).eq(value)
        return m

    @staticmethod
    def _fields(spec: StreamPort, payload: Value) -> list[tuple[str, Value]]:
        out = [(f"{spec.prefix}_{name}", getattr(payload, name)) for name in ("keep", "last", "final")]
        for e in range(spec.event_lanes):
            out.append((f"{spec.prefix}_row{e}", payload.rows[e]))
            if spec.has_value:
                out.append((f"{spec.prefix}_value{e}", payload.values[e]))
        return out
