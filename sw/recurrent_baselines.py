"""Energy of recurrent networks by the formulas of the spiking-recurrent-network papers, and counted by our own model.

A formula gives operations per tick of one layer of n cells with m inputs, split into synapses and neuron updates; a
network's energy is the sum of its layers'. Memory is in none of them. `CONSTANTS` price the operations.

Sources: Yin, Corradi and Bohté, ICONS 2020 (arXiv 2005.11633) and Nature Machine Intelligence 3, 2021 (arXiv
2103.12593). Which cell, size and read-out their recurrent baselines have is open there: see docs/reference/energy.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from apical.sw.counting import bits_of, move, multiply, no_counts
from apical.sw.ranges import Interval

UNITS = 290
"""Cells of the recurrent baselines unless the user says otherwise: the size that reproduces the papers' order."""


@dataclass(frozen=True)
class Constants:
    """Prices of the two operations that the papers count.

    :param mac_pj: E_MAC, one multiplication with its addition, picojoules.
    :param ac_pj: E_AC, one addition, picojoules.
    """

    name: str
    mac_pj: float
    ac_pj: float
    source: str

    def __post_init__(self) -> None:
        if not (0 < self.ac_pj < self.mac_pj < float("inf")):
            raise ValueError(
                f"constants {self.name!r}: expected 0 < E_AC < E_MAC in pJ, got {self.ac_pj} and {self.mac_pj}"
            )


_HOROWITZ = "M. Horowitz, Computing's energy problem, IEEE ISSCC 2014, pp. 10-14, figure 1.1.9: 45 nm, 0.9 V, "
CONSTANTS = (
    Constants("int32-45nm", 3.2, 0.1, _HOROWITZ + "integer, 32 bit: multiply 3.1 pJ, add 0.1 pJ"),
    Constants("fp32-45nm", 4.6, 0.9, _HOROWITZ + "floating point, 32 bit: multiply 3.7 pJ, add 0.9 pJ"),
)


@dataclass(frozen=True)
class Operations:
    """Operations per tick; means, so not whole.

    :param mac, ac: of synapses.
    :param update_mac, update_ac: of neuron updates.
    """

    mac: float = 0.0
    ac: float = 0.0
    update_mac: float = 0.0
    update_ac: float = 0.0

    def __add__(self, other: Operations) -> Operations:
        return Operations(
            self.mac + other.mac,
            self.ac + other.ac,
            self.update_mac + other.update_mac,
            self.update_ac + other.update_ac,
        )

    def picojoules(self, constants: Constants, with_updates: bool = True) -> float:
        """Energy per tick, pJ."""
        synapses = self.mac * constants.mac_pj + self.ac * constants.ac_pj
        if not with_updates:
            return synapses
        return synapses + self.update_mac * constants.mac_pj + self.update_ac * constants.ac_pj


@dataclass(frozen=True)
class SpikingCell:
    """A spiking cell: what one update costs. E = Σ m·n·Fr_in·E_AC + `resets`·n·Fr_out·E_AC + `updates`·n·E_MAC.

    :param updates: multiply-accumulates per cell and tick.
    :param resets: additions per sent spike.
    """

    name: str
    updates: int
    resets: int
    formula: str


SPIKING = {
    c.name: c
    for c in (
        SpikingCell("lif", 1, 1, "mn·Fr_in·E_AC + (nn + n)·Fr_out·E_AC + n·E_MAC"),
        SpikingCell("adaptive", 3, 2, "mn·Fr_in·E_AC + (nn + 2n)·Fr_out·E_AC + 3n·E_MAC"),
        SpikingCell("leaky_integrator", 1, 0, "mn·Fr_in·E_AC + n·E_MAC"),
    )
}


def spiking(cell: str, size: int, rate: float, sources: Iterable[tuple[int, float]]) -> Operations:
    """One layer of spiking cells.

    :param cell: a name of `SPIKING`.
    :param rate: spikes per cell and tick (Fr_out).
    :param sources: cells and firing rate of everything that projects onto the layer; itself where it is recurrent.
    """
    kind = SPIKING[cell]
    synapses = sum(m * size * fr for m, fr in sources)
    return Operations(ac=synapses, update_mac=kind.updates * size, update_ac=kind.resets * size * rate)


@dataclass(frozen=True)
class RecurrentCell:
    """A conventional recurrent cell, every value sent every tick.

    :param gates: weight matrices onto a layer: (mn + nn) multiply-accumulates each.
    :param updates: multiply-accumulates per cell and tick beside the matrices, as the formula has them.
    :param directions: 2 reads the sequence forwards and backwards (so it needs the whole sequence before it answers).
    :param products: multiplications of an update; for the counted model.
    :param activations: sigmoids and hyperbolic tangents of an update; for the counted model.
    :param state_bits: bits kept from tick to tick; for the counted model: 8 of the output, 16 of a memory cell.
    :param status: ``published``, or ``derived`` from the published ones as docs/reference/energy.md says.
    """

    name: str
    gates: int
    updates: int
    directions: int
    products: int
    activations: int
    state_bits: tuple[int, ...]
    formula: str
    status: str

    def operations(self, inputs: int, units: int, classes: int) -> Operations:
        """A layer of `units` cells (in each direction) on `inputs` channels, and a linear read-out of `classes`."""
        matrices = self.gates * (inputs * units + units * units)
        return Operations(
            mac=self.directions * (matrices + units * classes),
            update_mac=self.directions * self.updates * units,
        )

    def counts(self, inputs: int, units: int, classes: int, steps: int) -> dict[str, dict[str, int]]:
        """Counted work of `steps` ticks, by part and kind as in `apical.sw.counting`: 8-bit weights and values.

        The case best for the cell: sums stay in registers and cost nothing. Each gate has a bias, each product is a
        multiplication and an addition, each activation function one look-up in a table.
        """
        synapses, own, events = no_counts(), no_counts(), no_counts()
        cells, updates = self.directions * units, self.directions * units * steps
        matrix, read = (
            self.gates * (inputs + units) * units,
            cells * classes,
        )  # weights: of a direction, of the read-out
        macs = (self.directions * matrix + read) * steps
        reach = 128 * 128 * (inputs + units)
        synapses["synaptic_operation"] = synapses["add"] = macs
        multiply(synapses, "multiply", macs, 8 * 8)
        move(synapses, "weight_read", self.directions * matrix * steps, 8, matrix)
        move(synapses, "weight_read", read * steps, 8, read)
        own[f"law_update:{self.name}"] = updates
        own["law_add"] = updates * (self.gates + self.products) + classes * steps
        multiply(own, "law_multiply", updates * self.products, 8 * 16)
        own["law_table_read"] = updates * self.activations
        sums = bits_of(Interval(-reach, reach))
        move(own, "parameter_read", updates * self.gates, sums, units * self.gates)
        move(own, "parameter_read", classes * steps, sums, classes)
        for bits in self.state_bits:
            move(own, "state_read", updates, bits, units)
            move(own, "state_write", updates, bits, units)
        events["event_received"], events["event_sent"] = inputs * steps, (cells + classes) * steps
        return {"synapses": synapses, "updates": own, "events": events}


RECURRENT = (
    RecurrentCell("rnn", 1, 0, 1, 0, 1, (8,), "(mn + nn)·E_MAC", "published"),
    RecurrentCell("gru", 3, 13, 1, 3, 3, (8,), "3(mn + nn)·E_MAC + 13n·E_MAC", "derived"),
    RecurrentCell("lstm", 4, 17, 1, 3, 5, (8, 16), "4(mn + nn)·E_MAC + 17n·E_MAC", "published"),
    RecurrentCell("bi-lstm", 4, 17, 2, 3, 5, (8, 16), "2·[4(mn + nn)·E_MAC + 17n·E_MAC]", "derived"),
)


def total(layers: Sequence[Operations]) -> Operations:
    """Sum of a network's layers."""
    return sum(layers, start=Operations())
