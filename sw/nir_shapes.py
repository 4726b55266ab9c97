"""Shapes of a NIR graph, without the batch, and its linear nodes as functions of tensors.

Shapes flow from the inputs and from what weights and parameters say; where the file disagrees with itself the edge is
named. Leading dimensions of 1 carry no meaning (some tools write the batch), so shapes that differ in them alone agree.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from apical.sw.nir_read import Graph, NirError, Node

Shape = tuple[int, ...]
LIMIT_SIZE = 1 << 20  # neurons or channels of one node
CELLS = ("LIF", "LI", "CubaLIF", "CubaLI", "IF", "I", "Threshold")
ELEMENTWISE = (*CELLS, "Scale", "Delay")


def stripped(shape: Shape) -> Shape:
    """Without leading dimensions of 1 (one dimension always stays)."""
    first = 0
    while first < len(shape) - 1 and shape[first] == 1:
        first += 1
    return shape[first:]


def _ints(node: Node, key: str, count: int, low: int) -> tuple[int, ...]:
    """`count` integers of a field; one stands for all."""
    array = node.array(key)
    given = [float(v) for v in array.reshape(-1)[: count + 1]]
    if len(given) not in (1, count) or any(v != int(v) or not low <= v <= LIMIT_SIZE for v in given):
        raise NirError(f"node {node.name!r} ({node.type}), {key!r}: expected {count} integers from {low}, got {given}")
    return tuple(int(v) for v in given) * (count if len(given) == 1 else 1)


@dataclass(frozen=True)
class Window:
    """How a convolution or a pool slides: per spatial dimension."""

    kernel: Shape
    stride: Shape
    padding: Shape  # before
    after: Shape  # padding behind; torch's ``same`` puts the odd one there
    dilation: Shape

    def out(self, size: Shape) -> Shape:
        """Spatial shape of the result; a dimension below 1 where the kernel doesn't fit."""
        reach = [d * (k - 1) + 1 for d, k in zip(self.dilation, self.kernel, strict=True)]
        return tuple(
            (n + p + q - r) // s + 1
            for n, p, q, r, s in zip(size, self.padding, self.after, reach, self.stride, strict=True)
        )


def window(node: Node) -> Window:
    """The window of a convolution or pool.

    :raises NirError: a field that doesn't fit.
    """
    dims = 1 if node.type == "Conv1d" else 2
    if node.type.startswith("Conv"):
        weight = node.array("weight")
        if weight.ndim != dims + 2:
            raise NirError(
                f"node {node.name!r} ({node.type}): expected weights of {dims + 2} dimensions, got {weight.shape}"
            )
        kernel, dilation = weight.shape[2:], _ints(node, "dilation", dims, 1)
    else:
        kernel, dilation = _ints(node, "kernel_size", dims, 1), (1,) * dims
    stride = _ints(node, "stride", dims, 1)
    given = node.fields["padding"]
    if isinstance(given, str):
        total = [d * (k - 1) if given == "same" else 0 for d, k in zip(dilation, kernel, strict=True)]
        if given == "same" and set(stride) != {1}:
            raise NirError(f"node {node.name!r} ({node.type}): padding 'same' needs stride 1, got {stride}")
        before = tuple(t // 2 for t in total)
        return Window(kernel, stride, before, tuple(t - b for t, b in zip(total, before, strict=True)), dilation)
    padding = _ints(node, "padding", dims, 0)
    return Window(kernel, stride, padding, padding, dilation)


def _flattened(node: Node, shape: Shape) -> Shape:
    first, last = (int(node.array(k).reshape(-1)[0]) for k in ("start_dim", "end_dim"))
    n = len(shape)
    first, last = first + n if first < 0 else first, last + n if last < 0 else last
    if first >= n and math.prod(shape) == shape[-1]:  # nothing to flatten once a batch of 1 is gone
        return shape
    if not 0 <= first <= last < n:
        raise NirError(
            f"node {node.name!r} (Flatten): expected dimensions within {shape}, got {node.array('start_dim')} to "
            f"{node.array('end_dim')}"
        )
    return (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])


def _affine(node: Node) -> tuple[Shape, Shape]:
    weight = node.array("weight")
    shape = weight.shape
    while len(shape) > 2 and shape[0] == 1:
        shape = shape[1:]
    if len(shape) != 2:
        raise NirError(f"node {node.name!r} ({node.type}): expected weights (outputs, inputs), got {weight.shape}")
    if node.type == "Affine" and node.array("bias").size not in (1, shape[0]):
        raise NirError(
            f"node {node.name!r} (Affine): expected {shape[0]} biases (weights {weight.shape}), got shape "
            f"{node.array('bias').shape}"
        )
    return (shape[1],), (shape[0],)


def _own(node: Node) -> Shape | None:
    """Shape that an elementwise node's parameters say; None where all are single numbers."""
    found: dict[str, Shape] = {}
    for key, array in node.fields.items():
        if isinstance(array, np.ndarray) and array.size > 1:
            found[key] = stripped(array.shape)
    ranks = max((len(s) for s in found.values()), default=0)
    try:
        if any(len(s) != ranks for s in found.values()):
            raise ValueError
        return tuple(np.broadcast_shapes(*found.values())) if found else None
    except ValueError:
        raise NirError(f"node {node.name!r} ({node.type}): expected parameters of one shape, got {found}") from None


def _declared(node: Node) -> Shape:
    return tuple(int(v) for v in node.array("shape").reshape(-1)) or (1,)


def wanted(node: Node) -> Shape | None:
    """Input shape that a node itself declares, or None."""
    if node.type in ("Affine", "Linear"):
        return _affine(node)[0]
    if node.type == "Output":
        return _declared(node)
    return _own(node) if node.type in ELEMENTWISE else None


def result(node: Node, shape: Shape) -> Shape:
    """Output shape for an input shape.

    :raises NirError: the node can't take it.
    """
    where = f"node {node.name!r} ({node.type})"
    if node.type in ("Affine", "Linear"):
        return _affine(node)[1]
    if node.type == "Flatten":
        return _flattened(node, shape)
    if node.type not in ("Conv1d", "Conv2d", "SumPool2d", "AvgPool2d"):
        return shape
    slide = window(node)
    dims = len(slide.kernel)
    if len(shape) == dims and node.type.startswith("Conv"):  # one channel, written without
        shape = (1, *shape)
    if len(shape) != dims + 1:
        raise NirError(f"{where}: expected input of {dims + 1} dimensions, got {shape}")
    channels = shape[0]
    if node.type.startswith("Conv"):
        weight, (groups,) = node.array("weight"), _ints(node, "groups", 1, 1)
        if channels != weight.shape[1] * groups or weight.shape[0] % groups:
            raise NirError(f"{where}: weights {weight.shape} in {groups} groups don't fit {channels} channels")
        if node.array("bias").size not in (1, weight.shape[0]):
            raise NirError(f"{where}: expected {weight.shape[0]} biases, got shape {node.array('bias').shape}")
        channels = weight.shape[0]
    elif any(2 * p > k for p, k in zip(slide.padding, slide.kernel, strict=True)):
        raise NirError(f"{where}: expected padding of at most half the kernel {slide.kernel}, got {slide.padding}")
    room = math.prod(n + p + q for n, p, q in zip(shape[1:], slide.padding, slide.after, strict=True))
    if channels * room > 16 * LIMIT_SIZE:
        raise NirError(f"{where}: expected padding that fits input {shape}, got {slide.padding}")
    out = slide.out(shape[1:])
    if min(out) < 1:
        raise NirError(f"{where}: a kernel of {slide.kernel} (dilation {slide.dilation}) doesn't fit input {shape}")
    return (channels, *out)


def shapes(graph: Graph) -> dict[str, tuple[Shape, Shape]]:
    """Input and output shape of every node.

    :raises NirError: shapes that disagree, with the edge; a node whose shape nothing tells; a node too large.
    """
    out: dict[str, tuple[Shape, Shape]] = {}
    waiting = dict(graph.nodes)
    while waiting:
        before = len(waiting)
        for name, node in list(waiting.items()):
            found = _shape(graph, node, out)
            if found is not None:
                _check_size(node, found)
                out[name] = found
                del waiting[name]
        if len(waiting) == before:
            name, node = next(iter(waiting.items()))
            raise NirError(f"node {name!r} ({node.type}): nothing tells its shape (it lies in a cycle of such nodes)")
    for a, b in graph.edges:
        given, taken = out[a][1], out[b][0]
        if stripped(given) != stripped(taken):
            raise NirError(
                f"edge {a!r} -> {b!r}: shapes disagree: {a!r} ({graph.nodes[a].type}) gives {given}, {b!r} "
                f"({graph.nodes[b].type}) takes {taken}{_hint(graph.nodes[b], given)}"
            )
    return out


def _hint(node: Node, given: Shape) -> str:
    return "; is a Flatten missing?" if node.type in ("Affine", "Linear") and len(stripped(given)) > 1 else ""


def _shape(graph: Graph, node: Node, known: Mapping[str, tuple[Shape, Shape]]) -> tuple[Shape, Shape] | None:
    if node.type == "Input":
        return _declared(node), _declared(node)
    given = [known[a][1] for a in graph.into(node.name) if a in known]
    asked = wanted(node)
    if asked is not None and given and node.type in ELEMENTWISE:
        # Parameters may broadcast: per channel over a picture. One number more than that is a disagreement.
        try:
            if len(asked) == len(stripped(given[0])) and np.broadcast_shapes(asked, stripped(given[0])) == stripped(
                given[0]
            ):
                asked = stripped(given[0])
        except ValueError:
            pass
    shape = asked if asked is not None else (given[0] if given else None)
    if shape is None:
        return None
    if node.type in ("Conv2d", "SumPool2d", "AvgPool2d", "Conv1d", "Flatten", "Identity") and not given:
        return None
    if given and stripped(given[0]) == stripped(shape) and node.type in ELEMENTWISE:
        shape = given[0]
    return shape, result(node, shape)


def _check_size(node: Node, found: tuple[Shape, Shape]) -> None:
    for shape in found:
        if min(shape) < 1 or math.prod(shape) > LIMIT_SIZE:
            raise NirError(
                f"node {node.name!r} ({node.type}): expected a shape of 1 to {LIMIT_SIZE} numbers, got {shape}"
            )


@dataclass(frozen=True)
class Linear:
    """A linear node between two cells, with the shapes that it has there.

    :param biased: add its bias (the node may lie on several paths; the bias counts once).
    """

    node: Node
    taken: Shape
    given: Shape
    biased: bool = True

    def apply(self, x: Tensor) -> Tensor:
        """Values [batch, *taken] to [batch, *given], in the type of `x`."""
        node, kind, batch = self.node, self.node.type, x.shape[0]
        x = x.reshape(batch, *self.taken)
        bias = self._bias(x.dtype)
        if kind in ("Affine", "Linear"):
            weight = self._tensor("weight", x.dtype).reshape(self.given[-1], self.taken[-1])
            return torch.nn.functional.linear(x, weight, bias).reshape(batch, *self.given)
        if kind in ("Conv1d", "Conv2d"):
            slide, groups = window(node), int(node.array("groups").reshape(-1)[0])
            x = x.reshape(batch, -1, *self.taken[-len(slide.kernel) :])
            x = _padded(x, slide)
            convolve = torch.nn.functional.conv1d if kind == "Conv1d" else torch.nn.functional.conv2d
            return convolve(x, self._tensor("weight", x.dtype), bias, slide.stride, 0, slide.dilation, groups)
        if kind in ("SumPool2d", "AvgPool2d"):
            slide = window(node)
            area = 1 if kind == "SumPool2d" else slide.kernel[0] * slide.kernel[1]
            pooled = torch.nn.functional.avg_pool2d(_padded(x, slide), slide.kernel, slide.stride, divisor_override=1)
            return pooled / area
        if kind == "Scale":
            scale = self._tensor("scale", x.dtype)
            return x * (scale if scale.numel() == 1 else scale.reshape(stripped(tuple(scale.shape))))
        return x.reshape(batch, *self.given)

    def _tensor(self, key: str, dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.array(self.node.array(key))).to(dtype)

    def _bias(self, dtype: torch.dtype) -> Tensor | None:
        if not self.biased or "bias" not in self.node.fields:
            return None
        bias = self._tensor("bias", dtype).reshape(-1)
        return bias.expand(self.given[0]) if bias.numel() == 1 else bias


def _padded(x: Tensor, slide: Window) -> Tensor:
    sides = [p for pair in zip(reversed(slide.padding), reversed(slide.after), strict=True) for p in pair]
    return torch.nn.functional.pad(x, sides) if any(sides) else x
