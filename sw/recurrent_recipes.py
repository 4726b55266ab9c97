"""Recipes of the shipped recurrent spiking networks."""

from __future__ import annotations

import math
from dataclasses import replace
from statistics import NormalDist

import numpy as np
import torch
from torch import Tensor

from apical.sw.augment import replay
from apical.sw.data import Data
from apical.sw.laws import AdaptiveLif, LeakyIntegrator
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.recipe import Recipe
from apical.sw.surrogate import multi_gaussian
from apical.sw.train import Settings


def decays(count: int, ticks: float, spread: float = 0.3) -> list[float]:
    """exp(-1/τ) for time constants spread log-normally about `ticks`: the distribution's quantiles, so no chance."""
    normal = NormalDist(math.log(ticks), spread)
    return [math.exp(-1 / math.exp(normal.inv_cdf((n + 0.5) / count))) for n in range(count)]


def ecg_srnn(bits: int, name: str) -> Model:
    """4-36 recurrent-6 adaptive cells; a class in every tick, by the largest membrane of the six outputs.

    The shape of Yin, Corradi and Bohté (arXiv 2005.11633); time constants, thresholds and adaptation train, per neuron.
    14-bit states keep every product below 2^24, so that training's floats are exact. Narrow weights count in larger
    steps (`gain_bits`), so that their range stays half a threshold and the states stay fine.
    """
    gain = 8 - bits
    steps = 254.0
    leads = Input("leads", 4)
    hidden = Population(
        "hidden",
        36,
        AdaptiveLif(state_bits=14, decay_bits=10, gain_bits=gain),
        scale=steps,
        start={"decay": decays(36, 20), "adaptation_decay": decays(36, 60), "adaptation": 0.3},
        surrogate=multi_gaussian,
        attach=True,
    )
    waves = Population(
        "waves",
        6,
        AdaptiveLif(state_bits=14, decay_bits=10, sends="membrane", gain_bits=gain),
        scale=steps,
        unit=steps,
        start={"decay": decays(6, 20), "adaptation_decay": decays(6, 100), "adaptation": 0.18},
        surrogate=multi_gaussian,
        attach=True,
    )
    projections = [
        Dense(leads, hidden, bits=bits, std=0.11),
        Dense(hidden, hidden, bits=bits, std=0.08, delay=1),
        Dense(hidden, waves, bits=bits, std=0.107),
    ]
    encoding: dict[str, str | int | float] = {"kind": "events", "bits": 1}
    return Model([leads], [hidden, waves], projections, decoder="tick", encoding=encoding, name=name)


def spoken_digits() -> Model:
    """140-128 recurrent-128 recurrent-10 on a spoken digit: adaptive cells with trained time constants, a leaky
    integrator per digit whose membrane is summed over the ticks.

    The shape of Yin, Corradi and Bohté (arXiv 2103.12593) for spoken digits, with 140 channels here. A threshold
    is 512 steps, a weight's step 4 of them: each floor takes half a step per tick, and a slow adaptation adds them up.
    """
    size, steps, read_steps = 128, 512.0, 256.0
    cochlea = Input("cochlea", 140)
    law = AdaptiveLif(state_bits=14, decay_bits=10, gain_bits=2)

    def cells(name: str) -> Population:
        start = {"decay": decays(size, 4, 0.8), "adaptation_decay": decays(size, 40, 0.5), "adaptation": [0.05] * size}
        return Population(name, size, law, scale=steps, start=start, surrogate=multi_gaussian, attach=True)

    first, second = cells("first"), cells("second")
    digits = Population("digits", 10, LeakyIntegrator(state_bits=16), scale=read_steps, unit=10 * read_steps)
    projections = [
        Dense(cochlea, first, std=0.25),
        Dense(first, first, std=0.044, delay=1),
        Dense(first, second, std=0.35),
        Dense(second, second, std=0.044, delay=1),
        Dense(second, digits, std=0.1),
    ]
    encoding: dict[str, str | int | float] = {"kind": "events", "bits": 1}
    return Model(
        [cochlea], [first, second, digits], projections, decoder="sum", encoding=encoding, name="spoken-digits"
    )


def replayed(data: Data, rows: np.ndarray, epoch: int, generator: torch.Generator) -> Tensor:
    """Recordings somewhat faster or slower, later, higher or lower, with lost spikes."""
    events = torch.from_numpy(data.images[rows]).float()
    return replay(events, generator, speed=0.2, late=4, spread=0.06, shift=3.5, drop=0.05)


# Gradients must pass through the reset (`attach`): detached, the same net ended at 65 % in place of 86 %.
ECG = Settings(epochs=240, batch=32, learning_rate=3e-3, weight_decay=0.0, warmup=0.01, median_clip=2.0)
NARROW = replace(ECG, learning_rate=2e-3, rollback=1.5)
QUICK = Settings(epochs=30, batch=10, learning_rate=5e-3, weight_decay=0.0, median_clip=2.0)

SPOKEN_REAL = Settings(
    epochs=120,
    batch=32,
    learning_rate=1e-2,
    weight_decay=1e-3,
    median_clip=2.0,
    label_smoothing=0.1,
    average=0.99,
    gain=0.5,
)
SPOKEN = replace(SPOKEN_REAL, epochs=30, learning_rate=1e-3)

RECURRENT: dict[str, Recipe] = {
    "ecg-srnn": Recipe(
        "adaptive spiking 4-36 recurrent-6 on QTDB ECG, 8-bit weights, a class in each of 1,301 ticks",
        lambda: ecg_srnn(8, "ecg-srnn"),
        "ecg-qtdb",
        "ecg-qtdb",
        ECG,
        QUICK,
        held=8,
    ),
    "ecg-srnn-4bit": Recipe(
        "adaptive spiking 4-36 recurrent-6 on QTDB ECG, 4-bit weights, a class in each of 1,301 ticks",
        lambda: ecg_srnn(4, "ecg-srnn-4bit"),
        "ecg-qtdb",
        "ecg-qtdb",
        NARROW,
        QUICK,
        held=8,
    ),
    "spoken-digits": Recipe(
        "adaptive spiking 140-128 recurrent-128 recurrent-10 on spoken digits, 8-bit weights, 100 ticks",
        spoken_digits,
        "spoken-digits",
        "spoken-digits",
        SPOKEN,
        replace(SPOKEN_REAL, epochs=60, batch=15),
        replayed,
        held=10,
        real=SPOKEN_REAL,
    ),
}
