"""Replays of recordings: counts stay counts, and each change does what it says."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from apical.sw.augment import replay

STILL = {"speed": 0.0, "late": 0.0, "spread": 0.0, "shift": 0.0, "drop": 0.0}


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts(samples: int = 8) -> Tensor:
    return torch.randint(0, 4, (samples, 50, 40), generator=seeded(9)).float()


def played(events: Tensor, **changes: float) -> Tensor:
    return replay(events, seeded(), **{**STILL, **changes})


def test_without_changes_a_replay_is_the_recording() -> None:
    assert torch.equal(played(counts()), counts())


def test_a_replay_holds_whole_counts_no_higher_than_the_recordings() -> None:
    out = played(counts(), speed=0.2, late=4, spread=0.1, shift=3, drop=0.1)
    assert torch.equal(out, out.round())
    assert float(out.min()) >= 0
    assert float(out.max()) <= 3


def test_rounding_by_chance_keeps_the_mean() -> None:
    events = torch.ones(64, 50, 40)
    inner = played(events, late=0.5, shift=0.5)[:, 1:-1, 1:-1]
    assert torch.equal(inner, torch.ones_like(inner))
    striped = events * (torch.arange(50) % 2)[:, None]
    assert float(played(striped, late=0.5)[:, 2:-2].mean()) == pytest.approx(0.5, abs=0.01)


def test_tempo_leaves_the_first_tick_in_place() -> None:
    events = torch.zeros(64, 50, 40)
    events[:, 0] = 1
    events[:, 30] = 1
    out = played(events, speed=0.2)
    assert float(out[:, 0].mean()) > 0.8
    assert float(out[:, 30].mean()) < 0.5


def test_shifts_move_along_their_own_axis() -> None:
    events = torch.zeros(64, 50, 40)
    events[:, 25, 20] = 1
    ticks = played(events, late=4).nonzero()
    assert set(ticks[:, 2].tolist()) == {20}
    assert {21, 29} <= set(range(min(ticks[:, 1]), max(ticks[:, 1]) + 1)) <= set(range(21, 31))
    channels = played(events, shift=3).nonzero()
    assert set(channels[:, 1].tolist()) == {25}
    assert min(channels[:, 2]) >= 17
    assert max(channels[:, 2]) <= 23


def test_dropped_events_are_their_share() -> None:
    kept = played(torch.ones(64, 50, 40), drop=0.3)
    assert float(kept.mean()) == pytest.approx(0.7, abs=0.01)


def test_the_generator_decides() -> None:
    changes = {"speed": 0.2, "late": 4.0, "spread": 0.1, "shift": 3.0, "drop": 0.1}
    assert torch.equal(replay(counts(), seeded(1), **changes), replay(counts(), seeded(1), **changes))
    assert not torch.equal(replay(counts(), seeded(1), **changes), replay(counts(), seeded(2), **changes))
