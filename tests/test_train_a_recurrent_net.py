"""The how-to "train a recurrent net" is true: its blocks run in order, then its command."""

from __future__ import annotations

import csv
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from apical.sw import bundle, golden

PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "train-a-recurrent-net.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = [line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder in which the page's Python ran, and its names."""
    folder, names = tmp_path_factory.mktemp("page"), dict[str, Any]()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for block in BLOCKS:
            exec(block, names)
    return folder, names


def test_training_leaves_a_record_and_a_checkpoint(ran: tuple[Path, dict[str, Any]]) -> None:
    folder, names = ran
    rows = list(csv.DictReader((folder / "srnn.csv").read_text(encoding="utf-8").splitlines()))
    assert [float(row["validation_accuracy"]) for row in rows] == pytest.approx(names["fitted"].history, abs=1e-6)
    assert len(rows) == names["settings"].epochs
    assert (folder / "srnn.ckpt").is_file()


def test_the_twin_computes_in_real_numbers(ran: tuple[Path, dict[str, Any]]) -> None:
    _, names = ran
    x = torch.from_numpy(names["validation"].images[:4, :300]).float()
    with torch.no_grad():
        membranes = names["twin"](x)["waves"]
    assert bool((membranes != membranes.round()).any())


def test_what_is_saved_computes_what_was_trained(ran: tuple[Path, dict[str, Any]]) -> None:
    folder, names = ran
    network = bundle.load(folder / "small-srnn")
    x = names["validation"].images[:2, :100].astype("int64")
    with torch.no_grad():
        y = names["model"](torch.from_numpy(x).float())["waves"].numpy()
    assert (golden.run(network, x).outputs["waves"] == y).all()


@pytest.mark.heavy
def test_the_saved_net_is_proven_by_the_pages_command(
    ran: tuple[Path, dict[str, Any]], apical: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _ = ran
    monkeypatch.chdir(folder)
    assert len(COMMANDS) == 1
    program, *words = shlex.split(COMMANDS[0])
    assert program == "apical"
    proven = apical(*words)
    assert proven.status == 0, proven.err
