"""The trainable modules compute exactly what golden computes on their export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from apical.sw import golden
from apical.sw.arithmetic import Ops, V
from apical.sw.laws import LAWS, Format, Law, LeakyIntegrator, Lif, Parameter, Relu, TwoPoint
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.network import NetworkError

TICKS = 6
UNITS = {"lif": 1.0, "leaky_integrator": 10.0, "relu": 8.0, "two_point": 100.0, "toy_counting": 3.0}


@dataclass(frozen=True)
class Counting(Law):
    """Toy law, unknown to the package: counts up by its input, sends 3 and starts anew at 5 steps of its threshold."""

    name: ClassVar[str] = "toy_counting"

    def states(self) -> dict[str, Format]:
        return {"n": Format(12)}

    def parameters(self) -> dict[str, Parameter]:
        return {"threshold": Parameter(1, 400, "current", 1.0), "steps": Parameter(5, 5, "integer", 5.0)}

    def value_range(self) -> tuple[int, int]:
        return 0, 3

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        n = ops.clip(ops.add(state["n"], currents["basal"]), -2000, 2000)
        full = ops.ge(n, ops.mul(params["threshold"], params["steps"]))
        return {"n": ops.select(full, 0, n)}, ops.select(full, 3, 0)


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    ("lif", {}),
    ("lif", {"reset": "value", "compare": "ge", "state_bits": 10, "decay_bits": 5}),
    ("leaky_integrator", {}),
    ("leaky_integrator", {"shift": 4, "state_bits": 12}),
    ("relu", {"value_bits": 4, "shift": 5}),
    ("two_point", {}),
    ("two_point", {"fraction_bits": 4, "value_fraction_bits": 3, "shift": 3, "value_bits": 6}),
    ("toy_counting", {}),
]


def make(name: str, options: Mapping[str, Any]) -> Law:
    return Counting() if name == "toy_counting" else LAWS[name](**options)


def build(law: Law, *, bits: int, ternary: bool = False, recurrent: bool = False, seed: int = 0) -> Model:
    """4-bit and spike inputs, a hidden population of `law`, a read-out; optionally a loop over both."""
    torch.manual_seed(seed)
    graded, spikes = Input("graded", 7, Format(4, signed=False), unit=1 if ternary else 15), Input("spikes", 5)
    hidden = Population("hidden", 9, law, scale=1.5 if ternary else 40, unit=UNITS[law.name])
    read = Population(
        "read", 3, LeakyIntegrator(state_bits=18, shift=2), scale=1.5 if ternary else 30, unit=100, start={"decay": 0.8}
    )
    wide: dict[str, Any] = {"bits": bits, "ternary": ternary, "std": 0.9}
    projections = [Dense(graded, hidden, **wide), Dense(hidden, read, **wide)]
    for compartment in law.compartments[1:]:
        projections.append(Dense(spikes, hidden, compartment=compartment, **wide))
    projections.append(Dense(spikes, hidden, delay=2, name="late", **wide))
    if recurrent:
        projections.append(Dense(hidden, hidden, delay=1, **wide))
        projections.append(Dense(read, hidden, delay=3, name="feedback", **wide))
    model = Model([graded, spikes], [hidden, read], projections, outputs=["read", "hidden"], decoder="sum")
    with torch.no_grad():
        for key, latent in hidden.latent.items():
            if hidden.specs[key].unit != "integer":
                latent += 0.3 * torch.randn(latent.shape)
    return model


def stimulus(samples: int = 8, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    graded = rng.integers(0, 16, (samples, TICKS, 7)) * (rng.random((samples, TICKS, 7)) < 0.6)
    return np.concatenate([graded, rng.integers(0, 2, (samples, TICKS, 5))], axis=2)


def assert_equal(model: Model, x: np.ndarray) -> golden.Trace:
    trace = golden.run(model.export(), x)
    with torch.no_grad():
        values = model.activity(torch.from_numpy(x).float())
    for population, expected in trace.values.items():
        np.testing.assert_array_equal(values[population].double().numpy(), expected, err_msg=population)
    return trace


@pytest.mark.parametrize("recurrent", [False, True], ids=["forward", "recurrent"])
@pytest.mark.parametrize(("bits", "ternary"), [(8, False), (4, False), (2, True)], ids=["8", "4", "ternary"])
@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_forward_equals_golden_of_the_export(
    name: str, options: dict[str, Any], bits: int, ternary: bool, recurrent: bool
) -> None:
    for seed in range(3):
        model = build(make(name, options), bits=bits, ternary=ternary, recurrent=recurrent, seed=seed)
        trace = assert_equal(model, stimulus(seed=seed))
        if bits == 8:
            assert len(np.unique(trace.values["hidden"])) > 1, "a silent network proves nothing"


@pytest.mark.parametrize(("name", "options"), OPTIONS, ids=str)
def test_every_trained_parameter_and_weight_gets_a_gradient(name: str, options: dict[str, Any]) -> None:
    law = make(name, options)
    model = build(law, bits=8, recurrent=law.value_range()[1] <= 3)  # a loop of graded values saturates
    model.scores(model(torch.from_numpy(stimulus(64)).float())).square().sum().backward()  # type: ignore[no-untyped-call]
    for where, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None, where
            assert parameter.grad.abs().sum() > 0, where


def test_training_a_law_from_its_step_alone_lowers_the_loss() -> None:
    torch.manual_seed(1)
    pixels, hidden = Input("pixels", 12), Population("hidden", 16, Counting())
    read = Population("read", 2, LeakyIntegrator(), scale=16)
    model = Model([pixels], [hidden, read], [Dense(pixels, hidden), Dense(hidden, read)], decoder="sum")
    x = (torch.rand(64, 8, 12) < 0.5).float()
    labels = (x[:, :, :6].sum((1, 2)) > x[:, :, 6:].sum((1, 2))).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    losses = []
    for _ in range(80):
        loss = torch.nn.functional.cross_entropy(model.scores(model(x)) / 100, labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.6 * losses[0]
    assert_equal(model, x.numpy().astype(np.int64))


def test_wide_states_run_in_float64_and_stay_exact() -> None:
    pixels = Input("pixels", 40, Format(16, signed=False))
    deep = Population("deep", 6, LeakyIntegrator(state_bits=32, decay_bits=16), scale=30000, start={"decay": 0.999})
    small = Population("small", 4, Lif())
    model = Model([pixels], [deep, small], [Dense(pixels, deep, bits=12, std=1e3), Dense(pixels, small)])
    assert (deep.dtype, small.dtype) == (torch.float64, torch.float64)  # sums reach 40 * 65535 * 128 > 2^24
    x = np.random.default_rng(3).integers(0, 1 << 16, (4, 20, 40))
    trace = golden.run(model.export(), x)
    with torch.no_grad():
        y = model.activity(torch.from_numpy(x).double())
    np.testing.assert_array_equal(y["deep"].numpy(), trace.values["deep"])
    assert np.abs(trace.values["deep"]).max() > 1 << 24


def test_spike_networks_run_in_float32() -> None:
    pixels, cells = Input("pixels", 784), Population("cells", 10, Lif())
    Model([pixels], [cells], [Dense(pixels, cells)])
    assert cells.dtype is torch.float32


def test_sums_beyond_float64_are_refused() -> None:
    pixels = Input("pixels", 1 << 10, Format(40, signed=False))
    cells = Population("cells", 1, Relu())
    with pytest.raises(NetworkError, match=r"^projection 'pixels to cells': values can reach \d+, beyond float64"):
        Model([pixels], [cells], [Dense(pixels, cells, bits=16)])


def test_ternary_weights_are_minus_one_zero_or_one_and_export_as_two_bits() -> None:
    model = build(Lif(), bits=2, ternary=True)
    for projection in model.export().projections:
        assert projection.weight_bits == 2
        assert set(np.unique(projection.weights)) == {-1, 0, 1}


def test_clamp_keeps_latent_weights_within_the_integers_reach() -> None:
    pixels, cells = Input("pixels", 30), Population("cells", 10, Lif(), scale=100)
    dense = Dense(pixels, cells, bits=4, std=5)
    model = Model([pixels], [cells], [dense])
    before = dense.weight().detach().clone()
    model.clamp_()
    assert float(dense.latent.detach().abs().max()) < 8.5 / 100
    assert torch.equal(before, dense.weight().detach())


def test_shared_parameters_have_one_value_and_fixed_ones_stay() -> None:
    cells = Population("cells", 5, Lif(), shared=["decay"], fixed=["threshold"], start={"decay": 1.0})
    exported = cells.export()
    assert exported.params["decay"].tolist() == [256]
    assert exported.params["threshold"].shape == (5,)
    assert not cells.latent["threshold"].requires_grad


def test_start_states_are_kept() -> None:
    pixels = Input("pixels", 4)
    cells = Population("cells", 3, LeakyIntegrator(), initial={"v": np.array([5, -7, 100])}, start={"decay": 0.5})
    model = Model([pixels], [cells], [Dense(pixels, cells)])
    trace = assert_equal(model, np.zeros((2, 3, 4), np.int64))
    assert trace.values["cells"][0, 0].tolist() == [2, -4, 50]


def test_scores_follow_the_decoder() -> None:
    pixels, cells = Input("pixels", 4), Population("cells", 3, Relu(shift=0), start={"bias": 0.1})
    y = {"cells": torch.tensor([[[0.0, 2, 5], [4, 0, 1]]])}
    expected = {"sum": [4, 2, 6], "last": [4, 0, 1], "rate": [1, 1, 2]}
    for decoder, scores in expected.items():
        model = Model([pixels], [cells], [Dense(pixels, cells)], decoder=decoder)
        assert model.scores(y).tolist() == [scores]
    with pytest.raises(ValueError, match="has no decoder"):
        Model([pixels], [cells], [Dense(pixels, cells)]).scores(y)


def test_errors_name_what_is_wrong() -> None:
    pixels, cells = Input("pixels", 4), Population("cells", 3, TwoPoint())
    with pytest.raises(NetworkError, match="compartment 'apical' has no projection"):
        Model([pixels], [cells], [Dense(pixels, cells)])
    with pytest.raises(ValueError, match=r"population 'p': start: no parameter 'tau'; has \['bias'\]"):
        Population("p", 3, Relu(), start={"tau": 1.0})
    with pytest.raises(ValueError, match=r"projection 'pixels to cells': expected 2 to 16 bits, got 1"):
        Dense(pixels, cells, bits=1)
    point = Population("point", 3, Relu())
    model = Model([pixels], [point], [Dense(pixels, point)])
    with pytest.raises(ValueError, match=r"expected shape \[batch, ticks, 4\], got \[2, 3, 5\]"):
        model(torch.zeros(2, 3, 5))


def test_decays_by_shifts_take_the_nearest_level_and_train() -> None:
    cells = Population("a", 3, Lif(decay_bits=4, leak="shift"))
    cells.latent["decay"].data = torch.logit(torch.tensor([0.80, 0.86, 0.99]))  # 12.8, 13.8, 15.8 of 16
    decay = cells.parameter("decay")
    assert decay.tolist() == [12.0, 14.0, 16.0]
    decay.sum().backward()  # type: ignore[no-untyped-call]
    assert bool((cells.latent["decay"].grad != 0).all())
    assert cells.export().params["decay"].tolist() == [12, 14, 16]
