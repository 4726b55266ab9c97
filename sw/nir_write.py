"""Export to NIR: graphs of live modules, and networks of ours, as far as the format holds them.

What it can't hold stands in metadata called ``apical_…`` (reset, comparison, graded spikes, floor), which
`apical.sw.nir_read` reads back, and what not even those hold is in the notes that `graph_of` gives.
Floors and saturations of the integers are no part of a NIR graph.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np

from apical.sw import nir_read
from apical.sw.geometry import Shape
from apical.sw.laws import CubaLi, CubaLif, IntegrateFire, LeakyIntegrator, Lif
from apical.sw.network import Network, Population, Projection
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
        nodes[i.name] = {"type": "Input", "shape": np.array(i.shape or [i.size])}
    for p in network.populations:
        bias, node = _cell(p, dt, lost)
        nodes[p.name] = node
        bearer = next((q.name for q in network.incoming(p.name) if q.pattern != "pool"), None)
        if bias.any() and bearer is None:
            raise NirError(f"population {p.name!r}: NIR has no place for a bias behind pools alone")
        for q in network.incoming(p.name):
            source = network.nodes[q.source]
            way = _linear(q, source.shape, p, bias if q.name == bearer else np.zeros(p.size))
            if q.delay and not (q.delay == 1 and _feeds(network, p.name, q.source)):
                shape = source.shape or (source.size,)
                way = [(f"{q.name} delay", {"type": "Delay", "delay": np.full(shape, q.delay * dt)}), *way]
            nodes |= dict(way)
            edges += pairwise([q.source, *(name for name, _ in way), p.name])
    for name in network.outputs:
        out = f"{name} output"
        nodes[out] = {"type": "Output", "shape": np.array(network.nodes[name].shape or [network.nodes[name].size])}
        edges.append((name, out))
    return nir_read.graph_of({"version": VERSION, "node": {"type": "NIRGraph", "nodes": nodes, "edges": edges}}), lost


def _linear(q: Projection, source: Shape | None, p: Population, bias: RealArray) -> list[tuple[str, Tree]]:
    """A projection's nodes in the order of the events' way; the last but a pool's has the projection's name.

    :param source: shape of the map that it reads, if any. :param bias: of the target's neurons.
    """
    where, gain = f"projection {q.name!r}", p.law.gain
    g = q.geometry
    if g is None:
        if p.shape is not None:
            raise NirError(f"{where}: NIR has no node that makes a map of what dense weights give")
        given: Tree = {"type": "Linear", "weight": q.weights.astype(np.float64) * gain}
        if bias.any():
            given |= {"type": "Affine", "bias": bias}
        flat: Tree = {"type": "Flatten", "start_dim": np.array(0), "end_dim": np.array(-1)}
        flat["input_type"] = np.array(source or (q.weights.shape[1],))
        return [(q.name, given)] if source is None else [(f"{q.name} flatten", flat), (q.name, given)]
    slide = {"stride": np.array(g.stride), "padding": np.array(g.padding)}
    if q.pattern == "pool":
        pool: Tree = {"type": "SumPool2d", "kernel_size": np.array(g.kernel), **slide}
        scale: Tree = {"type": "Scale", "scale": np.full((g.channels, 1, 1), float(gain))}
        return [(q.name, pool), (f"{q.name} gain", scale)] if gain != 1 else [(q.name, pool)]
    by_channel = bias.reshape(g.channels, -1)
    if (by_channel != by_channel[:, :1]).any():
        raise NirError(f"{where}: NIR has no place for biases that differ within a channel")
    conv: Tree = {"type": "Conv2d", "weight": q.weights.astype(np.float64) * gain, "bias": by_channel[:, 0].copy()}
    conv |= {"dilation": np.array(g.dilation), "groups": np.array(g.groups), "input_shape": np.array(g.source[1:])}
    return [(q.name, {**conv, **slide})]


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
    full: dict[str, RealArray] = {
        k: np.broadcast_to(p.spread(a), (p.size,)).astype(np.float64) for k, a in p.params.items()
    }
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
    node = {k: a.reshape(p.shape or (p.size,)) for k, a in node.items()}
    return full["bias"], {"type": kind, **node, "metadata": {f"apical_{k}": v for k, v in meta.items()}}


def _leak(drive: RealArray, ticks: RealArray, where: str) -> RealArray:
    """The leak that drives the membrane as much in every tick."""
    if (drive[np.isinf(ticks)] != 0).any():
        raise NirError(f"{where}: a membrane that loses nothing can't be driven by a leak")
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(drive == 0, 0.0, drive * ticks))
