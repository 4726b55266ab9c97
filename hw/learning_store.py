"""What a learning chip keeps beside its weights: errors by compartment, and the slopes that a cell's tick had.

Slopes come from the law's own pipeline: `with_slopes` adds them to the law as states that nothing reads, so the neuron
array computes them with the value and stores nothing; `SlopeStore` keeps those of the tick.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

from amaranth.hdl import Array, Cat, Const, Elaboratable, Module, Mux, Signal, Value, unsigned
from amaranth.lib import memory

from apical.hw.arithmetic import Wire
from apical.hw.neuron_array import NeuronArray
from apical.hw.order import Order
from apical.sw.arithmetic import Ops, V
from apical.sw.law import Format, Law, Parameter
from apical.sw.network import Population
from apical.sw.on_chip import slopes_of
from apical.sw.ranges import Interval


def rom(m: Module, name: str, table: Sequence[int], index: Value) -> Value:
    """The table at `index`, a cycle later."""
    width = max(max(table).bit_length(), 1)
    store = memory.Memory(shape=unsigned(width), depth=max(len(table), 2), init=list(table))
    m.submodules[name] = store
    port = store.read_port()
    m.d.comb += port.addr.eq(index)
    return port.data


def later(m: Module, value: Value, cycles: int) -> Value:
    """The value that many cycles later."""
    for _ in range(cycles):
        held = Signal.like(value, reset_less=True)
        m.d.sync += held.eq(value)
        value = held
    return value


class ErrorStore(Elaboratable):  # type: ignore[misc]
    """A population's errors, a word of all lanes a row of the order; driven from outside.

    A read is there a cycle after `address`. `clear` empties all words, in as many cycles; nothing is written then.
    """

    def __init__(self, order: Order, bits: int) -> None:
        self.order, self.bits, lanes = order, bits, order.lanes.synapse
        self.address, self.errors = Signal(range(max(order.words, 2))), Signal(bits * lanes)
        self.write, self.write_word, self.write_lane = Signal(), Signal.like(self.address), Signal(range(max(lanes, 2)))
        self.value, self.clear = Signal(bits), Signal()
        self.host, self.host_address = Signal(), Signal.like(self.address)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        lanes, words = self.order.lanes.synapse, self.order.words
        store = memory.Memory(shape=unsigned(self.bits * lanes), depth=max(words, 2), init=[])
        m.submodules.store = store
        read, write = store.read_port(), store.write_port(granularity=self.bits)
        clearing, at = Signal(), Signal.like(self.address)
        with m.If(self.clear):
            m.d.sync += [clearing.eq(1), at.eq(0)]
        with m.Elif(clearing):
            m.d.sync += [at.eq(at + 1), clearing.eq(at != words - 1)]
        chosen = Cat((self.write_lane == lane) & self.write for lane in range(lanes))
        m.d.comb += [
            read.addr.eq(Mux(self.host, self.host_address, self.address)),
            self.errors.eq(read.data),
            write.addr.eq(Mux(clearing, at, self.write_word)),
            write.data.eq(Mux(clearing, 0, self.value.replicate(lanes))),
            write.en.eq(Mux(clearing, Const((1 << lanes) - 1, lanes), chosen)),
        ]
        return m


@dataclass(frozen=True)
class Sloped(Law):
    """A law that also tells its slopes: states `slope_COMPARTMENT`, of the formats given."""

    name: ClassVar[str] = "sloped"
    law: Law
    formats: tuple[tuple[str, Format], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "compartments", self.law.compartments)

    def states(self) -> dict[str, Format]:
        return {**self.law.states(), **dict(self.formats)}

    def parameters(self) -> dict[str, Parameter]:
        return self.law.parameters()

    def value_range(self) -> tuple[int, int]:
        return self.law.value_range()

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        after, value = self.law.step(ops, state, currents, params)
        slopes: Mapping[str, V | int] | None = self.law.slopes(ops, currents, params)
        assert slopes is not None
        told = {f"slope_{c}": s for c, s in slopes.items() if not isinstance(s, int)}
        return {**after, **told}, value


def with_slopes(population: Population) -> Population:
    """The population with a law that tells its slopes; itself where they are the same in every tick."""
    moving = {c: s for c, s in (slopes_of(population) or {}).items() if isinstance(s, Interval)}
    if not moving:
        return population
    formats = tuple((f"slope_{c}", _format(interval)) for c, interval in moving.items())
    return replace(population, law=Sloped(population.law, formats))


def _format(interval: Interval) -> Format:
    signed = interval.low < 0
    return Format(
        max(interval.high.bit_length(), (-interval.low - 1).bit_length() if signed else 0, 1) + signed, signed
    )


class SlopeStore(Elaboratable):  # type: ignore[misc]
    """The slopes of a population's cells in its last tick, taken as its neuron array tells them."""

    def __init__(self, neurons: NeuronArray, formats: Sequence[tuple[str, Format]]) -> None:
        self.neurons, self.formats = neurons, formats
        lanes = neurons.lanes.neuron
        self.word, self.lane = Signal(range(max(neurons.rows, 2))), Signal(range(max(lanes, 2)))
        self.values = {name: Signal(f.bits, name=name) for name, f in formats}

    def elaborate(self, platform: object) -> Module:
        m, neurons = Module(), self.neurons
        told = [Cat(neurons.states[name][j] for j in range(neurons.lanes.neuron)) for name, _ in self.formats]
        store = memory.Memory(shape=unsigned(len(Cat(told))), depth=max(neurons.rows, 2), init=[])
        m.submodules.store = store
        read, write = store.read_port(), store.write_port()
        m.d.comb += [
            read.addr.eq(self.word),
            write.addr.eq(neurons.out_row),
            write.data.eq(Cat(told)),
            write.en.eq(neurons.out_valid),
        ]
        lane, at = later(m, self.lane, 1), 0
        for name, f in self.formats:
            parts = Array(read.data[at + j * f.bits :][: f.bits] for j in range(neurons.lanes.neuron))
            m.d.sync += self.values[name].eq(parts[lane])
            at += f.bits * neurons.lanes.neuron
        return m

    def read(self, m: Module, cell: Value, stage: int) -> dict[str, Wire]:
        """By compartment the slope of `cell` (at stage 0), at `stage`, 3 at least."""
        table = self.neurons.neuron_of
        places = {int(n): (row, lane) for row, each in enumerate(table) for lane, n in enumerate(each) if n >= 0}
        rows, lanes = zip(*(places[n] for n in range(len(places))), strict=True)
        m.d.comb += [self.word.eq(rom(m, "slope_row", rows, cell)), self.lane.eq(rom(m, "slope_lane", lanes, cell))]
        out = {}
        for name, f in self.formats:
            value = later(m, self.values[name], stage - 3)
            out[name.removeprefix("slope_")] = Wire(
                value.as_signed() if f.signed else value, Interval(*f.bounds), stage
            )
        return out
