"""Generated Verilog: deterministic, and free of a model's strings and of paths."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from apical.hw.accelerator import HardwareError
from apical.hw.design import HardwareOptions, Lanes, default_options
from apical.hw.verilog import generate
from apical.sw.laws import LeakyIntegrator, Lif
from apical.sw.network import Input, Network, Population, Projection

HOSTILE = 'x"; $finish; \\ {} [exec rm] `define é module'


def small(name: str = "hidden", delay: int = 0) -> Network:
    r = np.random.default_rng(5)
    one = np.array([1])
    return Network(
        (Input("in " + name, 12),),
        (
            Population(name, 8, Lif(), {"decay": 240 * one, "threshold": 30 * one, "bias": 0 * one}),
            Population("out " + name, 3, LeakyIntegrator(), {"decay": 250 * one, "bias": 0 * one}),
        ),
        (
            Projection("p " + name, "in " + name, name, r.integers(-20, 30, (8, 12))),
            Projection("q " + name, name, "out " + name, r.integers(-20, 30, (3, 8)), delay=delay),
        ),
        ("out " + name,),
        "last",
    )


def test_two_processes_generate_the_same_bytes() -> None:
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import test_hw_verilog as t\n"
        "n = t.small(); print(t.generate(n, t.default_options(n, monitor=True)).identity)"
    )
    from pathlib import Path

    runs = [
        subprocess.run(
            [sys.executable, "-c", code, str(Path(__file__).parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    ]
    n = small()
    assert runs[0] == runs[1] == generate(n, default_options(n, monitor=True)).identity + "\n"


def test_names_never_reach_the_text() -> None:
    plain, hostile = small("hidden"), small(HOSTILE)
    a, b = (generate(n, default_options(n, monitor=True)).verilog for n in (plain, hostile))
    assert a == b
    assert not re.search(r"hidden|finish|/|\\", re.sub(r"(//|/\*|\(\*).*", "", a).replace("\\$", "$").replace("\\", ""))


def test_no_paths_in_the_text() -> None:
    n = small()
    text = generate(n, default_options(n)).verilog
    assert "src" not in text and ".py" not in text


def test_a_different_weight_changes_the_identity() -> None:
    n = small()
    weights = n.projections[0].weights.copy()
    weights[0, 0] += 1
    changed = replace(n, projections=(replace(n.projections[0], weights=weights), n.projections[1]))
    assert generate(n, default_options(n)).identity != generate(changed, default_options(changed)).identity


@pytest.mark.parametrize(
    ("lanes", "message"),
    [
        (Lanes(8, 3), r"^population 'hidden': expected neuron lanes that divide 1 to 4096 synapse lanes, got 3 and 8$"),
        (Lanes(8, 4, 3), r"^population 'hidden': expected event lanes that are a power of two .* got 3$"),
        (Lanes(8, 2, 4), r"^population 'hidden': expected event lanes that .* divide 2 neuron lanes, got 4$"),
    ],
)
def test_impossible_lanes_are_refused_by_name(lanes: Lanes, message: str) -> None:
    with pytest.raises(HardwareError, match=message):
        generate(small(), HardwareOptions({"hidden": lanes, "out hidden": Lanes(3, 1)}))


def test_missing_and_unknown_populations_are_refused() -> None:
    with pytest.raises(HardwareError, match=r"^population 'out hidden': expected lanes, got none$"):
        generate(small(), HardwareOptions({"hidden": Lanes(8, 2)}))
    with pytest.raises(HardwareError, match=r"^lanes: no population 'ghost'; has \['hidden', 'out hidden'\]$"):
        generate(small(), HardwareOptions({"ghost": Lanes(8, 2)}))
