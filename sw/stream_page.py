"""The picture of a stream: the signal, or the events where there is none, coloured by the class of every tick."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from plotly.subplots import make_subplots

from apical.sw.bundle import write_file
from apical.sw.report_plots import COLOURS, plain, style

SECONDS_SHOWN = 6  # at first; the reader drags
TICKS_DRAWN = 7500  # half a minute at 250 Hz; more would be slow to move


def figure(
    events: np.ndarray, classes: np.ndarray | None, *, signal: np.ndarray | None = None, ticks_per_second: float = 250.0
) -> Any:
    """Signal, events and class over time, first `TICKS_DRAWN` ticks.

    :param events: [ticks, inputs].
    :param classes: [ticks]; None draws everything in one colour.
    :param signal: [ticks], in millivolts.
    """
    events = events[:TICKS_DRAWN]
    time = np.round(np.arange(len(events)) / ticks_per_second, 6)
    known = np.zeros(len(events), np.int64) if classes is None else classes[:TICKS_DRAWN]
    titles = [*(["signal, mV"] if signal is not None else []), "events", *(["class"] if classes is not None else [])]
    drawing = make_subplots(rows=len(titles), cols=1, shared_xaxes=True, vertical_spacing=0.06, subplot_titles=titles)
    style(drawing, height=160 + 190 * len(titles))
    for one in np.unique(known):
        name, colour = f"class {one}", COLOURS[int(one) % len(COLOURS)]
        common = {"name": name, "legendgroup": name, "hovertemplate": "%{x:.3f} s: %{y}", "mode": "lines"}
        within = known == one
        if signal is not None:
            # A tick belongs to the line from it to the next, so that lines of two classes join.
            shown = within | np.append(False, within[:-1])
            y = np.where(shown, np.round(signal[: len(events)], 4), np.nan)
            line = {"color": colour, "width": 2}
            drawing.add_scatter(x=time, y=y, row=1, col=1, line=line, showlegend=classes is not None, **common)
        tick, channel = np.nonzero(events * within[:, None])
        marker = {"color": colour, "size": 4, "symbol": "line-ns-open"}
        drawing.add_scatter(
            x=time[tick],
            y=channel,
            marker=marker,
            row=titles.index("events") + 1,
            col=1,
            showlegend=classes is not None and signal is None,
            **{**common, "mode": "markers"},
        )
    if classes is not None:
        drawing.add_scatter(
            x=time,
            y=known,
            line={"color": "#77808c", "width": 1.5, "shape": "hv"},
            mode="lines",
            name="class",
            showlegend=False,
            hovertemplate="%{x:.3f} s: class %{y}",
            row=len(titles),
            col=1,
        )
        drawing.update_yaxes(dtick=1, row=len(titles), col=1)
    drawing.update_yaxes(dtick=1, title="channel", row=titles.index("events") + 1, col=1)
    drawing.update_xaxes(range=[0, min(SECONDS_SHOWN, len(events) / ticks_per_second)])
    drawing.update_xaxes(title="seconds", row=len(titles), col=1)
    drawing.update_layout(dragmode="pan")
    return drawing


def write_page(path: Path, title: str, drawing: Any) -> None:
    """One page that works offline: the drawing with its script inside.

    :raises OSError: the file can't be written.
    """
    drawing.update_layout(title={"text": plain(title)}, margin={"t": 110}, legend={"y": 1.04})
    text = drawing.to_html(full_html=True, include_plotlyjs=True, include_mathjax=False)
    head = f'<html lang="en">\n<head><title>{plain(title)}</title>'
    write_file(path, text.replace("<html>\n<head>", head, 1))
