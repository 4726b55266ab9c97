"""Export to NIR: what is written is read back as it was; a live module survives the file."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from apical.sw import golden, nir_check, nir_import, nir_read, nir_twin, nir_write
from apical.sw.geometry import Geometry
from apical.sw.laws import AdaptiveLif, CubaLi, CubaLif, IntegrateFire, Law, LeakyIntegrator, Lif
from apical.sw.network import Input, Network, Population, Projection
from apical.sw.nir_read import NirError

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("h5py") is None, reason="NIR files need h5py: pip install 'apical[nir]'"
)

LAWS: list[Law] = [
    Lif(gain_bits=3, decay_bits=12),
    Lif("subtract_late", "ge", decay_bits=10),
    Lif("value", floored=True),
    IntegrateFire("subtract", "ge", count_bits=3),
    CubaLif("zero_late", decay_bits=12, current_bits=20),
    CubaLif("subtract_twice"),
]


def network(law: Law, read: Law | None = None) -> Network:
    """Input, cells that feed themselves, a read-out that also sees the input three ticks late."""
    random = np.random.default_rng(5)

    def params(of: Law, n: int) -> dict[str, np.ndarray]:
        out = {}
        for key, spec in of.parameters().items():
            one = 1 << spec.fraction_bits
            low, high = (one // 2, one - 1) if spec.unit == "fraction" else (-20, 20)
            out[key] = random.integers(low, high, n)
        out |= {
            k: np.full(n, v)
            for k, v in (("threshold", 60), ("floor", -70), ("v_reset", -4), ("adaptation", 5))
            if k in out
        }
        return out

    cells = Population("cells", 6, law, params(law, 6))
    last = read or LeakyIntegrator(decay_bits=10)
    ends = Population("read", 3, last, params(last, 3))
    return Network(
        (Input("in", 5),),
        (cells, ends),
        (
            Projection("in to cells", "in", "cells", random.integers(-40, 60, (6, 5))),
            Projection("back", "cells", "cells", random.integers(-20, 20, (6, 6)), delay=1),
            Projection("out", "cells", "read", random.integers(-50, 50, (3, 6))),
            Projection("late", "in", "read", random.integers(-50, 50, (3, 5)), delay=3),
        ),
        ("read", "cells"),
    )


def formats(law: Law) -> nir_import.Formats:
    options = law.options() | {"gain_bits": getattr(law, "gain_bits", 0)}
    return nir_import.Formats(8, options.get("decay_bits", 10), 20, options["gain_bits"], getattr(law, "count_bits", 1))


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_a_network_survives_the_file_number_by_number(law: Law, tmp_path: Path) -> None:
    ours = network(law)
    graph, lost = nir_write.graph_of(ours)
    assert any("saturation" in text for text in lost)
    nir_write.write(graph, tmp_path / "net.nir")
    again = nir_twin.of_graph(nir_read.read(tmp_path / "net.nir"), "nir", 1e-3)
    x = np.random.default_rng(0).integers(0, 2, (2, 20, 5))
    real = nir_import.of_data(again, x, formats(law))
    for p in ours.populations:
        if p.name == "cells":
            found = real.population(p.name)
            assert found.law.name == p.law.name and getattr(found.law, "reset", "") == getattr(law, "reset", "")
            for key, array in p.params.items():
                assert np.allclose(found.steps(key), array, atol=1e-2), key
    for q in ours.projections:
        twin = [w for w in real.projections if (w.source, w.target, w.delay) == (q.source, q.target, q.delay)]
        gain = ours.nodes[q.target].law.gain / real.population(q.target).law.gain  # type: ignore[union-attr]
        assert len(twin) == 1 and np.allclose(twin[0].weights, q.weights * gain, rtol=1e-6)


@pytest.mark.parametrize("law", LAWS, ids=str)
def test_the_twin_of_an_export_fires_as_golden_but_for_floors(law: Law) -> None:
    ours = network(law)
    x = np.random.default_rng(1).integers(0, 2, (4, 25, 5))
    graph, _ = nir_write.graph_of(ours)
    values = nir_twin.run(nir_twin.of_graph(graph, "nir", 1e-3), x, every=True)["cells"]
    exact = golden.run(ours, x).values["cells"]
    assert exact.sum() > 20
    assert nir_check.f1(np.minimum(values, exact.max()), exact) > 0.85


def picture() -> Network:
    """A convolution in groups, a pool beside a convolution, a flat read-out."""
    random = np.random.default_rng(7)
    law = IntegrateFire("subtract", "ge")
    one = Geometry((2, 7, 7), 4, (3, 3), (2, 2), (1, 1), (1, 1), 2)
    pool = Geometry((4, 4, 4), 4, (2, 2), (2, 2), groups=4)
    two = Geometry((4, 4, 4), 4, (2, 2), (2, 2), (1, 1), (2, 2))
    assert two.target == pool.target

    def cells(name: str, shape: tuple[int, int, int]) -> Population:
        params = {"threshold": np.full(shape[0], 60), "bias": random.integers(-3, 9, shape[0])}
        return Population(name, int(np.prod(shape)), law, params, shape=shape)

    return Network(
        (Input("in", 98, shape=(2, 7, 7)),),
        (cells("a", one.target), cells("b", pool.target), Population("c", 5, law, {"threshold": np.array([90]),
         "bias": np.array([2])})),
        (
            Projection("w1", "in", "a", random.integers(-30, 50, one.weights_shape), pattern="conv", geometry=one),
            Projection("w2", "a", "b", np.zeros(0, np.int64), pattern="pool", geometry=pool),
            Projection("w3", "a", "b", random.integers(-30, 50, two.weights_shape), pattern="conv", geometry=two,
                       delay=2),
            Projection("w4", "b", "c", random.integers(-30, 50, (5, pool.channels * 4))),
        ),
        ("c",),
    )  # fmt: skip


def test_maps_survive_the_file_and_fire_exactly_alike(tmp_path: Path) -> None:
    ours = picture()
    nir_write.write(nir_write.graph_of(ours)[0], tmp_path / "net.nir")
    again = nir_twin.of_graph(nir_read.read(tmp_path / "net.nir"), "nir", 1e-3)
    assert {n: c.shape for n, c in again.cells.items()} == {"a": (4, 4, 4), "b": (4, 2, 2), "c": (5,)}
    x = np.random.default_rng(1).integers(0, 2, (3, 25, 98))
    values = nir_twin.run(again, x, every=True)
    exact = golden.run(ours, x).values
    for name in again.cells:  # integrators have no decay that is floored
        assert exact[name].any() and np.array_equal(values[name], exact[name]), name
    real = nir_import.of_data(again, x, nir_import.Formats())
    assert {p.geometry for p in real.projections if p.geometry} >= {ours.projections[0].geometry}


def test_a_current_based_read_out_is_written() -> None:
    graph, _ = nir_write.graph_of(network(Lif(), CubaLi()))
    assert graph.nodes["read"].type == "CubaLI"


def test_a_law_without_a_primitive_is_refused_by_name() -> None:
    with pytest.raises(NirError, match=r"^population 'cells': NIR has no primitive for the law adaptive_lif$"):
        nir_write.graph_of(network(AdaptiveLif()))


def test_the_file_is_read_by_the_nir_package(tmp_path: Path) -> None:
    nir = pytest.importorskip("nir", reason="the nir package isn't installed")
    graph, _ = nir_write.graph_of(network(Lif()))
    nir_write.write(graph, tmp_path / "net.nir")
    theirs = nir.read(tmp_path / "net.nir")
    assert {n: type(v).__name__ for n, v in theirs.nodes.items()} == {n: v.type for n, v in graph.nodes.items()}
    assert nir_read.of_nir(theirs).edges == graph.edges


LIVE = """
import sys
sys.path[:0] = sys.argv[2:]
import json, warnings
warnings.filterwarnings("ignore")
from pathlib import Path
import torch
torch.set_num_threads(1)
import make_peer_traces as peers
import live_peer_networks
from apical.sw import importers, nir_check, nir_read, nir_twin, nir_write
peer, folder = sys.argv[1], Path(sys.argv[4])
torch.manual_seed(3)
out = {}
for name, case in {**peers.PEERS[peer](), **live_peer_networks.CASES[peer]()}.items():
    arrays, x = peers.trace(case), peers.stimulus(case)
    sample = x[:1, :1] if peer in ("sinabs", "rockpool") and not case.picture else x[:1, 0]
    live = getattr(importers, f"from_{peer}")(case.net, sample)
    nir_write.write(live.graph, folder / "net.nir")
    reads = [s for s in case.sets if s.endswith("read=membrane")]
    found = []
    for graph in (live.graph, nir_read.read(folder / "net.nir")):
        net = nir_twin.of_graph(graph, live.source, live.dt, reads)
        values = nir_twin.run(net, x.flatten(2).numpy())[net.outputs[0]]
        reference = nir_check.Reference(None, arrays.get("spikes"), arrays.get("output"))
        figures = nir_check.figures(values, reference, "sum")
        found.append([figures["f1"], figures["error"]])
    out[name] = found
print(json.dumps(out))
"""


@pytest.mark.heavy
@pytest.mark.parametrize("peer", ["norse", "rockpool", "sinabs", "snntorch", "spikingjelly"])
def test_live_modules_are_read_with_what_the_file_loses(peer: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(peer) is None:
        pytest.skip(f"{peer} isn't installed: pip install 'apical[{peer}]'")
    here = Path(__file__).parent
    paths = [str(here), str(here.parent / "typings"), str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-c", LIVE, peer, *paths], check=True, capture_output=True, text=True, timeout=600
    )
    found = json.loads(ran.stdout.strip().splitlines()[-1])
    assert len(found) >= 5
    for case, both in found.items():
        for f1, error in both:
            assert (1 if f1 is None else f1) >= 0.999, case
            assert (error or 0) < 1e-5, case
