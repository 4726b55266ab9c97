"""The cocotb side of the AXI bench: drivers of cocotbext-axi, protocol monitors, and a socket to who commands them.

Runs inside the simulator. Time stands still while it waits for a command, one line of JSON; each is answered by one
line. Commands: see `Session`. This module imports neither torch nor the rest of apical.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cocotb
from cocotb.clock import Clock
from cocotb.triggers import ReadOnly, RisingEdge, Timer
from cocotbext.axi import AxiLiteBus, AxiStreamBus, AxiStreamFrame, AxiStreamSink, AxiStreamSource
from cocotbext.axi.axil_channels import (
    AxiLiteARSource,
    AxiLiteAWSource,
    AxiLiteBSink,
    AxiLiteRSink,
    AxiLiteWSource,
)

VARIABLE = "APICAL_AXI_BENCH"
CHANNELS = {  # payload by channel; all have valid and ready
    "s_axi_aw": ("addr", "prot"),
    "s_axi_w": ("data", "strb"),
    "s_axi_b": ("resp",),
    "s_axi_ar": ("addr", "prot"),
    "s_axi_r": ("data", "resp"),
    "s_axis_t": ("data", "keep", "last", "user"),
    "m_axis_t": ("data", "keep", "last", "user"),
}
HALF = 10  # steps of half a clock period
OURS = ("s_axi_b", "s_axi_r", "m_axis_t")  # the design drives payload and valid


class Monitor:
    """Watches every channel at every edge: rules of AMBA AXI and AXI-Stream, and the words that left."""

    def __init__(self, dut: Any) -> None:
        self.dut = dut
        self.signals = {
            name: (
                getattr(dut, f"{name}valid"),
                getattr(dut, f"{name}ready"),
                [getattr(dut, f"{name}{part}") for part in parts],
            )
            for name, parts in CHANNELS.items()
        }
        self.waits: dict[str, list[int] | None] = dict.fromkeys(CHANNELS)
        self.counts = dict.fromkeys(CHANNELS, 0)
        self.first, self.latest = dict.fromkeys(CHANNELS, -1), dict.fromkeys(CHANNELS, -1)
        self.problems: list[str] = []
        self.words: deque[list[int]] = deque()
        self.packets = 0  # that end in `words`
        self.cycle = 0

    def _problem(self, text: str) -> None:
        if len(self.problems) < 20:
            self.problems.append(f"cycle {self.cycle}: {text}")

    def sample(self) -> None:
        """At a rising edge, before anything changes."""
        self.cycle += 1
        if not int(self.dut.aresetn.value):
            self.waits = dict.fromkeys(CHANNELS)
            return
        for name, (valid, ready, payload) in self.signals.items():
            if not (valid.value.is_resolvable and ready.value.is_resolvable):
                self._problem(f"{name}: valid or ready is neither 0 nor 1")
                continue
            is_valid, waits = int(valid.value), self.waits[name]
            if not is_valid:
                if waits is not None:
                    self._problem(f"{name}: valid fell before ready")
                    self.waits[name] = None
                continue
            now = [int(s.value) for s in payload]
            if waits is not None and waits != now:
                self._problem(f"{name}: the payload changed before ready, {waits} to {now}")
            taken = int(ready.value)
            self.waits[name] = None if taken else now
            if taken:
                self.counts[name] += 1
                self.latest[name] = self.cycle
                if self.first[name] < 0:
                    self.first[name] = self.cycle
                self._taken(name, now)

    def _taken(self, name: str, payload: list[int]) -> None:
        c = self.counts
        if name == "m_axis_t":
            self.words.append(payload)
            self.packets += payload[2]
        elif name == "s_axi_b" and c[name] > min(c["s_axi_aw"], c["s_axi_w"]):
            self._problem("s_axi_b: an answer without address and data")
        elif name == "s_axi_r" and c[name] > c["s_axi_ar"]:
            self._problem("s_axi_r: an answer without an address")

    def in_reset(self) -> None:
        """What has to be low in reset, once the edge was seen."""
        for name in OURS:
            if int(self.signals[name][0].value):
                self._problem(f"{name}: valid in reset")


def _pauses(share: float, burst: int, dice: random.Random) -> Iterator[bool]:
    """Random stalls: a share of all cycles, in runs of up to `burst`."""
    while True:
        stalled = dice.random() < share
        for _ in range(dice.randint(1, burst)):
            yield stalled


class Session:
    """The drivers, and what can be asked of them."""

    def __init__(self, dut: Any, job: dict[str, Any]) -> None:
        self.dut, self.edge = dut, RisingEdge(dut.aclk)
        bus = AxiLiteBus.from_prefix(dut, "s_axi")
        clocked = (dut.aclk, dut.aresetn, False)
        self.aw, self.w = AxiLiteAWSource(bus.write.aw, *clocked), AxiLiteWSource(bus.write.w, *clocked)
        self.b = AxiLiteBSink(bus.write.b, *clocked)
        self.ar, self.r = AxiLiteARSource(bus.read.ar, *clocked), AxiLiteRSink(bus.read.r, *clocked)
        self.source = AxiStreamSource(AxiStreamBus.from_prefix(dut, "s_axis"), *clocked)
        self.sink = AxiStreamSink(AxiStreamBus.from_prefix(dut, "m_axis"), *clocked)
        self.monitor = Monitor(dut)
        named = ("aw", "w", "b", "ar", "r", "source", "sink")
        self.parts = {name: getattr(self, name) for name in named}
        self.stall({"share": job["share"], "burst": job["burst"], "seed": job["seed"]})
        self.answers: dict[str, deque[Any]] = {"w": deque(), "r": deque()}

    def stall(self, given: dict[str, Any]) -> None:
        """Random stalls on all channels, or those named in `parts`."""
        for n, (name, part) in enumerate(self.parts.items()):
            if name in given.get("parts", self.parts):
                part.clear_pause_generator()
                part.pause = False
                if given["share"]:
                    part.set_pause_generator(
                        _pauses(given["share"], given["burst"], random.Random(given["seed"] * 16 + n))
                    )

    async def cycles(self, number: int) -> None:
        """Let time pass."""
        for _ in range(number):
            await self.edge
            self.monitor.sample()

    async def reset(self, number: int = 4) -> None:
        """The hard reset."""
        self.dut.aresetn.value = 0
        await self.cycles(2)
        for _ in range(number):
            await self.edge
            self.monitor.sample()
            await ReadOnly()
            self.monitor.in_reset()
        await self.edge
        self.dut.aresetn.value = 1
        await self.cycles(2)

    async def shake(self, number: int, seed: int) -> None:
        """In the middle of cycles all inputs but the reset become random and go back: no output may move."""
        dice, inputs, outputs = random.Random(seed), list[Any](), [self.dut.interrupt]
        for name, (valid, ready, payload) in self.monitor.signals.items():
            (outputs if name in OURS else inputs).extend([valid, *payload])
            (inputs if name in OURS else outputs).append(ready)
        for _ in range(number):
            await self.cycles(1)
            await Timer(HALF + 1, "step")
            before, shown = [int(s.value) for s in inputs], [int(s.value) for s in outputs]
            for signal in inputs:
                signal.value = dice.getrandbits(len(signal))
            await Timer(2, "step")
            if [int(s.value) for s in outputs] != shown:
                self.monitor.problems.append(f"cycle {self.monitor.cycle}: an output follows an input within a cycle")
            for signal, value in zip(inputs, before, strict=True):
                signal.value = value
            await Timer(2, "step")

    async def access(self, operations: list[list[int]], limit: int) -> list[list[int]]:
        """Accesses [is write, address, data, strobe, gap], one after the other; answers [data, response].

        :raises TimeoutError: one isn't answered within `limit` cycles.
        """
        out = []
        for write, address, data, strobe, gap in operations:
            if write:
                aw, w = self.aw._transaction_obj(), self.w._transaction_obj()
                aw.awaddr, aw.awprot, w.wdata, w.wstrb = address, 0, data, strobe
                halves = [(self.aw, aw), (self.w, w)]
                for n, (part, half) in enumerate(halves if gap >= 0 else halves[::-1]):
                    if n:
                        await self.cycles(abs(gap))
                    part.send_nowait(half)
                sink, field = self.b, "bresp"
            else:
                await self.cycles(max(gap, 0))
                ar = self.ar._transaction_obj()
                ar.araddr, ar.arprot = address, 0
                self.ar.send_nowait(ar)
                sink, field = self.r, "rresp"
            for _ in range(limit):
                if not sink.empty():
                    break
                await self.cycles(1)
            else:
                raise TimeoutError(f"access to {address:#x}: no answer within {limit} cycles")
            got = sink.recv_nowait()
            out.append([0 if write else int(got.rdata), int(getattr(got, field))])
        return out

    def send(self, packet: dict[str, Any]) -> None:
        """A packet to the input: bytes as hex, keep and user per byte, or None."""
        frame = AxiStreamFrame(bytes.fromhex(packet["data"]), packet["keep"], tuser=packet["user"])
        self.source.send_nowait(frame)

    async def until(self, given: dict[str, Any]) -> bool:
        """Until so many words or packets have left, or the source is idle, or the interrupt rises, or cycles passed."""
        m = self.monitor
        for _ in range(given["limit"]):
            words, packets = given.get("words"), given.get("packets")
            if words is not None and len(m.words) >= words:
                return True
            if packets is not None and m.packets >= packets:
                return True
            if given.get("sent") and self.source.idle():
                return True
            if given.get("interrupt") and int(self.dut.interrupt.value):
                return True
            await self.cycles(1)
        return False

    async def command(self, given: dict[str, Any]) -> Any:
        """Do what a command says."""
        kind = given["do"]
        if kind == "access":
            return await self.access(given["operations"], given["limit"])
        if kind == "send":
            for packet in given["packets"]:
                self.send(packet)
            return None
        if kind == "take":
            words = [[f"{w[0]:x}", *w[1:]] for w in self.monitor.words]
            self.monitor.words.clear()
            self.monitor.packets = 0
            return words
        if kind == "until":
            return await self.until(given)
        if kind == "cycles":
            return await self.cycles(given["number"])
        if kind == "reset":
            return await self.reset()
        if kind == "shake":
            return await self.shake(given["number"], given["seed"])
        if kind == "withdraw":  # the master gives up: what it hasn't offered yet
            return self.source.clear()
        if kind == "stall":
            return self.stall(given)
        if kind == "state":
            m = self.monitor
            return {
                "problems": m.problems,
                "counts": m.counts,
                "first": m.first,
                "latest": m.latest,
                "cycle": m.cycle,
                "interrupt": int(self.dut.interrupt.value),
                "sent": self.source.idle(),
            }
        raise ValueError(f"unknown command {kind!r}")


@cocotb.test()
async def bench(dut: Any) -> None:
    """Answers commands until there are no more."""
    job = json.loads(os.environ[VARIABLE])
    logging.getLogger("cocotb").setLevel(logging.WARNING)
    for name in ("aclk", "aresetn"):
        getattr(dut, name).value = 0
    session = Session(dut, job)
    Clock(dut.aclk, 2 * HALF, unit="step").start(start_high=False)
    await session.reset()
    with socket.socket(socket.AF_UNIX) as link:
        link.connect(job["socket"])
        lines = link.makefile("rw")
        for line in lines:
            try:
                answer = {"answer": await session.command(json.loads(line))}
            except Exception as error:
                answer = {"error": f"{type(error).__name__}: {error}"}
            lines.write(json.dumps(answer) + "\n")
            lines.flush()


def main(job: dict[str, Any]) -> None:
    """Start the simulator; a process of its own, so that it can be ended as a whole."""
    from cocotb_tools.runner import get_runner

    os.environ.pop("PYTEST_CURRENT_TEST", None)  # the runner would look for a pytest plug-in's result file
    get_runner("verilator").test(
        test_module="apical.sim.axi_bench_top",
        hdl_toplevel=job["top"],
        hdl_toplevel_lang="verilog",
        build_dir=job["build"],
        test_dir=Path(job["folder"]),
        extra_env={VARIABLE: json.dumps(job), "COCOTB_RANDOM_SEED": "0", "COCOTB_LOG_LEVEL": "WARNING"},
    )


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
