"""Recipes of the shipped convolutional networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from apical.sw.augment import deform
from apical.sw.conv_layers import Conv, geometry
from apical.sw.data import Data
from apical.sw.gate_layers import KernelGate
from apical.sw.geometry import Shape
from apical.sw.laws import Format, LeakyIntegrator, Relu
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.recipe import Recipe
from apical.sw.train import Settings

CLASSES = 10
GATE_STD = 1.0
UNIT = 8.0  # sent value that means 1.0 in all maps: 4-bit events reach 15/8


def turned(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """Digits turned, scaled, shifted and stretched a little."""
    images = torch.from_numpy(data.images[rows]).float()
    return deform(images, generator, degrees=10, zoom=0.1, shift=1.5, elastic=0.5)


def feature_map(name: str, shape: Shape, shift: int) -> Population:
    """Rectified 4-bit maps; `shift` divides sums so that 1.0 is `UNIT`."""
    size = shape[0] * shape[1] * shape[2]
    return Population(name, size, Relu(value_bits=4, shift=shift), scale=UNIT * 2**shift, unit=UNIT, shape=shape)


def mnist_conv(name: str, gains: tuple[float, float] | None = None) -> Model:
    """16 maps of 5 x 5 (stride 2), 32 of 3 x 3 (stride 2), 64 of 3 x 3, ten leaky integrators; normalized, no pools.

    Strides in place of pools: an event then reaches 25/4 and 9/4 positions. Most work is in the third layer.

    :param gains: gate the second layer's kernels, each for itself, and the third's in eight groups of eight.
    """
    pixels = Input("pixels", 784, Format(4, signed=False), shape=(1, 28, 28))
    first = feature_map("first", geometry(pixels.shape, 16, 5, 2, 2).target, 6)
    second = feature_map("second", geometry(first.shape, 32, 3, 2, 1).target, 8)
    third = feature_map("third", geometry(second.shape, 64, 3, 1, 1).target, 8)
    gates = []
    if gains is not None:
        gates = [
            KernelGate(first, second, gain=gains[0], std=GATE_STD),
            KernelGate(second, third, groups=8, gain=gains[1], std=GATE_STD),
        ]
    read = Population("readout", CLASSES, LeakyIntegrator(state_bits=20), scale=4096, unit=4096, fixed=["decay"])
    return Model(
        [pixels],
        [first, second, third, read],
        [
            Conv(pixels, first, 5, stride=2, padding=2, norm=True),
            Conv(first, second, 3, stride=2, padding=1, norm=True),
            Conv(second, third, 3, padding=1, norm=True),
            Dense(third, read, std=0.02),
        ],
        decoder="sum",
        encoding={"kind": "graded", "bits": 4, "ticks": 1},
        name=name,
        gates=gates,
    )


LONG = Settings(epochs=12, batch=128, learning_rate=4e-3, weight_decay=1e-3, average=0.998, gain=1.0)
QUICK = replace(LONG, epochs=8, batch=32, learning_rate=3e-3, average=0.98)

CONVOLUTIONAL: dict[str, Recipe] = {
    "mnist-conv": Recipe(
        "16-32-64 convolution maps and 10 outputs on MNIST, 8-bit weights, 4-bit graded events, 1 tick",
        lambda: mnist_conv("mnist-conv"),
        "mnist",
        "mnist",
        LONG,
        QUICK,
        turned,
    ),
    "mnist-conv-gated": Recipe(
        "mnist-conv with gates of kernels: each of 32 in the second layer, 8 groups of 8 in the third",
        lambda: mnist_conv("mnist-conv-gated", (1.0, 1.0)),
        "mnist",
        "mnist",
        replace(LONG, epochs=16, gating=0.4),
        replace(QUICK, gating=0.1),
        turned,
    ),
}
