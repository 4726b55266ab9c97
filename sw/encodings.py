"""Encodings: how raw 8-bit data become events, in integer arithmetic, deterministic.

An encoding is a mapping that a network stores (`Network.encoding`) with a ``kind``. The kinds here work value by
value, so each is a table [ticks, 256]: the event value that a data value causes in each tick.

==========  =======================================================================================
kind        options
==========  =======================================================================================
``rate``    ``ticks`` T, ``levels`` L <= T (default T): round(L p / 255) spikes, evenly spread
``graded``  ``bits`` n (default 4), ``ticks`` (default 1): the value's upper n bits, in every tick
==========  =======================================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Encoding = Mapping[str, str | int | float]
Table = npt.NDArray[np.uint8]


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


KINDS: dict[str, Callable[[Encoding], Table]] = {"rate": _rate, "graded": _graded}


def table(encoding: Encoding) -> Table:
    """Event value by tick and data value, [ticks, 256].

    :raises EncodingError: unknown kind, or an option out of range.
    """
    kind = encoding.get("kind")
    if kind not in KINDS:
        raise EncodingError(f"encoding: expected a kind of {sorted(KINDS)}, got {kind!r}")
    return KINDS[str(kind)](encoding)


def encode(data: np.ndarray, encoding: Encoding) -> npt.NDArray[np.uint8]:
    """Events of 8-bit data [samples, ...]: [samples, ticks, channels], channels in the data's (C) order.

    :raises EncodingError: the data aren't uint8, or the encoding isn't known.
    """
    if data.dtype != np.uint8:
        raise EncodingError(f"encoding: expected data of type uint8, got {data.dtype}")
    lookup = table(encoding)
    flat = data.reshape(data.shape[0], -1)
    return np.stack([row[flat] for row in lookup], axis=1)


class Encoder:
    """The same for training: tensors of 8-bit values (in any number type) to float events, table built once."""

    def __init__(self, encoding: Encoding, device: torch.device | None = None) -> None:
        self.lookup = torch.from_numpy(table(encoding)).to(device=device, dtype=torch.float32)

    def __call__(self, data: Tensor) -> Tensor:
        """[samples, ...] to [samples, ticks, channels]."""
        index = data.reshape(-1).to(torch.int64)
        out = self.lookup.index_select(1, index).view(len(self.lookup), data.shape[0], -1)
        return out.transpose(0, 1)
