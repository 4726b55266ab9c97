"""Prices that depend on the size of a memory or of a multiplier."""

from __future__ import annotations

import math
from pathlib import Path

from apical.sw import counting, energy

TABLE = """
apical_technology: 1
name: mine
title: Mine
prices:
  weight_read: {value: 0.5, unit: pJ/bit, status: measured, source: our bench, at_bytes: 4096}
"""


def test_a_price_at_a_size_grows_with_the_root_of_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(TABLE, encoding="utf-8")
    for held, factor in ((4096, 1.0), (4 * 4096, 2.0), (1024, 0.5), (1, 0.5)):  # nothing is cheaper than 1 KB
        counts = counting.no_counts()
        counting.move(counts, "weight_read", 10, 8, held)
        assert math.isclose(energy.joules(counts, path).total, 80 * 0.5e-12 * factor)


def test_the_sized_technology_meets_the_published_prices() -> None:
    prices = energy.technology("horowitz-45nm-sized").prices
    for size, published, within in ((8192, 10, 1e-9), (32768, 20, 1e-9), (1 << 20, 100, 0.14)):
        counts = counting.no_counts()
        counting.move(counts, "weight_read", 1, 64, size // 8)
        assert math.isclose(prices["weight_read"].joules("weight_read", counts), published * 1e-12, rel_tol=within)
    for bits, each in ((8, 0.2), (32, 3.1)):
        counts = counting.no_counts()
        counting.multiply(counts, "multiply", 1, bits * bits)
        assert math.isclose(prices["multiply"].joules("multiply", counts), each * 1e-12, rel_tol=0.04)
