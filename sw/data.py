"""What a loaded data set is: raw data, labels, the ticks that count; and how its files are read and checked."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from apical.sw import encodings
from apical.sw.encodings import Encoding

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Reals = npt.NDArray[np.float32]
Rows = slice | npt.NDArray[np.int64]
SAMPLES = Path(__file__).parent / "samples"
REST = 128  # stored value of what is usual, and of what isn't there, in data of several streams
LIMIT_FILE = 1 << 28  # bytes of an unpacked file; the largest of MNIST has 47 million


class DataError(ValueError):
    """Data that are missing, damaged or unknown; the message says how to get them."""


@dataclass(frozen=True)
class Labels:
    """Right answers, and which of them count. Accuracy is defined here and nowhere else, the error in `errors`.

    :param classes: [samples], or [samples, ticks] where there is a class in every tick.
    :param counted: the same shape: what the published protocol counts; None: all.
    :param labelled: the same shape: what carries a label at all (the others have class 0); None: all.
    :param targets: what the outputs should be in units of their own, [samples, ticks, outputs]; `classes` then are
        [samples, ticks] and say nothing. None: there is nothing but classes.
    """

    classes: npt.NDArray[np.int64]
    counted: Flags | None = None
    labelled: Flags | None = None
    targets: Reals | None = None

    def __post_init__(self) -> None:
        for name in ("counted", "labelled"):
            flags = getattr(self, name)
            if flags is not None and (flags.dtype != bool or flags.shape != self.classes.shape):
                raise DataError(
                    f"{name}: expected bool of shape {list(self.classes.shape)}, got {flags.dtype} of shape "
                    f"{list(flags.shape)}"
                )
        if self.targets is not None and self.targets.shape[:-1] != self.classes.shape:
            raise DataError(
                f"targets: expected shape {[*self.classes.shape, 'outputs']}, got {list(self.targets.shape)}"
            )

    def rows(self, rows: Rows) -> Labels:
        """Those of some samples."""
        counted, labelled = (None if a is None else a[rows] for a in (self.counted, self.labelled))
        return Labels(self.classes[rows], counted, labelled, None if self.targets is None else self.targets[rows])

    @property
    def known(self) -> Flags:
        """What is both counted and labelled."""
        out = np.ones(self.classes.shape, bool)
        for flags in (self.counted, self.labelled):
            out &= True if flags is None else flags
        return out

    def right(self, classes: npt.NDArray[np.int64]) -> tuple[int, int, int, int]:
        """How many `classes` are right, of how many counted; right, of how many both counted and labelled.

        :raises DataError: `classes` of another shape.
        """
        if classes.shape != self.classes.shape:
            raise DataError(f"labels: expected shape {list(classes.shape)}, got {list(self.classes.shape)}")
        counted = np.ones(classes.shape, bool) if self.counted is None else self.counted
        hits, known = classes == self.classes, self.known
        return int((hits & counted).sum()), int(counted.sum()), int((hits & known).sum()), int(known.sum())

    def accuracy(self, classes: npt.NDArray[np.int64]) -> float | None:
        """Share of right classes among the counted; None where none counts.

        :raises DataError: `classes` of another shape.
        """
        hits, counted, _, _ = self.right(classes)
        return hits / counted if counted else None

    def accuracy_labelled(self, classes: npt.NDArray[np.int64]) -> float | None:
        """The same among those that are counted and carry a label; None where the data don't say which do."""
        _, _, hits, counted = self.right(classes)
        return None if self.labelled is None or not counted else hits / counted


def accuracies(
    classes: npt.NDArray[np.int64] | None, labels: Labels | npt.NDArray[np.int64] | None
) -> dict[str, float | None]:
    """``accuracy`` and ``accuracy_labelled`` by `Labels`; None where there are no classes or no labels.

    :raises DataError: labels of another shape than the classes.
    """
    if classes is None or labels is None:
        return {"accuracy": None, "accuracy_labelled": None}
    truth = Labels(labels) if isinstance(labels, np.ndarray) else labels
    return {"accuracy": truth.accuracy(classes), "accuracy_labelled": truth.accuracy_labelled(classes)}


def errors(outputs: npt.NDArray[Any], data: Data | Labels, unit: float) -> float:
    """Mean of (output / unit - target)^2 over the counted ticks and all outputs.

    Targets have zero mean and unit variance over the training part: 1 is what always saying the mean would give.

    :param outputs: integers, [samples, ticks, outputs].
    :param unit: the output that stands for a target of 1.
    :raises DataError: data without targets, outputs of another shape, or a unit that isn't above 0.
    """
    targets, counted = data.targets, data.counted
    if targets is None:
        raise DataError("targets: expected data that have them, such as grid, got none")
    if outputs.shape != targets.shape:
        raise DataError(f"targets: expected shape {list(outputs.shape)} as the outputs have, got {list(targets.shape)}")
    if not unit > 0:
        raise DataError(f"target_unit: expected a number above 0, got {unit}")
    square = (outputs / unit - targets) ** 2
    return float(np.mean(square if counted is None else square[counted], dtype=np.float64))


@dataclass(frozen=True)
class Stream:
    """Neighbouring channels of one origin, such as audio.

    :param width: values that a tick brings.
    :param lags: of which ticks, counted back, the channels hold the values; `width` channels for each.
    """

    name: str
    width: int
    lags: tuple[int, ...] = (0,)

    @property
    def size(self) -> int:
        """Its channels."""
        return self.width * len(self.lags)


@dataclass(frozen=True)
class Data:
    """Raw data and labels of one split.

    :param images: uint8, [samples, ...]; sequences are [samples, ticks, channels].
    :param labels: classes, [samples] or, with a class in every tick, [samples, ticks].
    :param index: each sample's number in its part (train or test) of the data set, [samples].
    :param counted, labelled, targets: as in `Labels`.
    :param sound: mu-law audio that the images were made of, [samples, samples of sound]; None where there is none.
    :param streams: the channels' origins, in their order; empty where there is only one.
    """

    images: Bytes
    labels: npt.NDArray[np.int64]
    index: npt.NDArray[np.int64]
    name: str
    split: str
    counted: Flags | None = None
    labelled: Flags | None = None
    targets: Reals | None = None
    sound: Bytes | None = None
    streams: tuple[Stream, ...] = ()

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def truth(self) -> Labels:
        """The labels with what counts."""
        return Labels(self.labels, self.counted, self.labelled, self.targets)

    def encode(self, encoding: Encoding) -> encodings.Table:
        """Events [samples, ticks, channels] by an encoding of `apical.sw.encodings`."""
        return encodings.encode(self.images, encoding)

    def rows(self, rows: Rows) -> Data:
        """Some samples of it, by a slice or their positions."""
        truth = self.truth.rows(rows)
        return replace(
            self,
            images=self.images[rows],
            labels=truth.classes,
            index=self.index[rows],
            counted=truth.counted,
            labelled=truth.labelled,
            targets=truth.targets,
            sound=None if self.sound is None else self.sound[rows],
        )

    def first(self, samples: int) -> Data:
        """The first `samples` of it."""
        return self.rows(slice(samples))


def folder() -> Path | None:
    """The folder that ``APICAL_DATA`` names; None where it isn't set."""
    given = os.environ.get("APICAL_DATA")
    return Path(given) if given else None


def _unpack(path: Path) -> bytes:
    try:
        with path.open("rb") as raw, gzip.GzipFile(fileobj=raw) as stream:
            content = stream.read(LIMIT_FILE + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: expected a gzip file, can't be read: {error}") from None
    if len(content) > LIMIT_FILE:
        raise DataError(f"{path}: expected at most {LIMIT_FILE} bytes unpacked, got more")
    return content


def read_file(what: str, file: str, sha256: str, where_from: str) -> bytes:
    """Content of a file below ``APICAL_DATA``, unpacked where its name ends in ``.gz``, checked.

    :param what: the data set's name for people.
    :param file: path below the folder.
    :param where_from: what to put there, and what works without it.
    :raises DataError: no folder, no file, or another content than expected.
    """
    root = folder()
    if root is None:
        raise DataError(f"{what} isn't here: set APICAL_DATA to a folder that holds {where_from}")
    path = root / file
    if not path.is_file():
        raise DataError(f"{what}: expected {path} (APICAL_DATA is {root}), found none; put there {where_from}")
    packed = path.suffix == ".gz"
    try:
        content = _unpack(path) if packed else path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: can't be read: {error}") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        unpacked = " unpacked" if packed else ""
        raise DataError(f"{path}: expected SHA-256 {sha256}{unpacked}, got {digest}; fetch the file anew")
    return content


def read_sample(file: str, sha256: str, part: str) -> dict[str, npt.NDArray[Any]]:
    """The arrays of one part (``train``, ``test``) of a shipped sample, by their names without the part.

    :raises DataError: the file is missing or damaged.
    """
    path = SAMPLES / file
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: the shipped sample can't be read: {error}; install the package anew") from None
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise DataError(f"{path}: expected SHA-256 {sha256}, got {digest}; install the package anew")
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return {name.removeprefix(f"{part}_"): arrays[name] for name in arrays.files if name.startswith(f"{part}_")}


def random(index: npt.NDArray[np.int64], stream: int, count: int) -> npt.NDArray[np.uint64]:
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


def permutation(count: int, stream: int) -> npt.NDArray[np.int64]:
    """0 … count - 1 in an order that `stream` picks, the same on every machine: sorted by `random`'s numbers."""
    return np.argsort(random(np.arange(count), stream, 1)[:, 0], kind="stable").astype(np.int64)
