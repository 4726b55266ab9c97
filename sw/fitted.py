"""What a training found, epoch by epoch."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field
from pathlib import Path

from apical.sw.bundle import write_file


@dataclass
class Fitted:
    """What `fit` found; the model holds the best epoch's parameters.

    :param history: validation accuracy after each epoch.
    :param losses, seconds: mean training loss and wall time of each epoch.
    """

    accuracy: float = 0.0
    epoch: int = 0
    history: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list, compare=False)

    def waited(self, patience: int) -> bool:
        """Is the best epoch `patience` epochs ago?"""
        return bool(patience) and len(self.history) - self.epoch >= patience


def write_record(path: Path, fitted: Fitted) -> None:
    """The epochs so far as CSV."""
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["epoch", "loss", "validation_accuracy", "seconds"])
    rows = zip(fitted.losses, fitted.history, fitted.seconds, strict=True)
    writer.writerows([n, f"{a:.6f}", f"{b:.6f}", f"{c:.3f}"] for n, (a, b, c) in enumerate(rows, 1))
    write_file(path, table.getvalue().encode())
