"""Wires between maps become kernels that compute the same, and what isn't a convolution stays dense."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from apical.sim import equivalence
from apical.sw import calibrate, golden, nir_check, nir_import, nir_maps, nir_read, nir_twin, tuning
from apical.sw.nir_wires import FloatNetwork
from apical.sw.real_network import RealNetwork

Tree = dict[str, Any]
random = np.random.default_rng(3)


def conv(given: int, taken: int, kernel: tuple[int, ...], **changed: Any) -> Tree:
    weight = random.normal(0.1, 0.4, (given, taken, *kernel))
    dims = len(kernel)
    options = {"stride": np.ones(dims, int), "padding": np.zeros(dims, int), "dilation": np.ones(dims, int)}
    kind = {"type": f"Conv{dims}d", "weight": weight, "bias": random.normal(0, 0.05, given), "groups": np.array(1)}
    return {**kind, **options, **{k: np.array(v) if not isinstance(v, str) else v for k, v in changed.items()}}


def pool(kind: str, kernel: int, stride: int, padding: int = 0) -> Tree:
    return {
        "type": kind,
        "kernel_size": np.full(2, kernel),
        "stride": np.full(2, stride),
        "padding": np.full(2, padding),
    }


def scale(values: Any) -> Tree:
    return {"type": "Scale", "scale": np.array(values, np.float64)}


def cell(*shape: int) -> Tree:
    return {"type": "IF", "r": np.full(shape, 1e4), "v_threshold": np.full(shape, 1.0), "v_reset": np.zeros(shape)}


def network(shape: tuple[int, ...], out: tuple[int, ...], *between: Tree) -> FloatNetwork:
    """Input, linear nodes, cells, output."""
    nodes: Tree = {"in": {"type": "Input", "shape": np.array(shape)}}
    nodes |= {f"n{k}": node for k, node in enumerate(between)}
    nodes |= {"cells": cell(*out), "out": {"type": "Output", "shape": np.array(out)}}
    edges = list(zip(nodes, list(nodes)[1:], strict=False))
    return nir_twin.of_graph(
        nir_read.graph_of({"node": {"type": "NIRGraph", "nodes": nodes, "edges": edges}}), "nir", 1e-4
    )


CASES: dict[str, tuple[FloatNetwork, tuple[int, int]]] = {
    "plain": (network((2, 6, 7), (4, 6, 7), conv(4, 2, (3, 3), padding=[1, 1])), (3, 3)),
    "groups, dilation, stride": (
        network((4, 9, 8), (6, 3, 2), conv(6, 2, (3, 3), groups=2, dilation=[2, 2], stride=[2, 2])), (3, 3),
    ),
    "even kernel, same": (network((2, 6, 6), (3, 6, 6), conv(3, 2, (4, 4), padding="same")), (5, 5)),
    "a line": (network((2, 12), (3, 5), conv(3, 2, (4,), stride=[2])), (1, 4)),
    "pool before": (network((2, 8, 8), (4, 4, 4), pool("SumPool2d", 2, 2), conv(4, 2, (3, 3), padding=[1, 1])), (6, 6)),
    "average behind": (network((2, 8, 8), (4, 3, 3), conv(4, 2, (3, 3)), pool("AvgPool2d", 2, 2)), (4, 4)),
    "pool of a depthwise one": (
        network((4, 8, 8), (4, 3, 3), conv(4, 1, (3, 3), groups=4), pool("SumPool2d", 2, 2)), (4, 4),
    ),
    "scales": (
        network((3, 5, 5), (4, 5, 5), scale(np.full((3, 1, 1), 2.0)), conv(4, 3, (3, 3), padding=[1, 1]), scale(0.5)),
        (3, 3),
    ),
    "two convolutions": (network((2, 9, 9), (3, 5, 5), conv(4, 2, (3, 3)), conv(3, 4, (3, 3))), (5, 5)),
}  # fmt: skip


def real(of: FloatNetwork, x: np.ndarray, **formats: int) -> RealNetwork:
    return nir_import.of_data(of, x, nir_import.Formats(**formats))


@pytest.mark.parametrize("case", CASES)
def test_a_wire_between_maps_is_one_kernel_that_fires_alike(case: str) -> None:
    of, size = CASES[case]
    x = np.random.default_rng(0).integers(0, 2, (3, 12, of.input_size))
    ours = real(of, x)
    (wire,) = ours.projections
    assert wire.geometry is not None and wire.geometry.kernel == size
    theirs = nir_twin.run(of, x)["cells"]
    assert 0.02 < (theirs != 0).mean() < 0.98
    assert nir_check.f1(ours.run(x)[0]["cells"], theirs) > 0.999


STAYS_DENSE: dict[str, FloatNetwork] = {
    "a border between": network((2, 7, 7), (3, 3, 3), pool("SumPool2d", 2, 2), conv(3, 2, (3, 3), padding=[1, 1])),
    "a scale of every place": network((2, 4, 4), (2, 4, 4), scale(np.arange(32.0).reshape(2, 4, 4) / 32)),
    "one position": network((2, 3, 3), (5, 1, 1), conv(5, 2, (3, 3))),
}


@pytest.mark.parametrize("case", STAYS_DENSE)
def test_what_is_no_convolution_is_a_matrix(case: str) -> None:
    of = STAYS_DENSE[case]
    x = np.random.default_rng(0).integers(0, 2, (3, 12, of.input_size))
    ours = real(of, x)
    assert [p.geometry for p in ours.projections] == [None]
    assert nir_check.f1(ours.run(x)[0]["cells"], nir_twin.run(of, x)["cells"]) > 0.999


def picture() -> FloatNetwork:
    """Convolution, pool and convolution, flat read-out."""
    nodes: Tree = {
        "in": {"type": "Input", "shape": np.array((2, 8, 8))},
        "c1": conv(4, 2, (3, 3), padding=[1, 1]), "a": cell(4, 8, 8), "p": pool("SumPool2d", 2, 2),
        "c2": conv(4, 4, (3, 3)), "b": cell(4, 2, 2),
        "f": {"type": "Flatten", "start_dim": np.array(0), "end_dim": np.array(-1)},
        "fc": {"type": "Linear", "weight": random.normal(0.1, 0.5, (5, 16))}, "d": cell(5),
        "out": {"type": "Output", "shape": np.array((5,))},
    }  # fmt: skip
    edges = list(zip(nodes, list(nodes)[1:], strict=False))
    return nir_twin.of_graph(
        nir_read.graph_of({"node": {"type": "NIRGraph", "nodes": nodes, "edges": edges}}), "nir", 1e-4
    )


def test_a_rounded_picture_net_has_kernels_and_its_hardware_computes_it(tmp_path: Path) -> None:
    of = picture()
    x = np.random.default_rng(1).integers(0, 2, (6, 14, of.input_size))
    ours = real(of, x, weight_bits=10)
    done = calibrate.calibrate(ours, x)
    assert [p.pattern for p in done.network.projections] == ["conv", "conv", "dense"]
    assert sum(p.weights.size for p in done.network.projections) == 4 * 2 * 9 + 4 * 4 * 36 + 80
    values = golden.run(done.network, x).outputs["d"]
    assert nir_check.f1(values, nir_twin.run(of, x)["d"]) > 0.93
    result = equivalence.cosim(done.network, x, workers=1)
    assert result.equal


def test_training_goes_on_from_the_rounded_maps() -> None:
    of = picture()
    x = np.random.default_rng(1).integers(0, 2, (10, 14, of.input_size))
    done = calibrate.calibrate(real(of, x), x[:4])
    model = tuning.trainable(done)
    with torch.no_grad():
        values = model(torch.tensor(x, dtype=torch.float32))["d"].numpy()
    assert np.array_equal(values, golden.run(done.network, x).outputs["d"])


def test_a_kernel_too_large_to_join_stays_apart() -> None:
    of = network((1, 80, 80), (1, 8, 8), conv(1, 1, (9, 9), stride=[8, 8]), conv(1, 1, (2, 2)))
    (wire,) = of.wires["cells"]
    assert nir_maps.kernel(wire, (1, 80, 80), (1, 8, 8)) is not None
    of = network((1, 400, 400), (1, 3, 3), conv(1, 1, (40, 40), stride=[40, 40]), conv(1, 1, (8, 8)))
    (wire,) = of.wires["cells"]
    assert nir_maps.kernel(wire, (1, 400, 400), (1, 3, 3)) is None
