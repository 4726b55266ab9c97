"""Interactive plots of the report, as plotly figures. Colours of text, axes and background are the page's (its script
sets them for light and dark); colours of data are fixed and readable on both."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from apical.sw.golden import Trace
from apical.sw.network import IntArray, Network, Population

GOLDEN, RTL = "#d98c00", "#2f7fd0"
COLOURS = ("#2f7fd0", "#d98c00", "#2a9d6f", "#c9507b", "#8466c9", "#5aa7b5", "#b3652f", "#7f8c35", "#d0584a", "#77808c")
NEURONS_SHOWN, TICKS_SHOWN = 512, 400
KIND_COLOURS = {
    "synaptic_operation": "#2f7fd0",
    "weight_read": "#2f7fd0",
    "add": "#7fb8ea",
    "multiply": "#8466c9",
    "fp32_add": "#b9a5e8",
    "fp32_multiply": "#6a48b8",
    "accumulator_read": "#2a9d6f",
    "accumulator_write": "#74c7a5",
    "law_update": "#d98c00",
    "law_multiply": "#d98c00",
    "law_add": "#efb95c",
    "law_compare": "#f3d08f",
    "law_table_read": "#a86c00",
    "state_read": "#c9507b",
    "state_write": "#e592b1",
    "parameter_read": "#9c2f58",
    "event_sent": "#77808c",
    "event_received": "#a9b0b9",
    "static": "#444b55",
}


def plain(text: str) -> str:
    """Text that plotly shows as it is: its labels take a subset of HTML."""
    return html.escape(text, quote=False)


def words(kind: str) -> str:
    """A kind of work as a reader says it: ``law_update:lif`` -> law update (lif)."""
    base, _, law = kind.partition(":")
    return base.replace("_", " ") + (f" ({law.replace('_', ' ')})" if law else "")


def _figure(**layout: Any) -> go.Figure:
    figure = go.Figure()
    style(figure, **layout)
    return figure


def style(figure: go.Figure, **layout: Any) -> None:
    """Margins and legend that all figures share."""
    figure.update_layout(
        template="none",
        margin={"l": 64, "r": 16, "t": 34, "b": 48},
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "traceorder": "normal"},
        hovermode="closest",
        **layout,
    )
    figure.update_xaxes(automargin=True)
    figure.update_yaxes(automargin=True)


def _pair(figure: go.Figure, x: Sequence[Any], golden: IntArray, rtl: IntArray, first: bool, **where: Any) -> None:
    """Golden as a wide band, RTL as a thin line with dots over it."""
    common = {"x": list(x), "hovertemplate": "tick %{x}: %{y}"}
    figure.add_scatter(
        y=golden.tolist(),
        name="golden",
        legendgroup="golden",
        showlegend=first,
        mode="lines",
        line={"color": GOLDEN, "width": 7},
        opacity=0.5,
        **common,
        **where,
    )
    figure.add_scatter(
        y=rtl.tolist(),
        name="RTL",
        legendgroup="rtl",
        showlegend=first,
        mode="lines+markers",
        line={"color": RTL, "width": 1.5},
        marker={"size": 4},
        **common,
        **where,
    )


def _dots(figure: go.Figure, name: str, x: Sequence[int], y: Sequence[int], hover: str) -> None:
    ring = name == "golden"
    marker = {"symbol": "circle-open", "size": 9, "color": GOLDEN, "line": {"width": 2}}
    figure.add_scatter(
        x=list(x),
        y=list(y),
        name=name,
        mode="markers",
        marker=marker if ring else {"symbol": "circle", "size": 4, "color": RTL},
        hovertemplate=hover,
    )


def _busiest(values: IntArray, most: int) -> list[int]:
    """Indices of the neurons that sent most in one sample, [ticks, neurons]; in order of index."""
    sent = np.count_nonzero(values, axis=0)
    return sorted(np.argsort(-sent, kind="stable")[:most].tolist())


def events(population: Population, golden: Trace, rtl: Trace, sample: int) -> go.Figure:
    """What one population sent in one sample, golden and RTL over each other.

    Spikes as a raster over ticks; graded values over the neurons where there is one tick, else as lines over ticks.
    """
    g = golden.values[population.name][sample, :TICKS_SHOWN, :NEURONS_SHOWN]
    r = rtl.values[population.name][sample, :TICKS_SHOWN, :NEURONS_SHOWN]
    if population.value_range == (0, 1):
        figure = _figure(height=min(420, 210 + g.shape[1]))
        for name, values in (("golden", g), ("RTL", r)):
            ticks, neurons = np.nonzero(values)
            _dots(figure, name, ticks.tolist(), neurons.tolist(), "tick %{x}, neuron %{y}")
        figure.update_xaxes(title="tick", range=[-0.5, g.shape[0] - 0.5], dtick=max(1, g.shape[0] // 16))
        figure.update_yaxes(title="neuron", range=[-1, g.shape[1]])
    elif g.shape[0] == 1:
        figure = _figure(height=300)
        for name, values in (("golden", g), ("RTL", r)):
            sent = np.nonzero(values[0])[0]
            _dots(figure, name, sent.tolist(), values[0][sent].tolist(), "neuron %{x}: %{y}")
        figure.update_xaxes(title="neuron", range=[-1, g.shape[1]])
        figure.update_yaxes(title="value sent")
    else:
        figure = _small_multiples(_busiest(g, 10), g, r, "value sent", None)
    return figure


def _small_multiples(
    neurons: Sequence[int], golden: IntArray, rtl: IntArray, title: str, thresholds: IntArray | None
) -> go.Figure:
    """One small plot per neuron over the ticks; arrays of [ticks, neurons]."""
    columns = min(5 if len(neurons) > 6 else 3, len(neurons))
    rows = -(-len(neurons) // columns)
    figure = make_subplots(
        rows=rows,
        cols=columns,
        shared_xaxes=True,
        subplot_titles=[f"neuron {n}" for n in neurons],
        vertical_spacing=0.28 / rows,
        horizontal_spacing=0.24 / columns,
    )
    style(figure, height=130 + 150 * rows)
    figure.update_layout(legend={"y": 1.13 if rows > 1 else 1.22})
    for k, n in enumerate(neurons):
        where = {"row": k // columns + 1, "col": k % columns + 1}
        _pair(figure, range(golden.shape[0]), golden[:, n], rtl[:, n], k == 0, **where)
        if thresholds is not None:
            figure.add_scatter(
                x=[0, golden.shape[0] - 1],
                y=[int(thresholds[n % thresholds.shape[0]])] * 2,
                name="threshold",
                legendgroup="threshold",
                showlegend=k == 0,
                mode="lines",
                line={"color": "#c9507b", "width": 1, "dash": "dot"},
                hovertemplate="threshold %{y}",
                **where,
            )
    figure.update_annotations(font_size=12)
    figure.update_xaxes(dtick=max(1, golden.shape[0] // 4))
    figure.update_xaxes(title="tick", row=rows)
    figure.update_yaxes(title=title, col=1)
    return figure


def membranes(population: Population, state: str, golden: Trace, rtl: Trace, sample: int) -> go.Figure:
    """One state of the six busiest neurons over the ticks of one sample."""
    g = golden.states[population.name][state][sample, :TICKS_SHOWN]
    r = rtl.states[population.name][state][sample, :TICKS_SHOWN]
    busiest = _busiest(golden.values[population.name][sample], 6)
    found = population.params.get("threshold")
    threshold = None if found is None else population.spread(found)
    return _small_multiples(busiest, g, r, f"state {plain(state)}", threshold)


def activity(shares: Mapping[str, float]) -> go.Figure:
    """Share of non-zero values per input and population, as bars."""
    figure = _figure(height=120 + 42 * len(shares))
    figure.add_bar(
        x=list(shares.values()),
        y=[plain(name) for name in shares],
        orientation="h",
        marker={"color": RTL},
        text=[f"{share:.1%}" for share in shares.values()],
        textposition="outside",
        cliponaxis=False,
        hovertemplate="%{y}: %{x:.2%}",
    )
    figure.update_xaxes(title="share of non-zero values", tickformat=".0%", range=[0, 1.08])
    figure.update_yaxes(autorange="reversed")
    return figure


def events_per_tick(network: Network, golden: Trace, rtl: Trace) -> go.Figure:
    """Mean events per sample that each population sent in each tick, golden and RTL."""
    figure = _figure(height=300)
    for k, p in enumerate(network.populations):
        for engine, trace in (("golden", golden), ("RTL", rtl)):
            mean = np.count_nonzero(trace.values[p.name], axis=2).mean(axis=0)
            figure.add_scatter(
                x=list(range(len(mean))),
                y=mean.tolist(),
                name=f"{plain(p.name)}, {engine}",
                mode="lines+markers",
                line={"color": COLOURS[k % len(COLOURS)], "width": 7 if engine == "golden" else 1.5},
                marker={"size": 1 if engine == "golden" else 5},
                opacity=0.45 if engine == "golden" else 1,
                hovertemplate="tick %{x}: %{y:.1f} events per sample",
            )
    figure.update_xaxes(title="tick", dtick=max(1, len(mean) // 16))
    figure.update_yaxes(title="events per sample", rangemode="tozero")
    return figure


def cycles(systems: Sequence[tuple[str, float, float | None]]) -> go.Figure:
    """Cycles per sample of each system (name, cycles, lane utilization), split by the busiest population's lanes."""
    figure = _figure(height=130 + 52 * len(systems), barmode="stack")
    names = [plain(name) for name, _, _ in systems]
    busy = [each * (share or 0) for _, each, share in systems]
    rest = [each - b for (_, each, _), b in zip(systems, busy, strict=True)]
    for name, values, colour in (("lanes busy", busy, RTL), ("waiting", rest, "#a9b0b9")):
        figure.add_bar(
            x=values, y=names, name=name, orientation="h", marker={"color": colour}, hovertemplate="%{x:.1f} cycles"
        )
    figure.update_xaxes(title="cycles per sample")
    figure.update_yaxes(autorange="reversed")
    return figure


def area(targets: Mapping[str, Mapping[str, float]]) -> go.Figure:
    """Resources of each target (target -> resource -> number), one small plot per resource."""
    resources = [r for r in ("lut", "ff", "dsp", "bram", "uram") if any(used.get(r) for used in targets.values())]
    figure = make_subplots(rows=1, cols=len(resources), subplot_titles=[r.upper() for r in resources])
    style(figure, height=290, showlegend=len(targets) > 1)
    for k, resource in enumerate(resources):
        for n, (target, used) in enumerate(targets.items()):
            figure.add_bar(
                x=[plain(target)],
                y=[used.get(resource, 0)],
                name=plain(target),
                legendgroup=target,
                showlegend=k == 0,
                marker={"color": COLOURS[n % len(COLOURS)]},
                text=[f"{used.get(resource, 0):,}"],
                textposition="outside",
                cliponaxis=False,
                hovertemplate="%{y:,}",
                row=1,
                col=k + 1,
            )
    figure.update_xaxes(showticklabels=False)
    figure.update_yaxes(rangemode="tozero", nticks=5)
    figure.update_layout(margin={"t": 60}, legend={"y": 1.18})
    return figure


def _stacked(bars: Sequence[tuple[str, Mapping[str, float]]], unit: float, unit_name: str) -> go.Figure:
    figure = _figure(height=190 + 40 * len(bars), barmode="stack")
    order = list(KIND_COLOURS)
    kinds = sorted({k for _, parts in bars for k in parts}, key=lambda k: (order.index(k.partition(":")[0]), k))
    for n, kind in enumerate(kinds):
        base, _, law = kind.partition(":")
        figure.add_bar(
            x=[parts.get(kind, 0.0) / unit for _, parts in bars],
            y=[plain(name) for name, _ in bars],
            name=plain(words(kind)),
            orientation="h",
            marker={"color": COLOURS[n % len(COLOURS)] if law else KIND_COLOURS[base]},
            hovertemplate="%{x:.4g} " + unit_name,
        )
    figure.update_xaxes(title=f"{unit_name} per sample")
    figure.update_yaxes(autorange="reversed")
    return figure


def scale_of(joules: float) -> tuple[float, str]:
    """A unit that shows `joules` as a number from 1 to 1000."""
    for unit, name in ((1e-12, "pJ"), (1e-9, "nJ"), (1e-6, "µJ"), (1e-3, "mJ")):
        if joules < unit * 1000:
            return unit, name
    return 1.0, "J"


def energy_by_kind(row: Mapping[str, Any], name: str) -> go.Figure:
    """One technology: this network and the dense baseline's one-pass variants, stacked by kind of work."""
    own = dict(row["by_kind"])
    if row.get("static_joules_per_sample"):
        own["static"] = row["static_joules_per_sample"]
    bars = [(name, own)]
    variants = row["baseline"]["variants"].items()
    bars += [(f"dense, {variant}", v["by_kind"]) for variant, v in variants if "per tick" not in variant]
    return _stacked(bars, *scale_of(max(sum(parts.values()) for _, parts in bars)))


def energy_technologies(rows: Sequence[Mapping[str, Any]], name: str) -> go.Figure:
    """Technologies side by side: this network beside the dense baseline, one pass and a pass per tick."""
    figure = _figure(height=370, barmode="group")
    names = [plain(row["technology"]) for row in rows]
    series = [(plain(name), RTL, [row["joules_per_sample"] for row in rows])]
    for variant, colour in (("int8, one pass", "#a9b0b9"), ("int8, a pass per tick", "#5f6873")):
        joules = [row["baseline"]["variants"].get(variant, {}).get("joules_per_sample") for row in rows]
        series.append((f"dense, {variant}", colour, joules))
    unit, unit_name = scale_of(max(v for _, _, values in series for v in values if v is not None))
    for label, colour, values in series:
        figure.add_bar(
            x=names,
            y=[None if v is None else v / unit for v in values],
            name=label,
            marker={"color": colour},
            hovertemplate="%{y:.4g} " + unit_name,
        )
    figure.update_yaxes(title=f"{unit_name} per sample (log)", type="log", dtick=1)
    return figure


def confusion(predicted: IntArray, labels: IntArray) -> go.Figure:
    """Samples by label (rows) and class that the RTL gave (columns)."""
    classes = int(max(predicted.max(), labels.max())) + 1
    matrix = np.zeros((classes, classes), np.int64)
    np.add.at(matrix, (labels, predicted), 1)
    figure = _figure(height=min(560, 160 + 36 * classes))
    ticks = [str(c) for c in range(classes)]
    figure.add_heatmap(
        z=matrix.tolist(),
        x=ticks,
        y=ticks,
        colorscale=[[0, "rgba(47,127,208,0.06)"], [0.02, "rgba(47,127,208,0.35)"], [1, "rgba(47,127,208,1)"]],
        text=[[str(n) if n else "" for n in row] for row in matrix.tolist()],
        texttemplate="%{text}",
        showscale=False,
        xgap=2,
        ygap=2,
        hovertemplate="label %{y}, class %{x}: %{z} samples",
    )
    figure.update_xaxes(title="class by the RTL", type="category", showgrid=False)
    figure.update_yaxes(title="label", type="category", autorange="reversed", showgrid=False)
    return figure
