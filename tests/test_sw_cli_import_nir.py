"""`apical import` of NIR graphs: what it answers, what it refuses, that training goes on."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sw import bundle, golden, nir_check, nir_formats

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("h5py") is None, reason="reading NIR needs h5py: pip install 'apical[nir]'"
)
Apical = Callable[..., Any]
STORED = Path(__file__).parent / "expected" / "peers"


@pytest.fixture
def case(tmp_path: Path) -> Path:
    """A folder with a graph of snnTorch and its trace, `net.nir` and `net.npz`."""
    with zipfile.ZipFile(STORED / "snntorch.zip") as archive:
        for kind in ("nir", "npz"):
            (tmp_path / f"net.{kind}").write_bytes(archive.read(f"leaky-now.{kind}"))
    return tmp_path


def test_it_answers_with_the_twins_and_the_integers_figures(case: Path, apical: Apical) -> None:
    ran = apical(
        "import", case / "net.nir", "-o", case / "net", "--source", "snntorch", "--set", "reset_delay=false",
        "--calibrate", case / "net.npz", "--check", case / "net.npz", "--json",
    )  # fmt: skip
    out = json.loads(ran.out)
    assert out["imported"] and out["source"] == "snntorch" and out["dt"] == 1e-4 and out["refused"] == []
    assert {kind.split(":")[0] for kind in out["nodes"].values()} == {"Input", "Output", "Affine", "LIF"}
    assert out["float_f1"] == 1 and out["float_class_agreement"] == 1
    assert out["class_agreement"] > 0.5 and out["accuracy"] is None
    assert set(out["costs"]) == {"nothing", "weights", "decays", "thresholds and biases", "states", "all"}
    network, reference = bundle.load(case / "net"), nir_check.read(case / "net.npz")
    assert reference.x is not None and reference.spikes is not None
    values = golden.run(network, reference.x.astype(np.int64)).outputs[network.outputs[0]]
    assert nir_check.f1(values, reference.spikes) == out["f1"]


def test_it_takes_as_few_bits_as_decide_like_the_twin(case: Path, apical: Apical) -> None:
    def widths(*given: str) -> dict[str, Any]:
        order = ["import", case / "net.nir", "-o", case / "net", "--source", "snntorch", "--set", "reset_delay=false"]
        ran = apical(*order, "--calibrate", case / "net.npz", "--json", *given)
        out: dict[str, Any] = json.loads(ran.out)
        return out

    out = widths()
    assert [t["weight_bits"] for t in out["tried"]] == [8, 12, 12, 16][: len(out["tried"])]
    best = max(t["agreement"] for t in out["tried"])
    chosen = next(t for t in out["tried"] if t["agreement"] == best)
    assert (out["weight_bits"], out["state_bits"]) == (chosen["weight_bits"], chosen["state_bits"])
    assert all(t["agreement"] < nir_formats.ENOUGH for t in out["tried"][:-1])
    assert {p.weight_bits for p in bundle.load(case / "net").projections} == {out["weight_bits"]}
    told = widths("--weight-bits", "5")
    assert told["tried"] == [] and (told["weight_bits"], told["state_bits"]) == (5, 20)


def test_the_wrong_meaning_is_seen_before_anything_is_rounded(case: Path, apical: Apical) -> None:
    ran = apical("import", case / "net.nir", "--source", "snntorch", "--check", case / "net.npz", "--json")
    out = json.loads(ran.out)
    assert not out["imported"] and out["float_f1"] < 0.99 and out["class_agreement"] is None


def test_what_is_refused_is_told_node_by_node(case: Path, apical: Apical) -> None:
    ran = apical("import", case / "net.nir", "--source", "nir", "--dt", "0.01", "--check", case / "net.npz", "--json")
    out = json.loads(ran.out)
    assert ran.status == 2 and not out["imported"] and len(out["refused"]) == 2
    assert all(r.startswith("node ") and "above 2 it diverges" in r for r in out["refused"])


def test_training_goes_on_from_the_imported_point(case: Path, apical: Apical) -> None:
    reference = nir_check.read(case / "net.npz")
    assert reference.x is not None and reference.spikes is not None
    x = np.tile(reference.x[:, :30], (4, 1, 1)).astype(np.uint8)
    np.savez(case / "labelled.npz", x=x, labels=np.tile(reference.spikes.sum(1).argmax(1), 4))
    ran = apical(
        "import", case / "net.nir", "-o", case / "net", "--source", "snntorch", "--calibrate", case / "labelled.npz",
        "--tune", "2", "--json",
    )  # fmt: skip
    out = json.loads(ran.out)
    assert out["imported"] and 0 <= out["tuned_epoch"] <= 2
    ran = apical(
        "import", case / "net.nir", "-o", case / "n2", "--source", "snntorch", "--calibrate", case / "net.npz",
        "--tune", "2",
    )  # fmt: skip
    assert ran.status == 2 and "--tune: expected 'labels' in --calibrate" in ran.err


def test_a_bundle_goes_to_nir_and_back(tmp_path: Path, apical: Apical) -> None:
    out = json.loads(apical("export", "zoo:mnist-lif", "-o", tmp_path / "net.nir", "--json").out)
    assert any("saturation" in text for text in out["lost"])
    x = (np.random.default_rng(0).random((4, 10, 784)) < 0.1).astype(np.uint8)
    np.savez(tmp_path / "x.npz", x=x)
    words = ["-o", tmp_path / "net", "--source", "nir", "--dt", "0.001", "--calibrate", tmp_path / "x.npz"]
    again = json.loads(apical("import", tmp_path / "net.nir", *words, "--json").out)
    assert again["imported"] and again["weights"] == out["weights"]
    ran = apical("export", "zoo:ecg-srnn", "-o", tmp_path / "ecg.nir")
    assert ran.status == 2 and "NIR has no primitive for the law adaptive_lif" in ran.err
    assert not (tmp_path / "ecg.nir").exists()
