"""Data sets: loaded from a folder that the user names, checked by SHA-256; a small real sample ships.

The folder is ``APICAL_DATA`` (an environment variable); MNIST lies in ``mnist/`` below it, as the four ``.gz`` files
that the public mirrors carry. Splits of every data set:

================  ===================================================================================
split             contents
================  ===================================================================================
``train``         the training part without its last 5,000
``validation``    the training part's last 5,000: models are chosen on these, never on ``test``
``test``          the test part, 10,000
``sample``        500 of the test part, shipped: needs no download
``sample-train``  2,750 of ``train``, shipped
================  ===================================================================================
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from apical.sw import encodings
from apical.sw.encodings import Encoding
from apical.sw.network import Network

Bytes = npt.NDArray[np.uint8]
SPLITS = ("train", "validation", "test", "sample", "sample-train")
VALIDATION = 5000
SAMPLES = Path(__file__).parent / "samples"

# SHA-256 of the unpacked files of Y. LeCun, C. Cortes and C. Burges, The MNIST database of handwritten digits.
MNIST_FILES = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
SAMPLE_SHA256 = "1ac67817848df7281571b1dcc89794d567100de46a5fa964531302957f7c8f12"
LIMIT_FILE = 1 << 28  # bytes of an unpacked file; the largest of MNIST has 47 million


class DataError(ValueError):
    """Data that are missing, damaged or unknown; the message says how to get them."""


@dataclass(frozen=True)
class Data:
    """Raw data and labels of one split.

    :param images: uint8, [samples, ...].
    :param labels: classes, [samples].
    :param index: each sample's number in its part (train or test) of the data set, [samples].
    """

    images: Bytes
    labels: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    name: str
    split: str

    def __len__(self) -> int:
        return len(self.labels)

    def encode(self, encoding: Encoding) -> npt.NDArray[np.uint8]:
        """Events [samples, ticks, channels] by an encoding of `apical.sw.encodings`."""
        return encodings.encode(self.images, encoding)

    def first(self, samples: int) -> Data:
        """The first `samples` of it."""
        return Data(self.images[:samples], self.labels[:samples], self.index[:samples], self.name, self.split)


def folder() -> Path | None:
    """The folder that ``APICAL_DATA`` names; None where it isn't set."""
    given = os.environ.get("APICAL_DATA")
    return Path(given) if given else None


def _unpack(path: Path) -> bytes:
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as stream:
            content = stream.read(LIMIT_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a gzip file of MNIST, can't be read: {error}") from None
    if len(content) > LIMIT_FILE:
        raise DataError(f"{path}: expected at most {LIMIT_FILE} bytes unpacked, got more")
    return content


def _mnist_file(name: str) -> Bytes:
    """One of the four files as an array, checked."""
    root = folder()
    if root is None:
        raise DataError(
            "MNIST isn't here: set APICAL_DATA to a folder that holds mnist/train-images-idx3-ubyte.gz, "
            "train-labels-idx1-ubyte.gz, t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz (any public mirror "
            "of the original files); without it mnist:sample (500 test images) ships with the package"
        )
    path = root / "mnist" / f"{name}.gz"
    if not path.is_file():
        raise DataError(
            f"MNIST: expected {path} (APICAL_DATA is {root}), found none; put the four original .gz files there, or "
            "use mnist:sample, which ships with the package"
        )
    content = _unpack(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != MNIST_FILES[name]:
        raise DataError(f"{path}: expected SHA-256 {MNIST_FILES[name]} unpacked, got {digest}; fetch the file anew")
    rank = content[3]  # idx: 0, 0, type 8 (uint8), rank, then each size as a big-endian 32-bit number
    shape = np.frombuffer(content, ">u4", rank, 4).astype(int)
    return np.frombuffer(content, np.uint8, offset=4 + 4 * rank).reshape(shape)


def _mnist_sample(part: str) -> Data:
    path = SAMPLES / "mnist.npz"
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the shipped sample can't be read: {error}; install the package anew") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != SAMPLE_SHA256:
        raise DataError(f"{path}: expected SHA-256 {SAMPLE_SHA256}, got {digest}; install the package anew")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        images, labels, index = (arrays[f"{part}_{what}"] for what in ("images", "labels", "index"))
    split = "sample" if part == "test" else "sample-train"
    return Data(images, labels.astype(np.int64), index.astype(np.int64), "mnist", split)


def _mnist(split: str) -> Data:
    if split in ("sample", "sample-train"):
        return _mnist_sample("test" if split == "sample" else "train")
    part = "t10k" if split == "test" else "train"
    images, labels = _mnist_file(f"{part}-images-idx3-ubyte"), _mnist_file(f"{part}-labels-idx1-ubyte")
    index = np.arange(len(labels))
    kept = {"train": slice(0, -VALIDATION), "validation": slice(-VALIDATION, None), "test": slice(None)}[split]
    return Data(images[kept], labels[kept].astype(np.int64), index[kept], "mnist", split)


def _random(index: npt.NDArray[np.int64], stream: int, count: int) -> npt.NDArray[np.uint64]:
    """[samples, count] random 64-bit numbers, a function of (sample index, stream, position) on every machine.

    The finalizer of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over a counter.
    """
    golden_ratio = np.uint64(0x9E3779B97F4A7C15)
    base = (index.astype(np.uint64)[:, None] << np.uint64(32)) + (np.uint64(stream) << np.uint64(16))
    z = base * golden_ratio + (np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0xD1B54A32D192ED03))
    for _ in range(2):  # twice, since neighbouring counters are alike
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z = z ^ (z >> np.uint64(31))
    return z


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
    noise = _random(index, draw, rows * columns + 1)
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
    return Data(views, digits.labels, digits.index, "two-view-digits", split)


LOADERS: dict[str, Callable[[str], Data]] = {"mnist": _mnist, "two-view-digits": _two_view_digits}


def names() -> list[str]:
    """Known data sets."""
    return sorted(LOADERS)


def load(spec: str) -> Data:
    """Load ``NAME[:SPLIT]``; without a split, the shipped ``sample``.

    :raises DataError: unknown name or split; files missing, damaged, or different from their checksum.
    """
    name, _, split = spec.partition(":")
    split = split or "sample"
    if name not in LOADERS:
        raise DataError(f"data set: expected one of {names()}, got {name!r}")
    if split not in SPLITS:
        raise DataError(f"data set {name}: expected a split of {list(SPLITS)}, got {split!r}")
    return LOADERS[name](split)


def available(spec: str) -> bool:
    """True where `load` would find its files (their checksums are not looked at)."""
    if spec.partition(":")[2] in ("", "sample", "sample-train"):
        return True
    root = folder()
    return root is not None and all((root / "mnist" / f"{name}.gz").is_file() for name in MNIST_FILES)


def encode(data: Data, network: Network) -> npt.NDArray[np.uint8]:
    """Events [samples, ticks, inputs] for a network, by the encoding that it stores.

    :raises DataError: the network doesn't say how its input is encoded, or has another number of inputs.
    """
    size = int(np.prod(data.images.shape[1:]))
    if not network.encoding:
        raise DataError(f"network {network.name!r}: has no encoding; give events (--input) in place of --data")
    if size != network.input_size:
        raise DataError(
            f"data set {data.name}: has {size} values per sample, network {network.name!r} expects {network.input_size}"
        )
    return data.encode(network.encoding)
