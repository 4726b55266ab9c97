"""FuseSoC's core file and edalize's file list: read by the real tools, and Verilator's lint run through them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from apical.hw import boards, core_file, tools, vivado

INTERFACE = vivado.Interface("1234abcd1234abcd")
RTL = """module apical_axi(input aclk, input aresetn, output reg [7:0] n);
  always @(posedge aclk) n <= aresetn ? n + 8'd1 : 8'd0;
endmodule
"""


def folder_with_core(folder: Path, rtl: str = RTL) -> Path:
    board = boards.load("kv260")
    vivado.write(folder, vivado.scripts(board, INTERFACE))
    texts = {core_file.CORE: core_file.core(board, INTERFACE), core_file.EDAM: core_file.edam(board, INTERFACE)}
    vivado.write(folder, {"rtl/apical_axi.v": rtl, **texts})
    return folder


def environment(home: Path) -> Mapping[str, str]:
    """Verilator on PATH; nothing written outside `home`."""
    where = Path(tools.find("verilator")[0]).parent
    own = {"HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home), "XDG_DATA_HOME": str(home)}
    return {**os.environ, **own, **tools.verilator_environment(), "PATH": f"{where}{os.pathsep}{os.environ['PATH']}"}


def fusesoc(folder: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    pytest.importorskip("fusesoc")
    home.mkdir(exist_ok=True)
    (home / "fusesoc.conf").write_text("[main]\n")
    argv = [sys.executable, "-m", "fusesoc.main", "--config", str(home / "fusesoc.conf"), "--cores-root", str(folder)]
    return subprocess.run(
        [*argv, *words], capture_output=True, text=True, check=False, cwd=home, env=environment(home), timeout=120
    )


def test_every_file_that_the_core_names_is_there(tmp_path: Path) -> None:
    folder = folder_with_core(tmp_path)
    text = (folder / core_file.CORE).read_text(encoding="utf-8")
    assert text.startswith("CAPI=2:\n")
    core = yaml.safe_load(text.split("\n", 1)[1])
    listed = [name for group in core["filesets"].values() for name in group["files"]]
    assert listed and all((folder / name).is_file() for name in listed)
    edam = yaml.safe_load((folder / core_file.EDAM).read_text(encoding="utf-8"))
    assert [f["name"] for f in edam["files"]] == listed
    assert edam["flow_options"]["part"] == "xck26-sfvc784-2LV-c"


def test_fusesoc_reads_the_core(tmp_path: Path) -> None:
    done = fusesoc(folder_with_core(tmp_path / "ip"), tmp_path / "home", "core-info", "apical:user:apical_axi")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lint" in done.stdout and "synth" in done.stdout


def test_fusesoc_runs_verilator_s_lint(tmp_path: Path) -> None:
    folder, home = folder_with_core(tmp_path / "ip"), tmp_path / "home"
    done = fusesoc(folder, home, "run", "--target", "lint", "apical:user:apical_axi")
    assert done.returncode == 0, done.stdout + done.stderr
    (folder / "rtl" / "apical_axi.v").write_text(RTL.replace("aresetn ?", "nowhere ?"))
    done = fusesoc(folder, home, "run", "--clean", "--target", "lint", "apical:user:apical_axi")
    assert done.returncode != 0 and "nowhere" in done.stdout + done.stderr


def test_edalize_makes_a_vivado_flow_of_the_file_list(tmp_path: Path) -> None:
    flow = pytest.importorskip("edalize.flows.vivado")
    folder = folder_with_core(tmp_path)
    edam = yaml.safe_load((folder / core_file.EDAM).read_text(encoding="utf-8"))
    made = flow.Vivado(edam, str(folder))
    made.configure()
    text = "".join(p.read_text(encoding="utf-8") for p in folder.glob("*.tcl"))
    assert "rtl/apical_axi.v" in text and "constraints/apical_axi_ooc.xdc" in text and "xck26-sfvc784-2LV-c" in text
