"""Peers' own networks, exported and run by themselves: the float twin computes what they computed, to the spike."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sw import calibrate, golden, nir_check, nir_import, nir_read, nir_twin
from apical.sw.nir_check import Reference
from apical.sw.nir_read import Graph

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("h5py") is None, reason="reading NIR needs h5py: pip install 'apical[nir]'"
)

STORED = Path(__file__).parent / "expected" / "peers"
SCRIPT = Path(__file__).parent / "make_peer_traces.py"
PEERS = ("norse", "rockpool", "sinabs", "snntorch", "spikingjelly")


def cases(file: Path) -> dict[str, Any]:
    with zipfile.ZipFile(file) as archive:
        return dict(json.loads(archive.read("cases.json")))


def unpacked(file: Path, case: str, folder: Path) -> tuple[Graph, Reference]:
    with zipfile.ZipFile(file) as archive:
        for name in (f"{case}.nir", f"{case}.npz"):
            archive.extract(name, folder)
    return nir_read.read(folder / f"{case}.nir"), nir_check.read(folder / f"{case}.npz")


def compare(peer: str, file: Path, case: str, folder: Path) -> dict[str, float | None]:
    """Figures of the float twin against the peer's trace."""
    graph, reference = unpacked(file, case, folder)
    network = nir_twin.of_graph(graph, peer, given=cases(file)[case]["sets"])
    assert reference.x is not None
    return nir_check.figures(nir_twin.run(network, reference.x)[network.outputs[0]], reference, "sum")


ALL = [(peer, case) for peer in PEERS for case in cases(STORED / f"{peer}.zip")]


@pytest.mark.parametrize(("peer", "case"), ALL, ids=lambda v: v)
def test_the_twin_computes_what_the_peer_computed(peer: str, case: str, tmp_path: Path) -> None:
    found = compare(peer, STORED / f"{peer}.zip", case, tmp_path)
    assert found["class_agreement"] == 1
    if found["f1"] is None:
        assert found["error"] is not None and found["error"] < 1e-6
    else:
        assert found["f1"] == 1


def test_traces_cover_every_peer_with_spikes_that_say_something() -> None:
    for peer in PEERS:
        assert len(cases(STORED / f"{peer}.zip")) >= 4
    for peer, case in ALL:
        with zipfile.ZipFile(STORED / f"{peer}.zip") as archive, archive.open(f"{case}.npz") as data:
            arrays = np.load(data)
            rate = (arrays["spikes" if "spikes" in arrays.files else "output"] != 0).mean()
        assert rate > 0.01, (peer, case)


# The wrong profile must be seen: what these files lose matters on these traces.
WRONG = [
    ("snntorch", "leaky", "reset_delay=false"),
    ("snntorch", "leaky-zero", "reset=subtract"),
    ("snntorch", "synaptic-zero", "reset=value"),
    ("norse", "box", "tau_unit=seconds"),
    ("norse", "cuba", "synapse_gain=ode"),
    ("sinabs", "lif", "spike=single"),
    ("sinabs", "lif", "integrator=euler"),
    ("rockpool", "cuba", "membrane_gain=one"),
    ("spikingjelly", "lif-reset", "start=zero"),
]


@pytest.mark.parametrize(("peer", "case", "wrong"), WRONG)
def test_another_meaning_gives_other_spikes(peer: str, case: str, wrong: str, tmp_path: Path) -> None:
    graph, reference = unpacked(STORED / f"{peer}.zip", case, tmp_path)
    assert reference.x is not None
    given = [*cases(STORED / f"{peer}.zip")[case]["sets"], wrong]
    try:
        network = nir_twin.of_graph(graph, peer, given=given)
    except nir_read.NirError as error:
        assert "--set" in str(error) or "diverges" in str(error)
        return
    found = nir_check.figures(nir_twin.run(network, reference.x)[network.outputs[0]], reference, "sum")
    assert found["f1"] is not None and found["f1"] < 0.99


@pytest.mark.parametrize(
    ("peer", "case"),
    [("snntorch", "rsynaptic"), ("sinabs", "lif-floor"), ("norse", "box-rest"), ("spikingjelly", "conv")],
)
def test_the_terms_of_our_laws_compute_the_same_before_rounding(peer: str, case: str, tmp_path: Path) -> None:
    graph, reference = unpacked(STORED / f"{peer}.zip", case, tmp_path)
    assert reference.x is not None and reference.spikes is not None
    network = nir_twin.of_graph(graph, peer, given=cases(STORED / f"{peer}.zip")[case]["sets"])
    real = nir_import.of_data(network, reference.x, nir_import.Formats())
    values, _ = real.run(reference.x)
    assert nir_check.f1(values[real.outputs[0]], reference.spikes) > 0.999


@pytest.mark.parametrize(("peer", "case"), [("rockpool", "cuba"), ("snntorch", "synaptic")])
def test_wide_integers_fire_nearly_as_the_peer_does(peer: str, case: str, tmp_path: Path) -> None:
    graph, reference = unpacked(STORED / f"{peer}.zip", case, tmp_path)
    assert reference.x is not None and reference.spikes is not None
    network = nir_twin.of_graph(graph, peer, given=cases(STORED / f"{peer}.zip")[case]["sets"])
    formats = nir_import.Formats(weight_bits=14, decay_bits=16, state_bits=28, gain_bits=6)
    real = nir_import.of_data(network, reference.x, formats)
    done = calibrate.calibrate(real, reference.x.astype(np.int64))
    ours = golden.run(done.network, reference.x.astype(np.int64)).outputs[real.outputs[0]]
    assert nir_check.f1(ours, reference.spikes) > 0.97


@pytest.mark.heavy
@pytest.mark.parametrize("peer", PEERS)
def test_the_peer_itself_run_anew_agrees(peer: str, tmp_path: Path) -> None:
    for module in (peer, "nir", "nirtorch"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} isn't installed: pip install 'apical[{peer}]'")
    file = tmp_path / "traces.zip"
    subprocess.run([sys.executable, str(SCRIPT), peer, str(file), "7"], check=True, capture_output=True, timeout=600)
    for case in cases(file):
        found = compare(peer, file, case, tmp_path)
        assert (found["f1"] or 1) >= 0.999, case
        assert (found["error"] or 0) < 1e-5, case


PAPER = Path(os.environ.get("APICAL_DATA", "")) / "nir_paper"


@pytest.mark.skipif(not PAPER.is_dir(), reason="APICAL_DATA doesn't hold nir_paper")
def test_braille_fires_as_published_to_the_spike() -> None:
    """Activity that snnTorch gave for the NIR paper's test sample (neuromorphs/NIR, 03_rnn)."""
    graph = nir_read.read(PAPER / "03_rnn" / "braille_noDelay_bias_zero.nir")
    network = nir_twin.of_graph(graph, "snntorch", 1e-4, ["reset=zero", "reset_delay=false"])
    with np.load(PAPER.parent / "braille_letters7" / "ds_test_sample0_from_pdf.npz") as file:
        values = nir_twin.run(network, file["spikes"][None], every=True)["lif1.lif"][0]
    published = np.load(PAPER / "03_rnn" / "snntorch_activity_noDelay_bias_zero.npy")
    assert published.sum() == 119 and np.array_equal(values, published)


@pytest.mark.heavy
@pytest.mark.skipif(not PAPER.is_dir(), reason="APICAL_DATA doesn't hold nir_paper")
def test_braille_rounds_within_a_point() -> None:
    graph = nir_read.read(PAPER / "03_rnn" / "braille_noDelay_bias_zero.nir")
    network = nir_twin.of_graph(graph, "snntorch", 1e-4, ["reset=zero", "reset_delay=false"])
    with np.load(PAPER.parent / "braille_letters7" / "braille7_dev.npz") as file:
        x, labels = np.unpackbits(file["spikes"], axis=1).astype(np.int64), file["labels"]
    before = (nir_check.decide(nir_twin.run(network, x)["lif2"], "sum") == labels).mean()
    chosen = x[np.random.default_rng(0).permutation(len(x))[:40]]
    done = calibrate.calibrate(nir_import.of_data(network, chosen, nir_import.Formats()), chosen)
    after = (nir_check.decide(golden.run(done.network, x).outputs["lif2"], "sum") == labels).mean()
    assert before > 0.96 and after > before - 0.01
