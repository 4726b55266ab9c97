"""Stimulus: packing into beats keeps every event, its lane's residue class and the order of ticks."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apical.sim.stimulus import Beats, pack, unpack


@st.composite
def packed(draw: st.DrawFn) -> tuple[npt.NDArray[Any], Beats]:
    """Random sparse events, packed with random lanes and classes."""
    shape = tuple(draw(st.integers(1, most)) for most in (4, 5, 20))
    lanes = 1 << draw(st.integers(0, 3))
    classes = 1 << draw(st.integers(0, lanes.bit_length() - 1))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    x = random.integers(-128, 128, shape) * (random.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.5, 1.0])))
    return x, pack(x, lanes, classes)


@settings(max_examples=150)
@given(packed())
def test_unpack_is_the_inverse(case: tuple[npt.NDArray[Any], Beats]) -> None:
    x, beats = case
    assert np.array_equal(unpack(beats, *x.shape), x)
    assert beats.keep.sum() == np.count_nonzero(x)  # each event once


@settings(max_examples=150)
@given(packed())
def test_ticks_and_samples_are_closed_once_and_no_beat_is_wasted(case: tuple[npt.NDArray[Any], Beats]) -> None:
    x, beats = case
    samples, ticks, channels = x.shape
    assert beats.last.sum() == samples * ticks
    assert beats.final.sum() == samples
    assert not (beats.final & ~beats.last).any()
    assert np.flatnonzero(beats.final[beats.last]).tolist() == [ticks * (s + 1) - 1 for s in range(samples)]
    shared = beats.event_lanes // beats.classes
    counts = [np.bincount(np.flatnonzero(tick) % beats.classes, minlength=1) for tick in x.reshape(-1, channels)]
    assert len(beats) == sum(max(1, -(-int(c.max()) // shared)) for c in counts)


@settings(max_examples=100)
@given(packed())
def test_unused_lanes_are_zero(case: tuple[npt.NDArray[Any], Beats]) -> None:
    _, beats = case
    assert not beats.rows[~beats.keep].any()
    assert not beats.values[~beats.keep].any()
    assert beats.values[beats.keep].all()


def test_beats_by_hand() -> None:
    # Two lanes of two classes; channels 0, 2, 4 are lane 0's rows 0, 1, 2 and channels 1, 3 lane 1's rows 0, 1.
    x = np.array([[[5, 0, -6, 7, 8], [0, 0, 0, 0, 0]]])
    beats = pack(x, 2)
    assert beats.keep.tolist() == [[True, True], [True, False], [True, False], [False, False]]
    assert beats.rows.tolist() == [[0, 1], [1, 0], [2, 0], [0, 0]]
    assert beats.values.tolist() == [[5, 7], [-6, 0], [8, 0], [0, 0]]
    assert beats.last.tolist() == [False, False, True, True]
    assert beats.final.tolist() == [False, False, False, True]


def test_one_class_fills_every_lane() -> None:
    x = np.array([[[5, 0, -6, 7, 8]]])
    beats = pack(x, 2, classes=1)
    assert beats.rows.tolist() == [[0, 2], [3, 4]]
    assert beats.values.tolist() == [[5, -6], [7, 8]]
    assert beats.last.tolist() == [False, True]


def test_a_wrong_shape_is_told() -> None:
    with pytest.raises(ValueError, match=r"^stimulus: expected x of \[samples, ticks, channels\], got shape \(2, 3\)$"):
        pack(np.zeros((2, 3), np.int64), 1)


@pytest.mark.parametrize(("lanes", "classes"), [(0, None), (4, 3)])
def test_lanes_that_are_no_multiple_of_the_classes_are_told(lanes: int, classes: int | None) -> None:
    with pytest.raises(ValueError, match=r"^stimulus: expected event lanes in whole multiples of classes, got"):
        pack(np.zeros((1, 1, 2), np.int64), lanes, classes)
