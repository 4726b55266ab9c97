"""The papers' energy formulas, worked by hand and against published ratios; counted recurrent cells."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from apical.sw import recurrent_baselines as formulas
from apical.sw.counting import KINDS, MEMORY, MULTIPLICATIONS, by_memory
from apical.sw.recurrent_baselines import CONSTANTS, RECURRENT, SPIKING, Constants, Operations

INT32, FP32 = CONSTANTS
CELLS = {c.name: c for c in RECURRENT}


def published_ecg_net() -> Operations:
    """4-36 recurrent-6: LIF hidden cells, adaptive outputs.

    The inputs' rate is that of the QTDB test part. One rate for all cells, 0.3424, is the only number that is fitted;
    four published ratios have to come out of it.
    """
    hidden = formulas.spiking("lif", 36, 0.3424, [(4, 0.0791), (36, 0.3424)])
    return hidden + formulas.spiking("adaptive", 6, 0.3424, [(36, 0.3424)])


@pytest.mark.parametrize(
    ("cell", "constants", "ratio"),
    [("rnn", INT32, 1225), ("lstm", INT32, 4894), ("rnn", FP32, 541), ("lstm", FP32, 2163)],
)
def test_a_baseline_of_290_cells_gives_the_ratios_of_the_published_ecg_network(
    cell: str, constants: Constants, ratio: int
) -> None:
    theirs = CELLS[cell].operations(4, formulas.UNITS, 6).picojoules(constants)
    assert round(theirs / published_ecg_net().picojoules(constants)) == ratio


def test_three_quarters_of_the_published_network_are_neuron_updates() -> None:
    net = published_ecg_net()
    share = 1 - net.picojoules(INT32, with_updates=False) / net.picojoules(INT32)
    assert 0.74 < share < 0.78


@pytest.mark.parametrize(
    ("cell", "picojoules"),
    [
        # m = 3 at rate .5, n = 2 at rate .25, recurrent; E_MAC 3.2, E_AC 0.1
        ("lif", (6 * 0.5 + (4 + 2) * 0.25) * 0.1 + 2 * 3.2),
        ("adaptive", (6 * 0.5 + (4 + 4) * 0.25) * 0.1 + 6 * 3.2),
        ("leaky_integrator", (6 * 0.5 + 4 * 0.25) * 0.1 + 2 * 3.2),
    ],
)
def test_spiking_layers_worked_by_hand(cell: str, picojoules: float) -> None:
    layer = formulas.spiking(cell, 2, 0.25, [(3, 0.5), (2, 0.25)])
    assert math.isclose(layer.picojoules(INT32), picojoules)
    assert math.isclose(layer.picojoules(INT32, with_updates=False), (6 * 0.5 + 4 * 0.25) * 0.1)


@pytest.mark.parametrize(
    ("cell", "synapses", "updates"),
    # m = 3, n = 2, 5 classes: mn + nn = 10; read-out 10
    [("rnn", 10 + 10, 0), ("gru", 30 + 10, 26), ("lstm", 40 + 10, 34), ("bi-lstm", 2 * 40 + 20, 68)],
)
def test_recurrent_layers_worked_by_hand(cell: str, synapses: int, updates: int) -> None:
    layer = CELLS[cell].operations(3, 2, 5)
    assert (layer.mac, layer.update_mac, layer.ac, layer.update_ac) == (synapses, updates, 0, 0)
    assert math.isclose(layer.picojoules(FP32), (synapses + updates) * 4.6)
    assert math.isclose(layer.picojoules(FP32, with_updates=False), synapses * 4.6)


@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_the_updates_of_a_gated_cell_are_its_biases_products_and_activations(name: str) -> None:
    # 17 = 4 biases + 3 products + 5 activations of 2; the GRU by the same count, and one subtraction: 1 - z
    cell = CELLS[name]
    assert cell.updates == cell.gates + cell.products + 2 * cell.activations + (name == "gru")


def test_layers_sum() -> None:
    layers = [formulas.spiking("lif", 2, 0.5, [(3, 1.0)]), CELLS["rnn"].operations(1, 1, 1)]
    assert formulas.total(layers) == layers[0] + layers[1] == Operations(3, 6, 2, 1)
    assert formulas.total([]) == Operations()


@pytest.mark.parametrize(("mac", "ac"), [(0.1, 3.2), (1.0, 0.0), (1.0, 1.0), (float("inf"), 1.0), (float("nan"), 1.0)])
def test_constants_out_of_order_are_refused(mac: float, ac: float) -> None:
    with pytest.raises(ValueError, match=r"^constants 'mine': expected 0 < E_AC < E_MAC in pJ, got "):
        Constants("mine", mac, ac, "bench")


def test_a_counted_cell_does_the_synapses_of_its_formula() -> None:
    for cell in RECURRENT:
        parts = cell.counts(3, 2, 5, steps=7)
        assert parts["synapses"]["multiply"] == parts["synapses"]["add"] == 7 * cell.operations(3, 2, 5).mac
        assert parts["synapses"]["weight_read bits"] == 8 * parts["synapses"]["weight_read"]
        assert parts["updates"][f"law_update:{cell.name}"] == 7 * 2 * cell.directions


def test_a_counted_lstm_worked_by_hand() -> None:
    parts = CELLS["lstm"].counts(3, 2, 5, steps=1)
    own = parts["updates"]
    assert (own["law_multiply"], own["law_table_read"]) == (2 * 3, 2 * 5)
    assert own["law_add"] == 2 * (4 + 3) + 5  # biases and products; the read-out's biases
    assert own["parameter_read"] == 2 * 4 + 5
    assert own["state_read bits"] == own["state_write bits"] == 2 * (8 + 16)
    assert own["parameter_read bits"] == 13 * 18  # sums of 5 products of 8 × 8 bits: ±81,920
    assert (parts["events"]["event_received"], parts["events"]["event_sent"]) == (3, 2 + 5)
    known = {*KINDS, "law_update:lstm", *(f"{kind} bits" for kind in (*MEMORY, *MULTIPLICATIONS))}
    assert all(kind.partition(" bits in ")[0] in known for work in parts.values() for kind in work)
    # 4 matrices of (3 + 2) × 2 and a read-out of 2 × 5, a byte each
    assert by_memory(parts["synapses"], "weight_read") == {40: 8 * 40, 10: 8 * 10}


def test_every_formula_and_constant_is_on_the_reference_page() -> None:
    page = (Path(__file__).parents[1] / "docs/reference/energy.md").read_text(encoding="utf-8")
    for name, formula in [(n, c.formula) for n, c in SPIKING.items()] + [(c.name, c.formula) for c in RECURRENT]:
        assert f"| {name} | {formula} |" in page, name
    for constants in CONSTANTS:
        assert f"| `{constants.name}` | {constants.mac_pj:g} | {constants.ac_pj:g} |" in page
