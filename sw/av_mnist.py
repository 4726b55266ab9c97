"""``av-mnist``: a digit seen and heard. Each handwritten digit with a spoken one of the same class, both degraded.

The pairing is that of published benchmarks (V. Vielzeuf and others, CentralNet, 2018): MNIST with spoken digits, here
of the Free Spoken Digit Dataset (Z. Jackson and others, 4 speakers, CC BY-SA 4.0). Which recording goes with which
image is drawn once, from the recordings of the same part: takes 0 to 4 of each speaker and digit are the test's, as the
set's authors say, 5 to 9 the validation's, the rest the training's.

A sample is one tick of 368 + 784 channels: the log filter bank of the recording's first 0.64 s (16 vectors of 23 bands,
`apical.sw.audio_features`) in white noise, -9 to 0 dB over these 0.64 s, then the image's first view of
`apical.sw.datasets.two_views` at half its contrast. Both lie around `REST`: the encoding ``signed`` sends nothing for
an empty pixel.
"""

from __future__ import annotations

import io
import wave
import zipfile
from dataclasses import replace
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from apical.sw.audio_features import BANDS, RATE, TICK, log_bank, mix, unit_power
from apical.sw.data import REST, Bytes, Data, DataError, Stream, random, read_file, read_sample
from apical.sw.grid import FAINTEST_DB, LOUDEST_DB
from apical.sw.streams import normal

Index = npt.NDArray[np.int64]

SPEAKERS = {
    "george": "5517a4069739c0ec737b52872d4d31f939bdf0ac7cfe0dad0c35a27371bc86d0",
    "jackson": "3b1cae8b518255aca2b8c7f991fcb5ff7474510d7900e5a29cf950b1d5a82abb",
    "nicolas": "9160b27ff165762ec1e32e0ae7562152384038e0516f9956b80466146b0a4a43",
    "theo": "4a02ac7e470ae70c7e52cefcf466396ad1e99181c39b7daef1c04360042e208a",
}
FILES = tuple(f"fsdd/fsdd_{name}.zip" for name in SPEAKERS)
SAMPLE_SHA256 = "e743d179e3a69a8ffe1058b03a02852c9858261da7ddb1ecc1fa32ac74f273d4"
PER_SPEAKER, PER_DIGIT = 50, 200  # takes; recordings, numbered by digit, then speaker, then take
TAKES = {"test": (0, 5), "validation": (5, 10), "train": (10, 50)}
TICKS = 16
LEVEL = 0.1  # root of each recording's mean power
GAIN = 4  # stored steps per level of the bank
# Mean of each band in noise over the training recordings, in the bank's levels.
HEARD = (
    167,
    169,
    170,
    172,
    172,
    173,
    171,
    170,
    171,
    171,
    171,
    172,
    173,
    174,
    175,
    175,
    176,
    177,
    178,
    179,
    179,
    180,
    181,
)
PAIR_STREAM, NOISE_STREAM = 61_000, 61_001  # of `random`
STREAMS = (Stream("audio", TICKS * BANDS), Stream("image", 784))


def _wav(content: bytes, what: str) -> npt.NDArray[np.float64]:
    """The samples of an 8 kHz, 16-bit, one-channel file, full scale 1."""
    try:
        with wave.open(io.BytesIO(content)) as sound:
            got = (sound.getframerate(), sound.getnchannels(), sound.getsampwidth())
            if got != (RATE, 1, 2):
                raise DataError(f"{what}: expected {RATE} Hz, 1 channel, 2 bytes, got {got}")
            return np.frombuffer(sound.readframes(sound.getnframes()), "<i2") / 32768.0
    except (wave.Error, EOFError) as error:
        raise DataError(f"{what}: expected a wav file, can't be read: {error}") from None


@lru_cache(maxsize=1)
def recordings() -> npt.NDArray[np.float32]:
    """All 2,000, by their number, cut or filled with silence to `TICKS`: [recordings, samples]."""
    out = np.zeros((10 * PER_DIGIT, TICKS * TICK), np.float32)
    for speaker, (name, sha256) in enumerate(SPEAKERS.items()):
        content = read_file(
            "The spoken digits",
            FILES[speaker],
            sha256,
            f"{', '.join(FILES)} (the recordings of the Free Spoken Digit Dataset, a zip of each speaker's); without "
            "them av-mnist:sample ships with the package",
        )
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for digit in range(10):
                for take in range(PER_SPEAKER):
                    file = f"recordings/{digit}_{name}_{take}.wav"
                    sound = _wav(archive.read(file), file)[: TICKS * TICK]
                    out[digit * PER_DIGIT + speaker * PER_SPEAKER + take, : len(sound)] = LEVEL * unit_power(sound)
    return out


def partners(classes: Index, index: Index, part: str, draw: int = 0) -> Index:
    """Numbers of the recordings that go with images of these classes and indices."""
    first, end = TAKES[part]
    takes = end - first
    which = (random(index, PAIR_STREAM + 2 * draw, 1)[:, 0] % np.uint64(len(SPEAKERS) * takes)).astype(np.int64)
    return np.asarray(classes * PER_DIGIT + which // takes * PER_SPEAKER + first + which % takes)


def levels(numbers: Index, draw: int = 0) -> Bytes:
    """The recordings' filter banks in noise, [recordings, ticks, bands]; the same for the same number and draw."""
    out = np.empty((len(numbers), TICKS, BANDS), np.uint8)
    for start in range(0, len(numbers), 128):
        some = numbers[start : start + 128]
        noise = normal(some, NOISE_STREAM + 2 * draw, 1 + TICKS * TICK)
        even = random(some, NOISE_STREAM + 2 * draw, 1)[:, 0] / 2.0**64
        clean = recordings()[some].astype(np.float64)
        out[start : start + 128] = log_bank(
            mix(clean, noise[:, 1:], FAINTEST_DB + (LOUDEST_DB - FAINTEST_DB) * even), TICKS
        )
    return out


def bands(level: Bytes) -> Bytes:
    """The same as images hold them, [recordings, `TICKS` x bands]."""
    stored = np.clip(REST + GAIN * (level.astype(np.int64) - np.array(HEARD)), 0, 255)
    return np.asarray(stored, np.uint8).reshape(len(level), -1)


def pair(digits: Data, views: Bytes) -> Data:
    """A split of the set, from MNIST's split and its degraded images. The shipped one has those whose sound ships.

    :param views: uint8, [samples, 28, 28].
    """
    part = {"sample": "test", "sample-train": "train"}.get(digits.split, digits.split)
    numbers = partners(digits.labels, digits.index, part)
    if digits.split == part:
        shipped = np.unique(numbers)
        heard = bands(levels(shipped))
    else:
        arrays = read_sample("av-mnist.npz", SAMPLE_SHA256, part)
        shipped, heard = arrays["number"].astype(np.int64), arrays["bands"]
    rows = np.nonzero(np.isin(numbers, shipped))[0]
    audio = heard[np.searchsorted(shipped, numbers[rows])]
    seen = (REST + views[rows] // 2).reshape(len(rows), -1)
    images = np.concatenate([audio, seen], axis=1)[:, None]
    return replace(digits.rows(rows), images=images, name="av-mnist", streams=STREAMS)


def another(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """Training images with another recording of the same class, in new noise; the shipped ones as they are."""
    images = data.images[rows].copy()
    if data.split == "train":
        draw = 1 + int(torch.randint(1 << 10, (), generator=generator))
        images[:, 0, : STREAMS[0].size] = bands(
            levels(partners(data.labels[rows], data.index[rows], "train", draw), draw)
        )
    return torch.from_numpy(images)
