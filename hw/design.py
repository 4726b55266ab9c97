"""What a generated design is: lanes, options, and the manifest that maps its safe port names to the network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from apical.sw.geometry import IntArray, Shape, index_of
from apical.sw.network import Input, Network


@dataclass(frozen=True)
class Lanes:
    """Parallelism of one population.

    :param synapse: weights per cycle of each incoming projection (and event lane).
    :param neuron: law updates per cycle; divides `synapse`.
    :param event: events per cycle of the stream that it sends; a power of two that divides `neuron`.
    """

    synapse: int
    neuron: int
    event: int = 1


@dataclass(frozen=True)
class HardwareOptions:
    """Everything beside the network that the hardware depends on.

    :param lanes: per population.
    :param input_event_lanes: per input, events per cycle (a power of two).
    :param monitor: add monitor ports with every law result (simulation builds).
    :param monitor_states: monitors show the states too.
    :param lut_ram: the device has LUT RAM; without it, words from 17 rows on and the neurons' state go to block RAM.
    """

    lanes: Mapping[str, Lanes]
    input_event_lanes: Mapping[str, int] = field(default_factory=dict)
    monitor: bool = False
    monitor_states: bool = False
    lut_ram: bool = True


def event_lanes(network: Network, options: HardwareOptions, node: str) -> int:
    """Events per cycle of the stream that an input or population sends."""
    if isinstance(network.nodes[node], Input):
        return options.input_event_lanes.get(node, 1)
    return options.lanes[node].event


def lanes_of(network: Network, options: HardwareOptions) -> dict[str, int]:
    """Synaptic operations per cycle at best, by projection: synapse lanes × event lanes; maps take one at a time."""
    out = {}
    for q in network.projections:
        lanes = options.lanes[q.target].synapse
        out[q.name] = lanes * (event_lanes(network, options, q.source) if q.geometry is None else 1)
    return out


@dataclass(frozen=True)
class StreamPort:
    """One event stream of the top level; ports are `prefix_valid`, `prefix_row0`, …

    Lane e carries sources with index ≡ e modulo `classes`: index = row · classes + (e mod classes). Where there is a
    `shape` the index is the coordinates {row, column, channel}, as `index_of` says for each neuron.
    """

    prefix: str
    node: str
    size: int
    event_lanes: int
    classes: int
    row_bits: int
    value_bits: int
    signed: bool
    shape: Shape | None = None

    @property
    def index_of(self) -> IntArray:
        """Index in the stream of each neuron, [size]."""
        return index_of(self.size, self.shape, self.classes)

    @property
    def has_value(self) -> bool:
        """False for spikes: every event's value is 1."""
        return self.value_bits > 1 or self.signed


@dataclass(frozen=True)
class MonitorPort:
    """Monitor ports of one population: `prefix_valid`, `prefix_row`, `prefix_value{n}`, `prefix_{state}{n}`.

    :param neuron_of: neuron index by [row][lane]; -1 is padding.
    :param state_formats: (bits, signed) by state name. Empty without `monitor_states`.
    :param gated: rows may be left out, and `prefix_last` marks a tick's last.
    """

    prefix: str
    population: str
    neuron_of: tuple[tuple[int, ...], ...]
    value_bits: int
    signed: bool
    state_formats: Mapping[str, tuple[int, bool]]
    gated: bool = False


@dataclass(frozen=True)
class Manifest:
    """Names of the top-level ports and what they stand for.

    :param point: of gates with several operating points, the network's one: what a simulation drives the port `point`
        with; None where there is no such port.
    """

    top: str
    inputs: tuple[StreamPort, ...]
    outputs: tuple[StreamPort, ...]
    counters: tuple[str, ...]
    monitors: tuple[MonitorPort, ...]
    point: int | None = None


@dataclass(frozen=True)
class Design:
    """A generated design: deterministic Verilog text, its manifest and identity (a hash of both)."""

    verilog: str
    manifest: Manifest
    identity: str
    network: Network
    options: HardwareOptions


def _divisor(n: int, limit: int) -> int:
    """Largest divisor of n that is at most limit."""
    return max(d for d in range(1, min(n, limit) + 1) if n % d == 0)


def default_options(
    network: Network,
    *,
    synapse_lanes: int = 128,
    neuron_lanes: int = 8,
    event_lanes: int = 1,
    monitor: bool = False,
    monitor_states: bool = False,
) -> HardwareOptions:
    """Lanes for every population from three limits: at most `synapse_lanes` and `neuron_lanes`, and `event_lanes`
    events per cycle on the inputs (and on populations whose neuron lanes allow it)."""
    lanes = {}
    for p in network.populations:
        across = p.size if p.shape is None else p.shape[0]  # a map's lanes are channels
        synapse = (
            min(synapse_lanes, -(-across // event_lanes) * event_lanes)
            if network.outgoing(p.name)
            else min(synapse_lanes, across)
        )
        neuron = _divisor(synapse, neuron_lanes)
        events = event_lanes if network.outgoing(p.name) and neuron % event_lanes == 0 else 1
        lanes[p.name] = Lanes(synapse, neuron, events)
    inputs = {i.name: event_lanes for i in network.inputs}
    return HardwareOptions(lanes, inputs, monitor, monitor_states)
