"""The command `import`: a float network of another tool becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from apical.sw import cli_common as common
from apical.sw import cli_import_nir
from apical.sw.cli_common import CliError, JsonOption, Reply, SeedOption

if TYPE_CHECKING:
    import numpy as np

    from apical.sw.calibrate import Calibrated
    from apical.sw.data import Labels
    from apical.sw.network import Network
    from apical.sw.real_network import RealNetwork
    from apical.sw.srnn_import import Layout, State

SOURCES = ("srnn", *cli_import_nir.SOURCES)
SEQUENCES = {"ecg": "ecg-qtdb:sample-train"}  # what a layout calibrates on unless told: shipped


def add(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command("import", epilog="Example: apical import net.pth -o my-net --source srnn --check ecg-qtdb:test")(bring)


def bring(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A NIR graph .nir; srnn: a state dict .pth, or .npz.")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="The bundle to write.")] = None,
    source: Annotated[str, typer.Option("--source", help=f"Who wrote it: {', '.join(SOURCES)}.")] = "srnn",
    dt: Annotated[
        float | None, typer.Option("--dt", help="NIR: seconds of a tick; default: what the source usually writes.")
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="[NODE.]FIELD=VALUE", help="NIR: a field of the source profile or of a node."),
    ] = None,
    decoder: Annotated[
        str, typer.Option("--decoder", help=f"NIR: how a class is read: {', '.join(cli_import_nir.DECODERS)}.")
    ] = "sum",
    layout: Annotated[
        str | None, typer.Option("--layout", help="srnn: naming of the layers; default: what fits.")
    ] = None,
    b0: Annotated[float | None, typer.Option("--b0", help="srnn: threshold at rest, a constant of the script.")] = None,
    beta: Annotated[float | None, typer.Option("--beta", help="srnn: strength of adaptation, a constant too.")] = None,
    bits: Annotated[
        int | None,
        typer.Option(
            "--weight-bits",
            "--bits",
            min=2,
            max=16,
            help="Bits of a weight; default: 8; NIR: 8 to 16, as few as decide as the float network does.",
        ),
    ] = None,
    decay_bits: Annotated[int, typer.Option("--decay-bits", min=1, max=16, help="Fraction bits of decays.")] = 12,
    state_bits: Annotated[
        int | None,
        typer.Option("--state-bits", min=4, max=32, help="Bits of a membrane; default: 20; NIR: as the weights' bits."),
    ] = None,
    gain_bits: Annotated[
        int, typer.Option("--gain-bits", min=0, max=8, help="A weight counts 2^this steps of the membrane.")
    ] = 4,
    count_bits: Annotated[
        int | None, typer.Option("--count-bits", min=1, max=8, help="NIR: bits of graded spikes; default: as the data.")
    ] = None,
    clamp: Annotated[bool, typer.Option("--clamp", help="srnn: take a decay of 1 where tau is below 0.")] = False,
    calibrate: Annotated[
        str | None,
        typer.Option("--calibrate", metavar="DATA", help="Data to choose scales on, FILE.npz; srnn: or NAME[:SPLIT]."),
    ] = None,
    samples: Annotated[int, typer.Option("--samples", min=1, help="Sequences of it to calibrate on.")] = 40,
    tune: Annotated[
        int,
        typer.Option("--tune", min=0, help="Epochs of training under the integer rule (NIR: on --calibrate's labels)."),
    ] = 0,
    check: Annotated[
        str | None,
        typer.Option("--check", metavar="DATA", help="NIR: FILE.npz of the source's trace; srnn: labelled data."),
    ] = None,
    seed: SeedOption = 0,
    as_json: JsonOption = False,
) -> None:
    """Import a float network: choose every neuron's scale on data, round, and write the bundle.

    With --check it compares: the float network, computed as its source computes it, with the source's own spikes,
    values or classes (NIR) or with labels (srnn); then the golden model; and says what each rounding costs.
    """
    if source not in SOURCES:
        raise CliError(f"--source: expected one of {', '.join(SOURCES)}, got {source!r}")
    if source != "srnn":
        from apical.sw.nir_formats import LADDER
        from apical.sw.nir_import import Formats

        ladder = LADDER if bits is None and state_bits is None else None
        data, trace = (None if given is None else Path(given) for given in (calibrate, check))
        wide = Formats(bits or 8, decay_bits, state_bits or 20, gain_bits, count_bits)
        order = cli_import_nir.Order(
            file, output, source, dt, sets or (), data, trace, decoder, samples, wide, ladder, tune, seed, quiet=as_json
        )
        cli_import_nir.answer(order, as_json)
        return
    if output is None:
        raise CliError("-o: expected a bundle to write, got none")
    bits, state_bits = bits or 8, state_bits or 20
    from apical.sw import bundle, srnn_import
    from apical.sw import calibrate as scaling

    if layout is not None and layout not in srnn_import.LAYOUTS:
        raise CliError(f"--layout: expected one of {', '.join(srnn_import.LAYOUTS)}, got {layout!r}")
    with Reply(as_json) as reply:
        state = srnn_import.read(file)
        name = layout or srnn_import.layout_of(state)
        described = srnn_import.with_constants(srnn_import.LAYOUTS[name], b0, beta)
        real = srnn_import.real_network(
            state,
            described,
            bits=bits,
            decay_bits=decay_bits,
            state_bits=state_bits,
            gain_bits=gain_bits,
            clamp=clamp,
            name=file.stem,
        )
        given = calibrate or SEQUENCES.get(name)
        if given is None:
            raise CliError(f"--calibrate: expected training data, NAME[:SPLIT] or FILE.npz, got none (layout {name})")
        if tune and given not in trainable_sets():
            raise CliError(
                f"--tune: expected --calibrate of {trainable_sets()} (it chooses on validation), got {given!r}"
            )
        size = real.inputs[0].size
        x, _ = events("--calibrate", given, size)
        judged = None if check is None else events("--check", check, size)
        with common.progress("calibration") as update:
            done = scaling.calibrate(real, x[:samples], update)
        network = done.network
        formats = f"--bits {bits} --decay-bits {decay_bits} --state-bits {state_bits} --gain-bits {gain_bits}"
        facts: dict[str, str | int | float | bool] = {
            "command": f"apical import {file.name} --source {source} --layout {name} {formats}",
            "b0": described.b0,
            "beta": described.beta,
            "calibration": f"{Path(given).name}, {min(samples, len(x))} samples",
        }
        if tune:
            from apical.sw import datasets, tuning

            validation = datasets.load(given.replace(":train", ":validation"))
            network, epoch = tuning.tuned(done, datasets.load(given), validation, tune, seed, progress=not as_json)
            facts |= {"tuning_epochs": tune, "tuning_best_epoch": epoch, "seed": seed}
        answer: dict[str, Any] = {
            "bundle": output,
            "layout": name,
            "neurons": sum(p.size for p in network.populations),
            "weights": sum(p.weights.size for p in network.projections),
            "scales": {k: [float(a.min()), float(a.max())] for k, a in done.scales.items()},
        }
        if judged is not None:
            answer |= compared(state, described, real, done, network, judged)
            facts |= {"checked": str(Path(str(check)).name)}
            facts |= {k: answer[k] for k in ("float_accuracy", "accuracy", "loss_points") if answer[k] is not None}
        answer["identity"] = bundle.save(network, output, facts)
        reply.finish(answer)


def events(option: str, given: str, size: int) -> tuple[np.ndarray, Labels | None]:
    """Events [samples, ticks, channels] and labels of a data set or a file.

    :raises CliError: another number of channels, or no sequences.
    """
    from apical.sw import datasets

    if given.endswith(".npz"):
        try:
            x, labels = common.read_npz(Path(given))
        except CliError as error:
            raise CliError(str(error).replace("--input", option)) from None
        truth = None if labels is None else datasets.Labels(labels.astype("int64"))
    else:
        data = datasets.load(given)
        if data.images.ndim != 3:
            raise CliError(f"{option} {given}: expected sequences [samples, ticks, channels], got {data.images.shape}")
        x, truth = data.images, data.truth
    if x.ndim != 3 or x.shape[2] != size:
        raise CliError(f"{option} {given}: expected {size} channels, got shape {list(x.shape)}")
    if x.min() < 0 or x.max() > 1:
        raise CliError(f"{option} {given}: expected spikes, 0 or 1, got {x.min()} to {x.max()}")
    return x, truth


def compared(
    state: State,
    layout: Layout,
    real: RealNetwork,
    done: Calibrated,
    network: Network,
    judged: tuple[np.ndarray, Labels | None],
) -> dict[str, Any]:
    """Accuracy of the float network, and of the integer network before and after tuning; each rounding's cost."""
    from apical.sw import calibrate, golden, srnn_import
    from apical.sw.data import accuracies

    x, labels = judged
    name = network.outputs[0]

    def score(values: np.ndarray) -> float | None:
        return accuracies(golden.decode(network, golden.Trace({}, {name: values}, {})), labels)["accuracy"]

    theirs = accuracies(srnn_import.decide(layout, srnn_import.float_run(state, layout, x)[name]), labels)
    ours = accuracies(golden.decode(network, golden.run(network, x)), labels)
    costs = calibrate.costs(real, done, x, score)
    out: dict[str, Any] = {f"float_{key}": value for key, value in theirs.items()} | ours
    out["calibrated_accuracy"] = costs[-1].score
    before, after = theirs["accuracy"], ours["accuracy"]
    out["loss_points"] = None if before is None or after is None else 100 * (before - after)
    out["samples"] = len(x)
    out["costs"] = {c.rounded: {"error": c.error, "accuracy": c.score} for c in costs}
    return out


def trainable_sets() -> list[str]:
    """What --tune can train on."""
    from apical.sw import datasets

    return [f"{name}:train" for name in datasets.names()]
