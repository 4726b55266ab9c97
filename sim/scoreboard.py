"""The scoreboard: golden against RTL, and the first place where they differ.

Order of search: populations in the network's order of computation matter less than time, so the earliest (sample, tick)
wins; within a tick states come before the value that they cause, values before the output port, counters last.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from apical.sw.golden import Trace


@dataclass(frozen=True)
class Divergence:
    """The first difference between golden and RTL.

    :param signal: a state's name, ``value`` (law result), ``output`` (event at the port) or a counter's name.
    :param sample, tick, neuron: where; None for counters.
    """

    population: str
    signal: str
    golden: int
    rtl: int
    sample: int | None = None
    tick: int | None = None
    neuron: int | None = None

    def __str__(self) -> str:
        if self.sample is None:
            return f"first divergence: counter {self.signal!r}: golden {self.golden}, RTL {self.rtl}"
        return (
            f"first divergence: sample {self.sample}, tick {self.tick}, population {self.population!r}, "
            f"neuron {self.neuron}, {self.signal}: golden {self.golden}, RTL {self.rtl}"
        )


def _signals(golden: Trace, rtl: Trace) -> Iterator[tuple[str, str, np.ndarray, np.ndarray]]:
    """Pairs of arrays in the order of causes: states, value, output."""
    for name, values in golden.values.items():
        for state in golden.states.get(name, {}):
            if state in rtl.states.get(name, {}):
                yield name, state, golden.states[name][state], rtl.states[name][state]
        if name not in rtl.values:
            raise ValueError(f"scoreboard: the RTL's trace has no population {name!r}; has {sorted(rtl.values)}")
        yield name, "value", values, rtl.values[name]
    for name, values in golden.outputs.items():
        if name not in rtl.outputs:
            raise ValueError(f"scoreboard: the RTL's trace has no output {name!r}; has {sorted(rtl.outputs)}")
        yield name, "output", values, rtl.outputs[name]


def mismatches(golden: Trace, rtl: Trace) -> int:
    """Number of samples in which anything differs."""
    bad = np.zeros(golden.samples, bool)
    for _, _, a, b in _signals(golden, rtl):
        bad |= (a != b).any(axis=(1, 2))
    return int(bad.sum())


def first_divergence(golden: Trace, rtl: Trace) -> Divergence | None:
    """The earliest difference of states, values, outputs; then of counters. None where all is equal.

    :raises ValueError: the traces can't be compared (shapes, populations or counters differ).
    """
    best: tuple[tuple[int, int], Divergence] | None = None
    for population, signal, a, b in _signals(golden, rtl):
        if a.shape != b.shape:
            raise ValueError(f"scoreboard: {population!r} {signal}: golden has shape {a.shape}, the RTL {b.shape}")
        different = a != b
        if not different.any():
            continue
        sample, tick, neuron = (int(i) for i in np.argwhere(different)[0])
        if best is None or (sample, tick) < best[0]:
            pair = int(a[sample, tick, neuron]), int(b[sample, tick, neuron])
            best = (sample, tick), Divergence(population, signal, *pair, sample, tick, neuron)
    if best is not None:
        return best[1]
    if set(golden.counters) != set(rtl.counters):
        only = sorted(set(golden.counters) ^ set(rtl.counters))
        raise ValueError(f"scoreboard: counter {only[0]!r} is in one trace only")
    for name, count in golden.counters.items():
        if rtl.counters[name] != count:
            return Divergence("", name, count, rtl.counters[name])
    return None
