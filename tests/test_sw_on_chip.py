"""On-chip learning in integers: the golden model against the semantics spelled out in loops, and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from apical.sw import datasets, golden, on_chip, on_chip_recipe
from apical.sw.arithmetic import IntegerOps
from apical.sw.laws import Format, LeakyIntegrator, Lif, Relu
from apical.sw.network import Input, Network, NetworkError, Population, Projection
from apical.sw.on_chip import Learning, OnChip, Site


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def net(sizes: tuple[int, ...] = (9, 7, 4), bits: int = 10, seed: int = 0, spread: int = 60) -> Network:
    """A chain of relu populations with a linear output."""
    random = np.random.default_rng(seed)
    names = ["in", *(f"p{k}" for k in range(1, len(sizes)))]
    populations = [
        Population(n, m, Relu(shift=5), {"bias": ints(9)}) for n, m in zip(names[1:-1], sizes[1:-1], strict=True)
    ]
    read = LeakyIntegrator(state_bits=20, shift=3)
    populations.append(Population(names[-1], sizes[-1], read, {"decay": ints(0), "bias": ints(-5)}))
    projections = [
        Projection(
            f"w{k}",
            names[k],
            names[k + 1],
            random.integers(-spread, spread, (sizes[k + 1], sizes[k])),
            weight_bits=bits,
        )
        for k in range(len(sizes) - 1)
    ]
    return Network(
        (Input("in", sizes[0], Format(4, signed=False)),), tuple(populations), tuple(projections), (names[-1],), "last"
    )


def events(network: Network, samples: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.integers(0, 16, (samples, 1, network.input_size)) * random.integers(
        0, 2, (samples, 1, network.input_size)
    )
    return x, random.integers(0, network.populations[-1].size, samples)


class Spelled:
    """docs/reference/plasticity.md, "On the chip", one number at a time in Python's own integers."""

    def __init__(self, network: Network, learning: Learning) -> None:
        self.net, self.o = network, learning
        self.w = [p.weights.T.tolist() for p in network.projections]
        self.bits = [p.weight_bits for p in network.projections]
        self.theta = [0] * len(self.w)
        self.n = 0
        self.counters = dict.fromkeys(OnChip(network, learning).counters, 0)

    def clip(self, a: int, bits: int) -> int:
        end = 1 << (bits - 1)
        return min(max(a, -end), end - 1)

    def count(self, name: str, by: int = 1) -> None:
        self.counters[name] += by

    def forward(self, x: list[int]) -> list[list[int]]:
        values = [x]
        for k, w in enumerate(self.w):
            out = [sum(values[-1][i] * w[i][j] for i in range(len(w))) for j in range(len(w[0]))]
            last = k == len(self.w) - 1
            values.append([(s - 5) // 8 if last else min(max((s + 9) // 32, 0), 255) for s in out])
        return values

    def learn(self, x: list[int], label: int) -> list[int]:
        o, values = self.o, self.forward(x)
        y, n = values[-1], self.n
        self.n += 1
        self.count("learning: samples")
        if o.margin is not None and y[label] - max(v for k, v in enumerate(y) if k != label) >= o.margin:
            self.count("learning: skipped passes")
            return y
        self.count("learning: backward passes")
        e = []
        for k, v in enumerate(y):
            wanted = (
                o.target * (k == label) - v + (2 ** (o.error_shift - 1) if o.error_shift else 0)
            ) // 2**o.error_shift
            e.append(self.clip(wanted, o.error_bits))
            self.count(f"population {self.net.populations[-1].name}: error saturations", e[-1] != wanted)
        for layer in reversed(range(len(self.w))):
            e = self.visits(layer, values[layer], e, n)
        return y

    def visits(self, layer: int, v: list[int], e: list[int], n: int) -> list[int]:
        o, site, w, writes = self.o, self.o.sites[layer], self.w[layer], 0
        names = [p.name for p in self.net.populations]
        name = f"projection {self.net.projections[layer].name}: "
        ends = [
            o.plastic.get(names[k], np.ones(999)) if 0 <= k < len(names) - 1 else np.ones(999)
            for k in (layer - 1, layer)
        ]
        delta = [0] * len(v)
        for i in range(len(v)):
            if v[i] == 0 or (layer == 1 and not ends[0][i]):
                continue
            self.count(name + "visits")
            if layer:
                back, b = sum(w[i][j] * e[j] for j in range(len(e))), site.back_shift
                wanted = (back + (2 ** (b - 1) if b else 0)) // 2**b
                delta[i] = self.clip(wanted, o.error_bits)
                self.count(f"population {names[layer - 1]}: error saturations", delta[i] != wanted)
                self.count(name + "learning reads", len(e))
            for j in range(len(e)):
                q = v[i] * e[j]
                if q == 0:
                    continue
                self.count(name + "candidates")
                s = site.rate_shift
                phase = (n * 10368889 + i * 6949351 + j * 5079733 + layer * 4294967) % 2**24
                r = {"floor": 0, "nearest": 2**s // 2, "stochastic": phase // 2 ** (24 - s)}[o.rounding]
                step = (q + r) // 2**s
                if not (ends[0][i] and ends[1][j]):
                    self.count(name + "frozen")
                elif site.target_writes is not None and abs(q) * 2**o.gain <= self.theta[layer]:
                    self.count(name + "gated")
                elif step == 0:
                    self.count(name + "zero")
                else:
                    writes += 1
                    wanted = w[i][j] + step
                    w[i][j] = self.clip(wanted, self.bits[layer])
                    self.count(name + "saturations", w[i][j] != wanted)
        self.count(name + "weight writes", writes)
        self.count(name + "learning reads", 0 if layer else writes)
        if site.target_writes is not None:
            self.theta[layer] = min(max(self.theta[layer] + writes - site.target_writes, 0), 2**31 - 1)
        return delta


SITES = (Site(8), Site(7, 4))
OPTIONS: dict[str, dict[str, Any]] = {
    "nearest": {},
    "floor": {"rounding": "floor"},
    "stochastic": {"rounding": "stochastic"},
    "no shifts": {"sites": (Site(0), Site(0, 0)), "error_shift": 0},
    "lazy": {"margin": 5},
    "gated": {"sites": (Site(8, 0, 1), Site(7, 4, 1)), "gain": 0},
    "one gated": {"sites": (Site(6, 0, 2), Site(7, 4)), "gain": 0, "rounding": "stochastic"},
    "frozen cells": {"plastic": {"p1": ints(1, 0, 1, 1, 0, 0, 1)}},
    "narrow errors": {"error_bits": 4, "rounding": "stochastic"},
}


@pytest.mark.parametrize("name", OPTIONS)
def test_golden_is_the_semantics(name: str) -> None:
    network = net()
    learning = Learning(**{"sites": SITES, "target": 40, "error_shift": 1, "error_bits": 8, **OPTIONS[name]})
    compare(network, learning, 60)


def test_golden_is_the_semantics_in_deeper_nets() -> None:
    network = net((6, 5, 8, 5, 3), seed=3)
    sites = (Site(8, 0, 2), Site(7, 4), Site(7, 5, 2), Site(7, 4))
    plastic = {"p1": ints(1, 1, 0, 1, 0), "p2": ints(1, 0, 1, 1, 0, 0, 1, 1)}
    chip = compare(network, Learning(sites, 40, 1, 8, "stochastic", 4, 2, plastic), 60)
    assert min(chip.counters[f"projection w{k}: frozen"] for k in (1, 2)) > 0  # the error went through frozen cells


def test_a_frozen_cell_of_the_first_population_costs_nothing() -> None:
    network, frozen = net(), ints(1, 0, 1, 1, 0, 0, 1)
    plain, chip = (OnChip(network, Learning(SITES, 40, 1, 8, plastic=p)) for p in ({}, {"p1": frozen}))
    for one in (plain, chip):
        one.learn(*events(network, 40))
    assert chip.counters["projection w1: visits"] < plain.counters["projection w1: visits"]
    same = [torch.from_numpy(p.weights.T.copy()) == w for p, w in zip(network.projections, chip.weights, strict=True)]
    assert bool(same[0][:, frozen == 0].all()) and bool(same[1][frozen == 0].all())
    assert not bool(same[0].all()) and not bool(same[1].all())


def compare(network: Network, learning: Learning, samples: int) -> OnChip:
    x, labels = events(network, samples)
    chip, spelled = OnChip(network, learning), Spelled(network, learning)
    for part in (slice(0, samples // 3), slice(samples // 3, None)):
        y = chip.learn(x[part], labels[part])
        expected = [spelled.learn(e[0].tolist(), int(k)) for e, k in zip(x[part], labels[part], strict=True)]
        assert y.tolist() == expected
        assert [w.tolist() for w in chip.weights] == spelled.w
        assert [int(t) for t in chip.thresholds] == spelled.theta
        forward = network.counter_names
        assert {k: n for k, n in chip.counters.items() if k not in forward} == {
            k: n for k, n in spelled.counters.items() if k not in forward
        }
    assert chip.weights[0].tolist() != network.projections[0].weights.T.tolist()
    assert sum(v for k, v in chip.counters.items() if "writes" in k) > 0
    return chip


def test_the_options_reach_what_they_are_for() -> None:
    found = {}
    for name, options in OPTIONS.items():
        network = net()
        chip = OnChip(network, Learning(**{"sites": SITES, "target": 40, "error_shift": 1, "error_bits": 8, **options}))
        chip.learn(*events(network, 60))
        found[name] = chip.counters
    assert found["lazy"]["learning: skipped passes"] > 0 == found["nearest"]["learning: skipped passes"]
    assert found["gated"]["projection w0: gated"] > 0 == found["nearest"]["projection w0: gated"]
    assert found["gated"]["projection w0: weight writes"] < found["nearest"]["projection w0: weight writes"]
    assert found["narrow errors"]["population p2: error saturations"] > 0
    assert found["no shifts"]["projection w0: saturations"] > 0 and found["nearest"]["projection w0: zero"] > 0


def test_one_sample_by_hand() -> None:
    """Inputs 3, 0; cells (3·20 + 4) >> 5 = 2 and 3·(-20) + 4 < 0; outputs 16 >> 3 = 2, -8 >> 3 = -1; wanted 10, 0."""
    hidden = Population("hidden", 2, Relu(shift=5), {"bias": ints(4)})
    read = Population("read", 2, LeakyIntegrator(shift=3), {"decay": ints(0), "bias": ints(0)})
    w = Projection("w", "in", "hidden", np.array([[20, 7], [-20, 7]]))
    v = Projection("v", "hidden", "read", np.array([[8, 5], [-4, 5]]))
    network = Network((Input("in", 2, Format(4, signed=False)),), (hidden, read), (w, v), ("read",), "last")
    chip = OnChip(network, Learning((Site(2), Site(1, 3)), target=10))
    y = chip.learn(np.array([[[3, 0]]]), [0])
    assert y.tolist() == [[2, -1]]
    # errors 8 and 1; back 8·8 - 4·1 = 60, nearest of 60 / 8 is 8 (7.5 + .5)
    # row of cell 0: 2·8 and 2·1, nearest of halves 8 and 1; row of input 0: 3·8 / 4 = 6 for cell 0, cell 1 was silent
    assert chip.weights[1].tolist() == [[16, -3], [5, 5]]
    assert chip.weights[0].tolist() == [[26, -20], [7, 7]]
    assert chip.counters["projection v: weight writes"] == 2 and chip.counters["projection v: learning reads"] == 2
    assert chip.counters["projection w: weight writes"] == 1 and chip.counters["projection w: candidates"] == 1


def drawn(ops: IntegerOps, sample: Tensor, row: Tensor, lane: Tensor, projection: int, shift: int) -> Tensor:
    phases = torch.from_numpy(on_chip.noise_lanes(32))
    return on_chip.noise(ops, on_chip.noise_base(ops, sample, row, projection), phases[lane], shift)


def test_stochastic_rounding_is_right_in_the_mean_exactly() -> None:
    ops, shift = IntegerOps(), 5
    samples = torch.arange(1 << on_chip.NOISE_BITS)
    r = drawn(ops, samples, torch.tensor(3), torch.tensor(11), 1, shift)
    assert torch.equal(torch.bincount(r), torch.full((1 << shift,), 1 << (on_chip.NOISE_BITS - shift)))
    product = torch.tensor(-77)
    assert int(on_chip.change(ops, product, r, shift).sum()) << shift == -77 << on_chip.NOISE_BITS


def test_neighbouring_draws_fill_their_range() -> None:
    ops = IntegerOps()
    draws = [
        drawn(ops, torch.arange(32), torch.tensor(0), torch.tensor(0), 0, 3),
        drawn(ops, torch.tensor(0), torch.arange(32), torch.tensor(0), 0, 3),
        drawn(ops, torch.tensor(0), torch.tensor(0), torch.arange(32), 0, 3),
    ]
    for found in draws:
        times = torch.bincount(found, minlength=8)
        assert int(times.min()) >= 2 and int(times.max()) <= 6


def test_the_threshold_is_the_sum_of_the_writes_beyond_the_target() -> None:
    network = net((40, 20, 4), seed=2)
    chip = OnChip(network, Learning((Site(10, 0, 5), Site(8, 4)), 40, 1, 8, gain=2))
    x, labels = events(network, 800)
    chip.learn(x, labels)
    writes = chip.counters["projection w0: weight writes"]
    assert chip.counters["projection w0: candidates"] > 2 * writes
    assert writes - 5 * 800 == int(chip.thresholds[0])  # it never met its end at 0
    assert int(chip.thresholds[0]) > 0


def test_learning_goes_on_from_the_weights_that_were_read_back() -> None:
    network = net()
    x, labels = events(network, 40)
    learning = Learning(SITES, 40, 1, 8)
    whole, first = OnChip(network, learning), OnChip(network, learning)
    whole.learn(x, labels)
    first.learn(x[:25], labels[:25])
    second = OnChip(first.network(), learning)
    second.learn(x[25:], labels[25:])
    assert all(torch.equal(a, b) for a, b in zip(whole.weights, second.weights, strict=True))
    y = golden.run(whole.network(), x).outputs["p2"][:, 0]
    off = OnChip(whole.network(), learning)
    assert np.array_equal(np.concatenate([off.learn(x[n : n + 1], labels[n : n + 1]) for n in (0,)]), y[:1])


def broken(**changes: Any) -> Network:
    network = net()
    return replace(network, **changes)


def test_what_cant_learn_is_refused_with_the_reason() -> None:
    network, learning = net(), Learning(SITES, 40)
    spiking = Population("p1", 7, Lif(), {"decay": ints(200), "threshold": ints(50), "bias": ints(0)})
    with pytest.raises(NetworkError, match="'p1': law lif can't be a learning hidden population; these can: relu"):
        OnChip(broken(populations=(spiking, network.populations[1])), learning)
    with pytest.raises(NetworkError, match="'p2': law relu can't be a learning output; these can: leaky_integrator"):
        OnChip(
            broken(populations=(network.populations[0], replace(network.populations[0], name="p2", size=4))), learning
        )
    back = Projection("back", "p1", "p1", np.ones((7, 7), np.int64), delay=1)
    with pytest.raises(NetworkError, match="expected one input and a chain of populations"):
        OnChip(broken(projections=(*network.projections, back)), learning)
    with pytest.raises(NetworkError, match="expected 2 sites, got 1"):
        OnChip(network, Learning(SITES[:1], 40))
    with pytest.raises(NetworkError, match="expected one bit per cell"):
        OnChip(network, Learning(SITES, 40, plastic={"p1": ints(1)}))
    with pytest.raises(NetworkError, match="expected labels 0 to 3"):
        OnChip(network, learning).learn(events(network, 1)[0], [4])
    with pytest.raises(NetworkError, match="expected samples of one tick"):
        OnChip(network, learning).learn(np.ones((2, 3, 9), np.int64), [0, 1])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Site(25), "rate_shift: expected 0 to 24"),
        (lambda: Site(1, 1, -1), "target_writes: expected at least 0"),
        (lambda: Learning(SITES, 4, rounding="up"), "rounding: expected"),  # type: ignore[arg-type]
        (lambda: Learning(SITES, 4, error_bits=1), "error_bits: expected 2 to 16"),
        (lambda: Learning(SITES, 4, margin=0), "margin: expected at least 1"),
    ],
)
def test_an_option_out_of_range_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.heavy
@pytest.mark.parametrize(("gates", "least"), [("none", 0.86), ("lazy", 0.86), ("all", 0.83)])
def test_digits_are_learned_on_the_chip(gates: on_chip_recipe.Gates, least: float) -> None:
    network = on_chip_recipe.network()
    chip = OnChip(network, on_chip_recipe.learning(gates))
    train, test = (datasets.load(f"mnist:{split}") for split in ("sample-train", "sample"))
    for _ in range(3):
        chip.learn(train.encode(network.encoding), train.labels)
    trace = golden.run(chip.network(), test.encode(network.encoding))
    reached = datasets.figures(network, trace, test.labels)["accuracy"]
    assert reached is not None and reached >= least
