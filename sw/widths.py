"""Bits and bounds of integers: what formats of every kind are made of. Needs nothing, so that drivers can use it."""

from __future__ import annotations


def bits_of(low: int, high: int) -> int:
    """Bits that hold every integer from `low` to `high`: of two's complement where some are negative, at least 1."""
    if low >= 0:
        return max(1, high.bit_length())
    return max(high.bit_length(), (-low - 1).bit_length()) + 1


def bounds_of(bits: int, signed: bool = True) -> tuple[int, int]:
    """Smallest and largest integer of so many bits."""
    return (-(1 << (bits - 1)), (1 << (bits - 1)) - 1) if signed else (0, (1 << bits) - 1)
