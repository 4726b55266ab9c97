"""The cocotb engine against golden and against the batch engine; and what it says of an RTL that breaks the rules."""

from __future__ import annotations

from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from apical.hw.design import Design, HardwareOptions, Lanes
from apical.hw.verilog import generate
from apical.sim import bench, bench_top, verilated
from apical.sim.scoreboard import first_divergence
from apical.sim.verilated import SimulationError, Stalls
from apical.sw import golden
from apical.sw.golden import Trace
from apical.sw.laws import Format, LeakyIntegrator, Lif, Relu, TwoPoint
from apical.sw.network import Input, IntArray, Network, Population, Projection


def ints(*values: int) -> IntArray:
    return np.array(values, np.int64)


def lif_network(random: np.random.Generator) -> tuple[Network, dict[str, Lanes]]:
    """Spikes, several events per cycle, padding in the hidden layer."""

    def population(name: str, n: int) -> Population:
        return Population(
            name, n, Lif(), {"decay": random.integers(128, 257, n), "threshold": ints(60), "bias": ints(3)}
        )

    network = Network(
        (Input("in", 12),),
        (population("hidden", 11), population("out", 4)),
        (
            Projection("in-hidden", "in", "hidden", random.integers(-30, 60, (11, 12))),
            Projection("hidden-out", "hidden", "out", random.integers(-30, 60, (4, 11))),
        ),
        ("out",),
    )
    return network, {"hidden": Lanes(8, 4, 2), "out": Lanes(2, 2)}


def two_point_network(random: np.random.Generator) -> tuple[Network, dict[str, Lanes]]:
    """Two inputs of graded events that meet in one population, two outputs."""
    values = Format(4, signed=False)
    network = Network(
        (Input("left", 5, values), Input("right", 9, Format(4))),
        (
            Population("cells", 6, TwoPoint(shift=2), {"bias_basal": ints(0), "bias_apical": ints(-8, 0, 8, 16, 0, 1)}),
            Population("read", 3, Relu(shift=3), {"bias": ints(1)}),
        ),
        (
            Projection("basal", "left", "cells", random.integers(-20, 40, (6, 5))),
            Projection("apical", "right", "cells", random.integers(-20, 40, (6, 9)), compartment="apical"),
            Projection("cells-read", "cells", "read", random.integers(-20, 40, (3, 6))),
        ),
        ("read", "cells"),
    )
    return network, {"cells": Lanes(3, 1), "read": Lanes(3, 3)}


def recurrent_network(random: np.random.Generator) -> tuple[Network, dict[str, Lanes]]:
    """Recurrence of one tick, feedback of two, a delayed input that skips a layer; a source with three readers."""
    one = ints(1)
    network = Network(
        (Input("in", 6),),
        (
            Population("hidden", 7, Lif(), {"decay": 230 * one, "threshold": 40 * one, "bias": 2 * one}),
            Population("out", 3, LeakyIntegrator(shift=3), {"decay": 243 * one, "bias": one}),
        ),
        (
            Projection("in-hidden", "in", "hidden", random.integers(-10, 50, (7, 6))),
            Projection("hidden-hidden", "hidden", "hidden", random.integers(-30, 30, (7, 7)), delay=1),
            Projection("out-hidden", "out", "hidden", random.integers(-3, 4, (7, 3)), weight_bits=4, delay=2),
            Projection("hidden-out", "hidden", "out", random.integers(-30, 30, (3, 7))),
            Projection("in-out", "in", "out", random.integers(-30, 30, (3, 6)), delay=1),
        ),
        ("out", "hidden"),
    )
    return network, {"hidden": Lanes(2, 2), "out": Lanes(3, 1)}


NETWORKS = {"lif": lif_network, "two_point": two_point_network, "recurrent": recurrent_network}


@dataclass(frozen=True)
class Case:
    """A design with monitors, an input, and what golden and the batch engine make of it."""

    design: Design
    x: np.ndarray
    golden: Trace
    batch: Trace


def stimulus(network: Network, random: np.random.Generator) -> np.ndarray:
    """Half zeros, half any value, and a sample of silence; [6, 5, inputs]."""
    parts = []
    for node in network.inputs:
        low, high = node.value_range
        parts.append(random.integers(low, high + 1, (6, 5, node.size)) * random.integers(0, 2, (6, 5, node.size)))
    x = np.concatenate(parts, axis=2)
    x[2], x[5] = 0, x[0]
    return x


@pytest.fixture(scope="module", params=list(NETWORKS))
def case(request: pytest.FixtureRequest) -> Case:
    random = np.random.default_rng(3)
    network, lanes = NETWORKS[request.param](random)
    events = {node.name: 1 + (node.size > 8) for node in network.inputs}
    design = generate(network, HardwareOptions(lanes, events, monitor=True, monitor_states=True))
    x = stimulus(network, random)
    batch = verilated.run_design(design, x, workers=1, fast_build=True)
    return Case(design, x, golden.run(network, x, states=True), batch)


def assert_same(a: Trace, b: Trace) -> None:
    """Values, outputs, states and counters are all there and equal."""
    assert {k: set(v) for k, v in a.states.items() if v} == {k: set(v) for k, v in b.states.items()}
    assert set(a.values) == set(b.values)
    assert set(a.outputs) == set(b.outputs)
    divergence = first_divergence(a, b)
    assert divergence is None, str(divergence)


def test_it_equals_golden_and_takes_the_batch_engine_s_cycles(case: Case) -> None:
    trace = bench.run_design(case.design, case.x)
    assert_same(case.golden, trace)
    assert_same(case.batch, trace)
    assert trace.cycles == case.batch.cycles
    assert trace.engine == "cocotb"
    # The stimulus does something, and nothing of a sample is left in the next: the last one repeats the first.
    for name, values in trace.values.items():
        assert values.any(), name
        assert np.array_equal(values[0], values[5])


@pytest.mark.parametrize("stalls", [Stalls(0.0, 0.9, 1), Stalls(0.95, 0.3, 2)], ids=["outputs", "inputs"])
def test_stalls_change_nothing_but_the_cycles(case: Case, stalls: Stalls) -> None:
    trace = bench.run_design(case.design, case.x, stalls=stalls)
    assert_same(case.golden, trace)
    assert trace.cycles is not None
    assert case.batch.cycles is not None
    assert trace.cycles > case.batch.cycles


@pytest.mark.parametrize("share", [0.23, 0.55])
def test_a_reset_in_the_middle_of_a_sample_starts_everything_anew(case: Case, share: float) -> None:
    assert case.batch.cycles is not None
    trace = bench.run_design(case.design, case.x, reset_at=int(share * case.batch.cycles))
    assert_same(case.golden, trace)
    assert trace.cycles == case.batch.cycles


@pytest.fixture(scope="module")
def quick() -> Case:
    """The first network, shared with `case` through the cache of builds."""
    random = np.random.default_rng(3)
    network, lanes = lif_network(random)
    options = HardwareOptions(lanes, {"in": 2}, monitor=True, monitor_states=True)
    x = stimulus(network, random)
    reference = golden.run(network, x)
    return Case(generate(network, options), x, reference, reference)


def test_simulate_makes_a_monitor_build_and_says_how_far_it_is(quick: Case, capfd: pytest.CaptureFixture[str]) -> None:
    told: list[tuple[int, int]] = []
    options = replace(quick.design.options, monitor=False, monitor_states=False)
    trace = bench.simulate(
        quick.design.network, options, quick.x, states=True, progress=lambda done, all_: told.append((done, all_))
    )
    assert first_divergence(quick.golden, trace) is None
    assert set(trace.states) == {"hidden", "out"}
    assert told[-1] == (6, 6)
    assert sorted(told) == told
    assert capfd.readouterr() == ("", "")  # the simulator's own words go to its log


def test_an_output_that_nobody_takes_is_a_deadlock_that_names_it(quick: Case) -> None:
    message = (
        r"^deadlock: nothing moved for \d+ cycles before cycle \d+; input in0 \('in'\): \d+ of \d+ beats not taken; "
        r"output out0 \('out'\): 0 of 30 ticks closed; monitor mon0"
    )
    with pytest.raises(SimulationError, match=message):
        bench.run_design(quick.design, quick.x, stalls=Stalls(outputs=1.0))


def test_a_reset_after_the_end_is_refused(quick: Case) -> None:
    with pytest.raises(
        SimulationError, match=r"^reset_at: expected a cycle within the run of \d+ cycles, got 1000000$"
    ):
        bench.run_design(quick.design, quick.x, reset_at=1_000_000)


def test_a_simulator_that_dies_leaves_its_last_words(quick: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GPI_USERS", "no-such-library.so")
    with pytest.raises(SimulationError, match=r"^the simulator ended without a result; .*(?s:.)*no-such-library"):
        bench.run_design(quick.design, quick.x)


class Signal:
    """Stands for a simulator's signal; holds what is written to it."""

    def __init__(self, value: int = 0) -> None:
        self.value = value


PORT: dict[str, Any] = {
    "prefix": "out0",
    "node": "cells",
    "size": 5,
    "event_lanes": 2,
    "classes": 2,
    "value_bits": 4,
    "signed": True,
    "has_value": True,
    "index_of": None,
}
NAMES = ("valid", "ready", "keep", "last", "final", "row0", "row1", "value0", "value1")


def monitored(*beats: dict[str, int], ready: bool = True) -> np.ndarray:
    """Show beats of one cycle each to an output monitor that expects 2 samples of 2 ticks; what it added up."""
    dut = SimpleNamespace(**{f"out0_{name}": Signal() for name in NAMES})
    monitor = bench_top.OutputMonitor(dut, PORT, samples=2, ticks=2, gate=bench_top.Gate(0.0))
    monitor.is_ready = ready
    for beat in beats:
        for name in NAMES:
            if name != "ready":
                getattr(dut, f"out0_{name}").value = beat.get(name, int(name == "valid"))
        monitor.sample()
    return monitor.events


def test_the_monitor_adds_events_up_by_tick_and_neuron() -> None:
    first = {"keep": 3, "row0": 1, "value0": 15, "row1": 0, "value1": 7}
    events = monitored(first, {"keep": 1, "row0": 2, "value0": 8, "last": 1}, {"last": 1, "final": 1}, {"last": 1})
    assert events.tolist() == [[0, 7, -1, 0, -8], [0] * 5, [0] * 5, [0] * 5]


END, LAST = {"last": 1}, {"last": 1, "final": 1}


@pytest.mark.parametrize(
    ("beats", "ready", "message"),
    [
        ([{"keep": 1}, {"valid": 0}], False, "withdrew a beat before it was taken, at sample 0, tick 0"),
        ([END, {**END, "row1": 1}], False, "changed a beat before it was taken, at sample 0, tick 0: first "),
        (
            [{"keep": 2, "row1": 2, "value1": 1}],
            True,
            ": expected neurons 0 to 4, got an event of neuron 5 at sample 0",
        ),
        ([END, {"keep": 1, "row0": 2}], True, "sends the value 0 of neuron 4 at sample 0, tick 1"),
        ([END, {"final": 1}], True, "marks a sample's end on a beat that ends no tick, at sample 0, tick 1"),
        ([LAST], True, ": sample mark out of place at sample 0, tick 0"),
        ([END, LAST, END, END], True, ": sample mark out of place at sample 1, tick 1"),
        ([END, LAST, END, LAST, END], True, "sends more ticks than the 4 that were asked for"),
    ],
)
def test_a_broken_rule_is_named(beats: list[dict[str, int]], ready: bool, message: str) -> None:
    with pytest.raises(bench_top.ProtocolError) as told:
        monitored(*beats, ready=ready)
    assert message in str(told.value)
    assert str(told.value).startswith("output out0 ('cells')")


def test_rows_out_of_order_are_named() -> None:
    dut = SimpleNamespace(mon0_valid=Signal(1), mon0_row=Signal(0), mon0_value0=Signal(3))
    port = {
        "prefix": "mon0",
        "population": "cells",
        "neuron_of": [[0], [1], [2]],
        "value_bits": 2,
        "signed": True,
        "gated": False,
    }
    law = bench_top.LawMonitor(dut, {**port, "state_formats": {}}, size=3, total=1)
    law.sample()
    assert law.arrays["value"].tolist() == [[-1, 0, 0]]
    dut.mon0_row.value = 2
    with pytest.raises(bench_top.ProtocolError, match=r"^monitor mon0 \('cells'\): expected row 1, got 2 in tick 0$"):
        law.sample()
