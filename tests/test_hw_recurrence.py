"""Recurrence on the RTL: no pattern of stalls stops it or changes anything; constants and words of a population."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Fragment

from apical.hw.accelerator import Accelerator
from apical.hw.design import Design, HardwareOptions, Lanes
from apical.hw.event_queue import EventQueue
from apical.hw.law_pipeline import Nowhere
from apical.hw.verilog import generate
from apical.sim import bench, verilated
from apical.sim.scoreboard import first_divergence
from apical.sim.verilated import Stalls
from apical.sw import golden
from apical.sw.golden import Trace
from apical.sw.laws import AdaptiveLif, LeakyIntegrator, Lif
from apical.sw.network import Input, IntArray, Network, Population, Projection


def ints(*values: int) -> IntArray:
    return np.array(values, np.int64)


def tangled(leak: Any = "multiply") -> Network:
    """Recurrence of one and of three ticks, feedback of one and of two, an input that is also read two ticks late."""
    random = np.random.default_rng(5)

    def dense(source: str, target: str, shape: tuple[int, int], delay: int = 0, low: int = -25, high: int = 35) -> Any:
        weights = random.integers(low, high, shape)
        return Projection(f"{source} to {target} after {delay}", source, target, weights, delay=delay)

    decays = ints(192, 224, 240, 248, 252, 256, 128)
    adaptive = {"decay": decays, "adaptation_decay": decays[::-1], "threshold": ints(30), "adaptation": ints(9)}
    return Network(
        (Input("in", 4),),
        (
            Population("a", 7, AdaptiveLif(decay_bits=8, leak=leak), {**adaptive, "bias": ints(2)}, {"v": ints(-9)}),
            Population("b", 3, Lif(leak=leak), {"decay": ints(224), "threshold": ints(20), "bias": ints(1)}),
            Population("out", 2, LeakyIntegrator(leak=leak), {"decay": ints(240), "bias": ints(0)}),
        ),
        (
            dense("in", "a", (7, 4), low=0, high=50),
            dense("a", "a", (7, 7), 1),
            dense("a", "a", (7, 7), 3),
            dense("b", "a", (7, 3), 1),
            dense("out", "b", (3, 2), 2, -1, 2),
            dense("a", "b", (3, 7)),
            dense("in", "b", (3, 4), 2),
            dense("b", "out", (2, 3)),
            dense("in", "out", (2, 4)),
        ),
        ("out", "a"),
    )


ONE_ROW = {"a": Lanes(7, 7), "b": Lanes(3, 3), "out": Lanes(2, 2)}
MANY_ROWS = {"a": Lanes(2, 1), "b": Lanes(2, 2, 2), "out": Lanes(1, 1)}


@dataclass(frozen=True)
class Case:
    """A design with monitors, an input, golden's trace and the cycles without stalls."""

    design: Design
    x: np.ndarray
    golden: Trace
    cycles: int


def single_buffered(original: Any) -> Callable[..., None]:
    def init(self: Any, *arguments: Any) -> None:
        original(self, *arguments)
        self.depth = self.rows

    return init


def make(lanes: dict[str, Lanes], monkeypatch: pytest.MonkeyPatch | None = None) -> Case:
    if monkeypatch is not None:
        monkeypatch.setattr(EventQueue, "__init__", single_buffered(EventQueue.__init__))
    network = tangled()
    design = generate(network, HardwareOptions(lanes, monitor=True, monitor_states=True))
    x = np.random.default_rng(1).integers(0, 2, (3, 9, 4))
    reference = golden.run(network, x, states=True)
    assert all(values.any(axis=(0, 1)).any() for values in reference.values.values())
    free = bench.run_design(design, x)
    assert first_divergence(reference, free) is None
    assert free.cycles is not None
    return Case(design, x, reference, free.cycles)


@pytest.fixture(scope="module", params=[ONE_ROW, MANY_ROWS], ids=["one row", "many rows"])
def case(request: pytest.FixtureRequest) -> Case:
    return make(request.param)


PATTERNS = {
    "outputs stall for long while the input pushes": (Stalls(0.0, 0.7, 1), 300),
    "the input starves within ticks": (Stalls(0.8, 0.0, 2), 60),
    "both ends stall for long": (Stalls(0.6, 0.6, 3), 90),
    "both ends stall at random": (Stalls(0.5, 0.5, 4), 1),
}


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_pattern_of_stalls_stops_recurrence_or_changes_it(case: Case, pattern: str) -> None:
    stalls, burst = PATTERNS[pattern]
    trace = bench.run_design(case.design, case.x, stalls=stalls, burst=burst)
    assert (difference := first_divergence(case.golden, trace)) is None, str(difference)
    assert trace.cycles is not None
    assert trace.cycles > case.cycles


@pytest.mark.parametrize("share", [0.31, 0.77])
def test_a_reset_while_events_go_round_starts_everything_anew(case: Case, share: float) -> None:
    reset_at = int(share * case.cycles)
    trace = bench.run_design(case.design, case.x, stalls=Stalls(0.3, 0.3, 7), burst=5, reset_at=reset_at)
    assert (difference := first_divergence(case.golden, trace)) is None, str(difference)


@pytest.mark.heavy
@pytest.mark.parametrize("lanes", [ONE_ROW, MANY_ROWS], ids=["one row", "many rows"])
def test_a_queue_of_a_single_tick_is_enough_against_deadlock(
    lanes: dict[str, Lanes], monkeypatch: pytest.MonkeyPatch
) -> None:
    one = make(lanes, monkeypatch)
    for stalls, burst in PATTERNS.values():
        trace = bench.run_design(one.design, one.x, stalls=stalls, burst=burst)
        assert (difference := first_divergence(one.golden, trace)) is None, str(difference)


@pytest.mark.parametrize("leak", ["multiply", "shift"])
def test_state_in_block_ram_is_the_same_machine(leak: str) -> None:
    network = tangled(leak)
    x = np.random.default_rng(2).integers(0, 2, (4, 12, 4))
    options = HardwareOptions(MANY_ROWS, lut_ram=False)
    rtl = verilated.simulate(network, options, x, states=True, workers=1, fast_build=True)
    assert (difference := first_divergence(golden.run(network, x, states=True), rtl)) is None, str(difference)


def units(network: Network) -> dict[str, Any]:
    accelerator = Accelerator(network, HardwareOptions(MANY_ROWS))
    Fragment.get(accelerator, None)  # elaborated, or Amaranth warns of parts that are never used
    return {name: unit.neurons for name, unit in accelerator.units.items()}


def test_shared_parameters_are_constants_and_own_ones_are_words() -> None:
    network = tangled()
    for name, neurons in units(network).items():
        population = next(p for p in network.populations if p.name == name)
        for key, array in population.params.items():
            wire = neurons._parameter(Nowhere(), array, 0, {}, {})
            if array.shape == (1,):
                assert wire.constant == array[0], (name, key)
            else:
                assert wire.constant is None, (name, key)
                assert wire.values <= set(array.tolist())


def test_the_words_of_an_adaptive_cell_hold_its_adaptation() -> None:
    """Threshold, adaptation, and what the membrane is before the currents: three words a neuron, no more."""
    neurons = units(tangled())["a"]
    (lane,) = neurons._plan[0]
    assert len(lane.words) == 3
    assert neurons.word_bits <= 17 + 16 + 19
