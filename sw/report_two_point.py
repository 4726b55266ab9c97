"""The report's figures of two-point nets and their baselines: what context did, error over transmissions, damage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from apical.sw import cooperative_study as study
from apical.sw.gates import Gates, gated, gates
from apical.sw.golden import split_input
from apical.sw.network import Network, Population
from apical.sw.report_plots import COLOURS, TICKS_SHOWN, plain, style

CELLS_SHOWN, CHANNELS_SHOWN = 128, 256
SAMPLES_COUNTED = 200  # for the shares in the captions
OPENED, CLOSED, SENT = "#2a9d6f", "#d0584a", "#77808c"
Rows = Sequence[Mapping[str, Any]]


class ResultsError(ValueError):
    """A file of results that the report can't draw; the message says what was expected."""


def _heat(figure: go.Figure, z: np.ndarray, row: int, hover: str, **colours: Any) -> None:
    """One panel, `z` [ticks, channels], time to the right."""
    figure.add_heatmap(
        z=np.round(z.T.astype(np.float64), 3).tolist(),
        row=row,
        col=1,
        showscale=False,
        hovertemplate=f"tick %{{x}}, {hover}: %{{z}}<extra></extra>",
        **colours,
    )


SCALE = [[0, "rgba(47,127,208,0.04)"], [1, "rgba(47,127,208,1)"]]
SIGNED = [[0, CLOSED], [0.5, "rgba(119,128,140,0.06)"], [1, OPENED]]


def _symmetric(z: np.ndarray) -> dict[str, Any]:
    """Colours of signed values, pale at 0."""
    limit = float(np.quantile(np.abs(z), 0.99)) or 1.0
    return {"colorscale": SIGNED, "zmin": -limit, "zmax": limit}


def context(population: Population, found: Gates, inputs: Mapping[str, np.ndarray], sample: int) -> go.Figure:
    """What context did in one sample.

    Over several ticks: the inputs, then R, C, what was sent, and where context opened or closed the gate, one above the
    other over time. In a single tick: every cell by its R and C.

    :param inputs: per input what it sent, [samples, ticks, channels].
    """
    part = np.s_[sample, :TICKS_SHOWN, :CELLS_SHOWN]
    unit = _unit(population)
    r, c, value = found.basal[part] / unit, found.apical[part] / unit, found.value[part]
    change = found.opened[part].astype(int) - found.closed[part]
    if value.shape[0] == 1:
        return _plane(r[0], c[0], value[0], change[0])
    titles = [
        *(plain(name) for name in inputs),
        "R: basal",
        "C: apical",
        "sent",
        "opened (green), closed (red) by context",
    ]
    figure = make_subplots(
        rows=len(titles), cols=1, shared_xaxes=True, vertical_spacing=0.16 / len(titles), subplot_titles=titles
    )
    style(figure, height=90 + 150 * len(titles))
    for row, x in enumerate(inputs.values(), 1):
        events = x[sample, :TICKS_SHOWN, :CHANNELS_SHOWN]
        _heat(
            figure, events, row, "channel %{y}", **(_symmetric(events) if events.min() < 0 else {"colorscale": SCALE})
        )
    row = len(inputs)
    _heat(figure, r, row + 1, "cell %{y}", **_symmetric(r))
    _heat(figure, c, row + 2, "cell %{y}", **_symmetric(c))
    _heat(figure, value, row + 3, "cell %{y}", colorscale=SCALE)
    _heat(figure, change, row + 4, "cell %{y}", colorscale=SIGNED, zmin=-1, zmax=1)
    figure.update_xaxes(title="tick", row=len(titles), col=1)
    figure.update_yaxes(title="cell")
    for row in range(len(inputs)):
        figure.update_yaxes(title="channel", row=row + 1, col=1)
    figure.update_annotations(font_size=12)
    return figure


def _unit(population: Population) -> float:
    """Current that stands for R or C of 1, where the law has fixed point; the axis only."""
    law = population.law
    return float(1 << (getattr(law, "shift", 0) + getattr(law, "fraction_bits", 0)))


def _plane(r: np.ndarray, c: np.ndarray, value: np.ndarray, change: np.ndarray) -> go.Figure:
    """Cells of one tick in the plane of R and C."""
    figure = go.Figure()
    style(figure, height=420)
    kinds = {
        "silent": ((change == 0) & (value == 0), SENT, "circle-open"),
        "sent": ((change == 0) & (value != 0), COLOURS[0], "circle"),
        "opened by context": (change > 0, OPENED, "triangle-up"),
        "closed by context": (change < 0, CLOSED, "x"),
    }
    for name, (which, colour, symbol) in kinds.items():
        cells = np.flatnonzero(which)
        figure.add_scatter(
            x=r[cells].round(3).tolist(),
            y=c[cells].round(3).tolist(),
            text=[f"cell {n}, sent {value[n]}" for n in cells],
            name=name,
            mode="markers",
            marker={"color": colour, "symbol": symbol, "size": 8},
            hovertemplate="%{text}: R %{x}, C %{y}<extra></extra>",
        )
    figure.update_xaxes(title="R: basal")
    figure.update_yaxes(title="C: apical")
    return figure


def checked(rows: Any, keys: Sequence[str], what: str) -> list[Mapping[str, Any]]:
    """Rows that all have the keys.

    :raises ResultsError: naming the first that hasn't.
    """
    if not isinstance(rows, list) or not rows:
        raise ResultsError(f"{what}: expected a list of rows, got {type(rows).__name__ if rows else 'none'}")
    for n, row in enumerate(rows):
        missing = [k for k in keys if not isinstance(row, Mapping) or k not in row]
        if missing:
            raise ResultsError(f"{what}, row {n}: expected {', '.join(keys)}, got none of {missing[0]!r}")
    return rows


def _groups(rows: Rows, *keys: str) -> dict[tuple[Any, ...], list[Mapping[str, Any]]]:
    out: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in rows:
        out.setdefault(tuple(row[k] for k in keys), []).append(row)
    return out


def sweep(rows: Any) -> go.Figure:
    """Error against transmissions of several nets.

    :param rows: a list of mappings with ``net``, ``seed``, ``penalty``, ``error`` and ``transmissions``.
    :raises ResultsError: rows without these.
    """
    rows = checked(rows, ("net", "seed", "penalty", "error", "transmissions"), "sweep")
    figure = go.Figure()
    style(figure, height=460)
    for k, ((net,), own) in enumerate(_groups(rows, "net").items()):
        colour = COLOURS[k % len(COLOURS)]
        common = {"legendgroup": plain(str(net)), "marker": {"color": colour, "size": 5}}
        figure.add_scatter(
            x=[r["transmissions"] for r in own],
            y=[r["error"] for r in own],
            text=[f"seed {r['seed']}, penalty {r['penalty']}" for r in own],
            mode="markers",
            opacity=0.5,
            showlegend=False,
            hovertemplate="%{text}: error %{y:.4f}, %{x:,.0f} transmissions<extra></extra>",
            **common,
        )
        means = [
            (penalty, *(float(np.mean([r[key] for r in same])) for key in ("transmissions", "error")), len(same))
            for (penalty,), same in sorted(_groups(own, "penalty").items())
        ]
        figure.add_scatter(
            x=[m[1] for m in means],
            y=[m[2] for m in means],
            text=[f"penalty {m[0]}, mean of {m[3]} seeds" for m in means],
            name=plain(str(net)),
            mode="lines+markers",
            line={"color": colour, "width": 2},
            hovertemplate="%{text}: error %{y:.4f}, %{x:,.0f} transmissions",
            **{**common, "marker": {"color": colour, "size": 9}},
        )
    figure.update_xaxes(title="synaptic transmissions (log)", type="log")
    figure.update_yaxes(title="error")
    return figure


def sweeps_of(runs: Any) -> dict[str, list[dict[str, Any]]]:
    """Rows of `sweep` by data set, from the runs of `apical.sw.cooperative_study`, at the best learning rates.

    Nets with one penalty only are left out. Where the data have classes the error is the share of wrong ones.

    :raises ResultsError: runs without what they are told apart by, or without figures.
    """
    out: dict[str, list[dict[str, Any]]] = {}
    runs = checked(runs, (*study.KEYS, "validation", "test"), "runs")
    for data, train in _groups(runs, "data", "train"):
        for name, curve in study.curves(runs, data, train).items():
            rows = [
                {"net": name, "seed": r["seed"], "penalty": p, "error": study.score(r["test"])}
                | {"transmissions": r["test"]["hidden"]}
                for p, same in curve.items()
                for r in same
            ]
            if len(curve) > 1:
                out.setdefault(data if train == "noisy" else f"{data}, {train}", []).extend(rows)
    return out


def damage_of(runs: Rows) -> dict[str, list[dict[str, Any]]]:
    """Rows of `damage` by what died, from the runs that have it."""
    out: dict[str, list[dict[str, Any]]] = {}
    for r in (r for r in runs if "damage" in r):
        net = f"{study.label(r)}, penalty {r['penalty']:g}"
        for what in {row["what"] for row in r["damage"]}:
            whole = {"net": net, "what": what, "share": 0, "seed": 0, "error": study.score(r["test"])}
            rows = [{"net": net, **row} for row in r["damage"] if row["what"] == what]
            out.setdefault(what, []).extend([whole, *rows])
    return {what: sorted(rows, key=lambda row: (row["net"], row["share"])) for what, rows in sorted(out.items())}


def damage(rows: Any) -> go.Figure:
    """Error or accuracy against the share that died, of several nets: as it is, and how much worse than undamaged.

    :param rows: as `apical.sw.damage.curve` makes them. Lines are means over the seeds, bars reach from least to most.
    :raises ResultsError: rows without ``net``, ``what``, ``share``, ``seed`` and one figure that all have.
    """
    rows = checked(rows, ("net", "what", "share", "seed"), "damage")
    key = next((k for k in ("error", "accuracy") if all(k in r for r in rows)), None)
    if key is None:
        raise ResultsError("damage: expected rows that all have error or all have accuracy")
    sign = 1 if key == "error" else -1
    titles = [key, f"{'growth of the error' if key == 'error' else 'loss of accuracy'} over the undamaged net"]
    figure = make_subplots(rows=1, cols=2, subplot_titles=titles, horizontal_spacing=0.12)
    style(figure, height=440)
    figure.update_layout(margin={"t": 110}, legend={"y": 1.12})
    several = len({r["what"] for r in rows}) > 1
    for k, ((net, what), own) in enumerate(_groups(rows, "net", "what").items()):
        shares = sorted(_groups(own, "share").items())
        values = [np.array([float(r[key]) for r in same]) for _, same in shares]
        rest = values[0].mean() if shares[0][0] == (0,) else None
        for col, series in ((1, values), (2, [] if rest is None else [sign * (v - rest) for v in values])):
            means = [float(v.mean()) for v in series]
            figure.add_scatter(
                x=[100 * share for (share,), _ in shares][: len(means)],
                y=means,
                error_y={
                    "type": "data",
                    "symmetric": False,
                    "array": [float(v.max()) - m for v, m in zip(series, means, strict=True)],
                    "arrayminus": [m - float(v.min()) for v, m in zip(series, means, strict=True)],
                    "thickness": 1,
                },
                name=plain(f"{net}, {what}" if several else str(net)),
                legendgroup=f"{net} {what}",
                showlegend=col == 1,
                mode="lines+markers",
                line={"color": COLOURS[k % len(COLOURS)], "width": 2},
                hovertemplate="%{x} % dead: %{y:.4f}",
                row=1,
                col=col,
            )
    dead = "cells" if not several and rows[0]["what"] == "cells" else str(rows[0]["what"]) if not several else "parts"
    figure.update_xaxes(title=plain(f"dead {dead.removeprefix('stream:')}, %"))
    return figure


def section(
    network: Network, x: np.ndarray | None, values: Mapping[str, np.ndarray], results: Mapping[str, Any], shown: int
) -> list[tuple[str, str, list[go.Figure]]]:
    """Title, caption and variants (one per shown sample) of every figure that the network and the results allow.

    :param x: input of the run, [samples, ticks, inputs]; None leaves out what context did.
    :param values: per population what it sent, [samples, ticks, neurons].
    :param results: stored results by kind: ``sweep`` and ``damage``, as the functions of that name take them, and
        ``runs``, as `sweeps_of` does.
    :raises ResultsError: another kind, or rows that lack something.
    """
    if unknown := sorted(set(results) - {"sweep", "damage", "runs", "life"}):
        raise ResultsError(f"results: expected sweep, runs, damage and life, got {unknown[0]!r}")
    out = []
    part = slice(0 if x is None else min(SAMPLES_COUNTED, len(x)))
    for population in gated(network) if x is not None else []:
        assert x is not None
        found = gates(network, population, x[part], {name: v[part] for name, v in values.items()})
        share = found.shares()
        caption = (
            f"In {len(x[part]):,} samples context opened {share['opened']:.1%} of all cells and ticks and closed "
            f"{share['closed']:.1%}; {share['sent']:.1%} sent, without context {share['alone']:.1%} would have. R, C "
            "as they are before the law clips them."
        )
        inputs = split_input(network, x)
        figures = [context(population, found, inputs, s) for s in range(min(shown, len(x[part])))]
        out.append((f"Context of {population.name}", caption, figures))
    curves = {"": results["sweep"]} if "sweep" in results else {}
    curves |= {f", {data}": rows for data, rows in sweeps_of(results["runs"]).items()} if "runs" in results else {}
    for data, rows in curves.items():
        caption = "Lines join the means of each penalty's seeds; small dots are single runs. Down and left is better."
        out.append((f"Error against transmissions{data}", caption, [sweep(rows)]))
    damages = {"": results["damage"]} if "damage" in results else {}
    damages |= {f", {what}": rows for what, rows in damage_of(results.get("runs", ())).items()}
    for what, rows in damages.items():
        caption = "Means over the seeds (which die); bars from the least to the most. Golden; RTL is equal to it."
        out.append((f"Damage{what}", caption, [damage(rows)]))
    return out
