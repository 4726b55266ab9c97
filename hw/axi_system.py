"""The accelerator as a block of an AXI system: docs/reference/axi.md. Top module `apical_axi`."""

from __future__ import annotations

import hashlib

from amaranth.hdl import Cat, ClockDomain, ClockSignal, Const, Module, ResetInserter, ResetSignal, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from apical.hw.accelerator import Accelerator
from apical.hw.axi_lite import RegisterFile
from apical.hw.axi_memory import WeightAccess
from apical.hw.axi_output import OutputGate, Packer
from apical.hw.axi_stream import STREAM_ERRORS, Skid, Unpacker
from apical.hw.design import Design, HardwareOptions, Manifest
from apical.hw.learning import Learner, check_learning
from apical.hw.lookahead import beats, ticks_ahead
from apical.hw.register_map import AxiOptions, register_map
from apical.hw.verilog_text import convert, convert_rtlil
from apical.sw.network import Network

TOP = "apical_axi"
RESET_CYCLES = 16
SAMPLE_BITS = 20  # samples that can be under way: fewer than events that all queues together can hold


class AxiSystem(wiring.Component):  # type: ignore[misc]
    """Everything between the bus and the datapath. Ports as in docs/reference/axi.md, plain signals.

    :raises HardwareError, NetworkError, ValueError: options that don't fit the network.
    """

    def __init__(self, network: Network, options: HardwareOptions, axi: AxiOptions | None = None) -> None:
        axi = axi or AxiOptions()
        self.network, self.options, self.axi = network, options, axi
        self.map = register_map(network, options, axi)
        if axi.learning is not None:
            check_learning(network, axi.learning, options)
            self.core: Accelerator = Learner(network, axi.learning, options)
        else:
            self.core = Accelerator(network.freed() if axi.writable else network, options)
        self.registers = RegisterFile(self.map)
        self.weights = WeightAccess(self.registers, self.core) if self.map.sites else None
        self.unpacker = Unpacker(self.map.inputs, [self.core.layouts[i.name] for i in network.inputs])
        ahead = {name: n for name, n in ticks_ahead(network).items() if name in network.outputs}
        depths = [beats(max(ahead.values()) - ahead[o], network.nodes[o].size) for o in network.outputs]
        self.packer = Packer(self.map.outputs, [self.core.layouts[o] for o in network.outputs], depths)
        members = {f"s_axi_{n}": member for n, member in self.registers.bus.signature.flip().members.items()}
        for prefix, way, back in (("s_axis", In, Out), ("m_axis", Out, In)):
            members |= {
                f"{prefix}_tdata": way(axi.data_bits),
                f"{prefix}_tkeep": way(axi.data_bits // 8),
                f"{prefix}_tlast": way(1),
                f"{prefix}_tuser": way(1),
                f"{prefix}_tvalid": way(1),
                f"{prefix}_tready": back(1),
            }
        super().__init__({"aclk": In(1), "aresetn": In(1), **members, "interrupt": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = ClockDomain()
        m.d.comb += [ClockSignal().eq(self.aclk), ResetSignal().eq(~self.aresetn)]
        registers, core, unpacker, packer = self.registers, self.core, self.unpacker, self.packer
        clear, clearing = Signal(), Signal(range(RESET_CYCLES + 1))
        m.submodules.registers = registers
        for name, part in (("core", core), ("unpacker", unpacker), ("packer", packer)):
            m.submodules[name] = ResetInserter(clear)(part)
        m.submodules.gate = gate = OutputGate(self.map.outputs)
        self._bus(m, gate)
        with m.If(registers["COMMAND", "SOFT_RESET"].pulse):
            m.d.sync += [clear.eq(1), clearing.eq(RESET_CYCLES)]
        with m.Elif(clear):
            m.d.sync += [clear.eq(clearing != 1), clearing.eq(clearing - 1)]

        for i, target in enumerate(core.inputs):
            events = getattr(unpacker, f"events{i}")
            if isinstance(core, Learner):  # a label must know when its sample's end was taken
                wiring.connect(m, events, target)
                continue
            skid = Skid(target.payload.shape())
            m.submodules[f"skid{i}"] = ResetInserter(clear)(skid)
            wiring.connect(m, events, skid.i)
            wiring.connect(m, skid.o, target)
        for o in range(len(self.network.outputs)):
            wiring.connect(m, core.outputs[o], getattr(packer, f"events{o}"))
        wiring.connect(m, packer.words, gate.words)
        busy = Signal()
        m.d.comb += [
            unpacker.enable.eq(registers["CONTROL", "ENABLE"].value),
            unpacker.flush.eq(registers["CONTROL", "FLUSH"].value),
            unpacker.by_user.eq(registers["FRAMING", "TUSER"].value),
            unpacker.by_last.eq(registers["FRAMING", "TLAST"].value),
            gate.ticks.eq(registers["FRAMING", "OUT_TICKS"].value),
            gate.resetting.eq(clear),
            busy.eq(unpacker.middle | self._unfinished(m, clear) | packer.busy | gate.busy),
            registers["STATUS", "BUSY"].value.eq(busy),
            registers["STATUS", "RESETTING"].value.eq(clear),
            registers["STATUS", "STOPPED"].value.eq(unpacker.stopped),
            registers["STATUS", "WAITING"].value.eq(gate.bus.valid),
        ]
        if self.weights is not None:
            m.submodules.weights = self.weights
            m.d.comb += [
                self.weights.busy.eq(busy | clear),
                self.weights.resetting.eq(clear),
                unpacker.hold.eq(self.weights.hold),
            ]
        saturated = self._learning(m)
        if self.network.points > 1:
            m.d.comb += core.point.eq(registers["POINT", "VALUE"].value)
        wrapped = self._counters(m, clear)
        self._errors(m, wrapped, saturated, gate.taken)
        for name, count in (("SAMPLES_IN", unpacker.ended), ("SAMPLES_OUT", gate.taken)):
            total = registers[name, "VALUE"].value
            with m.If(clear):
                m.d.sync += total.eq(0)
            with m.Elif(count):
                m.d.sync += total.eq(total + 1)
        return m

    def _bus(self, m: Module, gate: OutputGate) -> None:
        bus, words = self.registers.bus, self.unpacker.words
        for name, member in self.registers.bus.signature.members.items():
            inside, outside = getattr(bus, name), getattr(self, f"s_axi_{name}")
            m.d.comb += inside.eq(outside) if member.flow == In else outside.eq(inside)
        m.d.comb += [
            words.valid.eq(self.s_axis_tvalid),
            words.payload.data.eq(self.s_axis_tdata),
            words.payload.keep.eq(self.s_axis_tkeep),
            words.payload.last.eq(self.s_axis_tlast),
            words.payload.user.eq(self.s_axis_tuser),
            self.s_axis_tready.eq(words.ready),
            self.m_axis_tvalid.eq(gate.bus.valid),
            self.m_axis_tdata.eq(gate.bus.payload.data),
            self.m_axis_tkeep.eq(gate.bus.payload.keep),
            self.m_axis_tlast.eq(gate.bus.payload.last),
            self.m_axis_tuser.eq(gate.bus.payload.user),
            gate.bus.ready.eq(self.m_axis_tready),
        ]

    def _unfinished(self, m: Module, clear: Value) -> Value:
        """Is there a population that hasn't ended all samples that went in? Or one that is being learned?"""
        began = Signal(SAMPLE_BITS)
        behind = [self.core.busy] if isinstance(self.core, Learner) else []
        ended = {p.name: Signal(SAMPLE_BITS, name=f"ended{n}") for n, p in enumerate(self.network.populations)}
        with m.If(self.unpacker.ended):
            m.d.sync += began.eq(began + 1)
        for name, count in ended.items():
            events = self.core.units[name].events
            with m.If(events.valid & events.ready & events.payload.last & events.payload.final):
                m.d.sync += count.eq(count + 1)
            behind.append(count != began)
        with m.If(clear):
            m.d.sync += [s.eq(0) for s in (began, *ended.values())]
        return Cat(behind).any()

    def _counters(self, m: Module, clear: Value) -> Value:
        """Copies on demand; returns whether one passed its end."""
        snapshot = self.registers["COMMAND", "SNAPSHOT"].pulse
        passed = []
        for n, name in enumerate(self.map.counters):
            total, before = self.core.counters[name], Signal(name=f"top{n}")
            m.d.sync += before.eq(total[-1] & ~clear)
            passed.append(before & ~total[-1] & ~clear)
            with m.If(snapshot):
                m.d.sync += self.registers[f"COUNTER{n}", "VALUE"].value.eq(total)
        return Cat(passed).any()

    def _learning(self, m: Module) -> Value:
        """Controls of a learning chip; returns whether something saturated."""
        core = self.core
        if not isinstance(core, Learner):
            return Const(0, 1)
        label = self.registers["LABEL", "VALUE"]
        m.d.comb += [
            core.learn.eq(self.registers["LEARN", "ENABLE"].value),
            core.label.eq(label.value),
            label.load.eq(self.unpacker.labelled),
            label.data.eq(self.unpacker.label),
        ]
        moved = []
        for n, (name, total) in enumerate(core.counters.items()):
            if name.endswith("saturations"):
                before = Signal(32, name=f"saturations{n}")
                m.d.sync += before.eq(total)
                moved.append((before != total) & (total != 0))
        return Cat(moved).any()

    def _errors(self, m: Module, wrapped: Value, saturated: Value, taken: Value) -> None:
        raised = {name: self.unpacker.errors[n] for n, name in enumerate(STREAM_ERRORS)}
        raised |= {"ACCESS": self.registers.illegal, "WRAPPED": wrapped, "SATURATED": saturated}
        for name, value in raised.items():
            m.d.comb += self.registers["ERRORS", name].raised.eq(value)
        pending = {n: self.registers["INTERRUPT_PENDING", n] for n in ("SAMPLE", "ERROR")}
        m.d.comb += [pending["SAMPLE"].raised.eq(taken), pending["ERROR"].raised.eq(Cat(raised.values()).any())]
        asks = [line.value & self.registers["INTERRUPT_ENABLE", name].value for name, line in pending.items()]
        m.d.sync += self.interrupt.eq(Cat(asks).any())

    @property
    def _ports(self) -> list[Signal]:
        return [getattr(self, name) for name in self.signature.members]

    def verilog(self) -> str:
        """Deterministic Verilog of the top module, without paths."""
        return convert(self, TOP, self._ports)

    def rtlil(self) -> str:
        """The same in Yosys's own format, for synthesis."""
        return convert_rtlil(self, TOP, self._ports)

    def design(self) -> Design:
        """The Verilog with its identity. The manifest has no streams: those are `map`'s."""
        text = self.verilog()
        manifest = Manifest(TOP, (), (), self.map.counters, (), None)
        return Design(text, manifest, hashlib.sha256(text.encode()).hexdigest()[:16], self.network, self.options)
