"""ECP5 and iCE40 flow: what the tools are asked, and what is read from their reports."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

from apical.hw import boards, fit, open_flow
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.harness import random_population
from apical.sw.bundle import identity

HERE = Path(__file__).parent
REPORT = HERE / "expected" / "nextpnr_report.json"
LANES = HardwareOptions({"h": Lanes(4, 2)})


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("PATH", f"{HERE / 'fake_tools'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("APICAL_CACHE", str(tmp_path / "cache"))
    report = json.loads(REPORT.read_text())
    report["fmax"] = {"clk": {"achieved": 127.4, "constraint": 25.0}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    monkeypatch.setenv("FAKE_REPORT", str(tmp_path / "report.json"))
    return tmp_path / "cache" / "ecp5"


def test_a_report_gives_frequency_cells_and_the_slowest_path() -> None:
    figures = open_flow.parse_report(REPORT.read_text())
    assert round(figures["fmax_mhz"], 1) == 127.4 and round(figures["target_mhz"]) == 150
    assert (figures["lut"], figures["ff"], figures["dsp"], figures["bram"]) == (3499, 3305, 8, 16)
    assert figures["critical"][0].startswith("0.52 ns, clk-to-q, accelerator.population0.neurons")
    assert "MULT18X18D" in figures["critical"][2] and figures["critical"][2].startswith("3.93 ns, logic")


def test_the_slowest_clock_is_the_one_furthest_below_its_target() -> None:
    fmax = {"fast": {"achieved": 130.0, "constraint": 200.0}, "slow": {"achieved": 100.0, "constraint": 25.0}}
    figures = open_flow.parse_report(json.dumps({"fmax": fmax, "utilization": {}}))
    assert (figures["fmax_mhz"], figures["target_mhz"]) == (130.0, 200.0)


@pytest.mark.parametrize("text", ["", "[]", '{"fmax": {}, "utilization": {}}', '{"utilization": {}}'])
def test_a_text_that_is_no_report_is_an_error(text: str) -> None:
    with pytest.raises(open_flow.FlowError, match=r"^nextpnr report: expected "):
        open_flow.parse_report(text)


def test_constraints_are_sites_buffers_and_frequencies() -> None:
    pins = {"clk": boards.Pin(ball="G2"), "tx": boards.Pin(ball="L4", pull="UP")}
    assert open_flow.constraints(pins, {"clk": 25.0}) == (
        'LOCATE COMP "clk" SITE "G2";\n'
        'IOBUF PORT "clk" PULLMODE=NONE IO_TYPE=LVCMOS33;\n'
        'LOCATE COMP "tx" SITE "L4";\n'
        'IOBUF PORT "tx" PULLMODE=UP IO_TYPE=LVCMOS33;\n'
        'FREQUENCY PORT "clk" 25.000000 MHZ;\n'
    )


def test_the_tools_are_asked_for_the_boards_device(fakes: Path, tmp_path: Path) -> None:
    network = random_population(16, 8)
    steps: list[tuple[int, int, str]] = []
    placed = open_flow.build(
        network, "ulx3s", tmp_path / "out", options=LANES, seed=5, progress=lambda *s: steps.append(s)
    )
    assert (tmp_path / "out" / "calls.txt").read_text() == (
        "yosys -q -l yosys.log -s synth.ys\n"
        "read_rtlil top.il\n"
        "rename -hide */w:*\\[*\n"
        "synth_ecp5 -top board_top -json netlist.json\n"
        "nextpnr-ecp5 --85k --package CABGA381 --speed 6 --freq 25 --seed 5 --timing-allow-fail --json netlist.json "
        "--lpf top.lpf --report report.json --textcfg top.config\n"
        "ecppack --compress --input top.config --bit top.bit\n"
    )
    assert placed.bitstream == tmp_path / "out" / "top.bit" and placed.bitstream.read_text() == "bits"
    link = json.loads((tmp_path / "out" / "link.json").read_text())
    assert link == {"identity": identity(network), "board": "ulx3s", "baud": 1_000_000, "clock_mhz": 25.0}
    assert steps == [(0, 3, "synthesis"), (1, 3, "place and route"), (2, 3, "bitstream")]


def test_an_ice40_board_is_built_by_its_own_tools(fakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = {"fmax": {"clk": {"achieved": 30.0, "constraint": 12.0}}, "utilization": {"ICESTORM_LC": {"used": 900}}}
    (tmp_path / "report.json").write_text(json.dumps(report))
    (tmp_path / "stat.json").write_text(
        json.dumps({"design": {"num_cells_by_type": {"SB_DFF": 5, "SB_DFFESR": 2, "SB_LUT4": 9}}})
    )
    monkeypatch.setenv("FAKE_STAT", str(tmp_path / "stat.json"))
    placed = open_flow.build(random_population(16, 8), "icebreaker", tmp_path / "out", options=LANES)
    assert (tmp_path / "out" / "calls.txt").read_text() == (
        "yosys -q -l yosys.log -s synth.ys\n"
        "read_rtlil top.il\n"
        "rename -hide */w:*\\[*\n"
        "setattr -unset ram_style */a:ram_style=distributed\n"
        "synth_ice40 -device u -dsp -top board_top -json netlist.json\n"
        "tee -q -o stat.json stat -json -top board_top\n"
        "nextpnr-ice40 --up5k --package sg48 --freq 12 --seed 1 --timing-allow-fail --json netlist.json "
        "--pcf top.pcf --report report.json --asc top.asc\n"
        "icepack top.asc top.bin\n"
    )
    assert (tmp_path / "out" / "top.pcf").read_text() == (
        "set_io clk 35\nset_io -pullup yes rx 6\nset_io tx 9\nset_io led0 11\nset_io led1 37\n"
        "set_frequency clk 12.000000\n"
    )
    assert placed.bitstream == tmp_path / "out" / "top.bin"
    assert (placed.lut, placed.ff) == (900, 7)


def test_an_ice40_runs_at_its_boards_clock_only(tmp_path: Path) -> None:
    with pytest.raises(
        open_flow.FlowError, match=r"^board icebreaker: expected its own clock of 12 MHz .*, got 24 MHz$"
    ):
        open_flow.build(random_population(16, 8), "icebreaker", tmp_path / "o", options=LANES, frequency_mhz=24.0)


def test_a_second_build_comes_from_the_cache(fakes: Path, tmp_path: Path) -> None:
    network = random_population(16, 8)
    open_flow.build(network, "ulx3s", tmp_path / "a", options=LANES)
    open_flow.build(network, "ulx3s", tmp_path / "b", options=LANES)
    assert len(list(fakes.iterdir())) == 1
    assert (tmp_path / "a" / "top.il").read_bytes() == (tmp_path / "b" / "top.il").read_bytes()


def test_another_clock_goes_through_the_pll(fakes: Path, tmp_path: Path) -> None:
    open_flow.build(random_population(16, 8), "ulx3s", tmp_path / "out", options=LANES, frequency_mhz=50.0)
    assert "EHXPLLL" in (tmp_path / "out" / "top.il").read_text()
    assert "--freq 50" in (tmp_path / "out" / "calls.txt").read_text()
    assert 'FREQUENCY PORT "clk" 25.000000 MHZ' in (tmp_path / "out" / "top.lpf").read_text()


def test_a_clock_that_is_not_reached_is_an_error(fakes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    report = json.loads(REPORT.read_text())
    report["fmax"] = {"clk": {"achieved": 20.0, "constraint": 25.0}}
    slow = tmp_path / "slow.json"
    slow.write_text(json.dumps(report))
    monkeypatch.setenv("FAKE_REPORT", str(slow))
    with pytest.raises(
        open_flow.FlowError, match=r"^board ulx3s: expected 25\.0 MHz, got 20\.0 MHz; ask for a slower clock"
    ):
        open_flow.build(random_population(16, 8), "ulx3s", tmp_path / "out", options=LANES)


def test_a_capacity_only_board_has_no_bitstream(tmp_path: Path) -> None:
    with pytest.raises(
        open_flow.FlowError, match=r"^board zcu104: expected an ecp5 or ice40 board for a bitstream, got flow 'xcup'$"
    ):
        open_flow.build(random_population(16, 8), "zcu104", tmp_path / "out", options=LANES)


def test_too_many_lanes_for_the_board_are_refused_before_any_tool_runs(tmp_path: Path) -> None:
    network = random_population(784, 4096)
    with pytest.raises(fit.FitError, match=r"^board ulx3s: 4096 synapse lanes are too many: about \d+ LUT"):
        open_flow.build(network, "ulx3s", tmp_path / "out", options=HardwareOptions({"h": Lanes(4096, 64)}))
    assert not (tmp_path / "out").exists()


# ID codes of the devices (FPGA-TN-02039; Project Trellis, devices.json), as they are in a bitstream.
ID_CODES = {
    "ulx3s": 0x41113043,
    "ulx3s-12f": 0x21111043,
    "ecpix5-85": 0x81113043,
    "colorlight-i5": 0x41111043,
    "orangecrab": 0x41111043,
}


def test_every_ecp5_board_has_a_real_bitstream_below() -> None:
    assert set(ID_CODES) == {name for name in boards.names() if boards.load(name).flow == "ecp5"}


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(ID_CODES))
def test_a_real_bitstream_meets_its_clock(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_CACHE", str(tmp_path / "cache"))
    clock = 50.0 if name == "ulx3s" else None  # through the PLL, and the board's own
    placed = open_flow.build(random_population(32, 8), name, tmp_path / "out", options=LANES, frequency_mhz=clock)
    assert placed.met and placed.bitstream is not None
    # A bitstream opens with its comment's marker FF 00 (FPGA-TN-02039) and holds the device's ID code.
    raw = placed.bitstream.read_bytes()
    assert raw.startswith(b"\xff\x00") and np.uint32(ID_CODES[name]).tobytes()[::-1] in raw
    assert (tmp_path / "out" / "report.json").is_file()


@pytest.mark.heavy
def test_a_real_ice40_bitstream_meets_its_clock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_CACHE", str(tmp_path / "cache"))
    placed = open_flow.build(random_population(32, 8), "icebreaker", tmp_path / "out", options=LANES)
    assert placed.met and placed.bitstream is not None and placed.bram >= 5
    # Preamble of an iCE40 bitstream: 7E AA 99 7E (Project IceStorm's description of the format).
    assert b"\x7e\xaa\x99\x7e" in placed.bitstream.read_bytes()[:64]
