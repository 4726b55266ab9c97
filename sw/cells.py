"""Inputs and populations that train: PyTorch modules whose integers are the network's (see `apical.sw.layers`)."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import cast

import numpy as np
import torch
from torch import Tensor, nn

from apical.sw import network as graph
from apical.sw.arithmetic import TrainingOps, nearest_straight_through, round_straight_through
from apical.sw.geometry import Shape, check_shape
from apical.sw.laws import Format, Law, Parameter
from apical.sw.network import IntArray
from apical.sw.surrogate import Surrogate, triangle


def integers(x: Tensor) -> IntArray:
    """A float tensor that holds integers, as an array."""
    array: IntArray = x.detach().cpu().to(torch.int64).numpy()
    return array


class Input:
    """A source of events from outside.

    :param size: channels.
    :param format: of an event's value; 1 bit unsigned for spikes.
    :param unit: event value that means 1.0; default: the largest that the format holds.
    :param shape: (channels, height, width) of a map.
    """

    def __init__(
        self,
        name: str,
        size: int,
        format: Format | None = None,
        unit: float | None = None,
        shape: Shape | None = None,
    ) -> None:
        self.node = graph.Input(name, size, format or Format(1, signed=False), shape)
        self.name, self.size, self.shape = name, size, self.node.shape
        self.unit = float(self.node.value_range[1]) if unit is None else unit


class Population(nn.Module):
    """`size` neurons of any registered law; its parameters train as their `Parameter` spec says.

    Current parameters are stored in real units (integer = round(real x scale)), fractions as the logit of a number
    in [0, 1]; both are clipped to the spec's bounds. Integer parameters are fixed.

    :param scale: integer steps per real unit of current.
    :param unit: sent value that means 1.0; default: the law's largest value.
    :param start: real value of a parameter before training, in place of the law's: one number, or one for each.
    :param shared: parameters that all neurons share; the others are one per neuron, of a map one per channel.
    :param fixed: parameters that don't train.
    :param initial: start states (integers), shapes (1,), (size,) or, of a map, (channels,); absent ones are 0.
    :param surrogate: derivative that stands in for a compare's.
    :param width: the surrogate's unit relative to the threshold (to `scale` where the law has no threshold).
    :param attach: gradients pass through the reset (and the adaptation) that a spike causes; else it is detached.
    :param shape: (channels, height, width) of a map.
    :ivar offsets: what projections add to the bias, in real units: see `apical.sw.conv_layers.Norm`.
    """

    def __init__(
        self,
        name: str,
        size: int,
        law: Law,
        *,
        scale: float = 64.0,
        unit: float | None = None,
        start: Mapping[str, float | Sequence[float]] | None = None,
        shared: Collection[str] = (),
        fixed: Collection[str] = (),
        initial: Mapping[str, IntArray] | None = None,
        surrogate: Surrogate = triangle,
        width: float = 1.0,
        attach: bool = False,
        shape: Shape | None = None,
    ) -> None:
        super().__init__()
        self.name, self.size, self.law, self.scale = name, size, law, float(scale)
        self.shape = None if shape is None else check_shape(shape, size, f"population {name!r}")
        self.offsets: list[Callable[[], Tensor]] = []
        self.surrogate, self.width, self.initial, self.attach = surrogate, width, dict(initial or {}), attach
        self.unit = float(max(abs(v) for v in law.value_range())) if unit is None else unit
        where = f"population {name!r}"
        if not self.scale > 0 or not self.unit > 0:
            raise ValueError(f"{where}: expected a positive scale and unit, got {self.scale} and {self.unit}")
        self.specs = law.parameters()
        for what, names in (("start", start or {}), ("shared", shared), ("fixed", fixed)):
            if unknown := sorted(set(names) - set(self.specs)):
                raise ValueError(f"{where}: {what}: no parameter {unknown[0]!r}; has {sorted(self.specs)}")
        self.latent = nn.ParameterDict()
        for key, spec in self.specs.items():
            values = np.asarray((start or {}).get(key, spec.initial), np.float64)
            count = 1 if key in shared else size if self.shape is None else self.shape[0]
            if values.shape not in ((), (count,)):
                raise ValueError(f"{where}: start of {key!r}: expected one or {count} numbers, got {values.shape}")
            latents = [self._to_latent(spec, float(v)) for v in np.broadcast_to(values, (count,))]
            latent = torch.tensor(latents, dtype=torch.float32)
            self.latent[key] = nn.Parameter(latent, requires_grad=key not in fixed and spec.unit != "integer")
        self.dtype, self.real = torch.float32, False

    @staticmethod
    def _to_latent(spec: Parameter, value: float) -> float:
        if spec.unit != "fraction":
            return value
        edge = 2.0 ** -(spec.fraction_bits + 2)  # rounds to exactly 0 or 1
        inside = min(max(value, edge), 1 - edge)
        return math.log(inside / (1 - inside))

    def parameter(self, key: str, real: bool = False) -> Tensor:
        """One parameter as integers in floats (not rounded where `real`), shape (1,), (channels,) or (size,)."""
        spec, latent = self.specs[key], self.latent[key].to(self.dtype)
        if spec.unit == "fraction":
            latent = torch.sigmoid(latent) * float(1 << spec.fraction_bits)
        elif spec.unit == "current":
            for offset in self.offsets if key == "bias" else ():
                latent = latent + offset()
            latent = latent * self.scale
        latent = latent.clamp(spec.low, spec.high)
        if real:
            return cast(Tensor, latent)
        levels = spec.levels
        return round_straight_through(latent) if levels is None else nearest_straight_through(latent, levels)

    def spread(self, parameter: Tensor) -> Tensor:
        """A parameter or start state for each neuron, [size], or (1,) where they share it."""
        if self.shape is None or len(parameter) in (1, self.size):
            return parameter
        return parameter.repeat_interleave(self.size // self.shape[0])

    def start(self, samples: int) -> dict[str, Tensor]:
        """States before the first tick, each [samples, size]."""
        device = next(iter(self.latent.values())).device if self.latent else None
        out = {}
        for key in self.law.states():
            first = torch.as_tensor(np.asarray(self.initial.get(key, np.zeros(1))), device=device)
            out[key] = self.spread(first).to(self.dtype).expand(samples, self.size)
        return out

    def integrated(self) -> tuple[TrainingOps, dict[str, Tensor]]:
        """Operations and integer parameters for the steps of one forward pass."""
        params = {key: self.spread(self.parameter(key, self.real)) for key in self.specs}
        width: Tensor | float = self.width * self.scale
        if "threshold" in params:
            width = self.width * params["threshold"].detach().clamp(min=1)
        return TrainingOps(width, self.surrogate, self.attach, self.real), params

    def export(self) -> graph.Population:
        """The immutable population."""
        with torch.no_grad():
            params = {key: integers(self.parameter(key)) for key in self.specs}
        return graph.Population(self.name, self.size, self.law, params, self.initial, self.shape)
