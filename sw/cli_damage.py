"""The command `damage`: error or accuracy of one or several networks against the share of them that is dead."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Annotated, Any

import typer

from apical.sw import cli_common as common
from apical.sw.cli_common import CliError, DataOption, JsonOption, LimitOption, Reply, WhatOption

SHARES = "0,10,20,30,40,50,60,70,80,90,100"


def add(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: apical damage zoo:two-view-digits --data two-view-digits:sample --page damage.html")(
        damage
    )


def _shares(text: str) -> list[float]:
    try:
        shares = [float(word) / 100 for word in text.split(",")]
    except ValueError:
        raise CliError(f"--shares: expected numbers with commas between, got {text!r}") from None
    if not all(0 <= share <= 1 for share in shares):
        raise CliError(f"--shares: expected 0 to 100 percent, got {text!r}")
    return sorted(set(shares))


def _table(rows: list[dict[str, Any]]) -> str:
    """Means over the seeds, one line per network and share."""
    groups: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["net"], row["share"]), []).append(row)
    keys = [k for k in ("accuracy", "accuracy_labelled", "error", "transmissions") if k in rows[0]]
    width = max(len(net) for net, _ in groups)
    lines = [f"{'network':<{width}}  dead, %  " + "  ".join(f"{k:>13}" for k in keys)]
    for (net, share), same in groups.items():
        means = (f"{common.figure(statistics.fmean(r[k] for r in same)):>13}" for k in keys)
        lines.append(f"{net:<{width}}  {100 * share:>7g}  " + "  ".join(means))
    return "\n".join(lines)


def damage(
    bundles: Annotated[list[str], typer.Argument(metavar="BUNDLE...", help="Bundles' folders, or zoo:NAME.")],
    data: DataOption = None,
    limit: LimitOption = None,
    what: WhatOption = "cells",
    shares: Annotated[str, typer.Option("--shares", metavar="PERCENT,…", help="How much dies.")] = SHARES,
    seeds: Annotated[int, typer.Option("--seeds", min=1, max=65536, help="Seeds 0, 1, … of which ones die.")] = 3,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="For `apical report --results`.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--page", metavar="FILE.html", help="The curve as a picture.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Kill a growing share of networks and see how much worse they get, by the golden model.

    The RTL of a damaged network is proven as any other: `apical cosim BUNDLE --kill PERCENT`.
    """
    from apical.sw import datasets
    from apical.sw.bundle import write_file
    from apical.sw.damage import curve

    with Reply(as_json) as reply:
        if data is None:
            raise CliError("--data: expected a data set's name, got none")
        raw = datasets.load(data)
        raw = raw if limit is None else raw.first(limit)
        rows = []
        for name in bundles:
            network = common.load_bundle(name)
            with common.progress(network.name) as update:
                rows += curve(
                    name, network, raw, shares=_shares(shares), seeds=range(seeds), what=what, progress=update
                )
        answer = {"damage": rows}
        if output is not None:
            write_file(output, json.dumps(answer, indent=1) + "\n")
        if page is not None:
            from apical.sw import report_two_point
            from apical.sw.stream_page import write_page

            write_page(page, f"Damage: {what}, {data}", report_two_point.damage(rows))
        reply.finish(answer, _table(rows))
