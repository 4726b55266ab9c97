"""The board's side of the serial protocol (docs/reference/uart.md): frames to event streams and back."""

from __future__ import annotations

from amaranth.hdl import Array, Cat, Const, Module, Mux, Signal, Value
from amaranth.lib import data, memory, stream, wiring
from amaranth.lib.wiring import In, Out

from apical.hw.events import EventLayout
from apical.hw.uart import FrameParser, Token
from apical.sw.uart_frames import (
    ANSWER,
    COUNTERS,
    DATA,
    ERROR,
    EVENT,
    FINAL,
    FRAME_BYTES,
    HELLO,
    LAST,
    OUTPUT,
    PORT_MASK,
    RESET,
    VERSION,
    RecordFormat,
)

BUFFER_BYTES = 2048  # one block RAM of 9 bits; two bytes of it hold a checksum for a moment
RecordByte = data.StructLayout({"data": 8, "end": 1})


class FrameBuffer(wiring.Component):  # type: ignore[misc]
    """Receives frames, keeps data frames until read, raises a flag per command.

    `bytes`: record bytes; one with `end` (no data) closes each frame. `command`: one cycle, with `kind`. `error`: one
    cycle, with `error_code`; `stopped` drops data frames (the error is the caller's to repeat, by `dropped`).

    :param size: bytes; a power of two.
    """

    def __init__(self, size: int = BUFFER_BYTES) -> None:
        self.size = size
        super().__init__(
            {
                "data": In(8),
                "strobe": In(1),
                "broken": In(1),
                "stopped": In(1),
                "bytes": Out(stream.Signature(RecordByte)),
                "command": Out(1),
                "kind": Out(8),
                "error": Out(1),
                "error_code": Out(3),
                "dropped": Out(1),
                "expected": Out(8),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.parser = parser = FrameParser()
        m.d.comb += [parser.data.eq(self.data), parser.strobe.eq(self.strobe), parser.broken.eq(self.broken)]
        bank = memory.Memory(shape=9, depth=self.size, init=[], attrs={"ram_style": "block"})
        m.submodules.bank = bank
        write, read = bank.write_port(), bank.read_port()
        at, kept, head = (Signal(range(2 * self.size), name=n) for n in ("at", "kept", "head"))
        kind, sequence, full = self.kind, Signal(8), Signal()
        is_data = Signal()
        m.d.comb += is_data.eq(kind == DATA)

        # Bytes of a data frame go to the buffer as they come; only a good frame moves `kept`.
        with m.If(parser.byte_valid):
            with m.If(parser.position == 0):
                m.d.sync += [kind.eq(parser.byte), full.eq(0), at.eq(kept)]
            with m.Elif(parser.position == 1):
                m.d.sync += sequence.eq(parser.byte)
            with m.Elif((at - head)[: len(at)] == self.size):
                m.d.sync += full.eq(1)
            with m.Else():
                m.d.comb += write.en.eq(is_data)
                m.d.sync += at.eq(at + 1)
        m.d.comb += [write.addr.eq(at[:-1]), write.data.eq(parser.byte)]
        with m.If(parser.good):
            # The two checksum bytes lie at the end; the first of them becomes the frame's mark.
            marked = Signal.like(at)
            m.d.comb += marked.eq(at - 2)
            with m.If(is_data):
                with m.If(self.stopped):
                    m.d.comb += self.dropped.eq(1)
                with m.Elif(parser.position < 4):
                    m.d.comb += [self.error.eq(1), self.error_code.eq(2)]
                with m.Elif(full):
                    m.d.comb += [self.error.eq(1), self.error_code.eq(4)]
                with m.Elif(sequence != self.expected):
                    m.d.comb += [self.error.eq(1), self.error_code.eq(3)]
                with m.Else():
                    m.d.comb += [write.addr.eq(marked[:-1]), write.data.eq(0x100), write.en.eq(1)]
                    m.d.sync += [kept.eq(marked + 1), self.expected.eq(self.expected + 1)]
            with m.Elif(((kind == HELLO) | (kind == RESET) | (kind == COUNTERS)) & (parser.position == 3)):
                m.d.comb += self.command.eq(1)
            with m.Else():
                m.d.comb += [self.error.eq(1), self.error_code.eq(2)]
        with m.If(parser.bad):
            m.d.comb += [self.error.eq(1), self.error_code.eq(1)]

        # Read side: a byte is fetched into a register behind the memory's own, which is slow.
        fetched, loaded, take = Signal(), Signal(), Signal()
        held = Signal(9, reset_less=True)
        m.d.comb += [
            read.addr.eq(head[:-1]),
            self.bytes.valid.eq(loaded),
            self.bytes.payload.data.eq(held[:8]),
            self.bytes.payload.end.eq(held[8]),
            take.eq(self.bytes.valid & self.bytes.ready),
        ]
        with m.If(take):
            m.d.sync += [head.eq(head + 1), loaded.eq(0)]
        with m.Elif(~loaded):
            m.d.sync += [fetched.eq((head != kept) & ~fetched), loaded.eq(fetched), held.eq(read.data)]
        return m


class RecordReader(wiring.Component):  # type: ignore[misc]
    """From record bytes to the accelerator's input streams (`event0` …), one event per beat.

    `frame_done`: one cycle per frame whose records have all been taken. `error`: a bad record; it stays, and nothing
    more is read.
    """

    def __init__(self, formats: tuple[RecordFormat, ...], layouts: list[EventLayout]) -> None:
        self.formats, self.layouts = formats, layouts
        super().__init__(
            {
                "bytes": In(stream.Signature(RecordByte)),
                "frame_done": Out(1),
                "error": Out(1),
                **{f"event{i}": Out(stream.Signature(layout)) for i, layout in enumerate(layouts)},
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        source, head = self.bytes, Signal(8)
        most = max(f.index_bytes + f.value_bytes for f in self.formats)
        body, count = Signal(8 * most), Signal(range(most + 1))
        byte = source.payload.data
        lengths = [f.index_bytes + f.value_bytes for f in self.formats]
        port = head & PORT_MASK
        with m.FSM():
            with m.State("HEAD"):
                m.d.comb += source.ready.eq(1)
                m.d.sync += [head.eq(byte), count.eq(0), body.eq(0)]
                with m.If(source.valid):
                    with m.If(source.payload.end):
                        m.d.comb += self.frame_done.eq(1)
                    with m.Elif(((byte & PORT_MASK) >= len(self.formats)) | ((byte & (FINAL | LAST)) == FINAL)):
                        m.next = "BAD"
                    with m.Elif((byte & EVENT) != 0):
                        m.next = "BODY"
                    with m.Elif((byte & LAST) != 0):
                        m.next = "SEND"
            with m.State("BODY"):
                m.d.comb += source.ready.eq(1)
                with m.If(source.valid):
                    for b in range(most):
                        with m.If(count == b):
                            m.d.sync += body[8 * b : 8 * b + 8].eq(byte)
                    m.d.sync += count.eq(count + 1)
                    with m.If(source.payload.end):
                        m.next = "BAD"
                    with m.Elif(count + 1 == Array(Const(n, range(most + 1)) for n in lengths)[port]):
                        m.next = "CHECK"
            with m.State("CHECK"):
                m.next = "SEND"
                for i, f in enumerate(self.formats):
                    with m.If((port == i) & (body[: 8 * f.index_bytes] >= f.size)):
                        m.next = "BAD"
            with m.State("SEND"):
                for i, (f, layout) in enumerate(zip(self.formats, self.layouts, strict=True)):
                    out = getattr(self, f"event{i}")
                    m.d.comb += out.valid.eq(port == i)
                    with m.If((port == i) & out.ready):
                        m.next = "HEAD"
                    lane_bits = (layout.classes - 1).bit_length()
                    index = body[: 8 * f.index_bytes]
                    lane = index[:lane_bits]
                    for e in range(layout.lanes):
                        chosen: Value = (lane == e) if lane_bits and e < layout.classes else Const(int(e == 0), 1)
                        m.d.comb += out.payload.keep[e].eq(chosen & ((head & EVENT) != 0))
                        m.d.comb += out.payload.rows[e].eq(index[lane_bits:])
                        if f.value_bytes:
                            value = body[8 * f.index_bytes : 8 * (f.index_bytes + f.value_bytes)]
                            m.d.comb += out.payload["values"][e].eq(value)
                    m.d.comb += [
                        out.payload.last.eq((head & LAST) != 0),
                        out.payload.final.eq((head & FINAL) != 0),
                    ]
            with m.State("BAD"):
                m.d.comb += self.error.eq(1)
        return m


class RecordWriter(wiring.Component):  # type: ignore[misc]
    """From one of the accelerator's output streams to record bytes; `end` marks a record's last byte."""

    def __init__(self, port: int, record: RecordFormat, layout: EventLayout) -> None:
        self.port, self.record, self.layout = port, record, layout
        super().__init__({"events": In(stream.Signature(layout)), "bytes": Out(stream.Signature(RecordByte))})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        f, layout = self.record, self.layout
        beat, lanes = Signal(layout), layout.lanes
        left = Signal(lanes)
        length = 1 + f.index_bytes + f.value_bytes
        shift, count = Signal(8 * length), Signal(range(length + 1))
        out = self.bytes
        m.d.comb += [out.valid.eq(count != 0), out.payload.data.eq(shift[:8]), out.payload.end.eq(count == 1)]
        with m.FSM():
            with m.State("LOAD"):
                m.d.comb += self.events.ready.eq(1)
                m.d.sync += [beat.eq(self.events.payload), left.eq(self.events.payload.keep)]
                with m.If(self.events.valid):
                    m.next = "PICK"
            with m.State("PICK"):
                m.next = "SEND"
                with m.If(left.any()):
                    for e in reversed(range(lanes)):
                        index = (beat.rows[e] << (layout.classes - 1).bit_length()) | (e % layout.classes)
                        parts = [Const(EVENT | self.port, 8), _bits(index, 8 * f.index_bytes)]
                        if f.value_bytes:
                            parts.append(_bits(beat["values"][e], 8 * f.value_bytes))
                        with m.If(left[e]):
                            m.d.sync += [shift.eq(Cat(parts)), count.eq(length)]
                            m.d.sync += left.eq(left & (left - 1))
                with m.Elif(beat.last):
                    m.d.sync += [shift.eq(LAST | self.port | Mux(beat.final, FINAL, 0)), count.eq(1), beat.last.eq(0)]
                with m.Else():
                    m.next = "LOAD"
            with m.State("SEND"), m.If(out.ready):
                m.d.sync += [shift.eq(shift >> 8), count.eq(count - 1)]
                with m.If(count == 1):
                    m.next = "PICK"
        return m


def _bits(value: Value, width: int) -> Value:
    """`value` extended (by its sign where it has one) or cut to `width` bits."""
    value = Value.cast(value)
    have = len(value)
    if have >= width:
        return value[:width]
    fill = value[-1].replicate(width - have) if value.shape().signed else Const(0, width - have)
    return Cat(value, fill)


class AnswerSender(wiring.Component):  # type: ignore[misc]
    """Chooses what to send next: an error, an answer, or output records; one frame at a time.

    `ask_…` are levels kept by the caller and lowered by the `sent_…` cycle of the same name.
    """

    ASKS = ("error", "hello", "reset", "ack", "counters")

    def __init__(self, identity: bytes, counters: int, buffer_bytes: int = BUFFER_BYTES) -> None:
        self.identity, self.counter_number, self.buffer_bytes = identity, counters, buffer_bytes
        super().__init__(
            {
                **{f"ask_{a}": In(1) for a in self.ASKS},
                **{f"sent_{a}": Out(1) for a in self.ASKS},
                "error_code": In(3),
                "expected": In(8),
                "acked": In(8),
                "counters": In(data.ArrayLayout(32, counters)),
                "records": In(stream.Signature(RecordByte)),
                "tokens": Out(stream.Signature(Token)),
            }
        )

    def elaborate(self, platform: object) -> Module:
        m = Module()
        hello = bytes([HELLO | ANSWER, VERSION]) + self.identity
        hello += (self.buffer_bytes - 2).to_bytes(2, "little") + self.counter_number.to_bytes(2, "little")
        shift, count = Signal(8 * len(hello)), Signal(range(len(hello) + 1))
        words = Signal(range(self.counter_number + 1))
        sequence, records = Signal(8), Signal(8)
        token, source = self.tokens, self.records

        def answer(name: str, length: int, *parts: Value | int) -> None:
            m.d.comb += getattr(self, f"sent_{name}").eq(1)
            m.d.sync += [shift.eq(Cat(p if isinstance(p, Value) else Const(p, 8) for p in parts)), count.eq(length)]
            m.d.sync += words.eq(self.counter_number if name == "counters" else 0)
            m.next = "BYTES"

        with m.FSM():
            with m.State("IDLE"):
                with m.If(self.ask_error):
                    answer("error", 3, ERROR, _bits(self.error_code, 8), self.expected)
                with m.Elif(self.ask_hello):
                    answer("hello", len(hello), *hello)
                with m.Elif(self.ask_reset):
                    answer("reset", 1, RESET | ANSWER)
                with m.Elif(self.ask_ack):
                    answer("ack", 2, DATA | ANSWER, self.acked)
                with m.Elif(self.ask_counters):
                    answer("counters", 1, COUNTERS | ANSWER)
                with m.Elif(source.valid):
                    m.d.sync += [shift.eq(Cat(Const(OUTPUT, 8), sequence)), count.eq(2), sequence.eq(sequence + 1)]
                    m.d.sync += records.eq(0)
                    m.next = "OPEN"
            with m.State("BYTES"):
                m.d.comb += [token.valid.eq(1), token.payload.data.eq(shift[:8]), token.payload.end.eq(count == 0)]
                with m.If(token.ready & (count != 0)):
                    m.d.sync += [shift.eq(shift >> 8), count.eq(count - 1)]
                    with m.If((count == 1) & (words != 0)):
                        word = Array(self.counters[i] for i in range(self.counter_number))[self.counter_number - words]
                        m.d.sync += [shift.eq(word), count.eq(4), words.eq(words - 1)]
                with m.Elif(token.ready):
                    m.next = "IDLE"
            with m.State("OPEN"):
                m.d.comb += [token.valid.eq(1), token.payload.data.eq(shift[:8])]
                with m.If(token.ready):
                    m.d.sync += [shift.eq(shift >> 8), count.eq(count - 1)]
                    with m.If(count == 1):
                        m.next = "RECORD"
            with m.State("RECORD"):
                m.d.comb += [token.valid.eq(source.valid), token.payload.data.eq(source.payload.data)]
                m.d.comb += source.ready.eq(token.ready)
                with m.If(source.valid & source.ready & source.payload.end):
                    m.d.sync += records.eq(records + 1)
                    m.next = "BETWEEN"
            with m.State("BETWEEN"):
                # A frame ends as soon as no record waits: an answer never waits for a tick to end.
                with m.If(source.valid & (records != FRAME_BYTES) & ~self.ask_ack & ~self.ask_error):
                    m.next = "RECORD"
                with m.Else():
                    m.d.comb += [token.valid.eq(1), token.payload.end.eq(1)]
                    with m.If(token.ready):
                        m.next = "IDLE"
        return m
