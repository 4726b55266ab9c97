"""Event counters: 32 bits, wrap, cleared by reset only. The increment is registered; a read lags by two cycles."""

from __future__ import annotations

from amaranth.hdl import Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out


class Counter(wiring.Component):  # type: ignore[misc]
    """Adds `increment` (0 … `most`) every cycle."""

    def __init__(self, most: int) -> None:
        super().__init__({"increment": In(range(most + 1)), "total": Out(32)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        held = Signal.like(self.increment)
        m.d.sync += [held.eq(self.increment), self.total.eq(self.total + held)]
        return m
