"""Which lanes a network gets on a board, and what keeps it from more.

From one lane everywhere the busiest population is widened, step by step: its synapse lanes, the event lanes of what
feeds it, its neuron lanes, until the step that would help doesn't fit the device. So lanes are spent where cycles are.

Estimated cycles of a tick, at activity a (share of sources that send): a population takes the most of

    flat projection   a · sources · words / event lanes
    map's projection  a · Σ (positions reached × words)
    law               rows of neuron lanes, and never less than `SHORTEST`

and the network what its busiest population does: populations work on different ticks at once. Loops (recurrence) wait
for themselves and take longer; `apical cosim` measures.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from apical.hw import fit
from apical.hw.boards import Board
from apical.hw.conv_array import event_cycles
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.fit import Estimate
from apical.hw.open_flow import SERIAL_LANES
from apical.hw.order import Order
from apical.sw.network import Network, Population

ACTIVITY = 0.1  # share of sources that send, where no data say better
SHORTEST = 6  # cycles between two ticks of a population, at least (apical.hw.population)
MOST_LANES, MOST_EVENTS, MOST_NEURONS = 256, 8, 32


@dataclass(frozen=True)
class Refused:
    """The step that didn't fit.

    :param what: the step, in words.
    :param short: what the device has too little of.
    """

    what: str
    short: tuple[str, ...]


@dataclass(frozen=True)
class Choice:
    """Lanes for a board.

    :param need: estimated resources; on an UltraScale+ board with the AXI wrapper.
    :param cycles_per_tick: estimated; see the module.
    :param busiest: the population that takes them.
    :param binds: why there aren't more lanes.
    """

    board: Board
    options: HardwareOptions
    need: Estimate
    activity: Mapping[str, float]
    cycles_per_tick: float
    busiest: str
    binds: str
    refused: Refused | None

    @property
    def share(self) -> dict[str, float]:
        """Percent of the device, by resource."""
        c = self.board.capacity
        have = {"lut": c.lut, "ff": c.ff, "dsp": c.dsp, "bram": c.bram, "uram": c.uram}
        used = {"lut": self.need.lut, "ff": self.need.ff, "dsp": self.need.dsp, "bram": self.need.bram, "uram": 0}
        return {k: round(100 * used[k] / n, 2) for k, n in have.items() if n}

    def summary(self) -> dict[str, Any]:
        """What ``apical fit --json`` prints."""
        mhz = self.board.design_mhz or (self.board.clock.frequency_mhz if self.board.clock else None)
        return {
            "board": self.board.name,
            "device": self.board.part or self.board.device,
            "lanes": {n: {"synapse": v.synapse, "neuron": v.neuron, "event": v.event} for n, v in self.lanes.items()},
            "input_event_lanes": dict(self.options.input_event_lanes),
            "needs": {"lut": self.need.lut, "ff": self.need.ff, "dsp": self.need.dsp, "bram": self.need.bram},
            "percent": self.share,
            "binds": self.binds,
            "next": None if self.refused is None else {"step": self.refused.what, "short": list(self.refused.short)},
            "busiest": self.busiest,
            "activity": {k: round(v, 4) for k, v in self.activity.items()},
            "cycles_per_tick": round(self.cycles_per_tick, 2),
            "clock_mhz": mhz,
            "microseconds_per_tick": None if mhz is None else round(self.cycles_per_tick / mhz, 4),
            "notes": list(self.notes),
        }

    @property
    def lanes(self) -> Mapping[str, Lanes]:
        """Per population."""
        return self.options.lanes

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader should know of the figures."""
        said = [f"estimates from the design's structure; a tenth of LUT and flip-flops is left free ({fit.MARGIN:.0%})"]
        if self.board.capacity.uram:
            said.append(f"{self.board.capacity.uram} blocks of UltraRAM stay unused: a bitstream can't initialize them")
        if self.board.flow != "xcup":
            said.append(f"more than {SERIAL_LANES} synapse lanes would wait for the serial line")
        return tuple(said)


@dataclass(frozen=True)
class _Caps:
    """Limits of one population's lanes; powers of two."""

    synapse: int = 1
    neuron: int = 1
    event: int = 1


def _lanes(population: Population, caps: _Caps) -> Lanes:
    """Within the limits; where all targets have lanes, as few of both as take no more rows."""
    across = population.size if population.shape is None else population.shape[0]  # a map's lanes are channels
    if caps.synapse < across:
        return Lanes(caps.synapse, caps.neuron, caps.event)
    rows = -(-across // caps.neuron)
    neuron = next(n for n in range(caps.event, caps.neuron + 1, caps.event) if -(-across // n) == rows)
    return Lanes(rows * neuron, neuron, caps.event)


def _options(network: Network, caps: Mapping[str, _Caps], inputs: Mapping[str, int]) -> HardwareOptions:
    return HardwareOptions({p.name: _lanes(p, caps[p.name]) for p in network.populations}, dict(inputs))


def _cycles(
    network: Network, options: HardwareOptions, p: Population, activity: Mapping[str, float]
) -> dict[str | None, float]:
    """Cycles of a tick that each source of a population takes, and (None) its law."""
    order = Order(p.size, p.shape, options.lanes[p.name])
    takes: dict[str | None, float] = {None: float(order.rows)}
    for q in network.incoming(p.name):
        source, a = network.nodes[q.source], activity[q.source]
        if q.geometry is not None:
            cycles = a * float(event_cycles(q, options.lanes[p.name]).sum())
        else:
            lanes = options.lanes[q.source].event if q.source in options.lanes else options.input_event_lanes[q.source]
            cycles = a * source.size * order.words / lanes
        takes[q.source] = max(cycles, takes.get(q.source, 0.0))
    return takes


def _busiest(
    network: Network, options: HardwareOptions, activity: Mapping[str, float]
) -> tuple[float, str, str | None]:
    """The longest tick: cycles, population, and the source that it waits for (None: its law)."""
    found = []
    for p in network.populations:
        takes = _cycles(network, options, p, activity)
        source = max(takes, key=lambda s: takes[s])
        found.append((takes[source], p.name, source))
    return max(found, key=lambda f: f[0])


def cycles_per_tick(
    network: Network, options: HardwareOptions, activity: Mapping[str, float] | float = ACTIVITY
) -> float:
    """Estimated cycles of a tick.

    :param activity: share of sources that send in a tick, per node or for all.
    """
    filled = replace(options, input_event_lanes={i.name: 1 for i in network.inputs} | dict(options.input_event_lanes))
    return max(_busiest(network, filled, _activity(network, activity))[0], SHORTEST)


def _activity(network: Network, activity: Mapping[str, float] | float) -> dict[str, float]:
    if not isinstance(activity, Mapping):
        return {name: float(activity) for name in network.nodes}
    return {name: float(activity.get(name, ACTIVITY)) for name in network.nodes}


_Step = tuple[str, dict[str, _Caps], dict[str, int]]


def _steps(
    network: Network,
    caps: dict[str, _Caps],
    inputs: dict[str, int],
    name: str,
    source: str | None,
    most: int,
    events: int,
) -> Iterator[_Step]:
    """Wider lanes for one population, the cheapest first: (in words, limits, event lanes of the inputs)."""
    own, p = caps[name], next(p for p in network.populations if p.name == name)
    across = p.size if p.shape is None else p.shape[0]
    wide = replace(own, synapse=2 * own.synapse)
    if source is None:
        if 2 * own.neuron <= min(MOST_NEURONS, most):
            more = replace(own, synapse=max(own.synapse, 2 * own.neuron), neuron=2 * own.neuron)
            yield f"{more.neuron} neuron lanes of {name!r}", caps | {name: more}, inputs
        return
    if own.synapse < min(across, most):
        yield f"{wide.synapse} synapse lanes of {name!r}", caps | {name: wide}, inputs
    if next(q for q in network.incoming(name) if q.source == source).geometry is not None:
        return  # a map takes one event at a time
    if source in inputs and inputs[source] < events:
        text = f"{2 * inputs[source]} event lanes of the input {source!r}"
        yield text, caps, inputs | {source: 2 * inputs[source]}
    elif source in caps and caps[source].event < events and network.nodes[source].shape is None:
        lanes = 2 * caps[source].event
        feeds = caps[source]
        more = _Caps(max(feeds.synapse, lanes), max(feeds.neuron, lanes), lanes)
        yield f"{lanes} event lanes of {source!r}", caps | {source: more}, inputs


def choose(
    network: Network, board: Board, activity: Mapping[str, float] | float = ACTIVITY, most: int | None = None
) -> Choice:
    """Lanes for a board.

    :param activity: share of sources that send in a tick, per node or for all.
    :param most: synapse lanes of a population, at most; `MOST_LANES`, on a board with a serial line `SERIAL_LANES`.
    :raises FitError: the network doesn't fit; the message says what would: weight bits, other boards.
    """
    each, serial = _activity(network, activity), board.flow != "xcup"
    most, events = most or (SERIAL_LANES if serial else MOST_LANES), 1 if serial else MOST_EVENTS
    caps = {p.name: _Caps() for p in network.populations}
    inputs = {i.name: 1 for i in network.inputs}
    options = _options(network, caps, inputs)
    need = fit.estimate(network, options, board, axi=not serial)
    if need.short(board.capacity):
        fit.check(network, options, board, axi=not serial)  # says why not
    refused, binds = None, "the network: no step makes a tick shorter"
    while True:
        takes, name, source = _busiest(network, options, each)
        refused = None
        if takes <= SHORTEST:
            binds = f"the pipeline: no tick is shorter than {SHORTEST} cycles"
            break
        population = next(p for p in network.populations if p.name == name)
        for text, wider, lanes in _steps(network, caps, inputs, name, source, most, events):
            candidate = _options(network, wider, lanes)
            if _cycles(network, candidate, population, each)[source] >= takes:
                continue
            needs = fit.estimate(network, candidate, board, axi=not serial)
            if short := needs.short(board.capacity):
                refused = refused or Refused(text, tuple(short))
                continue
            caps, inputs, options, need = wider, lanes, candidate, needs
            break
        else:
            break
    if refused is not None:
        binds = refused.short[0]
    elif serial and any(own.synapse >= most for own in caps.values()):
        binds = f"the serial line: more than {most} synapse lanes would wait for it"
    elif any(own.synapse >= most for own in caps.values()):
        binds = f"the most synapse lanes of a population, {most}"
    return Choice(board, options, need, each, max(takes, SHORTEST), name, binds, refused)
