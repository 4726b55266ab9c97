"""Streams: how they are cut makes no difference, their state goes on, can be kept in a file, and is checked."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from apical.sim.random_networks import random_network, random_x
from apical.sw import golden
from apical.sw.network import IntArray, Network, NetworkError
from apical.sw.streaming import Stream, StreamError

Monitor = Callable[..., Network]
Spikes = Callable[..., IntArray]


def joined(network: Network, trace: golden.Trace) -> IntArray:
    return np.concatenate([trace.outputs[o][0] for o in network.outputs], axis=1).astype(np.int64)


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), cuts=st.lists(st.integers(0, 40), max_size=6))
def test_how_a_stream_is_cut_makes_no_difference(seed: int, cuts: list[int]) -> None:
    rng = random.Random(seed)
    network = random_network(rng)
    x = random_x(rng, network, 1, 40)[0]
    stream, whole = Stream(network), golden.run(network, x[None])
    window = math.lcm(*(g.window for g in network.gates))  # of which a push holds whole ones
    parts = np.split(x, sorted(cut - cut % window for cut in cuts))
    np.testing.assert_array_equal(np.concatenate([stream.push(part) for part in parts]), joined(network, whole))
    assert stream.counters == whole.counters
    assert stream.ticks == 40


def test_the_state_goes_on_over_pushes_and_reset_begins_anew(monitor: Monitor, spikes: Spikes) -> None:
    network, x = monitor(), spikes(50)
    stream = Stream(network)
    first, second = stream.push(x), stream.push(x)
    assert not np.array_equal(first, second)
    stream.reset()
    assert stream.ticks == 0 and not any(stream.counters.values())
    np.testing.assert_array_equal(stream.push(x), first)


def test_classes_are_those_of_the_decoder_in_every_tick(monitor: Monitor, spikes: Spikes) -> None:
    network, x = monitor(), spikes(300)
    stream = Stream(network)
    classes = stream.classes(stream.push(x))
    assert classes is not None
    np.testing.assert_array_equal(classes, golden.decode(network, golden.run(network, x[None]))[0])  # type: ignore[index]
    assert len(np.unique(classes)) > 1
    other = monitor(decoder="last")
    assert Stream(other).classes(Stream(other).push(x)) is None


@settings(max_examples=15)
@given(seed=st.integers(0, 10**6), cut=st.integers(0, 20))
def test_a_saved_stream_goes_on_in_another_process(
    tmp_path_factory: pytest.TempPathFactory, seed: int, cut: int
) -> None:
    rng = random.Random(seed)
    network = random_network(rng)
    x = random_x(rng, network, 1, 20)[0]
    path = tmp_path_factory.mktemp("state") / "state.npz"
    window = math.lcm(*(g.window for g in network.gates))
    if cut % window:  # what is left of a window is the end
        Stream(network).push(x[:cut])
        first = Stream(network)
        first.push(x[:cut])
        first.save(path)
        for stream in (first, Stream(network)):
            stream.restore(path)
            with pytest.raises(NetworkError, match=f"expected ticks by whole windows of its gates, {window},"):
                stream.push(x[cut:])
            assert stream.ticks == cut
    cut -= cut % window
    whole, first, second = Stream(network), Stream(network), Stream(network)
    expected = whole.push(x)[cut:]
    first.push(x[:cut])
    first.save(path)
    second.restore(path)
    np.testing.assert_array_equal(second.push(x[cut:]), expected)
    assert (second.ticks, second.counters) == (whole.ticks, whole.counters)


def test_a_state_of_another_network_is_refused(monitor: Monitor, tmp_path: Path) -> None:
    Stream(monitor(0)).save(tmp_path / "state.npz")
    with pytest.raises(StreamError, match=r"expected the state of network [0-9a-f]{16}, got that of '[0-9a-f]{16}'$"):
        Stream(monitor(1)).restore(tmp_path / "state.npz")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("state0_v", np.full(36, 1 << 40), r"state0_v: expected -\d+ to \d+, got 1099511627776$"),
        ("state0_v", np.zeros(35, int), r"state0_v: expected integers of shape \[36\], got int64 of shape \[35\]$"),
        ("past1", np.full((1, 36), 2), r"past1: expected 0 to 1, got 2$"),
        ("counts", None, r"counts: expected integers of shape \[8\], got none$"),
        ("state0_v", np.array([None] * 36), r"expected a stream's state, as `Stream.save` writes it"),
    ],
)
def test_a_damaged_state_is_refused_and_the_stream_stays(
    monitor: Monitor, spikes: Spikes, tmp_path: Path, name: str, value: np.ndarray | None, message: str
) -> None:
    stream, x = Stream(monitor()), spikes(20)
    stream.save(tmp_path / "good.npz")
    arrays = dict(np.load(tmp_path / "good.npz"))
    arrays.pop(name)
    np.savez(tmp_path / "bad.npz", **(arrays if value is None else {**arrays, name: value}))
    stream.push(x)
    with pytest.raises(StreamError, match=message):
        stream.restore(tmp_path / "bad.npz")
    other = Stream(monitor())
    other.push(x)
    np.testing.assert_array_equal(stream.push(x), other.push(x))


def test_events_that_do_not_fit_are_refused(monitor: Monitor) -> None:
    stream = Stream(monitor())
    with pytest.raises(NetworkError, match=r"^events: expected shape \[ticks, 4\], got \[1, 2, 4\]$"):
        stream.push(np.zeros((1, 2, 4), int))
    with pytest.raises(NetworkError, match=r"^input 'leads': expected values 0 to 1, got 2 at sample 0, tick 1"):
        stream.push(np.array([[0, 0, 0, 0], [0, 2, 0, 0]]))
    assert stream.ticks == 0
