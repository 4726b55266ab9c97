"""Float adaptive spiking networks: their authors' equations, our terms for them, calibration, the command."""

from __future__ import annotations

import json
import math
import pickle
import runpy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apical.sw import bundle, calibrate, datasets, fused, golden, srnn_import, tuning
from apical.sw.laws import AdaptiveLif, LeakyIntegrator, TwoPoint
from apical.sw.network import Input
from apical.sw.real_network import RealNetwork, RealPopulation, RealProjection
from apical.sw.rounding import compensated, moments
from apical.sw.srnn_import import LAYOUTS, SrnnError, State

TRAINED = Path(__file__).parent / "expected" / "srnn_ecg_float.pth"
SCRIPT = Path(__file__).parent / "make_float_srnn.py"


def random_state(name: str, inputs: int = 3, size: int = 5, classes: int = 4) -> State:
    """Weights and time constants under which cells of the layout spike at some rate."""
    random, state, below = np.random.default_rng(7), {}, inputs
    layout = LAYOUTS[name]
    for layer in layout.layers:
        n = classes if layer is layout.layers[-1] else size
        state[f"{layer.feed}.weight"] = random.normal(0.4, 0.6, (n, below))
        state[f"{layer.feed}.bias"] = random.normal(0, 0.05, n)
        if layer.back:
            state[f"{layer.back}.weight"] = random.normal(0, 0.4, (n, n))
            state[f"{layer.back}.bias"] = random.normal(0, 0.05, n)
        state[f"tau_m_{layer.tau}"] = random.uniform(2, 30, n)
        state[f"tau_adp_{layer.tau}"] = random.uniform(5, 100, n)
        below = n
    return state


def spikes(samples: int, ticks: int, channels: int, seed: int = 0) -> np.ndarray:
    return (np.random.default_rng(seed).random((samples, ticks, channels)) < 0.3).astype(np.int64)


def test_the_authors_equations_on_a_hand_worked_cell() -> None:
    """One input, one LIF cell that feeds itself, one adaptive output; alpha = rho = 1/2, b0 = 1, beta = 2."""
    half = np.array([1 / math.log(2)])  # exp(-1/tau) = 1/2
    one, none = np.array([[1.0]]), np.zeros(1)
    state = {
        "i2h.weight": 4 * one, "i2h.bias": none, "h2h.weight": -2 * one, "h2h.bias": none,
        "h2o.weight": 6 * one, "h2o.bias": none, "tau_m_h": half, "tau_m_o": half, "tau_adp_o": half,
    }  # fmt: skip
    layout = replace(LAYOUTS["ecg"], b0=1.0, beta=2.0, eta=0.0, membrane=0.0)
    sent = srnn_import.float_run(state, layout, np.array([[[1], [1], [0], [0]]]))
    # hidden: u = 2 > 1 fires; 1 + (4-2)/2 - 1 = 1, not above 1; 1/2; 1/4
    assert sent["hidden"][0, :, 0].tolist() == [1, 0, 0, 0]
    # output: u = 3 > 1 fires; eta 1/2, theta 2: 3/2 - 2 = -1/2; then halves
    assert np.allclose(sent["output"][0, :, 0], [3, -0.5, -0.25, -0.125])


@pytest.mark.parametrize("name", sorted(LAYOUTS))
def test_our_terms_are_the_authors_equations(name: str) -> None:
    state, x = random_state(name), spikes(3, 60, 3)
    theirs = srnn_import.float_run(state, LAYOUTS[name], x)
    ours, _ = srnn_import.real_network(state, LAYOUTS[name]).run(x)
    for layer in LAYOUTS[name].layers[:-1]:
        assert 0.02 < theirs[layer.name].mean() < 0.98
        assert np.array_equal(ours[layer.name], theirs[layer.name])
    assert np.allclose(ours["output"], theirs["output"], atol=1e-5)


def test_the_layout_is_told_from_the_names() -> None:
    for name in LAYOUTS:
        assert srnn_import.layout_of(random_state(name)) == name
    state = random_state("ecg")
    del state["h2o.bias"]
    with pytest.raises(SrnnError, match=r"^layout ecg: expected arrays \['h2o\.bias'\], got \['h2h\.bias'"):
        srnn_import.layout_of(state)


def test_read_takes_state_dicts_and_npz_alike(tmp_path: Path) -> None:
    state = srnn_import.read(TRAINED)
    np.savez(tmp_path / "net.npz", **state)  # type: ignore[arg-type]
    again = srnn_import.read(tmp_path / "net.npz")
    assert set(again) == set(state) and all(np.array_equal(again[k], state[k]) for k in state)


class Module:
    """Something that only unpickling could open."""


def test_read_refuses_what_it_cant_trust(tmp_path: Path) -> None:
    with pytest.raises(SrnnError, match="got no such file"):
        srnn_import.read(tmp_path / "none.pth")
    path = tmp_path / "module.pth"
    torch.save(Module(), path)
    with pytest.raises(SrnnError, match=r"expected a state dict .* not a pickled module"):
        srnn_import.read(path)
    torch.save({"h2h": 3}, path)
    with pytest.raises(SrnnError, match="expected a state dict of tensors, got dict"):
        srnn_import.read(path)
    torch.save({"h2h.weight": torch.tensor([math.nan])}, path)
    with pytest.raises(SrnnError, match=r"h2h\.weight: expected finite numbers"):
        srnn_import.read(path)
    with (tmp_path / "objects.npz").open("wb") as stream:
        pickle.dump({"a": 1}, stream)
    with pytest.raises(SrnnError, match=r"objects\.npz: expected an \.npz file"):
        srnn_import.read(tmp_path / "objects.npz")


def test_a_wrong_shape_is_named() -> None:
    state = random_state("ecg")
    state["h2h.weight"] = state["h2h.weight"][:, :4]
    with pytest.raises(SrnnError, match=r"^h2h\.weight: expected shape \(5, 5\), got \(5, 4\)$"):
        srnn_import.real_network(state, LAYOUTS["ecg"])


def test_a_growing_cell_is_refused_or_clamped() -> None:
    state = random_state("ecg")
    state["tau_m_h"][2] = -40.0
    with pytest.raises(SrnnError, match=r"^tau_m_h: expected time constants above 0, got -40 of neuron 2 \(1 of 5"):
        srnn_import.real_network(state, LAYOUTS["ecg"])
    clamped = srnn_import.real_network(state, LAYOUTS["ecg"], clamp=True)
    decays = clamped.population("hidden").params["decay"]
    assert decays[2] == 1 and (np.delete(decays, 2) < 1).all()


def test_time_constants_without_effect_may_be_anything() -> None:
    """The hidden cells of the ECG script don't adapt, yet its file holds (and its training moves) their tau_adp."""
    state = random_state("ecg")
    state["tau_adp_h"][:] = -1
    assert not srnn_import.real_network(state, LAYOUTS["ecg"]).population("hidden").params["adaptation"].any()


def test_constants_of_the_script_can_be_given() -> None:
    layout = srnn_import.with_constants(LAYOUTS["ecg"], 0.1, None)
    assert (layout.b0, layout.beta, layout.start) == (0.1, 1.8, 0.05)
    with pytest.raises(SrnnError, match=r"^b0: expected a number above 0, got 0$"):
        srnn_import.with_constants(LAYOUTS["ecg"], 0, None)


def test_read_outs_decide_as_the_scripts_do() -> None:
    membranes = np.zeros((1, 13, 2))
    membranes[0, 0] = [9, 0]  # a tick that the SHD script doesn't count
    membranes[0, 11] = [3, 0]
    membranes[0, 12] = [0, 0.1]
    assert srnn_import.decide(LAYOUTS["ecg"], membranes)[0].tolist() == [0] * 12 + [1]
    assert srnn_import.decide(LAYOUTS["shd"], membranes).tolist() == [0]
    membranes[0, 11] = [0, 0.1]
    assert srnn_import.decide(LAYOUTS["shd"], membranes).tolist() == [1]
    assert srnn_import.decide(LAYOUTS["smnist"], (membranes > 0.05).astype(float)).tolist() == [1]


@pytest.fixture(scope="module")
def trained() -> tuple[RealNetwork, calibrate.Calibrated]:
    real = srnn_import.real_network(srnn_import.read(TRAINED), LAYOUTS["ecg"])
    return real, calibrate.calibrate(real, datasets.load("ecg-qtdb:sample-train").images[:8])


def test_the_imported_network_decides_as_the_float_one(trained: tuple[RealNetwork, calibrate.Calibrated]) -> None:
    _, done = trained
    data = datasets.load("ecg-qtdb:sample")
    theirs = srnn_import.float_run(srnn_import.read(TRAINED), LAYOUTS["ecg"], data.images)["output"].argmax(2)
    ours = golden.decode(done.network, golden.run(done.network, data.images))
    assert ours is not None
    assert (ours == theirs).mean() > 0.93
    before, after = data.truth.accuracy(theirs), data.truth.accuracy(ours)
    assert before is not None and after is not None
    assert before > 0.8 and abs(before - after) < 0.01


def test_cells_that_spike_have_their_own_scale_and_compared_membranes_share_one(
    trained: tuple[RealNetwork, calibrate.Calibrated],
) -> None:
    _, done = trained
    assert np.unique(done.scales["hidden"]).size > 18
    assert np.unique(done.scales["output"]).size == 1
    assert all(np.abs(p.weights).max() <= 128 and p.weight_bits == 8 for p in done.network.projections)


def test_what_is_rounded_everywhere_is_golden(trained: tuple[RealNetwork, calibrate.Calibrated]) -> None:
    _, done = trained
    x = datasets.load("ecg-qtdb:sample").images[:3]
    rounded = done.steps.rounded(weights=True, fractions=True, currents=True)
    values = rounded.run(x, floor=True)[0]
    expected = golden.run(done.network, x).values
    assert all(np.array_equal(values[name], expected[name]) for name in expected)


def test_costs_name_each_rounding(trained: tuple[RealNetwork, calibrate.Calibrated]) -> None:
    real, done = trained
    x = datasets.load("ecg-qtdb:sample").images[:2, :600]
    found = {c.rounded: c for c in calibrate.costs(real, done, x, lambda values: float(values[0, -1, 0]))}
    assert found["nothing"].error == 0
    assert all(0 < found[what].error < 0.2 for what in found.keys() - {"nothing"})
    last = golden.run(done.network, x).outputs["output"][0, -1, 0]
    assert found["all"].score == last / done.scales["output"][0]


def test_fewer_weight_bits_cost_more() -> None:
    x = datasets.load("ecg-qtdb:sample-train").images[:2, :400]
    errors = []
    for bits in (4, 8):
        real = srnn_import.real_network(srnn_import.read(TRAINED), LAYOUTS["ecg"], bits=bits)
        done = calibrate.calibrate(real, x)
        errors.append(next(c.error for c in calibrate.costs(real, done, x) if c.rounded == "weights"))
    assert errors[0] > 2 * errors[1]


def test_a_membrane_that_would_overflow_lowers_the_scale() -> None:
    real = srnn_import.real_network(srnn_import.read(TRAINED), LAYOUTS["ecg"], state_bits=10)
    x = datasets.load("ecg-qtdb:sample-train").images[:2, :600]
    done = calibrate.calibrate(real, x)
    roomy = srnn_import.real_network(srnn_import.read(TRAINED), LAYOUTS["ecg"])
    trace = golden.run(done.network, x, states=True)
    assert np.abs(trace.states["output"]["v"]).max() < 511
    assert done.scales["output"][0] < calibrate.calibrate(roomy, x).scales["output"][0]


def test_the_trainable_model_starts_as_the_calibrated_network(
    trained: tuple[RealNetwork, calibrate.Calibrated],
) -> None:
    _, done = trained
    model = tuning.trainable(done)
    assert bundle.identity(model.export()) == bundle.identity(done.network)
    fixed = [name for name, p in model.named_parameters() if not p.requires_grad]
    assert len(fixed) == 2  # the hidden cells' adaptation, which they don't have


def test_calibration_wants_a_bias() -> None:
    zeros = np.zeros(2)
    cell = RealPopulation("cells", 2, TwoPoint(), {"bias_basal": zeros, "bias_apical": zeros})
    wires = tuple(RealProjection(c, "in", "cells", np.ones((2, 3)), compartment=c) for c in ("basal", "apical"))
    network = RealNetwork((Input("in", 3),), (cell,), wires, ("cells",))
    with pytest.raises(ValueError, match=r"^population 'cells': calibration needs a law with a bias, got two_point$"):
        calibrate.calibrate(network, spikes(1, 4, 3))


def test_a_real_network_checks_its_graph() -> None:
    law = LeakyIntegrator()
    ones = np.ones(2)
    cell = RealPopulation("a", 2, law, {"decay": ones, "bias": ones})
    with pytest.raises(ValueError, match=r"^population 'a': parameter 'decay' is missing$"):
        RealPopulation("a", 2, law, {"bias": ones})
    with pytest.raises(ValueError, match=r"^population 'a', parameter 'bias': expected 2 finite numbers"):
        RealPopulation("a", 2, law, {"decay": ones, "bias": ones * np.nan})
    source = Input("in", 3)
    for wire, message in (
        (RealProjection("w", "in", "a", np.ones((3, 2))), r"expected weights of shape \(2, 3\), got \(3, 2\)"),
        (RealProjection("w", "a", "a", np.ones((2, 2))), "without delay it must point forward"),
        (RealProjection("w", "a", "a", np.ones((2, 2)), 1), "expected spikes from 'a', got graded events of leaky"),
        (RealProjection("w", "in", "b", np.ones((2, 3))), r"expected ends of \['a', 'in'\], got 'in' to 'b'"),
    ):
        with pytest.raises(ValueError, match=f"^projection 'w': {message}"):
            RealNetwork((source,), (cell,), (wire,), ("a",))


def test_the_command_imports_and_compares(apical: Callable[..., Any], tmp_path: Path) -> None:
    ran = apical(
        "import", str(TRAINED), "-o", str(tmp_path / "net"), "--samples", "4", "--check", "ecg-qtdb:sample", "--json"
    )
    answer = json.loads(ran.out)
    network = bundle.load(tmp_path / "net")
    assert answer["identity"] == bundle.identity(network)
    assert network.decoder == "tick" and network.encoding == {"kind": "events"}
    assert answer["loss_points"] == pytest.approx(100 * (answer["float_accuracy"] - answer["accuracy"]))
    assert answer["costs"]["all"]["accuracy"] == answer["accuracy"] == answer["calibrated_accuracy"]
    assert bundle.load_recipe(tmp_path / "net")["accuracy"] == answer["accuracy"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--source", "tea"],
            "--source: expected one of srnn, nir, snntorch, norse, sinabs, rockpool, spikingjelly, got 'tea'",
        ),
        (["--layout", "tea"], "--layout: expected one of ecg, shd, smnist, got 'tea'"),
        (["--layout", "shd"], "expected array 'i_2_h1.weight', got"),
        (["--calibrate", "mnist:sample"], "--calibrate mnist:sample: expected 4 channels, got shape [500, 28, 28]"),
        (["--calibrate", "none.npz"], "--calibrate none.npz: no such file"),
        (["--tune", "1"], "--tune: expected --calibrate of ["),
    ],
)
def test_the_command_says_what_it_expected(
    apical: Callable[..., Any], tmp_path: Path, arguments: list[str], message: str
) -> None:
    ran = apical("import", str(TRAINED), "-o", str(tmp_path / "net"), "--samples", "1", *arguments)
    assert ran.status == 2 and message in ran.err
    assert not (tmp_path / "net").exists()


@pytest.mark.skipif(not fused.available(torch.device("cpu")), reason="no g++")
def test_the_script_that_made_the_float_network_computes_the_same_equations() -> None:
    script = runpy.run_path(str(SCRIPT))
    state = srnn_import.read(TRAINED)
    x = datasets.load("ecg-qtdb:sample").images[:2, :200]
    with torch.no_grad():
        tensors = {name: torch.from_numpy(array).float() for name, array in state.items()}
        ours = script["Net"]()(tensors, torch.from_numpy(x).float()).numpy()
    assert set(script["initial"]()) == set(state)
    assert np.allclose(ours, srnn_import.float_run(state, LAYOUTS["ecg"], x)["output"], atol=1e-4)


@pytest.mark.heavy
@pytest.mark.skipif(not datasets.available("ecg-qtdb:test"), reason="APICAL_DATA doesn't hold the ECG set")
def test_import_loses_at_most_half_a_point_of_141_sequences(apical: Callable[..., Any], tmp_path: Path) -> None:
    ran = apical("import", str(TRAINED), "-o", str(tmp_path / "net"), "--check", "ecg-qtdb:test", "--json")
    answer = json.loads(ran.out)
    assert answer["samples"] == 141
    assert answer["float_accuracy"] > 0.84
    assert answer["loss_points"] <= 0.5


def adaptive(decay: float) -> RealPopulation:
    """One adaptive cell of this leak."""
    params = {k: np.zeros(1) for k in AdaptiveLif().parameters()}
    return RealPopulation("cell", 1, AdaptiveLif(), {**params, "decay": np.array([decay])})


def test_rounding_takes_errors_back() -> None:
    """Two sources that always fire together: what one weight loses the other gains."""
    events = np.repeat(spikes(4, 50, 1), 2, axis=2)
    second = moments(adaptive(0.9), events, [0, 0], None)
    factors = torch.tensor([[[1.4, 1.4, 0.0]]], dtype=torch.float64)
    ends = torch.full((3,), 127.0)
    assert compensated(factors, -ends, ends, second)[0, 0].tolist() == [1, 2, 0]


def test_rounding_clips_and_passes_on_what_is_cut() -> None:
    events = np.repeat(spikes(4, 50, 1), 2, axis=2)
    second = moments(adaptive(0.9), events, [0, 0], None)
    factors = torch.tensor([[[5.0, 1.0, 0.0]]], dtype=torch.float64)
    ends = torch.full((3,), 3.0)
    assert compensated(factors, -ends, ends, second)[0, 0].tolist() == [3, 3, 0]


def test_moments_are_those_of_low_passed_delayed_events() -> None:
    events, own = np.array([[[1], [0], [0]]]), np.array([[[0], [1], [0]]])
    # threshold: -own of the last tick, low-passed, -1: -1, -1, -2; weight, delay 1: 0, 1, 1/2; bias: 1, 3/2, 7/4
    signals = np.array([[-1, -1, -2], [0, 1, 0.5], [1, 1.5, 1.75]])
    found = moments(adaptive(0.5), events, [1], own)[0].numpy()
    assert np.allclose(found, signals @ signals.T / 3)
