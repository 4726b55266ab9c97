"""AXI4-Lite of the generated system, driven by cocotbext-axi, against a model of its registers made from the map."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from apical.hw.axi_system import AxiSystem
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.register_map import AxiOptions, RegisterMap
from apical.sim.axi_bench import OKAY, SLVERR, AxiBench
from apical.sw.axi_weights import Site
from apical.sw.laws import Format, LeakyIntegrator, Lif
from apical.sw.network import Input, Network, Population, Projection

Operation = tuple[int, int, int, int, int]


def network() -> Network:
    """Spikes in and between, 3-bit weights whose fields have room, a graded output."""
    rng = np.random.default_rng(0)
    lif = {"decay": np.array([240]), "threshold": np.array([5]), "bias": np.array([0])}
    integrator = {"decay": np.array([250]), "bias": np.array([0])}
    return Network(
        (Input("x", 9), Input("y", 3, Format(4))),
        (Population("h", 6, Lif(state_bits=10), lif), Population("o", 5, LeakyIntegrator(state_bits=14), integrator)),
        (
            Projection("p", "x", "h", rng.integers(-4, 4, (6, 9)), weight_bits=3),
            Projection("q", "h", "o", rng.integers(-300, 300, (5, 6)), weight_bits=10),
            Projection("r", "y", "o", rng.integers(-8, 8, (5, 3)), weight_bits=4),
        ),
        ("o",),
        "sum",
    )


LANES = HardwareOptions({"h": Lanes(4, 2, 2), "o": Lanes(3, 1)}, {"x": 4})


class Model:
    """What the registers of an idle system answer, from the map alone."""

    def __init__(self, registers: RegisterMap, weights: dict[str, np.ndarray]) -> None:
        self.map = registers
        self.values = {r.name: r.reset for r in registers.registers}
        self.sites = [s for s in registers.sites if isinstance(s, Site)]
        self.images = [s.image(weights[s.projection]).astype(np.int64) for s in self.sites]
        self.by_address = {r.address: r for r in registers.registers}

    def _window(self, write: bool, data: int) -> tuple[int, int]:
        site = self.sites[self.values["SITE"]]
        row, chunk, image = self.values["ROW"], self.values["CHUNK"], self.images[self.values["SITE"]]
        if row >= site.rows or chunk >= site.chunks:
            return 0, SLVERR
        per, bits = 32 // site.field_bits, site.weight_bits
        if write:
            new = 0
            for n in range(per):
                field = data >> n * site.field_bits & ((1 << bits) - 1)
                field = field - (1 << bits) if field >> (bits - 1) else field
                if chunk * per + n < site.lanes:
                    new |= (field & ((1 << site.field_bits) - 1)) << n * site.field_bits
            image[row, chunk] = new
        value = int(image[row, chunk])
        self.values["CHUNK"] += 1
        if self.values["CHUNK"] == site.chunks:
            self.values["CHUNK"], self.values["ROW"] = 0, row + 1
        return (0 if write else value), OKAY

    def access(self, operation: Operation) -> tuple[int, int]:
        """Data and response."""
        write, address, data, strobe, _ = operation
        answer = self._access(bool(write), address, data, strobe)
        if answer[1] == SLVERR:
            self.values["ERRORS"] |= 1 << 4
            self.values["INTERRUPT_PENDING"] |= 1 << 1
        return answer

    def _access(self, write: bool, address: int, data: int, strobe: int) -> tuple[int, int]:
        r = self.by_address.get(address)
        if r is None or (write and not r.writable):
            return 0, SLVERR
        if r.window:
            return self._window(write, data) if strobe == 15 or not write else (0, SLVERR)
        if not write:
            if r.name in ("SITE_ROWS", "SITE_CHUNKS"):
                site = self.sites[self.values["SITE"]]
                return (site.rows if r.name == "SITE_ROWS" else site.chunks), OKAY
            return self.values[r.name], OKAY
        mask = sum(0xFF << 8 * b for b in range(4) if strobe >> b & 1)
        old, new = self.values[r.name], 0
        for f in r.fields:
            merged = ((old & ~mask) | (data & mask)) & f.mask
            if f.access == "w1c":
                merged = old & ~(data & mask) & f.mask
            elif f.access == "wo":
                merged = 0
            if f.most is not None and merged >> f.low > f.most:
                return 0, SLVERR
            new |= merged
        self.values[r.name] = new
        if r.name == "SITE":
            self.values["ROW"] = 0
        if r.name in ("SITE", "ROW"):
            self.values["CHUNK"] = 0
        return 0, OKAY


def random_operations(registers: RegisterMap, count: int, seed: int) -> list[Operation]:
    """Reads and writes: to registers, most often to the window and what is around it; unaligned; unmapped."""
    rng = random.Random(seed)
    addresses = [r.address for r in registers.registers]
    window = [registers[n].address for n in ("SITE", "ROW", "CHUNK", "DATA", "DATA", "DATA")]
    out = []
    for _ in range(count):
        kind = rng.random()
        if kind < 0.4:
            address = rng.choice(addresses)
        elif kind < 0.75:
            address = rng.choice(window)
        elif kind < 0.85:
            address = rng.choice(addresses) + rng.randint(1, 3)
        else:
            address = rng.randrange(1 << registers.options.address_bits)
        data = rng.choice((0, 1, 2, 3, 5, 9, (1 << 32) - 1, rng.getrandbits(32), rng.getrandbits(32)))
        if address == registers["COMMAND"].address:
            data &= ~1  # a soft reset would be seen in STATUS for a while
        strobe = rng.choice((15, 15, 15, 0, 1, 2, 4, 8, 3, 12, 5))
        out.append((rng.randrange(2), address, data, strobe, rng.choice((0, 0, 0, -5, -1, 1, 6))))
    return out


def check(bench: AxiBench, count: int, seed: int) -> None:
    """Random accesses, every answer equal to the model's, and no broken rule."""
    weights = {q.name: q.weights for q in bench.system.network.projections}
    model = Model(bench.map, weights)
    operations = random_operations(bench.map, count, seed)
    before = dict(bench.state["counts"])
    for start in range(0, count, 500):
        part = operations[start : start + 500]
        for operation, got in zip(part, bench.access(part), strict=True):
            expected = model.access(operation)
            assert got == expected, (
                f"seed {seed}: {operation} (write, address, data, strobe, gap): expected {expected}, got {got}"
            )
    state = bench.state
    assert state["problems"] == []
    writes = sum(o[0] for o in operations)
    done = {name: state["counts"][name] - before[name] for name in ("s_axi_aw", "s_axi_w", "s_axi_b", "s_axi_r")}
    assert done == {"s_axi_aw": writes, "s_axi_w": writes, "s_axi_b": writes, "s_axi_r": count - writes}


@pytest.fixture(scope="module")
def bench() -> Iterator[AxiBench]:
    with AxiBench(AxiSystem(network(), LANES, AxiOptions(writable=True)), share=0.3, seed=1) as b:
        yield b


def test_random_accesses_equal_the_register_model(bench: AxiBench) -> None:
    bench.reset()
    check(bench, 400, 0)


@pytest.mark.heavy
def test_ten_thousand_random_writes_and_reads_equal_the_register_model() -> None:
    for share, seed in ((0.0, 5), (0.5, 6)):
        with AxiBench(AxiSystem(network(), LANES, AxiOptions(writable=True)), share=share, seed=seed) as b:
            check(b, 11_000, seed)


def test_constants_are_the_maps(bench: AxiBench) -> None:
    bench.reset()
    m = bench.map
    for r in m.registers:
        if all(f.constant for f in r.fields):
            assert bench.read(r.name) == r.reset
    assert f"{bench.read('IDENTITY_HIGH'):08x}{bench.read('IDENTITY_LOW'):08x}" == m.identity
    assert bench.read("BLOCKS", "COUNTERS") == len(m.counters)


def test_an_illegal_access_changes_nothing_but_the_sticky_error(bench: AxiBench) -> None:
    """Unaligned, unmapped, read-only, a value beyond its field's end, part of a window's word: SLVERR each."""
    bench.reset()
    m = bench.map
    names = [r.name for r in m.registers if r.name not in ("ERRORS", "INTERRUPT_PENDING", "DATA")]
    before = {name: bench.read(name) for name in names}
    bad: list[Operation] = [
        (1, m["CONTROL"].address + 1, 3, 15, 0),
        (1, m["CONTROL"].address + 2, 3 << 16, 12, 0),
        (0, m["CONTROL"].address + 3, 0, 0, 0),
        (1, 0xFFC, 1, 15, 0),
        (0, 0xFFC, 0, 0, 0),
        (1, m["ID"].address, 1, 15, 0),
        (1, m["STATUS"].address, 0, 0, 0),
        (1, m["SITE"].address, len(m.sites), 15, 0),
        (1, m["DATA"].address, 0, 7, 0),
    ]
    for operation in bad:
        assert bench.read("ERRORS") == 0
        assert bench.access([operation]) == [(0, SLVERR)], operation
        assert bench.read("ERRORS") == 1 << 4 and bench.read("INTERRUPT_PENDING") == 2
        bench.write("ERRORS", 1 << 4)
        bench.write("INTERRUPT_PENDING", 2)
    assert {name: bench.read(name) for name in names} == before
    assert bench.problems == []


def test_an_access_that_waits_is_answered_through_a_soft_reset(bench: AxiBench) -> None:
    bench.reset()
    m = bench.map
    for gap in range(0, 24, 3):
        operations: list[Operation] = [(1, m["COMMAND"].address, 1, 15, gap), (0, m["ID"].address, 0, 0, 0)]
        operations += [(1, m["FRAMING"].address, 5, 15, gap), (0, m["FRAMING"].address, 0, 0, 0)]
        got = bench.access(operations)
        assert got == [(0, OKAY), (m["ID"].reset, OKAY), (0, OKAY), (5, OKAY)]


def test_interrupts_follow_pending_and_enable(bench: AxiBench) -> None:
    bench.reset()
    bench.access([(0, 2, 0, 0, 0)])
    assert bench.state["interrupt"] == 0
    bench.write("INTERRUPT_ENABLE", 2)
    assert bench.until(10, interrupt=1)
    bench.write("INTERRUPT_PENDING", 2)
    bench.cycles(3)
    assert bench.state["interrupt"] == 0
