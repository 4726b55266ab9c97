"""The network and the stimulus that reveal the planted faults of `apical.sim.faults`."""

from __future__ import annotations

import numpy as np

from apical.hw.design import HardwareOptions, Lanes
from apical.sw.laws import Format, LeakyIntegrator, Lif, TwoPoint
from apical.sw.network import Input, IntArray, Network, Population, Projection


def probe() -> Network:
    """Spikes into LIF cells that feed themselves back, a saturating read-out, two-point cells; graded signed events."""
    r = np.random.default_rng(11)
    hidden = Population(
        "hidden",
        7,
        Lif(state_bits=10, decay_bits=6),
        {"decay": r.integers(30, 65, 7), "threshold": r.integers(3, 12, 7), "bias": np.array([1])},
        {"v": np.array([2, -3, 1, 4, -1, 0, 3])},
    )
    read = Population(
        "read", 5, LeakyIntegrator(state_bits=7, decay_bits=4), {"decay": np.array([14]), "bias": np.array([0])}
    )
    cells = Population(
        "cells",
        4,
        TwoPoint(fraction_bits=4, value_fraction_bits=3, shift=0),
        {"bias_basal": np.array([2]), "bias_apical": np.array([-1])},
    )
    projections = (
        Projection("in", "spikes", "hidden", r.integers(-6, 9, (7, 12)), weight_bits=5),
        Projection("loop", "hidden", "hidden", r.integers(-5, 5, (7, 7)), weight_bits=4, delay=2),
        Projection("out", "hidden", "read", r.integers(-20, 25, (5, 7)), weight_bits=6),
        Projection("side", "graded", "read", r.integers(-8, 8, (5, 5)), weight_bits=4),
        Projection("basal", "graded", "cells", r.integers(-4, 4, (4, 5)), weight_bits=3),
        Projection("apical", "hidden", "cells", r.integers(-8, 8, (4, 7)), "apical", weight_bits=4),
    )
    inputs = (Input("spikes", 12), Input("graded", 5, Format(4)))
    return Network(inputs, (hidden, read, cells), projections, ("read", "hidden", "cells"), "sum", name="probe")


def probe_options() -> HardwareOptions:
    """Several words, groups and event lanes, with monitors of all states."""
    lanes = {"hidden": Lanes(4, 2, 2), "read": Lanes(2, 1), "cells": Lanes(4, 4, 2)}
    return HardwareOptions(lanes, {"spikes": 2, "graded": 1}, monitor=True, monitor_states=True)


def stimulus(network: Network) -> IntArray:
    """Silent, sparse and full ticks, values at the ends of their range as often as not; [12, 8, inputs]."""
    r, parts, shape = np.random.default_rng(5), [], (12, 8)
    share = r.choice((0.0, 0.2, 0.5, 1.0), (*shape, 1))
    for node in network.inputs:
        low, high = node.value_range
        size = (*shape, node.size)
        values = np.where(r.random(size) < 0.5, r.integers(low, high + 1, size), r.choice((low, high), size))
        parts.append(np.where(r.random(size) < share, values, 0))
    return np.concatenate(parts, axis=2)
