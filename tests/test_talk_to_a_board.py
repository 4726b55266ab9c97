"""The how-to "talk to a board" is true: its Python runs on the RTL, its C command compiles."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from apical.hw import register_text
from apical.hw.axi_system import AxiSystem
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.driver_files import driver_files
from apical.hw.register_map import AxiOptions
from apical.sim import overlay, serial_board
from apical.sim.overlay import SimulatedOverlay
from apical.sw import bundle
from apical.sw.network import Network

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "talk-to-a-board.md").read_text(encoding="utf-8")


def test_the_page_runs(
    lif: Network, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for module in (overlay, serial_board):  # as the page has it, but quick to compile
        monkeypatch.setattr(module, "build", quick(module.build))
    bundle.save(lif, tmp_path / "my-bundle")
    lanes = HardwareOptions({p.name: Lanes(4, 1) for p in lif.populations})
    system = AxiSystem(lif, lanes, AxiOptions(writable=True))
    for name, text in driver_files(lif, lanes, system.axi).items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    (tmp_path / "driver/registers.json").write_text(register_text.as_json(system.map))
    (tmp_path / "driver/apical_registers.h").write_text(register_text.as_header(system.map))
    python = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(python) == 3
    with SimulatedOverlay(system, stalls=0.1) as loaded:
        pynq = ModuleType("pynq")
        vars(pynq).update(Overlay=lambda name: loaded if name == "system.bit" else None, allocate=loaded.allocate)
        monkeypatch.setitem(sys.modules, "pynq", pynq)
        known: dict[str, Any] = {}
        for block in python:
            exec(compile(block, "page", "exec"), known)
    out = capsys.readouterr().out.splitlines()
    assert out[0].startswith("(8, 4, 3) {") and out[1].startswith("() ('SAMPLE',) {")
    assert "[]" in out and out[-1] == "equal: 8 of 8 samples, every output, every counter"
    (command,) = re.findall(r"^    aarch64-none-elf-(gcc .*)$", PAGE, re.MULTILINE)
    subprocess.run([*shlex.split(command), "-Wall", "-Wextra", "-Werror"], check=True)
    assert json.loads((tmp_path / "driver/sample.json").read_text())["decoder"] == "sum"


def quick(build: Callable[..., Path]) -> Callable[..., Path]:
    return lambda design, **options: build(design, **{**options, "fast_build": True})
