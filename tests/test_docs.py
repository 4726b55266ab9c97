"""The documentation is true: generated pages are current, links lead somewhere, the tutorial's commands run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from apical.sw import cli_reference, zoo

TOP = Path(__file__).parent.parent
PAGES = [TOP / "README.md", TOP / "CHANGELOG.md", TOP / "CONTRIBUTING.md", *sorted((TOP / "docs").rglob("*.md"))]
TUTORIAL = (TOP / "docs" / "tutorial" / "first-network.md").read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


@pytest.mark.parametrize("name", sorted(cli_reference.PAGES))
def test_a_generated_page_is_current(name: str) -> None:
    committed = (TOP / "docs" / "reference" / name).read_text(encoding="utf-8")
    assert cli_reference.PAGES[name]() == committed, f"docs/reference/{name} is old: run `make docs`"


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.relative_to(TOP).as_posix())
def test_links_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        other = (page.parent / file).resolve() if file else page
        assert other.exists(), f"{page.name}: {target} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", other.read_text(encoding="utf-8"), re.MULTILINE)
            known = {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}
            assert anchor in known, f"{page.name}: {target}: no such heading"


def test_every_page_is_reached_from_the_index() -> None:
    index = (TOP / "docs" / "index.md").read_text(encoding="utf-8")
    for page in sorted((TOP / "docs").rglob("*.md")):
        name = page.relative_to(TOP / "docs").as_posix()
        assert name == "index.md" or f"({name})" in index, f"{name} isn't in docs/index.md"


def test_the_picture_of_the_flow_is_an_svg_that_a_reader_can_hear() -> None:
    root = ElementTree.parse(TOP / "docs" / "flow.svg").getroot()
    assert root.tag.endswith("svg")
    assert root.get("aria-label")


@pytest.mark.skipif("mnist-lif" not in zoo.names(), reason="the bundle zoo:mnist-lif isn't in this checkout")
def test_the_tutorial_runs(apical: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [line for block in blocks(TUTORIAL, "sh") for line in block.splitlines()]
    assert len(commands) >= 5
    for command in commands:
        program, *words = shlex.split(command, comments=True)
        assert program == "apical"
        ran = apical(*words)
        assert ran.status == 0, f"{command}: {ran.err}"
    for block in blocks(TUTORIAL, "python"):
        exec(block, {})
    assert (tmp_path / "golden.npz").is_file()
    assert {p.name for p in (tmp_path / "rtl").iterdir()} == {"apical_top.v", "manifest.json"}


def test_the_readme_opens_with_the_two_commands() -> None:
    text = (TOP / "README.md").read_text(encoding="utf-8")
    assert re.search(r"^# apical\n\n.+\n\n    make demo .*\n    make test ", text)
    assert "docs/flow.svg" in text


def test_commands_in_the_readme_exist(apical: Callable[..., Any]) -> None:
    text = (TOP / "README.md").read_text(encoding="utf-8")
    names = set(re.findall(r"(?:^|`)apical ([a-z]+)", text, re.MULTILINE))
    assert {"zoo", "golden", "cosim", "energy", "synth", "report", "bench"} <= names
    for name in names:
        assert apical(name, "--help").status == 0
