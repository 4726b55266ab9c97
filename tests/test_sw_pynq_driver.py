"""The board's driver on the simulated overlay: the generated RTL answers the calls that `pynq` would get."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from apical.hw.axi_system import AxiSystem
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.learning import learning_options
from apical.hw.register_map import AxiOptions, register_map
from apical.sim.overlay import BusError, SimulatedOverlay
from apical.sim.random_networks import random_network, random_options, random_x
from apical.sw import golden, on_chip
from apical.sw.axi_map import AxiMap, MapError
from apical.sw.axi_words import Slots
from apical.sw.bundle import identity
from apical.sw.geometry import Geometry
from apical.sw.laws import Format, LeakyIntegrator, Lif, Relu
from apical.sw.network import Input, IntArray, Network, Population, Projection
from apical.sw.on_chip import Learning, OnChip
from apical.sw.pynq_driver import Accelerator, DriverError, WrongDesign
from apical.sw.streaming import Stream
from apical.sw.trace import differences

WRITABLE = AxiOptions(writable=True)


def network() -> Network:
    """A signed map through a convolution into a read-out, spikes through a recurrent layer beside it; two outputs."""
    rng = np.random.default_rng(0)
    g = Geometry((2, 4, 3), 4, (3, 2), padding=(1, 0))
    lif = {"decay": np.array([240]), "threshold": np.array([60]), "bias": np.array([0])}
    size = int(np.prod(g.target))
    return Network(
        (Input("image", 24, Format(4), (2, 4, 3)), Input("x", 9)),
        (
            Population("map", size, Relu(value_bits=5, shift=4), {"bias": np.array([2])}, shape=g.target),
            Population("h", 6, Lif(state_bits=12), lif),
            Population("o", 5, LeakyIntegrator(state_bits=18), {"decay": np.array([250]), "bias": np.array([0])}),
        ),
        (
            Projection(
                "c", "image", "map", rng.integers(-8, 8, g.weights_shape), weight_bits=4, pattern="conv", geometry=g
            ),
            Projection("p", "x", "h", rng.integers(-40, 80, (6, 9))),
            Projection("s", "h", "h", rng.integers(-40, 40, (6, 6)), delay=1),
            Projection("q", "h", "o", rng.integers(-128, 128, (5, 6))),
            Projection("m", "map", "o", rng.integers(-300, 300, (5, size)), weight_bits=10),
        ),
        ("o", "h"),
        "sum",
    )


LANES = HardwareOptions({"map": Lanes(4, 2), "h": Lanes(6, 2, 2), "o": Lanes(3, 1)}, {"x": 2})


def x_of(seed: int, samples: int = 3, ticks: int = 4) -> IntArray:
    return random_x(random.Random(seed), network(), samples, ticks)


def reloaded(seed: int) -> Network:
    """The same network with other weights, over their whole range."""
    rng, start = np.random.default_rng(seed), network()
    ends = {q.name: Format(q.weight_bits).bounds for q in start.projections}
    new = {q.name: rng.integers(ends[q.name][0], ends[q.name][1] + 1, q.weights.shape) for q in start.projections}
    return replace(start, projections=tuple(replace(q, weights=new[q.name]) for q in start.projections))


@pytest.fixture(scope="module")
def overlay() -> Iterator[SimulatedOverlay]:
    with SimulatedOverlay(AxiSystem(network(), LANES, WRITABLE), stalls=0.2, seed=1, fast_build=True) as o:
        yield o


def driver(overlay: SimulatedOverlay, **options: Any) -> Accelerator:
    return Accelerator(overlay, json.loads(overlay.registers), allocate=overlay.allocate, **options)


@pytest.fixture
def board(overlay: SimulatedOverlay) -> Accelerator:
    overlay.stall(0.2)
    return driver(overlay, identity=identity(network()))


def test_samples_equal_golden_and_counters_are_the_runs_own(board: Accelerator) -> None:
    for seed, batch in ((0, 64), (1, 2), (2, 1)):
        x = x_of(seed, samples=5)
        got = board.run(x, batch=batch)
        expected = golden.run(network(), x)
        assert differences(expected, got) == []
        assert got.counters == expected.counters and expected.counters["population h: events"] > 0
        assert expected.outputs["o"].min() < 0 < expected.outputs["o"].max()
    assert board.errors() == () and board.interrupts() == ("SAMPLE",) and board.interrupts() == ()


def test_weights_are_loaded_read_back_and_outlive_a_reset(board: Accelerator) -> None:
    x = x_of(3)
    for seed in range(2):
        other = reloaded(seed)
        board.load_weights(other)
        board.reset()
        for q in other.projections:
            assert np.array_equal(board.read_weights()[q.name], q.weights)
        assert differences(golden.run(other, x), board.run(x)) == []
    board.load_weights({q.name: q.weights for q in network().projections})
    assert differences(golden.run(network(), x), board.run(x)) == []


def test_weights_that_do_not_fit_are_refused(board: Accelerator) -> None:
    good = {q.name: q.weights for q in network().projections}
    with pytest.raises(DriverError, match=r"^weights: expected projections \['c', 'm', 'p', 'q', 's'\], got \['p'\]$"):
        board.load_weights({"p": good["p"]})
    with pytest.raises(DriverError, match=r"^weights: projection 'p': expected weights \(6, 9\) of -128 to 127, got"):
        board.load_weights({**good, "p": good["p"] + 200})


def test_a_reset_at_any_time_leaves_the_next_samples_equal(overlay: SimulatedOverlay, board: Accelerator) -> None:
    x = x_of(4)
    expected = golden.run(network(), x)
    words = np.concatenate([board.map.inputs.encode(golden_parts(s)) for s in x])
    for n, cycles in enumerate((0, 1, 9, 40, 80, 120, 200, 333)):
        overlay.stall((0.0, 0.4)[n % 2])
        if n % 3:  # the receiving channel runs, or it doesn't and words wait
            take = overlay.allocate((200, board.map.outputs.slots), board.map.outputs.dtype)
            overlay.dma.recvchannel.transfer(take)
        overlay.dma.sendchannel.transfer(words)
        overlay.pass_time(cycles)
        board.reset()
        assert board.read("STATUS") == board.read("SAMPLES_IN") == 0
        assert differences(expected, board.run(x)) == []


def golden_parts(sample: IntArray) -> dict[str, IntArray]:
    return {name: part[0] for name, part in golden.split_input(network(), sample[None]).items()}


def spoiled(board: Accelerator, what: str) -> Slots:
    """A sample with something wrong in it."""
    slots = board.map.inputs
    words = slots.encode(golden_parts(x_of(5)[0])).copy()
    flat = words.reshape(-1)
    first = int(np.flatnonzero(flat & slots.event)[0])
    if what == "MALFORMED":
        flat[first] = 1  # an index without an event
    elif what == "INDEX":
        flat[first] = slots.event | (1 << (slots.index_bits + slots.field_bits)) | 9
    elif what == "VALUE":
        flat[first] &= ~words.dtype.type(((1 << slots.field_bits) - 1) << slots.index_bits)
    else:
        flat[np.flatnonzero(flat & slots.final)[0]] &= ~words.dtype.type(slots.last)  # FINAL without LAST
    return words


@pytest.mark.parametrize("what", ["MALFORMED", "INDEX", "VALUE", "FRAMING"])
def test_sticky_errors_are_reported_by_name_and_the_next_samples_are_equal(board: Accelerator, what: str) -> None:
    with pytest.raises(DriverError, match=rf"^packet 0 of 1: the design stopped: {what}: .*; seen: STATUS .*STOPPED"):
        board.exchange(spoiled(board, what), 1, 100)
    assert board.errors() == ()
    x = x_of(6)
    assert differences(golden.run(network(), x), board.run(x)) == []


def test_a_refused_access_is_a_sticky_error(overlay: SimulatedOverlay, board: Accelerator) -> None:
    with pytest.raises(BusError, match=r"^read at 0xffc: response 2 \(SLVERR\)$"):
        overlay.accelerator.read(0xFFC)
    with pytest.raises(BusError, match=r"^write at 0x000: response 2"):
        overlay.accelerator.write(0, 1)
    assert board.errors(clear=True) == ("ACCESS",) and board.errors() == ()
    assert board.interrupts() == ("ERROR",)


def test_a_sample_that_never_ends_is_told_with_what_was_seen(overlay: SimulatedOverlay) -> None:
    board = driver(overlay, timeout_s=0.3)
    words = board.map.inputs.encode(golden_parts(x_of(7)[0]), endless=True)
    seen = r"seen: STATUS BUSY, ERRORS none, samples in 0, out 0$"
    with pytest.raises(DriverError, match=rf"^packet 0 of 1: expected within 0\.3 s, got nothing; {seen}"):
        board.exchange(words, 1, 100)
    x = x_of(7)
    assert differences(golden.run(network(), x), board.run(x)) == []


def test_a_packet_longer_than_the_buffer_is_told_whatever_was_under_way(board: Accelerator) -> None:
    for seed in range(12):  # among them one whose cut end comes just after the reset
        with pytest.raises(DriverError, match=r"^packet 0 of 1: the DMA failed"):
            board.exchange(board.map.inputs.encode(golden_parts(x_of(seed)[0])), 1, 2)
        assert differences(golden.run(network(), x_of(8)), board.run(x_of(8))) == []


def test_an_endless_stream_equals_goldens_tick_by_tick(board: Accelerator) -> None:
    x, stream = x_of(9, 2, 6), Stream(network())
    for part in (x[0][:1], x[0][1:4], x[0][4:]):
        assert np.array_equal(board.push(part), stream.push(part))
    counters = board.counters()  # the recurrent projection may have taken the next tick's already
    ahead = {"projection s: events": counters["projection s: events"]}
    assert counters == {**stream.counters, **ahead}
    with pytest.raises(DriverError, match=r"^run: expected no endless stream under way; reset\(\) ends it$"):
        board.run(x)
    board.reset()
    assert differences(golden.run(network(), x), board.run(x)) == []


def test_another_design_is_refused(overlay: SimulatedOverlay) -> None:
    def refused(registers: str, message: str, **options: Any) -> None:
        with pytest.raises(WrongDesign, match=message):
            Accelerator(overlay, json.loads(registers), allocate=overlay.allocate, **options)

    own, other = identity(network()), identity(reloaded(0))
    with SimulatedStandIn(reloaded(0), WRITABLE) as plain:
        refused(plain, rf"^expected the design of network {other}, the device carries {own}$")
    with SimulatedStandIn(network(), AxiOptions(data_bits=128)) as plain:
        refused(plain, rf"^the device carries network {own}, but built with other options: expected map \w{{8}}, got")
    refused(overlay.registers, rf"^expected registers.json of network {other}, got one of {own}$", identity=other)
    refused(overlay.registers, r"^overlay: expected an IP named 'core', got \['accelerator', 'dma'\]$", core="core")

    class Elsewhere:
        accelerator = dma = overlay.dma  # reads 0 everywhere

    with pytest.raises(WrongDesign, match=r"^expected an apical AXI system \(0x4150434c at its first register\), got"):
        Accelerator(Elsewhere(), json.loads(overlay.registers), allocate=overlay.allocate)


class SimulatedStandIn:
    """The registers.json of a design that isn't there."""

    def __init__(self, network: Network, axi: AxiOptions) -> None:
        from apical.hw.register_text import as_json

        self.text = as_json(register_map(network, LANES, axi))

    def __enter__(self) -> str:
        return self.text

    def __exit__(self, *_: object) -> None:
        pass


def test_a_changed_file_is_refused(overlay: SimulatedOverlay, tmp_path: Any) -> None:
    plain = json.loads(overlay.registers)
    assert AxiMap.read(plain).counters == network().counter_names
    plain["counters"].reverse()
    with pytest.raises(MapError, match=r"^registers: expected hash \w{8}, got \w{8}: changed since made$"):
        AxiMap.read(plain)
    with pytest.raises(MapError, match=r"^registers: expected version 1, got 2$"):
        AxiMap.read({**plain, "version": 2})
    with pytest.raises(MapError, match=r"none\.json: expected a design's registers\.json"):
        AxiMap.read(tmp_path / "none.json")
    del plain["sites"]
    with pytest.raises(MapError, match=r"^registers: expected a design's registers\.json: KeyError 'sites'$"):
        AxiMap.read(plain)


def test_input_that_does_not_fit_is_refused(board: Accelerator) -> None:
    x = x_of(0)
    with pytest.raises(DriverError, match=r"^input: expected integers \[samples, ticks, 33\], got int64 \[3, 4, 32\]$"):
        board.run(x[:, :, 1:])
    with pytest.raises(DriverError, match=r"^input: expected integers \[ticks, 33\], got float64 \[4, 33\]$"):
        board.push(x[0] * 1.0)
    x[0, 0, 0] = 8
    with pytest.raises(DriverError, match=r"^input: port 'image': expected \[ticks, 24\] of -8 to 7"):
        board.run(x)
    with pytest.raises(DriverError, match=r"^learn: expected a learning design"):
        board.learn(x_of(0), [0, 1, 2])
    with pytest.raises(DriverError, match=r"^operating point: expected 0 to 0, got 1$"):
        board.operating_point = 1


def test_operating_points_are_set_by_the_driver() -> None:
    rng = random.Random(0)
    drawn = [n for n in (random_network(rng) for _ in range(60)) if n.points > 2]
    start = min(drawn, key=lambda n: sum(q.weights.size for q in n.projections))
    x = random_x(rng, start, 3, 4)
    with SimulatedOverlay(AxiSystem(start, random_options(rng, start)), stalls=0.1, fast_build=True) as o:
        board = driver(o)
        assert board.operating_point == start.point
        for point in (1, 0, 2):
            board.operating_point = point
            assert differences(golden.run(start.at(point), x), board.run(x)) == []
        with pytest.raises(DriverError, match=r"^operating point: expected 0 to \d+, got 99$"):
            board.operating_point = 99
        with pytest.raises(DriverError, match=r"^weights: expected a design with writable weights"):
            board.load_weights(start)


def learner() -> tuple[Network, Learning]:
    rng, zero = np.random.default_rng(1), np.zeros(1, np.int64)
    cells = Population("p1", 7, Relu(value_bits=6, shift=3), {"bias": rng.integers(-20, 60, 7)})
    law = LeakyIntegrator(state_bits=20, shift=2)
    made = Network(
        (Input("in", 12, Format(4, signed=False)),),
        (cells, Population("p2", 4, law, {"decay": zero, "bias": rng.integers(-20, 60, 4)})),
        (
            Projection("w0", "in", "p1", rng.integers(-64, 64, (7, 12))),
            Projection("w1", "p1", "p2", rng.integers(-64, 64, (4, 7))),
        ),
        ("p2",),
    )
    return made, Learning((on_chip.Site(4, 0, 4), on_chip.Site(3, 8, 2)), 60, 6, 8, "nearest", 400, gain=0)


def test_a_chip_learns_by_the_driver_as_golden_does() -> None:
    start, learning = learner()
    rng = np.random.default_rng(2)
    x = rng.integers(0, 16, (16, 1, 12)) * (rng.random((16, 1, 12)) < 0.4)
    labels = rng.integers(0, 4, 16)
    chip = OnChip(start, learning)
    system = AxiSystem(start, learning_options(start, 4, 2), AxiOptions(learning=learning))
    with SimulatedOverlay(system, stalls=0.1, fast_build=True) as o:
        board = driver(o)
        for part in (slice(0, 10), slice(10, 16)):
            before = dict(chip.counters)
            got = board.learn(x[part], labels[part], batch=4)
            assert np.array_equal(got.outputs["p2"][:, 0], chip.learn(x[part], labels[part]))
            assert {k: got.counters[k] for k in chip.counters} == {k: n - before[k] for k, n in chip.counters.items()}
        for n, q in enumerate(chip.projections):
            assert np.array_equal(board.read_weights()[q.name], chip.weights[n].T.numpy())
        stores = board.read_stores()
        assert stores["samples", start.name].tolist() == [16]
        for n, q in enumerate(chip.projections):
            assert stores["errors", q.name].tolist() == chip.errors[n].tolist()
            assert stores["threshold", q.name].tolist() == [int(chip.thresholds[n])]
        still = board.run(x[:3])  # learning is off again
        assert differences(golden.run(chip.network(), x[:3]), still) == []
        assert board.read("LEARN") == 0
        board.load_weights(start)
        assert differences(golden.run(start, x[:3]), board.run(x[:3])) == []
        with pytest.raises(DriverError, match=r"^labels: expected 3 of 0 to 3, got int64 \(3,\)$"):
            board.learn(x[:3], np.array([0, 4, 1]))


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(8))
def test_random_networks_by_the_driver(seed: int) -> None:
    rng = random.Random(300 + seed)
    start = random_network(rng)
    axi = AxiOptions(data_bits=rng.choice((64, 128, 256, 512)), writable=rng.random() < 0.5)
    x = random_x(rng, start, 4, 4)
    with SimulatedOverlay(AxiSystem(start, random_options(rng, start), axi), stalls=0.2, fast_build=True) as o:
        assert differences(golden.run(start, x), driver(o).run(x, batch=3)) == []
