"""Fine-tuning: a calibrated network trains on under the integer rule, from the imported point."""

from __future__ import annotations

import numpy as np
import torch

from apical.sw import conv_layers, layers
from apical.sw.calibrate import Calibrated
from apical.sw.data import Data
from apical.sw.network import Network
from apical.sw.real_network import RealProjection
from apical.sw.surrogate import multi_gaussian
from apical.sw.train import Settings, accuracy, fit

RATE = 5e-5  # of learning, unless told


def trainable(done: Calibrated) -> layers.Model:
    """The calibrated network as a model that trains on from there; its export is the calibrated network.

    The surrogate is the multi-Gaussian of one real unit's width, as in the networks of Yin, Corradi and Bohté.
    """
    inputs = [layers.Input(i.name, i.size, i.format, shape=i.shape) for i in done.network.inputs]
    nodes: dict[str, layers.Input | layers.Population] = {i.name: i for i in inputs}
    cells: list[layers.Population] = []
    wires: list[layers.Wire] = []
    for p in done.steps.populations:
        full = p.law.gain * max(1 << (q.bits - 1) for q in done.steps.incoming(p.name))  # latent weights lie within 1
        specs, unit = p.law.parameters(), float(done.scales[p.name].mean())
        start = {k: p.shared(a / full if specs[k].unit == "current" else a) for k, a in p.params.items()}
        still = "adaptation" in p.params and not p.params["adaptation"].any()
        threshold = p.params["threshold"] / done.scales[p.name] if "threshold" in p.params else np.ones(1)
        cell = layers.Population(
            p.name,
            p.size,
            p.law,
            scale=full,
            unit=None if p.spikes else unit,
            start={k: list(a) for k, a in start.items()},
            fixed=["adaptation", "adaptation_decay"] if still else [],
            initial={k: a.copy() for k, a in done.network.nodes[p.name].initial.items()},  # type: ignore[union-attr]
            surrogate=multi_gaussian,
            width=1 / float(np.maximum(threshold, 1e-6).mean()),
            attach=True,
            shape=p.shape,
        )
        nodes[p.name] = cell
        cells.append(cell)
    for q in done.steps.projections:
        target = nodes[q.target]
        assert isinstance(target, layers.Population)
        wire = _wire(q, nodes[q.source], target)
        with torch.no_grad():
            wire.latent.copy_(torch.from_numpy(q.weights / wire.factor))
        wires.append(wire)
    network = done.network
    return layers.Model(
        inputs,
        cells,
        wires,
        outputs=network.outputs,
        decoder=network.decoder,
        encoding=network.encoding,
        name=network.name,
    )


def _wire(q: RealProjection, source: layers.Node, target: layers.Population) -> layers.Wire:
    if (g := q.geometry) is None:
        return layers.Dense(source, target, bits=q.bits, compartment=q.compartment, delay=q.delay, name=q.name)
    return conv_layers.Conv(
        source,
        target,
        g.kernel,
        stride=g.stride,
        padding=g.padding,
        dilation=g.dilation,
        groups=g.groups,
        bits=q.bits,
        compartment=q.compartment,
        delay=q.delay,
        name=q.name,
    )


def parts(x: np.ndarray, labels: np.ndarray, seed: int) -> tuple[Data, Data]:
    """Labelled events as training and validation data: every fifth of them, chosen by the seed, validates.

    :param x: integers [samples, ticks, channels], 0 to 255. :param labels: [samples].
    :raises ValueError: other values, or too few samples.
    """
    if x.min() < 0 or x.max() > 255 or len(x) < 10:
        raise ValueError(f"tuning: expected 10 samples or more of 0 to 255, got {len(x)} of {x.min()} to {x.max()}")
    order = np.random.default_rng(seed).permutation(len(x))
    cut = len(x) // 5

    def part(chosen: np.ndarray, split: str) -> Data:
        return Data(x[chosen].astype(np.uint8), labels[chosen].astype(np.int64), chosen, "calibration", split)

    return part(np.sort(order[cut:]), "train"), part(np.sort(order[:cut]), "validation")


def tuned(
    done: Calibrated, data: Data, validation: Data, epochs: int, seed: int, rate: float = RATE, progress: bool = True
) -> tuple[Network, int]:
    """The network after some epochs of training under the integer rule, and the best one (0: as calibrated)."""
    torch.manual_seed(seed)
    model = trainable(done)
    before = accuracy(model, validation)
    settings = Settings(
        epochs=epochs, batch=64, learning_rate=rate, weight_decay=0, median_clip=2, neuron_rate=0.1, seed=seed
    )
    fitted = fit(model, data, validation, settings, progress=progress)
    return (model.export(), fitted.epoch) if fitted.accuracy > before else (done.network, 0)
