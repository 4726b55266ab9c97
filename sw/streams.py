"""Streams that fail: silence or darkness for a while, noise, a stream that belongs to something else.

Each function takes data of several streams (`Data.streams`) and gives the same data with one of them worse. Channels
that hold earlier ticks change with those ticks, so that what the network sees is what a failing sensor would bring.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from apical.sw.data import REST, Bytes, Data, DataError, Stream, permutation, random

Ticks = int | npt.NDArray[np.int64]
NOISE_STREAM = 60_000  # of `random`: above those of the data sets


def one(streams: tuple[Stream, ...], name: str) -> Stream:
    """The stream of this name.

    :raises DataError: no such stream.
    """
    for stream in streams:
        if stream.name == name:
            return stream
    raise DataError(f"stream: expected one of {[s.name for s in streams]}, got {name!r}")


def channels(streams: tuple[Stream, ...], name: str) -> slice:
    """Where a stream's channels lie.

    :raises DataError: no such stream.
    """
    place = streams.index(one(streams, name))
    first = sum(s.size for s in streams[:place])
    return slice(first, first + streams[place].size)


def _blocks(data: Data, name: str) -> Iterator[tuple[slice, int]]:
    """A stream's channels of each lag, with the lag."""
    place = channels(data.streams, name)
    stream = one(data.streams, name)
    for k, lag in enumerate(stream.lags):
        first = place.start + k * stream.width
        yield slice(first, first + stream.width), lag


def normal(index: npt.NDArray[np.int64], draw: int, count: int) -> npt.NDArray[np.float64]:
    """[samples, count] normal variables, a function of (sample index, draw) on every machine."""
    from scipy.special import ndtri  # here: it takes a while to import

    even = random(index, draw, count) >> np.uint64(12)
    return np.asarray(ndtri((even + 0.5) / 2.0**52))


def fail(data: Data, name: str, start: Ticks, ticks: Ticks) -> Data:
    """The stream brings nothing (`REST`) for `ticks` ticks from `start`: numbers, or one for each sample."""
    images, first, length = data.images.copy(), np.asarray(start), np.asarray(ticks)
    tick = np.arange(images.shape[1])
    for place, lag in _blocks(data, name):
        since = tick - lag - first[..., None]
        gone = np.broadcast_to((since >= 0) & (since < length[..., None]), images.shape[:2])
        images[:, :, place][gone] = REST
    return replace(data, images=images)


def missing(data: Data, name: str) -> Data:
    """The stream isn't there at all."""
    images = data.images.copy()
    images[:, :, channels(data.streams, name)] = REST
    return replace(data, images=images)


def noisy(data: Data, name: str, amount: float, draw: int = 0) -> Data:
    """Normal noise on the stream, of standard deviation `amount` in stored steps; a tick's noise stays in all lags."""
    stream = one(data.streams, name)
    images, ticks, reach = data.images.copy(), data.images.shape[1], max(stream.lags)
    shape = (len(images), reach + ticks, stream.width)
    noise = amount * normal(data.index, NOISE_STREAM + draw, shape[1] * shape[2]).reshape(shape)
    for place, lag in _blocks(data, name):
        changed = images[:, :, place] + noise[:, reach - lag : reach - lag + ticks]
        images[:, :, place] = np.clip(np.rint(changed), 0, 255).astype(np.uint8)
    return replace(data, images=images)


def strangers(data: Data, draw: int = 0) -> npt.NDArray[np.int64]:
    """For each sample the position of another one, of another class where samples have classes.

    :raises DataError: there is none.
    """
    classes = data.labels if data.labels.ndim == 1 else np.arange(len(data))
    if len(np.unique(classes)) < 2:
        raise DataError(f"data {data.name}:{data.split}: expected samples of two classes, got one")
    order = permutation(len(data), NOISE_STREAM + draw)
    rank = np.argsort(order)
    found = np.full(len(data), -1)
    for step in range(1, len(data)):
        other = order[(rank + step) % len(data)]
        found = np.where((found < 0) & (classes[other] != classes), other, found)
        if (found >= 0).all():
            break
    return found.astype(np.int64)


def incongruent(data: Data, name: str, draw: int = 0) -> Data:
    """The stream comes from another sample (`strangers`): the streams no longer belong together."""
    images: Bytes = data.images.copy()
    place = channels(data.streams, name)
    images[:, :, place] = data.images[strangers(data, draw)][:, :, place]
    return replace(data, images=images)
