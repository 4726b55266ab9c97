"""`apical bench two-point`: both compartments in the same cycles, lane utilization, area per lane, multipliers.

A synapse lane pair is one basal and one apical lane of one cell; a neuron lane evaluates the law.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from apical.sw import cli_common as common
from apical.sw.cli_common import CliError
from apical.sw.gates import CONTEXT, gated
from apical.sw.golden import split_input
from apical.sw.laws import Format
from apical.sw.network import Input, IntArray, Network, Population, Projection

if TYPE_CHECKING:
    from apical.hw.design import HardwareOptions

NETWORKS = {"two-view-digits": "two-view-digits", "grid-mcc": "grid"}  # of the zoo, on which data set
LANES = (128, 8, 1)  # at most: synapse, neuron, event lanes
AREA_LANES = 8  # neuron lanes of the smaller design; the larger one has twice as many
AREA = ("lut", "ff", "dsp")


def _format(low: int, high: int) -> Format:
    """The narrowest that holds the values."""
    return Format(max(high.bit_length(), (-low - 1).bit_length()) + 1) if low < 0 else Format(high.bit_length(), False)


def lone(network: Network, population: Population, cells: int) -> Network:
    """The first cells of one population as a network: its sources are inputs, its weights its own."""
    inputs: dict[str, Input] = {}
    projections: list[Projection] = []
    for q in network.incoming(population.name):
        weights = q.weights[:cells]
        if q.source == population.name:
            projections.append(replace(q, weights=weights[:, :cells]))
        else:
            node = network.nodes[q.source]
            inputs[q.source] = Input(q.source, node.size, _format(*node.value_range))
            projections.append(replace(q, weights=weights, delay=0))
    arrays = {k: a if len(a) == 1 else a[:cells] for k, a in population.params.items()}
    part = replace(population, size=cells, params=arrays)
    return Network(tuple(inputs.values()), (part,), tuple(projections), (part.name,), name=population.name)


def area_per_lane(network: Network, population: Population) -> dict[str, float]:
    """LUT, FF and DSP that one more lane costs: differences of whole designs of the population on UltraScale+."""
    from apical.hw import utilization, verilog
    from apical.hw.design import HardwareOptions, Lanes

    many = population.size // (2 * AREA_LANES) * 2 * AREA_LANES
    few = many // 2

    def used(cells: int, neuron: int) -> Mapping[str, float]:
        part = lone(network, population, cells)
        design = verilog.generate(part, HardwareOptions({population.name: Lanes(cells, neuron)}))
        return utilization.synthesize_xcup(design).summary()

    whole, wider = used(many, AREA_LANES), used(many, 2 * AREA_LANES)
    less = used(few, AREA_LANES)
    out: dict[str, float] = {"area_cells": many, "area_neuron_lanes": AREA_LANES}
    out |= {k: whole[k] for k in (*AREA, "bram")}
    out |= {f"{k}_per_lane_pair": (whole[k] - less[k]) / (many - few) for k in AREA}
    return out | {f"{k}_per_neuron_lane": (wider[k] - whole[k]) / AREA_LANES for k in AREA}


def cycles(
    network: Network, options: HardwareOptions, x: IntArray, values: Mapping[str, np.ndarray]
) -> dict[str, tuple[int, int]]:
    """Per population with context the cycles that its events take at one event lane: with both compartments at once
    (the longer one of every tick), and with one after the other (their sum).

    :param x, values: input and what every population sent, [samples, ticks, ...].
    """
    sent = {**split_input(network, x), **values}
    out = {}
    for p in gated(network):
        words = -(-p.size // options.lanes[p.name].synapse)
        beats = {c: np.ones(x.shape[:2], np.int64) for c in p.law.compartments}  # a bare end of tick is a beat
        for q in network.incoming(p.name):
            events = np.zeros(x.shape[:2], np.int64)
            events[:, q.delay :] = np.count_nonzero(sent[q.source], axis=2)[:, : x.shape[1] - q.delay]
            beats[q.compartment] = np.maximum(beats[q.compartment], events)
        each = np.stack(list(beats.values()))
        out[p.name] = int(each.max(axis=0).sum()) * words, int(each.sum(axis=0).sum()) * words
    return out


def measure(network: Network, data: str) -> dict[str, float | int | None]:
    """One network on the RTL: equality, cycles of both compartments together, lane utilization."""
    from apical.sim import equivalence

    x, truth = common.load_input(network, None, data, None)
    options = common.hardware_options(network, *LANES)
    with common.progress(f"{network.name}: cosim") as update:
        result = equivalence.cosim(network, x, options=options, labels=truth, reuse=True, progress=update)
    if not result.equal:
        raise CliError(f"bench: golden and RTL differ, so there is no figure: {result.divergence}")
    together, in_turns = max(cycles(network, options, x, result.golden.values).values())
    measured = result.rtl.cycles or 0
    busiest = {c: 0.0 for p in gated(network) for c in p.law.compartments}
    context = {p.name for p in gated(network)}
    for q in network.projections:
        if q.target in context:
            busiest[q.compartment] = max(busiest[q.compartment], result.utilization[q.name])
    return {
        "samples": result.samples,
        "mismatches": result.mismatches,
        "accuracy": result.accuracy,
        "cycles": measured,
        "cycles_together": together,
        "cycles_in_turns": in_turns,
        "same_cycle_share": (in_turns - measured) / (in_turns - together),
        "lane_utilization": result.lane_utilization,
        **{f"lane_utilization_{c}": share for c, share in busiest.items()},
    }


def figures() -> dict[str, float | int | None]:
    """All of it, for every network of `NETWORKS` that ships; test parts where the data are there."""
    from apical.hw import multipliers
    from apical.sw import datasets, zoo

    out: dict[str, float | int | None] = {}
    for name in (n for n in NETWORKS if n in zoo.names()):
        network, short = zoo.load(name), name.replace("-", "_")
        data = f"{NETWORKS[name]}:test"
        found = measure(network, data if datasets.available(data) else f"{NETWORKS[name]}:sample")
        cells = next(p for p in gated(network) if CONTEXT in p.law.compartments)
        with common.progress(f"{name}: area of lanes of {cells.name}"):
            found |= area_per_lane(network, cells)
        every = multipliers.of_network(network, common.hardware_options(network, *LANES))
        found |= {"multipliers": len(every), "multipliers_by_power_of_two": sum(m.by_power for m in every)}
        out |= {f"{short}_{k}": v for k, v in found.items()}
    return out
