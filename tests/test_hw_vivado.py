"""Vivado's scripts: the stored text, and what a real Tcl interpreter that knows Vivado's commands says of them."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import util
from pathlib import Path

import pytest

from apical.hw import boards, vivado
from apical.hw.boards import Board

HERE = Path(__file__).parent
INTERFACE = vivado.Interface("1234abcd1234abcd")
BOARDS = [name for name in boards.names() if boards.load(name).flow == "xcup"]
STEPS = ("package_ip", "project", "non_project", "out_of_context")
needs_tcl = pytest.mark.skipif(
    shutil.which("tclsh") is None and util.find_spec("_tkinter") is None,
    reason="no Tcl interpreter (tclsh, or Python's tkinter) to execute the scripts with",
)


def project(folder: Path, board: Board) -> Path:
    vivado.write(folder, vivado.scripts(board, INTERFACE))
    vivado.write(folder, {"rtl/apical_axi.v": "module apical_axi; endmodule\n"})
    return folder


def run(script: Path, **environment: str) -> tuple[int, str]:
    """The stand-in's status and what it printed."""
    fake = HERE / "fake_tools" / "vivado"
    done = subprocess.run(
        ["python3", str(fake), "-mode", "batch", "-nojournal", "-source", str(script)],
        capture_output=True,
        text=True,
        check=False,
        cwd=script.parent,
        env=os.environ | environment,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("name", ["kv260", "vcu118"])
def test_scripts_are_the_stored_ones(name: str) -> None:
    """With a processing system, and without."""
    stored = HERE / "expected" / f"vivado_{name}"
    found = vivado.scripts(boards.load(name), INTERFACE)
    assert set(found) == {p.relative_to(stored).as_posix() for p in stored.rglob("*") if p.is_file()}
    for file, text in found.items():
        assert text == (stored / file).read_text(encoding="utf-8"), file


@needs_tcl
@pytest.mark.parametrize("name", BOARDS)
def test_every_script_runs_in_the_stand_in(name: str, tmp_path: Path) -> None:
    folder = project(tmp_path, boards.load(name))
    for step in STEPS:
        status, said = run(folder / "vivado" / f"{step}.tcl")
        assert status == 0, f"{step}: {said}"
        assert "ERROR" not in said
    assert (folder / "ip" / "apical_axi" / "component.xml").is_file()
    assert {"apical_axi.dcp", "system.dcp", "apical_axi.bit"} <= {p.name for p in (folder / "vivado").iterdir()}
    assert {*vivado.REPORTS, "utilization_hierarchical.rpt"} == {
        p.name for p in (folder / "vivado" / "reports").iterdir()
    }


@needs_tcl
@pytest.mark.parametrize(
    ("file", "right", "wrong", "message"),
    [
        ("package_ip.tcl", "update_compile_order", "update_compile_ordr", 'invalid command name "update_compile_ordr"'),
        ("package_ip.tcl", "-taxonomy", "-taxonmy", "ipx::package_project: unknown option -taxonmy"),
        ("package_ip.tcl", "set_property top", "set_property tpo", "set_property: unknown property tpo"),
        ("package_ip.tcl", "apical_axi.v]", "apical_axy.v]", "add_files: no such file"),
        ("package_ip.tcl", "aresetn reset", "aresetn rest", "no such definition: xilinx.com:signal:rest_rtl:1.0"),
        ("package_ip.tcl", "-clock aclk -reset aresetn", "-clock aclk -reset arst", "no bus interface arst"),
        ("out_of_context.tcl", "-flatten_hierarchy", "-flatten_hierachy", "synth_design: unknown option"),
        (
            "out_of_context.tcl",
            "hierarchy rebuilt",
            "hierarchy rebuild",
            "synth_design: -flatten_hierarchy: expected one of rebuilt",
        ),
        ("out_of_context.tcl", "place_design\n", "", "phys_opt_design: expected a design after place"),
        ("out_of_context.tcl", "-part xck26-sfvc784-2LV-c\nread", "-part xck26\nread", "create_project: unknown part"),
        ("project.tcl", "launch_runs impl_1 -to_step", "launch_runs impl_1 -to", "launch_runs: unknown option -to"),
        ("system.tcl", "ps/pl_clk0", "ps/pl_clock0", "zynq_ultra_ps_e has no pin pl_clock0"),
        ("system.tcl", "CONFIG.NUM_CLKS", "CONFIG.NUM_CLOCKS", "smartconnect has no parameter NUM_CLOCKS"),
        ("system.tcl", "dma/M_AXIS_MM2S", "dma/M_AXI_STREAM", "axi_dma has no interface M_AXI_STREAM"),
        ("system.tcl", "dma/M_AXIS_MM2S", "dma/M_AXI_MM2S", "dma/M_AXI_MM2S is connected twice"),
        ("system.tcl", "[get_bd_pins dma/axi_resetn]", "", "validate_bd_design: dma/axi_resetn isn't connected"),
        ("system.tcl", "-offset 0xA0010000", "-offset 0xA0000000", " overlaps"),
        ("system.tcl", "-offset 0xA0010000", "-offset 0xA0011000", "isn't a multiple of 64K"),
        ("system.tcl", "axi_dma:7.1 dma", "axi_dmaa:7.1 dma", "no such IP"),
        ("system.tcl", "set_property -dict [list \\\n    CONFIG.c_inc", "set_property -dict {\\\n    CONFIG.c_inc", ""),
    ],
)
def test_a_mistake_in_a_script_is_caught(file: str, right: str, wrong: str, message: str, tmp_path: Path) -> None:
    folder = project(tmp_path, boards.load("kv260"))
    path = folder / "vivado" / file
    text = path.read_text(encoding="utf-8")
    assert right in text
    path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    start = "project.tcl" if file == "system.tcl" else file
    if start == "project.tcl":
        run(folder / "vivado" / "package_ip.tcl")
    status, said = run(folder / "vivado" / start)
    assert status == 1 and message in said


@needs_tcl
@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("create_clock -name", "create_clok -name", "invalid command name"),
        ("-clock aclk", "-clk aclk", "set_input_delay: unknown option -clk"),
        ("DIRECTION == IN", "DIRECTON == IN", "get_ports: -filter: unknown property DIRECTON"),
    ],
)
def test_a_mistake_in_the_constraints_is_caught(right: str, wrong: str, message: str, tmp_path: Path) -> None:
    folder = project(tmp_path, boards.load("kv260"))
    path = folder / "constraints" / "apical_axi_ooc.xdc"
    path.write_text(path.read_text(encoding="utf-8").replace(right, wrong, 1), encoding="utf-8")
    status, said = run(folder / "vivado" / "out_of_context.tcl")
    assert status == 1 and message in said


@needs_tcl
def test_the_ip_must_be_packed_before_the_system_is_built(tmp_path: Path) -> None:
    folder = project(tmp_path, boards.load("kv260"))
    (folder / "ip").mkdir()
    status, said = run(folder / "vivado" / "project.tcl")
    assert status == 1 and "create_bd_cell: apical_axi isn't in the catalog" in said


@needs_tcl
def test_without_board_files_the_system_is_built_and_says_what_is_missing(tmp_path: Path) -> None:
    folder = project(tmp_path, boards.load("zcu104"))
    run(folder / "vivado" / "package_ip.tcl")
    status, said = run(folder / "vivado" / "project.tcl", FAKE_NO_BOARDS="1")
    assert status == 0 and "no board files: the processing system has no preset" in said


@needs_tcl
def test_activity_beside_the_script_is_read_into_the_power_report(tmp_path: Path) -> None:
    folder = project(tmp_path, boards.load("zcu104"))
    assert "read_saif" not in run(folder / "vivado" / "out_of_context.tcl")[1]
    (folder / "vivado" / "activity.saif").write_text("(SAIFILE)\n")
    status, said = run(folder / "vivado" / "out_of_context.tcl")
    assert status == 0
    assert said.index("read_saif -strip_path TOP/apical_top/accelerator") < said.index("report_power")


@needs_tcl
def test_the_stand_in_refuses_options_that_vivado_has_not(tmp_path: Path) -> None:
    fake = HERE / "fake_tools" / "vivado"
    done = subprocess.run(
        ["python3", str(fake), "-batch", "x.tcl"], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 1 and "unknown option of vivado: -batch" in done.stdout


@pytest.mark.parametrize("value", ["a b", "x]", "$y", "a;b", '"', "{", "a\nb", "[exec ls]"])
def test_nothing_but_plain_words_reaches_a_script(value: str) -> None:
    with pytest.raises(vivado.VivadoError, match=r"^script: expected a plain word, got "):
        vivado.scripts(boards.load("kv260"), vivado.Interface(value))
    with pytest.raises(vivado.VivadoError, match=r"^script: expected a plain word, got "):
        vivado.scripts(boards.load("kv260"), vivado.Interface("12", top=value))


def test_a_board_without_processor_needs_a_clock() -> None:
    board = boards.load("kcu116").model_copy(update={"clock": None})
    with pytest.raises(vivado.VivadoError, match=r"^board kcu116: expected a processing system or a differential cl"):
        vivado.scripts(board, INTERFACE)


def test_an_open_board_has_no_vivado_project() -> None:
    with pytest.raises(vivado.VivadoError, match=r"^board ulx3s: expected an xcup board with a part, got flow 'ecp5'$"):
        vivado.scripts(boards.load("ulx3s"), INTERFACE)


def test_constraints_follow_the_clock() -> None:
    slow = vivado.scripts(boards.load("vcu118"), INTERFACE, mhz=125.0)
    assert "create_clock -name aclk -period 8 [get_ports aclk]" in slow["constraints/apical_axi_ooc.xdc"]
    assert "CONFIG.CLKOUT1_REQUESTED_OUT_FREQ {125}" in slow["vivado/system.tcl"]
    assert "create_clock -name board_clock -period 3.333 [get_ports clk_p]" in slow["constraints/board.xdc"]
