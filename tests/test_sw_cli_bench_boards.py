"""The resource table: what is synthesized once, what a row says, and what the stored run says."""

from __future__ import annotations

import pytest

from apical.hw import boards
from apical.hw.design import HardwareOptions
from apical.hw.utilization import Utilization
from apical.sw import cli_bench_boards as bench
from apical.sw import zoo
from apical.sw.network import Network

PATH = {"levels": 5, "from": "a", "to": "b", "cells": ["LUT6"] * 5}
DEPTH = {"levels": 5, "dsp_levels": 0, "path": PATH, "dsp_path": None}


class Counted:
    """Stands for the synthesizer."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, HardwareOptions]] = []

    def __call__(self, network: Network, options: HardwareOptions) -> Utilization:
        self.seen.append((network.name, options))
        return Utilization(1176, 1000, 100, 76, 2000, 0, 36, 3, 0, {}, "Yosys 0", "", DEPTH)


pytestmark = pytest.mark.skipif(
    not {"ecg-srnn", "grid-mcc"} <= set(zoo.names()), reason="the bundles aren't in this checkout"
)


def test_equal_lanes_are_synthesized_once() -> None:
    counted = Counted()
    found = bench.rows(["ecg-srnn"], ["zcu104", "vcu118", "kcu116"], counted)
    assert [r["board"] for r in found] == ["zcu104", "vcu118", "kcu116"] and len(counted.seen) == 1
    bench.rows(["grid-mcc"], ["ultra96-v2", "vcu118"], counted)
    assert len(counted.seen) == 3


def test_a_row_has_shares_of_its_board() -> None:
    (row,) = bench.rows(["ecg-srnn"], ["ultra96-v2"], Counted())
    assert (row["lut"], row["bram"], row["percent"]["lut"], row["percent"]["dsp"]) == (1176, 1.5, 1.67, 10.0)
    figures = bench.figures([row])
    assert figures["ecg_srnn_ultra96_v2_lut_percent"] == 1.67 and figures["levels"] == 5


def test_a_network_that_does_not_fit_is_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    small = boards.load("ultra96-v2")
    tiny = small.model_copy(update={"capacity": small.capacity.model_copy(update={"lut": 500})})
    monkeypatch.setattr(boards, "load", lambda name: tiny)
    (row,) = bench.rows(["ecg-srnn"], ["ultra96-v2"], Counted())
    assert not row["fits"] and "about" in row["why"]
    assert bench.figures([row])["ecg_srnn_ultra96_v2_fits"] == 0


def test_a_design_that_was_not_synthesized_is_an_estimate_and_says_so() -> None:
    (row,) = bench.rows(["ecg-srnn"], ["zcu104"], lambda network, options: None)
    assert not row["synthesized"] and row["lut"] == row["estimated"]["lut"] and row["depth"]["levels"] is None
    assert bench.figures([row])["levels"] is None


def test_the_stored_run_has_every_network_on_every_board() -> None:
    found = bench.stored()
    assert {(r["network"], r["board"]) for r in found} == {(n, b) for n in bench.NETWORKS for b in bench.ultrascale()}
    for row in found:
        assert row["fits"] and all(share <= 100 for share in row["percent"].values()), row
    assert {"mnist-lif", "ecg-srnn", "mnist-conv"} <= {r["network"] for r in found if r["synthesized"]}


def test_no_stored_design_is_deeper_than_allowed() -> None:
    """But for the one that is known, and exactly as deep as it is said to be."""
    for row in bench.stored():
        if row["synthesized"] and row["network"] in bench.DEEPER:
            assert row["depth"]["levels"] == bench.DEEPER[row["network"]] > bench.LEVELS
        elif row["synthesized"]:
            assert row["depth"]["levels"] <= bench.LEVELS, row["network"]


def test_the_page_shows_every_board_and_every_stored_row() -> None:
    page = bench.boards_page()
    for name in boards.names():
        assert f"| `{name}`: " in page
    for row in bench.stored():
        assert f"{row['lut']:,} ({row['percent']['lut']:g} %)" in page
