"""The command `life`: energy of inference and learning over a device's life, and how long its weights' memory lasts."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from apical.sw import cli_common as common
from apical.sw.cli_common import CliError, JsonOption, Reply, SeedOption

TECHNOLOGIES = ("horowitz-45nm", "pcm-weights", "rram-weights", "flash-weights")
SHIPPED, WHOLE = ("mnist:sample-train", "mnist:sample"), ("mnist:train", "mnist:test")


def add(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: apical life --page life.html")(life)


def _text(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line per technology and rule."""
    from apical.sw.report_learning import by_technology, span

    heads = ("technology", "rule", "accuracy", "inference, J", "learning, J", "its writes, J", "writes, mean", "most")
    lines = [[*heads, "life", "levelled"]]
    for r in by_technology(rows):
        joules, life = r["joules"], r["life_years"]
        learning = None if joules["total"] is None else joules["total"] - joules["inference"]
        money = ["no price" if j is None else f"{j:.3g}" for j in (joules["inference"], learning, joules["writes"])]
        worn = [f"{r['writes_per_weight'][k]:,.0f}" for k in ("mean", "most")]
        years = [span(life[k]) for k in ("most_written", "levelled")]
        lines.append([r["technology"], r["rule"], f"{r['accuracy']:.2%}", *money, *worn, *years])
    widths = [max(len(line[k]) for line in lines) for k in range(len(lines[0]))]
    out = [
        "  ".join(f"{c:<{w}}" if k < 2 else f"{c:>{w}}" for k, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in lines
    ]
    notes = dict.fromkeys(f"note: {r['technology']}: {note}" for r in rows for note in r["notes"])
    ends = dict.fromkeys(
        f"{r['technology']}: {r['endurance']:,} writes, {r['endurance_source']}" for r in rows if r["endurance"]
    )
    return "\n".join([*out, *notes, *ends])


def life(
    samples: Annotated[int, typer.Option("--samples", min=2, help="Learned in each run; then all goes on.")] = 5500,
    full: Annotated[bool, typer.Option("--full", help="Learn from all of MNIST (needs the data).")] = False,
    cells: Annotated[int, typer.Option("--cells", min=2, max=4096, help="Hidden cells of the learner.")] = 100,
    per_day: Annotated[float, typer.Option("--per-day", help="Samples that the device answers a day.")] = 28_800.0,
    learned: Annotated[float, typer.Option("--learned", help="Share of them that it learns from, 0 to 1.")] = 1.0,
    years: Annotated[float, typer.Option("--years", help="How long it lives.")] = 10.0,
    technology: Annotated[
        list[str] | None,
        typer.Option("--technology", metavar="NAME", help="A table that ships, or a .yaml; may repeat."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.json", help="For `apical report --results`.")
    ] = None,
    page: Annotated[Path | None, typer.Option("--page", metavar="FILE.html", help="The energy as a picture.")] = None,
    bundle: Annotated[
        Path | None, typer.Option("--bundle", metavar="FOLDER", help="Write the network that the gated chip learned.")
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Joules of inference and learning over a device's life, and the wear of its weights, by rule of learning.

    A digit classifier learns on the golden chip (equal to the RTL: `apical bench on-chip-learning`) without gates, with
    a margin, with thresholds, with both. What the run counted goes on at the rate of its second half.
    """
    import numpy as np

    from apical.sw import datasets, on_chip_recipe
    from apical.sw import life as lives
    from apical.sw.bundle import save, write_file
    from apical.sw.prices import technology as table_of

    with Reply(as_json) as reply:
        tables = [table_of(Path(t) if Path(t).suffix else t) for t in technology or TECHNOLOGIES]
        device = lives.Device(per_day, learned, years)
        network = on_chip_recipe.network(cells, seed)
        names = WHOLE if full else SHIPPED
        if missing := [n for n in names if not datasets.available(n)]:
            raise CliError(f"--full: expected data set {missing[0]}, which isn't here")
        train, test = (datasets.load(n) for n in names)
        draws = np.random.default_rng(seed)
        rounds = -(-samples // len(train.labels))
        order = np.concatenate([draws.permutation(len(train.labels)) for _ in range(rounds)])[:samples]
        x, labels = train.encode(network.encoding).astype(np.int64), np.asarray(train.labels, np.int64)
        seen = test.encode(network.encoding).astype(np.int64)
        runs = {}
        for rule, learning in lives.RULES.items():
            with common.progress(rule) as update:
                chip, found = lives.run(network, learning, x[order], labels[order], update)
            runs[rule] = (found, lives.accuracy(chip, seen, np.asarray(test.labels)))
            if bundle is not None and rule == "gated":
                save(chip.network(), bundle, {"command": "apical life", "seed": seed, "samples": samples})
        rows = lives.compare(runs, device, tables)
        if output is not None:
            write_file(output, json.dumps({"life": rows}) + "\n")
        if page is not None:
            from apical.sw.report_learning import energy
            from apical.sw.stream_page import write_page

            write_page(page, "Energy over a device's life", energy(rows))
        reply.finish({"seed": seed, "data": names[0], "life": rows}, _text(rows))
