"""How a `Model` computes its forward pass: eagerly, tick by tick in PyTorch, or compiled (`apical.sw.fused`).

Both take the state that an earlier part of the same sequences left, and return the one after: long sequences train in
parts (truncated back-propagation through time). Both compute the same integers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from apical.sw import fused

if TYPE_CHECKING:
    from apical.sw.layers import Model, Wire


@dataclass(frozen=True)
class State:
    """Where a sequence stands between two parts.

    :param cells: per population and state, [samples, neurons].
    :param past: per input and population, what it sent in the last ticks (as many as the longest delay),
        [samples, past, neurons].
    """

    cells: dict[str, dict[str, Tensor]]
    past: dict[str, Tensor]

    def detach(self) -> State:
        """The same values, cut off from the gradient."""
        cells = {name: {k: v.detach() for k, v in kept.items()} for name, kept in self.cells.items()}
        return State(cells, {name: v.detach() for name, v in self.past.items()})


def start(model: Model, samples: int) -> State:
    """The state before the first tick: the cells' start states, and nothing sent."""
    past = longest(model)
    cells = {p.name: p.start(samples) for p in model.cells.values()}
    device = next(model.parameters()).device
    sizes = {i.name: i.size for i in model.inputs} | {p.name: p.size for p in model.cells.values()}
    return State(cells, {name: torch.zeros(samples, past, size, device=device) for name, size in sizes.items()})


def longest(model: Model) -> int:
    """Ticks of the longest delay."""
    return max(cast("Wire", d).delay for d in model.projections)


def eager(model: Model, x: Mapping[str, Tensor], state: State) -> tuple[dict[str, Tensor], State]:
    """PyTorch's own operations; populations that form a cycle go tick by tick together.

    :param x: per input, [samples, ticks, channels].
    :returns: per population, [samples, ticks, neurons], and the state after the last tick.
    """
    past = longest(model)
    history = {name: torch.cat([state.past[name].to(part.dtype), part], 1) for name, part in x.items()}
    cells = dict(state.cells)
    ticks = next(iter(x.values())).shape[1]
    for group, loop in model.groups:
        _group(model, group, loop, history, state, cells, ticks, past)
    after = {name: kept[:, kept.shape[1] - past :] for name, kept in history.items()}
    return {name: history[name][:, past:] for name in model.cells}, State(cells, after)


def _group(
    model: Model,
    group: Sequence[str],
    loop: bool,
    history: dict[str, Tensor],
    state: State,
    cells: dict[str, dict[str, Tensor]],
    ticks: int,
    past: int,
) -> None:
    """Populations that depend on each other, tick by tick; sums from outside the group in one product each."""
    ready: dict[str, dict[str, Tensor]] = {name: {} for name in group}
    inner: dict[str, list[tuple[Wire, Tensor]]] = {name: [] for name in group}
    for name in group:
        for d in model.incoming[name]:
            if d.source in group and loop:
                inner[name].append((d, d.weight(d.real)))
                continue
            first = past - d.delay
            part = d(history[d.source][:, first : first + ticks]).to(model.cells[name].dtype)
            old = ready[name].get(d.compartment)
            ready[name][d.compartment] = part if old is None else old + part
    runs = {name: model.cells[name].integrated() for name in group}
    gate = model.gate_of.get(group[0])  # a gated population is part of no loop
    on = None if gate is None else gate(history[gate.source][:, past:])
    if not loop and not model.cells[group[0]].law.states():  # one tick is as good as another: all at once
        cell, (ops, params) = model.cells[group[0]], runs[group[0]]
        _, value = cell.law.step(ops, {}, ready[group[0]], params)
        value = value if on is None else value * on.to(value.dtype)
        history[group[0]] = torch.cat([state.past[group[0]].to(value.dtype), value], 1)
        return
    sent = {name: list(state.past[name].unbind(1)) for name in group}
    by_tick = {name: {k: v.unbind(1) for k, v in parts.items()} for name, parts in ready.items()}
    for t in range(ticks):
        for name in group:
            cell, (ops, params) = model.cells[name], runs[name]
            currents = {k: v[t] for k, v in by_tick[name].items()}
            for d, weights in inner[name]:
                part = d.sums(sent[d.source][past + t - d.delay].to(d.dtype), weights).to(cell.dtype)
                currents[d.compartment] = currents[d.compartment] + part if d.compartment in currents else part
            cells[name], value = cell.law.step(ops, cells[name], currents, params)
            if on is not None:  # what is off sends nothing and begins anew
                value, begin = value * on[:, t].to(value.dtype), cell.start(len(value))
                cells[name] = {k: torch.where(on[:, t] > 0, v, begin[k]) for k, v in cells[name].items()}
            sent[name].append(value)
    for name in group:
        history[name] = torch.stack([v.to(sent[name][-1].dtype) for v in sent[name]], 1)


def plan(model: Model, names: Sequence[str]) -> fused.Plan:
    """The compiled network of a model; `names`: its populations in the order of computation."""
    order = [model.cells[name] for name in names]
    place = {name: n for n, name in enumerate([*(i.name for i in model.inputs), *names])}
    units = [fused.Unit(fused.Kind(p.law, p.surrogate, p.attach), p.size) for p in order]
    inputs = len(model.inputs)
    links = []
    for module in model.projections:
        d = cast("Wire", module)
        target = place[d.target] - inputs
        compartment = units[target].kind.law.compartments.index(d.compartment)
        links.append(fused.Link(place[d.source], target, compartment, d.delay))
    kinds = [p.dtype for p in order] + [cast("Wire", d).dtype for d in model.projections]
    dtype = torch.float64 if torch.float64 in kinds else torch.float32
    return fused.Plan([i.size for i in model.inputs], units, links, model.real, dtype)


def compiled(
    model: Model, plan: fused.Plan, order: Sequence[str], x: Mapping[str, Tensor], state: State
) -> tuple[dict[str, Tensor], State]:
    """The same by one compiled call."""
    samples = next(iter(x.values())).shape[0]
    fill = -samples % fused.PAD
    cells = [model.cells[name] for name in order]
    runs = [cell.integrated() for cell in cells]

    def inward(part: Tensor) -> Tensor:  # [samples, ticks, n] to [ticks, n, samples]
        return nn.functional.pad(part.permute(1, 2, 0).to(plan.dtype), (0, fill))

    def outward(part: Tensor) -> Tensor:
        return part.permute(2, 0, 1)[:samples]

    sources = [*(i.name for i in model.inputs), *order]
    before = [inward(state.past[name]) for name in sources] if plan.past else []
    states = [
        [nn.functional.pad(state.cells[c.name][k].T.to(plan.dtype), (0, fill)) for k in plan.code(n).states]
        for n, c in enumerate(cells)
    ]
    params = [[params[k] for k in plan.code(n).params] for n, (_, params) in enumerate(runs)]
    widths = [torch.as_tensor(ops.width, dtype=plan.dtype).reshape(-1) for ops, _ in runs]
    weights = [cast("Wire", d).weight(model.real) for d in model.projections]
    values, after = fused.run(plan, [inward(x[i.name]) for i in model.inputs], before, states, params, widths, weights)
    sent = {c.name: outward(values[n]) for n, c in enumerate(cells)}
    kept = {
        c.name: {k: v.T[:samples] for k, v in zip(plan.code(n).states, after[n], strict=True)}
        for n, c in enumerate(cells)
    }
    both = {**x, **sent}
    past = {
        name: torch.cat([state.past[name].to(both[name].dtype), both[name]], 1)[:, both[name].shape[1] :]
        if plan.past
        else state.past[name]
        for name in sources
    }
    return sent, State(kept, past)
