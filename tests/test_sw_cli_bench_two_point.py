"""`apical bench two-point`: its bounds are those of the RTL, its parts compute what the whole does."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from apical.hw import utilization
from apical.hw.design import Design, default_options
from apical.hw.utilization import Utilization
from apical.hw.verilog import generate
from apical.sim.verilated import run_design
from apical.sw import cli_bench_two_point as bench
from apical.sw import golden, zoo
from apical.sw.laws import TwoPoint
from apical.sw.network import Input, IntArray, Network, Population, Projection

MakeInput = Callable[..., IntArray]


def test_the_rtl_takes_events_of_both_compartments_in_the_same_cycles(two_point: Network) -> None:
    design = generate(two_point, default_options(two_point))
    x = np.zeros((3, 1, 8), np.int64)
    x[0], x[1, :, :5], x[2, :, 5:] = 3, 3, 3  # 5 events to the basal and 3 to the apical compartment; one of them only
    both, basal, apical = (run_design(design, x[s : s + 1], workers=1, fast_build=True).cycles for s in range(3))
    assert both is not None and basal is not None and apical is not None
    assert both == basal > apical  # in turns, both would take 3 cycles more


def test_cycles_count_the_longer_compartment_of_every_tick(two_point: Network) -> None:
    x = np.zeros((1, 3, 8), np.int64)
    x[0, 0, :4], x[0, 1, 5:], x[0, 2, [0, 6]] = 1, 1, 1  # basal, apical events: 4 and none; none and 3; 1 and 1
    values = golden.run(two_point, x).values
    options = default_options(two_point)
    assert bench.cycles(two_point, options, x, values) == {"cells": (4 + 3 + 1, 5 + 4 + 2)}
    narrow = default_options(two_point, synapse_lanes=2, neuron_lanes=1)  # two words: twice the cycles
    assert bench.cycles(two_point, narrow, x, values) == {"cells": (16, 22)}


def test_delayed_events_count_in_their_tick(two_point: Network) -> None:
    again = Projection("again", "cells", "cells", np.eye(4, dtype=np.int64), "apical", delay=1)
    network = Network(
        two_point.inputs, two_point.populations, (*two_point.projections, again), two_point.outputs, two_point.decoder
    )
    x = np.zeros((1, 2, 8), np.int64)
    x[0, 0, 0] = 1
    values = {"cells": np.array([[[1, 2, 3, 0], [0, 0, 0, 0]]]), "out": np.zeros((1, 2, 2), np.int64)}
    assert bench.cycles(network, default_options(network), x, values)["cells"] == (1 + 3, 2 + 4)


def recurrent() -> tuple[Network, Population]:
    """The zoo's cells with context from themselves a tick ago."""
    network = zoo.load("two-view-digits")
    cells = network.populations[0]
    back = np.random.default_rng(0).integers(-20, 20, (96, 96))
    again = Projection("again", "cells", "cells", back, "apical", delay=1)
    return Network(network.inputs, network.populations, (*network.projections, again), network.outputs), cells


def test_a_lone_population_computes_what_it_does_in_its_network(make_input: MakeInput) -> None:
    network, cells = recurrent()
    x = make_input(network, samples=2, ticks=3)
    whole = golden.run(network, x).values["cells"]
    assert np.count_nonzero(whole)
    assert np.array_equal(golden.run(bench.lone(network, cells, 96), x).values["cells"], whole)
    few = bench.lone(network, cells, 16)
    assert few.populations[0].size == 16 and [q.weights.shape for q in few.projections] == [
        (16, 784),
        (16, 784),
        (16, 16),
    ]


@pytest.mark.parametrize(("bounds", "bits", "signed"), [((0, 48), 6, False), ((0, 1), 1, False), ((-9, 7), 5, True)])
def test_inputs_are_as_narrow_as_their_values(bounds: tuple[int, int], bits: int, signed: bool) -> None:
    found = bench._format(*bounds)
    assert (found.bits, found.signed) == (bits, signed)


def test_area_per_lane_is_a_difference_of_designs(monkeypatch: pytest.MonkeyPatch) -> None:
    def priced(design: Design) -> Utilization:
        (lanes,) = design.options.lanes.values()
        lut, ff, dsp = (
            500 + 21 * lanes.synapse + 130 * lanes.neuron,
            9 * lanes.synapse + 70 * lanes.neuron,
            lanes.synapse,
        )
        return Utilization(lut, lut, 0, 0, ff, 0, dsp, 3, 0, {})

    monkeypatch.setattr(utilization, "synthesize_xcup", priced)
    monkeypatch.setattr(bench, "AREA_LANES", 2)
    random = np.random.default_rng(0)
    cells = Population("cells", 11, TwoPoint(), {"bias_basal": np.array([0]), "bias_apical": np.arange(11)})
    projections = tuple(Projection(c, "in", "cells", random.integers(-9, 9, (11, 3)), c) for c in TwoPoint.compartments)
    found = bench.area_per_lane(Network((Input("in", 3),), (cells,), projections, ("cells",)), cells)
    assert found["area_cells"] == 8 and found["lut"] == 500 + 21 * 8 + 130 * 2 and found["bram"] == 1.5
    per_lane = [found[f"{k}_per_{lane}"] for lane in ("lane_pair", "neuron_lane") for k in ("lut", "ff", "dsp")]
    assert per_lane == [21, 9, 1, 130, 70, 0]


@pytest.mark.heavy
def test_the_benchmark_holds_its_lines(apical: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APICAL_DATA", raising=False)
    ran = apical("bench", "two-point", "--json")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)["figures"]
    assert found["two_view_digits_mismatches"] == 0
    assert found["two_view_digits_lane_utilization"] >= 0.85 and found["two_view_digits_same_cycle_share"] >= 0.95
    assert found["two_view_digits_multipliers_by_power_of_two"] == 0
    assert found["two_view_digits_dsp_per_lane_pair"] <= 2
