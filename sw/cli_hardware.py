"""The commands that build, prove and price hardware: build, cosim, energy, report, bench."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from apical.sw import cli_common as common
from apical.sw.cli_common import (
    BundleArgument,
    CliError,
    DamageSeedOption,
    DataOption,
    EventOption,
    InputOption,
    JsonOption,
    KillOption,
    LimitOption,
    NeuronOption,
    Reply,
    SynapseOption,
    WhatOption,
    WorkersOption,
)

TechnologyOption = Annotated[str, typer.Option("--technology", help="A price table's name or file, or all.")]
EngineOption = Annotated[Literal["verilated", "cocotb"], typer.Option(help="Compiled batch engine, or bench.")]


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(epilog="Example: apical build zoo:mnist-lif -o rtl --event-lanes 4")(build)
    app.command(epilog="Example: apical cosim zoo:mnist-lif --data mnist:test --json")(cosim)
    app.command(epilog="Example: apical energy zoo:mnist-lif --data mnist:sample --technology horowitz-45nm")(energy)
    app.command(epilog="Example: apical report zoo:mnist-lif --data mnist:sample -o report.html")(report)
    app.command(epilog="Example: apical bench datapath --json")(bench)


def build(
    bundle: BundleArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for the Verilog and its manifest.")],
    synapse_lanes: SynapseOption = 128,
    neuron_lanes: NeuronOption = 8,
    event_lanes: EventOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Write the network's Verilog and the manifest that says which port is what. Same bundle, same bytes."""
    from apical.hw import verilog
    from apical.sw.bundle import write_directory

    with Reply(as_json) as reply:
        network = common.load_bundle(bundle)
        design = verilog.generate(network, common.hardware_options(network, synapse_lanes, neuron_lanes, event_lanes))
        name = f"{design.manifest.top}.v"

        def fill(folder: Path) -> None:
            (folder / name).write_text(design.verilog, encoding="utf-8")
            manifest = json.dumps({"identity": design.identity, **asdict(design.manifest)}, indent=1, sort_keys=True)
            (folder / "manifest.json").write_text(manifest + "\n", encoding="utf-8")

        write_directory(output, fill)
        files = [output / name, output / "manifest.json"]
        reply.finish({"top": design.manifest.top, "identity": design.identity, "files": [str(f) for f in files]})


def cosim(
    bundle: BundleArgument,
    input_file: InputOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    engine: Annotated[
        Literal["verilated", "cocotb"], typer.Option(help="Compiled batch engine, or bench.")
    ] = "verilated",
    workers: WorkersOption = 2,
    states: Annotated[bool, typer.Option("--states", help="Compare every membrane state after every tick.")] = False,
    netlist: Annotated[
        Literal["xcup", "ecp5"] | None,
        typer.Option(help="Run the netlist that Yosys maps to this family in place of the RTL."),
    ] = None,
    synapse_lanes: SynapseOption = 128,
    neuron_lanes: NeuronOption = 8,
    event_lanes: EventOption = 1,
    kill: KillOption = 0,
    what: WhatOption = "cells",
    damage_seed: DamageSeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Run golden and the RTL on the same input and compare outputs, per-tick events and every counter.

    Exit status 0 only where all are equal; a mismatch names the first divergence. A netlist shows outputs and counters.
    """
    from apical.sim import equivalence, gate_level
    from apical.sw import pipeline

    if netlist is not None and (states or engine != "verilated"):
        raise CliError("--netlist: expected the batch engine without --states")
    with Reply(as_json) as reply:
        network = common.load_bundle(bundle)
        x, labels = common.load_input(network, input_file, data, limit)
        network, x, lost = common.damaged(network, x, kill, what, damage_seed)
        options = common.hardware_options(network, synapse_lanes, neuron_lanes, event_lanes)
        with common.progress(f"cosim ({netlist or engine})") as update:
            if netlist is not None:
                result = gate_level.cosim(network, x, options, netlist, labels=labels, workers=workers, progress=update)
            else:
                result = equivalence.cosim(
                    network,
                    x,
                    options=options,
                    labels=labels,
                    engine=engine,
                    workers=workers,
                    states=states,
                    reuse=True,
                    progress=update,
                )
        answer = result.summary() | lost
        text = pipeline.sentence(result) + "\n" + common.table({k: v for k, v in answer.items() if k != "equal"})
        reply.finish(answer, text, holds=result.equal)


def energy(
    bundle: BundleArgument,
    input_file: InputOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    technology: TechnologyOption = "horowitz-45nm",
    units: Annotated[int, typer.Option(min=1, max=65536, help="Cells of the recurrent baselines.")] = 290,
    mac: Annotated[float | None, typer.Option("--mac", help="Own E_MAC in pJ for the formulas; with --ac.")] = None,
    ac: Annotated[float | None, typer.Option("--ac", help="Own E_AC in pJ for the formulas; with --mac.")] = None,
    kill: KillOption = 0,
    what: WhatOption = "cells",
    damage_seed: DamageSeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Count what the network does (the RTL counts the same), price it, and put the baselines beside it.

    Baselines: the dense network of the same layer sizes; RNN, GRU, LSTM and bidirectional LSTM by the formulas of the
    spiking-recurrent-network papers and counted; and this network by those formulas.
    """
    from apical.sw import cli_energy
    from apical.sw import energy as pricing
    from apical.sw.datasets import figures

    with Reply(as_json) as reply:
        constants = cli_energy.constants(mac, ac)
        table = None if technology == "all" else pricing.technology(technology)
        network = common.load_bundle(bundle)
        x, labels = common.load_input(network, input_file, data, limit)
        network, x, lost = common.damaged(network, x, kill, what, damage_seed)
        with common.progress("count") as update:
            trace = cli_energy.count(network, x, update)
        found = figures(network, trace, labels) | lost
        if table is None:
            rows = [row | found for row in pricing.table(network, trace, units=units, constants=constants)]
            text = "\n\n".join(f"{row['technology']}\n{cli_energy.text(row)}" for row in rows)
            reply.finish({row["technology"]: row for row in rows}, text)
        else:
            answer = pricing.report(network, trace, table, units=units, constants=constants) | found
            reply.finish(answer, cli_energy.text(answer))


def report(
    bundle: BundleArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")],
    input_file: InputOption = None,
    data: DataOption = None,
    limit: LimitOption = 20,
    area: Annotated[bool, typer.Option("--area", help="Synthesize for UltraScale+ as well (a minute).")] = False,
    results: Annotated[
        list[Path] | None,
        typer.Option(
            "--results",
            metavar="FILE.json",
            help="Draw stored damage, sweep, runs or life; without it those that a zoo bundle comes with.",
        ),
    ] = None,
    synapse_lanes: SynapseOption = 128,
    neuron_lanes: NeuronOption = 8,
    event_lanes: EventOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Prove the network on some input and write one self-contained page about it.

    The page shows the network, rasters and membranes of golden and RTL, activity, cycles, energy and, with --area,
    UltraScale+ resources.
    """
    from apical.sim import equivalence
    from apical.sw import datasets, pipeline
    from apical.sw.bundle import load_recipe
    from apical.sw.report import write_report

    with Reply(as_json) as reply:
        network = common.load_bundle(bundle)
        x, labels = common.load_input(network, input_file, data, limit)
        raw = None if data is None else datasets.load(data).first(len(x))
        lanes = (synapse_lanes, neuron_lanes, event_lanes)
        options = common.hardware_options(network, *lanes)
        with common.progress("cosim") as update:
            result = equivalence.cosim(network, x, options=options, labels=labels, states=True, progress=update)
        section = pipeline.system_report(
            network.name,
            network,
            result,
            raw,
            labels,
            utilization=pipeline.area(network, lanes) if area else None,
            provenance=load_recipe(common.find_bundle(bundle)),
            x=x,
            results=common.read_results(results or common.study(bundle)),
        )
        write_report(output, [section], title=f"apical: {network.name}")
        answer = {"report": str(output), "equal": result.equal, "samples": result.samples}
        reply.finish(answer, f"{pipeline.sentence(result)}\nreport: {output.resolve()}", holds=result.equal)


def bench(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A benchmark's name; `list` prints them.")],
    as_json: JsonOption = False,
) -> None:
    """Measure one figure of the product on this machine, beside its published peer where there is one."""
    from apical.sw import cli_bench

    with Reply(as_json) as reply:
        if name == "list":
            reply.finish({n: (f.__doc__ or "").splitlines()[0] for n, f in cli_bench.BENCHMARKS.items()})
            return
        if name not in cli_bench.BENCHMARKS:
            raise CliError(f"NAME {name!r}: expected one of {', '.join(cli_bench.BENCHMARKS)}")
        reply.finish(cli_bench.BENCHMARKS[name]().answer())
