"""Loading and reading weights through registers: serves the window DATA of the AXI system.

An access waits for no sample: it is refused while one is under way, and holds the next one back for the few cycles
that it takes. Behind it are the weight ports of an accelerator (`apical.hw.synapse_array.WeightPort`), or the host bus
of a learning one (`apical.hw.learning`).
"""

from __future__ import annotations

from collections.abc import Sequence

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value

from apical.hw.accelerator import Accelerator
from apical.hw.axi_lite import RegisterFile
from apical.hw.learning import HOST_CYCLES, Learner
from apical.hw.synapse_array import WeightPort
from apical.sw.axi_weights import Site

READ_CYCLES = 3  # address, word, chunk


class WeightAccess(Elaboratable):  # type: ignore[misc]
    """Serves the window of a register file.

    :ivar busy: to be driven: a sample is under way, or a soft reset; accesses are refused.
    :ivar resetting: to be driven: a soft reset is on; an access that it meets is refused too.
    :ivar hold: no sample may begin; from the cycle after `busy` was looked at first, in which it is looked at again.
    """

    def __init__(self, registers: RegisterFile, accelerator: Accelerator) -> None:
        self.registers, self.accelerator = registers, accelerator
        self.busy, self.resetting, self.hold = Signal(), Signal(), Signal()
        self.ports: list[WeightPort] = []
        self.sites = registers.map.sites
        if not isinstance(accelerator, Learner):
            self.ports = [port for site in self.sites if isinstance(site, Site) for port in [self._port(site)]]

    def _port(self, site: Site) -> WeightPort:
        """Make a projection's weights writable."""
        network = self.accelerator.network
        projection = next(q for q in network.projections if q.name == site.projection)
        arrays = self.accelerator.units[projection.target].arrays
        return next(a for a in arrays if a.projection is projection).writable()

    def elaborate(self, platform: object) -> Module:
        m = Module()
        window = self.registers.window
        site, row, chunk = (self.registers[name, "VALUE"] for name in ("SITE", "ROW", "CHUNK"))
        rows, chunks = Signal(32), Signal(32)
        m.d.comb += [rows.eq(_choose([s.rows for s in self.sites], site.value))]
        m.d.comb += [chunks.eq(_choose([s.chunks for s in self.sites], site.value))]
        m.d.comb += [self.registers["SITE_ROWS", "VALUE"].value.eq(rows)]
        m.d.comb += [self.registers["SITE_CHUNKS", "VALUE"].value.eq(chunks)]

        here, found, wait = Signal(), Signal(32), Signal(range(8))
        learner = isinstance(self.accelerator, Learner)
        fits = (row.value < rows) & (chunk.value < chunks)
        if learner:
            fixed = [int(not isinstance(s, Site) and not s.writable) for s in self.sites]
            fits = fits & ~(window.write & _choose(fixed, site.value)[0])
        fit = Signal()
        m.d.sync += fit.eq(fits)
        cycles = HOST_CYCLES if learner else READ_CYCLES
        with m.FSM(name="access"):
            with m.State("IDLE"), m.If(window.request & ~window.done):
                m.d.sync += self.hold.eq(~self.busy)
                m.next = "CHECK"
            with m.State("CHECK"):
                m.d.sync += wait.eq(cycles)
                with m.If(self.hold & ~self.busy & fit):
                    m.next = "ACCESS"
                with m.Else():
                    m.next = "REFUSE"
            with m.State("ACCESS"):
                m.d.comb += here.eq(1)
                m.d.sync += wait.eq(wait - 1)
                with m.If(self.resetting):
                    m.next = "REFUSE"
                with m.Elif(wait == 0):
                    m.d.sync += self.hold.eq(0)
                    m.next = "DONE"
            with m.State("DONE"):
                m.d.comb += [window.done.eq(1), window.ok.eq(1)]
                m.next = "IDLE"
            with m.State("REFUSE"):
                m.d.comb += window.done.eq(1)
                m.d.sync += self.hold.eq(0)
                m.next = "IDLE"
        m.d.comb += window.value.eq(found)
        write = here & window.write & (wait == 0) & ~self.resetting
        if isinstance(self.accelerator, Learner):
            host = self.accelerator
            m.d.comb += [
                host.host.eq(here),
                host.host_site.eq(site.value),
                host.host_at.eq(row.value),
                host.host_lane.eq(chunk.value),
                host.host_write.eq(write),
                host.host_data.eq(window.data),
                found.eq(host.host_value),
            ]
        else:
            self._words(m, here, write, found)
        self._move(m, window.done & window.ok, chunks)
        return m

    def _move(self, m: Module, done: Value, chunks: Value) -> None:
        """ROW and CHUNK after an access, and after a write to what is before them."""
        row, chunk = self.registers["ROW", "VALUE"], self.registers["CHUNK", "VALUE"]
        sited, rowed = self.registers.written["SITE"], self.registers.written["ROW"]
        wraps = chunk.value == chunks - 1
        m.d.comb += [
            row.load.eq(sited | (done & wraps)),
            chunk.load.eq(sited | rowed | done),
            row.data.eq(Mux(sited, 0, row.value + 1)),
            chunk.data.eq(Mux(sited | rowed | wraps, 0, chunk.value + 1)),
        ]

    def _words(self, m: Module, here: Value, write: Value, found: Signal) -> None:
        """The weight ports: a row of all lanes, of which a chunk is read or written."""
        window = self.registers.window
        number, row, chunk = (self.registers[name, "VALUE"].value for name in ("SITE", "ROW", "CHUNK"))
        chosen: list[Value] = []
        for site, port in zip(self.sites, self.ports, strict=True):
            assert isinstance(site, Site)
            own, per, bits, lanes = here & (number == site.number), 32 // site.field_bits, site.weight_bits, site.lanes
            bank_bits = (port.banks - 1).bit_length()
            n = len(port.write_enable[0][0])
            m.d.comb += [
                port.taken.eq(own),
                port.address.eq(row[bank_bits:]),
                port.write_address.eq(row[bank_bits:]),
            ]
            data = Cat(window.data[j % per * site.field_bits :][:bits] for j in range(lanes))
            here_lane = Cat(chunk == j // per for j in range(lanes))
            for g, word in enumerate(port.write_words):
                m.d.comb += word.eq(data[g * n * bits : (g + 1) * n * bits])
                for b in range(port.banks):
                    enable = here_lane[g * n : (g + 1) * n] & (write & own & (row[:bank_bits] == b)).replicate(n)
                    m.d.comb += port.write_enable[b][g].eq(enable)
            words = [Cat(groups) for groups in port.words]
            wide: Value = Array(words)[row[:bank_bits]] if len(words) > 1 else words[0]
            fields = []
            for j in range(site.chunks * per):
                weight = wide[j * bits : (j + 1) * bits] if j < lanes else Const(0, bits)
                sign = weight[-1].replicate(site.field_bits - bits) if j < lanes else Const(0, site.field_bits - bits)
                fields.append(Cat(weight, sign))
            parts = [Cat(fields[q * per : (q + 1) * per]) for q in range(site.chunks)]
            part = Signal(32, name=f"part{site.number}")
            m.d.sync += part.eq(Array(parts)[chunk] if len(parts) > 1 else parts[0])
            chosen.append(part)
        m.d.sync += found.eq(Array(chosen)[number] if len(chosen) > 1 else chosen[0])


def _choose(values: Sequence[int], index: Value) -> Value:
    """A constant by index."""
    wide = max(max(values).bit_length(), 1)
    return Array(Const(v, wide) for v in values)[index] if len(values) > 1 else Const(values[0], wide)
