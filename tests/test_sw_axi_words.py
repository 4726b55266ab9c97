"""Slots of the AXI streams: every event is where the page says, and comes back; wrong words are told."""

from __future__ import annotations

import random

import numpy as np
import pytest

from apical.hw.register_map import AxiOptions, slot_formats
from apical.sim.random_networks import random_network, random_options, random_x
from apical.sw.axi_words import LABEL, Port, SlotFormat, StreamError, slots_of, words_of
from apical.sw.golden import split_input

MIXED = SlotFormat((Port("spikes", 300, (0, 1), 2, 2), Port("graded", 5, (-8, 7))), 128)
MAP = SlotFormat((Port("map", 12, (0, 3), 1, 1, (3, 2, 2)),), 64)


def test_slots_are_what_the_reference_page_says() -> None:
    assert (MIXED.slot_bits, MIXED.slots, MIXED.index_bits, MIXED.port_bits, MIXED.value_bits) == (32, 4, 9, 1, 19)
    parts = {"spikes": np.zeros((2, 300), np.int64), "graded": np.zeros((2, 5), np.int64)}
    parts["spikes"][0, 258] = 1
    parts["graded"][0, 4] = -2
    got = MIXED.encode(parts).reshape(-1).tolist()
    event = 1 << 31 | 1 << 9 | 258
    graded = 1 << 31 | 1 << 30 | 1 << 28 | (0x7FFFE << 9) | 4
    assert got == [event, graded, 1 << 30 | 1 << 29, 0]
    assert MIXED.encode(parts, endless=True).reshape(-1).tolist()[2] == 1 << 30


def test_a_maps_index_is_its_coordinates() -> None:
    x = np.zeros((1, 12), np.int64)
    x[0, 2 * 4 + 1 * 2 + 0] = 3  # channel 2, row 1, column 0
    (slot,) = MAP.encode({"map": x}).reshape(-1)[:1].tolist()
    assert slot & 0xF == 1 << 3 | 0 << 2 | 2 and (slot >> 4) & 3 == 3


@pytest.mark.parametrize("seed", range(12))
def test_random_samples_come_back(seed: int) -> None:
    rng = random.Random(seed)
    network = random_network(rng)
    options = random_options(rng, network)
    slots, _ = slot_formats(network, options, AxiOptions(data_bits=rng.choice((64, 128, 512))))
    x = random_x(rng, network, 3, 4)
    parts = [{k: v[0] for k, v in split_input(network, sample[None]).items()} for sample in x]
    words = np.concatenate([slots.encode(p) for p in parts])
    assert np.array_equal(slots_of(words_of(words), slots), words)
    got, finals = slots.decode(words)
    assert finals.tolist() == [3, 7, 11]
    for name, array in got.items():
        assert np.array_equal(array, np.concatenate([p[name] for p in parts]))


@pytest.mark.parametrize("seed", range(6))
def test_slots_of_one_beat_share_a_block(seed: int) -> None:
    """A block of slots never has parts of a beat that would fit a block of its own."""
    rng = np.random.default_rng(seed)
    slots = SlotFormat((Port("a", 40, (0, 1), 4, 2), Port("b", 9, (0, 1), 2, 2)), 128)
    assert (slots.slots, slots.block) == (8, 8)
    parts = {"a": rng.integers(0, 2, (5, 40)), "b": rng.integers(0, 2, (5, 9))}
    words = slots.encode(parts)
    used = (words != 0).reshape(len(words), -1)
    assert used[:-1].any(axis=1).all()
    cycles, tick = 0, 0
    for word in words:
        room: dict[tuple[int, int], int] = {}
        for slot in word[word != 0].tolist():
            port, index = slot >> 12 & 1, slot & 63
            key = (port, index % 2)
            room[key] = room.get(key, 0) + 1
            if room[key] > (2, 1)[port] or cycles == 0:
                cycles, room = cycles + 1, {key: 1}
            if slot & slots.last:
                room, tick = {}, tick + 1
    beats = [max(-(-int(p[:, c::2].sum(axis=1)[t]) // n) for p, n in ((parts["a"], 2), (parts["b"], 1)) for c in (0, 1))
             for t in range(5)]  # fmt: skip
    assert len(words) <= sum(beats) and tick == 5


def test_what_is_no_stream_is_told() -> None:
    with pytest.raises(StreamError, match=r"^a soft reset cut this packet$"):
        MIXED.decode(np.array([[MIXED.final, 0, 0, 0]]))
    with pytest.raises(StreamError, match=r"^the words end within a tick$"):
        MIXED.decode(np.array([[MIXED.event | 1, 0, 0, 0]]))
    with pytest.raises(StreamError, match=r"^port 'graded': an index that it hasn't among 6 to 6$"):
        MIXED.decode(np.array([[MIXED.event | MIXED.last | 1 << 28 | 1 << 9 | 6, 0, 0, 0]]))
    with pytest.raises(StreamError, match=r"^port 'graded': expected \[ticks, 5\] of -8 to 7, got \(1, 5\) of 9 to 9$"):
        MIXED.encode({"spikes": np.zeros((1, 300), np.int64), "graded": np.full((1, 5), 9)})
    with pytest.raises(
        StreamError, match=r"^expected ticks of \['spikes', 'graded'\], as many of each, got \['graded'\]"
    ):
        MIXED.encode({"graded": np.zeros((1, 5), np.int64)})


def test_a_label_comes_before_its_sample() -> None:
    slots = SlotFormat((Port("x", 9, (0, 1)), Port(LABEL, 4, (0, 1))), 64)
    first = slots.encode({"x": np.ones((1, 9), np.int64)}, label=3).reshape(-1)[0]
    assert first == slots.event | 1 << 12 | 3


def test_formats_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^AXI stream: expected a word of \(32, 64, 128, 256, 512\) bits, got 48$"):
        SlotFormat(MIXED.ports, 48)
    with pytest.raises(ValueError, match=r"^AXI stream: expected a word that holds a slot of 64 bits, got 32 bits$"):
        SlotFormat((Port("x", 1 << 20, (-(1 << 30), 0)),), 32)
    with pytest.raises(ValueError, match=r"^AXI stream: an event needs 70 bits, more than the 64 of a slot$"):
        SlotFormat((Port("x", 1 << 20, (-(1 << 46), 0)),), 64)
