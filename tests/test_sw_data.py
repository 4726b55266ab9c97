"""Labels: what counts, the two accuracies, the error; parts of a data set; numbers that are the same everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from apical.sw.data import Data, DataError, Labels, Stream, accuracies, errors, permutation

CLASSES = np.array([[0, 0, 1, 2], [1, 0, 0, 2]])
COUNTED = np.array([[False, True, True, True]] * 2)
LABELLED = np.array([[True, True, True, True], [True, False, False, True]])
TRUTH = Labels(CLASSES, COUNTED, LABELLED)


def test_accuracy_is_over_what_counts() -> None:
    got = np.array([[9, 0, 1, 1], [9, 0, 1, 2]])  # counted: 4 of 6 right, labelled as well: 3 of 4
    assert TRUTH.accuracy(got) == 4 / 6
    assert TRUTH.accuracy_labelled(got) == 3 / 4
    assert accuracies(got, TRUTH) == {"accuracy": 4 / 6, "accuracy_labelled": 3 / 4}


def test_plain_labels_all_count_and_have_no_labelled_figure() -> None:
    labels = np.array([3, 1, 2, 2])
    assert accuracies(np.array([3, 1, 1, 1]), labels) == {"accuracy": 0.5, "accuracy_labelled": None}


def test_without_classes_or_labels_there_is_no_accuracy() -> None:
    nothing = {"accuracy": None, "accuracy_labelled": None}
    assert accuracies(None, TRUTH) == accuracies(CLASSES, None) == nothing
    assert accuracies(CLASSES, Labels(CLASSES, np.zeros((2, 4), bool))) == nothing


def test_labels_of_another_shape_are_told() -> None:
    with pytest.raises(DataError, match=r"^labels: expected shape \[2\], got \[2, 4\]$"):
        TRUTH.accuracy(np.zeros(2, np.int64))
    with pytest.raises(DataError, match=r"^counted: expected bool of shape \[2, 4\], got bool of shape \[2\]$"):
        Labels(CLASSES, COUNTED[:, 0])
    with pytest.raises(DataError, match=r"labelled: expected bool .*got int64"):
        Labels(CLASSES, None, CLASSES)


def test_a_part_of_the_data_keeps_every_field() -> None:
    data = Data(np.arange(8, dtype=np.uint8).reshape(2, 4, 1), CLASSES, np.array([5, 7]), "d", "s", COUNTED, LABELLED)
    for part in (data.rows(np.array([1])), data.rows(slice(1, 2))):
        assert (len(part), part.name, part.split, part.index.tolist()) == (1, "d", "s", [7])
        np.testing.assert_array_equal(part.images, data.images[1:])
        np.testing.assert_array_equal(part.labels, CLASSES[1:])
        assert part.truth.accuracy_labelled(CLASSES[1:] * [[1, 1, 1, 0]]) == 0.0
    np.testing.assert_array_equal(data.first(1).labelled, LABELLED[:1])


def test_a_permutation_never_changes() -> None:
    order = permutation(784, 2)
    assert sorted(order.tolist()) == list(range(784))
    assert order[:8].tolist() == [632, 80, 91, 20, 638, 498, 651, 577]
    assert (permutation(784, 1) != order).any()


def test_error_is_the_mean_square_in_units_of_the_target_over_what_counts() -> None:
    targets = np.array([[[0.0, 1.0], [2.0, -1.0]]], np.float32)
    truth = Labels(np.zeros((1, 2), np.int64), targets=targets)
    outputs = np.array([[[0, 8], [8, -16]]])  # by 8: 0, 1 and 1, -2
    assert errors(outputs, truth, 8) == (0 + 0 + 1 + 1) / 4
    first = Labels(truth.classes, np.array([[True, False]]), targets=targets)
    assert errors(outputs, first, 8) == 0
    assert errors(outputs, first.rows(slice(1)), 4) == (0 + 1) / 2


def test_data_keep_targets_sound_and_streams_of_the_samples_kept() -> None:
    zeros, sound = np.zeros((3, 2), np.int64), np.arange(6, dtype=np.uint8).reshape(3, 2)
    targets = np.arange(12, dtype=np.float32).reshape(3, 2, 2)
    streams = (Stream("audio", 2, (0, 1)), Stream("lips", 3))
    data = Data(sound, zeros, np.arange(3), "x", "test", targets=targets, sound=sound, streams=streams)
    kept = data.rows(np.array([2, 0]))
    assert kept.targets is not None and kept.sound is not None and kept.truth.targets is kept.targets
    assert kept.targets[:, 0, 0].tolist() == [8, 0] and kept.sound.tolist() == [[4, 5], [0, 1]]
    assert [s.size for s in kept.streams] == [4, 3]


def test_targets_and_units_that_do_not_fit_are_told() -> None:
    truth = Labels(np.zeros((1, 2), np.int64), targets=np.zeros((1, 2, 3), np.float32))
    with pytest.raises(DataError, match=r"^targets: expected shape \[1, 2, 4\] as the outputs have, got \[1, 2, 3\]$"):
        errors(np.zeros((1, 2, 4), np.int64), truth, 8)
    with pytest.raises(DataError, match=r"^target_unit: expected a number above 0, got 0$"):
        errors(np.zeros((1, 2, 3), np.int64), truth, 0)
    with pytest.raises(DataError, match=r"^targets: expected data that have them, such as grid, got none$"):
        errors(np.zeros((2, 4, 3), np.int64), TRUTH, 8)
    with pytest.raises(DataError, match=r"^targets: expected shape \[1, 2, 'outputs'\], got \[2, 2, 3\]$"):
        Labels(np.zeros((1, 2), np.int64), targets=np.zeros((2, 2, 3), np.float32))
