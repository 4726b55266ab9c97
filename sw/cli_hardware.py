"""The commands that build, prove, price and place hardware: build, cosim, energy, synth, report, bench."""

from __future__ import annotations

import json
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from apical.sw import cli_common as common
from apical.sw.cli_common import (
    BundleArgument,
    CliError,
    DataOption,
    EventOption,
    InputOption,
    JsonOption,
    LimitOption,
    NeuronOption,
    Reply,
    SeedOption,
    SynapseOption,
    WorkersOption,
)

EngineOption = Annotated[Literal["verilated", "cocotb"], typer.Option(help="Compiled batch engine, or bench.")]
StallOption = Annotated[float, typer.Option(min=0.0, max=0.95, help="Share of stalled cycles (engine cocotb).")]


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(epilog="Example: apical build zoo:mnist-lif -o rtl --event-lanes 4")(build)
    app.command(epilog="Example: apical cosim zoo:mnist-lif --data mnist:test --json")(cosim)
    app.command(epilog="Example: apical energy zoo:mnist-lif --data mnist:sample --technology horowitz-45nm")(energy)
    app.command(epilog="Example: apical synth zoo:mnist-lif --target xcup -o area")(synth)
    app.command(epilog="Example: apical report zoo:mnist-lif --data mnist:sample -o report.html")(report)
    app.command(epilog="Example: apical bench datapath --json")(bench)


def _plain(value: Any) -> Any:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


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
    stall_in: StallOption = 0.0,
    stall_out: StallOption = 0.0,
    seed: SeedOption = 0,
    synapse_lanes: SynapseOption = 128,
    neuron_lanes: NeuronOption = 8,
    event_lanes: EventOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Run golden and the RTL on the same input and compare outputs, per-tick events and every counter.

    Exit status 0 only where all are equal; a mismatch names the first divergence.
    """
    from apical.sim import equivalence

    if engine != "cocotb" and (stall_in or stall_out):
        raise CliError("--stall-in, --stall-out: expected --engine cocotb with them, got --engine verilated")
    with Reply(as_json) as reply:
        network = common.load_bundle(bundle)
        x, labels = common.load_input(network, input_file, data, limit)
        options = common.hardware_options(network, synapse_lanes, neuron_lanes, event_lanes)
        stalls: dict[str, Any] = {"stall_in": stall_in, "stall_out": stall_out, "seed": seed}
        with common.progress(f"cosim ({engine})") as update:
            result = equivalence.cosim(
                network,
                x,
                options=options,
                labels=labels,
                engine=engine,
                workers=workers,
                states=states,
                progress=update,
                **(stalls if engine == "cocotb" else {}),
            )
        answer = result.summary()
        text = verdict(result) + "\n" + common.table({k: v for k, v in answer.items() if k != "equal"})
        reply.finish(answer, text, holds=result.equal)


def verdict(result: Any) -> str:
    """The sentence that the product promises, or the first divergence."""
    if result.equal:
        return f"equal: {result.samples} of {result.samples} samples, every tick, every counter"
    good = result.samples - result.mismatches
    return f"NOT equal: {good} of {result.samples} samples; first divergence: {result.divergence}"


def energy(
    bundle: BundleArgument,
    input_file: InputOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    technology: Annotated[str, typer.Option("--technology", help="Price table; `all` compares all.")] = "horowitz-45nm",
    as_json: JsonOption = False,
) -> None:
    """Count what the network does (the RTL counts the same), price it, and put the dense baseline beside it."""
    from apical.sw import energy as pricing
    from apical.sw.golden import run

    with Reply(as_json) as reply:
        known = pricing.technologies()
        if technology != "all" and technology not in known:
            raise CliError(f"--technology {technology!r}: expected all or one of {', '.join(sorted(known))}")
        network = common.load_bundle(bundle)
        x, _ = common.load_input(network, input_file, data, limit)
        with common.progress("count") as update:
            trace = run(network, x, progress=update)
        if technology == "all":
            answer = {name: pricing.report(network, trace, technology=name) for name in sorted(known)}
        else:
            answer = pricing.report(network, trace, technology=technology)
        reply.finish(answer)


def synth(
    bundle: BundleArgument,
    target: Annotated[str, typer.Option("--target", help="xcup (UltraScale+ area), or a board's name.")] = "xcup",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for netlist, reports, bitstream.")
    ] = None,
    synapse_lanes: SynapseOption = 128,
    neuron_lanes: NeuronOption = 8,
    event_lanes: EventOption = 1,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Area for UltraScale+ (Yosys), or place, route, timing and bitstream for an open board."""
    with Reply(as_json) as reply:
        network = common.load_bundle(bundle)
        options = common.hardware_options(network, synapse_lanes, neuron_lanes, event_lanes)
        reply.finish(synthesize(network, options, target, output, seed))


def synthesize(network: Any, options: Any, target: str, output: Path | None, seed: int = 0) -> dict[str, Any]:
    """Area and, for a board, timing and bitstream, with the keys of ``apical synth --json``."""
    raise NotImplementedError


def report(
    bundle: BundleArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page to write.")],
    input_file: InputOption = None,
    data: DataOption = None,
    limit: LimitOption = 20,
    synapse_lanes: SynapseOption = 128,
    neuron_lanes: NeuronOption = 8,
    event_lanes: EventOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Write one self-contained page: network, rasters of golden and RTL, activity, cycles, area, energy."""
    raise NotImplementedError


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
