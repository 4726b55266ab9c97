"""How far a stream must run ahead of its readers: a gate sees a whole window before its population begins.

A node *looks a ticks ahead* where its inputs must have sent tick t + a before it can send tick t: a gate of W ticks
adds W - 1 to what its source looks ahead, and a reader of several streams waits for the one that looks furthest. While
it waits, each of its other streams goes on by that many ticks, and something must take them: a queue before the
reader, else the fork of their source stops, and with it the path that is waited for. docs/explanation/recurrence.md.
"""

from __future__ import annotations

from apical.sw.kernel_gates import Gate
from apical.sw.network import Network, Projection

DEEPEST = 1 << 17  # beats of a queue


def ticks_ahead(network: Network) -> dict[str, int]:
    """By node: the ticks beyond t that the inputs must have sent before it can send tick t.

    Gated populations are part of no loop, so every loop adds 0 or less and the search ends.
    """
    ahead = dict.fromkeys(network.nodes, 0)
    changed = True
    while changed:
        changed = False
        for p in network.populations:
            needs = [ahead[q.source] - q.delay for q in network.incoming(p.name)]
            if (gate := network.gate_of(p.name)) is not None:
                needs.append(ahead[gate.source] + gate.window - 1)
            if (most := max(ahead[p.name], *needs)) > ahead[p.name]:
                ahead[p.name], changed = most, True
    return ahead


def ticks_queued(network: Network, projection: Projection) -> int:
    """Ticks that wait before a projection's synapses, beside those that its delay holds.

    The array itself takes the tick at work but for its last beat; of a gated population that, too, waits for its bits.
    """
    ahead = ticks_ahead(network)
    waits = max(0, ahead[projection.target] - ahead[projection.source])
    return waits + (network.gate_of(projection.target) is not None)


def gate_ticks_queued(network: Network, gate: Gate) -> int:
    """Ticks that wait before a gate, which sums up the window behind the one at work by itself."""
    ahead = ticks_ahead(network)
    return max(0, ahead[gate.target] - ahead[gate.source] - gate.window)


def beats(ticks: int, neurons: int) -> int:
    """Room for so many ticks at most: every neuron's event in a beat of its own, and a bare end of the tick."""
    return ticks * (neurons + 1)
