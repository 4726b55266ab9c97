"""What Vivado reports, as plain figures, and energy prices from its power reports.

The forms are those of ``report_utilization``, ``report_timing_summary`` and ``report_power`` in Vivado 2018 to 2024, as
public repositories hold them (tables between ``+---+`` lines; columns differ by version). No Vivado was run here.

A power report that knows a workload's switching (``read_saif``) gives prices: for each kind of resource

    price of a unit of work = dynamic power × time / counted units of the work that this resource does

with `WORK` saying which. What flows whether or not there is work (clock tree, leakage) becomes static power.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from apical.hw.vivado import REPORTS, VivadoError
from apical.sw.bundle import write_file
from apical.sw.prices import Technology, load_technology

SMALL = 0.0005
"""Watts that ``<0.001`` counts as: the middle."""

_ROW = re.compile(r"^\|(.*)\|\s*$")
_RESOURCES = {
    "lut": ("CLB LUTs", "Slice LUTs"),
    "lut_logic": ("LUT as Logic",),
    "lut_memory": ("LUT as Memory",),
    "ff": ("CLB Registers", "Slice Registers"),
    "bram": ("Block RAM Tile",),
    "uram": ("URAM",),
    "dsp": ("DSPs", "DSP Slices"),
}
WORK: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "block RAM": (("Block RAM", "URAM"), ("weight_read",), "pJ/bit"),
    "distributed RAM": (("LUT as Distributed RAM",), ("state_read", "state_write", "parameter_read"), "pJ/bit"),
    "DSP": (("DSPs",), ("multiply", "law_multiply"), "pJ"),
    "logic and wires": (
        ("CLB Logic", "Signals"),
        ("add", "law_add", "law_compare", "law_table_read", "event_sent"),
        "pJ",
    ),
}
"""Kind of resource: rows of the power report, their work, its unit. Within a kind every unit costs the same."""
_INSIDE = {"logic and wires": ("LUT as Distributed RAM",)}  # rows of a kind that are priced by another
FLOWING = ("Clocks", "MMCM", "PLL")


def _number(text: str) -> float | None:
    """A table's number; None for NA and dashes."""
    text = text.strip().rstrip("*%")
    if text.startswith("<"):
        return SMALL
    try:
        return float(text)
    except ValueError:
        return None


def _tables(text: str) -> list[list[list[str]]]:
    """Rows of every table between ``+---+`` lines; the first cell keeps its indentation."""
    tables: list[list[list[str]]] = []
    inside = False
    for line in text.splitlines():
        if re.match(r"^\s*\+-[-+]*\+\s*$", line):
            if not inside:
                tables.append([])
            inside = True
        elif inside and (row := _ROW.match(line.strip())):
            cells = row.group(1).split("|")
            tables[-1].append([cells[0].rstrip()[1:], *(c.strip() for c in cells[1:])])
        else:
            inside = False
    return [t for t in tables if t]


def _bad(what: str, expected: str) -> VivadoError:
    return VivadoError(f"{what}: expected {expected}, found none")


def parse_utilization(text: str) -> dict[str, Any]:
    """Used, available and percent of LUT, flip-flops, DSP slices, block RAM (RAMB36; a RAMB18 is a half) and URAM.

    :returns: ``lut``, ``ff``, ``dsp``, ``bram``, ``uram``, ``lut_logic``, ``lut_memory``; ``available``; ``percent``.
    :raises VivadoError: no such report.
    """
    used: dict[str, float] = {}
    available: dict[str, int] = {}
    for table in _tables(text):
        head = [cell.strip() for cell in table[0]]
        if "Site Type" not in head or "Used" not in head or "Available" not in head:
            continue
        for row in table[1:]:
            name = row[0].strip().rstrip("*").strip()
            for key, names in _RESOURCES.items():
                if name in names and key not in used and len(row) == len(head):
                    count, most = _number(row[head.index("Used")]), _number(row[head.index("Available")])
                    if count is not None:
                        used[key] = count
                        available[key] = int(most or 0)
    if missing := [k for k in ("lut", "ff", "dsp", "bram") if k not in used]:
        raise _bad("report_utilization", f"a table with {_RESOURCES[missing[0]][0]!r}")
    whole: dict[str, Any] = {k: int(v) if v == int(v) else v for k, v in used.items()}
    whole.setdefault("uram", 0)
    percent = {k: round(100 * used[k] / available[k], 2) for k in used if available.get(k)}
    return whole | {"available": available, "percent": percent}


def _columns(text: str, first: str) -> list[dict[str, str]]:
    """Rows of a table whose columns are set by spaces, under its line of dashes; where cells are empty too."""
    lines = text.splitlines()
    for n, line in enumerate(lines[:-1]):
        if first in line and re.fullmatch(r"[\s-]+", lines[n + 1]) and "--" in lines[n + 1]:
            spans = [m.span() for m in re.finditer(r"-+", lines[n + 1])]
            names = re.split(r"\s{2,}", line.strip())
            if len(names) != len(spans):
                continue
            rows = []
            for row in lines[n + 2 :]:
                if not row.strip():
                    break
                ends = [end for _, end in spans]
                cells, start = [], 0
                for end in ends[:-1]:
                    while end < len(row) and row[end] != " ":  # a name longer than its column
                        end += 1
                    cells.append(row[start:end].strip())
                    start = end
                rows.append(dict(zip(names, [*cells, row[start:].strip()], strict=True)))
            return rows
    return []


def parse_timing(text: str) -> dict[str, Any]:
    """Slacks, clocks and the frequency that the slowest clock could have.

    :returns: ``wns_ns``, ``tns_ns``, ``whs_ns`` (None where there are no paths), ``failing_endpoints``, ``clocks``
        (``period_ns``, ``wns_ns``, ``fmax_mhz`` = 1 / (period − slack)), ``fmax_mhz``, ``target_mhz``, ``met``.
    :raises VivadoError: no such report.
    """
    rows = _columns(text, "TNS Failing Endpoints")
    if not rows:
        raise _bad("report_timing_summary", "a design timing summary")
    summary = {k: _number(v) for k, v in rows[0].items()}
    clocks: dict[str, dict[str, float | None]] = {}
    for row in _columns(text, "Period(ns)"):
        if (period := _number(row["Period(ns)"])) is not None:
            clocks[row["Clock"]] = {"period_ns": period, "wns_ns": None, "fmax_mhz": None}
    intra = text[text.find("Intra Clock Table") :] if "Intra Clock Table" in text else ""
    for row in _columns(intra, "WNS(ns)"):
        if row["Clock"] in clocks and (slack := _number(row["WNS(ns)"])) is not None:
            clocks[row["Clock"]]["wns_ns"] = slack
    if len(clocks) == 1 and summary["WNS(ns)"] is not None:
        next(iter(clocks.values()))["wns_ns"] = summary["WNS(ns)"]
    for c in clocks.values():
        if c["wns_ns"] is not None and c["period_ns"] is not None and c["period_ns"] > c["wns_ns"]:
            c["fmax_mhz"] = round(1e3 / (c["period_ns"] - c["wns_ns"]), 2)
    timed = {n: c for n, c in clocks.items() if c["wns_ns"] is not None}
    slowest = min(timed, key=lambda n: (timed[n]["wns_ns"] or 0.0) / (timed[n]["period_ns"] or 1.0)) if timed else None
    failing = [summary.get(f"{k} Failing Endpoints") or 0.0 for k in ("TNS", "THS", "TPWS")]
    return {
        "wns_ns": summary["WNS(ns)"],
        "tns_ns": summary["TNS(ns)"],
        "whs_ns": summary.get("WHS(ns)"),
        "failing_endpoints": int(sum(failing)),
        "clocks": clocks,
        "fmax_mhz": None if slowest is None else timed[slowest]["fmax_mhz"],
        "target_mhz": None if slowest is None else round(1e3 / (timed[slowest]["period_ns"] or 1.0), 3),
        "met": summary["WNS(ns)"] is not None and not any(failing),
    }


def parse_power(text: str) -> dict[str, Any]:
    """Watts in all, dynamic, static, by component and by hierarchy.

    :returns: ``total_w``, ``dynamic_w``, ``static_w``, ``confidence``, ``activity`` (the SAIF that was read, or None),
        ``nets_matched`` (share, or None), ``components`` (rows of the on-chip table, ``<0.001`` as `SMALL`),
        ``hierarchy`` (instance path to watts).
    :raises VivadoError: no such report.
    """
    facts: dict[str, str] = {}
    components: dict[str, float] = {}
    hierarchy: dict[str, float] = {}
    for table in _tables(text):
        head = [cell.strip() for cell in table[0]]
        if head[0] == "On-Chip" and "Power (W)" in head:
            for row in table[1:]:
                if (watts := _number(row[1])) is not None:
                    components.setdefault(row[0].strip(), watts)
        elif head[:2] == ["Name", "Power (W)"]:
            path: list[str] = []
            for row in table[1:]:
                depth = (len(row[0]) - len(row[0].lstrip())) // 2
                path = [*path[:depth], row[0].strip()]
                if (watts := _number(row[1])) is not None:
                    hierarchy["/".join(path)] = watts
        else:
            facts |= {row[0].strip(): row[1] for row in table if len(row) == 2}
    found = {k: _number(facts.get(v, "")) for k, v in _TOTALS.items()}
    if found["total_w"] is None or found["dynamic_w"] is None or not components:
        raise _bad("report_power", "a summary with 'Dynamic (W)' and a table of on-chip components")
    matched = re.match(r"(\d+(?:\.\d+)?)%", facts.get("Design Nets Matched", ""))
    file = facts.get("Simulation Activity File", "---")
    return {
        **found,
        "confidence": facts.get("Confidence Level"),
        "activity": None if file in ("---", "") else file,
        "nets_matched": float(matched.group(1)) / 100 if matched else None,
        "components": components,
        "hierarchy": hierarchy,
    }


_TOTALS = {"total_w": "Total On-Chip Power (W)", "dynamic_w": "Dynamic (W)", "static_w": "Device Static (W)"}


def read(folder: Path) -> dict[str, Any]:
    """The reports of a folder that `apical.hw.vivado`'s scripts wrote, those that are there.

    :returns: ``utilization``, ``timing``, ``power``.
    :raises VivadoError: none is there, or one can't be read.
    """
    parsers = {"utilization.rpt": parse_utilization, "timing.rpt": parse_timing, "power.rpt": parse_power}
    found: dict[str, Any] = {}
    for name, parse in parsers.items():
        if (folder / name).is_file():
            try:
                found[name.removesuffix(".rpt")] = parse((folder / name).read_text(encoding="utf-8", errors="replace"))
            except VivadoError as error:
                raise VivadoError(f"{folder / name}: {error}") from None
    if not found:
        raise VivadoError(f"{folder}: expected {', '.join(REPORTS)}, found none of them")
    return found


@dataclass(frozen=True)
class PowerRun:
    """A power report and the workload whose switching it knows.

    :param power: `parse_power`'s.
    :param counts: counted work (`apical.sw.energy.counts`).
    :param seconds: the workload's time at the clock of the report.
    :param source: what the prices' source should say.
    """

    power: Mapping[str, Any]
    counts: Mapping[str, int]
    seconds: float
    source: str


def fit_prices(runs: Sequence[PowerRun], name: str, title: str = "", about: str = "") -> dict[str, Any]:
    """A technology table (docs/how-to/add-a-technology.md) from power reports with real switching.

    Each price is the energy of all runs over their work. Kinds of resource without power, or whose work wasn't counted,
    get no price, and `about` says so.

    :raises VivadoError: no run, a report without a workload's activity, or nothing to price.
    """
    if not runs:
        raise VivadoError("prices: expected at least one power report, got none")
    for run in runs:
        if run.power["activity"] is None:
            raise VivadoError(
                f"prices: {run.source}: the power report knows no switching activity: its dynamic power is Vivado's "
                "guess, not a workload's; make activity.saif (apical activity) and report again"
            )
        if not run.seconds > 0:
            raise VivadoError(f"prices: {run.source}: expected a time above 0, got {run.seconds} s")
    source = "; ".join(dict.fromkeys(run.source for run in runs))
    prices: dict[str, dict[str, object]] = {}
    left = []
    for kind, (rows, work, unit) in WORK.items():
        suffix = " bits" if unit == "pJ/bit" else ""
        joules = sum(
            run.seconds
            * (
                sum(run.power["components"].get(r, 0.0) for r in rows)
                - sum(run.power["components"].get(r, 0.0) for r in _INSIDE.get(kind, ()))
            )
            for run in runs
        )
        units = sum(run.counts.get(f"{w}{suffix}", 0) for run in runs for w in work)
        if joules <= 0 or units == 0:
            left.append(kind)
            continue
        note = (
            f"dynamic power of {' and '.join(rows)}: {joules:.6g} J over {units:,} {'bits' if suffix else 'units'} of "
        )
        for w in work:
            if any(run.counts.get(f"{w}{suffix}", 0) for run in runs):
                price = {"value": float(f"{joules / units * 1e12:.6g}"), "unit": unit, "status": "derived"}
                prices[w] = price | {"source": source[:600], "note": note + ", ".join(work)}
    if not prices:
        raise VivadoError("prices: no kind of resource has both power and counted work")
    total = sum(run.seconds for run in runs)
    flowing = sum(
        run.seconds * ((run.power["static_w"] or 0.0) + sum(run.power["components"].get(r, 0.0) for r in FLOWING))
        for run in runs
    )
    said = f"Without a price, because the reports or the counts have none: {', '.join(left)}." if left else ""
    table: dict[str, Any] = {
        "apical_technology": 1,
        "name": name,
        "title": title or "From Vivado's power reports",
        "about": " ".join(t for t in (about, "Estimated by Vivado, not measured.", said) if t),
        "prices": prices,
    }
    if flowing > 0:
        table["static_power"] = {
            "value": float(f"{flowing / total * 1e3:.6g}"),
            "unit": "mW",
            "status": "derived",
            "source": source[:600],
            "note": "device static power and the clock tree",
        }
    return table


def write_technology(path: Path, table: Mapping[str, Any]) -> Technology:
    """The table as a checked YAML file.

    :raises apical.sw.prices.EnergyError: out of the schema.
    """
    write_file(path, yaml.safe_dump(dict(table), sort_keys=False, width=120, allow_unicode=True))
    return load_technology(path)
