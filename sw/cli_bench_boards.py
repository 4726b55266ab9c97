"""`apical bench boards`: networks of the zoo on every UltraScale+ board, lanes chosen for it, area and depth by Yosys.

The result is kept in `sw/studies/boards.json`, from which docs/reference/boards.md is made:

    python -m apical.sw.cli_bench_boards sw/studies/boards.json

A synthesis takes minutes; equal designs (boards that bind nothing get the same lanes) are synthesized once and kept in
the cache. With a second argument, `kept`, what isn't there is left an estimate.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from apical.sw import cli_common as common
from apical.sw.cli_common import CliError

if TYPE_CHECKING:
    from apical.hw.design import HardwareOptions
    from apical.hw.utilization import Utilization
    from apical.sw.network import Network

NETWORKS = {
    "mnist-lif": "LIF 784-128-10, MNIST",
    "ecg-srnn": "adaptive spiking 4-36 recurrent-6, ECG",
    "mnist-conv": "three convolution layers, MNIST",
    "two-view-digits": "two-point cells, a view of the digit in each compartment, MNIST",
}
LEVELS = 6
"""LUT levels between registers that a design may have."""
DEEPER = {"mnist-conv": 7}
"""Networks that have more, as they are today: `ready` runs from a convolution's visits into the queue before it."""
STUDY = Path(__file__).parent / "studies" / "boards.json"
Synthesize = Callable[["Network", "HardwareOptions"], "Utilization | None"]


def _synthesized(network: Network, options: HardwareOptions) -> Utilization:
    from apical.hw import ip_folder, utilization, vivado
    from apical.hw.axi_system import AxiSystem

    text = AxiSystem(network, options).verilog()
    return utilization.synthesize_xcup(text, vivado.TOP, ip_folder.rtlil(network, options), utilization.WIRE_PS)


def _kept(network: Network, options: HardwareOptions) -> Utilization | None:
    from apical.hw import utilization, vivado
    from apical.hw.axi_system import AxiSystem

    return utilization.kept_xcup(AxiSystem(network, options).verilog(), vivado.TOP, utilization.WIRE_PS)


def ultrascale() -> list[str]:
    """Names of the UltraScale+ boards."""
    from apical.hw import boards

    return [name for name in boards.names() if boards.load(name).flow == "xcup"]


def rows(
    networks: Sequence[str] = tuple(NETWORKS), names: Sequence[str] = (), synthesize: Synthesize = _synthesized
) -> list[dict[str, Any]]:
    """One row per network and board: lanes, resources, share of the device, levels of the longest path.

    :param names: of boards; all UltraScale+ boards unless given.
    :param synthesize: None of it leaves a row with the estimates of `apical.hw.fit`, and says so.
    """
    from apical.hw import boards, choice, fit
    from apical.sw import zoo
    from apical.sw.cli_synth import shares

    found: dict[str, Utilization | None] = {}
    out = []
    for name in networks:
        network = zoo.load(name)
        for board in names or ultrascale():
            table = boards.load(board)
            try:
                chosen = choice.choose(network, table)
            except fit.FitError as error:
                out.append({"network": name, "board": board, "fits": False, "why": str(error)})
                continue
            key = name + json.dumps(asdict(chosen.options), sort_keys=True)
            if key not in found:
                with common.progress(f"{name} for {board}: area and depth"):
                    found[key] = synthesize(network, chosen.options)
            used = found[key]
            need = {"lut": chosen.need.lut, "ff": chosen.need.ff, "dsp": chosen.need.dsp, "bram": chosen.need.bram}
            out.append(
                {
                    "network": name,
                    "board": board,
                    "fits": True,
                    "lanes": {n: [v.synapse, v.neuron, v.event] for n, v in chosen.lanes.items()},
                    "input_event_lanes": dict(chosen.options.input_event_lanes),
                    **(need | {"uram": 0} if used is None else used.summary()),
                    "percent": chosen.share if used is None else shares(used, table),
                    "synthesized": used is not None,
                    "estimated": need,
                    "cycles_per_tick": chosen.cycles_per_tick,
                    "binds": chosen.binds,
                    "depth": {"levels": None, "dsp_levels": None} if used is None else dict(used.depth or {}),
                    "tool": None if used is None else used.tool,
                }
            )
    return out


def figures(found: Sequence[Mapping[str, Any]]) -> dict[str, float | int | None]:
    """Flat figures: per network and board the resources and shares; the deepest path of all."""
    out: dict[str, float | int | None] = {"designs": len(found), "levels_allowed": LEVELS}
    deepest: list[int] = []
    for row in found:
        short = f"{row['network']}_{row['board']}".replace("-", "_")
        out[f"{short}_fits"] = int(row["fits"])
        if not row["fits"]:
            continue
        out |= {f"{short}_{k}": row[k] for k in ("lut", "ff", "dsp", "bram", "uram")}
        out |= {f"{short}_{k}_percent": v for k, v in row["percent"].items()}
        out[f"{short}_levels"], out[f"{short}_dsp_levels"] = row["depth"]["levels"], row["depth"]["dsp_levels"]
        out[f"{short}_synthesized"] = int(row["synthesized"])
        if row["synthesized"]:
            deepest.append(row["depth"]["levels"])
    out["levels"] = max(deepest, default=None)
    return out


def stored() -> list[dict[str, Any]]:
    """The rows of the last full run that was kept."""
    found: list[dict[str, Any]] = json.loads(STUDY.read_text(encoding="utf-8"))["rows"]
    return found


HEAD = """# Boards

What `apical fit BUNDLE --board NAME` and `apical synth BUNDLE --target NAME` know;
[add one's own](../how-to/add-a-board.md).

**Bitstreams of the open boards are placed, routed and timed by nextpnr. Nothing for the UltraScale+ boards was run in
Vivado, and nothing here on silicon.**"""
TABLE = """## Networks on UltraScale+ boards

`apical bench boards`: the zoo's networks behind AXI (`apical_axi`), lanes as `apical fit` chooses them (a tenth of the
sources sending), mapped by Yosys (`synth_xilinx -family xcup`); block RAM in RAMB36; percent of the device in brackets.
The processing system's DMA and interconnect come on top (some thousand LUT). *Levels*: LUT levels on the longest path
between registers, a carry chain as one ({levels} are allowed; a convolution's `ready` takes 7), and, behind the
stroke, the levels around a DSP slice's
multiplier on the longest path through one, whose registers are flip-flops beside it (rules: `apical.hw.depth`).
*Estimate only*: not synthesized, the formulas of `apical.hw.fit`. *Cycles*: estimated, of a tick, at least."""


def boards_page() -> str:
    """Reference of the boards, and what of them the zoo's networks take."""
    from apical.hw import boards

    lines = [
        "| board | device | LUT | FF | DSP | block RAM | UltraRAM | clock | |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in boards.names():
        b = boards.load(name)
        c = b.capacity
        clock = b.design_mhz or (b.clock.frequency_mhz if b.clock else 0.0)
        if b.flow != "xcup":
            how = "bitstream, serial line"
        elif b.processor:
            how = "processing system, DMA"
        else:
            how = "JTAG-AXI, stream FIFO"
        memory = f"{c.bram} × {c.bram_kilobits} kbit"
        numbers = f"{c.lut:,} | {c.ff:,} | {c.dsp:,} | {memory} | {c.uram or '-'} | {clock:g} MHz"
        lines.append(f"| `{name}`: {b.title} | {b.part or b.device} | {numbers} | {how} |")
    parts = [HEAD, "\n".join(lines), TABLE.format(levels=LEVELS)]
    found = stored()
    for name, what in NETWORKS.items():
        mine = [r for r in found if r["network"] == name]
        if not mine:
            continue
        table = [f"### `zoo:{name}`", "", f"{what}.", ""]
        table += ["| board | synapse lanes | LUT | FF | DSP | block RAM | cycles | levels | binds |"]
        table += ["|---|---|---|---|---|---|---|---|---|"]
        table += [_line(r) for r in mine]
        parts.append("\n".join(table))
    return "\n\n".join(parts)


def _line(row: Mapping[str, Any]) -> str:
    if not row["fits"]:
        return f"| `{row['board']}` | {row['why']} | | | | | | | |"
    cells = [f"{row[k]:,g} ({row['percent'].get(k, 0):g} %)" for k in ("lut", "ff", "dsp", "bram")]
    depth, lanes = row["depth"], " · ".join(str(v[0]) for v in row["lanes"].values())
    levels = " / ".join("-" if depth[k] is None else str(depth[k]) for k in ("levels", "dsp_levels"))
    levels = levels if row["synthesized"] else "estimate only"
    return (
        f"| `{row['board']}` | {lanes} | {' | '.join(cells)} | {row['cycles_per_tick']:g} | {levels} | {row['binds']} |"
    )


def main() -> None:
    """Run it all and keep it in the file that the first argument names."""
    if len(sys.argv) not in (2, 3) or sys.argv[2:] not in ([], ["kept"]):
        raise CliError(f"expected the file sw/studies/boards.json, and perhaps kept, got {sys.argv[1:]}")
    from apical.sw.bundle import write_file

    content = {"command": "apical bench boards", "rows": rows(synthesize=_kept if sys.argv[2:] else _synthesized)}
    write_file(Path(sys.argv[1]), json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
