"""Convolution layers: their forward pass is golden's, whatever the shapes; pools, normalization and folding."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
import torch

from apical.sw import bundle, golden
from apical.sw.conv_layers import Conv, Norm, Pool, fold, geometry, load
from apical.sw.geometry import GeometryError, Shape
from apical.sw.laws import Format, Lif, Relu
from apical.sw.layers import Dense, Input, Model, Population

GRADED = Format(4, signed=False)


def cells(name: str, shape: Shape, **more: object) -> Population:
    given = {"law": Relu(value_bits=4, shift=3), "scale": 64.0, "unit": 8.0, **more}
    return Population(name, math.prod(shape), shape=shape, **given)  # type: ignore[arg-type]


def events(model: Model, ticks: int = 2, samples: int = 5) -> torch.Tensor:
    random = torch.Generator().manual_seed(1)
    parts = [
        torch.randint(0, i.node.value_range[1] + 1, (samples, ticks, i.size), generator=random) for i in model.inputs
    ]
    return torch.cat(parts, 2).float()


def same_as_golden(model: Model, ticks: int = 2) -> golden.Trace:
    x = events(model, ticks)
    with torch.no_grad():
        values = model.activity(x)
    trace = golden.run(model.export(), x.to(torch.int64).numpy())
    for name, y in values.items():
        np.testing.assert_array_equal(y.numpy(), trace.values[name], err_msg=name)
    return trace


def small_net(kind: str = "relu", **conv: object) -> Model:
    """conv, average pool, depthwise conv, dense."""
    torch.manual_seed(3)
    spiking = {"law": Lif(), "unit": 1.0} if kind == "lif" else {}
    source = Input("in", 2 * 9 * 8, GRADED, 4.0, (2, 9, 8))
    g = geometry(source.shape, 6, 3, **conv)  # type: ignore[arg-type]
    first = cells("first", g.target, **spiking)
    pooled = cells("pooled", (6, g.target[1] // 2, g.target[2] // 2), law=Relu(value_bits=4, shift=0), unit=1.0)
    deep = cells("deep", pooled.shape or (0, 0, 0), **spiking)
    out = Population("out", 3, Relu(value_bits=8, shift=2))
    wires = [
        Conv(source, first, 3, **conv),  # type: ignore[arg-type]
        Pool(first, pooled, 2),
        Conv(pooled, deep, 3, padding=1, groups=6, std=0.8),
        Dense(deep, out),
    ]
    return Model([source], [first, pooled, deep, out], wires, decoder="sum")


@pytest.mark.parametrize("kind", ["relu", "lif"])
@pytest.mark.parametrize(
    "conv", [{}, {"stride": 2, "padding": 1}, {"dilation": 2}, {"groups": 2}, {"stride": (2, 1), "padding": (0, 2)}]
)
def test_training_forward_is_golden(kind: str, conv: dict[str, object]) -> None:
    trace = same_as_golden(small_net(kind, **conv))
    assert all((y != 0).any() for y in trace.values.values())


def test_gradients_reach_every_kernel() -> None:
    model = small_net()
    model(events(model))["out"].sum().backward()
    for wire in (model.projections[0], model.projections[2]):
        assert float(wire.latent.grad.abs().sum()) > 0  # type: ignore[union-attr, operator]


def test_a_recurrent_convolution_is_golden() -> None:
    torch.manual_seed(0)
    source = Input("in", 25, shape=(1, 5, 5))
    map_ = cells("map", (2, 5, 5), law=Lif(), unit=1.0)
    wires = [Conv(source, map_, 3, padding=1, std=1.0), Conv(map_, map_, 3, padding=1, delay=2, name="back")]
    trace = same_as_golden(Model([source], [map_], wires), ticks=6)
    assert trace.counters["projection back: events"]


def test_dense_and_convolution_add_up_in_one_map() -> None:
    torch.manual_seed(0)
    source, flat = Input("in", 25, GRADED, 4.0, (1, 5, 5)), Input("flat", 3, GRADED, 4.0)
    map_ = cells("map", (2, 5, 5))
    same_as_golden(Model([source, flat], [map_], [Conv(source, map_, 3, padding=1), Dense(flat, map_)]))


def test_parameters_of_a_map_are_one_per_channel() -> None:
    model = small_net()
    assert model.export().populations[0].params["bias"].shape == (6,)


def test_a_map_survives_its_bundle(tmp_path: object) -> None:
    from pathlib import Path

    network = small_net(stride=2).export()
    bundle.save(network, Path(str(tmp_path)) / "net")
    again = bundle.load(Path(str(tmp_path)) / "net")
    assert bundle.identity(again) == bundle.identity(network)
    assert [p.geometry for p in again.projections] == [p.geometry for p in network.projections]


def test_an_average_is_a_sum_and_a_shift() -> None:
    source = Input("in", 16, GRADED, 1.0, (1, 4, 4))
    mean = Population("mean", 4, Relu(value_bits=4, shift=2), shape=(1, 2, 2))
    model = Model([source], [mean], [Pool(source, mean, 2)])
    x = events(model)
    expected = torch.nn.functional.avg_pool2d(x.reshape(-1, 1, 4, 4), 2).floor().reshape(5, 2, 4)
    assert torch.equal(model(x)["mean"], expected)


def test_a_maximum_of_spikes_is_exact() -> None:
    source = Input("in", 32, shape=(2, 4, 4))
    most = Population("most", 8, Relu(value_bits=1, shift=0), shape=(2, 2, 2))
    model = Model([source], [most], [Pool(source, most, 2, maximum=True)])
    x = events(model) * (torch.rand(5, 2, 32, generator=torch.Generator().manual_seed(0)) < 0.2)
    expected = torch.nn.functional.max_pool2d(x.reshape(-1, 2, 4, 4), 2).reshape(5, 2, 8)
    assert torch.equal(model(x)["most"], expected) and 0 < float(expected.mean()) < 1


def test_a_maximum_of_graded_values_is_refused() -> None:
    source = Input("in", 16, GRADED, 1.0, (1, 4, 4))
    most = Population("most", 4, Relu(value_bits=1, shift=0), shape=(1, 2, 2))
    message = "pool 'in' to 'most': expected spikes for a maximum, got values 0 to 15"
    with pytest.raises(GeometryError, match=f"^{re.escape(message)}.*use an average .* convolution with a stride$"):
        Pool(source, most, 2, maximum=True)


def test_a_target_of_another_shape_is_refused() -> None:
    source = Input("in", 16, GRADED, 1.0, (1, 4, 4))
    with pytest.raises(
        GeometryError, match=r"^conv 'in' to 'm': expected a target of shape \(1, 2, 2\), got \(1, 3, 3\)$"
    ):
        Conv(source, cells("m", (1, 3, 3)), 3)


def normalized() -> tuple[Model, Conv]:
    torch.manual_seed(0)
    source = Input("in", 2 * 36, GRADED, 8.0, (2, 6, 6))
    map_ = cells("map", (4, 6, 6))
    conv = Conv(source, map_, 3, padding=1, norm=True)
    return Model([source], [map_], [conv]), conv


def test_a_normalized_convolution_is_exported_as_its_running_statistics_compute_it() -> None:
    model, conv = normalized()
    for _ in range(30):
        model(events(model)).popitem()[1].sum().backward()
    assert isinstance(conv.norm, Norm) and float(conv.norm.mean.abs().max()) > 0.05
    same_as_golden(model)


def test_a_frozen_normalization_trains_what_is_exported() -> None:
    model, conv = normalized()
    model(events(model))
    assert isinstance(conv.norm, Norm)
    conv.norm.frozen = True
    x = events(model)
    values = model(x)["map"]
    assert values.requires_grad
    np.testing.assert_array_equal(values.detach().numpy(), golden.run(model.export(), x.long().numpy()).values["map"])


def test_normalized_sums_have_the_batch_s_mean_and_deviation() -> None:
    model, conv = normalized()
    model.real = True
    assert isinstance(conv.norm, Norm)
    x = events(model, samples=50)
    model(x)
    factor, shift = conv.norm.fold()
    maps = torch.nn.functional.conv2d(x.reshape(-1, 2, 6, 6) / 8, conv.latent * factor[:, None, None, None], padding=1)
    sums = (maps + shift[:, None, None]).detach()
    torch.testing.assert_close(sums.mean((0, 2, 3)), torch.zeros(4), atol=1e-4, rtol=0)
    torch.testing.assert_close(sums.std((0, 2, 3)), torch.ones(4), atol=1e-2, rtol=0)


def test_a_folded_torch_layer_computes_the_same() -> None:
    torch.manual_seed(0)
    conv, norm = torch.nn.Conv2d(2, 4, 3), torch.nn.BatchNorm2d(4)
    x = torch.rand(8, 2, 6, 6)
    for _ in range(5):
        norm(conv(x))
    torch.nn.init.uniform_(norm.weight), torch.nn.init.uniform_(norm.bias)
    norm.eval()
    weight, bias = fold(conv.weight, conv.bias, norm)
    torch.testing.assert_close(torch.nn.functional.conv2d(x.double(), weight, bias).float(), norm(conv(x)))


def test_loaded_weights_round_to_the_float_layer() -> None:
    torch.manual_seed(0)
    source = Input("in", 2 * 36, GRADED, 15.0, (2, 6, 6))
    map_ = cells("map", (4, 4, 4), law=Relu(value_bits=10, shift=3), scale=2000.0, unit=250.0)
    conv = Conv(source, map_, 3)
    float_conv = torch.nn.Conv2d(2, 4, 3)
    assert 0 < load(conv, map_, float_conv.weight, float_conv.bias) < 1  # type: ignore[arg-type]
    model = Model([source], [map_], [conv])
    x = events(model)
    expected = float_conv(x.reshape(-1, 2, 6, 6) / 15).relu().reshape(5, 2, -1) * 250
    assert float((model(x)["map"] - expected).detach().abs().max()) < 8 < float(expected.detach().max()) / 10
