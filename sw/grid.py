"""``grid``: clean speech from noisy audio and lips. One talker of the GRID corpus, 700 sentences of six words.

M. Cooke, J. Barker, S. Cunningham, X. Shao, An audio-visual corpus for speech perception and automatic speech
recognition, JASA 120, 2006 (CC BY 4.0). Audio and lips were recorded together. A tick is a video frame, 25 a second.

Inputs are the log filter bank (`apical.sw.audio_features`) of the sentence with noise added to its waveform, then the
mouth as grey values; both are stored around `REST`, the usual value, so that the encoding ``signed`` sends nothing for
it. Targets are the log filter bank of the sentence alone. Noise is white, or the babble of six other
training sentences of the talker, at -9 to 0 dB; which, and how much, is drawn for each sentence.

================  =========================================================================================
set               channels
================  =========================================================================================
``grid``          92 audio: 23 bands of this tick and the three before; 160 lips: 8 x 10 of this tick and
                  the second before
``grid-frames``   23 audio and 80 lips, of this tick alone: what was before, the network must remember
``grid-words``    the channels of ``grid`` in 12 ticks around the sentence's digit; 10 classes
``grid-letters``  the same around its letter; 25 classes, a to z without w
================  =========================================================================================

For words the noise, its level and the babble are of the 12 ticks (and 3 before), not of the sentence.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from apical.sw.audio_features import BANDS, TICK, from_mu_law, log_bank, mix, unit_power
from apical.sw.data import REST, Bytes, Data, Reals, Stream, permutation, random, read_file, read_sample
from apical.sw.streams import fail, normal

Index = npt.NDArray[np.int64]

FILE = "grid_s1_av/grid_s1_dev.npz"
SHA256 = "6da3e541566f1e50bafd1075e8f03e404fc62c1a3d996698df846c892624585b"
SAMPLE_SHA256 = "f78c5e187767d81170958754262b2d6e5d3b5074b284ff2fd82183fcfa714f2c"
SENTENCES, TICKS = 700, 75
SPLIT_STREAM = 3  # of `permutation`
PARTS = {"train": slice(0, 520), "validation": slice(520, 600), "test": slice(600, 700)}
ROWS, COLUMNS = 8, 10  # of the mouth, from 24 x 40
PIXELS = ROWS * COLUMNS
CONTRAST = 6  # stored steps per grey value: a mouth in motion changes a pixel by some 7 of 256
GAIN = 2  # stored steps per level of the bank
WINDOW = (Stream("audio", BANDS, (0, 1, 2, 3)), Stream("lips", PIXELS, (0, 2)))
FRAME = (Stream("audio", BANDS), Stream("lips", PIXELS))
LEAD = 3  # ticks that the window reaches back
LOUDEST_DB, FAINTEST_DB = 0, -9  # speech to noise
VOICES = 6  # that babble together
WORD_TICKS = 12  # a digit lasts 4 to 10, a letter 2 to 10 of them
WORDS = {"grid-letters": 3, "grid-words": 4}  # which of the six
WORDS_SAMPLE_SHA256 = "c57320d6d2248f8340890a926f5cef4563b290d5263ff70ac092ac3cb673dc25"
SILENCE = 255  # mu-law code of 0
# Draws of the fixed splits; training draws are 16 and above.
DRAWS = {"train": 0, "validation": 1, "test": 2}
# Mean and standard deviation of each band over the counted ticks of the training part, in the bank's levels;
# HEARD: the mean with noise.
# fmt: off
MEAN = (143.31, 144.06, 136.19, 128.92, 125.32, 123.27, 122.93, 117.81, 114.82, 112.78, 109.32, 103.91,
        100.84, 97.53, 95.06, 94.07, 93.55, 91.83, 91.10, 91.66, 93.55, 94.00, 90.09)
DEVIATION = (24.28, 36.67, 40.91, 39.33, 42.36, 42.98, 43.74, 44.04, 43.78, 43.59, 41.60, 38.71,
             37.01, 34.77, 33.00, 32.65, 32.49, 32.10, 31.72, 32.15, 34.15, 35.35, 34.03)
HEARD = (174, 184, 184, 178, 179, 179, 180, 177, 176, 175, 172, 168,
         165, 162, 160, 160, 160, 159, 159, 160, 162, 164, 162)
# fmt: on


@lru_cache(maxsize=1)
def _file() -> dict[str, npt.NDArray[Any]]:
    """Arrays of the whole set: `sound` (mu-law), `mouth` [sentences, ticks, pixels], `frames`, `words`, `times`."""
    content = read_file(
        "The GRID sentences",
        FILE,
        SHA256,
        f"{FILE} (talker 1 of the GRID corpus: mouth at 25 frames a second, 8 kHz mu-law audio); without it "
        "grid:sample ships with the package",
    )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        grey = np.cumsum(arrays["mouth_delta"], axis=1, dtype=np.uint8)
        high, wide = grey.shape[2] // ROWS, grey.shape[3] // COLUMNS
        blocks = grey.reshape(SENTENCES, TICKS, ROWS, high, COLUMNS, wide)
        return {
            "sound": arrays["audio_ulaw8k"],
            "mouth": blocks.sum(axis=(3, 5), dtype=np.int32).reshape(SENTENCES, TICKS, PIXELS) / (high * wide),
            "frames": arrays["n_frames"],
            "words": arrays["labels"],
            "times": arrays["word_times"],
        }


def order(part: str) -> Index:
    """The sentences of a part (train, validation, test) by their number in the file."""
    return permutation(SENTENCES, SPLIT_STREAM)[PARTS[part]]


def lips_of(mouth: npt.NDArray[np.float64], mean: npt.NDArray[np.float64]) -> Bytes:
    """The mouth's pixels as images hold them, around their mean over the training part."""
    return np.clip(np.rint(REST + CONTRAST * (mouth - mean)), 0, 255).astype(np.uint8)


def bands_of(level: Bytes) -> Bytes:
    """The bank's levels as images hold them, around their mean in noise over the training part."""
    return np.asarray(np.clip(REST + GAIN * (level.astype(np.int64) - np.array(HEARD)), 0, 255), np.uint8)


def noise_of(index: Index, draw: int, voices: Bytes, own: Index | None = None) -> tuple[npt.NDArray[np.float64], Reals]:
    """Noise [sentences, samples] and the level of the speech in it in dB, the same for the same index and draw.

    :param index: sentences by their number.
    :param voices: mu-law sentences that babble.
    :param own: where each sentence is among the voices; it is then not among those that babble. None: it isn't there.
    """
    drawn = random(index, 2 * draw, 2 + 2 * VOICES)
    level = FAINTEST_DB + (LOUDEST_DB - FAINTEST_DB) * (drawn[:, 0] >> np.uint64(11)) / 2.0**53
    babbles = (drawn[:, 1] & np.uint64(1)).astype(bool)
    noise = np.empty((len(index), voices.shape[1]))
    noise[~babbles] = normal(index[~babbles], 2 * draw + 1, voices.shape[1])
    for row in np.nonzero(babbles)[0]:
        others = np.arange(len(voices)) if own is None else np.delete(np.arange(len(voices)), own[row])
        who = others[drawn[row, 2 : 2 + VOICES] % np.uint64(len(others))]
        late = (drawn[row, 2 + VOICES :] % np.uint64(voices.shape[1])).astype(int)
        said = unit_power(from_mu_law(voices[who]))
        noise[row] = sum(np.roll(voice, shift) for voice, shift in zip(said, late, strict=True))
    return noise, level.astype(np.float32)


def heard(sound: Bytes, ticks: int, index: Index, draw: int, voices: Bytes, own: Index | None) -> Bytes:
    """The sentences in the noise of `noise_of` as images hold them, [sentences, ticks, bands]."""
    out = np.empty((len(index), ticks, BANDS), np.uint8)
    for start in range(0, len(index), 32):  # few at a time: they stay near the processor
        rows = slice(start, start + 32)
        noise, level = noise_of(index[rows], draw, voices, None if own is None else own[rows])
        out[rows] = bands_of(log_bank(mix(from_mu_law(sound[rows]), noise, level), ticks))
    return out


def _lagged(frames: Bytes, lags: Sequence[int]) -> Bytes:
    """Frames [samples, ticks, channels] side by side with those of some ticks back; `REST` before the first."""
    out = np.full((*frames.shape[:2], len(lags), frames.shape[2]), REST, np.uint8)
    for place, lag in enumerate(lags):
        out[:, lag:, place] = frames[:, : frames.shape[1] - lag]
    return out.reshape(*frames.shape[:2], -1)


def join(bands: Bytes, lips: Bytes, streams: tuple[Stream, ...]) -> Bytes:
    """Images from what each tick brings: bands and lips, [samples, ticks, channels]."""
    audio, video = streams
    return np.concatenate([_lagged(bands, audio.lags), _lagged(lips, video.lags)], axis=2)


def targets_of(clean: Bytes) -> Reals:
    """The bank's levels with zero mean and unit variance over the training part."""
    return np.asarray((clean - np.array(MEAN)) / np.array(DEVIATION), np.float32)


def _counted(frames: npt.NDArray[np.integer[Any]]) -> npt.NDArray[np.bool_]:
    """Ticks that count, of sentences with so many frames: not those whose window reaches before the sentence."""
    tick = np.arange(TICKS)
    return np.asarray((tick >= LEAD) & (tick < frames[:, None]))


def grid(split: str, name: str = "grid", streams: tuple[Stream, ...] = WINDOW) -> Data:
    """A split of ``grid`` or ``grid-frames``: 520, 80 and 100 sentences."""
    if split in ("sample", "sample-train"):
        arrays = read_sample("grid.npz", SAMPLE_SHA256, "test" if split == "sample" else "train")
        bands, lips, clean, index = (arrays[k] for k in ("bands", "lips", "clean", "index"))
        frames, sound = arrays["frames"], arrays.get("sound")
    else:
        whole, index, training = _file(), order(split), order("train")
        frames, sound = whole["frames"][index], whole["sound"][index]
        lips = lips_of(whole["mouth"][index], whole["mouth"][training].mean(axis=(0, 1)))
        own = np.arange(len(index)) if split == "train" else None
        clean = log_bank(from_mu_law(sound), TICKS)
        bands = heard(sound, TICKS, index, DRAWS[split], whole["sound"][training], own)
    return Data(
        join(bands, lips, streams),
        np.zeros((len(index), TICKS), np.int64),
        index.astype(np.int64),
        name,
        split,
        _counted(frames),
        targets=targets_of(clean),
        sound=sound,
        streams=streams,
    )


def frames(split: str) -> Data:
    """A split of ``grid-frames``."""
    return grid(split, "grid-frames", FRAME)


def _around(whole: npt.NDArray[Any], start: Index, count: int, outside: int) -> npt.NDArray[Any]:
    """`count` entries of each row from `start` on; `outside` where the row has none."""
    padded = np.pad(whole, ((0, 0), (count, count), *[(0, 0)] * (whole.ndim - 2)), constant_values=outside)
    return np.asarray(padded[np.arange(len(whole))[:, None], count + start[:, None] + np.arange(count)])


def _spoken(name: str, index: Index) -> tuple[Bytes, Bytes]:
    """The word's sound and lips with the ticks before it, [sentences, LEAD + WORD_TICKS (x TICK), ...]."""
    whole, ticks = _file(), LEAD + WORD_TICKS
    middle = whole["times"][index, WORDS[name]].mean(axis=1) / 1000  # 25,000 a second, 25 ticks a second
    start = np.rint(middle - WORD_TICKS / 2).astype(np.int64) - LEAD
    lips = lips_of(whole["mouth"][index], whole["mouth"][order("train")].mean(axis=(0, 1)))
    return _around(whole["sound"][index], start * TICK, ticks * TICK, SILENCE), _around(lips, start, ticks, REST)


def words(split: str, name: str = "grid-words") -> Data:
    """A split of ``grid-words`` or ``grid-letters``: a word of each sentence of ``grid``."""
    sound: Bytes | None = None
    if split in ("sample", "sample-train"):
        arrays = read_sample("grid-words.npz", WORDS_SAMPLE_SHA256, "test" if split == "sample" else "train")
        index = arrays["index"]
        bands, lips, labels = (arrays[f"{name}_{k}"] for k in ("bands", "lips", "labels"))
    else:
        index = order(split)
        sound, lips = _spoken(name, index)
        voices = sound if split == "train" else _spoken(name, order("train"))[0]
        own = np.arange(len(index)) if split == "train" else None
        bands = heard(sound, LEAD + WORD_TICKS, index, DRAWS[split], voices, own)
        labels = _file()["words"][index, WORDS[name]]
        labels = labels - (labels > 22) if name == "grid-letters" else labels  # 22 would be w
    images = join(bands, lips, WINDOW)[:, LEAD:]
    return Data(images, labels.astype(np.int64), index.astype(np.int64), name, split, sound=sound, streams=WINDOW)


def letters(split: str) -> Data:
    """A split of ``grid-letters``."""
    return words(split, "grid-letters")


def noisy(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """Training sentences or words in new noise: white, or the babble of others of `data`.

    Samples that ship without their sound come as they are.
    """
    images = data.images[rows]
    if data.sound is None:
        return torch.from_numpy(images)
    draw, ticks = 16 + int(torch.randint(1 << 14, (), generator=generator)), -(-data.sound.shape[1] // TICK)
    bands = heard(data.sound[rows], ticks, data.index[rows], draw, data.sound, rows)
    audio = data.streams[0]
    new = _lagged(bands, audio.lags)[:, ticks - images.shape[1] :]
    return torch.from_numpy(np.concatenate([new, images[:, :, audio.size :]], axis=2))


def fickle(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """The same, and in half of the samples one of the streams brings nothing for an eighth to a half of the time."""
    now = replace(data.rows(rows), images=noisy(data, rows, epoch, generator).numpy())
    ticks = now.images.shape[1]
    drawn = torch.rand(3, len(rows), generator=generator).numpy()
    length = ((0.125 + 0.375 * drawn[0]) * ticks).astype(np.int64)
    start = (drawn[1] * (ticks - length)).astype(np.int64)
    for place, stream in enumerate(data.streams):
        struck = (drawn[2] >= place / 4) & (drawn[2] < (place + 1) / 4)
        now = fail(now, stream.name, start, np.where(struck, length, 0))
    return torch.from_numpy(now.images)
