"""Data sets by name and split: checked by SHA-256, read from a folder that the user names; small real samples ship.

The folder is ``APICAL_DATA`` (an environment variable); MNIST lies in ``mnist/`` below it, as the four ``.gz`` files
that the public mirrors carry. Splits of every data set (docs/reference/data.md has each set's sizes):

================  ===================================================================================
split             contents
================  ===================================================================================
``train``         the training part without ``validation``
``validation``    a part of the training part: models are chosen on it, never on ``test``
``test``          the test part
``sample``        some of ``test``, shipped: needs no download
``sample-train``  some of ``train``, shipped
================  ===================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from apical.sw import av_mnist, encodings, golden, grid, sequences
from apical.sw.data import (
    SAMPLES,
    Bytes,
    Data,
    DataError,
    Labels,
    accuracies,
    errors,
    folder,
    permutation,
    random,
    read_file,
    read_sample,
)
from apical.sw.level_crossing import mitbih
from apical.sw.network import Network

__all__ = ["SAMPLES", "Bytes", "Data", "DataError", "Labels", "accuracies", "errors", "folder", "mitbih"]
SPLITS = ("train", "validation", "test", "sample", "sample-train")
VALIDATION = 5000  # of MNIST: the training part's last

# SHA-256 of the unpacked files of Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits.
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
SAMPLE_SHA256 = "1ac67817848df7281571b1dcc89794d567100de46a5fa964531302957f7c8f12"


def _mnist_file(name: str) -> Bytes:
    """One of the four files as an array, checked."""
    content = read_file(
        "MNIST",
        f"mnist/{name}.gz",
        MNIST_FILES[name],
        "mnist/train-images-idx3-ubyte.gz, train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and "
        "t10k-labels-idx1-ubyte.gz (any public mirror of the original files); without it mnist:sample (500 test "
        "images) ships with the package",
    )
    rank = content[3]  # idx: 0, 0, type 8 (uint8), rank, then each size as a big-endian 32-bit number
    shape = np.frombuffer(content, ">u4", rank, 4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _mnist(split: str) -> Data:
    if split in ("sample", "sample-train"):
        arrays = read_sample("mnist.npz", SAMPLE_SHA256, "test" if split == "sample" else "train")
        classes, index = arrays["labels"].astype(np.int64), arrays["index"].astype(np.int64)
        return Data(arrays["images"], classes, index, "mnist", split)
    part = "t10k" if split == "test" else "train"
    images, labels = _mnist_file(f"{part}-images-idx3-ubyte"), _mnist_file(f"{part}-labels-idx1-ubyte")
    kept = {"train": slice(0, -VALIDATION), "validation": slice(-VALIDATION, None), "test": slice(None)}[split]
    return Data(images, labels.astype(np.int64), np.arange(len(labels)), "mnist", split).rows(kept)


BASAL_DROP, BASAL_SALT = 140, 20  # of 256: share of pixels blanked, and replaced by noise
APICAL_DROP, APICAL_SALT = 40, 10
BAND = 12  # rows or columns that the apical view doesn't see


def two_views(images: Bytes, index: npt.NDArray[np.int64], draw: int = 0) -> Bytes:
    """Two noisy views of each digit, [samples, 2, 28, 28]; the same for the same index and draw, anywhere.

    View 0 (basal) sees scattered pixels: 55 % are blanked and 8 % are noise. View 1 (apical) sees more pixels (16 %
    blanked, 4 % noise) but not a band of 12 rows or columns somewhere.

    The basal view carries most: the shipped network, on the validation split, names 94.9 % with both views, 92.4 %
    with the apical view blanked, 45.8 % with the basal one blanked, 70.7 % with the apical view of another image
    (measured on that one network, trained with both; networks trained on a single view were not).

    :param images: uint8, [samples, 28, 28].
    :param draw: another noise for the same digit (training draws anew in every epoch).
    """
    samples, rows, columns = images.shape
    out = np.empty((samples, 2, rows, columns), np.uint8)
    noise = random(index, draw, rows * columns + 1)
    pixels = noise[:, 1:].reshape(images.shape).view(np.uint8).reshape(*images.shape, 8)  # 8 random bytes per pixel
    for view, (drop, salt) in enumerate(((BASAL_DROP, BASAL_SALT), (APICAL_DROP, APICAL_SALT))):
        dropped, salted, level = (pixels[..., 3 * view + k] for k in range(3))
        seen = np.where(dropped < drop, np.uint8(0), images)
        out[:, view] = np.where(salted < salt, level, seen)
    first = noise[:, 0]
    start = (first >> np.uint64(8)) % np.uint64(rows - BAND + 1)
    across = np.arange(rows, dtype=np.uint64)[None] - start[:, None] < np.uint64(BAND)  # unsigned: below start is huge
    vertical = (first & np.uint64(1)).astype(bool)
    hidden = np.where(vertical[:, None, None], across[:, None, :], across[:, :, None])
    out[:, 1][np.broadcast_to(hidden, images.shape)] = 0
    return out


# Draws of the fixed splits; training draws are 16 and above.
DRAWS = {"train": 0, "validation": 1, "test": 2, "sample": 2, "sample-train": 0}


def _two_view_digits(split: str) -> Data:
    digits = _mnist(split)
    views = two_views(digits.images, digits.index, DRAWS[split])
    return replace(digits, images=views, name="two-view-digits")


def _av_mnist(split: str) -> Data:
    """Digits seen and heard: `av_mnist.pair` with the first of the two noisy views."""
    digits = _mnist(split)
    return av_mnist.pair(digits, two_views(digits.images, digits.index, DRAWS[split])[:, 0])


PERMUTED_STREAM = 2  # of `permutation`: which order of the pixels


def _sequential_mnist(split: str) -> Data:
    """A digit's pixels one after the other, a tick each: [samples, 784, 1]."""
    digits = _mnist(split)
    return replace(digits, images=digits.images.reshape(len(digits), -1, 1), name="sequential-mnist")


def _permuted_mnist(split: str) -> Data:
    """The same pixels in one fixed order for all digits, so that near pixels are far in time."""
    digits = _sequential_mnist(split)
    order = permutation(digits.images.shape[1], PERMUTED_STREAM)
    return replace(digits, images=digits.images[:, order], name="permuted-mnist")


MNIST_PATHS = tuple(f"mnist/{name}.gz" for name in MNIST_FILES)
ECG_PATHS = tuple(file for file, _ in sequences.ECG_FILES.values())
# Each set's loader, and the files below `folder` that it reads.
SETS: dict[str, tuple[Callable[[str], Data], tuple[str, ...]]] = {
    "av-mnist": (_av_mnist, (*MNIST_PATHS, *av_mnist.FILES)),
    "ecg-qtdb": (sequences.ecg, ECG_PATHS),
    "grid": (grid.grid, (grid.FILE,)),
    "grid-frames": (grid.frames, (grid.FILE,)),
    "grid-letters": (grid.letters, (grid.FILE,)),
    "grid-words": (grid.words, (grid.FILE,)),
    "mnist": (_mnist, MNIST_PATHS),
    "permuted-mnist": (_permuted_mnist, MNIST_PATHS),
    "sequential-mnist": (_sequential_mnist, MNIST_PATHS),
    "spoken-digits": (sequences.spoken_digits, (sequences.SPEECH_FILE,)),
    "two-view-digits": (_two_view_digits, MNIST_PATHS),
}


def names() -> list[str]:
    """Known data sets."""
    return sorted(SETS)


def load(spec: str) -> Data:
    """Load ``NAME[:SPLIT]``; without a split, the shipped ``sample``.

    :raises DataError: unknown name or split; files missing, damaged, or different from their checksum.
    """
    name, _, split = spec.partition(":")
    split = split or "sample"
    if name not in SETS:
        raise DataError(f"data set: expected one of {names()}, got {name!r}")
    if split not in SPLITS:
        raise DataError(f"data set {name}: expected a split of {list(SPLITS)}, got {split!r}")
    return SETS[name][0](split)


def available(spec: str) -> bool:
    """True where `load` would find its files (their checksums are not looked at)."""
    name, _, split = spec.partition(":")
    if split in ("", "sample", "sample-train"):
        return True
    root = folder()
    return root is not None and all((root / path).is_file() for path in SETS[name][1])


def figures(
    network: Network, trace: golden.Trace, truth: Labels | npt.NDArray[np.int64] | None
) -> dict[str, float | None]:
    """``accuracy`` and ``accuracy_labelled`` of a run's classes, ``error`` of its outputs; None where there is none.

    :raises DataError: labels or targets that don't fit what the network sends, or no ``target_unit`` in its encoding.
    """
    error = None
    if isinstance(truth, Labels) and truth.targets is not None:
        unit = float(network.encoding.get("target_unit", 0))
        error = errors(trace.outputs[network.outputs[0]], truth, unit)
    return {**accuracies(golden.decode(network, trace), truth), "error": error}


def encode(data: Data, network: Network) -> encodings.Table:
    """Events [samples, ticks, inputs] for a network, by the encoding that it stores.

    :raises DataError: the network doesn't say how its input is encoded, or has another number of inputs.
    """
    if not network.encoding:
        raise DataError(f"network {network.name!r}: has no encoding; give events (--input) in place of --data")
    size = encodings.channels(network.encoding, data.images.shape[1:])
    if size != network.input_size:
        raise DataError(
            f"data set {data.name}: has {size} values per sample, network {network.name!r} expects {network.input_size}"
        )
    return data.encode(network.encoding)
