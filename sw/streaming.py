"""Streams: one endless sequence without a sample boundary, such as an ECG monitor's.

Neuron states and delayed events stay from one push to the next, so it makes no difference how a stream is cut; no
tick count is kept by the network. A stream can be saved and gone on with later.
"""

from __future__ import annotations

import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import torch

from apical.sw.bundle import identity, write_file
from apical.sw.golden import Machine, Trace, check_input, decode
from apical.sw.network import IntArray, Network, NetworkError

LIMIT_STATE = 1 << 28  # bytes of one array in a state file


class StreamError(ValueError):
    """A state file that can't be used; the message says why."""


def check_events(network: Network, events: np.ndarray) -> np.ndarray:
    """Validate the next ticks of a stream, [ticks, inputs]; no tick at all is fine.

    :raises NetworkError: wrong rank, size, type, or a value that an input can't carry, naming the first one.
    """
    events = np.asarray(events)
    if events.ndim != 2 or events.shape[1] != network.input_size:
        raise NetworkError(f"events: expected shape [ticks, {network.input_size}], got {list(events.shape)}")
    return check_input(network, events[None])[0] if len(events) else events


def classes(network: Network, outputs: np.ndarray) -> IntArray | None:
    """Class in every tick, [ticks], of outputs [ticks, outputs]; None where the decoder isn't ``tick``."""
    if network.decoder != "tick":
        return None
    first = outputs[None, :, : network.nodes[network.outputs[0]].size]
    return np.asarray(decode(network, Trace({}, {network.outputs[0]: first}, {}))[0])  # type: ignore[index]


class Stream:
    """The golden model on one endless sequence.

    :ivar ticks: ticks since the start.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self.reset()

    def reset(self) -> None:
        """Begin anew: start states, nothing under way, counters at 0."""
        self._machine, self.ticks = Machine(self.network), 0

    @property
    def counters(self) -> dict[str, int]:
        """Counters since the start, as `apical.sw.golden.Trace` names them."""
        return dict(self._machine.counters)

    def push(self, events: np.ndarray) -> IntArray:
        """Run the next ticks.

        :param events: integers, [ticks, inputs].
        :returns: what the output populations sent, [ticks, outputs], in the network's order of outputs.
        :raises NetworkError: events that don't fit the network, or that come after a push which ended within a window
            of the network's gates; the stream stays as it was.
        """
        events = check_events(self.network, events)
        size = sum(self.network.nodes[o].size for o in self.network.outputs)
        if not len(events):
            return np.zeros((0, size), np.int64)
        values, _ = self._machine.push(events[None])
        self.ticks += len(events)
        return np.concatenate([values[o][0] for o in self.network.outputs], axis=1).astype(np.int64)

    def classes(self, outputs: np.ndarray) -> IntArray | None:
        """Class in every tick, [ticks], of what `push` returned; None where the decoder isn't ``tick``."""
        return classes(self.network, outputs)

    def _arrays(self) -> dict[str, IntArray]:
        """States and delayed events by name; names are made of indices, never of a network's strings."""
        machine = self._machine
        arrays = {
            f"state{i}_{name}": array[0].to(torch.int64).numpy()
            for i, p in enumerate(self.network.populations)
            for name, array in machine.state[p.name].items()
        }
        past = {f"past{i}": machine.past[n][0].to(torch.int64).numpy() for i, n in enumerate(self.network.nodes)}
        counts = np.array([self.ticks, *machine.counters.values()], np.int64)
        return {**arrays, **past, "counts": counts}

    def save(self, path: Path) -> None:
        """Write the stream's state (`.npz`, plain arrays); `restore` goes on from there.

        :raises OSError: the file can't be written.
        """
        packed = BytesIO()
        name = np.frombuffer(identity(self.network).encode(), np.uint8)
        np.savez_compressed(packed, allow_pickle=False, network=name, **self._arrays())
        write_file(path, packed.getvalue())

    def restore(self, path: Path) -> None:
        """Go on from a state that `save` wrote, of the same network.

        :raises StreamError: not such a file, another network's, or values that the network's formats can't hold;
            the stream stays as it was.
        """
        given = _read(path)
        wanted, mark = identity(self.network), given.pop("network", None)
        got = "none" if mark is None else mark.tobytes()[:64].decode("ascii", "replace")
        if got != wanted:
            raise StreamError(f"{path}: expected the state of network {wanted}, got that of {got!r}")
        for name, (shape, low, high) in self._limits().items():
            array = given.get(name)
            if array is None or array.shape != shape or array.dtype.kind not in "iu":
                found = "none" if array is None else f"{array.dtype} of shape {list(array.shape)}"
                raise StreamError(f"{path}: {name}: expected integers of shape {list(shape)}, got {found}")
            if array.size and (array.min() < low or array.max() > high):
                bad = int(array.min()) if array.min() < low else int(array.max())
                raise StreamError(f"{path}: {name}: expected {low} to {high}, got {bad}")
        machine = Machine(self.network)
        for i, p in enumerate(self.network.populations):
            for k, old in machine.state[p.name].items():
                machine.state[p.name][k] = torch.from_numpy(given[f"state{i}_{k}"].astype(np.int64)[None]).to(old.dtype)
        for i, n in enumerate(self.network.nodes):
            machine.past[n] = torch.from_numpy(given[f"past{i}"].astype(np.int64)[None]).to(machine.past[n].dtype)
        ticks, *counts = given["counts"].tolist()
        machine.counters.update(zip(machine.counters, counts, strict=True))
        machine.partial = ticks % machine.window != 0
        self._machine, self.ticks = machine, ticks

    def _limits(self) -> dict[str, tuple[tuple[int, ...], int, int]]:
        """Shape, lowest and highest value of every array in a state file."""
        limits: dict[str, tuple[tuple[int, ...], int, int]] = {}
        for name, array in self._arrays().items():
            low, high = 0, np.iinfo(np.int64).max
            if name.startswith("state"):
                index, _, state = name.removeprefix("state").partition("_")
                low, high = self.network.populations[int(index)].law.states()[state].bounds
            elif name.startswith("past"):
                low, high = list(self.network.nodes.values())[int(name.removeprefix("past"))].value_range
                low, high = min(low, 0), max(high, 0)
            limits[name] = (array.shape, low, int(high))
        return limits


def _read(path: Path) -> dict[str, np.ndarray]:
    """Arrays of an `.npz` file. Never unpickles."""
    try:
        with zipfile.ZipFile(path) as archive:
            for info in archive.infolist():
                if info.file_size > LIMIT_STATE:
                    raise StreamError(f"{path}: expected at most {LIMIT_STATE} bytes an array, got {info.file_size}")
        with np.load(path, allow_pickle=False) as stored:
            return dict(stored)
    except StreamError:
        raise
    except (zipfile.BadZipFile, EOFError, OSError, ValueError) as error:
        raise StreamError(f"{path}: expected a stream's state, as `Stream.save` writes it: {error}") from None
