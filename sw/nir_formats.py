"""Widths of an imported network: as few bits as let its integers decide as the float twin does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from apical.sw import calibrate, golden, nir_check, nir_import, nir_twin
from apical.sw.calibrate import Calibrated
from apical.sw.nir_import import Formats
from apical.sw.nir_twin import FloatNetwork
from apical.sw.real_network import RealNetwork

LADDER = ((8, 20), (12, 20), (12, 24), (16, 28))  # bits of weights, of states
ENOUGH = 0.995  # agreement with the twin at which no more bits are tried
JUDGED = 400  # samples that are judged, at most


@dataclass(frozen=True)
class Tried:
    """One width that was tried.

    :param agreement: share of samples decided as the twin decides them; without a decoder F1 of its spikes, or 1 less
        the relative error of its values.
    """

    weight_bits: int
    state_bits: int
    agreement: float


@dataclass(frozen=True)
class Chosen:
    """The calibrated network of the chosen widths."""

    formats: Formats
    real: RealNetwork
    done: Calibrated
    tried: tuple[Tried, ...]


def in_real_units(real: RealNetwork, done: Calibrated, x: np.ndarray) -> np.ndarray:
    """The first output of the integers in the twin's units, [samples, ticks, neurons]."""
    name = done.network.outputs[0]
    unit = 1.0 if real.population(name).spikes else float(done.scales[name].mean())
    return np.asarray(golden.run(done.network, x).outputs[name] / unit)


def choose(
    network: FloatNetwork,
    x: np.ndarray,
    samples: int,
    formats: Formats,
    decoder: str | None,
    name: str = "nir",
    *,
    ladder: tuple[tuple[int, int], ...] = LADDER,
    progress: Callable[[int, int], None] | None = None,
) -> Chosen:
    """Calibrate at the fewest bits of `ladder` at which golden agrees with the twin; at the best where none does.

    :param x: integers [samples, ticks, channels]; the first `samples` calibrate, the first `JUDGED` judge.
    :param formats: everything but bits of weights and states.
    :raises NirError: as `nir_import.of_data`.
    """
    tried = list[Tried]()
    best: tuple[Formats, RealNetwork, Calibrated] | None = None
    wanted: np.ndarray | None = None
    for weight_bits, state_bits in ladder:
        wide = replace(formats, weight_bits=weight_bits, state_bits=state_bits)
        real = nir_import.of_data(network, x[:samples], wide, decoder, name)
        integers = np.rint(x[: max(samples, JUDGED)]).astype(np.int64)  # as of_data has checked for what calibrates
        judged = integers[:JUDGED]
        done = calibrate.calibrate(real, integers[:samples], progress)
        if len(ladder) == 1:
            return Chosen(wide, real, done, ())
        wanted = nir_twin.run(network, judged)[network.outputs[0]] if wanted is None else wanted
        spikes = real.population(done.network.outputs[0]).spikes
        theirs = nir_check.Reference(**{"spikes" if spikes else "output": wanted})
        found = nir_check.figures(in_real_units(real, done, judged), theirs, decoder or "sum")
        likeness = found["f1"] if spikes else 1 - (found["error"] or 0.0)
        agreement = found["class_agreement"] if decoder else likeness
        assert agreement is not None
        if best is None or agreement > max(t.agreement for t in tried):
            best = wide, real, done
        tried.append(Tried(weight_bits, state_bits, agreement))
        if agreement >= ENOUGH:
            break
    assert best is not None
    return Chosen(*best, tuple(tried))
