"""AXI4-Lite: the slave that answers accesses, and the registers behind it, made from the map.

Write address and write data come in either order; each waits in a register of its own. One write and one read are
under way at a time. Nothing but registers drives the bus. Which register an address means is found in a cycle of its
own. Latency: a write is answered 3 cycles after the later of its halves, a read 3 cycles after its address; accesses to
a window take as long as it does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from amaranth.hdl import Cat, Const, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from apical.hw.register_map import Field, Register, RegisterMap

OKAY, SLVERR = 0, 2  # AMBA AXI protocol, table of BRESP and RRESP


class AxiLiteSignature(wiring.Signature):  # type: ignore[misc]
    """AXI4-Lite as a slave sees it when flipped; 32 bits of data."""

    def __init__(self, address_bits: int) -> None:
        super().__init__(
            {
                **{f"aw{k}": v for k, v in self._address(address_bits).items()},
                "wdata": Out(32),
                "wstrb": Out(4),
                "wvalid": Out(1),
                "wready": In(1),
                "bresp": In(2),
                "bvalid": In(1),
                "bready": Out(1),
                **{f"ar{k}": v for k, v in self._address(address_bits).items()},
                "rdata": In(32),
                "rresp": In(2),
                "rvalid": In(1),
                "rready": Out(1),
            }
        )

    @staticmethod
    def _address(bits: int) -> dict[str, wiring.Member]:
        return {"addr": Out(bits), "prot": Out(3), "valid": Out(1), "ready": In(1)}


def any_of(values: Sequence[Value]) -> Value:
    """Bitwise or of values of which at most one isn't zero; a balanced tree."""
    while len(values) > 1:
        values = [a | b for a, b in zip(values[::2], values[1::2], strict=False)] + list(values[len(values) & ~1 :])
    return values[0]


@dataclass
class Line:
    """A field in hardware; which signals count depends on its access.

    :ivar value: what is read: of ``ro`` driven from outside, else the field's own storage.
    :ivar load: of ``rw``: takes `data`, whatever is written in that cycle.
    :ivar raised: of ``w1c``: bits that become 1, whatever is cleared in that cycle.
    :ivar pulse: of ``wo``: bits written 1, for one cycle.
    """

    field: Field
    value: Signal
    load: Signal
    data: Signal
    raised: Signal
    pulse: Signal


class Window:
    """Accesses to a window: signals between the registers and whoever serves it.

    `request` is high, with `write` and `data`, until `done` has been high for a cycle; then `ok` says whether it was
    done, and `value` holds what was read.
    """

    def __init__(self) -> None:
        self.request, self.write, self.data = Signal(), Signal(), Signal(32)
        self.done, self.ok, self.value = Signal(), Signal(), Signal(32)


class RegisterFile(Elaboratable):  # type: ignore[misc]
    """The registers of a map on AXI4-Lite (`bus`).

    :ivar written: by register with ``rw`` fields, high in the cycle after a write was done.
    :ivar illegal: high for one cycle per access that gets SLVERR.
    """

    def __init__(self, registers: RegisterMap) -> None:
        self.map = registers
        self.bus = wiring.flipped(AxiLiteSignature(registers.options.address_bits).create())
        self.lines: dict[tuple[str, str], Line] = {}
        self.written: dict[str, Signal] = {}
        self.illegal, self.window = Signal(), Window()
        for r in registers.registers:
            if any(f.access == "rw" for f in r.fields):
                self.written[r.name] = Signal(name=f"written_{r.name.lower()}")
            for f in r.fields:
                name = f"{r.name}_{f.name}".lower()
                value, load = Signal(f.bits, name=name, init=f.reset), Signal(name=f"{name}_load")
                parts = (Signal(f.bits, name=f"{name}_{part}") for part in ("data", "raised", "pulse"))
                self.lines[r.name, f.name] = Line(f, value, load, *parts)

    def __getitem__(self, key: tuple[str, str]) -> Line:
        return self.lines[key]

    def elaborate(self, platform: object) -> Module:
        m = Module()
        up = Signal()  # low in reset: nothing is ready then
        cleared = {key: Signal.like(line.value, name=f"{line.value.name}_clear") for key, line in self.lines.items()}
        wants_write, wants_read, serves, is_write = Signal(), Signal(), Signal(), Signal()
        bad_write, bad_read = Signal(), Signal()
        m.d.sync += [up.eq(1), *(w.eq(0) for w in self.written.values())]
        self._write(m, up, cleared, wants_write, serves & is_write & self.window.done, bad_write)
        self._read(m, up, wants_read, serves & ~is_write & self.window.done, bad_read)
        for key, line in self.lines.items():
            if line.field.constant:
                m.d.comb += line.value.eq(line.field.reset)
            elif line.field.access == "w1c":
                m.d.sync += line.value.eq((line.value & ~cleared[key]) | line.raised)
            elif line.field.access == "rw":
                with m.If(line.load):
                    m.d.sync += line.value.eq(line.data)
        with m.If(~serves):  # a write goes before a read
            m.d.sync += [serves.eq(wants_write | wants_read), is_write.eq(wants_write)]
        with m.Elif(self.window.done):
            m.d.sync += serves.eq(0)
        m.d.comb += [
            self.window.request.eq(serves),
            self.window.write.eq(is_write),
            self.illegal.eq(bad_write | bad_read),
        ]
        return m

    def _write(
        self, m: Module, up: Value, cleared: dict[tuple[str, str], Signal], wants: Signal, served: Value, bad: Signal
    ) -> None:
        bus, has_address, has_data = self.bus, Signal(), Signal()
        address, data, strobe = Signal.like(bus.awaddr), Signal(32), Signal(4)
        legal, window, answered = Signal(), Signal(), Signal()
        mask = Cat(strobe[b].replicate(8) for b in range(4))
        m.d.comb += [
            bus.awready.eq(up & ~has_address),
            bus.wready.eq(up & ~has_data),
            self.window.data.eq(data),
        ]
        with m.If(bus.awvalid & bus.awready):
            m.d.sync += [has_address.eq(1), address.eq(bus.awaddr)]
        with m.If(bus.wvalid & bus.wready):
            m.d.sync += [has_data.eq(1), data.eq(bus.wdata), strobe.eq(bus.wstrb)]
        meant = self._meant(m, "write", address, [r for r in self.map.registers if r.writable])
        with m.FSM(name="write"):
            with m.State("IDLE"), m.If(has_address & has_data):
                m.next = "DECODE"
            with m.State("DECODE"):
                m.next = "EXECUTE"
            with m.State("EXECUTE"):
                for r, here in meant:
                    with m.If(here):
                        self._take(m, r, data, mask, cleared, legal, window)
                with m.If(window & strobe.all()):
                    m.next = "WINDOW"
                with m.Else():
                    m.d.comb += [answered.eq(1), bad.eq(~legal)]
                    m.next = "RESPOND"
            with m.State("WINDOW"):
                m.d.comb += wants.eq(~served)
                with m.If(served):
                    m.d.comb += [answered.eq(1), bad.eq(~self.window.ok)]
                    m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += bus.bvalid.eq(1)
                with m.If(bus.bready):
                    m.next = "IDLE"
        with m.If(answered):
            m.d.sync += [has_address.eq(0), has_data.eq(0), bus.bresp.eq(Mux(bad, SLVERR, OKAY))]

    @staticmethod
    def _meant(m: Module, name: str, address: Value, registers: list[Register]) -> list[tuple[Register, Signal]]:
        """By register: is it meant? A cycle after the address."""
        out = [(r, Signal(name=f"{name}_{r.name.lower()}")) for r in registers]
        m.d.sync += [here.eq(address == r.address) for r, here in out]
        return out

    def _take(
        self,
        m: Module,
        r: Register,
        data: Value,
        mask: Value,
        cleared: dict[tuple[str, str], Signal],
        legal: Signal,
        window: Signal,
    ) -> None:
        """What a write to a register does, in the cycle in which it is executed."""
        if r.window:
            m.d.comb += window.eq(1)
            return
        merged, fits = {}, Const(1, 1)
        for f in r.fields:
            line, here = self.lines[r.name, f.name], slice(f.low, f.low + f.bits)
            if f.access == "w1c":
                m.d.comb += cleared[r.name, f.name].eq((data & mask)[here])
            elif f.access == "wo":
                m.d.comb += line.pulse.eq((data & mask)[here])
            elif f.access == "rw":
                merged[f.name] = (line.value & ~mask[here]) | (data & mask)[here]
                if f.most is not None and f.most + 1 < 1 << f.bits:
                    fits = fits & (merged[f.name] <= f.most)
        m.d.comb += legal.eq(fits)
        with m.If(fits):
            m.d.sync += [self.lines[r.name, name].value.eq(value) for name, value in merged.items()]
            if r.name in self.written:
                m.d.sync += self.written[r.name].eq(1)

    def _read(self, m: Module, up: Value, wants: Signal, served: Value, bad: Signal) -> None:
        bus, address = self.bus, Signal.like(self.bus.araddr)
        window, value = Signal(), Signal(32)
        meant = self._meant(m, "read", address, list(self.map.registers))
        found = Cat(here for r, here in meant if not r.window).any()
        parts: list[Value] = []
        for r, here in meant:
            shown = Signal(32, name=f"shown_{r.name.lower()}")
            for f in r.fields:
                if not r.window and f.access != "wo":
                    m.d.comb += shown[f.low : f.low + f.bits].eq(self.lines[r.name, f.name].value)
            if r.window:
                m.d.comb += window.eq(here)
            else:
                parts.append(Mux(here, shown, 0))
        m.d.comb += value.eq(any_of(parts))
        with m.FSM(name="read"):
            with m.State("IDLE"):
                m.d.comb += bus.arready.eq(up)
                m.d.sync += address.eq(bus.araddr)
                with m.If(bus.arvalid & up):
                    m.next = "DECODE"
            with m.State("DECODE"):
                m.next = "EXECUTE"
            with m.State("EXECUTE"):
                m.d.sync += [bus.rdata.eq(value), bus.rresp.eq(Mux(found, OKAY, SLVERR))]
                with m.If(window):
                    m.next = "WINDOW"
                with m.Else():
                    m.d.comb += bad.eq(~found)
                    m.next = "RESPOND"
            with m.State("WINDOW"):
                m.d.comb += wants.eq(~served)
                m.d.sync += bus.rdata.eq(Mux(self.window.ok, self.window.value, 0))
                m.d.sync += bus.rresp.eq(Mux(self.window.ok, OKAY, SLVERR))
                with m.If(served):
                    m.d.comb += bad.eq(~self.window.ok)
                    m.next = "RESPOND"
            with m.State("RESPOND"):
                m.d.comb += bus.rvalid.eq(1)
                with m.If(bus.rready):
                    m.next = "IDLE"
