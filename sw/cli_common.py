"""What the commands share: where bundles and inputs come from, one way to answer, Ctrl-C that ends the children.

Answers go to standard output, everything else (progress, logs, what the tools print) to standard error.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

if TYPE_CHECKING:
    import numpy as np

    from apical.hw.design import HardwareOptions
    from apical.sw.data import Labels
    from apical.sw.network import IntArray, Network

LIMIT_INPUT = 1 << 34  # bytes of one array in an input file, unpacked: 16 GiB


class CliError(Exception):
    """What the user can mend; printed as one line, exit status 2."""


BundleArgument = Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or zoo:NAME.")]
InputOption = Annotated[
    Path | None, typer.Option("--input", metavar="FILE.npz", help="x [samples, ticks, inputs], optional labels.")
]
DataOption = Annotated[
    str | None, typer.Option("--data", metavar="NAME[:SPLIT]", help="A data set by name, such as mnist:test.")
]
LimitOption = Annotated[int | None, typer.Option("--limit", min=1, help="Use only the first samples.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object on standard output, nothing else.")]
SeedOption = Annotated[int, typer.Option("--seed", min=0, help="Seed of everything random.")]
SynapseOption = Annotated[
    int, typer.Option("--synapse-lanes", min=1, max=4096, help="Weights per cycle, at most, of each population.")
]
NeuronOption = Annotated[
    int, typer.Option("--neuron-lanes", min=1, max=4096, help="Neuron updates per cycle, at most.")
]
EventOption = Annotated[int, typer.Option("--event-lanes", min=1, max=64, help="Events per cycle: 1, 2, 4, …")]
KillOption = Annotated[
    float, typer.Option("--kill", metavar="PERCENT", min=0, max=100, help="Run the network damaged: this much is dead.")
]
WhatOption = Annotated[
    str, typer.Option("--what", metavar="WHAT", help="Of what --kill takes: cells, synapses, stream:NAME.")
]
DamageSeedOption = Annotated[int, typer.Option("--damage-seed", min=0, max=65535, help="Which ones die.")]
WorkersOption = Annotated[int, typer.Option("--workers", min=1, max=256, help="Simulations side by side.")]


def find_bundle(text: str) -> Path:
    """Folder of a BUNDLE argument: a path, or ``zoo:NAME``.

    :raises CliError: no such folder or zoo bundle.
    """
    if text.startswith("zoo:"):
        from apical.sw import zoo

        name = text.removeprefix("zoo:")
        if name not in zoo.names():
            raise CliError(f"BUNDLE {text!r}: expected one of {', '.join('zoo:' + n for n in zoo.names())}")
        return zoo.path(name)
    path = Path(text)
    if not path.is_dir():
        raise CliError(f"BUNDLE {text!r}: expected a bundle's folder or zoo:NAME, got no such folder")
    return path


def load_bundle(text: str) -> Network:
    """The network of a BUNDLE argument.

    :raises CliError: no such bundle, or one that breaks a rule of the laws.
    :raises apical.sw.bundle.BundleError, apical.sw.network.NetworkError: a bundle that can't be read or trusted.
    """
    from apical.sw import bundle

    return bundle.load(find_bundle(text))


def load_checkpoint(path: Path, recipe: str) -> tuple[Network, dict[str, str | int | float | bool]]:
    """The best epoch's network of a training checkpoint, and what its bundle says of it. Never unpickles code.

    :raises CliError: not a checkpoint of this recipe.
    """
    import torch

    from apical.sw import zoo

    model = zoo.recipe_of(recipe).build()
    if not path.is_file():
        raise CliError(f"SOURCE {path}: expected a checkpoint, got no such file")
    try:
        state = torch.load(path, weights_only=True)
        model.load_state_dict(state["best"])
        epoch, accuracy = int(state["fitted"]["epoch"]), float(state["fitted"]["accuracy"])
    except Exception as error:  # torch.load raises many kinds
        reason = str(error).strip().splitlines()[-1].strip() if str(error) else type(error).__name__
        raise CliError(f"SOURCE {path}: expected a checkpoint of recipe {recipe}: {reason}") from None
    return model.export(), {"command": f"apical export --recipe {recipe}", "epoch": epoch, "validation": accuracy}


def _member(archive: zipfile.ZipFile, name: str, file: str) -> np.ndarray:
    import numpy as np

    info = archive.getinfo(f"{name}.npy")
    if info.file_size > LIMIT_INPUT:
        raise CliError(f"{file}: {name}: expected at most {LIMIT_INPUT} bytes, got {info.file_size}")
    with archive.open(info) as stream:
        try:
            return np.asarray(np.lib.format.read_array(stream, allow_pickle=False))
        except ValueError as error:
            raise CliError(f"{file}: {name}: expected a plain integer array, got none: {error}") from None


def read_npz(path: Path) -> tuple[np.ndarray, np.ndarray | None]:
    """`x` and, where there are some, `labels` [samples] or [samples, ticks] of an input file. Never unpickles.

    :raises CliError: missing, not an `.npz`, without `x`, pickled, or of the wrong type.
    """
    if not path.is_file():
        raise CliError(f"--input {path}: no such file")
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n.removesuffix(".npy") for n in archive.namelist()]
            if extra := [n for n in names if n not in ("x", "labels")]:
                raise CliError(f"--input {path}: expected arrays 'x' and 'labels', got {extra[0]!r} as well")
            if "x" not in names:
                raise CliError(f"--input {path}: expected an array 'x' [samples, ticks, inputs], got {names or 'none'}")
            x = _member(archive, "x", f"--input {path}")
            labels = _member(archive, "labels", f"--input {path}") if "labels" in names else None
    except (zipfile.BadZipFile, EOFError, OSError) as error:
        raise CliError(f"--input {path}: expected an .npz file as numpy.savez writes it: {error}") from None
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape not in (x.shape[:1], x.shape[:2])):
        raise CliError(
            f"--input {path}: labels: expected integers of shape {list(x.shape[:1])}, got {labels.dtype} of shape "
            f"{list(labels.shape)}"
        )
    return x, labels


def load_input(
    network: Network, file: Path | None, data: str | None, limit: int | None
) -> tuple[IntArray, Labels | None]:
    """Checked input [samples, ticks, inputs] and labels from ``--input`` or ``--data``.

    :raises CliError: neither or both given, or a file that can't be used.
    :raises apical.sw.network.NetworkError: values that the network's inputs can't carry.
    """
    from apical.sw import datasets
    from apical.sw.golden import check_input

    if (file is None) == (data is None):
        raise CliError(f"expected one of --input FILE.npz and --data NAME[:SPLIT], got {'both' if file else 'neither'}")
    if file is not None:
        x, labels = read_npz(file)
        part = slice(0, limit)
        checked = check_input(network, x[part])
        return checked, None if labels is None else datasets.Labels(labels[part].astype("int64"))

    raw = datasets.load(str(data))
    raw = raw if limit is None else raw.first(limit)
    return check_input(network, datasets.encode(raw, network)), raw.truth


def damaged(
    network: Network, x: IntArray, kill: float, what: str, seed: int
) -> tuple[Network, IntArray, dict[str, Any]]:
    """What ``--kill`` leaves of a network and its input, and what the answer says of it (nothing without damage).

    :raises apical.sw.damage.DamageError: nothing of that name in the network.
    """
    from apical.sw.damage import damage

    if not kill:
        return network, x, {}
    left = damage(network, kill / 100, seed, what)
    said = {"kill": kill, "what": what, "damage_seed": seed, **left.facts()}
    return left.network, left.input(x), {"damage": said}


def study(bundle: str) -> list[Path]:
    """The stored runs that come with a BUNDLE argument of the zoo."""
    from apical.sw import zoo

    found = zoo.study(bundle.removeprefix("zoo:")) if bundle.startswith("zoo:") else None
    return [] if found is None else [found]


def read_results(files: Sequence[Path]) -> dict[str, list[Any]]:
    """Stored results by kind (``damage``, ``sweep``, ``runs``, ``life``), rows of several files one after the other.

    :raises CliError: not JSON objects with such lists.
    """
    found: dict[str, list[Any]] = {}
    for file in files:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CliError(f"--results {file}: expected a JSON file: {error}") from None
        kinds = ("damage", "sweep", "runs", "life")
        rows = {k: content[k] for k in kinds if k in content} if isinstance(content, dict) else {}
        if not rows or not all(isinstance(r, list) for r in rows.values()):
            raise CliError(f"--results {file}: expected an object with a list damage, sweep, runs or life")
        for kind, more in rows.items():
            found[kind] = [*found.get(kind, []), *more]
    return found


def hardware_options(network: Network, synapse: int, neuron: int, event: int) -> HardwareOptions:
    """Lanes for every population from the command line's three limits."""
    from apical.hw.design import default_options

    if event & (event - 1):
        raise CliError(f"--event-lanes: expected a power of two, got {event}")
    return default_options(network, synapse_lanes=synapse, neuron_lanes=neuron, event_lanes=event)


@contextmanager
def progress(text: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on standard error; yields the callback (done, total)."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task(text, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
        total = bar.tasks[0].total or 1
        bar.update(task, completed=total, total=total)


class Reply:
    """One command's answer. With `as_json` all that is printed meanwhile goes to standard error, also by children.

    Use as a context; call `finish` once, last.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json, self._saved = as_json, -1

    def __enter__(self) -> Reply:
        if self.as_json:
            sys.stdout.flush()
            self._saved = os.dup(1)
            os.dup2(2, 1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._saved >= 0:
            sys.stdout.flush()
            os.dup2(self._saved, 1)
            os.close(self._saved)
            self._saved = -1

    def finish(self, answer: Mapping[str, Any], text: str | None = None, *, holds: bool = True) -> None:
        """Print the answer (JSON, or `text`, or a table of the answer) and, where it doesn't hold, exit with 1."""
        self._restore()
        if self.as_json:
            print(json.dumps(answer, default=_plain, allow_nan=False))
        else:
            print(table(answer) if text is None else text, end="" if text == "" else "\n")
        sys.stdout.flush()
        if not holds:
            raise typer.Exit(1)


def _plain(value: Any) -> Any:
    """JSON form of paths and of numpy's scalars and arrays."""
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError(f"no JSON form of {type(value).__name__}")


def figure(value: Any) -> str:
    """A value as a person reads it."""
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1e6 else f"{value:.4e}"
    return "-" if value is None else str(value)


def table(answer: Mapping[str, Any], indent: str = "") -> str:
    """Names and values in two columns, inner mappings indented."""
    width = max((len(k) for k, v in answer.items() if not isinstance(v, Mapping)), default=0)
    lines = []
    for key, value in answer.items():
        if isinstance(value, Mapping):
            lines += [f"{indent}{key}", table(value, indent + "  ")]
        else:
            lines.append(f"{indent}{key:<{width}}  {figure(value)}")
    return "\n".join(line for line in lines if line.strip())


interrupted = False


def _descendants(root: int) -> list[int]:
    """Process ids below `root`, from /proc; empty on systems without it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = entry.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(entry.parent.name))
    found, waiting = [], [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def end_children() -> None:
    """Ask every process that this one started, and theirs, to end."""
    for pid in _descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGTERM)
        except OSError:  # ended meanwhile
            continue


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    global interrupted
    interrupted = True
    end_children()
    raise KeyboardInterrupt


def catch_signals() -> None:
    """Ctrl-C and SIGTERM end the children first, while the family tree is whole, then this process."""
    signal.signal(signal.SIGINT, _interrupt)
    signal.signal(signal.SIGTERM, _interrupt)
