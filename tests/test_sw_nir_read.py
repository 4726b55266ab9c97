"""Malformed graphs are refused or repaired with a message that names node and edge; none crashes."""

from __future__ import annotations

import copy
import importlib.util
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sw import nir_import, nir_read, nir_twin
from apical.sw.nir_read import NirError, Tree

FUZZ = Path(__file__).parent / "fuzz_nir.py"
needs_h5py = pytest.mark.skipif(
    importlib.util.find_spec("h5py") is None, reason="reading NIR needs h5py: pip install 'apical[nir]'"
)


def lif(n: int, **changed: Any) -> Tree:
    one = np.ones(n)
    given = {"tau": 5e-4 * one, "r": 5 * one, "v_leak": 0 * one, "v_threshold": one, "v_reset": 0 * one}
    return {"type": "LIF", **given, **changed}


def tree() -> Tree:
    """Input 3, affine, LIF 4 that feeds itself, linear, LIF 2, output."""
    weight = np.arange(12.0).reshape(4, 3) / 10
    nodes = {
        "in": {"type": "Input", "shape": np.array([3])},
        "fc": {"type": "Affine", "weight": weight, "bias": np.zeros(4)},
        "a": lif(4),
        "back": {"type": "Linear", "weight": np.eye(4)},
        "fc2": {"type": "Linear", "weight": np.ones((2, 4))},
        "b": lif(2),
        "out": {"type": "Output", "shape": np.array([2])},
    }
    edges = [("in", "fc"), ("fc", "a"), ("a", "back"), ("back", "a"), ("a", "fc2"), ("fc2", "b"), ("b", "out")]
    return {"version": "1.0", "node": {"type": "NIRGraph", "nodes": nodes, "edges": edges}}


def network(given: Tree, source: str = "nir", dt: float = 1e-4, *sets: str) -> nir_twin.FloatNetwork:
    return nir_twin.of_graph(nir_read.graph_of(given), source, dt, sets)


def change(what: Callable[[dict[str, Any], list[Any]], Any]) -> Tree:
    out = copy.deepcopy(tree())
    what(out["node"]["nodes"], out["node"]["edges"])
    return out


REFUSED: list[tuple[Callable[[dict[str, Any], list[Any]], Any], str]] = [
    (lambda n, e: e.append(("a", "ghost")), r"edge 'a' -> 'ghost': no node 'ghost'; has a, b, back"),
    (lambda n, e: e.append(("a", "in")), r"edge 'a' -> 'in': leads into the input 'in'"),
    (
        lambda n, e: n["fc2"].update(weight=np.ones((2, 5))),
        r"edge 'a' -> 'fc2': shapes disagree: .* gives \(4,\).*\(5,\)",
    ),
    (lambda n, e: n["a"].update(tau=np.ones(3)), r"node 'a' \(LIF\): expected parameters of one shape"),
    (lambda n, e: n["fc"].update(bias=np.zeros(7)), r"node 'fc' \(Affine\): expected 4 biases"),
    (lambda n, e: n["fc"].update(weight=np.full((4, 3), np.nan)), r"node 'fc' \(Affine\), 'weight': expected finite"),
    (lambda n, e: n["a"].update(tau=np.full(4, np.nan)), r"node 'a' \(LIF\), 'tau': expected finite"),
    (lambda n, e: n["a"].update(tau=-n["a"]["tau"]), r"node 'a' \(LIF\), 'tau': expected time constants above 0"),
    (lambda n, e: n["a"].update(tau=0 * n["a"]["tau"]), r"node 'a' \(LIF\), 'tau': expected a time constant, got 0"),
    (lambda n, e: n["a"].update(tau=n["a"]["tau"] / 100), r"node 'a' \(LIF\), 'tau': dt/tau is 20 .* diverges"),
    (lambda n, e: n["a"].pop("v_threshold"), r"node 'a' \(LIF\): expected a field 'v_threshold', got none"),
    (lambda n, e: n["a"].update(type="Izhikevich"), r"node 'a': expected a type of Affine, .*, got 'Izhikevich'"),
    (lambda n, e: n.update(a="x"), r"node 'a': expected a group with a type"),
    (lambda n, e: e.remove(("in", "fc")), r"node 'fc' \(Affine\): no edge leads into it"),
    (lambda n, e: n.update(out={"type": "Output", "shape": np.array([3])}), r"edge 'b' -> 'out': shapes disagree"),
    (lambda n, e: e.append(("fc2", "fc2")), r"'fc2'.*shapes disagree|node 'fc2' \(Linear\): a cycle without a state"),
    (lambda n, e: n.update({"in": {"type": "Input", "shape": np.array([1 << 40])}}), r"node 'in' \(Input\): expected"),
    (lambda n, e: [n.pop("out"), e.pop()], r"expected a node of type Output, got none"),
]


@pytest.mark.parametrize(("what", "message"), REFUSED, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_a_malformed_graph_is_refused_by_name(what: Any, message: str) -> None:
    with pytest.raises(NirError, match=message):
        network(change(what))


def test_a_cycle_of_linear_nodes_is_refused() -> None:
    def cycle(nodes: dict[str, Any], edges: list[Any]) -> None:
        nodes |= {"x": {"type": "Scale", "scale": np.ones(4)}, "y": {"type": "Scale", "scale": np.ones(4)}}
        edges += [("fc", "x"), ("x", "y"), ("y", "x"), ("y", "a")]

    with pytest.raises(NirError, match=r"node 'x' \(Scale\): a cycle without a state: 'x', 'y'"):
        network(change(cycle))


def _dead_end(nodes: dict[str, Any], edges: list[Any]) -> None:
    nodes["z"] = lif(4)
    edges.append(("fc", "z"))


REPAIRED: list[tuple[Callable[[dict[str, Any], list[Any]], Any], str]] = [
    (lambda n, e: n["a"].pop("v_reset"), "node 'a' (LIF): no v_reset; taken as 0"),
    (lambda n, e: e.append(("in", "fc")), "edge 'in' -> 'fc' is there more than once; taken once"),
    (_dead_end, "node 'z' (LIF): leads to no output; left out"),
    (lambda n, e: n["a"].update(tau=n["a"]["tau"] / 7), "dt is above 'tau' of 4 neurons: their decay changes its sign"),
]


@pytest.mark.parametrize(("what", "note"), REPAIRED, ids=lambda v: v[:40] if isinstance(v, str) else "")
def test_a_repair_is_said(what: Any, note: str) -> None:
    found = network(change(what))
    assert any(note in n for n in found.notes)


def test_a_learned_decay_above_one_is_snntorchs_own_clip() -> None:
    given = change(
        lambda n, e: n["a"].update(tau=np.array([5e-4, -2e-3, 5e-4, np.inf]), r=np.array([5, -20, 5, np.inf]))
    )
    found = network(given, "snntorch")
    assert found.cells["a"].beta.tolist() == pytest.approx([0.8, 1, 0.8, 1])
    assert found.cells["a"].gain.tolist() == [1, 1, 1, 1]
    assert any("above 1; taken as 1" in n for n in found.notes)


def test_every_refused_node_is_named_at_once() -> None:
    given = change(lambda n, e: [n[k].update(tau=-n[k]["tau"]) for k in ("a", "b")])
    with pytest.raises(NirError) as caught:
        network(given)
    assert [text.split(",")[0] for text in caught.value.each] == ["node 'a' (LIF)", "node 'b' (LIF)"]


def test_neither_the_order_of_nodes_nor_of_edges_matters() -> None:
    x = np.random.default_rng(0).integers(0, 2, (3, 30, 3))
    expected = nir_twin.run(network(tree()), x)["b"]
    for seed in range(4):
        given, rng = tree(), random.Random(seed)
        rng.shuffle(given["node"]["edges"])
        names = list(given["node"]["nodes"])
        rng.shuffle(names)
        given["node"]["nodes"] = {n: given["node"]["nodes"][n] for n in names}
        assert np.array_equal(nir_twin.run(network(given), x)["b"], expected)
    assert expected.any()


def test_a_nested_graph_is_the_flat_one() -> None:
    x = np.random.default_rng(0).integers(0, 2, (3, 30, 3))
    given = tree()
    nodes = given["node"]["nodes"]
    inner = {"i": {"type": "Input", "shape": np.array([4])}, "a": nodes.pop("a"), "back": nodes.pop("back"),
             "o": {"type": "Output", "shape": np.array([4])}}  # fmt: skip
    nodes["deep"] = {
        "type": "NIRGraph",
        "nodes": inner,
        "edges": [("i", "a"), ("a", "back"), ("back", "a"), ("a", "o")],
    }
    given["node"]["edges"] = [("in", "fc"), ("fc", "deep"), ("deep", "fc2"), ("fc2", "b"), ("b", "out")]
    found = network(given)
    assert "deep.a" in found.cells
    assert np.array_equal(nir_twin.run(found, x)["b"], nir_twin.run(network(tree()), x)["b"])


def test_a_delay_is_whole_ticks_for_each_neuron() -> None:
    def delayed(nodes: dict[str, Any], edges: list[Any]) -> None:
        nodes["d"] = {"type": "Delay", "delay": np.array([0, 2e-4, 1.03e-4])}
        edges.remove(("in", "fc"))
        edges += [("in", "d"), ("d", "fc")]

    given = change(delayed)
    found = network(given)
    assert sorted(w.delay for w in found.wires["a"]) == [0, 1, 1, 2]
    assert any("rounded to whole ticks" in n for n in found.notes)


def test_metadata_and_set_override_the_profile() -> None:
    given = change(lambda n, e: n["a"].update(metadata={"apical_reset": "subtract", "other": "x"}))
    assert network(given).cells["a"].reset == "subtract"
    assert network(given, "nir", 1e-4, "a.reset=none", "compare=ge").cells["a"].reset == "none"
    for wrong, message in (
        ("a.reset=soft", "expected one of"),
        ("c.reset=none", "NODE of a, b"),
        ("spam=1", "no field"),
    ):
        with pytest.raises(NirError, match=message):
            network(given, "nir", 1e-4, wrong)


def test_values_beyond_the_floats_are_refused_by_node() -> None:
    x = np.ones((1, 3, 3), np.int64)
    for weight, message in ((1e38, r"node 'a' \(LIF\): expected finite values, it reaches inf in float32"),):
        given = change(lambda n, e, w=weight: n["fc"].update(weight=np.full((4, 3), w)))  # type: ignore[misc]
        with pytest.raises(NirError, match=message):
            nir_twin.run(network(given, "snntorch"), x)
    given = change(lambda n, e: [n["fc"].update(weight=np.full((4, 3), 1e300)), n["a"].update(r=np.full(4, 1e300))])
    with pytest.raises(NirError, match=r"node 'a' \(LIF\): expected finite weights, got others once gains are folded"):
        nir_import.of_data(network(given), x, nir_import.Formats())


def test_a_membrane_that_feeds_cells_is_refused_by_node() -> None:
    given = change(
        lambda n, e: n.update(a={k: v for k, v in lif(4).items() if "_" not in k or k == "v_leak"} | {"type": "LI"})
    )
    with pytest.raises(NirError, match=r"node 'a' \(LI\): it feeds other cells with its membrane"):
        nir_import.of_data(network(given), np.ones((1, 3, 3), np.int64), nir_import.Formats())


def test_values_that_events_cannot_carry_are_refused() -> None:
    with pytest.raises(NirError, match=r"^input 'in': expected integers, spikes or counts, got 0.5"):
        nir_import.of_data(network(tree()), np.full((1, 2, 3), 0.5), nir_import.Formats())


@needs_h5py
def test_files_that_are_no_graphs_are_refused(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "net.nir"
    path.write_bytes(b"not HDF5 at all")
    with pytest.raises(NirError, match=r"expected an HDF5 file of NIR"):
        nir_read.read(path)
    with h5py.File(path, "w") as file:
        file["version"] = "3.0"
    with pytest.raises(NirError, match=r"expected NIR version 0 or 1, got '3.0'"):
        nir_read.read(path)
    with h5py.File(path, "w") as file:
        file.create_dataset("node/nodes/a/weight", shape=(1 << 20, 1 << 20), dtype="f4", chunks=(64, 64))
    with pytest.raises(NirError, match=r"/node/nodes/a/weight: expected at most \d+ numbers"):
        nir_read.read(path)
    with h5py.File(path, "w") as file:
        file["node"] = h5py.ExternalLink("/etc/passwd", "/")
    with pytest.raises(NirError, match=r"/node: expected data inside the file, got a link"):
        nir_read.read(path)
    with pytest.raises(NirError, match="got no such file"):
        nir_read.read(tmp_path / "none.nir")


def fuzz(count: int, first: int, folder: Path) -> str:
    arguments = [sys.executable, str(FUZZ), str(count), str(first), str(folder)]
    ran = subprocess.run(arguments, capture_output=True, text=True, timeout=1800)
    assert ran.returncode == 0, ran.stderr[-2000:]
    return ran.stdout


@needs_h5py
def test_damaged_graphs_never_crash(tmp_path: Path) -> None:
    assert "40 cases" in fuzz(40, 0, tmp_path)


@needs_h5py
@pytest.mark.heavy
def test_ten_thousand_damaged_graphs_never_crash(tmp_path: Path) -> None:
    assert "10000 cases" in fuzz(10_000, 100_000, tmp_path)
