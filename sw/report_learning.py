"""The report's figures of a chip that learns over its life: joules of inference and learning, and wear, by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from apical.sw.report_plots import COLOURS, plain, scale_of, style

KEYS = ("rule", "accuracy", "technology", "device", "joules", "writes_per_weight", "endurance", "life_years", "curve")
Rows = Sequence[Mapping[str, Any]]


def _first(rows: Rows, key: str) -> list[str]:
    """Values of a key, each once, in their order."""
    return list(dict.fromkeys(str(row[key]) for row in rows))


def energy(rows: Rows) -> go.Figure:
    """Joules from the first day on, one panel per technology: solid with learning, dotted the inference in it."""
    names = _first(rows, "technology")
    figure = make_subplots(rows=1, cols=len(names), subplot_titles=[plain(n) for n in names], shared_yaxes=True)
    style(figure, height=440)
    figure.update_layout(margin={"t": 96}, legend={"y": 1.14})
    peak = max(max(row["curve"]["inference"] or [0.0]) for row in rows)
    unit, unit_name = scale_of(peak or 1.0)
    for col, name in enumerate(names, 1):
        for k, row in enumerate(r for r in rows if r["technology"] == name):
            colour, curve = COLOURS[k % len(COLOURS)], row["curve"]
            lines = {"inference": curve["inference"]}
            if curve["inference"] is not None and curve["learning"] is not None:
                whole = [a + b for a, b in zip(curve["inference"], curve["learning"], strict=True)]
                lines = {"inference and learning": whole, **lines}
            for what, values in lines.items():
                if values is None:
                    continue
                figure.add_scatter(
                    x=curve["years"],
                    y=[v / unit for v in values],
                    name=plain(str(row["rule"])),
                    legendgroup=str(row["rule"]),
                    showlegend=col == 1 and what == next(iter(lines)),
                    mode="lines",
                    line={"color": colour, "width": 1.2 if what == "inference" else 2.2}
                    | ({"dash": "dot"} if what == "inference" else {}),
                    hovertemplate=f"{plain(str(row['rule']))}, {what}: %{{y:.3g}} {unit_name} in %{{x:.3g}} years",
                    row=1,
                    col=col,
                )
    figure.update_xaxes(title="years (log)", type="log")
    figure.update_yaxes(type="log")
    figure.update_yaxes(title=f"{unit_name} since the first day (log)", row=1, col=1)
    return figure


def wear(rows: Rows) -> go.Figure:
    """Writes of the most-written weight from the first day on, by rule; across it what each technology stands."""
    figure = go.Figure()
    style(figure, height=440)
    one = [r for r in rows if r["technology"] == rows[0]["technology"]]
    for k, row in enumerate(one):
        figure.add_scatter(
            x=row["curve"]["years"],
            y=row["curve"]["most_written"],
            name=plain(str(row["rule"])),
            mode="lines",
            line={"color": COLOURS[k % len(COLOURS)], "width": 2.2},
            hovertemplate=f"{plain(str(row['rule']))}: %{{y:,.0f}} writes in %{{x:.3g}} years",
        )
    ends = [one[0]["curve"]["years"][0], one[0]["curve"]["years"][-1]]
    for name, limit in {r["technology"]: r["endurance"] for r in rows if r["endurance"] is not None}.items():
        figure.add_scatter(
            x=ends,
            y=[limit, limit],
            mode="lines+text",
            text=[plain(f"{name}: {limit:,}"), ""],
            textposition="top right",
            showlegend=False,
            line={"color": "#77808c", "width": 1.2, "dash": "dash"},
            hovertemplate=f"{plain(name)}: stands {limit:,} writes",
        )
    figure.update_xaxes(title="years (log)", type="log")
    figure.update_yaxes(title="writes of the most-written weight (log)", type="log")
    return figure


def section(rows: Rows) -> list[tuple[str, str, list[go.Figure]]]:
    """Title, caption and figure of every plot of stored lives; none where there are none.

    :param rows: as `apical.sw.life.compare` makes them, all with `KEYS`.
    """
    if not rows:
        return []
    device, where = rows[0]["device"], "On the golden model; the RTL's counters are equal."
    lives = f"{device['per_day']:,.0f} samples a day, {device['learned']:.0%} of them learned"
    caption = f"{lives}. {where} Solid: inference and learning; dotted: the inference in it."
    blank = _first([row for row in rows if row["joules"]["total"] is None], "technology")
    if blank:
        caption += f" No price of a weight write in {', '.join(blank)}: inference only."
    out = [("Energy over a life", caption, [energy(rows)])]
    caption = f"{lives}. Each weight in its place; the weights' memory is at its end where a line meets the dashes."
    out.append(("Wear over a life", caption, [wear(rows)]))
    return out


def table(rows: Rows) -> list[dict[str, Any]]:
    """What the page's table shows, one row per technology and rule."""
    return [
        {
            "technology": row["technology"],
            "rule": row["rule"],
            "accuracy": row["accuracy"],
            "inference": row["joules"]["inference"],
            "learning": None if row["joules"]["total"] is None else row["joules"]["total"] - row["joules"]["inference"],
            "writes": row["joules"]["writes"],
            "most": row["writes_per_weight"]["most"],
            "mean": row["writes_per_weight"]["mean"],
            "endurance": row["endurance"],
            "life": row["life_years"]["most_written"],
            "levelled": row["life_years"]["levelled"],
        }
        for row in rows
    ]
