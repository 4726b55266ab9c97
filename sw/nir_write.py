"""Export to NIR: graphs of live modules, and networks of ours, as far as the format holds them.

What it can't hold stands in metadata called ``apical_…`` (reset, comparison, graded spikes, floor), which
`apical.sw.nir_read` reads back, and what not even those hold is in the notes that `graph_of` gives.
Floors and saturations of the integers are no part of a NIR graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from apical.sw import nir_read
from apical.sw.laws import CubaLi, CubaLif, IntegrateFire, LeakyIntegrator, Lif
from apical.sw.network import Network, Population
from apical.sw.nir_profiles import RealArray
from apical.sw.nir_read import Edge, Graph, NirError, Tree

VERSION = "1.0"


def write(graph: Graph, path: Path) -> None:
    """Write a ``.nir`` file, to a temporary name first.

    :raises ImportError: h5py isn't installed (``apical[nir]``).
    """
    try:
        import h5py
    except ImportError as error:
        raise ImportError(f"{path}: writing NIR needs h5py: pip install 'apical[nir]'") from error
    new = path.with_name(path.name + ".new")
    with h5py.File(new, "w") as file:
        text = h5py.string_dtype()
        file.create_dataset("version", data=VERSION, dtype=text)
        root = file.create_group("node")
        root.create_dataset("type", data="NIRGraph", dtype=text)
        root.create_dataset("edges", data=np.array(graph.edges, object), dtype=text)
        nodes = root.create_group("nodes")
        for name, node in graph.nodes.items():
            group = nodes.create_group(name.replace("/", "|"))
            group.create_dataset("type", data=node.type, dtype=text)
            for key, value in node.fields.items():
                if isinstance(value, str):
                    group.create_dataset(key, data=value, dtype=text)
                else:
                    group.create_dataset(key, data=value)
            if node.meta:
                kept = group.create_group("metadata")
                for key, given in node.meta.items():
                    kept.create_dataset(f"apical_{key}", data=given, dtype=text)
    new.replace(path)


def graph_of(network: Network, dt: float = 1e-3) -> tuple[Graph, list[str]]:
    """A network of ours in NIR's terms, for source ``nir``; one real unit is one integer step.

    :param dt: seconds of a tick. :returns: the graph, and what it doesn't hold.
    :raises NirError: a law that NIR has no primitive for, by population.
    """
    lost = ["floors of decays, saturation of states and of graded spikes"]
    nodes: Tree = {}
    edges: list[Edge] = []
    for i in network.inputs:
        nodes[i.name] = {"type": "Input", "shape": np.array([i.size])}
    for p in network.populations:
        bias, node = _cell(p, dt, lost)
        nodes[p.name] = node
        for k, q in enumerate(network.incoming(p.name)):
            weights = q.dense().astype(np.float64) * p.law.gain
            given: Tree = {"type": "Linear", "weight": weights}
            if not k and bias.any():
                given = {"type": "Affine", "weight": weights, "bias": np.broadcast_to(bias, (p.size,)).copy()}
            nodes[q.name] = given
            loop = q.delay == 1 and _feeds(network, p.name, q.source)
            first = q.name
            if q.delay and not loop:
                first = f"{q.name} delay"
                nodes[first] = {"type": "Delay", "delay": np.full(weights.shape[1], q.delay * dt)}
                edges.append((first, q.name))
            edges += [(q.source, first), (q.name, p.name)]
    for name in network.outputs:
        out = f"{name} output"
        nodes[out] = {"type": "Output", "shape": np.array([network.nodes[name].size])}
        edges.append((name, out))
    return nir_read.graph_of({"version": VERSION, "node": {"type": "NIRGraph", "nodes": nodes, "edges": edges}}), lost


def _feeds(network: Network, start: str, end: str) -> bool:
    """Does a path lead from one node to the other (or are they one)?"""
    seen, waiting = {start}, [start]
    while waiting:
        name = waiting.pop()
        if name == end:
            return True
        for q in network.outgoing(name):
            if q.target not in seen:
                seen.add(q.target)
                waiting.append(q.target)
    return False


def _cell(p: Population, dt: float, lost: list[str]) -> tuple[RealArray, Tree]:
    """What goes into the weights' bias, and the node."""
    law, where = p.law, f"population {p.name!r}"
    if not isinstance(law, Lif | IntegrateFire | CubaLif | LeakyIntegrator | CubaLi):
        raise NirError(f"{where}: NIR has no primitive for the law {law.name}")
    full: dict[str, RealArray] = {k: np.broadcast_to(a, (p.size,)).astype(np.float64) for k, a in p.params.items()}
    for key, array in p.initial.items():
        if array.any():
            lost.append(f"{where}: start state {key!r}")
    node: Tree = {}
    drive = full.get("drive", np.zeros(p.size))
    if not isinstance(law, IntegrateFire):
        one = 1 << law.decay_bits
        with np.errstate(divide="ignore"):
            ticks = 1 / (1 - full["decay"] / one)
            cuba = isinstance(law, CubaLif | CubaLi)
            node = {"tau_mem" if cuba else "tau": ticks * dt, "r": ticks, "v_leak": _leak(drive, ticks, where)}
            if cuba:
                synapse = 1 / (1 - full["current_decay"] / one)
                node |= {"tau_syn": synapse * dt, "w_in": synapse}
    else:
        node = {"r": np.full(p.size, 1 / dt)}
    kind = {"lif": "LIF", "if": "IF", "cuba_lif": "CubaLIF", "leaky_integrator": "LI", "cuba_li": "CubaLI"}[law.name]
    meta: Mapping[str, str] = {}
    if isinstance(law, Lif | IntegrateFire | CubaLif):
        node |= {"v_threshold": full["threshold"], "v_reset": full.get("v_reset", np.zeros(p.size))}
        meta = {"reset": law.reset, "compare": law.compare, "spike": "graded" if law.count_bits > 1 else "single"}
        if law.floored:
            if np.unique(full["floor"]).size > 1:
                raise NirError(f"{where}: floors that differ between neurons can't be written")
            meta |= {"floor": repr(float(full["floor"][0]))}
        if law.sends == "membrane":
            meta |= {"read": "membrane"}
            lost.append(f"{where}: the shift of the membrane that it sends")
    elif law.shift:
        lost.append(f"{where}: the shift of the membrane that it sends")
    return full["bias"], {"type": kind, **node, "metadata": {f"apical_{k}": v for k, v in meta.items()}}


def _leak(drive: RealArray, ticks: RealArray, where: str) -> RealArray:
    """The leak that drives the membrane as much in every tick."""
    if (drive[np.isinf(ticks)] != 0).any():
        raise NirError(f"{where}: a membrane that loses nothing can't be driven by a leak")
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(drive == 0, 0.0, drive * ticks))
