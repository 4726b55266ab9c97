"""Cooperating streams: what the builder wires, the losses, and training on targets and on transmissions."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
import torch

from apical.sw import encodings, golden, losses, train
from apical.sw.cooperative import cell, cooperative, parameters, transmissions
from apical.sw.data import Data, errors
from apical.sw.laws import Format, LeakyIntegrator, Relu, TwoPoint
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.train import Settings, TrainingError

torch.set_num_threads(1)
ALL = ("proximal", "distal", "universal")


def inputs(*sizes: int) -> list[Input]:
    return [Input(f"stream{n}", size, Format(6), unit=8.0) for n, size in enumerate(sizes)]


def build(law: str = "two_point", seed: int = 0, **options: Any) -> Model:
    torch.manual_seed(seed)
    given = {"contexts": ALL, "encoding": {"kind": "signed", "bits": 6}, "read": 64, **options}
    return cooperative(inputs(5, 7), 2, 6, 3, law=law, **given)


def wiring(model: Model) -> set[tuple[str, str, str, int]]:
    return {(p.source, p.target, p.compartment, p.delay) for p in model.export().projections}


def test_every_context_goes_to_the_apical_compartment_with_its_delay() -> None:
    assert wiring(build()) >= {
        ("stream0", "stream0 1", "basal", 0),
        ("stream0 1", "stream0 2", "basal", 0),
        ("stream0 1", "stream0 1", "apical", 1),  # proximal
        ("stream1", "stream0 1", "apical", 0),  # distal, first layer
        ("stream1 1", "stream0 2", "apical", 0),  # distal, second layer
        ("memory", "stream0 2", "apical", 1),  # universal
        ("stream1 2", "memory", "basal", 0),
        ("stream1 2", "read-out", "basal", 0),
    }
    beside = wiring(build(contexts=("beside",)))
    assert ("stream1 2", "stream0 2", "apical", 1) in beside
    assert not any(delay for _, _, _, delay in wiring(build(contexts=("distal",))))


def test_the_point_baseline_has_the_same_weights_all_of_them_basal() -> None:
    two, point = build(), build("relu")
    ends = [{(a, b, d) for a, b, _, d in wiring(model)} for model in (two, point)]
    assert ends[0] == ends[1]
    assert {c for _, _, c, _ in wiring(point)} == {"basal"}
    assert parameters(two) - parameters(point) == 4 * 6  # one bias more in each of 24 cells


@pytest.mark.parametrize("law", ["two_point", "relu"])
def test_training_stays_in_float32_at_the_size_of_grid(law: str) -> None:
    model = cooperative(inputs(92, 160), 3, 88, 23, law=law, contexts=ALL)
    assert {p.dtype for p in (*model.cells.values(), *model.projections)} == {torch.float32}


@pytest.mark.parametrize("bits", [2, 3, 5, 8])
def test_events_have_the_bits_that_were_asked_for(bits: int) -> None:
    two, point = cell("two_point", bits), cell("relu", bits)
    assert isinstance(two, TwoPoint) and isinstance(point, Relu)
    assert two.value_range()[1] < 1 << bits == 1 + point.value_range()[1]
    assert two.value_range()[1] >= min(6 << max(bits - 3, 0), (1 << bits) - 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"law": "lif"}, r"^cooperative: law: expected 'two_point' or 'relu', got 'lif'$"),
        ({"value_bits": 9}, r"^cooperative: value_bits: expected 2 to 8, got 9$"),
        ({"contexts": ("distant",)}, r"^cooperative: contexts: expected some of .*, got 'distant'$"),
        ({"contexts": ()}, r"^cooperative: expected at least one input, layer and context, got 2 inputs, 2 layers"),
    ],
)
def test_options_that_make_no_network_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_one_stream_alone_has_no_distal_context() -> None:
    with pytest.raises(ValueError, match="one stream has no other"):
        cooperative(inputs(4), 1, 3, 2)
    assert cooperative(inputs(4), 1, 3, 2, contexts=("proximal",)).export().populations


def test_transmissions_are_events_times_fan_out() -> None:
    network = build().export()
    x = np.random.default_rng(0).integers(-20, 20, (3, 8, 12))
    trace = golden.run(network, x)
    found = transmissions(network, trace.counters, 3 * 8)
    expected = sum(
        int((trace.values[p.source][:, : 8 - p.delay] != 0).sum()) * p.weights.shape[0]
        for p in network.projections
        if p.source in trace.values
    )
    assert found["hidden"] == pytest.approx(expected / 24)
    fed = (x[..., :5] != 0).sum() * 12 + (x[..., 5:] != 0).sum() * 12
    assert found["input"] == pytest.approx(fed / 24)
    # proximal; basal and distal of the second layers; memory; into the memory and the read-out
    assert found["dense"] == 4 * 36 + 4 * 36 + 16 * 24 + 12 * (16 + 3)


def chain() -> Model:
    """Three cells onto two: a fan-out of 2."""
    source = Input("in", 2)
    cells, read = Population("cells", 3, Relu()), Population("read", 2, LeakyIntegrator(state_bits=16))
    return Model([source], [cells, read], [Dense(source, cells), Dense(cells, read)])


def test_the_penalty_counts_a_usual_event_as_its_fan_out_nearly_and_silence_as_nothing() -> None:
    sent = torch.tensor([[[4.0, 0.0, 0.0]], [[4.0, 4.0, 0.0]]])
    values = {"cells": sent, "read": torch.full((2, 1, 2), 9.0)}
    # each event counts tanh(4 / 2); three of them, fan-out 2, two ticks
    assert float(losses.transmissions(chain(), values)) == pytest.approx(1e-5 * 3 * 2 * math.tanh(2) / 2)
    assert float(losses.transmissions(chain(), {"cells": 0 * sent, "read": sent})) == 0


def test_squared_error_leaves_out_what_does_not_count() -> None:
    outputs, targets = torch.tensor([[[1.0, 3.0], [9.0, 9.0]]]), torch.zeros(1, 2, 2)
    assert float(losses.squared(outputs, targets, torch.tensor([[1.0, 0.0]]))) == 5
    assert float(losses.squared(outputs, targets, None)) == (5 + 81) / 2


def echoes(samples: int, seed: int) -> Data:
    """Targets: three sums over both streams' channels of this tick; the first tick doesn't count."""
    rng = np.random.default_rng(seed)
    images = rng.integers(64, 192, (samples, 6, 12)).astype(np.uint8)
    mix = np.random.default_rng(99).normal(0, 1, (12, 3))
    targets = ((images - 127.5) / 37 @ mix / math.sqrt(12)).astype(np.float32)
    counted = np.ones((samples, 6), bool)
    counted[:, 0] = False
    labels = np.zeros((samples, 6), np.int64)
    return Data(images, labels, np.arange(samples), "echoes", "train", counted, targets=targets)


SETTINGS = Settings(epochs=8, batch=16, learning_rate=0.01, weight_decay=0.01, loss="squared", seed=1)


def test_training_on_targets_learns_and_is_judged_as_golden_is() -> None:
    model, held = build(), echoes(40, 1)
    before = 1 - train.accuracy(model, held)
    fitted = train.fit(model, echoes(200, 0), held, SETTINGS, progress=False)
    network = model.export()
    assert network.encoding["target_unit"] == 64
    trace = golden.run(network, held.encode(network.encoding))
    assert 1 - fitted.accuracy == pytest.approx(errors(trace.outputs["read-out"], held, 64))
    assert 1 - fitted.accuracy < 0.6 < before


def test_the_penalty_makes_a_net_send_less() -> None:
    sent = {}
    for weight in (0.0, 3000.0):  # the net is small, so its transmissions are a tiny share of 100,000
        model, held = build(), echoes(40, 1)
        settings = dataclasses.replace(SETTINGS, transmissions=weight)
        train.fit(model, echoes(100, 0), held, settings, progress=False)
        network = model.export()
        counters = golden.run(network, held.encode(network.encoding)).counters
        sent[weight] = transmissions(network, counters, 240)["hidden"]
    assert sent[3000.0] < 0.6 * sent[0.0]


def test_data_without_targets_are_refused_by_the_squared_loss() -> None:
    data = dataclasses.replace(echoes(20, 0), targets=None)
    with pytest.raises(TrainingError, match=r"^data echoes:train: expected targets for the squared loss, got none$"):
        train.fit(build(), data, data, SETTINGS, progress=False)


def test_signed_events_are_the_difference_to_128() -> None:
    data = np.array([[[0, 124, 127, 128, 131, 132, 255]]], np.uint8)
    assert encodings.encode(data, {"kind": "signed", "bits": 6}).tolist() == [[[-32, -1, -1, 0, 0, 1, 31]]]
    made = encodings.Encoder({"kind": "signed", "bits": 6})(torch.from_numpy(data))
    assert made.tolist() == [[[-32, -1, -1, 0, 0, 1, 31]]]
