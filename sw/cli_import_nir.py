"""The part of `import` that takes NIR graphs: check against the source's own trace, calibrate, write the bundle."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from apical.sw import cli_common as common
from apical.sw.cli_common import CliError, Reply

if TYPE_CHECKING:
    import numpy as np

    from apical.sw.nir_check import Reference
    from apical.sw.nir_import import Formats
    from apical.sw.nir_read import Graph
    from apical.sw.nir_twin import FloatNetwork

SOURCES = ("nir", "snntorch", "norse", "sinabs", "rockpool", "spikingjelly")
DECODERS = ("sum", "last", "rate", "none")


@dataclass(frozen=True)
class Order:
    """What the command line asks for."""

    file: Path
    output: Path | None
    source: str
    dt: float | None
    sets: Sequence[str]
    calibrate: Path | None
    check: Path | None
    decoder: str
    samples: int
    formats: Formats
    ladder: tuple[tuple[int, int], ...] | None  # widths to choose from; None: those of `formats`
    tune: int = 0
    seed: int = 0
    quiet: bool = False


def answer(order: Order, as_json: bool) -> None:
    """Run the command and print its answer; exit status 2 where the graph is refused."""
    from apical.sw.nir_read import NirError

    if order.decoder not in DECODERS:
        raise CliError(f"--decoder: expected one of {', '.join(DECODERS)}, got {order.decoder!r}")
    if order.output is not None and order.calibrate is None:
        raise CliError("--calibrate: expected FILE.npz with input like the network's, to choose scales on; got none")
    if order.output is None and order.check is None:
        raise CliError("expected -o BUNDLE (with --calibrate) or --check REFERENCE.npz, got neither")
    with Reply(as_json) as reply:
        out: dict[str, Any] = {"imported": False, "source": order.source, "dt": order.dt, "nodes": {}, "refused": []}
        try:
            _fill(order, out)
        except NirError as error:
            if not as_json:
                raise
            out["refused"] = list(error.each)
            reply.finish(out)
            raise typer.Exit(2) from None
        reply.finish(out)


def _fill(order: Order, out: dict[str, Any]) -> None:
    from apical.sw import nir_check, nir_read, nir_twin

    graph = nir_read.read(order.file)
    network = nir_twin.of_graph(graph, order.source, order.dt, order.sets)
    out |= {"dt": network.dt, "nodes": described(graph, network), "notes": list(network.notes)}
    given = None if order.calibrate is None else nir_check.read(order.calibrate)
    reference = None if order.check is None else nir_check.read(order.check)
    if given is not None and given.x is None:
        raise CliError(f"--calibrate {order.calibrate}: expected an array 'x' [samples, ticks, channels], got none")
    if reference is not None:
        out |= {"class_agreement": None, "accuracy": None}  # of the integers, where a bundle is made
        out |= _checked(network, reference, given, order)
    if order.output is not None and given is not None and given.x is not None:
        _import(order, network, given, reference, out)


def described(graph: Graph, network: FloatNetwork) -> dict[str, str]:
    """What became of every node."""
    out = {}
    for name, node in graph.nodes.items():
        cell = network.cells.get(name)
        if cell is not None:
            decays = f"{cell.reset}, {cell.compare}{', graded' if cell.graded else ''}"
            out[name] = f"{node.type}: {decays if cell.threshold is not None else 'read-out'}"
        else:
            out[name] = node.type if node.type in ("Input", "Output") else f"{node.type}: folded"
    return out


def _input(reference: Reference, given: Reference | None, order: Order) -> np.ndarray:
    x = reference.x if reference.x is not None else (None if given is None else given.x)
    if x is None:
        raise CliError(f"--check {order.check}: expected an array 'x', there or in --calibrate, got none")
    return x


def _checked(
    network: FloatNetwork, reference: Reference, given: Reference | None, order: Order
) -> dict[str, float | None]:
    from apical.sw import nir_check, nir_twin

    values = nir_twin.run(network, _input(reference, given, order))[network.outputs[0]]
    found = nir_check.figures(values, reference, order.decoder)
    return {f"float_{k}": v for k, v in found.items()}


def _import(
    order: Order, network: FloatNetwork, given: Reference, reference: Reference | None, out: dict[str, Any]
) -> None:
    from apical.sw import bundle, calibrate, nir_check, nir_formats, tuning

    assert given.x is not None and order.output is not None
    decoder = None if order.decoder == "none" else order.decoder
    formats = order.formats
    ladder = order.ladder or ((formats.weight_bits, formats.state_bits),)
    with common.progress("calibration") as update:
        chosen = nir_formats.choose(
            network, given.x, order.samples, formats, decoder, order.file.stem, ladder=ladder, progress=update
        )
    real, done, x = chosen.real, chosen.done, np_ints(given.x)
    net = done.network
    out["tried"] = [asdict(t) for t in chosen.tried]
    out |= {k: getattr(chosen.formats, k) for k in ("weight_bits", "state_bits")}
    facts: dict[str, str | int | float | bool] = {
        "command": f"apical import {order.file.name} --source {order.source} --dt {network.dt:g}"
        + "".join(f" --set {s}" for s in order.sets)
        + f" --weight-bits {chosen.formats.weight_bits} --state-bits {chosen.formats.state_bits}",
        "calibration": f"{Path(str(order.calibrate)).name}, {min(order.samples, len(x))} samples",
    }
    out["scales"] = {k: [float(a.min()), float(a.max())] for k, a in done.scales.items()}
    out["neurons"] = sum(p.size for p in net.populations)
    out["weights"] = sum(p.weights.size for p in net.projections)
    if order.tune:
        if given.labels is None or decoder is None:
            raise CliError(f"--tune: expected 'labels' in --calibrate {order.calibrate} and a --decoder, got none")
        parts = tuning.parts(x, given.labels, order.seed)
        net, epoch = tuning.tuned(done, *parts, order.tune, order.seed, progress=not order.quiet)
        out |= {"tuned_epoch": epoch}
        facts |= {"tuning_epochs": order.tune, "tuning_best_epoch": epoch, "seed": order.seed}
    if reference is not None:
        theirs = np_ints(_input(reference, given, order))
        values = nir_formats.in_real_units(real, replace(done, network=net), theirs)
        out |= nir_check.figures(values, reference, order.decoder)
        facts |= {f"checked_{k}": out[k] for k in ("class_agreement", "accuracy") if out[k] is not None}
    out["costs"] = {c.rounded: c.error for c in calibrate.costs(real, done, x[: order.samples])}
    out["identity"] = bundle.save(net, order.output, facts)
    out |= {"imported": True, "bundle": order.output}


def np_ints(x: np.ndarray) -> np.ndarray:
    """Checked integers as integers."""
    import numpy as np

    return np.asarray(np.rint(x), np.int64)
