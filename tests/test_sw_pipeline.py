"""The demo: the whole job on real images, and the sentence it says."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sim import equivalence
from apical.sw import bundle, pipeline, zoo
from apical.sw.network import IntArray, Network


def test_the_sentence_counts_what_differs(lif: Network, make_input: Callable[..., IntArray]) -> None:
    from apical.sw import golden

    x = make_input(lif)
    trace = golden.run(lif, x)
    result = equivalence.CosimResult(
        equal=True, samples=4, mismatches=0, accuracy=None, accuracy_labelled=None, error=None,
        cycles_per_sample=1.0, cycles_per_tick=1.0, lane_utilization=0.5, utilization={},
        samples_per_second=1.0, engine="verilated", divergence=None,
        golden=trace, rtl=trace,
    )  # fmt: skip
    assert pipeline.sentence(result) == "equal: 4 of 4 samples, every tick, every counter"
    other = dataclasses.replace(result, equal=False, mismatches=1, divergence="sample 2, tick 3")
    assert pipeline.sentence(other) == "NOT equal: 3 of 4 samples; first divergence: sample 2, tick 3"


@pytest.mark.heavy
@pytest.mark.parametrize("pretrained", [True, False])
def test_the_demo_keeps_its_promises(
    apical: Callable[..., Any], tmp_path: Path, pretrained: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pretrained and not {s.recipe for s in pipeline.SYSTEMS} <= set(zoo.names()):
        pytest.skip("the zoo's bundles aren't in this checkout")
    monkeypatch.delenv("PRETRAINED", raising=False)
    words = ["--pretrained"] if pretrained else []
    ran = apical("demo", "-o", tmp_path / "out", "--samples", 50, *words)
    assert ran.status == 0, ran.err
    assert ran.out.count("equal: 50 of 50 samples, every tick, every counter\n") == 2
    for word in (
        "accuracy",
        "cycles per sample",
        "lane utilization",
        "area",
        "energy per sample",
        "bitstream",
        "report",
    ):
        assert word in ran.out
    assert (tmp_path / "out" / "report.html").stat().st_size > 100_000
    assert (tmp_path / "out" / f"bitstream-{pipeline.BOARD}" / "top.bit").stat().st_size > 10_000
    for system in pipeline.SYSTEMS:
        network = bundle.load(tmp_path / "out" / system.recipe)
        assert np.count_nonzero(network.projections[0].weights)
