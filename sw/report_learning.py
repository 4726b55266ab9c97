"""The report's figures of a chip that learns over its life: joules of inference and learning, and wear, by rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from apical.sw.report_plots import COLOURS, plain, scale_of, style

KEYS = ("rule", "accuracy", "technology", "device", "joules", "writes_per_weight", "endurance", "life_years", "curve")
COLUMNS = 3  # of panels
Rows = Sequence[Mapping[str, Any]]


def _first(rows: Rows, key: str) -> list[str]:
    """Values of a key, each once, in their order."""
    return list(dict.fromkeys(str(row[key]) for row in rows))


def by_technology(rows: Rows) -> list[Mapping[str, Any]]:
    """The rows of each technology together, in the order of first appearance."""
    names = _first(rows, "technology")
    return sorted(rows, key=lambda row: names.index(row["technology"]))


def span(years: float | None) -> str:
    """A time with a fitting unit: ``14.1 hours``, ``44.5 days``, ``383 years``; a dash for None."""
    if years is None:
        return "–"
    days = years * 365.25
    value, unit = (years, "years") if years >= 1 else (days, "days") if days >= 1 else (days * 24, "hours")
    return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}"


def energy(rows: Rows) -> go.Figure:
    """Joules since the first day, one panel and scale per technology: solid with learning, dotted the inference."""
    names = _first(rows, "technology")
    tops = {name: max(_peak(r) for r in rows if r["technology"] == name) for name in names}
    scales = {name: scale_of(top or 1.0) for name, top in tops.items()}
    columns = min(len(names), COLUMNS)
    titles = [plain(f"{name}, {scales[name][1]}") for name in names]
    depth = -(-len(names) // columns)
    figure = make_subplots(rows=depth, cols=columns, subplot_titles=titles, vertical_spacing=0.24 / depth)
    style(figure, height=110 + 290 * depth)
    figure.update_layout(margin={"t": 96}, legend={"y": 1 + 0.16 / depth})
    for place, name in enumerate(names):
        at = {"row": place // columns + 1, "col": place % columns + 1}
        for k, row in enumerate(r for r in rows if r["technology"] == name):
            line, rule = {"color": COLOURS[k % len(COLOURS)], "width": 2.2}, plain(str(row["rule"]))
            for what, values in _lines(row).items():
                figure.add_scatter(
                    x=row["curve"]["years"],
                    y=[v / scales[name][0] for v in values],
                    name=rule,
                    legendgroup=rule,
                    showlegend=place == 0 and what == next(iter(_lines(row))),
                    mode="lines",
                    line=line if what != "inference" else line | {"width": 1.2, "dash": "dot"},
                    hovertemplate=f"{rule}, {what}: %{{y:.3g}} {scales[name][1]} in %{{x:.3g}} years",
                    **at,
                )
        figure.update_xaxes(title="years" if place + columns >= len(names) else "", **at)
    return figure


def _lines(row: Mapping[str, Any]) -> dict[str, list[float]]:
    """What of a row can be drawn over the years."""
    inference, learning = row["curve"]["inference"], row["curve"]["learning"]
    if inference is None:
        return {}
    whole = None if learning is None else [a + b for a, b in zip(inference, learning, strict=True)]
    return ({} if whole is None else {"inference and learning": whole}) | {"inference": inference}


def _peak(row: Mapping[str, Any]) -> float:
    return max((max(values) for values in _lines(row).values()), default=0.0)


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
    """What the page's table shows, one row per technology and rule; times as text."""
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
            "life": span(row["life_years"]["most_written"]),
            "levelled": span(row["life_years"]["levelled"]),
        }
        for row in by_technology(rows)
    ]
