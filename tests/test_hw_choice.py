"""Lanes chosen for a board: they fit, the next step doesn't, and cycles are where the lanes went."""

from __future__ import annotations

import numpy as np
import pytest

from apical.hw import boards, choice, fit
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.harness import random_population
from apical.sim import verilated
from apical.sw import golden, zoo
from apical.sw.laws import Format, TwoPoint
from apical.sw.network import Input, Network, Population, Projection


def _two_point(cells: int = 64) -> Network:
    law = TwoPoint()
    rng = np.random.default_rng(0)
    params = {k: rng.integers(-50, 50, cells) for k in law.parameters()}
    wires = tuple(Projection(f"p{c}", "x", "h", rng.integers(-32, 32, (cells, 100)), c, 6) for c in law.compartments)
    return Network((Input("x", 100, Format(6, False)),), (Population("h", cells, law, params),), wires, ("h",))


@pytest.mark.parametrize("board", ["ultra96-v2", "kv260", "vcu118", "ulx3s"])
def test_a_choice_fits_its_board(board: str) -> None:
    table = boards.load(board)
    found = choice.choose(_two_point(), table)
    assert found.need.short(table.capacity) == []
    assert found.need == fit.estimate(_two_point(), found.options, table, axi=table.flow == "xcup")


def test_what_binds_is_what_the_next_step_lacks() -> None:
    table = boards.load("ultra96-v2")
    found = choice.choose(_two_point(256), table, 1.0)
    assert found.refused is not None and found.binds == found.refused.short[0]
    assert found.binds.endswith(" DSP, 360 usable")
    assert found.summary()["next"] == {"step": found.refused.what, "short": list(found.refused.short)}
    more = choice.choose(_two_point(256), boards.load("vcu118"), 1.0)
    assert more.cycles_per_tick < found.cycles_per_tick and more.need.dsp > 360


def test_lanes_go_where_cycles_are() -> None:
    network = random_population(784, 128)
    found = choice.choose(network, boards.load("zcu104"))
    assert found.lanes["h"].synapse == 128 and found.options.input_event_lanes["x"] == choice.MOST_EVENTS
    assert found.cycles_per_tick == pytest.approx(0.1 * 784 / 8)
    quiet = choice.choose(network, boards.load("zcu104"), {"x": 0.005})
    assert quiet.need.lut < found.need.lut and quiet.cycles_per_tick == choice.SHORTEST


def test_a_serial_board_gets_no_more_lanes_than_its_line_feeds() -> None:
    found = choice.choose(random_population(784, 128), boards.load("ulx3s"))
    assert found.lanes["h"].synapse == 16 and found.options.input_event_lanes == {"x": 1}
    assert found.binds.startswith("the serial line")


def test_estimated_cycles_are_the_formula() -> None:
    network = random_population(100, 60)
    options = HardwareOptions({"h": Lanes(16, 4)})
    assert choice.cycles_per_tick(network, options, 0.5) == 0.5 * 100 * 4  # four words of 16 lanes
    assert choice.cycles_per_tick(network, HardwareOptions({"h": Lanes(60, 1)}), 0.1) == 60  # the law's rows


def test_a_network_that_no_lanes_fit_says_what_would() -> None:
    with pytest.raises(fit.FitError, match=r"^board icebreaker: .*as it is it fits .*zcu104"):
        choice.choose(random_population(784, 512), boards.load("icebreaker"))


@pytest.mark.skipif("grid-mcc" not in zoo.names(), reason="the bundle isn't in this checkout")
def test_two_point_streams_are_bound_by_dsp_slices_on_the_smallest_zynq() -> None:
    found = choice.choose(zoo.load("grid-mcc"), boards.load("ultra96-v2"))
    assert "DSP" in found.binds and found.share["dsp"] > 90


def test_chosen_lanes_compute_the_same() -> None:
    """Lanes beyond the targets, so that neuron lanes divide them, and event lanes of an input."""
    network = random_population(40, 23)
    found = choice.choose(network, boards.load("zcu104"), 1.0)
    assert found.lanes["h"].synapse == 24 and found.options.input_event_lanes["x"] > 1
    x = (np.random.default_rng(1).random((3, 6, 40)) < 0.3).astype(np.int64)
    trace = verilated.simulate(network, found.options, x, workers=1, fast_build=True)
    wanted = golden.run(network, x)
    assert (trace.outputs["h"] == wanted.outputs["h"]).all() and trace.counters == wanted.counters
