"""Switching activity: toggles in the file are the RTL's own counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.hw.design import HardwareOptions, Lanes
from apical.hw.harness import random_population
from apical.sim import activity
from apical.sim.activity import Activity
from apical.sw import golden

NETWORK = random_population(16, 8)
X = (np.random.default_rng(0).random((2, 4, 16)) < 0.4).astype(np.int64)


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Activity:
    file = tmp_path_factory.mktemp("saif") / "activity.saif"
    options = HardwareOptions({"h": Lanes(4, 2)})
    return activity.record(NETWORK, options, X, file, clock_mhz=125.0, fast_build=True)


def test_a_counter_s_bits_toggle_as_often_as_it_counted(recorded: Activity) -> None:
    """Bit k of a counter of single events toggles floor(n / 2^k) times on the way from 0 to n."""
    wanted = golden.run(NETWORK, X).counters
    assert recorded.trace.counters == wanted
    events = wanted["projection p: events"]
    assert events == int(X.sum()) > 16
    found = [recorded.switching.toggles[f"TOP/apical_top/cnt0[{k}]"] for k in range(32)]
    assert found == [events >> k for k in range(32)]


def test_the_clock_toggles_twice_a_cycle_and_the_file_covers_the_run(recorded: Activity) -> None:
    cycles = recorded.switching.duration_ps / 8000  # 125 MHz
    assert abs(recorded.switching.toggles["TOP/clk"] - 2 * cycles) <= 1
    assert recorded.trace.cycles is not None and cycles >= recorded.trace.cycles
    assert recorded.seconds == pytest.approx(cycles * 8e-9)


def test_registers_inside_are_there_by_instance(recorded: Activity) -> None:
    inside = [n for n in recorded.switching.toggles if n.startswith("TOP/apical_top/accelerator/population0/neurons/")]
    assert len(inside) > 50
    assert sum(recorded.switching.toggles[n] for n in inside) > 0


@pytest.mark.parametrize("text", ["", "(SAIFILE\n(DURATION 10)\n)\n", "(INSTANCE x\n"])
def test_a_text_that_is_no_saif_is_an_error(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.saif").write_text(text)
    with pytest.raises(activity.SaifError, match=r"expected a SAIF file with a duration and nets"):
        activity.read_saif(tmp_path / "a.saif")


def test_the_command_writes_the_file_and_what_was_counted(
    apical: Callable[..., Any], lif_bundle: Path, lif_input: Path, tmp_path: Path
) -> None:
    ran = apical("activity", lif_bundle, "--input", lif_input, "--limit", 2, "-o", tmp_path / "a", "--json")
    assert ran.status == 0, ran.err
    found = json.loads(ran.out)
    counted = json.loads((tmp_path / "a" / "activity.json").read_text())
    assert (tmp_path / "a" / "activity.saif").is_file() and found["clock_mhz"] == 200.0
    assert counted["counts"]["weight_read"] > 0 and counted["toggles"] > 0 and counted["seconds"] > 0
