"""Competitive plasticity: what each rule selects, by hand, and the compiled learner against the wrapper."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from torch import nn

from apical.sw import plasticity
from apical.sw.plasticity import Plastic, Rule
from apical.sw.plasticity_online import DivergedError, Online

RULES = {
    "plain": Rule(),
    "rule 1": Rule(fraction=0.1),
    "rule 1, many": Rule(fraction=0.5),
    "rule 1, one": Rule(fraction=0.001),
    "rule 2": Rule(subnet=3),
    "rule 3": Rule(fraction=0.2, subnet=4),
    "random": Rule(fraction=0.1, select="random"),
    "weight": Rule(fraction=0.1, select="weight"),
    "lazy": Rule(lazy=0.2),
    "caching": Rule(cache=0.02),
    "all together": Rule(fraction=0.3, subnet=5, lazy=0.1, cache=0.01),
}
SAMPLES, INPUTS, CELLS, OUTPUTS = 60, 12, 40, 3


def digits(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of few values, so that changes tie, and many blacks."""
    random = np.random.default_rng(seed)
    labels = random.integers(0, OUTPUTS, SAMPLES)
    images = random.choice(np.array([0, 0, 51, 255], np.uint8), (SAMPLES, INPUTS))
    images[np.arange(SAMPLES), labels] = 255  # so that there is something to learn
    return images, labels


def wrapped(online: Online, images: np.ndarray, labels: np.ndarray, rate: float) -> tuple[nn.Module, Plastic]:
    """The same start, samples and rule through PyTorch's own gradients and optimizer."""
    model = online.module()
    optimizer = torch.optim.SGD(model.parameters(), lr=rate)
    plastic = Plastic(model, optimizer, online.rule)
    x = torch.from_numpy(images).double() / 255
    y = torch.from_numpy(labels)
    for n in range(len(labels)):
        optimizer.zero_grad()
        out = model(x[n : n + 1])
        if plastic.skips(out, y[n : n + 1]):
            continue
        (0.5 * (out - nn.functional.one_hot(y[n : n + 1], OUTPUTS)).square().sum()).backward()
        plastic.step()
    return model, plastic


@pytest.mark.parametrize("name", RULES)
def test_the_compiled_learner_is_the_wrapper(name: str) -> None:
    images, labels = digits()
    online = Online(INPUTS, CELLS, OUTPUTS, RULES[name], 0.1, std=0.3, dtype=torch.float64)
    model, plastic = wrapped(online, images, labels, 0.1)
    before = online.module()
    order = np.arange(SAMPLES)
    online.learn(images, labels, order[:25])
    online.learn(images, labels, order[25:])
    expected, found = plastic.finish(), online.measured()
    for ours, theirs, start in zip(online.module().parameters(), model.parameters(), before.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)  # sums in another order, nothing else
        assert ours.ndim == 1 or not torch.equal(ours, start)
    for a, b in zip(found, expected, strict=True):
        for key, value in dataclasses.asdict(b).items():
            if key != "name":
                assert getattr(a, key) == pytest.approx(value, rel=1e-9), key
    assert (online.samples, online.skipped) == (plastic.steps, plastic.skipped)
    assert online.skipped > 0 or RULES[name].lazy is None


def proposing(
    rule: Rule, deltas: list[list[float]], weights: list[list[float]] | None = None
) -> tuple[nn.Linear, Plastic]:
    """A layer without bias whose next update is given."""
    delta = torch.tensor(deltas)
    layer = nn.Linear(delta.shape[1], delta.shape[0], bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights) if weights else torch.zeros_like(delta))
    plastic = Plastic(layer, torch.optim.SGD(layer.parameters(), lr=1.0), rule)
    layer.weight.grad = -delta
    return layer, plastic


def test_the_largest_updates_are_taken_and_ties_by_index() -> None:
    layer, plastic = proposing(Rule(fraction=0.5), [[0.0, -3.0, 2.0], [2.0, 1.0, 2.0]])
    plastic.step()
    assert layer.weight.tolist() == [[0.0, -3.0, 2.0], [2.0, 0.0, 0.0]]
    (found,) = plastic.finish()
    assert (found.updates, found.change, found.dense_updates) == (3, 7.0, 6)


def test_the_weight_control_takes_the_largest_weights_among_the_candidates() -> None:
    layer, plastic = proposing(Rule(fraction=0.5, select="weight"), [[0.0, 1.0], [1.0, 1.0]], [[9.0, -5.0], [1.0, 4.0]])
    plastic.step()
    assert layer.weight.tolist() == [[9.0, -4.0], [1.0, 5.0]]


def test_the_random_control_draws_anew_and_evenly() -> None:
    index = torch.arange(1000)
    drawn = torch.stack([plasticity.scatter(step, 0, index, 0).argsort()[:100] for step in range(200)])
    times = torch.bincount(drawn.flatten(), minlength=1000)
    assert times.sum() == 20_000 and 4 < times.float().std() < 5  # binomial: sqrt(200 · 0.1 · 0.9) = 4.2
    assert not torch.equal(plasticity.scatter(0, 0, index, 0), plasticity.scatter(0, 1, index, 0))


def test_an_inefficiency_is_what_there_and_back_costs() -> None:
    layer, plastic = proposing(Rule(), [[1.0, 2.0]])
    plastic.step()
    layer.weight.grad = torch.tensor([[1.0, -1.0]])
    plastic.step()
    (found,) = plastic.finish()
    assert (found.updates, found.change, found.minimal_updates, found.minimal_change) == (4, 5.0, 1, 3.0)
    assert found.inefficiency == pytest.approx((4.0, 5 / 3))


def test_caching_counts_consolidations_and_what_is_held() -> None:
    layer, plastic = proposing(Rule(cache=1.5), [[1.0, 0.5]])
    plastic.step()  # holds 1, 0.5
    plastic.step()  # 2 is consolidated; holds 1
    assert layer.weight.tolist() == [[2.0, 1.0]]
    (before,) = [dataclasses.replace(layer.measured) for layer in plastic.layers]
    assert (before.updates, before.change, before.held) == (1, 2.0, 2.5)
    (found,) = plastic.finish()
    assert (found.updates, found.change) == (2, 3.0)


def test_lazy_learns_where_the_margin_isnt_exceeded() -> None:
    _, plastic = proposing(Rule(lazy=0.5), [[1.0]])
    outputs = torch.tensor([[1.0, 0.25, 0.0]])
    assert plastic.skips(outputs, torch.tensor([0]))
    assert not plastic.skips(outputs, torch.tensor([1]))
    assert not plastic.skips(torch.tensor([[0.75, 0.25, 0.0]]), torch.tensor([0]))
    assert (plastic.steps, plastic.skipped) == (1, 1)


def test_the_last_layer_may_change_as_many_synapses_as_the_one_before() -> None:
    assert Rule(fraction=0.001).fractions([784_000, 10_000]) == [0.001, pytest.approx(0.0784)]
    assert Rule(fraction=0.1).fractions([784_000, 784_000, 10_000]) == [0.1, 0.1, 1.0]


def test_a_subnet_is_a_path_through_convolutions_too() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(4 * 4, 6), nn.Linear(6, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    plastic = Plastic(model, optimizer, Rule(subnet=2))
    before = [p.clone() for p in model.parameters()]
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.rand(5, 1, 4, 4)).square().sum().backward()
        plastic.step()
    changed = [p != q for p, q in zip(model.parameters(), before, strict=True)]
    assert [int(c.sum()) for c in changed] == [2 * 9, 2, 2 * 8, 2, 2 * 2, 2]
    assert bool(changed[0][:2].all()) and bool(changed[2][:2, :8].all()) and bool(changed[4][:, :2].all())


def test_masks_hold_in_models_that_are_no_chain() -> None:
    model = nn.RNN(3, 4)
    mask = torch.zeros(4, 4)
    mask[0] = 1
    plastic = Plastic(model, torch.optim.SGD(model.parameters(), lr=1.0), Rule(), masks={"weight_hh_l0": mask})
    recurrent = dict(model.named_parameters())["weight_hh_l0"]
    before = recurrent.detach().clone()
    model(torch.rand(5, 1, 3))[0].sum().backward()
    plastic.step()
    assert torch.equal(recurrent.detach() != before, mask != 0)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ({"fraction": 0.0}, "fraction: expected a number above 0"),
        ({"subnet": 0}, "subnet: expected at least 1"),
        ({"select": "best"}, "select: expected one of"),
        ({"lazy": -1.0}, "lazy: expected at least 0"),
        ({"cache": math.nan}, "cache: expected at least 0"),
    ],
)
def test_a_rule_out_of_range_is_refused(rule: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=f"^rule: {message}"):
        Rule(**rule)  # type: ignore[arg-type]


def test_what_the_wrapper_cant_hold_is_refused() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(5, 2))
    plain = torch.optim.SGD(model.parameters(), lr=1.0)
    with pytest.raises(ValueError, match="expected the 4 cells of the layer before"):
        Plastic(model, plain, Rule(subnet=2))
    with pytest.raises(ValueError, match="without weight decay"):
        Plastic(model, torch.optim.SGD(model.parameters(), lr=1.0, weight_decay=0.1), Rule())
    with pytest.raises(ValueError, match=r"mask '0.weight': expected \[4, 3\], got shape \[4\]"):
        Plastic(model, plain, Rule(), masks={"0.weight": torch.ones(4)})
    with pytest.raises(ValueError, match="it has none of them"):
        Plastic(nn.Linear(2, 2), plain, Rule())


def test_what_the_learner_cant_read_is_refused() -> None:
    online = Online(INPUTS, CELLS, OUTPUTS, Rule(), 0.1)
    images, labels = digits()
    with pytest.raises(ValueError, match=r"images: expected shape \(60, 12\), got \(60, 11\)"):
        online.learn(np.ascontiguousarray(images[:, 1:]), labels, np.arange(3))
    with pytest.raises(ValueError, match="order: expected 0 to 59, got 0 to 60"):
        online.learn(images, labels, np.arange(61))
    with pytest.raises(ValueError, match="images: expected 2 contiguous axes of uint8"):
        online.learn(images.astype(np.float32), labels, np.arange(3))


@pytest.mark.parametrize("name", ["plain", "rule 1", "random", "all together"])
def test_learning_that_runs_away_stops(name: str) -> None:
    images, labels = digits()
    online = Online(INPUTS, CELLS, OUTPUTS, RULES[name], 30.0)
    with pytest.raises(DivergedError, match=r"^online learner: sample \d+: expected outputs below 1e6"):
        for _ in range(200):
            online.learn(images, labels, np.arange(SAMPLES))
