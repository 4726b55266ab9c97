"""The neuron laws that come with apical: each written once, in the integer operations of `apical.sw.arithmetic`.

Here: read-outs, rectified, two-point and adaptive cells; those that integrate and fire are in `apical.sw.laws_lif`.

What a law is, and the names re-exported here, are in `apical.sw.law`. To add one, see docs/how-to/add-a-neuron.md.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from apical.sw.arithmetic import Ops, V
from apical.sw.law import LAWS, Format, Law, Parameter, make_law, register
from apical.sw.laws_lif import CubaLi, CubaLif, IntegrateFire, Leak, Lif, decay_parameter, leaked

__all__ = [
    "LAWS",
    "AdaptiveLif",
    "CubaLi",
    "CubaLif",
    "Format",
    "IntegrateFire",
    "Law",
    "LeakyIntegrator",
    "Lif",
    "Parameter",
    "Relu",
    "TwoPoint",
    "make_law",
    "register",
]

Modulation = Literal["mcc", "tanh", "exp", "power", "linear"]


@register
@dataclass(frozen=True)
class LeakyIntegrator(Law):
    r"""Leaky integrator, the usual read-out: never spikes, sends its membrane as a graded event.

    .. math::
        v_t = \mathrm{clip}(\lfloor d\,v_{t-1} / 2^F \rfloor + 2^G I_t + b,\ -2^{B-1},\ 2^{B-1}-1), \qquad
        y_t = \lfloor v_t / 2^S \rfloor

    B = `state_bits`, F = `decay_bits`, G = `gain_bits`, S = `shift`. With ``leak="shift"`` 2^F - d is 0 or a power of
    two.
    """

    name: ClassVar[str] = "leaky_integrator"
    added: ClassVar[Mapping[str, Any]] = {"leak": "multiply", "gain_bits": 0}
    state_bits: int = 20
    decay_bits: int = 8
    shift: int = 0
    leak: Leak = "multiply"
    gain_bits: int = 0

    @property
    def gain(self) -> int:
        return 1 << self.gain_bits

    def check(self) -> None:
        self._between("gain_bits", 0, 16)
        self._between("state_bits", 2, 32)
        self._between("decay_bits", 1, 16)
        self._between("shift", 0, self.state_bits - 1)

    def states(self) -> dict[str, Format]:
        return {"v": Format(self.state_bits)}

    def parameters(self) -> dict[str, Parameter]:
        low, high = Format(self.state_bits).bounds
        return {
            "decay": decay_parameter(self.decay_bits, self.leak, 0.95),
            "bias": Parameter(low, high, "current", 0.0),
        }

    def value_range(self) -> tuple[int, int]:
        low, high = Format(self.state_bits).bounds
        return low >> self.shift, high >> self.shift

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        decayed = leaked(ops, self.leak, state["v"], params["decay"], self.decay_bits)
        current = ops.mul(currents["basal"], self.gain) if self.gain_bits else currents["basal"]
        v = ops.add(ops.add(decayed, params["bias"]), current)
        v = ops.clip(v, *Format(self.state_bits).bounds)
        return {"v": v}, ops.shift(v, self.shift)


@register
@dataclass(frozen=True)
class Relu(Law):
    r"""Point neuron with graded events: a rectified, saturated, floored sum. Stateless.

    .. math::
        y = \mathrm{clip}(\lfloor (I + b) / 2^S \rfloor,\ 0,\ 2^V - 1)

    V = `value_bits`, S = `shift`.
    """

    name: ClassVar[str] = "relu"
    value_bits: int = 8
    shift: int = 6

    def check(self) -> None:
        self._between("value_bits", 1, 16)
        self._between("shift", 0, 24)

    def parameters(self) -> dict[str, Parameter]:
        low, high = Format(24).bounds
        return {"bias": Parameter(low, high, "current", 0.0)}

    def value_range(self) -> tuple[int, int]:
        return Format(self.value_bits, signed=False).bounds

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        total = ops.shift(ops.add(currents["basal"], params["bias"]), self.shift)
        return {}, ops.clip(total, *self.value_range())

    def slopes(self, ops: Ops[V], currents: Mapping[str, V], params: Mapping[str, V]) -> Mapping[str, V | int] | None:
        """1; also at the ceiling, so that a cell can come down from it."""
        return {"basal": 1}


# What a table holds, by the modulation's name: the factor of R as a function of the product RC, and where it begins.
# Beyond a product of 4 the factor of tanh has ended and the others send their ceiling, since R and C are below 8.
_STEPS, _MOST = 16, 4  # entries per unit of RC; the product where the tables end
_FACTORS: dict[str, tuple[Callable[[float], float], int]] = {
    "tanh": (lambda x: 1 + math.tanh(x), -4),
    "exp": (lambda x: (1 + math.exp(x)) / 2, -4),
    "power": (lambda x: 2.0**x, -8),
}


@register
@dataclass(frozen=True)
class TwoPoint(Law):
    r"""Two-point (context-sensitive) cell: basal receptive field R modulated by apical context C. Stateless.

    .. math::
        R &= \mathrm{clip}(\lfloor (I_{basal} + b_R) / 2^{S} \rfloor,\ -2^F,\ 2^{F+3}-1) \\
        C &= \mathrm{clip}(\lfloor (I_{apical} + b_C) / 2^{S} \rfloor,\ -2^{F+3},\ 2^{F+3}-1) \\
        M &= R^2 + 2^{F+1} R + C\,(2^F + |R|) \text{ (mcc)}, \quad R\,(2^F + C) \text{ (linear), or }
            R\,T[\lfloor (RC + 2^{2F-5}) / 2^{2F-4} \rfloor] \\
        y &= \mathrm{clip}(\lfloor M / 2^{2F-G} \rfloor,\ 0,\ \min(6 \cdot 2^G,\ 2^V-1))

    F = `fraction_bits` of R and C, G = `value_fraction_bits` of the sent value, V = `value_bits`, S = `shift`. In real
    numbers y = ReLU6(MOD(R, C)), and `modulation` says which MOD: R² + 2R + C(1+|R|) (mcc), R + RC (linear), or by the
    table T, with 16 entries per unit of RC and F fraction bits: R(1 + tanh RC) (tanh), R(1 + exp RC)/2 (exp),
    R·2^(RC) (power). R is clamped at -1, below which R² + 2R would rise again (the source leaves this open). Source:
    Adeel et al., arXiv 2211.01950, and the authors' later public code; the others: Kay and Phillips, Symmetry 12, 815
    (2020).
    """

    name: ClassVar[str] = "two_point"
    compartments: ClassVar[tuple[str, ...]] = ("basal", "apical")
    value_bits: int = 8
    value_fraction_bits: int = 5
    fraction_bits: int = 6
    shift: int = 5
    modulation: Modulation = "mcc"

    def check(self) -> None:
        self._between("value_bits", 1, 12)
        self._between("fraction_bits", 2 if self.modulation in ("mcc", "linear") else 3, 10)
        self._between("value_fraction_bits", 0, 2 * self.fraction_bits)
        self._between("shift", 0, 24)

    def parameters(self) -> dict[str, Parameter]:
        low, high = Format(24).bounds
        spec = {"bias_basal": 0.0, "bias_apical": -0.25}
        return {name: Parameter(low, high, "current", initial) for name, initial in spec.items()}

    def value_range(self) -> tuple[int, int]:
        return 0, min(6 << self.value_fraction_bits, (1 << self.value_bits) - 1)

    def _modulated(self, ops: Ops[V], r: V, c: V) -> V:
        """MOD(R, C) with twice `fraction_bits`."""
        one = 1 << self.fraction_bits
        if self.modulation == "mcc":
            drive = ops.add(ops.mul(r, r), ops.mul(r, 2 * one))
            return ops.add(drive, ops.mul(c, ops.add(ops.absolute(r), one)))
        if self.modulation == "linear":
            return ops.mul(r, ops.add(c, one))
        factor, low = _FACTORS[self.modulation]
        entries = [round(factor(n / _STEPS) * one) for n in range(low * _STEPS, _MOST * _STEPS + 1)]
        step = one * one // _STEPS
        nearest = ops.shift(ops.add(ops.mul(r, c), step // 2), step.bit_length() - 1)
        return ops.mul(r, ops.table(nearest, entries, low * _STEPS))

    def _fields(self, ops: Ops[V], currents: Mapping[str, V], params: Mapping[str, V]) -> tuple[V, V]:
        """R and C."""
        one = 1 << self.fraction_bits
        basal = ops.shift(ops.add(currents["basal"], params["bias_basal"]), self.shift)
        apical = ops.shift(ops.add(currents["apical"], params["bias_apical"]), self.shift)
        return ops.clip(basal, -one, 8 * one - 1), ops.clip(apical, -8 * one, 8 * one - 1)

    def slopes(self, ops: Ops[V], currents: Mapping[str, V], params: Mapping[str, V]) -> Mapping[str, V | int] | None:
        r"""2^F times the derivative of MOD by R (0 where R is at its floor) and by C.

        .. math::
            2R + 2^{F+1} \pm C \text{ (minus where R < 0) and } 2^F + |R| \text{ (mcc)}, \quad 2^F + C \text{ and } R
            \text{ (linear)}

        At the other ends of R, C and y the same, so that a cell can come back from them.
        """
        one, (r, c) = 1 << self.fraction_bits, self._fields(ops, currents, params)
        if self.modulation == "mcc":
            signed = ops.select(ops.ge(r, 0), c, ops.sub(0, c))
            basal, apical = ops.add(ops.add(ops.mul(r, 2), 2 * one), signed), ops.add(ops.absolute(r), one)
        elif self.modulation == "linear":
            basal, apical = ops.add(c, one), r
        else:
            return None
        return {"basal": ops.select(ops.gt(r, -one), basal, 0), "apical": apical}

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        r, c = self._fields(ops, currents, params)
        m = ops.shift(self._modulated(ops, r, c), 2 * self.fraction_bits - self.value_fraction_bits)
        return {}, ops.clip(m, *self.value_range())


@register
@dataclass(frozen=True)
class AdaptiveLif(Law):
    r"""Adaptive leaky integrate-and-fire: a threshold that rises with the neuron's own spikes; soft reset by it.

    .. math::
        a_t &= \mathrm{clip}(\lfloor \rho\,a_{t-1} / 2^F \rfloor + k\,s_{t-1},\ 0,\ 2^{B-1}-1) \\
        \theta_t &= \theta_0 + a_t \\
        u_t &= \mathrm{clip}(\lfloor \alpha u_{t-1} / 2^F \rfloor + 2^G I_t + b - \theta_t s_{t-1}, -2^{B-1},
            2^{B-1}-1) \\
        s_t &= [u_t > \theta_t], \qquad
        y_t = s_t \text{ (spike), or } \lfloor u_t / 2^S \rfloor \text{ (membrane)}

    B = `state_bits`, F = `decay_bits`, G = `gain_bits` (lets narrow weights drive wide states), S = `shift`; y is what
    `sends` says; ρ = `adaptation_decay` and α = `decay` in 0..2^F, θ0 = `threshold`, k = `adaptation`. The published
    form (Yin, Corradi and Bohté, Nature Machine Intelligence 3, 2021) has a = β η, so k = β(1-ρ), and (1-α)I, which is
    folded into the weights. Order: adapt, leak, integrate and reset by the last tick's spike, compare. As a read-out
    the published ECG net compares the membranes of such cells: ``sends="membrane"``. With ``leak="shift"`` 2^F - ρ and
    2^F - α are 0 or powers of two.
    """

    name: ClassVar[str] = "adaptive_lif"
    state_bits: int = 16
    decay_bits: int = 10
    sends: Literal["spike", "membrane"] = "spike"
    shift: int = 0
    leak: Leak = "multiply"
    gain_bits: int = 0

    @property
    def gain(self) -> int:
        return 1 << self.gain_bits

    def check(self) -> None:
        self._between("state_bits", 2, 32)
        self._between("decay_bits", 1, 16)
        self._between("gain_bits", 0, 16)
        self._between("shift", 0, self.state_bits - 1 if self.sends == "membrane" else 0)

    def states(self) -> dict[str, Format]:
        return {"v": Format(self.state_bits), "a": Format(self.state_bits), "s": Format(1, signed=False)}

    def parameters(self) -> dict[str, Parameter]:
        low, high = Format(self.state_bits).bounds
        return {
            "decay": decay_parameter(self.decay_bits, self.leak, 0.9),
            "adaptation_decay": decay_parameter(self.decay_bits, self.leak, 0.98),
            "threshold": Parameter(0, high, "current", 1.0),
            "adaptation": Parameter(0, high, "current", 0.036),
            "bias": Parameter(low, high, "current", 0.0),
        }

    def value_range(self) -> tuple[int, int]:
        low, high = Format(self.state_bits).bounds
        return (0, 1) if self.sends == "spike" else (low >> self.shift, high >> self.shift)

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        low, high = Format(self.state_bits).bounds
        relaxed = leaked(ops, self.leak, state["a"], params["adaptation_decay"], self.decay_bits)
        a = ops.clip(ops.add(relaxed, ops.select(state["s"], params["adaptation"], 0)), 0, high)
        threshold = ops.add(params["threshold"], a)
        decayed = leaked(ops, self.leak, state["v"], params["decay"], self.decay_bits)
        ready = ops.sub(ops.add(decayed, params["bias"]), ops.select(state["s"], threshold, 0))
        current = ops.mul(currents["basal"], self.gain) if self.gain_bits else currents["basal"]
        v = ops.clip(ops.add(ready, current), low, high)
        spike = ops.gt(v, threshold)
        return {"v": v, "a": a, "s": spike}, spike if self.sends == "spike" else ops.shift(v, self.shift)
