"""A graph under a source profile as cells and wires (docs/reference/nir.md), ready to be computed.

`apical.sw.nir_twin` runs it, `apical.sw.nir_import` turns it into laws.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import scipy.sparse as sparse
from scipy.sparse import csgraph
from torch import Tensor

from apical.sw import nir_profiles
from apical.sw.nir_profiles import Cell, Profile
from apical.sw.nir_read import Graph, NirError, Node
from apical.sw.nir_shapes import CELLS, Linear, Shape, shapes, stripped

LIMIT_WIRES = 4096
LIMIT_DELAY = 1024  # ticks

_Path = tuple[str, int, tuple[Linear, ...]]


@dataclass(frozen=True)
class Wire:
    """What a source's values become on their way to a cell.

    :param source: an input or a cell. :param delay: ticks. :param steps: linear nodes, in the order of the values' way.
    """

    source: str
    delay: int
    steps: tuple[Linear, ...]

    def apply(self, x: Tensor) -> Tensor:
        """Values [batch, ...] of the source: [batch, neurons] of the target."""
        for step in self.steps:
            x = step.apply(x)
        return x.reshape(x.shape[0], -1)


@dataclass(frozen=True)
class FloatNetwork:
    """Cells in an order in which wires without delay point forward.

    :param inputs: shapes by name; `x` holds their channels one after the other.
    :param wires: into each cell. :param outputs: cells that are read, the first is the classifier's.
    :param membranes: outputs whose membranes are read in place of their spikes.
    """

    inputs: Mapping[str, Shape]
    cells: Mapping[str, Cell]
    wires: Mapping[str, tuple[Wire, ...]]
    outputs: tuple[str, ...]
    source: str
    dt: float
    notes: tuple[str, ...] = ()
    membranes: frozenset[str] = field(default_factory=frozenset)

    @property
    def input_size(self) -> int:
        """Channels of all inputs together."""
        return sum(math.prod(s) for s in self.inputs.values())


def settings(graph: Graph, given: Iterable[str]) -> dict[str, dict[str, str]]:
    """``[NODE.]FIELD=VALUE`` by node; '' stands for all. Metadata of the file count as given for their node.

    :raises NirError: another form, an unknown node or field.
    """
    out: dict[str, dict[str, str]] = {name: dict(n.meta) for name, n in graph.nodes.items() if n.type in CELLS}
    known = {*nir_profiles.SETTABLE, *nir_profiles.NUMBERS, "read"}
    for fields_ in out.values():
        for key in set(fields_) - known:
            del fields_[key]
    out[""] = {}
    for text in given:
        path, equals, value = text.partition("=")
        node, _, key = path.strip().rpartition(".")
        if not equals or (node and node not in out):
            nodes = ", ".join(n for n in sorted(out) if n)
            raise NirError(f"set {text!r}: expected [NODE.]FIELD=VALUE with a NODE of {nodes}")
        if key == "read" and value.strip() not in ("spikes", "membrane"):
            raise NirError(f"set {text!r}: expected spikes or membrane")
        if key not in known:
            raise NirError(f"set {text!r}: no field {key!r}; has {', '.join(sorted(known))}")
        for name in [node] if node else out:
            out[name][key] = value.strip()
    return out


def of_graph(graph: Graph, source: str, dt: float | None = None, given: Iterable[str] = ()) -> FloatNetwork:
    """A graph's cells and wires under a source's profile.

    :param dt: seconds of a tick; default: what the source usually writes.
    :param given: overrides, ``[NODE.]FIELD=VALUE``.
    :raises NirError: what can't be taken, with node or edge.
    """
    if source not in nir_profiles.PROFILES:
        raise NirError(f"source: expected one of {', '.join(nir_profiles.PROFILES)}, got {source!r}")
    profile = nir_profiles.PROFILES[source]
    if dt is not None and not (math.isfinite(dt) and dt > 0):
        raise NirError(f"dt: expected seconds above 0, got {dt}")
    profile = replace(profile, dt=profile.dt if dt is None else dt)
    sets, notes = settings(graph, given), list(graph.notes)
    found = shapes(graph)
    loops, back = _cycles(graph)
    refused: list[str] = []
    cells, membranes = {}, set()
    for name, node in graph.nodes.items():
        if node.type not in CELLS:
            continue
        if sets[name].pop("read", "spikes") == "membrane":
            membranes.add(name)
        alone = all(graph.nodes[n].type not in CELLS for n in loops.get(name, frozenset({name})) - {name})
        try:
            cells[name] = _cell(node, found[name][0], profile, sets[name], name in loops and alone, notes)
        except NirError as error:
            refused += error.each
    if refused:
        raise NirError(*refused)
    maker = _Wires(graph, found, back, profile, notes)
    wires = {name: maker.into(name) for name in cells}
    outputs = []
    for name in sorted(n for n, node in graph.nodes.items() if node.type == "Output"):
        last = maker.into(name)
        if len(last) == 1 and last[0].source in cells and not last[0].steps and not last[0].delay:
            outputs.append(last[0].source)
            continue
        shape = found[name][0]
        cells[name], wires[name] = _summing(name, shape, profile), last
        outputs.append(name)
    inputs = {n: found[n][1] for n, node in graph.nodes.items() if node.type == "Input"}
    order = _order(inputs, cells, wires)
    kept = frozenset(m for m in membranes if m in outputs)
    return FloatNetwork(
        inputs, {n: cells[n] for n in order}, wires, tuple(dict.fromkeys(outputs)), source, profile.dt or 0.0,
        tuple(notes), kept,
    )  # fmt: skip


def _cell(
    node: Node, shape: Shape, profile: Profile, own: Mapping[str, str], recurrent: bool, notes: list[str]
) -> Cell:
    where = f"node {node.name!r} ({node.type})"
    numbers = {k: nir_profiles.number(v, where, k) for k, v in own.items() if k in nir_profiles.NUMBERS}
    fields_ = {k: v for k, v in own.items() if k not in nir_profiles.NUMBERS}
    return nir_profiles.cell(node, shape, nir_profiles.overridden(profile, fields_, where), numbers, recurrent, notes)


def _summing(name: str, shape: Shape, profile: Profile) -> Cell:
    """A read-out without memory, where a graph ends in a linear node."""
    none, one = np.zeros(math.prod(shape)), np.ones(math.prod(shape))
    return Cell(name, "sum", shape, none, one, none, start=none, dtype=profile.dtype)


def _cycles(graph: Graph) -> tuple[dict[str, frozenset[str]], set[tuple[str, str]]]:
    """Nodes that lie on cycles with those they share them with, and the edges that lead back."""
    names = list(graph.nodes)
    place = {n: k for k, n in enumerate(names)}
    rows, columns = [place[a] for a, _ in graph.edges], [place[b] for _, b in graph.edges]
    matrix = sparse.csr_matrix((np.ones(len(rows), np.int8), (rows, columns)), shape=(len(names), len(names)))
    _, label = csgraph.connected_components(matrix, directed=True, connection="strong")
    groups: dict[int, list[str]] = {}
    for name, k in zip(names, label, strict=True):
        groups.setdefault(int(k), []).append(name)
    itself = {a for a, b in graph.edges if a == b}
    loops = {n: frozenset(g) for g in groups.values() for n in g if len(g) > 1 or n in itself}
    for n, group in loops.items():
        if not any(graph.nodes[m].type in CELLS for m in group):
            around = ", ".join(repr(m) for m in sorted(group)[:8])
            raise NirError(f"node {n!r} ({graph.nodes[n].type}): a cycle without a state: {around}")
    level = {n: 0 for n, node in graph.nodes.items() if node.type == "Input"}
    waiting = list(level)
    for n in waiting:  # grows while it is walked: breadth first
        for b in graph.out_of(n):
            if b not in level:
                level[b] = level[n] + 1
                waiting.append(b)
    far = len(names)
    back = {(a, b) for a, b in graph.edges if b in loops.get(a, ()) and level.get(b, far) <= level.get(a, far)}
    return loops, back


@dataclass
class _Wires:
    """Walks from a cell back to the sources of its currents."""

    graph: Graph
    found: Mapping[str, tuple[Shape, Shape]]
    back: set[tuple[str, str]]
    profile: Profile
    notes: list[str]
    count: int = 0

    def into(self, name: str) -> tuple[Wire, ...]:
        """Wires into a cell or an output; those without delay first."""
        paths = self._paths(name, frozenset())
        paths.sort(key=lambda path: (path[1], path[0], [s.node.name for s in path[2]]))
        biased: set[str] = set()
        wires = []
        for source, delay, steps in paths:
            kept = tuple(replace(s, biased=s.node.name not in biased) for s in steps)
            biased |= {s.node.name for s in steps}
            wires.append(Wire(source, delay, kept))
        return tuple(wires)

    def _paths(self, name: str, seen: frozenset[str]) -> list[_Path]:
        out: list[_Path] = []
        for a in self.graph.into(name):
            node, late = self.graph.nodes[a], int((a, name) in self.back)
            if node.type == "Input" or node.type in CELLS:
                self.count += 1
                if self.count > LIMIT_WIRES:
                    raise NirError(f"node {name!r}: expected at most {LIMIT_WIRES} ways from cells to cells")
                out.append((a, late, ()))
                continue
            if a in seen or len(seen) > 200:
                raise NirError(
                    f"node {a!r} ({node.type}): a cycle without a state, or more than 200 linear nodes in a row"
                )
            for source, delay, steps in self._paths(a, seen | {a}):
                out += [(source, max(late, d), (*steps, *more)) for d, more in self._step(node, delay, steps)]
                if len(out) > LIMIT_WIRES:
                    raise NirError(f"node {name!r}: expected at most {LIMIT_WIRES} ways from cells to cells")
        return out

    def _step(self, node: Node, delay: int, before: tuple[Linear, ...]) -> list[tuple[int, tuple[Linear, ...]]]:
        """Ways through a node: one, but for a `Delay` of several times."""
        taken, given = self.found[node.name]
        if node.type == "Delay":
            return self._delayed(node, delay, before)
        same = node.type in ("Identity", "Flatten")
        return [(delay, () if same and stripped(taken) == stripped(given) else (Linear(node, taken, given),))]

    def _delayed(self, node: Node, delay: int, before: tuple[Linear, ...]) -> list[tuple[int, tuple[Linear, ...]]]:
        shape = self.found[node.name][0]
        dt = self.profile.dt or 1.0
        unit = {"seconds": dt, "ticks": 1.0, "seconds_dt": dt * dt}[self.profile.tau_unit]
        exact = np.asarray(node.array("delay"), np.float64) / unit
        ticks = np.rint(exact)
        if ticks.min() < 0 or ticks.max() > LIMIT_DELAY:
            raise NirError(
                f"node {node.name!r} (Delay): expected 0 to {LIMIT_DELAY} ticks, got {ticks.min()} to {ticks.max()}"
            )
        if np.abs(exact - ticks).max() > 0.01:
            note = f"node {node.name!r} (Delay): rounded to whole ticks, by up to {np.abs(exact - ticks).max():.2f}"
            if note not in self.notes:
                self.notes.append(note)
        for s in before:
            if ticks.max() and "bias" in s.node.fields and np.any(s.node.array("bias")):
                raise NirError(
                    f"node {node.name!r} (Delay): would delay the bias of {s.node.name!r}; put the Delay before it"
                )
        values = np.unique(ticks)
        if len(values) > 64:
            raise NirError(f"node {node.name!r} (Delay): expected at most 64 different delays, got {len(values)}")
        if len(values) == 1:
            return [(delay + int(values[0]), ())]
        full = np.broadcast_to(ticks.reshape(stripped(ticks.shape)), stripped(shape)).reshape(shape)
        out: list[tuple[int, tuple[Linear, ...]]] = []
        for v in values:
            mask = Node(f"{node.name} {int(v)}", "Scale", {"scale": (full == v).astype(np.float32)})
            out.append((delay + int(v), (Linear(mask, shape, shape),)))
        return out


def _order(inputs: Mapping[str, Shape], cells: Mapping[str, Cell], wires: Mapping[str, tuple[Wire, ...]]) -> list[str]:
    """Cells so that wires without delay point forward."""
    need = {n: {w.source for w in wires[n] if not w.delay} - set(inputs) for n in cells}
    feeds: dict[str, list[str]] = {n: [] for n in cells}
    for n, sources in need.items():
        for s in sources:
            feeds[s].append(n)
    left = {n: len(s) for n, s in need.items()}
    out = [n for n in cells if not left[n]]
    for n in out:
        for b in feeds[n]:
            left[b] -= 1
            if not left[b]:
                out.append(b)
    if len(out) < len(cells):
        raise NirError(f"nodes {sorted(set(cells) - set(out))[:8]}: a cycle without a delay")
    return out
