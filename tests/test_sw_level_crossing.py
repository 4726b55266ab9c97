"""Level crossings of a raw signal, and the endless ECG records made of them."""

from __future__ import annotations

import numpy as np
import pytest

from apical.sw import datasets
from apical.sw.data import DataError
from apical.sw.level_crossing import LOOK_AHEAD, level_crossings


def test_a_slope_at_the_threshold_is_an_event_in_every_tick() -> None:
    ramp = np.concatenate([np.zeros(20), np.arange(1, 21) * 0.031, np.full(20, 0.62)])
    up, down = level_crossings(ramp).T
    assert up[22:36].all() and not down.any()  # the cubic fit leaves a straight line as it is
    assert not up[:16].any() and not up[43:].any()
    assert not level_crossings(ramp * 0.9)[24:35].any()
    np.testing.assert_array_equal(level_crossings(-ramp), np.stack([down, up], 1))


def test_an_event_looks_ahead_by_three_ticks_and_no_more() -> None:
    rng = np.random.default_rng(0)
    signal = rng.normal(0, 0.05, 200)
    changed = signal.copy()
    changed[150:] += 1
    first = np.argwhere((level_crossings(signal) != level_crossings(changed)).any(1)).min()
    assert first == 150 - LOOK_AHEAD


@pytest.mark.parametrize("signal", [np.zeros((3, 2)), np.zeros(1), np.array([0, np.nan, 1])])
def test_what_is_no_signal_is_told(signal: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"expected \[samples\] of at least 2 finite numbers"):
        level_crossings(signal)
    with pytest.raises(DataError, match=r"expected a positive number of millivolts, got 0"):
        level_crossings(np.zeros(9), 0)


@pytest.mark.skipif(not datasets.available("ecg-qtdb:test"), reason="APICAL_DATA isn't there")
def test_a_record_s_beats_are_where_the_events_are() -> None:
    record = datasets.mitbih(100)
    assert record.events.shape == (451389, 4) and record.events.dtype == np.uint8
    assert len(record.r_peaks) == 2273 and (np.diff(record.r_peaks) > 0).all()
    np.testing.assert_array_equal(record.events[:, :2], record.events[:, 2:])
    peaks = record.r_peaks[1:-1]
    assert record.events[peaks - 4, 0].mean() > 0.95 and record.events[peaks + 2, 1].mean() > 0.95
    assert 0.04 < record.events.mean() < 0.06
    with pytest.raises(DataError, match=r"record: expected one of \[100, 105, .*\], got 101"):
        datasets.mitbih(101)
    with pytest.raises(DataError, match="leads: expected 1 or 2, got 3"):
        datasets.mitbih(100, leads=3)


def test_without_the_records_the_error_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("APICAL_DATA", raising=False)
    with pytest.raises(DataError, match=r"set APICAL_DATA to a folder that holds mitbih12/mitbih_dev\.npz"):
        datasets.mitbih(100)
