"""PyTorch modules that train under the integer rule: their forward pass is the network's integer semantics.

Real-valued latent parameters are rounded to integers in every forward pass (the gradient passes straight through),
so what training evaluates is what golden and the chip compute. Floats hold the integers; the width analysis of
`apical.sw.ranges`, run on the declared bounds, chooses float32 (exact below 2^24) or float64 (below 2^53).

Two scales join the real and the integer world: a population's `scale` (integer steps per real unit of current:
its threshold of 1.0 is the integer `scale`), and a source's `unit` (event value that means 1.0).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from apical.sw import execution, fused
from apical.sw import network as graph
from apical.sw.arithmetic import round_straight_through
from apical.sw.cells import Input, Population, integers
from apical.sw.execution import State
from apical.sw.laws import Format
from apical.sw.network import Network, NetworkError
from apical.sw.ranges import Interval, analyse

if TYPE_CHECKING:
    from apical.sw.gate_layers import KernelGate

__all__ = ["Dense", "Input", "Model", "Node", "Population", "Wire"]

FLOAT32_EXACT, FLOAT64_EXACT = 1 << 24, 1 << 53
EDGE = 0.499  # latent weights may lie this far beyond the outermost integer, to which they round

Node = Input | Population


class Wire(nn.Module):
    """A projection that trains: integer weights of `bits` bits behind real latent ones.

    weight (integer) = round(clip(latent x target scale / source unit / gain of the target's law)).

    :param shape: of the weights.
    :param fan_in: terms of a target's sum.
    :param std: of the normal latent start weights; default 1/sqrt(fan in).
    """

    def __init__(
        self,
        source: Node,
        target: Population,
        shape: Sequence[int],
        fan_in: int,
        *,
        bits: int = 8,
        ternary: bool = False,
        compartment: str = "basal",
        delay: int = 0,
        std: float | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__()
        self.name = name or f"{source.name} to {target.name}{'' if compartment == 'basal' else ' ' + compartment}"
        if not 2 <= bits <= 16 or (ternary and bits != 2):
            expected = "2 bits (ternary)" if ternary else "2 to 16 bits"
            raise ValueError(f"projection {self.name!r}: expected {expected}, got {bits}")
        self.source, self.target, self.compartment = source.name, target.name, compartment
        self.bits, self.delay, self.fan_in = bits, delay, fan_in
        self.low, self.high = (-1, 1) if ternary else Format(bits).bounds
        self.factor = target.scale / source.unit / target.law.gain
        std = 1 / math.sqrt(fan_in) if std is None else std
        self.latent = nn.Parameter(torch.randn(*shape) * std)
        self.dtype, self.real = torch.float32, False

    @property
    def fan_out(self) -> int | Tensor:
        """Targets that an event reaches: a number, or one for each source."""
        raise NotImplementedError

    def sums(self, values: Tensor, weight: Tensor) -> Tensor:
        """Sums [..., targets] for events [..., sources] and weights from `weight`, all of `dtype`."""
        raise NotImplementedError

    def export(self) -> graph.Projection:
        """The immutable projection."""
        raise NotImplementedError

    def weight(self, real: bool = False) -> Tensor:
        """Integer weights in floats (neither rounded nor clipped where `real`)."""
        if real:
            return self.latent * self.factor
        scaled = (self.latent * self.factor).clamp(self.low - EDGE, self.high + EDGE)
        return round_straight_through(scaled).to(self.dtype)

    def bounds(self, value_range: tuple[int, int]) -> Interval:
        """Bounds of a target's sum whatever the weights become."""
        magnitude = self.fan_in * max(abs(self.low), self.high) * max(abs(v) for v in value_range)
        return Interval(-magnitude, magnitude)

    def forward(self, values: Tensor) -> Tensor:
        """Sums for events [..., sources]: [..., targets]."""
        return self.sums(values.to(self.dtype), self.weight(self.real))

    @torch.no_grad()
    def clamp_(self) -> None:
        """Pull latent weights back into the range of the integers (the float twin's are free)."""
        if self.real:
            return
        # A little inside the clip, where gradients still reach them.
        self.latent.clamp_((self.low - 0.98 * EDGE) / self.factor, (self.high + 0.98 * EDGE) / self.factor)


class Dense(Wire):
    """All-to-all projection, weights [targets, sources]; from a map it is torch's flatten and linear.

    :param bits: 2 to 8 (up to 16 works); 2 with `ternary` gives the weights -1, 0, 1.
    :param compartment: of the target's law.
    :param delay: ticks; at least 1 for recurrence and feedback.
    :param std: of the normal latent start weights; default 1/sqrt(source size).
    """

    def __init__(
        self,
        source: Node,
        target: Population,
        *,
        bits: int = 8,
        ternary: bool = False,
        compartment: str = "basal",
        delay: int = 0,
        std: float | None = None,
        name: str | None = None,
    ) -> None:
        more = {"bits": bits, "ternary": ternary, "compartment": compartment, "delay": delay, "std": std, "name": name}
        super().__init__(source, target, (target.size, source.size), source.size, **more)  # type: ignore[arg-type]

    @property
    def fan_out(self) -> int:
        return self.latent.shape[0]

    def sums(self, values: Tensor, weight: Tensor) -> Tensor:
        return nn.functional.linear(values, weight)

    def export(self) -> graph.Projection:
        with torch.no_grad():
            weights = integers(self.weight())
        return graph.Projection(
            self.name, self.source, self.target, weights, self.compartment, self.bits, self.delay, "dense"
        )


def _float_type(magnitude: int, where: str) -> torch.dtype:
    if magnitude >= FLOAT64_EXACT:
        raise NetworkError(f"{where}: values can reach {magnitude}, beyond float64's exact 2^53")
    return torch.float32 if magnitude < FLOAT32_EXACT else torch.float64


class Model(nn.Module):
    """A trainable network: forward is exactly `golden.run(model.export(), x)`.

    :param inputs, populations, projections: the graph's parts, in the order that the network keeps.
    :param outputs: names of the populations that leave the chip; default: the last.
    :param decoder, encoding, name: as in `apical.sw.network.Network`.
    :param gates: `apical.sw.gate_layers.KernelGate`s.
    :raises NetworkError: the graph breaks a rule of `Network`.
    """

    def __init__(
        self,
        inputs: Sequence[Input],
        populations: Sequence[Population],
        projections: Sequence[Wire],
        *,
        outputs: Sequence[str] | None = None,
        decoder: str | None = None,
        encoding: Mapping[str, str | int | float] | None = None,
        name: str = "network",
        gates: Sequence[KernelGate] = (),
    ) -> None:
        super().__init__()
        self.inputs, self.gates = tuple(inputs), nn.ModuleList(gates)
        self.populations, self.projections = nn.ModuleList(populations), nn.ModuleList(projections)
        self.outputs = tuple(outputs) if outputs is not None else (populations[-1].name,)
        self.decoder, self.encoding, self.name = decoder, dict(encoding or {}), name
        network = self.export()
        self.cells = {p.name: p for p in populations}
        self.units = {p.name: p.unit for p in populations}
        self.incoming = {n: [d for d in projections if d.target == n] for n in self.cells}
        self.gate_of = {g.target: g for g in gates}
        self.groups, self._order = _groups(network), network.order
        self._plan: fused.Plan | None = None
        self._real = False
        self._choose_types(network)

    def _choose_types(self, network: Network) -> None:
        for name, cell in self.cells.items():
            currents: dict[str, Interval] = {}
            for d in self.incoming[name]:
                part = d.bounds(network.nodes[d.source].value_range)
                d.dtype = _float_type(part.magnitude, f"projection {d.name!r}")
                old = currents.get(d.compartment, Interval(0, 0))
                currents[d.compartment] = Interval(old.low + part.low, old.high + part.high)
            params = {key: Interval(spec.low, spec.high) for key, spec in cell.specs.items()}
            where = f" of population {name!r}"
            cell.dtype = _float_type(analyse(cell.law, currents, params, where).magnitude, f"population {name!r}")

    def export(self) -> Network:
        """The immutable network that computes what this model's forward computes now."""
        return Network(
            tuple(i.node for i in self.inputs),
            tuple(cast(Population, p).export() for p in self.populations),
            tuple(cast(Wire, p).export() for p in self.projections),
            self.outputs,
            self.decoder,
            self.encoding,
            self.name,
            tuple(cast("KernelGate", g).export() for g in self.gates),
            self.point,
        )

    @property
    def point(self) -> int:
        """The gates' operating point that is in effect."""
        return cast("KernelGate", self.gates[0]).point if self.gates else 0

    @point.setter
    def point(self, point: int) -> None:
        for gate in self.gates:
            cast("KernelGate", gate).point = point

    @property
    def real(self) -> bool:
        """Compute in real numbers: no integer is rounded and no shift floors. The float twin, for comparison."""
        return self._real

    @real.setter
    def real(self, real: bool) -> None:
        self._real = real
        for part in (*self.cells.values(), *self.projections):
            cast(Population, part).real = real
        self._plan = None

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        """Values of the output populations, each [batch, ticks, neurons], for events x [batch, ticks, inputs]."""
        values = self.activity(x)
        return {name: values[name] for name in self.outputs}

    def activity(self, x: Tensor) -> dict[str, Tensor]:
        """Values of all populations, each [batch, ticks, neurons]."""
        return self.advance(x, execution.start(self, x.shape[0]))[0]

    def advance(self, x: Tensor, state: State) -> tuple[dict[str, Tensor], State]:
        """Values of all populations for the next ticks of sequences that stand at `state`, and where they then stand.

        A whole sequence begins with `apical.sw.execution.start`.
        """
        size = sum(i.size for i in self.inputs)
        if x.ndim != 3 or x.shape[2] != size:
            raise ValueError(f"input x: expected shape [batch, ticks, {size}], got {list(x.shape)}")
        parts = torch.split(x, [i.size for i in self.inputs], dim=2)
        named = {i.name: part for i, part in zip(self.inputs, parts, strict=True)}
        if not fused.available(x.device) or not all(isinstance(d, Dense) for d in self.projections):
            return execution.eager(self, named, state)
        if self._plan is None:
            self._plan = execution.plan(self, self._order)
        return execution.compiled(self, self._plan, self._order, named, state)

    def scores(self, values: Mapping[str, Tensor]) -> Tensor:
        """What the decoder compares, [batch, classes]: values of the first output, summed, last, or counted; for
        ``tick`` the values themselves, [batch, ticks, classes].

        Exact integers; for ``rate`` the gradient is that of the sum over the output's unit.
        """
        y = values[self.outputs[0]]
        if self.decoder == "sum":
            return y.sum(1)
        if self.decoder == "last":
            return y[:, -1]
        if self.decoder == "tick":
            return y
        if self.decoder == "rate":
            total = y.sum(1) / self.cells[self.outputs[0]].unit
            return total + ((y != 0).sum(1) - total).detach()
        raise ValueError(f"model {self.name!r}: has no decoder; expected one of {graph.DECODERS}")

    def clamp_(self) -> None:
        """Pull latent weights back into the range of their integers (after an optimizer's step)."""
        for d in self.projections:
            cast(Wire, d).clamp_()


def _groups(network: Network) -> list[tuple[tuple[str, ...], bool]]:
    """Populations in the order of computation, those of one cycle together; the flag tells whether it is a cycle."""
    sources = {p.name: network.sources(p.name) for p in network.populations}
    reach: dict[str, set[str]] = {}
    for name in sources:
        seen: set[str] = set()
        waiting = list(sources[name])
        while waiting:
            node = waiting.pop()
            if node in sources and node not in seen:
                seen.add(node)
                waiting.extend(sources[node])
        reach[name] = seen  # populations that this one depends on
    out: list[tuple[tuple[str, ...], bool]] = []
    done: set[str] = set()
    while len(done) < len(sources):
        for name in network.order:
            group = tuple(n for n in network.order if n == name or (n in reach[name] and name in reach[n]))
            if name not in done and reach[name] - set(group) <= done:
                out.append((group, name in reach[name]))
                done |= set(group)
    return out
