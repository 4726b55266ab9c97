"""The driver's files as a board gets them: Python without apical beside it, C compiled and run on the RTL."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, Listener
from pathlib import Path

import numpy as np
import pytest

from apical.hw import register_text
from apical.hw.axi_system import AxiSystem
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.driver_files import driver_files
from apical.hw.register_map import AxiOptions
from apical.sim.overlay import SimulatedOverlay
from apical.sw import golden
from apical.sw.driver_main import check_sample
from apical.sw.laws import Format, LeakyIntegrator, Lif, Relu
from apical.sw.network import Input, IntArray, Network, Population, Projection
from apical.sw.pynq_driver import Accelerator

HERE = Path(__file__).parent
STRICT = ["gcc", "-std=c99", "-Wall", "-Wextra", "-Werror"]


def network() -> Network:
    """Spikes and signed values in, spikes and signed values out."""
    rng = np.random.default_rng(0)
    lif = {"decay": np.array([240]), "threshold": np.array([60]), "bias": np.array([0])}
    return Network(
        (Input("x", 9), Input("level */ \" '''", 4, Format(5))),
        (
            Population("h", 6, Lif(state_bits=12), lif),
            Population("r", 4, Relu(value_bits=6, shift=2), {"bias": np.array([7])}),
            Population("o", 5, LeakyIntegrator(state_bits=16), {"decay": np.array([250]), "bias": np.array([0])}),
        ),
        (
            Projection("p", "x", "h", rng.integers(-40, 80, (6, 9))),
            Projection("q", "h", "o", rng.integers(-128, 128, (5, 6))),
            Projection("s", "level */ \" '''", "r", rng.integers(-20, 40, (4, 4))),
        ),
        ("o", "h", "r"),
        "sum",
    )


LANES = HardwareOptions({"h": Lanes(6, 2, 2), "r": Lanes(4, 1), "o": Lanes(3, 1)}, {"x": 2})
AXI = AxiOptions(writable=True)


@dataclass
class Design:
    """A folder as `apical synth` writes it, its driver part."""

    folder: Path
    system: AxiSystem


def write(folder: Path, system: AxiSystem) -> Path:
    files = driver_files(system.network, system.options, system.axi)
    files |= {"driver/apical_registers.h": register_text.as_header(system.map)}
    files |= {"driver/registers.json": register_text.as_json(system.map)}
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "driver"


@pytest.fixture(scope="module")
def design(tmp_path_factory: pytest.TempPathFactory) -> Design:
    system = AxiSystem(network(), LANES, AXI)
    return Design(write(tmp_path_factory.mktemp("design"), system), system)


@pytest.fixture(scope="module")
def overlay(design: Design) -> Iterator[SimulatedOverlay]:
    with SimulatedOverlay(design.system, stalls=0.2, fast_build=True) as o:
        yield o


def compiled(folder: Path, out: Path, *more: str) -> list[str]:
    sources = [str(folder / name) for name in ("apical_driver.c", "apical_axi_dma.c", "main.c")]
    return [
        *STRICT,
        "-DAPICAL_EXTERNAL_ACCESS",
        "-DAPICAL_PATIENCE=1000ul",
        "-I",
        str(folder),
        *more,
        *sources,
        "-o",
        str(out),
    ]


def run_c(folder: Path, out: Path, simulator: Path) -> subprocess.CompletedProcess[str]:
    """The host build of the example, its accesses served by the simulator."""
    subprocess.run(compiled(folder, out, str(HERE / "overlay_shim.c")), check=True)
    environment = {**os.environ, "SIMULATOR": str(simulator)}
    return subprocess.run([str(out)], env=environment, capture_output=True, text=True, timeout=300)


def test_the_c_files_compile_freestanding_without_a_warning(design: Design, tmp_path: Path) -> None:
    for name in ("apical_driver", "apical_axi_dma", "main"):
        argv = [*STRICT, "-O2", "-ffreestanding", "-c", str(design.folder / f"{name}.c"), "-o", str(tmp_path / "o")]
        subprocess.run(argv, check=True)
        undefined = subprocess.run(["nm", "-u", str(tmp_path / "o")], capture_output=True, text=True, check=True)
        assert all(re.search(r" (apical_\w+|mem\w+|_\w+)$", line) for line in undefined.stdout.splitlines())


def test_the_c_example_equals_golden_on_the_rtl(overlay: SimulatedOverlay, design: Design, tmp_path: Path) -> None:
    ran = run_c(design.folder, tmp_path / "example", overlay.program)
    expected = golden.run(network(), sample(design.folder))
    events = sum(int((values != 0).sum()) for values in expected.outputs.values())
    assert events > 10 and min(v.min() for v in expected.outputs.values()) < 0
    counters = len(network().counter_names)
    assert (ran.returncode, ran.stdout) == (0, f"equal: {events} events, {counters} counters\n"), ran.stderr


def sample(folder: Path) -> IntArray:
    return np.array([json.loads((folder / "sample.json").read_text())["x"]])


def test_the_c_example_tells_differences_and_other_designs(
    overlay: SimulatedOverlay, design: Design, tmp_path: Path
) -> None:

    def changed(file: str, pattern: str, by: str) -> Path:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        shutil.copytree(design.folder, folder)
        text, count = re.subn(pattern, by, (folder / file).read_text(), count=1)
        assert count == 1
        (folder / file).write_text(text)
        return folder

    def outcome(folder: Path) -> tuple[int, str]:
        ran = run_c(folder, tmp_path / "example", overlay.program)
        return ran.returncode, ran.stdout

    value = changed("apical_design.h", r"\{0, 0, (\d+), (-?\d+)\}", r"{0, 0, \1, 99999}")
    assert outcome(value) == (100, "2 differences from golden\n")
    counter = changed("apical_design.h", r"(counters\[\] = \{\s+)", r"\g<1>7, ")
    assert outcome(counter)[0] == 100
    other = changed("apical_registers.h", r"IDENTITY 0x....", "IDENTITY 0x1234")
    assert outcome(other) == (3, "failed: outcome 3 of apical_driver.h\n")
    map_hash = changed("apical_registers.h", r"MAP_HASH 0x....", "MAP_HASH 0x1234")
    assert outcome(map_hash) == (4, "failed: outcome 4 of apical_driver.h\n")
    index = changed("apical_design.h", r"(words\[\] \S+ = \{\s+)0x\w+", r"\g<1>0x1")
    assert outcome(index) == (7, "failed: outcome 7 of apical_driver.h\n")


@pytest.mark.heavy
@pytest.mark.parametrize("data_bits", [32, 128, 512])
def test_words_of_every_width_in_python_and_c(data_bits: int, tmp_path: Path) -> None:
    system = AxiSystem(network(), LANES, AxiOptions(data_bits=data_bits))
    folder = write(tmp_path / "design", system)
    with SimulatedOverlay(system, stalls=0.2, fast_build=True) as simulated:
        board = Accelerator(simulated, folder / "registers.json", allocate=simulated.allocate)
        assert check_sample(board, folder / "sample.json") == []
        ran = run_c(folder, tmp_path / "example", simulated.program)
    assert ran.returncode == 0 and ran.stdout.startswith("equal: "), ran.stderr


BOARD = '''
"""Stands in for pynq: every call goes to the test's process, where the simulated overlay answers."""
import os, sys
from multiprocessing.connection import Client
import numpy

for forbidden in ("apical.hw", "apical.sim", "torch", "amaranth", "scipy", "yaml", "pydantic"):
    sys.modules[forbidden] = None
line = Client(os.environ["LINE"], "AF_UNIX")

def ask(*words):
    line.send(words)
    kind, value = line.recv()
    if kind == "error":
        raise RuntimeError(value)
    return value

def allocate(shape, dtype=numpy.uint32):
    return numpy.full(shape, 0xA5, dtype)

class Far:
    def __init__(self, path):
        self.__dict__["_path"] = path
        self.__dict__["_buffer"] = None
    def read(self, offset=0):
        return ask(self._path, "read", offset)
    def write(self, offset, value):
        return ask(self._path, "write", offset, value)
    def start(self):
        return ask(self._path, "start")
    def transfer(self, array):
        self.__dict__["_buffer"] = array
        return ask(self._path, "transfer", array)
    def wait(self):
        ask(self._path, "wait")
        if self._path.endswith("recvchannel"):
            self._buffer[:] = ask(self._path, "received")
    def __getattr__(self, name):
        return ask(self._path, name)

class Overlay:
    def __init__(self, bitfile):
        import apical.sw
        assert bitfile.endswith("system.bit") and "driver/python" in apical.sw.__file__
        self.accelerator, self.dma = Far("accelerator"), Far("dma")
        self.dma.__dict__["sendchannel"] = Far("dma.sendchannel")
        self.dma.__dict__["recvchannel"] = Far("dma.recvchannel")
'''


def serve(overlay: SimulatedOverlay, line: Connection) -> None:
    """Answers the far calls with the simulated overlay's own, until the other side is gone."""
    buffers: dict[str, IntArray] = {}
    while True:
        try:
            path, name, *arguments = line.recv()
        except (EOFError, OSError):
            return
        what = overlay
        for part in path.split("."):
            what = getattr(what, part)
        try:
            if name == "transfer":
                buffers[path] = arguments[0].copy()
                answer = what.transfer(buffers[path])  # type: ignore[attr-defined]
            elif name == "received":
                answer = buffers[path]
            else:
                answer = getattr(what, name)
                answer = answer(*arguments) if callable(answer) else answer
            line.send(("ok", answer))
        except Exception as error:
            line.send(("error", str(error)))


def on_the_board(overlay: SimulatedOverlay, design: Design, tmp_path: Path, *words: str) -> tuple[int, str, str]:
    """The driver's main program in a process that has numpy and a pynq, and can't import apical."""
    (tmp_path / "pynq.py").write_text(BOARD)
    with Listener(str(tmp_path / "line"), "AF_UNIX") as listener:
        process = subprocess.Popen(
            [sys.executable, "-m", "apical.sw.driver_main", "system.bit", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={
                "LINE": str(tmp_path / "line"),
                "PYTHONPATH": f"{design.folder}/python:{tmp_path}",
                "PATH": os.environ["PATH"],
            },
        )
        thread = threading.Thread(target=lambda: serve(overlay, listener.accept()), daemon=True)
        thread.start()
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_the_python_files_run_without_apical(overlay: SimulatedOverlay, design: Design, tmp_path: Path) -> None:
    x = sample(design.folder)
    np.savez(tmp_path / "input.npz", x=np.concatenate([x, x[:, ::-1]]))
    status, out, err = on_the_board(overlay, design, tmp_path, "--input", str(tmp_path / "input.npz"))
    classes = golden.decode(network(), golden.run(network(), np.concatenate([x, x[:, ::-1]])))
    assert classes is not None
    equal = "equal: the design's own sample, every output, every counter"
    assert (status, out.splitlines(), err) == (0, [equal, f"classes: {classes[0]} {classes[1]}"], "")


def test_the_python_files_tell_a_difference(overlay: SimulatedOverlay, design: Design, tmp_path: Path) -> None:
    folder = tmp_path / "other"
    shutil.copytree(design.folder, folder)
    plain = json.loads((folder / "sample.json").read_text())
    plain["outputs"]["o"][1][2] += 1
    (folder / "sample.json").write_text(json.dumps(plain))
    status, out, _ = on_the_board(overlay, design, tmp_path, "--folder", str(folder))
    assert status == 1 and out.startswith("output 'o': 1 values; first: sample 0, tick 1, neuron 2: expected")
    plain = json.loads((folder / "registers.json").read_text())
    plain["version"] = 2
    (folder / "registers.json").write_text(json.dumps(plain))
    status, out, err = on_the_board(overlay, design, tmp_path / "..", "--folder", str(folder))
    assert (status, out) == (1, "") and err.endswith("registers.json: expected version 1, got 2\n")


def test_the_files_are_the_same_each_time(design: Design) -> None:
    assert driver_files(network(), LANES, AXI) == driver_files(network(), LANES, AXI)
    text = (design.folder / "apical_design.h").read_text()
    assert "level" not in text and '*/ "' not in text
