"""The command line, `apical`. Heavy imports happen inside the commands, so that `--help` answers at once.

Exit status: 0 what was asked holds, 1 it doesn't (a mismatch), 2 bad usage or input or a missing tool, 130 interrupted.
"""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from apical.sw import cli_common as common
from apical.sw import cli_damage, cli_gates, cli_hardware, cli_import, cli_life, cli_prove, cli_stream, cli_synth
from apical.sw.cli_common import (
    BundleArgument,
    CliError,
    DamageSeedOption,
    DataOption,
    InputOption,
    JsonOption,
    KillOption,
    LimitOption,
    Reply,
    SeedOption,
    WhatOption,
)

app = typer.Typer(
    name="apical",
    help="From a trained PyTorch network to neurons on an FPGA, equal bit for bit, with the joules counted.",
    epilog="Start with: apical demo --pretrained",
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
)


@app.command(epilog="Example: apical demo --pretrained -o demo-out")
def demo(
    pretrained: Annotated[bool, typer.Option("--pretrained", help="Load the zoo's networks; train nothing.")] = False,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for bundles, bitstream, report.")] = Path(
        "demo-out"
    ),
    samples: Annotated[int, typer.Option("--samples", min=1, help="Samples that golden and RTL run.")] = 200,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """The main job: train two small networks, export, prove the hardware equal, price it, build a bitstream."""
    from apical.sw import pipeline

    with Reply(as_json) as reply:
        answer = pipeline.demo(
            output, pretrained=pretrained or bool(os.environ.get("PRETRAINED")), samples=samples, seed=seed
        )
        reply.finish(answer, "", holds=bool(answer["equal"]))


@app.command(epilog="Example: apical train mnist-lif -o my-net --seed 1")
def train(
    name: Annotated[str, typer.Argument(metavar="RECIPE", help="A recipe's name; `apical zoo` lists them.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle to write.")],
    seed: SeedOption = 0,
    quick: Annotated[bool, typer.Option("--quick", help="A short run on the data that ships.")] = False,
    epochs: Annotated[int | None, typer.Option("--epochs", min=1, help="In place of the recipe's.")] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="File to write after each epoch, and to go on from.")
    ] = None,
    record: Annotated[
        Path | None, typer.Option("--record", help="CSV file of the epochs: loss, validation accuracy, seconds.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a network by one of the zoo's recipes, under the integer rule, and write its bundle."""
    from apical.sw import bundle, zoo

    zoo.recipe_of(name)
    with Reply(as_json) as reply:
        network = zoo.train(name, output, seed=seed, quick=quick, epochs=epochs, checkpoint=checkpoint, record=record)
        recipe = bundle.load_recipe(output)
        reply.finish({"bundle": output, "identity": bundle.identity(network), **recipe})


@app.command(epilog="Example: apical zoo mnist-lif -o my-copy")
def zoo(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="One bundle; otherwise all are listed.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write the bundle there.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the trained bundles that ship, with recipe and proven accuracy, or write one to a folder."""
    from apical.sw import bundle
    from apical.sw import zoo as shelf

    if name is None and output is not None:
        raise CliError("-o: expected a NAME to write, got none; `apical zoo` lists the names")
    with Reply(as_json) as reply:
        if name is None:
            reply.finish({n: bundle.load_recipe(shelf.path(n)) for n in shelf.names()})
            return
        folder = common.find_bundle("zoo:" + name)
        network, recipe = bundle.load(folder), bundle.load_recipe(folder)
        answer: dict[str, Any] = {"name": name, "identity": bundle.identity(network), "recipe": recipe}
        if output is not None:
            bundle.save(network, output, recipe)
            answer["bundle"] = output
        reply.finish(answer)


@app.command(epilog="Example: apical export zoo:mnist-lif -o my-copy")
def export(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="A bundle, zoo:NAME, or a checkpoint.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="The bundle to write, or a NIR graph, NAME.nir.")],
    recipe: Annotated[str | None, typer.Option("--recipe", help="Which recipe's checkpoint SOURCE is.")] = None,
    dt: Annotated[float, typer.Option("--dt", help="NIR: seconds of a tick.")] = 1e-3,
    as_json: JsonOption = False,
) -> None:
    """Write a bundle, from a checkpoint of `apical train --checkpoint` (its best epoch) or from a bundle.

    To a file NAME.nir it writes a NIR graph, and says what that format doesn't hold.
    """
    from apical.sw import bundle

    with Reply(as_json) as reply:
        if recipe is not None:
            network, facts = common.load_checkpoint(Path(source), recipe)
        else:
            if Path(source).is_file():
                raise CliError(f"SOURCE {source!r}: expected --recipe NAME with a checkpoint, got none")
            folder = common.find_bundle(source)
            network, facts = bundle.load(folder), bundle.load_recipe(folder)
        weights = sum(p.weights.size for p in network.projections)
        if output.suffix == ".nir":
            from apical.sw import nir_write

            if not (math.isfinite(dt) and dt > 0):
                raise CliError(f"--dt: expected seconds above 0, got {dt}")
            graph, lost = nir_write.graph_of(network, dt)
            nir_write.write(graph, output)
            reply.finish({"nir": output, "nodes": len(graph.nodes), "weights": weights, "lost": lost})
            return
        identity = bundle.save(network, output, facts)
        answer = {
            "bundle": output,
            "identity": identity,
            "inputs": network.input_size,
            "neurons": sum(p.size for p in network.populations),
            "weights": weights,
        }
        reply.finish(answer)


@app.command(epilog="Example: apical golden zoo:mnist-lif --data mnist:sample -o out.npz")
def golden(
    bundle: BundleArgument,
    input_file: InputOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write output, class, events (.npz).")] = None,
    kill: KillOption = 0,
    what: WhatOption = "cells",
    damage_seed: DamageSeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Run the golden model: what the network computes, to the last bit, with its counters.

    OUT.npz holds `output` [samples, ticks, outputs], `class` where the network has a decoder ([samples], or [samples,
    ticks] for a class in every tick), and `events/POPULATION` [samples, ticks, neurons], the value that each neuron
    sent (0: nothing).
    """
    import io

    import numpy as np

    from apical.sw.bundle import write_file
    from apical.sw.datasets import figures
    from apical.sw.golden import decode, run

    with Reply(as_json) as reply:
        network = common.load_bundle(bundle)
        x, labels = common.load_input(network, input_file, data, limit)
        network, x, lost = common.damaged(network, x, kill, what, damage_seed)
        with common.progress("golden") as update:
            trace = run(network, x, progress=update)
        classes = decode(network, trace)
        if output is not None:
            arrays = {"output": np.concatenate([trace.outputs[o] for o in network.outputs], axis=2)}
            if classes is not None:
                arrays["class"] = classes
            arrays |= {f"events/{name}": values for name, values in trace.values.items()}
            packed = io.BytesIO()
            np.savez_compressed(packed, allow_pickle=False, **arrays)
            write_file(output, packed.getvalue())
        answer = {
            "samples": trace.samples,
            **figures(network, trace, labels),
            "counts": trace.counters,
            **lost,
            "samples_per_second": trace.samples / max(trace.seconds, 1e-9),
        }
        reply.finish(answer)


@app.command(epilog="Example: apical doctor --json")
def doctor(as_json: JsonOption = False) -> None:
    """Say what of the tool chain is there, which version, and what to do about what isn't.

    Exit status 1 where a tool that is not optional is missing.
    """
    from apical.hw import tools

    with Reply(as_json) as reply:
        found = tools.doctor()
        answer = {t.name: {"ok": t.ok, "version": t.version, "needed for": t.why, "do": t.problem} for t in found}
        holds = all(t.ok or t.optional for t in found)
        lines = [f"{'ok     ' if t.ok else 'missing'}  {t.name:<15} {t.version or t.problem}" for t in found]
        reply.finish({"ok": holds, "tools": answer}, "\n".join(lines), holds=holds)


cli_hardware.add(app)
cli_synth.add(app)
cli_stream.add(app)
cli_import.add(app)
cli_damage.add(app)
cli_gates.add(app)
cli_prove.add(app)
cli_life.add(app)


def main() -> None:
    """Entry point: one clear line for what a user can mend, a traceback for what is our defect."""
    common.catch_signals()
    try:
        app()
    except KeyboardInterrupt:
        status = 130
    except Exception as error:
        if common.interrupted:
            status = 130
        elif os.environ.get("APICAL_TRACEBACK") or not _for_users(error):
            raise
        else:
            print(f"apical: {_line(error)}", file=sys.stderr)
            status = 2
    else:
        status = 0
    sys.exit(status)


def _for_users(error: Exception) -> bool:
    """Our own exception types, bad values and the system's refusals are for users; the rest are defects."""
    return isinstance(error, ValueError | OSError) or type(error).__module__.startswith("apical.")


def _line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        where = f": {error.filename}" if error.filename else ""
        return f"{error.strerror}{where}"
    return " ".join(str(error).split()) or type(error).__name__
