"""Data sets that are sequences of events, [samples, ticks, channels].

``ecg-qtdb``: level-crossing ECG of the spiking-recurrent-network papers (B. Yin, F. Corradi, S. M. Bohté, ICONS 2020,
arXiv 2005.11633; Nature Machine Intelligence 2021, arXiv 2103.12593), made by their authors from the QT Database
(P. Laguna and others, 1997) and published with their code (MIT). 4 channels of spikes, 1,301 ticks (250 Hz), a class of
6 in every tick. The papers count the ticks from the tenth on, and unlabelled ticks as class 0.

``spoken-digits``: 600 recordings of the Free Spoken Digit Dataset (Z. Jackson and others, CC BY-SA 4.0) as spikes of a
model cochlea of 140 channels, 0.8 s each. The method is that of the Heidelberg digits (B. Cramer and others, IEEE TNNLS
2022, arXiv 1910.07407); the recordings are not. 100 ticks of 8 ms; a value is how many spikes fell into a tick, at
most 3.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import numpy.typing as npt

from apical.sw.data import Bytes, Data, DataError, permutation, read_file, read_sample

ECG_FILES = {
    "train": ("qtdb_ecg/QTDB_train.mat", "72d1a10c96f1540880447e07256835d66da419c0b34f3dff495731a7928c5bc7"),
    "test": ("qtdb_ecg/QTDB_test.mat", "916f11e21679a5b61988305bbb7cd1e6df8b34f1ed4a157a7a4e295d400ef232"),
}
ECG_SAMPLE_SHA256 = "92cdc1745180bb229d3510cd6d9a6c3a8e2e6b07ccc25088c6721424b06eae50"
ECG_TICKS, ECG_CHANNELS, ECG_CLASSES = 1301, 4, 6
ECG_VALIDATION = 90  # of the 618 training sequences
ECG_SKIPPED = 10  # first ticks, which the papers don't count
ECG_STREAM = 1  # of `permutation`
UNLABELLED = 255


def _ecg_arrays(part: str) -> tuple[Bytes, Bytes]:
    """Spikes [samples, ticks, channels] and classes [samples, ticks], `UNLABELLED` where there is none."""
    from scipy.io import loadmat  # here: it takes a while to import
    from scipy.io.matlab import MatReadError

    file, sha256 = ECG_FILES[part]
    content = read_file(
        "The ECG set (QTDB)",
        file,
        sha256,
        "qtdb_ecg/QTDB_train.mat and QTDB_test.mat as the authors of arXiv 2005.11633 publish them with their code; "
        "without them ecg-qtdb:sample (20 test sequences) ships with the package",
    )
    try:
        arrays: dict[str, Any] = loadmat(io.BytesIO(content), variable_names=["x", "y"])
    except (MatReadError, ValueError, TypeError, NotImplementedError) as error:
        raise DataError(f"{file}: expected a MATLAB file, can't be read: {error}") from None
    for name, channels in (("x", ECG_CHANNELS), ("y", ECG_CLASSES)):
        shape = arrays[name].shape if name in arrays else None
        if shape is None or len(shape) != 3 or shape[1:] != (ECG_TICKS, channels):
            raise DataError(f"{file}: {name}: expected shape [samples, {ECG_TICKS}, {channels}], got {shape}")
    x, y = arrays["x"].astype(np.int64), arrays["y"].astype(np.int64)
    # The authors' encoder leaves -1 in channel 0 of every sequence's last tick and nowhere else (618 + 141 counted).
    artefact = x[:, -1, 0] == -1
    x[artefact, -1, 0] = 0
    for name, array in (("x", x), ("y", y)):
        if array.min() < 0 or array.max() > 1:
            raise DataError(f"{file}: {name}: expected 0 and 1, got {array.min()} to {array.max()}")
    if y.sum(2).max() > 1:
        raise DataError(f"{file}: y: expected at most one class in a tick, got {y.sum(2).max()}")
    classes = np.where(y.any(2), y.argmax(2), UNLABELLED)
    return x.astype(np.uint8), classes.astype(np.uint8)


def _ecg_data(x: Bytes, classes: Bytes, index: npt.NDArray[np.int64], split: str) -> Data:
    labelled = classes != UNLABELLED
    counted = np.zeros(classes.shape, bool)
    counted[:, ECG_SKIPPED:] = True
    labels = np.where(labelled, classes, 0).astype(np.int64)
    return Data(x, labels, index, "ecg-qtdb", split, counted, labelled)


def ecg(split: str) -> Data:
    """A split of ``ecg-qtdb``.

    ``train`` and ``validation`` are the first 528 and the last 90 of the 618 training sequences in a fixed shuffled
    order; ``test`` is the authors' test part, in their order.
    """
    if split in ("sample", "sample-train"):
        arrays = read_sample("ecg-qtdb.npz", ECG_SAMPLE_SHA256, "test" if split == "sample" else "train")
        x = np.unpackbits(arrays["x"], axis=1, count=ECG_TICKS)
        return _ecg_data(x, arrays["classes"], arrays["index"].astype(np.int64), split)
    x, classes = _ecg_arrays("test" if split == "test" else "train")
    whole = _ecg_data(x, classes, np.arange(len(x)), split)
    if split == "test":
        return whole
    order = permutation(len(x), ECG_STREAM)
    return whole.rows(order[:-ECG_VALIDATION] if split == "train" else order[-ECG_VALIDATION:])


SPEECH_FILE = "fsdd_cochlea140/fsdd_cochlea140_dev.npz"
SPEECH_SHA256 = "c8ef93f1068d1e9215a9ca22847e66168134b58fb9097207bcd91740391ae016"
SPEECH_SAMPLE_SHA256 = "3b30b79b7163b8d150fef526904f96d2daed822545d6139e8e65e62cc8dd781b"
SPEECH_CHANNELS, SPEECH_TICKS = 140, 100
SPEECH_TICK = 64  # of the file's 1/8000 s: 8 ms; every recording ends within 100 of them
SPEECH_MOST = 3  # spikes counted in a tick: 378 of 910,481 bins that hold any hold more
# Recordings are numbered 0 to 14 for each speaker and digit. The set's authors keep 0 to 4 for testing.
SPEECH_TAKES = {"test": (0, 5), "validation": (5, 7), "train": (7, 15)}


def bin_spikes(
    unit: npt.NDArray[np.integer[Any]], time: npt.NDArray[np.integer[Any]], offset: npt.NDArray[np.integer[Any]]
) -> Bytes:
    """Spikes in a row, counted per tick and channel, at most `SPEECH_MOST`: [samples, ticks, channels].

    :param unit, time: channel and 1/8000 s of each spike, [spikes].
    :param offset: where each sample's spikes begin, and the end, [samples + 1].
    :raises DataError: spikes outside of the channels or after the last tick.
    """
    if unit.max(initial=0) >= SPEECH_CHANNELS or time.max(initial=0) >= SPEECH_TICKS * SPEECH_TICK:
        raise DataError(
            f"spikes: expected channels below {SPEECH_CHANNELS} and times below {SPEECH_TICKS * SPEECH_TICK}, got "
            f"{unit.max()} and {time.max()}"
        )
    shape = (len(offset) - 1, SPEECH_TICKS, SPEECH_CHANNELS)
    sample = np.repeat(np.arange(shape[0]), np.diff(offset))
    place = np.ravel_multi_index((sample, time // SPEECH_TICK, unit), shape)
    count = np.bincount(place, minlength=int(np.prod(shape))).reshape(shape)
    return np.minimum(count, SPEECH_MOST).astype(np.uint8)


def spoken_digits(split: str) -> Data:
    """A split of ``spoken-digits``: 320, 80 and 200 recordings, each with as many of every digit and speaker."""
    if split in ("sample", "sample-train"):
        arrays = read_sample("spoken-digits.npz", SPEECH_SAMPLE_SHA256, "test" if split == "sample" else "train")
        low, high = (np.unpackbits(arrays[k], axis=2, count=SPEECH_CHANNELS) for k in ("low", "high"))
        images, labels, index = low + 2 * high, arrays["labels"], arrays["index"]
        return Data(images, labels.astype(np.int64), index.astype(np.int64), "spoken-digits", split)
    content = read_file(
        "The spoken digits",
        SPEECH_FILE,
        SPEECH_SHA256,
        f"{SPEECH_FILE} (spikes of a model cochlea, made from the Free Spoken Digit Dataset); without it "
        "spoken-digits:sample (20 test recordings) ships with the package",
    )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        images = bin_spikes(arrays["unit"], arrays["t"], arrays["offset"])
        labels = arrays["label"].astype(np.int64)
        take = np.array([int(name.decode().rpartition("_")[2]) for name in arrays["name"]])
    start, stop = SPEECH_TAKES[split]
    kept = np.nonzero((take >= start) & (take < stop))[0]
    return Data(images[kept], labels[kept], kept, "spoken-digits", split)
