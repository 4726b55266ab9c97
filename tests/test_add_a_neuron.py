"""The how-to "add a neuron in one file" is true: its file, taken from the page, gets everything it promises."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch

from apical.sim import law_check
from apical.sw import bundle, energy, golden
from apical.sw.arithmetic import Ops, TrainingOps, V
from apical.sw.laws import LAWS, Law

PAGE = Path(__file__).parent.parent / "docs" / "how-to" / "add-a-neuron.md"
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[Any]:
    """The page's file, imported as a user's own module."""
    file = tmp_path / "toy_law.py"
    file.write_text(BLOCKS[0], encoding="utf-8")
    spec = importlib.util.spec_from_file_location("toy_law", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_law"] = module
    spec.loader.exec_module(module)
    yield module
    del sys.modules["toy_law"]
    del LAWS["refractory_lif"]


def test_the_page_check_passes_as_printed(toy: Any) -> None:
    names = {"RefractoryLif": toy.RefractoryLif}
    exec(BLOCKS[1], names)  # the page's own code
    checked: Any = names["checked"]
    assert checked.networks == 2


def test_the_toy_law_is_silent_while_it_waits(toy: Any) -> None:
    model = law_check.model_of(toy.RefractoryLif(period=2), seed=0)
    network = model.export()
    x = np.ones((2, 20, network.input_size), np.int64)
    spikes = golden.run(network, x).values["cells"]
    assert spikes.any()
    for later in (1, 2):
        assert not (spikes[:, later:] & spikes[:, :-later]).any()


def test_the_toy_law_trains(toy: Any) -> None:
    model = law_check.model_of(toy.RefractoryLif(), seed=0)
    model(torch.ones(2, 6, 7))["cells"].sum().backward()
    gradient = model.projections[0].latent.grad
    assert isinstance(gradient, torch.Tensor)
    assert float(gradient.abs().sum()) > 0


def test_the_toy_law_goes_through_a_bundle_and_has_an_energy(toy: Any, tmp_path: Path) -> None:
    network = law_check.model_of(toy.RefractoryLif(period=5), seed=1).export()
    bundle.save(network, tmp_path / "net")
    again = bundle.load(tmp_path / "net")
    assert again.populations[0].law == toy.RefractoryLif(period=5)
    x = law_check.random_events(again, 2, 5, 0)
    counted = energy.counts(again, golden.run(again, x))
    assert counted["law_update:refractory_lif"] == 2 * 5 * 10


@dataclass(frozen=True)
class Float(Law):
    """A law with a defect that only training has: it divides."""

    name: ClassVar[str] = "test_float"

    def value_range(self) -> tuple[int, int]:
        return -(1 << 24), 1 << 24

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        half: Any = currents["basal"]
        return {}, ops.clip(half / 2 if isinstance(ops, TrainingOps) else ops.shift(half, 1), *self.value_range())


def test_a_law_that_differs_between_backends_is_caught() -> None:
    with pytest.raises(
        law_check.LawError, match=r"law test_float, .*'basal': -?1}.*: value: golden gives -?\d, training"
    ):
        law_check.check_step(Float())
