"""The command `gates`: what a gated network's kernels do on data, and how much work and how many cycles that saves."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

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
    SynapseOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from apical.sw.network import IntArray, Network

WORK = ("accuracy", "multiply_accumulates", "joules_per_sample", "cycles_per_sample", "lane_utilization")


def add(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: apical gates zoo:mnist-conv-gated --data mnist:sample --against zoo:mnist-conv")(gates)


def _figures(network: Network, x: IntArray, labels: Any, rtl: tuple[int, int, int, int] | None) -> dict[str, Any]:
    """Shares, work and accuracy of one network; by the RTL too where there are lanes (and workers)."""
    from apical.sw import datasets, energy, gating, golden

    with common.progress(network.name) as update:
        if rtl is None:
            trace = golden.run(network, x, progress=update)
            measured: dict[str, Any] = {}
        else:
            from apical.sim import equivalence

            options = common.hardware_options(network, *rtl[:3])
            result = equivalence.cosim(network, x, options=options, workers=rtl[3], reuse=True, progress=update)
            trace = result.golden
            measured = {
                "equal": result.equal,
                "mismatches": result.mismatches,
                "divergence": result.divergence,
                "cycles_per_sample": result.cycles_per_sample,
                "lane_utilization": result.lane_utilization,
            }
    accuracy = datasets.figures(network, trace, labels)["accuracy"]
    work = energy.counts(network, trace)
    spent = energy.joules(work, energy.technology(energy.DEFAULT)).total / trace.samples
    return {"accuracy": accuracy, **gating.report(network, trace, x), "joules_per_sample": spent, **measured}


def _table(rows: dict[str, dict[str, Any]]) -> str:
    """One line per network and point, then one per gate."""
    names = [n for n in WORK if any(n in r for r in rows.values())]
    width = max(len(name) for name in rows)
    lines = [f"{'':<{width}}  " + "  ".join(f"{n:>20}" for n in names)]
    for name, row in rows.items():
        lines.append(f"{name:<{width}}  " + "  ".join(f"{common.figure(row.get(n)):>20}" for n in names))
    for name, row in rows.items():
        for target, gate in row["gates"].items():
            kinds = ", ".join(f"{100 * gate[k]:.0f} % {k.replace('_', ' ')}" for k in ("never", "always", "by_input"))
            lines.append(
                f"{name}, gate of {target!r}: of {gate['groups']} groups {kinds}; {100 * gate['on']:.0f} % on at a time"
            )
    return "\n".join(lines)


def gates(
    bundle: BundleArgument,
    input_file: InputOption = None,
    data: DataOption = None,
    limit: LimitOption = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="BUNDLE", help="The same network without gates.")
    ] = None,
    rtl: Annotated[bool, typer.Option("--rtl", help="Run the RTL too: equality, and clock cycles.")] = False,
    synapse_lanes: SynapseOption = 16,
    neuron_lanes: NeuronOption = 16,
    event_lanes: EventOption = 1,
    workers: WorkersOption = 2,
    as_json: JsonOption = False,
) -> None:
    """Which kernels are never, always or by the input on, and the work that is left, at each operating point.

    Multiply-accumulates are those of events and of the gates; joules at 45 nm, as of `apical energy`. Exit status 0
    only where the RTL, if run, is equal.
    """
    with Reply(as_json) as reply:
        network = common.load_bundle(bundle)
        if not network.gates:
            raise CliError(f"{bundle}: expected a network with gates, got none")
        lanes = (synapse_lanes, neuron_lanes, event_lanes, workers) if rtl else None
        x, labels = common.load_input(network, input_file, data, limit)
        rows = {}
        for point in range(network.points):
            name = bundle if network.points == 1 else f"{bundle} at {point}"
            rows[name] = _figures(network.at(point), x, labels, lanes)
        answer: dict[str, Any] = {"samples": len(x), "networks": rows}
        if against is not None:
            plain = common.load_bundle(against)
            rows[against] = _figures(plain, common.load_input(plain, input_file, data, limit)[0], labels, lanes)
            answer["ratios"] = {
                name: {
                    key: rows[against][key] / row[key]
                    for key in ("multiply_accumulates", "joules_per_sample", "cycles_per_sample")
                    if key in row
                }
                for name, row in rows.items()
                if name != against
            }
        text = _table(rows)
        for name, ratios in answer.get("ratios", {}).items():
            text += f"\n{name}: " + ", ".join(f"{r:.2f} times fewer {k.replace('_', ' ')}" for k, r in ratios.items())
        reply.finish(answer, text, holds=all(row.get("equal", True) for row in rows.values()))
