"""The compiled training step: a whole network over all ticks in one call, forward and backward, on all cores.

`law_trace` writes each law as C++; this module compiles them with ``g++`` (cached by content), hands tensors over by
address and is an ordinary differentiable function to PyTorch. Its forward is exactly the eager one (integers in
floats, whose sums don't depend on order); its gradients are the eager ones up to rounding.

Arrays inside are [ticks, neurons, samples]: the samples are the vector axis, padded to a multiple of 16.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor

from apical.sw.cache import made
from apical.sw.law_trace import SPAN, STEPS, LawCode, emit
from apical.sw.laws import Law
from apical.sw.surrogate import Surrogate

MOST = 8  # states, compartments or parameters of one law
ROWS = 8  # targets computed together
PAD = 16  # samples are padded to a multiple of this
FLAGS = [
    "-std=c++17",
    "-O3",
    "-march=native",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-shared",
    "-fPIC",
    "-pthread",
]


class FusedError(RuntimeError):
    """The compiled step can't be built; the message holds the compiler's first words."""


@dataclass(frozen=True)
class Kind:
    """What is compiled for one population."""

    law: Law
    surrogate: Surrogate
    attach: bool


@dataclass(frozen=True)
class Unit:
    """One population of the compiled network; the order is the network's order of computation."""

    kind: Kind
    size: int


@dataclass(frozen=True)
class Link:
    """One projection. Sources are numbered: the network's inputs first, then the units."""

    source: int
    target: int
    compartment: int
    delay: int


class _Population(ctypes.Structure):
    _fields_: ClassVar[Any] = [(k, ctypes.c_int64) for k in ("size", "law", "states", "compartments", "params")] + [
        ("param", ctypes.c_void_p * MOST),
        ("unit", ctypes.c_void_p),
        ("state", ctypes.c_void_p * MOST),
        ("current", ctypes.c_void_p * MOST),
        ("value", ctypes.c_void_p),
        ("grad_value", ctypes.c_void_p),
        ("grad_state", ctypes.c_void_p * MOST),
        ("grad_current", ctypes.c_void_p * MOST),
        ("grad_param", ctypes.c_void_p * MOST),
    ]


class _Projection(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        (k, ctypes.c_int64) for k in ("source", "node", "target", "compartment", "delay", "rows", "columns")
    ] + [("weight", ctypes.c_void_p), ("transposed", ctypes.c_void_p)]


class _Network(ctypes.Structure):
    _fields_: ClassVar[Any] = [
        (k, ctypes.c_int64) for k in ("ticks", "samples", "past", "populations", "projections", "threads")
    ] + [
        ("population", ctypes.POINTER(_Population)),
        ("projection", ctypes.POINTER(_Projection)),
        ("sources", ctypes.POINTER(ctypes.c_void_p)),
    ]


@cache
def compiler() -> str | None:
    """Path of the C++ compiler; None where there is none."""
    return shutil.which("g++")


@cache
def _machine() -> str:
    """What ``-march=native`` stands for here: a cache shared by machines must not mix them."""
    text = subprocess.run(
        [str(compiler()), "-march=native", "-Q", "--help=target"], capture_output=True, text=True, check=False
    ).stdout
    return platform.machine() + hashlib.sha256(text.encode()).hexdigest()


def load(kind: str, text: str) -> ctypes.CDLL:
    """Compile C++ for this machine, or take what the cache has of it.

    :param kind: what it is; names its folder in the cache.
    :raises FusedError: it doesn't compile.
    """

    def make(folder: Path) -> None:
        (folder / "step.cpp").write_text(text)
        done = subprocess.run(
            [str(compiler()), *FLAGS, "step.cpp", "-o", "keep/step.so"], cwd=folder, capture_output=True, text=True
        )
        if done.returncode:
            raise FusedError(f"compiled {kind}: g++ failed: {done.stderr[:2000]}")

    folder = made(kind, (text, " ".join(FLAGS), _machine()), make)
    return ctypes.CDLL(str(folder / "step.so"))


@cache
def _library(kinds: tuple[Kind, ...], real: bool, dtype: torch.dtype) -> tuple[ctypes.CDLL, tuple[LawCode, ...]]:
    laws = tuple(emit(k.law, n, k.surrogate, real, k.attach) for n, k in enumerate(kinds))
    environment = Environment(loader=PackageLoader("apical.sw", "."), undefined=StrictUndefined, autoescape=False)
    text = environment.get_template("fused.cpp.j2").render(
        real="float" if dtype == torch.float32 else "double", span=SPAN, steps=STEPS, laws=[law.source for law in laws]
    )

    return load("training-step", text), laws


def packed(weight: Tensor) -> Tensor:
    """[rows, columns] as blocks [ceil(rows / ROWS), columns, ROWS], the last one filled with zeros."""
    rows, columns = weight.shape
    full = torch.nn.functional.pad(weight, (0, 0, 0, -rows % ROWS))
    return full.reshape(-1, ROWS, columns).permute(0, 2, 1).contiguous()


class Plan:
    """A network ready to run compiled.

    :param inputs: channels of each input.
    :param units: populations in the order of computation.
    :param links: projections.
    :param real: without floors (the float twin).
    :raises FusedError: the laws don't compile.
    """

    def __init__(
        self, inputs: Sequence[int], units: Sequence[Unit], links: Sequence[Link], real: bool, dtype: torch.dtype
    ) -> None:
        self.inputs, self.units, self.links, self.dtype = tuple(inputs), tuple(units), tuple(links), dtype
        kinds = tuple(dict.fromkeys(u.kind for u in units))
        self.library, self.codes = _library(kinds, real, dtype)
        self.law = [kinds.index(u.kind) for u in units]
        self.past = max((link.delay for link in links), default=0)
        for code in self.codes:
            if max(len(code.states), len(code.compartments), len(code.params)) > MOST:
                raise FusedError(f"compiled training step: a law has more than {MOST} states or parameters")

    def __deepcopy__(self, memo: object) -> Plan:
        return self  # immutable, and a loaded library can't be copied

    def code(self, unit: int) -> LawCode:
        """The law's order of states, compartments and parameters."""
        return self.codes[self.law[unit]]


@dataclass
class History:
    """The arrays that forward fills and backward reads, each [ticks, neurons, samples].

    :param values: per source, what it sent, after `Plan.past` ticks of what it sent before.
    :param states: per unit and state, before each tick and after the last.
    :param currents: per unit and compartment.
    """

    values: list[Tensor]
    states: list[list[Tensor]]
    currents: list[list[Tensor]]

    @classmethod
    def begin(
        cls, plan: Plan, x: Sequence[Tensor], past: Sequence[Tensor], states: Sequence[Sequence[Tensor]]
    ) -> History:
        """Empty but for the input and the start."""
        ticks, _, samples = x[0].shape

        def empty(rows: int, unit: Unit) -> Tensor:
            return torch.empty(rows, unit.size, samples, dtype=plan.dtype)

        values = [torch.cat([past[n], part]) if plan.past else part.contiguous() for n, part in enumerate(x)]
        values += [empty(plan.past + ticks, unit) for unit in plan.units]
        for value, before in zip(values, past, strict=False):
            value[: plan.past] = before
        histories = [[empty(ticks + 1, unit) for _ in states[n]] for n, unit in enumerate(plan.units)]
        for kept, first in zip(histories, states, strict=True):
            for history, state in zip(kept, first, strict=True):
                history[0] = state
        currents = [[empty(ticks, unit) for _ in plan.code(n).compartments] for n, unit in enumerate(plan.units)]
        return cls(values, histories, currents)

    def flat(self) -> list[Tensor]:
        """All arrays."""
        return [*self.values, *(t for kept in (*self.states, *self.currents) for t in kept)]

    @classmethod
    def of(cls, plan: Plan, arrays: Sequence[Tensor]) -> History:
        """The same from `flat`."""
        rest, count = list(arrays), len(plan.units)
        values = [rest.pop(0) for _ in range(len(plan.inputs) + count)]
        states = [[rest.pop(0) for _ in plan.code(n).states] for n in range(count)]
        return cls(values, states, [[rest.pop(0) for _ in plan.code(n).compartments] for n in range(count)])


class Buffers:
    """All arrays of one call, and the C structures that point to them."""

    def __init__(
        self,
        plan: Plan,
        history: History,
        params: Sequence[Sequence[Tensor]],
        widths: Sequence[Tensor],
        weights: Sequence[Tensor],
    ) -> None:
        self.plan, self.weights, self.history = plan, weights, history
        self.values, self.states, self.currents = history.values, history.states, history.currents
        self.ticks, self.samples = self.values[0].shape[0] - plan.past, self.values[0].shape[2]
        self.threads = max(min(torch.get_num_threads(), self.samples // PAD), 1)
        self.params = [[p.expand(u.size).contiguous() for p in ps] for u, ps in zip(plan.units, params, strict=True)]
        self.units = [(1 / w).expand(u.size).contiguous() for u, w in zip(plan.units, widths, strict=True)]
        self.packed = [(packed(w), packed(w.T)) for w in weights]

    def call(self, function: str, gradients: Gradients | None = None) -> None:
        """Run `forward` or `backward`."""
        plan, inputs = self.plan, len(self.plan.inputs)
        populations = (_Population * len(plan.units))()
        for n, unit in enumerate(plan.units):
            p = populations[n]
            p.size, p.law = unit.size, plan.law[n]
            p.states, p.compartments, p.params = len(self.states[n]), len(self.currents[n]), len(self.params[n])
            p.unit, p.value = self.units[n].data_ptr(), self.values[inputs + n].data_ptr()
            for field, tensors in (("param", self.params), ("state", self.states), ("current", self.currents)):
                for k, tensor in enumerate(tensors[n]):
                    getattr(p, field)[k] = tensor.data_ptr()
            if gradients is not None:
                p.grad_value = gradients.values[n].data_ptr()
                for field, tensors in (
                    ("grad_state", gradients.states),
                    ("grad_current", gradients.currents),
                    ("grad_param", gradients.params),
                ):
                    for k, tensor in enumerate(tensors[n]):
                        getattr(p, field)[k] = tensor.data_ptr()
        projections = (_Projection * len(plan.links))()
        for n, link in enumerate(plan.links):
            rows, columns = self.weights[n].shape
            node = link.source - inputs if link.source >= inputs else -1
            weight, transposed = (w.data_ptr() for w in self.packed[n])
            projections[n] = _Projection(
                link.source, node, link.target, link.compartment, link.delay, rows, columns, weight, transposed
            )
        sources = (ctypes.c_void_p * len(self.values))(*(v.data_ptr() for v in self.values))
        network = _Network(
            self.ticks, self.samples, plan.past, len(plan.units), len(plan.links), self.threads,
            populations, projections, sources,
        )  # fmt: skip
        getattr(plan.library, function)(ctypes.byref(network))


class Gradients:
    """Arrays of the backward call."""

    def __init__(self, b: Buffers, values: Sequence[Tensor | None], states: Sequence[Sequence[Tensor | None]]) -> None:
        plan = b.plan
        self.values, self.states, self.currents, self.params = [], [], [], []
        for n, unit in enumerate(plan.units):
            full = torch.zeros(plan.past + b.ticks, unit.size, b.samples, dtype=plan.dtype)
            given = values[n]
            if given is not None:
                full[plan.past :] = given
            self.values.append(full)
            self.states.append(
                [
                    torch.zeros(unit.size, b.samples, dtype=plan.dtype) if g is None else g.contiguous().clone()
                    for g in states[n]
                ]
            )
            self.currents.append([torch.empty_like(c) for c in b.currents[n]])
            self.params.append([torch.zeros(b.threads, unit.size, dtype=plan.dtype) for _ in b.params[n]])


class _Run(torch.autograd.Function):
    """Inputs: tensors flat, in the order that `run` packs them; outputs: values per unit, then final states."""

    @staticmethod
    def forward(
        ctx: Any, plan: Plan, x: list[Tensor], past: list[Tensor], widths: list[Tensor], *flat: Tensor
    ) -> tuple[Tensor, ...]:
        sent, states, params, weights = _unflatten(plan, flat)
        b = Buffers(plan, History.begin(plan, x, [*past, *sent], states), params, widths, weights)
        b.call("forward")
        ctx.plan, ctx.flat, ctx.widths = plan, [t.shape for t in flat], widths
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*flat, *b.history.flat())  # so that torch.utils.checkpoint can drop and remake them
        inputs = len(plan.inputs)
        return (
            *(b.values[inputs + n][plan.past :] for n in range(len(plan.units))),
            *(history[-1] for kept in b.states for history in kept),
        )

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Any, ...]:
        plan: Plan = ctx.plan
        saved, count = ctx.saved_tensors, len(ctx.flat)
        _, _, params, weights = _unflatten(plan, saved[:count])
        b = Buffers(plan, History.of(plan, saved[count:]), params, ctx.widths, weights)
        count = len(plan.units)
        rest, states = list(grads[count:]), []
        for kept in b.states:
            states.append([rest.pop(0) for _ in kept])
        g = Gradients(b, grads[:count], states)
        b.call("backward", g)
        out: list[Tensor] = [v[: plan.past] for v in g.values] if plan.past else []
        out += [t for kept in g.states for t in kept]
        out += [t.sum(0) for kept in g.params for t in kept]
        for link, weight in zip(plan.links, b.weights, strict=True):
            current = g.currents[link.target][link.compartment]
            start = plan.past - link.delay
            source = b.values[link.source][start : start + b.ticks]
            out.append(torch.addbmm(torch.zeros_like(weight), current, source.transpose(1, 2)))
        shaped = [t if t.shape == s else t.sum_to_size(s) for t, s in zip(out, ctx.flat, strict=True)]
        return (None, None, None, None, *shaped)


def _unflatten(
    plan: Plan, flat: Sequence[Tensor]
) -> tuple[list[Tensor], list[list[Tensor]], list[list[Tensor]], list[Tensor]]:
    rest = list(flat)
    sent = [rest.pop(0) for _ in plan.units] if plan.past else []
    states = [[rest.pop(0) for _ in plan.code(n).states] for n in range(len(plan.units))]
    params = [[rest.pop(0) for _ in plan.code(n).params] for n in range(len(plan.units))]
    return sent, states, params, rest


def run(
    plan: Plan,
    x: Sequence[Tensor],
    past: Sequence[Tensor],
    states: Sequence[Sequence[Tensor]],
    params: Sequence[Sequence[Tensor]],
    widths: Sequence[Tensor],
    weights: Sequence[Tensor],
) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Run the network.

    :param x: per input, [ticks, channels, samples], samples a multiple of `PAD`.
    :param past: per source (inputs, then units) what it sent in the `Plan.past` ticks before, [past, n, samples];
        empty where nothing is delayed.
    :param states: per unit and state, [neurons, samples].
    :param params: per unit and parameter, [1] or [neurons].
    :param widths: per unit, the surrogate's unit in integer steps, [1] or [neurons].
    :param weights: per link, [targets, sources].
    :returns: values per unit, [ticks, neurons, samples], and the states after the last tick.
    """
    inputs = len(plan.inputs)
    flat = [*past[inputs:], *(t for kept in (*states, *params) for t in kept), *weights]
    given = [[t.to(plan.dtype) for t in part] for part in (x, past[:inputs], widths, flat)]
    out = list(_Run.apply(plan, *given[:3], *given[3]))  # type: ignore[no-untyped-call]
    values, rest = out[: len(plan.units)], out[len(plan.units) :]
    return values, [[rest.pop(0) for _ in kept] for kept in states]


def available(device: torch.device) -> bool:
    """True where the compiled step can run: on a CPU, with g++; APICAL_FUSED=0 switches it off."""
    return device.type == "cpu" and compiler() is not None and os.environ.get("APICAL_FUSED", "1") != "0"
