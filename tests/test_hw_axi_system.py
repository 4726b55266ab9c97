"""The AXI system as a whole: soft reset, weights at run time, operating points, sticky errors, its text."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from amaranth.hdl import Signal

from apical.hw import accelerator
from apical.hw.axi_system import AxiSystem
from apical.hw.counters import Counter
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.register_map import AxiOptions
from apical.sim.axi_bench import OKAY, SLVERR, AxiBench
from apical.sim.random_networks import random_network, random_options, random_x
from apical.sw import golden
from apical.sw.axi_weights import Site
from apical.sw.geometry import Geometry
from apical.sw.laws import Format, LeakyIntegrator, Lif, Relu
from apical.sw.network import Input, IntArray, Network, Population, Projection

WRITABLE = AxiOptions(writable=True)


def network() -> Network:
    """A map through a grouped convolution to a dense read-out; spikes beside it; recurrence."""
    rng = np.random.default_rng(0)
    g = Geometry((2, 4, 3), 4, (3, 2), groups=2, padding=(1, 0))
    lif = {"decay": np.array([240]), "threshold": np.array([60]), "bias": np.array([0])}
    relu, zero = {"bias": np.array([2])}, {"decay": np.array([250]), "bias": np.array([0])}
    size = int(np.prod(g.target))
    return Network(
        (Input("image", 24, Format(3, False), (2, 4, 3)), Input("x", 11)),
        (
            Population("map", size, Relu(value_bits=5, shift=4), relu, shape=g.target),
            Population("h", 6, Lif(state_bits=12), lif),
            Population("o", 5, LeakyIntegrator(state_bits=18), zero),
        ),
        (
            Projection(
                "c", "image", "map", rng.integers(-8, 8, g.weights_shape), weight_bits=4, pattern="conv", geometry=g
            ),
            Projection("p", "x", "h", rng.integers(-40, 80, (6, 11))),
            Projection("s", "h", "h", rng.integers(-40, 40, (6, 6)), delay=1),
            Projection("q", "h", "o", rng.integers(-128, 128, (5, 6))),
            Projection("m", "map", "o", rng.integers(-300, 300, (5, size)), weight_bits=10),
        ),
        ("o", "h"),
        "sum",
    )


LANES = HardwareOptions({"map": Lanes(3, 3), "h": Lanes(6, 2, 2), "o": Lanes(3, 1)}, {"x": 4})


def reloaded(network: Network, seed: int, scale: int = 1) -> Network:
    """The same network with other weights, extremes among them."""
    rng = np.random.default_rng(seed)
    projections = []
    for q in network.projections:
        low, high = Format(q.weight_bits).bounds
        w = rng.integers(low // scale, high // scale + 1, q.weights.shape)
        projections.append(q if q.pattern == "pool" else replace(q, weights=w))
    return replace(network, projections=tuple(projections))


def load(bench: AxiBench, other: Network) -> None:
    weights = {q.name: q.weights for q in other.projections}
    for site in bench.map.sites:
        assert isinstance(site, Site)
        bench.load(site, weights[site.projection])


def read_back(bench: AxiBench, other: Network) -> None:
    weights = {q.name: q.weights for q in other.projections}
    for site in bench.map.sites:
        assert isinstance(site, Site)
        assert np.array_equal(bench.weights(site), weights[site.projection]), site.projection


def equal(bench: AxiBench, network: Network, x: IntArray, packets: int = 1) -> None:
    """Outputs of every tick, and every counter since the last reset, equal golden's."""
    expected = golden.run(network, x)
    got = bench.run(x, packets=packets)
    for name in network.outputs:
        assert np.array_equal(got.outputs[name], expected.outputs[name]), name
    assert got.counters == expected.counters
    assert bench.problems == []


def x_of(seed: int, samples: int = 3, ticks: int = 4) -> IntArray:
    return random_x(random.Random(seed), network(), samples, ticks)


@pytest.fixture(scope="module")
def bench() -> Iterator[AxiBench]:
    with AxiBench(AxiSystem(network(), LANES, WRITABLE), share=0.2, seed=1) as b:
        b.write("CONTROL", 1)
        yield b


def stop(bench: AxiBench) -> list[tuple[int, int, int, int]]:
    """What a host does to begin anew, at whatever moment; the words that came before the end."""
    bench.write("CONTROL", 3)
    bench.soft_reset()
    assert bench.until(sent=1)
    bench.cycles(40)
    bench.write("CONTROL", 1)
    assert bench.read("STATUS") == 0
    return bench.take()


def soft_reset_at(bench: AxiBench, cycle: int, seed: int) -> None:
    """A soft reset so many cycles after a sample was offered; then the next samples equal golden."""
    x = x_of(seed)
    bench.send(np.concatenate([bench.encode(sample) for sample in x]))
    bench.cycles(cycle)
    words, slots = stop(bench), bench.map.outputs
    inside = False
    for n, (data, _, last, _) in enumerate(words):
        cut = data == slots.final
        assert not cut or (n == len(words) - 1 and inside and last), "an end of a packet that wasn't cut"
        inside = not last
    assert not inside, "a packet without an end"
    assert bench.read("SAMPLES_IN") == bench.read("SAMPLES_OUT") == 0
    assert bench.read("ERRORS") == 0
    equal(bench, bench.system.network, x)


def test_a_soft_reset_in_a_sample_leaves_the_next_one_equal(bench: AxiBench) -> None:
    rng = random.Random(0)
    load(bench, bench.system.network)
    for n in range(12):
        bench.stall(rng.choice((0.0, 0.3)), seed=n)
        soft_reset_at(bench, rng.randrange(160), n)


@pytest.mark.heavy
def test_a_soft_reset_at_every_cycle_of_a_sample() -> None:
    with AxiBench(AxiSystem(network(), LANES, AxiOptions())) as b:
        b.write("CONTROL", 1)
        for cycle in range(200):
            soft_reset_at(b, cycle, 3)
        b.stall(0.4, seed=2)
        for cycle in range(0, 300, 3):
            soft_reset_at(b, cycle, cycle)


def test_a_word_that_waits_outlives_a_soft_reset(bench: AxiBench) -> None:
    """Nobody takes words: one waits on the bus, stays as it is through the reset, and its packet gets an end."""
    stop(bench)
    bench.stall(1.0, parts=["sink"])
    bench.send(bench.encode(x_of(1)[0]))
    bench.cycles(400)
    assert bench.read("STATUS", "WAITING") == 1
    bench.soft_reset()
    assert bench.read("STATUS") == 1 | 8
    bench.stall(0.0)
    words = stop(bench)
    assert len(words) == 2 and words[1][0] == bench.map.outputs.final and words[1][2] == 1
    assert bench.problems == []
    equal(bench, bench.system.network, x_of(2))


def test_weights_are_loaded_and_read_back_without_another_synthesis(bench: AxiBench) -> None:
    start = bench.system.network
    load(bench, start)
    for seed in range(3):
        other = reloaded(start, seed)
        load(bench, other)
        read_back(bench, other)
        stop(bench)
        read_back(bench, other)  # no reset brings the first ones back
        equal(bench, other, x_of(seed))
    load(bench, start)
    assert bench.read("ERRORS") == 0


def test_extreme_weights_do_not_overflow(bench: AxiBench) -> None:
    """All weights at one end of their bits, all inputs at theirs: the widths hold for any weights."""
    start = bench.system.network
    for end in (0, 1):
        ends = [np.full(q.weights.shape, Format(q.weight_bits).bounds[end]) for q in start.projections]
        projections = [replace(q, weights=w) for q, w in zip(start.projections, ends, strict=True)]
        other = replace(start, projections=tuple(projections))
        load(bench, other)
        stop(bench)
        x = np.ones((2, 4, 35), np.int64)
        x[:, :, :24] = 7
        equal(bench, other, x)
    load(bench, start)


def test_weights_are_out_of_reach_while_a_sample_is_under_way(bench: AxiBench) -> None:
    stop(bench)
    m, x = bench.map, x_of(5)
    bench.write("SITE", 1)
    before = bench.read("DATA")
    bench.write("ROW", 0)
    bench.send(bench.encode(x[0][:2], endless=True))
    bench.until(sent=1)
    bench.cycles(100)
    assert bench.read("STATUS", "BUSY") == 1
    data = m["DATA"].address
    assert bench.access([(1, data, ~before & 0xFFFFFFFF, 15, 0), (0, data, 0, 0, 0)]) == [(0, SLVERR)] * 2
    assert (bench.read("ROW"), bench.read("CHUNK"), bench.read("ERRORS")) == (0, 0, 1 << 4)
    bench.write("ERRORS", 1 << 4)
    stop(bench)
    assert bench.read("DATA") == before


def test_accesses_to_weights_between_samples_disturb_none() -> None:
    """Reads of weights while samples of one word begin at any distance: right or SLVERR, and all samples equal."""
    rng, lif = random.Random(0), {"decay": np.array([240]), "threshold": np.array([60]), "bias": np.array([0])}
    weights = np.random.default_rng(0).integers(-40, 80, (6, 11))
    start = Network(
        (Input("x", 11),),
        (Population("h", 6, Lif(state_bits=12), lif),),
        (Projection("p", "x", "h", weights),),
        ("h",),
    )
    x = np.zeros((300, 1, 11), np.int64)
    for sample in x:
        sample[0, rng.sample(range(11), 3)] = 1
    with AxiBench(AxiSystem(start, HardwareOptions({"h": Lanes(6, 2)}), WRITABLE)) as bench:
        bench.write("CONTROL", 1)
        bench.stall(0.9, burst=20, seed=4, parts=["source"])
        (site,) = bench.map.sites
        assert isinstance(site, Site)
        image, address, seen = site.image(weights).reshape(-1), bench.map["DATA"].address, []
        for sample in x:
            bench.send(bench.encode(sample))
        while not bench.state["sent"]:
            bench.write("SITE", 0)
            at = 0
            for value, response in bench.access([(0, address, 0, 0, rng.randrange(3)) for _ in image]):
                seen.append(response)
                assert response == SLVERR or value == image[at]
                at += response == OKAY
        assert bench.until(packets=len(x))
        expected = golden.run(start, x)
        got, _ = bench.map.outputs.decode(bench.slots())
        assert np.array_equal(got["h"], np.concatenate(expected.outputs["h"]))
        assert seen.count(OKAY) > 20 and seen.count(SLVERR) > 20 and bench.counters() == expected.counters


def test_no_output_follows_an_input_within_a_cycle(bench: AxiBench) -> None:
    stop(bench)
    bench.stall(0.3, seed=7)
    x = x_of(4)
    for sample in x:
        bench.send(bench.encode(sample))
    bench.shake(150)
    assert bench.until(packets=3)
    assert bench.problems == []
    expected = golden.run(bench.system.network, x)
    got, _ = bench.map.outputs.decode(bench.slots())
    for name, array in got.items():
        assert np.array_equal(array, np.concatenate(expected.outputs[name]))


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(12))
def test_random_networks_take_other_weights(seed: int) -> None:
    """Any shapes, classes, groups, maps: what is loaded is read back and computed with."""
    rng = random.Random(100 + seed)
    start = random_network(rng)
    with AxiBench(AxiSystem(start, random_options(rng, start), WRITABLE), share=0.2) as b:
        b.write("CONTROL", 1)
        if b.map.sites:
            read_back(b, start)
        for n in range(2):
            other = reloaded(start, n, rng.choice((1, 4)))
            load(b, other)
            read_back(b, other)
            b.soft_reset()
            equal(b, other, random_x(rng, start, 4, 4))


def test_an_operating_point_is_a_register() -> None:
    rng = random.Random(0)
    while (start := random_network(rng)).points < 3:
        pass
    x = random_x(rng, start, 3, 4)
    assert len({golden.run(start.at(p), x).counters[g] for p in range(3) for g in start.gates[0].counter_names[2:]}) > 1
    with AxiBench(AxiSystem(start, random_options(rng, start)), share=0.2) as b:
        b.write("CONTROL", 1)
        assert b.read("POINT") == start.point
        for point in (1, 0, 2):
            b.write("POINT", point)
            b.soft_reset()
            equal(b, start.at(point), x)
        assert b.access([(1, b.map["POINT"].address, start.points, 15, 0)]) == [(0, SLVERR)] and b.read("POINT") == 2


class NearlyFull(Counter):
    """A counter that starts close to its end."""

    def __init__(self, most: int) -> None:
        super().__init__(most)
        self.total = Signal(32, init=0xFFFFFFF0)


def test_a_counter_that_wraps_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerator, "Counter", NearlyFull)
    x = np.ones((1, 4, 35), np.int64)
    with AxiBench(AxiSystem(network(), LANES)) as b:
        b.write("CONTROL", 1)
        assert b.read("ERRORS") == 0
        got = b.run(x).counters
        expected = golden.run(network(), x).counters
        assert got == {k: (n + 0xFFFFFFF0) % (1 << 32) for k, n in expected.items()}
        assert b.read("ERRORS") == 1 << 5 and b.read("INTERRUPT_PENDING") == 3


def test_the_text_is_the_same_each_time_and_nobodys_names_are_in_it() -> None:
    named = network()
    text = AxiSystem(named, LANES, WRITABLE).verilog()
    hostile = {p.name: f'endmodule "{n} $(rm) */' for n, p in enumerate(named.nodes.values())}
    other = Network(
        tuple(replace(i, name=hostile[i.name]) for i in named.inputs),
        tuple(replace(p, name=hostile[p.name]) for p in named.populations),
        tuple(
            replace(q, name=f"`x {n}", source=hostile[q.source], target=hostile[q.target])
            for n, q in enumerate(named.projections)
        ),
        tuple(hostile[o] for o in named.outputs),
        "sum",
    )
    lanes = HardwareOptions({hostile[k]: v for k, v in LANES.lanes.items()}, {hostile["x"]: 4})
    again = AxiSystem(other, lanes, WRITABLE)
    constants = re.compile(r"32'd\d+")  # identity and map hash know the names
    assert constants.sub("", again.verilog()) == constants.sub("", text)
    assert "/" not in re.sub(r"/\*.*?\*/|//.*", "", text)
    ports = re.split(r",\s*", re.findall(r"^module apical_axi\((.*?)\);", text, re.MULTILINE | re.DOTALL)[0])
    assert {p.strip() for p in ports} == {*again.signature.members}
