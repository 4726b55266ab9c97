"""Energy: counts worked out by hand, prices, baselines, and tables that must be refused."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from apical.sw import baselines, counting, energy, golden
from apical.sw.golden import Trace
from apical.sw.laws import LAWS, Format, LeakyIntegrator, Lif, Relu, TwoPoint
from apical.sw.network import Input, Network, Population, Projection
from apical.sw.ranges import Interval


def ints(*values: int) -> np.ndarray:
    return np.array(values)


def tiny() -> Network:
    """3 channels -> 2 LIF (no leak, threshold 4) -> 1 ReLU; small enough to follow on paper."""
    lif = {"decay": ints(256), "threshold": ints(4, 4), "bias": ints(0)}
    return Network(
        (Input("pixels", 3),),
        (
            Population("hidden", 2, Lif(), lif),
            Population("out", 1, Relu(8, 0), {"bias": ints(0)}),
        ),
        (
            Projection("a", "pixels", "hidden", np.array([[2, -1, 3], [1, 4, -2]]), weight_bits=4),
            Projection("b", "hidden", "out", np.array([[3, 2]]), weight_bits=4),
        ),
        ("out",),
    )


def tiny_trace() -> Trace:
    # Tick 0: currents 5, -1; neuron 0 passes 4 and sends. Tick 1: currents -1, 4 on membranes 1, -1; nobody does.
    return golden.run(tiny(), np.array([[[1, 0, 1], [0, 1, 0]]]))


HAND = {
    "synaptic_operation": 7,  # a: 3 events × 2 targets, b: 1 × 1
    "weight_read": 7,
    "weight_read bits": 28,  # 4 bits each
    "add": 7,
    "multiply": 0,  # all events are spikes
    "accumulator_read": 13,  # 7, and one per update: 2 neurons × 2 ticks + 1 × 2
    "accumulator_read bits": 49,  # hidden sums -2..5: 4 bits × 10; out sums 0..5: 3 bits × 3
    "accumulator_write": 13,
    "accumulator_write bits": 49,
    "law_update:lif": 4,
    "law_update:relu": 2,
    "law_add": 14,  # lif 3 × 4, relu 1 × 2
    "law_multiply": 4,  # the decay
    "law_multiply bits": 576,  # 16 bits of membrane × 9 of the decay 256
    "law_compare": 24,  # lif: two clips and the threshold, 5 × 4; relu: one clip, 2 × 2
    "state_read": 4,
    "state_read bits": 64,
    "state_write": 4,
    "state_write bits": 64,
    "parameter_read": 4,  # the threshold, per neuron
    "parameter_read bits": 12,
    "event_sent": 2,  # neuron 0 and, by it, out
    "event_received": 3,
}


def test_counts_of_a_network_worked_by_hand() -> None:
    counted = energy.counts(tiny(), tiny_trace())
    assert {k: v for k, v in counted.items() if v and " bits in " not in k} == {k: v for k, v in HAND.items() if v}
    assert {k for k in counted if not k.endswith(" bits")} >= {k for k in counting.KINDS if k != "law_update"}


def test_bits_are_counted_by_the_memory_they_are_in() -> None:
    counted = energy.counts(tiny(), tiny_trace())
    # weights of a: 6 × 4 bits, of b: 2 × 4 bits; 2 membranes of 16 bits; 2 thresholds of 3 bits
    assert counting.by_memory(counted, "weight_read") == {3: 24, 1: 4}
    assert counting.by_memory(counted, "state_write") == {4: 64}
    assert counting.by_memory(counted, "parameter_read") == {1: 12}
    for kind in counting.MEMORY:
        assert sum(counting.by_memory(counted, kind).values()) == counted[f"{kind} bits"]


def test_graded_events_need_a_multiplier_of_both_widths() -> None:
    graded = replace(tiny(), inputs=(Input("pixels", 3, Format(4, signed=False)),))
    counted = energy.counts(graded, golden.run(graded, np.array([[[9, 0, 3], [0, 15, 0]]])))
    assert counted["multiply bits"] == counted["multiply"] * 4 * 4
    one = Interval(0, 0)
    squares = counting.multiplier_bits(
        TwoPoint(fraction_bits=6, shift=0),
        {"basal": Interval(-1000, 1000), "apical": Interval(-1000, 1000)},
        {"bias_basal": one, "bias_apical": one},
    )
    assert squares == 10 * 10 + 10 * 10  # R in -64..511; C in -512..511, 64 + |R| in 64..575 is 10 bits
    assert counting.multiplier_bits(Lif(leak="shift"), {"basal": one}, dict.fromkeys(Lif().parameters(), one)) == 0


def test_joules_worked_by_hand_on_each_technology() -> None:
    work = energy.counts(tiny(), tiny_trace())
    # 28·0.3125 + 7·0.1 + 2·49·0.15625 + 14·0.1 + 4·3.1 + 24·0.1 + 2·64·0.15625 + 12·0.15625 pJ
    assert math.isclose(energy.joules(work, "horowitz-45nm").total, 62.8375e-12, rel_tol=1e-12)
    assert math.isclose(energy.joules(work, "loihi").total, (7 * 23.6 + 6 * 81 + 2 * 1.7) * 1e-12, rel_tol=1e-12)
    assert math.isclose(energy.joules(work, "truenorth").total, 7 * 26e-12, rel_tol=1e-12)
    assert math.isclose(energy.joules(work, "odin").total, 7 * 12.7e-12, rel_tol=1e-12)
    # the paper's 8e-5 µJ per transmission
    assert math.isclose(energy.joules(work, "ultrascale-two-point").total, 7 * 8e-5 * 1e-6, rel_tol=1e-12)


def test_kinds_without_a_price_are_named_and_not_hidden() -> None:
    work = energy.counts(tiny(), tiny_trace())
    assert energy.joules(work, "horowitz-45nm").unpriced == {"event_sent": 2, "event_received": 3}
    assert energy.joules(work, "ultrascale-two-point").unpriced == {
        "event_sent": 2,
        "event_received": 3,
        "law_update:lif": 4,
        "law_update:relu": 2,
    }


def test_equal_counters_give_equal_counts_whatever_the_engine() -> None:
    trace = tiny_trace()
    rtl = Trace(trace.values, trace.outputs, dict(trace.counters), cycles=40, engine="verilated")
    assert energy.counts(tiny(), rtl) == energy.counts(tiny(), trace)
    rtl.counters["projection a: events"] += 1
    assert energy.counts(tiny(), rtl)["synaptic_operation"] == 9


def test_multiplies_are_counted_only_for_graded_events() -> None:
    net = tiny()
    graded = replace(net, inputs=(Input("pixels", 3, Format(4, signed=False)),))
    counted = energy.counts(graded, golden.run(graded, np.array([[[9, 0, 3], [0, 15, 0]]])))
    assert counted["multiply"] == 3 * 2  # projection a; b carries spikes
    assert counted["synaptic_operation"] > counted["multiply"]


def test_an_input_with_two_projections_is_received_once() -> None:
    net = tiny()
    twice = replace(
        net,
        projections=(*net.projections, Projection("late", "pixels", "out", np.ones((1, 3), np.int64), delay=1)),
    )
    trace = golden.run(twice, np.array([[[1, 0, 1], [0, 1, 0]]]))
    assert trace.counters["projection late: events"] == 2
    assert energy.counts(twice, trace)["event_received"] == 3


def test_learning_and_off_chip_counters_are_taken_where_a_trace_has_them() -> None:
    trace = tiny_trace()
    trace.counters |= {"projection a: weight writes": 5, "projection b: off-chip words": 2}
    counted = energy.counts(tiny(), trace)
    assert (counted["weight_write"], counted["weight_write bits"]) == (5, 20)
    assert (counted["off_chip_word"], counted["off_chip_word bits"]) == (2, 8)


def test_a_missing_counter_is_an_error_that_names_it() -> None:
    trace = tiny_trace()
    del trace.counters["projection b: events"]
    with pytest.raises(energy.EnergyError, match=r"^trace of engine 'golden': counter 'projection b: events'"):
        energy.counts(tiny(), trace)


@pytest.mark.parametrize(
    ("law", "adds", "multiplies", "compares"),
    [
        (Lif(), 3, 1, 5),  # d·v; + I + b, - threshold; threshold, 2 clips
        (Lif(reset="value"), 2, 1, 3),  # no subtraction, no second clip
        (LeakyIntegrator(), 2, 1, 2),
        (Relu(), 1, 0, 2),
        (TwoPoint(), 6, 2, 6),  # R·R and C·(1+|R|); 2R is a shift
    ],
)
def test_operations_of_a_law_come_from_its_text(law: Any, adds: int, multiplies: int, compares: int) -> None:
    assert counting.law_of(law) == {
        "law_add": adds,
        "law_multiply": multiplies,
        "law_compare": compares,
        "law_table_read": 0,
    }


def test_every_registered_law_can_be_counted() -> None:
    for law in LAWS.values():
        assert sum(counting.law_of(law()).values()) > 0


@pytest.mark.parametrize(
    ("low", "high", "bits"), [(0, 0, 1), (0, 1, 1), (0, 255, 8), (-1, 0, 1), (-2, 5, 4), (-128, 127, 8), (-129, 0, 9)]
)
def test_bits_that_hold_an_interval(low: int, high: int, bits: int) -> None:
    assert counting.bits_of(Interval(low, high)) == bits


def test_fewer_weight_bits_cost_less_where_the_table_prices_bits() -> None:
    wide = replace(
        tiny(),
        projections=tuple(replace(p, weight_bits=8) for p in tiny().projections),
    )
    four = energy.joules(energy.counts(tiny(), tiny_trace()), "horowitz-45nm").by_kind["weight_read"]
    eight = energy.joules(energy.counts(wide, tiny_trace()), "horowitz-45nm").by_kind["weight_read"]
    assert math.isclose(eight, 2 * four)


def test_static_power_needs_cycles_and_a_clock(tmp_path: Path) -> None:
    table = own_table()
    table["static_power"] = {"value": 2.0, "unit": "mW", "status": "measured", "source": "bench supply"}
    path = write(tmp_path, table)
    trace = tiny_trace()
    without = energy.report(tiny(), trace, path, clock_mhz=100.0)
    assert without["static_joules_per_sample"] is None
    assert without["notes"] == ["static power of 2 mW not counted: the run has no cycles or no clock"]
    trace.cycles = 50  # 50 cycles at 100 MHz: 0.5 µs × 2 mW = 1 nJ
    report = energy.report(tiny(), trace, path, clock_mhz=100.0)
    assert math.isclose(report["static_joules_per_sample"], 1e-9, rel_tol=1e-12)
    assert math.isclose(report["joules_per_sample"], 1e-9 + 7 * 3e-12, rel_tol=1e-12)


def test_dense_baseline_worked_by_hand() -> None:
    work = energy.baseline(tiny(), samples=1, ticks=2)
    one = work["int8, one pass"]
    assert one["synaptic_operation"] == one["multiply"] == one["add"] == 3 * 2 + 2 * 1
    assert one["weight_read bits"] == 8 * 8
    # sums of 3 products: -97,920 to 97,155, 18 bits; of 2: 17 bits; and one access per neuron
    assert one["accumulator_read bits"] == (6 + 2) * 18 + (2 + 1) * 17
    assert (one["event_sent"], one["event_received"], one["law_update:relu"]) == (3, 3, 3)
    assert work["int8, a pass per tick"]["synaptic_operation"] == 2 * 8
    assert work["int8, one pass, sums in registers"]["accumulator_read"] == 0
    fp32 = work["fp32, one pass"]
    assert (fp32["fp32_multiply"], fp32["multiply"], fp32["weight_read bits"]) == (8, 0, 8 * 32)


def test_baseline_leaves_recurrence_out() -> None:
    net = tiny()
    loop = Projection("loop", "hidden", "hidden", np.ones((2, 2), np.int64), delay=1)
    recurrent = replace(net, projections=(*net.projections, loop))
    for variant in baselines.VARIANTS:
        ours, theirs = baselines.dense(net, 3, 2, variant), baselines.dense(recurrent, 3, 2, variant)
        assert ours == theirs


def test_report_is_plain_data_with_its_parts() -> None:
    report = energy.report(tiny(), tiny_trace(), "horowitz-45nm")
    assert json.loads(json.dumps(report)) == report
    assert {"joules_per_sample", "counts", "technology", "baseline"} <= set(report)
    assert math.isclose(report["joules_per_sample"], sum(report["by_kind"].values()), rel_tol=1e-12)
    base = report["baseline"]
    assert math.isclose(base["ratio"], base["joules_per_sample"] / report["joules_per_sample"], rel_tol=1e-12)
    assert report["activity"] == {"pixels": 0.5, "hidden": 0.25, "out": 0.5}
    assert report["transmissions_per_sample"] == 7


def test_joules_per_sample_divide_by_the_samples() -> None:
    x = np.array([[[1, 0, 1], [0, 1, 0]]])
    one = energy.report(tiny(), golden.run(tiny(), x))
    five = energy.report(tiny(), golden.run(tiny(), np.repeat(x, 5, axis=0)))
    assert math.isclose(one["joules_per_sample"], five["joules_per_sample"], rel_tol=1e-12)
    assert five["counts"]["synaptic_operation"] == 5 * one["counts"]["synaptic_operation"]
    assert math.isclose(one["baseline"]["joules_per_sample"], five["baseline"]["joules_per_sample"], rel_tol=1e-12)


def test_a_network_that_answers_in_every_tick_stands_beside_a_pass_per_tick() -> None:
    trace = golden.run(tiny(), np.ones((2, 3, 3), np.int64))
    networks = {decoder: replace(tiny(), decoder=decoder) for decoder in ("sum", "last", "rate", "tick", None)}
    names = {decoder: energy.report(net, trace)["baseline"]["variant"] for decoder, net in networks.items()}
    once, every = "int8, one pass", "int8, a pass per tick"
    assert names == {"sum": once, "last": once, "rate": once, "tick": every, None: every}


def test_baseline_variants_that_a_table_cannot_tell_apart_are_left_out_by_name() -> None:
    base = energy.report(tiny(), tiny_trace(), "ultrascale-two-point")["baseline"]
    assert set(base["variants"]) == {"int8, one pass", "int8, a pass per tick"}
    assert set(base["left_out"]) == {v.name for v in baselines.VARIANTS} - set(base["variants"])


def test_table_sets_all_technologies_side_by_side() -> None:
    rows = energy.table(tiny(), tiny_trace())
    assert [row["technology"] for row in rows] == list(energy.technologies())
    assert {"horowitz-45nm", "ultrascale-two-point", "loihi", "truenorth", "odin"} <= set(energy.technologies())


def test_every_shipped_price_has_a_source_and_its_file_the_name() -> None:
    for name, technology in energy.technologies().items():
        assert technology.name == name
        for price in technology.prices.values():
            assert len(price.source) > 30
            assert price.status == "published" or price.note, "a derived price says how"


def test_a_price_by_law_goes_before_the_common_one(tmp_path: Path) -> None:
    table = own_table()
    table["prices"] |= {"law_update": price(10.0), "law_update:relu": price(1.0)}
    priced = energy.joules(energy.counts(tiny(), tiny_trace()), write(tmp_path, table))
    assert math.isclose(priced.by_kind["law_update:lif"], 40e-12)
    assert math.isclose(priced.by_kind["law_update:relu"], 2e-12)


def price(value: Any, unit: str = "pJ") -> dict[str, Any]:
    return {"value": value, "unit": unit, "status": "measured", "source": "our bench"}


def own_table() -> dict[str, Any]:
    return {
        "apical_technology": 1,
        "name": "mine",
        "title": "Mine",
        "prices": {"synaptic_operation": price(3.0)},
    }


def write(folder: Path, table: Any) -> Path:
    path = folder / "mine.yaml"
    path.write_text(table if isinstance(table, str) else yaml.safe_dump(table), encoding="utf-8")
    return path


def bad_tables() -> list[tuple[str, Any, str]]:
    def with_prices(**prices: Any) -> dict[str, Any]:
        return own_table() | {"prices": prices}

    no_value, no_source = price(1.0), price(1.0)
    del no_value["value"]
    del no_source["source"]
    return [
        ("no prices", with_prices(), r"prices: Dictionary should have at least 1 item"),
        ("missing value", with_prices(add=no_value), r"prices\.add\.value: Field required"),
        ("missing source", with_prices(add=no_source), r"prices\.add\.source: Field required"),
        ("unknown kind", with_prices(sparkle=price(1.0)), r"prices: unknown kind 'sparkle'; known: synaptic_operation"),
        ("law of another kind", {**with_prices(**{"add:lif": price(1.0)})}, r"unknown kind 'add:lif'"),
        ("negative", with_prices(add=price(-0.1)), r"prices\.add\.value: Input should be greater than 0, got '-0\.1'"),
        ("NaN", with_prices(add=price(float("nan"))), r"prices\.add\.value: Input should be .*, got 'nan'"),
        ("infinite", with_prices(add=price(float("inf"))), r"prices\.add\.value: Input should be a finite number"),
        ("text", with_prices(add=price("cheap")), r"prices\.add\.value: Input should be a valid number, got 'cheap'"),
        ("unit", with_prices(add=price(1.0, "nJ")), r"prices\.add\.unit: Input should be 'pJ' or 'pJ/bit', got 'nJ'"),
        ("size of an addition", with_prices(add=price(1.0) | {"at_bytes": 64}), r"prices\.add: at_bytes is for memory"),
        ("no size", with_prices(add=price(1.0) | {"at_bytes": 0}), r"prices\.add\.at_bytes: Input should be greater"),
        ("bits of an addition", with_prices(add=price(1.0, "pJ/bit")), r"prices\.add: expected unit pJ, got pJ/bit"),
        (
            "counted twice",
            with_prices(synaptic_operation=price(1.0), add=price(1.0)),
            r"synaptic_operation already contains add; expected a price for one of them, got both",
        ),
        (
            "law counted twice",
            with_prices(**{"law_update:lif": price(1.0), "law_add": price(1.0)}),
            r"law_update already contains law_add",
        ),
        ("extra field", own_table() | {"colour": "red"}, r"colour: Extra inputs are not permitted"),
        ("version", own_table() | {"apical_technology": 2}, r"apical_technology: Input should be 1, got '2'"),
        ("not a mapping", "- 1\n- 2\n", r"expected a mapping, got list"),
        ("alias", "a: &x [1]\nb: *x\n", r"mine\.yaml: expected no YAML aliases, got one"),
        ("repeated key", "name: a\nname: b\n", r"mine\.yaml: expected distinct text keys, got 'name'"),
        ("not YAML", "{", r"mine\.yaml: not YAML"),
        ("code", "!!python/object/apply:os.getcwd []\n", r"mine\.yaml: not YAML"),
    ]


@pytest.mark.parametrize(("table", "message"), [pytest.param(t, m, id=i) for i, t, m in bad_tables()])
def test_a_bad_table_is_refused_with_file_and_field(tmp_path: Path, table: Any, message: str) -> None:
    with pytest.raises(energy.EnergyError, match=rf"^technology mine\.yaml: .*{message}|^technology {message}"):
        energy.load_technology(write(tmp_path, table))


def test_the_table_of_the_how_to_page_is_accepted(tmp_path: Path) -> None:
    page = (Path(__file__).parents[1] / "docs/how-to/add-a-technology.md").read_text(encoding="utf-8")
    table = energy.load_technology(write(tmp_path, page.split("```yaml\n")[1].split("```")[0]))
    assert table.prices["synaptic_operation"].value == 6.4
    assert math.isclose(12.1e-3 / 1.89e9, 6.4e-12, rel_tol=0.001)  # as its note says


def test_every_kind_and_technology_is_on_the_reference_page() -> None:
    page = (Path(__file__).parents[1] / "docs/reference/energy.md").read_text(encoding="utf-8")
    for name in (*counting.KINDS, *energy.technologies()):
        assert f"`{name}`" in page or f"`{name}:LAW`" in page, name
    for variant in baselines.VARIANTS:
        assert variant.name in page


def test_an_unknown_technology_lists_the_known_ones() -> None:
    with pytest.raises(
        energy.EnergyError, match=r"^technology 'warp': expected one of horowitz-45nm, .*, odin, .*path"
    ):
        energy.technology("warp")


def test_a_missing_table_is_named() -> None:
    with pytest.raises(energy.EnergyError, match=r"^technology: expected a file nowhere\.yaml, found none$"):
        energy.technology("nowhere.yaml")


@pytest.mark.parametrize("clock", [0.0, -1.0, float("nan"), float("inf")])
def test_a_clock_is_a_positive_number(clock: float) -> None:
    with pytest.raises(energy.EnergyError, match=r"^clock: expected a frequency above 0 MHz"):
        energy.report(tiny(), tiny_trace(), clock_mhz=clock)
