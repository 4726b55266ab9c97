"""`apical bench competitive-plasticity`: what the stored study says, and how fast the rules learn here."""

from __future__ import annotations

import time

import numpy as np

from apical.sw import plasticity_study as study
from apical.sw.plasticity import Rule
from apical.sw.plasticity_online import Online

CELLS, SAMPLES = 1000, 2000  # of the speed
SPEEDS = {"plain": Rule(), "rule_1": Rule(fraction=0.001), "rule_3": Rule(fraction=0.01, subnet=100)}
PEERS = {
    "competitive plasticity": {
        "what": "published: learning MNIST to 95 % takes at least 1e8 synaptic updates",
        "source": "van Rossum and Pache, PLoS Comput. Biol. 20(10), e1012553 (arXiv 2304.02594)",
    }
}


def speed(rule: Rule) -> float:
    """Samples per second of one core's time, online, of 784-1000-10 on random images as dark as digits (19 % lit)."""
    random = np.random.default_rng(0)
    images = random.integers(1, 256, (SAMPLES, 784), np.uint8) * (random.random((SAMPLES, 784)) < 0.19)
    labels, order = random.integers(0, 10, SAMPLES), np.arange(SAMPLES)
    net = Online(784, CELLS, 10, rule, 0.001)
    net.learn(images, labels, order[:100])
    began = time.process_time()
    net.learn(images, labels, order)
    return SAMPLES / (time.process_time() - began)


def figures() -> dict[str, float | int | None]:
    """The study's figures, and ``samples_per_second_…``."""
    found = study.figures(study.stored())
    return {**found, **{f"samples_per_second_{name}_n{CELLS}": speed(rule) for name, rule in SPEEDS.items()}}
