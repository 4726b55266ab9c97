"""Source profiles: what a NIR file leaves open, as each tool that writes such files fills it in.

`cell` turns a stateful node into a `Cell`: plain numbers per neuron and a few words, the terms of
docs/reference/nir.md, from which the float twin computes and the laws are chosen. Every field of a profile can be
overridden for the whole graph or for one node.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, get_args, get_type_hints

import numpy as np
import numpy.typing as npt

from apical.sw.nir_read import NirError, Node
from apical.sw.nir_shapes import Shape, stripped

RealArray = npt.NDArray[np.float64]
Reset = Literal["subtract", "value", "none", "subtract_late", "zero_late", "subtract_twice"]
NEAR_ONE = 1e-3  # a gain this near to 1 is 1: tau and r are single floats in the files


@dataclass(frozen=True)
class Profile:
    """How a tool steps its neurons.

    :param dt: its usual tick, in the unit of the file's tau; None: must be given.
    :param tau_unit: unit of the file's time constants: ``seconds`` (that of dt), ``ticks``, or ``seconds_dt`` (seconds
        times dt, as Norse writes them).
    :param integrator: decay 1 - dt/tau, or e^(-dt/tau).
    :param synapse_gain: of the current into a synapse: ``ode`` (w_in (1 - alpha)) or ``w_in``.
    :param membrane_gain: of the current into a leaky membrane: ``ode`` (r (1 - beta)), ``one``, or ``decayed`` (what
        was added decays in the same tick: alpha of the synapse, or beta of an LI).
    :param if_gain: of the current into an integrator: ``ode`` (r dt) or ``r``.
    :param spike: one event a tick, or as many as the threshold fits.
    :param reset: ``subtract``, ``zero``, ``value`` (v_reset) or ``none``, or a reset of `Cell` as it is.
    :param reset_delay: a reset in the next tick, as snnTorch's.
    :param floor: lowest membrane: ``none``, ``threshold`` (minus it) or a number.
    :param start: first membrane: ``zero``, ``leak`` or ``reset``.
    """

    name: str
    dt: float | None = None
    tau_unit: Literal["seconds", "ticks", "seconds_dt"] = "seconds"
    integrator: Literal["euler", "exponential"] = "euler"
    synapse_gain: Literal["ode", "w_in"] = "ode"
    membrane_gain: Literal["ode", "one", "decayed"] = "ode"
    if_gain: Literal["ode", "r"] = "ode"
    compare: Literal["gt", "ge"] = "gt"
    spike: Literal["single", "graded"] = "single"
    reset: Literal["subtract", "zero", "value", "none", "subtract_late", "zero_late", "subtract_twice"] = "value"
    reset_delay: bool = False
    floor: str = "none"
    start: Literal["zero", "leak", "reset"] = "zero"
    dtype: Literal["float32", "float64"] = "float32"


PROFILES = {
    p.name: p
    for p in (
        Profile("nir", dtype="float64"),
        Profile("snntorch", dt=1e-4, reset="subtract", reset_delay=True),
        Profile("norse", dt=1e-3, tau_unit="seconds_dt", synapse_gain="w_in", if_gain="r", start="leak"),
        Profile(
            "sinabs", dt=1.0, tau_unit="ticks", integrator="exponential", if_gain="r", compare="ge", spike="graded",
            reset="subtract",
        ),
        Profile(
            "rockpool", dt=1e-3, integrator="exponential", synapse_gain="w_in", membrane_gain="decayed",
            if_gain="r", compare="ge", spike="graded", reset="subtract",
        ),
        Profile("spikingjelly", dt=1e-4, compare="ge", start="reset"),
    )
}  # fmt: skip

# Numbers of a node that may be overridden too: in place of a field that the file lacks or bends.
NUMBERS = ("tau", "tau_mem", "tau_syn", "r", "w_in", "v_leak", "v_threshold", "v_reset", "bias", "threshold", "delay")
SETTABLE = tuple(f.name for f in fields(Profile) if f.name != "name")


@dataclass(frozen=True)
class Cell:
    """A neuron per entry, in real numbers; docs/reference/nir.md has the equations.

    :param alpha: decay of the synapse; None: no synapse. :param weight: gain of the current into it (or, without a
        synapse, 1).
    :param beta, gain, drive: of the membrane.
    :param rate, leak: where the source writes v + rate (leak - v + x / rate): for floats like the source's; None: beta.
    :param threshold: None: a read-out that sends its membrane.
    """

    name: str
    type: str
    shape: Shape
    beta: RealArray
    gain: RealArray
    drive: RealArray
    alpha: RealArray | None = None
    weight: RealArray | None = None
    rate: RealArray | None = None
    leak: RealArray | None = None
    threshold: RealArray | None = None
    v_reset: RealArray | None = None
    floor: RealArray | None = None
    start: RealArray | None = None
    reset: Reset = "none"
    compare: Literal["gt", "ge"] = "gt"
    graded: bool = False
    dtype: Literal["float32", "float64"] = "float32"

    @property
    def size(self) -> int:
        """Number of neurons."""
        return math.prod(self.shape)


def overridden(profile: Profile, given: Mapping[str, str], where: str) -> Profile:
    """The profile with other fields.

    :param given: values as text. :param where: for the message.
    :raises NirError: an unknown field or a value that it can't have.
    """
    hints, out = get_type_hints(Profile), {}
    for key, text in given.items():
        if key not in SETTABLE:
            known = ", ".join(sorted({*SETTABLE, *NUMBERS}))
            raise NirError(f"{where}: no field {key!r}; has {known}")
        hint: Any = hints[key]
        value: Any = text
        if key == "dt":
            value = number(text, where, key)
        elif hint is bool:
            if text.lower() not in ("true", "false"):
                raise NirError(f"{where}: {key}: expected true or false, got {text!r}")
            value = text.lower() == "true"
        elif key == "floor":
            if text not in ("none", "threshold"):
                number(text, where, key)
        elif text not in get_args(hint):
            raise NirError(f"{where}: {key}: expected one of {', '.join(get_args(hint))}, got {text!r}")
        out[key] = value
    return replace(profile, **out)


def number(text: str, where: str, key: str) -> float:
    """A finite number.

    :raises NirError: it isn't.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise NirError(f"{where}: {key}: expected a number, got {text!r}")
    return value


@dataclass
class _Maker:
    """Collects what one node's cell needs."""

    node: Node
    profile: Profile
    shape: Shape
    numbers: Mapping[str, float]
    notes: list[str]

    @property
    def where(self) -> str:
        return f"node {self.node.name!r} ({self.node.type})"

    def values(self, key: str, default: float | None = None) -> RealArray:
        """A field of the node as [neurons]; one number stands for all."""
        size = math.prod(self.shape)
        if key in self.numbers:
            return np.full(size, self.numbers[key])
        if key not in self.node.fields and default is not None:
            return np.full(size, default)
        array = np.asarray(self.node.array(key), np.float64)
        if array.size == 1:
            return np.full(size, float(array.reshape(-1)[0]))
        own = array.reshape(stripped(array.shape))
        return np.broadcast_to(own, stripped(self.shape)).reshape(-1).copy()

    def ticks(self, key: str) -> RealArray:
        """A time constant in ticks."""
        tau, dt = self.values(key), self.dt
        unit = {"seconds": dt, "ticks": 1.0, "seconds_dt": dt * dt}[self.profile.tau_unit]
        with np.errstate(over="ignore"):  # infinite: it loses nothing
            out = np.asarray(tau / unit)
        if (bad := np.flatnonzero(out == 0)).size:
            raise NirError(f"{self.where}, {key!r}: expected a time constant, got 0 of neuron {bad[0]}")
        return out

    @property
    def dt(self) -> float:
        if self.profile.dt is None or self.profile.dt <= 0:
            raise NirError(f"{self.where}: source {self.profile.name} needs dt above 0, got {self.profile.dt}")
        return self.profile.dt

    def decay(self, key: str) -> tuple[RealArray, RealArray]:
        """Decay factor, and 1 minus it before it was clipped (the rate)."""
        ticks = self.ticks(key)
        euler = self.profile.integrator == "euler"
        with np.errstate(over="ignore", under="ignore"):
            rate = 1 / ticks if euler else -np.expm1(-1 / ticks)
        if (bad := np.flatnonzero(ticks < 0)).size:
            if self.profile.name != "snntorch":
                raise NirError(
                    f"{self.where}, {key!r}: expected time constants above 0, got {self.values(key)[bad[0]]:.4g} of "
                    f"neuron {bad[0]}"
                )
            self.notes.append(f"{self.where}: {bad.size} of {key!r} are below 0: a learned decay above 1; taken as 1")
        if euler and (bad := np.flatnonzero(rate > 2)).size:
            hint = ""
            if self.profile.tau_unit == "seconds_dt":
                hint = "; if the file's tau are in seconds: --set tau_unit=seconds"
            raise NirError(
                f"{self.where}, {key!r}: dt/tau is {rate[bad[0]]:.4g} of neuron {bad[0]}: above 2 it diverges{hint}"
            )
        if euler and (bad := np.flatnonzero(rate > 1 + 1e-6)).size:
            self.notes.append(f"{self.where}: dt is above {key!r} of {bad.size} neurons: their decay changes its sign")
        factor = 1 - rate
        if self.profile.name == "snntorch":
            factor = np.clip(factor, 0, 1)
        # The file holds tau; the source computed with the decay as a single float.
        return np.asarray(np.float64(np.float32(factor))), rate

    def gain(self, how: str, factor: RealArray, rate: RealArray, scale: RealArray) -> RealArray:
        if how == "one":
            return np.ones_like(factor)
        if how == "decayed":
            return factor
        with np.errstate(invalid="ignore", over="ignore"):
            out = rate * scale
        out = np.where(np.isinf(scale) & (rate == 0), 1.0, out)  # snnTorch at beta = 1: tau and r are infinite
        if not np.isfinite(out).all():
            raise NirError(f"{self.where}: expected finite gains, got r {scale[~np.isfinite(out)][0]}")
        return np.asarray(np.where(np.abs(out - 1) < NEAR_ONE, 1.0, out))


def cell(
    node: Node, shape: Shape, profile: Profile, numbers: Mapping[str, float], recurrent: bool, notes: list[str]
) -> Cell:
    """The cell of a stateful node.

    :param numbers: fields of the node that are overridden. :param recurrent: it lies in a cycle with itself alone.
    :param notes: repairs are added.
    :raises NirError: what can't be taken.
    """
    make = _Maker(node, profile, shape, numbers, notes)
    kind, size = node.type, math.prod(shape)
    none, one = np.zeros(size), np.ones(size)
    bias = make.values("bias", 0.0)
    if kind == "Threshold":
        theta = numbers.get("v_threshold", numbers.get("threshold"))
        limit = np.full(size, theta) if theta is not None else make.values("threshold")
        return Cell(
            node.name, kind, shape, none, one, bias, threshold=limit, compare=profile.compare, dtype=profile.dtype
        )
    alpha = weight = rate = leak = None
    if kind in ("I", "IF"):
        scale = make.values("r") * (make.dt if profile.if_gain == "ode" else 1)
        beta, gain = one, np.where(np.abs(scale - 1) < NEAR_ONE, 1.0, scale)
        if not np.isfinite(gain).all():
            raise NirError(f"{make.where}, 'r': expected finite numbers")
        drive = bias
    else:
        cuba = kind.startswith("Cuba")
        beta, k = make.decay("tau_mem" if cuba else "tau")
        resistance, rest = make.values("r"), make.values("v_leak")
        how = profile.membrane_gain
        if how == "decayed" and kind == "LIF":
            how = "one"
        gain = make.gain(how, beta, k, resistance)
        if cuba:
            alpha, k_syn = make.decay("tau_syn")
            w_in = make.values("w_in", 1.0)
            weight = make.gain("ode", alpha, k_syn, w_in) if profile.synapse_gain == "ode" else w_in
            if profile.membrane_gain == "decayed":
                gain = alpha if kind == "CubaLIF" else alpha * beta
        drive = k * rest + bias
        if profile.integrator == "euler" and (gain != 1).any() and profile.name in ("norse", "nir", "spikingjelly"):
            rate, leak = k, rest
    out = Cell(
        node.name, kind, shape, beta, np.asarray(gain, np.float64), drive, alpha, weight, rate, leak,
        dtype=profile.dtype, start=_start(make),
    )  # fmt: skip
    if kind in ("LI", "CubaLI", "I"):
        return out
    return _spiking(out, make, recurrent)


def _start(make: _Maker) -> RealArray:
    """First membranes."""
    if make.profile.start == "zero":
        return np.zeros(math.prod(make.shape))
    key = {"leak": "v_leak", "reset": "v_reset"}[make.profile.start]
    if make.node.type == "IF":
        key = "v_reset"  # an integrator has no leak
    return make.values(key, 0.0)


def _spiking(out: Cell, make: _Maker, recurrent: bool) -> Cell:
    profile, theta = make.profile, make.values("v_threshold")
    reset: str = profile.reset
    v_reset = make.values("v_reset", 0.0)
    if reset == "zero":
        v_reset = np.zeros(out.size)
        reset = "zero_late" if profile.reset_delay and (recurrent or out.alpha is not None) else "value"
    elif reset == "subtract" and profile.name == "snntorch":
        reset = "subtract_late" if profile.reset_delay else "subtract_twice"
    graded = profile.spike == "graded"
    if graded and ((theta <= 0).any() or reset not in ("subtract", "value", "none")):
        raise NirError(
            f"{make.where}: graded spikes need thresholds above 0 and a reset in the same tick, got {theta.min()} and "
            f"{reset}"
        )
    floor = None
    if profile.floor == "threshold":
        floor = -theta
    elif profile.floor != "none":
        floor = np.full(out.size, number(profile.floor, make.where, "floor"))
    return replace(
        out,
        threshold=theta,
        v_reset=v_reset if reset == "value" else None,
        floor=floor,
        reset=reset,  # type: ignore[arg-type]
        compare=profile.compare,
        graded=graded,
    )
