"""The bench can fail: faults planted one at a time, each of which the comparison must catch and name.

A fault changes golden (its backend patched while it runs), or the RTL: the generator patched while it generates, the
network it is given changed, or the generated text. Nothing in the hardware's source knows of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

from apical.hw.counters import Counter
from apical.hw.design import Design
from apical.hw.verilog import generate
from apical.sim import fault_patches as plant
from apical.sim.fault_patches import Patch
from apical.sim.fault_probe import probe, probe_options, stimulus
from apical.sim.scoreboard import first_divergence
from apical.sim.verilated import SimulationError, Stalls, run_design
from apical.sw import golden
from apical.sw.arithmetic import IntegerOps
from apical.sw.network import Network

Progress = Callable[[int, int], None]
STALLS = Stalls(0.2, 0.4, seed=3)


@dataclass(frozen=True)
class Fault:
    """One planted fault.

    :param what: in words.
    :param expect: regular expression that the message must match: where the fault shows first.
    :param golden: patch while golden runs.
    :param generator: patch while the Verilog is generated.
    :param network: the network that the RTL is generated from, made from the right one.
    :param text: changes the generated Verilog.
    """

    name: str
    what: str
    expect: str
    golden: Patch = nullcontext
    generator: Patch = nullcontext
    network: Callable[[Network], Network] | None = None
    text: Callable[[str], str] | None = None


@dataclass(frozen=True)
class FaultResult:
    """What became of a fault.

    :param caught: the comparison failed.
    :param named: its message says what `Fault.expect` promises.
    :param message: the first divergence, or the simulator's complaint; empty where equal.
    """

    name: str
    what: str
    caught: bool
    named: bool
    message: str


def _at(population: str, signal: str, tick: str = r"\d+", sample: str = r"\d+") -> str:
    """The scoreboard's message of a divergence in a population's signal."""
    place = rf"sample {sample}, tick {tick}, population '{population}', neuron \d+, {signal}"
    return rf"^first divergence: {place}: golden -?\d+, RTL -?\d+$"


ANY = r"\w+"

FAULTS: tuple[Fault, ...] = (
    Fault(
        "golden rounding",
        "golden's shift rounds to nearest",
        _at("hidden", "v"),
        plant.replaced(IntegerOps, "shift", plant.nearest),
    ),
    Fault(
        "golden compare",
        "golden compares by >= for >",
        _at("hidden", "v"),
        plant.replaced(IntegerOps, "gt", IntegerOps.ge),
    ),
    Fault("compare", "the RTL compares by >= for >", _at("hidden", "v"), generator=plant.FLIPPED),
    Fault(
        "saturation bound",
        "saturates one below the largest value",
        _at("(read|cells)", ANY),
        generator=plant.SATURATE_LOWER,
    ),
    Fault("wrap", "wraps where it should saturate", _at("(read|cells)", ANY), generator=plant.WRAP),
    Fault("narrow sums", "products and accumulators lack a bit", _at(ANY, ANY), generator=plant.NARROW),
    Fault(
        "stale accumulator", "a tick starts from the last one's sums", _at("read", "v", "1", "0"), generator=plant.STALE
    ),
    Fault("weight address", "weight banks rotated by one word", _at("hidden", "v"), generator=plant.ROTATED),
    Fault("late start", "start states come a tick late", _at("hidden", "v", "0", "0"), generator=plant.LATE_START),
    Fault(
        "no restart",
        "only the first sample begins from the start states",
        _at("hidden", "v", "0", "1"),
        generator=plant.START_ONCE,
    ),
    Fault("read before write", "ticks closer than the law's pipeline is long", _at(ANY, ANY), generator=plant.HASTY),
    Fault("wrong row", "the output names the wrong neuron", _at("read", "output"), generator=plant.MISPLACED),
    Fault(
        "dropped event",
        "the tenth beat loses its events",
        _at("(read|cells)", ANY),
        generator=plant.in_population("hidden", plant.dropped_event),
    ),
    Fault(
        "dropped end",
        "an end of tick is lost",
        "^output 1: sample mark out of place at tick 14$",
        generator=plant.in_population("hidden", plant.dropped_end),
    ),
    Fault(
        "lost sample mark",
        "no tick is a sample's last",
        "^output 0: sample mark out of place at tick 7$",
        generator=plant.in_population("read", plant.no_final),
    ),
    Fault(
        "back-pressure ignored",
        "sends on though the reader isn't ready",
        "^output 0: sample mark out of place at tick",
        generator=plant.in_population("read", plant.deaf),
    ),
    Fault(
        "counter",
        "counters begin at one",
        "^first divergence: counter 'projection in: events': golden",
        generator=plant.also(Counter, plant.one_too_many),
    ),
    Fault("weight bit", "one bit of one weight flipped", _at("hidden", "v"), network=plant.flipped_bit),
    Fault(
        "decay",
        "one neuron's decay a step too large",
        _at("hidden", "v"),
        network=plant.population_changed("hidden", params={"decay": plant.bumped(1, 2)}),
    ),
    Fault(
        "threshold",
        "one neuron's threshold a step too large",
        _at("hidden", "v"),
        network=plant.population_changed("hidden", params={"threshold": plant.bumped(1, 5)}),
    ),
    Fault(
        "start state",
        "one neuron's start state eight too large",
        _at("hidden", "v", "0", "0"),
        network=plant.population_changed("hidden", initial={"v": plant.bumped(8, 0)}),
    ),
    Fault(
        "late reset",
        "the membrane is reset in the tick after its spike",
        _at("hidden", "v"),
        network=plant.population_changed("hidden", law=plant.LateReset(state_bits=10, decay_bits=6)),
    ),
    Fault("sign", "signed events read as unsigned", _at("(read|cells)", ANY), network=plant.unsigned_input),
    Fault(
        "delay",
        "a feedback projection one tick too fast",
        _at("hidden", "v"),
        network=plant.projections_changed(loop={"delay": 1}),
    ),
    Fault(
        "compartments",
        "basal and apical swapped",
        _at("cells", "value"),
        network=plant.projections_changed(basal={"compartment": "apical"}, apical={"compartment": "basal"}),
    ),
    Fault("dead lane", "the second event lane of an input is cut", _at("hidden", "v"), text=plant.DEAD_LANE),
)


def _design(network: Network, fault: Fault | None) -> Design:
    """The RTL with a fault; it is checked that the fault changed it."""
    right = generate(network, probe_options())
    if fault is None:
        return right
    with fault.generator():
        design = generate(fault.network(network) if fault.network else network, probe_options())
    text = fault.text(design.verilog) if fault.text else design.verilog
    if text == right.verilog and fault.golden is nullcontext:
        raise RuntimeError(f"fault {fault.name!r}: the Verilog is the same as without it")
    return replace(design, verilog=text, network=network)


def run(fault: Fault | None) -> str:
    """Compare golden and RTL with one fault planted, or none.

    :returns: what the comparison says; empty where all is equal.
    """
    network = probe()
    x = stimulus(network)
    with fault.golden() if fault else nullcontext():
        reference = golden.run(network, x, states=True)
    try:
        rtl = run_design(_design(network, fault), x, workers=1, stalls=STALLS, fast_build=True)
    except SimulationError as error:
        return str(error)
    return str(first_divergence(reference, rtl) or "")


def run_all(faults: Iterable[Fault] = FAULTS, progress: Progress | None = None) -> list[FaultResult]:
    """Plant each fault.

    :param progress: called with (faults done, faults).
    """
    faults, out = list(faults), []
    for fault in faults:
        message = run(fault)
        out.append(
            FaultResult(fault.name, fault.what, bool(message), re.search(fault.expect, message) is not None, message)
        )
        if progress is not None:
            progress(len(out), len(faults))
    return out


def summary(results: Iterable[FaultResult]) -> dict[str, Any]:
    """Figures, ready for JSON: number of faults, how many were caught and rightly named, the message of each."""
    results = list(results)
    return {
        "faults": len(results),
        "caught": sum(r.caught for r in results),
        "named": sum(r.named for r in results),
        "messages": {r.name: r.message for r in results},
    }
