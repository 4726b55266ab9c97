"""Cells that integrate and fire, in the ways of the tools that train them: `lif`, `if`, `cuba_lif`; and `cuba_li`.

What a law is: `apical.sw.law`. The names are re-exported by `apical.sw.laws`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from apical.sw.arithmetic import Ops, V
from apical.sw.law import Format, Law, Parameter, register

Leak = Literal["multiply", "shift"]
Reset = Literal["subtract", "value", "none", "subtract_late", "zero_late", "subtract_twice"]


def decay_parameter(bits: int, leak: str, initial: float) -> Parameter:
    """A decay of `bits` fraction bits."""
    return Parameter(0, 1 << bits, "fraction", initial, bits, leak == "shift")


def leaked(ops: Ops[V], leak: str, a: V, decay: V, bits: int) -> V:
    """floor(a * decay / 2^bits), by a multiplication or by a shift and a subtraction."""
    return ops.leak(a, decay, bits) if leak == "shift" else ops.shift(ops.mul(a, decay), bits)


@dataclass(frozen=True)
class Fires(Law):
    """What the laws that fire share: the comparison, the count, the resets, the floor."""

    added: ClassVar[Mapping[str, Any]] = {
        "leak": "multiply", "count_bits": 1, "gain_bits": 0, "floored": False, "sends": "spike", "shift": 0,
    }  # fmt: skip
    reset: Reset = "subtract"
    compare: Literal["gt", "ge"] = "gt"
    state_bits: int = 16
    count_bits: int = field(default=1, kw_only=True)
    gain_bits: int = field(default=0, kw_only=True)
    floored: bool = field(default=False, kw_only=True)
    sends: Literal["spike", "membrane"] = field(default="spike", kw_only=True)
    shift: int = field(default=0, kw_only=True)

    @property
    def gain(self) -> int:
        return 1 << self.gain_bits

    @property
    def counts(self) -> bool:
        return self.sends == "spike"

    def check(self) -> None:
        self._between("state_bits", 2, 32)
        self._between("count_bits", 1, 8)
        self._between("gain_bits", 0, 16)
        self._between("shift", 0, self.state_bits - 1 if self.sends == "membrane" else 0)
        if self.count_bits > 1 and (self.compare == "gt" or self.reset not in ("subtract", "value", "none")):
            raise ValueError(
                f"law {self.name}: option count_bits: above 1 it needs compare 'ge' and a reset in the same tick, got "
                f"{self.compare!r} and {self.reset!r}"
            )
        if self.count_bits > 1 and self.sends == "membrane":
            raise ValueError(f"law {self.name}: option count_bits: expected 1 where membranes are sent")

    def states(self) -> dict[str, Format]:
        return {"v": Format(self.state_bits)}

    def parameters(self) -> dict[str, Parameter]:
        low, high = Format(self.state_bits).bounds
        out = {"threshold": Parameter(0, high, "current", 1.0), "bias": Parameter(low, high, "current", 0.0)}
        if self.reset == "value":
            out["v_reset"] = Parameter(low, high, "current", 0.0)
        if self.floored:
            out["floor"] = Parameter(low, 0, "current", -1.0)
        return out

    def value_range(self) -> tuple[int, int]:
        if self.sends == "spike":
            return 0, (1 << self.count_bits) - 1
        low, high = Format(self.state_bits).bounds
        return low >> self.shift, high >> self.shift

    def _above(self, ops: Ops[V], a: V, b: V) -> V:
        return ops.gt(a, b) if self.compare == "gt" else ops.ge(a, b)

    def _fired(self, ops: Ops[V], v: V, kept: V, current: V, params: Mapping[str, V]) -> tuple[V, V]:
        """The membrane after the tick and the value sent.

        :param v: membrane of the last tick. :param kept: what it alone makes of itself, biases included.
        """
        low, high = Format(self.state_bits).bounds
        theta = params["threshold"]
        late = self._above(ops, v, theta) if self.reset in ("subtract_late", "zero_late", "subtract_twice") else None
        if late is not None and self.reset != "zero_late":
            kept = ops.sub(kept, ops.select(late, theta, 0))
        u = ops.clip(ops.add(kept, current), low, high)
        if late is not None and self.reset == "zero_late":
            u = ops.select(late, 0, u)
        if self.count_bits == 1:
            spike = self._above(ops, u, theta)
            n, left = spike, ops.sub(u, theta) if self.reset in ("subtract", "subtract_twice") else u
        else:
            n, left = self._counted(ops, u, theta)
            spike = ops.gt(n, 0)
        after = u
        if self.reset == "subtract":
            # The clip never acts here (u > threshold >= 0 where it is subtracted); it states the format.
            after = ops.select(spike, ops.clip(left, low, high), u)
        elif self.reset == "subtract_twice":
            assert late is not None
            after = ops.clip(ops.add(ops.select(spike, left, u), ops.select(late, theta, 0)), low, high)
        elif self.reset == "value":
            after = ops.select(spike, params["v_reset"], u)
        if self.floored:
            after = ops.select(ops.gt(params["floor"], after), params["floor"], after)
        return after, n if self.sends == "spike" else ops.shift(u, self.shift)

    def _counted(self, ops: Ops[V], u: V, theta: V) -> tuple[V, V]:
        """How often the threshold fits, as a division does it: largest power of two first; and the rest."""
        left, n = u, None
        for k in reversed(range(self.count_bits)):
            part = ops.mul(theta, 1 << k)
            fits = self._above(ops, left, part)
            left = ops.select(fits, ops.sub(left, part), left)
            bit = ops.select(fits, 1 << k, 0)
            n = bit if n is None else ops.add(n, bit)
        assert n is not None
        return ops.clip(n, 0, (1 << self.count_bits) - 1), left


@register
@dataclass(frozen=True)
class Lif(Fires):
    r"""Leaky integrate-and-fire.

    .. math::
        a &= \lfloor d\,v_{t-1} / 2^F \rfloor + b - \theta q_t + 2^G I_t,
            \qquad q_t = [v_{t-1} > \theta] \text{ (late resets), else } 0 \\
        u &= \mathrm{clip}(a, -2^{B-1}, 2^{B-1}-1), \text{ or } 0 \text{ where } q_t = 1 \text{ (zero\_late)} \\
        s_t &= [u > \theta] \text{ or } [u \ge \theta]; \qquad
            n_t = s_t, \text{ or } \min(\lfloor u/\theta \rfloor, 2^K-1) \text{ where } u \ge \theta \\
        v_t &= u - \theta n_t \text{ (subtract)}, \quad v_{reset} \text{ where } s_t = 1 \text{ (value)}, \quad
            u - \theta(s_t - q_t) \text{ (subtract\_twice)}, \quad u \text{ (the others)} \\
        v_t &= \max(v_t, f) \text{ where floored}; \qquad
            y_t = n_t \text{ (spike), or } \lfloor u / 2^S \rfloor \text{ (membrane)}

    B = `state_bits`, F = `decay_bits`, G = `gain_bits` (lets narrow weights drive wide states), K = `count_bits`,
    S = `shift`, d = decay in 0..2^F, f = `floor`; q has the comparison of s; zero\_late subtracts nothing. Order in a
    tick: decay, integrate, saturate, compare, reset. A late reset is snnTorch's: by the spike of the last tick.
    ``subtract_twice`` is its reset without delay. Graded spikes (K above 1) are those of sinabs and Rockpool. With
    ``leak="shift"`` 2^F - d is 0 or a power of two and the decay costs a shift and a subtraction. Source: Gerstner et
    al., Neuronal Dynamics (2014), section 1.3, forward Euler; the tools: docs/reference/nir.md.
    """

    name: ClassVar[str] = "lif"
    decay_bits: int = 8
    leak: Leak = "multiply"

    def check(self) -> None:
        super().check()
        self._between("decay_bits", 1, 16)

    def parameters(self) -> dict[str, Parameter]:
        return {"decay": decay_parameter(self.decay_bits, self.leak, 0.9), **super().parameters()}

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        decayed = leaked(ops, self.leak, state["v"], params["decay"], self.decay_bits)
        current = ops.mul(currents["basal"], self.gain) if self.gain_bits else currents["basal"]
        v, value = self._fired(ops, state["v"], ops.add(decayed, params["bias"]), current, params)
        return {"v": v}, value


@register
@dataclass(frozen=True)
class IntegrateFire(Fires):
    r"""Integrate-and-fire: `lif` with nothing lost, and without its multiplier.

    .. math::
        a = v_{t-1} + b - \theta q_t + 2^G I_t; \qquad \text{then as } \mathtt{lif}
    """

    name: ClassVar[str] = "if"

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        current = ops.mul(currents["basal"], self.gain) if self.gain_bits else currents["basal"]
        v, value = self._fired(ops, state["v"], ops.add(state["v"], params["bias"]), current, params)
        return {"v": v}, value


def _synapse(ops: Ops[V], law: CubaLif | CubaLi, i: V, current: V, params: Mapping[str, V]) -> V:
    """The synaptic current after the tick."""
    decayed = leaked(ops, law.leak, i, params["current_decay"], law.decay_bits)
    given = ops.mul(current, law.gain) if law.gain_bits else current
    return ops.clip(ops.add(ops.add(decayed, params["bias"]), given), *Format(law.current_bits).bounds)


@register
@dataclass(frozen=True)
class CubaLif(Fires):
    r"""Leaky integrate-and-fire behind a synapse of its own decay (current-based).

    .. math::
        i_t &= \mathrm{clip}(\lfloor c\,i_{t-1} / 2^F \rfloor + b + 2^G I_t,\ -2^{C-1},\ 2^{C-1}-1) \\
        a &= \lfloor d\,v_{t-1} / 2^F \rfloor + m - \theta q_t + i_t; \qquad \text{then as } \mathtt{lif}

    C = `current_bits`, c = `current_decay`, b = `bias` (into the synapse), m = `drive` (into the membrane); the rest as
    for `lif`. The gain of a synapse (1 - c, w_in, r) is folded into the weights, since all that it feeds is linear.
    """

    name: ClassVar[str] = "cuba_lif"
    decay_bits: int = 8
    leak: Leak = "multiply"
    current_bits: int = 16

    def check(self) -> None:
        super().check()
        self._between("decay_bits", 1, 16)
        self._between("current_bits", 2, 32)

    def states(self) -> dict[str, Format]:
        return {"i": Format(self.current_bits), **super().states()}

    def parameters(self) -> dict[str, Parameter]:
        low, high = Format(self.current_bits).bounds
        out = super().parameters()
        return {
            "current_decay": decay_parameter(self.decay_bits, self.leak, 0.8),
            "decay": decay_parameter(self.decay_bits, self.leak, 0.9),
            **out,
            "bias": Parameter(low, high, "current", 0.0),
            "drive": out["bias"],
        }

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        i = _synapse(ops, self, state["i"], currents["basal"], params)
        decayed = leaked(ops, self.leak, state["v"], params["decay"], self.decay_bits)
        v, value = self._fired(ops, state["v"], ops.add(decayed, params["drive"]), i, params)
        return {"i": i, "v": v}, value


@register
@dataclass(frozen=True)
class CubaLi(Law):
    r"""Leaky integrator behind a synapse of its own decay: a read-out that sends its membrane.

    .. math::
        i_t &= \mathrm{clip}(\lfloor c\,i_{t-1} / 2^F \rfloor + b + 2^G I_t,\ -2^{C-1},\ 2^{C-1}-1) \\
        v_t &= \mathrm{clip}(\lfloor d\,v_{t-1} / 2^F \rfloor + m + i_t,\ -2^{B-1},\ 2^{B-1}-1), \qquad
            y_t = \lfloor v_t / 2^S \rfloor

    As `cuba_lif`, S = `shift`.
    """

    name: ClassVar[str] = "cuba_li"
    state_bits: int = 20
    current_bits: int = 20
    decay_bits: int = 8
    shift: int = 0
    leak: Leak = "multiply"
    gain_bits: int = 0

    @property
    def gain(self) -> int:
        return 1 << self.gain_bits

    def check(self) -> None:
        self._between("state_bits", 2, 32)
        self._between("current_bits", 2, 32)
        self._between("decay_bits", 1, 16)
        self._between("gain_bits", 0, 16)
        self._between("shift", 0, self.state_bits - 1)

    def states(self) -> dict[str, Format]:
        return {"i": Format(self.current_bits), "v": Format(self.state_bits)}

    def parameters(self) -> dict[str, Parameter]:
        return {
            "current_decay": decay_parameter(self.decay_bits, self.leak, 0.8),
            "decay": decay_parameter(self.decay_bits, self.leak, 0.95),
            "bias": Parameter(*Format(self.current_bits).bounds, "current", 0.0),
            "drive": Parameter(*Format(self.state_bits).bounds, "current", 0.0),
        }

    def value_range(self) -> tuple[int, int]:
        low, high = Format(self.state_bits).bounds
        return low >> self.shift, high >> self.shift

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        i = _synapse(ops, self, state["i"], currents["basal"], params)
        decayed = leaked(ops, self.leak, state["v"], params["decay"], self.decay_bits)
        v = ops.clip(ops.add(ops.add(decayed, params["drive"]), i), *Format(self.state_bits).bounds)
        return {"i": i, "v": v}, ops.shift(v, self.shift)
