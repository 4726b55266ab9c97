"""Small networks that another tool built, exported to NIR and ran: ``make_peer_traces.py PEER FILE.zip [SEED]``.

Run it where the peer is installed (its extra in pyproject.toml). The file holds per case ``CASE.nir`` (the peer's own
exporter) and ``CASE.npz`` (input, spikes or values of the last layer), and ``cases.json``: what to tell ``apical
import``. Tests read tests/expected/peers/PEER.zip, or run this anew.
"""

from __future__ import annotations

import json
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nir
import numpy as np
import torch
from torch import Tensor, nn

warnings.filterwarnings("ignore")
INPUTS, HIDDEN, CLASSES, SAMPLES, TICKS = 16, 24, 10, 6, 50
SIDE = 8  # of the pictures that convolutions see, in 2 channels


@dataclass
class Case:
    """A peer's network.

    :param net: the peer's module. :param graph: its own export. :param run: input [samples, ticks, ...] to what its
        last layer sends [samples, ticks, n]. :param sets: what the file lost.
    """

    net: Any
    graph: Callable[[Any], Any]
    run: Callable[[Any, Tensor], Tensor]
    sets: list[str] = field(default_factory=list)
    values: bool = False
    picture: bool = False


def linear(inputs: int, outputs: int, bias: bool = True, gain: float = 1.0) -> nn.Linear:
    """Weights that make cells of threshold 1 fire at some rate."""
    out = nn.Linear(inputs, outputs, bias)
    with torch.no_grad():
        out.weight.normal_(0.03 * gain, gain * (10 / inputs) ** 0.5 / 2)
        if bias:
            out.bias.normal_(0, 0.05 * gain)
    return out


def conv(inputs: int, outputs: int, kernel: int, gain: float = 1.0, **options: Any) -> nn.Conv2d:
    """The same for pictures."""
    out = nn.Conv2d(inputs, outputs, kernel, **options)
    with torch.no_grad():
        fan = inputs / out.groups * kernel**2
        out.weight.normal_(0.6 * gain / fan, gain * (8 / fan) ** 0.5 / 2)
        if out.bias is not None:
            out.bias.normal_(0, 0.05 * gain)
    return out


def by_tick(net: Any, x: Tensor, step: Callable[[Any, Tensor], Tensor]) -> Tensor:
    """One call a tick."""
    return torch.stack([step(net, x[:, t]) for t in range(x.shape[1])], 1)


def snntorch() -> dict[str, Case]:
    """Leaky, Synaptic, RLeaky, RSynaptic; every reset; a convolution; a read-out that never resets."""
    import snntorch as snn
    from snntorch import utils
    from snntorch.export_nir import export_to_nir

    def graph(net: Any, *shape: int) -> Any:
        utils.reset(net)
        return export_to_nir(net, torch.zeros(1, *shape), ignore_dims=[0])

    def run(net: Any, x: Tensor) -> Tensor:
        utils.reset(net)
        return by_tick(net, x, lambda n, a: n(a)[0])

    def case(hidden: Any, last: Any, sets: list[str], **options: Any) -> Case:
        net = nn.Sequential(linear(INPUTS, HIDDEN), hidden, linear(HIDDEN, CLASSES), last)
        return Case(net, lambda n: graph(n, INPUTS), run, sets, **options)

    def leaky(last: bool = False, beta: float = 0.9, **options: Any) -> Any:
        n = CLASSES if last else HIDDEN
        each = {"beta": torch.full((n,), beta), "threshold": torch.ones(n)}
        return snn.Leaky(**each, init_hidden=True, output=last, **options)

    def synaptic(last: bool = False, **options: Any) -> Any:
        n = CLASSES if last else HIDDEN
        each = {"alpha": torch.full((n,), 0.6), "beta": torch.full((n,), 0.85), "threshold": torch.full((n,), 2.0)}
        return snn.Synaptic(**each, init_hidden=True, output=last, **options)

    def layer_of(*shape: int) -> Any:
        return snn.Leaky(beta=torch.full(shape, 0.8), threshold=torch.ones(shape), init_hidden=True)

    def vector(n: int, low: float, high: float) -> Tensor:
        return torch.linspace(low, high, n)

    def membranes(net: Any, x: Tensor) -> Tensor:
        utils.reset(net)
        return by_tick(net, x, lambda n, a: n(a)[1])

    now = {"reset_delay": False}
    rec = {"linear_features": HIDDEN, "init_hidden": True, "threshold": 1.5}
    picture = nn.Sequential(
        conv(2, 4, 3, padding=1), layer_of(4, SIDE, SIDE), nn.AvgPool2d(2), conv(4, 6, 2, 3.0, dilation=2, groups=2),
        layer_of(6, 2, 2), nn.Flatten(), linear(6 * 2 * 2, CLASSES), leaky(True),
    )  # fmt: skip
    learned = snn.Leaky(beta=vector(HIDDEN, 0.4, 1.2), threshold=vector(HIDDEN, 0.7, 1.4), init_hidden=True)
    reads = case(leaky(), leaky(True, reset_mechanism="none"), ["3.reset=none", "3.read=membrane"], values=True)
    reads.run = membranes
    return {
        "leaky": case(leaky(), leaky(True), []),
        "leaky-now": case(leaky(**now), leaky(True, **now), ["reset_delay=false"]),
        "leaky-zero": case(leaky(reset_mechanism="zero"), leaky(True, reset_mechanism="zero"), ["reset=zero"]),
        "leaky-zero-now": case(
            leaky(reset_mechanism="zero", **now),
            leaky(True, reset_mechanism="zero", **now),
            ["reset=zero", "reset_delay=false"],
        ),
        "leaky-learned": case(learned, leaky(True), []),
        "leaky-read-out": reads,
        "synaptic": case(synaptic(), synaptic(True), []),
        "synaptic-zero": case(synaptic(reset_mechanism="zero"), synaptic(True, reset_mechanism="zero"), ["reset=zero"]),
        "synaptic-now": case(synaptic(**now), synaptic(True, **now), ["reset_delay=false"]),
        "rleaky": case(snn.RLeaky(beta=0.8, **rec), leaky(True), []),
        "rleaky-zero": case(
            snn.RLeaky(beta=0.8, reset_mechanism="zero", **rec), leaky(True, reset_mechanism="zero"), ["reset=zero"]
        ),
        "rleaky-one-to-one": case(
            snn.RLeaky(beta=0.8, V=vector(HIDDEN, -1, 0.5), all_to_all=False, init_hidden=True, threshold=1.5, **now),
            leaky(True, **now),
            ["reset_delay=false"],
        ),
        "rsynaptic": case(snn.RSynaptic(alpha=0.5, beta=0.8, **rec), leaky(True), []),
        "conv": Case(picture, lambda n: graph(n, 2, SIDE, SIDE), run, picture=True),
    }


def norse() -> dict[str, Case]:
    """LIFBox, LIF (with a current), LI, IAF; a convolution. dt 0.001."""
    import norse.torch as norse_
    from norse.torch.functional.iaf import IAFParameters
    from norse.torch.functional.leaky_integrator_box import LIBoxParameters
    from norse.torch.functional.lif import LIFParameters
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.module.iaf import IAFCell
    from norse.torch.module.leaky_integrator_box import LIBoxCell
    from norse.torch.module.lif import LIFCell
    from norse.torch.module.lif_box import LIFBoxCell
    from norse.torch.utils.export_nir import to_nir

    def run(net: Any, x: Tensor) -> Tensor:
        out, state = [], None
        for t in range(x.shape[1]):
            y, state = net(x[:, t], state)
            out.append(y)
        return torch.stack(out, 1)

    def full(n: int, value: float) -> Tensor:
        return torch.full((n,), value)

    def box(n: int, inverse: float = 150.0, **options: Any) -> Any:
        given: dict[str, Any] = {"v_leak": full(n, 0.0), "v_th": full(n, 0.6), "v_reset": full(n, 0.0), **options}
        return LIFBoxCell(LIFBoxParameters(tau_mem_inv=full(n, inverse), **given))

    def box_of(*shape: int) -> Any:
        given = {"v_leak": torch.zeros(shape), "v_th": torch.full(shape, 0.6), "v_reset": torch.zeros(shape)}
        return LIFBoxCell(LIFBoxParameters(tau_mem_inv=torch.full(shape, 150.0), **given))

    def typed(graph: Any) -> Any:
        graph.infer_types()  # its exporter leaves the shapes of convolutions open
        return graph

    def cuba(n: int, v_reset: float = 0.0) -> Any:
        return LIFCell(LIFParameters(full(n, 300.0), full(n, 200.0), full(n, 0.0), full(n, 0.8), full(n, v_reset)))

    def case(hidden: Any, last: Any, sets: list[str], values: bool = False, gain: float = 4.0) -> Case:
        net = norse_.SequentialState(
            linear(INPUTS, HIDDEN, gain=gain), hidden, linear(HIDDEN, CLASSES, gain=gain), last
        )
        return Case(net, lambda n: to_nir(n, torch.zeros(1, INPUTS)), run, sets, values=values)

    def iaf(n: int) -> Any:
        return IAFCell(IAFParameters(v_th=full(n, 1.0), v_reset=full(n, 0.0)))

    picture = norse_.SequentialState(
        conv(2, 4, 3, 4.0, stride=2, padding=1), box_of(4, 4, 4), conv(4, 6, 2, 6.0), box_of(6, 3, 3),
        conv(6, CLASSES, 3, 6.0), box_of(CLASSES, 1, 1),
    )  # fmt: skip
    rest: dict[str, Any] = {"v_leak": full(HIDDEN, -0.2), "v_reset": full(HIDDEN, -0.1)}
    read = LIBoxCell(LIBoxParameters(tau_mem_inv=full(CLASSES, 80.0), v_leak=full(CLASSES, 0.0)))
    return {
        "box": case(box(HIDDEN), box(CLASSES), []),
        "box-rest": case(box(HIDDEN, **rest), box(CLASSES), ["1.v_reset=-0.1"]),
        "cuba": case(cuba(HIDDEN), cuba(CLASSES), [], gain=2.0),
        "cuba-reset": case(cuba(HIDDEN, -0.3), cuba(CLASSES), ["1.v_reset=-0.3"], gain=2.0),
        "read-out": case(cuba(HIDDEN), read, [], values=True, gain=2.0),
        "iaf": case(iaf(HIDDEN), iaf(CLASSES), [], gain=1.0),
        "conv": Case(picture, lambda n: typed(to_nir(n, torch.zeros(2, SIDE, SIDE))), run, picture=True),
    }


def sinabs() -> dict[str, Case]:
    """LIF and IAF, graded or single, both resets, floors, with and without norm_input; ExpLeak; a convolution."""
    import sinabs.layers as sl
    from sinabs.activation import MembraneReset, SingleSpike
    from sinabs.nir import to_nir

    def reset(net: Any) -> None:
        for layer in net.modules():
            if hasattr(layer, "reset_states"):
                layer.reset_states()

    def run(net: Any, x: Tensor) -> Tensor:
        reset(net)
        samples, ticks = x.shape[:2]
        y: Tensor = x
        for layer in net:  # the squeezing layers take [samples * ticks, ...]
            flat = y if isinstance(layer, sl.StatefulLayer) else y.reshape(-1, *y.shape[2:])
            y = layer(flat)
            y = y if isinstance(layer, sl.StatefulLayer) else y.reshape(samples, ticks, *y.shape[1:])
        return y

    def graph(net: Any, *shape: int) -> Any:
        reset(net)
        x = torch.zeros(1, 1, *shape)
        with torch.no_grad():
            run(net, x)
            return to_nir(net, x)

    def lif(n: int, tau: float = 8.0, **options: Any) -> Any:
        return sl.LIF(tau_mem=torch.full((n,), tau), spike_threshold=torch.full((n,), 0.5), **options)

    def case(hidden: Any, last: Any, sets: list[str], values: bool = False, gain: float = 2.5) -> Case:
        net = nn.Sequential(linear(INPUTS, HIDDEN, gain=gain), hidden, linear(HIDDEN, CLASSES, gain=gain), last)
        return Case(net, lambda n: graph(n, INPUTS), run, sets, values=values)

    single: dict[str, Any] = {"spike_fn": SingleSpike}
    to_value: dict[str, Any] = {"reset_fn": MembraneReset()}
    low: dict[str, Any] = {"min_v_mem": -0.3}
    plain: dict[str, Any] = {"norm_input": False}
    read = sl.ExpLeak(tau_mem=torch.full((CLASSES,), 15.0))
    return {
        "lif": case(lif(HIDDEN), lif(CLASSES), []),
        "lif-single": case(lif(HIDDEN, **single), lif(CLASSES, **single), ["spike=single"]),
        "lif-reset": case(lif(HIDDEN, **to_value), lif(CLASSES, **to_value), ["reset=zero"]),
        "lif-floor": case(lif(HIDDEN, **low), lif(CLASSES, **low), ["floor=-0.3"]),
        "lif-plain": case(lif(HIDDEN, **plain), lif(CLASSES, **plain), ["membrane_gain=one"], gain=0.5),
        "iaf": case(sl.IAF(), sl.IAF(), [], gain=0.7),
        "iaf-floor": case(
            sl.IAF(min_v_mem=-1.0, **single),
            sl.IAF(min_v_mem=-1.0, **single),
            ["spike=single", "floor=threshold"],
            gain=0.7,
        ),
        "read-out": case(lif(HIDDEN), read, ["3.membrane_gain=one"], values=True),
    }


def rockpool() -> dict[str, Case]:
    """LIFNeuronTorch, LIFTorch (with a current), ExpSynTorch."""
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules import ExpSynTorch, LIFNeuronTorch, LIFTorch, LinearTorch
    from rockpool.nn.modules.torch.nir import to_nir

    def run(net: Any, x: Tensor) -> Tensor:
        net.reset_state()
        out, _, _ = net(x)
        return torch.as_tensor(out)

    def dense(inputs: int, outputs: int, gain: float) -> Any:
        given = linear(inputs, outputs, gain=gain)
        return LinearTorch((inputs, outputs), weight=given.weight.T.detach(), bias=given.bias.detach(), has_bias=True)

    def lif(n: int, bias: float = 0.0) -> Any:
        return LIFNeuronTorch(
            (n,), tau_mem=torch.full((n,), 0.008), threshold=torch.full((n,), 1.2), bias=torch.full((n,), bias)
        )

    def cuba(n: int, bias: float = 0.0) -> Any:
        tau = {"tau_mem": torch.full((n,), 0.01), "tau_syn": torch.full((n, 1), 0.003)}
        return LIFTorch((n,), **tau, threshold=torch.full((n,), 2.0), bias=torch.full((n,), bias), dt=1e-3)

    def case(hidden: Any, last: Any, sets: list[str], values: bool = False, gain: float = 1.0) -> Case:
        net = Sequential(dense(INPUTS, HIDDEN, gain), hidden, dense(HIDDEN, CLASSES, gain), last)
        return Case(net, lambda n: to_nir(n, torch.zeros(1, INPUTS)), run, sets, values=values)

    read = ExpSynTorch((CLASSES,), tau=torch.full((CLASSES,), 0.02))
    read.tau.requires_grad = False  # its exporter doesn't detach it
    return {
        "lif": case(lif(HIDDEN), lif(CLASSES), []),
        "lif-bias": case(lif(HIDDEN, 0.05), lif(CLASSES), ["1_LIFNeuronTorch.bias=0.05"]),
        "cuba": case(cuba(HIDDEN), cuba(CLASSES), [], gain=0.6),
        "cuba-bias": case(cuba(HIDDEN, 0.1), cuba(CLASSES), ["1_LIFTorch.bias=0.1"], gain=0.6),
        "read-out": case(cuba(HIDDEN), read, [], values=True, gain=0.6),
    }


def spikingjelly() -> dict[str, Case]:
    """IF, LIF (both ways of its input), ParametricLIF, CUBALIF; a convolution."""
    from spikingjelly.activation_based import functional, layer, neuron
    from spikingjelly.activation_based.nir_exchange import export_to_nir

    def run(net: Any, x: Tensor) -> Tensor:
        functional.reset_net(net)
        return by_tick(net, x, lambda n, a: n(a))

    def graph(net: Any, *shape: int) -> Any:
        functional.reset_net(net)
        return export_to_nir(net, torch.zeros(1, *shape), dt=1e-4)

    def case(make: Callable[[], Any], gain: float = 1.0, sets: list[str] | None = None) -> Case:
        net = nn.Sequential(linear(INPUTS, HIDDEN, gain=gain), make(), linear(HIDDEN, CLASSES, gain=gain), make())
        return Case(net, lambda n: graph(n, INPUTS), run, sets or [])

    picture = nn.Sequential(
        layer.Conv2d(2, 4, 3, padding=1), neuron.IFNode(), layer.AvgPool2d(2, 2), layer.Conv2d(4, 6, 3),
        neuron.LIFNode(tau=2.0, decay_input=False), layer.Flatten(), layer.Linear(6 * 2 * 2, CLASSES), neuron.IFNode(),
    )  # fmt: skip
    layers: list[Any] = list(picture)
    with torch.no_grad():
        for k, gain in ((0, 1.0), (3, 3.0)):
            fan = layers[k].weight[0].numel()
            layers[k].weight.normal_(0.8 * gain / fan, gain * (8 / fan) ** 0.5 / 2)
        layers[6].weight.normal_(0.1, 0.5)
    return {
        "if": case(lambda: neuron.IFNode()),
        "lif": case(lambda: neuron.LIFNode(tau=3.0, v_threshold=0.5), gain=1.5),
        "lif-undecayed": case(lambda: neuron.LIFNode(tau=2.5, decay_input=False)),
        "lif-reset": case(lambda: neuron.LIFNode(tau=3.0, v_threshold=0.5, v_reset=-0.2), gain=1.5),
        "plif": case(lambda: neuron.ParametricLIFNode(init_tau=2.2, v_threshold=0.6), gain=1.5),
        "cuba": case(lambda: neuron.CUBALIFNode(c_decay=0.5, v_decay=0.8), gain=0.6),
        "conv": Case(picture, lambda n: graph(n, 2, SIDE, SIDE), run, picture=True),
    }


PEERS: dict[str, Callable[[], dict[str, Case]]] = {
    "norse": norse, "rockpool": rockpool, "sinabs": sinabs, "snntorch": snntorch, "spikingjelly": spikingjelly,
}  # fmt: skip


def stimulus(case: Case, samples: int = SAMPLES) -> Tensor:
    """Spikes at several rates [samples, ticks, ...]."""
    random = torch.Generator().manual_seed(1)
    shape = (2, SIDE, SIDE) if case.picture else (INPUTS,)
    rate = torch.rand(samples, 1, *shape, generator=random) * 0.6
    return (torch.rand(samples, TICKS, *shape, generator=random) < rate).float()


def trace(case: Case) -> dict[str, np.ndarray]:
    """What the peer computes."""
    x = stimulus(case)
    with torch.no_grad():
        y = case.run(case.net, x).detach().numpy()
    flat = x.reshape(*x.shape[:2], -1).numpy().astype(np.uint8)
    out = {"x_packed": np.packbits(flat, axis=1), "ticks": np.array(TICKS)}
    if case.values:
        out["output"] = y.reshape(SAMPLES, TICKS, -1).astype(np.float32)
    else:
        out["spikes"] = y.reshape(SAMPLES, TICKS, -1).astype(np.uint8)
    return out


def write(peer: str, path: Path, seed: int = 0) -> None:
    """All cases of a peer into one file, the same bytes each time."""
    told: dict[str, Any] = {}
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive, tempfile.TemporaryDirectory() as folder:
        for name, case in PEERS[peer]().items():
            arrays = trace(case)
            graph, data = Path(folder) / f"{name}.nir", Path(folder) / f"{name}.npz"
            nir.write(graph, case.graph(case.net), compression=None)
            np.savez(data, **arrays)  # type: ignore[arg-type]
            for file in (graph, data):
                archive.writestr(zipfile.ZipInfo(file.name), file.read_bytes(), zipfile.ZIP_LZMA)
            told[name] = {"sets": case.sets}
            sent = arrays["output" if case.values else "spikes"]
            print(peer, name, "mean", round(float(sent.mean()), 3), "largest", round(float(sent.max()), 3))
        text = json.dumps(told, indent=1, sort_keys=True) + "\n"
        archive.writestr(zipfile.ZipInfo("cases.json"), text, zipfile.ZIP_LZMA)


if __name__ == "__main__":
    write(sys.argv[1], Path(sys.argv[2]), *(int(s) for s in sys.argv[3:]))
