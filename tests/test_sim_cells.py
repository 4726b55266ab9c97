"""Models of cells that netlists use, each on its own, against integers and memory arrays in Python."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from apical.hw.design import Design, HardwareOptions, Manifest
from apical.hw.tools import ToolFailed
from apical.sim.gate_level import cell_models
from apical.sim.verilated import build
from apical.sw.network import Network

MAIN = Path(__file__).with_name("cells_bench.cpp")
PORTS = "input clk, input [63:0] i0, i1, i2, i3, output [63:0] o0, o1"
Row = tuple[int, ...]


def program(family: str, cell: str, body: str, lif: Network) -> Path:
    """The compiled bench of a module's body."""
    text = cell_models(family, [cell]) + f"module bench({PORTS});\n{body}\nendmodule\n"
    return build(
        Design(text, Manifest("bench", (), (), (), ()), "", lif, HardwareOptions({})), fast_build=True, main=MAIN
    )


def run(simulator: Path, rows: Iterable[Row]) -> list[tuple[int, int]]:
    """o0 and o1 of each row's cycle."""
    text = "".join(" ".join(str(v & (1 << 64) - 1) for v in (*row, 0, 0, 0, 0)[:4]) + "\n" for row in rows)
    done = subprocess.run([str(simulator)], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ValueError(done.stdout + done.stderr)
    values = iter(int(word) for word in done.stdout.split())
    return list(zip(values, values, strict=True))


def signed(value: int, bits: int) -> int:
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


DSP = """DSP48E2 #(.ACASCREG({a}), .ADREG(0), .ALUMODEREG(0), .AMULTSEL("A"), .AREG({a}), .A_INPUT("DIRECT"),
    .BCASCREG({b}), .BMULTSEL("B"), .BREG({b}), .B_INPUT("DIRECT"), .CARRYINREG(0), .CARRYINSELREG(0), .CREG(0),
    .DREG(0), .INMODEREG(0), .MREG({m}), .OPMODEREG(0), .PREG({p}), .USE_MULT("MULTIPLY"), .USE_SIMD("ONE48")
) u (.CLK(clk), .A(i0[29:0]), .B(i1[17:0]), .ACIN(30'd0), .ALUMODE(4'd{alumode}), .BCIN(18'd0), .C(48'd0),
    .CARRYIN(1'd0), .CARRYINSEL(3'd0), .D(27'd0), .INMODE(5'd0), .OPMODE(9'd5), .P(o0[47:0]), .PCIN(48'd0),
    .CEA2(i2[0]), .CEB2(i2[1]), .CEM(i2[2]), .CEP(i2[3]), .RSTA(i3[0]), .RSTB(i3[1]), .RSTM(i3[2]), .RSTP(i3[3]));"""
PLAIN = {"a": 0, "b": 0, "m": 0, "p": 0, "alumode": 0}


def products(rows: list[Row], a: int, b: int, m: int, p: int) -> Iterator[int]:
    """What a multiplier with these registers shows in each cycle."""
    held = dict.fromkeys("abmp", 0)
    for x, y, enable, reset in rows:
        left = held["a"] if a else signed(x, 27)
        right = held["b"] if b else signed(y, 18)
        product = left * right
        total = held["m"] if m else product
        yield (held["p"] if p else total) & ((1 << 48) - 1)
        for n, (name, value) in enumerate({"a": signed(x, 27), "b": signed(y, 18), "m": product, "p": total}.items()):
            held[name] = 0 if reset >> n & 1 else value if enable >> n & 1 else held[name]


@pytest.mark.parametrize("registers", [(0, 0, 0, 0), (1, 0, 1, 0), (0, 1, 0, 1), (1, 1, 1, 1)])
def test_a_dsp_multiplies_with_a_register_at_each_place_that_has_one(registers: tuple[int, ...], lif: Network) -> None:
    rng = random.Random(1)
    ends = (0, 1, (1 << 26) - 1, 1 << 26, (1 << 27) - 1, 1 << 17, (1 << 17) - 1)
    rows: list[Row] = []
    for _ in range(400):
        operands = rng.choice((*ends, rng.getrandbits(30))), rng.choice((*ends, rng.getrandbits(18)))
        rows.append((*operands, rng.choice((15, rng.getrandbits(4))), rng.choice((0, 0, 0, rng.getrandbits(4)))))
    names = dict(zip("abmp", registers, strict=True))
    simulator = program("xcup", "DSP48E2", DSP.format(**PLAIN | names), lif)
    assert [o for o, _ in run(simulator, rows)] == list(products(rows, **names))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (DSP.format(**PLAIN | {"a": 2}), "expected at most one register a stage"),
        (DSP.format(**PLAIN).replace(".CREG(0)", ".CREG(1)"), "expected no register but of A, B, M, P"),
        (DSP.format(**PLAIN).replace('"MULTIPLY"', '"NONE"'), "expected a plain product of A and B"),
        (DSP.format(**PLAIN).replace(".MREG(0)", ".MREG(0), .USE_PATTERN_DETECT(1)"), "Parameter not found"),
    ],
)
def test_a_dsp_used_in_another_way_is_no_program(text: str, message: str, lif: Network) -> None:
    with pytest.raises(ToolFailed, match=message):
        program("xcup", "DSP48E2", text, lif)


def test_a_dsp_that_is_asked_for_another_sum_stops(lif: Network) -> None:
    simulator = program("xcup", "DSP48E2", DSP.format(**PLAIN | {"alumode": 3}), lif)
    with pytest.raises(ValueError, match="DSP48E2: expected a plain product"):
        run(simulator, [(1, 1)])


def test_ecp5_multiplies_with_either_sign(lif: Network) -> None:
    pins = ", ".join(f".{x}{n}(i{k}[{n}])" for k, x in enumerate("AB") for n in range(18))
    zero = ", ".join(f".C{n}(1'b0)" for n in range(18))
    out = ", ".join(f".P{n}(o0[{n}])" for n in range(36))
    body = f"MULT18X18D u({pins}, {zero}, {out}, .SIGNEDA(i2[0]), .SIGNEDB(i2[1]), .SOURCEA(1'b0), .SOURCEB(1'b0));"
    rng = random.Random(2)
    rows: list[Row] = [(rng.getrandbits(18), rng.getrandbits(18), rng.getrandbits(2)) for _ in range(300)]
    rows += [(a, b, s) for a in (1 << 17, (1 << 18) - 1) for b in (1 << 17, (1 << 17) - 1) for s in range(4)]
    want = [(signed(a, 18) if s & 1 else a) * (signed(b, 18) if s & 2 else b) & ((1 << 36) - 1) for a, b, s in rows]
    assert [o for o, _ in run(program("ecp5", "MULT18X18D", body, lif), rows)] == want


class Words:
    """A block RAM as the user guides draw it: data bits and parity bits, cut into words of any width."""

    def __init__(self, kbits: int, rng: random.Random) -> None:
        self.data = [rng.getrandbits(1) for _ in range(kbits // 9 * 8 * 1024)]
        self.parity = [rng.getrandbits(1) for _ in range(kbits // 9 * 1024)]

    def parameters(self, slice_bits: int = 256) -> str:
        """INIT_.. and INITP_.. of a RAMB."""
        out = []
        for name, bits in (("INIT", self.data), ("INITP", self.parity)):
            for n in range(len(bits) // slice_bits):
                value = sum(b << i for i, b in enumerate(bits[n * slice_bits : (n + 1) * slice_bits]))
                out.append(f".{name}_{n:02X}(256'h{value:x})")
        return ", ".join(out)

    @staticmethod
    def sizes(width: int) -> tuple[int, int]:
        """Data and parity bits of a word."""
        return (width, 0) if width < 9 else (width // 9 * 8, width // 9)

    def read(self, address: int, width: int) -> tuple[int, int]:
        """Data and parity at an address of the pins, whose lowest bit counts data bits."""
        d, p = self.sizes(width)
        n = address // d
        data, parity = self.data[n * d : (n + 1) * d], self.parity[n * p : (n + 1) * p]
        return sum(b << i for i, b in enumerate(data)), sum(b << i for i, b in enumerate(parity))

    def write(self, address: int, width: int, data: int, parity: int, enable: int) -> None:
        d, p = self.sizes(width)
        n = address // d
        for i in range(d):
            if enable >> (i // 8) & 1:
                self.data[n * d + i] = data >> i & 1
        for i in range(p):
            if enable >> i & 1:
                self.parity[n * p + i] = parity >> i & 1


RAMB = """wire [{high}:0] da, db; wire [{top}:0] pa, pb;
{cell} #({inits}, .READ_WIDTH_A({ra}), .READ_WIDTH_B({rb}), .WRITE_WIDTH_A({wa}), .WRITE_WIDTH_B({wb}),
    .WRITE_MODE_A("{mode}"), .WRITE_MODE_B("{mode}"), .DOA_REG({reg}), .DOB_REG(0), .INIT_A(0), .INIT_B(0),
    .SRVAL_A({srval}), .SRVAL_B(0)) u (
    .CLKARDCLK(clk), .CLKBWRCLK({clkb}), .ENARDEN(i0[30]), .ENBWREN(i0[31]), .RSTRAMARSTRAM(i0[32]), .RSTRAMB(i0[33]),
    .ADDRARDADDR(i0[14:0]), .ADDRBWRADDR(i0[29:15]), .WEA(i0[37:34]), .WEBWE(i0[45:38]), .ADDRENA(1'b1), .ADDRENB(1'b1),
    .DINADIN(i1[31:0]), .DINBDIN(i1[63:32]), .DINPADINP(i2[3:0]), .DINPBDINP(i2[7:4]), .DOUTADOUT(da), .DOUTBDOUT(db),
    .DOUTPADOUTP(pa), .DOUTPBDOUTP(pb), .SLEEP(1'b0), .REGCEAREGCE(1'b0), .REGCEB(1'b0),
    .RSTREGARSTREG(1'b0), .RSTREGB(1'b0));
assign o0 = {{32'd0 | db, 32'd0 | da}}, o1 = {{4'd0 | pb, 4'd0 | pa}};"""


def ramb(cell: str, inits: str, widths: tuple[int, int, int, int], mode: str, reg: int = 0, clkb: str = "clk") -> str:
    names = dict(zip(("ra", "rb", "wa", "wb"), widths, strict=True))
    high, top = (15, 1) if cell == "RAMB18E2" else (31, 3)
    return RAMB.format(cell=cell, inits=inits, mode=mode, reg=reg, clkb=clkb, high=high, top=top, srval=0x2A5, **names)


def half(cell: str) -> tuple[int, int]:
    """Data and parity pins of one port."""
    return (16, 2) if cell == "RAMB18E2" else (32, 4)


@pytest.mark.parametrize(
    ("cell", "widths", "mode"),
    [
        ("RAMB18E2", (36, 0, 0, 36), "READ_FIRST"),
        ("RAMB36E2", (72, 0, 0, 72), "READ_FIRST"),
        ("RAMB18E2", (18, 18, 18, 18), "READ_FIRST"),
        ("RAMB18E2", (18, 18, 18, 18), "WRITE_FIRST"),
        ("RAMB36E2", (9, 0, 0, 9), "NO_CHANGE"),
        ("RAMB18E2", (4, 0, 0, 4), "READ_FIRST"),
        ("RAMB18E2", (1, 2, 1, 2), "WRITE_FIRST"),
    ],
)
def test_an_ultrascale_block_ram_is_a_memory_array(
    cell: str, widths: tuple[int, int, int, int], mode: str, lif: Network
) -> None:
    rng = random.Random(3)
    words = Words(18 if cell == "RAMB18E2" else 36, rng)
    simulator = program("xcup", cell, ramb(cell, words.parameters(), widths, mode), lif)
    pins, parities = half(cell)
    ra, rb, wa, wb = widths
    shown: dict[str, tuple[int, int] | None] = {"a": (0, 0), "b": (0, 0)}
    rows: list[Row] = []
    want: list[tuple[tuple[int, int] | None, tuple[int, int] | None]] = []
    for _ in range(600):
        aa, ab = (rng.randrange(64) << rng.choice((0, 3)) for _ in "ab")  # few addresses, so that they meet
        ena, enb, rst = rng.random() < 0.9, rng.random() < 0.9, rng.random() < 0.05
        data, parity, byte_enables = rng.getrandbits(64), rng.getrandbits(8), rng.getrandbits(8) | 1
        we_a, we_b = (byte_enables if w and rng.random() < 0.4 else 0 for w in (wa, wb))
        da, db = data & ((1 << pins) - 1), data >> 32 & ((1 << pins) - 1)
        pa, pb = parity & ((1 << parities) - 1), parity >> 4 & ((1 << parities) - 1)
        both = wb == 18 * parities
        wide_d, wide_p = (db << pins | da, pb << parities | pa) if both else (db, pb)
        if wa and wb and ena and enb and we_a and we_b:
            we_b = 0  # two writes at once are refused
        rows.append(
            (
                aa | ab << 15 | ena << 30 | enb << 31 | rst << 32 | (we_a & 15) << 34 | we_b << 38,
                da | db << 32,
                pa | pb << 4,
            )
        )
        want.append((shown["a"], shown["b"]))
        before = {"a": words.read(aa, ra) if ra else (0, 0), "b": words.read(ab, rb) if rb else (0, 0)}
        if ena and we_a:
            words.write(aa, wa, da, pa, we_a & 15)
        if enb and we_b:
            words.write(ab, wb, wide_d, wide_p, we_b)
        after = {"a": words.read(aa, ra) if ra else (0, 0), "b": words.read(ab, rb) if rb else (0, 0)}
        for name, enabled, own, other in (("a", ena, we_a, enb and we_b), ("b", enb, we_b, ena and we_a)):
            if not enabled:
                continue
            if name == "a" and rst:
                d, p = half(cell)
                shown[name] = (0x2A5 & ((1 << d) - 1), 0x2A5 >> d)
            elif own:
                shown[name] = {"READ_FIRST": before, "WRITE_FIRST": after}.get(mode, {name: shown[name]})[name]
            elif other and mode != "READ_FIRST" and meet(aa, ab, widths):
                shown[name] = None  # what it may not rely on
            else:
                shown[name] = before[name]
    got = []
    for o0, o1 in run(simulator, rows):
        da, db, pa, pb = o0 & 0xFFFFFFFF, o0 >> 32, o1 & 15, o1 >> 4
        wide = ra == 18 * parities
        got.append(((db << pins | da, pb << parities | pa) if wide else (da, pa), (0, 0) if wide else (db, pb)))
    for n, (row, seen) in enumerate(zip(want, got, strict=True)):
        for word, pair, width in zip(row, seen, (ra, rb), strict=True):
            if width and word is not None:
                d, p = ((1 << bits) - 1 for bits in Words.sizes(width))
                assert (pair[0] & d, pair[1] & p) == (word[0] & d, word[1] & p), f"cycle {n}, {width} bits"


def meet(aa: int, ab: int, widths: tuple[int, int, int, int]) -> bool:
    """Do the ports' addresses lie in one of the widest words?"""
    widest = max(Words.sizes(w)[0] for w in widths)
    return aa // max(widest, 8) == ab // max(widest, 8)


def test_a_read_of_what_the_other_port_writes_is_spoilt_where_nothing_is_promised(lif: Network) -> None:
    for mode, promised in (("READ_FIRST", True), ("NO_CHANGE", False)):
        words = Words(18, random.Random(4))
        simulator = program("xcup", "RAMB18E2", ramb("RAMB18E2", words.parameters(), (18, 0, 0, 18), mode), lif)
        old, _ = words.read(16, 18)
        both = 16 | 16 << 15 | 1 << 30 | 1 << 31 | 3 << 38
        shown = run(simulator, [(both, (old ^ 0xFFFF ^ 1) << 32), (0,)])[1][0] & 0xFFFF
        assert shown == (old if promised else old ^ 0xFFFF)


def dp16kd(words: Words, width_a: int, width_b: int, mode: str, more: str = "") -> str:
    """Port A on i0 (address, enable 14, write 15, reset 16) and i1, port B on i2 and i3."""
    both = [d | p << 8 for d, p in (words.read(8 * n, 9) for n in range(2048))]
    rows = [both[2 * n] | both[2 * n + 1] << 9 for n in range(1024)]
    inits = [sum(rows[16 * n + k] << 20 * k for k in range(16)) for n in range(64)]
    parameters = ", ".join(f".INITVAL_{n:02X}(320'h{v:x})" for n, v in enumerate(inits))
    pins = []
    for x, i, d, o in (("A", "i0", "i1", "o0"), ("B", "i2", "i3", "o1")):
        pins += [f".AD{x}{n}({i}[{n}])" for n in range(14)]
        pins += [f".DI{x}{n}({d}[{n}])" for n in range(18)] + [f".DO{x}{n}({o}[{n}])" for n in range(18)]
        pins += [f".CLK{x}(clk), .CE{x}({i}[14]), .WE{x}({i}[15]), .RST{x}({i}[16]), .OCE{x}(1'b1)"]
        pins += [f".CS{x}{n}(1'b0)" for n in range(3)]
    return (
        f'DP16KD #({parameters}, .DATA_WIDTH_A({width_a}), .DATA_WIDTH_B({width_b}), .WRITEMODE_A("{mode}"), '
        f'.WRITEMODE_B("{mode}"){more}) u ({", ".join(pins)});'
    )


@pytest.mark.parametrize(
    ("width", "mode"), [(36, "NORMAL"), (18, "READBEFOREWRITE"), (18, "WRITETHROUGH"), (9, "NORMAL")]
)
def test_an_ecp5_block_ram_is_a_memory_array(width: int, mode: str, lif: Network) -> None:
    rng = random.Random(5)
    words = Words(18, rng)
    bits = min(width, 18)
    simulator = program("ecp5", "DP16KD", dp16kd(words, width, width, mode), lif)
    data_bits, parity_bits = Words.sizes(width)
    step = width // 9
    shown: list[int | None] = [0, 0]
    rows: list[Row] = []
    want: list[list[int | None]] = []

    def read(address: int) -> int:
        return sum((d | p << 8) << 9 * n for n in range(step) for d, p in [words.read(address + 8 * n, 9)])

    for _ in range(500):
        at = [rng.randrange(16) * data_bits for _ in "ab"]
        enable, reset = [rng.random() < 0.9 for _ in "ab"], [rng.random() < 0.05 for _ in "ab"]
        writes, data = [rng.random() < 0.5, width < 36 and rng.random() < 0.5], [rng.getrandbits(18) for _ in "ab"]
        byte_enables = [rng.getrandbits(step) if step > 1 else 1 for _ in "ab"]
        acts = [w and e and b != 0 and not r for w, e, b, r in zip(writes, enable, byte_enables, reset, strict=True)]
        if all(acts):
            writes[1] = acts[1] = False
        row: list[int] = []
        for p in range(2):
            address = at[p] | (byte_enables[p] if step > 1 and writes[p] else 0)
            row += [address | enable[p] << 14 | writes[p] << 15 | reset[p] << 16, data[p]]
        rows.append(tuple(row))
        want.append(list(shown))
        before = [read(a) for a in at]
        for p in range(2):
            if acts[p]:
                value = data[1] << 18 | data[0] if width == 36 else data[p]
                parts = [value >> 9 * n & 0x1FF for n in range(step)]
                joined = (
                    sum((v & 255) << 8 * n for n, v in enumerate(parts)),
                    sum((v >> 8) << n for n, v in enumerate(parts)),
                )
                words.write(at[p], width, *joined, byte_enables[p])
        after = [read(a) for a in at]
        for p in range(2):
            if reset[p]:
                shown[p] = 0
            elif enable[p] and acts[p]:
                shown[p] = {"READBEFOREWRITE": before[p], "WRITETHROUGH": after[p]}.get(mode, shown[p])
            elif enable[p]:
                shown[p] = None if acts[1 - p] and at[0] == at[1] else before[p]
    for n, ((o0, o1), (a, b)) in enumerate(zip(run(simulator, rows), want, strict=True)):
        if width == 36:
            assert b is None or (o1 << 18 | o0) == b, f"cycle {n}"
        else:
            mask = (1 << bits) - 1
            assert (a is None or o0 & mask == a) and (b is None or o1 & mask == b), f"cycle {n}"
    assert parity_bits == step


OUTREG = ', .REGMODE_A("OUTREG")'


def ramb18(widths: tuple[int, int, int, int], mode: str = "READ_FIRST", reg: int = 0, clkb: str = "clk") -> str:
    return ramb("RAMB18E2", ".INIT_00(0)", widths, mode, reg, clkb)


@pytest.mark.parametrize(
    ("family", "cell", "body", "message"),
    [
        ("xcup", "RAMB18E2", ramb18((36, 0, 0, 36), reg=1), "no output registers"),
        ("xcup", "RAMB18E2", ramb18((36, 18, 0, 36)), "port A to read"),
        ("xcup", "RAMB18E2", ramb18((18, 0, 0, 18), "SOMETIMES"), "write modes"),
        ("xcup", "RAMB18E2", ramb18((12, 0, 0, 18)), "no such widths"),
        ("ecp5", "DP16KD", dp16kd(Words(18, random.Random(0)), 18, 18, "NORMAL", OUTREG), "no output registers"),
    ],
)
def test_a_block_ram_used_in_another_way_is_no_program(
    family: str, cell: str, body: str, message: str, lif: Network
) -> None:
    with pytest.raises(ToolFailed, match=message):
        program(family, cell, body, lif)


def test_two_clocks_or_two_writes_of_a_byte_stop(lif: Network) -> None:
    text = ramb18((18, 18, 18, 18), clkb="~clk")
    with pytest.raises(ValueError, match="expected one clock for both ports"):
        run(program("xcup", "RAMB18E2", text, lif), [(3 << 30,), (0,)])
    text = ramb18((18, 18, 18, 18))
    with pytest.raises(ValueError, match="both ports write a byte"):
        run(program("xcup", "RAMB18E2", text, lif), [(3 << 30 | 3 << 34 | 3 << 38,), (0,)])
