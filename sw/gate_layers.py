"""Gates of kernels that train: soft at first, then hard; what they decide is docs/reference/gating.md's integers."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from apical.sw.arithmetic import round_straight_through
from apical.sw.cells import Population, integers
from apical.sw.geometry import GeometryError
from apical.sw.kernel_gates import BIAS_BITS, Gate
from apical.sw.laws import Format
from apical.sw.layers import Node

FIRST, LAST, HARD = 1.0, 20.0, 0.6  # sharpness at the start, and when gates turn hard; share of the steps then


class KernelGate(nn.Module):
    """Switches groups of channels of `target` by the mean of each channel of `source`.

    In real units z = b + V · mean(source) over a window and its map; integers are round(V · 2^(bits - 3)), so |V| stays
    below 4, and b in the same steps times positions, ticks and the source's unit.

    :param groups: of the target's channels; default: each channel for itself.
    :param window: ticks of a decision.
    :param gain: weight in the loss (`Settings.gating` times it); several: as many operating points, one gate set each.
    :param bias: of every gate before training; above 0: all on.
    :param std: of the normal start weights; default 1/sqrt(source channels).
    :raises GeometryError: a flat target, or groups that don't divide its channels.
    """

    def __init__(
        self,
        source: Node,
        target: Population,
        *,
        groups: int | None = None,
        window: int = 1,
        gain: float | tuple[float, ...] = 1.0,
        bits: int = 8,
        bias: float = 1.0,
        std: float | None = None,
    ) -> None:
        super().__init__()
        where = f"gate of {target.name!r}"
        if target.shape is None:
            raise GeometryError(f"{where}: expected a target with a shape, got a flat one")
        self.groups = target.shape[0] if groups is None else groups
        if self.groups < 1 or target.shape[0] % self.groups:
            raise GeometryError(f"{where}: expected groups that divide {target.shape[0]} channels, got {groups}")
        self.source, self.target, self.window, self.bits = source.name, target.name, window, bits
        self.gains = (gain,) if isinstance(gain, float | int) else tuple(gain)
        self.each = target.size // self.groups  # neurons of a group
        self.channels = source.size if source.shape is None else source.shape[0]
        self.positions = source.size // self.channels
        self.steps = 2.0 ** (bits - 3)  # integer steps per real unit of V
        self.norm = self.steps * self.positions * source.unit * window  # of z
        std = 1 / math.sqrt(self.channels) if std is None else std
        shape = len(self.gains), self.groups
        self.latent = nn.Parameter(torch.randn(*shape, self.channels) * std)
        self.bias = nn.Parameter(torch.full(shape, bias))
        self.sharpness, self.soft, self.point = FIRST, True, 0
        self.used: Tensor | None = None  # mean openness of the batch under way, a number

    def schedule(self, share: float) -> None:
        """Where training stands, 0 to 1: sharpness rises geometrically, then gates are hard."""
        self.soft = share < HARD
        self.sharpness = FIRST * (LAST / FIRST) ** min(share / HARD, 1.0)

    def _integers(self) -> tuple[Tensor, Tensor]:
        low, high = Format(self.bits).bounds
        weights = round_straight_through((self.latent.double() * self.steps).clamp(low, high))
        most = float(Format(BIAS_BITS).bounds[1])
        return weights, round_straight_through((self.bias.double() * self.norm).clamp(-most, most))

    def forward(self, values: Tensor) -> Tensor:
        """Factor of every neuron of the target, [samples, ticks, neurons], for what the source sent."""
        samples, ticks, _ = values.shape
        count = -(-ticks // self.window)
        sums = values.double().reshape(samples, ticks, self.channels, self.positions).sum(3)
        sums = nn.functional.pad(sums, (0, 0, 0, count * self.window - ticks))
        sums = sums.reshape(samples, count, self.window, self.channels).sum(2)
        weights, bias = self._integers()
        z = sums @ weights[self.point].T + bias[self.point]
        on = (z > 0).double()
        if self.training and torch.is_grad_enabled():
            soft = torch.sigmoid(self.sharpness * z / self.norm)
            self.used = soft.mean()
            on = soft if self.soft else on + (soft - soft.detach())
        by_tick = on.repeat_interleave(self.window, 1)[:, :ticks]
        return by_tick.repeat_interleave(self.each, 2)

    def loss(self) -> Tensor:
        """gain/(2m) · Σ openness, mean over the batch of the last forward pass."""
        assert self.used is not None
        return self.used * (self.gains[self.point] / 2)

    def export(self) -> Gate:
        """The immutable gate."""
        with torch.no_grad():
            weights, bias = self._integers()
        return Gate(self.source, self.target, integers(weights), integers(bias), self.window, self.bits)
