"""The picture of a stream: every tick is drawn once, in its class's colour; the page needs nothing from outside."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from apical.sw.report_plots import COLOURS
from apical.sw.stream_page import TICKS_DRAWN, figure, write_page

EVENTS = np.array([[1, 0], [0, 1], [1, 1], [0, 0]])
CLASSES = np.array([0, 0, 2, 2])
SIGNAL = np.array([0.5, 0.25, -0.25, 1.0])


def test_signal_and_events_are_coloured_by_class() -> None:
    drawn = figure(EVENTS, CLASSES, signal=SIGNAL, ticks_per_second=2.0)
    lines = [t for t in drawn.data if t.mode == "lines" and t.name.startswith("class ")]
    assert [t.name for t in lines] == ["class 0", "class 2"]
    assert [t.line.color for t in lines] == [COLOURS[0], COLOURS[2]]
    np.testing.assert_array_equal(lines[0].y, [0.5, 0.25, -0.25, np.nan])  # up to the next tick, so that lines join
    np.testing.assert_array_equal(lines[1].y, [np.nan, np.nan, -0.25, 1.0])
    dots = [t for t in drawn.data if t.mode == "markers"]
    assert [(x, int(y), t.name) for t in dots for x, y in zip(t.x, t.y, strict=True)] == [
        (0.0, 0, "class 0"),
        (0.5, 1, "class 0"),
        (1.0, 0, "class 2"),
        (1.0, 1, "class 2"),
    ]
    assert drawn.data[-1].y.tolist() == CLASSES.tolist()


def test_without_signal_or_classes_the_events_are_left() -> None:
    drawn = figure(EVENTS, None)
    assert {t.mode for t in drawn.data} == {"markers"}
    assert sum(len(t.x) for t in drawn.data) == EVENTS.sum()


def test_a_long_stream_is_drawn_in_part() -> None:
    long = np.ones((TICKS_DRAWN + 10, 1), np.int64)
    drawn = figure(long, np.zeros(len(long), np.int64), signal=np.zeros(len(long)))
    assert {len(t.x) for t in drawn.data} == {TICKS_DRAWN}


def test_the_page_works_offline_and_its_title_is_text(tmp_path: Path) -> None:
    write_page(tmp_path / "page.html", "<b>record & 100", figure(EVENTS, CLASSES))
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>&lt;b&gt;record &amp; 100</title>" in text
    assert not re.findall(r"<(?:script|link|img)[^>]+(?:src|href)=", text)
