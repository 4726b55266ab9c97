"""Benchmarks behind `apical bench NAME`: each measures on this machine and returns flat figures, with peers beside.

Every run that simulates also checks equality and fails where golden and RTL differ: a fast wrong answer is no figure.
"""

from __future__ import annotations

import itertools
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from apical.sw import cli_common as common
from apical.sw.cli_common import CliError
from apical.sw.laws import Lif
from apical.sw.network import Input, Network, Population, Projection

if TYPE_CHECKING:
    from apical.sim.equivalence import CosimResult

SPIKER = {
    "name": "Spiker+ 784-128-10, 6-bit weights, 10 % random input activity, same synthesizer",
    "source": "Carpegna, Savino, Di Carlo, Spiker+ (arXiv 2401.01141), its public generator run on the same shape",
    "cycles_per_tick": 919,
    "lut": 9512,
    "ramb18": 43,
}


@dataclass(frozen=True)
class Figures:
    """A benchmark's result.

    :param figures: flat, name to number.
    :param peers: what stands beside them: names, sources, published or measured numbers.
    """

    name: str
    figures: Mapping[str, float | int | None]
    peers: dict[str, Any] = field(default_factory=dict)

    def answer(self) -> dict[str, Any]:
        """The JSON object."""
        return {"name": self.name, "figures": self.figures, "peers": self.peers}


def random_lif(sizes: tuple[int, ...], bits: int, seed: int = 0, *, rate: float = 0.1) -> Network:
    """A chain of LIF populations with random weights and one decay, whose thresholds make it fire at about `rate`."""
    random = np.random.default_rng(seed)
    limit = (1 << (bits - 1)) - 1
    populations, projections = [], []
    for k, (sources, targets) in enumerate(itertools.pairwise(sizes)):
        weights = np.clip(np.rint(random.normal(0, limit / 3, (targets, sources))), -limit, limit).astype(np.int64)
        # standard deviation of the membrane at input rate r and decay d: sigma_w sqrt(r n / (1 - d²)), d = 230/256
        spread = limit / 3 * np.sqrt(rate * sources / (1 - (230 / 256) ** 2))
        params = {"decay": [230], "threshold": [max(int(1.3 * spread), 1)], "bias": [0]}
        arrays = {name: np.array(values, np.int64) for name, values in params.items()}
        populations.append(Population(f"layer{k + 1}", targets, Lif(), arrays))
        source = "in" if k == 0 else f"layer{k}"
        projections.append(Projection(f"p{k}", source, f"layer{k + 1}", weights, weight_bits=bits))
    last = populations[-1].name
    return Network((Input("in", sizes[0]),), tuple(populations), tuple(projections), (last,), "rate")


def spikes(network: Network, samples: int, ticks: int, rate: float = 0.1, seed: int = 1) -> np.ndarray:
    """Random spikes [samples, ticks, inputs], each with probability `rate`."""
    random = np.random.default_rng(seed)
    return (random.random((samples, ticks, network.input_size)) < rate).astype(np.int64)


def _equal(result: CosimResult) -> CosimResult:
    if not result.equal:
        raise CliError(f"bench: golden and RTL differ, so there is no figure: {result.divergence}")
    return result


def datapath() -> Figures:
    """Cycles per tick and area of 784-128-10 LIF-LIF, 6-bit weights, 10 % random input, at 1, 4 and 8 event lanes."""
    from apical.sim import equivalence
    from apical.sw import pipeline

    network = random_lif((784, 128, 10), 6)
    x = spikes(network, 40, 25)
    figures: dict[str, float | int | None] = {}
    for events, neurons in ((1, 8), (4, 8), (8, 16)):  # a tick may not end before the neuron lanes are through
        lanes = (128, neurons, events)
        options = common.hardware_options(network, *lanes)
        with common.progress(f"784-128-10, {events} event lanes: cycles") as update:
            result = _equal(equivalence.cosim(network, x, options=options, progress=update))
        with common.progress(f"784-128-10, {events} event lanes: area"):
            used = pipeline.area(network, lanes)
        cycles, lut = result.cycles_per_tick, used["lut"]
        figures |= {f"cycles_per_tick_e{events}": cycles, f"lut_e{events}": lut}
        figures |= {f"{k}_e{events}": used[k] for k in ("ff", "dsp", "bram")}
        figures |= {f"lane_utilization_e{events}": result.lane_utilization}
        peer = SPIKER["cycles_per_tick"] * SPIKER["lut"]  # type: ignore[operator]
        figures |= {f"cycles_lut_ratio_e{events}": peer / (cycles * lut)}
    figures |= {"peer_cycles_per_tick": SPIKER["cycles_per_tick"], "peer_lut": SPIKER["lut"]}  # type: ignore[dict-item]
    figures["input_activity"] = float(x.mean())
    return Figures("datapath", figures, {"spiker": SPIKER})


def engines() -> Figures:
    """Batch engine against the cocotb engine on one bundle, and against a bare Verilator loop on the same model."""
    from dataclasses import replace

    from apical.hw import verilog
    from apical.sim import equivalence, verilated

    network = common.load_bundle("zoo:mnist-lif")
    x, _ = common.load_input(network, None, "mnist:sample", None)
    options = common.hardware_options(network, 128, 8, 1)
    with common.progress("batch engine") as update:
        batch = _equal(equivalence.cosim(network, x, options=options, workers=2, progress=update))
    with common.progress("cocotb engine") as update:
        bench = _equal(equivalence.cosim(network, x[:6], options=options, engine="cocotb", progress=update))
    with common.progress("bare loop"):
        design = verilog.generate(network, replace(options, monitor=True))
        single = [verilated.run_design(design, x, workers=1) for _ in range(3)]
        batch_cycles = statistics.median(t.cycles / t.seconds for t in single if t.cycles)
        bare = statistics.median(verilated.bare_cycles_per_second(design) for _ in range(3))
    figures = {
        "batch_samples_per_second": batch.samples_per_second,
        "cocotb_samples_per_second": bench.samples_per_second,
        "batch_over_cocotb": batch.samples_per_second / bench.samples_per_second,
        "batch_cycles_per_second": batch_cycles,
        "bare_cycles_per_second": bare,
        "batch_over_bare": batch_cycles / bare,
    }
    return Figures("engines", figures, {"cocotb": "the same RTL, driven from Python", "bare": "one process each"})


def _snntorch(network: Network, x: np.ndarray) -> tuple[float, str]:
    """Samples per second of the same network's float forward in snnTorch, and its version."""
    import snntorch
    import torch

    layers = []
    for p in network.projections:
        population = next(q for q in network.populations if q.name == p.target)
        decay = float(population.params["decay"].mean()) / 256
        threshold = float(population.params.get("threshold", np.array([1])).mean()) or 1.0
        linear = torch.nn.Linear(p.weights.shape[1], p.weights.shape[0])
        linear.weight.data = torch.from_numpy(p.weights / threshold).float()
        layers.append((linear, snntorch.Leaky(beta=decay, reset_mechanism="subtract")))
    spikes_in = torch.from_numpy(x).float().transpose(0, 1).contiguous()

    def forward() -> None:
        states = [leaky.init_leaky() for _, leaky in layers]
        for t in range(spikes_in.shape[0]):
            y = spikes_in[t]
            for k, (linear, leaky) in enumerate(layers):
                y, states[k] = leaky(linear(y), states[k])

    with torch.no_grad():
        return x.shape[0] / _best(forward), str(snntorch.__version__)


def _best(work: Callable[[], object], times: int = 5) -> float:
    """Shortest seconds of several runs, after one that warms up."""
    work()
    seconds = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return min(seconds)


def golden() -> Figures:
    """Samples per second of golden against the same network's float forward in snnTorch, same CPU, same run."""
    from apical.sw import golden as model

    network = common.load_bundle("zoo:mnist-lif")
    x, _ = common.load_input(network, None, "mnist:sample", None)
    with common.progress("golden"):
        ours = x.shape[0] / _best(lambda: model.run(network, x))
    figures: dict[str, float | int | None] = {"golden_samples_per_second": ours}
    peers: dict[str, Any] = {}
    try:
        with common.progress("snnTorch"):
            theirs, version = _snntorch(network, x)
    except ImportError:
        peers["snntorch"] = "not installed: pip install -e '.[peers]'"
    else:
        figures |= {"snntorch_samples_per_second": theirs, "golden_over_snntorch": ours / theirs}
        peers["snntorch"] = {"version": version, "what": "Linear and Leaky, float32, batch of all samples, no_grad"}
    return Figures("golden", figures, peers)


def cold_start() -> Figures:
    """From a trained 784-128-10 to its first simulated sample at 128 lanes: whole command, cold and cached."""
    from apical.hw import verilog

    network = common.load_bundle("zoo:mnist-lif")
    options = common.hardware_options(network, 128, 8, 1)
    generation = _best(lambda: verilog.generate(network, options), times=1)
    command = [sys.executable, "-c", "from apical.sw.cli import main; main()", "cosim", "zoo:mnist-lif"]
    command += ["--data", "mnist:sample", "--limit", "1", "--json"]
    seconds = []
    with tempfile.TemporaryDirectory(prefix="apical-bench-") as cache:
        for text in ("cold", "cached"):
            began = time.perf_counter()
            with common.progress(text):
                subprocess.run(command, env={**os.environ, "APICAL_CACHE": cache}, check=True, capture_output=True)
            seconds.append(time.perf_counter() - began)
    figures = {"cold_seconds": seconds[0], "cached_seconds": seconds[1], "verilog_seconds": generation}
    return Figures("cold-start", figures)


def mnist() -> Figures:
    """The whole MNIST test set, 10,000 images, on the RTL of each MNIST bundle of the zoo."""
    from apical.sim import equivalence
    from apical.sw import zoo

    figures: dict[str, float | int | None] = {}
    for name in (n for n in zoo.names() if n.startswith("mnist-")):
        network = common.load_bundle(f"zoo:{name}")
        x, labels = common.load_input(network, None, "mnist:test", None)
        short = name.removeprefix("mnist-").replace("-", "_")
        for events in (1, 4):
            options = common.hardware_options(network, 128, 8, events)
            equivalence.cosim(network, x[:2], options=options)  # builds
            began = time.perf_counter()
            with common.progress(f"{name}, {events} event lanes") as update:
                result = equivalence.cosim(network, x, options=options, labels=labels, progress=update)
            figures |= {
                f"{short}_e{events}_mismatches": result.mismatches,
                f"{short}_e{events}_accuracy": result.accuracy,
                f"{short}_e{events}_cycles_per_sample": result.cycles_per_sample,
                f"{short}_e{events}_lane_utilization": result.lane_utilization,
                f"{short}_e{events}_seconds": time.perf_counter() - began,
            }
    return Figures("mnist", figures)


def training() -> Figures:
    """Training ticks per second of the compiled step, of our eager one and of peers' loops."""
    from apical.sw import cli_bench_training

    return Figures("training", *cli_bench_training.figures())


def ecp5() -> Figures:
    """Clock of a 32-lane LIF population (256 to 64) on an ECP5-85k, slowest grade, placed and routed by 3 seeds."""
    from apical.hw import open_flow

    runs = []
    for seed in (1, 2, 3):
        with common.progress(f"place and route, seed {seed}"):
            runs.append(open_flow.fmax_of_population(seed=seed))
    best = max(runs, key=lambda run: run.fmax_mhz or 0)
    figures: dict[str, float | int | None] = {"fmax_mhz": best.fmax_mhz}
    figures |= {f"fmax_mhz_seed{n}": run.fmax_mhz for n, run in enumerate(runs, 1)}
    figures |= {"lut": best.lut, "ff": best.ff, "dsp": best.dsp, "bram": best.bram}
    return Figures("ecp5", figures)


def axi() -> Figures:
    """Cycles that the AXI system loses against the bare datapath, at 10 % input activity; what its part costs."""
    from apical.sw import cli_bench_axi

    return Figures("axi", cli_bench_axi.figures())


def two_point() -> Figures:
    """Two-point cells on the RTL: both compartments in the same cycles, lane utilization, area per lane."""
    from apical.sw import cli_bench_two_point

    return Figures("two-point", cli_bench_two_point.figures())


def grid() -> Figures:
    """Cooperating streams: error and transmissions of two-point and point nets, stored study and RTL."""
    from apical.sw import cli_bench_grid

    return Figures("grid", cli_bench_grid.figures(), dict(cli_bench_grid.PEERS))


def competitive_plasticity() -> Figures:
    """Rules that write less while they learn: updates saved on the way to 95 % of MNIST (stored study), and speed."""
    from apical.sw import cli_bench_plasticity

    return Figures("competitive-plasticity", cli_bench_plasticity.figures(), dict(cli_bench_plasticity.PEERS))


def on_chip_learning() -> Figures:
    """A classifier that learns on the RTL: equality, accuracy, writes, cycles and area beside inference alone."""
    from apical.sw import cli_bench_on_chip

    return Figures("on-chip-learning", cli_bench_on_chip.figures())


def gate_level() -> Figures:
    """Netlists after synthesis for both families, a network of each law and feature, against golden."""
    from apical.sw import cli_bench_gate_level

    return Figures("gate-level", cli_bench_gate_level.figures())


def boards() -> Figures:
    """Networks of the zoo on every UltraScale+ board: lanes chosen for it, area, share of the device, logic depth."""
    from apical.sw import cli_bench_boards

    rows = cli_bench_boards.rows()
    return Figures("boards", cli_bench_boards.figures(rows), {"rows": rows})


BENCHMARKS: dict[str, Callable[[], Figures]] = {
    "datapath": datapath,
    "engines": engines,
    "golden": golden,
    "cold-start": cold_start,
    "mnist": mnist,
    "training": training,
    "ecp5": ecp5,
    "axi": axi,
    "two-point": two_point,
    "grid": grid,
    "competitive-plasticity": competitive_plasticity,
    "on-chip-learning": on_chip_learning,
    "gate-level": gate_level,
    "boards": boards,
}
