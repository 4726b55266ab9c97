"""Bytes of the serial protocol (docs/reference/uart.md): frames, record formats, records. Host and board use them."""

from __future__ import annotations

import binascii
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from apical.sw.golden import split_input
from apical.sw.network import IntArray, Network
from apical.sw.widths import bits_of

VERSION = 1
FLAG, ESCAPE, FLIP = 0x7E, 0x7D, 0x20
HELLO, RESET, DATA, COUNTERS, ANSWER, OUTPUT, ERROR = 0x01, 0x02, 0x03, 0x04, 0x80, 0x90, 0xFF
EVENT, LAST, FINAL, PORT_MASK = 0x80, 0x40, 0x20, 0x1F
FRAME_BYTES = 240  # of records in one frame, both directions
ERRORS = {
    1: "a frame's checksum was wrong",
    2: "an unknown or malformed command",
    3: "a data frame is missing",
    4: "the board's buffer ran over",
    5: "a record names a port or index that the network hasn't",
}


@dataclass(frozen=True)
class RecordFormat:
    """How one input's or output's events are written: shared by the host and the hardware."""

    name: str
    size: int
    value_range: tuple[int, int]

    @property
    def index_bytes(self) -> int:
        """Bytes of an index."""
        return max(1, ((self.size - 1).bit_length() + 7) // 8)

    @property
    def signed(self) -> bool:
        """Values may be negative."""
        return self.value_range[0] < 0

    @property
    def value_bytes(self) -> int:
        """Bytes of a value; 0 for spikes."""
        return 0 if self.value_range == (0, 1) else (bits_of(*self.value_range) + 7) // 8


def input_formats(network: Network) -> tuple[RecordFormat, ...]:
    """Record formats of the inputs, by port number."""
    return tuple(RecordFormat(i.name, i.size, i.value_range) for i in network.inputs)


def output_formats(network: Network) -> tuple[RecordFormat, ...]:
    """Record formats of the outputs, by port number."""
    return tuple(RecordFormat(n, network.nodes[n].size, network.nodes[n].value_range) for n in network.outputs)


def counter_names(network: Network) -> tuple[str, ...]:
    """Counters in the order in which the board sends them."""
    return (
        *(f"projection {p.name}: events" for p in network.projections),
        *(f"population {p.name}: events" for p in network.populations),
        *(f"population {p.name}: updates" for p in network.populations),
    )


def encode_frame(kind: int, payload: bytes = b"") -> bytes:
    """A frame with its checksum, escapes and flags."""
    body = bytes([kind]) + payload
    body += binascii.crc_hqx(body, 0xFFFF).to_bytes(2, "big")
    body = body.replace(b"\x7d", b"\x7d\x5d").replace(b"\x7e", b"\x7d\x5e")
    return b"\x7e" + body + b"\x7e"


class FrameReader:
    """Finds frames in a byte stream; a damaged frame comes out as None."""

    def __init__(self) -> None:
        self._part = bytearray()

    def feed(self, data: bytes) -> Iterator[tuple[int, bytes] | None]:
        """Frames that `data` completes: (type, payload)."""
        for byte in data:
            if byte != FLAG:
                self._part.append(byte)
            elif self._part:
                raw, self._part = bytes(self._part), bytearray()
                yield self._decode(raw)

    @staticmethod
    def _decode(raw: bytes) -> tuple[int, bytes] | None:
        out, escaped = bytearray(), False
        for byte in raw:
            if byte == ESCAPE and not escaped:
                escaped = True
            else:
                out.append(byte ^ FLIP if escaped else byte)
                escaped = False
        if escaped or len(out) < 3 or binascii.crc_hqx(bytes(out), 0xFFFF):
            return None
        return out[0], bytes(out[1:-2])


def encode_sample(network: Network, x: IntArray, *, endless: bool = False) -> list[bytes]:
    """Records of one sample, `x` of shape [ticks, inputs]; tick by tick over all inputs.

    :param endless: no record ends a sample: the ticks are the next of an endless stream.
    """
    parts = split_input(network, x[None])
    records: list[bytes] = []
    for tick in range(x.shape[0]):
        end = LAST | (FINAL if tick == x.shape[0] - 1 and not endless else 0)
        for port, f in enumerate(input_formats(network)):
            values = parts[f.name][0, tick]
            indices = np.flatnonzero(values)
            for i in indices:
                record = bytes([EVENT | port | (end if i == indices[-1] else 0)]) + int(i).to_bytes(
                    f.index_bytes, "little"
                )
                records.append(
                    record + int(values[i]).to_bytes(f.value_bytes, "little", signed=f.signed)
                    if f.value_bytes
                    else record
                )
            if not indices.size:
                records.append(bytes([port | end]))
    return records


def pack_records(records: list[bytes]) -> list[bytes]:
    """Payloads of data frames (without sequence numbers), whole records each."""
    frames, part = [], bytearray()
    for record in records:
        if len(part) + len(record) > FRAME_BYTES:
            frames.append(bytes(part))
            part = bytearray()
        part += record
    return [*frames, bytes(part)] if part else frames
