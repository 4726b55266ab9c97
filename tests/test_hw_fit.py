"""Estimates against what Yosys counted, and the error for too many lanes."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from apical.hw import boards, fit
from apical.hw.design import HardwareOptions, Lanes, default_options
from apical.hw.harness import random_population
from apical.sw.geometry import Geometry
from apical.sw.laws import Format, Relu, TwoPoint
from apical.sw.network import Input, Network, Population, Projection


def _two_point() -> Network:
    law = TwoPoint()
    rng = np.random.default_rng(0)
    params = {k: rng.integers(-50, 50, 32) for k in law.parameters()}
    projections = tuple(Projection(f"p{c}", "x", "h", rng.integers(-32, 32, (32, 100)), c, 6) for c in law.compartments)
    return Network((Input("x", 100, Format(6, False)),), (Population("h", 32, law, params),), projections, ("h",))


# Counted by Yosys 0.70 on the same shapes: LUT, flip-flops, DSP48E2, RAMB36 for xcup.
COUNTED = [
    (random_population(256, 64), HardwareOptions({"h": Lanes(32, 8)}), (1951, 3182, 8, 8)),
    (random_population(256, 64, 4), HardwareOptions({"h": Lanes(64, 8)}), (1943, 2817, 8, 4)),
    (random_population(256, 32), HardwareOptions({"h": Lanes(32, 4)}, {"x": 4}), (2018, 3759, 4, 16)),
    (_two_point(), HardwareOptions({"h": Lanes(16, 4)}), (1986, 3089, 40, 4)),
]


@pytest.mark.parametrize(("network", "options", "counted"), COUNTED, ids=["K = 2", "4 bits", "4 events", "two-point"])
def test_estimates_are_near_what_synthesis_counts(
    network: Network, options: HardwareOptions, counted: tuple[int, int, int, int]
) -> None:
    e = fit.estimate(network, options, boards.load("zcu104"))
    assert abs(e.lut / counted[0] - 1) < 0.3 and abs(e.ff / counted[1] - 1) < 0.3
    assert (e.dsp, e.bram) == counted[2:]


def test_a_design_that_fits_returns_its_estimate() -> None:
    network = random_population(64, 32)
    board = boards.load("ulx3s")
    options = default_options(network, synapse_lanes=16)
    assert fit.check(network, options, board) == fit.estimate(network, options, board)


def test_too_many_lanes_say_what_would_fit_and_it_does() -> None:
    network = random_population(64, 2048)
    board = boards.load("ulx3s")
    with pytest.raises(fit.FitError) as caught:
        fit.check(network, HardwareOptions({"h": Lanes(2048, 64)}), board)
    found = re.fullmatch(
        r"board ulx3s: 2048 synapse lanes are too many: about (\d+) LUT, 75276 usable; .*"
        r"these fit: 'h': (\d+) synapse and (\d+) neuron lanes",
        str(caught.value),
    )
    assert found is not None
    fit.check(network, HardwareOptions({"h": Lanes(int(found[2]), int(found[3]))}), board)


def test_a_network_that_no_lanes_fit_is_refused() -> None:
    network = random_population(8192, 1024, 16)  # 134 Mbit of weights; the device has 3.7, the largest board 76
    with pytest.raises(
        fit.FitError, match=r"^board ulx3s: the network doesn't fit at any number of lanes: .*block RAM"
    ):
        fit.largest(network, boards.load("ulx3s"))
    nowhere = r"no number of lanes fits; it fits no board that ships \(its weights are 16,384 KiB\)$"
    with pytest.raises(fit.FitError, match=nowhere):
        fit.check(network, default_options(network), boards.load("ulx3s"))


def test_kernels_beyond_a_device_s_memory_are_refused_with_what_would_fit() -> None:
    g = Geometry((128, 4, 4), 96, (3, 3), padding=(1, 1))
    cells = Population("map", 96 * 16, Relu(), {"bias": np.zeros(1, np.int64)}, shape=g.target)
    weights = np.random.default_rng(0).integers(-8, 8, g.weights_shape)
    wires = (Projection("p", "in", "map", weights, weight_bits=8, pattern="conv", geometry=g),)
    network = Network((Input("in", 2048, shape=g.source),), (cells,), wires, ("map",))
    with pytest.raises(fit.FitError) as caught:
        fit.check(network, default_options(network), boards.load("ulx3s-12f"))
    found = re.search(
        r"no number of lanes fits; weights of ([2-7]) bits would, with 'map': (\d+) synapse and (\d+) neuron lanes; as "
        r"it is it fits (.*zcu104.*) \(its weights are 108 KiB\)$",
        str(caught.value),
    )
    assert found is not None, caught.value
    lanes = HardwareOptions({"map": Lanes(int(found[2]), int(found[3]))})
    few = replace(network, projections=(replace(wires[0], weight_bits=max(int(found[1]), 4)),))
    if int(found[1]) >= 4:
        fit.check(few, lanes, boards.load("ulx3s-12f"))
    fit.largest(network, boards.load("zcu104"))


def test_more_lanes_never_need_less_logic() -> None:
    network, board = random_population(256, 64), boards.load("ulx3s")
    needs = [fit.estimate(network, default_options(network, synapse_lanes=s), board).lut for s in (8, 16, 32, 64)]
    assert needs == sorted(needs)


def test_without_lut_ram_small_memories_count_as_logic_and_block_ram() -> None:
    """Counted by Yosys 0.70 for an iCE40, without the serial link: LUT4, flip-flops, SB_MAC16, SB_RAM40_4K."""
    e = fit.estimate(random_population(64, 32), HardwareOptions({"h": Lanes(16, 4)}), boards.load("icebreaker"))
    lut, ff, dsp, bram = e.lut - fit.LINK["lut"], e.ff - fit.LINK["ff"], e.dsp, e.bram - fit.LINK_BLOCKS["ice40"]
    lut -= e.ff // 2  # the estimate is of logic cells
    assert abs(lut / 1424 - 1) < 0.3 and abs(ff / 2049 - 1) < 0.3
    assert dsp == 4 and abs(bram - 12) <= 1
