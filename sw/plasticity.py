"""Competitive plasticity: rules that let only some synapses change, around any PyTorch optimizer and for any model.

    plastic = Plastic(model, torch.optim.SGD(model.parameters(), lr=0.01), Rule(fraction=0.01, subnet=100))
    for x, label in samples:
        optimizer.zero_grad()
        y = model(x)
        if plastic.skips(y, label):
            continue
        loss(y, label).backward()
        plastic.step()

The rules, what is measured, and the sources: docs/reference/plasticity.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

Select = Literal["update", "random", "weight"]
WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Rule:
    """Which synapses may change; the defaults are plain learning.

    :param fraction: rule 1: the share of a layer's plastic synapses that changes in a step, 0 < p <= 1; None: all.
    :param subnet: rule 2: plastic cells of each hidden layer; None: all. With `fraction`: rule 3.
    :param select: which of the candidates `fraction` takes: those with the largest update; or the controls, random
        ones, and those with the largest weight.
    :param lazy: no update where the right output exceeds every other one by more than this; None: always.
    :param cache: synaptic caching: consolidate what a synapse has gathered when it exceeds this; None: at once.
    """

    fraction: float | None = None
    subnet: int | None = None
    select: Select = "update"
    lazy: float | None = None
    cache: float | None = None

    def __post_init__(self) -> None:
        if self.fraction is not None and not 0 < self.fraction <= 1:
            raise ValueError(f"rule: fraction: expected a number above 0, at most 1, got {self.fraction}")
        if self.subnet is not None and self.subnet < 1:
            raise ValueError(f"rule: subnet: expected at least 1 cell, got {self.subnet}")
        if self.select not in get_args(Select):
            raise ValueError(f"rule: select: expected one of {get_args(Select)}, got {self.select!r}")
        for name in ("lazy", "cache"):
            if (given := getattr(self, name)) is not None and not given >= 0:
                raise ValueError(f"rule: {name}: expected at least 0, got {given}")

    def fractions(self, weights: Sequence[int]) -> list[float]:
        """The fraction of each layer, from the layers' numbers of weights without biases.

        The last layer may change as many synapses as the one before it.
        """
        if self.fraction is None:
            return [1.0] * len(weights)
        out = [self.fraction] * len(weights)
        if len(weights) > 1:
            out[-1] = min(self.fraction * weights[-2] / weights[-1], 1.0)
        return out


def places(fraction: float, plastic: int) -> int:
    """How many synapses of `plastic` ones may change in a step."""
    return max(round(fraction * plastic), 1)


@dataclass
class Measured:
    """What learning cost one layer.

    :param updates: M0, applied changes that aren't 0; consolidations with caching.
    :param change: M1, the sum of their absolute values.
    :param minimal_updates, minimal_change: the same of w_final - w_initial.
    :param dense_updates: steps times synapses.
    :param held: sum over the steps of the absolute transient parts (caching).
    """

    name: str
    synapses: int
    updates: int = 0
    change: float = 0.0
    minimal_updates: int = 0
    minimal_change: float = 0.0
    dense_updates: int = 0
    held: float = 0.0

    @property
    def inefficiency(self) -> tuple[float, float]:
        """`updates` and `change` over their minima; infinite where nothing is left of them."""
        pairs = ((self.updates, self.minimal_updates), (self.change, self.minimal_change))
        first, second = (a / b if b else (float("inf") if a else 1.0) for a, b in pairs)
        return first, second


def total(layers: Sequence[Measured]) -> Measured:
    """The sum of all layers."""
    out = Measured("total", 0)
    for layer in layers:
        for name in vars(out):
            if name != "name":
                setattr(out, name, getattr(out, name) + getattr(layer, name))
    return out


def scatter(step: int, layer: int, index: Tensor, seed: int) -> Tensor:
    """A number of 32 bits for each synapse, step, layer and seed, spread evenly: the order of `random` selection.

    The last two rounds are the finalizer of MurmurHash3 (A. Appleby, public domain).
    """
    own = (step * 0x9E3779B1 + layer * 0x85EBCA77 + seed * 0x27D4EB2F) & WORD
    h = (own + index * 0xC2B2AE3D) & WORD
    for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35)):
        h = ((h ^ (h >> shift)) * factor) & WORD
    return h ^ (h >> 16)


def right_by(outputs: Tensor, labels: Tensor) -> Tensor:
    """By how much the right output exceeds the largest other one, [samples], of outputs [samples, classes]."""
    right = outputs.gather(1, labels[:, None])[:, 0]
    return right - outputs.scatter(1, labels[:, None], float("-inf")).amax(1)


class _Layer:
    """One module's own parameters: their synapses, and what they cost so far."""

    def __init__(self, name: str, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        wide = [p for p in parameters if p.ndim > 1]
        self.weight = wide[0] if len(wide) == 1 else None
        self.weights = sum(p.numel() for p in wide)
        self.mask = torch.ones(sum(p.numel() for p in parameters), dtype=torch.bool, device=parameters[0].device)
        self.measured = Measured(name, self.mask.numel())
        self.initial = self.flat()
        self.transient: Tensor | None = None
        self.most: int | None = None

    def flat(self) -> Tensor:
        """All synapses: weights first."""
        ordered = sorted(self.parameters, key=lambda p: p.ndim < 2)
        return torch.cat([p.detach().reshape(-1) for p in ordered])

    def put(self, flat: Tensor) -> None:
        """The reverse of `flat`."""
        start = 0
        for p in sorted(self.parameters, key=lambda p: p.ndim < 2):
            p.copy_(flat[start : start + p.numel()].view_as(p))
            start += p.numel()


class Plastic:
    """A rule around an optimizer: `step` takes the place of the optimizer's own.

    :param model: its modules that own trainable parameters are the layers, in the model's order.
    :param masks: which synapses are plastic by the parameter's name, in place of the rule's `subnet` (for models that
        are no chain of layers); parameters that aren't named are plastic.
    :param seed: of the random control.
    :raises ValueError: an optimizer that also changes weights by itself (weight decay); a subnet of a model that is no
        chain; a mask of another shape.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        rule: Rule,
        *,
        masks: Mapping[str, Tensor] | None = None,
        seed: int = 0,
    ) -> None:
        self.optimizer, self.rule, self.seed, self.steps, self.skipped = optimizer, rule, seed, 0, 0
        if any(group.get("weight_decay") for group in optimizer.param_groups):
            raise ValueError("plasticity: expected an optimizer without weight decay, which changes every synapse")
        mine = {id(p) for group in optimizer.param_groups for p in group["params"]}
        self.layers: list[_Layer] = []
        for name, module in model.named_modules():
            if own := [p for p in module.parameters(recurse=False) if id(p) in mine]:
                self.layers.append(_Layer(name or "model", own))
        if not self.layers:
            raise ValueError("plasticity: expected an optimizer of this model's parameters; it has none of them")
        if masks is not None:
            self._mask(model, masks)
        elif rule.subnet is not None:
            self._subnet(rule.subnet)
        fractions = rule.fractions([layer.weights for layer in self.layers])
        for layer, fraction in zip(self.layers, fractions, strict=True):
            if rule.fraction is not None:
                layer.most = places(fraction, int(layer.mask.sum()))
            if rule.cache is not None:
                layer.transient = torch.zeros_like(layer.initial)

    def _mask(self, model: nn.Module, masks: Mapping[str, Tensor]) -> None:
        named = dict(model.named_parameters())
        for name, mask in masks.items():
            if name not in named or mask.shape != named[name].shape:
                expected = list(named[name].shape) if name in named else f"one of {sorted(named)}"
                raise ValueError(f"plasticity: mask {name!r}: expected {expected}, got shape {list(mask.shape)}")
        of = {id(p): masks[name] for name, p in named.items() if name in masks}
        for layer in self.layers:
            ordered = sorted(layer.parameters, key=lambda p: p.ndim < 2)
            layer.mask = torch.cat([of.get(id(p), torch.ones_like(p)).reshape(-1) != 0 for p in ordered])

    def _subnet(self, cells: int) -> None:
        """The first `cells` of each hidden layer: start weights are independent, so any are alike."""
        before: Tensor | None = None  # which cells of the layer before are plastic
        for n, layer in enumerate(self.layers):
            weight, where = layer.weight, f"plasticity: subnet: layer {layer.measured.name!r}"
            if weight is None:
                raise ValueError(f"{where}: expected one weight [targets, sources, ...]; give masks instead")
            targets = torch.ones(weight.shape[0], dtype=torch.bool, device=weight.device)
            if n < len(self.layers) - 1:
                targets[cells:] = False
            sources = torch.ones(weight.shape[1], dtype=torch.bool, device=weight.device)
            if before is not None:
                if weight.shape[1] % len(before):
                    raise ValueError(
                        f"{where}: expected the {len(before)} cells of the layer before (or a multiple) as sources, "
                        f"got {weight.shape[1]}; give masks instead"
                    )
                sources = before.repeat_interleave(weight.shape[1] // len(before))
            shape = (len(targets), len(sources), *[1] * (weight.ndim - 2))
            parts = [(targets[:, None] & sources).view(shape).expand(weight.shape).reshape(-1)]
            parts += [targets for p in layer.parameters if p.ndim < 2]
            layer.mask, before = torch.cat(parts), targets

    @torch.no_grad()
    def skips(self, outputs: Tensor, labels: Tensor) -> bool:
        """True where a lazy rule learns nothing from this step: all samples are right by more than the margin.

        :param outputs: [samples, classes].
        :param labels: [samples].
        """
        if self.rule.lazy is None or not bool((right_by(outputs, labels) > self.rule.lazy).all()):
            return False
        self.skipped += 1
        self._end_step()
        return True

    def _selected(self, n: int, layer: _Layer, delta: Tensor, weights: Tensor) -> Tensor:
        """Which candidates change."""
        candidates = (delta != 0) & layer.mask
        if layer.most is None or int(candidates.sum()) <= layer.most:
            return candidates
        index = candidates.nonzero()[:, 0]
        if self.rule.select == "update":
            keys = delta[index].abs()
        elif self.rule.select == "weight":
            keys = weights[index].abs()
        else:
            keys = scatter(self.steps, n, index, self.seed)
        order = keys.sort(descending=True, stable=True).indices[: layer.most]
        return torch.zeros_like(candidates).index_fill_(0, index[order], True)

    @torch.no_grad()
    def step(self) -> None:
        """Let the optimizer propose, and apply what the rule selects."""
        befores = [layer.flat() for layer in self.layers]
        for layer in self.layers:
            for p in layer.parameters:
                p.zero_()  # so that what the optimizer adds is there exactly
        self.optimizer.step()
        for n, (layer, before) in enumerate(zip(self.layers, befores, strict=True)):
            delta = layer.flat()
            delta *= self._selected(n, layer, delta, before)
            layer.put(before + delta)
            if layer.transient is None:
                layer.measured.updates += int((delta != 0).sum())
                layer.measured.change += float(delta.abs().sum(dtype=torch.float64))
            else:
                layer.transient += delta
                self._consolidate(layer, layer.transient.abs() > (self.rule.cache or 0.0))
        self._end_step()

    def _end_step(self) -> None:
        self.steps += 1
        for layer in self.layers:
            layer.measured.dense_updates += layer.measured.synapses
            if layer.transient is not None:
                layer.measured.held += float(layer.transient.abs().sum(dtype=torch.float64))

    @staticmethod
    def _consolidate(layer: _Layer, which: Tensor) -> None:
        assert layer.transient is not None
        gathered = layer.transient[which]
        layer.measured.updates += int((gathered != 0).sum())
        layer.measured.change += float(gathered.abs().sum(dtype=torch.float64))
        layer.transient[which] = 0

    @torch.no_grad()
    def finish(self) -> list[Measured]:
        """End learning: consolidate what is still transient; what each layer cost, in the model's order."""
        for layer in self.layers:
            if layer.transient is not None:
                self._consolidate(layer, layer.transient != 0)
            difference = layer.flat() - layer.initial
            layer.measured.minimal_updates = int((difference != 0).sum())
            layer.measured.minimal_change = float(difference.abs().sum(dtype=torch.float64))
        return [layer.measured for layer in self.layers]
