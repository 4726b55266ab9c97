"""A chip that learns behind AXI: as golden does, with all that lasts within reach of the registers."""

from __future__ import annotations

import numpy as np
import pytest

from apical.hw.axi_system import AxiSystem
from apical.hw.learning import learning_options
from apical.hw.register_map import AxiOptions, register_map
from apical.sim.axi_bench import OKAY, SLVERR, AxiBench
from apical.sw import on_chip
from apical.sw.axi_weights import Site, Store
from apical.sw.laws import Format, LeakyIntegrator, Relu
from apical.sw.network import Input, Network, Population, Projection
from apical.sw.on_chip import Learning, OnChip


def learner() -> tuple[Network, Learning]:
    rng = np.random.default_rng(1)
    zero = np.zeros(1, np.int64)
    cells = Population("p1", 7, Relu(value_bits=6, shift=3), {"bias": rng.integers(-20, 60, 7)})
    law = LeakyIntegrator(state_bits=20, shift=2)
    out = Population("p2", 4, law, {"decay": zero, "bias": rng.integers(-20, 60, 4)})
    made = Network(
        (Input("in", 12, Format(4, signed=False)),),
        (cells, out),
        (
            Projection("w0", "in", "p1", rng.integers(-64, 64, (7, 12))),
            Projection("w1", "p1", "p2", rng.integers(-64, 64, (4, 7))),
        ),
        ("p2",),
    )
    return made, Learning((on_chip.Site(4, 0, 4), on_chip.Site(3, 8, 2)), 60, 6, 8, "nearest", 400, gain=0)


def test_a_chip_learns_behind_axi_as_golden_does() -> None:
    """Labels in the stream and in the register; weights, errors, thresholds, the number and all counters."""
    start, learning = learner()
    rng = np.random.default_rng(2)
    x = rng.integers(0, 16, (30, 1, 12)) * (rng.random((30, 1, 12)) < 0.4)
    labels = rng.integers(0, 4, 30)
    chip = OnChip(start, learning)
    options = AxiOptions(learning=learning)
    with AxiBench(AxiSystem(start, learning_options(start, 4, 2), options), share=0.2) as b:
        b.write("CONTROL", 1)
        b.write("LEARN", 1)
        for n in range(20):
            b.send(b.encode(x[n], label=int(labels[n])))
        assert b.until(100_000, packets=20)
        outputs = [b.map.outputs.decode(b.slots())[0]["p2"]]
        for n in range(20, 30):
            b.write("LABEL", int(labels[n]))
            b.send(b.encode(x[n]))
            assert b.until(packets=1)
            outputs.append(b.map.outputs.decode(b.slots())[0]["p2"])
            while b.read("STATUS", "BUSY"):
                pass
        assert np.array_equal(np.concatenate(outputs), chip.learn(x, labels))
        got = b.counters()
        assert {k: got[k] for k in chip.counters} == dict(chip.counters)
        assert b.read("ERRORS") == 1 << 6 and any(n for k, n in got.items() if k.endswith("saturations"))
        for site in b.map.sites:
            if isinstance(site, Site):
                n = site.number
                assert np.array_equal(b.weights(site), chip.weights[n].T.numpy())
            else:
                assert stored(b, site) == golden_store(chip, site), site
        errors = next(s for s in b.map.sites if isinstance(s, Store) and s.what == "errors")
        b.write("SITE", errors.number)
        assert b.access([(1, b.map["DATA"].address, 0, 15, 0)]) == [(0, SLVERR)]
        first = b.map.sites[0]
        assert isinstance(first, Site)
        b.load(first, start.projections[0].weights)
        assert np.array_equal(b.weights(first), start.projections[0].weights)
        assert b.problems == []


def stored(bench: AxiBench, store: Store) -> list[int]:
    bench.write("SITE", store.number)
    got = bench.access([(0, bench.map["DATA"].address, 0, 0, 0)] * (store.rows * store.chunks))
    assert {r for _, r in got} == {OKAY}
    return [v - (1 << 32) if v >> 31 else v for v, _ in got][: store.size]


def golden_store(chip: OnChip, store: Store) -> list[int]:
    if store.what == "samples":
        return [chip.samples]
    place = next(n for n, p in enumerate(chip.projections) if p.name == store.of)
    return chip.errors[place].tolist() if store.what == "errors" else [int(chip.thresholds[place])]


def test_options_that_exclude_each_other_are_refused() -> None:
    start, learning = learner()
    with pytest.raises(ValueError, match=r"^AXI: expected writable weights or learning, got both"):
        register_map(start, learning_options(start), AxiOptions(writable=True, learning=learning))
    with pytest.raises(ValueError, match=r"^AXI: the registers end at 0x\w+; expected more than 8 address bits$"):
        register_map(start, learning_options(start), AxiOptions(address_bits=8))
