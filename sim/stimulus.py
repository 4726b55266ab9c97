"""Stimulus: input arrays packed into the beats of an event stream."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Beats:
    """One input stream's beats, in the order in which they are offered.

    :param keep: [beats, lanes] bool; lane e carries an event.
    :param rows: [beats, lanes]; the event's row; its index is row · classes + (e mod classes). 0 where not kept.
    :param values: [beats, lanes]; the event's value. 0 where not kept.
    :param last: [beats] bool; the beat ends its tick.
    :param final: [beats] bool; the beat ends its sample.
    """

    keep: npt.NDArray[np.bool_]
    rows: npt.NDArray[np.int32]
    values: npt.NDArray[np.int64]
    last: npt.NDArray[np.bool_]
    final: npt.NDArray[np.bool_]
    classes: int

    def __len__(self) -> int:
        return int(self.last.shape[0])

    @property
    def event_lanes(self) -> int:
        """Events per beat, at most."""
        return int(self.keep.shape[1])


def pack(x_part: npt.NDArray[Any], event_lanes: int, classes: int | None = None, *, endless: bool = False) -> Beats:
    """Pack one input's part of `x` into beats; zero is not sent.

    Lane e carries events with index ≡ e modulo `classes` (as many as lanes unless given), by increasing row. A tick has
    as many beats as its fullest class needs, at least one; `last` is on its final beat (which may carry events; a
    silent tick is a bare one).

    :param x_part: integers, [samples, ticks, channels].
    :param endless: no beat ends a sample.
    :raises ValueError: not three axes, or no lanes.
    """
    if x_part.ndim != 3:
        raise ValueError(f"stimulus: expected x of [samples, ticks, channels], got shape {x_part.shape}")
    classes = classes or event_lanes
    if event_lanes < 1 or event_lanes % classes:
        raise ValueError(f"stimulus: expected event lanes in whole multiples of classes, got {event_lanes}, {classes}")
    samples, ticks, channels = x_part.shape
    shared, rows = event_lanes // classes, -(-channels // classes)  # lanes per class
    present = np.zeros((samples * ticks, rows * classes), bool)
    np.not_equal(x_part.reshape(-1, channels), 0, out=present[:, :channels])
    # Order the events by (tick, class, row): the rank within a class is then the distance from the class's first event.
    by_class = present.reshape(-1, rows, classes).transpose(0, 2, 1)
    counts = by_class.sum(axis=2)
    tick, residue, row = np.nonzero(by_class)
    beats_of_tick = np.maximum(-(-counts.max(axis=1) // shared), 1)
    ends = np.cumsum(beats_of_tick)
    first_event = np.cumsum(counts.reshape(-1)) - counts.reshape(-1)
    rank = np.arange(tick.size) - first_event[tick * classes + residue]
    beat, lane = (ends - beats_of_tick)[tick] + rank // shared, residue + classes * (rank % shared)

    total = int(ends[-1]) if ends.size else 0
    keep = np.zeros((total, event_lanes), bool)
    out_rows = np.zeros((total, event_lanes), np.int32)
    values = np.zeros((total, event_lanes), np.int64)
    keep[beat, lane] = True
    out_rows[beat, lane] = row
    values[beat, lane] = x_part.reshape(-1, channels)[tick, row * classes + residue]
    last = np.zeros(total, bool)
    last[ends - 1] = True
    final = np.zeros(total, bool)
    final[ends[ticks - 1 :: ticks] - 1] = not endless
    return Beats(keep, out_rows, values, last, final, classes)


def in_stream(x_part: npt.NDArray[Any], index_of: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
    """`x` by index in the stream, for `pack`: as it is where the indices are the neurons', a map's by coordinates.

    :param index_of: as `apical.hw.design.StreamPort` has it.
    """
    if np.array_equal(index_of, np.arange(len(index_of))):
        return x_part
    out = np.zeros((*x_part.shape[:2], int(index_of.max()) + 1), x_part.dtype)
    out[:, :, index_of] = x_part
    return out


def unpack(beats: Beats, samples: int, ticks: int, channels: int) -> npt.NDArray[np.int64]:
    """The array that `pack` was given, [samples, ticks, channels]: its inverse, for checks."""
    x = np.zeros((samples * ticks, channels), np.int64)
    tick_of_beat: npt.NDArray[np.int64] = np.cumsum(beats.last) - beats.last
    beat, lane = np.nonzero(beats.keep)
    x[tick_of_beat[beat], beats.rows[beat, lane] * beats.classes + lane % beats.classes] = beats.values[beat, lane]
    return x.reshape(samples, ticks, channels)
