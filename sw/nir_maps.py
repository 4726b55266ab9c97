"""Wires between maps as one convolution: what lies between two cells, pools and scales folded into the kernel.

A pool and a scale are convolutions of every channel by itself; one convolution after another is one whose kernel is
theirs convolved, as long as no target sees past the border between them. What isn't a convolution stays dense. Every
kernel is compared with the wire on random values before it is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from apical.sw.convolution import convolve
from apical.sw.geometry import Geometry, GeometryError, Pair, Shape
from apical.sw.nir_read import NirError
from apical.sw.nir_shapes import Linear, window
from apical.sw.nir_wires import FloatNetwork, Wire
from apical.sw.real_network import RealArray

LONGEST = 63  # rows and columns of a kernel, dilation counted where it is spread
LIMIT_JOINED = 1 << 24  # numbers of a kernel that is joined
NEAR = 1e-9  # how far kernel and wire may differ, relative to the largest value


@dataclass(frozen=True)
class Kernel:
    """A wire between maps.

    :param weights: [target channels, source channels / groups, rows, columns].
    """

    weights: RealArray
    geometry: Geometry


@dataclass(frozen=True)
class _Part:
    """One or several linear nodes; per axis: rows, columns.

    :param weights: [channels given, channels taken / groups, rows, columns]. :param after: padding behind.
    """

    weights: Tensor
    groups: int
    stride: Pair = (1, 1)
    before: Pair = (0, 0)
    after: Pair = (0, 0)
    dilation: Pair = (1, 1)

    @property
    def reach(self) -> Pair:
        """Length of the kernel with its dilation."""
        rows, columns = (d * (k - 1) + 1 for d, k in zip(self.dilation, self.weights.shape[2:], strict=True))
        return rows, columns

    @property
    def channelwise(self) -> bool:
        """Does every channel stay by itself?"""
        return self.groups == self.weights.shape[0] and self.weights.shape[1] == 1

    @property
    def scale(self) -> bool:
        """Is it one factor per channel?"""
        still = self.reach == self.stride == (1, 1) and self.before == self.after == (0, 0)
        return still and self.channelwise

    def dense(self) -> _Part:
        """The same with one group."""
        given, inside = self.weights.shape[:2]
        out = self.weights.new_zeros(given, inside * self.groups, *self.weights.shape[2:])
        across = given // self.groups
        for g in range(self.groups):
            rows = slice(g * across, (g + 1) * across)
            out[rows, g * inside : (g + 1) * inside] = self.weights[rows]
        return replace(self, weights=out, groups=1)

    def spread(self, apart: Pair) -> Tensor:
        """The kernel with its taps `apart` positions from each other."""
        rows, columns = (a * (k - 1) + 1 for a, k in zip(apart, self.weights.shape[2:], strict=True))
        out = self.weights.new_zeros(*self.weights.shape[:2], rows, columns)
        out[:, :, :: apart[0], :: apart[1]] = self.weights
        return out


def as_map(shape: tuple[int, ...]) -> Shape | None:
    """(channels, height, width) of a node's shape: a line of channels has one row; None: no map."""
    if len(shape) == 3:
        return shape
    return (shape[0], 1, shape[1]) if len(shape) == 2 else None


def _part(step: Linear) -> _Part | None:
    """A linear node as a convolution, or None."""
    node = step.node
    taken, given = as_map(step.taken), as_map(step.given)
    if taken is None or given is None:
        return None
    if node.type == "Scale":
        scale = torch.from_numpy(np.array(node.array("scale"), np.float64))
        shape = (1,) * (len(step.taken) - scale.ndim) + tuple(scale.shape)
        if scale.numel() > 1 and (len(shape) != len(step.taken) or max(shape[1:]) > 1):
            return None
        each = scale.reshape(-1).expand(taken[0])
        return _Part(each.reshape(-1, 1, 1, 1).clone(), taken[0])
    if node.type not in ("Conv1d", "Conv2d", "SumPool2d", "AvgPool2d"):
        return None
    slide = window(node)
    if node.type == "Conv1d":
        weights = torch.from_numpy(np.array(node.array("weight"), np.float64))[:, :, None]
        one = {
            "stride": (1, slide.stride[0]),
            "before": (0, slide.padding[0]),
            "after": (0, slide.after[0]),
            "dilation": (1, slide.dilation[0]),
        }
        return _Part(weights, int(node.array("groups").reshape(-1)[0]), **one)
    stride, before, after, dilation = (
        (int(a[0]), int(a[1])) for a in (slide.stride, slide.padding, slide.after, slide.dilation)
    )
    if node.type == "Conv2d":
        weights = torch.from_numpy(np.array(node.array("weight"), np.float64))
        return _Part(weights, int(node.array("groups").reshape(-1)[0]), stride, before, after, dilation)
    if max(slide.kernel) > LONGEST:
        return None
    area = 1 if node.type == "SumPool2d" else slide.kernel[0] * slide.kernel[1]
    weights = torch.full((taken[0], 1, *slide.kernel), 1 / area, dtype=torch.float64)
    return _Part(weights, taken[0], stride, before, after, dilation)


def _joined(first: _Part, second: _Part) -> _Part | None:
    """What `second` makes of `first`; exact only where no border lies between them, which the caller tests.

    None where the kernel would be too large.
    """
    if second.scale:
        return replace(first, weights=first.weights * second.weights)
    if first.scale:
        each = first.weights.reshape(second.groups, -1)  # [groups, channels]
        by_group = second.weights.reshape(second.groups, -1, *second.weights.shape[1:])
        scaled = by_group * each[:, None, :, None, None]
        return replace(second, weights=scaled.reshape(second.weights.shape))
    rows, columns = ((b - 1) * s + a for a, b, s in zip(first.reach, second.reach, first.stride, strict=True))
    channels = first.weights.shape[0], second.weights.shape[0], first.groups * first.weights.shape[1]
    if max(rows, columns) > LONGEST or max(channels) ** 2 * rows * columns > LIMIT_JOINED:
        return None
    if first.channelwise:
        groups = second.groups
    else:
        groups = first.groups if second.channelwise else 1
    apart = (first.stride[0] * second.dilation[0], first.stride[1] * second.dilation[1])
    a, b = replace(first, weights=first.spread(first.dilation), dilation=(1, 1)).dense(), second.dense()
    wide = b.spread(apart)
    # out[o, c] = sum over m of wide[o, m] convolved (not correlated) with a[m, c].
    rows, columns = a.weights.shape[2:]
    flipped = a.weights.transpose(0, 1).flip(2, 3)
    full = torch.nn.functional.conv2d(wide, flipped, padding=(rows - 1, columns - 1))
    part = _Part(
        full,
        1,
        (first.stride[0] * second.stride[0], first.stride[1] * second.stride[1]),
        (first.before[0] + second.before[0] * first.stride[0], first.before[1] + second.before[1] * first.stride[1]),
        (first.after[0] + second.after[0] * first.stride[0], first.after[1] + second.after[1] * first.stride[1]),
    )
    return _grouped(part, groups)


def _grouped(part: _Part, groups: int) -> _Part:
    """A part of one group whose channels don't mix across `groups`, in groups."""
    given, taken = part.weights.shape[:2]
    if groups == 1:
        return part
    by_group = part.weights.reshape(groups, given // groups, groups, taken // groups, *part.weights.shape[2:])
    own = torch.stack([by_group[g, :, g] for g in range(groups)])
    return replace(part, weights=own.reshape(given, taken // groups, *part.weights.shape[2:]), groups=groups)


def _even(part: _Part) -> _Part:
    """The same with as much padding before as behind: empty taps in front (behind they change nothing)."""
    short = tuple(max(q - p, 0) for p, q in zip(part.before, part.after, strict=True))
    if part.before == part.after:
        return part
    if any(short):
        part = replace(part, weights=part.spread(part.dilation), dilation=(1, 1))
        wider = torch.nn.functional.pad(part.weights, (short[1], 0, short[0], 0))
        part = replace(part, weights=wider, before=(part.before[0] + short[0], part.before[1] + short[1]))
    return replace(part, after=part.before)


def kernel(wire: Wire, source: tuple[int, ...], target: tuple[int, ...]) -> Kernel | None:
    """The wire as one convolution between maps, or None where it isn't one (or reaches a single position).

    :param source, target: shapes of its ends.
    """
    taken, given = as_map(source), as_map(target)
    if taken is None or given is None or given[1] * given[2] == 1:
        return None
    part = _Part(torch.ones(taken[0], 1, 1, 1, dtype=torch.float64), taken[0])
    for step in wire.steps:
        next_ = _part(step)
        joined = None if next_ is None else _joined(part, next_)
        if joined is None:
            return None
        part = joined
    if max(part.reach) > LONGEST:
        return None
    part = _even(part)
    try:
        rows, columns = part.weights.shape[2:]
        g = Geometry(
            taken, part.weights.shape[0], (rows, columns), part.stride, part.before, part.dilation, part.groups
        )
    except GeometryError:
        return None
    if g.target != given or g.weights_shape != tuple(part.weights.shape):
        return None
    found = Kernel(part.weights.numpy().copy(), g)
    return found if _same(found, wire, source) else None


@torch.no_grad()
def _same(found: Kernel, wire: Wire, source: tuple[int, ...]) -> bool:
    """Does the kernel compute what the wire computes?"""
    x = torch.rand(2, *source, generator=torch.Generator().manual_seed(0), dtype=torch.float64) - 0.5
    theirs = wire.apply(x) - wire.apply(torch.zeros_like(x))
    ours = convolve(x.reshape(2, -1), torch.from_numpy(found.weights), found.geometry)
    return bool((ours - theirs).abs().max() <= NEAR * max(float(theirs.abs().max()), 1e-300))


def kernels(network: FloatNetwork) -> tuple[dict[tuple[str, int], Kernel], dict[str, Shape]]:
    """Wires between maps, by (target, place among its wires), and the shapes of the nodes that are maps.

    A node is a map where every kernel agrees on its shape; a wire is a kernel where both its ends are maps.

    :raises NirError: values that aren't finite.
    """
    shapes: Mapping[str, tuple[int, ...]] = {**network.inputs, **{n: c.shape for n, c in network.cells.items()}}
    found: dict[tuple[str, int], Kernel] = {}
    for name, wires in network.wires.items():
        for k, wire in enumerate(wires):
            made = kernel(wire, shapes[wire.source], shapes[name])
            if made is not None:
                if not np.isfinite(made.weights).all():
                    raise NirError(f"node {name!r}: expected finite weights from {wire.source!r}")
                found[name, k] = made
    maps: dict[str, Shape] = {}
    for (name, k), made in found.items():
        maps[network.wires[name][k].source], maps[name] = made.geometry.source, made.geometry.target
    return found, maps
