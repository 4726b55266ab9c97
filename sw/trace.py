"""What a run of a network produced, and the class that it means; numpy alone, so that drivers can use it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt


@dataclass
class Trace:
    """What a run of a network produced, by golden or by RTL.

    :param values: per population, [samples, ticks, neurons], any integer type: what each neuron sent (0: nothing).
    :param states: per population and state, [samples, ticks, neurons], after each tick; empty unless asked for.
    :param outputs: per output population, the same array as it left the chip (for golden: equal to `values`).
    :param counters: ``population NAME: events``, ``population NAME: updates``, ``projection NAME: events`` and,
        of conv and pool, ``projection NAME: positions``; with gates more (docs/reference/gating.md); totals of the run.
    :param cycles: clock cycles of the whole run; None for golden.
    :param engine: what produced it.
    """

    values: dict[str, np.ndarray]
    outputs: dict[str, np.ndarray]
    counters: dict[str, int]
    states: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    cycles: int | None = None
    seconds: float = 0.0
    engine: str = "golden"

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(next(iter((self.values or self.outputs).values())).shape[0])

    @property
    def steps(self) -> int:
        """Samples x ticks."""
        return self.samples * int(next(iter(self.values.values())).shape[1])


def classes(decoder: str | None, y: np.ndarray) -> npt.NDArray[np.int64] | None:
    """Class by a network's decoder.

    :param y: the first output's values, [samples, ticks, neurons].
    :returns: [samples], or for ``tick`` [samples, ticks]; None without a decoder.
    """
    if decoder is None:
        return None
    if decoder == "tick":
        score = y
    elif decoder == "sum":
        score = y.sum(axis=1)
    elif decoder == "last":
        score = y[:, -1]
    else:
        score = (y != 0).sum(axis=1)
    return np.asarray(score.argmax(axis=-1), dtype=np.int64)


def differences(expected: Trace, got: Trace) -> list[str]:
    """What differs between golden and hardware, one line each; empty where all is equal.

    Counters are compared that both have: a serial board doesn't send all, a learning one has more.
    """
    out = []
    for name, wanted in expected.outputs.items():
        wrong = np.argwhere(wanted != got.outputs[name])
        if wrong.size:
            s, t, n = (int(v) for v in wrong[0])
            pair = f"expected {wanted[s, t, n]}, got {got.outputs[name][s, t, n]}"
            out.append(f"output {name!r}: {len(wrong)} values; first: sample {s}, tick {t}, neuron {n}: {pair}")
    for name, n in got.counters.items():
        if expected.counters.get(name, n) != n:
            out.append(f"counter {name!r}: expected {expected.counters[name]}, got {n}")
    return out
