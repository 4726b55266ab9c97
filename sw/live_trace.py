"""How a live module becomes a NIR graph: one run, in which hooks note which layer feeds which.

The layers that PyTorch itself has are here, each peer's in `apical.sw.importers`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apical.sw import nir_read, nir_twin
from apical.sw.nir_read import Edge, Graph, NirError
from apical.sw.nir_shapes import stripped


@dataclass(frozen=True)
class Imported:
    """A live module as a graph.

    :param source: whose profile it has. :param dt: in the unit of its time constants.
    """

    graph: Graph
    source: str
    dt: float

    def network(self) -> nir_twin.FloatNetwork:
        """Its float twin."""
        return nir_twin.of_graph(self.graph, self.source, self.dt)


@dataclass
class Layer:
    """What one module becomes: nodes by suffix ('' is the one that gives the layer's output), and edges among them.

    :param enter: suffix of the node that takes the layer's input.
    """

    nodes: dict[str, tuple[str, dict[str, Any], dict[str, str]]]
    edges: list[Edge] = field(default_factory=list)
    enter: str = ""


def array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)


def one(kind: str, meta: dict[str, str] | None = None, **fields: Any) -> Layer:
    return Layer({"": (kind, fields, meta or {})})


def looped(cell: Layer, weights: tuple[str, dict[str, Any], dict[str, str]]) -> Layer:
    """A cell that feeds itself through linear weights."""
    return Layer({**cell.nodes, ".w_rec": weights}, [("", ".w_rec"), (".w_rec", "")])


def weights(module: Any, name: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    found = linear(module)
    if found is None or set(found.nodes) != {""}:
        raise NirError(f"module {name!r}: recurrent weights: expected a linear layer, got {type(module).__name__}")
    return found.nodes[""]


def linear(module: Any) -> Layer | None:
    """PyTorch's own layers."""
    if isinstance(module, nn.Linear):
        if module.bias is None:
            return one("Linear", weight=module.weight)
        return one("Affine", weight=module.weight, bias=module.bias)
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.padding_mode != "zeros":
            raise NirError(f"Conv: expected padding by zeros, got {module.padding_mode!r}")
        bias = np.zeros(module.out_channels) if module.bias is None else module.bias
        given: dict[str, Any] = {"stride": module.stride, "dilation": module.dilation, "groups": module.groups}
        kind = "Conv1d" if isinstance(module, nn.Conv1d) else "Conv2d"
        return one(kind, weight=module.weight, bias=bias, padding=module.padding, **given)
    if isinstance(module, nn.AvgPool2d):
        if module.ceil_mode or not module.count_include_pad or module.divisor_override is not None:
            raise NirError("AvgPool2d: expected no ceil_mode, counted padding and no divisor_override")
        stride = module.kernel_size if module.stride is None else module.stride
        return one("AvgPool2d", kernel_size=module.kernel_size, stride=stride, padding=module.padding)
    if isinstance(module, nn.Flatten):
        # Dimensions without the batch.
        first, last = module.start_dim, module.end_dim
        return one("Flatten", start_dim=first - 1 if first > 0 else first, end_dim=last - 1 if last > 0 else last)
    if isinstance(module, nn.Dropout | nn.Dropout2d | nn.Identity):
        return one("Identity")
    return None


def _first(value: Any) -> Tensor | None:
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def traced(
    net: nn.Module, convert: Callable[[str, Any], Layer | None], run: Callable[[], Any], shape: tuple[int, ...]
) -> Graph:
    """The graph of one run.

    :param convert: a module's layer; None: look into it. :param shape: of the input, without batch and time.
    """
    layers: dict[str, Layer] = {}
    found: list[tuple[str, Any]] = []

    def visit(path: str, module: Any) -> None:
        layer = convert(path, module)
        if layer is not None:
            layers[path] = layer
            found.append((path, module))
            return
        inner = list(module.named_children())
        if not inner and path:
            raise NirError(f"module {path!r}: {type(module).__name__} isn't known; replace it, or export a NIR graph")
        for key, child in inner:
            visit(f"{path}.{key}" if path else key, child)

    visit("", net)
    made: dict[int, str] = {}  # identity of a tensor to the module that gave it
    keep: list[Tensor] = []
    edges: list[Edge] = []
    called: list[str] = []

    def hook(path: str) -> Callable[[Any, Any, Any], None]:
        def noted(module: Any, inputs: Any, output: Any) -> None:
            given, sent = _first(inputs), _first(output)
            if path not in called:
                called.append(path)
                edges.append((made.get(id(given), "input"), path))
            if sent is not None:
                keep.append(sent)
                made[id(sent)] = path

        return noted

    handles = [module.register_forward_hook(hook(path)) for path, module in found]
    try:
        with torch.no_grad():
            run()
    finally:
        for handle in handles:
            handle.remove()
    if silent := sorted(set(layers) - set(called)):
        raise NirError(f"module {silent[0]!r}: not called in the run with the sample")
    begin = [b for a, b in edges if a == "input"]
    if len(begin) != 1:
        raise NirError(
            f"modules {begin[1:] or begin}: their input isn't another module's output; what forward() computes between "
            f"modules isn't seen"
        )
    return _assembled(layers, edges, called[-1], shape, stripped(tuple(keep[-1].shape)))


def _assembled(
    layers: dict[str, Layer], edges: list[Edge], last: str, shape: tuple[int, ...], out: tuple[int, ...]
) -> Graph:
    nodes = {"input": _entry("Input", {"shape": shape}, {}), "output": _entry("Output", {"shape": out}, {})}
    pairs: list[Edge] = []
    for path, layer in layers.items():
        for suffix, given in layer.nodes.items():
            nodes[path + suffix] = _entry(*given)
        pairs += [(path + a, path + b) for a, b in layer.edges]
    pairs += [(a, b + layers[b].enter) for a, b in edges]
    pairs.append((last, "output"))
    return nir_read.graph_of({"version": "1.0", "node": {"type": "NIRGraph", "nodes": nodes, "edges": pairs}})


def _entry(kind: str, fields: dict[str, Any], meta: dict[str, str]) -> dict[str, Any]:
    plain = {k: v if isinstance(v, str) else array(v) for k, v in fields.items()}
    return {"type": kind, **plain, "metadata": {f"apical_{k}": v for k, v in meta.items()}}


def text(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(float(value))
