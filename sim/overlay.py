"""A simulated overlay: the AXI system's RTL, in Verilator, behind the calls of the `pynq` package.

What `apical.sw.pynq_driver` asks of a loaded overlay: `accelerator.read` and `write` become AXI4-Lite transactions, the
channels of `dma` AXI4-Stream packets, with random stalls where wanted. Time passes in accesses and while a channel is
looked at. As with the real DMA a channel isn't idle before its first transfer, and a packet longer than its buffer is
an error that only a reset of the DMA clears.
"""

from __future__ import annotations

import contextlib
import subprocess
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from apical.hw.axi_system import AxiSystem
from apical.hw.register_text import as_json
from apical.sim.verilated import SimulationError, build
from apical.sw.axi_words import Slots

MAIN = Path(__file__).with_name("overlay.cpp")
GLANCE = 64  # cycles that pass while a channel is looked at
OKAY = 0


class BusError(SimulationError):
    """An access that the design refused (SLVERR): on a real board the processor takes an exception."""


@dataclass(frozen=True)
class State:
    """Of the streams: words still to be sent, words taken, 0 to 2 (not taking, taking, too long), the interrupt."""

    queued: int
    taken: int
    receiving: int
    interrupt: bool
    cycle: int


def program(system: AxiSystem, *, fast_build: bool = False) -> Path:
    """The compiled simulator, or the one in the cache. It takes the commands that `overlay.cpp` lists."""
    design = system.design()
    bare = replace(design, manifest=replace(design.manifest, counters=()))
    return build(bare, fast_build=fast_build, main=MAIN)


class Simulator:
    """A process of the simulator.

    :raises SimulationError: it ended; an access got no answer.
    """

    def __init__(self, path: Path, seed: int = 0) -> None:
        pipe = subprocess.PIPE
        argv = [str(path), str(seed)]
        self._process = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True)

    def ask(self, *words: object) -> list[str]:
        """One command: numbers as hexadecimal, text as it is."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None and process.stderr is not None
        line = " ".join(f"{w:x}" if isinstance(w, int) else str(w) for w in words)
        try:
            process.stdin.write(line + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        except (OSError, ValueError):
            answer = ""
        if not answer:
            self.close()
            raise SimulationError("the simulator ended")
        return answer.split()

    def close(self) -> None:
        """End the process."""
        process = self._process
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        process.kill()
        process.wait()


class SimulatedIp:
    """Registers, as `pynq.DefaultIP` has them."""

    def __init__(self, simulator: Simulator) -> None:
        self._simulator = simulator

    def read(self, offset: int = 0) -> int:
        """:raises BusError: refused."""
        response, data = self._simulator.ask("r", offset)
        self._judge("read", offset, int(response))
        return int(data, 16)

    def write(self, offset: int, value: int) -> None:
        """:raises BusError: refused."""
        (response,) = self._simulator.ask("w", offset, int(value))
        self._judge("write", offset, int(response))

    @staticmethod
    def _judge(what: str, offset: int, response: int) -> None:
        if response < 0:
            raise SimulationError(f"{what} at 0x{offset:03x}: no answer")
        if response != OKAY:
            raise BusError(f"{what} at 0x{offset:03x}: response {response} (SLVERR)")


class SimulatedChannel:
    """One channel of the DMA, as `pynq.lib.dma` has it."""

    def __init__(self, dma: SimulatedDma, *, sends: bool) -> None:
        self._dma, self._sends = dma, sends
        self.running, self._first, self.transferred = False, True, 0
        self._buffer: Any = None

    def start(self) -> None:
        """Run; not idle until a transfer has ended."""
        self.running, self._first, self._buffer = True, True, None

    @property
    def idle(self) -> bool:
        """The transfer has ended; time passes."""
        if self._first or not self.running:
            return False
        state = self._dma.state(GLANCE)
        return state.queued == 0 if self._sends else state.receiving == 0

    @property
    def error(self) -> bool:
        """The packet was longer than the buffer."""
        return not self._sends and self._dma.state(0).receiving == 2

    def transfer(self, array: Any, start: int = 0, nbytes: int = 0) -> None:
        """Begin a transfer of whole words; one at a time."""
        if not self.running:
            raise RuntimeError("DMA channel not started")
        if not self._first and not self.idle:
            raise RuntimeError("DMA channel not idle")
        self._first, size = False, nbytes or array.nbytes - start
        word = self._dma.word_bytes
        if size % word or start % word:
            raise SimulationError(f"transfer: expected whole words of {word} bytes, got {size} from {start}")
        raw = array.reshape(-1).view(np.uint8)[start : start + size]
        if self._sends:
            digits = [raw[n : n + word].tobytes()[::-1].hex() for n in range(0, size, word)]
            self._dma.simulator.ask("s", 1, *digits)
        else:
            self._buffer = raw
            self._dma.simulator.ask("a", size // word)

    def wait(self) -> None:
        """Until the transfer has ended."""
        if not self.running:
            raise RuntimeError("DMA channel not started")
        while not self.idle:
            if self.error:
                raise RuntimeError("DMA Internal Error (transfer length 0?)")
        if not self._sends:
            got = b"".join(bytes.fromhex(digits)[::-1] for digits in self._dma.simulator.ask("t"))
            self._buffer[: len(got)] = np.frombuffer(got, np.uint8)
            self.transferred = len(got)


class SimulatedDma:
    """An AXI DMA without scatter and gather: both channels, and the reset bit of its first register."""

    def __init__(self, simulator: Simulator, word_bytes: int) -> None:
        self.simulator, self.word_bytes = simulator, word_bytes
        self.sendchannel, self.recvchannel = SimulatedChannel(self, sends=True), SimulatedChannel(self, sends=False)
        self.sendchannel.start()
        self.recvchannel.start()

    def state(self, cycles: int) -> State:
        """After so many cycles."""
        queued, taken, receiving, interrupt, cycle = (int(w, 16) for w in self.simulator.ask("c", cycles))
        return State(queued, taken, receiving, bool(interrupt), cycle)

    def read(self, offset: int = 0) -> int:
        """A reset is over at once."""
        return 0

    def write(self, offset: int, value: int) -> None:
        """Bit 2 of register 0 resets both channels."""
        if offset == 0 and value & 4:
            self.simulator.ask("x")
            self.sendchannel.running = self.recvchannel.running = False


class SimulatedOverlay:
    """Stands in for `pynq.Overlay`.

    :param stalls: share of cycles in which a stream or a register's channel waits.
    :param fast_build: compile quickly (tests) rather than for speed.
    """

    def __init__(self, system: AxiSystem, *, stalls: float = 0.0, seed: int = 0, fast_build: bool = False) -> None:
        self.registers = as_json(system.map)  # what the design's folder holds
        self.program = program(system, fast_build=fast_build)
        self.simulator = Simulator(self.program, seed)
        self.ip_dict: dict[str, Any] = {"accelerator": {}, "dma": {}}
        self.accelerator = SimulatedIp(self.simulator)
        self.dma = SimulatedDma(self.simulator, system.axi.data_bits // 8)
        self.stall(stalls)

    def stall(self, share: float) -> None:
        """Stalls of every channel from now on."""
        self.simulator.ask("k", *[round(share * 65536)] * 3)

    def hard_reset(self) -> None:
        """`aresetn` for four cycles."""
        self.simulator.ask("h")

    def pass_time(self, cycles: int) -> State:
        """Let time pass."""
        return self.dma.state(cycles)

    @staticmethod
    def allocate(shape: tuple[int, ...], dtype: Any = np.uint32) -> Slots:
        """Stands in for `pynq.allocate`; not zeroed, as there."""
        return np.full(shape, 0xA5, dtype)

    def close(self) -> None:
        """End the simulator."""
        self.simulator.close()

    def __enter__(self) -> SimulatedOverlay:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
