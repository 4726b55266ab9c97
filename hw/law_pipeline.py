"""A law as the pipeline of one neuron lane, cut so that a tick waits for nothing but what its currents pass.

Results leave at some stage. Behind them the pipeline goes on with what the law makes of the new state alone (decays,
the reset by the last spike): the words that the next tick's part needs. They are stored in place of the state.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from amaranth.hdl import Signal

from apical.hw.arithmetic import AmaranthOps, Wire, shape_of
from apical.sw.arithmetic import IntegerOps, Ops
from apical.sw.network import IntArray, Population


class Nowhere:
    """Takes a module's statements and forgets them: to learn a pipeline's structure without building it."""

    def __init__(self) -> None:
        self.comb, self.sync = self, self

    @property
    def d(self) -> Nowhere:
        return self

    def __iadd__(self, statements: object) -> Nowhere:
        return self


class _Noted:
    """An ops backend that notes every result, in the order of the law's text."""

    def __init__(self, ops: object) -> None:
        self.ops = ops
        self.results: list[Any] = []

    def __getattr__(self, name: str) -> Callable[..., Any]:
        def noted(*operands: object) -> Any:
            self.results.append(getattr(self.ops, name)(*operands))
            return self.results[-1]

        return noted


@dataclass(frozen=True)
class Word:
    """One number per neuron, stored from one tick to the next.

    :param wire: the value, behind the results.
    :param copy: what the next tick reads, at stage 0.
    :param made_by: number of the law's operation that makes it, or the state that it is.
    """

    wire: Wire
    copy: Wire
    made_by: int | str


class LawPipeline:
    """One lane's law, laid out in `m`.

    `states`, `value`: the results, at stage 0 or later; `words`: what is to be stored.

    :param state: the new state, aligned at the stage at which the part behind the results begins.
    :param currents: per compartment the sums of its projections, at stage 0.
    :param params: with their values in any stage.
    :param held: the stored words at stage 0, in the order of `words`; None to learn which there are.
    """

    def __init__(
        self,
        m: Any,
        population: Population,
        state: Mapping[str, Wire],
        currents: Mapping[str, Sequence[Wire]],
        params: Mapping[str, Wire],
        held: Sequence[Signal] | None,
    ) -> None:
        self.ops, self.words, self._state, self._held = AmaranthOps(m, self._keep), cast(list[Word], []), state, held
        self._noted = _Noted(self.ops)
        totals = {}
        for name, parts in currents.items():
            totals[name] = parts[0]
            for part in parts[1:]:
                totals[name] = self.ops.add(totals[name], part)
        states, value = population.law.step(cast(Ops[Wire], self._noted), state, totals, params)
        self.states = {name: self.ops.kept(w) for name, w in states.items()}
        self.value = self.ops.kept(value)

    def _keep(self, wire: Wire) -> Wire:
        for word in self.words:
            if word.wire is wire:
                return word.copy
        made: list[tuple[int | str, Any]] = [*self._state.items(), *enumerate(self._noted.results)]
        made_by = next(n for n, w in made if w is wire)
        held = Signal(shape_of(wire.interval)) if self._held is None else self._held[len(self.words)]
        self.words.append(Word(wire, Wire(held, wire.interval, 0), made_by))
        return self.words[-1].copy


def first_words(population: Population) -> dict[int | str, IntArray]:
    """Every word that the law's operations make of the start states, by `Word.made_by`: [size] integers each.

    Only those that don't depend on currents mean anything.
    """
    size, ops = population.size, _Noted(IntegerOps())

    def tensor(array: IntArray) -> torch.Tensor:
        return torch.from_numpy(population.spread(array).copy()).expand(size)

    state = {name: tensor(a) for name, a in population.initial.items()}
    params = {name: tensor(a) for name, a in population.params.items()}
    currents = {c: torch.zeros(size, dtype=torch.int64) for c in population.law.compartments}
    population.law.step(cast(Ops[torch.Tensor], ops), state, currents, params)
    made: list[tuple[int | str, torch.Tensor]] = [*state.items(), *enumerate(ops.results)]
    return {name: value.expand(size).numpy() for name, value in made}
