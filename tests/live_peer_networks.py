"""Networks that only the importers of live modules can take: their own exporters lose or refuse something."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from make_peer_traces import CLASSES, HIDDEN, INPUTS, SAMPLES, Case, conv, linear, norse, rockpool, sinabs, spikingjelly
from torch import Tensor, nn


def live_norse() -> dict[str, Case]:
    """What its exporter can't write: a recurrent cell, a soft reset."""
    import norse.torch as norse_
    from norse.torch.functional.lif import LIFParameters
    from norse.torch.functional.lif_box import LIFBoxParameters
    from norse.torch.functional.reset import reset_subtract
    from norse.torch.module.lif import LIFRecurrentCell
    from norse.torch.module.lif_box import LIFBoxCell

    run = norse()["box"].run
    p = LIFParameters(tau_syn_inv=torch.tensor(300.0), tau_mem_inv=torch.tensor(200.0), v_th=torch.tensor(0.8))
    box = LIFBoxCell(
        LIFBoxParameters(tau_mem_inv=torch.tensor(150.0), v_th=torch.tensor(0.6), reset_method=reset_subtract)
    )
    loop = norse_.SequentialState(LIFRecurrentCell(INPUTS, HIDDEN, p), linear(HIDDEN, CLASSES, gain=4.0), box)
    return {"recurrent": Case(loop, lambda n: None, run)}


def live_rockpool() -> dict[str, Case]:
    """What its exporter drops: recurrent weights."""
    from rockpool.nn.combinators import Sequential
    from rockpool.nn.modules import LIFTorch, LinearTorch

    run = rockpool()["lif"].run
    given = linear(INPUTS, HIDDEN)
    back = torch.randn(HIDDEN, HIDDEN) * 0.1
    tau = {"tau_mem": torch.full((HIDDEN,), 0.01), "tau_syn": torch.full((HIDDEN, 1), 0.003)}
    cell = LIFTorch((HIDDEN,), **tau, threshold=torch.full((HIDDEN,), 2.0), has_rec=True, w_rec=back, dt=1e-3)
    dense = LinearTorch((INPUTS, HIDDEN), weight=given.weight.T.detach(), bias=given.bias.detach(), has_bias=True)
    return {"recurrent": Case(Sequential(dense, cell), lambda n: None, run)}


def live_sinabs() -> dict[str, Case]:
    """What its exporter refuses or loses: recurrent cells, a synapse, a convolution of several layers."""
    import sinabs.layers as sl

    run = sinabs()["lif"].run
    theta = {"spike_threshold": torch.tensor(0.5)}
    loop = sl.LIFRecurrent(tau_mem=8.0, rec_connect=linear(HIDDEN, HIDDEN, False, 0.3), **theta)
    synapse = sl.LIF(tau_mem=8.0, tau_syn=3.0, **theta)
    plain = sl.LIF(tau_mem=8.0, tau_syn=3.0, norm_input=False, spike_threshold=torch.tensor(4.0))
    one: dict[str, Any] = {"batch_size": 1}  # its layers between convolutions take samples and ticks as one axis
    picture = nn.Sequential(
        conv(2, 4, 3, 0.7, padding=1), sl.IAFSqueeze(**one), sl.SumPool2d(2), conv(4, 6, 3, 0.5),
        sl.IAFSqueeze(min_v_mem=-1.0, **one), nn.Flatten(), linear(6 * 2 * 2, CLASSES, gain=0.5), sl.IAFSqueeze(**one),
    )  # fmt: skip

    def by_sample(net: Any, x: Tensor) -> Tensor:
        out = []
        for k in range(SAMPLES):
            for layer in net:
                if isinstance(layer, sl.StatefulLayer):
                    layer.reset_states()
            out.append(net(x[k]).detach())
        return torch.stack(out)

    return {
        "recurrent": Case(nn.Sequential(linear(INPUTS, HIDDEN, gain=2.5), loop), lambda n: None, run),
        "synapse": Case(nn.Sequential(linear(INPUTS, HIDDEN, gain=2.5), synapse), lambda n: None, run),
        "synapse-plain": Case(nn.Sequential(linear(INPUTS, HIDDEN), plain), lambda n: None, run),
        "conv": Case(picture, lambda n: None, by_sample, picture=True),
    }


def live_spikingjelly() -> dict[str, Case]:
    """What its exporter refuses: soft resets."""
    from spikingjelly.activation_based import neuron

    run = spikingjelly()["if"].run

    def case(make: Callable[[], Any]) -> Case:
        net = nn.Sequential(
            linear(INPUTS, HIDDEN, gain=1.5),
            make(),
            linear(HIDDEN, CLASSES, gain=1.5),
            make(),
        )
        return Case(net, lambda n: None, run)

    return {
        "if-soft": case(lambda: neuron.IFNode(v_reset=None)),
        "lif-soft": case(lambda: neuron.LIFNode(tau=3.0, v_threshold=0.5, v_reset=None)),
        "cuba-soft": case(lambda: neuron.CUBALIFNode(v_reset=None)),
    }


CASES: dict[str, Callable[[], dict[str, Case]]] = {
    "norse": live_norse, "rockpool": live_rockpool, "sinabs": live_sinabs, "snntorch": dict,
    "spikingjelly": live_spikingjelly,
}  # fmt: skip
