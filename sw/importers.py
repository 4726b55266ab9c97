"""Importers of live modules: snnTorch, Norse, sinabs, Rockpool, SpikingJelly. They read what NIR loses.

``from_PEER(net, sample)`` runs the module once, notes which layer feeds which, and gives an `Imported`: a NIR graph
whose metadata hold the reset, the spike function, the floor. `Imported.network` is its float twin;
`apical.sw.nir_write.write` stores it. Peers are imported when called. Layers must be modules: what a `forward` computes
between them isn't seen, and is refused.
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


def _array(value: Any) -> np.ndarray:
    return np.asarray(value.detach().cpu().numpy() if isinstance(value, Tensor) else value)


def _one(kind: str, meta: dict[str, str] | None = None, **fields: Any) -> Layer:
    return Layer({"": (kind, fields, meta or {})})


def _looped(cell: Layer, weights: tuple[str, dict[str, Any], dict[str, str]]) -> Layer:
    """A cell that feeds itself through linear weights."""
    return Layer({**cell.nodes, ".w_rec": weights}, [("", ".w_rec"), (".w_rec", "")])


def _weights(module: Any, name: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    found = _linear(module)
    if found is None or set(found.nodes) != {""}:
        raise NirError(f"module {name!r}: recurrent weights: expected a linear layer, got {type(module).__name__}")
    return found.nodes[""]


def _linear(module: Any) -> Layer | None:
    """PyTorch's own layers."""
    if isinstance(module, nn.Linear):
        if module.bias is None:
            return _one("Linear", weight=module.weight)
        return _one("Affine", weight=module.weight, bias=module.bias)
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.padding_mode != "zeros":
            raise NirError(f"Conv: expected padding by zeros, got {module.padding_mode!r}")
        bias = np.zeros(module.out_channels) if module.bias is None else module.bias
        given: dict[str, Any] = {"stride": module.stride, "dilation": module.dilation, "groups": module.groups}
        kind = "Conv1d" if isinstance(module, nn.Conv1d) else "Conv2d"
        return _one(kind, weight=module.weight, bias=bias, padding=module.padding, **given)
    if isinstance(module, nn.AvgPool2d):
        if module.ceil_mode or not module.count_include_pad or module.divisor_override is not None:
            raise NirError("AvgPool2d: expected no ceil_mode, counted padding and no divisor_override")
        stride = module.kernel_size if module.stride is None else module.stride
        return _one("AvgPool2d", kernel_size=module.kernel_size, stride=stride, padding=module.padding)
    if isinstance(module, nn.Flatten):
        # Dimensions without the batch.
        first, last = module.start_dim, module.end_dim
        return _one("Flatten", start_dim=first - 1 if first > 0 else first, end_dim=last - 1 if last > 0 else last)
    if isinstance(module, nn.Dropout | nn.Dropout2d | nn.Identity):
        return _one("Identity")
    return None


def _first(value: Any) -> Tensor | None:
    while isinstance(value, tuple | list) and value:
        value = value[0]
    return value if isinstance(value, Tensor) else None


def _traced(
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
    plain = {k: v if isinstance(v, str) else _array(v) for k, v in fields.items()}
    return {"type": kind, **plain, "metadata": {f"apical_{k}": v for k, v in meta.items()}}


def _text(value: float | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else repr(float(value))


def from_snntorch(net: Any, sample: Tensor) -> Imported:
    """A snnTorch network of Leaky, Synaptic, RLeaky, RSynaptic and PyTorch layers.

    :param sample: input of one tick, [1, ...], as `net` takes it.
    :raises NirError: a module that isn't known, or an option that our laws haven't.
    """
    import snntorch as snn
    from snntorch import utils

    dt = 1e-4

    def convert(path: str, module: Any) -> Layer | None:
        if not isinstance(module, snn.SpikingNeuron):
            return _linear(module)
        if module.inhibition or module.state_quant or float(torch.as_tensor(module.graded_spikes_factor).max()) != 1:
            raise NirError(f"module {path!r}: inhibition, state_quant and graded_spikes_factor aren't supported")
        kinds = {snn.Leaky: "LIF", snn.RLeaky: "LIF", snn.Synaptic: "CubaLIF", snn.RSynaptic: "CubaLIF"}
        if type(module) not in kinds:
            raise NirError(
                f"module {path!r}: {type(module).__name__} isn't known; known: Leaky, Synaptic, RLeaky, RSynaptic"
            )
        tau, theta = _tau(module.beta, dt), _array(module.threshold)
        meta = {"reset": module.reset_mechanism, "reset_delay": _text(bool(module.reset_delay))}
        shared = {"r": tau / dt, "v_leak": np.zeros(1), "v_threshold": theta, "v_reset": np.zeros(1)}
        if kinds[type(module)] == "LIF":
            cell = _one("LIF", meta, tau=tau, **shared)
        else:
            syn = _tau(module.alpha, dt)
            cell = _one("CubaLIF", meta, tau_mem=tau, tau_syn=syn, w_in=syn / dt, **shared)
        if not hasattr(module, "recurrent"):
            return cell
        if not module.all_to_all:
            return _looped(cell, ("Scale", {"scale": module.recurrent.V}, {}))
        return _looped(cell, _weights(module.recurrent, path))

    def run() -> Any:
        utils.reset(net)
        net(sample)
        utils.reset(net)

    return Imported(_traced(net, convert, run, tuple(sample.shape[1:])), "snntorch", dt)


def _tau(decay: Any, dt: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(dt / (1 - _array(decay).astype(np.float64)))


def from_norse(net: Any, sample: Tensor) -> Imported:
    """A Norse network of LIFBoxCell, LIFCell, LIFRecurrentCell, LIBoxCell, IAFCell and PyTorch layers, of one dt.

    :param sample: input of one tick, [1, ...], as `net` takes it.
    :raises NirError: a module that isn't known, or an option that our laws haven't.
    """
    from norse.torch.functional import reset
    from norse.torch.module.iaf import IAFCell
    from norse.torch.module.leaky_integrator_box import LIBoxCell
    from norse.torch.module.lif import LIFCell, LIFRecurrentCell
    from norse.torch.module.lif_box import LIFBoxCell

    steps: set[float] = set()

    def convert(path: str, module: Any) -> Layer | None:
        if not isinstance(module, LIFCell | LIFBoxCell | LIBoxCell | IAFCell | LIFRecurrentCell):
            if type(module).__module__.startswith("norse.") and not list(module.children()):
                raise NirError(f"module {path!r}: {type(module).__name__} isn't known")
            return _linear(module)
        p = module.p
        if isinstance(module, IAFCell):
            return _one("IF", r=np.ones(1), v_threshold=p.v_th, v_reset=p.v_reset)
        dt = float(module.dt)
        steps.add(dt)
        leak = {"r": np.ones(1), "v_leak": p.v_leak}
        tau = dt / _array(p.tau_mem_inv).astype(np.float64)  # as its exporter writes it
        if isinstance(module, LIBoxCell):
            return _one("LI", tau=tau, **leak)
        fires = {**leak, "v_threshold": p.v_th, "v_reset": p.v_reset}
        meta = {"reset": "subtract" if getattr(p, "reset_method", None) is reset.reset_subtract else "value"}
        if isinstance(module, LIFBoxCell):
            return _one("LIF", meta, tau=tau, **fires)
        syn = dt / _array(p.tau_syn_inv).astype(np.float64)
        cell = _one("CubaLIF", meta, tau_mem=tau, tau_syn=syn, w_in=np.ones(1), **fires)
        if not isinstance(module, LIFRecurrentCell):
            return cell
        out = _looped(cell, ("Linear", {"weight": module.recurrent_weights}, {}))
        nodes = {**out.nodes, ".w_in": ("Linear", {"weight": module.input_weights}, {})}
        return Layer(nodes, [*out.edges, (".w_in", "")], ".w_in")

    graph = _traced(net, convert, lambda: net(sample), tuple(sample.shape[1:]))
    if len(steps) > 1:
        raise NirError(f"expected cells of one dt, got {sorted(steps)}")
    return Imported(graph, "norse", steps.pop() if steps else 1e-3)


def from_sinabs(net: Any, sample: Tensor) -> Imported:
    """A sinabs network of LIF, IAF, their recurrent forms, ExpLeak (squeezing or not), SumPool2d and PyTorch layers.

    :param sample: input of one tick as `net` takes it: [1, 1, ...], or [1, ...] where its layers squeeze.
    :raises NirError: a module that isn't known, or an option that our laws haven't.
    """
    import sinabs.layers as sl
    from sinabs.activation import MembraneReset, MembraneSubtract, MultiSpike, SingleSpike

    def convert(path: str, module: Any) -> Layer | None:
        if isinstance(module, sl.SumPool2d):
            stride = module.kernel_size if module.stride is None else module.stride
            return _one("SumPool2d", kernel_size=module.kernel_size, stride=stride, padding=np.zeros(2, np.int64))
        if not isinstance(module, sl.StatefulLayer):
            return _linear(module)
        if not isinstance(module, sl.LIF | sl.ExpLeak):
            raise NirError(f"module {path!r}: {type(module).__name__} isn't known; known: LIF, IAF, ExpLeak")
        integrates = isinstance(module, sl.IAF | sl.IAFRecurrent)
        tau = None if integrates else module.tau_mem_calculated
        syn = module.tau_syn_calculated
        normed = bool(module.norm_input)
        meta = {"membrane_gain": "ode" if normed else "one"}
        meta |= _sinabs_fires(path, module, (MultiSpike, SingleSpike), (MembraneSubtract, MembraneReset))
        shared: dict[str, Any] = {"v_leak": np.zeros(1)}
        if "spike" in meta:
            shared |= {"v_threshold": module.spike_threshold, "v_reset": np.zeros(1)}
        last = "F" if "spike" in meta else ""
        if syn is not None:
            if integrates:
                raise NirError(f"module {path!r}: an IAF with tau_syn isn't supported")
            # i = a (i + I): what was added decays at once, so the gain into the membrane has the factor a.
            alpha = np.exp(-1 / _array(syn).astype(np.float64))
            rate = -np.expm1(-1 / _array(tau).astype(np.float64))
            times = {"tau_mem": tau, "tau_syn": syn, "w_in": np.ones(1), "r": alpha if normed else alpha / rate}
            meta |= {"membrane_gain": "ode", "synapse_gain": "w_in"}
            cell = _one(f"CubaLI{last}", meta, **times, **shared)
        elif integrates:
            del shared["v_leak"]
            cell = _one("IF", meta, r=np.ones(1), **shared)
        else:
            cell = _one(f"LI{last}", meta, tau=tau, r=np.ones(1), **shared)
        inner = getattr(module, "rec_connect", None)
        if inner is not None and isinstance(inner, nn.Sequential):
            inner = next((m for m in inner if isinstance(m, nn.Linear)), inner)
        if inner is None:
            return cell
        if getattr(inner, "bias", None) is not None and _array(inner.bias).any():
            raise NirError(
                f"module {path!r}: the bias of rec_connect isn't there in the first tick, which a cell can't do; train "
                f"with bias=False, or move it to the layer before (its first tick then differs)"
            )
        return _looped(cell, _weights(inner, path))

    def run() -> Any:
        for layer in net.modules():
            if isinstance(layer, sl.StatefulLayer):
                layer.reset_states()
        return net(sample)

    first = next((m for m in net.modules() if isinstance(m, sl.StatefulLayer)), None)
    squeezes = first is not None and type(first).__name__.endswith("Squeeze")
    return Imported(_traced(net, convert, run, tuple(sample.shape[1 if squeezes else 2 :])), "sinabs", 1.0)


def _sinabs_fires(path: str, module: Any, spikes: tuple[Any, Any], resets: tuple[Any, Any]) -> dict[str, str]:
    """Metadata of how a sinabs layer fires; nothing for a read-out."""
    function = getattr(module, "spike_fn", None)
    out = {}
    if module.min_v_mem is not None:
        if function is None:
            raise NirError(f"module {path!r}: a read-out with min_v_mem isn't supported")
        out["floor"] = _text(float(module.min_v_mem))
    if function is None:
        return out
    if function not in spikes:
        raise NirError(f"module {path!r}: spike_fn: expected MultiSpike or SingleSpike, got {function}")
    reset = module.reset_fn
    if isinstance(reset, resets[1]) and reset.reset_value == 0:
        out["reset"] = "zero"
    elif isinstance(reset, resets[0]) and reset.subtract_value is None:
        out["reset"] = "subtract"
    else:
        raise NirError(f"module {path!r}: reset_fn: expected MembraneSubtract() or MembraneReset(0), got {reset}")
    return out | {"spike": "graded" if function is spikes[0] else "single"}


def from_rockpool(net: Any, sample: Tensor) -> Imported:
    """A Rockpool network of LIFNeuronTorch, LIFTorch (recurrent, too), ExpSynTorch, LinearTorch, of one dt.

    :param sample: input of one tick, [1, 1, channels].
    :raises NirError: a module that isn't known, or an option that our laws haven't.
    """
    from rockpool.nn.modules import ExpSynTorch, LIFNeuronTorch, LIFTorch, LinearTorch

    steps: set[float] = set()

    def convert(path: str, module: Any) -> Layer | None:
        if isinstance(module, LinearTorch):
            weight = _array(module.weight).T
            bias = getattr(module, "bias", None)
            return _one("Linear", weight=weight) if bias is None else _one("Affine", weight=weight, bias=bias)
        if not isinstance(module, LIFNeuronTorch | LIFTorch | ExpSynTorch):
            return None
        dt = float(module.dt)
        steps.add(dt)
        if isinstance(module, ExpSynTorch):
            return _one("LI", tau=module.tau, r=np.ones(1), v_leak=np.zeros(1))
        tau = _array(module.tau_mem).astype(np.float64).reshape(-1)
        # A bias of the membrane is a leak towards bias / (1 - alpha).
        rest = _array(module.bias).astype(np.float64).reshape(-1) / -np.expm1(-dt / tau)
        shared = {"r": np.ones(1), "v_leak": rest, "v_threshold": module.threshold, "v_reset": np.zeros(1)}
        if isinstance(module, LIFNeuronTorch):
            return _one("LIF", tau=tau, **shared)
        if module.n_synapses != 1:
            raise NirError(f"module {path!r}: expected one synapse per neuron, got {module.n_synapses}")
        syn = _array(module.tau_syn).astype(np.float64).reshape(-1)
        cell = _one("CubaLIF", tau_mem=tau, tau_syn=syn, w_in=np.ones(1), **shared)
        if not _array(module.w_rec).any():
            return cell
        return _looped(cell, ("Linear", {"weight": _array(module.w_rec).T}, {}))

    def run() -> Any:
        net.reset_state()
        return net(sample)

    graph = _traced(net, convert, run, tuple(sample.shape[2:]))
    if len(steps) > 1:
        raise NirError(f"expected cells of one dt, got {sorted(steps)}")
    return Imported(graph, "rockpool", steps.pop() if steps else 1e-3)


def from_spikingjelly(net: Any, sample: Tensor) -> Imported:
    """A SpikingJelly network of IFNode, LIFNode, ParametricLIFNode, CUBALIFNode and (its own or PyTorch's) layers.

    :param sample: input of one tick, [1, ...]; layers in step mode ``s``.
    :raises NirError: a module that isn't known, or an option that our laws haven't.
    """
    from spikingjelly.activation_based import functional, neuron

    dt = 1e-4

    def convert(path: str, module: Any) -> Layer | None:
        if not isinstance(module, neuron.BaseNode):
            return _linear(module)
        if module.step_mode != "s":
            raise NirError(f"module {path!r}: expected step mode 's', got {module.step_mode!r}")
        rest = 0.0 if module.v_reset is None else float(module.v_reset)
        meta = {"reset": "subtract" if module.v_reset is None else "value"}
        fires = {"v_threshold": np.array(float(module.v_threshold)), "v_reset": np.array(rest)}
        if type(module) is neuron.IFNode:
            return _one("IF", meta, r=np.array(1 / dt), **fires)
        if type(module) is neuron.CUBALIFNode:
            mem, syn = dt / (1 - module.v_decay), dt / (1 - module.c_decay)
            times = {
                "tau_mem": np.array(mem),
                "tau_syn": np.array(syn),
                "r": np.array(mem / dt),
                "w_in": np.array(syn / dt),
            }
            return _one("CubaLIF", meta, **times, v_leak=np.zeros(1), **fires)
        if type(module) not in (neuron.LIFNode, neuron.ParametricLIFNode):
            raise NirError(f"module {path!r}: {type(module).__name__} isn't known")
        tau = float(module.tau) if type(module) is neuron.LIFNode else float(1 / module.w.sigmoid())
        gain = 1.0 if module.decay_input else tau
        return _one("LIF", meta, tau=np.array(tau * dt), r=np.array(gain), v_leak=np.array(rest), **fires)

    def run() -> Any:
        functional.reset_net(net)
        net(sample)
        functional.reset_net(net)

    return Imported(_traced(net, convert, run, tuple(sample.shape[1:])), "spikingjelly", dt)
