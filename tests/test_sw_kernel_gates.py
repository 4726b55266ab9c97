"""Gates of kernels: their integers spelled out, training, bundles, energy, and what is refused."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apical.sw import bundle, energy, golden
from apical.sw.conv_layers import Conv, geometry
from apical.sw.data import Data
from apical.sw.gate_layers import HARD, KernelGate
from apical.sw.geometry import Geometry, GeometryError
from apical.sw.laws import Format, Lif, Relu
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.network import Gate, Network, NetworkError, Projection
from apical.sw.network import Input as InputNode
from apical.sw.network import Population as Cells
from apical.sw.train import Settings, TrainingError, fit

GRADED = Format(4, signed=False)


def by_hand(window: int = 1, **changes: Any) -> Network:
    """Two source channels of 1 x 2, four target channels that add up both positions of channel 0."""
    g = Geometry((2, 1, 2), 4, (1, 2))
    weights = np.zeros(g.weights_shape, np.int64)
    weights[:, 0] = np.array([1, 2, 3, 4]).reshape(4, 1, 1)
    cells = Cells("map", 4, Relu(value_bits=8, shift=0), {"bias": np.array([5])}, shape=(4, 1, 1))
    wire = Projection("p", "in", "map", weights, pattern="conv", geometry=g)
    # Group 0 (channels 0, 1) opens for more than 6 in channel 1; group 1 where channel 0 is below 4.
    gate = Gate("in", "map", np.array([[[0, 1], [-1, 0]]]), np.array([[-6, 4]]), window)
    given: dict[str, Any] = {"gates": (gate,), **changes}
    return Network((InputNode("in", 4, GRADED, (2, 1, 2)),), (cells,), (wire,), ("map",), **given)


def test_a_gate_by_hand() -> None:
    x = np.array([[[1, 2, 3, 4], [3, 1, 3, 3], [0, 0, 6, 0], [0, 0, 0, 7]]])
    trace = golden.run(by_hand(), x)
    # Sums of channel 1: 7, 6, 6, 7; of channel 0: 3, 4, 0, 0. Above 6, below 4: both, none, group 1, both.
    expected = [[5 + 3, 5 + 6, 5 + 9, 5 + 12], [0, 0, 0, 0], [0, 0, 5, 5], [5, 5, 5, 5]]
    assert trace.values["map"][0].tolist() == expected
    assert trace.counters == {
        "projection p: events": 10,
        "projection p: synapses": 4 * 4 + 0 * 4 + 1 * 2 + 1 * 4,
        "population map: events": 10,
        "population map: updates": 4 + 0 + 2 + 4,
        "gate map: events": 10,
        "gate map: windows": 4,
        "gate map: on": 5,
    }


def test_a_window_adds_up_its_ticks_and_a_short_one_ends_the_sample() -> None:
    x = np.array([[[0, 0, 3, 0], [4, 0, 4, 0], [0, 0, 0, 6]]])
    values = golden.run(by_hand(window=2), x).values["map"][0]
    assert values.tolist() == [[5, 5, 0, 0], [9, 13, 0, 0], [0, 0, 5, 5]]


def test_what_is_off_begins_anew() -> None:
    """A cell without leak counts; off in tick 1, it has forgotten tick 0."""
    g = Geometry((1, 1, 1), 1, (1, 1))
    law = Lif()
    params = {"decay": np.array([256]), "threshold": np.array([100]), "bias": np.array([0])}
    cells = Cells("map", 1, law, params, {"v": np.array([10])}, (1, 1, 1))
    wire = Projection("p", "in", "map", np.ones((1, 1, 1, 1), np.int64), pattern="conv", geometry=g)
    gate = Gate("in", "map", np.array([[[1]]]), np.array([[0]]))
    network = Network((InputNode("in", 1, GRADED, (1, 1, 1)),), (cells,), (wire,), ("map",), gates=(gate,))
    trace = golden.run(network, np.array([[[3], [4], [0], [5]]]), states=True)
    assert trace.states["map"]["v"].ravel().tolist() == [13, 17, 0, 15]


def model(*, spiking: bool = False, window: int = 1, gain: float | tuple[float, ...] = 1.0) -> Model:
    torch.manual_seed(2)
    source = Input("in", 72, GRADED, shape=(2, 6, 6))
    law, unit = (Lif(), 1.0) if spiking else (Relu(value_bits=4, shift=3), 8.0)

    def cells(name: str, shape: tuple[int, int, int]) -> Population:
        return Population(name, math.prod(shape), law, scale=64.0, unit=unit, shape=shape)

    first = cells("first", geometry(source.shape, 8, 3, 1, 1).target)
    second = cells("second", (6, 1, 1))
    out = Population("out", 3, Relu(value_bits=8, shift=2))
    wires = [Conv(source, first, 3, padding=1, std=0.6), Conv(first, second, 6), Dense(second, out)]
    gates = [
        KernelGate(source, first, groups=4, window=window, gain=gain, bias=0.0, std=2.0),
        KernelGate(first, second, window=window, gain=gain, bias=0.0, std=2.0),
    ]
    return Model([source], [first, second, out], wires, decoder="sum", gates=gates)


def images(samples: int, ticks: int) -> torch.Tensor:
    random = torch.Generator().manual_seed(3)
    bright = torch.rand(samples, ticks, 2, 1, generator=random)
    return (torch.rand(samples, ticks, 2, 36, generator=random) * bright * 16).floor().reshape(samples, ticks, 72)


@pytest.mark.parametrize("spiking", [False, True])
@pytest.mark.parametrize("window", [1, 3])
def test_training_forward_is_golden(spiking: bool, window: int) -> None:
    net, x = model(spiking=spiking, window=window), images(12, 4)
    with torch.no_grad():
        values = net.activity(x)
    trace = golden.run(net.export(), x.to(torch.int64).numpy())
    for name, y in values.items():
        np.testing.assert_array_equal(y.numpy(), trace.values[name], err_msg=name)
    for gate in net.export().gates:
        share = trace.counters[f"gate {gate.target}: on"] / trace.counters[f"gate {gate.target}: windows"] / gate.groups
        assert 0.05 < share < 0.95


def test_hard_gates_train_what_is_exported() -> None:
    net, x = model(), images(6, 1)
    for gate in net.gate_of.values():
        gate.schedule(HARD)
    values = net.activity(x)
    trace = golden.run(net.export(), x.to(torch.int64).numpy())
    np.testing.assert_array_equal(values["second"].detach().numpy(), trace.values["second"])
    values["out"].sum().backward()  # type: ignore[no-untyped-call]
    for gate in net.gate_of.values():
        assert gate.latent.grad is not None and float(gate.latent.grad.abs().sum()) > 0


def test_soft_gates_open_by_degrees_and_cost() -> None:
    net = model(gain=3.0)
    gate = net.gate_of["first"]
    gate.schedule(0.0)
    net.activity(images(6, 1))
    soft = float(gate.used.detach())  # type: ignore[union-attr]
    assert 0 < soft < 1 and float(gate.loss().detach()) == pytest.approx(1.5 * soft)
    gate.schedule(1.0)
    assert not gate.soft and gate.sharpness == 20


def test_operating_points_share_the_weights() -> None:
    net, x = model(gain=(1.0, 4.0)), images(8, 1)
    network = net.export()
    assert network.points == 2
    runs = [golden.run(network.at(p), x.to(torch.int64).numpy()) for p in (0, 1)]
    assert (runs[0].values["first"] != runs[1].values["first"]).any()
    net.point = 1
    with torch.no_grad():
        np.testing.assert_array_equal(net(x)["out"].numpy(), runs[1].values["out"])
    with pytest.raises(NetworkError, match="expected gates of as many points, and one of them in effect"):
        network.at(2)


def test_gates_survive_their_bundle(tmp_path: Path) -> None:
    network = model(gain=(1.0, 2.0), window=3).export().at(1)
    identity = bundle.save(network, tmp_path / "net")
    again = bundle.load(tmp_path / "net")
    assert bundle.identity(again) == identity and again.point == 1
    for a, b in zip(again.gates, network.gates, strict=True):
        assert (a.source, a.target, a.window, a.weight_bits) == (b.source, b.target, b.window, b.weight_bits)
        np.testing.assert_array_equal(a.weights, b.weights)
        np.testing.assert_array_equal(a.bias, b.bias)


def test_a_bundle_without_gates_keeps_its_identity() -> None:
    network = replace(by_hand(), gates=())
    document, _ = bundle._describe(network, {})
    assert "gates" not in document and "point" not in document


def test_energy_counts_decisions_and_leaves_out_what_is_off() -> None:
    x = np.array([[[0, 0, 3, 3]]] * 2)  # 6 in channel 1: group 1 alone is on
    network = by_hand()
    counts, plain = (energy.counts(n, golden.run(n, x)) for n in (network, replace(network, gates=())))
    assert plain["synaptic_operation"] == 2 * 2 * 4 and counts["synaptic_operation"] == 2 * 2 * 2
    assert counts["weight_read"] == 2 * 2 * 2 + 2 * 2 * 2  # of the kernel; of the gate, 2 groups x 2 channels
    assert counts["law_update:relu"] == 4 and plain["law_update:relu"] == 8
    assert counts["event_sent"] == 4


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target": "in"}, "gate of 'in': no such population"),
        ({"source": "none"}, "no source 'none'"),
        ({"weights": np.zeros((1, 2, 3), np.int64)}, "expected weights of 2 channels of 'in', got 3"),
        (
            {"weights": np.zeros((1, 3, 2), np.int64), "bias": np.zeros((1, 3), np.int64)},
            "expected groups that divide 4 channels, got 3",
        ),
        ({"bias": np.zeros((1, 3), np.int64)}, "expected a bias of shape (1, 2), got (1, 3)"),
        ({"window": 0}, "expected a window of 1 to 65536 ticks, got 0"),
        ({"weights": np.full((1, 2, 2), 200)}, "expected weights of 8 bits, got 200 to 200"),
        ({"source": "map", "weights": np.zeros((1, 2, 4), np.int64)}, "part of a loop"),
    ],
)
def test_gates_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=re.escape(message)):
        by_hand(gates=(replace(by_hand().gates[0], **change),))


def test_what_cannot_be_gated_is_refused() -> None:
    network = by_hand()
    with pytest.raises(NetworkError, match="comes twice"):
        replace(network, gates=network.gates * 2)
    late = replace(network.projections[0], name="q", delay=1)
    with pytest.raises(
        NetworkError, match="expected convolutions of delay 0 and one group onto it, got 'q': conv, delay 1"
    ):
        replace(network, projections=(*network.projections, late))
    with pytest.raises(GeometryError, match="expected a target with a shape"):
        KernelGate(Input("in", 3), Population("flat", 3, Relu()))


def test_ticks_come_by_whole_windows() -> None:
    machine = golden.Machine(by_hand(window=2))
    x = np.ones((1, 3, 4), np.int64)
    machine.push(x[:, :2])
    machine.push(x)
    with pytest.raises(NetworkError, match="expected ticks by whole windows of its gates, 2"):
        machine.push(x)


def test_the_loss_closes_gates() -> None:
    net, x = model(gain=2.0), images(16, 1)
    optimizer = torch.optim.SGD([p for gate in net.gate_of.values() for p in gate.parameters()], lr=2.0)

    def opened() -> float:
        trace = golden.run(net.export(), x.to(torch.int64).numpy())
        return trace.counters["gate first: on"] / trace.counters["gate first: windows"] / 4

    before = opened()
    for _ in range(60):
        net.activity(x)
        optimizer.zero_grad()
        sum(gate.loss() for gate in net.gate_of.values()).backward()  # type: ignore[union-attr]
        optimizer.step()
    assert opened() < before / 2


def test_parts_that_cut_windows_are_refused() -> None:
    data = Data(np.zeros((8, 4, 72), np.uint8), np.zeros(8, np.int64), np.arange(8), "none", "train")
    net = model(window=3)
    net.encoding = {"kind": "events"}
    with pytest.raises(TrainingError, match="part: expected a multiple of 3 ticks, the window of the gate of 'first'"):
        fit(net, data, data, Settings(1, 8, part=2), progress=False)
