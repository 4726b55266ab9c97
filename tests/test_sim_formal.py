"""Proofs of the stream units, and that they find planted faults."""

from __future__ import annotations

from pathlib import Path

import pytest

from apical.hw.counters import Counter
from apical.sim import formal
from apical.sim.formal_proofs import PROOFS

QUICK = ("fork", "skid")


@pytest.mark.parametrize("name", QUICK)
def test_a_quick_proof_goes_through(name: str) -> None:
    outcome = formal.prove(PROOFS[name])
    assert outcome.holds and not outcome.refuted, outcome.detail


@pytest.mark.heavy
@pytest.mark.parametrize("name", [n for n in PROOFS if n not in QUICK])
def test_a_proof_goes_through(name: str) -> None:
    outcome = formal.prove(PROOFS[name])
    assert outcome.holds and not outcome.refuted, outcome.detail


def test_a_planted_fault_is_refuted() -> None:
    proof = PROOFS["fork"]
    assert formal.refuted(proof, *proof.mutants[0])


@pytest.mark.heavy
@pytest.mark.parametrize(("name", "number"), [(p.name, n) for p in PROOFS.values() for n in range(len(p.mutants))])
def test_every_planted_fault_is_refuted(name: str, number: int) -> None:
    assert formal.refuted(PROOFS[name], *PROOFS[name].mutants[number])


def test_every_proof_has_a_fault_to_find() -> None:
    assert all(p.mutants for p in PROOFS.values())
    for proof in PROOFS.values():
        for old, new in proof.mutants:
            assert formal.mutant(proof.unit, old, new) is not proof.unit


def test_a_fault_that_fits_nowhere_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"^mutant of Counter: expected 'nowhere' once in apical\.hw\.counters, got 0$"
    ):
        formal.mutant(Counter, "nowhere", "")


def test_the_page_lists_every_proof() -> None:
    page = (Path(__file__).parent.parent / "docs" / "reference" / "formal.md").read_text(encoding="utf-8")
    rows = [
        [cell.strip(" `") for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| `")
    ]
    listed = {r[0]: (r[1], r[3], int(r[4]), r[5]) for r in rows}
    assert listed == {
        p.name: (
            f"{p.unit.__module__.removeprefix('apical.')}.{p.unit.__name__}",
            p.method,
            p.depth,
            f"{len(p.mutants)} of {len(p.mutants)}",
        )
        for p in PROOFS.values()
    }
