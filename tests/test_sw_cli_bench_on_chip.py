"""`apical bench on-chip-learning`: its figures of energy, from two chips that have learned a little."""

from __future__ import annotations

import numpy as np
import pytest

from apical.sw import cli_bench_on_chip, on_chip_recipe
from apical.sw.on_chip import OnChip


def test_joules_of_a_gated_chip_beside_an_ungated_one() -> None:
    network, random = on_chip_recipe.network(20), np.random.default_rng(0)
    x = random.integers(0, 16, (200, 1, 785)) * (random.random((200, 1, 785)) < 0.19)
    labels = random.integers(0, 10, 200)
    gated, plain = (OnChip(network, on_chip_recipe.learning(gates)) for gates in ("all", "none"))
    for chip in (gated, plain):
        chip.learn(x, labels)
    found = cli_bench_on_chip.joules(gated, plain)
    assert all(value is not None and value > 0 for value in found.values())
    for suffix, price in (("", 0.3125), ("_pcm", 16.82)):
        for chip, name in ((gated, ""), (plain, "_ungated")):
            writes = sum(n for key, n in chip.counters.items() if key.endswith(": weight writes"))
            each = writes / 200 * 16 * price * 1e-12  # words of 16 bits
            assert found[f"joules_of_writes_per_sample{name}{suffix}"] == pytest.approx(each)
    assert found["joules_per_learned_sample"] > found["joules_per_inference"]  # type: ignore[operator]
