"""The cocotb side of the bench: runs inside the simulator, on files that `apical.sim.bench` wrote.

A folder (environment variable APICAL_BENCH) holds `job.json` (ports as in the manifest, stalls, reset) and
`stimulus.npz` (the beats). It gets `result.json`, `result.npz` and, while running, `progress`. This module imports
neither torch nor the rest of apical, so that a simulator starts at once.

One coroutine plays all drivers and monitors: it wakes once per cycle, at the rising edge, where every signal still
has the value that the edge takes; what it then drives appears after the edge.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

import cocotb
import numpy as np
import numpy.typing as npt
from cocotb.clock import Clock

QUIET = 512  # cycles without movement after which a complete run is over and the counters stand still
PATIENCE = 20_000  # cycles without movement that are a deadlock, beside what the longest tick may take
VARIABLE = "APICAL_BENCH"


class ProtocolError(Exception):
    """The RTL broke a rule or stopped; the text becomes a SimulationError."""


def _signed(value: int, bits: int, signed: bool) -> int:
    return value - (1 << bits) if signed and value >> (bits - 1) else value


class Gate:
    """Stalls one end of a stream: each time for `burst` cycles, a share of all times."""

    def __init__(self, share: float, burst: int = 1) -> None:
        self.share, self.burst, self.left, self.closed = share, burst, 0, False

    def stalls(self, dice: random.Random) -> bool:
        """For this cycle."""
        if self.share and self.left == 0:
            self.closed, self.left = dice.random() < self.share, self.burst
        self.left -= 1
        return self.closed


class InputDriver:
    """Offers one input stream's beats, each until it is taken."""

    def __init__(self, dut: Any, port: dict[str, Any], arrays: dict[str, npt.NDArray[Any]], gate: Gate) -> None:
        prefix, lanes = port["prefix"], port["event_lanes"]
        self.name, self.gate = f"input {prefix} ({port['node']!r})", gate
        self.valid, self.ready = getattr(dut, f"{prefix}_valid"), getattr(dut, f"{prefix}_ready")
        weights = 1 << np.arange(lanes)
        columns = {"keep": arrays["keep"].astype(np.int64) @ weights, "last": arrays["last"], "final": arrays["final"]}
        for e in range(lanes):
            columns[f"row{e}"] = arrays["rows"][:, e]
            if port["has_value"]:
                columns[f"value{e}"] = arrays["values"][:, e] & ((1 << port["value_bits"]) - 1)
        self.signals = [getattr(dut, f"{prefix}_{name}") for name in columns]
        self.beats = list(zip(*(column.astype(int).tolist() for column in columns.values()), strict=True))
        self.shown: list[int | None] = [None] * len(self.signals)
        self.is_valid: bool | None = None
        self.restart()

    def restart(self) -> None:
        """Withdraw, and begin again with the first beat."""
        self.next, self.offered = 0, False
        self._set_valid(False)

    def _set_valid(self, valid: bool) -> None:
        if valid != self.is_valid:
            self.is_valid = valid
            self.valid.value = int(valid)

    def drive(self, dice: random.Random) -> None:
        """Keep offering, or offer the next beat unless stalled."""
        closed = self.gate.stalls(dice)
        if self.offered:
            return
        if self.next < len(self.beats) and not closed:
            self.offered = True
            for n, (signal, value) in enumerate(zip(self.signals, self.beats[self.next], strict=True)):
                if self.shown[n] != value:
                    self.shown[n] = value
                    signal.value = value
        self._set_valid(self.offered)

    def sample(self) -> bool:
        """True where the offered beat was taken."""
        if not self.offered or not int(self.ready.value):
            return False
        self.offered = False
        self.next += 1
        return True

    @property
    def complete(self) -> bool:
        """All beats are taken."""
        return self.next == len(self.beats)

    def waiting(self) -> str:
        """What is left, for the message of a deadlock; empty when nothing is."""
        left = len(self.beats) - self.next
        return f"{self.name}: {left} of {len(self.beats)} beats not taken" if left else ""


class OutputMonitor:
    """Takes one output stream, checks its rules, adds its events up by tick and neuron."""

    def __init__(self, dut: Any, port: dict[str, Any], samples: int, ticks: int, gate: Gate) -> None:
        prefix = port["prefix"]
        self.name, self.gate, self.port, self.ticks = f"output {prefix} ({port['node']!r})", gate, port, ticks
        self.valid, self.ready = getattr(dut, f"{prefix}_valid"), getattr(dut, f"{prefix}_ready")
        names = ["keep", "last", "final"]
        names += [f"row{e}" for e in range(port["event_lanes"])]
        names += [f"value{e}" for e in range(port["event_lanes"]) if port["has_value"]]
        self.signals = [getattr(dut, f"{prefix}_{name}") for name in names]
        self.events = np.zeros((samples * ticks, port["size"]), np.int64)
        self.restart()

    def restart(self) -> None:
        """Ready, and nothing taken yet."""
        self.events[:] = 0
        self.tick, self.is_ready = 0, True
        self.waits: list[int] | None = None  # payload of a beat that was offered and not taken
        self.ready.value = 1

    def drive(self, dice: random.Random) -> None:
        """Be ready or not."""
        if (wanted := not self.gate.stalls(dice)) != self.is_ready:
            self.is_ready = wanted
            self.ready.value = int(wanted)

    def sample(self) -> bool:
        """True where a beat was taken.

        :raises ProtocolError: a rule of docs/reference/semantics.md is broken.
        """
        if not int(self.valid.value):
            if self.waits is not None:
                raise ProtocolError(f"{self.name} withdrew a beat before it was taken, {self._where()}")
            return False
        payload = [int(signal.value) for signal in self.signals]
        if self.waits is not None and payload != self.waits:
            raise ProtocolError(
                f"{self.name} changed a beat before it was taken, {self._where()}: first {self.waits}, then {payload}"
            )
        self.waits = None if self.is_ready else payload
        if self.is_ready:
            self._take(payload)
        return self.is_ready

    def _where(self) -> str:
        return f"at sample {self.tick // self.ticks}, tick {self.tick % self.ticks}"

    def _take(self, payload: list[int]) -> None:
        keep, last, final = payload[:3]
        port, lanes = self.port, self.port["event_lanes"]
        if self.tick >= len(self.events):
            raise ProtocolError(f"{self.name} sends more ticks than the {len(self.events)} that were asked for")
        for e in range(lanes):
            if not keep >> e & 1:
                continue
            neuron = payload[3 + e] * port["classes"] + e % port["classes"]
            if port["index_of"] is not None:  # a map's coordinates
                at = neuron
                neuron = port["index_of"].index(at) if at in port["index_of"] else port["size"]
            value = 1
            if port["has_value"]:
                value = _signed(payload[3 + lanes + e], port["value_bits"], port["signed"])
            if neuron >= port["size"]:
                raise ProtocolError(
                    f"{self.name}: expected neurons 0 to {port['size'] - 1}, got an event of neuron {neuron} "
                    f"{self._where()}"
                )
            if value == 0:
                raise ProtocolError(f"{self.name} sends the value 0 of neuron {neuron} {self._where()}")
            self.events[self.tick, neuron] += value
        if final and not last:
            raise ProtocolError(f"{self.name} marks a sample's end on a beat that ends no tick, {self._where()}")
        if last:
            if bool(final) != ((self.tick + 1) % self.ticks == 0):
                raise ProtocolError(f"{self.name}: sample mark out of place {self._where()}")
            self.tick += 1

    @property
    def complete(self) -> bool:
        """All ticks are closed."""
        return self.tick == len(self.events)

    def waiting(self) -> str:
        """What is missing, for the message of a deadlock; empty when nothing is."""
        return "" if self.complete else f"{self.name}: {self.tick} of {len(self.events)} ticks closed"


class LawMonitor:
    """Records one population's law results (and states), row by row."""

    def __init__(self, dut: Any, port: dict[str, Any], size: int, total: int) -> None:
        prefix = port["prefix"]
        self.name, self.neuron_of = f"monitor {prefix} ({port['population']!r})", port["neuron_of"]
        self.valid, self.row = getattr(dut, f"{prefix}_valid"), getattr(dut, f"{prefix}_row")
        self.ends = getattr(dut, f"{prefix}_last") if port["gated"] else None  # then rows may be left out
        formats = {"value": (port["value_bits"], port["signed"]), **port["state_formats"]}
        self.arrays = {name: np.zeros((total, size), np.int64) for name in formats}
        self.lanes = [
            [(getattr(dut, f"{prefix}_{name}{j}"), self.arrays[name], bits, signed) for name, (bits, signed) in items]
            for items in [list(formats.items())]
            for j in range(len(self.neuron_of[0]))
        ]
        self.total = total
        self.restart()

    def restart(self) -> None:
        """Nothing recorded yet."""
        self.tick = self.expected = 0
        for array in self.arrays.values():
            array[:] = 0

    def sample(self) -> bool:
        """True where a row came.

        :raises ProtocolError: rows out of order, or more ticks than asked for.
        """
        if not int(self.valid.value):
            return False
        row = int(self.row.value)
        if row != self.expected if self.ends is None else row < self.expected:
            raise ProtocolError(f"{self.name}: expected row {self.expected}, got {row} in tick {self.tick}")
        if self.tick >= self.total:
            raise ProtocolError(f"{self.name}: more ticks than the {self.total} that were asked for")
        for neuron, signals in zip(self.neuron_of[row], self.lanes, strict=True):
            if neuron >= 0:
                for signal, array, bits, signed in signals:
                    array[self.tick, neuron] = _signed(int(signal.value), bits, signed)
        ends = row + 1 == len(self.neuron_of) if self.ends is None else bool(int(self.ends.value))
        self.expected = 0 if ends else row + 1
        self.tick += ends
        return True

    @property
    def complete(self) -> bool:
        """All rows of all ticks came."""
        return self.tick == self.total

    def waiting(self) -> str:
        """What is missing, for the message of a deadlock; empty when nothing is."""
        return "" if self.complete else f"{self.name}: {self.tick} of {self.total} ticks"


class Bench:
    """One run: all streams of the top level, cycle by cycle."""

    def __init__(self, dut: Any, folder: Path) -> None:
        self.dut, self.folder = dut, folder
        self.job = job = json.loads((folder / "job.json").read_text())
        samples, ticks = job["samples"], job["ticks"]
        with np.load(folder / "stimulus.npz", allow_pickle=False) as stored:
            arrays = dict(stored)
        self.dice = random.Random(job["seed"])
        if job["point"] is not None:
            dut.point.value = job["point"]
        self.inputs = [
            InputDriver(
                dut,
                p,
                {k: arrays[f"{p['prefix']}_{k}"] for k in ("keep", "rows", "values", "last", "final")},
                Gate(job["stall_in"], job["burst"]),
            )
            for p in job["inputs"]
        ]
        self.outputs = [
            OutputMonitor(dut, p, samples, ticks, Gate(job["stall_out"], job["burst"])) for p in job["outputs"]
        ]
        self.laws = [LawMonitor(dut, p, p["size"], samples * ticks) for p in job["monitors"]]
        self.parts: list[InputDriver | OutputMonitor | LawMonitor] = [*self.inputs, *self.outputs, *self.laws]
        rows = max((len(p["neuron_of"]) for p in job["monitors"]), default=1)
        beats = max(sum(1 for _ in p.beats) for p in self.inputs)
        self.patience = PATIENCE + rows * min(beats, 1000)
        self.first: int | None = None
        self.last = 0
        self.told = 0.0

    async def reset(self, edges: int) -> None:
        """Reset for some cycles; all drivers and monitors start over."""
        self.dut.rst.value = 1
        for part in self.parts:
            part.restart()
        self.first = None
        for _ in range(edges):
            await self.dut.clk.rising_edge
        self.dut.rst.value = 0

    def _cycle(self, cycle: int) -> bool:
        """Sample everything at a rising edge; True where anything moved."""
        moved = False
        for law in self.laws:
            moved |= law.sample()
        for driver in self.inputs:
            if driver.sample():
                moved = True
                if self.first is None:
                    self.first = cycle
        for output in self.outputs:
            if output.sample():
                moved = True
                self.last = cycle
        return moved

    def _tell(self) -> None:
        if self.outputs and time.monotonic() - self.told > 0.2:
            self.told = time.monotonic()
            part = self.folder / "progress.part"
            part.write_text(str(min(o.tick // o.ticks for o in self.outputs)))
            part.replace(self.folder / "progress")

    async def run(self) -> None:
        """Until everything came and all is quiet.

        :raises ProtocolError: a broken rule, a deadlock, or a reset planned after the end.
        """
        edge, parts = self.dut.clk.rising_edge, self.parts
        reset_at, quiet, cycle = self.job["reset_at"], 0, 0
        while True:
            if reset_at and cycle == reset_at:
                await self.reset(3)
                reset_at = quiet = 0
            for driver in self.inputs:
                driver.drive(self.dice)
            for output in self.outputs:
                output.drive(self.dice)
            await edge
            quiet = 0 if self._cycle(cycle) else quiet + 1
            cycle += 1
            if quiet > QUIET and all(part.complete for part in parts):
                break
            if quiet > self.patience:
                waiting = "; ".join(text for part in parts if (text := part.waiting()))
                raise ProtocolError(f"deadlock: nothing moved for {quiet} cycles before cycle {cycle}; {waiting}")
            if cycle & 0xFF == 0:
                self._tell()
        if reset_at:
            raise ProtocolError(f"reset_at: expected a cycle within the run of {cycle} cycles, got {reset_at}")

    def write(self, problem: str, seconds: float) -> None:
        """Leave the results for `apical.sim.bench`."""
        counters = [int(getattr(self.dut, f"cnt{c}").value) for c in range(self.job["counters"])]
        arrays = {f"{o.port['prefix']}": o.events for o in self.outputs}
        for port, law in zip(self.job["monitors"], self.laws, strict=True):
            arrays.update({f"{port['prefix']}_{name}": array for name, array in law.arrays.items()})
        np.savez(self.folder / "result.npz", **arrays)  # type: ignore[arg-type]
        cycles = self.last + 1 - (self.first or 0)
        result = {"cycles": cycles, "counters": counters, "problem": problem, "seconds": seconds}
        part = self.folder / "result.part"
        part.write_text(json.dumps(result))
        part.replace(self.folder / "result.json")


@cocotb.test()
async def bench(dut: Any) -> None:
    """The whole run is one test; a broken rule is a result, not a failure of the test."""
    run = Bench(dut, Path(os.environ[VARIABLE]))
    dut.clk.value = 0
    Clock(dut.clk, 2, unit="step").start(start_high=False)
    await run.reset(4)
    began, problem = time.perf_counter(), ""
    try:
        await run.run()
    except ProtocolError as error:
        problem = str(error)
    run.write(problem, time.perf_counter() - began)


def main(folder: Path) -> None:
    """Start the simulator named in `job.json`; a process of its own, so that it can be ended as a whole."""
    from cocotb_tools.runner import get_runner

    os.environ.pop("PYTEST_CURRENT_TEST", None)  # the runner would look for a pytest plug-in's result file
    job = json.loads((folder / "job.json").read_text())
    get_runner("verilator").test(
        test_module="apical.sim.bench_top",
        hdl_toplevel=job["top"],
        hdl_toplevel_lang="verilog",
        build_dir=job["build"],
        test_dir=folder,
        extra_env={VARIABLE: str(folder), "COCOTB_RANDOM_SEED": "0"},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
