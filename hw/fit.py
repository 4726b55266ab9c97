"""What a design will need, from its structure, before any synthesis; and whether it fits a board.

LUT = c0 · populations + c1 · Σ S·A + c2 · Σ S·(E − 1)·(W + 1) + c3 · Σ S·E·P + c4 · Σ N·V·O + c5 · Σ M

S, N, E: synapse, neuron and event lanes; A: accumulator bits; W: weight bits (product bits where events are graded);
P: product bits, 0 for spikes; V: bits of the law's widest value; O: the law's operations; M: bits of small
memories where there is no LUT RAM (event queues, sums of K > 1 words), on UltraScale+ LUTs of maps' memories in LUT
RAM, else 0. The sums run over projections (c1, c2, c3) and populations (c4, c5). Flip-flops: the same with weight
registers (c1) and the groups' address chains (c3) added. The coefficients are non-negative least-squares fits of the
relative error to Yosys's results. DSP slices are the law's products in each neuron lane and one per synapse and event
lane for graded events; block RAM follows from each weight bank's shape. `MARGIN` of a device is left free.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from apical.hw import boards
from apical.hw.accelerator import check_options, event_classes
from apical.hw.boards import Board, Capacity
from apical.hw.conv_array import Plan
from apical.hw.conv_flatten import flat_layout
from apical.hw.conv_sums import multiplies
from apical.hw.design import HardwareOptions, default_options
from apical.hw.event_queue import DEEP as QUEUE_DEEP
from apical.hw.events import EventLayout
from apical.hw.kernel_gate import MOST_MULTIPLIERS, queue_depth
from apical.hw.neuron_array import DEEP as STATES_DEEP
from apical.hw.order import Order
from apical.hw.synapse_array import BLOCK_RAM_ROWS, LOGIC_ROWS
from apical.sw.network import Network, Population, Projection
from apical.sw.ranges import Interval, IntervalOps

MARGIN = 0.1  # of LUT and flip-flops: routers need room, and estimates err
# From ten designs of 8 to 64 lanes, all laws, 1 to 4 event lanes, 4 to 8 weight bits; residuals up to 26 %. Maps
# weren't among them: `zoo:mnist-conv` takes 30 % more LUTs than estimated (its address tables).
COEFFICIENTS: dict[str, dict[str, tuple[float, ...]]] = {
    "xcup": {"lut": (30.4, 2.283, 0.641, 0.378, 0.411, 1.0), "ff": (137.7, 1.888, 0.0, 1.256, 0.664, 0.0)},
    "ecp5": {"lut": (238.0, 4.136, 0.488, 0.687, 0.423, 0.0), "ff": (123.0, 1.775, 0.015, 1.65, 0.774, 0.0)},
    # from five designs of 4 to 36 lanes, LIF and adaptive; residuals up to 19 %
    "ice40": {"lut": (161.6, 4.441, 0.63, 0.0, 0.0, 1.236), "ff": (203.2, 2.2, 0.0, 1.563, 0.0, 2.53)},
}
LINK = {"lut": 1200, "ff": 600}  # of the serial link on an open board
LINK_BLOCKS = {"ecp5": 1, "ice40": 5}
AXI = {"lut": 700, "ff": 700}  # of the AXI wrapper: 617 and 603 LUT, 563 and 643 FF in two small designs


class FitError(ValueError):
    """The design doesn't fit the board; the message says what is short and which lanes would fit."""


@dataclass(frozen=True)
class Estimate:
    """Resources that a design will need, in the device's own units (LUT4 or LUT6, RAM blocks of its size).

    :param lut: on iCE40 logic cells, each a LUT4 and a flip-flop.
    """

    lut: int
    ff: int
    dsp: int
    bram: int

    def short(self, capacity: Capacity) -> list[str]:
        """What the device has too little of, one text each."""
        limits = {
            "LUT": (self.lut, int(capacity.lut * (1 - MARGIN))),
            "flip-flops": (self.ff, int(capacity.ff * (1 - MARGIN))),
            "DSP": (self.dsp, capacity.dsp),
            "block RAM": (self.bram, capacity.bram),
        }
        return [f"about {need} {what}, {have} usable" for what, (need, have) in limits.items() if need > have]


class _CountingOps(IntervalOps):
    """Interval arithmetic that counts a law's operations and the multipliers that its products take."""

    def __init__(self, multiplier: tuple[int, int]) -> None:
        super().__init__()
        self.multiplier = multiplier
        self.operations = self.slices = 0

    def _seen(self, low: int, high: int) -> Interval:
        self.operations += 1
        return super()._seen(low, high)

    def mul(self, a: Interval | int, b: Interval | int) -> Interval:
        if isinstance(a, Interval) and isinstance(b, Interval):
            bits = (max((-x.low - 1).bit_length() * (x.low < 0), x.high.bit_length()) + 1 for x in (a, b))
            wide, narrow = sorted(bits, reverse=True)
            self.slices += -(-wide // self.multiplier[0]) * -(-narrow // self.multiplier[1])
        return super().mul(a, b)

    def leak(self, a: Interval, d: Interval, bits: int) -> Interval:
        """A multiplexer of shifts and a subtraction; no multiplier."""
        self.operations += 2
        return IntervalOps().leak(a, d, bits)


def _law_work(network: Network, population: Population, multiplier: tuple[int, int]) -> tuple[int, int, int]:
    """Operations, multipliers, and bits of the widest value of a law in a population."""
    ops = _CountingOps(multiplier)
    states = {name: Interval(*f.bounds) for name, f in population.law.states().items()}
    params = {k: Interval(int(a.min()), int(a.max())) for k, a in population.params.items()}
    population.law.step(ops, states, network.currents(population), params)
    return ops.operations, ops.slices, network.ranges[population.name].magnitude.bit_length() + 1


def _blocks(depth: int, width: int, shapes: Sequence[tuple[int, int]]) -> int:
    """Blocks of a memory: the cheapest of the block's aspect ratios (depth, width)."""
    return min(math.ceil(depth / d) * math.ceil(width / w) for d, w in shapes)


# Shapes of an 18 kbit block: UltraScale+ pairs two into 36 kbit (UG573), ECP5 has DP16KD (FPGA-TN-02204).
_SHAPES_18K = ((16384, 1), (8192, 2), (4096, 4), (2048, 9), (1024, 18), (512, 36))
_SHAPES_4K = ((2048, 2), (1024, 4), (512, 8), (256, 16))  # SB_RAM40_4K
_MULTIPLIER = {"xcup": (27, 18), "ecp5": (18, 18), "ice40": (16, 16)}  # DSP48E2 (UG579), MULT18X18D, SB_MAC16


def _map_memories(q: Projection, order: Order, bits: int, sum_bits: int) -> list[tuple[int, int, int]]:
    """Memories of a conv or pool, (how many, depth, width): weights, and two banks of sums, in each group of lanes."""
    lanes = order.lanes
    groups = lanes.synapse // lanes.neuron
    weights = (groups, Plan(q, order).depth, lanes.neuron * bits)
    return [weights, (2 * groups, order.words, lanes.neuron * sum_bits)]


def _lut_ram(depth: int, width: int) -> float:
    """LUTs of a memory of RAM64M8: seven bits to read and one written with them, 64 rows (UG574)."""
    return math.ceil(depth / 64) * width * 8 / 7


def features(
    network: Network, options: HardwareOptions, flow: str, most_bits: int = 16
) -> tuple[list[float], list[float], int, int]:
    """Terms of the LUT and flip-flop formulas, DSP slices, and 18 kbit blocks of block RAM.

    :param most_bits: as if no weight had more.
    """
    check_options(network, options)
    sums = chains = trees = multiplied = weights = law = logic = 0.0
    dsp = blocks = 0
    lut_ram = flow != "ice40"
    shapes, least = (_SHAPES_18K, BLOCK_RAM_ROWS) if lut_ram else (_SHAPES_4K, LOGIC_ROWS + 1)

    def memory(depth: int, width: int) -> int:
        return _blocks(depth, width, shapes) if depth >= least else 0

    for p in network.populations:
        s, n = options.lanes[p.name].synapse, options.lanes[p.name].neuron
        order = Order(p.size, p.shape, options.lanes[p.name])
        for q in network.incoming(p.name):
            source = network.nodes[q.source]
            e = (
                options.lanes[q.source].event
                if q.source in options.lanes
                else options.input_event_lanes.get(q.source, 1)
            )
            layout = EventLayout(
                source.size, source.value_range, e, event_classes(network, options, q.source), source.shape
            )
            w, words, groups = min(q.weight_bits, most_bits), order.words, s // n
            sum_bits = q.sum_interval(source.value_range).magnitude.bit_length() + 1
            if q.geometry is not None:
                graded = multiplies(q, layout)
                sums += 2 * s * sum_bits
                multiplied += s * (w + layout.value_shape.width) if graded else 0
                weights += s * w if q.weights.size else 0
                dsp += s if graded else 0
                for banks, deep, wide in _map_memories(q, order, w, sum_bits):
                    blocks += banks * memory(deep, wide)
                    logic += banks * _lut_ram(deep, wide) if flow == "xcup" and deep < least else 0
                if (gate := network.gate_of(p.name)) is not None:
                    blocks += memory(queue_depth(gate, source.size), layout.size)
                continue
            if layout.shape is not None:
                layout = flat_layout(layout)
            product = 0 if layout.binary else w + layout.value_shape.width
            sums += s * sum_bits
            trees += s * (e - 1) * ((product or w) + 1)
            multiplied += s * e * product
            weights += s * e * w
            depth = words * layout.rows + 1
            chains += groups * words * e * (depth.bit_length() + (product and product - w))
            dsp += 0 if layout.binary else s * e
            blocks += groups * e * memory(depth, n * w)
            if not lut_ram and words > 1:
                logic += s * words * sum_bits
        operations, slices, width = _law_work(network, p, _MULTIPLIER[flow])
        law += n * operations * width
        dsp += n * slices
        if (gate := network.gate_of(p.name)) is not None:
            dsp += min(gate.groups, MOST_MULTIPLIERS)
            blocks += memory(gate.weights.size // min(gate.groups, MOST_MULTIPLIERS), 8 * gate.weight_bits)
        rows, sent = order.rows, EventLayout(p.size, p.value_range, 1)
        kept = n * sum(f.bits + 1 for f in p.law.states().values())  # stored sums are a little wider than the states
        if p.shape is not None and lut_ram:
            blocks += memory(rows, kept) if kept and rows >= STATES_DEEP else 0
            width = n * (1 if sent.binary else 1 + sent.value_shape.width) + (p.size - 1).bit_length() + 2
            blocks += memory(2 * rows, width) if 2 * rows > QUEUE_DEEP else 0
        if not lut_ram:
            logic += 2 * rows * n * (1 if sent.binary else 1 + sent.value_shape.width)
            blocks += _blocks(rows, kept, shapes) if kept else 0
    count = float(len(network.populations))
    for_lut = [count, sums, trees, multiplied, law, logic]
    for_ff = [count, sums + weights, trees, multiplied + chains, law, logic]
    return for_lut, for_ff, dsp, blocks


def estimate(
    network: Network, options: HardwareOptions, board: Board, most_bits: int = 16, *, axi: bool = False
) -> Estimate:
    """Resources on the board's family; on ECP5 and iCE40 with the serial link.

    :param most_bits: as if no weight had more.
    :param axi: on UltraScale+ with the AXI wrapper.
    :raises HardwareError: lanes that no hardware can have.
    """
    for_lut, for_ff, dsp, blocks = features(network, options, board.flow, most_bits)
    fitted, linked = COEFFICIENTS[board.flow], board.flow in LINK_BLOCKS
    lut = sum(c * x for c, x in zip(fitted["lut"], for_lut, strict=True)) + (LINK["lut"] if linked else 0)
    ff = sum(c * x for c, x in zip(fitted["ff"], for_ff, strict=True)) + (LINK["ff"] if linked else 0)
    blocks = blocks + LINK_BLOCKS[board.flow] if linked else -(-blocks // 2)
    if board.flow == "ice40":  # about half of the flip-flops have no LUT of their own (500 of 1,089 as nextpnr packed)
        lut += ff / 2
    if axi and not linked:
        lut, ff = lut + AXI["lut"], ff + AXI["ff"]
    return Estimate(round(lut), round(ff), dsp, blocks)


def check(network: Network, options: HardwareOptions, board: Board, *, axi: bool = False) -> Estimate:
    """The estimate of a design that fits the board.

    :param axi: on UltraScale+ with the AXI wrapper.
    :raises FitError: it doesn't; the message says what is short, and what would fit: lanes; where no number of lanes
        does, fewer weight bits or other boards.
    """
    need = estimate(network, options, board, axi=axi)
    if short := need.short(board.capacity):
        widest = max(options.lanes[p.name].synapse for p in network.populations)
        try:
            advice = f"these fit: {_lanes_text(largest(network, board))}"
        except FitError:
            advice = f"no number of lanes fits; {_elsewhere(network, board)}"
        raise FitError(f"board {board.name}: {widest} synapse lanes are too many: {'; '.join(short)}; {advice}")
    return need


def _lanes_text(options: HardwareOptions) -> str:
    return ", ".join(
        f"{name!r}: {lane.synapse} synapse and {lane.neuron} neuron lanes" for name, lane in options.lanes.items()
    )


def _elsewhere(network: Network, board: Board) -> str:
    """What would fit where no number of lanes does."""
    said = []

    def holds(which: Board, bits: int) -> bool:  # the weights alone: quick
        wanted = sum(q.weights.size * min(q.weight_bits, bits) for q in network.projections)
        return wanted <= which.capacity.bram * which.capacity.bram_kilobits * 1024

    for bits in range(max(q.weight_bits for q in network.projections) - 1, 1, -1):
        if not holds(board, bits):
            continue
        try:
            said.append(f"weights of {bits} bits would, with {_lanes_text(largest(network, board, most_bits=bits))}")
            break
        except FitError:
            continue
    other = []
    for name in boards.names():
        if name != board.name and holds(boards.load(name), 16):
            try:
                largest(network, boards.load(name))
                other.append(name)
            except FitError:
                continue
    said.append(f"as it is it fits {', '.join(other)}" if other else "it fits no board that ships")
    memory = sum(q.weights.size * q.weight_bits for q in network.projections)
    return f"{'; '.join(said)} (its weights are {memory / 8192:,.0f} KiB)"


def largest(network: Network, board: Board, most: int = 256, most_bits: int = 16) -> HardwareOptions:
    """The most synapse lanes (a power of two up to `most`, and up to 8 neuron lanes) that fit, one event lane.

    :param most_bits: as if no weight had more.
    :raises FitError: not even one lane per population fits.
    """
    synapse = most
    while True:
        options = default_options(network, synapse_lanes=synapse, neuron_lanes=min(8, synapse))
        need = estimate(network, options, board, most_bits)
        short = need.short(board.capacity)
        if not short:
            return options
        if synapse == 1:
            raise FitError(f"board {board.name}: the network doesn't fit at any number of lanes: {'; '.join(short)}")
        synapse //= 2
