"""Serial line: receiver and transmitter (8N1), and the frames of docs/reference/uart.md on top of it."""

from __future__ import annotations

from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import data, stream, wiring
from amaranth.lib.cdc import FFSynchronizer
from amaranth.lib.crc.catalog import CRC16_IBM_3740
from amaranth.lib.wiring import In, Out

from apical.sw.uart_frames import ESCAPE, FLAG, FLIP

MINIMUM_DIVISOR = 4  # clock cycles per bit; fewer leave no middle to sample in


def divisor_of(frequency_mhz: float, baud: int) -> int:
    """Clock cycles per bit.

    :raises ValueError: too few cycles, or a rate error above 2 % (10 bits drift by at most a fifth of a bit).
    """
    exact = frequency_mhz * 1e6 / baud
    divisor = round(exact)
    if divisor < MINIMUM_DIVISOR:
        raise ValueError(
            f"uart: expected at least {MINIMUM_DIVISOR} clock cycles per bit, got {exact:.2f} at {baud} baud"
        )
    if abs(divisor / exact - 1) > 0.02:
        raise ValueError(
            f"uart: {baud} baud is {exact:.2f} cycles of {frequency_mhz:g} MHz; a whole number within 2 % doesn't exist"
        )
    return divisor


class Receiver(wiring.Component):  # type: ignore[misc]
    """8N1 receiver. `strobe` is high for one cycle per byte, with `data`; `broken` instead where the stop bit is 0.

    Bits are sampled in the middle, counted from the start bit's edge.
    """

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor
        super().__init__({"rx": In(1, init=1), "data": Out(8), "strobe": Out(1), "broken": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        rx = Signal(init=1)
        m.submodules.synchronizer = FFSynchronizer(self.rx, rx, init=1)
        timer, bits, busy = Signal(range(2 * self.divisor)), Signal(range(10)), Signal()
        m.d.sync += [self.strobe.eq(0), self.broken.eq(0)]
        with m.If(~busy):
            # To the middle of the start bit, half a bit from now.
            m.d.sync += [timer.eq(self.divisor // 2 - 1), bits.eq(0)]
            m.d.sync += busy.eq(~rx)
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Else():
            m.d.sync += [timer.eq(self.divisor - 1), bits.eq(bits + 1)]
            with m.If(bits == 0):
                m.d.sync += busy.eq(~rx)  # a glitch, not a start bit
            with m.Elif(bits == 9):
                m.d.sync += [busy.eq(0), self.strobe.eq(rx), self.broken.eq(~rx)]
            with m.Else():
                m.d.sync += self.data.eq(Cat(self.data[1:], rx))
        return m


class Transmitter(wiring.Component):  # type: ignore[misc]
    """8N1 transmitter: a stream of bytes onto `tx`. One byte takes 10 bits; the line idles high."""

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor
        super().__init__({"bytes": In(stream.Signature(8)), "tx": Out(1, init=1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        timer, left, shift = Signal(range(self.divisor)), Signal(range(11)), Signal(10, init=0x3FF)
        m.d.comb += [self.bytes.ready.eq(left == 0)]
        m.d.sync += self.tx.eq(shift[0] | (left == 0))
        with m.If(self.bytes.ready & self.bytes.valid):
            m.d.sync += [shift.eq(Cat(0, self.bytes.payload, 1)), left.eq(10), timer.eq(self.divisor - 1)]
        with m.Elif(timer != 0):
            m.d.sync += timer.eq(timer - 1)
        with m.Elif(left != 0):
            m.d.sync += [timer.eq(self.divisor - 1), left.eq(left - 1), shift.eq(Cat(shift[1:], 1))]
        return m


class FrameParser(wiring.Component):  # type: ignore[misc]
    """From received bytes to frame contents.

    `byte_valid`: the next byte of a frame, checksum included, with `byte` and its `position` (saturating at 7).
    `good`, `bad`: one cycle at a frame's end. Bytes must be at least 2 cycles apart.
    """

    def __init__(self) -> None:
        super().__init__(
            {
                "data": In(8),
                "strobe": In(1),
                "broken": In(1),
                "byte": Out(8),
                "byte_valid": Out(1),
                "position": Out(3),
                "good": Out(1),
                "bad": Out(1),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = CRC16_IBM_3740().create()
        escaped, spoiled = Signal(), Signal()
        is_flag = Signal()
        m.d.comb += [
            is_flag.eq(self.strobe & (self.data == FLAG)),
            self.byte.eq(self.data ^ escaped * FLIP),
            self.byte_valid.eq(self.strobe & ~is_flag & (self.data != ESCAPE)),
            crc.data.eq(self.byte),
            crc.valid.eq(self.byte_valid),
            crc.start.eq(is_flag),
        ]
        right = crc.match_detected & ~escaped & ~spoiled & (self.position >= 3)
        something = spoiled | (self.position != 0)
        m.d.comb += [self.good.eq(is_flag & right), self.bad.eq(is_flag & ~right & something)]
        with m.If(self.byte_valid & (self.position != 7)):
            m.d.sync += self.position.eq(self.position + 1)
        with m.If(self.strobe):
            m.d.sync += escaped.eq(self.data == ESCAPE)
        with m.If(self.broken):
            m.d.sync += spoiled.eq(1)
        with m.If(is_flag):
            m.d.sync += [self.position.eq(0), spoiled.eq(0), escaped.eq(0)]
        return m


Token = data.StructLayout({"data": 8, "end": 1})


class FrameWriter(wiring.Component):  # type: ignore[misc]
    """From tokens (bytes; then one with `end`, whose data is ignored) to a frame's bytes: flags, escapes, checksum.

    A reset drops what was begun; the next frame's opening flag closes the piece, which the host sees as damaged.
    """

    def __init__(self) -> None:
        super().__init__({"tokens": In(stream.Signature(Token)), "bytes": Out(stream.Signature(8))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.crc = crc = CRC16_IBM_3740().create()
        token, out = self.tokens, self.bytes
        escape = Signal()  # the byte after an escape is due
        raw, wants = Signal(8), Signal()
        m.d.comb += wants.eq(((raw == FLAG) | (raw == ESCAPE)) & ~escape)

        def send(done: str | None) -> None:
            """One payload byte, escaped where needed."""
            m.d.comb += out.payload.eq(raw ^ escape * FLIP)
            with m.If(wants):
                m.d.comb += out.payload.eq(ESCAPE)
            with m.If(out.valid & out.ready):
                m.d.sync += escape.eq(wants)
                if done is not None:
                    with m.If(~wants):
                        m.next = done

        with m.FSM():
            with m.State("OPEN"):
                m.d.comb += [crc.start.eq(1), out.payload.eq(FLAG), out.valid.eq(token.valid)]
                m.d.sync += escape.eq(0)
                with m.If(out.valid & out.ready):
                    m.next = "BODY"
            with m.State("BODY"):
                m.d.comb += [raw.eq(token.payload.data), crc.data.eq(raw)]
                with m.If(token.payload.end):
                    m.d.comb += token.ready.eq(1)
                    with m.If(token.valid):
                        m.next = "HIGH"
                with m.Else():
                    m.d.comb += [
                        out.valid.eq(token.valid),
                        token.ready.eq(out.ready & ~wants),
                        crc.valid.eq(token.valid & token.ready),
                    ]
                    send(None)
            with m.State("HIGH"):
                m.d.comb += [raw.eq(crc.crc[8:]), out.valid.eq(1)]
                send("LOW")
            with m.State("LOW"):
                m.d.comb += [raw.eq(crc.crc[:8]), out.valid.eq(1)]
                send("CLOSE")
            with m.State("CLOSE"):
                m.d.comb += [out.payload.eq(FLAG), out.valid.eq(1)]
                with m.If(out.ready):
                    m.next = "OPEN"
        return m
