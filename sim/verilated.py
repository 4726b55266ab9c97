"""The compiled batch engine: Verilator C++, whole data sets on the RTL, samples sharded over processes.

`batch.cpp` is the main program; this module generates the header that knows a design's ports, builds (cached by content
hash), writes stimulus, runs the shards and gathers one `Trace`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType

import numpy as np

from apical.hw import tools
from apical.hw.design import Design, HardwareOptions
from apical.sim.model_header import model_header
from apical.sim.stimulus import Beats, in_stream, pack
from apical.sw.bundle import write_file
from apical.sw.cache import made
from apical.sw.golden import Trace, check_input, split_input
from apical.sw.network import Network

MAIN = Path(__file__).with_name("batch.cpp")
Progress = Callable[[int, int], None]


class SimulationError(RuntimeError):
    """The RTL broke the protocol or stopped; the message says where."""


@dataclass(frozen=True)
class Stalls:
    """Random stalls: probability per cycle that an input isn't offered or an output isn't taken."""

    inputs: float = 0.0
    outputs: float = 0.0
    seed: int = 0


def _verilator_root() -> Path:
    """Folder of Verilator's own C++ sources."""
    given = tools.verilator_environment().get("VERILATOR_ROOT")
    if given:
        return Path(given)
    argv = [*tools.find("verilator"), "--getenv", "VERILATOR_ROOT"]
    return Path(subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip())


@dataclass(frozen=True)
class Saif:
    """Where the switching activity of a run goes, and at which clock it is written down."""

    file: Path
    clock_mhz: float

    @property
    def half_period_ps(self) -> int:
        """Picoseconds between two edges."""
        return round(5e5 / self.clock_mhz)


def _compile(sources: list[Path], optimize: str, include: list[Path], work: Path, traced: bool = False) -> list[Path]:
    """Objects of C++ sources, two at a time; what runs once (Verilator's ``__Slow`` files) isn't optimized.

    :raises ToolMissing, ToolFailed: no compiler, or its errors.
    """
    flags = ["-std=c++17", "-faligned-new", "-w", "-DVERILATOR=1", "-DVM_COVERAGE=0", "-DVM_SC=0"]
    flags += [f"-DVM_TRACE={traced:d}", f"-DVM_TRACE_SAIF={traced:d}"]
    flags += ["-DVM_TIMING=0", "-DVM_TRACE_FST=0", "-DVM_TRACE_VCD=0"]
    paths = [f"-I{folder}" for folder in include]
    compiler = tools.find("g++")

    def one(source: Path) -> Path:
        out = work / f"{source.stem}.o"
        level = "-O0" if source.stem.endswith("__Slow") else optimize
        argv = [*compiler, *flags, level, *paths, "-c", str(source), "-o", str(out)]
        tools.run_tool(argv, work, work / f"{source.stem}.log")
        return out

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(one, sorted(sources, key=lambda s: -s.stat().st_size)))


def _runtime(traced: bool = False) -> list[Path]:
    """Verilator's own run-time library, compiled once per version of the tools."""
    root = _verilator_root()
    include = root / "include"

    def make(work: Path) -> None:
        names = ("verilated", "verilated_threads", *(("verilated_saif_c",) if traced else ()))
        sources = [include / f"{name}.cpp" for name in names]
        for built in _compile(sources, "-O2", [include, include / "vltstd"], work, traced):
            built.rename(work / "keep" / built.name)

    versions = (tools.version("verilator"), tools.version("g++"), *(("saif",) if traced else ()))
    return sorted(made("verilator-runtime", versions, make).glob("*.o"))


def build(design: Design, *, fast_build: bool = False, main: Path = MAIN, half_period_ps: int = 0) -> Path:
    """Compile a design's simulator, or find it in the cache.

    :param main: its main program.
    :param fast_build: compile quickly for few samples (tests) rather than for speed.
    :param half_period_ps: above 0: it writes its switching activity at such a clock.
    :returns: the program.
    :raises ToolMissing, ToolFailed: from the tools, with what to do.
    """
    header, top = model_header(design.manifest, half_period_ps), design.manifest.top

    def make(work: Path) -> None:
        tools.find("perl")
        runtime, include = _runtime(half_period_ps > 0), _verilator_root() / "include"
        (work / "design.v").write_text(design.verilog)
        (work / "model.h").write_text(header)
        shutil.copy(main, work / main.name)
        argv = [*tools.find("verilator"), "--cc", "--no-assert", "-Wno-fatal", "-Wno-lint", "-O3", "--x-assign", "fast"]
        argv += ["--x-initial", "fast", "--output-split", "30000", "--top-module", top, "--Mdir", "obj"]
        if half_period_ps:  # memories' contents are no nets
            argv += ["--trace-saif", "--trace-max-array", "1", "--timescale-override", "1ps/1ps"]
        argv += ["-Werror-USERERROR", "design.v"]  # $error at elaboration: a cell's model refuses a parameter
        tools.run_tool(argv, work, work / "verilator.log", tools.verilator_environment())
        sources = [*(work / "obj").glob("*.cpp"), work / main.name]
        if fast_build:  # one translation unit: the headers are most of the compiler's work on a small model
            (work / "all.cpp").write_text("".join(f'#include "{s}"\n' for s in sorted(sources)))
            sources = [work / "all.cpp"]
        paths = [work / "obj", work, include, include / "vltstd"]
        objects = _compile(sources, "-O0" if fast_build else "-O2", paths, work, half_period_ps > 0)
        program = work / "keep" / "simulate"
        link = [*tools.find("g++"), "-o", str(program), *map(str, [*objects, *runtime]), "-lpthread"]
        tools.run_tool(link, work, work / "link.log")

    parts = (design.verilog, header, main.read_text(), tools.version("verilator"), tools.version("g++"))
    return made("verilated", (*parts, str(fast_build)), make) / "simulate"


def _write_beats(path: Path, beats: Beats) -> None:
    weights = 1 << np.arange(beats.event_lanes, dtype=np.uint32)
    flags = (beats.keep.astype(np.uint32) * weights).sum(axis=1, dtype=np.uint32)
    flags |= beats.last.astype(np.uint32) << np.uint32(30)
    flags |= beats.final.astype(np.uint32) << np.uint32(31)
    words = np.empty((len(beats), 1 + 2 * beats.event_lanes), np.int32)
    words[:, 0] = flags.view(np.int32)
    words[:, 1 : 1 + beats.event_lanes] = beats.rows
    words[:, 1 + beats.event_lanes :] = beats.values
    with path.open("wb") as stream:
        stream.write(np.uint32(len(beats)).tobytes())
        words.tofile(stream)


@contextlib.contextmanager
def _interrupts_wait() -> Iterator[None]:
    """Ctrl-C acts after the block rather than in its middle (in the main thread, the only one that gets it)."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    waiting: list[tuple[int, FrameType | None]] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: waiting.append((number, frame)))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if waiting and callable(before):
        before(*waiting[0])


class _Shard:
    """One process on a slice of the samples, in a folder of its own; it adds itself to `started` once it runs."""

    def __init__(
        self,
        started: list[_Shard],
        program: Path,
        design: Design,
        x: np.ndarray,
        folder: Path,
        stalls: Stalls,
        reset_at: int,
        bare: int = 0,
        *,
        endless: bool = False,
        gap: int = -1,
    ) -> None:
        self.design, self.x, self.folder, self.done, self.said = design, x, folder, 0, ""
        parts = split_input(design.network, x)
        for i, port in enumerate(design.manifest.inputs):
            beats = pack(in_stream(parts[port.node], port.index_of), port.event_lanes, port.classes, endless=endless)
            _write_beats(folder / f"in{i}.bin", beats)
        numbers = (x.shape[0], x.shape[1], round(stalls.inputs * 65536), round(stalls.outputs * 65536), stalls.seed)
        argv = [str(program.resolve()), str(folder), *(str(n) for n in (*numbers, reset_at, bare, int(endless), gap))]
        with _interrupts_wait():  # an interrupt in here would leave a process that nobody knows
            self.process = subprocess.Popen(
                argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True, cwd=folder
            )
            self.reader = threading.Thread(target=self._read, daemon=True)
            self.reader.start()
            started.append(self)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.strip().isdigit():
                self.done = int(line)
            else:
                self.said += line

    def end(self) -> None:
        """Kill what still runs."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()
        for stream in (self.process.stdout, self.process.stderr):
            if stream is not None:
                stream.close()

    def figures(self) -> tuple[dict[str, float], dict[int, int]]:
        """Figures and counters of a finished run.

        :raises SimulationError: the RTL stopped, broke the protocol, or the program failed.
        """
        path = self.folder / "result.txt"
        if self.process.returncode or not path.is_file():
            assert self.process.stderr is not None
            said = " ".join((self.said + self.process.stderr.read()).split())
            raise SimulationError(f"the simulator ended with status {self.process.returncode}: {said or 'no message'}")
        figures, counters = {}, {}
        for line in path.read_text().splitlines():
            key, _, rest = line.partition(" ")
            if key == "problem":
                raise SimulationError(rest)
            if key == "counter":
                index, value = rest.split()
                counters[int(index)] = int(value)
            else:
                figures[key] = float(rest)
        return figures, counters

    def array(self, file: str, size: int) -> np.ndarray:
        """A recorded array, [samples, ticks, size]."""
        return np.fromfile(self.folder / file, np.int32).reshape(self.x.shape[0], self.x.shape[1], size)


@contextlib.contextmanager
def _folders(count: int) -> Iterator[list[Path]]:
    with tempfile.TemporaryDirectory(prefix="apical-") as base:
        folders = [Path(base) / str(i) for i in range(count)]
        for folder in folders:
            folder.mkdir()
        yield folders


def _wait(shards: list[_Shard], samples: int, progress: Progress | None) -> None:
    while any(s.process.poll() is None for s in shards):
        for s in shards:
            with contextlib.suppress(subprocess.TimeoutExpired):
                s.process.wait(0.1)
        if progress is not None:
            progress(min(sum(s.done for s in shards), samples), samples)
    for s in shards:
        s.reader.join()
    if progress is not None and not any(s.process.returncode for s in shards):
        progress(samples, samples)


def _gather(design: Design, shards: list[_Shard]) -> Trace:
    manifest, network = design.manifest, design.network
    runs = [s.figures() for s in shards]
    counters = {name: sum(c[i] for _, c in runs) for i, name in enumerate(manifest.counters)}
    sizes = {p.name: p.size for p in network.populations}

    def join(file: str, size: int) -> np.ndarray:
        return np.concatenate([s.array(file, size) for s in shards])

    outputs = {port.node: join(f"out{o}.bin", port.size) for o, port in enumerate(manifest.outputs)}
    values, states = {}, {}
    for p, mon in enumerate(manifest.monitors):
        values[mon.population] = join(f"mon{p}.bin", sizes[mon.population])
        states[mon.population] = {
            name: join(f"mon{p}_{k}.bin", sizes[mon.population]) for k, name in enumerate(mon.state_formats)
        }
    return Trace(
        values,
        outputs,
        counters,
        {name: s for name, s in states.items() if s},
        cycles=int(sum(f["cycles"] for f, _ in runs)),
        seconds=max(f["seconds"] for f, _ in runs),
        engine="verilated",
    )


def run_design(
    design: Design,
    x: np.ndarray,
    *,
    workers: int = 2,
    stalls: Stalls | None = None,
    reset_at: int = 0,
    fast_build: bool = False,
    saif: Saif | None = None,
    progress: Progress | None = None,
) -> Trace:
    """Run a generated (monitor) design; `simulate` is the usual way in.

    :param reset_at: > 0: reset the accelerator at that cycle, wherever it is, then run all samples again.
    :param saif: write the switching activity of everything there; in one process.
    :raises SimulationError: see `SimulationError`.
    """
    x = check_input(design.network, x)
    program = build(design, fast_build=fast_build, half_period_ps=saif.half_period_ps if saif else 0)
    workers = max(1, min(workers, x.shape[0])) if saif is None else 1
    bounds = [x.shape[0] * w // workers for w in range(workers + 1)]
    with _folders(workers) as folders:
        shards: list[_Shard] = []
        try:
            for w, folder in enumerate(folders):
                part = x[bounds[w] : bounds[w + 1]]
                _Shard(shards, program, design, part, folder, stalls or Stalls(), reset_at)
            _wait(shards, x.shape[0], progress)
            trace = _gather(design, shards)
            if saif is not None:
                write_file(saif.file, (folders[0] / "activity.saif").read_bytes())
            return trace
        finally:
            for shard in shards:
                shard.end()


def simulate(
    network: Network,
    options: HardwareOptions,
    x: np.ndarray,
    *,
    workers: int = 2,
    states: bool = False,
    stalls: Stalls | None = None,
    fast_build: bool = False,
    reuse: bool = False,
    progress: Progress | None = None,
) -> Trace:
    """Run `x` on the RTL of a network, in a monitor build.

    :param x: integers, [samples, ticks, inputs].
    :param workers: processes; samples are split among them, each starts from reset.
    :param states: record every state after every tick as well.
    :param stalls: random stalls on both ends.
    :param reuse: take the generated Verilog from the cache where it is there (`apical.hw.stored_design`).
    :param progress: called with (samples done, samples).
    :raises SimulationError: the RTL stopped or broke the protocol.
    """
    options = replace(options, monitor=True, monitor_states=states)
    if reuse:
        from apical.hw.stored_design import design_of as make
    else:
        from apical.hw.verilog import generate as make
    design = make(network, options)
    return run_design(design, x, workers=workers, stalls=stalls, fast_build=fast_build, progress=progress)


def bare_cycles_per_second(design: Design, cycles: int = 200_000) -> float:
    """Speed of the same compiled model in a loop with constant inputs and no recording, for comparison."""
    program = build(design)
    x = np.zeros((1, 1, design.network.input_size), np.int64)
    with _folders(1) as folders:
        shards: list[_Shard] = []
        try:
            _Shard(shards, program, design, x, folders[0], Stalls(), 0, bare=cycles)
            _wait(shards, 1, None)
            figures, _ = shards[0].figures()
        finally:
            for shard in shards:
                shard.end()
    return figures["cycles"] / figures["seconds"]
