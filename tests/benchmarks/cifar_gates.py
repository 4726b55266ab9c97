"""CIFAR-10 with gated kernels against the same net ungated: work in golden, cycles on the RTL. One JSON object a net.

    APICAL_DATA=... python tests/benchmarks/cifar_gates.py FOLDER [--epochs N] [--gating G] [--rtl N] [--nets gated]

20,000 training images, of which the last 2,000 choose the epoch; the 5,000 test images are used once, at the end. The
gated net begins as the trained ungated one and has three operating points in one bundle. Bundles go to FOLDER and are
used again where they are there.
"""

from __future__ import annotations

import argparse
import io
import itertools
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from apical.hw.design import default_options
from apical.sim import equivalence
from apical.sw import bundle, datasets, gating, golden
from apical.sw.conv_layers import Conv, geometry
from apical.sw.conv_recipes import feature_map
from apical.sw.data import Data
from apical.sw.gate_layers import KernelGate
from apical.sw.laws import Format, LeakyIntegrator
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.train import Settings, fit

CHANNELS = (32, 48, 64)
GAINS = (0.25, 0.5, 1.0)  # of the operating points; the first is the one that the epoch is chosen by
HELD = 2000
LANES = 16


def load(name: str) -> Data:
    """Images [samples, 3, 32, 32] of a file of JPEGs."""
    with np.load(Path(os.environ["APICAL_DATA"]) / "cifar10_jpeg" / f"{name}.npz", allow_pickle=False) as file:
        jpeg, offset, label = file["jpeg"], file["offset"], file["label"]
    parts = (jpeg[a:b].tobytes() for a, b in itertools.pairwise(offset))
    images = np.stack([np.asarray(Image.open(io.BytesIO(p)).convert("RGB")).transpose(2, 0, 1) for p in parts])
    return Data(images, label.astype(np.int64), np.arange(len(label)), "cifar10", name)


def moved(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """Mirrored by chance and shifted by up to 4 pixels, as is usual for this set."""
    images = torch.from_numpy(data.images[rows]).float()
    flip = torch.rand(len(images), generator=generator) < 0.5
    images[flip] = images[flip].flip(3)
    y, x = (int(n) for n in torch.randint(0, 9, (2,), generator=generator))
    return nn.functional.pad(images, (4, 4, 4, 4))[:, :, y : y + 32, x : x + 32]


def build(gains: tuple[float, ...] | None) -> Model:
    """Three convolution layers and a dense read-out; the second and third gated where there are gains."""
    pixels = Input("pixels", 3072, Format(4, signed=False), shape=(3, 32, 32))
    first = feature_map("first", geometry(pixels.shape, CHANNELS[0], 3, 2, 1).target, 6)
    second = feature_map("second", geometry(first.shape, CHANNELS[1], 3, 2, 1).target, 8)
    third = feature_map("third", geometry(second.shape, CHANNELS[2], 3, 1, 1).target, 8)
    read = Population("readout", 10, LeakyIntegrator(state_bits=20), scale=4096, unit=4096, fixed=["decay"])
    gates = []
    if gains is not None:
        gates = [
            KernelGate(first, second, gain=gains, std=1.0),
            KernelGate(second, third, groups=CHANNELS[2] // 8, gain=gains, std=1.0),
        ]
    wires = [
        Conv(pixels, first, 3, stride=2, padding=1, norm=True),
        Conv(first, second, 3, stride=2, padding=1, norm=True),
        Conv(second, third, 3, padding=1, norm=True),
        Dense(third, read, std=0.02),
    ]
    encoding: dict[str, str | int | float] = {"kind": "graded", "bits": 4, "ticks": 1}
    return Model([pixels], [first, second, third, read], wires, decoder="sum", encoding=encoding, name="cifar",
                 gates=gates)  # fmt: skip


def main() -> None:
    """Train what isn't there, then judge each net at each operating point."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=14)
    parser.add_argument("--gating", type=float, default=0.2)
    parser.add_argument("--rtl", type=int, default=0, help="test images that the RTL runs")
    parser.add_argument("--nets", nargs="+", default=["plain", "gated"], choices=["plain", "gated"])
    given = parser.parse_args()
    train, test = load("cifar10_train_20k"), load("cifar10_test_dev_5k")
    judged, train = train.rows(slice(-HELD, None)), train.rows(slice(0, -HELD))
    settings = Settings(given.epochs, 128, 4e-3, weight_decay=2e-3, average=0.998, label_smoothing=0.05)
    for name in given.nets:
        folder = given.folder / name
        if not folder.exists():
            torch.manual_seed(0)
            kept = given.folder / f"{name}.checkpoint"  # to go on from
            model = build(GAINS if name == "gated" else None)
            own = replace(settings, gating=given.gating) if name == "gated" else settings
            start = given.folder / "plain.pt"
            if name == "gated" and start.is_file():
                model.load_state_dict(torch.load(start, weights_only=True), strict=False)
            found = fit(model, train, judged, own, prepare=moved, checkpoint=kept, progress=False, log=print)
            torch.save(model.state_dict(), given.folder / f"{name}.pt")
            bundle.save(model.export(), folder, {"validation_accuracy": found.accuracy, "epochs": given.epochs})
        network = bundle.load(folder)
        x = datasets.encode(test, network).astype(np.int64)
        for point in range(network.points):
            at = network.at(point)
            trace = golden.run(at, x)
            answer: dict[str, Any] = {"net": name, "accuracy": datasets.figures(at, trace, test.labels)["accuracy"]}
            answer |= gating.report(at, trace, x)
            if given.rtl:
                options = default_options(at, synapse_lanes=LANES, neuron_lanes=LANES)
                result = equivalence.cosim(at, x[: given.rtl], options=options, workers=1)
                answer |= {"equal": result.equal, "cycles_per_sample": result.cycles_per_sample}
            print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
