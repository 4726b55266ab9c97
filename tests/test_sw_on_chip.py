"""On-chip learning in integers: the golden model against the semantics spelled out in loops, and by hand."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from apical.sw import datasets, golden, on_chip_recipe
from apical.sw.laws import Format, LeakyIntegrator, Lif, Modulation, Relu, TwoPoint
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


def context_net(modulation: Modulation = "mcc", seed: int = 3) -> Network:
    """Two two-point populations, each with context from an input, and a linear output; a relu without one between."""
    random = np.random.default_rng(seed)
    law = TwoPoint(value_bits=8, value_fraction_bits=4, fraction_bits=5, shift=3, modulation=modulation)
    params = {"bias_basal": ints(11), "bias_apical": ints(-7)}
    read = LeakyIntegrator(state_bits=20, shift=3)
    cells = (
        Population("p1", 7, law, params),
        Population("p2", 6, Relu(shift=5), {"bias": ints(9)}),
        Population("p3", 5, law, params),
        Population("p4", 4, read, {"decay": ints(0), "bias": ints(-5)}),
    )

    def wire(name: str, source: str, target: str, sizes: tuple[int, int], compartment: str = "basal") -> Projection:
        return Projection(name, source, target, random.integers(-40, 60, sizes), compartment, weight_bits=9)

    wires = (
        wire("b3", "p2", "p3", (5, 6)), wire("a1", "too", "p1", (7, 4), "apical"), wire("b1", "in", "p1", (7, 6)),
        wire("b2", "p1", "p2", (6, 7)), wire("a3", "in", "p3", (5, 6), "apical"), wire("b4", "p3", "p4", (4, 5)),
    )  # fmt: skip
    inputs = (Input("in", 6, Format(4, signed=False)), Input("too", 4, Format(4, signed=False)))
    return Network(inputs, cells, wires, ("p4",), "last")


def events(network: Network, samples: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    x = random.integers(0, 16, (samples, 1, network.input_size)) * random.integers(
        0, 2, (samples, 1, network.input_size)
    )
    return x, random.integers(0, network.populations[-1].size, samples)


class Spelled:
    """docs/reference/plasticity.md, "On the chip", one number at a time in Python's own integers."""

    def __init__(self, network: Network, learning: Learning, order: list[str]) -> None:
        self.net, self.o = network, learning
        by_name = {p.name: p for p in network.projections}
        self.wires = [by_name[name] for name in order]
        self.w = [p.weights.T.tolist() for p in self.wires]
        self.theta = [0] * len(self.w)
        self.n = 0
        self.counters = dict.fromkeys(OnChip(network, learning).counters, 0)

    def clip(self, a: int, bits: int) -> int:
        end = 1 << (bits - 1)
        return min(max(a, -end), end - 1)

    def count(self, name: str, by: int = 1) -> None:
        self.counters[name] += by

    def forward(self, x: list[int]) -> None:
        self.values: dict[str, list[int]] = {}
        self.slopes: dict[str, dict[str, list[int]]] = {}
        for i in self.net.inputs:
            self.values[i.name], x = x[: i.size], x[i.size :]
        for p in self.net.populations:
            sums = {c: [0] * p.size for c in p.law.compartments}
            for w, q in zip(self.w, self.wires, strict=True):
                if q.target == p.name:
                    source = self.values[q.source]
                    sums[q.compartment] = [sum(source[i] * w[i][j] for i in range(len(w))) for j in range(p.size)]
            if isinstance(p.law, TwoPoint):
                found = [self.two_point(p.law, r, c) for r, c in zip(sums["basal"], sums["apical"], strict=True)]
                self.values[p.name] = [f[0] for f in found]
                self.slopes[p.name] = {"basal": [f[1] for f in found], "apical": [f[2] for f in found]}
            elif isinstance(p.law, Relu):
                self.values[p.name] = [min(max((s + 9) // 32, 0), 255) for s in sums["basal"]]
                self.slopes[p.name] = {"basal": [1] * p.size}
            else:
                self.values[p.name] = [(s - 5) // 8 for s in sums["basal"]]

    def two_point(self, law: TwoPoint, basal: int, apical: int) -> tuple[int, int, int]:
        r, c = min(max((basal + 11) // 8, -32), 255), min(max((apical - 7) // 8, -256), 255)
        if law.modulation == "linear":
            m, by_r, by_c = r * (32 + c), 32 + c, r
        else:
            m, by_c = r * r + 64 * r + c * (32 + abs(r)), 32 + abs(r)
            by_r = 2 * r + 64 + (c if r >= 0 else -c)
        return min(max(m // 64, 0), 96), by_r if r > -32 else 0, by_c

    def learn(self, x: list[int], label: int) -> list[int]:
        o, n, last = self.o, self.n, self.net.populations[-1].name
        self.forward(x)
        y = self.values[last]
        self.n += 1
        self.count("learning: samples")
        if o.margin is not None and y[label] - max(v for k, v in enumerate(y) if k != label) >= o.margin:
            self.count("learning: skipped passes")
            return y
        self.count("learning: backward passes")
        self.errors: dict[tuple[str, str], list[int]] = {(last, "basal"): []}
        for k, v in enumerate(y):
            wanted = (
                o.target * (k == label) - v + (2 ** (o.error_shift - 1) if o.error_shift else 0)
            ) // 2**o.error_shift
            self.errors[last, "basal"].append(self.clip(wanted, o.error_bits))
            self.count(f"population {last}: error saturations", self.errors[last, "basal"][-1] != wanted)
        for place in reversed(range(len(self.wires))):
            self.visits(place, n)
        return y

    def visits(self, place: int, n: int) -> None:
        o, site, w, q, writes = self.o, self.o.sites[place], self.w[place], self.wires[place], 0
        name, v, e = f"projection {q.name}: ", self.values[q.source], self.errors[q.target, q.compartment]
        plastic = [o.plastic.get(end, np.ones(999)) for end in (q.source, q.target)]
        hidden, first = self.slopes.get(q.source), self.net.populations[0].name
        for c in {r.compartment for r in self.wires if r.target == q.source}:
            self.errors[q.source, c] = [0] * len(v)
        for i in range(len(v)):
            if v[i] == 0 or (q.source == first and not plastic[0][i]):
                continue
            self.count(name + "visits")
            if hidden is not None:
                back, b = sum(w[i][j] * e[j] for j in range(len(e))), site.back_shift
                for c in sorted({r.compartment for r in self.wires if r.target == q.source}):
                    wanted = (hidden[c][i] * back + (2 ** (b - 1) if b else 0)) // 2**b
                    self.errors[q.source, c][i] = self.clip(wanted, o.error_bits)
                    changed = self.errors[q.source, c][i] != wanted
                    self.count(f"population {q.source}: error saturations", changed)
                self.count(name + "learning reads", len(e))
            for j in range(len(e)):
                product = v[i] * e[j]
                if product == 0:
                    continue
                self.count(name + "candidates")
                s = site.rate_shift
                phase = (n * 10368889 + i * 6949351 + j * 5079733 + place * 4294967) % 2**24
                r = {"floor": 0, "nearest": 2**s // 2, "stochastic": phase // 2 ** (24 - s)}[o.rounding]
                step = (product + r) // 2**s
                if not (plastic[0][i] and plastic[1][j]):
                    self.count(name + "frozen")
                elif site.target_writes is not None and abs(product) * 2**o.gain <= self.theta[place]:
                    self.count(name + "gated")
                elif step == 0:
                    self.count(name + "zero")
                else:
                    writes += 1
                    wanted = w[i][j] + step
                    w[i][j] = self.clip(wanted, q.weight_bits)
                    self.count(name + "saturations", w[i][j] != wanted)
        self.count(name + "weight writes", writes)
        self.count(name + "learning reads", 0 if hidden is not None else writes)
        if site.target_writes is not None:
            self.theta[place] = min(max(self.theta[place] + writes - site.target_writes, 0), 2**31 - 1)


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
    chip = OnChip(network, learning)
    spelled = Spelled(network, learning, [p.name for p in chip.projections])
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
    assert chip.weights[0].tolist() != chip.projections[0].weights.T.tolist()
    assert sum(v for k, v in chip.counters.items() if "writes" in k) > 0
    return chip


CONTEXT = ("b1", "a1", "b2", "b3", "a3", "b4")  # from the input on, the basal one first
MANY = {
    "plain": Learning((Site(8), Site(7), Site(9, 5), Site(7, 3), Site(6), Site(6, 8)), 40, 1, 8),
    "gated": Learning(
        (Site(8, 0, 2), Site(7, 0, 3), Site(9, 5, 1), Site(7, 3), Site(6, 0, 2), Site(6, 8)), 40, 1, 6, "stochastic",
        margin=3, gain=0, plastic={"p1": ints(1, 0, 1, 1, 0, 1, 1), "p3": ints(1, 1, 0, 1, 1)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("modulation", ["mcc", "linear"])
@pytest.mark.parametrize("options", MANY)
def test_two_point_cells_learn_through_both_compartments(modulation: Modulation, options: str) -> None:
    network = context_net(modulation)
    chip = compare(network, MANY[options], 80)
    assert tuple(p.name for p in chip.projections) == CONTEXT
    assert chip.chain.source == (-1, -1, 0, 1, -1, 2) and chip.chain.target == (0, 0, 1, 2, 2, 3)
    for name in CONTEXT:
        assert chip.counters[f"projection {name}: weight writes"] > 0, name


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
    with pytest.raises(
        NetworkError, match="expected one dense projection of delay 0 to each compartment of 'p1', got 'back'"
    ):
        OnChip(broken(projections=(*network.projections, back)), learning)
    with pytest.raises(NetworkError, match=r"law two_point can't be .* \(two_point: mcc and linear\)"):
        OnChip(context_net("tanh"), MANY["plain"])
    with pytest.raises(NetworkError, match="'a3': expected context from an input, got 'p1'"):
        wires = context_net().projections
        other = replace(wires[4], source="p1", weights=np.ones((5, 7), np.int64))
        OnChip(replace(context_net(), projections=(*wires[:4], other, wires[5])), MANY["plain"])
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
@pytest.mark.parametrize(
    ("law", "gates", "least"),
    [("relu", "none", 0.86), ("relu", "lazy", 0.86), ("relu", "all", 0.83), ("two_point", "none", 0.88)],
)
def test_digits_are_learned_on_the_chip(law: on_chip_recipe.Cells, gates: on_chip_recipe.Gates, least: float) -> None:
    network = on_chip_recipe.network(law=law)
    chip = OnChip(network, on_chip_recipe.learning(gates, law=law))
    train, test = (datasets.load(f"mnist:{split}") for split in ("sample-train", "sample"))
    for _ in range(3):
        chip.learn(train.encode(network.encoding), train.labels)
    trace = golden.run(chip.network(), test.encode(network.encoding))
    reached = datasets.figures(network, trace, test.labels)["accuracy"]
    assert reached is not None and reached >= least
