"""Words of the AXI4-Stream (docs/reference/axi.md): slot formats, events to slots and back, for host and hardware."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from apical.sw.geometry import IntArray, Shape, index_of, map_bits
from apical.sw.widths import bits_of

DATA_BITS = (32, 64, 128, 256, 512)
SLOT_BITS = (16, 32, 64)
FLAGS = 3  # EVENT, LAST, FINAL: the upper bits of a slot
LABEL = "label"

Slots = npt.NDArray[Any]  # [words, slots], unsigned; its bytes are those of the words


class StreamError(ValueError):
    """Words that are no stream of this format; the message says where."""


@dataclass(frozen=True)
class Port:
    """An input or output as the stream sees it.

    :param value_range: smallest and largest event value; (0, 1) are spikes.
    :param lanes, classes: of the event stream behind it: events a cycle, lanes / classes of each index mod classes.
    """

    name: str
    size: int
    value_range: tuple[int, int]
    lanes: int = 1
    classes: int = 1
    shape: Shape | None = None

    @property
    def binary(self) -> bool:
        """Events are spikes, of value 1."""
        return self.value_range == (0, 1)

    @property
    def signed(self) -> bool:
        """Values may be negative."""
        return self.value_range[0] < 0

    @property
    def value_bits(self) -> int:
        """Bits of a value; 1 of a spike."""
        return bits_of(*self.value_range)

    @cached_property
    def index_of(self) -> IntArray:
        """Index on the wire of each channel or neuron, [size]."""
        return index_of(self.size, self.shape, self.classes)

    @property
    def coordinate_bits(self) -> tuple[int, int, int]:
        """Bits of channel, column and row of a map's index."""
        assert self.shape is not None
        return map_bits(self.shape, self.classes)

    @property
    def index_bits(self) -> int:
        """Bits of an index."""
        return sum(self.coordinate_bits) if self.shape is not None else max((self.size - 1).bit_length(), 1)


@dataclass(frozen=True)
class SlotFormat:
    """Slots of one direction.

    :param data_bits: of a word.
    :raises ValueError: no word that wide, or more than a slot can hold.
    """

    ports: tuple[Port, ...]
    data_bits: int = 64

    def __post_init__(self) -> None:
        if self.data_bits not in DATA_BITS:
            raise ValueError(f"AXI stream: expected a word of {DATA_BITS} bits, got {self.data_bits}")
        if self.slot_bits > self.data_bits:
            raise ValueError(
                f"AXI stream: expected a word that holds a slot of {self.slot_bits} bits, got {self.data_bits} bits"
            )

    @property
    def index_bits(self) -> int:
        """Bits of the index."""
        return max(p.index_bits for p in self.ports)

    @property
    def port_bits(self) -> int:
        """Bits of the port's number."""
        return (len(self.ports) - 1).bit_length()

    @property
    def graded(self) -> bool:
        """Is there a value field?"""
        return any(not p.binary for p in self.ports)

    @cached_property
    def slot_bits(self) -> int:
        """Bits of a slot."""
        values = max(p.value_bits for p in self.ports) if self.graded else 0
        needed = FLAGS + self.port_bits + self.index_bits + values
        if needed > SLOT_BITS[-1]:
            raise ValueError(f"AXI stream: an event needs {needed} bits, more than the {SLOT_BITS[-1]} of a slot")
        return min(s for s in SLOT_BITS if s >= needed)

    @property
    def field_bits(self) -> int:
        """Bits between index and port: the value, or zeros."""
        return self.slot_bits - FLAGS - self.port_bits - self.index_bits

    @property
    def value_bits(self) -> int:
        """Bits of the value field; 0 where there is none."""
        return self.field_bits if self.graded else 0

    @property
    def slots(self) -> int:
        """Slots of a word."""
        return self.data_bits // self.slot_bits

    @property
    def block(self) -> int:
        """Slots of a word that the datapath looks at in one cycle: as many as all event lanes take."""
        lanes = sum(p.lanes for p in self.ports if p.name != LABEL)
        return min(self.slots, 1 << (lanes - 1).bit_length())

    @property
    def event(self) -> int:
        """The flag EVENT."""
        return 1 << (self.slot_bits - 1)

    @property
    def last(self) -> int:
        """The flag LAST."""
        return 1 << (self.slot_bits - 2)

    @property
    def final(self) -> int:
        """The flag FINAL; without LAST in an output's last word: cut by a soft reset."""
        return 1 << (self.slot_bits - 3)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of a slot, little-endian."""
        return np.dtype(f"<u{self.slot_bits // 8}")

    def slot(self, port: int, index: IntArray, value: IntArray) -> npt.NDArray[np.uint64]:
        """Events of a port as slots, without LAST."""
        field = (value & ((1 << self.field_bits) - 1)) << self.index_bits if self.graded else 0
        body = index | field | (port << (self.index_bits + self.field_bits))
        return np.asarray(body, np.int64).astype(np.uint64) | np.uint64(self.event)

    def encode(self, parts: Mapping[str, IntArray], *, endless: bool = False, label: int | None = None) -> Slots:
        """One sample's words: [ticks, channels] by port name to slots [words, slots].

        Events come in the order in which the datapath takes most a cycle; those of one cycle share a word if they fit.

        :param endless: nothing ends the sample.
        :param label: of learning designs: the sample's class.
        :raises StreamError: a missing part, unequal ticks, or a value out of range.
        """
        found: list[tuple[npt.NDArray[Any], ...]] = []
        ticks = {len(parts[p.name]) for p in self.ports if p.name in parts}
        if len(ticks) != 1 or 0 in ticks or any(p.name not in parts for p in self.ports if p.name != LABEL):
            raise StreamError(f"expected ticks of {[p.name for p in self.ports]}, as many of each, got {sorted(parts)}")
        for n, port in enumerate(self.ports):
            if port.name in parts:
                found.append(self._events(n, port, np.asarray(parts[port.name])))
        tick, beat, number, lane, slot = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        order = np.lexsort((lane, number, beat, tick))
        tick, beat, slot = tick[order], beat[order], slot[order]
        silent = np.setdiff1d(np.arange(next(iter(ticks))), tick)
        at = np.searchsorted(tick, silent)
        tick, beat, slot = np.insert(tick, at, silent), np.insert(beat, at, 0), np.insert(slot, at, np.uint64(0))
        ends = np.append(tick[1:] != tick[:-1], True)
        slot[ends] |= np.uint64(self.last)
        if not endless:
            slot[-1] |= np.uint64(self.final)
        if label is not None:
            tick, beat = np.insert(tick, 0, 0), np.insert(beat, 0, 0)
            slot = np.insert(slot, 0, self.slot(len(self.ports) - 1, np.array([label]), np.array([1]))[0])
        places = self._places(tick, beat)
        out = np.zeros((int(places[-1]) // self.slots + 1) * self.slots, self.dtype)
        out[places] = slot.astype(self.dtype)
        return out.reshape(-1, self.slots)

    def _events(self, number: int, port: Port, x: IntArray) -> tuple[npt.NDArray[Any], ...]:
        """A port's events: tick, beat within the tick, port, lane, slot."""
        low, high = port.value_range
        if x.ndim != 2 or x.shape[1] != port.size or x.min() < low or x.max() > high:
            raise StreamError(
                f"port {port.name!r}: expected [ticks, {port.size}] of {low} to {high}, got {x.shape} of {x.min()} to "
                f"{x.max()}"
            )
        tick, channel = np.nonzero(x)
        index = port.index_of[channel]
        residue, shared = index % port.classes, port.lanes // port.classes
        order = np.lexsort((index, residue, tick))
        tick, index, residue, channel = tick[order], index[order], residue[order], channel[order]
        key = tick * port.classes + residue
        rank = np.arange(len(key)) - np.searchsorted(key, key)  # within tick and class
        slot = self.slot(number, index, x[tick, channel].astype(np.int64))
        return tick, rank // shared, np.full(len(tick), number), residue * shared + rank % shared, slot

    def _places(self, tick: npt.NDArray[Any], beat: npt.NDArray[Any]) -> IntArray:
        """A place for each slot: those of one beat of a tick don't straddle blocks where one block can hold them."""
        starts = np.flatnonzero(np.append(True, (tick[1:] != tick[:-1]) | (beat[1:] != beat[:-1])))
        sizes = np.diff(np.append(starts, len(tick)))
        if (sizes == 1).all():
            return np.arange(len(tick))
        at, firsts = 0, np.zeros(len(sizes), np.int64)
        for n, size in enumerate(sizes.tolist()):
            if at % self.block + size > self.block >= size:
                at += self.block - at % self.block
            firsts[n] = at
            at += size
        return np.asarray(np.repeat(firsts - starts, sizes) + np.arange(len(tick)), np.int64)

    def decode(self, slots: Slots) -> tuple[dict[str, IntArray], IntArray]:
        """Words to arrays [ticks, size] by port name, and the ticks that end samples.

        :raises StreamError: a packet that a soft reset cut, an event that can't be, or words that end within a tick.
        """
        flat = np.asarray(slots, self.dtype).reshape(-1).astype(np.uint64)
        flat = flat[flat != 0]
        events, lasts = (flat & np.uint64(self.event)) != 0, (flat & np.uint64(self.last)) != 0
        finals = (flat & np.uint64(self.final)) != 0
        if (finals & ~lasts).any():
            raise StreamError("a soft reset cut this packet")
        if len(flat) and not lasts[-1]:
            raise StreamError("the words end within a tick")
        tick_of = np.cumsum(lasts) - lasts
        total = int(lasts.sum())
        body = (flat & np.uint64(self.final - 1)).astype(np.int64)
        index = body & ((1 << self.index_bits) - 1)
        field = (body >> self.index_bits) & ((1 << self.field_bits) - 1)
        number = body >> (self.index_bits + self.field_bits)
        if (number[events] >= len(self.ports)).any():
            raise StreamError(f"an event of port {int(number[events].max())}; expected {len(self.ports)} ports")
        out = {}
        for n, port in enumerate(self.ports):
            own = events & (number == n)
            back = np.full(1 << port.index_bits, -1, np.int64)
            back[port.index_of] = np.arange(port.size)
            at = index[own]
            if (at >= len(back)).any() or (back[at] < 0).any():
                raise StreamError(f"port {port.name!r}: an index that it hasn't among {at.min()} to {at.max()}")
            out[port.name] = np.zeros((total, port.size), np.int64)
            value = field[own] if self.graded else np.ones(len(at), np.int64)
            if port.signed:
                value = np.where(value >> (self.field_bits - 1) == 1, value - (1 << self.field_bits), value)
            np.add.at(out[port.name], (tick_of[own], back[at]), value)
        return out, np.flatnonzero(finals[lasts])


def words_of(slots: Slots) -> list[int]:
    """Each word as a number, slot 0 lowest; for benches."""
    return [int.from_bytes(row.tobytes(), "little") for row in slots]


def slots_of(words: Sequence[int], slot_format: SlotFormat) -> Slots:
    """The inverse of `words_of`."""
    raw = b"".join(w.to_bytes(slot_format.data_bits // 8, "little") for w in words)
    return np.frombuffer(raw, slot_format.dtype).reshape(-1, slot_format.slots)


def positions(shape: Shape | None) -> int:
    """Positions of a map; 1 of what is none."""
    return 1 if shape is None else math.prod(shape[1:])
