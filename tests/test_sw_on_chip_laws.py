"""Laws of learning on the chip: the noise of stochastic rounding, the slopes of neuron laws."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from apical.sw import on_chip
from apical.sw.arithmetic import IntegerOps
from apical.sw.laws import Modulation, TwoPoint


def drawn(ops: IntegerOps, sample: Tensor, row: Tensor, lane: Tensor, projection: int, shift: int) -> Tensor:
    phases = torch.from_numpy(on_chip.noise_lanes(32))
    return on_chip.noise(ops, on_chip.noise_base(ops, sample, row, projection), phases[lane], shift)


def test_stochastic_rounding_is_right_in_the_mean_exactly() -> None:
    ops, shift = IntegerOps(), 5
    samples = torch.arange(1 << on_chip.NOISE_BITS)
    r = drawn(ops, samples, torch.tensor(3), torch.tensor(11), 1, shift)
    assert torch.equal(torch.bincount(r), torch.full((1 << shift,), 1 << (on_chip.NOISE_BITS - shift)))
    product = torch.tensor(-77)
    assert int(on_chip.change(ops, product, r, shift).sum()) << shift == -77 << on_chip.NOISE_BITS


def test_neighbouring_draws_fill_their_range() -> None:
    ops = IntegerOps()
    draws = [
        drawn(ops, torch.arange(32), torch.tensor(0), torch.tensor(0), 0, 3),
        drawn(ops, torch.tensor(0), torch.arange(32), torch.tensor(0), 0, 3),
        drawn(ops, torch.tensor(0), torch.tensor(0), torch.arange(32), 0, 3),
    ]
    for found in draws:
        times = torch.bincount(found, minlength=8)
        assert int(times.min()) >= 2 and int(times.max()) <= 6


@pytest.mark.parametrize("modulation", ["mcc", "linear"])
def test_slopes_are_the_modulations_derivative(modulation: Modulation) -> None:
    law, one = TwoPoint(shift=0, value_bits=12, modulation=modulation), 64
    random = torch.Generator().manual_seed(0)
    currents = {c: torch.randint(-63, 200, (500,), generator=random) for c in law.compartments}
    still = {"bias_basal": torch.zeros(1, dtype=torch.int64), "bias_apical": torch.zeros(1, dtype=torch.int64)}
    r, c = (currents[k].double().div(one).requires_grad_() for k in law.compartments)
    m = r * r + 2 * r + c * (1 + r.abs()) if modulation == "mcc" else r + r * c
    m.sum().backward()  # type: ignore[no-untyped-call]
    slopes = law.slopes(IntegerOps(), currents, still)
    assert slopes is not None
    for compartment, real in (("basal", r), ("apical", c)):
        assert real.grad is not None
        found, smooth = torch.as_tensor(slopes[compartment]).double() / one, currents["basal"] != 0
        assert torch.equal(found[smooth], real.grad[smooth])
