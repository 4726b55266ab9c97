"""Comparison of a float twin, or of the integer network, with what the source itself computed."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apical.sw.nir_read import NirError

KEYS = ("x", "spikes", "output", "class", "labels")
LIMIT_FILE = 1 << 30  # bytes


@dataclass(frozen=True)
class Reference:
    """A source's own trace; any of them may be missing.

    :param x: input [samples, ticks, channels]. :param spikes, output: [samples, ticks, neurons] of the first output.
    :param classes, labels: [samples].
    """

    x: np.ndarray | None = None
    spikes: np.ndarray | None = None
    output: np.ndarray | None = None
    classes: np.ndarray | None = None
    labels: np.ndarray | None = None


def read(path: Path) -> Reference:
    """A reference from ``.npz``: x, spikes, output, class, labels; x may be packed bits over the ticks (``x_packed``).

    :raises NirError: another file, or arrays of another rank.
    """
    if not path.is_file() or path.stat().st_size > LIMIT_FILE:
        raise NirError(f"{path}: expected an .npz file of at most {LIMIT_FILE} bytes")
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {k: file[k] for k in (*KEYS, "x_packed", "ticks", "spikes_packed") if k in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise NirError(f"{path}: expected an .npz file of plain arrays: {error}") from None
    for key in ("x", "spikes"):
        if (packed := arrays.pop(f"{key}_packed", None)) is not None:
            count = int(arrays["ticks"]) if "ticks" in arrays else None
            arrays[key] = np.unpackbits(packed, axis=1, count=count)
    arrays.pop("ticks", None)
    for key, array in arrays.items():
        rank = 1 if key in ("class", "labels") else 3
        if array.ndim != rank or array.dtype.kind not in "iufb" or not np.isfinite(array).all():
            raise NirError(f"{path}: {key}: expected finite numbers of {rank} dimensions, got shape {array.shape}")
    return Reference(*(arrays.get(k) for k in KEYS))


def f1(ours: np.ndarray, theirs: np.ndarray) -> float:
    """Agreement of spikes in time and place: 2 x common / all; 1 where neither spikes. Counts count as often."""
    both = float(ours.sum(dtype=np.float64) + theirs.sum(dtype=np.float64))
    return 2 * float(np.minimum(ours, theirs).sum(dtype=np.float64)) / both if both else 1.0


def decide(values: np.ndarray, decoder: str) -> np.ndarray:
    """Classes [samples] of an output's values, as `apical.sw.golden.decode` does."""
    if decoder == "last":
        score = values[:, -1]
    elif decoder == "rate":
        score = (values != 0).sum(axis=1)
    else:
        score = values.sum(axis=1)
    return np.asarray(score.argmax(axis=1))


def figures(values: np.ndarray, reference: Reference, decoder: str) -> dict[str, float | None]:
    """How near an output's values [samples, ticks, neurons] are to the reference.

    :returns: ``f1`` of spikes, ``error`` of values (root mean square, relative), ``class_agreement``, ``accuracy``;
        None where the reference doesn't have it.
    :raises NirError: shapes that disagree.
    """
    out: dict[str, float | None] = dict.fromkeys(("f1", "error", "class_agreement", "accuracy"))
    for key, theirs in (("spikes", reference.spikes), ("output", reference.output)):
        if theirs is not None and theirs.shape != values.shape:
            raise NirError(f"reference, {key}: expected shape {list(values.shape)}, got {list(theirs.shape)}")
    for key, labels in (("class", reference.classes), ("labels", reference.labels)):
        if labels is not None and len(labels) != len(values):
            raise NirError(f"reference, {key}: expected {len(values)} samples, got {len(labels)}")
    if reference.spikes is not None:
        out["f1"] = f1(values, reference.spikes)
    if reference.output is not None:
        theirs = reference.output.astype(np.float64)
        out["error"] = float(np.sqrt(((values - theirs) ** 2).mean() / max(float((theirs**2).mean()), 1e-30)))
    classes = decide(values, decoder)
    theirs_decided = reference.classes
    if (
        theirs_decided is None
        and (given := reference.spikes if reference.spikes is not None else reference.output) is not None
    ):
        theirs_decided = decide(given, decoder)
    if theirs_decided is not None:
        out["class_agreement"] = float((classes == theirs_decided).mean())
    if reference.labels is not None:
        out["accuracy"] = float((classes == reference.labels).mean())
    return out
