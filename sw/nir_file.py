"""A NIR file's groups and arrays, read by a process of its own.

HDF5's library believes what a damaged file declares: it may ask for gigabytes, never end, or crash. So a child reads,
within bounds of memory and time, and hands plain arrays back; it takes no pickles and follows no links. This file is
that child's program, too, and imports nothing of ours.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

LIMIT_FILE = 1 << 29  # bytes
LIMIT_NUMBERS = 1 << 26  # of all arrays together
LIMIT_NODES, LIMIT_EDGES, LIMIT_DEPTH = 4096, 16384, 16
LIMIT_MEMORY = 1 << 30  # bytes that reading may take: the numbers, and as much again
LIMIT_TEXT = 4096  # characters of one string
LIMIT_SECONDS, LIMIT_RATE = 4, 1 << 25  # of the processor, and bytes for which it gets one more
LIMIT_WAIT = 600  # seconds, on a busy machine

Tree = dict[str, Any]  # of str: dict, array, str or pairs of str
REFUSED, NO_H5PY = 3, 4  # exit statuses of the child


class NirError(ValueError):
    """A graph that can't be taken as it is; the message names node or edge, what was expected and what came.

    :ivar each: every reason found, where there are several.
    """

    def __init__(self, *each: str) -> None:
        super().__init__("; ".join(each))
        self.each = each


def load(path: Path) -> Tree:
    """Groups as dictionaries, data sets as arrays, strings, or lists of pairs of strings.

    :raises NirError: not HDF5, damaged, too large. :raises ImportError: h5py isn't installed (``apical[nir]``).
    """
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "tree.npz"
        command = [sys.executable, "-P", str(Path(__file__).resolve()), str(path), str(out)]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_WAIT, check=False)
        except subprocess.TimeoutExpired:
            raise NirError(f"{path}: expected an HDF5 file of NIR: reading it doesn't end") from None
        if ran.returncode == NO_H5PY:
            raise ImportError(f"{path}: reading NIR needs h5py: pip install 'apical[nir]'")
        if ran.returncode == REFUSED:
            raise NirError(f"{path}: {ran.stdout.strip()[:400]}")
        if ran.returncode:
            what = f"signal {-ran.returncode}" if ran.returncode < 0 else f"status {ran.returncode}"
            raise NirError(f"{path}: expected an HDF5 file of NIR: HDF5's library fails on it ({what})")
        with np.load(out, allow_pickle=False) as arrays:
            kept = {name: arrays[name] for name in arrays.files}
    shape = json.loads(kept.pop("tree").tobytes())
    return _unpacked(shape, kept)


def _unpacked(shape: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> Tree:
    out: Tree = {}
    for key, (kind, given) in shape.items():
        if kind == "group":
            out[key] = _unpacked(given, arrays)
        elif kind == "pairs":
            out[key] = [(a, b) for a, b in given]
        else:
            out[key] = arrays[given] if kind == "array" else given
    return out


def _packed(tree: Tree, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, given in tree.items():
        if isinstance(given, dict):
            out[key] = ("group", _packed(given, arrays))
        elif isinstance(given, list):
            out[key] = ("pairs", given)
        elif isinstance(given, str):
            out[key] = ("text", given)
        else:
            name = str(len(arrays))
            arrays[name] = given
            out[key] = ("array", name)
    return out


def _tree(group: Any, h5py: Any, where: str, depth: int, left: list[int]) -> Tree:
    """Groups and datasets under `group`; `left`: numbers and entries that may still come."""
    if depth > 3 * LIMIT_DEPTH:
        raise NirError(f"{where or '/'}: expected at most {LIMIT_DEPTH} nested graphs")
    out: Tree = {}
    for key in group:
        here = f"{where}/{key}"
        left[1] -= 1
        if left[1] < 0:
            raise NirError(f"expected at most {16 * LIMIT_NODES} entries")
        if not isinstance(group.get(key, getlink=True), h5py.HardLink):
            raise NirError(f"{here}: expected data inside the file, got a link")
        item = group[key]
        if isinstance(item, h5py.Group):
            out[key] = _tree(item, h5py, here, depth + 1, left)
        elif isinstance(item, h5py.Dataset):
            out[key] = _dataset(item, h5py, here, left)
    return out


def _dataset(item: Any, h5py: Any, where: str, left: list[int]) -> Any:
    if item.external or item.is_virtual:
        raise NirError(f"{where}: expected data inside the file, got a reference to another file")
    if item.shape is None:
        raise NirError(f"{where}: expected data, got an empty dataset")
    left[0] -= max(int(item.size), 1)
    if left[0] < 0:
        raise NirError(f"{where}: expected at most {LIMIT_NUMBERS} numbers in the file, got shape {item.shape}")
    if h5py.check_string_dtype(item.dtype) is not None or item.dtype.kind == "S":
        if item.size > 2 * LIMIT_EDGES or item.dtype.itemsize > LIMIT_TEXT:
            raise NirError(f"{where}: expected at most {2 * LIMIT_EDGES} strings, got shape {item.shape}")
        texts = [_text(s, where) for s in np.asarray(item[()]).reshape(-1).tolist()]
        if item.shape == ():
            return texts[0]
        if len(item.shape) == 2 and item.shape[1] == 2:
            return list(zip(texts[::2], texts[1::2], strict=True))
        raise NirError(f"{where}: expected one string or pairs of them, got shape {item.shape}")
    if item.dtype.kind not in "fiub":
        raise NirError(f"{where}: expected numbers, got {item.dtype}")
    return np.asarray(item[()])


def _text(given: Any, where: str) -> str:
    try:
        text = given.decode("utf8") if isinstance(given, bytes) else str(given)
    except UnicodeDecodeError:
        raise NirError(f"{where}: expected a string in UTF-8") from None
    if len(text) > LIMIT_TEXT:
        raise NirError(f"{where}: expected at most {LIMIT_TEXT} characters, got {len(text)}")
    return text


def _limit(size: int) -> None:
    """Bounds of this process for a file of `size` bytes, where the system has them."""
    try:
        import resource

        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        for what, wanted in (
            (resource.RLIMIT_AS, pages * resource.getpagesize() + LIMIT_MEMORY),
            (resource.RLIMIT_CPU, LIMIT_SECONDS + size // LIMIT_RATE),
            (resource.RLIMIT_CORE, 0),
        ):
            most = resource.getrlimit(what)[1]
            resource.setrlimit(what, (wanted if most == resource.RLIM_INFINITY else min(wanted, most), most))
    except (ImportError, OSError, ValueError):
        pass


def main(path: str, out: str) -> int:
    """The child: read `path`, write `out`; what is wrong goes to standard output."""
    try:
        import h5py
    except ImportError:
        return NO_H5PY
    _limit(Path(path).stat().st_size)
    try:
        with h5py.File(path, "r") as file:
            arrays: dict[str, np.ndarray] = {}
            tree = _packed(_tree(file, h5py, "", 0, [LIMIT_NUMBERS, 16 * LIMIT_NODES]), arrays)
        text = np.frombuffer(json.dumps(tree).encode(), np.uint8)
        np.savez(out, tree=text, **arrays)  # type: ignore[arg-type]
    except NirError as error:
        print(error)
        return REFUSED
    except Exception as error:  # h5py raises many kinds on damaged files
        reason = str(error).strip().splitlines()[0][:200] if str(error) else type(error).__name__
        print(f"expected an HDF5 file of NIR: {reason}")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
