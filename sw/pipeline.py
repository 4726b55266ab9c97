"""The main job, end to end, on two small networks: train, export, prove the hardware equal, price it, place it.

Independent jobs run side by side; each is a function of files (bundle, options) to files and figures.
"""

from __future__ import annotations

import multiprocessing
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import TYPE_CHECKING, Any

from apical.sw.cli_common import figure, hardware_options

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

    from apical.sim.equivalence import CosimResult
    from apical.sw.datasets import Data, Labels
    from apical.sw.network import IntArray, Network
    from apical.sw.report import SystemReport

BOARD = "ulx3s"
DETAIL = 4  # samples whose membranes the report shows


@dataclass(frozen=True)
class System:
    """One of the demo's networks.

    :param recipe: of the zoo, trained here or loaded.
    :param data: the shipped sample that golden and RTL run.
    :param lanes: synapse, neuron and event lanes, at most.
    """

    title: str
    recipe: str
    data: str
    lanes: tuple[int, int, int] = (128, 8, 1)


SYSTEMS = (
    System("spiking: LIF 784-128-10 on MNIST", "mnist-lif", "mnist:sample"),
    System("graded: two-point cells on two noisy views of a digit", "two-view-digits", "two-view-digits:sample"),
)


def sentence(result: CosimResult) -> str:
    """The sentence that the product promises, or the first divergence."""
    if result.equal:
        return f"equal: {result.samples} of {result.samples} samples, every tick, every counter"
    good = result.samples - result.mismatches
    return f"NOT equal: {good} of {result.samples} samples; first divergence: {result.divergence}"


def area(network: Network, lanes: tuple[int, int, int]) -> dict[str, Any]:
    """UltraScale+ resources of a network, with the keys of ``apical synth --json``."""
    from apical.hw import utilization, verilog

    design = verilog.generate(network, hardware_options(network, *lanes))
    found = utilization.synthesize_xcup(design)
    return {"target": "xcup", **found.summary(), "fmax_mhz": None, "bitstream": None, "files": []}


def system_report(
    title: str,
    network: Network,
    result: CosimResult,
    raw: Data | None,
    labels: IntArray | Labels | None,
    *,
    utilization: Mapping[str, Any] | None = None,
    bitstream: Mapping[str, Any] | None = None,
    provenance: Mapping[str, str | int | float | bool] | None = None,
    x: IntArray | None = None,
    results: Mapping[str, Any] | None = None,
) -> SystemReport:
    """What the page shows of one proven system."""
    from apical.sw import energy
    from apical.sw.report import SystemReport

    return SystemReport(
        title,
        network,
        result.golden,
        result.rtl,
        result.summary() | ({} if result.equal else {"divergence": str(result.divergence)}),
        energy.table(network, result.golden),
        utilization,
        bitstream,
        images=None if raw is None else raw.images,
        labels=labels,
        provenance=provenance or {},
        x=x,
        results=results or {},
    )


def _train(recipe: str, folder: Path, seed: int, lines: Queue[str]) -> None:
    """Train one network in a process of its own, saying each epoch's line."""
    import torch

    from apical.sw import zoo

    torch.set_num_threads(1)
    zoo.train(recipe, folder, seed=seed, quick=True, progress=False, log=lines.put)


class _Demo:
    """One run of the demo: its folder, its pools, what is known so far."""

    def __init__(self, folder: Path, pretrained: bool, samples: int, seed: int, bar: Progress, manager: Any) -> None:
        self.folder, self.pretrained, self.samples, self.seed = folder, pretrained, samples, seed
        self.bar, self.manager = bar, manager

    def step(self, text: str, work: Callable[[Callable[[int, int], None]], Any]) -> Any:
        """Run one job with a line of its own in the progress display."""
        task = self.bar.add_task(text, total=None)
        out = work(lambda done, total: self.bar.update(task, completed=done, total=total))
        total = self.bar.tasks[task].total or 1
        self.bar.update(task, completed=total, total=total)
        return out

    def network(self, system: System, trainers: ProcessPoolExecutor) -> Path:
        """The system's bundle in the demo's folder, trained or copied from the zoo."""
        from apical.sw import bundle, zoo

        out = self.folder / system.recipe
        if self.pretrained:
            source = zoo.path(system.recipe)
            bundle.save(bundle.load(source), out, bundle.load_recipe(source))
        else:
            lines = self.manager.Queue()
            job = trainers.submit(_train, system.recipe, out, self.seed, lines)

            def follow(update: Callable[[int, int], None]) -> None:
                while not job.done():
                    with suppress(Empty):
                        if found := re.match(r"epoch (\d+)/(\d+)", lines.get(timeout=0.5)):
                            update(int(found[1]), int(found[2]))
                job.result()

            self.step(f"train {system.recipe}", follow)
        return out

    def prove(self, system: System, folder: Path) -> dict[str, Any]:
        """Co-simulation on the shipped sample and area of one system."""
        from apical.sim import equivalence
        from apical.sw import bundle, datasets

        network = bundle.load(folder)
        raw = datasets.load(system.data).first(self.samples)
        x = datasets.encode(raw, network)
        options = hardware_options(network, *system.lanes)
        result = self.step(
            f"golden = RTL? {system.recipe}",
            lambda update: equivalence.cosim(
                network, x, options=options, labels=raw.labels, workers=1, states=True, progress=update
            ),
        )
        used = self.step(f"area {system.recipe}", lambda update: area(network, system.lanes))
        return {
            "network": network,
            "raw": raw,
            "x": x,
            "result": result,
            "area": used,
            "recipe": bundle.load_recipe(folder),
        }

    def bitstream(self, folder: Path) -> dict[str, Any]:
        """Bitstream of the network for the open board, with its timing report."""
        from apical.hw import open_flow
        from apical.sw import bundle

        network, out = bundle.load(folder), self.folder / f"bitstream-{BOARD}"
        built = self.step(f"bitstream for {BOARD}", lambda update: open_flow.build(network, BOARD, out))
        return {"target": BOARD, **built.summary()}


def demo(folder: Path, *, pretrained: bool = False, samples: int = 200, seed: int = 0) -> dict[str, Any]:
    """Run the whole job, print what was found, write bundles, bitstream and `report.html` into `folder`.

    :param pretrained: load the zoo's networks in place of training.
    :param samples: of the shipped data, that golden and the RTL run (at most 500 ship).
    :returns: plain data: `equal` of all systems, `systems`, `bitstream`, `report`, `seconds`.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from apical.sw.report import write_report

    began = time.monotonic()
    folder.mkdir(parents=True, exist_ok=True)
    columns = (SpinnerColumn(), TextColumn("{task.description:<32}"), BarColumn(), TimeElapsedColumn())
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, console=Console(stderr=True)) as bar,
        context.Manager() as manager,
        ThreadPoolExecutor(2) as jobs,
        ProcessPoolExecutor(2, mp_context=context) as trainers,
    ):
        run = _Demo(folder, pretrained, samples, seed, bar, manager)
        bundles: list[Future[Path]] = [jobs.submit(run.network, s, trainers) for s in SYSTEMS]
        ready = [b.result() for b in bundles]
        proofs = [jobs.submit(run.prove, s, b) for s, b in zip(SYSTEMS, ready, strict=True)]
        placed = jobs.submit(run.bitstream, ready[0])
        found = [p.result() for p in proofs]
        bitstream = placed.result()
    page = folder / "report.html"
    sections = [
        system_report(
            system.title,
            each["network"],
            each["result"],
            each["raw"],
            each["raw"].labels,
            utilization=each["area"],
            bitstream=bitstream if system is SYSTEMS[0] else None,
            provenance=each["recipe"],
            x=each["x"],
        )
        for system, each in zip(SYSTEMS, found, strict=True)
    ]
    write_report(page, sections, title="apical demo")
    console = Console()
    answers = {}
    for system, section, each in zip(SYSTEMS, sections, found, strict=True):
        answers[system.recipe] = _show(console, system, section, each)
    console.print(f"[bold]bitstream[/] for {BOARD}: {bitstream['bitstream']}", soft_wrap=True)
    console.print(f"  {bitstream['fmax_mhz']} MHz, {bitstream['lut']} LUT4, {bitstream['bram']} block RAMs")
    console.print(f"[bold]report[/]: {page.resolve()}", soft_wrap=True)
    seconds = time.monotonic() - began
    console.print(f"done in {seconds:.0f} s")
    return {
        "equal": all(each["result"].equal for each in found),
        "systems": answers,
        "bitstream": bitstream,
        "report": str(page),
        "seconds": seconds,
    }


def _show(console: Console, system: System, section: SystemReport, found: Mapping[str, Any]) -> dict[str, Any]:
    """Print one system's figures and joules; returns them."""
    from rich.table import Table

    from apical.sw.report import joules_text

    result, used = found["result"], found["area"]
    console.print(f"\n[bold]{system.title}[/]")
    console.print(sentence(result), soft_wrap=True, highlight=False)
    for name in ("accuracy", "cycles_per_sample", "cycles_per_tick", "lane_utilization", "samples_per_second"):
        console.print(f"  {name.replace('_', ' '):<20} {figure(result.summary()[name])}")
    console.print("  area (UltraScale+)   " + ", ".join(f"{used[k]} {k}" for k in ("lut", "ff", "dsp", "bram", "uram")))
    joules = Table(title="energy per sample")
    for column in ("technology", "this network", "dense baseline", "synaptic transmissions"):
        joules.add_column(column, justify="left" if column == "technology" else "right")
    for row in section.energy:
        dense = row["baseline"].get("joules_per_sample")
        joules.add_row(
            row["title"],
            joules_text(row["joules_per_sample"]),
            "-" if dense is None else joules_text(dense),
            f"{row['transmissions_per_sample']:,.0f}",
        )
    console.print(joules)
    return {**result.summary(), "area": used, "energy": list(section.energy)}
