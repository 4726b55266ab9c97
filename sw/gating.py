"""What gates did on a data set: which kernels are never, always or by the input on, and the work that is left."""

from __future__ import annotations

from typing import Any

import numpy as np

from apical.sw.golden import Trace, split_input
from apical.sw.kernel_gates import Gate
from apical.sw.network import IntArray, Network


def decisions(network: Network, gate: Gate, trace: Trace, x: IntArray) -> np.ndarray:
    """Which groups were on, [samples, windows, groups], in a run on input `x` [samples, ticks, inputs]."""
    values = trace.values[gate.source] if gate.source in trace.values else split_input(network, x)[gate.source]
    return gate.decide(values, network.point)


def shares(network: Network, gate: Gate, trace: Trace, x: IntArray) -> dict[str, Any]:
    """Kernels of a gate's target by how often they were on.

    :returns: `kernels`, `groups`; shares `never`, `always`, `by_input` (they add up to 1); `on`: mean share on;
        `on_by_group`.
    """
    by_group = decisions(network, gate, trace, x).mean((0, 1))
    target = network.nodes[gate.target]
    assert target.shape is not None
    never, always = float((by_group == 0).mean()), float((by_group == 1).mean())
    return {
        "kernels": target.shape[0],
        "groups": gate.groups,
        "never": never,
        "always": always,
        "by_input": float(((by_group > 0) & (by_group < 1)).mean()),
        "on": float(by_group.mean()),
        "on_by_group": [round(float(share), 4) for share in by_group],
    }


def work(network: Network, trace: Trace) -> dict[str, float]:
    """Multiply-accumulates per sample by projection, and ``gates``: those of the decisions themselves."""
    out = {p.name: p.operations(trace.counters) / trace.samples for p in network.projections}
    deciding = sum(trace.counters[f"gate {g.target}: windows"] * g.groups * g.channels for g in network.gates)
    return out | {"gates": deciding / trace.samples}


def report(network: Network, trace: Trace, x: IntArray) -> dict[str, Any]:
    """Shares of every gate, and the work of a run, per sample."""
    each = work(network, trace)
    return {
        "point": network.point,
        "gates": {g.target: shares(network, g, trace, x) for g in network.gates},
        "multiply_accumulates": sum(each.values()),
        "by_projection": each,
    }
