"""The ops protocol: the integer operations a neuron law is written in, and its PyTorch backends.

A law's ``step`` sees values only through these operations, so one text trains, is the golden model and becomes
hardware. Every operation is exact on integers; `shift` rounds toward minus infinity (floor) on all backends.

========  =====================================================================
add       a + b
sub       a - b
mul       a * b
shift     floor(a / 2**n), n >= 0 a Python int
clip      min(max(a, low), high), bounds Python ints
gt, ge    1 where a > b (a >= b), else 0
select    a where condition is 1, b where it is 0
absolute  |a|
table     values[a - low], a clipped to the table's ends
leak      floor(a * d / 2**bits), where 2**bits - d is 0 or a power of two: no multiplier
wrap      a modulo 2**bits: its lowest bits
========  =====================================================================

Backends: `IntegerOps` (golden), `TrainingOps` (floats that hold integers, straight-through and surrogate
gradients), `apical.sw.ranges.IntervalOps` (width proof) and `apical.hw.arithmetic.AmaranthOps` (hardware).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from apical.sw.surrogate import Surrogate, triangle

V = TypeVar("V")


class Ops(Protocol[V]):
    """What a law may do with values of type `V`; operands may also be Python ints."""

    def add(self, a: V | int, b: V | int) -> V: ...
    def sub(self, a: V | int, b: V | int) -> V: ...
    def mul(self, a: V | int, b: V | int) -> V: ...
    def shift(self, a: V, n: int) -> V: ...
    def clip(self, a: V, low: int, high: int) -> V: ...
    def gt(self, a: V | int, b: V | int) -> V: ...
    def ge(self, a: V | int, b: V | int) -> V: ...
    def select(self, condition: V, a: V | int, b: V | int) -> V: ...
    def absolute(self, a: V) -> V: ...
    def table(self, a: V, values: Sequence[int], low: int) -> V: ...

    def leak(self, a: V, d: V, bits: int) -> V:
        """By the definition; hardware and the census of operations have forms of their own."""
        return self.shift(self.mul(a, d), bits)

    def wrap(self, a: V, bits: int) -> V:
        """By the definition; hardware leaves the other bits away."""
        return self.sub(a, self.mul(self.shift(a, bits), 1 << bits))


class IntegerOps(Ops[Tensor]):
    """Integer tensors (int32 or int64, as the width analysis chose): the golden model's backend."""

    def __init__(self, dtype: torch.dtype = torch.int64) -> None:
        self.dtype = dtype

    def _tensor(self, a: Tensor | int) -> Tensor:
        return a if isinstance(a, Tensor) else torch.tensor(a, dtype=self.dtype)

    def add(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return self._tensor(a) + b

    def sub(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return self._tensor(a) - b

    def mul(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return self._tensor(a) * b

    def shift(self, a: Tensor, n: int) -> Tensor:
        return a >> n if n else a  # arithmetic shift of a signed integer is the floor

    def clip(self, a: Tensor, low: int, high: int) -> Tensor:
        return a.clamp(low, high)

    def gt(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return (self._tensor(a) > b).to(self.dtype)

    def ge(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return (self._tensor(a) >= b).to(self.dtype)

    def select(self, condition: Tensor, a: Tensor | int, b: Tensor | int) -> Tensor:
        return torch.where(condition != 0, a, self._tensor(b))

    def absolute(self, a: Tensor) -> Tensor:
        return a.abs()

    def table(self, a: Tensor, values: Sequence[int], low: int) -> Tensor:
        index = (a - low).clamp(0, len(values) - 1).long()
        return torch.tensor(list(values), dtype=self.dtype)[index]


class _Floor(torch.autograd.Function):
    """floor(x · factor) forward, the line's slope backward (straight through)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return torch.floor(x * factor)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0] * ctx.factor, None


class _Round(torch.autograd.Function):
    """Round to nearest, ties to even, forward; identity backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return torch.round(x)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> Tensor:
        return grad_outputs[0]


def round_straight_through(x: Tensor) -> Tensor:
    """Nearest integer (ties to even); the gradient passes unchanged."""
    out: Tensor = _Round.apply(x)  # type: ignore[no-untyped-call]
    return out


class _Nearest(torch.autograd.Function):
    """Nearest of the ascending `levels` (the lower one on a tie) forward; identity backward."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, levels: Tensor) -> Tensor:
        return levels[torch.bucketize(x, (levels[1:] + levels[:-1]) / 2)]

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None]:
        return grad_outputs[0], None


def nearest_straight_through(x: Tensor, levels: Sequence[int]) -> Tensor:
    """Nearest of the ascending integers `levels`; the gradient passes unchanged."""
    out: Tensor = _Nearest.apply(x, torch.tensor(levels).to(x))  # type: ignore[no-untyped-call]
    return out


class _Compare(torch.autograd.Function):
    """Heaviside of `difference` (strict or not) forward, a surrogate's derivative backward."""

    @staticmethod
    def forward(ctx: Any, difference: Tensor, strict: bool, width: Tensor | float, surrogate: Surrogate) -> Tensor:
        ctx.save_for_backward(difference)
        ctx.width, ctx.surrogate = width, surrogate
        return ((difference > 0) if strict else (difference >= 0)).to(difference.dtype)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None, None]:
        (difference,) = ctx.saved_tensors
        return grad_outputs[0] * ctx.surrogate(difference / ctx.width) / ctx.width, None, None, None


class TrainingOps(Ops[Tensor]):
    """Float tensors that hold integers: the backend that trains.

    :param width: unit of the surrogate in integer steps; a population passes its threshold, so that the
        gradient's window scales with it.
    :param surrogate: derivative that stands in for the compare's, of the difference divided by `width`.
    :param attach: pass the gradient of `select` to its condition (through a spike to the reset that it causes).
    :param real: no floor in `shift`: the float twin of the integer net.
    """

    def __init__(
        self,
        width: Tensor | float = 1.0,
        surrogate: Surrogate = triangle,
        attach: bool = False,
        real: bool = False,
    ) -> None:
        self.width, self.surrogate, self.attach, self.real = width, surrogate, attach, real

    @staticmethod
    def _tensor(a: Tensor | int) -> Tensor:
        # A float64 scalar holds any constant exactly and takes the type of the tensor that it meets.
        return a if isinstance(a, Tensor) else torch.tensor(float(a), dtype=torch.float64)

    def add(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return self._tensor(a) + b

    def sub(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return self._tensor(a) - b

    def mul(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return self._tensor(a) * b

    def shift(self, a: Tensor, n: int) -> Tensor:
        if not n:
            return a
        if self.real:
            return a * 2.0**-n
        out: Tensor = _Floor.apply(a, 2.0**-n)  # type: ignore[no-untyped-call]
        return out

    def clip(self, a: Tensor, low: int, high: int) -> Tensor:
        return a.clamp(low, high)

    def _compare(self, a: Tensor | int, b: Tensor | int, strict: bool) -> Tensor:
        difference = self._tensor(a) - b
        out: Tensor = _Compare.apply(difference, strict, self.width, self.surrogate)  # type: ignore[no-untyped-call]
        return out

    def gt(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return self._compare(a, b, strict=True)

    def ge(self, a: Tensor | int, b: Tensor | int) -> Tensor:
        return self._compare(a, b, strict=False)

    def select(self, condition: Tensor, a: Tensor | int, b: Tensor | int) -> Tensor:
        """The chosen operand's gradient passes. The condition's passes between two constants (a graded spike), but
        not at a reset (the usual detached reset), unless `attach`."""
        if not isinstance(a, Tensor) and not isinstance(b, Tensor):
            return condition * (a - b) + b
        if self.attach:
            return condition * self.sub(a, b) + b
        return torch.where(condition.detach() != 0, self._tensor(a).to(condition), self._tensor(b).to(condition))

    def absolute(self, a: Tensor) -> Tensor:
        return a.abs()

    def table(self, a: Tensor, values: Sequence[int], low: int) -> Tensor:
        """Look-up; the gradient is the slope between the neighbouring entries."""
        entries = torch.tensor([float(v) for v in values], dtype=a.dtype, device=a.device)
        index = (a.detach() - low).clamp(0, len(values) - 1).long()
        slope = entries[(index + 1).clamp(max=len(values) - 1)] - entries[(index - 1).clamp(min=0)]
        return entries[index] + (a - a.detach()) * (slope / 2)
