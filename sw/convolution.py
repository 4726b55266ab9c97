"""Convolution of integers held in floats, exact.

PyTorch's convolution is used where it adds plain products: then any order of additions is exact while every partial
sum is below 2^24 (float32) or 2^53 (float64), which the caller has proven. Algorithms that transform their operands
(Winograd, Fourier) would round; so the machine's kernels are tested once, on sums at the bound, and anything else
takes patches and a matrix product, which adds plain products by definition.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn

from apical.sw.geometry import Geometry


def convolve(values: Tensor, kernel: Tensor, geometry: Geometry) -> Tensor:
    """Sums of a map's targets.

    :param values: flat maps of the source, [..., sources].
    :param kernel: [target channels, source channels / groups, rows, columns], floats of the values' type.
    :returns: [..., targets], in the same type; exact where every partial sum is.
    """
    maps = values.reshape(-1, *geometry.source)
    if maps.device.type == "cpu" and _is_exact(maps.dtype):
        out = _direct(maps, kernel, geometry)
    else:
        out = _by_patches(maps, kernel, geometry)
    return out.reshape(*values.shape[:-1], -1)


def _direct(maps: Tensor, kernel: Tensor, g: Geometry) -> Tensor:
    return nn.functional.conv2d(maps, kernel, None, g.stride, g.padding, g.dilation, g.groups)


def _by_patches(maps: Tensor, kernel: Tensor, g: Geometry) -> Tensor:
    patches = nn.functional.unfold(maps, g.kernel, g.dilation, g.padding, g.stride)  # [n, channels x taps, positions]
    by_group = patches.reshape(len(maps), g.groups, -1, patches.shape[2])
    rows = kernel.reshape(g.groups, g.group_channels, -1)
    return (rows @ by_group).reshape(len(maps), *g.target)


_TRIED = (
    Geometry((16, 12, 12), 16, (3, 3), padding=(1, 1)),
    Geometry((8, 9, 9), 24, (5, 5)),
    Geometry((12, 8, 8), 12, (3, 3), groups=12),
    Geometry((4, 10, 9), 8, (3, 2), stride=(2, 1), dilation=(1, 2), groups=2),
    Geometry((32, 6, 6), 8, (1, 1)),
)


@cache
def _is_exact(dtype: torch.dtype) -> bool:
    """Does this machine's convolution keep every sum that lies below the bound of `dtype`?"""
    pick = torch.Generator().manual_seed(0)
    bound = 1 << (24 if dtype == torch.float32 else 53)
    with torch.no_grad():
        for g in _TRIED:
            for samples in (1, 32):
                terms = g.weights_shape[1] * g.kernel[0] * g.kernel[1]
                most = int((bound // terms) ** 0.5)
                maps = torch.randint(0, most + 1, (samples, *g.source), generator=pick)
                kernel = torch.randint(most // 2, most + 1, g.weights_shape, generator=pick)
                kernel[::2] *= torch.randint(0, 2, kernel[::2].shape, generator=pick) * 2 - 1
                exact = _integer(maps, kernel, g)
                if not torch.equal(_direct(maps.to(dtype), kernel.to(dtype), g).to(torch.int64), exact):
                    return False
    return True


def _integer(maps: Tensor, kernel: Tensor, g: Geometry) -> Tensor:
    """The same in 64-bit integers, term by term: the reference."""
    rows, columns = g.axes
    padded = nn.functional.pad(maps, (columns.padding, columns.padding, rows.padding, rows.padding))
    out = torch.zeros(len(maps), *g.target, dtype=torch.int64)
    for ky in range(g.kernel[0]):
        for kx in range(g.kernel[1]):
            y, x = ky * rows.dilation, kx * columns.dilation
            part = padded[:, :, y :: rows.stride, x :: columns.stride][:, :, : rows.target, : columns.target]
            grouped = part.reshape(len(maps), g.groups, -1, rows.target * columns.target)
            weights = kernel[:, :, ky, kx].reshape(g.groups, g.group_channels, -1)
            out += (weights @ grouped).reshape(out.shape)
    return out
