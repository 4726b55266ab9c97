"""Rounding a neuron's weights so that the errors cancel in its membrane, not each by itself.

A membrane is a weighted sum: of its sources' events, low-passed by its own leak; of 1, low-passed, times the bias; and
minus its own spikes, low-passed, times the threshold. Rounding one factor adds an error that the factors still to be
rounded can take back as far as their signals go together. That is optimal brain quantization (Frantar, Singh and
Alistarh, NeurIPS 2022, arXiv 2208.11580) with a fixed order: threshold, weights, bias.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from apical.sw.real_network import RealPopulation

DAMPING = 0.01  # added to the moments' diagonal, relative to its mean: signals that hardly occur decide nothing


@torch.no_grad()
def moments(cell: RealPopulation, events: np.ndarray, delays: Sequence[int], own: np.ndarray | None) -> Tensor:
    """Second moments of what a neuron's factors are multiplied by, [neurons, factors, factors].

    The factors are the threshold (where `own` is given), a weight per channel, and the bias.

    :param cell: whose decays, reset and gain count.
    :param events: [samples, ticks, channels].
    :param delays: of each channel, in ticks.
    :param own: spikes of the neurons, [samples, ticks, neurons].
    """
    samples, ticks, channels = events.shape
    first = 0 if own is None else 1
    signals = torch.zeros(samples, ticks, channels + 1, dtype=torch.float64)
    signals[..., -1] = 1
    for delay in sorted(set(delays)):
        columns = [c for c, d in enumerate(delays) if d == delay]
        signals[:, delay:, columns] = torch.from_numpy(events[:, : max(ticks - delay, 0), columns]).double()
    signals[..., :-1] *= cell.law.gain
    integrates = cell.law.name == "if"
    decay = cell.params.get("decay", np.ones(cell.size) if integrates else np.zeros(cell.size))
    alpha = torch.from_numpy(decay)[:, None]
    synapse = torch.from_numpy(cell.params["current_decay"])[:, None] if "current_decay" in cell.params else None
    filtered = torch.zeros(samples, cell.size, first + channels + 1, dtype=torch.float64)
    current = torch.zeros(samples, cell.size, channels + 1, dtype=torch.float64)
    out = torch.zeros(cell.size, filtered.shape[2], filtered.shape[2], dtype=torch.float64)
    reset = getattr(cell.law, "reset", "subtract_late")  # an adaptive cell's is late
    for t in range(ticks):
        spikes = None if own is None or not t else torch.from_numpy(own[:, t - 1]).double()
        if spikes is not None and reset in ("value", "zero_late"):
            filtered *= (spikes == 0)[..., None]  # the membrane begins anew
        if spikes is not None and reset in ("subtract", "subtract_twice"):
            filtered[..., 0] -= spikes
        filtered *= alpha
        if spikes is not None and reset == "subtract_late":
            filtered[..., 0] -= spikes
        if synapse is None:
            filtered[..., first:] += signals[:, t, None]
        else:
            current = current * synapse + signals[:, t, None]
            filtered[..., first:] += current
        seen = filtered
        if own is not None:
            seen = filtered.clone()
            seen[..., 0] -= 1  # the membrane is compared with the threshold itself
        by_neuron = seen.transpose(0, 1)
        out += by_neuron.transpose(1, 2) @ by_neuron
    out /= samples * ticks
    return out


@torch.no_grad()
def compensated(factors: Tensor, low: Tensor, high: Tensor, second: Tensor) -> Tensor:
    """The factors rounded in their order, each one's error spread over those after it.

    :param factors: [candidates, neurons, factors], in integer steps.
    :param low, high: bounds of each factor, [factors].
    :param second: `moments`.
    """
    diagonal = second.diagonal(dim1=1, dim2=2)
    damped = second + torch.diag_embed(torch.full_like(diagonal, 1) * DAMPING * diagonal.mean(1, keepdim=True))
    inverse = torch.linalg.inv(damped)
    rest, out = factors.clone(), torch.empty_like(factors)
    for k in range(factors.shape[2]):
        out[..., k] = rest[..., k].round().clamp(float(low[k]), float(high[k]))
        error = (rest[..., k] - out[..., k]) / inverse[:, k, k]
        rest[..., k + 1 :] -= error[..., None] * inverse[:, k, k + 1 :]
        inverse = inverse - inverse[:, :, k : k + 1] * inverse[:, k : k + 1, :] / inverse[:, k : k + 1, k : k + 1]
    return out
