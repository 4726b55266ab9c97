"""What `apical energy` prints: joules, then one table of this network beside its baselines, then its neuron updates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from apical.sw.cli_common import CliError, figure, table
from apical.sw.golden import Progress, Trace, run
from apical.sw.network import IntArray, Network
from apical.sw.ratios import needs_states
from apical.sw.recurrent_baselines import CONSTANTS, Constants

STATE_BYTES = 1 << 30
RATIOS = {"counted": "ratio_counted", "operations": "ratio_operations", "formula": "ratio_formula"}


def constants(mac_pj: float | None, ac_pj: float | None) -> tuple[Constants, ...]:
    """The shipped constants, and the user's own where both are given.

    :raises CliError: only one of them, or not 0 < E_AC < E_MAC.
    """
    if mac_pj is None and ac_pj is None:
        return CONSTANTS
    if mac_pj is None or ac_pj is None:
        raise CliError("--mac and --ac: expected both, got one")
    try:
        return (*CONSTANTS, Constants("own", mac_pj, ac_pj, "given on the command line"))
    except ValueError as error:
        raise CliError(f"--mac and --ac: {error}") from None


def count(network: Network, x: IntArray, progress: Progress) -> Trace:
    """Golden's run; with states where a firing rate is only in them and they fit into memory."""
    words = sum(p.size * len(p.initial) for p in network.populations) * x.shape[0] * x.shape[1]
    return run(network, x, states=needs_states(network) and 8 * words <= STATE_BYTES, progress=progress)


def _number(value: float | None) -> str:
    """A number of a table: four digits, no exponent."""
    if value is None:
        return "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _columns(rows: Sequence[Sequence[str]], words: int = 3) -> str:
    """Text in columns, the first `words` of them to the left, the others to the right."""
    widths = [max(len(row[k]) for row in rows) for k in range(len(rows[0]))]
    lines = []
    for row in rows:
        cells = zip(row, widths, strict=True)
        lines.append("  ".join(f"{c:<{w}}" if k < words else f"{c:>{w}}" for k, (c, w) in enumerate(cells)).rstrip())
    return "\n".join(lines)


def _joules(answer: Mapping[str, Any]) -> str:
    """Joules per sample of this network and, beside it, of the dense baseline's variants."""
    own = {
        "technology": f"{answer['technology']}: {answer['title']}",
        "samples": f"{answer['samples']} of {answer['ticks']} ticks",
        **{k: answer[k] for k in ("accuracy", "error") if answer.get(k) is not None},
        "joules per sample": answer["joules_per_sample"],
        "by part": answer["by_part"],
        "by kind": answer["by_kind"] | {"static": answer["static_joules_per_sample"]},
        "share of neuron updates": answer["update_share"],
        "transmissions per sample": answer["transmissions_per_sample"],
        "counted, without a price": ", ".join(answer["unpriced"]) or "nothing",
        "activity": answer["activity"],
    }
    if "firing_rates" in answer:
        own["firing rates"] = answer["firing_rates"]
    rows = [["dense baseline, joules per sample", "joules", "ratio to ours"]]
    for name, variant in answer["baseline"]["variants"].items():
        rows.append([name, figure(variant["joules_per_sample"]), _number(variant["ratio"])])
    notes = [f"note: {note}" for note in (*answer["notes"], *answer.get("ratio_notes", ()))]
    return "\n".join([table(own), *notes, "", _columns(rows, words=1)])


def _table(answer: Mapping[str, Any]) -> str:
    """The one table: this network, and all baselines by formula and counted."""
    rows = [["network", "by", "prices", "pJ", *RATIOS, "pJ without updates", *RATIOS]]
    for own in answer["ours"]:
        whole, bare = own["picojoules_per_tick"], own["picojoules_per_tick_without_updates"]
        blank = [""] * len(RATIOS)
        rows.append(["this one", own["name"], own["constants"], _number(whole), *blank, _number(bare), *blank])
    bare_rows = {(r["name"], r["by"], r["constants"]): r for r in answer["baselines"] if not r["with_updates"]}
    for whole in (r for r in answer["baselines"] if r["with_updates"]):
        line = [whole["name"] + (f"-{whole['units']}" if whole["units"] else ""), whole["by"], whole["constants"]]
        for row in (whole, bare_rows[whole["name"], whole["by"], whole["constants"]]):
            line += [_number(row["picojoules_per_tick"]), *(_number(row[key]) for key in RATIOS.values())]
        rows.append(line)
    return _columns(rows)


def _forms(answer: Mapping[str, Any]) -> str:
    rows = [["form", "", "prices", "pJ", "of it updates", "multiplications"]]
    for r in answer["update_forms"]:
        share = "-" if r["update_share"] is None else f"{r['update_share']:.1%}"
        numbers = [_number(r["picojoules_per_tick"]), share, _number(r["multiplications_per_tick"])]
        rows.append([r["name"], "as built" if r["built"] else "", r["constants"], *numbers])
    return _columns(rows)


def text(answer: Mapping[str, Any]) -> str:
    """The answer of `apical.sw.energy.report` for a person."""
    out = [_joules(answer)]
    if "baselines" in answer:
        out.append(f"Per tick. The columns {', '.join(RATIOS)}: a baseline's energy divided by ours by that method.")
        out.append(_table(answer))
    if answer.get("update_forms"):
        out.append("This network, counted per tick, with its laws in three forms")
        out.append(_forms(answer))
    if "constants" in answer:
        prices = (f"{c['name']}: E_MAC {c['mac_pj']:g}, E_AC {c['ac_pj']:g} pJ" for c in answer["constants"])
        out.append("\n".join([*prices, "Formulas and sources: docs/reference/energy.md"]))
    return "\n\n".join(out)
