"""Co-simulation results: what is compared, and the figures that come of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from apical.hw.design import HardwareOptions, Lanes
from apical.sim import equivalence, verilated
from apical.sw import golden
from apical.sw.golden import Trace
from apical.sw.network import IntArray, Network

Fault = Callable[[Trace], Trace]
OPTIONS = HardwareOptions({"hidden": Lanes(5, 1), "out": Lanes(3, 1)})


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Fault], None]:
    """Let golden with a change stand for the RTL; 1,000 cycles, 2 seconds."""

    def install(change: Fault) -> None:
        def simulate(network: Network, options: HardwareOptions, x: np.ndarray, **_: Any) -> Trace:
            trace = golden.run(network, x, states=True)
            return change(replace(trace, cycles=1000, seconds=2.0, engine="verilated"))

        monkeypatch.setattr(verilated, "simulate", simulate)

    return install


def flipped(arrays: dict[str, IntArray], name: str, *where: tuple[int, int, int]) -> dict[str, IntArray]:
    """A copy in which some values are off by one."""
    changed = arrays[name].copy()
    for at in where:
        changed[at] += 1
    return {**arrays, name: changed}


def test_equal_runs_are_equal_with_no_mismatch(
    lif: Network, make_input: Callable[..., IntArray], pretend: Callable[[Fault], None]
) -> None:
    pretend(lambda trace: trace)
    result = equivalence.cosim(lif, make_input(lif), options=OPTIONS, states=True)
    assert (result.equal, result.mismatches, result.divergence) == (True, 0, None)


@pytest.mark.parametrize(
    ("change", "mismatches", "words"),
    [
        (lambda t: replace(t, outputs=flipped(t.outputs, "out", (1, 2, 0), (1, 3, 1), (3, 0, 0))), 2, "output"),
        (
            lambda t: replace(t, values=flipped(t.values, "hidden", (2, 4, 1))),
            1,
            "sample 2, tick 4, population 'hidden'",
        ),
        (
            lambda t: replace(t, states={**t.states, "out": flipped(t.states["out"], "v", (0, 1, 2))}),
            1,
            "sample 0, tick 1, population 'out', neuron 2, v",
        ),
        (
            lambda t: replace(t, counters={k: v + (k == "population out: events") for k, v in t.counters.items()}),
            0,
            "counter 'population out: events'",
        ),
    ],
    ids=["output", "value", "state", "counter"],
)
def test_any_difference_is_unequal_and_named(
    lif: Network,
    make_input: Callable[..., IntArray],
    pretend: Callable[[Fault], None],
    change: Fault,
    mismatches: int,
    words: str,
) -> None:
    pretend(change)
    result = equivalence.cosim(lif, make_input(lif), options=OPTIONS, states=True)
    assert not result.equal
    assert result.mismatches == mismatches
    assert result.divergence is not None and words in result.divergence


def test_accuracy_is_the_rtl_s_not_golden_s(
    lif: Network, make_input: Callable[..., IntArray], pretend: Callable[[Fault], None]
) -> None:
    x = make_input(lif)
    labels = golden.decode(lif, golden.run(lif, x))
    pretend(lambda t: replace(t, outputs={"out": t.outputs["out"] * 0 + np.array([0, 0, 1])}))
    result = equivalence.cosim(lif, x, options=OPTIONS, labels=labels)
    assert labels is not None
    assert result.accuracy == (labels == 2).mean()


def test_there_is_no_accuracy_without_labels(
    lif: Network, make_input: Callable[..., IntArray], pretend: Callable[[Fault], None]
) -> None:
    pretend(lambda trace: trace)
    assert equivalence.cosim(lif, make_input(lif), options=OPTIONS).accuracy is None


def test_labels_of_another_number_of_samples_are_told(
    lif: Network, make_input: Callable[..., IntArray], pretend: Callable[[Fault], None]
) -> None:
    pretend(lambda trace: trace)
    with pytest.raises(ValueError, match=r"^labels: expected shape \[4\], got \[3\]$"):
        equivalence.cosim(lif, make_input(lif), options=OPTIONS, labels=np.zeros(3, np.int64))


def test_figures_follow_from_cycles_and_counters(
    lif: Network, make_input: Callable[..., IntArray], pretend: Callable[[Fault], None]
) -> None:
    pretend(lambda trace: trace)
    x = make_input(lif)
    result = equivalence.cosim(lif, x, options=OPTIONS)
    assert (result.cycles_per_sample, result.cycles_per_tick, result.samples_per_second) == (250.0, 50.0, 2.0)
    assert result.utilization["in-hidden"] == np.count_nonzero(x) * 5 / (1000 * 5)
    assert result.lane_utilization == max(result.utilization.values())


def test_the_summary_is_json_with_the_promised_keys(
    lif: Network, make_input: Callable[..., IntArray], pretend: Callable[[Fault], None]
) -> None:
    pretend(lambda trace: trace)
    summary = json.loads(json.dumps(equivalence.cosim(lif, make_input(lif), options=OPTIONS).summary()))
    promised = (
        "equal samples mismatches accuracy cycles_per_sample cycles_per_tick lane_utilization samples_per_second engine"
    )
    assert set(promised.split()) <= set(summary)


def test_an_unknown_engine_is_told(lif: Network, make_input: Callable[..., IntArray]) -> None:
    with pytest.raises(ValueError, match=r"^engine: expected one of \('verilated', 'cocotb'\), got 'icarus'$"):
        equivalence.cosim(lif, make_input(lif), engine="icarus")


def test_two_point_cells_are_equal_on_the_batch_engine(two_point: Network, make_input: Callable[..., IntArray]) -> None:
    result = equivalence.cosim(two_point, make_input(two_point, samples=5), states=True)
    assert result.equal, result.divergence
    assert (result.samples, result.engine) == (5, "verilated")
    assert result.golden.values["out"].any()
