"""Equality, the product's promise: run golden and RTL on the same input and compare everything."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from apical.hw.design import HardwareOptions, default_options, lanes_of
from apical.sim import verilated
from apical.sim.scoreboard import first_divergence, mismatches
from apical.sw import golden as model
from apical.sw.data import Labels
from apical.sw.datasets import figures
from apical.sw.golden import Trace
from apical.sw.network import Network

Progress = Callable[[int, int], None]
ENGINES = ("verilated", "cocotb")


@dataclass(frozen=True)
class CosimResult:
    """Result of a co-simulation.

    :param mismatches: samples in which anything differs.
    :param accuracy: of the RTL's outputs, 0 to 1, by `Labels.accuracy`; None without labels or decoder.
    :param accuracy_labelled: the same among what carries a label; None where the labels don't say what does.
    :param error: of the RTL's outputs against the data's targets, by `apical.sw.data.errors`; None without targets.
    :param lane_utilization: synaptic operations ÷ (cycles x lanes) of the busiest population's busiest projection.
    :param utilization: the same for every projection.
    :param divergence: the first difference in words; None where equal.
    """

    equal: bool
    samples: int
    mismatches: int
    accuracy: float | None
    accuracy_labelled: float | None
    error: float | None
    cycles_per_sample: float
    cycles_per_tick: float
    lane_utilization: float
    utilization: dict[str, float]
    samples_per_second: float
    engine: str
    divergence: str | None
    golden: Trace
    rtl: Trace

    def summary(self) -> dict[str, Any]:
        """The figures, ready for JSON."""
        skip = ("golden", "rtl")
        return {k: v for k, v in vars(self).items() if k not in skip}


def lane_utilization(network: Network, options: HardwareOptions, trace: Trace) -> dict[str, float]:
    """Synaptic operations ÷ (cycles x synapse lanes x event lanes) by projection."""
    if not trace.cycles:
        return {}
    lanes = lanes_of(network, options)
    return {q.name: q.operations(trace.counters) / (trace.cycles * lanes[q.name]) for q in network.projections}


def compared(
    network: Network,
    options: HardwareOptions,
    x: np.ndarray,
    reference: Trace,
    rtl: Trace,
    labels: np.ndarray | Labels | None = None,
    engine: str = "verilated",
) -> CosimResult:
    """The result of two runs on `x`: golden's and the hardware's."""
    divergence = first_divergence(reference, rtl)
    cycles = rtl.cycles or 0
    used = lane_utilization(network, options, rtl)
    shares = figures(network, rtl, labels)
    return CosimResult(
        equal=divergence is None,
        samples=rtl.samples,
        mismatches=mismatches(reference, rtl),
        accuracy=shares["accuracy"],
        accuracy_labelled=shares["accuracy_labelled"],
        error=shares["error"],
        cycles_per_sample=cycles / rtl.samples,
        cycles_per_tick=cycles / (rtl.samples * np.asarray(x).shape[1]),
        lane_utilization=max(used.values(), default=0.0),
        utilization=used,
        samples_per_second=rtl.samples / rtl.seconds if rtl.seconds else 0.0,
        engine=engine,
        divergence=None if divergence is None else str(divergence),
        golden=reference,
        rtl=rtl,
    )


def cosim(
    network: Network,
    x: np.ndarray,
    *,
    options: HardwareOptions | None = None,
    labels: np.ndarray | Labels | None = None,
    engine: str = "verilated",
    workers: int = 2,
    states: bool = False,
    reuse: bool = False,
    progress: Progress | None = None,
) -> CosimResult:
    """Run golden and RTL on `x` and compare outputs, every population's values each tick, counters (and states).

    :param x: integers, [samples, ticks, inputs].
    :param labels: classes, [samples] or, for the decoder ``tick``, [samples, ticks]; with targets, `Labels`.
    :param engine: ``verilated`` (compiled batch) or ``cocotb``.
    :param reuse: take the generated Verilog from the cache where it is there (batch engine only).
    :param progress: called with (samples done, samples) by the RTL engine.
    :raises SimulationError: the RTL stopped or broke the protocol.
    """
    if engine not in ENGINES:
        raise ValueError(f"engine: expected one of {ENGINES}, got {engine!r}")
    options = options or default_options(network)
    reference = model.run(network, x, states=states)
    if engine == "verilated":
        rtl = verilated.simulate(network, options, x, workers=workers, states=states, reuse=reuse, progress=progress)
    else:
        from apical.sim.bench import simulate

        rtl = simulate(network, options, x, states=states)
    return compared(network, options, x, reference, rtl, labels, engine)
