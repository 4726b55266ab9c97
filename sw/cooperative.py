"""Cooperating streams: S streams × L layers of two-point cells that guide each other, and their point baseline.

Each layer's basal compartment has what its stream sees (its input, or the layer below). Its apical compartment has
context: what the layer itself sent (proximal), what the other streams send (distal), and a brief memory of all streams
(universal). Source: Adeel et al., arXiv 2211.01950; the delays are our reading, see `cooperative`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence

from apical.sw.laws import Law, LeakyIntegrator, Modulation, Relu, TwoPoint
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.network import Network

CONTEXTS = ("proximal", "distal", "beside", "universal")
FRACTION_BITS, SCALE_BITS = 6, 11  # of R and C; integer steps per real unit of current, as a power of two


def cell(law: str, value_bits: int, modulation: Modulation = "mcc") -> Law:
    """``two_point`` or ``relu``, whose events have `value_bits` bits, three of them (at most) for the whole part.

    :raises ValueError: another law, or bits outside 2 to 8.
    """
    if not 2 <= value_bits <= 8:
        raise ValueError(f"cooperative: value_bits: expected 2 to 8, got {value_bits}")
    fraction = max(value_bits - 3, 0)
    if law == "relu":
        return Relu(value_bits=value_bits, shift=SCALE_BITS - fraction)
    if law == "two_point":
        shift = SCALE_BITS - FRACTION_BITS
        return TwoPoint(value_bits, fraction, FRACTION_BITS, shift, modulation)
    raise ValueError(f"cooperative: law: expected 'two_point' or 'relu', got {law!r}")


class _Builder:
    """Projections as they come; compartments and spreads by the law."""

    def __init__(self, law: str, bits: int, basal: float, apical: float) -> None:
        self.law, self.bits, self.spread = law, bits, {"basal": basal, "apical": apical}
        self.projections: list[Dense] = []

    def add(self, source: Input | Population, target: Population, role: str, delay: int = 0) -> None:
        """A projection in its role, ``basal`` or a context; a point neuron takes every one as a plain input."""
        part = "basal" if role == "basal" or self.law == "relu" else "apical"
        std = self.spread[part] / math.sqrt(source.size)
        name = f"{source.name} to {target.name}{'' if role == 'basal' else ' ' + role}"
        self.projections.append(
            Dense(source, target, bits=self.bits, compartment=part, delay=delay, std=std, name=name)
        )


def cooperative(
    inputs: Sequence[Input],
    layers: int,
    cells: int,
    outputs: int,
    *,
    law: str = "two_point",
    contexts: Collection[str] = ("distal",),
    modulation: Modulation = "mcc",
    memory: int = 16,
    memory_start: float = 0.9,
    value_bits: int = 6,
    bits: int = 8,
    basal: float = 0.35,
    apical: float = 0.2,
    bias: float = -0.25,
    read: int = 256,
    decoder: str | None = None,
    encoding: Mapping[str, str | int | float] | None = None,
    name: str = "cooperative",
) -> Model:
    """S streams × `layers` layers of `cells` cells each, with contexts and a linear read-out of the last layers.

    ============  ==================================================================== =====
    context       what a cell of stream s, layer l, gets in its apical compartment     delay
    ============  ==================================================================== =====
    (basal)       layer l - 1 of stream s; its input at the first layer                0
    proximal      its own layer                                                        1
    distal        layer l - 1 of each other stream; its input at the first layer       0
    beside        layer l of each other stream (distal, but a tick late)               1
    universal     the memory, a leaky integrator that sums all last layers             1
    ============  ==================================================================== =====

    :param inputs: one per stream, in the order of the data's channels.
    :param outputs: read-out cells: leaky integrators that forget at once (decay 0), so a linear sum.
    :param law: ``two_point``; or ``relu``: point neurons with the same projections, all of them plain inputs, so the
        same number of weights (a two-point cell has two biases, a point neuron one).
    :param memory: cells of the universal memory, which send 4-bit events; their decays train, from `memory_start` on.
    :param basal, apical: standard deviation of the start weights × the root of their source's size.
    :param bias: start of the apical bias: it sets the activity at the start.
    :param read: integer steps of an output per real unit; stored as ``target_unit`` where there is no decoder.
    :raises ValueError: an unknown law or context, or none, no inputs or no layers.
    """
    if unknown := sorted(set(contexts) - set(CONTEXTS)):
        raise ValueError(f"cooperative: contexts: expected some of {CONTEXTS}, got {unknown[0]!r}")
    if not contexts or not inputs or layers < 1:
        given = f"{len(inputs)} inputs, {layers} layers, contexts {tuple(contexts)}"
        raise ValueError(f"cooperative: expected at least one input, layer and context, got {given}")
    if len(inputs) == 1 and not {"proximal", "universal"} & set(contexts):
        raise ValueError("cooperative: one stream has no other for context; expected 'proximal' or 'universal'")
    kind = cell(law, value_bits, modulation)
    unit = float(1 << max(value_bits - 3, 0))
    start = {"bias_apical": bias} if law == "two_point" else {}
    scale = float(1 << SCALE_BITS)
    grid = [
        [Population(f"{i.name} {n + 1}", cells, kind, scale=scale, unit=unit, start=start) for n in range(layers)]
        for i in inputs
    ]
    shared = Population("memory", memory, _memory_law(), scale=1024.0, unit=1.0, start={"decay": memory_start})
    reader = Population(
        "read-out",
        outputs,
        LeakyIntegrator(state_bits=16),
        scale=float(read),
        unit=float(read),
        start={"decay": 0.0},
        shared=["decay"],
        fixed=["decay"],
    )
    b = _Builder(law, bits, basal, apical)
    for n in range(layers):
        below: list[Input] | list[Population] = list(inputs) if n == 0 else [stream[n - 1] for stream in grid]
        for s, stream in enumerate(grid):
            target = stream[n]
            b.add(below[s], target, "basal")
            if "proximal" in contexts:
                b.add(target, target, "proximal", delay=1)
            for other in (o for o in range(len(grid)) if o != s):
                if "distal" in contexts:
                    b.add(below[other], target, "distal")
                if "beside" in contexts:
                    b.add(grid[other][n], target, "beside", delay=1)
            if "universal" in contexts:
                b.add(shared, target, "universal", delay=1)
    last = [stream[-1] for stream in grid]
    populations = [*(p for stream in grid for p in stream), reader]
    if "universal" in contexts:
        populations.insert(-1, shared)
    for target in populations[-2:] if "universal" in contexts else [reader]:
        b.projections += [Dense(source, target, bits=bits, std=0.5 / math.sqrt(cells)) for source in last]
    stored = {**(encoding or {}), **({"target_unit": read} if decoder is None else {})}
    return Model(inputs, populations, b.projections, decoder=decoder, encoding=stored, name=name)


def _memory_law() -> LeakyIntegrator:
    """14 bits of state, so that training's float32 stays exact; sends the upper 4."""
    return LeakyIntegrator(state_bits=14, shift=10)


def transmissions(network: Network, counters: Mapping[str, int], ticks: int) -> dict[str, float]:
    """Synaptic transmissions per tick (frame): events × their fan-out, from a run's counters.

    :param counters: of golden or of the RTL.
    :param ticks: of all samples together.
    :returns: ``hidden``: of what populations sent; ``input``: of the inputs' events; ``dense``: what `hidden` would be
        if every cell sent in every tick.
    """
    inputs = {i.name for i in network.inputs}
    out = {"hidden": 0.0, "input": 0.0, "dense": 0.0}
    for p in network.projections:
        targets, sources = p.weights.shape
        kind = "input" if p.source in inputs else "hidden"
        out[kind] += counters[f"projection {p.name}: events"] * targets / ticks
        out["dense"] += 0 if kind == "input" else targets * sources
    return out


def parameters(model: Model) -> int:
    """Numbers that train."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad)
