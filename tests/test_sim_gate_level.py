"""Equality after synthesis: mapped netlists against golden, and what must not pass."""

from __future__ import annotations

import random
import re
from dataclasses import replace

import numpy as np
import pytest

from apical.hw.design import Design, default_options
from apical.sim import gate_level as g
from apical.sim import gate_level_cases as cases
from apical.sim.learning import divergence
from apical.sim.random_networks import Case
from apical.sim.verilated import SimulationError
from apical.sw.laws import Format, LeakyIntegrator, Relu
from apical.sw.network import Input, Network, Population, Projection
from apical.sw.on_chip import Learning, OnChip, Site

FAMILIES = tuple(g.FAMILIES)


@pytest.mark.parametrize(("name", "family"), [("two_point", "xcup"), ("adaptive_lif", "ecp5")])
def test_a_netlist_equals_golden_with_stalls_and_a_reset_in_the_middle(name: str, family: str) -> None:
    results = g.equality(cases.case(name, samples=3, ticks=5), family)
    assert [r.divergence for r in results] == [None] * 3
    assert sum(int(np.count_nonzero(o)) for r in results for o in r.rtl.outputs.values()) > 100


@pytest.mark.heavy
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", sorted(cases.cases()))
def test_every_law_and_feature_is_equal_after_synthesis(name: str, family: str) -> None:
    for seed in (0, 1):  # other bits where the synthesizer leaves them open, other stimuli
        assert [r.divergence for r in g.equality(cases.case(name, seed=seed), family, seed)] == [None] * 3


def test_the_cases_have_every_registered_law_and_every_kind_of_cell() -> None:
    assert set(cases.laws()) < set(cases.cases())
    assert len(cases.laws()) >= 8


@pytest.mark.heavy
def test_the_netlists_use_multipliers_block_ram_lut_ram_and_carry() -> None:
    used: dict[str, set[str]] = {family: set() for family in FAMILIES}
    for network, options in cases.cases().values():
        for family, cells in used.items():
            cells |= set(g.synthesize(g.unmonitored(network, options), family)[1])
    assert used["xcup"] >= {"DSP48E2", "RAMB18E2", "RAM32M16", "CARRY4", "SRL16E", "FDRE", "LUT6"}
    assert used["ecp5"] >= {"MULT18X18D", "DP16KD", "TRELLIS_DPR16X4", "CCU2C", "TRELLIS_FF", "LUT4"}


def flipped(design: Design, contents: str = "[0-9a-f]", pick: random.Random | None = None) -> Design:
    """One bit of one look-up table of two inputs inverted: bit 3 of the middle one, or random ones.

    :param contents: of the table; 6 is an exclusive or, half an adder's bit, all of whose bits count.
    """
    places = list(re.finditer(rf"LUT2 #\(\s*\.INIT\(4'h({contents})\)", design.verilog))
    at = places[len(places) // 2] if pick is None else pick.choice(places)
    bit = 3 if pick is None else pick.randrange(4)
    text = design.verilog[: at.start(1)] + f"{int(at[1], 16) ^ 1 << bit:x}" + design.verilog[at.end(1) :]
    return replace(design, verilog=text)


def wrong(design: Design, case: Case) -> bool:
    try:
        return any(r.divergence for r in g.equality(case, "xcup", design=design))
    except SimulationError:  # it stopped
        return True


def test_one_wrong_bit_of_a_look_up_table_is_found() -> None:
    case = cases.case("lif", samples=3, ticks=5)
    rtl = g.unmonitored(case.network, case.options)
    design = replace(rtl, verilog=g.netlist(rtl, "xcup"))
    assert wrong(flipped(design, "6"), case)


@pytest.mark.heavy
def test_most_wrong_bits_are_found() -> None:
    case = cases.case("lif", samples=3, ticks=5)
    rtl = g.unmonitored(case.network, case.options)
    design = replace(rtl, verilog=g.netlist(rtl, "xcup"))
    rng = random.Random(0)
    found = [wrong(flipped(design, pick=rng), case) for _ in range(12)]
    assert sum(found) >= 6


def test_open_bits_are_filled_by_the_seed() -> None:
    text = "INIT(6'b1x0x01), A(70'hx3x), B(8'h0f), C(4'bxxxx), x <= 4'd9"
    filled = g.filled(text, 1)
    assert filled == g.filled(text, 1) != g.filled(text, 2)
    first, second, third, fourth = (int(v, 16) for v in re.findall(r"'h([0-9a-f]+)", filled))
    assert first & 0b101011 == 0b100001 and second >> 4 & 15 == 3 and third == 15 and fourth < 16
    assert "x <= 4'd9" in filled and "'b" not in filled


def test_a_cell_without_a_model_is_an_error() -> None:
    with pytest.raises(g.GateLevelError, match=r"^netlist for xcup: expected a cell that has a model, got 'URAM288'$"):
        g.cell_models("xcup", ["LUT6", "URAM288"])


def test_models_bring_what_they_are_made_of() -> None:
    text = g.cell_models("ecp5", ["CCU2C", "DP16KD"])
    modules = set(re.findall(r"^module (\w+)", text, re.MULTILINE))
    assert modules == {"CCU2C", "LUT4", "LUT2", "DP16KD", "block_ram"}
    assert "specify" not in text


def test_an_unknown_family_is_an_error(lif: Network) -> None:
    with pytest.raises(g.GateLevelError, match=r"^netlist: expected a family of xcup, ecp5, got 'ice40'$"):
        g.netlist(g.unmonitored(lif, default_options(lif)), "ice40")


@pytest.mark.heavy
@pytest.mark.parametrize("family", FAMILIES)
def test_a_chip_that_learns_is_equal_after_synthesis(family: str) -> None:
    rng = np.random.default_rng(1)
    laws = (Relu(value_bits=6, shift=3), LeakyIntegrator(state_bits=20, shift=2))
    sizes, names = (12, 7, 3), ("in", "hidden", "out")
    populations = tuple(
        Population(name, size, law, {k: rng.integers(0, 1 if k == "decay" else 30, size) for k in law.parameters()})
        for name, size, law in zip(names[1:], sizes[1:], laws, strict=True)
    )
    projections = tuple(
        Projection(f"w{n}", names[n], names[n + 1], rng.integers(-60, 60, (sizes[n + 1], sizes[n]))) for n in range(2)
    )
    network = Network((Input("in", 12, Format(4, signed=False)),), populations, projections, ("out",))
    learning = Learning((Site(4, 0, 4), Site(3, 8, 2)), 60, 6, 8, "nearest", 400, gain=0)
    x = rng.integers(0, 16, (40, 1, 12)) * rng.integers(0, 2, (40, 1, 12))
    labels = rng.integers(0, 3, 40)
    run = g.learning_run(network, learning, family)
    chip = OnChip(network, learning)
    assert divergence(chip, x, labels, run.run(x, labels, period=5)) is None
    assert any(chip.counters[f"projection w{n}: weight writes"] for n in range(2))
