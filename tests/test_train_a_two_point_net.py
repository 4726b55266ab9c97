"""The how-to "train a two-point net" is true: its blocks run in order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch

from apical.sw.laws import Relu

torch.set_num_threads(1)
PAGE = (Path(__file__).parent.parent / "docs" / "how-to" / "train-a-two-point-net.md").read_text(encoding="utf-8")


def test_the_pages_blocks_run_and_the_net_learns() -> None:
    names: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL):
        exec(block, names)
    fitted = names["fitted"]
    assert len(fitted.history) == 6
    assert fitted.losses[-1] < fitted.losses[0]
    assert {p.dtype for p in names["model"].cells.values()} == {torch.float32}
    found = names["transmissions"](names["network"], names["trace"].counters, names["frames"])
    assert 0 < found["hidden"] < found["dense"]
    point = names["build"]("relu").export()
    assert any(isinstance(p.law, Relu) for p in point.populations)
