"""Peers' trained networks, imported: float twin, integers and RTL against what the peer itself answers.

    python tests/benchmarks/nir_peers.py train PEER FOLDER [--cases A,B]     # where the peer is installed
    python tests/benchmarks/nir_peers.py judge PEER FOLDER [--rtl N] [--cases A,B]   # where apical is

`train` builds every network of tests/make_peer_traces.py for digits of 8 x 8 pixels (64-32-10, and the convolutions),
trains it in the peer for a few seconds with the peer's own surrogate, has the peer export it to NIR and run the test
digits. `judge` imports the file under the peer's profile and prints one JSON object a network. Digits: the sample of
MNIST that ships, as random spikes, 20 ticks.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

warnings.filterwarnings("ignore")
HERE = Path(__file__).resolve().parent
SAMPLE = HERE.parents[1] / "sw" / "samples" / "mnist.npz"
SIDE, HIDDEN, TICKS = 8, 32, 20
TRAINING, TEST, EPOCHS, BATCH = 1500, 400, 16, 50
ENOUGH = 0.94  # right training answers of an epoch at which training ends


def digits(split: str, count: int, picture: bool) -> tuple[Tensor, np.ndarray]:
    """Spikes [samples, ticks, 64], or two channels of a picture (dark pixels fire in the second), and labels."""
    with np.load(SAMPLE) as file:
        images, labels = file[f"{split}_images"][:count], file[f"{split}_labels"][:count]
    small = images[:, 2:26, 2:26].reshape(-1, SIDE, 3, SIDE, 3).mean(axis=(2, 4)) / 255
    rate = torch.from_numpy(np.stack([0.9 * small, 0.2 * (1 - small)], 1)).float()
    random = torch.Generator().manual_seed(len(images) + (split == "test"))
    x = (torch.rand(len(rate), TICKS, 2, SIDE, SIDE, generator=random) < rate[:, None]).float()
    return (x if picture else x[:, :, 0].flatten(2)), labels.astype(np.int64)


def fitted(case: Any, x: Tensor, labels: np.ndarray) -> None:
    """Train the weights (not the neurons) by the peer's own gradients."""
    named = torch.nn.Module.named_parameters(case.net)  # Rockpool's own gives another kind
    weights = [p for name, p in named if p.requires_grad and "weight" in name]
    adam = torch.optim.Adam(weights, 4e-3)
    truth, random = torch.from_numpy(labels), torch.Generator().manual_seed(0)
    for _ in range(EPOCHS):
        right = 0
        order = torch.randperm(len(x), generator=random)
        for k in range(0, len(x), BATCH):
            chosen = order[k : k + BATCH]
            y = case.run(case.net, x[chosen]).flatten(2)
            score = y.sum(1) * 0.5 if not case.values else 3 * y.sum(1) / (1e-3 + y.detach().sum(1).std())
            loss = torch.nn.functional.cross_entropy(score, truth[chosen])
            adam.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            adam.step()
            right += int((score.argmax(1) == truth[chosen]).sum())
        if right > ENOUGH * len(x):
            break


def train(peer: str, folder: Path, only: list[str]) -> None:
    """Networks of one peer, trained, exported and run by it."""
    sys.path.insert(0, str(HERE.parent))
    import make_peer_traces as peers
    import nir

    peers.INPUTS, peers.HIDDEN = SIDE * SIDE, HIDDEN
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    told: dict[str, Any] = {}
    for name, case in peers.PEERS[peer]().items():
        if only and name not in only:
            continue
        x, labels = digits("train", TRAINING, case.picture)
        fitted(case, x, labels)
        seen, truth = digits("test", TEST, case.picture)
        with torch.no_grad():
            y = case.run(case.net, seen).flatten(2).numpy()
            nir.write(folder / f"{peer}-{name}.nir", case.graph(case.net))
        np.savez_compressed(folder / f"{peer}-{name}-calibrate.npz", x=x[:100].flatten(2).numpy().astype(np.uint8))
        values = {"output": y.astype(np.float32)} if case.values else {"spikes": y.astype(np.uint8)}
        inputs = {"x": seen.flatten(2).numpy().astype(np.uint8)}
        np.savez_compressed(folder / f"{peer}-{name}.npz", labels=truth, **inputs, **values)  # type: ignore[arg-type]
        told[name] = {"sets": case.sets, "accuracy": float((y.sum(1).argmax(1) == truth).mean())}
        print(peer, name, told[name], flush=True)
        (folder / f"{peer}.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def judge(peer: str, folder: Path, only: list[str], rtl: int, weight_bits: int | None, state_bits: int) -> None:
    """Figures of one peer's networks."""
    from apical.hw.design import default_options
    from apical.sim import equivalence
    from apical.sw import nir_check, nir_formats, nir_import, nir_read, nir_twin

    told = json.loads((folder / f"{peer}.json").read_text(encoding="utf-8"))
    for case, about in told.items():
        if only and case not in only:
            continue
        network = nir_twin.of_graph(nir_read.read(folder / f"{peer}-{case}.nir"), peer, given=about["sets"])
        reference = nir_check.read(folder / f"{peer}-{case}.npz")
        with np.load(folder / f"{peer}-{case}-calibrate.npz") as file:
            chosen = file["x"].astype(np.int64)
        assert reference.x is not None and reference.labels is not None
        x, name = reference.x.astype(np.int64), network.outputs[0]
        twin = nir_check.figures(nir_twin.run(network, x)[name], reference, "sum")
        widths = nir_formats.LADDER if weight_bits is None else ((weight_bits, state_bits),)
        wide = nir_formats.choose(network, chosen, len(chosen), nir_import.Formats(), "sum", ladder=widths)
        done = wide.done
        values = nir_formats.in_real_units(wide.real, done, x)
        found = nir_check.figures(values, reference, "sum")
        out: dict[str, Any] = {
            "peer": peer, "case": case,
            "weight_bits": wide.formats.weight_bits, "state_bits": wide.formats.state_bits,
            "peer_accuracy": about["accuracy"],
            **{f"float_{k}": twin[k] for k in ("f1", "error", "class_agreement")},
            "f1": found["f1"], "class_agreement": found["class_agreement"], "accuracy": found["accuracy"],
            "lost_points": round(100 * (about["accuracy"] - (found["accuracy"] or 0)), 2),
        }  # fmt: skip
        if rtl:
            options = default_options(done.network, synapse_lanes=16, neuron_lanes=2)
            result = equivalence.cosim(done.network, x[:rtl], options=options, workers=1)
            out |= {"rtl_samples": result.samples, "rtl_mismatches": result.mismatches}
        print(json.dumps(out), flush=True)


def main() -> None:
    """Train in a peer, or judge what it left."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["train", "judge"])
    parser.add_argument("peer")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--cases", default="")
    parser.add_argument("--rtl", type=int, default=0, help="test digits that the RTL runs")
    parser.add_argument("--weight-bits", type=int, help="default: as `apical import` chooses")
    parser.add_argument("--state-bits", type=int, default=20)
    given = parser.parse_args()
    torch.set_num_threads(1)
    only = [c for c in given.cases.split(",") if c]
    if given.what == "train":
        train(given.peer, given.folder, only)
        return
    judge(given.peer, given.folder, only, given.rtl, given.weight_bits, given.state_bits)


if __name__ == "__main__":
    main()
