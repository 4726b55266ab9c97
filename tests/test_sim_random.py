"""Random networks, hardware options, stimuli, stalls and resets: golden equals the RTL in everything.

Hypothesis controls every draw of the structure. Seeds are fixed; a failure prints the case, its seed and a blob:
`APICAL_BLOB=<blob> pytest <test>` replays that case alone, `APICAL_SHRINK=1 pytest <test>` looks for a smaller one.
"""

from __future__ import annotations

import os
import random
import shutil

import hypothesis
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from apical.hw.verilog import generate
from apical.sim.random_networks import Case, random_case
from apical.sim.scoreboard import first_divergence
from apical.sim.verilated import SimulationError, build, run_design
from apical.sw import bundle, golden


def describe(case: Case) -> str:
    """The structure of a case, one part a line."""
    n = case.network
    lines = [f"input {i.name!r}: {i.shape or i.size} of {i.format}" for i in n.inputs]
    lines += [
        f"population {p.name!r}: {p.shape or p.size} of {p.law}, {case.options.lanes[p.name]}" for p in n.populations
    ]
    lines += [
        f"projection {q.name!r}: {q.source!r} to {q.target!r} {q.compartment}, {q.weight_bits} bits, delay {q.delay}, "
        f"{q.pattern} {q.geometry or ''}"
        for q in n.projections
    ]
    lines += [
        f"gate of {g.target!r}: from {g.source!r}, {g.weights.shape}, {g.window} ticks, point {n.point}"
        for g in n.gates
    ]
    lines += [f"outputs {n.outputs}, input event lanes {dict(case.options.input_event_lanes)}"]
    lines += [f"run {i}: x {r.x.shape}, {r.stalls}, reset at {r.reset_at}" for i, r in enumerate(case.runs)]
    return "\n".join(lines)


def check_case(case: Case, keep: bool) -> int:
    """Run all stimuli of a case on one build.

    :param keep: leave the build in the cache.
    :returns: the number of events that its populations sent.
    """
    design, events = generate(case.network, case.options), 0
    program = build(design, fast_build=True)
    for number, r in enumerate(case.runs):
        expected = golden.run(case.network, r.x, states=True)
        try:
            rtl = run_design(design, r.x, workers=1, stalls=r.stalls, reset_at=r.reset_at, fast_build=True)
        except SimulationError as error:
            raise AssertionError(f"run {number}: {error}\n{describe(case)}") from None
        assert set(rtl.states) == {p.name for p in case.network.populations if p.law.states()}
        if (difference := first_divergence(expected, rtl)) is not None:
            raise AssertionError(f"run {number}: {difference}\n{describe(case)}")
        events += sum(expected.counters[f"population {p.name}: events"] for p in case.network.populations)
    if not keep:
        shutil.rmtree(program.parent, ignore_errors=True)
    return events


def check_networks(seed: int, count: int, keep: bool = True) -> dict[str, int]:
    """Check networks until `count` different ones sent events; returns the events of each, by its identity.

    Hypothesis repeats itself and begins with networks that stay silent: it may draw eight times as often.
    """
    seen: dict[str, int] = {}
    phases = [Phase.generate, *([Phase.shrink] if "APICAL_SHRINK" in os.environ else [])]

    @hypothesis.seed(seed)
    @settings(
        max_examples=8 * count,
        deadline=None,
        database=None,
        print_blob=True,
        phases=phases,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.randoms(use_true_random=False))
    def check(rng: random.Random) -> None:
        case = random_case(rng)  # always: hypothesis wants the same draws each time
        if sum(map(bool, seen.values())) < count and (identity := bundle.identity(case.network)) not in seen:
            seen[identity] = check_case(case, keep)

    run = check
    if blob := os.environ.get("APICAL_BLOB"):
        run = hypothesis.reproduce_failure(hypothesis.__version__, blob.encode())(check)
    print(f"seed {seed}, {count} networks")
    run()
    return seen


def _enough(seen: dict[str, int], networks: int) -> None:
    if "APICAL_BLOB" in os.environ:
        return
    busy = sum(map(bool, seen.values()))
    assert busy >= networks, f"expected {networks} different networks that send events, got {busy} of {len(seen)}"


@pytest.mark.parametrize("seed", range(4))
def test_random_networks_are_equal_on_the_rtl(seed: int) -> None:
    _enough(check_networks(seed, 5), 5)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(100, 108))
def test_many_random_networks_are_equal_on_the_rtl(seed: int) -> None:
    _enough(check_networks(seed, 25, keep=False), 25)
