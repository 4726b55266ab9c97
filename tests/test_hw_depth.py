"""Logic depth, counted by hand on small netlists in Yosys's form."""

from __future__ import annotations

from typing import Any

import pytest

from apical.hw import depth

IN = (
    "I0",
    "I1",
    "I2",
    "I3",
    "I4",
    "I5",
    "S",
    "DI",
    "CI",
    "CYINIT",
    "D",
    "C",
    "CE",
    "R",
    "A",
    "B",
    "CLK",
    "ADDRA",
    "A0",
)


def cell(kind: str, parameters: dict[str, str] | None = None, **ports: int | list[int]) -> dict[str, Any]:
    return {
        "type": kind,
        "parameters": parameters or {},
        "port_directions": {p: "input" if p in IN else "output" for p in ports},
        "connections": {p: b if isinstance(b, list) else [b] for p, b in ports.items()},
    }


def netlist(
    *cells: dict[str, Any], ports: dict[str, tuple[str, int]] | None = None, names: dict[str, int] | None = None
) -> dict[str, Any]:
    declared = {p: {"direction": way, "bits": [bit]} for p, (way, bit) in (ports or {}).items()}
    module = {
        "ports": declared,
        "cells": {f"c{i}": c for i, c in enumerate(cells)},
        "netnames": {n: {"bits": [b]} for n, b in (names or {}).items()},
    }
    return {"modules": {"top": module}}


def flip_flop(d: int, q: int) -> dict[str, Any]:
    return cell("FDRE", C=1, D=d, Q=q, CE=3, R=4)


def test_luts_between_registers_are_counted_and_the_path_is_named() -> None:
    found = depth.logic_depth(
        netlist(
            flip_flop(20, 10),
            cell("LUT2", I0=10, O=12),
            cell("LUT6", I0=12, I1=10, O=13),
            cell("MUXF7", I0=13, I1=11, S=12, O=14),
            cell("LUT1", I0=14, O=20),
            flip_flop(99, 11),
            names={"start": 10, "$hidden": 10, "finish": 20},
        ),
        "top",
    )
    assert found.logic == depth.Path(3, "start", "finish", ("LUT2", "LUT6", "MUXF7", "LUT1"))
    assert found.dsp is None and found.levels == 3


def test_a_carry_chain_is_one_level_where_it_is_entered_and_one_for_32_bits_more() -> None:
    def adder(bits: int) -> int:
        cells = [flip_flop(900, 10), cell("LUT2", I0=10, O=500)]
        for k in range(bits // 4):
            sums = [100 + 4 * k + i for i in range(4)]
            carries = [600 + 4 * k + i for i in range(4)]
            cells.append(cell("CARRY4", S=[500, 0, 0, 0], CO=carries, O=sums, CI=600 + 4 * k - 1 if k else 501))
        return depth.logic_depth(netlist(*cells, flip_flop(100 + bits - 1, 901)), "top").levels

    assert [adder(b) for b in (4, 16, 32, 36, 68)] == [2, 2, 2, 3, 4]


def test_sums_leave_a_chain_above_the_bit_where_a_path_entered() -> None:
    chain = cell("CARRY4", S=[10, 11, 12, 13], O=[20, 21, 22, 23])
    deep = cell("LUT1", I0=20, O=13)  # bit 0's sum feeds bit 3: no loop
    found = depth.logic_depth(netlist(flip_flop(1, 10), chain, deep, flip_flop(23, 90)), "top")
    assert found.levels == 3
    back = cell("LUT1", I0=23, O=10)
    with pytest.raises(depth.DepthError, match=r"^netlist: a loop of logic$"):
        depth.logic_depth(netlist(chain, back, flip_flop(23, 90)), "top")


def test_lut_ram_is_a_level_from_its_address_and_from_its_clock() -> None:
    ram = cell("RAM32M16", ADDRA=[12], DIA=[13], DOA=[14], WCLK=[1])
    ram["port_directions"] |= {"DIA": "input", "WCLK": "input"}
    by_address = netlist(flip_flop(9, 10), cell("LUT1", I0=10, O=12), ram, cell("LUT1", I0=14, O=15), flip_flop(15, 90))
    assert depth.logic_depth(by_address, "top").levels == 3
    by_clock = netlist(ram, cell("LUT1", I0=14, O=15), flip_flop(15, 90))
    assert depth.logic_depth(by_clock, "top").levels == 2


def test_block_ram_ends_paths_and_begins_them() -> None:
    ram = cell("RAMB36E2", ADDRARDADDR=[13], DOUTADOUT=[14])
    ram["port_directions"]["ADDRARDADDR"] = "input"
    whole = netlist(flip_flop(9, 10), cell("LUT1", I0=10, O=13), ram, cell("LUT1", I0=14, O=15), flip_flop(15, 90))
    assert depth.logic_depth(whole, "top").levels == 1


def _dsp(registers: dict[str, int], before: bool = True, after: bool = False) -> depth.Depth:
    parameters = {f"{n}REG": f"{v:032b}" for n, v in registers.items()}
    cells = [flip_flop(9, 10), cell("DSP48E2", parameters, A=[12 if before else 10], P=[14], CLK=1)]
    cells += [cell("LUT1", I0=10, O=12)] if before else []
    cells += [cell("LUT1", I0=14, O=15), flip_flop(15, 90)] if after else [flip_flop(14, 90)]
    return depth.logic_depth(netlist(*cells), "top")


def test_a_registered_dsp_slice_cuts_a_path() -> None:
    found = _dsp({"A": 1, "M": 1, "P": 1}, after=True)
    assert found.levels == 1 and found.dsp is None


def test_a_dsp_slice_without_registers_is_in_a_class_of_its_own() -> None:
    assert _dsp({"A": 0, "M": 0, "P": 0}, before=False).dsp_levels == 0
    both = _dsp({"A": 0, "M": 0, "P": 0}, after=True)
    assert both.dsp is not None and (both.dsp_levels, both.dsp.cells) == (2, ("LUT1", "DSP48E2", "LUT1"))
    assert _dsp({"A": 0, "M": 1, "P": 1}).dsp_levels == 1  # into the multiplier
    assert _dsp({"A": 1, "M": 1, "P": 0}, after=True).dsp_levels == 1  # out of the adder


def test_paths_from_and_to_ports_count() -> None:
    found = depth.logic_depth(
        netlist(cell("LUT1", I0=10, O=11), ports={"i": ("input", 10), "o": ("output", 11)}, names={"i": 10, "o": 11}),
        "top",
    )
    assert found.logic == depth.Path(1, "i", "o", ("LUT1",))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({}, r"^netlist: expected Yosys's JSON with a module 'top', got KeyError$"),
        ([], r"^netlist: expected Yosys's JSON with a module 'top', got TypeError$"),
        (netlist(cell("SB_LUT4", I0=1, O=2)), r"^netlist: expected UltraScale\+ primitives, got a 'SB_LUT4'$"),
    ],
)
def test_what_is_no_such_netlist_is_an_error(content: Any, message: str) -> None:
    with pytest.raises(depth.DepthError, match=message):
        depth.logic_depth(content, "top")
