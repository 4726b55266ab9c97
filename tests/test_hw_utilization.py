"""Counting UltraScale+ resources from Yosys's reports."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from apical.hw import tools, utilization

HERE = Path(__file__).parent
SMALL = "module top(input clk, input [7:0] a, output reg [7:0] q); always @(posedge clk) q <= q + a*a; endmodule\n"


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PATH", f"{HERE / 'fake_tools'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("APICAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("FAKE_STAT", str(HERE / "expected" / "yosys_stat.json"))
    return tmp_path / "cache" / "xcup"


def test_a_report_is_counted() -> None:
    u = utilization.parse_stat((HERE / "expected" / "yosys_stat.json").read_text())
    assert (u.lut, u.ff, u.carry, u.dsp, u.bram, u.uram) == (40, 8, 2, 0, 0, 0)


def test_lut_ram_shift_registers_and_half_block_rams_are_priced() -> None:
    cells = {"LUT6": 10, "RAM32M16": 2, "RAM64X1D": 1, "SRL16E": 3, "RAMB18E2": 3, "RAMB36E2": 2, "DSP48E2": 4}
    u = utilization.count_cells({**cells, "URAM288": 5, "FDRE": 7, "FDSE": 1, "CARRY4": 9, "MUXF7": 8, "INV": 1})
    assert (u.lut_logic, u.lut_ram, u.lut_shift, u.lut) == (11, 18, 3, 32)
    assert (u.ff, u.dsp, u.ramb18, u.bram, u.uram, u.carry) == (8, 4, 7, 3.5, 5, 9)


def test_a_cell_without_a_price_is_an_error() -> None:
    with pytest.raises(
        utilization.UtilizationError, match=r"^netlist: expected UltraScale\+ primitives, got 2 of 'mystery'$"
    ):
        utilization.count_cells({"LUT6": 1, "mystery": 2})


@pytest.mark.parametrize("text", ["", "[]", '{"design": {}}'])
def test_a_text_that_is_no_report_is_an_error(text: str) -> None:
    with pytest.raises(utilization.UtilizationError, match=r"^stat -json: expected design\.num_cells_by_type"):
        utilization.parse_stat(text)


def test_yosys_is_called_once_per_content_with_the_stated_flags(fakes: Path) -> None:
    first = utilization.synthesize_xcup(SMALL, "top")
    assert utilization.synthesize_xcup(SMALL, "top") == first
    (folder,) = fakes.iterdir()
    assert (folder / "calls.txt").read_text() == (
        "yosys -q -l yosys.log -s synth.ys\n"
        "read_verilog -sv design.v\n"
        "synth_xilinx -family xcup -flatten -noiopad -noclkbuf -top top\n"
        "tee -q -o stat.json stat -json -top top\n"
        "write_json netlist.json\n"
    )
    assert Path(first.log) == folder / "yosys.log"
    utilization.synthesize_xcup(SMALL + "\n", "top")
    assert len(list(fakes.iterdir())) == 2


def test_a_failure_leaves_nothing_in_the_cache(fakes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAKE_YOSYS_FAILS", "1")
    with pytest.raises(tools.ToolFailed, match=r"ERROR: syntax error in design\.v:7"):
        utilization.synthesize_xcup(SMALL, "top")
    assert list(fakes.iterdir()) == []


@pytest.mark.parametrize("top", [None, "a b", "x; shell"])
def test_a_top_that_is_no_name_is_refused(top: str | None) -> None:
    with pytest.raises(ValueError, match=r"^top: expected the name of the top module, got"):
        utilization.synthesize_xcup(SMALL, top)


def test_a_real_synthesis_counts_the_adder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("APICAL_CACHE", str(tmp_path))
    adder = "module top(input clk, input [7:0] a, output reg [7:0] q); always @(posedge clk) q <= q + a; endmodule\n"
    u = utilization.synthesize_xcup(adder, "top")
    assert u.ff == 8 and 8 <= u.lut <= 10 and u.carry >= 2 and u.dsp == 0
    assert "Executing SYNTH_XILINX pass" in Path(u.log).read_text()
    assert u.depth is not None and u.depth["levels"] == 2  # a LUT, then the carry chain
    assert not (Path(u.log).parent / "netlist.json").exists()
