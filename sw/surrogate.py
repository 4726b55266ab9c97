"""Surrogate derivatives of the spike's step function, each of x = (membrane - threshold) / width.

Forward passes never use them: a spike is exactly a compare. See Neftci, Mostafa and Zenke, IEEE Signal
Processing Magazine 36(6), 2019, for the method.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Surrogate = Callable[[Tensor], Tensor]


def triangle(x: Tensor) -> Tensor:
    """max(0, 1 - |x|) (Bellec et al., NeurIPS 2018)."""
    return (1 - x.abs()).clamp(min=0)


def fast_sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + 5|x|)² (Zenke and Ganguli, Neural Computation 30, 2018; slope 5)."""
    return (1 + 5 * x.abs()).pow(-2)


def arctan(x: Tensor) -> Tensor:
    """1 / (1 + (πx)²) (Fang et al., ICCV 2021)."""
    return 1 / (1 + (math.pi * x).square())


def _normal(x: Tensor, mean: float, std: float) -> Tensor:
    return torch.exp(-0.5 * ((x - mean) / std).square()) / (std * math.sqrt(2 * math.pi))


def multi_gaussian(x: Tensor) -> Tensor:
    """γ[(1+h)N(x;0,σ) - hN(x;σ,6σ) - hN(x;-σ,6σ)], γ=σ=.5, h=.15 (Yin, Corradi, Bohté, Nat. Mach. Intell. 2021)."""
    sigma, h = 0.5, 0.15
    return 0.5 * ((1 + h) * _normal(x, 0, sigma) - h * _normal(x, sigma, 6 * sigma) - h * _normal(x, -sigma, 6 * sigma))


SURROGATES: dict[str, Surrogate] = {
    "triangle": triangle,
    "fast_sigmoid": fast_sigmoid,
    "arctan": arctan,
    "multi_gaussian": multi_gaussian,
}
