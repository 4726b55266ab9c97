"""A design between registers, for timing: two pins feed and observe everything, so that pins limit nothing."""

from __future__ import annotations

import numpy as np
from amaranth.hdl import Cat, Module, Signal
from amaranth.lib import wiring
from amaranth.lib.wiring import In, Out

from apical.hw.accelerator import Accelerator
from apical.hw.verilog_text import convert_rtlil
from apical.sw.laws import Format, Lif
from apical.sw.network import Input, Network, Population, Projection


class Harness(wiring.Component):  # type: ignore[misc]
    """Inputs of the accelerator from a shift register behind `d`; its outputs folded by a pipelined xor onto `q`."""

    def __init__(self, accelerator: Accelerator) -> None:
        self.accelerator = accelerator
        super().__init__({"d": In(1), "q": Out(1)})

    def elaborate(self, platform: object) -> Module:
        m = Module()
        m.submodules.accelerator = acc = self.accelerator
        driven = [x for s in acc.inputs for x in (s.valid, s.payload.as_value())] + [s.ready for s in acc.outputs]
        seen = [x for s in acc.outputs for x in (s.valid, s.payload.as_value())]
        seen += [*(s.ready for s in acc.inputs), *acc.counters.values()]
        width = sum(len(x) for x in driven)
        shift, held = Signal(width), Signal(width)
        m.d.sync += [shift.eq(Cat(self.d, shift[:-1])), held.eq(shift)]
        at = 0
        for x in driven:
            m.d.comb += x.eq(held[at : at + len(x)])
            at += len(x)
        level = Signal(sum(len(x) for x in seen), name="level0")
        m.d.sync += level.eq(Cat(seen))
        depth = 0
        while len(level) > 1:
            depth += 1
            folded = Signal(-(-len(level) // 4), name=f"level{depth}")
            m.d.sync += folded.eq(Cat(level[4 * i : 4 * i + 4].xor() for i in range(len(folded))))
            level = folded
        m.d.sync += self.q.eq(level)
        return m

    def rtlil(self) -> str:
        """RTLIL of the top module `harness`; ports `clk`, `rst`, `d`, `q`."""
        return convert_rtlil(self, "harness", [self.d, self.q])


def random_population(inputs: int, neurons: int, weight_bits: int = 8, seed: int = 0) -> Network:
    """One LIF population with random weights and per-neuron decays: the benchmark's network."""
    rng = np.random.default_rng(seed)
    low, high = Format(weight_bits).bounds
    params = {
        "decay": rng.integers(0, 257, neurons),
        "threshold": np.array([min(8 * high, 32767)]),
        "bias": np.array([0]),
    }
    weights = rng.integers(low, high + 1, (neurons, inputs))
    return Network(
        (Input("x", inputs),),
        (Population("h", neurons, Lif(), params),),
        (Projection("p", "x", "h", weights, weight_bits=weight_bits),),
        ("h",),
    )
