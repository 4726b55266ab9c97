"""The commands that put a network on a device: fit, synth, activity, reports."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from apical.sw import cli_common as common
from apical.sw.cli_common import BundleArgument, CliError, DataOption, InputOption, JsonOption, LimitOption, Reply

if TYPE_CHECKING:
    from apical.hw.boards import Board
    from apical.hw.design import HardwareOptions
    from apical.hw.utilization import Utilization
    from apical.sw.network import Network

WIDEST = "For a board: chosen for it, unless given. For xcup: 128, 8, 1."
LABEL = "not run in Vivado, not run on silicon"
SynapseChoice = Annotated[int | None, typer.Option("--synapse-lanes", min=1, max=4096, help=WIDEST)]
NeuronChoice = Annotated[int | None, typer.Option("--neuron-lanes", min=1, max=4096, help=WIDEST)]
EventChoice = Annotated[int | None, typer.Option("--event-lanes", min=1, max=64, help=WIDEST)]


def add(app: typer.Typer) -> None:
    """Add these commands to the command line."""
    app.command(epilog="Example: apical fit zoo:mnist-lif --board zcu104")(fit)
    app.command(epilog="Example: apical synth zoo:mnist-lif --target kv260 -o kv260")(synth)
    app.command(epilog="Example: apical activity zoo:mnist-lif --data mnist:sample --limit 5 -o kv260/vivado")(activity)
    app.command(epilog="Example: apical reports kv260/vivado/reports --json")(reports)


def _board(name: str, option: str) -> Board:
    from apical.hw import boards

    if not name.endswith(".yaml") and name not in boards.names():
        more = "xcup or one of" if option == "--target" else "one of"
        raise CliError(f"{option} {name!r}: expected {more} {', '.join(boards.names())}")
    return boards.load(name)


def fit(
    bundle: BundleArgument,
    board: Annotated[str, typer.Option("--board", help="A board's name, or a table's path (.yaml).")],
    input_file: InputOption = None,
    data: DataOption = None,
    limit: LimitOption = 20,
    activity: Annotated[
        float, typer.Option(min=0, max=1, help="Share of sources that send in a tick, without --data or --input.")
    ] = 0.1,
    as_json: JsonOption = False,
) -> None:
    """Choose lanes for a board: what the network will need of the device, and what keeps it from more.

    With --data or --input the shares of sources that send are counted on it. Exit status 2 where nothing fits: the
    message says what would (weight bits, other boards).
    """
    from apical.hw import choice

    with Reply(as_json) as reply:
        table = _board(board, "--board")
        network = common.load_bundle(bundle)
        shares: Mapping[str, float] | float = activity
        if data is not None or input_file is not None:
            from apical.sw import energy, golden

            x, _ = common.load_input(network, input_file, data, limit)
            shares = energy.activity(network, golden.run(network, x))
        found = choice.choose(network, table, shares)
        answer = found.summary()
        reply.finish(answer, _fit_text(answer, table))


def _fit_text(answer: Mapping[str, Any], board: Board) -> str:
    c = board.capacity
    have = {"lut": c.lut, "ff": c.ff, "dsp": c.dsp, "bram": c.bram}
    rows = [
        f"{answer['board']}: {board.title}, {answer['device']}",
        "",
        "population        synapse  neuron  event lanes",
    ]
    rows += [f"{n:<16}  {v['synapse']:>7}  {v['neuron']:>6}  {v['event']:>5}" for n, v in answer["lanes"].items()]
    rows += [f"{n + ' (input)':<16}  {'':>7}  {'':>6}  {v:>5}" for n, v in answer["input_event_lanes"].items()]
    rows += ["", "resource   about      of device"]
    rows += [f"{k:<9}  {answer['needs'][k]:>8,}  {have[k]:>9,}  {answer['percent'].get(k, 0):>6.2f} %" for k in have]
    step = answer["next"]
    rows += [
        "",
        f"busiest   {answer['busiest']}: about {answer['cycles_per_tick']:g} cycles a tick at least, "
        f"{answer['microseconds_per_tick']:g} us at {answer['clock_mhz']:g} MHz",
        f"binds     {answer['binds']}",
        *([] if step is None else [f"next      {step['step']}: {'; '.join(step['short'])}"]),
        *(f"note      {note}" for note in answer["notes"]),
    ]
    return "\n".join(rows)


def synth(
    bundle: BundleArgument,
    target: Annotated[str, typer.Option("--target", help="xcup (UltraScale+ area), or a board's name.")] = "xcup",
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Folder for RTL, scripts, reports, bitstream.")
    ] = None,
    synapse_lanes: SynapseChoice = None,
    neuron_lanes: NeuronChoice = None,
    event_lanes: EventChoice = None,
    frequency: Annotated[
        float | None, typer.Option("--mhz", min=1, max=800, help="The design's clock [default: the board's]")
    ] = None,
    data_bits: Annotated[int, typer.Option("--data-bits", help="Of the AXI streams' words: 32 to 512.")] = 64,
    writable: Annotated[bool, typer.Option("--writable", help="Weights can be loaded at run time.")] = False,
    area: Annotated[
        bool, typer.Option(help="Estimate an UltraScale+ board's area with Yosys (a minute or more).")
    ] = True,
    run: Annotated[
        Literal["timing", "bitstream"] | None,
        typer.Option("--run", help="Run the Vivado on PATH: the block alone, or the whole system."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Area for UltraScale+ (Yosys); for an UltraScale+ board all that Vivado needs; for an open board its bitstream.

    An UltraScale+ board's folder holds RTL, IP packaging, block design, scripts, constraints, driver and register
    documentation; none of it was run in Vivado or on silicon by its authors. An open board's bitstream has its timing
    met.
    """
    with Reply(as_json) as reply:
        table = None if target == "xcup" else _board(target, "--target")
        network = common.load_bundle(bundle)
        given = synapse_lanes or neuron_lanes or event_lanes
        lanes = (synapse_lanes or 128, neuron_lanes or 8, event_lanes or 1)
        if run is not None and (table is None or table.flow != "xcup"):
            raise CliError(f"--run: expected an UltraScale+ board as --target, got {target!r}")
        if table is None:
            reply.finish(_area(network, lanes, output))
            return
        if output is None:
            raise CliError(
                f"-o: expected a folder for {'the IP' if table.flow == 'xcup' else 'the bitstream'}, got none"
            )
        options = common.hardware_options(network, *lanes) if given else None
        if table.flow != "xcup":
            reply.finish(_open(network, options, table, output, frequency))
            return
        answer = _ultrascale(network, options, table, output, frequency, data_bits, writable, area)
        if run is not None:
            answer["vivado"] = _run(output, run)
        reply.finish(answer)


def _area(network: Network, lanes: tuple[int, int, int], output: Path | None) -> dict[str, Any]:
    from apical.hw import utilization, verilog
    from apical.sw import pipeline
    from apical.sw.bundle import write_directory

    answer = pipeline.area(network, lanes)
    if output is not None:
        design = verilog.generate(network, common.hardware_options(network, *lanes))
        log = utilization.synthesize_xcup(design).log

        def fill(folder: Path) -> None:
            (folder / f"{design.manifest.top}.v").write_text(design.verilog, encoding="utf-8")
            (folder / "utilization.json").write_text(json.dumps(answer) + "\n", encoding="utf-8")
            (folder / "yosys.log").write_text(log, encoding="utf-8")

        write_directory(output, fill)
        answer["files"] = [str(f) for f in sorted(output.iterdir())]
    return answer


def _open(
    network: Network, options: HardwareOptions | None, board: Board, output: Path, frequency: float | None
) -> dict[str, Any]:
    from apical.hw import open_flow

    with common.progress(f"bitstream for {board.name}"):
        placed = open_flow.build(network, board, output, options=options, frequency_mhz=frequency)
    return {"target": board.name, **placed.summary()}


def shares(used: Utilization, board: Board) -> dict[str, float]:
    """Percent of the device, by resource."""
    c = board.capacity
    have = {"lut": c.lut, "ff": c.ff, "dsp": c.dsp, "bram": c.bram, "uram": c.uram}
    return {k: round(100 * used.summary()[k] / n, 2) for k, n in have.items() if n}


def _ultrascale(
    network: Network,
    options: HardwareOptions | None,
    board: Board,
    output: Path,
    frequency: float | None,
    data_bits: int,
    writable: bool,
    area: bool,
) -> dict[str, Any]:
    from apical.hw import choice, fit, ip_folder, utilization, vivado
    from apical.hw.register_map import AxiOptions
    from apical.sw.bundle import identity, write_directory

    axi = AxiOptions(data_bits=data_bits, writable=writable)
    estimate: dict[str, Any] = {}
    if options is None:
        chosen = choice.choose(network, board)
        options, estimate = chosen.options, {"fit": chosen.summary()}
    else:
        fit.check(network, options, board, axi=True)
    with common.progress(f"RTL and scripts for {board.name}"):
        files = ip_folder.texts(network, board, options, axi, frequency)
    answer: dict[str, Any] = {
        "target": board.name,
        "part": board.part,
        "identity": identity(network),
        "clock_mhz": float(frequency or board.design_mhz or 0),
        "lanes": {n: [v.synapse, v.neuron, v.event] for n, v in options.lanes.items()},
        "label": LABEL,
        "vivado": _vivado_there(),
        **estimate,
    }
    if area:
        with common.progress("area, by Yosys"):
            rtl = files[f"rtl/{vivado.TOP}.v"]
            netlist = ip_folder.rtlil(network, options, axi)
            used = utilization.synthesize_xcup(rtl, vivado.TOP, netlist, utilization.WIRE_PS)
        depth = used.depth or {}
        answer |= used.summary() | {"percent": shares(used, board)}
        answer |= {"levels": depth.get("levels"), "dsp_levels": depth.get("dsp_levels")}
        files["area.json"] = (
            json.dumps({**used.summary(), "percent": answer["percent"], "depth": depth}, indent=1) + "\n"
        )
    if estimate:
        files["fit.json"] = json.dumps(estimate["fit"], indent=1) + "\n"
    write_directory(output, lambda folder: vivado.write(folder, files))
    answer["files"] = sorted(str(output / name) for name in files)
    return answer


def _vivado_there() -> str:
    from apical.hw import tools

    found = tools.look("vivado")
    return f"on PATH ({found.version}), not run: --run runs it" if found.ok else "not on PATH: scripts written, not run"


def _run(folder: Path, what: Literal["timing", "bitstream"]) -> dict[str, Any]:
    """Run the scripts in the folder and read the reports."""
    from apical.hw import tools, vivado_report

    start = [*tools.find("vivado"), "-mode", "batch", "-nojournal", "-nolog", "-source"]
    steps = ["out_of_context.tcl"] if what == "timing" else ["package_ip.tcl", "non_project.tcl"]
    for step in steps:
        with common.progress(f"Vivado, {step}"):
            script = (folder / "vivado" / step).resolve()
            tools.run_tool([*start, str(script)], script.parent, script.parent / f"{script.stem}.log")
    return {"ran": steps, **vivado_report.read(folder / "vivado" / "reports")}


def activity(
    bundle: BundleArgument,
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder for activity.saif and activity.json.")],
    input_file: InputOption = None,
    data: DataOption = None,
    limit: LimitOption = 10,
    board: Annotated[str, typer.Option("--board", help="For which lanes are chosen, and its clock.")] = "zcu104",
    synapse_lanes: SynapseChoice = None,
    neuron_lanes: NeuronChoice = None,
    event_lanes: EventChoice = None,
    frequency: Annotated[
        float | None, typer.Option("--mhz", min=1, max=800, help="Clock [default: the board's]")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Switching of a workload: how often every port and register toggles on the RTL (SAIF), and what it counts.

    Beside out_of_context.tcl the file makes Vivado's power that of this workload; `apical reports --prices` then makes
    a technology table of it.
    """
    from apical.hw import choice
    from apical.sim import activity as switching
    from apical.sw import bundle as store
    from apical.sw import energy

    with Reply(as_json) as reply:
        table = _board(board, "--board")
        network = common.load_bundle(bundle)
        x, _ = common.load_input(network, input_file, data, limit)
        given = synapse_lanes or neuron_lanes or event_lanes
        if given:
            options = common.hardware_options(network, synapse_lanes or 128, neuron_lanes or 8, event_lanes or 1)
        else:
            options = choice.choose(network, table).options
        mhz = float(frequency or table.design_mhz or (table.clock.frequency_mhz if table.clock else 100.0))
        file = output / "activity.saif"
        with common.progress("switching activity") as update:
            found = switching.record(network, options, x, file, clock_mhz=mhz, progress=update)
        content = {
            "identity": store.identity(network),
            "samples": int(x.shape[0]),
            "ticks": int(x.shape[1]),
            "clock_mhz": mhz,
            "cycles": found.trace.cycles,
            "seconds": found.seconds,
            "nets": len(found.switching.toggles),
            "toggles": found.switching.total,
            "lanes": {n: [v.synapse, v.neuron, v.event] for n, v in options.lanes.items()},
            "counts": energy.counts(network, found.trace),
        }
        store.write_file(output / "activity.json", json.dumps(content, indent=1) + "\n")
        reply.finish({"saif": file, "counted": output / "activity.json", **content})


def reports(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where Vivado's *.rpt files are.")],
    activity: Annotated[
        Path | None,
        typer.Option("--activity", metavar="FILE.json", help="What `apical activity` counted, for --prices."),
    ] = None,
    prices: Annotated[
        Path | None,
        typer.Option("--prices", metavar="NAME.yaml", help="Write a technology table from the power report."),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Read Vivado's reports: utilization, timing, power; and make energy prices of the power report.

    Prices need a power report that knows a workload's switching (`apical activity`) and what that workload counted.
    """
    from apical.hw import vivado_report

    with Reply(as_json) as reply:
        if (activity is None) != (prices is None):
            raise CliError("--activity and --prices: expected both or neither, got one")
        answer = vivado_report.read(folder)
        if activity is not None and prices is not None:
            run = _power_run(answer, activity)
            name = prices.stem
            table = vivado_report.fit_prices([run], name)
            technology = vivado_report.write_technology(prices, table)
            answer["technology"] = {"file": str(prices), "prices": {k: p.value for k, p in technology.prices.items()}}
        reply.finish(answer)


def _power_run(found: Mapping[str, Any], file: Path) -> Any:
    from apical.hw.vivado_report import PowerRun

    if "power" not in found:
        raise CliError("--prices: expected a power.rpt in the folder, found none")
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        counts = {str(k): int(v) for k, v in content["counts"].items()}
        seconds, identity = float(content["seconds"]), str(content["identity"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CliError(f"--activity {file}: expected what `apical activity` wrote: {type(error).__name__}") from None
    return PowerRun(
        found["power"], counts, seconds, f"Vivado report_power of network {identity}, with its own switching"
    )
