"""Vivado's reports as figures, and prices from its power reports; samples in Vivado's form, written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from apical.hw import vivado, vivado_report
from apical.hw.vivado_report import PowerRun
from apical.sw import prices

FOLDER = Path(__file__).parent / "expected" / "vivado_reports"
UTILIZATION, TIMING, POWER = ((FOLDER / name).read_text() for name in vivado.REPORTS)
COUNTS = {
    "weight_read": 1_000_000,
    "weight_read bits": 8_000_000,
    "add": 1_000_000,
    "law_add": 200_000,
    "law_compare": 100_000,
    "law_multiply": 100_000,
    "event_sent": 50_000,
    "state_read bits": 300_000,
    "state_write bits": 300_000,
}


def test_utilization_is_used_available_and_percent() -> None:
    found = vivado_report.parse_utilization(UTILIZATION)
    assert (found["lut"], found["ff"], found["dsp"], found["bram"], found["uram"]) == (6521, 7003, 16, 64.5, 0)
    assert (found["lut_logic"], found["lut_memory"]) == (6001, 520)
    assert found["available"]["bram"] == 144 and found["percent"]["bram"] == 44.79


def test_an_older_report_without_a_prohibited_column_reads_the_same() -> None:
    """Vivado 2018 to 2021.1, and a device of an older family with a starred row."""
    lines = [line.replace(" |          0 |", " |", 1) for line in UTILIZATION.splitlines()]
    older = "\n".join(lines).replace(" Prohibited |", "").replace("CLB LUTs  ", "CLB LUTs* ")
    assert older != UTILIZATION
    assert vivado_report.parse_utilization(older)["lut"] == 6521
    assert vivado_report.parse_utilization(older)["available"]["lut"] == 117_120


def test_timing_gives_slack_and_the_frequency_that_it_leaves() -> None:
    found = vivado_report.parse_timing(TIMING)
    assert (found["wns_ns"], found["whs_ns"], found["failing_endpoints"], found["met"]) == (2.667, 0.021, 0, True)
    assert found["clocks"] == {"aclk": {"period_ns": 6.667, "wns_ns": 2.667, "fmax_mhz": 250.0}}
    assert found["fmax_mhz"] == 250.0 and round(found["target_mhz"]) == 150


def test_timing_that_fails_is_not_met() -> None:
    text = TIMING.replace("  2.667        0.000                      0", " -0.333       -1.950                     20")
    found = vivado_report.parse_timing(text)
    assert (found["wns_ns"], found["tns_ns"], found["failing_endpoints"], found["met"]) == (-0.333, -1.95, 20, False)
    assert found["fmax_mhz"] == pytest.approx(1e3 / 7.0, abs=0.01)


def test_of_several_clocks_the_one_furthest_behind_counts() -> None:
    aclk = [line + "\n" for line in TIMING.splitlines() if line.startswith("aclk")]
    text = TIMING.replace(aclk[0], aclk[0] + "fast   {0.000 1.000}        2.000           500.000         \n")
    text = text.replace(aclk[1], aclk[1] + aclk[1].replace("aclk", "fast").replace("2.667", "0.100"))
    found = vivado_report.parse_timing(text)
    assert found["clocks"]["fast"] == {"period_ns": 2.0, "wns_ns": 0.1, "fmax_mhz": 526.32}
    assert (found["target_mhz"], found["fmax_mhz"]) == (500.0, 526.32)


def test_a_clock_without_paths_has_no_frequency() -> None:
    text = TIMING.replace("      2.667        0.000", "         NA           NA").replace(
        "aclk                2.667        0.000", "aclk                                  "
    )
    found = vivado_report.parse_timing(text)
    assert found["wns_ns"] is None and found["fmax_mhz"] is None and not found["met"]


def test_power_is_split_by_component_and_instance() -> None:
    found = vivado_report.parse_power(POWER)
    assert (found["total_w"], found["dynamic_w"], found["static_w"]) == (0.488, 0.188, 0.3)
    assert found["components"]["Block RAM"] == 0.08 and found["components"]["CARRY8"] == vivado_report.SMALL
    assert found["hierarchy"]["apical_axi/accelerator/population1"] == 0.018
    assert (found["activity"], found["nets_matched"], found["confidence"]) == ("activity.saif", 0.89, "High")


@pytest.mark.parametrize(
    ("parse", "message"),
    [
        (vivado_report.parse_utilization, r"^report_utilization: expected a table with 'CLB LUTs', found none$"),
        (vivado_report.parse_timing, r"^report_timing_summary: expected a design timing summary, found none$"),
        (vivado_report.parse_power, r"^report_power: expected a summary with 'Dynamic \(W\)' and a table"),
    ],
)
@pytest.mark.parametrize("text", ["", "not a report", "+--+\n| |\n+--+\n"])
def test_a_text_that_is_no_report_is_an_error(parse: object, message: str, text: str) -> None:
    assert callable(parse)
    with pytest.raises(vivado.VivadoError, match=message):
        parse(text)


def test_a_folder_s_reports_are_read_together(tmp_path: Path) -> None:
    assert set(vivado_report.read(FOLDER)) == {"utilization", "timing", "power"}
    with pytest.raises(vivado.VivadoError, match=r"expected utilization\.rpt, timing\.rpt, power\.rpt, found none"):
        vivado_report.read(tmp_path)
    (tmp_path / "timing.rpt").write_text("x")
    with pytest.raises(vivado.VivadoError, match=r"timing\.rpt: report_timing_summary: expected"):
        vivado_report.read(tmp_path)


def _run(text: str = POWER, seconds: float = 0.01) -> PowerRun:
    return PowerRun(vivado_report.parse_power(text), COUNTS, seconds, "Vivado report_power, sample")


def test_prices_are_power_times_time_over_work() -> None:
    table = vivado_report.fit_prices([_run()], "my-board")
    each = {kind: price["value"] for kind, price in table["prices"].items()}
    # 80 mW for 10 ms over 8,000,000 bits read: 100 pJ a bit
    assert each["weight_read"] == pytest.approx(100.0)
    # logic without its RAM, and wires: 30 - 4 + 36 mW over 1,350,000 operations
    assert each["add"] == each["law_add"] == each["event_sent"] == pytest.approx(62e-3 * 0.01 / 1.35e6 * 1e12, rel=1e-5)
    assert each["law_multiply"] == pytest.approx(2e-3 * 0.01 / 1e5 * 1e12)
    assert each["state_read"] == pytest.approx(4e-3 * 0.01 / 6e5 * 1e12, rel=1e-5)
    assert table["static_power"]["value"] == 340.0  # device and clock tree


def test_prices_of_the_same_work_give_the_reports_energy_back(tmp_path: Path) -> None:
    path = tmp_path / "my-board.yaml"
    technology = vivado_report.write_technology(path, vivado_report.fit_prices([_run()], "my-board"))
    counts = {k: v for k, v in COUNTS.items()} | {"state_read": 10, "state_write": 10}
    found = prices.joules(counts, technology, seconds=0.01)
    assert found.total == pytest.approx(0.488 * 0.01, rel=1e-4) and not found.unpriced


def test_several_reports_are_one_sum() -> None:
    quiet = POWER.replace("|     0.080 |", "|     0.040 |")
    table = vivado_report.fit_prices([_run(), _run(quiet, 0.03)], "my-board")
    assert table["prices"]["weight_read"]["value"] == pytest.approx((0.08 * 0.01 + 0.04 * 0.03) / 16e6 * 1e12)


def test_work_without_power_gets_no_price_and_the_table_says_so() -> None:
    table = vivado_report.fit_prices([_run(POWER.replace("|     0.002 |       16", "|     0.000 |       16"))], "b")
    assert "law_multiply" not in table["prices"] and "Without a price" in table["about"] and "DSP" in table["about"]


def test_power_that_knows_no_workload_gives_no_prices() -> None:
    guessed = POWER.replace("activity.saif      ", "---                ")
    with pytest.raises(vivado.VivadoError, match=r"knows no switching activity: its dynamic power is Vivado's guess"):
        vivado_report.fit_prices([_run(guessed)], "my-board")
    with pytest.raises(vivado.VivadoError, match=r"expected a time above 0, got 0"):
        vivado_report.fit_prices([_run(seconds=0)], "my-board")
    with pytest.raises(vivado.VivadoError, match=r"expected at least one power report"):
        vivado_report.fit_prices([], "my-board")
