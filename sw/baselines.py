"""Baselines: the counted work of conventional networks of the same task.

Here the dense point-neuron multilayer perceptron; `apical.sw.recurrent_baselines` has the recurrent ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from apical.sw.counting import bits_of, move, multiply, no_counts, update_law
from apical.sw.laws import Relu
from apical.sw.network import Network
from apical.sw.ranges import Interval


@dataclass(frozen=True)
class Variant:
    """One way to run the dense baseline.

    :param passes: ``single``: one pass per sample, the whole input as 8-bit values at once (a static image needs no
        more); ``tick``: a pass per tick, for inputs that change with time.
    :param precision: of weights, values and sums.
    :param accumulators: ``memory``: the event datapath's own way, each multiply-accumulate reads and writes its sum;
        ``register``: an output-stationary engine, sums stay in registers and cost nothing (best for the dense side).
    """

    name: str
    passes: Literal["single", "tick"]
    precision: Literal["int8", "fp32"]
    accumulators: Literal["memory", "register"]


VARIANTS = (
    Variant("int8, one pass", "single", "int8", "memory"),
    Variant("int8, one pass, sums in registers", "single", "int8", "register"),
    Variant("int8, a pass per tick", "tick", "int8", "memory"),
    Variant("fp32, one pass", "single", "fp32", "memory"),
    Variant("fp32, a pass per tick", "tick", "fp32", "memory"),
)


def dense(network: Network, samples: int, ticks: int, variant: Variant) -> dict[str, int]:
    """Counted work of the dense point-neuron MLP with the network's layer sizes, every value sent.

    Each delay-0 projection is a layer of one multiply-accumulate per connection (a pool: an addition); all compartments
    of a population sum into one point neuron, ReLU with bias. Delayed projections (recurrence) have no counterpart in
    an MLP and are left out.

    :returns: counts by kind of the whole run, as `apical.sw.energy.counts`.
    """
    out = no_counts()
    passes = samples * (ticks if variant.passes == "tick" else 1)
    weight_bits = 8 if variant.precision == "int8" else 32
    prefix = "" if variant.precision == "int8" else "fp32_"
    fed: set[str] = set()
    for population in network.populations:
        layers = [p for p in network.incoming(population.name) if p.delay == 0]
        fan_in = sum(p.fan_in for p in layers)
        # 8 × 8 bits: |weight| <= 128, 0 <= value <= 255
        sums = bits_of(Interval(-128 * 255 * fan_in, 127 * 255 * fan_in)) if variant.precision == "int8" else 32
        terms = passes * sum(int(p.fan_out.sum()) for p in layers)
        macs = passes * sum(int(p.fan_out.sum()) for p in layers if p.weights.size)
        updates = population.size * passes
        out["synaptic_operation"] += terms
        move(out, "weight_read", macs, weight_bits, sum(p.weights.size for p in layers))
        out[f"{prefix}add"] += terms
        if prefix:
            out["fp32_multiply"] += macs
        else:
            multiply(out, "multiply", macs, 8 * 8)
        if variant.accumulators == "memory":
            move(out, "accumulator_read", terms + updates, sums, population.size)
            move(out, "accumulator_write", terms + updates, sums, population.size)
        update_law(out, Relu(), updates)
        move(out, "parameter_read", updates, sums, population.size)  # the bias
        out["event_sent"] += updates
        fed |= {p.source for p in layers}
    out["event_received"] = passes * sum(i.size for i in network.inputs if i.name in fed)
    return out
