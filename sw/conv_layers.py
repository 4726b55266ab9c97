"""Projections between maps that train under the integer rule: `Conv`, `Pool`, and normalization (`Norm`, `fold`).

Index order, borders and counts are those of docs/reference/convolution.md; `apical.sw.layers` has the rest.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from apical.sw import network as graph
from apical.sw.arithmetic import round_straight_through
from apical.sw.cells import Population, integers
from apical.sw.convolution import convolve
from apical.sw.geometry import Geometry, GeometryError, Pair, Shape
from apical.sw.layers import EDGE, Node, Wire

Size = int | Pair


def geometry(
    source: Shape | None,
    channels: int,
    kernel: Size,
    stride: Size = 1,
    padding: Size = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Geometry:
    """A convolution's geometry, as torch's arguments give it; its `target` is the shape of what comes out.

    :param source: (channels, height, width).
    :raises GeometryError: no shape, or something that can't be.
    """
    if source is None:
        raise GeometryError("source: expected a map with a shape (channels, height, width), got none")
    return Geometry(source, channels, _pair(kernel), _pair(stride), _pair(padding), _pair(dilation), groups)


def _pair(size: Size) -> Pair:
    return (size, size) if isinstance(size, int) else size


class _Map(Wire):
    """What conv and pool share."""

    geometry: Geometry

    def _fit(self, source: Node, target: Population, what: str, made: Callable[[], Geometry]) -> Geometry:
        where = f"{what} {source.name!r} to {target.name!r}"
        try:
            g = made()
        except GeometryError as error:
            raise GeometryError(f"{where}: {error}") from None
        if target.shape != g.target:
            raise GeometryError(f"{where}: expected a target of shape {g.target}, got {target.shape}")
        return g

    @property
    def fan_out(self) -> Tensor:
        positions = torch.from_numpy(self.geometry.positions * self.geometry.group_channels)
        return positions.flatten().repeat(self.geometry.source[0]).to(self.latent.device, torch.float32)

    def sums(self, values: Tensor, weight: Tensor) -> Tensor:
        return convolve(values, weight, self.geometry)


class Norm(nn.Module):
    """Batch normalization of a convolution's sums, folded into its weights and its target's bias in every forward pass.

    While gradients are recorded in training mode, and `frozen` is False, it takes the statistics of the batch; else the
    running ones, and then what is computed is exactly what is exported. So freeze it for the last epochs.

    :ivar gain, shift: trained, [channels]; the shift is in real units of current (a threshold is 1.0).
    """

    mean: Tensor
    var: Tensor

    def __init__(self, channels: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("var", torch.ones(channels))
        self.momentum, self.eps, self.frozen = momentum, eps, False
        self.used: tuple[Tensor, Tensor] | None = None  # statistics of the batch under way

    @property
    def learning(self) -> bool:
        """Does this forward pass take the batch's own statistics?"""
        return self.training and not self.frozen and torch.is_grad_enabled()

    def observe(self, sums: Tensor) -> None:
        """Take the statistics of real sums [n, channels, height, width]."""
        var, mean = torch.var_mean(sums, (0, 2, 3), correction=0)
        self.used = mean, var
        with torch.no_grad():
            self.mean.lerp_(mean, self.momentum)
            self.var.lerp_(var, self.momentum)

    def fold(self) -> tuple[Tensor, Tensor]:
        """Factor of each channel's weights and what to add to its bias, each [channels]."""
        mean, var = self.used if self.learning and self.used is not None else (self.mean, self.var)
        factor = self.gain / (var + self.eps).sqrt()
        return factor, self.shift - mean * factor


class Conv(_Map):
    """Convolution with shared kernels, weights [target channels, source channels / groups, rows, columns].

    :param kernel, stride, padding, dilation: a number or (rows, columns); `groups` = source channels is depthwise.
    :param bits, ternary, compartment, delay, std, name: as in `apical.sw.layers.Dense`.
    :param norm: normalize (see `Norm`); the target's law then needs a bias.
    :raises GeometryError: shapes that don't fit.
    """

    def __init__(
        self,
        source: Node,
        target: Population,
        kernel: Size,
        *,
        stride: Size = 1,
        padding: Size = 0,
        dilation: Size = 1,
        groups: int = 1,
        bits: int = 8,
        ternary: bool = False,
        compartment: str = "basal",
        delay: int = 0,
        std: float | None = None,
        name: str | None = None,
        norm: bool = False,
    ) -> None:
        channels = target.shape[0] if target.shape else 0
        sizes = (kernel, stride, padding, dilation, groups)
        g = self._fit(source, target, "conv", lambda: geometry(source.shape, channels, *sizes))
        fan_in = g.weights_shape[1] * g.kernel[0] * g.kernel[1]
        more = {"bits": bits, "ternary": ternary, "compartment": compartment, "delay": delay, "std": std, "name": name}
        super().__init__(source, target, g.weights_shape, fan_in, **more)  # type: ignore[arg-type]
        self.geometry = g
        self.norm = Norm(channels) if norm else None
        self.unit = source.unit
        if self.norm is not None:
            if "bias" not in target.specs:
                raise GeometryError(f"conv {self.name!r}: expected a target with a bias to normalize, got none")
            target.offsets.append(self._offset)  # a bound method: a copy of the model has its own

    def _offset(self) -> Tensor:
        assert self.norm is not None
        return self.norm.fold()[1]

    def weight(self, real: bool = False) -> Tensor:
        latent = self.latent if self.norm is None else self.latent * self.norm.fold()[0][:, None, None, None]
        if real:
            return latent * self.factor
        scaled = (latent * self.factor).clamp(self.low - EDGE, self.high + EDGE)
        return round_straight_through(scaled).to(self.dtype)

    def forward(self, values: Tensor) -> Tensor:
        if self.norm is not None and self.norm.learning:
            sums = convolve(values.to(self.latent.dtype) / self.unit, self.latent, self.geometry)
            self.norm.observe(sums.reshape(-1, *self.geometry.target))
        return super().forward(values)

    @torch.no_grad()
    def clamp_(self) -> None:
        if self.norm is None:  # a normalized weight's range moves with the statistics
            super().clamp_()

    def export(self) -> graph.Projection:
        with torch.no_grad():
            weights = integers(self.weight())
        return graph.Projection(
            self.name,
            self.source,
            self.target,
            weights,
            self.compartment,
            self.bits,
            self.delay,
            "conv",
            self.geometry,
        )


class Pool(_Map):
    """Sums over windows, channel by channel; without weights.

    An average is this sum with the division in what follows: a target law's `shift` (4 = 2 x 2 cells are a shift of
    2), or the next projection's weights. ``maximum`` takes spikes and a target that sends spikes: at least one event in
    the window, which `Relu(value_bits=1, shift=0)` and a bias of 0 tells from none. The largest of graded values isn't
    a sum of events.

    :param stride: default: the kernel, windows that don't overlap.
    :raises GeometryError: shapes that don't fit, or a maximum of what aren't spikes.
    """

    def __init__(
        self,
        source: Node,
        target: Population,
        kernel: Size,
        *,
        stride: Size | None = None,
        padding: Size = 0,
        maximum: bool = False,
        compartment: str = "basal",
        delay: int = 0,
        name: str | None = None,
    ) -> None:
        channels = source.shape[0] if source.shape else 0
        step = kernel if stride is None else stride
        g = self._fit(
            source,
            target,
            "pool",
            lambda: geometry(source.shape, channels, kernel, step, padding, 1, channels),
        )
        if maximum:
            check_maximum(source, target)
        super().__init__(source, target, (0,), g.kernel[0] * g.kernel[1], bits=2, std=0.0, name=name, delay=delay,
                         compartment=compartment)  # fmt: skip
        self.geometry = g

    def weight(self, real: bool = False) -> Tensor:
        dtype = self.latent.dtype if real else self.dtype
        return torch.ones(1, dtype=dtype, device=self.latent.device).expand(self.geometry.weights_shape)

    @torch.no_grad()
    def clamp_(self) -> None:
        """Nothing trains."""

    def export(self) -> graph.Projection:
        return graph.Projection(
            self.name,
            self.source,
            self.target,
            integers(self.latent),
            self.compartment,
            self.bits,
            self.delay,
            "pool",
            self.geometry,
        )


def check_maximum(source: Node, target: Population) -> None:
    """Can a sum tell the maximum?

    :raises GeometryError: no; the message says what to use.
    """
    sent = source.node.value_range if not isinstance(source, Population) else source.law.value_range()
    if sent != (0, 1):
        raise GeometryError(
            f"pool {source.name!r} to {target.name!r}: expected spikes for a maximum, got values {sent[0]} to "
            f"{sent[1]}: events add up, and a maximum of graded values isn't a sum; use an average (the sum and a "
            "shift) or a convolution with a stride"
        )
    if target.law.name != "relu" or target.law.value_range() != (0, 1) or target.law.options()["shift"] != 0:
        raise GeometryError(
            f"pool {source.name!r} to {target.name!r}: expected a target that sends a spike for any sum above 0, "
            f"Relu(value_bits=1, shift=0), got {target.law}"
        )


def fold(weight: Tensor, bias: Tensor | None, norm: nn.modules.batchnorm._BatchNorm) -> tuple[Tensor, Tensor]:
    """Weights and bias of a torch layer with its batch normalization (in evaluation mode) folded in, in float64.

    :param weight: [channels, ...]; `bias` [channels] or none.
    """
    assert norm.running_mean is not None and norm.running_var is not None
    factor = 1 / (norm.running_var.double() + norm.eps).sqrt()
    shift = -norm.running_mean.double() if bias is None else bias.double() - norm.running_mean.double()
    if norm.affine:
        factor = factor * norm.weight.double()
        out = norm.bias.double() + shift * factor
    else:
        out = shift * factor
    return weight.double() * factor.reshape(-1, *[1] * (weight.ndim - 1)), out


@torch.no_grad()
def load(wire: Wire, cell: Population, weight: Tensor, bias: Tensor) -> float:
    """Give a projection and its target the weights and bias of a trained (folded) float layer, in real units.

    :returns: largest |weight| in integer steps over the largest that the bits hold: above 1 it saturates, far below 1
        they are wasted; `Population.scale` moves it.
    """
    wire.latent.copy_(weight.reshape(wire.latent.shape))
    cell.latent["bias"].copy_(bias.expand(cell.latent["bias"].shape))
    return float((weight * wire.factor).abs().max() / wire.high)
