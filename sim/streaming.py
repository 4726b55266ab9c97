"""Streams on the RTL: one endless sequence in which no beat ends a sample, and how long a tick's results take.

The compiled batch engine runs it, either as fast as the input is taken or as a clock would: a tick is offered only
some cycles after the outputs of the tick before have left, so that a tick held back would stop the run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from amaranth.hdl import Fragment

from apical.hw.accelerator import Accelerator
from apical.hw.design import Design, HardwareOptions
from apical.sim.verilated import Stalls, _folders, _gather, _Shard, _wait, build
from apical.sw.golden import Trace
from apical.sw.network import IntArray, Network
from apical.sw.streaming import check_events

Progress = Callable[[int, int], None]
LONGEST_GAP = 100_000  # cycles; the batch engine takes twice as many without a movement for a deadlock


@dataclass(frozen=True)
class StreamRun:
    """What a stream did on the RTL.

    :param trace: of one sample; `counters` are the hardware's, modulo 2^32.
    :param outputs: [ticks, outputs], in the network's order of outputs.
    :param taken: [ticks], the cycle in which the last input took the tick's last beat.
    :param left: [ticks], the cycle in which the last output's end of that tick left.
    """

    trace: Trace
    outputs: IntArray
    taken: npt.NDArray[np.int64]
    left: npt.NDArray[np.int64]

    @property
    def latency(self) -> npt.NDArray[np.int64]:
        """Cycles from a tick's last input beat to the end of its outputs, [ticks]."""
        return self.left - self.taken


def _checked(network: Network, events: np.ndarray, gap: int | None) -> np.ndarray:
    events = check_events(network, events)
    if not len(events):
        raise ValueError("events: expected at least one tick, got none")
    if gap is not None and not 0 <= gap <= LONGEST_GAP:
        raise ValueError(f"gap: expected 0 to {LONGEST_GAP} cycles, got {gap}")
    return events


def run_stream(
    design: Design,
    events: np.ndarray,
    *,
    gap: int | None = 0,
    stalls: Stalls | None = None,
    fast_build: bool = False,
    progress: Progress | None = None,
) -> StreamRun:
    """Run a generated (monitor) design on a stream; `simulate_stream` is the usual way in.

    :raises SimulationError: the RTL stopped, broke the protocol, or marked a sample's end.
    """
    events = _checked(design.network, events, gap)
    program = build(design, fast_build=fast_build)
    with _folders(1) as (folder,):
        shards: list[_Shard] = []
        try:
            pause = -1 if gap is None else gap
            _Shard(shards, program, design, events[None], folder, stalls or Stalls(), 0, endless=True, gap=pause)
            _wait(shards, len(events), progress)
            trace = _gather(design, shards)
            times = np.fromfile(folder / "times.bin", np.int64).reshape(len(events), 2)
        finally:
            for shard in shards:
                shard.end()
    outputs = np.concatenate([trace.outputs[o][0] for o in design.network.outputs], axis=1).astype(np.int64)
    return StreamRun(trace, outputs, times[:, 0], times[:, 1])


def simulate_stream(
    network: Network,
    options: HardwareOptions,
    events: np.ndarray,
    *,
    gap: int | None = 0,
    states: bool = False,
    stalls: Stalls | None = None,
    fast_build: bool = False,
    progress: Progress | None = None,
) -> StreamRun:
    """Run a stream on the RTL of a network, in a monitor build, from reset.

    :param events: integers, [ticks, inputs].
    :param gap: cycles from the end of a tick's outputs until the next tick is offered; None: as fast as it is taken.
    :param states: record every state after every tick as well.
    :param progress: called with (ticks done, ticks).
    :raises SimulationError: the RTL stopped, broke the protocol, or marked a sample's end.
    """
    from apical.hw.stored_design import design_of

    events = _checked(network, events, gap)
    design = design_of(network, replace(options, monitor=True, monitor_states=states))
    return run_stream(design, events, gap=gap, stalls=stalls, fast_build=fast_build, progress=progress)


@dataclass(frozen=True)
class Bounds:
    """Worst cases of one tick, in cycles, where outputs are taken as they come.

    :param latency: from a tick's last input beat to the end of its outputs, all of the tick before being over.
    :param rest: cycles from a tick's last input beat until all of it is over.
    """

    latency: int
    rest: int


class Timing:
    r"""How long a tick can take, from events and lanes; docs/how-to/monitor-an-ecg.md says why.

    .. math::
        F_p = \max_{s \to p,\ d = 0} F_s + A_p + R_p + W_p + Q_p + 1 + (B_p - 1) M_p, \quad F_{input} = 0

    with A the cycles from a tick's close to its first sums, R the rows, W the stages of the law's pipeline, Q those of
    the event queue, B the beats that p sends and M the most cycles that a reader takes for one of them. Latency is the
    largest F of an output.
    """

    def __init__(self, network: Network, options: HardwareOptions) -> None:
        self.network = network
        accelerator = Accelerator(network, options)
        Fragment.get(accelerator, None)  # its parts are asked, and complain where they have not been built
        units = accelerator.units
        self._words = {
            q.name: array.words
            for p in network.populations
            for q, array in zip(network.incoming(p.name), units[p.name].arrays, strict=True)
        }
        layouts = {i.name: accelerator.layouts[i.name] for i in network.inputs}
        self._most = {name: -(-layout.rows * layout.classes // layout.lanes) for name, layout in layouts.items()}
        self._most |= {n: u.neurons.rows * (u.lanes.neuron // u.lanes.event) for n, u in units.items()}
        self._fixed = {
            n: u.arrays[0].latency + u.neurons.rows + u.neurons.latency + u.queue.latency + 1 for n, u in units.items()
        }
        self._spacing = {n: u.neurons.spacing for n, u in units.items()}

    def bounds(self, events: Mapping[str, int] | None = None) -> Bounds:
        """Worst cases of a tick.

        :param events: how many events each population sends in the tick; those not named: from every neuron.
        """
        network, most = self.network, self._most
        beats = {n: min(most[n], events[n] + 1) if events is not None and n in events else most[n] for n in most}
        finish, begin = dict.fromkeys((i.name for i in network.inputs), 0), {}
        over = []
        for name in network.order:
            begin[name] = max(finish[q.source] for q in network.incoming(name) if q.delay == 0)
            slowest = max((self._words[q.name] for q in network.outgoing(name)), default=1)
            finish[name] = begin[name] + self._fixed[name] + (beats[name] - 1) * slowest
            over += [finish[name] + slowest, begin[name] + self._spacing[name]]
        # Delayed events of the next tick are taken from when the reader has closed this one, and the source sends them.
        for q in network.projections:
            if q.delay:
                over.append(max(begin[q.target], finish[q.source]) + beats[q.source] * self._words[q.name])
        return Bounds(max(finish[o] for o in network.outputs), max(over) + 3)
