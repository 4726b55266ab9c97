"""Check one neuron law on everything that comes from its `step`: training module, golden model, hardware, counters.

A law's author calls `check_law` (in a test) and is done; see docs/how-to/add-a-neuron.md.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from apical.hw.design import default_options
from apical.sim import verilated
from apical.sim.scoreboard import first_divergence
from apical.sw import golden
from apical.sw.arithmetic import IntegerOps, TrainingOps
from apical.sw.laws import Format, Law, LeakyIntegrator
from apical.sw.layers import Dense, Input, Model, Population
from apical.sw.network import Network
from apical.sw.ranges import Interval, IntervalOps


class LawError(ValueError):
    """Two of a law's backends differ, or a value leaves its declared format; the message has the numbers."""


@dataclass(frozen=True)
class LawCheck:
    """What was compared.

    :param vectors: single evaluations of `step` on three backends.
    :param networks: random networks run through training forward, golden and RTL.
    :param events: events that the law's neurons sent in them; 0 would mean that little was tested.
    """

    vectors: int
    networks: int
    events: int


def _one(values: Mapping[str, int], dtype: torch.dtype) -> dict[str, torch.Tensor]:
    return {k: torch.tensor([v], dtype=dtype) for k, v in values.items()}


def compare_step(law: Law, state: Mapping[str, int], currents: Mapping[str, int], params: Mapping[str, int]) -> None:
    """One evaluation: golden equals training, both lie in the intervals of the width analysis and in the formats.

    :raises LawError: they don't.
    """
    where = f"law {law.name}, state {dict(state)}, currents {dict(currents)}, parameters {dict(params)}"
    integer, wide = torch.int64, torch.float64
    after, value = law.step(IntegerOps(), _one(state, integer), _one(currents, integer), _one(params, integer))
    trained, sent = law.step(TrainingOps(), _one(state, wide), _one(currents, wide), _one(params, wide))
    exact = {k: Interval(v, v) for k, v in (*currents.items(), *params.items())}
    bounds = {k: Interval(*f.bounds) for k, f in law.states().items()}
    held, range_of = law.step(
        IntervalOps(),
        bounds,
        {k: exact[k] for k in currents},
        {k: exact[k] for k in params},
    )
    pairs: list[tuple[str, Any, Any, Interval, Interval]] = [
        ("value", value, sent, range_of, Interval(*law.value_range())),
        *((f"state {k!r}", after[k], trained[k], held[k], bounds[k]) for k in after),
    ]
    for name, a, b, interval, declared in pairs:
        if int(a) != float(b):
            raise LawError(f"{where}: {name}: golden gives {int(a)}, training {float(b)}")
        for what, limits in (("the width analysis says", interval), ("the law declares", declared)):
            if not limits.low <= int(a) <= limits.high:
                raise LawError(f"{where}: {name}: {what} [{limits.low}, {limits.high}], got {int(a)}")


def check_step(law: Law, examples: int = 200) -> None:
    """Property test (hypothesis): `compare_step` on random states, currents and parameters, minimized on failure.

    :raises LawError: with the smallest case found. :raises ImportError: hypothesis isn't installed.
    """
    from hypothesis import HealthCheck, given, settings
    from hypothesis import strategies as st

    def mapping(bounds: Mapping[str, tuple[int, int]]) -> st.SearchStrategy[dict[str, int]]:
        return st.fixed_dictionaries({k: st.integers(low, high) for k, (low, high) in bounds.items()})

    states = mapping({k: f.bounds for k, f in law.states().items()})
    currents = mapping({c: (-(1 << 20), (1 << 20) - 1) for c in law.compartments})
    params = st.fixed_dictionaries(
        {
            k: st.integers(p.low, p.high) if p.levels is None else st.sampled_from(p.levels)
            for k, p in law.parameters().items()
        }
    )

    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(states, currents, params)
    def compare(state: dict[str, int], current: dict[str, int], param: dict[str, int]) -> None:
        compare_step(law, state, current, param)

    run: Callable[[], None] = compare
    run()


def model_of(law: Law, seed: int = 0, *, neurons: int = 10, sources: int = 7) -> Model:
    """A random trainable network around a law: inputs onto each compartment, recurrence in some, a read-out.

    Even seeds have spikes as inputs, odd ones 4-bit graded events.
    """
    torch.manual_seed(seed)
    source = Input("in", sources, Format(4, signed=False) if seed % 2 else None)
    cells = Population("cells", neurons, law, scale=48.0)
    for latent in cells.latent.values():
        latent.data += 0.5 * torch.randn_like(latent)
    read = Population("read", 3, LeakyIntegrator())
    projections = [
        Dense(source, cells, compartment=c, bits=6, std=1.5 / sources**0.5, name=f"in to {c}") for c in law.compartments
    ]
    if (seed + 1) // 2 % 2:
        projections.append(Dense(cells, cells, compartment=law.compartments[-1], bits=5, delay=1, name="back"))
    projections.append(Dense(cells, read, name="out"))
    return Model([source], [cells, read], projections, outputs=["read", "cells"], decoder="last", name=law.name)


def random_events(network: Network, samples: int, ticks: int, seed: int) -> np.ndarray:
    """Half zeros, half values over the inputs' whole range, [samples, ticks, inputs]."""
    random = np.random.default_rng(seed)
    low, high = network.inputs[0].value_range
    values = random.integers(low, high + 1, (samples, ticks, network.input_size))
    return np.asarray(values * random.integers(0, 2, values.shape))


def check_law(
    law: Law, *, examples: int = 200, networks: int = 2, samples: int = 4, ticks: int = 12, hardware: bool = True
) -> LawCheck:
    """Check a law on all backends: single steps, then random networks in training, golden and RTL with counters.

    :param examples: random single steps.
    :param hardware: compile and run the RTL (needs g++, make, perl).
    :raises LawError: the first difference, with the numbers and the seed.
    """
    check_step(law, examples)
    events = 0
    for seed in range(networks):
        model = model_of(law, seed)
        network = model.export()
        x = random_events(network, samples, ticks, seed)
        expected = golden.run(network, x, states=True)
        with torch.no_grad():
            trained = model.activity(torch.from_numpy(x).float())
        for name, values in expected.values.items():
            if not np.array_equal(trained[name].numpy(), values):
                at = np.argwhere(trained[name].numpy() != values)[0].tolist()
                raise LawError(
                    f"law {law.name}, network of seed {seed}: population {name!r} at [sample, tick, neuron] {at}: "
                    f"golden sends {values[tuple(at)]}, training {trained[name].numpy()[tuple(at)]}"
                )
        if hardware:
            options = default_options(network, synapse_lanes=4, neuron_lanes=2, event_lanes=1 + seed % 2)
            rtl = verilated.simulate(network, options, x, workers=1, states=True, fast_build=True)
            if (difference := first_divergence(expected, rtl)) is not None:
                raise LawError(f"law {law.name}, network of seed {seed}: golden and RTL differ: {difference}")
        events += expected.counters["population cells: events"]
    return LawCheck(examples, networks, events)
