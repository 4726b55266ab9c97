"""Multipliers are where both operands vary, and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from amaranth.hdl import Const, Elaboratable, Module, Signal

from apical.hw.design import default_options
from apical.hw.multipliers import Multiplier, RtlilError, multipliers, of_network
from apical.hw.verilog_text import convert_rtlil
from apical.sw.laws import AdaptiveLif, Law, LeakyIntegrator, Lif, Relu, TwoPoint
from apical.sw.network import Network, Population


class Product(Elaboratable):  # type: ignore[misc]
    """a · factor, the factor behind `registers` registers and a concatenation."""

    def __init__(self, factor: int, registers: int) -> None:
        self.factor, self.registers = factor, registers
        self.a, self.q = Signal(8), Signal(20)

    def elaborate(self, platform: object) -> Module:
        m = Module()
        factor: Any = Const(self.factor, 12)
        for n in range(self.registers):
            held = Signal(12, name=f"held{n}", reset_less=True)
            m.d.sync += held.eq(factor)
            factor = held
        joined = Signal(12, name="joined")
        m.d.comb += joined.eq(factor)
        m.d.sync += self.q.eq(self.a * joined)
        return m


def product(factor: int, registers: int = 0) -> Multiplier:
    top = Product(factor, registers)
    (found,) = multipliers(convert_rtlil(top, "top", [top.a, top.q]))
    return found


@pytest.mark.parametrize("registers", [0, 1, 3])
@pytest.mark.parametrize(("factor", "by_power"), [(64, True), (1, True), (0, True), (96, False), (243, False)])
def test_a_constant_operand_is_found_behind_wires_and_registers(factor: int, by_power: bool, registers: int) -> None:
    found = product(factor, registers)
    assert found.constants == (None, factor) and found.by_power is by_power


def test_a_text_that_names_no_wire_is_refused() -> None:
    text = "module \\top\n  cell $mul $1\n    connect \\A \\a\n    connect \\B \\b\n    parameter \\A_WIDTH 1\n"
    text += "    parameter \\B_WIDTH 1\n    parameter \\Y_WIDTH 1\n  end\nend\n"
    with pytest.raises(RtlilError, match=r"^module \\top: expected a wire, got '\\\\a'$"):
        multipliers(text)


LAWS: list[Law] = [
    Lif(),
    Lif(leak="shift"),
    LeakyIntegrator(leak="shift", shift=3),
    Relu(),
    TwoPoint(shift=2),
    *(TwoPoint(shift=2, modulation=m) for m in ("linear", "tanh", "exp", "power")),
    AdaptiveLif(gain_bits=4),
]


@pytest.mark.parametrize("law", LAWS, ids=lambda law: f"{law.name}-{getattr(law, 'modulation', '')}")
def test_no_law_multiplies_by_a_constant_power_of_two(two_point: Network, law: Law) -> None:
    specs = law.parameters()
    start = {k: max(min(int(s.initial * (1 << s.fraction_bits)), s.high), s.low) for k, s in specs.items()}
    start |= {k: 1 << (s.fraction_bits - 1) for k, s in specs.items() if s.unit == "fraction"}  # decays of one half
    cells = Population(
        "cells", 4, law, {k: two_point.populations[0].params["bias_basal"] * 0 + v for k, v in start.items()}
    )
    kept = [q if q.compartment in law.compartments else replace(q, compartment="basal") for q in two_point.projections]
    network = replace(two_point, populations=(cells, two_point.populations[1]), projections=tuple(kept))
    assert [m for m in of_network(network, default_options(network)) if m.by_power] == []


def test_spikes_and_shifted_decays_need_no_multiplier(lif: Network) -> None:
    one = {"decay": np.array([192])}
    populations = tuple(replace(p, law=Lif(leak="shift"), params={**p.params, **one}) for p in lif.populations)
    assert of_network(replace(lif, populations=populations), default_options(lif)) == []
    assert len(of_network(lif, default_options(lif))) > 0  # as it is, each neuron lane multiplies by its decay


def test_two_point_cells_multiply_once_per_lane_and_twice_in_the_law(two_point: Network) -> None:
    options = default_options(two_point)
    found = of_network(two_point, options)
    cells, read = (options.lanes[name] for name in ("cells", "out"))
    expected = 2 * cells.synapse + 2 * cells.neuron + read.synapse  # basal and apical; r·r, C·(1 + |R|); read-out
    assert len(found) == expected
