"""Importers of live modules: snnTorch, Norse, sinabs, Rockpool, SpikingJelly. They read what NIR loses.

``from_PEER(net, sample)`` runs the module once, notes which layer feeds which, and gives an `Imported`: a NIR graph
whose metadata hold the reset, the spike function, the floor. `Imported.network` is its float twin;
`apical.sw.nir_write.write` stores it. Peers are imported when called. Layers must be modules: what a `forward` computes
between them isn't seen, and is refused.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from torch import Tensor, nn

from apical.sw.live_trace import Imported, Layer, array, linear, looped, one, text, traced, weights
from apical.sw.nir_read import NirError

__all__ = ["Imported", "from_norse", "from_rockpool", "from_sinabs", "from_snntorch", "from_spikingjelly"]


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
            return linear(module)
        if module.inhibition or module.state_quant or float(array(module.graded_spikes_factor).max()) != 1:
            raise NirError(f"module {path!r}: inhibition, state_quant and graded_spikes_factor aren't supported")
        kinds = {snn.Leaky: "LIF", snn.RLeaky: "LIF", snn.Synaptic: "CubaLIF", snn.RSynaptic: "CubaLIF"}
        if type(module) not in kinds:
            raise NirError(
                f"module {path!r}: {type(module).__name__} isn't known; known: Leaky, Synaptic, RLeaky, RSynaptic"
            )
        tau, theta = _tau(module.beta, dt), array(module.threshold)
        meta = {"reset": module.reset_mechanism, "reset_delay": text(bool(module.reset_delay))}
        shared = {"r": tau / dt, "v_leak": np.zeros(1), "v_threshold": theta, "v_reset": np.zeros(1)}
        if kinds[type(module)] == "LIF":
            cell = one("LIF", meta, tau=tau, **shared)
        else:
            syn = _tau(module.alpha, dt)
            cell = one("CubaLIF", meta, tau_mem=tau, tau_syn=syn, w_in=syn / dt, **shared)
        if not hasattr(module, "recurrent"):
            return cell
        if not module.all_to_all:
            return looped(cell, ("Scale", {"scale": module.recurrent.V}, {}))
        return looped(cell, weights(module.recurrent, path))

    def run() -> Any:
        utils.reset(net)
        net(sample)
        utils.reset(net)

    return Imported(traced(net, convert, run, tuple(sample.shape[1:])), "snntorch", dt)


def _tau(decay: Any, dt: float) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.asarray(dt / (1 - array(decay).astype(np.float64)))


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
            return linear(module)
        p = module.p
        if isinstance(module, IAFCell):
            return one("IF", r=np.ones(1), v_threshold=p.v_th, v_reset=p.v_reset)
        dt = float(module.dt)
        steps.add(dt)
        leak = {"r": np.ones(1), "v_leak": p.v_leak}
        tau = dt / array(p.tau_mem_inv).astype(np.float64)  # as its exporter writes it
        if isinstance(module, LIBoxCell):
            return one("LI", tau=tau, **leak)
        fires = {**leak, "v_threshold": p.v_th, "v_reset": p.v_reset}
        meta = {"reset": "subtract" if getattr(p, "reset_method", None) is reset.reset_subtract else "value"}
        if isinstance(module, LIFBoxCell):
            return one("LIF", meta, tau=tau, **fires)
        syn = dt / array(p.tau_syn_inv).astype(np.float64)
        cell = one("CubaLIF", meta, tau_mem=tau, tau_syn=syn, w_in=np.ones(1), **fires)
        if not isinstance(module, LIFRecurrentCell):
            return cell
        out = looped(cell, ("Linear", {"weight": module.recurrent_weights}, {}))
        nodes = {**out.nodes, ".w_in": ("Linear", {"weight": module.input_weights}, {})}
        return Layer(nodes, [*out.edges, (".w_in", "")], ".w_in")

    graph = traced(net, convert, lambda: net(sample), tuple(sample.shape[1:]))
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
            return one("SumPool2d", kernel_size=module.kernel_size, stride=stride, padding=np.zeros(2, np.int64))
        if not isinstance(module, sl.StatefulLayer):
            return linear(module)
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
            alpha = np.exp(-1 / array(syn).astype(np.float64))
            rate = -np.expm1(-1 / array(tau).astype(np.float64))
            times = {"tau_mem": tau, "tau_syn": syn, "w_in": np.ones(1), "r": alpha if normed else alpha / rate}
            meta |= {"membrane_gain": "ode", "synapse_gain": "w_in"}
            cell = one(f"CubaLI{last}", meta, **times, **shared)
        elif integrates:
            del shared["v_leak"]
            cell = one("IF", meta, r=np.ones(1), **shared)
        else:
            cell = one(f"LI{last}", meta, tau=tau, r=np.ones(1), **shared)
        inner = getattr(module, "rec_connect", None)
        if inner is not None and isinstance(inner, nn.Sequential):
            inner = next((m for m in inner if isinstance(m, nn.Linear)), inner)
        if inner is None:
            return cell
        if getattr(inner, "bias", None) is not None and array(inner.bias).any():
            raise NirError(
                f"module {path!r}: the bias of rec_connect isn't there in the first tick, which a cell can't do; train "
                f"with bias=False, or move it to the layer before (its first tick then differs)"
            )
        return looped(cell, weights(inner, path))

    def run() -> Any:
        for layer in net.modules():
            if isinstance(layer, sl.StatefulLayer):
                layer.reset_states()
        return net(sample)

    first = next((m for m in net.modules() if isinstance(m, sl.StatefulLayer)), None)
    squeezes = first is not None and type(first).__name__.endswith("Squeeze")
    return Imported(traced(net, convert, run, tuple(sample.shape[1 if squeezes else 2 :])), "sinabs", 1.0)


def _sinabs_fires(path: str, module: Any, spikes: tuple[Any, Any], resets: tuple[Any, Any]) -> dict[str, str]:
    """Metadata of how a sinabs layer fires; nothing for a read-out."""
    function = getattr(module, "spike_fn", None)
    out = {}
    if module.min_v_mem is not None:
        if function is None:
            raise NirError(f"module {path!r}: a read-out with min_v_mem isn't supported")
        out["floor"] = text(float(module.min_v_mem))
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
            weight = array(module.weight).T
            bias = getattr(module, "bias", None)
            return one("Linear", weight=weight) if bias is None else one("Affine", weight=weight, bias=bias)
        if not isinstance(module, LIFNeuronTorch | LIFTorch | ExpSynTorch):
            return None
        dt = float(module.dt)
        steps.add(dt)
        if isinstance(module, ExpSynTorch):
            return one("LI", tau=module.tau, r=np.ones(1), v_leak=np.zeros(1))
        tau = array(module.tau_mem).astype(np.float64).reshape(-1)
        # A bias of the membrane is a leak towards bias / (1 - alpha).
        rest = array(module.bias).astype(np.float64).reshape(-1) / -np.expm1(-dt / tau)
        shared = {"r": np.ones(1), "v_leak": rest, "v_threshold": module.threshold, "v_reset": np.zeros(1)}
        if isinstance(module, LIFNeuronTorch):
            return one("LIF", tau=tau, **shared)
        if module.n_synapses != 1:
            raise NirError(f"module {path!r}: expected one synapse per neuron, got {module.n_synapses}")
        syn = array(module.tau_syn).astype(np.float64).reshape(-1)
        cell = one("CubaLIF", tau_mem=tau, tau_syn=syn, w_in=np.ones(1), **shared)
        if not array(module.w_rec).any():
            return cell
        return looped(cell, ("Linear", {"weight": array(module.w_rec).T}, {}))

    def run() -> Any:
        net.reset_state()
        return net(sample)

    graph = traced(net, convert, run, tuple(sample.shape[2:]))
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
            return linear(module)
        if module.step_mode != "s":
            raise NirError(f"module {path!r}: expected step mode 's', got {module.step_mode!r}")
        rest = 0.0 if module.v_reset is None else float(module.v_reset)
        meta = {"reset": "subtract" if module.v_reset is None else "value"}
        fires = {"v_threshold": np.array(float(module.v_threshold)), "v_reset": np.array(rest)}
        if type(module) is neuron.IFNode:
            return one("IF", meta, r=np.array(1 / dt), **fires)
        if type(module) is neuron.CUBALIFNode:
            mem, syn = dt / (1 - module.v_decay), dt / (1 - module.c_decay)
            times = {
                "tau_mem": np.array(mem),
                "tau_syn": np.array(syn),
                "r": np.array(mem / dt),
                "w_in": np.array(syn / dt),
            }
            return one("CubaLIF", meta, **times, v_leak=np.zeros(1), **fires)
        if type(module) not in (neuron.LIFNode, neuron.ParametricLIFNode):
            raise NirError(f"module {path!r}: {type(module).__name__} isn't known")
        tau = float(module.tau) if type(module) is neuron.LIFNode else float(1 / module.w.sigmoid())
        gain = 1.0 if module.decay_input else tau
        return one("LIF", meta, tau=np.array(tau * dt), r=np.array(gain), v_leak=np.array(rest), **fires)

    def run() -> Any:
        functional.reset_net(net)
        net(sample)
        functional.reset_net(net)

    return Imported(traced(net, convert, run, tuple(sample.shape[1:])), "spikingjelly", dt)
