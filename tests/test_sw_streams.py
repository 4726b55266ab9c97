"""One stream of several fails: for a while, altogether, noisily, or because it belongs to another sample."""

from __future__ import annotations

import numpy as np
import pytest

from apical.sw import streams
from apical.sw.data import REST, Data, DataError, Stream

TICKS = 6
AUDIO, LIPS = Stream("audio", 2, (0, 2)), Stream("lips", 1)


def make(samples: int = 3) -> Data:
    """Values that say their sample and tick: 10 (sample + 1) + tick; `REST` before the first."""
    images = np.full((samples, TICKS, 5), REST, np.uint8)
    value = (10 * np.arange(1, samples + 1)[:, None] + np.arange(TICKS)).astype(np.uint8)
    for block in ((slice(0, 2), 0), (slice(2, 4), 2), (slice(4, 5), 0)):
        place, lag = block
        images[:, lag:, place] = value[:, : TICKS - lag, None]
    return Data(images, np.arange(samples) % 2, np.arange(samples), "x", "test", streams=(AUDIO, LIPS))


def test_a_failing_stream_is_gone_from_every_channel_that_holds_those_ticks() -> None:
    data = make()
    out = streams.fail(data, "audio", 1, 2).images
    gone = np.zeros((TICKS, 5), bool)
    gone[1:3, 0:2] = gone[3:5, 2:4] = True  # ticks 1 and 2; two ticks later in the channels of lag 2
    np.testing.assert_array_equal(out, np.where(gone, REST, data.images))


def test_each_sample_may_fail_at_its_own_time() -> None:
    data = make()
    out = streams.fail(data, "lips", np.array([0, 3, 5]), np.array([1, 2, 0])).images
    assert [np.nonzero(row[:, 4] == REST)[0].tolist() for row in out] == [[0], [3, 4], []]
    np.testing.assert_array_equal(out[:, :, :4], data.images[:, :, :4])


def test_a_missing_stream_says_nothing_and_the_other_is_whole() -> None:
    data = make()
    out = streams.missing(data, "audio").images
    assert (out[:, :, :4] == REST).all()
    np.testing.assert_array_equal(out[:, :, 4], data.images[:, :, 4])
    assert (data.images[:, :, 0] != REST).any()  # the data given stay as they are


def test_noise_of_a_tick_is_the_same_wherever_the_tick_is_kept() -> None:
    data = make(40)
    change = streams.noisy(data, "audio", 6, draw=3).images.astype(int) - data.images
    np.testing.assert_array_equal(change[:, 2:, 2:4], change[:, :-2, 0:2])
    assert 5 < change[:, :, :2].std() < 7 and not change[:, :, 4].any()
    again, other = (streams.noisy(data, "audio", 6, draw=d).images for d in (3, 4))
    np.testing.assert_array_equal(again - data.images, change.astype(np.uint8))
    assert (again != other).any()


def test_strangers_are_of_another_class() -> None:
    data = make(9)
    found = streams.strangers(data)
    assert (data.labels[found] != data.labels).all() and (found != np.arange(9)).all()
    out = streams.incongruent(data, "lips").images
    np.testing.assert_array_equal(out[:, :, 4], data.images[found][:, :, 4])
    np.testing.assert_array_equal(out[:, :, :4], data.images[:, :, :4])


def test_without_classes_strangers_are_other_samples_each_once() -> None:
    zeros = np.zeros((7, TICKS), np.int64)
    data = Data(np.zeros((7, TICKS, 5), np.uint8), zeros, np.arange(7), "x", "test", streams=(AUDIO, LIPS))
    found = streams.strangers(data)
    assert sorted(found) == list(range(7)) and (found != np.arange(7)).all()


def test_what_can_not_be_done_is_told() -> None:
    with pytest.raises(DataError, match=r"^stream: expected one of \['audio', 'lips'\], got 'smell'$"):
        streams.fail(make(), "smell", 0, 1)
    with pytest.raises(DataError, match="smell"):
        streams.noisy(make(), "smell", 1)
    with pytest.raises(DataError, match=r"^data x:test: expected samples of two classes, got one$"):
        streams.incongruent(make().rows(np.array([0, 2])), "lips")
