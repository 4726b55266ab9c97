"""Properties that several units share, written in Amaranth: for the harnesses of `apical.sim.formal_units`.

A harness is a module without ports: what surrounds the unit is any sequence of values (`AnySeq`) under assumptions.
Its one clock has no reset, so a proof by induction holds from any state, a bounded one from the start values.
"""

from __future__ import annotations

from typing import Any

from amaranth.asserts import AnyConst, AnySeq
from amaranth.hdl import Assert, Assume, ClockDomain, Elaboratable, Module, Mux, Signal, Value
from amaranth.lib import wiring

PATIENCE = 3  # a reader takes something at least once in so many cycles


class Harness(Elaboratable):  # type: ignore[misc]
    """A unit under `properties`; `unit` is a submodule of it."""

    def __init__(self, unit: Any) -> None:
        self.unit = unit
        self.domain = ClockDomain("sync", reset_less=True)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.domains.sync = self.domain
        m.submodules.unit = self.unit
        self.properties(m)
        return m

    def properties(self, m: Module) -> None:
        """Add surroundings, assumptions and assertions."""
        raise NotImplementedError


def anything(m: Module, *signals: Value) -> None:
    """Each has any value in every cycle."""
    for signal in signals:
        m.d.comb += signal.eq(AnySeq(len(signal)))


def any_constant(m: Module, name: str, low: int, high: int) -> Signal:
    """One value of low … high for the whole run."""
    out = Signal(range(high + 1), name=name)
    m.d.comb += [out.eq(AnyConst(len(out))), Assume((out >= low) & (out <= high))]
    return out


def started(m: Module) -> Signal:
    """Low in the first cycle."""
    out = Signal(name="started")
    m.d.sync += out.eq(1)
    return out


def patient(m: Module, valid: Value, payload: Value, ready: Value, check: Any = Assert) -> None:
    """Valid and payload stay until they are taken. `check` is `Assume` for what the surroundings send."""
    waits, before = Signal(name="waits"), Signal(len(payload), name="before")
    m.d.sync += [waits.eq(valid & ~ready), before.eq(payload)]
    m.d.comb += check(~waits | (valid & (payload == before)))


def offered(m: Module, s: wiring.PureInterface) -> Value:
    """Any patient sender into a stream; returns whether a beat moves."""
    payload = s.payload.as_value() if hasattr(s.payload, "as_value") else s.payload
    anything(m, s.valid, payload)
    patient(m, s.valid, payload, s.ready, Assume)
    return s.valid & s.ready


def fair(m: Module, ready: Value, cycles: int) -> None:
    """`ready` is any sequence that is high at least once in so many cycles."""
    anything(m, ready)
    low = Signal(range(cycles + 1), name="low")
    m.d.sync += low.eq(Mux(ready, 0, low + 1))
    m.d.comb += Assume(ready | (low < cycles - 1))


def within(m: Module, waits: Value, comes: Value, cycles: int) -> None:
    """While `waits` is high, `comes` is high at least once in so many cycles."""
    since = Signal(range(cycles + 1), name="since")
    m.d.sync += since.eq(Mux(waits & ~comes, Mux(since == cycles, cycles, since + 1), 0))
    m.d.comb += Assert(since < cycles)
