"""`apical bench axi`: the same samples both ways, a tenth of the inputs active; no figure where anything differs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from apical.sw import cli_bench_axi as bench
from apical.sw import golden
from apical.sw.cli_bench import random_lif
from apical.sw.cli_common import CliError
from apical.sw.golden import Trace
from apical.sw.laws import Format
from apical.sw.network import Input, Network

SMALL = random_lif((200, 16), 6)


def test_a_tenth_of_the_channels_is_active_with_any_values() -> None:
    network = replace(SMALL, inputs=(Input("in", 200, Format(4)),))
    x = bench.events(network)
    assert x.shape == (bench.SAMPLES, bench.TICKS, 200)
    assert abs((x != 0).mean() - bench.ACTIVITY) < 0.01
    assert (x.min(), x.max()) == (-8, 7)


def test_the_streams_cost_a_few_cycles_of_latency_and_no_more() -> None:
    got = bench.measure(SMALL, (16, 4, 4), 64)
    cycles, ideal = got["cycles_axi"], got["cycles_bare"]
    assert cycles is not None and ideal is not None and 0 < cycles - ideal <= 10
    assert got["lost_share"] == (cycles - ideal) / ideal
    assert got["words_per_sample"] is not None and got["words_per_sample"] >= 200 * 0.09 * bench.TICKS / 4


def test_there_is_no_figure_where_golden_and_the_system_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    run = golden.run

    def wrong(network: Network, x: np.ndarray, **options: Any) -> Trace:
        trace = run(network, x, **options)
        return replace(trace, counters={**trace.counters, "population layer1: events": 1})

    monkeypatch.setattr(golden, "run", wrong)
    with pytest.raises(CliError, match=r"^bench: golden and RTL differ, so there is no figure"):
        bench.measure(SMALL, (16, 4, 4), 64)
