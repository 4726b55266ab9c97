"""Graphs of the Neuromorphic Intermediate Representation, read safely from HDF5 or taken from the `nir` package.

Nothing of a file is trusted: only plain numbers and short strings are read, inside the file, up to the limits below;
the `nir` package isn't needed. Nested graphs are flattened (`outer.inner`). Every error names the node or the edge.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from apical.sw import nir_file
from apical.sw.nir_file import LIMIT_DEPTH, LIMIT_EDGES, LIMIT_FILE, LIMIT_NODES, LIMIT_NUMBERS, NirError, Tree

__all__ = ["LIMIT_DEPTH", "LIMIT_EDGES", "LIMIT_FILE", "LIMIT_NODES", "LIMIT_NUMBERS", "NirError", "Tree"]
Edge = tuple[str, str]

# Fields of every primitive that are arrays of numbers: those it must have, then those it may have.
PRIMITIVES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "Input": (("shape",), ()),
    "Output": (("shape",), ()),
    "Affine": (("weight", "bias"), ()),
    "Linear": (("weight",), ()),
    "Scale": (("scale",), ()),
    "Conv1d": (("weight", "stride", "padding", "dilation", "groups", "bias"), ("input_shape",)),
    "Conv2d": (("weight", "stride", "padding", "dilation", "groups", "bias"), ("input_shape",)),
    "SumPool2d": (("kernel_size", "stride", "padding"), ()),
    "AvgPool2d": (("kernel_size", "stride", "padding"), ()),
    "Flatten": (("start_dim", "end_dim"), ("input_type",)),
    "Identity": ((), ("input_type",)),
    "Delay": (("delay",), ()),
    "Threshold": (("threshold",), ()),
    "LIF": (("tau", "r", "v_leak", "v_threshold"), ("v_reset",)),
    "LI": (("tau", "r", "v_leak"), ()),
    "CubaLIF": (("tau_mem", "tau_syn", "r", "v_leak", "v_threshold"), ("v_reset", "w_in")),
    "CubaLI": (("tau_mem", "tau_syn", "r", "v_leak"), ("w_in",)),
    "IF": (("r", "v_threshold"), ("v_reset",)),
    "I": (("r",), ()),
}
UNBOUNDED = {"tau", "tau_mem", "tau_syn", "r", "w_in"}  # an integrator's may be infinite
TEXT = {"padding"}  # may be a string


@dataclass(frozen=True)
class Node:
    """One primitive.

    :param fields: its arrays (or ``padding`` as a string).
    :param meta: metadata that this tool wrote or an importer read from a live module, by name without ``apical_``.
    """

    name: str
    type: str
    fields: Mapping[str, np.ndarray | str]
    meta: Mapping[str, str] = field(default_factory=dict)

    def array(self, key: str) -> np.ndarray:
        """A field as numbers.

        :raises NirError: it is missing or a string.
        """
        given = self.fields.get(key)
        if not isinstance(given, np.ndarray):
            raise NirError(f"node {self.name!r} ({self.type}): expected numbers in {key!r}, got {given!r}")
        return given


@dataclass(frozen=True)
class Graph:
    """A flat graph.

    :param nodes: by name. :param edges: sorted, none twice.
    :param notes: what was repaired or left out.
    """

    nodes: Mapping[str, Node]
    edges: tuple[Edge, ...]
    version: str = ""
    notes: tuple[str, ...] = ()

    @cached_property
    def _ends(self) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
        into: dict[str, list[str]] = {name: [] for name in self.nodes}
        out: dict[str, list[str]] = {name: [] for name in self.nodes}
        for a, b in self.edges:
            into[b].append(a)
            out[a].append(b)
        return into, out

    def into(self, name: str) -> list[str]:
        """Where a node's edges come from."""
        return self._ends[0][name]

    def out_of(self, name: str) -> list[str]:
        """Where a node's edges go."""
        return self._ends[1][name]


def read(path: Path) -> Graph:
    """The graph of a ``.nir`` file.

    :raises NirError: what is wrong with it. :raises ImportError: h5py isn't installed (``apical[nir]``).
    """
    if not path.is_file():
        raise NirError(f"{path}: expected a .nir file, got no such file")
    if path.stat().st_size > LIMIT_FILE:
        raise NirError(f"{path}: expected at most {LIMIT_FILE} bytes, got {path.stat().st_size}")
    tree = nir_file.load(path)
    try:
        return graph_of(tree)
    except NirError as error:
        raise NirError(*(f"{path}: {each}" for each in error.each)) from None


def of_nir(graph: Any) -> Graph:
    """The same of a `nir.NIRGraph` in memory.

    :raises NirError: what is wrong with it.
    """
    return graph_of({"version": "1.0", "node": _plain(graph.to_dict(), 0)})


def _plain(given: Any, depth: int) -> Any:
    """A nir dictionary as the tree that a file would give."""
    if depth > 4 * LIMIT_DEPTH:
        raise NirError(f"expected at most {LIMIT_DEPTH} nested graphs")
    if isinstance(given, Mapping):
        return {str(k): _plain(v, depth + 1) for k, v in given.items() if v is not None}
    if isinstance(given, str):
        return given
    if isinstance(given, list | tuple) and given and isinstance(given[0], list | tuple):
        return [tuple(str(s) for s in pair) for pair in given]
    if hasattr(given, "detach"):
        given = given.detach().cpu().numpy()
    return np.asarray(given)


def graph_of(tree: Mapping[str, Any]) -> Graph:
    """The flat, checked graph of a file's tree.

    :raises NirError: what is wrong with it.
    """
    notes: list[str] = []
    version = tree.get("version")
    if version is None:
        notes.append("the file says no version; read as NIR 1")
    elif not isinstance(version, str) or version.split(".")[0] not in ("0", "1"):
        raise NirError(f"expected NIR version 0 or 1, got {str(version)[:40]!r}")
    root = tree.get("node")
    if not isinstance(root, Mapping) or root.get("type") != "NIRGraph":
        raise NirError("expected a group 'node' of type NIRGraph")
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    _flatten(root, "", 0, nodes, edges, notes)
    unique = sorted(set(edges))
    if len(unique) < len(edges):
        twice = Counter(edges).most_common(1)[0][0]
        notes.append(f"edge {_arrow(twice)} is there more than once; taken once")
    for a, b in unique:
        if nodes[b].type == "Input" or nodes[a].type == "Output":
            what = f"into the input {b!r}" if nodes[b].type == "Input" else f"out of the output {a!r}"
            raise NirError(f"edge {_arrow((a, b))}: leads {what}")
    for kind in ("Input", "Output"):
        if not any(n.type == kind for n in nodes.values()):
            raise NirError(f"expected a node of type {kind}, got none")
    return _reachable(Graph(nodes, tuple(unique), str(version or ""), tuple(notes)))


def _arrow(edge: Edge) -> str:
    return f"{edge[0]!r} -> {edge[1]!r}"


def _flatten(
    tree: Mapping[str, Any], outer: str, depth: int, nodes: dict[str, Node], edges: list[Edge], notes: list[str]
) -> tuple[str, str]:
    """Add a graph's nodes and edges under names that begin with `outer`; its own input and output nodes."""
    where = f"graph {outer[:-1]!r}: " if outer else ""
    if depth > LIMIT_DEPTH:
        raise NirError(f"{where}expected at most {LIMIT_DEPTH} nested graphs")
    given, pairs = tree.get("nodes"), tree.get("edges")
    if not isinstance(given, Mapping) or not given:
        raise NirError(f"{where}expected nodes, got none")
    if isinstance(pairs, np.ndarray) and pairs.size == 0:
        pairs = []
    if not isinstance(pairs, list) or not all(isinstance(p, tuple) and len(p) == 2 for p in pairs):
        raise NirError(f"{where}expected edges, pairs of node names")
    if len(nodes) + len(given) > LIMIT_NODES or len(edges) + len(pairs) > LIMIT_EDGES:
        raise NirError(f"{where}expected at most {LIMIT_NODES} nodes and {LIMIT_EDGES} edges")
    ends: dict[str, tuple[str, str]] = {}
    for key in sorted(given):
        part, name = given[key], f"{outer}{key}"
        if not isinstance(part, Mapping):
            raise NirError(f"node {name!r}: expected a group with a type")
        if part.get("type") == "NIRGraph":
            ends[key] = _flatten(part, f"{name}.", depth + 1, nodes, edges, notes)
            continue
        if name in nodes:
            raise NirError(f"node {name!r}: the name comes twice once nested graphs are flattened")
        nodes[name] = _node(name, part, notes)
        ends[key] = (name, name)
    for a, b in pairs:
        for end in (a, b):
            if end not in ends:
                known = ", ".join(sorted(ends)[:20])
                raise NirError(f"{where}edge {_arrow((outer + a, outer + b))}: no node {end!r}; has {known}")
        edges.append((ends[a][1], ends[b][0]))
    if not depth:
        return "", ""
    sides = {k: [n for n in given if nodes.get(outer + n) and nodes[outer + n].type == k] for k in ("Input", "Output")}
    for kind, found in sides.items():
        if len(found) != 1:
            raise NirError(f"{where}expected one {kind} in a nested graph, got {len(found)}")
        at = outer + found[0]  # becomes a junction
        nodes[at] = Node(at, "Identity", {})
    return outer + sides["Input"][0], outer + sides["Output"][0]


def _node(name: str, part: Mapping[str, Any], notes: list[str]) -> Node:
    kind = part.get("type")
    if not isinstance(kind, str) or kind not in PRIMITIVES:
        raise NirError(f"node {name!r}: expected a type of {', '.join(sorted(PRIMITIVES))}, got {str(kind)[:60]!r}")
    where = f"node {name!r} ({kind})"
    need, may = PRIMITIVES[kind]
    fields: dict[str, np.ndarray | str] = {}
    for key in (*need, *may):
        value = part.get(key)
        if isinstance(value, Mapping):  # in memory, shapes are dictionaries of one entry
            value = next(iter(value.values()), None)
        if value is None and kind in ("Input", "Output") and isinstance(part.get(f"{kind.lower()}_type"), Mapping):
            value = next(iter(part[f"{kind.lower()}_type"].values()), None)
        if value is None:
            if key in need:
                raise NirError(f"{where}: expected a field {key!r}, got none; has {', '.join(sorted(part))}")
            if key == "v_reset":
                notes.append(f"{where}: no v_reset; taken as 0")
            continue
        if isinstance(value, str):
            if key not in TEXT or value not in ("same", "valid"):
                raise NirError(f"{where}, {key!r}: expected numbers, got {value[:60]!r}")
            fields[key] = value
            continue
        fields[key] = _numbers(value, key, where)
    meta = part.get("metadata")
    own = {k.removeprefix("apical_"): v for k, v in _meta(meta) if k.startswith("apical_")}
    return Node(name, kind, fields, own)


def _meta(given: Any) -> Iterator[tuple[str, str]]:
    if isinstance(given, Mapping):
        for key, value in given.items():
            if isinstance(value, str):
                yield str(key), value


def _numbers(value: Any, key: str, where: str) -> np.ndarray:
    array = np.asarray(value)
    if array.dtype.kind not in "fiub" or array.ndim > 8:
        raise NirError(f"{where}, {key!r}: expected numbers, got {array.dtype} of {array.ndim} dimensions")
    if not array.size:
        raise NirError(f"{where}, {key!r}: expected numbers, got shape {array.shape}")
    if array.dtype.kind == "f":
        bad = np.isnan(array) if key in UNBOUNDED else ~np.isfinite(array)
        if bad.any():
            raise NirError(f"{where}, {key!r}: expected finite numbers, got {array[bad][0]}")
    return array


def _reachable(graph: Graph) -> Graph:
    """Without the nodes that lead to no output; every other node must have an input."""
    useful = {n for n, node in graph.nodes.items() if node.type == "Output"}
    waiting = list(useful)
    while waiting:
        for a in graph.into(waiting.pop()):
            if a not in useful:
                useful.add(a)
                waiting.append(a)
    for name in sorted(useful):
        if not graph.into(name) and graph.nodes[name].type != "Input":
            raise NirError(f"node {name!r} ({graph.nodes[name].type}): no edge leads into it")
    if not any(graph.nodes[n].type == "Input" for n in useful):
        raise NirError("no path leads from an input to an output")
    dropped = sorted(n for n in graph.nodes if n not in useful and graph.nodes[n].type != "Input")
    notes = [f"node {n!r} ({graph.nodes[n].type}): leads to no output; left out" for n in dropped]
    nodes = {n: node for n, node in sorted(graph.nodes.items()) if n in useful or node.type == "Input"}
    edges = tuple(e for e in graph.edges if e[0] in nodes and e[1] in nodes)
    return Graph(nodes, edges, graph.version, (*graph.notes, *notes))
