"""The serial link in simulation, bits on the wire, with the host's own code at the other end."""

from __future__ import annotations

import binascii
from collections import deque
from typing import Any

import numpy as np
import pytest
from amaranth.sim import Simulator

from apical.hw.board_top import LinkedAccelerator, pll_settings
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.uart import divisor_of
from apical.sw import golden, host_uart
from apical.sw.bundle import identity
from apical.sw.laws import Format, LeakyIntegrator, Lif, Relu
from apical.sw.network import Input, Network, Population, Projection
from apical.sw.streaming import Stream
from apical.sw.trace import differences
from apical.sw.uart_frames import DATA, ERROR, HELLO, FrameReader, encode_frame, encode_sample, pack_records

CYCLE_S = 1e-8
DIVISOR = 4


async def _cycles(ctx: Any, number: int) -> None:
    for _ in range(number):  # plain ticks: amaranth's repeat() can't be dropped in the middle without a warning
        await ctx.tick()


class Wire:
    """Transport whose other end is the simulated board; bytes go bit by bit."""

    def __init__(self, network: Network, options: HardwareOptions, buffer_bytes: int = 2048) -> None:
        self.top = LinkedAccelerator(network, options, DIVISOR, buffer_bytes)
        self.sending: deque[int] = deque()
        self.received = bytearray()
        self.damage: set[int] = set()  # numbers of sent bytes to flip a bit of
        self.sent = self.cycles = 0
        self.simulator = Simulator(self.top)
        self.simulator.add_clock(CYCLE_S)
        self.simulator.add_testbench(self._drive, background=True)
        self.simulator.add_testbench(self._listen, background=True)

    async def _drive(self, ctx: Any) -> None:
        while True:
            if not self.sending:
                await ctx.tick()
                continue
            byte = self.sending.popleft() ^ (0x10 if self.sent in self.damage else 0)
            self.sent += 1
            for bit in (0, *((byte >> i) & 1 for i in range(8)), 1):
                ctx.set(self.top.rx, bit)
                await _cycles(ctx, DIVISOR)

    async def _listen(self, ctx: Any) -> None:
        while True:
            await ctx.tick()
            if ctx.get(self.top.tx):
                continue
            await _cycles(ctx, DIVISOR // 2 - 1)
            byte = 0
            for i in range(9):
                await _cycles(ctx, DIVISOR)
                byte |= ctx.get(self.top.tx) << i
            assert byte >> 8, "stop bit"
            self.received.append(byte & 0xFF)

    def write(self, data: bytes) -> None:
        self.sending.extend(data)

    def read(self, size: int) -> bytes:
        quiet = 0
        while quiet < 30:
            quiet = 0 if self.sending else quiet + 1
            if self.received:
                out = bytes(self.received[:size])
                del self.received[:size]
                return out
            self.cycles += 20 * DIVISOR
            self.simulator.run_until(self.cycles * CYCLE_S)
        return b""


def spiking() -> Network:
    """Spikes in and between, a graded signed output and a spiking one."""
    rng = np.random.default_rng(0)
    hidden = Population(
        "h",
        6,
        Lif(state_bits=10),
        {"decay": rng.integers(200, 256, 6), "threshold": np.array([60]), "bias": np.array([0])},
    )
    out = Population("o", 4, LeakyIntegrator(state_bits=14), {"decay": np.array([240]), "bias": np.array([0])})
    return Network(
        (Input("x", 9),),
        (hidden, out),
        (
            Projection("p", "x", "h", rng.integers(-20, 60, (6, 9))),
            Projection("q", "h", "o", rng.integers(-128, 128, (4, 6))),
        ),
        ("o", "h"),
        "sum",
    )


def graded() -> Network:
    """Two inputs, one of them graded and wider than a byte's index."""
    rng = np.random.default_rng(1)
    cells = Population("c", 3, Relu(value_bits=12, shift=2), {"bias": np.array([7])})
    return Network(
        (Input("wide", 300, Format(10)), Input("spikes", 5)),
        (cells,),
        (
            Projection("a", "wide", "c", rng.integers(-128, 128, (3, 300))),
            Projection("b", "spikes", "c", rng.integers(-128, 128, (3, 5))),
        ),
        ("c",),
    )


SPIKING_LANES = HardwareOptions({"h": Lanes(6, 2, 2), "o": Lanes(4, 2)}, {"x": 2})


@pytest.fixture
def spiking_wire() -> Wire:
    return Wire(spiking(), SPIKING_LANES)


def test_spiking_network_over_the_wire_equals_golden(spiking_wire: Wire) -> None:
    network = spiking()
    x = np.random.default_rng(2).integers(0, 2, (3, 4, 9))
    got = host_uart.Link(spiking_wire, network).run(x, batch=2)
    expected = golden.run(network, x)
    assert differences(expected, got) == []
    assert got.counters == expected.counters
    assert expected.outputs["o"].min() < 0 < expected.counters["population h: events"]


def test_graded_network_with_two_inputs_over_the_wire_equals_golden() -> None:
    network = graded()
    wire = Wire(network, HardwareOptions({"c": Lanes(3, 1)}, {"wide": 4, "spikes": 1}))
    rng = np.random.default_rng(3)
    x = np.zeros((2, 3, 305), np.int64)
    x[:, :, :300] = rng.integers(-512, 512, (2, 3, 300)) * (rng.random((2, 3, 300)) < 0.05)
    x[:, :, 300:] = rng.integers(0, 2, (2, 3, 5))
    x[0, 1] = 0  # a tick without any event
    got = host_uart.Link(wire, network).run(x)
    expected = golden.run(network, x)
    assert differences(expected, got) == []
    assert expected.outputs["c"].max() > 255


def test_an_endless_stream_over_the_wire_equals_golden_tick_by_tick(spiking_wire: Wire) -> None:
    """Each tick's outputs come before the next tick is sent; the state goes on over pushes, whatever their length."""
    network = spiking()
    x = np.random.default_rng(5).integers(0, 2, (6, 9))
    link, stream = host_uart.Link(spiking_wire, network), Stream(network)
    link.hello()
    link.reset()
    for part in (x[:1], x[1:2], x[2:2], x[2:5], x[5:]):
        np.testing.assert_array_equal(link.push(part), stream.push(part))
    assert link.counters() == stream.counters
    link.reset()
    stream.reset()
    np.testing.assert_array_equal(link.push(x[:2]), stream.push(x[:2]))


def test_a_damaged_byte_in_a_stream_is_told_and_a_reset_begins_anew(spiking_wire: Wire) -> None:
    network = spiking()
    x = np.ones((1, 9), np.int64)
    link = host_uart.Link(spiking_wire, network)
    link.hello()
    link.reset()
    spiking_wire.damage = {spiking_wire.sent + 6}
    with pytest.raises(host_uart.LinkError, match=r"^the board reports error 1"):
        link.push(x)
    link.reset()
    np.testing.assert_array_equal(link.push(x), Stream(network).push(x))


def test_a_damaged_byte_costs_a_repeat_and_no_result(spiking_wire: Wire) -> None:
    network = spiking()
    x = np.random.default_rng(4).integers(0, 2, (1, 3, 9))
    spiking_wire.damage = {30}
    got = host_uart.Link(spiking_wire, network).run(x)
    assert spiking_wire.sent > 30
    assert differences(golden.run(network, x), got) == []


def test_host_refuses_the_bitstream_of_another_network(spiking_wire: Wire) -> None:
    other = graded()
    pattern = f"^expected the bitstream of network {identity(other)}, the board carries {identity(spiking())}$"
    with pytest.raises(host_uart.WrongBoard, match=pattern):
        host_uart.Link(spiking_wire, other).hello()


def test_silence_is_reported() -> None:
    class Dead:
        def read(self, size: int) -> bytes:
            return b""

        def write(self, data: bytes) -> None:
            pass

    with pytest.raises(host_uart.WrongBoard, match=r"^the board doesn't answer; check the port"):
        host_uart.Link(Dead(), spiking()).hello()


def _frames(wire: Wire, data: bytes) -> list[tuple[int, bytes] | None]:
    """Send bytes and return what comes back until silence."""
    wire.write(data)
    reader = FrameReader()
    out: list[tuple[int, bytes] | None] = []
    while True:
        got = wire.read(64)
        if not got and not wire.sending:
            return out
        out += reader.feed(got)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x7e\x01\x00\x00\x7e", 1),
        (encode_frame(0x55), 2),
        (encode_frame(HELLO, b"extra"), 2),
        (encode_frame(DATA, b"\x01\x40"), 3),
        (encode_frame(DATA, b"\x00\x5f"), 5),
        (encode_frame(DATA, b"\x00\x80\x09"), 5),
        (encode_frame(DATA, b"\x00\x80"), 5),
        (encode_frame(DATA, b"\x00\x20"), 5),
    ],
    ids=["checksum", "type", "payload", "sequence", "port", "index", "cut record", "final without last"],
)
def test_board_reports_each_error(spiking_wire: Wire, data: bytes, code: int) -> None:
    expected_next = 1 if code == 5 else 0
    assert (ERROR, bytes([code, expected_next])) in _frames(spiking_wire, data)


def test_board_takes_no_data_after_an_error_until_reset(spiking_wire: Wire) -> None:
    network = spiking()
    _frames(spiking_wire, encode_frame(0x55))
    payload = b"\x00" + pack_records(encode_sample(network, np.ones((1, 9), np.int64)))[0]
    assert _frames(spiking_wire, encode_frame(DATA, payload)) == [(ERROR, b"\x02\x00")]
    link = host_uart.Link(spiking_wire, network)
    link.reset()
    kinds = [f[0] for f in _frames(spiking_wire, encode_frame(DATA, payload)) if f is not None]
    assert 0x83 in kinds and 0x90 in kinds and ERROR not in kinds


def test_buffer_overrun_is_reported_and_nothing_of_it_is_used() -> None:
    # One frame longer than the whole buffer: its records are valid, its length isn't.
    wire = Wire(spiking(), SPIKING_LANES, buffer_bytes=64)
    assert (ERROR, b"\x04\x00") in _frames(wire, encode_frame(DATA, b"\x00" + b"\x40" * 70))
    assert set(host_uart.Link(wire, spiking()).counters().values()) == {0}


def test_a_small_buffer_only_slows_the_host_down() -> None:
    network = spiking()
    wire = Wire(network, SPIKING_LANES, buffer_bytes=256)
    x = np.ones((4, 6, 9), np.int64)
    assert sum(map(len, encode_sample(network, x[0]))) * 4 > 256
    got = host_uart.Link(wire, network).run(x)
    assert differences(golden.run(network, x), got) == []


def test_frames_survive_every_byte_value() -> None:
    payload = bytes(range(256))
    reader = FrameReader()
    assert list(reader.feed(b"\x12\x34" + encode_frame(7, payload))) == [None, (7, payload)]
    assert binascii.crc_hqx(b"123456789", 0xFFFF) == 0x29B1  # published check value of CRC-16/IBM-3740


def test_records_are_what_the_reference_page_says() -> None:
    x = np.zeros((2, 305), np.int64)
    x[0, 258], x[0, 299], x[1, 301] = -2, 5, 1
    assert encode_sample(graded(), x) == [
        b"\x80\x02\x01\xfe\xff",
        b"\xc0\x2b\x01\x05\x00",
        b"\x41",
        b"\x60",
        b"\xe1\x01",
    ]


@pytest.mark.parametrize(("mhz", "baud", "expected"), [(25.0, 1_000_000, 25), (100.0, 115_200, 868)])
def test_divisor_is_clock_cycles_per_bit(mhz: float, baud: int, expected: int) -> None:
    assert divisor_of(mhz, baud) == expected


def test_a_rate_that_the_clock_cannot_make_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^uart: 3000000 baud is 8\.33 cycles of 25 MHz"):
        divisor_of(25.0, 3_000_000)
    with pytest.raises(ValueError, match=r"^uart: expected at least 4 clock cycles per bit, got 2\.08"):
        divisor_of(25.0, 12_000_000)


def test_pll_settings_keep_the_data_sheets_limits() -> None:
    for wanted in (10.0, 50.0, 62.5, 100.0, 133.0):
        s = pll_settings(25.0, wanted)
        assert abs(s.frequency_mhz / wanted - 1) <= 0.02
        assert s.frequency_mhz == 25.0 / s.input * s.feedback
        assert 400 <= s.frequency_mhz * s.output <= 800


def test_a_clock_that_the_pll_cannot_make_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^clock: expected a frequency that the PLL makes from 25 MHz, got 900 MHz"):
        pll_settings(25.0, 900.0)
