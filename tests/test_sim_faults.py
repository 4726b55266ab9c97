"""The bench can fail: every planted fault is caught, and the message names where it shows."""

from __future__ import annotations

import pytest

from apical.sim import faults
from apical.sim.fault_patches import substituted
from apical.sim.faults import FAULTS, Fault, run, run_all, summary

QUICK = ("golden rounding", "stale accumulator", "counter")


def _checked(results: list[faults.FaultResult]) -> None:
    missed = [f"{r.name} ({r.what}): {'wrongly named: ' + r.message if r.caught else 'not caught'}" for r in results]
    missed = [text for text, r in zip(missed, results, strict=True) if not (r.caught and r.named)]
    assert not missed, "\n".join(missed)


def test_without_a_fault_all_is_equal() -> None:
    assert run(None) == ""


def test_three_faults_are_caught_and_named() -> None:
    calls: list[tuple[int, int]] = []
    results = run_all([f for f in FAULTS if f.name in QUICK], lambda *done: calls.append(done))
    assert tuple(r.name for r in results) == QUICK
    assert calls == [(1, 3), (2, 3), (3, 3)]
    _checked(results)
    assert summary(results)["caught"] == summary(results)["named"] == 3


@pytest.mark.heavy
@pytest.mark.parametrize("part", range(4))
def test_every_fault_is_caught_and_named(part: int) -> None:
    results = run_all(FAULTS[part::4])
    print("\n".join(f"{r.name}: {r.message}" for r in results))
    _checked(results)


def test_there_are_enough_faults_each_with_a_name_of_its_own() -> None:
    assert len(FAULTS) >= 12
    assert len({f.name for f in FAULTS}) == len(FAULTS)
    assert not set(QUICK) - {f.name for f in FAULTS}


def test_a_fault_that_changes_nothing_is_an_error() -> None:
    idle = Fault("idle", "nothing", "", network=lambda network: network)
    with pytest.raises(RuntimeError, match=r"^fault 'idle': the Verilog is the same as without it$"):
        run(idle)


def test_a_text_substitution_that_finds_no_place_is_an_error() -> None:
    with pytest.raises(RuntimeError, match=r"^fault: expected 'wire b' once in the Verilog, got it 0 times$"):
        substituted("wire b", "wire c")("wire a;")
    with pytest.raises(RuntimeError, match=r"got it 2 times$"):
        substituted("wire", "reg")("wire a; wire b;")


def test_a_fault_leaves_no_trace_behind() -> None:
    from apical.hw.verilog import generate
    from apical.sim.fault_probe import probe, probe_options

    before = generate(probe(), probe_options()).identity
    for fault in FAULTS:
        with fault.generator(), fault.golden():
            pass
    assert generate(probe(), probe_options()).identity == before
