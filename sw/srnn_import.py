"""Float adaptive spiking recurrent networks of Yin, Corradi and Bohté, as their public scripts store them.

Source: Nature Machine Intelligence 3, 905 (2021); code byin-cwi/Efficient-spiking-networks (MIT). Per layer, with the
linear maps of the layer below and of its own last spikes:

    alpha = exp(-1/tau_m), rho = exp(-1/tau_adp)
    eta_t = rho eta_{t-1} + (1-rho) s_{t-1};    theta_t = b0 + beta eta_t          (beta 0: plain LIF)
    u_t   = alpha u_{t-1} + (1-alpha) I_t - theta_t s_{t-1};    s_t = [u_t > theta_t]
    leaky integrator: u_t = alpha u_{t-1} + (1-alpha) I_t

Their start states are random (membranes, and as a slip the first "spikes" too, uniform in [0, b0)); here they are
fixed: membranes at the mean of theirs, no spike, eta as theirs. b0 and beta are constants of the scripts, not in
the file.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from apical.sw.laws import AdaptiveLif, Law, LeakyIntegrator
from apical.sw.network import Input
from apical.sw.real_network import RealArray, RealNetwork, RealPopulation, RealProjection

State = dict[str, RealArray]
LIMIT_FILE = 1 << 28  # bytes; theirs have at most a few million


class SrnnError(ValueError):
    """A file that isn't such a network, or one that the chip can't run; the message says what was expected."""


@dataclass(frozen=True)
class Layer:
    """One layer by its names in the file.

    :param tau: suffix of ``tau_m_`` and ``tau_adp_``.
    :param feed: linear map from the layer below.
    :param back: linear map from its own spikes of the last tick.
    """

    name: str
    tau: str
    feed: str
    back: str | None = None
    kind: Literal["adaptive", "lif", "integrator"] = "adaptive"


@dataclass(frozen=True)
class Layout:
    """How one of the scripts names its layers, and its constants.

    :param reads: how a class is read from the last layer: ``tick``, the largest membrane in every tick; ``softmax``,
        the sum over the ticks of the membranes' softmax; ``rate``, the count of spikes.
    :param skip: first ticks that the script's read-out leaves out.
    :param membrane: mean start value of the membranes; None: b0 / 2.
    """

    layers: tuple[Layer, ...]
    reads: Literal["tick", "softmax", "rate"]
    b0: float = 0.01
    beta: float = 1.8
    eta: float = 0.01
    skip: int = 0
    membrane: float | None = None

    def arrays(self) -> list[str]:
        """Arrays that the file must hold."""
        out = []
        for layer in self.layers:
            for linear in (layer.feed, layer.back):
                out += [f"{linear}.weight", f"{linear}.bias"] if linear else []
            out.append(f"tau_m_{layer.tau}")
            out += [f"tau_adp_{layer.tau}"] if layer.kind == "adaptive" else []
        return out

    @property
    def start(self) -> float:
        """Start value of the membranes."""
        return self.b0 / 2 if self.membrane is None else self.membrane


LAYOUTS: dict[str, Layout] = {
    "ecg": Layout((Layer("hidden", "h", "i2h", "h2h", "lif"), Layer("output", "o", "h2o")), "tick"),
    "shd": Layout(
        (
            Layer("hidden 1", "h1", "i_2_h1", "h1_2_h1"),
            Layer("hidden 2", "h2", "h1_2_h2", "h2_2_h2"),
            Layer("output", "o", "h2o", kind="integrator"),
        ),
        "softmax",
        skip=11,
        membrane=0.5,
    ),
    "smnist": Layout(
        (
            Layer("recurrent 1", "r1", "i2h", "h2h"),
            Layer("recurrent 2", "r2", "h2d", "d2d"),
            Layer("dense", "d1", "dense1"),
            Layer("output", "o", "d2o"),
        ),
        "rate",
        skip=1,
    ),
}


def read(path: Path) -> State:
    """Arrays of a `.pth` state dict (never unpickles code) or an `.npz` file, as float64.

    :raises SrnnError: missing, too large, another format, a whole pickled module, or arrays that aren't finite numbers.
    """
    if not path.is_file():
        raise SrnnError(f"{path}: expected a .pth or .npz file, got no such file")
    if path.stat().st_size > LIMIT_FILE:
        raise SrnnError(f"{path}: expected at most {LIMIT_FILE} bytes, got {path.stat().st_size}")
    arrays = _read_npz(path) if path.suffix == ".npz" else _read_pth(path)
    out: State = {}
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu" or not np.isfinite(array).all():
            raise SrnnError(f"{path}: {name}: expected finite numbers, got {array.dtype} with others")
        out[name] = array.astype(np.float64)
    return out


def _read_npz(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise SrnnError(f"{path}: expected an .npz file of plain arrays: {error}") from None


def _read_pth(path: Path) -> dict[str, np.ndarray]:
    try:
        given: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises many kinds
        reason = str(error).strip().splitlines()[0] if str(error) else type(error).__name__
        raise SrnnError(
            f"{path}: expected a state dict (torch.save(model.state_dict(), file)), not a pickled module, which only "
            f"its own class can open: {reason}"
        ) from None
    if not isinstance(given, Mapping) or not all(isinstance(v, torch.Tensor) for v in given.values()):
        raise SrnnError(f"{path}: expected a state dict of tensors, got {type(given).__name__}")
    return {str(name): tensor.detach().numpy() for name, tensor in given.items()}


def layout_of(state: Mapping[str, RealArray]) -> str:
    """The layout whose arrays are all there.

    :raises SrnnError: none fits, with the keys that the nearest one misses.
    """
    missing = {name: [k for k in layout.arrays() if k not in state] for name, layout in LAYOUTS.items()}
    if fitting := [name for name, keys in missing.items() if not keys]:
        return max(fitting, key=lambda name: len(LAYOUTS[name].arrays()))
    nearest = min(missing, key=lambda name: len(missing[name]) / len(LAYOUTS[name].arrays()))
    raise SrnnError(f"layout {nearest}: expected arrays {missing[nearest]}, got {sorted(state)}")


def check(state: Mapping[str, RealArray], layout: Layout) -> None:
    """Names and shapes.

    :raises SrnnError: an array that is missing or has another shape.
    """
    if missing := [key for key in layout.arrays() if key not in state]:
        raise SrnnError(f"expected array {missing[0]!r}, got {sorted(state)}")
    below = state[f"{layout.layers[0].feed}.weight"].shape[-1]
    for layer in layout.layers:
        size = state[f"tau_m_{layer.tau}"].size
        expected = {f"{layer.feed}.weight": (size, below), f"{layer.feed}.bias": (size,), f"tau_m_{layer.tau}": (size,)}
        if layer.back:
            expected |= {f"{layer.back}.weight": (size, size), f"{layer.back}.bias": (size,)}
        if layer.kind == "adaptive":
            expected[f"tau_adp_{layer.tau}"] = (size,)
        for key, shape in expected.items():
            if state[key].shape != shape:
                raise SrnnError(f"{key}: expected shape {shape}, got {state[key].shape}")
        below = size


def decay(state: Mapping[str, RealArray], key: str, clamp: bool = False) -> RealArray:
    """exp(-1/tau) of each neuron. Their training doesn't keep tau positive; a factor above 1 explodes.

    :param clamp: take 1 (no decay) for a factor above 1.
    :raises SrnnError: a factor above 1, without `clamp`.
    """
    tau = state[key]
    with np.errstate(divide="ignore", over="ignore"):
        factor = np.exp(-1 / tau)
    if (over := np.flatnonzero(~(factor <= 1))).size and not clamp:
        raise SrnnError(
            f"{key}: expected time constants above 0, got {tau[over[0]]:.4g} of neuron {over[0]} ({over.size} of "
            f"{tau.size} neurons); such a cell grows without bound; clamp takes a decay factor of 1 for it"
        )
    return np.asarray(np.minimum(np.nan_to_num(factor, nan=1.0), 1.0))


@torch.no_grad()
def float_run(
    state: Mapping[str, RealArray], layout: Layout, x: np.ndarray, generator: torch.Generator | None = None
) -> dict[str, np.ndarray]:
    """Their equations as they stand, in float32: what every layer's neurons do in every tick.

    :param x: events [samples, ticks, channels].
    :param generator: start states drawn as their ECG script does; None: the fixed ones.
    :returns: by layer, [samples, ticks, neurons]: spikes, but membranes of a last layer that is read by them.
    """
    check(state, layout)
    tensors = {name: torch.from_numpy(array).float() for name, array in state.items()}
    samples, ticks = x.shape[:2]
    below = torch.from_numpy(np.ascontiguousarray(x)).float()
    out: dict[str, np.ndarray] = {}
    for layer in layout.layers:
        size = tensors[f"tau_m_{layer.tau}"].numel()
        alpha = torch.exp(-1 / tensors[f"tau_m_{layer.tau}"])
        adaptive = layer.kind == "adaptive"
        rho = torch.exp(-1 / tensors[f"tau_adp_{layer.tau}"]) if adaptive else torch.zeros(size)
        beta = layout.beta if adaptive else 0.0
        membranes = layer is layout.layers[-1] and layout.reads != "rate"
        u, s = torch.full((samples, size), layout.start), torch.zeros(samples, size)
        if generator is not None:
            u = s = torch.rand(samples, size, generator=generator) * layout.b0
        eta = torch.full((samples, size), layout.eta)
        feed = below @ tensors[f"{layer.feed}.weight"].T + tensors[f"{layer.feed}.bias"]
        sent = torch.empty(samples, ticks, size)
        for t in range(ticks):
            current = feed[:, t]
            if layer.back:
                current = current + s @ tensors[f"{layer.back}.weight"].T + tensors[f"{layer.back}.bias"]
            if layer.kind == "integrator":
                u = alpha * u + (1 - alpha) * current
            else:
                eta = rho * eta + (1 - rho) * s
                theta = layout.b0 + beta * eta
                u = alpha * u + (1 - alpha) * current - theta * s
                s = (u > theta).float()
            sent[:, t] = u if membranes else s
        out[layer.name], below = sent.numpy(), sent
    return out


def decide(layout: Layout, sent: np.ndarray) -> np.ndarray:
    """Classes by the script's own read-out, [samples] or, where it reads every tick, [samples, ticks]."""
    if layout.reads == "tick":
        return np.asarray(sent.argmax(axis=2))
    kept = sent[:, layout.skip :]
    if layout.reads == "softmax":
        kept = np.exp(kept - kept.max(axis=2, keepdims=True))
        kept /= kept.sum(axis=2, keepdims=True)
    return np.asarray(kept.sum(axis=1).argmax(axis=1))


def real_network(
    state: Mapping[str, RealArray],
    layout: Layout,
    *,
    bits: int = 8,
    decay_bits: int = 12,
    state_bits: int = 20,
    gain_bits: int = 4,
    clamp: bool = False,
    name: str = "srnn",
) -> RealNetwork:
    """The same network in the terms of our laws, exactly: (1-alpha) folded into weights and biases, beta eta into `a`.

    The sum over ticks of a softmax becomes the sum of the membranes, the nearest that the chip's host can do.

    :param bits: of every weight.
    :param gain_bits: of cells that spike: a weight counts 2^gain_bits steps, so that thresholds and biases are finer.
    :param clamp: as in `decay`.
    :raises SrnnError: arrays that don't fit, or time constants below 0.
    """
    check(state, layout)
    source = Input("events", state[f"{layout.layers[0].feed}.weight"].shape[1])
    inputs, below = (source,), source.name
    populations, projections = [], []
    for layer in layout.layers:
        alpha = decay(state, f"tau_m_{layer.tau}", clamp)
        size, last = alpha.size, layer is layout.layers[-1]
        bias = state[f"{layer.feed}.bias"]
        integrator = layer.kind == "integrator"
        gain = (1 - alpha)[:, None] / (1 if integrator else 1 << gain_bits)
        feed = gain * state[f"{layer.feed}.weight"]
        projections.append(RealProjection(f"{below} to {layer.name}", below, layer.name, feed, bits=bits))
        if layer.back:
            bias = bias + state[f"{layer.back}.bias"]
            back = gain * state[f"{layer.back}.weight"]
            projections.append(RealProjection(f"{layer.name} to itself", layer.name, layer.name, back, 1, bits))
        params = {"decay": alpha, "bias": (1 - alpha) * bias}
        initial = {"v": np.full(size, layout.start)}
        law: Law
        if integrator:
            law = LeakyIntegrator(state_bits=state_bits, decay_bits=decay_bits)
        else:
            membrane = last and layout.reads != "rate"
            law = AdaptiveLif(state_bits, decay_bits, "membrane" if membrane else "spike", gain_bits=gain_bits)
            adaptive = layer.kind == "adaptive"
            rho = decay(state, f"tau_adp_{layer.tau}", clamp) if adaptive else np.zeros(size)
            beta = layout.beta if adaptive else 0.0
            params |= {
                "adaptation_decay": rho,
                "threshold": np.full(size, layout.b0),
                "adaptation": beta * (1 - rho),
            }
            initial["a"] = np.full(size, beta * layout.eta)
        populations.append(RealPopulation(layer.name, size, law, params, initial))
        below = layer.name
    decoder = {"tick": "tick", "softmax": "sum", "rate": "rate"}[layout.reads]
    return RealNetwork(inputs, tuple(populations), tuple(projections), (below,), decoder, {"kind": "events"}, name)


def with_constants(layout: Layout, b0: float | None, beta: float | None) -> Layout:
    """The layout with other constants of the script.

    :raises SrnnError: a constant that isn't positive.
    """
    for key, value in (("b0", b0), ("beta", beta)):
        if value is not None and not 0 < value < np.inf:
            raise SrnnError(f"{key}: expected a number above 0, got {value}")
    return replace(layout, b0=layout.b0 if b0 is None else b0, beta=layout.beta if beta is None else beta)
