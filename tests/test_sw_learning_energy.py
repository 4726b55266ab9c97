"""Energy of learning on the chip: counts worked out by hand from counters, prices, and a device's life."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from apical.sw import counting, energy, learning_energy, life
from apical.sw.laws import Format, LeakyIntegrator, Relu
from apical.sw.life import Device, Mark, Run
from apical.sw.network import Input, Network, Population, Projection
from apical.sw.on_chip import Learning, OnChip, Site
from apical.sw.ranges import Interval


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def tiny(weight: int = 3) -> Network:
    """2 pixels of 4 bits - 2 relu cells - 2 outputs, weights of 8 bits."""
    read = Population("out", 2, LeakyIntegrator(state_bits=20, shift=3), {"decay": ints(0), "bias": ints(0)})
    cells = Population("cells", 2, Relu(value_bits=8, shift=0), {"bias": ints(1)})
    weights = np.full((2, 2), weight)
    return Network(
        (Input("in", 2, Format(4, signed=False)),),
        (cells, read),
        (
            Projection("a", "in", "cells", weights, weight_bits=8),
            Projection("b", "cells", "out", weights, weight_bits=8),
        ),
        ("out",),
        "last",
    )


def rule(**changes: Any) -> Learning:
    return replace(Learning((Site(4), Site(4, 2, 1)), 8, 1, 9, "nearest", 5), **changes)


COUNTERS = {
    "learning: samples": 3,
    "learning: backward passes": 2,
    "learning: skipped passes": 1,
    "population cells: events": 3,
    "population cells: updates": 6,
    "population out: events": 4,
    "population out: updates": 6,
    **{
        f"projection a: {kind}": n
        for kind, n in (("events", 5), ("visits", 4), ("zero", 1), ("weight writes", 3), ("learning reads", 3))
    },
    **{
        f"projection b: {kind}": n
        for kind, n in (("events", 3), ("visits", 2), ("zero", 0), ("weight writes", 2), ("learning reads", 4))
    },
}

HAND = {
    "gates": {
        "state_write": 8,  # the log: 5 and 3 events
        "state_write bits": 52,  # 5 × (1 bit of source + 4 of value), 3 × (1 + 8)
        "state_read": 18,  # log 4 and 2, errors 4 × 2 and 2 × 2
        "state_read bits": 146,  # 4 × 5 + 2 × 9, and 12 errors of 9
        "multiply": 12,  # visits × targets
        "multiply bits": 576,  # 8 × 4 × 9 and 4 × 8 × 9
        "law_add": 11,  # margin 3; |q| of b's 4 products; steering 2 × 2
        "law_compare": 14,  # margin 3 × 2; 4 products; steering 2 × 2
    },
    "errors": {
        "state_write": 12,  # outputs 3 × 2; cells cleared 2 × 2, and 2 visited
        "state_write bits": 108,
        "weight_read": 4,
        "weight_read bits": 32,
        "multiply": 4,
        "multiply bits": 288,
        "add": 4,
        "law_add": 14,  # outputs 6 × 2, cells 2
        "law_compare": 16,  # clips: 6 and 2
    },
    "updates": {
        "law_add": 6,  # rounding of 4 and of 2
        "add": 5,
        "law_compare": 10,
        "weight_read": 3,
        "weight_read bits": 24,
    },
    "writes": {"weight_write": 5, "weight_write bits": 40},
}


def shown(counts: dict[str, int]) -> dict[str, int]:
    return {k: n for k, n in counts.items() if n and " bits in " not in k}


def test_counts_of_learning_worked_by_hand() -> None:
    counted = learning_energy.learning_counts(tiny(), rule(), COUNTERS)
    assert {part: shown(work) for part, work in counted.items()} == HAND
    memories = {k: n for k, n in counted["writes"].items() if " bits in " in k}
    assert memories == {"weight_write bits in 4 bytes": 40}  # each projection's 4 weights of 8 bits


def test_joules_of_learning_worked_by_hand() -> None:
    found = learning_energy.report(tiny(), rule(), COUNTERS)["joules_per_sample"]
    picojoules = {"gates": 35.8375, "errors": 31.075, "updates": 9.6, "writes": 12.5}
    for part, each in picojoules.items():
        assert found[part] * 3 == pytest.approx(each * 1e-12), part
    assert found["total"] == pytest.approx(found["inference"] + sum(picojoules.values()) * 1e-12 / 3)


def test_inference_has_accumulators_for_any_weights_and_no_writes() -> None:
    counted = learning_energy.inference_counts(tiny(), COUNTERS)
    assert counted["weight_write"] == 0 and counted["weight_read"] == 2 * (5 + 3)
    # Sums of 2 × 15 × (-128 … 127): 13 bits, of 2 × 255 × (-128 … 127): 17; once per operation, once per update.
    assert counted["accumulator_read bits"] == (10 + 6) * 13 + (6 + 6) * 17
    assert counted == learning_energy.inference_counts(tiny(weight=-100), COUNTERS)


@pytest.mark.parametrize(
    ("rounding", "adds", "multiplications"),
    [("floor", 0, 0), ("nearest", 6, 0), ("stochastic", 6 + 6 + 2 * (4 + 2), 2 * (4 + 2))],
)
def test_rounding_costs_what_its_text_says(rounding: Any, adds: int, multiplications: int) -> None:
    counted = learning_energy.learning_counts(tiny(), rule(rounding=rounding), COUNTERS)["updates"]
    assert (counted["law_add"], counted["law_multiply"]) == (adds, multiplications)


def test_what_is_switched_off_costs_nothing() -> None:
    gates = learning_energy.learning_counts(tiny(), rule(sites=(Site(4), Site(4)), margin=None), COUNTERS)["gates"]
    assert gates["law_add"] == gates["law_compare"] == 0


def test_only_counters_that_the_chip_has_are_used() -> None:
    class Seen(dict[str, int]):
        def __getitem__(self, name: str) -> int:
            used.add(name)
            return super().__getitem__(name)

    used: set[str] = set()
    chip = OnChip(tiny(), rule())
    chip.learn(np.array([[[3, 9]], [[0, 15]]]), ints(0, 1))
    learning_energy.learning_counts(tiny(), rule(), Seen(chip.counters))
    assert used < set(chip.counters) and "projection b: learning reads" in used
    report = learning_energy.report(tiny(), rule(), chip.counters)
    written = sum(chip.counters[f"projection {p}: weight writes"] for p in "ab")
    assert report["counts"]["writes"]["weight_write"] == written > 0


def test_a_run_that_did_not_learn_is_refused() -> None:
    without = {k: n for k, n in COUNTERS.items() if k != "projection b: visits"}
    with pytest.raises(energy.EnergyError, match=r"^learning: counter 'projection b: visits' is missing"):
        learning_energy.report(tiny(), rule(), without)
    with pytest.raises(energy.EnergyError, match=r"^learning: expected at least one learned sample, got none$"):
        learning_energy.report(tiny(), rule(), OnChip(tiny(), rule()).counters)


def test_every_shipped_table_prices_a_weight_write_or_says_why_not() -> None:
    for name, table in energy.technologies().items():
        assert (table.price_of("weight_write") is None) == ("weight_write" in table.absent), name
    assert {n for n, t in energy.technologies().items() if t.absent} == {"odin", "truenorth", "ultrascale-two-point"}


def test_a_technology_without_a_write_price_is_named_and_not_zero() -> None:
    found = learning_energy.report(tiny(), rule(), COUNTERS, "truenorth")
    assert found["joules_per_sample"]["writes"] is found["joules_per_sample"]["total"] is None
    assert found["unpriced"]["writes: weight_write"] == pytest.approx(5 / 3)
    assert found["notes"] == ["weight_write has no price: the chip does not learn: its weights are loaded once"]


def test_learning_is_not_hidden_in_a_price_of_synaptic_operations() -> None:
    found = learning_energy.report(tiny(), rule(), COUNTERS, "loihi")
    assert found["joules_per_sample"]["gates"] is None and "gates: multiply" in found["unpriced"]
    assert "inference: multiply" not in found["unpriced"]
    assert found["joules_per_sample"]["writes"] == pytest.approx(5 * 120e-12 / 3)


def test_a_table_like_another_has_its_prices() -> None:
    base, phase = energy.technology("horowitz-45nm"), energy.technology("pcm-weights")
    changed = {k for k in base.prices if base.prices[k] != phase.prices[k]}
    assert changed == {"weight_read", "weight_write"} and set(base.prices) == set(phase.prices)


MINE = """
apical_technology: 1
name: mine
title: Mine
prices:
  weight_write: {value: 2.0, unit: pJ, status: measured, source: our bench}
"""


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("like: warp\n", r"like: expected another table that ships, got 'warp'"),
        ("like: ../mine\n", r"like: String should match pattern"),
        ("absent: {weight_write: none}\n", r"absent\.weight_write: expected a kind without a price in this table"),
        ("absent: {sparkle: none}\n", r"absent\.sparkle: expected a kind without a price"),
        ("endurance: {value: 0, status: measured, source: x}\n", r"endurance\.value: Input should be greater"),
    ],
)
def test_a_bad_table_is_refused(tmp_path: Path, more: str, message: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(MINE + more, encoding="utf-8")
    with pytest.raises(energy.EnergyError, match=rf"^technology mine\.yaml: {message}"):
        energy.technology(path)


def test_a_census_of_a_text_counts_operations_and_widths() -> None:
    found = counting.text_of(lambda ops, a, b: ops.add(ops.mul(a, b), ops.mul(a, 4)), Interval(0, 15), 3)
    assert found == {"law_add": 1, "law_multiply": 1, "law_compare": 0, "law_table_read": 0, "law_multiply bits": 8}


# A device's life.


def worked() -> Run:
    """4 samples to the middle, 10 to the end; 8 weights, whose writes are below."""

    def mark(samples: int, factor: int, *writes: int) -> Mark:
        counters = {name: n * factor for name, n in COUNTERS.items()} | {"learning: samples": samples}
        counters |= {"projection a: weight writes": sum(writes[:4]), "projection b: weight writes": sum(writes[4:])}
        return Mark(samples, counters, (np.reshape(writes[:4], (2, 2)), np.reshape(writes[4:], (2, 2))))

    return Run(tiny(), rule(), mark(4, 2, 2, 0, 1, 4, 0, 0, 0, 1), mark(10, 3, 2, 3, 1, 5, 0, 0, 0, 1))


@pytest.mark.parametrize(("limit", "after"), [(2, 2), (4, 4), (6, 16), (8, 20), (12, 28)])
def test_the_first_weight_to_wear_out(limit: int, after: int) -> None:
    """Writes 2, 0, 1, 4, 1 after 4 samples, then 0, 1/2, 0, 1/6, 0 a sample."""
    run = worked()
    early, whole = run.middle.flat.astype(float), run.end.flat.astype(float)
    assert life.reached(run, early, whole, limit) == pytest.approx(after)
    assert life.reached(run, early, early, 6) == float("inf")


def test_a_quantity_goes_on_at_the_rate_of_the_second_half() -> None:
    found = life.along(worked(), 8.0, 20.0, ints(0, 2, 4, 7, 10, 100))
    assert found.tolist() == [0, 4, 8, 14, 20, 200]


def test_energy_and_wear_of_a_life_worked_by_hand() -> None:
    run, day = worked(), 1 / life.DAYS
    device = Device(per_day=32.0, learned=0.5, years=day)  # 16 learned, 16 only answered
    found = life.spent(run, device, "horowitz-45nm")
    assert found["writes_per_weight"] == {"mean": pytest.approx((12 + 4 / 6 * 6) / 8), "most": pytest.approx(6)}
    assert found["by_projection"]["a"] == {"mean": pytest.approx(15 / 4), "most": pytest.approx(6)}
    assert found["by_projection"]["b"] == {"mean": 0.25, "most": 1}
    assert found["writes_per_sample"] == pytest.approx(4 / 6)
    # 8 writes to the middle, 12 to the end, 2 a sample more each 3: 16 after 16 samples; 8 bits of 0.3125 pJ.
    assert found["joules"]["writes"] == pytest.approx(16 * 2.5e-12)
    assert found["life_years"] == {"most_written": None, "levelled": None} and found["endurance"] is None
    late = [learning_energy.report(run.network, run.learning, m.counters) for m in (run.middle, run.end)]
    first, last = (r["joules_per_sample"]["inference"] * r["samples"] for r in late)
    each = (last - first) / 6
    assert found["joules"]["inference"] == pytest.approx(last + 6 * each + 16 * each)
    assert found["curve"]["inference"][-1] == pytest.approx(found["joules"]["inference"])


def test_a_life_ends_with_the_most_written_weight() -> None:
    device = Device(per_day=1000.0, learned=0.1, years=1.0)
    found = life.spent(worked(), device, "rram-weights")
    each_year = 1000 * life.DAYS * 0.1
    assert found["life_years"]["most_written"] == pytest.approx((4 + (10_000 - 0) * 2) / each_year)  # 1/2 a sample
    assert found["life_years"]["levelled"] == pytest.approx((4 + (10_000 - 1) * 12) / each_year)  # 8/8, then 1/12
    never = life.spent(worked(), replace(device, learned=0.0), "rram-weights")
    assert never["life_years"] == {"most_written": None, "levelled": None} and never["joules"]["writes"] == 0


def test_without_a_write_price_a_life_has_no_total() -> None:
    found = life.spent(worked(), Device(), "odin")
    assert found["joules"]["writes"] is found["joules"]["total"] is found["curve"]["learning"] is None
    assert found["joules"]["inference"] > 0 and "writes: weight_write" in found["unpriced"]


@pytest.mark.parametrize("cut", [False, True])
def test_writes_by_weight_add_up_to_the_counter(cut: bool) -> None:
    """Where `cut`, the weights of the only class begin at their end, and the target pulls them beyond it."""
    random, network = np.random.default_rng(0), tiny(weight=127 if cut else 3)
    x, labels = random.integers(0, 16, (60, 1, 2)), random.integers(0, 1 if cut else 2, 60)
    learning = rule(sites=(Site(2), Site(2, 2)), margin=None, target=100_000 if cut else 8, error_bits=12)
    chip, run = life.run(network, learning, x, labels)
    counted = sum(chip.counters[f"projection {p}: weight writes"] for p in "ab")
    assert run.end.flat.sum() + run.writes_unseen == counted > 0
    assert (run.writes_unseen > 0) == cut
    again = OnChip(network, learning)
    again.learn(x, labels)
    assert again.counters == chip.counters == run.end.counters and run.middle.samples == 30


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"per_day": 0.0}, r"^life: per_day: expected a number above 0, got 0\.0$"),
        ({"years": float("inf")}, r"^life: years: expected a number above 0, got inf$"),
        ({"learned": 1.5}, r"^life: learned: expected a share from 0 to 1, got 1\.5$"),
        ({"learned": float("nan")}, r"^life: learned: expected a share from 0 to 1, got nan$"),
    ],
)
def test_a_life_that_cannot_be_is_refused(given: dict[str, float], message: str) -> None:
    with pytest.raises(energy.EnergyError, match=message):
        Device(**given)
