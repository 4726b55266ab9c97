"""Kinds of counted work, and the one formula that derives them from a run's counters.

The formula is the same for golden and RTL. Operations of a law are counted on the law's own text, by `CountingOps`, a
backend of the ops protocol that computes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from apical.sw.laws import Law
from apical.sw.network import Network, Population
from apical.sw.ranges import Interval, IntervalOps

KINDS: dict[str, str] = {
    "synaptic_operation": "one event reaching one target, as a whole",
    "weight_read": "weight word read",
    "add": "integer addition into an accumulator",
    "multiply": "integer weight × value, only where events are graded",
    "fp32_add": "32-bit floating-point addition (baselines)",
    "fp32_multiply": "32-bit floating-point multiplication (baselines)",
    "accumulator_read": "accumulator word read",
    "accumulator_write": "accumulator word written",
    "law_update": "one neuron, one tick, as a whole; by law",
    "law_add": "addition, subtraction or absolute value within a law",
    "law_multiply": "multiplication within a law (a decay, a square)",
    "law_compare": "comparison within a law; a clip is two",
    "law_table_read": "table look-up within a law",
    "state_read": "neuron state word read",
    "state_write": "neuron state word written",
    "parameter_read": "per-neuron parameter word read",
    "event_sent": "event sent by a population",
    "event_received": "event received from an input",
    "weight_write": "weight word written (learning)",
    "off_chip_word": "word moved to or from memory off the chip",
}

COMPONENTS: dict[str, tuple[str, ...]] = {
    "synaptic_operation": (
        "weight_read",
        "add",
        "multiply",
        "fp32_add",
        "fp32_multiply",
        "accumulator_read",
        "accumulator_write",
    ),
    "law_update": (
        "law_add",
        "law_multiply",
        "law_compare",
        "law_table_read",
        "state_read",
        "state_write",
        "parameter_read",
    ),
}
"""Composite kinds and what they contain; a technology prices one or the other, never both."""

MEMORY = (
    "weight_read",
    "accumulator_read",
    "accumulator_write",
    "state_read",
    "state_write",
    "parameter_read",
    "weight_write",
    "off_chip_word",
)
"""Kinds that move words: counted in words, in bits, and in bits by the size of the memory they are in."""

MULTIPLICATIONS = ("multiply", "law_multiply")
"""Kinds whose bits are the product of both operands' widths: the size of the multiplier."""


class _Value:
    """Any run-time value, as opposed to a constant of the law's text."""


@dataclass
class CountingOps:
    """The ops protocol as a census: counts operations, computes nothing.

    Shifts, selects and multiplications by a constant power of two are wires and multiplexers and count as nothing; a
    `leak` is a subtraction of the shifted value.
    """

    counts: dict[str, int] = field(
        default_factory=lambda: {"law_add": 0, "law_multiply": 0, "law_compare": 0, "law_table_read": 0}
    )

    def _one(self, kind: str, times: int = 1) -> _Value:
        self.counts[kind] += times
        return _Value()

    def add(self, a: _Value | int, b: _Value | int) -> _Value:
        return self._one("law_add")

    def sub(self, a: _Value | int, b: _Value | int) -> _Value:
        return self._one("law_add")

    def mul(self, a: _Value | int, b: _Value | int) -> _Value:
        return self._one("law_multiply", 0 if _is_wire(a, b) else 1)

    def shift(self, a: _Value, n: int) -> _Value:
        return _Value()

    def clip(self, a: _Value, low: int, high: int) -> _Value:
        return self._one("law_compare", 2)

    def gt(self, a: _Value | int, b: _Value | int) -> _Value:
        return self._one("law_compare")

    def ge(self, a: _Value | int, b: _Value | int) -> _Value:
        return self._one("law_compare")

    def select(self, condition: _Value, a: _Value | int, b: _Value | int) -> _Value:
        return _Value()

    def absolute(self, a: _Value) -> _Value:
        return self._one("law_add")

    def table(self, a: _Value, values: Sequence[int], low: int) -> _Value:
        return self._one("law_table_read")

    def leak(self, a: _Value, d: _Value, bits: int) -> _Value:
        return self._one("law_add")

    def wrap(self, a: _Value, bits: int) -> _Value:
        return a


def _is_wire(*operands: object) -> bool:
    """True for a multiplication by a constant power of two, or by 0."""
    return any(isinstance(x, int) and abs(x).bit_count() <= 1 for x in operands)


@dataclass
class _WidthOps(IntervalOps):
    """Adds up the products of the operands' widths, of all multiplications of a law."""

    bits: int = 0

    def mul(self, a: Interval | int, b: Interval | int) -> Interval:
        if not _is_wire(a, b):
            self.bits += bits_of(self._interval(a)) * bits_of(self._interval(b))
        return super().mul(a, b)

    def leak(self, a: Interval, d: Interval, bits: int) -> Interval:
        return super().shift(super().mul(a, d), bits)  # a subtraction, not a multiplication


def multiplier_bits(law: Law, currents: Mapping[str, Interval], params: Mapping[str, Interval]) -> int:
    """Sum over the multiplications of one evaluation of a law: width of one operand × width of the other."""
    ops = _WidthOps()
    law.step(ops, {name: Interval(*fmt.bounds) for name, fmt in law.states().items()}, currents, params)
    return ops.bits


def law_of(law: Law) -> dict[str, int]:
    """Operations of one evaluation of a law's `step`: law_add, law_multiply, law_compare, law_table_read."""
    ops = CountingOps()
    law.step(
        ops,
        {name: _Value() for name in law.states()},
        {name: _Value() for name in law.compartments},
        {name: _Value() for name in law.parameters()},
    )
    return ops.counts


def text_of(text: Callable[..., object], *operands: Interval | int) -> dict[str, int]:
    """Operations of one evaluation of a law's text, ``text(ops, *operands)``, and ``law_multiply bits``.

    :param operands: what the run-time values can be; an int is a constant.
    """
    ops, widths = CountingOps(), _WidthOps()
    text(ops, *(_Value() if isinstance(operand, Interval) else operand for operand in operands))
    text(widths, *operands)
    return {**ops.counts, "law_multiply bits": widths.bits}


def bits_of(interval: Interval) -> int:
    """Two's complement bits that hold an interval (unsigned where it isn't negative); at least 1."""
    if interval.low >= 0:
        return max(interval.high.bit_length(), 1)
    return max((-interval.low - 1).bit_length(), interval.high.bit_length() if interval.high > 0 else 0) + 1


def no_counts() -> dict[str, int]:
    """Zero of every kind but ``law_update``, which is counted by law."""
    words = {kind: 0 for kind in KINDS if kind != "law_update"}
    return words | {f"{kind} bits": 0 for kind in (*MEMORY, *MULTIPLICATIONS)}


def add_counts(a: Mapping[str, int], b: Mapping[str, int]) -> dict[str, int]:
    """Sum by kind."""
    return {kind: a.get(kind, 0) + b.get(kind, 0) for kind in (*a, *(k for k in b if k not in a))}


def move(counts: dict[str, int], kind: str, words: int, bits: int, held: int) -> None:
    """Count `words` words of `bits` bits each, of a memory that holds `held` of them."""
    counts[kind] += words
    counts[f"{kind} bits"] += words * bits
    if words:
        key = f"{kind} bits in {-(-held * bits // 8)} bytes"
        counts[key] = counts.get(key, 0) + words * bits


def by_memory(counts: Mapping[str, int], kind: str) -> dict[int, int]:
    """Bits moved of a memory kind, by the size of the memory in bytes."""
    start = f"{kind} bits in "
    return {
        int(key.removeprefix(start).removesuffix(" bytes")): n for key, n in counts.items() if key.startswith(start)
    }


def multiply(counts: dict[str, int], kind: str, times: int, bits: int) -> None:
    """Count multiplications whose operands' widths have the product `bits`."""
    counts[kind] += times
    counts[f"{kind} bits"] += times * bits


def update_law(counts: dict[str, int], law: Law, updates: int) -> None:
    """Count law evaluations: the update by law, and the operations in the law's text."""
    key = f"law_update:{law.name}"
    counts[key] = counts.get(key, 0) + updates
    for kind, each in law_of(law).items():
        counts[kind] += updates * each


PARTS = {
    "synapses": "events on their way into accumulators: weights, additions, accumulators; decisions of gates",
    "updates": "neurons once per tick: the law's operations, its states and parameters, reading and clearing sums",
    "events": "events received and sent",
}
"""Parts of a population's work; every kind's counts are their sum."""


def synapses_of(network: Network, population: Population, counters: Mapping[str, int]) -> dict[str, int]:
    """Work of a population's incoming projections; without that of receiving an input's events."""
    out = no_counts()
    accumulator = {c: bits_of(i) for c, i in network.currents(population).items()}
    for p in network.incoming(population.name):
        operations = p.operations(counters)
        values, weights, sums = network.nodes[p.source].value_range, p.weights.size, accumulator[p.compartment]
        out["synaptic_operation"] += operations
        move(out, "weight_read", operations if weights else 0, p.weight_bits, weights)  # a pool has no weights
        out["add"] += operations
        if values != (0, 1) and weights:
            multiply(out, "multiply", operations, p.weight_bits * bits_of(Interval(*values)))
        move(out, "accumulator_read", operations, sums, population.size)
        move(out, "accumulator_write", operations, sums, population.size)
        move(out, "weight_write", counters.get(f"projection {p.name}: weight writes", 0), p.weight_bits, weights)
        move(out, "off_chip_word", counters.get(f"projection {p.name}: off-chip words", 0), p.weight_bits, weights)
    return out


def _gate_of(network: Network, population: Population, counters: Mapping[str, int]) -> dict[str, int]:
    """Work of a population's gate: an addition into a channel's sum per event; products, sums and signs per window."""
    out, gate = no_counts(), network.gate_of(population.name)
    if gate is None:
        return out
    source, name = network.nodes[gate.source], f"gate {gate.target}"
    sums = gate.sum_interval(source.value_range, source.size // gate.channels)
    bits, events = bits_of(sums), counters[f"{name}: events"]
    reads = counters[f"{name}: windows"] * gate.channels
    move(out, "accumulator_read", events + reads, bits, gate.channels)
    move(out, "accumulator_write", events + reads, bits, gate.channels)
    products = reads * gate.groups
    move(out, "weight_read", products, gate.weight_bits, gate.weights.size)
    out["add"] += events + products
    multiply(out, "multiply", products, gate.weight_bits * bits)
    return out


def updates_of(
    network: Network, population: Population, counters: Mapping[str, int], law: Law | None = None
) -> dict[str, int]:
    """Work of a population's neuron updates.

    :param law: evaluated in place of the population's own, as where another form of it is to be priced.
    """
    out, law, size = no_counts(), law or population.law, population.size
    updates = counters[f"population {population.name}: updates"]
    currents = network.currents(population)
    params = {name: Interval(int(array.min()), int(array.max())) for name, array in population.params.items()}
    for interval in currents.values():  # the law reads each compartment's sum and clears it
        move(out, "accumulator_read", updates, bits_of(interval), size)
        move(out, "accumulator_write", updates, bits_of(interval), size)
    update_law(out, law, updates)
    out["law_multiply bits"] += updates * multiplier_bits(law, currents, params)
    for fmt in law.states().values():
        move(out, "state_read", updates, fmt.bits, size)
        move(out, "state_write", updates, fmt.bits, size)
    for name, array in population.params.items():
        if array.shape[0] > 1:  # a shared one is a constant
            move(out, "parameter_read", updates, bits_of(params[name]), array.shape[0])
    return out


def _events_of(network: Network, population: Population, counters: Mapping[str, int]) -> dict[str, int]:
    out = no_counts()
    inputs = {i.name for i in network.inputs}
    for p in network.incoming(population.name):
        if p.source in inputs and _counts_input(network, p.name, p.source, counters):
            out["event_received"] += counters[f"projection {p.name}: events"]
    out["event_sent"] = counters[f"population {population.name}: events"]
    return out


def parts_of(network: Network, population: Population, counters: Mapping[str, int]) -> dict[str, dict[str, int]]:
    """Work of one population with its incoming projections, by part; docs/reference/energy.md gives the equations.

    :param counters: as in `apical.sw.golden.Trace`; learning and off-chip counters are optional.
    :raises KeyError: a counter is missing.
    """
    return {
        "synapses": add_counts(synapses_of(network, population, counters), _gate_of(network, population, counters)),
        "updates": updates_of(network, population, counters),
        "events": _events_of(network, population, counters),
    }


def _counts_input(network: Network, projection: str, source: str, counters: Mapping[str, int]) -> bool:
    """True for the one projection that stands for its input's events: the first of those that integrated most."""
    names = [p.name for p in network.outgoing(source)]
    most = max(counters[f"projection {name}: events"] for name in names)
    return projection == next(name for name in names if counters[f"projection {name}: events"] == most)
