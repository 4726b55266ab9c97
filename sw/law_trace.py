"""A law's `step`, traced once into an expression graph and written out as C++: forward, and its reverse-mode gradient.

The graph comes from the law's own text through the ops protocol, so the compiled training step computes what
`apical.sw.arithmetic.TrainingOps` computes, in the same floats that hold integers, with the same straight-through
and surrogate gradients. Surrogates are tabulated from their PyTorch function (linear interpolation between entries).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from apical.sw.arithmetic import Ops
from apical.sw.laws import Law
from apical.sw.surrogate import SURROGATES, Surrogate

SPAN, STEPS = 16.0, 128  # the surrogates' table: |x| <= SPAN, entries per unit


@dataclass(frozen=True, eq=False)
class Node:
    """One value of the graph.

    :param text: C++ expression of its forward value.
    :param grads: (operand, C++ factor of this node's gradient) pairs; an empty factor is 1.
    """

    name: str
    text: str
    grads: tuple[tuple[Node, str], ...] = ()


Value = Node | int


def _const(a: float) -> str:
    return f"R({float(a).hex()})"


def _text(a: Value) -> str:
    return a.name if isinstance(a, Node) else _const(a)


@dataclass
class TraceOps(Ops[Value]):
    """The ops protocol's tracing backend.

    :param real: leave out the floor of `shift` (the float twin).
    :param attach: pass the gradient of `select` to its condition too.
    """

    real: bool = False
    attach: bool = False
    nodes: list[Node] = field(default_factory=list)
    tables: list[tuple[float, ...]] = field(default_factory=list)

    def _new(self, text: str, *grads: tuple[Value, str]) -> Node:
        kept = tuple((a, factor) for a, factor in grads if isinstance(a, Node))
        node = Node(f"v{len(self.nodes)}", text, kept)
        self.nodes.append(node)
        return node

    def leaf(self, name: str) -> Node:
        """A state, current or parameter."""
        return Node(name, name)

    def add(self, a: Value, b: Value) -> Node:
        return self._new(f"{_text(a)} + {_text(b)}", (a, ""), (b, ""))

    def sub(self, a: Value, b: Value) -> Node:
        return self._new(f"{_text(a)} - {_text(b)}", (a, ""), (b, "R(-1)"))

    def mul(self, a: Value, b: Value) -> Node:
        return self._new(f"{_text(a)} * {_text(b)}", (a, _text(b)), (b, _text(a)))

    def shift(self, a: Value, n: int) -> Value:
        if not n:
            return a
        scaled = f"{_text(a)} * {_const(2.0**-n)}"
        return self._new(scaled if self.real else f"std::floor({scaled})", (a, _const(2.0**-n)))

    def clip(self, a: Value, low: int, high: int) -> Node:
        x, lo, hi = _text(a), _const(low), _const(high)
        text = f"({x} < {lo} ? {lo} : ({x} > {hi} ? {hi} : {x}))"
        return self._new(text, (a, f"(({x} >= {lo}) & ({x} <= {hi}) ? R(1) : R(0))"))

    def _compare(self, a: Value, b: Value, sign: str) -> Node:
        slope = f"surrogate(({_text(a)} - {_text(b)}) * unit) * unit"
        return self._new(f"({_text(a)} {sign} {_text(b)} ? R(1) : R(0))", (a, slope), (b, f"(-{slope})"))

    def gt(self, a: Value, b: Value) -> Node:
        return self._compare(a, b, ">")

    def ge(self, a: Value, b: Value) -> Node:
        return self._compare(a, b, ">=")

    def select(self, condition: Value, a: Value, b: Value) -> Node:
        chosen = f"{_text(condition)} != R(0)"
        grads = [(a, f"({chosen} ? R(1) : R(0))"), (b, f"({chosen} ? R(0) : R(1))")]
        if self.attach or not (isinstance(a, Node) or isinstance(b, Node)):
            grads.append((condition, f"({_text(a)} - {_text(b)})"))
        return self._new(f"({chosen} ? {_text(a)} : {_text(b)})", *grads)

    def absolute(self, a: Value) -> Node:
        x = _text(a)
        return self._new(f"std::fabs({x})", (a, f"({x} > R(0) ? R(1) : ({x} < R(0) ? R(-1) : R(0)))"))

    def table(self, a: Value, values: Sequence[int], low: int) -> Node:
        name = f"table{len(self.tables)}"
        self.tables.append(tuple(float(v) for v in values))
        args = f"{_text(a)} - {_const(low)}, {len(values)}"
        return self._new(f"look_up({name}, {args})", (a, f"slope_of({name}, {args})"))


@dataclass(frozen=True)
class LawCode:
    """C++ of one law: the text of its two functions, and what they read, in the order of their pointers."""

    source: str
    states: tuple[str, ...]
    compartments: tuple[str, ...]
    params: tuple[str, ...]


def surrogate_table(surrogate: Surrogate) -> list[float]:
    """The surrogate at -SPAN, ..., SPAN, `STEPS` entries per unit; beyond, its ends hold."""
    x = torch.linspace(-SPAN, SPAN, round(2 * SPAN * STEPS) + 1, dtype=torch.float64)
    return [float(v) for v in surrogate(x)]


def _array(name: str, values: Sequence[float]) -> str:
    return f"static const R {name}[] = {{{', '.join(_const(v) for v in values)}}};"


def _backward(ops: TraceOps, ends: Sequence[tuple[Node | int, str]]) -> tuple[list[str], dict[str, str]]:
    """Statements of the reverse sweep, and the gradient expression of every leaf that got one."""
    parts: dict[str, list[str]] = {}
    for end, gradient in ends:
        if isinstance(end, Node):
            parts.setdefault(end.name, []).append(gradient)
    lines = []
    for node in reversed(ops.nodes):
        if node.name in parts:
            lines.append(f"const R g_{node.name} = {' + '.join(parts.pop(node.name))};")
            for operand, factor in node.grads:
                parts.setdefault(operand.name, []).append(f"g_{node.name}{f' * {factor}' if factor else ''}")
    return lines, {name: " + ".join(terms) for name, terms in parts.items()}


def emit(law: Law, index: int, surrogate: Surrogate, real: bool, attach: bool) -> LawCode:
    """C++ functions ``forward_INDEX`` and ``backward_INDEX`` for rows of samples of one neuron."""
    ops = TraceOps(real, attach)
    states, compartments, params = tuple(law.states()), law.compartments, tuple(law.parameters())
    state = {k: ops.leaf(f"s{n}") for n, k in enumerate(states)}
    currents = {k: ops.leaf(f"i{n}") for n, k in enumerate(compartments)}
    values = {k: ops.leaf(f"p{n}") for n, k in enumerate(params)}
    after, sent = law.step(ops, state, currents, values)
    fixed = [f"const R p{n} = c.params[{n}][neuron];" for n in range(len(params))]
    loads = [f"const R s{n} = c.before[{n}][k];" for n in range(len(states))]
    loads += [f"const R i{n} = c.currents[{n}][k];" for n in range(len(compartments))]
    forward = [f"const R {node.name} = {node.text};" for node in ops.nodes]
    stores = [f"c.after[{n}][k] = {_text(after[key])};" for n, key in enumerate(states)]
    ends = [(after[key], f"c.grad_states[{n}][k]") for n, key in enumerate(states)] + [(sent, "c.grad_value[k]")]
    sweep, leaves = _backward(ops, ends)
    taken = [f"const R t{n} = {leaves.get(f's{n}', 'R(0)')};" for n in range(len(states))]
    taken += [f"c.grad_states[{n}][k] = t{n};" for n in range(len(states))]
    taken += [f"c.grad_currents[{n}][k] = {leaves.get(f'i{n}', 'R(0)')};" for n in range(len(compartments))]
    taken += [f"a{n} += {leaves[f'p{n}']};" for n in range(len(params)) if f"p{n}" in leaves]
    sums = [n for n in range(len(params)) if f"p{n}" in leaves]
    reduction = f" reduction(+:{','.join(f'a{n}' for n in sums)})" if sums else ""
    tables = [_array(f"table{n}", t) for n, t in enumerate(ops.tables)] + [_array("slopes", surrogate_table(surrogate))]
    source = f"""namespace law_{index} {{
{chr(10).join(tables)}
static inline R surrogate(R x) {{ return interpolate(slopes, {len(surrogate_table(surrogate))}, x); }}
static void forward(const Cell& c, int64_t neuron, int64_t width) {{
  {" ".join(fixed)}
  #pragma omp simd
  for (int64_t k = 0; k < width; ++k) {{
    {chr(10).join([*loads, *forward, *stores, f"c.value[k] = {_text(sent)};"])}
  }}
}}
static void backward(const Cell& c, int64_t neuron, int64_t width) {{
  {" ".join(fixed)}
  const R unit = c.unit[neuron];
  R {", ".join(["none = 0", *(f"a{n} = 0" for n in sums)])};
  (void)unit; (void)none;
  #pragma omp simd{reduction}
  for (int64_t k = 0; k < width; ++k) {{
    {chr(10).join([*loads, *forward, *sweep, *taken])}
  }}
  {" ".join(f"c.grad_params[{n}][neuron] += a{n};" for n in sums)}
}}
}}
"""
    return LawCode(source, states, compartments, params)


def surrogate_name(surrogate: Surrogate) -> str:
    """Its registered name, for messages and cache keys."""
    return next((k for k, v in SURROGATES.items() if v is surrogate), getattr(surrogate, "__name__", "custom"))
