"""The NIR paper's three tasks: neuron, braille, N-MNIST. One JSON object a task.

    APICAL_DATA=... python tests/benchmarks/nir_paper.py [lif] [braille] [nmnist] [--samples N] [--rtl N] [--bits N]

Graphs, traces and activities are the paper's (neuromorphs/NIR). For each task: the float twin against what was
published, then rounding, golden and RTL against the float twin, on the recordings that the data folder has.
"""

from __future__ import annotations

import argparse
import json
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from apical.sim import equivalence
from apical.sw import calibrate, golden, nir_check, nir_import, nir_read, nir_twin
from apical.sw.network import Network
from apical.sw.nir_import import Formats
from apical.sw.nir_wires import FloatNetwork

DATA = Path(os.environ.get("APICAL_DATA", ""))
PAPER = DATA / "nir_paper"
TICKS = 300  # of 1 ms
CHUNK = 1 << 26  # values of all populations that a comparison holds


def rounded(
    network: FloatNetwork,
    chosen: np.ndarray,
    x: np.ndarray,
    labels: np.ndarray | None,
    formats: Formats,
    rtl: int,
) -> dict[str, Any]:
    """The integer network against the float twin.

    :param chosen: input to calibrate on. :param x: to compare on. :param rtl: how many samples of it the RTL runs.
    """
    name = network.outputs[0]
    parts = [x[k : k + 50] for k in range(0, len(x), 50)]
    theirs = np.concatenate([nir_twin.run(network, part)[name] for part in parts])
    done = calibrate.calibrate(nir_import.of_data(network, chosen, formats, "sum"), chosen)
    ours = np.concatenate([golden.run(done.network, part.astype(np.int64), batch=16).outputs[name] for part in parts])
    spikes = name not in network.membranes and network.cells[name].threshold is not None
    decided, own = nir_check.decide(theirs, "sum"), nir_check.decide(ours, "sum")
    out: dict[str, Any] = {
        "weight_bits": formats.weight_bits,
        "samples": len(x),
        "f1": nir_check.f1(ours, theirs) if spikes else None,
        "class_agreement": float((decided == own).mean()),
    }
    if labels is not None:
        out |= {"float_accuracy": float((decided == labels).mean()), "accuracy": float((own == labels).mean())}
    if rtl:
        out |= on_hardware(done.network, x[:rtl])
    return out


def on_hardware(network: Network, x: np.ndarray) -> dict[str, Any]:
    """Golden against RTL, every event of every tick and every counter; some samples at a time, for memory's sake."""
    size = max(1, CHUNK // (x.shape[1] * sum(p.size for p in network.populations)))
    wrong, cycles = 0, 0.0
    for k in range(0, len(x), size):
        result = equivalence.cosim(network, x[k : k + size].astype(np.int64), workers=1, reuse=True)
        wrong, cycles = wrong + result.mismatches, cycles + result.cycles_per_sample * result.samples
    return {"rtl_samples": len(x), "rtl_mismatches": wrong, "cycles_per_sample": cycles / len(x)}


def lif(formats: Formats, samples: int, rtl: int) -> dict[str, Any]:
    """One neuron: its membrane against the exact solution, beside the distance of the paper's other platforms."""

    def trace(name: str) -> np.ndarray:
        return np.loadtxt(PAPER / "01_lif" / f"lif_{name}.csv", delimiter=",")

    def apart(v: np.ndarray) -> float:
        return float(np.sqrt(((v - exact[:, 1]) ** 2).mean()))

    exact = trace("exact")
    graph = nir_read.read(PAPER / "01_lif" / "lif_norse.nir")
    x = exact[None, :, :1].astype(np.int64)
    network = nir_twin.of_graph(graph, "nir", 1e-4)
    spikes = nir_twin.run(network, x)["1"][0, :, 0]
    # A read-out shows the membrane before the reset; after it, it is 0.
    seen = nir_twin.of_graph(graph, "nir", 1e-4, ["read=membrane"])
    membrane = nir_twin.run(seen, x)["1"][0, :, 0]
    membrane = np.where(spikes > 0, 0, membrane)
    wide = replace(formats, decay_bits=16, state_bits=24)
    fired = np.flatnonzero(exact[:, 2])
    out = rounded(network, x, x, None, wide, 1)
    return {
        "task": "lif",
        "exact_spikes": fired.tolist(),
        "twin_spikes": np.flatnonzero(spikes).tolist(),
        "twin_rms": apart(membrane),
        "published_rms": {n: apart(trace(n)[:, 1]) for n in ("norse", "lava_cpu_float", "sinabs")},
        "published_spikes": {
            n: np.flatnonzero(trace(n)[:, 2]).tolist() for n in ("norse", "lava_cpu_float", "sinabs", "snntorch")
        },
        **{k: v for k, v in out.items() if k != "class_agreement"},
    }


def braille(formats: Formats, samples: int, rtl: int) -> dict[str, Any]:
    """Letters under a finger tip: a recurrent net of snnTorch."""
    graph = nir_read.read(PAPER / "03_rnn" / "braille_noDelay_bias_zero.nir")
    network = nir_twin.of_graph(graph, "snntorch", 1e-4, ["reset=zero", "reset_delay=false"])
    folder = DATA / "braille_letters7"
    with np.load(folder / "ds_test_sample0_from_pdf.npz") as file:
        activity = nir_twin.run(network, file["spikes"][None], every=True)["lif1.lif"][0]
    published = np.load(PAPER / "03_rnn" / "snntorch_activity_noDelay_bias_zero.npy")
    with np.load(folder / "braille7_dev.npz") as file:
        x, labels = np.unpackbits(file["spikes"], axis=1).astype(np.int64), file["labels"]
    x, labels = x[:samples], labels[:samples]
    chosen = x[np.random.default_rng(0).permutation(len(x))[:40]]
    return {
        "task": "braille",
        "published_spikes": int(published.sum()),
        "differing_spikes": int((activity != published).sum()),
        **rounded(network, chosen, x, labels, formats, rtl),
    }


def recordings(count: int, first: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """N-MNIST recordings as counts in frames of 1 ms [samples, ticks, 2 x 34 x 34], and labels; test ones first."""
    with zipfile.ZipFile(DATA / "nmnist_small" / "NMNISTsmall_dev.zip") as archive:
        names = set(archive.namelist())
        listed = [
            line.split()
            for which in ("test100", "train1K")
            for line in archive.read(f"NMNISTsmall/{which}.txt").decode().splitlines()[1:]
        ]
        there = [(f"NMNISTsmall/{a}.bs2", int(b)) for a, b in listed if f"NMNISTsmall/{a}.bs2" in names]
        there = there[first : first + count]
        out = np.zeros((len(there), TICKS, 2 * 34 * 34), np.uint8)
        for k, (name, _) in enumerate(there):
            raw = np.frombuffer(archive.read(name), np.uint8).reshape(-1, 5).astype(np.int64)
            time = ((raw[:, 2] & 0x7F) << 16) + (raw[:, 3] << 8) + raw[:, 4]
            time = (time - time.min()) // 1000
            place = ((raw[:, 2] >> 7) * 34 + raw[:, 1]) * 34 + raw[:, 0]
            kept = time < TICKS
            np.add.at(out[k], (time[kept], place[kept]), 1)
    return out, np.array([label for _, label in there])


def nmnist(formats: Formats, samples: int, rtl: int) -> dict[str, Any]:
    """Digits before an event camera: a convolutional net of sinabs."""
    graph = nir_read.read(PAPER / "02_cnn" / "cnn_sinabs.nir")
    network = nir_twin.of_graph(graph, "sinabs")
    chosen, _ = recordings(16, 100_000 if samples <= 0 else samples)
    x, labels = recordings(samples)
    if not len(chosen):
        chosen = x[-16:]
    found = rounded(network, chosen.astype(np.int64), x, labels, formats, rtl)
    return {"task": "nmnist", "published_accuracy": float(np.load(PAPER / "02_cnn" / "sinabs_accuracy.npy")), **found}


def main() -> None:
    """Run the tasks that are asked for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tasks", nargs="*", default=["lif", "braille", "nmnist"])
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--rtl", type=int, default=1000)
    parser.add_argument("--bits", type=int, default=8)
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in given.tasks:
        run = {"lif": lif, "braille": braille, "nmnist": nmnist}[name]
        print(json.dumps(run(Formats(given.bits), given.samples, given.rtl)), flush=True)


if __name__ == "__main__":
    main()
