"""The package: imports point one way, all code and data are in the wheel, no paths of one machine, short files."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest

TOP = Path(__file__).parent.parent
FOLDERS = ("boards", "hw", "sim", "sw")
ALLOWED = {"boards": set(), "sw": {"sw"}, "hw": {"sw", "hw", "boards"}, "sim": {"sw", "hw", "sim", "boards"}}
SEES_ALL = re.compile(r"sw/(cli\w*|pipeline)\.py")


def tracked() -> list[Path]:
    """Files that git knows, relative to the top."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=TOP, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip("not a git checkout, so the committed files are not known")
    return [Path(name) for name in done.stdout.split("\0") if name and (TOP / name).is_file()]


def project() -> dict[str, Any]:
    return tomllib.loads((TOP / "pyproject.toml").read_text(encoding="utf-8"))


def imports(file: Path) -> Iterator[str]:
    """Parts of apical that a file imports anywhere: `sw`, `hw`, `sim`, `boards`."""
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: expected import apical.…, got a relative import"
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if match := re.match(r"apical\.(\w+)", name):
                yield match.group(1)


@pytest.mark.parametrize("folder", FOLDERS)
def test_imports_point_one_way(folder: str) -> None:
    seen = 0
    for file in sorted((TOP / folder).glob("*.py")):
        seen += 1
        if SEES_ALL.fullmatch(f"{folder}/{file.name}"):
            continue
        wrong = set(imports(file)) - ALLOWED[folder]
        assert not wrong, f"{folder}/{file.name} imports apical.{sorted(wrong)[0]}"
    assert seen


def test_the_command_line_imports_hardware_only_when_asked() -> None:
    code = "import apical.sw.cli, sys; print([m for m in sys.modules if m.startswith(('apical.hw', 'apical.sim'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_folder_with_code_is_a_package() -> None:
    with_code = {f.parts[0] for f in tracked() if f.suffix == ".py" and f.parts[0] != "tests"}
    listed = project()["tool"]["setuptools"]
    assert {f"apical.{folder}" for folder in with_code} == set(listed["packages"])
    assert {f"apical.{folder}": folder for folder in with_code} == listed["package-dir"]


def test_every_data_file_is_package_data() -> None:
    patterns = project()["tool"]["setuptools"]["package-data"]["*"]
    data = [f for f in tracked() if f.parts[0] in FOLDERS and f.suffix != ".py"]
    assert data
    for file in data:
        inside = "/".join(file.parts[1:])
        assert any(fnmatch(inside, p) and inside.count("/") == p.count("/") for p in patterns), (
            f"{file} is in no pattern"
        )


def test_files_are_short() -> None:
    long = {str(f): n for f in tracked() if f.suffix == ".py" and (n := len((TOP / f).read_text().splitlines())) > 400}
    assert long == {}


def test_code_folders_are_flat() -> None:
    nested = [
        str(f) for f in tracked() if f.suffix == ".py" and len(f.parts) > 2 and f.parts[:2] != ("tests", "benchmarks")
    ]
    assert nested == []


def test_no_machine_path_is_committed() -> None:
    usual = r"/(root|home|mnt|srv|work|workspace|Users)/[a-z]\w+|/tmp/\w+/"  # where people and machines keep checkouts
    pattern = re.compile("|".join([usual, re.escape(f"{TOP}/"), re.escape(f"{Path.home()}/")]).encode())
    own = Path(__file__).resolve().relative_to(TOP)
    found = {}
    for file in tracked():
        if file != own and (match := pattern.search((TOP / file).read_bytes())) and not match.group().endswith(b"/net"):
            found[str(file)] = match.group()
    assert found == {}


def test_constraints_pin_every_dependency_exactly() -> None:
    pins = dict(
        line.split("==")
        for line in (TOP / "constraints.txt").read_text().splitlines()
        if line and not line.startswith("#")
    )
    pinned = {name.lower().replace("_", "-") for name in pins}
    wanted = project()["project"]
    for text in [*wanted["dependencies"], *wanted["optional-dependencies"]["dev"]]:
        assert re.split(r"[<>=]", text)[0].lower() in pinned
    assert pins["torch"] == "2.13.0"  # an open range may bring gigabytes of GPU libraries


def test_each_run_time_dependency_has_its_reason() -> None:
    text = (TOP / "pyproject.toml").read_text(encoding="utf-8")
    block = text.split("dependencies = [")[1].split("\n]")[0]
    lines = [line for line in block.splitlines() if line.strip()]
    assert lines
    assert [line for line in lines if "#" not in line] == []


@pytest.mark.heavy
def test_the_wheel_holds_all_code_and_data(tmp_path: Path) -> None:
    copy = tmp_path / "source"
    for file in tracked():
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        (copy / file).write_bytes((TOP / file).read_bytes())
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "-q", "-w", str(tmp_path), str(copy)]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        inside = set(wheel.namelist())
    for file in tracked():
        if file.parts[0] in FOLDERS:
            assert f"apical/{file.as_posix()}" in inside
    assert any(name.endswith("licenses/LICENSE") for name in inside)
