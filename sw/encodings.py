"""Encodings: how raw 8-bit data become events, in integer arithmetic, deterministic.

An encoding is a mapping that a network stores (`Network.encoding`) with a ``kind``. Each kind works value by value, so
it is a table. For still data, [samples, ...], the table is [ticks, 256]: the event value that a data value causes in
each tick. For sequences, [samples, ticks, ...], it is [256, channels]: what a data value causes in its own tick, on
neighbouring channels.

==========  =========  ===================================================================================
kind        data       options
==========  =========  ===================================================================================
``rate``    still      ``ticks`` T, ``levels`` L <= T (default T): round(L p / 255) spikes, evenly spread
``graded``  still      ``bits`` n (default 4), ``ticks`` (default 1): the value's upper n bits, in every tick
``events``  sequences  ``bits`` n (default 8): the value itself, at most 2^n - 1
``signed``  sequences  ``bits`` n (default 8): its difference to 128 in n bits: floor((p - 128) / 2^(8-n))
``levels``  sequences  ``levels`` L: with k = round(L p / 255), one spike on channel k - 1 of L, none at k = 0
==========  =========  ===================================================================================

Every kind takes ``constant: 1``: one channel more, the last, that spikes in every tick (a bias as events).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

Encoding = Mapping[str, str | int | float]
Table = npt.NDArray[np.integer[Any]]


class EncodingError(ValueError):
    """An encoding that isn't known or doesn't fit the data; the message says what was expected."""


def _option(encoding: Encoding, key: str, default: int | None, low: int, high: int) -> int:
    given = encoding.get(key, default)
    if type(given) is not int or not low <= given <= high:
        raise EncodingError(f"encoding {encoding.get('kind')!r}: {key}: expected {low} to {high}, got {given!r}")
    return given


def _rate(encoding: Encoding) -> Table:
    r"""Spikes spread by accumulation of phase, starting half a spike in.

    .. math:: s_t = n_{t+1} - n_t, \quad n_t = \lfloor (2 p L t + 255\,T) / (510\,T) \rfloor
    """
    ticks = _option(encoding, "ticks", None, 1, 1024)
    levels = _option(encoding, "levels", ticks, 1, ticks)
    p, t = np.arange(256), np.arange(ticks + 1)[:, None]
    n = (2 * p * levels * t + 255 * ticks) // (510 * ticks)
    return np.diff(n, axis=0).astype(np.uint8)


def _graded(encoding: Encoding) -> Table:
    r""":math:`x_t = \lfloor p / 2^{8-n} \rfloor` in every tick."""
    bits, ticks = _option(encoding, "bits", 4, 1, 8), _option(encoding, "ticks", 1, 1, 1024)
    return np.repeat(np.arange(256)[None] >> (8 - bits), ticks, axis=0).astype(np.uint8)


def _events(encoding: Encoding) -> Table:
    r""":math:`x = \min(p, 2^n - 1)` on one channel."""
    return np.minimum(np.arange(256), (1 << _option(encoding, "bits", 8, 1, 8)) - 1).astype(np.uint8)[:, None]


def _signed(encoding: Encoding) -> Table:
    r""":math:`x = \lfloor (p - 128) / 2^{8-n} \rfloor` on one channel: for data whose usual value is 128."""
    return ((np.arange(256) - 128) >> (8 - _option(encoding, "bits", 8, 2, 8))).astype(np.int8)[:, None]


def _levels(encoding: Encoding) -> Table:
    """A spike on channel k - 1 of L, k = round(L p / 255): each level has a channel of its own."""
    levels = _option(encoding, "levels", None, 1, 255)
    k = (2 * np.arange(256) * levels + 255) // 510
    return np.equal(k[:, None], np.arange(1, levels + 1)).astype(np.uint8)


KINDS: dict[str, Callable[[Encoding], Table]] = {"rate": _rate, "graded": _graded}
SEQUENCE_KINDS: dict[str, Callable[[Encoding], Table]] = {
    "events": _events,
    "signed": _signed,
    "levels": _levels,
}


def _kind(encoding: Encoding) -> str:
    kind = encoding.get("kind")
    if kind not in KINDS and kind not in SEQUENCE_KINDS:
        raise EncodingError(f"encoding: expected a kind of {sorted(KINDS | SEQUENCE_KINDS)}, got {kind!r}")
    return str(kind)


def table(encoding: Encoding) -> Table:
    """Event value by tick and data value, [ticks, 256], or for sequences by data value and channel, [256, channels].

    :raises EncodingError: unknown kind, or an option out of range.
    """
    return (KINDS | SEQUENCE_KINDS)[_kind(encoding)](encoding)


def _constant(encoding: Encoding) -> int:
    return _option(encoding, "constant", 0, 0, 1)


def channels(encoding: Encoding, shape: tuple[int, ...]) -> int:
    """Channels of the events of data with samples of `shape`.

    :raises EncodingError: as `table`; a kind for sequences and samples that aren't [ticks, ...].
    """
    if _kind(encoding) in KINDS:
        return math.prod(shape) + _constant(encoding)
    if len(shape) < 2:
        raise EncodingError(
            f"encoding {encoding['kind']!r}: expected data of shape [samples, ticks, channels], got "
            f"{['samples', *shape]}"
        )
    return math.prod(shape[1:]) * int(table(encoding).shape[1]) + _constant(encoding)


def encode(data: np.ndarray, encoding: Encoding) -> Table:
    """Events of 8-bit data [samples, ...]: [samples, ticks, channels], channels in the data's (C) order.

    :raises EncodingError: the data aren't uint8, or the encoding isn't known or doesn't fit them.
    """
    if data.dtype != np.uint8:
        raise EncodingError(f"encoding: expected data of type uint8, got {data.dtype}")
    size, lookup, samples = channels(encoding, data.shape[1:]), table(encoding), len(data)
    ticks = len(lookup) if encoding["kind"] in KINDS else data.shape[1]
    out = np.ones((samples, ticks, size), lookup.dtype)
    events = out[:, :, : size - _constant(encoding)]
    if encoding["kind"] in KINDS:
        flat = data.reshape(samples, -1)
        for tick, row in enumerate(lookup):
            events[:, tick] = row[flat]
    else:
        events[:] = lookup[data].reshape(events.shape)
    return out


class Encoder:
    """The same for training: tensors of 8-bit values (in any number type) to float events, table built once."""

    def __init__(self, encoding: Encoding, device: torch.device | None = None) -> None:
        self.encoding = dict(encoding)
        self.lookup = torch.from_numpy(table(encoding)).to(device=device, dtype=torch.float32)

    def __call__(self, data: Tensor) -> Tensor:
        """[samples, ...] to [samples, ticks, channels].

        :raises EncodingError: data that don't fit the encoding.
        """
        size, samples = channels(self.encoding, tuple(data.shape[1:])), data.shape[0]
        index = data.reshape(-1).to(torch.int64)
        if self.encoding["kind"] in KINDS:
            out = self.lookup.index_select(1, index).view(len(self.lookup), samples, -1).transpose(0, 1)
        else:
            out = self.lookup.index_select(0, index).view(samples, data.shape[1], -1)
        return nn.functional.pad(out, (0, 1), value=1.0) if size > out.shape[2] else out
