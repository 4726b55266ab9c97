"""The filter bank against its definition, mu-law against G.711's numbers, noise at its level, causality."""

from __future__ import annotations

import numpy as np
import pytest

from apical.sw.audio_features import (
    BANDS,
    FLOOR_DB,
    RATE,
    STEP_DB,
    TICK,
    WINDOW,
    bank,
    from_mu_law,
    log_bank,
    mix,
    power,
)

SOUND = np.random.default_rng(0).standard_normal((2, 10 * TICK)) * 0.1


def test_the_bank_is_even_on_the_mel_scale() -> None:
    # By hand: mel(64 Hz) = 98.6, mel(4 kHz) = 2146.1, 24 steps of 85.3; centre 12 at mel 1122.3 = 1195 Hz = bin 38.2,
    # its neighbours at 1057 Hz (33.8) and 1344 Hz (43.0).
    assert bank().shape == (WINDOW // 2 + 1, BANDS) and bank().max(axis=0).min() > 0.5 and bank().max() <= 1
    assert np.nonzero(bank()[:, 11])[0].tolist() == list(range(34, 44))
    assert bank()[:, 11].argmax() == 38
    np.testing.assert_allclose(bank()[36, 11], (36 - 33.82) / (38.24 - 33.82), atol=0.01)


def test_a_tone_is_loudest_in_its_band() -> None:
    time = np.arange(4 * TICK) / RATE
    for band in (2, 11, 20):
        hertz = bank()[:, band].argmax() * RATE / WINDOW
        assert power(np.sin(2 * np.pi * hertz * time)[None], 4)[0, 2].argmax() == band


def test_a_tick_is_the_mean_of_its_two_windows() -> None:
    tick, window = 3, np.hanning(WINDOW + 1)[:-1]
    ends = (tick * TICK + TICK // 2, tick * TICK + TICK)
    by_hand = [np.abs(np.fft.rfft(SOUND[0, end - WINDOW : end] * window)) ** 2 @ bank() for end in ends]
    np.testing.assert_allclose(power(SOUND, 10)[0, tick], np.mean(by_hand, axis=0), rtol=1e-9)


def test_no_tick_hears_what_comes_later() -> None:
    later = SOUND.copy()
    later[:, 6 * TICK :] = 0
    np.testing.assert_array_equal(log_bank(SOUND, 10)[:, :6], log_bank(later, 10)[:, :6])
    assert (log_bank(SOUND, 10)[:, 6] != log_bank(later, 10)[:, 6]).any()
    np.testing.assert_array_equal(log_bank(SOUND[:, : 6 * TICK], 6), log_bank(SOUND, 10)[:, :6])


def test_a_short_sound_is_filled_with_silence() -> None:
    short = SOUND[:, : 9 * TICK + 100]
    filled = np.pad(short, ((0, 0), (0, TICK - 100)))
    np.testing.assert_array_equal(log_bank(short, 10), log_bank(filled, 10))
    assert (log_bank(np.zeros((1, TICK)), 1) == 0).all()


def test_levels_are_decibels() -> None:
    quiet, loud = (log_bank(SOUND * gain, 10).astype(int) for gain in (1, 10 ** (20 / 20)))
    assert np.abs(loud - quiet - 20 / STEP_DB).max() <= 1
    decibel = 10 * np.log10(power(SOUND, 10))
    assert np.abs(log_bank(SOUND, 10) * STEP_DB + FLOOR_DB - decibel).max() <= STEP_DB / 2 + 1e-9


@pytest.mark.parametrize(
    ("code", "sample"),
    # G.711, table 2: decoder output values of 14 bits, here with two bits more.
    [(0xFF, 0), (0x7F, 0), (0x80, 8031 * 4), (0x00, -8031 * 4), (0x8F, 4191 * 4), (0xEF, 33 * 4), (0xFE, 2 * 4)],
)
def test_mu_law_is_g711(code: int, sample: int) -> None:
    assert from_mu_law(np.array([code], np.uint8))[0] * 32768 == sample


def test_noise_has_the_wanted_level() -> None:
    noise = np.random.default_rng(1).standard_normal(SOUND.shape) * 7
    added = mix(SOUND, noise, np.array([-9.0, 0.0])) - SOUND
    ratio = 10 * np.log10((SOUND**2).mean(axis=1) / (added**2).mean(axis=1))
    np.testing.assert_allclose(ratio, [-9, 0], atol=1e-9)
    np.testing.assert_allclose(np.corrcoef(added[0], noise[0])[0, 1], 1)
