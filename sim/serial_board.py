"""A simulated board behind a terminal: the serial design's RTL, in Verilator, and a port that any program can open.

What `apical.sw.host_uart` opens as `/dev/ttyUSB0` is here a pseudo-terminal; its other end belongs to a process that
moves every bit. Damage on the line is part of it. Systems with pseudo-terminals only (not Windows).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import tty
from pathlib import Path
from types import TracebackType

from apical.hw.board_top import LinkedAccelerator
from apical.hw.design import Design, HardwareOptions, Manifest
from apical.hw.link import BUFFER_BYTES
from apical.hw.verilog_text import convert
from apical.sim.verilated import build
from apical.sw.network import Network

MAIN = Path(__file__).with_name("serial_board.cpp")
TOP = "serial_board"
DIVISOR = 4  # clock cycles per bit: the fewest that the receiver takes


def design(network: Network, options: HardwareOptions, buffer_bytes: int = BUFFER_BYTES) -> Design:
    """The serial design without clock and pins of a board."""
    top = LinkedAccelerator(network, options, DIVISOR, buffer_bytes)
    text = convert(top, TOP, [top.rx, top.tx, top.failed])
    identity = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Design(text, Manifest(TOP, (), (), (), (), None), identity, network, options)


class SerialBoard:
    """A board that runs until it is closed.

    :ivar port: what to open instead of a serial port.
    :raises ToolMissing, ToolFailed: from the build.
    """

    def __init__(
        self, network: Network, options: HardwareOptions, *, buffer_bytes: int = BUFFER_BYTES, fast_build: bool = False
    ) -> None:
        program = build(design(network, options, buffer_bytes), fast_build=fast_build, main=MAIN)
        board, self._slave = os.openpty()
        tty.setraw(self._slave)
        self.port = os.ttyname(self._slave)
        argv = [str(program), str(board), str(DIVISOR), "1"]
        self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, pass_fds=[board], text=True)
        os.close(board)

    def _say(self, *words: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(" ".join(map(str, words)) + "\n")
        self._process.stdin.flush()

    def noise(self, to_board: float, from_board: float) -> None:
        """From now on, the share of bytes in which one bit is flipped."""
        self._say("n", round(to_board * 65536), round(from_board * 65536))

    def damage(self, to_board: int, from_board: int) -> None:
        """Flip a bit of the byte after so many more, 1 the next; 0: of none."""
        self._say("d", to_board, from_board)

    def unplug(self) -> None:
        """The other end is gone."""
        with contextlib.suppress(OSError):
            assert self._process.stdin is not None
            self._process.stdin.close()
        self._process.wait()

    def close(self) -> None:
        """End the board and its port."""
        self.unplug()
        os.close(self._slave)

    def __enter__(self) -> SerialBoard:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
