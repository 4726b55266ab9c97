"""A recurrent spiking net in the words of snnTorch and of Norse, to time their training beside ours.

Both are each library's own loop over ticks in its plainest fast form: the first product for all ticks at once where
the library lets us, one step of all layers per tick. ``torch.compile`` of that step is a variant of each. Neither
library has the cell of `apical.sw.laws.AdaptiveLif`; what stands in for it is its nearest recurrent cell:

* snnTorch 1.0: ``RLeaky`` with trained decay and threshold per neuron (no adaptation: it computes less than ours), and
  ``Leaky`` without reset as read-out.
* Norse 1.1: ``LSNNRecurrentCell`` (a current, a membrane and a moving threshold) with the trained parameters of ours
  per neuron, and ``LICell`` as read-out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor, nn

State = list[Any]
Tick = Callable[[Tensor, State], tuple[Tensor, State]]


class Loop(nn.Module):
    """Layers that go on by one tick; `forward` is the loop over ticks.

    :param sizes: inputs, each hidden layer's neurons, outputs.
    :param compiled: by ``torch.compile``, from the second tick on.
    """

    def __init__(self, sizes: Sequence[int], compiled: bool) -> None:
        super().__init__()
        self.sizes, self.compiled = list(sizes), compiled
        self._step: Tick | None = None

    def before(self, x: Tensor) -> Tensor:
        """What is computed for all ticks at once."""
        return x

    def start(self, batch: int) -> State:
        """States of all layers before the first tick."""
        raise NotImplementedError

    def tick(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        """The read-out's membrane, [batch, classes], and the states after."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """Read-out membranes [ticks, batch, classes] for spikes [ticks, batch, inputs]."""
        if self._step is None:
            self._step = torch.compile(self.tick) if self.compiled else self.tick
        rows = self.before(x).unbind(0)
        y, state = self.tick(rows[0], self.start(x.shape[1]))  # Norse makes its states here, which doesn't compile
        out = [y]
        for row in rows[1:]:
            y, state = self._step(row, state)
            out.append(y)
        return torch.stack(out)


class SnnTorch(Loop):
    """Linear and ``RLeaky`` per hidden layer, Linear and ``Leaky``."""

    def __init__(self, sizes: Sequence[int], compiled: bool = False) -> None:
        super().__init__(sizes, compiled)
        import snntorch
        from snntorch import surrogate

        self.linear = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(sizes))
        self.cells = nn.ModuleList(
            snntorch.RLeaky(
                beta=torch.full((n,), 0.9),
                threshold=torch.ones(n),
                linear_features=n,
                learn_beta=True,
                learn_threshold=True,
                spike_grad=surrogate.atan(),
            )
            for n in sizes[1:-1]
        )
        self.read = snntorch.Leaky(beta=torch.full((sizes[-1],), 0.95), learn_beta=True, reset_mechanism="none")

    def before(self, x: Tensor) -> Tensor:
        current: Tensor = self.linear[0](x)
        return current

    def start(self, batch: int) -> State:
        zeros = [torch.zeros(batch, n) for n in self.sizes[1:]]
        return [*((z, z) for z in zeros[:-1]), zeros[-1]]

    def tick(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        after: State = []
        for n, cell in enumerate(self.cells):
            spikes, membrane = cell(x, *state[n])
            after.append((spikes, membrane))
            x = self.linear[n + 1](spikes)
        membrane = self.read(x, state[-1])[1]
        return membrane, [*after, membrane]


class Norse(Loop):
    """``LSNNRecurrentCell`` per hidden layer, time constants and thresholds trained; Linear and ``LICell``."""

    def __init__(self, sizes: Sequence[int], compiled: bool = False) -> None:
        super().__init__(sizes, compiled)
        import norse.torch as norse

        start = {"tau_mem_inv": 100.0, "tau_adapt_inv": 20.0, "v_th": 1.0, "beta": 0.05}  # ticks of 1 ms: 10 and 50
        self.trained = nn.ModuleList(
            nn.ParameterDict({name: nn.Parameter(torch.full((n,), value)) for name, value in start.items()})
            for n in sizes[1:-1]
        )
        self.cells = nn.ModuleList(
            norse.LSNNRecurrentCell(a, b, norse.LSNNParameters(**dict(cast(nn.ParameterDict, trained).items())))
            for (a, b), trained in zip(pairwise(sizes[:-1]), self.trained, strict=True)
        )
        self.linear, self.read = nn.Linear(sizes[-2], sizes[-1]), norse.LICell()

    def start(self, batch: int) -> State:
        return [None] * (len(self.cells) + 1)

    def tick(self, x: Tensor, state: State) -> tuple[Tensor, State]:
        after: State = []
        for cell, kept in zip(self.cells, state, strict=False):
            x, now = cell(x, kept)
            after.append(now)
        y, now = self.read(self.linear(x), state[-1])
        return y, [*after, now]
