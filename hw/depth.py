"""Logic depth of a netlist: LUT levels on the longest path between registers, from Yosys's JSON for UltraScale+.

What counts as a level, on the way from a register (or an input) to a register (or an output):

    LUT, inverter                    1
    LUT RAM, shift register          1 from its address, or from its clock, to its output
    carry chain                      1 where the path enters it, and 1 for every further 32 bits
    MUXF7, MUXF8, MUXF9              0: in the slice of the LUTs that they join (UG574, chapter 2)
    register, block RAM, clock       0: their own delay isn't logic

A DSP48E2 whose registers are on cuts a path like any register. Where one is off, the path goes on through multiplier or
adder; such paths are a class of their own, with the LUT levels around the slice: 0 is one DSP slice between registers.
Yosys leaves a slice's registers outside, in flip-flops beside it, from where Vivado takes them in.

Yosys maps each cone of LUTs to the least depth of the deepest cone, not knowing the carry chains at their ends: a path
through a chain may have more levels here than a mapper that knows them would give it.
Yosys knows no delays of this family, so this is evidence of a clock, not a clock.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

CARRY = 0.125  # of a level: a CARRY4 is four bits
_LUT = re.compile(r"LUT[1-6]|INV|CFGLUT5")
_RAM = re.compile(r"RAM(32|64|128|256|512)\w*")
_SHIFT = re.compile(r"SRLC?(16|32)E")
_REGISTER = re.compile(r"FD[RSCP]E|LD[CP]E|RAMB(18|36)E[12]|URAM288(_BASE)?")
_IGNORED = re.compile(r"VCC|GND|BUFG\w*|\$scopeinfo")
_ADDRESS = re.compile(r"A\d*|ADDR[A-H]\d?|DPRA\d*")
_RAM_OUTPUT = re.compile(r"D?O[A-H]?\d?|SPO|DPO")
# Which registers lie between a DSP48E2's input and its output P: of the input, then of the product, then of P (UG579).
_DSP_INPUTS = {"A": "AREG", "B": "BREG", "C": "CREG", "D": "DREG", "CARRYIN": "CARRYINREG", "OPMODE": "OPMODEREG"}
_DSP_INPUTS |= {"ALUMODE": "ALUMODEREG", "INMODE": "INMODEREG"}
_MULTIPLIED = ("A", "B", "D", "INMODE")

Bit = int
_Arc = tuple[Bit, Bit, float, str, bool]  # from, to, levels, cell, through a DSP


class DepthError(ValueError):
    """A netlist that isn't Yosys's JSON, has a cell without a rule, or a loop of logic."""


@dataclass(frozen=True)
class Path:
    """A longest path.

    :param levels: LUT levels.
    :param cells: types of the cells on it, in order.
    :param start, end: registers (by their output's net) or ports at its ends.
    """

    levels: int
    start: str
    end: str
    cells: tuple[str, ...]

    def summary(self) -> dict[str, Any]:
        """As plain data."""
        return {"levels": self.levels, "from": self.start, "to": self.end, "cells": list(self.cells)}


@dataclass(frozen=True)
class Depth:
    """Depth of a design.

    :param logic: the longest path without a DSP slice's multiplier or adder; None where there is no logic.
    :param dsp: the longest one with; None where all DSP slices are registered on both sides.
    """

    logic: Path | None
    dsp: Path | None

    @property
    def levels(self) -> int:
        """LUT levels of the longest path without DSP logic."""
        return self.logic.levels if self.logic else 0

    @property
    def dsp_levels(self) -> int | None:
        """LUT levels around a DSP slice on the longest path through one."""
        return None if self.dsp is None else self.dsp.levels

    def summary(self) -> dict[str, Any]:
        """As plain data."""
        return {
            "levels": self.levels,
            "dsp_levels": self.dsp_levels,
            "path": self.logic.summary() if self.logic else None,
            "dsp_path": self.dsp.summary() if self.dsp else None,
        }


def _bits(cell: Mapping[str, Any], ports: Sequence[str] | None = None) -> Iterator[tuple[str, int, Bit]]:
    """(port, place, net) of a cell's connections to nets; constants are left out."""
    for port, bits in cell["connections"].items():
        if ports is None or port in ports:
            for i, bit in enumerate(bits):
                if isinstance(bit, int):
                    yield port, i, bit


def _parameter(cell: Mapping[str, Any], name: str, fallback: int = 1) -> int:
    raw = cell.get("parameters", {}).get(name)
    if raw is None:
        return fallback
    return int(raw, 2) if isinstance(raw, str) else int(raw)


class _Graph:
    """Arcs between nets, and where paths begin and end."""

    def __init__(self, module: Mapping[str, Any]) -> None:
        self.arcs: list[_Arc] = []
        self.starts: dict[Bit, tuple[float, bool]] = {}  # levels that a path has there, and if they are a DSP's
        self.ends: dict[Bit, bool] = {}  # and if a DSP's logic follows
        self.behind: dict[Bit, Bit] = {}  # an output of the register that a path ends in
        self.kinds: dict[str, str] = {}
        for name, port in module["ports"].items():
            del name
            for bit in port["bits"]:
                if isinstance(bit, int):
                    (self._start if port["direction"] == "input" else self._end)(bit)
        for name, cell in module["cells"].items():
            self.kinds[name] = cell["type"]
            self._add(name, cell)

    def _start(self, bit: Bit, levels: float = 0.0, dsp: bool = False) -> None:
        self.starts[bit] = (levels, dsp)

    def _end(self, bit: Bit, dsp: bool = False) -> None:
        self.ends[bit] = self.ends.get(bit, False) or dsp

    def _add(self, name: str, cell: Mapping[str, Any]) -> None:
        kind, out = cell["type"], cell.get("port_directions", {})
        inputs = [(p, i, b) for p, i, b in _bits(cell) if out.get(p) == "input"]
        outputs = [(p, i, b) for p, i, b in _bits(cell) if out.get(p) == "output"]
        if _LUT.fullmatch(kind):
            self._all(name, [b for *_, b in inputs], [b for *_, b in outputs], 1.0)
        elif kind.startswith("MUXF"):
            self._all(name, [b for *_, b in inputs], [b for *_, b in outputs], 0.0)
        elif kind in ("CARRY4", "CARRY8"):
            self._carry(name, inputs, outputs, CARRY * int(kind[-1]) / 4)
        elif _RAM.fullmatch(kind) and not kind.startswith("RAMB"):
            self._all(name, [b for p, _, b in inputs if _ADDRESS.fullmatch(p)], [b for *_, b in outputs], 1.0)
            self._sequential(inputs, outputs, 1.0)
        elif _SHIFT.fullmatch(kind):
            self._all(name, [b for p, _, b in inputs if p.startswith("A")], [b for *_, b in outputs], 1.0)
            self._sequential(inputs, outputs, 1.0)
        elif _REGISTER.fullmatch(kind):
            self._sequential(inputs, outputs, 0.0)
        elif kind.startswith("DSP48E"):
            self._dsp(name, cell, inputs, outputs)
        elif not _IGNORED.fullmatch(kind):
            raise DepthError(f"netlist: expected UltraScale+ primitives, got a {kind!r}")

    def _all(self, name: str, inputs: Sequence[Bit], outputs: Sequence[Bit], levels: float, dsp: bool = False) -> None:
        self.arcs += [(a, b, levels, name, dsp) for a in inputs for b in outputs]

    def _sequential(
        self, inputs: Sequence[tuple[str, int, Bit]], outputs: Sequence[tuple[str, int, Bit]], levels: float
    ) -> None:
        for port, _, bit in inputs:
            if not re.fullmatch(r"C|CLK\w*|WCLK|G|CLKARDCLK|CLKBWRCLK", port):
                self._end(bit)
                if outputs:
                    self.behind.setdefault(bit, outputs[0][2])
        for *_, bit in outputs:
            self._start(bit, levels)

    def _carry(
        self, name: str, inputs: Sequence[tuple[str, int, Bit]], outputs: Sequence[tuple[str, int, Bit]], hop: float
    ) -> None:
        for port, i, a in inputs:
            for out, j, b in outputs:
                if port in ("CI", "CYINIT", "CI_TOP"):
                    self.arcs.append((a, b, hop if port == "CI" else 1.0, name, False))
                elif j >= i if port == "S" or out == "CO" else j > i:
                    self.arcs.append((a, b, 1.0, name, False))

    def _dsp(
        self,
        name: str,
        cell: Mapping[str, Any],
        inputs: Sequence[tuple[str, int, Bit]],
        outputs: Sequence[tuple[str, int, Bit]],
    ) -> None:
        product, result = _parameter(cell, "MREG"), _parameter(cell, "PREG")
        for port, _, a in inputs:
            if port == "CLK":
                continue
            if port not in _DSP_INPUTS or _parameter(cell, _DSP_INPUTS[port]):
                self._end(a)
            elif result or (product and port in _MULTIPLIED):
                self._end(a, dsp=True)
            else:
                self.arcs += [(a, b, 0.0, name, True) for *_, b in outputs]
        for *_, b in outputs:
            self._start(b, 0.0, dsp=not result)


def _names(module: Mapping[str, Any]) -> dict[Bit, str]:
    """A name for every net: the shortest one that a person wrote, if there is one."""
    found: dict[Bit, tuple[bool, int, str]] = {}
    for name, net in module["netnames"].items():
        for i, bit in enumerate(net["bits"]):
            if isinstance(bit, int):
                text = f"{name}[{i}]" if len(net["bits"]) > 1 else name
                rank = ("$" in name, len(name), text)
                if bit not in found or rank < found[bit]:
                    found[bit] = rank
    return {bit: rank[2] for bit, rank in found.items()}


def logic_depth(netlist: Mapping[str, Any], top: str) -> Depth:
    """Depth of a flat module.

    :param netlist: the object of Yosys's ``write_json``.
    :raises DepthError: not such an object, no such module, a cell without a rule, or a loop.
    """
    try:
        module = netlist["modules"][top]
        graph = _Graph(module)
    except (KeyError, TypeError, AttributeError) as error:
        raise DepthError(f"netlist: expected Yosys's JSON with a module {top!r}, got {type(error).__name__}") from None
    after: dict[Bit, list[_Arc]] = defaultdict(list)
    waiting: dict[Bit, int] = defaultdict(int)
    for arc in graph.arcs:
        after[arc[0]].append(arc)
        waiting[arc[1]] += 1
    # levels[dsp][net]: the most on a path to the net, without and with a DSP slice's logic; came: by which arc.
    levels: tuple[dict[Bit, float], dict[Bit, float]] = ({}, {})
    came: tuple[dict[Bit, tuple[_Arc, bool]], dict[Bit, tuple[_Arc, bool]]] = ({}, {})
    for bit, (start, dsp) in graph.starts.items():
        levels[dsp][bit] = start
    ready = [bit for bit in {*after, *graph.starts} if not waiting[bit]]
    done = 0
    while ready:
        bit = ready.pop()
        for arc in after[bit]:
            for dsp in (False, True):
                if bit in levels[dsp]:
                    then, total = dsp or arc[4], levels[dsp][bit] + arc[2]
                    if total > levels[then].get(arc[1], -1.0):
                        levels[then][arc[1]], came[then][arc[1]] = total, (arc, dsp)
            waiting[arc[1]] -= 1
            done += 1
            if not waiting[arc[1]]:
                ready.append(arc[1])
    if done < len(graph.arcs):
        raise DepthError("netlist: a loop of logic")
    names = _names(module)

    def path(of_dsp: bool) -> Path | None:
        best: tuple[float, Bit, bool] | None = None
        for bit, follows in graph.ends.items():
            for dsp in (False, True):
                if (dsp or follows) == of_dsp and bit in levels[dsp] and (best is None or levels[dsp][bit] > best[0]):
                    best = (levels[dsp][bit], bit, dsp)
        if best is None:
            return None
        total, bit, dsp = best
        cells, end = [], bit
        while bit in came[dsp] and (bit not in graph.starts or levels[dsp][bit] > graph.starts[bit][0]):
            arc, dsp = came[dsp][bit]
            cells.append(graph.kinds[arc[3]])
            bit = arc[0]
        finish = names.get(end, "$")
        if "$" in finish and end in graph.behind:  # the register's own name
            finish = names.get(graph.behind[end], finish)
        return Path(int(total), names.get(bit, str(bit)), finish, tuple(reversed(cells)))

    return Depth(path(False), path(True))
