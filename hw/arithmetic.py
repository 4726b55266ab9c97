"""The Amaranth backend of the ops protocol: laws become pipelined datapaths of minimal width.

Every value carries the interval that the width analysis gives it and the pipeline *stage* (clock cycles after the
currents) at which it is available. Operations that cost a carry chain or a multiplier end in a register; operands
of an earlier stage are delayed to the later one. So any law becomes a pipeline of one result per cycle whose
critical path is one adder, one comparison with a multiplexer, or one multiplier.

What depends on the state alone is known as soon as the tick before is through: such operations go into the pipeline
*behind* the results, and `keep` stores what the rest needs until the next tick. A tick then waits for nothing but
what its currents pass.

======================  =======================================================================
operation               stages
======================  =======================================================================
add, sub, gt, ge        1 (0 where an operand is the constant 0 or both are constant)
mul                     2; by a power of two 0; by ±2^a ± 2^b one add, no multiplier
leak                    2, or 1 where at most two factors occur, or 0 by the factor 1: no multiplier
clip, absolute, table   1 (clip: 0 where the interval already fits)
shift, select, wrap     0
======================  =======================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from amaranth.hdl import Array, Cat, Const, Mux, Shape, Signal, Value

from apical.sw.arithmetic import Ops
from apical.sw.ranges import Interval, IntervalOps

ANY_STAGE = -1
FIXED, STATE, CURRENT = range(3)  # what a value depends on: parameters, also the state, also the currents


def shape_of(interval: Interval) -> Shape:
    """Narrowest shape that holds the interval (at least one bit)."""
    shape = Shape.cast(range(interval.low, interval.high + 1))
    return shape if shape.width else Shape(1, signed=shape.signed)


@dataclass(eq=False)
class Wire:
    """A value in a law's pipeline.

    :param interval: what it can be.
    :param stage: cycle after the currents in which `value` is valid; `ANY_STAGE` for constants and parameters.
    :param at: for parameters: gives the value in any stage.
    :param values: for parameters: all that occur; None: any in the interval.
    :param source: FIXED, STATE or CURRENT.
    """

    value: Value
    interval: Interval
    stage: int
    at: Callable[[int], Value] | None = None
    values: frozenset[int] | None = None
    source: int = CURRENT
    delayed: dict[int, Value] = field(default_factory=dict)

    @property
    def constant(self) -> int | None:
        """The value where only one is possible."""
        return self.interval.low if self.interval.low == self.interval.high else None


@dataclass(frozen=True)
class _At:
    """Place of an operation in the pipeline."""

    stage: int
    source: int

    @property
    def later(self) -> _At:
        """One register on."""
        return _At(self.stage + 1, self.source)


def constant(value: int) -> Wire:
    """A wire of one value."""
    return Wire(Const(value, shape_of(Interval(value, value))), Interval(value, value), ANY_STAGE, source=FIXED)


def _signed_powers(value: int) -> list[tuple[int, int]]:
    """Canonical signed digits of a positive integer: [(sign, exponent)]."""
    out, exponent = [], 0
    while value:
        if value & 1:
            digit = 2 - (value & 3)
            out.append((digit, exponent))
            value -= digit
        value >>= 1
        exponent += 1
    return out


class AmaranthOps(Ops[Wire]):
    """Ops on `Wire`; adds the logic to `m` as it goes.

    :param keep: gives the copy of a STATE value that was stored in the tick before, at stage 0; asked for where such a
        value meets a CURRENT one.
    """

    def __init__(self, m: Any, keep: Callable[[Wire], Wire] | None = None) -> None:
        self.m, self.ranges, self.keep = m, IntervalOps(), keep

    @staticmethod
    def _wire(a: Wire | int) -> Wire:
        return constant(a) if isinstance(a, int) else a

    def delay(self, a: Wire, stage: int) -> Value:
        """The value of `a` in a later (or its own) stage."""
        if a.constant is not None:
            return constant(a.constant).value
        if a.at is not None:
            return a.at(stage)
        assert stage >= a.stage
        if stage == a.stage:
            return a.value
        if stage not in a.delayed:
            later = Signal(shape_of(a.interval), reset_less=True)
            self.m.d.sync += later.eq(self.delay(a, stage - 1))
            a.delayed[stage] = later
        return a.delayed[stage]

    def kept(self, a: Wire) -> Wire:
        """The value for use among CURRENT ones."""
        return self.keep(a) if self.keep is not None and a.source == STATE else a

    def _meet(self, *wires: Wire) -> tuple[_At, list[Value]]:
        """Where an operation on the wires takes place, and their values there."""
        source = max(w.source for w in wires)
        if source == CURRENT:
            wires = tuple(self.kept(w) for w in wires)
        at = _At(max(0, *(w.stage for w in wires)), source)
        return at, [self.delay(w, at.stage) for w in wires]

    def _register(self, value: Value, interval: Interval, at: _At) -> Wire:
        """Register an expression: available one stage later."""
        if interval.low == interval.high:
            return constant(interval.low)
        out = Signal(shape_of(interval), reset_less=True)
        self.m.d.sync += out.eq(value)
        return Wire(out, interval, at.stage + 1, source=at.source)

    def _wires(self, value: Value, interval: Interval, at: _At) -> Wire:
        """An expression that costs no time."""
        out = Signal(shape_of(interval))
        self.m.d.comb += out.eq(value)
        return Wire(out, interval, at.stage, source=at.source)

    def add(self, a: Wire | int, b: Wire | int) -> Wire:
        a, b = self._wire(a), self._wire(b)
        if b.constant == 0:
            return a
        if a.constant == 0:
            return b
        at, (x, y) = self._meet(a, b)
        return self._register(x + y, self.ranges.add(a.interval, b.interval), at)

    def sub(self, a: Wire | int, b: Wire | int) -> Wire:
        a, b = self._wire(a), self._wire(b)
        if b.constant == 0:
            return a
        at, (x, y) = self._meet(a, b)
        return self._register(x - y, self.ranges.sub(a.interval, b.interval), at)

    def mul(self, a: Wire | int, b: Wire | int) -> Wire:
        if a is b and isinstance(a, Wire):
            return self._product(a, a, self.ranges.mul(a.interval, a.interval))
        a, b = self._wire(a), self._wire(b)
        if a.constant is not None:
            a, b = b, a
        interval = self.ranges.mul(a.interval, b.interval)
        if interval.low == interval.high:
            return constant(interval.low)
        if b.constant is not None and (digits := _signed_powers(abs(b.constant))) and len(digits) <= 2:
            if b.constant > 0 and len(digits) == 1:
                return self._left(a, digits[0][1])
            at, _ = self._meet(a)
            total: Value = Const(0, 1)
            for sign, exponent in digits:
                term = self.delay(self._left(a, exponent), at.stage)
                total = total + term if (sign > 0) == (b.constant > 0) else total - term
            return self._register(total, interval, at)
        return self._product(a, b, interval)

    def _left(self, a: Wire, n: int) -> Wire:
        if n == 0:
            return a
        at, (v,) = self._meet(a)
        return self._wires(Cat(Const(0, n), v), Interval(a.interval.low << n, a.interval.high << n), at)

    def _product(self, a: Wire, b: Wire, interval: Interval) -> Wire:
        at, values = self._meet(a, b)
        factors: list[Value] = []
        for w, v in zip((a, b), values, strict=True):
            if w.constant is not None:
                factors.append(v)
                continue
            held = Signal(shape_of(w.interval), reset_less=True)
            self.m.d.sync += held.eq(v)
            factors.append(held)
        return self._register(factors[0] * factors[1], interval, at.later)

    def shift(self, a: Wire, n: int) -> Wire:
        if n == 0:
            return a
        interval = self.ranges.shift(a.interval, n)
        if interval.low == interval.high:
            return constant(interval.low)
        at, (v,) = self._meet(a)
        return self._wires(v >> n, interval, at)

    def wrap(self, a: Wire, bits: int) -> Wire:
        if a.interval.low >= 0 and a.interval.high < 1 << bits:
            return a
        at, (v,) = self._meet(a)
        return self._wires((v + Const(0, Shape(bits, True)))[:bits], Interval(0, (1 << bits) - 1), at)

    def leak(self, a: Wire, d: Wire, bits: int) -> Wire:
        """a - ceil(a / 2^k) where d = 2^bits - 2^(bits - k), and a where d = 2^bits.

        Rounding up subtracts one more where a 1 is shifted out: the carry of the same subtraction, a bit below it.
        """
        interval, one = self.ranges.leak(a.interval, d.interval, bits), 1 << bits
        if interval.low == interval.high:
            return constant(interval.low)
        known = d.values or range(d.interval.low, d.interval.high + 1)
        shifts = [k for k in range(bits + 1) if one - (one >> k) in known]
        if not shifts:
            return a
        at, (v, factor) = self._meet(a, d)
        wide = Shape(len(v) + 1, v.shape().signed)
        part: Value = Const(0, wide.width)
        for k in shifts:
            term = Signal(wide)
            self.m.d.comb += term.eq(Cat(v[:k].any(), (v >> k) + Const(0, v.shape())))
            chosen = self._is_factor(factor, bits, k) if len(shifts) > 1 or one in known else Const(1, 1)
            part = part | (term & chosen.replicate(wide.width))
        if len(shifts) + (one in known) > 2:
            held = Signal(wide, reset_less=True)
            later = Signal.like(v, reset_less=True)
            self.m.d.sync += [held.eq(part), later.eq(v)]
            part, v, at = held, later, at.later
        twice, less = Signal(wide), Signal(wide)
        self.m.d.comb += [twice.eq(Cat(Const(0, 1), v)), less.eq(part)]
        return self._register((twice - less) >> 1, interval, at)

    @staticmethod
    def _is_factor(factor: Value, bits: int, k: int) -> Value:
        """The factor is 2^bits - 2^j, j = bits - k: its ones are bits j to bits - 1 (2^bits has bit `bits` only)."""
        bit = [factor[n] if n < len(factor) else Const(0, 1) for n in range(bits + 1)]
        if k == 0:
            return ~(bit[bits] | bit[bits - 1])
        return bit[0] if k == bits else bit[bits - k] & ~bit[bits - k - 1]

    def clip(self, a: Wire, low: int, high: int) -> Wire:
        interval = self.ranges.clip(a.interval, low, high)
        if interval == a.interval:
            return a
        at, (v,) = self._meet(a)
        below, above = self._outside(v, a.interval, low, high)
        return self._register(Mux(below, low, Mux(above, high, v)), interval, at)

    @staticmethod
    def _outside(v: Value, interval: Interval, low: int, high: int) -> tuple[Value, Value]:
        """Conditions v < low and v > high; from the top bits alone where the bounds are a format's."""
        bits = high.bit_length()
        format_high = high == (1 << bits) - 1
        under, over = interval.low < low, interval.high > high
        if v.shape().signed and format_high and low in (0, -(1 << bits)):
            sign = v[-1]
            below = (sign if low == 0 else sign & ~v[bits:-1].all()) if under else Const(0, 1)
            return below, (~sign & v[bits:-1].any() if over else Const(0, 1))
        if not v.shape().signed and format_high and low <= 0:
            return Const(0, 1), v[bits:].any()
        return (v < low if under else Const(0, 1)), (v > high if over else Const(0, 1))

    def _compare(self, a: Wire | int, b: Wire | int, strict: bool) -> Wire:
        a, b = self._wire(a), self._wire(b)
        at, (x, y) = self._meet(a, b)
        return self._register(x > y if strict else x >= y, Interval(0, 1), at)

    def gt(self, a: Wire | int, b: Wire | int) -> Wire:
        return self._compare(a, b, strict=True)

    def ge(self, a: Wire | int, b: Wire | int) -> Wire:
        return self._compare(a, b, strict=False)

    def select(self, condition: Wire, a: Wire | int, b: Wire | int) -> Wire:
        a, b = self._wire(a), self._wire(b)
        interval = self.ranges.select(condition.interval, a.interval, b.interval)
        at, (c, x, y) = self._meet(condition, a, b)
        return self._wires(Mux(c, x, y), interval, at)

    def absolute(self, a: Wire) -> Wire:
        interval = self.ranges.absolute(a.interval)
        if a.interval.low >= 0:
            return a
        at, (v,) = self._meet(a)
        return self._register(Mux(v < 0, -v, v), interval, at)

    def table(self, a: Wire, values: Sequence[int], low: int) -> Wire:
        interval = self.ranges.table(a.interval, values, low)
        index = self.clip(self.sub(a, low), 0, len(values) - 1)
        shape = shape_of(interval)
        entries = Array(Const(min(max(v, interval.low), interval.high), shape) for v in values)
        at, (i,) = self._meet(index)
        return self._register(entries[i], interval, at)
