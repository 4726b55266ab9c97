"""Batches of raw training data: as they are, or deformed anew in every epoch."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from apical.sw.datasets import Data

# Makes a batch of raw data in 0..255: (training data, rows [batch], epoch, generator) -> [batch, ...].
Prepare = Callable[[Data, np.ndarray, int, torch.Generator], Tensor]


def deform(
    images: Tensor, generator: torch.Generator, *, degrees: float, zoom: float, shift: float, elastic: float
) -> Tensor:
    """Random turn, zoom and shear, shift and elastic deformation of [batch, rows, columns] images.

    :param degrees: largest turn, and largest shear angle.
    :param zoom: largest change of size, each axis for itself.
    :param shift: largest shift in pixels.
    :param elastic: standard deviation, in pixels, of the shifts of a coarse 5 x 5 grid.
    """
    batch, rows, columns = images.shape

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator) * 2 - 1

    angle, shear = (uniform(batch, 2) * math.radians(degrees)).unbind(1)
    size = 1 + uniform(batch, 2) * zoom
    cos, sin = torch.cos(angle), torch.sin(angle)
    offset = uniform(batch, 2) * shift * torch.tensor([2 / columns, 2 / rows])
    first = torch.stack([size[:, 0] * cos, -size[:, 1] * torch.sin(angle + shear), offset[:, 0]], 1)
    second = torch.stack([size[:, 0] * sin, size[:, 1] * torch.cos(angle + shear), offset[:, 1]], 1)
    grid = nn.functional.affine_grid(torch.stack([first, second], 1), [batch, 1, rows, columns], align_corners=False)
    if elastic:
        coarse = torch.randn(batch, 2, 5, 5, generator=generator) * (2 * elastic / columns)
        fine = nn.functional.interpolate(coarse, (rows, columns), mode="bicubic", align_corners=True)
        grid = grid + fine.permute(0, 2, 3, 1)
    return nn.functional.grid_sample(images[:, None], grid, align_corners=False)[:, 0]


def replay(
    events: Tensor,
    generator: torch.Generator,
    *,
    speed: float,
    late: float,
    spread: float,
    shift: float,
    drop: float,
) -> Tensor:
    """Random tempo, moment, pitch and lost events of [batch, ticks, channels] event counts; the result is counts.

    Counts that fall between two places are rounded up or down by chance, so that their mean stays.

    :param speed: largest change of the tempo, as a share; the first tick stays where it is.
    :param late: largest shift in ticks.
    :param spread: largest change of the channels' distance from the middle one, as a share.
    :param shift: largest shift in channels.
    :param drop: share of places whose events are lost.
    """
    batch, ticks, channels = events.shape
    change = torch.rand(4, batch, generator=generator) * 2 - 1
    theta = torch.zeros(batch, 2, 3)
    theta[:, 0, 0] = 1 + spread * change[0]
    theta[:, 0, 2] = change[1] * (2 * shift / channels)
    theta[:, 1, 1] = 1 + speed * change[2]
    theta[:, 1, 2] = speed * change[2] + change[3] * (2 * late / ticks)
    grid = nn.functional.affine_grid(theta, [batch, 1, ticks, channels], align_corners=False)
    moved = nn.functional.grid_sample(events[:, None], grid, align_corners=False)[:, 0]
    counts = torch.floor(moved + torch.rand(moved.shape, generator=generator))
    return counts * (torch.rand(counts.shape, generator=generator) >= drop)


def plain(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """The images as they are."""
    return torch.from_numpy(data.images[rows])
