"""The AXI system in simulation: cocotbext-axi drives the generated RTL, and Python calls command it.

`AxiBench` is a simulator that runs beside; time passes only while a call waits for something. Every channel is watched
by a protocol monitor all the time (`problems`).
"""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import numpy as np

from apical.hw import tools
from apical.hw.axi_system import AxiSystem
from apical.sim.bench import build
from apical.sim.verilated import SimulationError
from apical.sw.axi_weights import Site
from apical.sw.axi_words import Slots, slots_of
from apical.sw.golden import Trace, split_input
from apical.sw.network import IntArray

PATIENCE = 20_000  # cycles in which something must have come
OKAY, SLVERR = 0, 2


class AxiBench:
    """The RTL of an AXI system, under commands.

    :param share: of cycles in which each channel is stalled, in runs of up to `burst`.
    :raises SimulationError: the simulator ended, or something didn't come in time.
    """

    def __init__(self, system: AxiSystem, *, share: float = 0.0, burst: int = 4, seed: int = 0) -> None:
        self.system, self.map = system, system.map
        program = build(system.design())
        self._folder = tempfile.TemporaryDirectory(prefix="apical-axi-")
        folder = Path(self._folder.name)
        path = str(folder / "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(1)
        listener.settimeout(0.2)
        job: dict[str, Any] = {"top": "apical_axi", "build": str(program), "folder": str(folder), "socket": path}
        job |= {"share": share, "burst": burst, "seed": seed}
        self._log = (folder / "log").open("w")
        argv = [sys.executable, "-m", "apical.sim.axi_bench_top", json.dumps(job)]
        self._process = subprocess.Popen(argv, stdout=self._log, stderr=self._log)
        self._connection = self._connected(listener)
        self._lines = self._connection.makefile("rw")

    def _connected(self, listener: socket.socket) -> socket.socket:
        with listener:
            while self._process.poll() is None:
                with contextlib.suppress(TimeoutError):
                    return listener.accept()[0]
        self._failed()

    def __enter__(self) -> AxiBench:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the simulator."""
        with contextlib.suppress(OSError):
            self._lines.close()
            self._connection.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._log.close()
        self._folder.cleanup()

    def _failed(self) -> NoReturn:
        self._process.kill()
        self._process.wait()
        raise SimulationError(f"the simulator ended; the end of its log:\n{tools.last_lines(Path(self._log.name))}")

    def _do(self, what: str, **given: Any) -> Any:
        try:
            self._lines.write(json.dumps({"do": what, **given}) + "\n")
            self._lines.flush()
            line = self._lines.readline()
        except OSError:
            line = ""
        if not line:
            self._failed()
        answer = json.loads(line)
        if "error" in answer:
            raise SimulationError(answer["error"])
        return answer["answer"]

    # Registers.

    def access(self, operations: Sequence[tuple[int, int, int, int, int]]) -> list[tuple[int, int]]:
        """Accesses (is write, address, data, strobe, gap): data and response of each. The gap is in cycles from a
        write's address to its data, or the other way where negative; of a read before its address."""
        got = self._do("access", operations=[list(map(int, o)) for o in operations], limit=PATIENCE)
        return [(data, response) for data, response in got]

    def write(self, name: str, value: int) -> None:
        """Write a register, which mustn't be refused."""
        ((_, response),) = self.access([(1, self.map[name].address, value, 15, 0)])
        if response != OKAY:
            raise SimulationError(f"write to {name}: response {response}")

    def read(self, name: str, field: str | None = None) -> int:
        """A register, or a field of it."""
        ((value, response),) = self.access([(0, self.map[name].address, 0, 0, 0)])
        if response != OKAY:
            raise SimulationError(f"read of {name}: response {response}")
        if field is None:
            return value
        f = self.map[name].field(field)
        return (value & f.mask) >> f.low

    def counters(self) -> dict[str, int]:
        """A snapshot of all counters."""
        self.write("COMMAND", 2)
        got = self.access([(0, self.map.counter(n).address, 0, 0, 0) for n in range(len(self.map.counters))])
        return dict(zip(self.map.counters, (value for value, _ in got), strict=True))

    def soft_reset(self) -> None:
        """Reset the datapath and wait for its end."""
        self.write("COMMAND", 1)
        while self.read("STATUS", "RESETTING"):
            pass

    def load(self, site: Site, weights: IntArray) -> None:
        """Load the weights of a site."""
        self.write("SITE", site.number)
        address = self.map["DATA"].address
        got = self.access([(1, address, int(v), 15, 0) for v in site.image(weights).reshape(-1)])
        if bad := [r for _, r in got if r != OKAY]:
            raise SimulationError(f"weights of site {site.number}: response {bad[0]}")

    def weights(self, site: Site) -> IntArray:
        """Read the weights of a site back."""
        self.write("SITE", site.number)
        got = self.access([(0, self.map["DATA"].address, 0, 0, 0)] * (site.rows * site.chunks))
        if bad := [r for _, r in got if r != OKAY]:
            raise SimulationError(f"weights of site {site.number}: response {bad[0]}")
        return site.weights(np.array([v for v, _ in got], np.uint32).reshape(site.rows, site.chunks))

    # Streams.

    def send(self, slots: Slots, *, keep: Sequence[int] | None = None, user: Sequence[int] | None = None) -> None:
        """One packet, offered from now on: slots [words, slots]; TLAST is on its last word.

        :param keep: per byte; all kept unless given. :param user: TUSER per word.
        """
        per = self.map.inputs.data_bits // 8
        users = None if user is None else [int(u) for u in user for _ in range(per)]
        packet = {"data": slots.tobytes().hex(), "keep": None if keep is None else list(keep), "user": users}
        self._do("send", packets=[packet])

    def encode(self, x: IntArray, **options: Any) -> Slots:
        """One sample [ticks, inputs] as words."""
        return self.map.inputs.encode(
            {k: v[0] for k, v in split_input(self.system.network, x[None]).items()}, **options
        )

    def until(self, limit: int = PATIENCE, **what: int) -> bool:
        """Let time pass until `words` or `packets` have left, all was `sent`, or the `interrupt` is high."""
        return bool(self._do("until", limit=limit, **what))

    def cycles(self, number: int) -> None:
        """Let time pass."""
        self._do("cycles", number=number)

    def take(self) -> list[tuple[int, int, int, int]]:
        """Words that have left since: data, keep, last, user."""
        return [(int(data, 16), keep, last, user) for data, keep, last, user in self._do("take")]

    def slots(self) -> Slots:
        """Words that have left since, as slots."""
        return slots_of([word[0] for word in self.take()], self.map.outputs)

    def reset(self) -> None:
        """The hard reset, for some cycles."""
        self._do("reset")

    def shake(self, cycles: int, seed: int = 0) -> None:
        """Let time pass; within each cycle all inputs become random and go back: a problem where an output moves."""
        self._do("shake", number=cycles, seed=seed)

    def withdraw(self) -> None:
        """The master forgets the packets that it hasn't begun."""
        self._do("withdraw")

    def stall(self, share: float, *, burst: int = 4, seed: int = 0, parts: Sequence[str] | None = None) -> None:
        """Stall channels (aw, w, b, ar, r, source, sink) from now on."""
        self._do("stall", share=share, burst=burst, seed=seed, **({} if parts is None else {"parts": list(parts)}))

    @property
    def state(self) -> Mapping[str, Any]:
        """Rules that were broken, transfers by channel, cycles of the first and latest ones, `cycle`, `interrupt`."""
        found: dict[str, Any] = self._do("state")
        return found

    @property
    def problems(self) -> list[str]:
        """Rules that were broken."""
        return list(self.state["problems"])

    def run(self, x: IntArray, *, packets: int = 1, limit: int = 200_000) -> Trace:
        """Samples [samples, ticks, inputs] through an enabled system: outputs and counters (since the last reset).

        :param packets: samples that are sent as one packet.
        :raises SimulationError: not all came out.
        """
        for n in range(0, len(x), packets):
            self.send(np.concatenate([self.encode(sample) for sample in x[n : n + packets]]))
        if not self.until(limit, packets=len(x)):
            raise SimulationError(f"expected {len(x)} packets within {limit} cycles; state: {dict(self.state)}")
        while self.read("STATUS", "BUSY"):  # a population that nothing of the output depends on may go on
            pass
        parts, _ = self.map.outputs.decode(self.slots())
        outputs = {name: part.reshape(len(x), x.shape[1], -1) for name, part in parts.items()}
        return Trace(values=outputs, outputs=outputs, counters=self.counters(), engine="axi")
