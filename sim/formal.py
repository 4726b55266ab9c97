"""Proofs of the stream units: Yosys makes SMT-LIB of a harness, `yosys-smtbmc` unrolls it, Bitwuzla decides.

A proof is bounded (no counterexample of so many cycles from the start values) or by induction (none of any length: the
base case, and no so long stretch of good cycles that a bad one follows). What has been decided is kept by content.
"""

from __future__ import annotations

import importlib.abc
import importlib.util
import inspect
import json
import os
import re
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from amaranth.hdl import Fragment

from apical.hw import tools
from apical.hw.verilog_text import convert_rtlil
from apical.sim import smt_solver
from apical.sim.formal_checks import Harness
from apical.sw import cache

SCRIPT = """read_rtlil top.il
prep -flatten -top top
chformal -lower
memory_map
opt -full
async2sync
dffunmap
write_smt2 -wires top.smt2
"""


@dataclass(frozen=True)
class Proof:
    """One property of one unit.

    :param unit: the class under proof.
    :param keeps: what is proven, in words.
    :param harness: makes the harness of the class, or of a mutant of it.
    :param depth: cycles of the bounded search, or of the induction's stretch.
    :param mutants: faults, each a piece of the unit's module and what stands in its place, that must be found.
    """

    name: str
    unit: type
    keeps: str
    harness: Callable[[Any], Harness]
    method: Literal["induction", "bounded"]
    depth: int
    mutants: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Outcome:
    """What came of a proof.

    :param holds: proven.
    :param refuted: a counterexample from the start values was found; where neither, the induction didn't go through.
    :param seconds: of the solver, when it was run.
    :param detail: the end of the log where it doesn't hold.
    """

    name: str
    holds: bool
    refuted: bool
    method: str
    depth: int
    seconds: float
    detail: str = ""


class _Changed(importlib.abc.InspectLoader):
    """A module of changed text."""

    def __init__(self, text: str) -> None:
        self.text = text

    def get_source(self, fullname: str) -> str:
        return self.text


def mutant(unit: type, old: str, new: str) -> Any:
    """The unit with one piece of its module's text changed.

    :raises ValueError: the piece isn't there exactly once.
    """
    module = sys.modules[unit.__module__]
    text = inspect.getsource(module)
    if text.count(old) != 1:
        raise ValueError(
            f"mutant of {unit.__name__}: expected {old!r} once in {module.__name__}, got {text.count(old)}"
        )
    spec = importlib.util.spec_from_loader(module.__name__, _Changed(text.replace(old, new)))
    assert spec is not None and spec.loader is not None
    changed = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(changed)
    return getattr(changed, unit.__name__)


def _decide(rtlil: str, induction: bool, depth: int) -> Path:
    """Folder with `result.json` of a harness."""

    def make(work: Path) -> None:
        (work / "top.il").write_text(rtlil, encoding="utf-8")
        (work / "proof.ys").write_text(SCRIPT, encoding="utf-8")
        tools.run_tool([*tools.find("yosys"), "-q", "-l", "yosys.log", "-s", "proof.ys"], work, work / "errors.log")
        smt_solver.program(work)
        path = {"PATH": f"{work}{os.pathsep}{os.environ['PATH']}"}
        argv = [*tools.find("yosys-smtbmc"), "--noprogress", "-s", "bitwuzla"]
        began, said = time.perf_counter(), ""
        for part in [[], ["-i"]] if induction else [[]]:
            log = work / "smtbmc.log"
            try:
                tools.run_tool([*argv, *part, "-t", str(depth), "top.smt2"], work, log, path)
            except tools.ToolFailed:
                said = log.read_text(encoding="utf-8")
                if "Status: FAILED" not in said:
                    raise
                said = "\n".join(re.sub(r"^##\s+[\d:]+\s+", "", line) for line in said.splitlines()[-12:])
                break
        refuted = bool(said) and not part
        result = {"holds": not said, "refuted": refuted, "seconds": time.perf_counter() - began, "detail": said}
        (work / "keep" / "result.json").write_text(json.dumps(result), encoding="utf-8")

    versions = (tools.version("yosys"), metadata.version("bitwuzla"), SCRIPT)
    return cache.made("formal", (rtlil, str(induction), str(depth), "1", *versions), make)


def prove(proof: Proof, unit: Any = None) -> Outcome:
    """Decide a proof, of the unit or of a mutant.

    :raises ToolMissing, ToolFailed: a tool isn't there, or stopped.
    """
    harness = proof.harness(proof.unit if unit is None else unit)
    rtlil = convert_rtlil(Fragment.get(harness, None), "top", [harness.domain.clk])
    result = json.loads((_decide(rtlil, proof.method == "induction", proof.depth) / "result.json").read_text())
    return Outcome(proof.name, method=proof.method, depth=proof.depth, **result)


def refuted(proof: Proof, old: str, new: str) -> bool:
    """Is a planted fault found, by a counterexample from the start values?"""
    return prove(proof, mutant(proof.unit, old, new)).refuted
