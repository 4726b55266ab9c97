"""What a design costs on UltraScale+: LUT, flip-flops, DSP slices, block and ultra RAM, counted from Yosys's netlist.

Yosys maps with ``synth_xilinx -family xcup -flatten -noiopad -noclkbuf``. Cells are priced in LUT6 by the data sheet
of the slice (UG574, chapter 2: a 64-bit RAM or a 32-bit shift register per LUT6; a dual-port RAM needs a copy per
read port). Timing isn't given: Yosys has no timing arcs for this family.

Yosys's mapper borrows the delays of the 7 series: 0.3 ns a wire, and a LUT6 as slow as two or three LUT2. On
UltraScale+ the wires between LUTs take most of a path, and a level is a level. `WIRE_PS` tells the mapper so: about 1 %
more LUTs, and two levels less on the longest path (`apical.hw.depth`); for designs whose clock is of interest.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from apical.hw import tools
from apical.hw.depth import logic_depth
from apical.hw.design import Design
from apical.hw.verilog import generate_rtlil
from apical.sw import cache
from apical.sw.bundle import write_directory

FLAGS = "-family xcup -flatten -noiopad -noclkbuf"
WIRE_PS = 2000  # per wire, above any LUT's delay: the mapper then counts levels
_VERSION = 2  # of the stored result

# LUT6 per cell: UG574 (v1.5) tables 2-4 to 2-6 and 2-12, and the port counts of UG974's cell descriptions.
_LUT_RAM = {
    "RAM32X1S": 1,
    "RAM32X1D": 2,
    "RAM32M": 4,
    "RAM32M16": 8,
    "RAM64X1S": 1,
    "RAM64X1D": 2,
    "RAM64M": 4,
    "RAM64M8": 8,
    "RAM64X8SW": 8,
    "RAM128X1S": 2,
    "RAM128X1D": 4,
    "RAM256X1S": 4,
    "RAM256X1D": 8,
    "RAM512X1S": 8,
}
_SHIFT = {"SRL16E": 1, "SRLC16E": 1, "SRLC32E": 1}
_LOGIC = {"INV": 1, "LUT1": 1, "LUT2": 1, "LUT3": 1, "LUT4": 1, "LUT5": 1, "LUT6": 1, "CFGLUT5": 1}
_FF = {"FDRE", "FDSE", "FDCE", "FDPE", "LDCE", "LDPE"}
_FREE = {"MUXF7", "MUXF8", "MUXF9", "VCC", "GND", "IBUF", "OBUF", "BUFG"}  # part of a slice, or no area


class UtilizationError(ValueError):
    """A netlist report that can't be read or has a cell without a price."""


@dataclass(frozen=True)
class Utilization:
    """Resources of a synthesized design.

    :param lut: LUT6 in all: logic, LUT RAM and shift registers.
    :param ramb18: block RAM in halves; `bram` is the same in RAMB36.
    :param cells: cells by type, as Yosys counts them.
    :param tool: the synthesizer's version.
    :param log: the whole log of the run, where it was kept.
    :param depth: `apical.hw.depth.Depth.summary` of the netlist, where it was synthesized here.
    """

    lut: int
    lut_logic: int
    lut_ram: int
    lut_shift: int
    ff: int
    carry: int
    dsp: int
    ramb18: int
    uram: int
    cells: Mapping[str, int]
    tool: str = ""
    log: str = ""
    depth: Mapping[str, Any] | None = None

    @property
    def bram(self) -> float:
        """Block RAM in RAMB36: a RAMB18 is a half."""
        return self.ramb18 / 2

    def summary(self) -> dict[str, float | int]:
        """The figures that a user compares with a device."""
        return {"lut": self.lut, "ff": self.ff, "dsp": self.dsp, "bram": self.bram, "uram": self.uram}


def count_cells(cells: Mapping[str, int], tool: str = "", log: str = "") -> Utilization:
    """Resources from cells by type.

    :raises UtilizationError: a cell whose price isn't known (a black box, or a new primitive).
    """

    def priced(prices: Mapping[str, int]) -> int:
        return sum(n * prices[cell] for cell, n in cells.items() if cell in prices)

    def number(pattern: str) -> int:
        return sum(n for cell, n in cells.items() if re.fullmatch(pattern, cell))

    known = r"CARRY[48]|DSP48E[12]|RAMB(18|36)E[12]|URAM288(_BASE)?|\$scopeinfo"
    for cell in cells:
        if not (
            cell in _FREE
            or cell in _FF
            or cell in _LOGIC
            or cell in _LUT_RAM
            or cell in _SHIFT
            or re.fullmatch(known, cell)
        ):
            raise UtilizationError(f"netlist: expected UltraScale+ primitives, got {cells[cell]} of {cell!r}")
    logic, ram, shift = priced(_LOGIC), priced(_LUT_RAM), priced(_SHIFT)
    return Utilization(
        lut=logic + ram + shift,
        lut_logic=logic,
        lut_ram=ram,
        lut_shift=shift,
        ff=sum(n for cell, n in cells.items() if cell in _FF),
        carry=number("CARRY[48]"),
        dsp=number("DSP48E[12]"),
        ramb18=number("RAMB18E[12]") + 2 * number("RAMB36E[12]"),
        uram=number("URAM288(_BASE)?"),
        cells=dict(sorted(cells.items())),
        tool=tool,
        log=log,
    )


def parse_stat(text: str, tool: str = "", log: str = "") -> Utilization:
    """Resources from the text of Yosys's ``stat -json`` on a flat design.

    :raises UtilizationError: not such a text.
    """
    try:
        cells = json.loads(text)["design"]["num_cells_by_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise UtilizationError(f"stat -json: expected design.num_cells_by_type, got {type(error).__name__}") from None
    return count_cells(cells, tool, log)


def script(top: str, file: str = "design.v") -> str:
    """Yosys commands from `design.v` (or RTLIL in `design.il`) to `stat.json`."""
    read = "read_rtlil" if file.endswith(".il") else "read_verilog -sv"
    return f"{read} {file}\nsynth_xilinx {FLAGS} -top {top}\ntee -q -o stat.json stat -json -top {top}\n"


@dataclass(frozen=True)
class _Job:
    """A synthesis: the top module, its text, the file's name, Yosys's commands, and where the result is kept."""

    top: str
    verilog: str
    file: str
    commands: str
    tool: str
    folder: Path


def _job(design: Design | str, top: str | None, quick: bool, wire_ps: int | None) -> _Job:
    verilog, name = (design.verilog, design.manifest.top) if isinstance(design, Design) else (design, top)
    if name is None or not re.fullmatch(r"[A-Za-z_]\w*", name):
        raise ValueError(f"top: expected the name of the top module, got {name!r}")
    tool, file = tools.version("yosys"), "design.il" if quick else "design.v"
    wires = "" if wire_ps is None else f"scratchpad -set synth_xilinx.abc9.W {wire_ps}\n"
    commands = f"{wires}{script(name, file)}write_json netlist.json\n"
    key = hashlib.sha256("\0".join([str(_VERSION), tool, commands, verilog]).encode()).hexdigest()[:24]
    return _Job(name, verilog, file, commands, tool, cache.directory() / "xcup" / key)


def _kept(folder: Path) -> Utilization | None:
    file = folder / "utilization.json"
    if not file.is_file():
        return None
    stored = Utilization(**json.loads(file.read_text(encoding="utf-8")))
    return replace(stored, log=str(folder / "yosys.log"))


def kept_xcup(verilog: str, top: str, wire_ps: int | None = None) -> Utilization | None:
    """What `synthesize_xcup` with the same text, its RTLIL and the same `wire_ps` has kept; None where it never ran."""
    return _kept(_job(verilog, top, True, wire_ps).folder)


def synthesize_xcup(
    design: Design | str, top: str | None = None, rtlil: str | None = None, wire_ps: int | None = None
) -> Utilization:
    """Synthesize for UltraScale+ and count; kept by content hash in the cache with the raw log.

    :param design: a generated design, or Verilog text with `top` as its top module.
    :param rtlil: the same as RTLIL, which is much quicker to read.
    :param wire_ps: delay of a wire for the mapper, such as `WIRE_PS`; Yosys's own unless given.
    :raises ToolMissing: no Yosys. :raises ToolFailed: Yosys refused the design.
    """
    job = _job(design, top, rtlil is not None or isinstance(design, Design), wire_ps)
    if (kept := _kept(job.folder)) is not None:
        return kept

    def fill(work: Path) -> None:
        text = rtlil or job.verilog
        if rtlil is None and isinstance(design, Design):
            text = generate_rtlil(design.network, design.options)
        (work / job.file).write_text(text, encoding="utf-8")
        (work / "synth.ys").write_text(job.commands, encoding="utf-8")
        # -l: YoWASP's Yosys loses the end of what it writes to standard output
        tools.run_tool([*tools.find("yosys"), "-q", "-l", "yosys.log", "-s", "synth.ys"], work, work / "errors.log")
        result = parse_stat((work / "stat.json").read_text(encoding="utf-8"), job.tool)
        found = logic_depth(json.loads((work / "netlist.json").read_text(encoding="utf-8")), job.top)
        (work / "netlist.json").unlink()  # tens of megabytes
        result = replace(result, depth=found.summary())
        (work / "utilization.json").write_text(json.dumps(asdict(result), indent=1), encoding="utf-8")

    write_directory(job.folder, fill)
    made = _kept(job.folder)
    assert made is not None
    return made
