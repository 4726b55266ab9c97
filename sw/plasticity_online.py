"""The compiled online learner: nets of one hidden layer, a sample per step, by the rules of `apical.sw.plasticity`.

Compiled from ``plasticity.cpp.j2`` (cached by content) in the number type asked for. It is the arithmetic of `Plastic`
around plain gradient descent on ½ Σ (output - target)², but for the order of sums: in float64 a net learns the same
synapses step by step, and weights that differ by rounding alone.
"""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch
from jinja2 import Environment, PackageLoader, StrictUndefined
from torch import Tensor, nn

from apical.sw.data import Bytes
from apical.sw.fused import load
from apical.sw.plasticity import Measured, Rule, places

PAD = 16  # rows are padded to a multiple of this
SELECTS = {"update": 0, "random": 1, "weight": 2}
Indices = npt.NDArray[np.int64]
REALS: dict[torch.dtype, tuple[str, Any, Any]] = {
    torch.float32: ("float", ctypes.c_float, ctypes.c_uint32),
    torch.float64: ("double", ctypes.c_double, ctypes.c_uint64),
}


class DivergedError(ArithmeticError):
    """Learning whose outputs run away."""


@cache
def _compiled(dtype: torch.dtype) -> tuple[ctypes.CDLL, type[ctypes.Structure]]:
    """The kernel, and the structure that it reads."""
    name, number, bits = REALS[dtype]

    class Layer(ctypes.Structure):
        _fields_: ClassVar[Any] = [
            ("weights", ctypes.c_void_p),
            ("transient", ctypes.c_void_p),
            *((k, ctypes.c_int64) for k in ("sources", "targets", "stride", "most", "updates")),
            *((k, ctypes.c_double) for k in ("change", "held_now", "held")),
            ("guess", bits),
        ]

    class Net(ctypes.Structure):
        _fields_: ClassVar[Any] = [
            *((k, ctypes.c_int64) for k in ("inputs", "cells", "outputs", "plastic", "select")),
            *((k, ctypes.c_int64) for k in ("lazy", "seed", "steps", "skipped")),
            *((k, ctypes.c_double) for k in ("margin", "cache")),
            *((k, number) for k in ("slope", "rate")),
            ("levels", ctypes.c_void_p),
            ("layers", Layer * 2),
        ]

    environment = Environment(loader=PackageLoader("apical.sw", "."), undefined=StrictUndefined, autoescape=False)
    library = load("online-learning", environment.get_template("plasticity.cpp.j2").render(real=name))
    library.learn.restype = ctypes.c_int64
    return library, Net


class Online:
    """A net inputs (and a bias) - cells, leaky ReLU - outputs, linear without bias, that learns sample by sample.

    :param rate: of gradient descent.
    :param std: of the normal distribution of all start weights and biases.
    :param slope: of the leaky ReLU below 0.
    :param seed: of start weights and of the random control.
    :raises ValueError: a size, rate or type out of range.
    """

    def __init__(
        self,
        inputs: int,
        cells: int,
        outputs: int,
        rule: Rule,
        rate: float,
        *,
        std: float = 0.03,
        slope: float = 0.1,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if min(inputs, cells) < 1 or outputs < 2 or not rate > 0 or dtype not in REALS:
            raise ValueError(
                "online learner: expected inputs and cells of at least 1, 2 outputs, a rate above 0, float32 or "
                f"float64; got {inputs}, {cells}, {outputs}, {rate}, {dtype}"
            )
        self.rule, self.inputs, self.cells, self.outputs, self.slope = rule, inputs, cells, outputs, slope
        self.library, structure = _compiled(dtype)
        start = torch.Generator().manual_seed(seed)
        self.first = torch.zeros(inputs + 1, -(-cells // PAD) * PAD, dtype=dtype)  # [sources, targets], the bias last
        self.second = torch.zeros(cells, -(-outputs // PAD) * PAD, dtype=dtype)
        self.first[:, :cells] = torch.randn(inputs + 1, cells, generator=start, dtype=torch.float64) * std
        self.second[:, :outputs] = torch.randn(cells, outputs, generator=start, dtype=torch.float64) * std
        self.initial = [w.clone() for w in (self.first, self.second)]
        self.transient = [torch.zeros_like(w) for w in self.initial] if rule.cache is not None else []
        self.levels = torch.arange(256, dtype=dtype) / 255
        plastic = min(rule.subnet or cells, cells)
        self.net = structure(
            inputs=inputs, cells=cells, outputs=outputs, plastic=plastic, select=SELECTS[rule.select], seed=seed,
            lazy=rule.lazy is not None, margin=rule.lazy or 0.0, cache=rule.cache or 0.0, slope=slope, rate=rate,
            levels=self.levels.data_ptr(),
        )  # fmt: skip
        fractions = rule.fractions([inputs * cells, cells * outputs])
        for n, (weights, sources, targets) in enumerate(
            ((self.first, inputs + 1, plastic), (self.second, plastic, outputs))
        ):
            layer = self.net.layers[n]
            layer.weights, layer.stride, layer.sources, layer.targets = (
                weights.data_ptr(), weights.shape[1], sources, targets,
            )  # fmt: skip
            layer.transient = self.transient[n].data_ptr() if self.transient else None
            layer.most = -1 if rule.fraction is None else places(fractions[n], sources * targets)

    @property
    def samples(self) -> int:
        """Samples seen, skipped ones too."""
        return int(self.net.steps)

    @property
    def skipped(self) -> int:
        """Samples that a lazy rule learned nothing from."""
        return int(self.net.skipped)

    def learn(self, images: Bytes, labels: Indices, order: Indices) -> None:
        """Learn from the samples `order`, one after the other.

        :param images: [samples, inputs], pixels; the net sees them over 255.
        :param labels: [samples].
        :raises ValueError: arrays of another shape or type, an index or label out of range.
        :raises DivergedError: the outputs are beyond 1e6; nothing was learned from that sample.
        """
        for what, array, kind, ndim in (
            ("images", images, np.uint8, 2), ("labels", labels, np.int64, 1), ("order", order, np.int64, 1),
        ):  # fmt: skip
            if array.dtype != kind or array.ndim != ndim or not array.flags.c_contiguous:
                raise ValueError(f"online learner: {what}: expected {ndim} contiguous axes of {np.dtype(kind)}")
        if images.shape != (len(labels), self.inputs):
            raise ValueError(f"online learner: images: expected shape {(len(labels), self.inputs)}, got {images.shape}")
        for what, values, size in (("order", order, len(labels)), ("labels", labels, self.outputs)):
            if len(values) and not (values.min() >= 0 and values.max() < size):
                raise ValueError(
                    f"online learner: {what}: expected 0 to {size - 1}, got {values.min()} to {values.max()}"
                )
        done = self.library.learn(
            ctypes.byref(self.net),
            ctypes.c_void_p(images.ctypes.data),
            ctypes.c_void_p(labels.ctypes.data),
            ctypes.c_void_p(order.ctypes.data),
            ctypes.c_int64(len(order)),
        )
        if done < len(order):
            raise DivergedError(f"online learner: sample {self.samples}: expected outputs below 1e6; lower the rate")

    def scores(self, images: Bytes) -> Tensor:
        """What the outputs send, [samples, outputs]."""
        x = self.levels[torch.from_numpy(images.astype(np.int64))]
        hidden = torch.addmm(self.first[-1, : self.cells], x, self.first[:-1, : self.cells])
        return nn.functional.leaky_relu(hidden, self.slope) @ self.second[:, : self.outputs]

    def accuracy(self, images: Bytes, labels: Indices) -> float:
        """Share of images whose largest output is the right one."""
        right = 0
        for at in range(0, len(labels), 1000):  # few at a time stay in the cache
            classes = self.scores(images[at : at + 1000]).argmax(1).numpy()
            right += int((classes == labels[at : at + 1000]).sum())
        return right / len(labels)

    def module(self) -> nn.Sequential:
        """The same net as modules, with a copy of the weights."""
        first, second = nn.Linear(self.inputs, self.cells), nn.Linear(self.cells, self.outputs, bias=False)
        out = nn.Sequential(first, nn.LeakyReLU(self.slope), second).to(self.first.dtype)
        with torch.no_grad():
            first.weight.copy_(self.first[:-1, : self.cells].T)
            first.bias.copy_(self.first[-1, : self.cells])
            second.weight.copy_(self.second[:, : self.outputs].T)
        return out

    def measured(self) -> list[Measured]:
        """What learning cost each layer so far, as if it ended here: what is transient counts as consolidated."""
        out = []
        for n, weights in enumerate((self.first, self.second)):
            layer, difference = self.net.layers[n], weights - self.initial[n]
            synapses = (self.inputs + 1) * self.cells if n == 0 else self.cells * self.outputs
            found = Measured(("hidden", "output")[n], synapses, layer.updates, layer.change)
            if self.transient:
                found.updates += int((self.transient[n] != 0).sum())
                found.change += float(self.transient[n].abs().sum(dtype=torch.float64))
            found.minimal_updates = int((difference != 0).sum())
            found.minimal_change = float(difference.abs().sum(dtype=torch.float64))
            found.dense_updates, found.held = self.samples * synapses, layer.held
            out.append(found)
        return out
