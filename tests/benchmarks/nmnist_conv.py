"""N-MNIST from events: spiking convolution maps, plain and with gates that decide per recording. One JSON object a net.

    APICAL_DATA=... python tests/benchmarks/nmnist_conv.py FOLDER [--epochs N] [--gating G] [--nets plain gated]

The small set that the data folder shares: 800 training recordings, of which the last 100 choose the epoch, and its 62
test recordings, used once, on golden and the RTL. 300 ms in 12 ticks; a place that sent any event of a polarity in a
tick is a spike. With so few recordings the accuracy is that of a small set, not of N-MNIST.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from apical.hw.design import default_options
from apical.sim import equivalence
from apical.sw import bundle, datasets, gating
from apical.sw.conv_layers import Conv, geometry
from apical.sw.data import Data
from apical.sw.gate_layers import KernelGate
from apical.sw.geometry import Shape
from apical.sw.laws import LeakyIntegrator, Lif
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.train import Settings, fit

TICKS, MICROSECONDS, SIDE = 12, 300_000, 34
HELD, LANES = 100, 4


def load(which: str) -> Data:
    """Recordings as spikes [samples, ticks, 2 x 34 x 34]; 40 bits an event: x, y, polarity, microseconds."""
    with zipfile.ZipFile(Path(os.environ["APICAL_DATA"]) / "nmnist_small" / "NMNISTsmall_dev.zip") as archive:
        there = set(archive.namelist())
        lines = archive.read(f"NMNISTsmall/{which}.txt").decode().splitlines()[1:]
        listed = [(int(a), int(b)) for a, b in (line.split() for line in lines) if f"NMNISTsmall/{a}.bs2" in there]
        raw = [np.frombuffer(archive.read(f"NMNISTsmall/{a}.bs2"), np.uint8).reshape(-1, 5) for a, _ in listed]
    spikes = np.zeros((len(raw), TICKS, 2, SIDE, SIDE), np.uint8)
    for n, events in enumerate(raw):
        e = events.astype(np.int64)
        time = (e[:, 2] & 127) << 16 | e[:, 3] << 8 | e[:, 4]
        keep = (time < MICROSECONDS) & (e[:, 0] < SIDE) & (e[:, 1] < SIDE)
        e, time = e[keep], time[keep]
        spikes[n, time * TICKS // MICROSECONDS, e[:, 2] >> 7, e[:, 1], e[:, 0]] = 1
    labels = np.array([b for _, b in listed])
    return Data(spikes.reshape(len(raw), TICKS, -1), labels, np.arange(len(raw)), "nmnist-small", which)


def shifted(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """Moved by up to 3 pixels."""
    x = torch.from_numpy(data.images[rows]).reshape(-1, TICKS, 2, SIDE, SIDE)
    y0, x0 = (int(n) for n in torch.randint(0, 7, (2,), generator=generator))
    return nn.functional.pad(x, (3, 3, 3, 3))[..., y0 : y0 + SIDE, x0 : x0 + SIDE].reshape(len(rows), TICKS, -1)


def build(gain: float | None) -> Model:
    """Two maps of LIF cells and leaky integrators; the second map gated in groups of four where there is a gain."""
    events = Input("events", 2 * SIDE * SIDE, shape=(2, SIDE, SIDE))

    def cells(name: str, shape: Shape) -> Population:
        start = {"decay": 0.8}
        return Population(name, math.prod(shape), Lif(), scale=64, unit=1.0, start=start, shape=shape, width=1)

    first = cells("first", geometry(events.shape, 16, 5, 2, 1).target)
    second = cells("second", geometry(first.shape, 32, 3, 2, 1).target)
    read = Population("readout", 10, LeakyIntegrator(state_bits=20), scale=512, unit=512, fixed=["decay"])
    wires = [
        Conv(events, first, 5, stride=2, padding=1, norm=True),
        Conv(first, second, 3, stride=2, padding=1, norm=True),
        Dense(second, read, std=0.05),
    ]
    gates = [] if gain is None else [KernelGate(first, second, groups=8, window=TICKS, gain=gain, std=2.0)]
    encoding: dict[str, str | int | float] = {"kind": "events"}
    return Model([events], [first, second, read], wires, decoder="sum", encoding=encoding, name="nmnist", gates=gates)


def main() -> None:
    """Train what isn't there, then judge it on golden and the RTL."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--gating", type=float, default=0.3)
    parser.add_argument("--nets", nargs="+", default=["plain", "gated"], choices=["plain", "gated"])
    given = parser.parse_args()
    train, test = load("train1K"), load("test100")
    judged, train = train.rows(slice(-HELD, None)), train.rows(slice(0, -HELD))
    settings = Settings(given.epochs, 16, 3e-3, weight_decay=1e-3, average=0.98, gain=0.3)
    for name in given.nets:
        folder = given.folder / name
        if not folder.exists():
            torch.manual_seed(0)
            kept = given.folder / f"{name}.checkpoint"  # to go on from
            model = build(1.0 if name == "gated" else None)
            own = replace(settings, gating=given.gating) if name == "gated" else settings
            found = fit(model, train, judged, own, prepare=shifted, checkpoint=kept, progress=False, log=print)
            bundle.save(model.export(), folder, {"validation_accuracy": found.accuracy, "epochs": given.epochs})
        network = bundle.load(folder)
        x = datasets.encode(test, network).astype(np.int64)
        options = default_options(network, synapse_lanes=LANES, neuron_lanes=LANES)
        result = equivalence.cosim(network, x, options=options, labels=test.labels, workers=1)
        answer: dict[str, Any] = {"net": name, "samples": len(x), "equal": result.equal, "accuracy": result.accuracy}
        answer |= gating.report(network, result.golden, x)
        print(json.dumps(answer | {"cycles_per_sample": result.cycles_per_sample}), flush=True)


if __name__ == "__main__":
    main()
