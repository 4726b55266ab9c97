"""`apical bench training`: training steps of recurrent spiking nets, ours and peers', in turns."""

from __future__ import annotations

import os
import statistics
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from unittest import mock

from apical.sw import cli_common as common

if TYPE_CHECKING:
    from apical.sw.layers import Model

TRAINED = {"": "ecg-srnn", "large_": "spoken-digits"}  # prefix of the figures, recipe of the net
BATCH, TICKS, TURNS = 64, 300, 9  # of a training step, and how often each contender takes one


def _our_step(model: Model, x: Any, labels: Any, fused: bool) -> Callable[[], None]:
    """One training step of ours: [batch, ticks, inputs] forward, backward, Adam."""
    import torch

    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    name, path = model.outputs[0], {"APICAL_FUSED": str(int(fused))}

    def step() -> None:
        with mock.patch.dict(os.environ, path):
            y = model(x)[name] / model.units[name]
        loss = torch.nn.functional.cross_entropy(y.transpose(0, 1).flatten(0, 1), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        model.clamp_()

    return step


def _peer_step(net: Any, x: Any, labels: Any) -> Callable[[], None]:
    """The same of a peer's net, [ticks, batch, inputs]."""
    import torch

    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(net(x).flatten(0, 1), labels)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return step


def _steps(recipe: str, peers: dict[str, Any]) -> dict[str, Callable[[], None]]:
    """A training step of each contender on nets of the same shape and the same data."""
    import importlib.metadata

    import torch

    from apical.sw import peers as nets
    from apical.sw.recipes import RECIPES

    torch.manual_seed(0)
    model = RECIPES[recipe].build()
    sizes = [sum(i.size for i in model.inputs), *(p.size for p in model.cells.values())]
    x = (torch.rand(TICKS, BATCH, sizes[0]) < 0.1).float()
    labels = torch.randint(sizes[-1], (TICKS * BATCH,))
    across = x.transpose(0, 1).contiguous()
    steps = {"compiled": _our_step(model, across, labels, True), "eager": _our_step(model, across, labels, False)}
    for name, net in (("snntorch", nets.SnnTorch), ("norse", nets.Norse)):
        try:
            plain, compiled = (_peer_step(net(sizes, compiled), x, labels) for compiled in (False, True))
        except ImportError:
            peers[name] = "not installed: pip install -e '.[peers]'"
        else:
            steps |= {name: plain, f"{name}_torch_compile": compiled}
            peers[name] = {"version": importlib.metadata.version(name), "what": " ".join(str(net.__doc__).split())}
    return steps


def figures() -> tuple[dict[str, float | int | None], dict[str, Any]]:
    """Training ticks per second (forward, backward, Adam; batch 64, 300 ticks, one thread) of the compiled step, of our
    eager one, and of the loops of snnTorch and Norse, plain and by torch.compile, on nets of the same shape.

    Contenders take turns; a ratio is the median over the turns.
    """
    import torch

    found: dict[str, float | int | None] = {"batch": BATCH, "ticks": TICKS, "threads": 1}
    peers: dict[str, Any] = {}
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # on tensors this small a second one costs every contender time
    for prefix, recipe in TRAINED.items():
        with common.progress(f"{recipe}: training steps") as update, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the peers' own
            steps = _steps(recipe, peers)
            seconds: dict[str, list[float]] = {name: [] for name in steps}
            for turn in range(TURNS + 1):  # the first one compiles
                for name, step in steps.items():
                    began = time.perf_counter()
                    step()
                    if turn:
                        seconds[name].append(time.perf_counter() - began)
                update(turn, TURNS)
        for name, each in seconds.items():
            found[f"{prefix}ticks_per_second_{name}"] = TICKS / statistics.median(each)
        for name, each in seconds.items():
            ratios = [theirs / ours for theirs, ours in zip(each, seconds["compiled"], strict=True)]
            found |= {} if name == "compiled" else {f"{prefix}ratio_{name}": statistics.median(ratios)}
    torch.set_num_threads(threads)
    return found, peers
