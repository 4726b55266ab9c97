"""Damaged NIR graphs: ``python fuzz_nir.py COUNT SEED FOLDER``. Every one must be refused with a message, or work.

One in eight is a file of stored peers' graphs with bytes changed, cut or swapped; the others are trees whose nodes,
edges and arrays are changed before they are checked. Exit status 1 with the seed of the case where anything but
NirError comes out.
"""

from __future__ import annotations

import copy
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import warnings
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

from apical.sw import calibrate, nir_file, nir_import, nir_read, nir_twin
from apical.sw.nir_profiles import PROFILES
from apical.sw.nir_read import NirError, Tree

STORED = Path(__file__).parent / "expected" / "peers"
LARGEST = 2 << 30  # bytes of memory
ODD = (0, 1, -1, 2, 1 << 20, 1 << 31, -(1 << 40), 1e-30, 1e30, math.nan, math.inf, -math.inf, 0.5)


def seeds(folder: Path) -> list[Path]:
    """Stored graphs to begin from."""
    out = []
    for file in sorted(STORED.glob("*.zip")):
        with zipfile.ZipFile(file) as archive:
            for name in archive.namelist():
                if name.endswith(".nir"):
                    target = folder / f"{file.stem}-{name}"
                    target.write_bytes(archive.read(name))
                    out.append(target)
    return out


def tree_of(path: Path) -> Tree:
    """A file's tree."""
    return nir_file.load(path)


def damaged_bytes(data: bytes, rng: random.Random) -> bytes:
    """A file with some bytes changed, a part cut, doubled or swapped."""
    out = bytearray(data)
    kind = rng.random()
    if kind < 0.6:
        for _ in range(rng.choice((1, 2, 8, 64))):
            out[rng.randrange(len(out))] = rng.choice((0, 0xFF, rng.randrange(256)))
    elif kind < 0.8:
        del out[rng.randrange(len(out)) :]
    elif kind < 0.9:
        a, b, n = rng.randrange(len(out)), rng.randrange(len(out)), rng.randrange(1, 256)
        out[a : a + n] = out[b : b + n]
    else:
        out = bytearray(rng.randbytes(rng.randrange(2000)))
        if rng.random() < 0.5:
            out[:8] = b"\x89HDF\r\n\x1a\n"
    return bytes(out)


def damaged_tree(tree: Tree, rng: random.Random) -> Tree:
    """A tree with some of its nodes, edges, fields changed."""
    out = copy.deepcopy(tree)
    for _ in range(rng.choice((1, 1, 2, 4))):
        _damage(out, rng)
    return out


def _damage(tree: Tree, rng: random.Random) -> None:
    graph = tree.get("node")
    if (
        not isinstance(graph, dict)
        or not isinstance(graph.get("nodes"), dict)
        or not isinstance(graph.get("edges"), list)
    ):
        return
    nodes, edges = graph["nodes"], graph["edges"]
    names = sorted(nodes)
    if not names:
        return
    name = rng.choice(names)
    node, kind = nodes[name], rng.randrange(14)
    if kind == 0 and edges:
        edges.pop(rng.randrange(len(edges)))
    elif kind == 1:
        edges.append((rng.choice(names), rng.choice(names)))
    elif kind == 2:
        edges.append((rng.choice(names), rng.choice(("", "nobody", name.upper(), "../x", "\n"))))
    elif kind == 3:
        del nodes[name]
    elif kind == 4:
        nodes[rng.choice(("", "a.b", "x" * 300, "\x00", name + " "))] = copy.deepcopy(node)
    elif kind == 5 and isinstance(node, dict):
        node["type"] = rng.choice((*nir_read.PRIMITIVES, "NIRGraph", "Izhikevich", 7, None))
    elif kind == 6:
        odd: tuple[Any, ...] = ("x", np.zeros(3), [])
        nodes[name] = copy.deepcopy(graph) if rng.random() < 0.7 else rng.choice(odd)
    elif kind == 7:
        graph["edges"] = rng.choice(([], "edges", np.zeros((2, 2)), [("a",)], [("a", "b", "c")]))
    elif kind == 8:
        tree["version"] = rng.choice(("2.0", "", "x", np.zeros(2), None, "0.9"))
    elif isinstance(node, dict):
        keys = sorted(k for k in node if k != "type")
        if keys:
            key = rng.choice(keys)
            node[key] = _odd(node[key], rng)


def _odd(value: Any, rng: random.Random) -> Any:
    array = np.array(value, copy=True) if isinstance(value, np.ndarray) else np.zeros(3)
    kind = rng.randrange(9)
    if kind == 0:
        return np.full(array.shape, rng.choice(ODD))
    if kind == 1 and array.size:
        flat = array.astype(np.float64).reshape(-1)
        flat[rng.randrange(flat.size)] = rng.choice(ODD)
        return flat.reshape(array.shape)
    if kind == 2:
        return array[..., :-1] if array.ndim else array
    if kind == 3:
        return np.concatenate([array.reshape(-1), array.reshape(-1)])
    if kind == 4:
        return array.reshape(1, *array.shape)
    if kind == 5:
        return rng.choice(("same", "valid", "text", b"x", None, {}, {"input": np.array([3])}, [1, 2]))
    if kind == 6:
        with np.errstate(all="ignore"):
            return array.astype(rng.choice((np.float16, np.int8, np.complex64, np.bool_)))
    if kind == 7:
        return array.T
    return np.array(rng.choice(ODD))


def forked(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """In place of `subprocess.run` of `apical.sw.nir_file`: the same program in a fork, which need not start Python.

    One in fifty is run as it is.
    """
    forked.count += 1  # type: ignore[attr-defined]
    if forked.count % 50 == 0:  # type: ignore[attr-defined]
        ran: subprocess.CompletedProcess[str] = subprocess.run(command, **options)
        return ran
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if not child:
            os.dup2(said.fileno(), 1)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            status = 70
            try:
                status = nir_file.main(*command[-2:])
                sys.stdout.flush()
            finally:
                os._exit(status)
        ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return subprocess.CompletedProcess(command, ended, said.read(), "")


forked.count = 0  # type: ignore[attr-defined]


def try_graph(graph: nir_read.Graph, rng: random.Random) -> bool:
    """Twin and our terms; True where nothing was refused."""
    network = nir_twin.of_graph(graph, rng.choice(sorted(PROFILES)))
    if network.input_size > 4096 or sum(c.size for c in network.cells.values()) > 20000:
        return True  # sound, but slow to run by the thousand
    x = np.random.default_rng(0).integers(0, 2, (1, 3, network.input_size))
    nir_twin.run(network, x)
    real = nir_import.of_data(network, x, nir_import.Formats())
    if rng.random() < 0.2 and sum(p.weights.size for p in real.projections) < 5000:
        calibrate.calibrate(real, x)
    return True


def one(seed: int, files: list[Path], trees: dict[Path, Tree], folder: Path) -> bool:
    """One case; True where it works, False where it is refused."""
    rng = random.Random(seed)
    file = rng.choice(files)
    try:
        if rng.random() < 0.125:
            path = folder / "case.nir"
            path.write_bytes(damaged_bytes(file.read_bytes(), rng))
            return try_graph(nir_read.read(path), rng)
        return try_graph(nir_read.graph_of(damaged_tree(trees[file], rng)), rng)
    except NirError as error:
        assert str(error).strip()
        return False


def main() -> None:
    """Run the cases; print how many were refused and the largest memory."""
    warnings.simplefilter("ignore")  # of overflows: what isn't finite is refused where it matters
    setattr(nir_file, "subprocess", SimpleNamespace(run=forked, TimeoutExpired=subprocess.TimeoutExpired))  # noqa: B010
    nir_file.LIMIT_SECONDS = 1
    count, first, folder = int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3])
    torch.set_num_threads(1)
    files = seeds(folder)
    trees = {file: tree_of(file) for file in files}
    worked = 0
    for seed in range(first, first + count):
        try:
            worked += one(seed, files, trees, folder)
        except BaseException as error:
            print(f"seed {seed}: {type(error).__name__}: {error}", file=sys.stderr, flush=True)
            raise
        kinds = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
        peak = max(resource.getrusage(kind).ru_maxrss for kind in kinds) * 1024
        if peak > LARGEST:
            raise SystemExit(f"seed {seed}: memory {peak} bytes")
        if (seed - first) % 1000 == 999:
            print(f"{seed - first + 1} cases, {worked} worked, {peak >> 20} MiB", file=sys.stderr, flush=True)
    print(f"{count} cases, {count - worked} refused, {worked} worked, {peak >> 20} MiB")


if __name__ == "__main__":
    main()
