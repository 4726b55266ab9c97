"""The zoo: what ships loads, and does what its recipe says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apical.sw import bundle, datasets, golden, zoo
from apical.sw.network import Network
from apical.sw.recipes import RECIPES
from apical.sw.zoo import ZooError

torch.set_num_threads(1)  # small tensors; threads that wait for each other on a busy machine cost minutes

MUST = {
    "ecg-srnn": 0.859,
    "ecg-srnn-4bit": 0.845,
    "grid-linear": 0.8,  # of nets that estimate: 1 - error
    "grid-mcc": 0.8,
    "grid-point": 0.8,
    "grid-point-sparse": 0.8,
    "mnist-conv": 0.988,
    "mnist-conv-gated": 0.986,
    "mnist-lif": 0.98,
    "mnist-lif-4bit": 0.977,
    "mnist-lif-ternary": 0.97,
    "spoken-digits": 0.8,
    "two-view-digits": 0.9,
}


def reached(facts: dict[str, Any], part: str) -> float:
    """Accuracy of a part, or 1 - error."""
    return float(facts[f"{part}_accuracy"]) if f"{part}_accuracy" in facts else 1 - float(facts[f"{part}_error"])


def same(network: Network, name: str, part: str) -> bool:
    """Are all figures of a part the stated ones?"""
    found = zoo.accuracies(network, datasets.load(f"{RECIPES[name].test}:{part}"))
    facts = zoo.describe(name)
    return {k: round(v, 5) for k, v in found.items()} == {k: facts[f"{part}_{k}"] for k in found}


def test_every_recipe_ships_a_bundle_and_every_bundle_has_a_recipe() -> None:
    assert zoo.names() == sorted(RECIPES) == sorted(MUST)


@pytest.mark.parametrize("name", sorted(MUST))
def test_a_bundle_is_small_and_tells_how_it_was_made(name: str) -> None:
    assert sum(f.stat().st_size for f in zoo.path(name).rglob("*") if f.is_file()) < 300_000
    facts = zoo.describe(name)
    assert facts["command"] == f"apical train {name} --seed {facts['seed']}"
    assert facts["epochs"] == RECIPES[name].settings.epochs
    assert reached(facts, "test") >= MUST[name]


@pytest.mark.parametrize("name", sorted(MUST))
def test_a_bundle_reaches_its_stated_accuracy_on_the_shipped_sample(name: str) -> None:
    assert same(zoo.load(name), name, "sample")


@pytest.mark.heavy
@pytest.mark.parametrize("name", sorted(MUST))
def test_a_bundle_reaches_its_stated_accuracy_on_the_whole_test_set(name: str) -> None:
    if not datasets.available(f"{RECIPES[name].test}:test"):
        pytest.skip("APICAL_DATA doesn't hold the data set")
    assert same(zoo.load(name), name, "test")


@pytest.mark.parametrize("name", sorted(MUST))
def test_a_bundle_has_the_structure_of_its_recipe(name: str) -> None:
    shipped, built = zoo.load(name), RECIPES[name].build().export()
    assert (shipped.inputs, shipped.encoding, shipped.decoder) == (built.inputs, built.encoding, built.decoder)
    for p, q in zip(shipped.populations, built.populations, strict=True):
        assert (p.name, p.size, p.law) == (q.name, q.size, q.law)
    for a, b in zip(shipped.projections, built.projections, strict=True):
        assert (a.name, a.weights.shape, a.weight_bits, a.delay) == (b.name, b.weights.shape, b.weight_bits, b.delay)


def test_mnist_images_stay_within_the_events_that_the_cycles_allow() -> None:
    network = zoo.load("mnist-lif")
    x = datasets.encode(datasets.load("mnist:sample"), network)
    assert np.count_nonzero(x) / len(x) < 1000


def test_both_views_matter() -> None:
    """Figures behind the bounds are in `datasets.two_views`; a blank apical view costs little, a wrong one much."""
    network, data = zoo.load("two-view-digits"), datasets.load("two-view-digits:sample")
    other = np.random.default_rng(0).permutation(len(data))

    def changed(view: int, images: np.ndarray | int) -> float:
        views = data.images.copy()
        views[:, view] = images
        return zoo.accuracy(network, datasets.Data(views, data.labels, data.index, data.name, data.split))

    whole = zoo.accuracy(network, data)
    assert changed(0, 0) < whole - 0.3
    assert changed(1, 0) < whole
    assert changed(1, data.images[other, 1]) < whole - 0.1


@pytest.mark.parametrize("name", ["mnist-lif", "two-view-digits"])
def test_quick_training_needs_no_data_and_writes_a_bundle(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("APICAL_DATA", raising=False)
    network = zoo.train(name, tmp_path / "out", seed=5, quick=True, epochs=2, progress=False)
    loaded = bundle.load(tmp_path / "out")
    assert bundle.identity(loaded) == bundle.identity(network)
    facts = bundle.load_recipe(tmp_path / "out")
    assert facts["command"] == f"apical train {name} --seed 5 --quick --epochs 2"
    data = datasets.load(f"{RECIPES[name].test}:sample").first(50)
    classes = golden.decode(loaded, golden.run(loaded, datasets.encode(data, loaded)))
    assert np.count_nonzero(classes == data.labels) > 10  # chance: 5


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "least"), [("mnist-lif", 0.9), ("two-view-digits", 0.7)])
def test_quick_training_reaches_a_sensible_accuracy(name: str, least: float, tmp_path: Path) -> None:
    zoo.train(name, tmp_path / "out", quick=True, progress=False)
    assert float(bundle.load_recipe(tmp_path / "out")["sample_accuracy"]) > least


def test_unknown_names_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ZooError, match=r"expected one of \[.*\], got 'mnist-gru'"):
        zoo.path("mnist-gru")
    with pytest.raises(ZooError, match=r"expected a recipe of \[.*\], got 'mnist-gru'"):
        zoo.train("mnist-gru", tmp_path / "out")
