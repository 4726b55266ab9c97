"""The cocotb engine: the RTL in a bench of drivers and monitors that checks the stream rules while it runs.

Slower than the batch engine by far, and stricter: valid and payload stay until taken, rows and sample marks are in
place, random stalls on both ends, a reset in the middle of a sample. `apical.sim.bench_top` is its other half.
"""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
import threading
from collections.abc import Iterator
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path

import cocotb_tools.config
import numpy as np

from apical.hw import tools
from apical.hw.design import Design, HardwareOptions
from apical.hw.verilog import generate
from apical.sim.stimulus import in_stream, pack
from apical.sim.verilated import Progress, SimulationError, Stalls, _compile, _verilator_root
from apical.sw.cache import made
from apical.sw.golden import Trace, check_input, split_input
from apical.sw.network import Network

RUNTIME = ("verilated", "verilated_dpi", "verilated_threads", "verilated_vpi")


def _versions() -> tuple[str, ...]:
    return (
        tools.version("verilator"),
        tools.version("g++"),
        metadata.version("cocotb"),
        str(cocotb_tools.config.libs_dir),
    )


def _runtime() -> list[Path]:
    """Verilator's run-time library with VPI, compiled once per version of the tools."""
    include = _verilator_root() / "include"

    def make(work: Path) -> None:
        sources = [include / f"{name}.cpp" for name in RUNTIME]
        for built in _compile(sources, "-O1", [include, include / "vltstd"], work):
            built.rename(work / "keep" / built.name)

    return sorted(made("cocotb-runtime", _versions(), make).glob("*.o"))


def build(design: Design) -> Path:
    """Compile a design for cocotb, or find it in the cache.

    Only the top level's ports are visible to cocotb (the runner's own build makes every signal public, which undoes
    most of Verilator's work), and the main program is cocotb's.

    :returns: the folder that holds the program.
    :raises ToolMissing, ToolFailed: from the tools, with what to do.
    """
    top = design.manifest.top
    main = Path(cocotb_tools.config.share_dir) / "lib" / "verilator" / "verilator.cpp"

    def make(work: Path) -> None:
        tools.find("perl")
        include, libs = _verilator_root() / "include", cocotb_tools.config.libs_dir
        (work / "design.v").write_text(design.verilog)
        (work / "ports.vlt").write_text(f'`verilator_config\npublic_flat_rw -module "{top}" -var "*"\n')
        argv = [*tools.find("verilator"), "--cc", "--vpi", "--prefix", "Vtop", "--no-assert", "-Wno-fatal", "-Wno-lint"]
        argv += ["-O3", "--x-assign", "fast", "--x-initial", "fast", "--top-module", top, "--Mdir", "obj"]
        argv += ["ports.vlt", "design.v"]
        tools.run_tool(argv, work, work / "verilator.log", tools.verilator_environment())
        # One translation unit: the headers are most of the compiler's work.
        (work / "all.cpp").write_text(
            "".join(f'#include "{source}"\n' for source in [*sorted((work / "obj").glob("*.cpp")), main])
        )
        objects = _compile([work / "all.cpp"], "-O0", [work / "obj", work, include, include / "vltstd"], work)
        link = [*tools.find("g++"), "-o", f"keep/{top}", *map(str, [*objects, *_runtime()]), f"-Wl,-rpath,{libs}"]
        tools.run_tool([*link, f"-L{libs}", "-lcocotbvpi_verilator", "-lpthread"], work, work / "link.log")

    return made("cocotb", (design.verilog, main.read_text(), *_versions()), make)


def _write_job(
    folder: Path,
    design: Design,
    program: Path,
    x: np.ndarray,
    stalls: Stalls,
    burst: int,
    reset_at: int,
    sizes: dict[str, int],
) -> None:
    manifest, parts = design.manifest, split_input(design.network, x)
    arrays = {}
    for port in manifest.inputs:
        beats = pack(in_stream(parts[port.node], port.index_of), port.event_lanes, port.classes)
        for name in ("keep", "rows", "values", "last", "final"):
            arrays[f"{port.prefix}_{name}"] = getattr(beats, name)
    np.savez(folder / "stimulus.npz", **arrays)
    job = {
        "top": manifest.top,
        "build": str(program),
        "samples": x.shape[0],
        "ticks": x.shape[1],
        "stall_in": stalls.inputs,
        "stall_out": stalls.outputs,
        "burst": burst,
        "seed": stalls.seed,
        "reset_at": reset_at,
        "inputs": [{**asdict(p), "has_value": p.has_value} for p in manifest.inputs],
        "outputs": [
            {**asdict(p), "has_value": p.has_value, "index_of": p.index_of.tolist() if p.shape else None}
            for p in manifest.outputs
        ],
        "monitors": [{**asdict(p), "size": sizes[p.population]} for p in manifest.monitors],
        "counters": len(manifest.counters),
        "point": manifest.point,
    }
    (folder / "job.json").write_text(json.dumps(job))


@contextlib.contextmanager
def _telling(folder: Path, samples: int, progress: Progress | None) -> Iterator[None]:
    """Pass the simulator's progress file on while it runs."""
    if progress is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            with contextlib.suppress(OSError, ValueError):
                progress(int((folder / "progress").read_text()), samples)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def _gather(folder: Path, design: Design, x: np.ndarray) -> Trace:
    log, path = folder / "simulator.log", folder / "result.json"
    if not path.is_file():
        raise SimulationError(f"the simulator ended without a result; the end of its log:\n{tools.last_lines(log)}")
    result, manifest = json.loads(path.read_text()), design.manifest
    if result["problem"]:
        raise SimulationError(result["problem"])
    with np.load(folder / "result.npz", allow_pickle=False) as stored:
        arrays = {name: array.reshape(*x.shape[:2], -1) for name, array in stored.items()}
    states = {m.population: {s: arrays[f"{m.prefix}_{s}"] for s in m.state_formats} for m in manifest.monitors}
    return Trace(
        values={m.population: arrays[f"{m.prefix}_value"] for m in manifest.monitors},
        outputs={port.node: arrays[port.prefix] for port in manifest.outputs},
        counters=dict(zip(manifest.counters, result["counters"], strict=True)),
        states={name: s for name, s in states.items() if s},
        cycles=result["cycles"],
        seconds=result["seconds"],
        engine="cocotb",
    )


def run_design(
    design: Design,
    x: np.ndarray,
    *,
    stalls: Stalls | None = None,
    burst: int = 1,
    reset_at: int = 0,
    progress: Progress | None = None,
) -> Trace:
    """Run a generated (monitor) design in the bench; `simulate` is the usual way in.

    :param burst: cycles that a stall lasts, and that a stream runs between two decisions to stall it.
    """
    x = check_input(design.network, x)
    if reset_at < 0 or burst < 1:
        raise ValueError(f"reset_at, burst: expected at least 0 and 1 cycles, got {reset_at} and {burst}")
    program = build(design)
    sizes = {p.name: p.size for p in design.network.populations}
    with tempfile.TemporaryDirectory(prefix="apical-bench-") as base:
        folder = Path(base)
        _write_job(folder, design, program, x, stalls or Stalls(), burst, reset_at, sizes)
        argv = [sys.executable, "-m", "apical.sim.bench_top", str(folder)]
        with _telling(folder, x.shape[0], progress), contextlib.suppress(tools.ToolFailed):  # `_gather` says why
            tools.run_tool(argv, folder, folder / "simulator.log")
        trace = _gather(folder, design, x)
    if progress is not None:
        progress(x.shape[0], x.shape[0])
    return trace


def simulate(
    network: Network,
    options: HardwareOptions,
    x: np.ndarray,
    *,
    stalls: Stalls | None = None,
    reset_at: int = 0,
    states: bool = False,
    progress: Progress | None = None,
) -> Trace:
    """Run `x` on the RTL of a network in the cocotb bench, in a monitor build.

    :param x: integers, [samples, ticks, inputs].
    :param stalls: random stalls on both ends; none unless given. The same seed gives the same run.
    :param reset_at: > 0: reset the accelerator for 3 cycles at that cycle, wherever it is, then run all samples again
        from the first; the trace is the second run's.
    :param states: record every state after every tick as well.
    :param progress: called with (samples done, samples).
    :raises SimulationError: a stream rule is broken, nothing moves any more (says which stream waits), or `reset_at`
        lies beyond the run.
    """
    design = generate(network, replace(options, monitor=True, monitor_states=states))
    return run_design(design, x, stalls=stalls, reset_at=reset_at, progress=progress)
