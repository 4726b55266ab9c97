"""From the float twin of a graph to the terms of our laws: gains folded into weights, biases into the cells.

`real_network` gives an `apical.sw.real_network.RealNetwork`, which `apical.sw.calibrate` rounds to a bundle's network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from apical.sw.geometry import Geometry
from apical.sw.laws import Format, Law, make_law
from apical.sw.network import Input
from apical.sw.nir_maps import Kernel, kernels
from apical.sw.nir_profiles import Cell
from apical.sw.nir_read import NirError
from apical.sw.nir_twin import FloatNetwork, Wire, run, split
from apical.sw.real_network import RealArray, RealNetwork, RealPopulation, RealProjection

LIMIT_WEIGHTS = 1 << 25  # of one projection
LIMIT_COUNT_BITS = 8


@dataclass(frozen=True)
class Formats:
    """Integer formats of the imported network.

    :param counts: bits of graded spikes by cell; absent: what `reached` says.
    """

    weight_bits: int = 8
    decay_bits: int = 12
    state_bits: int = 20
    gain_bits: int = 4
    count_bits: int | None = None


def input_format(x: np.ndarray, name: str) -> Format:
    """Format that holds an input's values on the calibration data.

    :raises NirError: values that aren't integers.
    """
    if not np.array_equal(x, np.rint(x)):
        raise NirError(
            f"input {name!r}: expected integers, spikes or counts, got {x[x != np.rint(x)].flat[0]}; multiply the "
            f"values by a power of two and divide the first weights by it"
        )
    low, high = int(x.min()), int(x.max())
    bits = max(high.bit_length(), (-low - 1).bit_length() if low < 0 else 0, 1) + (low < 0)
    if bits > 16:
        raise NirError(f"input {name!r}: expected values of at most 16 bits, got {low} to {high}")
    return Format(bits, signed=low < 0)


def of_data(
    network: FloatNetwork, x: np.ndarray, formats: Formats, decoder: str | None = None, name: str = "nir"
) -> RealNetwork:
    """The network in the terms of our laws; formats of inputs and of graded spikes by what `x` reaches.

    :param x: calibration input [samples, ticks, channels].
    :raises NirError: as `real_network` and `input_format`.
    """
    inputs = {n: input_format(a, n) for n, a in split(network, x).items()}
    graded = {n for n, c in network.cells.items() if c.graded}
    sent = run(network, x, every=True) if graded else {}
    reached = {n: int(sent[n].max()) for n in graded if n not in network.membranes}
    return real_network(network, formats, inputs, reached, decoder, name)


def names(network: FloatNetwork) -> dict[str, str]:
    """Nodes' names as a bundle takes them: at most 80 characters, without control characters, no two alike."""
    out: dict[str, str] = {}
    for name in (*network.inputs, *network.cells):
        plain = "".join(c if c.isprintable() else "?" for c in name)[:80] or "?"
        unique, k = plain, 2
        while unique in out.values():
            unique, k = f"{plain} {k}", k + 1
        out[name] = unique
    return out


def real_network(
    network: FloatNetwork,
    formats: Formats,
    inputs: Mapping[str, Format],
    reached: Mapping[str, int],
    decoder: str | None = None,
    name: str = "nir",
) -> RealNetwork:
    """The same network in the terms of our laws.

    :param inputs: format of each input's values. :param reached: most spikes that each graded cell sent in a tick.
    :raises NirError: what the laws can't do, by node.
    """
    called = names(network)
    populations, projections = [], []
    found, maps = kernels(network)
    for cell in network.cells.values():
        law = _law(cell, formats, reached.get(cell.name, 1), cell.name in network.membranes)
        used = any(w.source == cell.name for ws in network.wires.values() for w in ws)
        if used and cell.name in network.membranes:
            raise NirError(f"node {cell.name!r} ({cell.type}): its membrane is read and its spikes are used, too")
        if used and cell.threshold is None:
            raise NirError(
                f"node {cell.name!r} ({cell.type}): it feeds other cells with its membrane; cells take spikes: put it "
                f"at the end, or into its targets' synapse (CubaLIF)"
            )
        between = {k: kernel for (name, k), kernel in found.items() if name == cell.name}
        with np.errstate(over="ignore", invalid="ignore"):
            population, wires = _population(network, cell, law, formats, called, between)
        populations.append(replace(population, shape=maps.get(cell.name)))
        projections += wires
    sources = tuple(Input(called[n], math.prod(s), inputs[n], maps.get(n)) for n, s in network.inputs.items())
    return RealNetwork(
        sources,
        tuple(populations),
        tuple(projections),
        tuple(called[n] for n in network.outputs),
        decoder,
        {"kind": "events"},
        name,
    )


def _law(cell: Cell, formats: Formats, reached: int, membrane: bool) -> Law:
    where = f"node {cell.name!r} ({cell.type})"
    if (cell.beta < 0).any() or (cell.alpha is not None and (cell.alpha < 0).any()):
        raise NirError(f"{where}: a decay below 0 (dt above tau) can't be computed by a law; choose a smaller dt")
    options: dict[str, Any] = {"state_bits": formats.state_bits, "gain_bits": formats.gain_bits}
    if cell.alpha is not None or cell.threshold is None or (cell.beta != 1).any():
        options["decay_bits"] = formats.decay_bits
    if cell.threshold is None:
        # A read-out's neurons share a scale and sum over many ticks.
        options["state_bits"] = min(32, formats.state_bits + 4)
    if cell.alpha is not None:
        options["current_bits"] = options["state_bits"]
    if cell.threshold is None:
        return make_law("leaky_integrator" if cell.alpha is None else "cuba_li", options)
    if (cell.threshold < 0).any():
        raise NirError(f"{where}, 'v_threshold': a law needs thresholds of at least 0, got {cell.threshold.min():.4g}")
    if cell.floor is not None and (cell.floor > 0).any():
        raise NirError(f"{where}, 'floor': a law needs a floor of at most 0, got {cell.floor.max():.4g}")
    options |= {"reset": cell.reset, "compare": cell.compare, "floored": cell.floor is not None}
    if membrane:
        options["sends"] = "membrane"
    elif cell.graded:
        options["count_bits"] = formats.count_bits or min(max(int(reached).bit_length(), 1), LIMIT_COUNT_BITS)
    integrates = "decay_bits" not in options
    return make_law("cuba_lif" if cell.alpha is not None else "if" if integrates else "lif", options)


def _population(
    network: FloatNetwork,
    cell: Cell,
    law: Law,
    formats: Formats,
    called: Mapping[str, str],
    between: Mapping[int, Kernel],
) -> tuple[RealPopulation, list[RealProjection]]:
    """A cell with the wires into it.

    :param between: those of the wires that are kernels between maps, by their place.
    """
    assert cell.start is not None
    fold = cell.gain if cell.weight is None else cell.gain * cell.weight
    bias = np.zeros(cell.size)
    merged: dict[tuple[str, int, Geometry | None], RealArray] = {}
    for k, wire in enumerate(network.wires[cell.name]):
        shape = network.inputs[wire.source] if wire.source in network.inputs else network.cells[wire.source].shape
        kernel, constant = _by_channel(between.get(k), fold), _constant(wire, shape)
        bias = bias + fold * constant
        if kernel is None:
            key: tuple[str, int, Geometry | None] = (wire.source, wire.delay, None)
            weights = fold[:, None] * matrix(wire, shape, cell)
        else:
            key, weights = (wire.source, wire.delay, kernel.geometry), kernel.weights
        merged[key] = merged[key] + weights if key in merged else weights
    target = called[cell.name]
    out: list[RealProjection] = []
    for (source, delay, geometry), weights in merged.items():
        label = f"{called[source]} to {target}" + (f" after {delay}" if delay else "")
        twin = [p for p in out if p.name.startswith(label[:90])]
        label = f"{label[:90]} {len(twin) + 1}" if twin else label[:100]
        out.append(
            RealProjection(
                label, called[source], target, weights / law.gain, delay, formats.weight_bits, geometry=geometry
            )
        )
    given: dict[str, RealArray | None] = {
        "decay": cell.beta,
        "current_decay": cell.alpha,
        "threshold": cell.threshold,
        "bias": bias if cell.alpha is not None else bias + cell.drive,
        "drive": cell.drive,
        "v_reset": cell.v_reset,
        "floor": cell.floor,
    }
    params: dict[str, RealArray] = {}
    for name in law.parameters():
        array = given[name]
        assert array is not None, (cell.name, name)
        params[name] = array
    where = f"node {cell.name!r} ({cell.type})"
    for what, arrays in (("weights", [p.weights for p in out]), ("biases and parameters", list(params.values()))):
        if not all(np.isfinite(a).all() for a in arrays):
            raise NirError(f"{where}: expected finite {what}, got others once gains are folded in")
    return RealPopulation(target, cell.size, law, params, {"v": cell.start}), out


def _by_channel(kernel: Kernel | None, fold: RealArray) -> Kernel | None:
    """A kernel with its target's gains; None where those differ within a channel."""
    if kernel is None:
        return None
    each = fold.reshape(kernel.geometry.channels, -1)
    if (each != each[:, :1]).any():
        return None
    return replace(kernel, weights=kernel.weights * each[:, :1, None, None])


@torch.no_grad()
def _constant(wire: Wire, shape: tuple[int, ...]) -> RealArray:
    """What a wire gives for no input, [targets]."""
    return np.asarray(wire.apply(torch.zeros(1, *shape, dtype=torch.float64))[0].numpy().copy())


@torch.no_grad()
def matrix(wire: Wire, shape: tuple[int, ...], cell: Cell) -> RealArray:
    """A wire as weights [targets, sources].

    :raises NirError: too many weights.
    """
    count = math.prod(shape)
    if count * cell.size > LIMIT_WEIGHTS:
        raise NirError(
            f"node {cell.name!r} ({cell.type}): {count} x {cell.size} connections from {wire.source!r}; expected at "
            f"most {LIMIT_WEIGHTS} (it isn't one convolution between maps)"
        )
    constant = wire.apply(torch.zeros(1, *shape, dtype=torch.float64))[0]
    step = max(1, (1 << 22) // max([count, *(math.prod(s.given) for s in wire.steps)]))
    parts = []
    for first in range(0, count, step):
        part = torch.zeros(min(step, count - first), count, dtype=torch.float64)
        part[torch.arange(len(part)), first + torch.arange(len(part))] = 1
        parts.append(wire.apply(part.reshape(-1, *shape)) - constant)
    return np.asarray(torch.cat(parts).T.numpy().copy())
