"""Recipes of the shipped recurrent spiking networks."""

from __future__ import annotations

import math
from statistics import NormalDist

from apical.sw.laws import AdaptiveLif
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


# Gradients must pass through the reset (`attach`): detached, the same net ended at 65 % in place of 86 %.
ECG = Settings(epochs=240, batch=32, learning_rate=3e-3, weight_decay=0.0, warmup=0.01, median_clip=2.0)
QUICK = Settings(epochs=30, batch=10, learning_rate=5e-3, weight_decay=0.0, median_clip=2.0)

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
        ECG,
        QUICK,
        held=8,
    ),
}
