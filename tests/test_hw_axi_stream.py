"""AXI4-Stream of the generated system, driven by cocotbext-axi: equal to golden under stalls; wrong words are told."""

from __future__ import annotations

import random
from collections.abc import Iterator

import numpy as np
import pytest

from apical.hw.axi_system import AxiSystem
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.register_map import AxiOptions
from apical.sim.axi_bench import AxiBench
from apical.sim.random_networks import random_network, random_options, random_x
from apical.sw import golden
from apical.sw.axi_words import Slots
from apical.sw.laws import Format, LeakyIntegrator, Lif
from apical.sw.network import Input, IntArray, Network, Population, Projection


def network() -> Network:
    """A spiking and a graded input, a spiking and a graded output, recurrence."""
    rng = np.random.default_rng(0)
    lif = {"decay": np.array([240]), "threshold": np.array([60]), "bias": np.array([0])}
    integrator = {"decay": np.array([250]), "bias": np.array([0])}
    return Network(
        (Input("x", 11), Input("y", 5, Format(12))),
        (Population("h", 6, Lif(state_bits=12), lif), Population("o", 5, LeakyIntegrator(state_bits=14), integrator)),
        (
            Projection("p", "x", "h", rng.integers(-40, 80, (6, 11))),
            Projection("q", "h", "o", rng.integers(-128, 128, (5, 6))),
            Projection("r", "y", "o", rng.integers(-128, 128, (5, 5))),
            Projection("s", "h", "h", rng.integers(-40, 40, (6, 6)), delay=1),
        ),
        ("o", "h"),
        "sum",
    )


LANES = HardwareOptions({"h": Lanes(6, 2, 2), "o": Lanes(3, 1)}, {"x": 4, "y": 1})
MALFORMED, INDEX, VALUE, FRAMING = 1, 2, 4, 8


def equal(bench: AxiBench, x: IntArray, packets: int = 1) -> None:
    """Outputs of every tick, and every counter since the last reset, equal golden's."""
    expected = golden.run(bench.system.network, x)
    got = bench.run(x, packets=packets)
    for name in bench.system.network.outputs:
        assert np.array_equal(got.outputs[name], expected.outputs[name]), name
    assert got.counters == expected.counters
    assert bench.read("ERRORS") == 0 and bench.problems == []


@pytest.fixture(scope="module")
def shared() -> Iterator[AxiBench]:
    with AxiBench(AxiSystem(network(), LANES, AxiOptions(data_bits=128)), seed=1) as b:
        yield b


@pytest.fixture
def bench(shared: AxiBench) -> AxiBench:
    """Reset, enabled, with stalls everywhere."""
    shared.withdraw()
    shared.stall(0.0)
    shared.cycles(50)
    shared.reset()
    shared.take()
    shared.stall(0.3, seed=3)
    shared.write("CONTROL", 1)
    return shared


def x_of(seed: int, samples: int = 4, ticks: int = 5) -> IntArray:
    return random_x(random.Random(seed), network(), samples, ticks)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_samples_equal_golden_under_stalls(bench: AxiBench, share: float) -> None:
    bench.stall(share, seed=8)
    equal(bench, x_of(1, 6), packets=2)
    assert bench.read("SAMPLES_IN") == bench.read("SAMPLES_OUT") == 6
    assert bench.read("STATUS") == 0


def test_ticks_may_be_split_over_packets_and_words_have_holes(bench: AxiBench) -> None:
    """One slot per word, at any place, with TKEEP for its bytes alone; a packet per tick."""
    x, slots, rng = x_of(2, 2), bench.map.inputs, random.Random(0)
    for sample in x:
        flat = bench.encode(sample).reshape(-1)
        words, keep = [], []
        for slot in flat[flat != 0]:
            word, at = (
                np.full(slots.slots, rng.getrandbits(slots.slot_bits - 1), slots.dtype),
                rng.randrange(slots.slots),
            )
            word[at] = slot
            words.append(word)
            keep += [int(b // (slots.slot_bits // 8) == at) for b in range(slots.data_bits // 8)]
            if slot & slots.last:
                bench.send(np.array(words), keep=keep)
                words, keep = [], []
    assert bench.until(packets=2)
    got, _ = bench.map.outputs.decode(bench.slots())
    expected = golden.run(bench.system.network, x)
    for name, array in got.items():
        assert np.array_equal(array, np.concatenate(expected.outputs[name]))
    assert bench.counters() == expected.counters and bench.read("ERRORS") == 0


def test_tuser_and_tlast_can_end_ticks_and_samples(bench: AxiBench) -> None:
    bench.write("FRAMING", 3)
    x, slots = x_of(3, 3), bench.map.inputs
    for sample in x:
        words, user = [], []
        for tick in sample:
            part = bench.encode(tick[None], endless=True) & ~np.array(slots.last, slots.dtype)
            words.append(part)
            user += [0] * (len(part) - 1) + [1]
        bench.send(np.concatenate(words), user=user)
    assert bench.until(packets=3)
    got, finals = bench.map.outputs.decode(bench.slots())
    expected = golden.run(bench.system.network, x)
    assert finals.tolist() == [4, 9, 14]
    for name, array in got.items():
        assert np.array_equal(array, np.concatenate(expected.outputs[name]))
    assert bench.read("ERRORS") == 0


def test_an_endless_stream_sends_each_tick_at_once(bench: AxiBench) -> None:
    """With OUT_TICKS a packet per tick, before the next tick is there; nothing ends the sample."""
    bench.write("FRAMING", 4)
    x = x_of(4, 1, 6)
    expected = golden.run(bench.system.network, x)
    for n, tick in enumerate(x[0]):
        bench.send(bench.encode(tick[None], endless=True))
        assert bench.until(packets=1)
        got, finals = bench.map.outputs.decode(bench.slots())
        assert len(finals) == 0
        for name, array in got.items():
            assert np.array_equal(array[0], expected.outputs[name][0, n])
    assert bench.read("STATUS", "BUSY") == 1 and bench.read("SAMPLES_OUT") == 0


def test_words_of_the_output_are_what_the_page_says(bench: AxiBench) -> None:
    x = x_of(5, 2, 3)
    for sample in x:
        bench.send(bench.encode(sample))
    assert bench.until(packets=2)
    words = bench.take()
    slots = bench.map.outputs
    ends = [
        [bool(word >> (n * slots.slot_bits + slots.slot_bits - 2) & 1) for n in range(slots.slots)]
        for word, *_ in words
    ]
    finals = [
        any(word >> (n * slots.slot_bits + slots.slot_bits - 3) & 1 for n in range(slots.slots)) for word, *_ in words
    ]
    assert [u for *_, u in words] == [int(any(e)) for e in ends]
    assert [last for _, _, last, _ in words] == [int(f) for f in finals]
    assert sum(map(sum, ends)) == 6 and {keep for _, keep, _, _ in words} == {(1 << 16) - 1}


def slot(bench: AxiBench, *parts: int) -> Slots:
    """One word of slots."""
    word = np.zeros((1, bench.map.inputs.slots), bench.map.inputs.dtype)
    word[0, : len(parts)] = parts
    return word


E, L, F = 1 << 31, 1 << 30, 1 << 29  # of 32-bit slots; port 1 is at bit 28, values from bit 4


@pytest.mark.parametrize(
    ("parts", "keep", "error"),
    [
        ([5, L], None, MALFORMED),
        ([L | 1 << 28], None, MALFORMED),
        ([E | L | 1 << 4 | 2], [1, 1, 0, 1] + [1] * 12, MALFORMED),
        ([E | L | 1 << 4 | 11], None, INDEX),
        ([E | L | 1 << 28 | 1 << 4 | 5], None, INDEX),
        ([E | L | 2 << 4 | 1], None, VALUE),
        ([E | L | 1], None, VALUE),
        ([E | L | 1 << 28 | 2048 << 4], None, VALUE),
        ([E | L | 1 << 28 | 0xFFF7FF << 4], None, VALUE),
        ([E | L | 1 << 28], None, VALUE),
        ([F], None, FRAMING),
        ([L, E | 1 << 4], None, FRAMING),
        ([E | 15 | L, E | 1], None, INDEX | VALUE | FRAMING),
    ],
)
def test_a_wrong_word_is_told_and_a_soft_reset_recovers(
    bench: AxiBench, parts: list[int], keep: list[int] | None, error: int
) -> None:
    """In the middle of a sample; the rest of the packets is accepted and dropped, and interrupts tell."""
    bench.write("INTERRUPT_ENABLE", 2)
    good = bench.encode(x_of(6)[0], endless=True)
    bench.send(good)
    bench.send(slot(bench, *parts), keep=keep)
    bench.send(good)
    assert bench.until(interrupt=1) and bench.until(sent=1)
    bench.cycles(100)
    assert bench.read("ERRORS") == error and bench.read("STATUS", "STOPPED") == 1
    assert bench.read("SAMPLES_IN") == 0
    bench.soft_reset()
    bench.write("ERRORS", 0x7F)
    assert bench.read("STATUS", "STOPPED") == 0
    bench.cycles(200)
    bench.take()
    equal(bench, x_of(7))


@pytest.mark.parametrize(
    ("framing", "parts", "user"),
    [(1, [L | E | 1 << 4], 0), (1, [L, E | 1 << 4], 1), (2, [L | F, E | 1 << 4], 0)],
    ids=["tick without TUSER", "tick before the TUSER word's end", "sample before the packet's end"],
)
def test_sideband_at_odds_with_slots_is_told(bench: AxiBench, framing: int, parts: list[int], user: int) -> None:
    bench.write("FRAMING", framing)
    bench.send(slot(bench, *parts), user=[user])
    assert bench.until(sent=1)
    bench.cycles(50)
    assert bench.read("ERRORS") == FRAMING


def test_nothing_goes_in_before_enable_and_flush_drops(bench: AxiBench) -> None:
    bench.write("CONTROL", 0)
    x = x_of(8, 4)
    for sample in x[:3]:
        bench.send(bench.encode(sample))
    bench.cycles(100)
    assert bench.read("STATUS") == 0 and not bench.state["sent"]
    bench.write("CONTROL", 3)
    assert bench.until(sent=1)
    bench.cycles(30)
    assert bench.read("STATUS") == 0 and bench.read("SAMPLES_IN") == 0
    bench.write("CONTROL", 1)
    equal(bench, x[3:])


def random_bench(seed: int, share: float) -> tuple[AxiBench, random.Random]:
    rng = random.Random(seed)
    case = random_network(rng)
    return AxiBench(
        AxiSystem(case, random_options(rng, case), AxiOptions(rng.choice((64, 128, 256)))), share=share
    ), rng


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(12))
def test_random_networks_equal_golden(seed: int) -> None:
    """Maps, gates at their operating point, several inputs and outputs, classes, any lanes."""
    bench, rng = random_bench(seed, 0.25)
    with bench:
        bench.write("CONTROL", 1)
        for _ in range(3):
            bench.soft_reset()
            equal(bench, random_x(rng, bench.system.network, 4, 5), packets=rng.randint(1, 4))


@pytest.mark.heavy
def test_ten_thousand_words_each_way_under_stalls() -> None:
    options = HardwareOptions(LANES.lanes, {"x": 1, "y": 1})
    with AxiBench(AxiSystem(network(), options, AxiOptions(32)), share=0.4, seed=4) as bench:
        bench.write("CONTROL", 1)
        seed = 0
        while min(bench.state["counts"][n] for n in ("s_axis_t", "m_axis_t")) < 10_000:
            bench.soft_reset()
            equal(bench, x_of(seed, 40, 12), packets=1 + seed % 3)
            seed += 1
