"""Log mel filter bank of 8 kHz audio, one vector a tick, from the past alone; noise at a given level; mu-law.

The bank is that of ETSI ES 201 108 (distributed speech recognition): 23 triangles between 64 Hz and 4 kHz, evenly
spread on the mel scale :math:`m(f) = 2595 \\log_{10}(1 + f/700)` (D. O'Shaughnessy, Speech Communication, 1987), over
the spectrum of 256 samples. A tick is 40 ms (a video frame at 25 a second) and holds two windows of 32 ms, which end in
its middle and at its end; their powers are averaged. No window looks beyond its tick, so a stream of audio gives the
same vectors as a file.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

Real = npt.NDArray[np.float64]
Bytes = npt.NDArray[np.uint8]

RATE = 8000  # samples a second
TICK, WINDOW = 320, 256  # samples
WINDOWS = 2  # that end in a tick
BANDS = 23
LOWEST_HZ = 64.0
HANN = np.hanning(WINDOW + 1)[:-1]  # one period
STEP_DB = 0.4  # of the 8-bit values
FLOOR_DB = -60.0  # value 0; full scale is a sine of amplitude 1 in one band, about +30 dB


def _mel(hertz: float) -> float:
    return float(2595 * np.log10(1 + hertz / 700))


@cache
def bank() -> Real:
    """Weights [frequencies, bands] of the triangles; each band's peak is 1."""
    edges = 700 * (10 ** (np.linspace(_mel(LOWEST_HZ), _mel(RATE / 2), BANDS + 2) / 2595) - 1)
    frequency = np.fft.rfftfreq(WINDOW, 1 / RATE)[:, None]
    rising = (frequency - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - frequency) / (edges[2:] - edges[1:-1])
    return np.clip(np.minimum(rising, falling), 0, None)


def power(audio: Real, ticks: int) -> Real:
    """Mean power of each band in each tick, [sounds, ticks, bands].

    :param audio: [sounds, samples], full scale 1; silence before it, and after it where it is shorter than the ticks.
    """
    audio = audio[:, : ticks * TICK]
    hop = TICK // WINDOWS
    padded = np.pad(audio, ((0, 0), (WINDOW - hop, ticks * TICK - audio.shape[1])))
    frames = np.lib.stride_tricks.sliding_window_view(padded, WINDOW, axis=1)[:, ::hop]
    spectrum = np.fft.rfft(frames * HANN, axis=2)
    bands = (spectrum.real**2 + spectrum.imag**2) @ bank()
    return np.asarray(bands.reshape(len(audio), ticks, WINDOWS, BANDS).mean(axis=2))


def log_bank(audio: Real, ticks: int) -> Bytes:
    """The bank's powers as 8-bit levels of `STEP_DB`, [sounds, ticks, bands].

    :param audio: as in `power`.
    """
    out = np.empty((len(audio), ticks, BANDS), np.uint8)
    for start in range(0, len(audio), 16):  # the spectra of 16 sounds of 3 s are some 5 MB
        decibel = 10 * np.log10(power(audio[start : start + 16], ticks) + 1e-30)
        out[start : start + 16] = np.clip(np.rint((decibel - FLOOR_DB) / STEP_DB), 0, 255)
    return out


def _mu_law() -> Real:
    """Sample of each 8-bit code: sign, 3 bits of exponent, 4 of mantissa, all inverted."""
    kept = ~np.arange(256, dtype=np.uint8)
    magnitude = (((kept & 15).astype(np.int32) << 3) + 132 << (kept >> 4 & 7)) - 132
    return np.where(kept & 128, -magnitude, magnitude) / 32768.0


MU_LAW = _mu_law()


def from_mu_law(code: Bytes) -> Real:
    """Samples in -1 to 1 of 8-bit mu-law codes as ITU-T G.711 defines them."""
    return MU_LAW[code]


def unit_power(sound: Real) -> Real:
    """The same sound with mean power 1 (silence stays silent)."""
    level = np.sqrt(np.mean(sound**2, axis=-1, keepdims=True))
    return np.asarray(sound / np.where(level > 0, level, 1))


def mix(clean: Real, noise: Real, ratio_db: npt.NDArray[Any]) -> Real:
    """`clean` plus `noise` such that their mean powers over the whole sound have the given ratio.

    :param clean, noise: [sounds, samples].
    :param ratio_db: signal to noise in dB, [sounds].
    """
    level = np.sqrt(np.mean(clean**2, axis=1)) * 10 ** (-np.asarray(ratio_db, np.float64) / 20)
    return np.asarray(clean + level[:, None] * unit_power(noise))
