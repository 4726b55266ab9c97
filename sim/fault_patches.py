"""Ways to plant a fault: patches of the generator and of golden's backend, changes of a network or of Verilog text."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar
from unittest import mock

from amaranth.hdl import Const, Module, Shape, Signal

from apical.hw import synapse_array
from apical.hw.arithmetic import AmaranthOps, shape_of
from apical.hw.event_queue import EventQueue
from apical.hw.neuron_array import NeuronArray
from apical.hw.population import PopulationUnit
from apical.hw.synapse_array import SynapseArray
from apical.sw.arithmetic import IntegerOps, Ops, V
from apical.sw.laws import Format, Lif
from apical.sw.network import IntArray, Network, Population
from apical.sw.ranges import Interval

Patch = Callable[[], AbstractContextManager[Any]]


def replaced(owner: object, name: str, new: object) -> Patch:
    return partial(mock.patch.object, owner, name, new)


def also(unit: type, edit: Callable[[Module, Any], None]) -> Patch:
    """Add statements after a unit's own: the last assignment wins."""
    original = unit.elaborate  # type: ignore[attr-defined]

    def elaborate(self: Any, platform: object) -> Module:
        m: Module = original(self, platform)
        edit(m, self)
        return m

    return replaced(unit, "elaborate", elaborate)


def in_population(name: str, edit: Callable[[Module, Any], None]) -> Patch:
    return also(PopulationUnit, lambda m, unit: edit(m, unit) if unit.population.name == name else None)


def population_changed(name: str, **changes: Any) -> Callable[[Network], Network]:
    """A network in which a population differs; mappings are merged, functions get the old value."""

    def change(network: Network) -> Network:
        def changed(p: Population) -> Population:
            new = {}
            for key, value in changes.items():
                old = getattr(p, key)
                if isinstance(value, Mapping):
                    value = {**old, **{k: f(old[k]) for k, f in value.items()}}
                new[key] = value
            return replace(p, **new)

        populations = (changed(p) if p.name == name else p for p in network.populations)
        return replace(network, populations=tuple(populations))

    return change


def projections_changed(**changes: Mapping[str, Any]) -> Callable[[Network], Network]:
    """A network in which projections (by name) differ."""

    def change(network: Network) -> Network:
        made = tuple(replace(q, **changes.get(q.name, {})) for q in network.projections)
        return replace(network, projections=made)

    return change


def bumped(by: int, at: int) -> Callable[[IntArray], IntArray]:
    def bump(a: IntArray) -> IntArray:
        out = a.copy()
        out[at] += by
        return out

    return bump


def substituted(pattern: str, new: str) -> Callable[[str], str]:
    """Replace the one place of a text that matches."""

    def substitute(text: str) -> str:
        out, count = re.subn(pattern, new, text)
        if count != 1:
            raise RuntimeError(f"fault: expected {pattern!r} once in the Verilog, got it {count} times")
        return out

    return substitute


def nearest(self: IntegerOps, a: Any, n: int) -> Any:
    return (a + (1 << (n - 1))) >> n if n else a


def dropped_event(m: Module, unit: Any) -> None:
    events, beats = unit.events, Signal(8)
    with m.If(events.valid & events.ready & events.payload.keep.any()):
        m.d.sync += beats.eq(beats + 1)
    with m.If(beats == 9):
        m.d.comb += events.payload.keep.eq(0)


def dropped_end(m: Module, unit: Any) -> None:
    events, ends = unit.events, Signal(8)
    with m.If(events.valid & events.ready & unit.queue.events.payload.last):
        m.d.sync += ends.eq(ends + 1)
    with m.If(ends == 9):
        m.d.comb += events.payload.last.eq(0)


def no_final(m: Module, unit: Any) -> None:
    m.d.comb += unit.events.payload.final.eq(0)


def deaf(m: Module, unit: Any) -> None:
    m.d.comb += unit.queue.events.ready.eq(1)


def one_too_many(m: Module, counter: Any) -> None:
    running = Signal()
    m.d.sync += running.eq(1)
    with m.If(~running):
        m.d.sync += counter.total.eq(1)


@dataclass(frozen=True)
class LateReset(Lif):
    """LIF that is reset in the tick after its spike."""

    name: ClassVar[str] = "late_reset"

    def states(self) -> dict[str, Format]:
        return {**super().states(), "s": Format(1, signed=False)}

    def step(
        self, ops: Ops[V], state: Mapping[str, V], currents: Mapping[str, V], params: Mapping[str, V]
    ) -> tuple[dict[str, V], V]:
        low, high = Format(self.state_bits).bounds
        before = ops.clip(ops.sub(state["v"], ops.select(state["s"], params["threshold"], 0)), low, high)
        leaked = ops.shift(ops.mul(before, params["decay"]), self.decay_bits)
        v = ops.clip(ops.add(leaked, ops.add(currents["basal"], params["bias"])), low, high)
        spike = ops.gt(v, params["threshold"])
        return {"v": v, "s": spike}, spike


def late_start(original: Any) -> Any:
    def state_memory(self: Any, m: Module, first_tick: Any, row_next: Any) -> Any:
        later = Signal()
        with m.If(self.start):
            m.d.sync += later.eq(first_tick)
        return original(self, m, later, row_next)

    return state_memory


def start_once(original: Any) -> Any:
    def state_memory(self: Any, m: Module, first_tick: Any, row_next: Any) -> Any:
        ended = Signal()
        with m.If(self.start & self.start_final):
            m.d.sync += ended.eq(1)
        return original(self, m, first_tick & ~ended, row_next)

    return state_memory


def stale(original: Any) -> Any:
    def flag_chain(self: Any, m: Module, valid: Any, flags: Any, cycles: int) -> Any:
        if self.projection.name == "out":
            stuck = Signal(flags.shape())
            m.d.comb += [stuck.eq(flags), stuck.first.eq(0)]
            flags = stuck
        return original(self, m, valid, flags, cycles)

    return flag_chain


def narrow(interval: Interval) -> Shape:
    full = shape_of(interval)
    return Shape(max(full.width - 1, 1), signed=full.signed)


def rotated(original: Any) -> Any:
    def memory_words(self: Any, group: int, lane: int) -> list[int]:
        words: list[int] = original(self, group, lane)
        return [*words[1:], words[0]] if self.projection.name == "in" else words

    return memory_words


def misplaced(original: Any) -> Any:
    def init(self: Any, neurons: Any, layout: Any) -> None:
        original(self, neurons, layout)
        if neurons.population.name == "read":
            self.first_row[0], self.first_row[1] = self.first_row[1], self.first_row[0]

    return init


def flipped_bit(network: Network) -> Network:
    weights = network.projections[0].weights.copy()
    weights[3, 4] ^= 1
    return projections_changed(**{"in": {"weights": weights}})(network)


def unsigned_input(network: Network) -> Network:
    graded = replace(network.inputs[1], format=Format(4, signed=False))
    return replace(network, inputs=(network.inputs[0], graded))


def strict_swapped(original: Any) -> Any:
    return lambda self, a, b, strict: original(self, a, b, not strict)


def lower_bound(original: Any) -> Any:
    return lambda self, a, low, high: original(self, a, low, high - 1)


def wrapping(v: Any, interval: Interval, low: int, high: int) -> Any:
    return Const(0, 1), Const(0, 1)


FLIPPED = replaced(AmaranthOps, "_compare", strict_swapped(AmaranthOps._compare))
SATURATE_LOWER = replaced(AmaranthOps, "clip", lower_bound(AmaranthOps.clip))
WRAP = replaced(AmaranthOps, "_outside", staticmethod(wrapping))
NARROW = replaced(synapse_array, "shape_of", narrow)
STALE = replaced(SynapseArray, "_flag_chain", stale(SynapseArray._flag_chain))
ROTATED = replaced(SynapseArray, "memory_words", rotated(SynapseArray.memory_words))
LATE_START = replaced(NeuronArray, "_state_memory", late_start(NeuronArray._state_memory))
START_ONCE = replaced(NeuronArray, "_state_memory", start_once(NeuronArray._state_memory))
HASTY = replaced(NeuronArray, "spacing", property(lambda self: self.rows))
MISPLACED = replaced(EventQueue, "__init__", misplaced(EventQueue.__init__))
DEAD_LANE = substituted(r"= in0_keep;", "= in0_keep & 2'd1;")
