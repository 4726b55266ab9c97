"""`apical bench axi`: cycles that the AXI system loses against the bare datapath fed ideally, and what it costs.

The same random samples, a tenth of the inputs active, go through both; outputs and counters must equal golden's.
"""

from __future__ import annotations

import numpy as np

from apical.sw import cli_common as common
from apical.sw.cli_common import CliError
from apical.sw.network import IntArray, Network

CASES = (  # prefix, network of the zoo, event lanes, bits of a word
    ("mnist_lif_e1", "mnist-lif", 1, 64),
    ("mnist_lif_e4", "mnist-lif", 4, 64),
    ("two_view_digits_e1", "two-view-digits", 1, 64),
)
ACTIVITY = 0.1
SAMPLES, TICKS = 12, 8
AREA = ("lut", "ff", "dsp", "bram")


def events(network: Network, samples: int = SAMPLES, ticks: int = TICKS, seed: int = 1) -> IntArray:
    """Random input [samples, ticks, inputs]: each channel active with `ACTIVITY`, values from the whole range."""
    random = np.random.default_rng(seed)
    parts = []
    for node in network.inputs:
        low, high = node.value_range
        values = random.integers(low, high + 1, (samples, ticks, node.size))
        values[values == 0] = high
        parts.append(values * (random.random(values.shape) < ACTIVITY))
    return np.concatenate(parts, axis=2).astype(np.int64)


def measure(network: Network, lanes: tuple[int, int, int], data_bits: int) -> dict[str, float | int | None]:
    """Cycles of the same samples both ways, from the first beat or word taken to the last that leaves.

    :param lanes: at most: synapse, neuron, event lanes.
    """
    from apical.hw.axi_system import AxiSystem
    from apical.hw.register_map import AxiOptions
    from apical.sim import equivalence
    from apical.sim.axi_bench import AxiBench

    x, options = events(network), common.hardware_options(network, *lanes)
    with common.progress(f"{network.name}: bare") as update:
        bare = equivalence.cosim(network, x, options=options, workers=1, progress=update)
    if not bare.equal:
        raise CliError(f"bench: golden and RTL differ, so there is no figure: {bare.divergence}")
    with (
        common.progress(f"{network.name}: behind AXI"),
        AxiBench(AxiSystem(network, options, AxiOptions(data_bits))) as bench,
    ):
        bench.write("CONTROL", 1)
        trace = bench.run(x, packets=len(x))
        state = bench.state
    equal = all(np.array_equal(trace.outputs[o], bare.golden.outputs[o]) for o in network.outputs)
    if not equal or trace.counters != bare.golden.counters or state["problems"]:
        raise CliError(f"bench: golden and the AXI system differ, so there is no figure: {network.name}")
    cycles, ideal = state["latest"]["m_axis_t"] - state["first"]["s_axis_t"] + 1, bare.rtl.cycles or 0
    return {
        "cycles_bare": ideal,
        "cycles_axi": cycles,
        "lost_share": (cycles - ideal) / ideal,
        "input_activity": float((x != 0).mean()),
        "words_per_sample": state["counts"]["s_axis_t"] / len(x),
        "data_bits": data_bits,
    }


def area() -> dict[str, float | int | None]:
    """What the AXI part costs on UltraScale+: a small 784-16 net with it, less without it; also writable."""
    from apical.hw import utilization, verilog
    from apical.hw.axi_system import AxiSystem
    from apical.hw.register_map import AxiOptions
    from apical.sw.cli_bench import random_lif

    network = random_lif((784, 16), 8)
    options = common.hardware_options(network, 16, 2, 1)
    out: dict[str, float | int | None] = {}
    with common.progress("784-16: area"):
        bare = utilization.synthesize_xcup(verilog.generate(network, options)).summary()
        for prefix, axi in (("axi", AxiOptions()), ("axi_writable", AxiOptions(writable=True))):
            text, quick = AxiSystem(network, options, axi).verilog(), AxiSystem(network, options, axi).rtlil()
            used = utilization.synthesize_xcup(text, "apical_axi", quick).summary()
            out |= {f"{prefix}_{k}": used[k] - bare[k] for k in AREA}
    return out


def figures() -> dict[str, float | int | None]:
    """All of it, for the networks of `CASES` that ship."""
    from apical.sw import zoo

    out: dict[str, float | int | None] = {}
    for prefix, name, event, data_bits in CASES:
        if name in zoo.names():
            network = zoo.load(name)
            out |= {f"{prefix}_{k}": v for k, v in measure(network, (128, 8, event), data_bits).items()}
    return out | area()
