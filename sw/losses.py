"""What training minimizes: cross entropy of classes, squared error of targets, and penalties on activity."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from torch import Tensor, nn

from apical.sw.layers import Model, Wire


def cross_entropy(scores: Tensor, labels: Tensor, weight: Tensor | None, smoothing: float = 0.0) -> Tensor:
    """Mean cross entropy of logits, [batch, classes] or [batch, ticks, classes].

    :param weight: of each label, the same shape as `labels`; None: all 1.
    """
    each = nn.functional.cross_entropy(
        scores.flatten(0, -2), labels.flatten(), reduction="none", label_smoothing=smoothing
    )
    return _mean(each, weight)


def squared(outputs: Tensor, targets: Tensor, weight: Tensor | None) -> Tensor:
    """Mean squared error of [batch, ticks, values]; `weight` is [batch, ticks]."""
    return _mean((outputs - targets).square().mean(-1).flatten(), weight)


def _mean(each: Tensor, weight: Tensor | None) -> Tensor:
    return each.mean() if weight is None else (each * weight.flatten()).sum() / weight.sum().clamp(min=1)


def fan_out(model: Model) -> dict[str, int | Tensor]:
    """Synapses that an event of each population reaches, a number or one for each neuron; populations that reach none
    are left out."""
    out: dict[str, int | Tensor] = {}
    for module in model.projections:
        d = cast(Wire, module)
        if d.source in model.cells:
            out[d.source] = out.get(d.source, 0) + d.fan_out
    return out


def transmissions(model: Model, values: Mapping[str, Tensor]) -> Tensor:
    r"""A smooth stand-in for the synaptic transmissions per tick, in units of 100,000.

    .. math:: 10^{-5} \sum_i f_i \tanh(|y_i| / m), \quad m = \tfrac12 \text{ mean of the population's } |y| > 0

    f is the fan-out; m takes no gradient. A silent cell counts 0, one that sends a usual value nearly its fan-out.

    :param values: per population, [batch, ticks, neurons].
    """
    total: Tensor | float = 0.0
    for name, reached in fan_out(model).items():
        size = values[name].abs()
        found = size.detach()
        half = found.sum() / (found > 0).sum().clamp(min=1) / 2
        active = (size / half.clamp(min=1e-9)).tanh()
        if isinstance(reached, int):
            total = total + reached * active.sum(-1).mean()
        else:
            total = total + (active * reached).sum(-1).mean()
    return cast(Tensor, total * 1e-5)
