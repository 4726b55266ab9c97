"""Host side of the serial protocol (docs/reference/uart.md): run a network on a board, compare with golden.

As a script: ``python -m apical.sw.host_uart --port /dev/ttyUSB0 --bundle DIR --input FILE.npz``. As a library:
`Link` works on anything with `read` and `write`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import numpy as np

from apical.sw import golden
from apical.sw.bundle import BundleError, identity, load
from apical.sw.golden import Trace, check_input, decode
from apical.sw.network import IntArray, Network, NetworkError
from apical.sw.streaming import check_events
from apical.sw.trace import differences
from apical.sw.uart_frames import (
    ANSWER,
    COUNTERS,
    DATA,
    ERROR,
    ERRORS,
    EVENT,
    FINAL,
    HELLO,
    LAST,
    OUTPUT,
    PORT_MASK,
    RESET,
    VERSION,
    FrameReader,
    counter_names,
    encode_frame,
    encode_sample,
    output_formats,
    pack_records,
)


class LinkError(RuntimeError):
    """The line or the board failed for now; a reset and another try may help."""


class WrongBoard(RuntimeError):
    """The board doesn't answer, or carries another design; trying again can't help."""


class Transport(Protocol):
    """A serial line. `read` returns up to `size` bytes, fewer (or none) when its own timeout passes."""

    def read(self, size: int) -> bytes: ...
    def write(self, data: bytes) -> object: ...


class OutputReader:
    """Collects output records of a batch into arrays.

    :param ticks: ticks of every sample.
    :param endless: the ticks are some of an endless stream: no record ends a sample.
    """

    def __init__(self, network: Network, samples: int, ticks: int, *, endless: bool = False) -> None:
        self.formats = output_formats(network)
        self.samples, self.ticks, self.endless = samples, ticks, endless
        self.arrays = {f.name: np.zeros((samples, ticks, f.size), np.int64) for f in self.formats}
        self._at = [[0, 0] for _ in self.formats]  # sample, tick

    @property
    def done(self) -> bool:
        """Every output has sent the last sample's end."""
        return all(sample == self.samples for sample, _ in self._at)

    @property
    def samples_done(self) -> int:
        """Samples that every output has finished."""
        return min(sample for sample, _ in self._at)

    def feed(self, payload: bytes) -> None:
        """Take the records of one output frame.

        :raises LinkError: records that no correct board sends.
        """
        at = 0
        while at < len(payload):
            head = payload[at]
            at += 1
            port = head & PORT_MASK
            if port >= len(self.formats) or self._at[port][0] >= self.samples:
                raise LinkError(f"output: a record of port {port} that isn't expected")
            f, (sample, tick) = self.formats[port], self._at[port]
            if head & EVENT:
                raw = payload[at : at + f.index_bytes + f.value_bytes]
                at += len(raw)
                index = int.from_bytes(raw[: f.index_bytes], "little")
                value = int.from_bytes(raw[f.index_bytes :], "little", signed=f.signed) if f.value_bytes else 1
                if len(raw) != f.index_bytes + f.value_bytes or index >= f.size or tick >= self.ticks:
                    raise LinkError(f"output {f.name!r}: a cut record, index {index} or tick {tick} out of range")
                self.arrays[f.name][sample, tick, index] = value
            if head & LAST:
                over = tick == self.ticks - 1
                if bool(head & FINAL) != (over and not self.endless):
                    expected = "none" if self.endless else self.ticks - 1
                    raise LinkError(f"output {f.name!r}: end of sample {sample} at tick {tick}, expected {expected}")
                self._at[port] = [sample + 1, 0] if over else [sample, tick + 1]


class Link:
    """A network on a board behind a serial line.

    :param transport: its `read` must return after at most about a second.
    :param patience: reads without a byte before the board counts as silent.
    """

    def __init__(self, transport: Transport, network: Network, *, patience: int = 3, tries: int = 3) -> None:
        self.transport, self.network, self.patience, self.tries = transport, network, patience, tries
        self.buffer = 0
        self._reader = FrameReader()
        self._waiting: list[tuple[int, bytes] | None] = []
        self._sent = self._expected = 0  # data frames sent, output frames seen, since the reset

    def _next_frame(self) -> tuple[int, bytes] | None:
        """Next frame, None for a damaged one.

        :raises LinkError: silence.
        """
        silent = 0
        while not self._waiting:
            data = self.transport.read(1)
            if not data:
                silent += 1
                if silent >= self.patience:
                    raise LinkError("the board is silent")
                continue
            self._waiting.extend(self._reader.feed(data))
        return self._waiting.pop(0)

    def _ask(self, kind: int) -> bytes:
        """Send a command and wait for its answer, whatever else comes before it.

        :raises WrongBoard: no answer after some tries.
        """
        for _ in range(self.tries):
            self.transport.write(b"\x7e" + encode_frame(kind))
            try:
                while True:
                    got = self._next_frame()
                    if got is not None and got[0] == ANSWER | kind:
                        return got[1]
            except LinkError:
                continue
        raise WrongBoard("the board doesn't answer; check the port, the baud rate and that the bitstream is loaded")

    def hello(self) -> None:
        """Check that the board carries this network.

        :raises WrongBoard: silence, another protocol version or another network.
        """
        answer = self._ask(HELLO)
        if len(answer) != 13 or answer[0] != VERSION:
            raise WrongBoard(f"expected protocol version {VERSION}, got {answer[0] if answer else 'nothing'}")
        wanted, got = identity(self.network), answer[1:9].hex()
        if got != wanted:
            raise WrongBoard(f"expected the bitstream of network {wanted}, the board carries {got}")
        self.buffer = int.from_bytes(answer[9:11], "little")

    def reset(self) -> None:
        """Clear accelerator, counters, sequence numbers and errors."""
        self._ask(RESET)
        self._sent = self._expected = 0

    def counters(self) -> dict[str, int]:
        """Counters since the last reset, once they stand still."""
        names = counter_names(self.network)
        before = b""
        while True:
            raw = self._ask(COUNTERS)
            if len(raw) != 4 * len(names):
                raise LinkError(f"counters: expected {4 * len(names)} bytes, got {len(raw)}")
            if raw == before:
                return {n: int.from_bytes(raw[4 * i : 4 * i + 4], "little") for i, n in enumerate(names)}
            before = raw

    def _exchange(
        self, records: list[bytes], outputs: OutputReader, progress: Callable[[int], None] | None = None
    ) -> None:
        """Send records and take what comes back until all are answered and the outputs are done."""
        frames = pack_records(records)
        first, sent, answered, in_flight = self._sent, 0, 0, 0
        while answered < len(frames) or not outputs.done:
            while sent < len(frames) and in_flight + len(frames[sent]) + 1 <= self.buffer:
                self.transport.write(encode_frame(DATA, bytes([self._sent & 0xFF]) + frames[sent]))
                in_flight += len(frames[sent]) + 1
                sent += 1
                self._sent += 1
            got = self._next_frame()
            if got is None:
                raise LinkError("a damaged frame came back")
            kind, payload = got
            if kind == ANSWER | DATA and len(payload) == 1:
                while answered < sent and ((first + answered) & 0xFF) != (payload[0] + 1) & 0xFF:
                    in_flight -= len(frames[answered]) + 1
                    answered += 1
            elif kind == OUTPUT and payload:
                if payload[0] != self._expected & 0xFF:
                    raise LinkError(f"output frame {self._expected & 0xFF} is missing")
                self._expected += 1
                outputs.feed(payload[1:])
                if progress is not None:
                    progress(outputs.samples_done)
            elif kind == ERROR and payload:
                raise LinkError(f"the board reports error {payload[0]}: {ERRORS.get(payload[0], 'unknown')}")

    def _run_once(self, x: IntArray, progress: Callable[[int], None] | None) -> tuple[OutputReader, dict[str, int]]:
        self.reset()
        outputs = OutputReader(self.network, *x.shape[:2])
        self._exchange([r for sample in x for r in encode_sample(self.network, sample)], outputs, progress)
        return outputs, self.counters()

    def push(self, events: IntArray) -> IntArray:
        """The next ticks of an endless stream; `hello` and `reset` begin one, and nothing ends it.

        :param events: integers, [ticks, inputs].
        :returns: [ticks, outputs], in the network's order of outputs.
        :raises NetworkError: events that don't fit. :raises LinkError: the line failed; the board's state is lost to
            the host, so the stream can only begin anew.
        """
        events = check_events(self.network, events)
        outputs = OutputReader(self.network, min(len(events), 1), len(events), endless=True)
        self._exchange(encode_sample(self.network, events, endless=True), outputs)
        return np.concatenate([a.reshape(len(events), a.shape[2]) for a in outputs.arrays.values()], axis=1)

    def run(self, x: IntArray, *, batch: int = 16, progress: Callable[[int, int], None] | None = None) -> Trace:
        """Run samples `x` [samples, ticks, inputs] on the board.

        A failed batch is reset and sent again, `tries` times in all.

        :returns: outputs and counters; `values` holds the output populations.
        :raises NetworkError: `x` doesn't fit. :raises LinkError: the line keeps failing. :raises WrongBoard.
        """
        x = check_input(self.network, x)
        self.hello()
        parts: list[dict[str, IntArray]] = []
        counters = dict.fromkeys(counter_names(self.network), 0)
        for start in range(0, x.shape[0], batch):
            report = (lambda n, s=start: progress(s + n, x.shape[0])) if progress is not None else None
            for attempt in range(self.tries):
                try:
                    outputs, counts = self._run_once(x[start : start + batch], report)
                    break
                except LinkError:
                    if attempt == self.tries - 1:
                        raise
            parts.append(outputs.arrays)
            for name, n in counts.items():
                counters[name] += n
        joined = {name: np.concatenate([p[name] for p in parts]) for name in self.network.outputs}
        return Trace(dict(joined), joined, counters, engine="board")


def main(arguments: list[str] | None = None) -> int:
    """Command line; the status is 0 only where the board's results equal golden's."""
    parser = argparse.ArgumentParser(prog="python -m apical.sw.host_uart", description=main.__doc__)
    parser.add_argument("--port", required=True, help="serial port, for example /dev/ttyUSB0 or COM3")
    parser.add_argument("--baud", type=int, default=1_000_000, help="uart.baud of the board's table")
    parser.add_argument("--bundle", type=Path, required=True, help="the bundle that the bitstream was built from")
    parser.add_argument("--input", type=Path, required=True, help=".npz with x [samples, ticks, inputs]")
    parser.add_argument("--limit", type=int, default=None, help="first samples only")
    given = parser.parse_args(arguments)
    try:
        network = load(given.bundle)
        with np.load(given.input, allow_pickle=False) as file:
            x = check_input(network, file["x"][: given.limit])
    except (BundleError, NetworkError, OSError, ValueError, KeyError) as error:
        print(f"host_uart: {error}", file=sys.stderr)
        return 2
    import serial

    try:
        with serial.Serial(given.port, given.baud, timeout=1.0) as port:
            trace = Link(port, network).run(x, progress=lambda n, of: print(f"\r{n} of {of}", end="", file=sys.stderr))
    except (serial.SerialException, LinkError, WrongBoard) as error:
        print(f"host_uart: {given.port}: {error}", file=sys.stderr)
        return 1
    print(file=sys.stderr)
    classes = decode(network, trace)
    if classes is not None:
        print("classes:", *classes)
    wrong = differences(golden.run(network, x), trace)
    print("\n".join(wrong) if wrong else f"equal: {x.shape[0]} of {x.shape[0]} samples, every output, every counter")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
