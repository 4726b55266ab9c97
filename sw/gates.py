"""Where context opened and closed the gate: what two-point cells sent, and what they would have sent without context.

Currents come from a run's traced values and the projections' weights; both outputs come from the law's own `step`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch

from apical.sw.arithmetic import IntegerOps
from apical.sw.data import Flags
from apical.sw.golden import Synapses, split_input
from apical.sw.network import IntArray, Network, NetworkError, Population

RECEPTIVE, CONTEXT = "basal", "apical"


@dataclass(frozen=True)
class Gates:
    """One population over time; every array is [samples, ticks, cells].

    :param basal, apical: summed currents with their biases, integers, before the law shifts and clips them.
    :param value: what the cells sent.
    :param alone: what they would have sent with the same basal current and an apical one of 0.
    """

    basal: IntArray
    apical: IntArray
    value: IntArray
    alone: IntArray

    @property
    def opened(self) -> Flags:
        """Sent, and wouldn't have been without context."""
        return np.asarray((self.value != 0) & (self.alone == 0))

    @property
    def closed(self) -> Flags:
        """Not sent, but would have been without context."""
        return np.asarray((self.value == 0) & (self.alone != 0))

    def shares(self) -> dict[str, float]:
        """Shares of all cells and ticks: ``sent``, ``alone`` (sent without context), ``opened``, ``closed``."""
        found = {"sent": self.value != 0, "alone": self.alone != 0, "opened": self.opened, "closed": self.closed}
        return {name: float(flags.mean()) for name, flags in found.items()}


def gated(network: Network) -> list[Population]:
    """Populations whose cells have context and no state, in the network's order."""
    found = (p for p in network.populations if CONTEXT in p.law.compartments and not p.law.states())
    return list(found)


def currents(
    network: Network, population: Population, x: np.ndarray, values: Mapping[str, np.ndarray]
) -> dict[str, IntArray]:
    """Each compartment's summed current, [samples, ticks, cells], from what its sources sent.

    :param x: input, [samples, ticks, inputs].
    :param values: per population, [samples, ticks, neurons], as `Trace.values`.
    """
    sent = {**split_input(network, x), **values}
    out = {c: np.zeros((*x.shape[:2], population.size), np.int64) for c in population.law.compartments}
    for q in network.incoming(population.name):
        events = sent[q.source][:, : x.shape[1] - q.delay] if q.delay else sent[q.source]
        rows = torch.from_numpy(np.ascontiguousarray(events)).reshape(-1, events.shape[2])
        part = Synapses(q, network.nodes[q.source].value_range)(rows).to(torch.int64).numpy()
        out[q.compartment][:, q.delay :] += part.reshape(*events.shape[:2], -1)
    return out


def gates(network: Network, population: Population, x: np.ndarray, values: Mapping[str, np.ndarray]) -> Gates:
    """What context did in one population.

    :param x, values: as in `currents`.
    :raises NetworkError: cells without context or with a state, or values that aren't this network's on this input.
    """
    where = f"population {population.name!r}"
    if population not in gated(network):
        raise NetworkError(
            f"{where}: expected cells with an {CONTEXT} compartment and no state, got law {population.law.name}"
        )
    given = {c: torch.from_numpy(a) for c, a in currents(network, population, x, values).items()}
    params = {k: torch.from_numpy(population.spread(a).copy()) for k, a in population.params.items()}
    none = {k: torch.zeros_like(a) if k.endswith(CONTEXT) else a for k, a in params.items()}  # its bias is context too
    ops = IntegerOps()
    _, value = population.law.step(ops, {}, given, params)
    _, alone = population.law.step(ops, {}, {**given, CONTEXT: torch.zeros_like(given[CONTEXT])}, none)
    if not np.array_equal(value.numpy(), values[population.name]):
        raise NetworkError(f"{where}: expected the values of a run on this input, got others")

    def total(c: str) -> IntArray:
        biases = [a for k, a in params.items() if k.endswith(c)]
        return np.asarray((given[c] + sum(biases)).numpy())

    return Gates(total(RECEPTIVE), total(CONTEXT), value.numpy(), alone.numpy())
