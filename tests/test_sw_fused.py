"""The compiled training step: equal to the eager one, forward exactly and backward up to rounding."""

from __future__ import annotations

import copy

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from apical.sw import execution, golden
from apical.sw.laws import AdaptiveLif, Format, Law, LeakyIntegrator, Lif, Relu, TwoPoint
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.surrogate import SURROGATES


def recurrent(attach: bool = False, surrogate: str = "multi_gaussian", bits: int = 14) -> Model:
    """Feedback, two delays, per-neuron and shared parameters, a start state, a membrane read-out."""
    torch.manual_seed(1)
    source = Input("x", 5)
    kw = {"surrogate": SURROGATES[surrogate], "attach": attach, "scale": 60.0}
    a = Population("a", 9, AdaptiveLif(state_bits=bits), initial={"v": torch.arange(9).numpy()}, **kw)  # type: ignore[arg-type]
    b = Population("b", 6, Lif(), shared=["decay"], **kw)  # type: ignore[arg-type]
    read = Population("read", 3, AdaptiveLif(state_bits=bits, sends="membrane"), unit=60, **kw)  # type: ignore[arg-type]
    links = [
        Dense(source, a, std=0.8),
        Dense(a, a, delay=1, std=0.5),
        Dense(a, b, std=0.5),
        Dense(b, a, delay=2, std=0.5, name="back"),
        Dense(b, b, delay=3, std=0.5),
        Dense(b, read, std=0.7),
    ]
    return Model([source], [a, b, read], links, decoder="tick")


def single(law: Law, values: int) -> Model:
    torch.manual_seed(2)
    source = Input("x", 7, Format(values, signed=False))
    cells = Population("cells", 5, law, scale=200, unit=8)
    read = Population("read", 3, LeakyIntegrator(shift=1), scale=100, unit=100)
    links = [Dense(source, cells, compartment=c, std=1.0, name=c) for c in law.compartments]
    return Model([source], [cells, read], [*links, Dense(cells, read, std=0.5)], decoder="sum")


MODELS = {
    "recurrent": lambda: recurrent(),
    "attached": lambda: recurrent(attach=True, surrogate="triangle"),
    "wide": lambda: recurrent(bits=24),
    "two-point": lambda: single(TwoPoint(), 4),
    "relu": lambda: single(Relu(), 4),
    "shift decays": lambda: single(Lif(leak="shift"), 1),
    "reset to a value": lambda: single(Lif(reset="value", compare="ge"), 1),
}


def events(model: Model, samples: int, ticks: int = 40) -> torch.Tensor:
    torch.manual_seed(3)
    low, high = model.inputs[0].node.value_range
    return torch.randint(low, high + 1, (samples, ticks, model.inputs[0].size)).float()


def gradients(model: Model, x: torch.Tensor) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Values of all populations, and the gradient of a loss that looks at all of them."""
    values = model.activity(x)
    torch.manual_seed(4)
    loss = torch.stack([(v * torch.randn(v.shape)).sum() / model.units[k] for k, v in values.items()]).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    return values, {k: p.grad for k, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("real", [False, True])
def test_compiled_equals_eager(kind: str, real: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    model = MODELS[kind]()
    model.real = real
    other = copy.deepcopy(model)
    x = events(model, 21)
    compiled, fast = gradients(model, x)
    monkeypatch.setenv("APICAL_FUSED", "0")
    eager, slow = gradients(other, x)
    assert model._plan is not None and other._plan is None
    for name, value in eager.items():
        assert value.abs().sum() > 0
        if real:
            torch.testing.assert_close(compiled[name], value, rtol=1e-3, atol=1e-2, check_dtype=False)
        else:
            assert torch.equal(compiled[name].double(), value.double())
    assert fast.keys() == slow.keys()
    for name, g in slow.items():
        torch.testing.assert_close(fast[name], g, rtol=2e-3, atol=2e-3 * float(g.abs().max()), msg=name)


@pytest.mark.parametrize("fused", ["0", "1"])
@pytest.mark.parametrize("kind", ["recurrent", "two-point"])
def test_forward_is_golden_also_in_parts(kind: str, fused: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_FUSED", fused)
    model = MODELS[kind]()
    x = events(model, 5, ticks=23)
    trace = golden.run(model.export(), x.long().numpy())
    state, parts = execution.start(model, 5), []
    for piece in torch.split(x, [1, 7, 2, 13], dim=1):
        values, state = model.advance(piece, state.detach())
        parts.append(values)
    for name, expected in trace.values.items():
        got = torch.cat([p[name] for p in parts], 1)
        assert torch.equal(got.long(), torch.from_numpy(expected).long()), name


def test_gradients_flow_through_the_state_between_parts() -> None:
    whole, parts = recurrent(attach=True), recurrent(attach=True)
    x = events(whole, 4, ticks=30)
    whole.activity(x)["read"].sum().backward()  # type: ignore[no-untyped-call]
    first, state = parts.advance(x[:, :11], execution.start(parts, 4))
    second, _ = checkpoint(parts.advance, x[:, 11:], state, use_reentrant=False)
    (first["read"].sum() + second["read"].sum()).backward()
    for (name, a), b in zip(whole.named_parameters(), parts.parameters(), strict=True):
        if a.grad is not None:
            assert b.grad is not None
            torch.testing.assert_close(b.grad, a.grad, rtol=1e-3, atol=1e-3 * float(a.grad.abs().max()), msg=name)
