"""Open flow for ECP5 and iCE40 boards: Yosys, nextpnr, bitstream; and the timing of a lone population.

Every step's files are kept by content hash in the cache and copied to the user's folder: RTLIL, constraints, logs,
the timing report and the bitstream.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from apical.hw import boards, tools
from apical.hw.accelerator import Accelerator
from apical.hw.boards import Board, Pin
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.harness import Harness, random_population
from apical.sw import cache
from apical.sw.bundle import identity, write_directory
from apical.sw.network import Network

_VERSION = 1  # of the cached folders
SERIAL_LANES = 16  # the serial line brings an event in 500 cycles at 25 MHz and 1 Mbaud: more lanes only wait
Steps = Callable[[int, int, str], None]


@dataclass(frozen=True)
class _Family:
    """What the tools of one family are called and asked.

    :param devices: nextpnr's option by device; the bitstream's ID code follows from it.
    :param placer, packer: keys of `tools.TOOLS`.
    :param synthesis: Yosys's commands, but for the top module and the netlist's name.
    :param constraints: nextpnr's option and the file's name; `routed`: the same of its result.
    :param pack: the packer's arguments; `bitstream`: the file that it makes.
    """

    devices: Mapping[str, str]
    placer: str
    packer: str
    synthesis: str
    constraints: tuple[str, str]
    routed: tuple[str, str]
    pack: tuple[str, ...]
    bitstream: str


_FAMILIES = {
    "ecp5": _Family(
        {
            "LFE5U-12F": "--12k",
            "LFE5U-25F": "--25k",
            "LFE5U-45F": "--45k",
            "LFE5U-85F": "--85k",
            "LFE5UM5G-25F": "--um5g-25k",
            "LFE5UM5G-45F": "--um5g-45k",
            "LFE5UM5G-85F": "--um5g-85k",
        },
        "nextpnr-ecp5",
        "ecppack",
        "synth_ecp5",
        ("--lpf", "top.lpf"),
        ("--textcfg", "top.config"),
        ("--compress", "--input", "top.config", "--bit", "top.bit"),
        "top.bit",
    ),
    # No LUT RAM: small memories become logic. -dsp: multiplications into SB_MAC16, which only the UltraPlus has; -spram
    # isn't asked for: it can't be initialized.
    "ice40": _Family(
        {"iCE40UP5K": "--up5k"},
        "nextpnr-ice40",
        "icepack",
        "setattr -unset ram_style */a:ram_style=distributed\nsynth_ice40 -device u -dsp",
        ("--pcf", "top.pcf"),
        ("--asc", "top.asc"),
        ("top.asc", "top.bin"),
        "top.bin",
    ),
}


class FlowError(ValueError):
    """A board or report that the open flow can't use."""


@dataclass(frozen=True)
class Placed:
    """Result of place and route.

    :param fmax_mhz: highest frequency of the design's slowest clock; `clocks` has each clock's.
    :param target_mhz: frequency that the slowest clock has to reach.
    :param lut: LUT4 in all (logic, carry, LUT RAM), as nextpnr counts its COMB cells; on iCE40 its logic cells, each a
        LUT4, a carry and a flip-flop.
    :param critical: the slowest path, one text per hop: ``delay ns, kind, from cell.port to cell.port``.
    :param files: everything that was kept, in its folder.
    """

    fmax_mhz: float
    target_mhz: float
    clocks: Mapping[str, float]
    lut: int
    ff: int
    dsp: int
    bram: int
    critical: tuple[str, ...]
    bitstream: Path | None
    files: tuple[Path, ...]
    seconds: float = 0.0

    @property
    def met(self) -> bool:
        """The clock closes timing."""
        return self.fmax_mhz >= self.target_mhz

    def summary(self) -> dict[str, Any]:
        """The keys of ``apical synth --json``."""
        return {
            "lut": self.lut,
            "ff": self.ff,
            "dsp": self.dsp,
            "bram": self.bram,
            "uram": 0,
            "fmax_mhz": round(self.fmax_mhz, 2),
            "bitstream": str(self.bitstream) if self.bitstream else None,
            "files": [str(f) for f in self.files],
        }


def constraints(pins: Mapping[str, Pin], clocks_mhz: Mapping[str, float], flow: str = "ecp5") -> str:
    """LPF (ECP5) or PCF (iCE40) text: sites and I/O buffers of the ports, frequencies of the clock ports."""
    if flow == "ice40":
        lines = [f"set_io{' -pullup yes' if pin.pull == 'UP' else ''} {port} {pin.ball}" for port, pin in pins.items()]
        return "\n".join([*lines, *(f"set_frequency {port} {mhz:.6f}" for port, mhz in clocks_mhz.items())]) + "\n"
    lines = []
    for port, pin in pins.items():
        lines.append(f'LOCATE COMP "{port}" SITE "{pin.ball}";')
        lines.append(f'IOBUF PORT "{port}" PULLMODE={pin.pull} IO_TYPE={pin.standard};')
    lines += [f'FREQUENCY PORT "{port}" {mhz:.6f} MHZ;' for port, mhz in clocks_mhz.items()]
    return "\n".join(lines) + "\n"


def parse_report(text: str, clock: str | None = None) -> dict[str, Any]:
    """Figures of nextpnr's JSON report: ``clocks``, ``fmax_mhz``, ``target_mhz``, ``lut``, ``ff``, ``dsp``, ``bram``,
    ``critical``. `clock` limits the search to clocks whose name has that text.

    :raises FlowError: not such a report, or it has no clock.
    """
    try:
        report = json.loads(text)
        clocks = {name: (float(c["achieved"]), float(c["constraint"])) for name, c in report["fmax"].items()}
        used = {name: int(u["used"]) for name, u in report["utilization"].items()}
        paths = report.get("critical_paths", [])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise FlowError(f"nextpnr report: expected fmax and utilization, got {type(error).__name__}: {error}") from None
    chosen = {n: c for n, c in clocks.items() if clock is None or clock in n}
    if not chosen:
        raise FlowError(f"nextpnr report: expected a clock{f' {clock!r}' if clock else ''}, got {sorted(clocks)}")
    slowest = min(chosen, key=lambda n: chosen[n][0] / chosen[n][1])
    critical: list[str] = []
    for path in paths:
        if path["from"].split()[-1] == slowest and path["to"].split()[-1] == slowest:
            for hop in path["path"]:
                ends = " to ".join(f"{hop[e]['cell']}.{hop[e].get('port', '')}" for e in ("from", "to"))
                critical.append(f"{hop['delay']:.2f} ns, {hop['type']}, {ends}")
            break
    return {
        "clocks": {n: a for n, (a, _) in clocks.items()},
        "fmax_mhz": chosen[slowest][0],
        "target_mhz": chosen[slowest][1],
        "lut": used.get("TRELLIS_COMB", used.get("ICESTORM_LC", 0)),
        "ff": used.get("TRELLIS_FF", 0),
        "dsp": used.get("MULT18X18D", used.get("ICESTORM_DSP", 0)),
        "bram": used.get("DP16KD", used.get("ICESTORM_RAM", 0)),
        "critical": critical,
    }


def synthesis_script(top: str, flow: str) -> str:
    """Yosys commands from `top.il` to `netlist.json`, for a top module."""
    family = _FAMILIES[flow]
    # A wire named x[0] beside one named x makes abc9 mistake one for a bit of the other and stop (Yosys 0.70).
    script = f"read_rtlil top.il\nrename -hide */w:*\\[*\n{family.synthesis} -top {top} -json netlist.json\n"
    # nextpnr-ice40 counts logic cells only: the flip-flops are read from Yosys's census.
    return script if family.placer == "nextpnr-ecp5" else f"{script}tee -q -o stat.json stat -json -top {top}\n"


def _flip_flops(stat: Path) -> int:
    cells: Mapping[str, int] = json.loads(stat.read_text(encoding="utf-8"))["design"]["num_cells_by_type"]
    return sum(n for cell, n in cells.items() if cell.startswith("SB_DFF"))


def place(
    rtlil: str,
    top: str,
    board: Board,
    pins: str,
    frequency_mhz: float,
    *,
    seed: int = 1,
    bitstream: bool = True,
    extra: Mapping[str, str] | None = None,
    progress: Steps | None = None,
) -> Path:
    """Synthesize, place, route and pack; the folder of the results, kept by content hash.

    :param rtlil: the design in Yosys's format, with the module `top`.
    :param pins: the constraints' text.
    :param frequency_mhz: what nextpnr aims at; missing it is reported, not an error (see `Placed.met`).
    :param extra: further text files to keep in the folder, by name.
    :param progress: called with (step, steps, name) before each step.
    :raises ToolMissing: a program isn't there. :raises ToolFailed: a program refused the design.
    """
    family = _FAMILIES[board.flow]
    if board.device not in family.devices:
        raise FlowError(f"board {board.name}: expected a device of {sorted(family.devices)}, got {board.device!r}")
    if not re.fullmatch(r"[A-Za-z_]\w*", top):
        raise FlowError(f"top: expected the name of a module, got {top!r}")
    names = ("yosys", family.placer, family.packer)[: 3 if bitstream else 2]
    options = [family.devices[board.device], "--package", board.package]
    options += ["--speed", board.speed_grade] if board.flow == "ecp5" else []
    options += ["--freq", f"{frequency_mhz:g}", "--seed", str(seed), "--timing-allow-fail"]
    commands = {
        "synthesis": [*tools.find("yosys"), "-q", "-l", "yosys.log", "-s", "synth.ys"],
        "place and route": [
            *tools.find(family.placer),
            *options,
            *("--json", "netlist.json", *family.constraints, "--report", "report.json"),
            *(family.routed if bitstream else ()),
        ],
    }
    if bitstream:
        commands["bitstream"] = [*tools.find(family.packer), *family.pack]
    inputs = {
        "top.il": rtlil,
        family.constraints[1]: pins,
        "synth.ys": synthesis_script(top, board.flow),
        **(extra or {}),
    }
    versions = [tools.version(name) for name in names]
    key_parts = [str(_VERSION), *versions, *options, str(bitstream), json.dumps(inputs, sort_keys=True)]
    folder = cache.directory() / board.flow / hashlib.sha256("\0".join(key_parts).encode()).hexdigest()[:24]
    if (folder / "report.json").is_file():
        return folder

    def fill(work: Path) -> None:
        for name, text in inputs.items():
            (work / name).write_text(text, encoding="utf-8")
        for step, (name, argv) in enumerate(commands.items()):
            if progress is not None:
                progress(step, len(commands), name)
            tools.run_tool(argv, work, work / f"{name.replace(' ', '_')}.log")
        for name in ("netlist.json", family.routed[1]):  # large, and made again by the kept inputs
            (work / name).unlink(missing_ok=True)

    write_directory(folder, fill)
    return folder


def collect(folder: Path, out: Path | None = None, clock: str | None = None) -> Placed:
    """Result of a folder made by `place`, copied to `out` where given."""
    if out is not None:

        def fill(work: Path) -> None:
            for path in folder.iterdir():
                shutil.copyfile(path, work / path.name)

        write_directory(out, fill)
    where = out or folder
    figures = parse_report((where / "report.json").read_text(encoding="utf-8"), clock)
    figures["critical"] = tuple(figures["critical"])
    if (where / "stat.json").is_file():
        figures["ff"] = _flip_flops(where / "stat.json")
    made = [where / f.bitstream for f in _FAMILIES.values() if (where / f.bitstream).is_file()]
    return Placed(**figures, bitstream=made[0] if made else None, files=tuple(sorted(where.iterdir())))


def build(
    network: Network,
    board: Board | str,
    out: Path,
    *,
    options: HardwareOptions | None = None,
    frequency_mhz: float | None = None,
    baud: int | None = None,
    seed: int = 1,
    progress: Steps | None = None,
) -> Placed:
    """Bitstream of a network for an ECP5 or iCE40 board, with RTLIL, constraints, logs and the timing report in `out`.

    :param options: lanes; unless given up to `SERIAL_LANES` synapse lanes, as fit (`apical.hw.fit.largest`).
    :param frequency_mhz: clock of the design, through the PLL where it isn't the board's.
    :param baud: serial rate; the board's unless given.
    :param seed: of the placer.
    :raises FitError: the lanes don't fit; the message says which do. :raises FlowError: no such board, or the
        clock isn't reached. :raises ToolMissing, ToolFailed: a program is missing or refused the design.
    """
    from apical.hw import fit
    from apical.hw.board_top import BoardTop

    began = time.perf_counter()
    board = boards.load(board) if isinstance(board, str) else board
    if board.flow not in _FAMILIES:
        expected = " or ".join(_FAMILIES)
        raise FlowError(f"board {board.name}: expected an {expected} board for a bitstream, got flow {board.flow!r}")
    assert board.clock is not None
    if board.flow == "ice40" and frequency_mhz not in (None, board.clock.frequency_mhz):
        raise FlowError(
            f"board {board.name}: expected its own clock of {board.clock.frequency_mhz:g} MHz (the iCE40 flow uses no "
            f"PLL), got {frequency_mhz:g} MHz"
        )
    options = options or fit.largest(network, board, SERIAL_LANES)
    options = replace(options, lut_ram=board.flow != "ice40")
    fit.check(network, options, board)
    top = BoardTop(network, options, board, frequency_mhz, baud)
    pins = constraints(top.pins, {"clk": board.clock.frequency_mhz}, board.flow)
    link = {"identity": identity(network), "board": board.name, "baud": top.baud, "clock_mhz": top.frequency_mhz}
    extra = {"link.json": json.dumps(link, indent=1) + "\n"}
    folder = place(top.rtlil(), "board_top", board, pins, top.frequency_mhz, seed=seed, extra=extra, progress=progress)
    placed = replace(collect(folder, out), seconds=time.perf_counter() - began)
    if not placed.met:
        raise FlowError(
            f"board {board.name}: expected {placed.target_mhz:.1f} MHz, got {placed.fmax_mhz:.1f} MHz; ask for a "
            f"slower clock; slowest path in {out / 'report.json'}"
        )
    return placed


def fmax_of_population(
    inputs: int = 256,
    neurons: int = 64,
    *,
    synapse_lanes: int = 32,
    neuron_lanes: int = 8,
    event_lanes: int = 1,
    weight_bits: int = 8,
    board: str = "ulx3s",
    target_mhz: float = 150.0,
    seed: int = 1,
) -> Placed:
    """Frequency that one LIF population reaches in nextpnr between registers, on the board's device.

    The ULX3S carries the slowest speed grade (6).
    """
    table = boards.load(board)
    network = random_population(inputs, neurons, weight_bits)
    lanes = HardwareOptions({"h": Lanes(synapse_lanes, neuron_lanes, 1)}, {"x": event_lanes})
    harness = Harness(Accelerator(network, lanes))
    assert table.clock is not None and table.uart is not None
    pins = {"clk": table.clock.pin, "d": table.uart.receive, "q": table.uart.transmit, "rst": table.leds[0]}
    lpf = constraints(pins, {"clk": target_mhz})
    return collect(place(harness.rtlil(), "harness", table, lpf, target_mhz, seed=seed, bitstream=False))
