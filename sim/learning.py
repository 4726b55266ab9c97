"""On-chip learning on the RTL: sample by sample, with everything that lasts read back and compared with golden."""

from __future__ import annotations

import hashlib
import json
import subprocess
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from amaranth.hdl import Fragment

from apical.hw.design import Design, HardwareOptions
from apical.hw.learning import HOST_CYCLES, LearningTop, check_learning, learning_options
from apical.hw.verilog import plain_manifest
from apical.hw.verilog_text import convert
from apical.sim.stimulus import pack
from apical.sim.verilated import SimulationError, Stalls, _write_beats, build
from apical.sw.golden import check_input, split_input
from apical.sw.network import IntArray, Network
from apical.sw.on_chip import Learning, OnChip

MAIN = Path(__file__).with_name("learn.cpp")
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class State:
    """Everything that lasts on the chip after some samples, in the order of the projections.

    :param weights: [targets, sources] of each projection.
    :param errors: of each projection's targets.
    """

    samples: int
    weights: tuple[IntArray, ...]
    errors: tuple[IntArray, ...]
    thresholds: tuple[int, ...]
    number: int
    counters: Mapping[str, int]

    def difference(self, other: State) -> str | None:
        """What isn't equal, as a sentence; `other` is golden's."""
        for kind in ("weights", "errors"):
            for n, (a, b) in enumerate(zip(getattr(self, kind), getattr(other, kind), strict=True)):
                if (at := np.argwhere(a != b)).size:
                    place = tuple(int(i) for i in at[0])
                    return f"{kind} of {n} at {place}: golden {b[place]}, RTL {a[place]} ({len(at)} differ)"
        for kind in ("thresholds", "number"):
            if getattr(self, kind) != getattr(other, kind):
                return f"{kind}: golden {getattr(other, kind)}, RTL {getattr(self, kind)}"
        for name, count in other.counters.items():
            if self.counters[name] != count:
                return f"counter {name!r}: golden {count}, RTL {self.counters[name]}"
        return None


def state_of(chip: OnChip, samples: int) -> State:
    """Golden's."""
    return State(
        samples,
        tuple(w.T.numpy().copy() for w in chip.weights),
        tuple(e.numpy().copy() for e in chip.errors),
        tuple(int(t) for t in chip.thresholds),
        chip.samples,
        dict(chip.counters),
    )


def generate(network: Network, learning: Learning, options: HardwareOptions) -> tuple[Design, LearningTop]:
    """The learning accelerator's Verilog.

    :raises HardwareError, NetworkError: what can't learn on the chip.
    """
    check_learning(network, learning, options)
    top = LearningTop(network, learning, options)
    text = convert(Fragment.get(top, None), top.manifest.top, list(top.ports.values()))
    manifest = json.dumps(plain_manifest(top.manifest), sort_keys=True)
    digest = hashlib.sha256((manifest + text).encode()).hexdigest()[:16]
    return Design(text, top.manifest, digest, network, options), top


@dataclass(frozen=True)
class Learned:
    """What the RTL did.

    :param outputs: [samples, outputs], before each sample was learned.
    :param states: after every so many samples.
    :param cycles: from each sample's first offered beat until the next could be offered, summed.
    """

    outputs: IntArray
    states: tuple[State, ...]
    cycles: int


class LearningRun:
    """A compiled learning design.

    :param mapped: what is run in its place: the same ports, other Verilog.
    """

    def __init__(
        self,
        network: Network,
        learning: Learning,
        options: HardwareOptions | None = None,
        *,
        fast_build: bool = False,
        mapped: Callable[[Design], Design] | None = None,
    ) -> None:
        self.network, self.learning = network, learning
        self.design, self.top = generate(network, learning, options or learning_options(network))
        self.design = self.design if mapped is None else mapped(self.design)
        self.program = build(self.design, fast_build=fast_build, main=MAIN)

    def _places(self) -> list[tuple[int, int, int]]:
        """Site, word and lane of every weight, error, threshold, and the number."""
        learner = self.top.accelerator
        out, count = [], len(learner.projections)
        for n, (p, visitor) in enumerate(zip(learner.projections, learner.visitors, strict=True)):
            at = {
                int(t): divmod(i, visitor.array.lanes.synapse) for i, t in enumerate(visitor.array.order.target_of.flat)
            }
            rows = visitor.array.layout.rows
            for target in range(p.weights.shape[0]):
                word, lane = at[target]
                out += [(n, word * rows + source, lane) for source in range(p.weights.shape[1])]
        for n, store in enumerate(learner.errors):
            at = {int(t): divmod(i, store.order.lanes.synapse) for i, t in enumerate(store.order.target_of.flat)}
            out += [(count + n, *at[cell]) for cell in range(store.order.size)]
        return [*out, *((2 * count + n, 0, 0) for n in range(count)), (3 * count, 0, 0)]

    def _state(self, samples: int, read: IntArray) -> State:
        learner = self.top.accelerator
        at, weights, errors = 0, [], []
        for p in learner.projections:
            weights.append(read[at : at + p.weights.size].reshape(p.weights.shape))
            at += p.weights.size
        for p in learner.projections:
            errors.append(read[at : at + len(p.weights)])
            at += len(p.weights)
        count = len(learner.projections)
        thresholds, number = tuple(int(v) for v in read[at : at + count]), int(read[at + count])
        counters = [int(v) & 0xFFFFFFFF for v in read[at + count + 1 :]]
        named = dict(zip(self.design.manifest.counters, counters, strict=True))
        return State(samples, tuple(weights), tuple(errors), thresholds, number, named)

    def run(
        self,
        x: np.ndarray,
        labels: IntArray,
        *,
        period: int = 1000,
        learn: bool = True,
        stalls: Stalls | None = None,
        resume: State | None = None,
        progress: Progress | None = None,
    ) -> Learned:
        """Learn (or only answer) from reset.

        :param x: [samples, 1, inputs], those of all inputs side by side.
        :param period: samples between two read-outs of everything.
        :param resume: weights, thresholds and number to begin with, written by the host.
        :raises SimulationError: the RTL stopped or broke the protocol.
        """
        x, stalls = check_input(self.network, x), stalls or Stalls()
        places = self._places()
        loads: list[tuple[int, int, int, int]] = []
        if resume is not None:
            given = [*(int(v) for w in resume.weights for v in w.flat)]
            kept = [p for p in places if p[0] < len(resume.weights)]
            loads = [(*p, v) for p, v in zip(kept, given, strict=True)]
            tail = [*resume.thresholds, resume.number]
            loads += [(*p, v) for p, v in zip(places[-len(tail) :], tail, strict=True)]
        with tempfile.TemporaryDirectory(prefix="apical-") as base:
            folder = Path(base)
            for i, part in enumerate(split_input(self.network, x).values()):
                _write_beats(folder / f"in{i}.bin", pack(part, 1, 1))
            np.asarray(labels, np.int32).tofile(folder / "labels.bin")
            np.asarray(places, np.int32).tofile(folder / "places.bin")
            np.asarray(loads, np.int32).tofile(folder / "loads.bin")
            numbers = (len(x), round(stalls.inputs * 65536), round(stalls.outputs * 65536), stalls.seed, int(learn))
            argv = [str(self.program), base, *(str(n) for n in (*numbers, period, HOST_CYCLES))]
            with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
                assert process.stdout is not None and process.stderr is not None
                for line in process.stdout:
                    if progress is not None:
                        progress(int(line), len(x))
                said = process.stderr.read()
            result = folder / "result.txt"
            if process.returncode or not result.is_file():
                raise SimulationError(f"the simulator ended with status {process.returncode}: {said or 'no message'}")
            figures = dict(line.split(" ", 1) for line in result.read_text().splitlines())
            if "problem" in figures:
                raise SimulationError(figures["problem"])
            outputs = np.fromfile(folder / "out0.bin", np.int32).reshape(len(x), -1).astype(np.int64)
            reads = np.fromfile(folder / "reads.bin", np.int32).astype(np.int64)
            reads = reads.reshape(-1, len(places) + len(self.design.manifest.counters))
        counts = [min((n + 1) * period, len(x)) for n in range(len(reads))]
        states = tuple(self._state(n, read) for n, read in zip(counts, reads, strict=True))
        return Learned(outputs, states, int(figures["cycles"]))


def divergence(chip: OnChip, x: np.ndarray, labels: IntArray, learned: Learned) -> str | None:
    """Run golden over the same samples; the first thing that differs, or None. `chip` has learned them afterwards."""
    begin = 0
    for state in learned.states:
        part = slice(begin, state.samples)
        outputs = chip.learn(x[part], labels[part])
        if (differs := np.argwhere(outputs != learned.outputs[part])).size:
            n, c = differs[0]
            got = learned.outputs[begin + n, c]
            return f"sample {begin + n}, output {c}: golden {outputs[n, c]}, RTL {got}"
        if (difference := state.difference(state_of(chip, state.samples))) is not None:
            return f"after sample {state.samples - 1}: {difference}"
        begin = state.samples
    return None
