"""The driver that goes with a design: a Python package for PYNQ boards, C for bare metal, a sample and its result.

driver/python/              copies of the modules of `apical.sw` that a board needs, with numpy and pynq beside them;
                            ``python -m apical.sw.driver_main BITSTREAM`` there checks the board
driver/sample.json          one sample, golden's outputs and counters, the decoder
driver/apical_driver.h, .c  C99 without an operating system
driver/apical_axi_dma.h, .c events through an AXI DMA
driver/apical_design.h      addresses, the sample again
driver/main.c               runs it and compares

Beside them belong `registers.json` and `apical_registers.h` (`apical.hw.register_text`). Not run on silicon.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from apical.hw.design import HardwareOptions
from apical.hw.register_map import AxiOptions, RegisterMap, register_map
from apical.sw import golden
from apical.sw.bundle import identity
from apical.sw.network import IntArray, Network

MODULES = (
    "__init__",
    "axi_map",
    "axi_weights",
    "axi_words",
    "driver_main",
    "geometry",
    "pynq_driver",
    "trace",
    "widths",
)
C_FILES = ("apical_driver.h", "apical_driver.c", "apical_axi_dma.h", "apical_axi_dma.c")
ADDRESSES = (0xA000_0000, 0xA001_0000)
TICKS = 4


def _source(name: str) -> str:
    return resources.files("apical.sw").joinpath(name).read_text(encoding="utf-8")


def sample_of(network: Network, ticks: int = TICKS, share: float = 0.3) -> IntArray:
    """A random sample [1, ticks, inputs], the same each time for the same network.

    :param share: of values that aren't held at 0.
    """
    rng = np.random.default_rng(int(identity(network), 16))
    parts = []
    for node in network.inputs:
        low, high = node.value_range
        values = rng.integers(low, high + 1, (1, ticks, node.size))
        parts.append(values * (rng.random(values.shape) < share))
    return np.concatenate(parts, axis=2)


def _lively(network: Network, ticks: int) -> IntArray:
    """The first sample of which something comes out, if any."""
    samples = [sample_of(network, ticks, share) for share in (0.3, 0.6, 1.0)]
    alive = (x for x in samples if any(v.any() for v in golden.run(network, x).outputs.values()))
    return next(alive, samples[-1])


def _design(registers: RegisterMap, network: Network, x: IntArray, expected: golden.Trace, addresses: Any) -> str:
    """`apical_design.h`."""
    parts = {name: part[0] for name, part in golden.split_input(network, x).items()}
    words, out = registers.inputs.encode(parts), registers.outputs
    events = []
    for number, port in enumerate(out.ports):
        for tick, neuron in np.argwhere(expected.outputs[port.name][0]):
            value = int(expected.outputs[port.name][0, tick, neuron])
            events.append((int(tick), number, int(port.index_of[neuron]), value))
    per_tick = -(-(sum(p.size for p in out.ports) + 1) // out.slots)
    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )
    template = environment.from_string(Path(__file__).with_name("driver_design.h.j2").read_text(encoding="utf-8"))
    return template.render(
        base=addresses[0],
        dma=addresses[1],
        ticks=x.shape[1],
        room=(x.shape[1] * per_tick + 1) * out.data_bits // 8,
        events=events,
        counters=[expected.counters[name] % (1 << 32) for name in registers.counters if name in expected.counters],
        slots=words.reshape(-1).tolist(),
        suffix="ull" if registers.inputs.slot_bits > 32 else "u",
    )


def driver_files(
    network: Network,
    options: HardwareOptions,
    axi: AxiOptions | None = None,
    *,
    x: IntArray | None = None,
    addresses: tuple[int, int] = ADDRESSES,
) -> dict[str, str]:
    """Every file by its path in a design's folder. Same arguments, same bytes.

    :param x: the sample, [1, ticks, inputs]; a random one unless given.
    :param addresses: of the registers and of the DMA.
    :raises NetworkError: `x` doesn't fit. :raises HardwareError, ValueError: options that don't.
    """
    axi = axi or AxiOptions()
    registers = register_map(network, options, axi)
    if x is None:
        x = _lively(network, 1 if axi.learning is not None else TICKS)
    expected = golden.run(network, x[:1])
    plain = {
        "identity": identity(network),
        "decoder": network.decoder,
        "x": x[0].tolist(),
        "outputs": {name: values[0].tolist() for name, values in expected.outputs.items()},
        "counters": dict(expected.counters),
    }
    files = {f"python/apical/sw/{name}.py": _source(f"{name}.py") for name in MODULES}
    files |= {name: _source(name) for name in C_FILES}
    files |= {
        "main.c": _source("driver_example.c"),
        "apical_design.h": _design(registers, network, x[:1], expected, addresses),
        "sample.json": json.dumps(plain) + "\n",
    }
    return {f"driver/{path}": text for path, text in files.items()}
