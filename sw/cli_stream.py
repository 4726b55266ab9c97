"""`apical stream`: a network at work on an endless sequence, such as an ECG monitor's."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from apical.sw import cli_common as common
from apical.sw.cli_common import (
    BundleArgument,
    CliError,
    EventOption,
    JsonOption,
    NeuronOption,
    Reply,
    SynapseOption,
)

if TYPE_CHECKING:
    import numpy as np

    from apical.sw.network import Network
    from apical.sw.streaming import Stream

PART = 4096  # ticks that golden runs between two steps of the progress bar
EventsOption = Annotated[
    str | None, typer.Option("--input", metavar="FILE", help="Events [ticks, inputs]: .npy, .npz (x), or - for lines.")
]
StreamDataOption = Annotated[
    str | None,
    typer.Option("--data", metavar="NAME", help="mitbih:RECORD, or a data set's samples one after the other."),
]
StreamEngine = Annotated[
    Literal["golden", "rtl"], typer.Option(help="Golden, or the RTL (compiled, equal to golden or it fails).")
]


def add(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command(epilog="Example: apical stream zoo:ecg-srnn --data ecg-qtdb:sample --engine rtl --page stream.html")(
        stream
    )


@dataclass
class Source:
    """What is streamed.

    :param events: [ticks, inputs].
    :param signal: [ticks], millivolts, where the data have one.
    """

    events: np.ndarray
    signal: np.ndarray | None
    title: str


def stream(
    bundle: BundleArgument,
    input_file: EventsOption = None,
    data: StreamDataOption = None,
    ticks: Annotated[int | None, typer.Option("--ticks", min=1, help="Only the first ticks.")] = None,
    engine: StreamEngine = "golden",
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write output, class, latency (.npz).")] = None,
    page: Annotated[
        Path | None, typer.Option("--page", help="Write a picture (.html) of the first 7500 ticks.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option("--state", help="Go on from this file where it is there, and leave it there.")
    ] = None,
    synapse_lanes: SynapseOption = 128,
    neuron_lanes: NeuronOption = 8,
    event_lanes: EventOption = 1,
    as_json: JsonOption = False,
) -> None:
    """Run one endless sequence: no sample boundary, the state goes on, a class in every tick.

    With --input - a tick is a line of the inputs' values on standard input; its class (or, without decoder `tick`, its
    outputs) is printed before the next is read. OUT.npz holds `output` [ticks, outputs], `class` [ticks], and with
    --engine rtl `latency` [ticks]: cycles from a tick's last input beat to the end of its outputs.
    """
    if (input_file is None) == (data is None):
        raise CliError(f"expected one of --input FILE and --data NAME, got {'both' if data else 'neither'}")
    if engine == "rtl" and (state is not None or input_file == "-"):
        raise CliError(
            f"{'--state' if state else '--input -'}: expected --engine golden, got rtl, which starts from reset"
        )
    with Reply(as_json) as reply:
        network = common.load_bundle(bundle)
        if input_file == "-":
            if output is not None or page is not None:
                raise CliError(
                    f"{'-o' if output else '--page'}: expected --input FILE or --data, got lines, which have no end"
                )
            reply.finish(_live(network, ticks, state, as_json), None if as_json else "")
            return
        source = _source(network, input_file, data, ticks)
        answer, arrays = (
            _golden(network, source, state)
            if engine == "golden"
            else _rtl(network, source, (synapse_lanes, neuron_lanes, event_lanes))
        )
        _write(source, arrays, output, page)
        reply.finish(answer, holds=answer.get("equal", True))


def _source(network: Network, file: str | None, data: str | None, ticks: int | None) -> Source:
    from apical.sw.streaming import check_events

    signal = None
    if file is not None:
        events = _read(Path(file))
    elif str(data).startswith("mitbih:"):
        from apical.sw import datasets

        name = str(data).removeprefix("mitbih:")
        if not name.isdecimal():
            raise CliError(f"--data {data}: expected mitbih:RECORD with a record's number, got {name!r}")
        record = datasets.mitbih(int(name))
        events, signal = record.events, record.signal_mv[:ticks]
    else:
        events, _ = common.load_input(network, None, data, None)
    if events.ndim == 3:
        events = events.reshape(-1, events.shape[2])
    events = check_events(network, events[:ticks])
    if not len(events):
        raise CliError(f"--input {file}: expected at least one tick, got none")
    return Source(events, signal, str(data or Path(str(file)).name))


def _read(path: Path) -> np.ndarray:
    import numpy as np

    if path.suffix != ".npy":
        return common.read_npz(path)[0]
    try:
        with path.open("rb") as file:
            return np.asarray(np.lib.format.read_array(file, allow_pickle=False))
    except FileNotFoundError:
        raise CliError(f"--input {path}: no such file") from None
    except (ValueError, EOFError) as error:
        raise CliError(f"--input {path}: expected a plain integer array [ticks, inputs], got none: {error}") from None


def _opened(network: Network, state: Path | None) -> Stream:
    from apical.sw.streaming import Stream

    opened = Stream(network)
    if state is not None and state.exists():
        opened.restore(state)
    return opened


def _golden(network: Network, source: Source, state: Path | None) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import time

    import numpy as np

    runner, parts = _opened(network, state), []
    began = time.perf_counter()
    with common.progress("stream (golden)") as update:
        for start in range(0, len(source.events), PART):
            parts.append(runner.push(source.events[start : start + PART]))
            update(min(start + PART, len(source.events)), len(source.events))
    seconds = time.perf_counter() - began
    if state is not None:
        runner.save(state)
    arrays = _arrays(network, np.concatenate(parts))
    answer = {
        "engine": "golden",
        **_summary(arrays),
        "ticks_since_start": runner.ticks,
        "counts": runner.counters,
        "ticks_per_second": len(source.events) / max(seconds, 1e-9),
    }
    return answer, arrays


def _rtl(network: Network, source: Source, lanes: tuple[int, int, int]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    import numpy as np

    from apical.sim.streaming import Timing, simulate_stream
    from apical.sw.streaming import Stream

    options = common.hardware_options(network, *lanes)
    worst = Timing(network, options).bounds()
    with common.progress("stream (rtl)") as update:
        # Paced as by a clock: each tick finds the one before over.
        ran = simulate_stream(network, options, source.events, gap=max(worst.rest - worst.latency, 0), progress=update)
    wrong = int((ran.outputs != Stream(network).push(source.events)).any(axis=1).sum())
    arrays = {**_arrays(network, ran.outputs), "latency": ran.latency}
    answer = {
        "engine": "rtl",
        "equal": wrong == 0,
        "mismatches": wrong,
        **_summary(arrays),
        "latency_cycles_max": int(ran.latency.max()),
        "latency_cycles_mean": float(np.mean(ran.latency)),
        "latency_cycles_bound": worst.latency,
        "counts": ran.trace.counters,
        "ticks_per_second": len(source.events) / max(ran.trace.seconds, 1e-9),
    }
    return answer, arrays


def _arrays(network: Network, outputs: np.ndarray) -> dict[str, np.ndarray]:
    from apical.sw.streaming import classes

    found = classes(network, outputs)
    return {"output": outputs} if found is None else {"output": outputs, "class": found}


def _summary(arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Ticks, how many of each class, and how often the class changed."""
    import numpy as np

    answer: dict[str, Any] = {"ticks": len(arrays["output"])}
    if "class" in arrays:
        names, counts = np.unique(arrays["class"], return_counts=True)
        answer["transitions"] = int(np.count_nonzero(np.diff(arrays["class"])))
        answer["classes"] = {str(k): int(n) for k, n in zip(names, counts, strict=True)}
    return answer


def _write(source: Source, arrays: dict[str, np.ndarray], output: Path | None, page: Path | None) -> None:
    import numpy as np

    from apical.sw.bundle import write_file

    if output is not None:
        packed = io.BytesIO()
        np.savez_compressed(packed, allow_pickle=False, **arrays)
        write_file(output, packed.getvalue())
    if page is not None:
        from apical.sw.stream_page import figure, write_page

        write_page(page, source.title, figure(source.events, arrays.get("class"), signal=source.signal))


def _lines(network: Network, ticks: int | None) -> Iterator[np.ndarray]:
    """Ticks [1, inputs] from standard input, one a line; empty lines and those that begin with # are skipped."""
    import numpy as np

    done = 0
    for number, line in enumerate(sys.stdin, 1):
        words = line.replace(",", " ").split()
        if not words or words[0].startswith("#"):
            continue
        try:
            values = [int(word) for word in words]
        except ValueError:
            values = []
        if len(values) != network.input_size:
            raise CliError(f"line {number}: expected {network.input_size} integers, got {line.strip()[:60]!r}")
        if max(map(abs, values)) >> 62:
            raise CliError(f"line {number}: expected 63-bit integers, got {line.strip()[:60]!r}")
        yield np.array([values], np.int64)
        done += 1
        if done == ticks:
            return


def _live(network: Network, ticks: int | None, state: Path | None, quiet: bool) -> dict[str, Any]:
    """Tick by tick, each answered before the next is read; the state is kept however it ends."""
    runner = _opened(network, state)
    done = changes = 0
    last: int | None = None
    counts: dict[int, int] = {}
    try:
        for events in _lines(network, ticks):
            outputs = runner.push(events)
            found = runner.classes(outputs)
            done += 1
            if found is not None:
                now = int(found[0])
                counts[now] = counts.get(now, 0) + 1
                changes += last is not None and now != last
                last = now
            if not quiet:
                print(*(outputs[0].tolist() if found is None else found.tolist()), flush=True)
    finally:
        if state is not None:
            runner.save(state)
    answer: dict[str, Any] = {"engine": "golden", "ticks": done}
    if last is not None:
        answer |= {"transitions": changes, "classes": {str(k): n for k, n in sorted(counts.items())}}
    return {**answer, "ticks_since_start": runner.ticks, "counts": runner.counters}
