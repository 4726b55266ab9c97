"""Switching activity of a workload: how often every port and register of the RTL toggled (SAIF), and what it counted.

The run is the batch engine's, on the design without monitors, at a stated clock. The file is SAIF 2.0 (IEEE 1801) as
Verilator writes it, for Vivado's ``read_saif`` (hw/vivado_out_of_context.tcl.j2). Glitches within a cycle aren't in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from apical.hw.design import HardwareOptions
from apical.sim.verilated import Progress, Saif, run_design
from apical.sw.golden import Trace
from apical.sw.network import Network

_NET = re.compile(r"\(([^\s()]+) \(T0 (\d+)\) \(T1 (\d+)\).*\(TC (\d+)\)\)")


class SaifError(ValueError):
    """Text that isn't a SAIF file."""


@dataclass(frozen=True)
class Switching:
    """What a SAIF file says.

    :param duration_ps: time that it covers.
    :param toggles: transitions of every net, by its path: ``top/instance/net[bit]``.
    """

    duration_ps: int
    toggles: Mapping[str, int]

    @property
    def total(self) -> int:
        """All transitions."""
        return sum(self.toggles.values())


def read_saif(path: Path) -> Switching:
    """Read a SAIF file as Verilator writes it: one net a line.

    :raises SaifError: not such a file.
    """
    where: list[str] = []
    depth: list[int] = []  # of parentheses, outside each open instance
    toggles: dict[str, int] = {}
    duration, level = None, 0
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            if net := _NET.search(line):
                toggles["/".join([*where, net.group(1).replace("\\", "")])] = int(net.group(4))
                continue
            if begun := re.search(r"\(INSTANCE (\S+)", line):
                where.append(begun.group(1))
                depth.append(level)
            elif found := re.search(r"\(DURATION (\d+)\)", line):
                duration = int(found.group(1))
            level += line.count("(") - line.count(")")
            while depth and level <= depth[-1]:
                where.pop()
                depth.pop()
    if duration is None or not toggles:
        raise SaifError(f"{path}: expected a SAIF file with a duration and nets, found none")
    return Switching(duration, toggles)


@dataclass(frozen=True)
class Activity:
    """A workload's switching and counted work.

    :param trace: counters and cycles of the RTL.
    :param seconds: time that the file covers at its clock.
    """

    trace: Trace
    switching: Switching
    seconds: float


def record(
    network: Network,
    options: HardwareOptions,
    x: np.ndarray,
    file: Path,
    *,
    clock_mhz: float,
    fast_build: bool = False,
    progress: Progress | None = None,
) -> Activity:
    """Run `x` on the RTL and write its switching activity to `file`.

    :param x: integers, [samples, ticks, inputs].
    :raises SimulationError: the RTL stopped or broke the protocol.
    """
    from apical.hw.verilog import generate

    design = generate(network, options)
    trace = run_design(design, x, fast_build=fast_build, saif=Saif(file, clock_mhz), progress=progress)
    switching = read_saif(file)
    return Activity(trace, switching, switching.duration_ps * 1e-12)
