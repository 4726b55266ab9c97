"""The registers of the AXI system, declared once: hardware, headers and documentation are all made from this.

docs/reference/axi.md says what they mean; `apical.hw.register_text` writes them down. Names are made of indices; a
model's own names are data, in `RegisterMap.counters` and the ports.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal

from apical.hw.accelerator import check_options, event_classes
from apical.hw.design import HardwareOptions, event_lanes
from apical.hw.order import Order
from apical.sw import on_chip
from apical.sw.axi_weights import Site, Store
from apical.sw.axi_words import LABEL, Port, SlotFormat
from apical.sw.bundle import identity
from apical.sw.network import Network
from apical.sw.on_chip import Learning

ID, VERSION = 0x4150434C, 1  # "APCL"; of docs/reference/axi.md
NODES, BLOCK = 0x100, 0x100  # first address of what depends on the network; the counters begin at a multiple
Access = Literal["ro", "rw", "w1c", "wo"]


@dataclass(frozen=True)
class AxiOptions:
    """What the AXI system has beside the accelerator.

    :param data_bits: of the streams' words.
    :param address_bits: of AXI4-Lite; byte addresses.
    :param writable: weights can be loaded and read back.
    :param learning: the chip learns (`apical.hw.learning`); its weights can be loaded and read back too.
    """

    data_bits: int = 64
    address_bits: int = 12
    writable: bool = False
    learning: Learning | None = None


@dataclass(frozen=True)
class Field:
    """Bits of a register.

    :param access: ``ro``, ``rw``, ``w1c`` (1 clears), ``wo`` (1 acts once, reads 0).
    :param reset: value after reset; of a constant its value.
    :param constant: ``ro`` that never changes.
    :param most: largest value that a write may give; None: any.
    """

    name: str
    low: int
    bits: int
    description: str
    access: Access = "ro"
    reset: int = 0
    constant: bool = False
    most: int | None = None

    @property
    def mask(self) -> int:
        """Its bits in the register."""
        return ((1 << self.bits) - 1) << self.low


@dataclass(frozen=True)
class Register:
    """32 bits at a byte address.

    :param window: accesses go elsewhere (the weights), take their time and may be refused; only whole words.
    """

    name: str
    address: int
    description: str
    fields: tuple[Field, ...]
    window: bool = False

    @property
    def reset(self) -> int:
        """Value after reset."""
        return sum(f.reset << f.low for f in self.fields)

    @property
    def writable(self) -> bool:
        """A write isn't refused."""
        return any(f.access != "ro" for f in self.fields)

    def field(self, name: str) -> Field:
        """A field by name."""
        return next(f for f in self.fields if f.name == name)


@dataclass(frozen=True)
class RegisterMap:
    """All registers of a design, and what a host needs to know beside them.

    :param counters: names of the counters, in the order of their registers.
    :param sites: what DATA reaches, by number.
    """

    registers: tuple[Register, ...]
    options: AxiOptions
    identity: str
    inputs: SlotFormat
    outputs: SlotFormat
    counters: tuple[str, ...]
    sites: tuple[Site | Store, ...] = field(default=())

    @cached_property
    def by_name(self) -> dict[str, Register]:
        """Registers by name."""
        return {r.name: r for r in self.registers}

    def __getitem__(self, name: str) -> Register:
        return self.by_name[name]

    def counter(self, number: int) -> Register:
        """The register of a counter."""
        return self.by_name[f"COUNTER{number}"]

    def plain(self) -> dict[str, Any]:
        """As plain data, for JSON; keys are the dataclasses' fields."""
        return {
            "version": VERSION,
            "identity": self.identity,
            "address_bits": self.options.address_bits,
            "registers": [asdict(r) for r in self.registers],
            "inputs": asdict(self.inputs),
            "outputs": asdict(self.outputs),
            "counters": list(self.counters),
            "sites": [{"what": "weights" if isinstance(s, Site) else s.what, **asdict(s)} for s in self.sites],
        }


def slot_formats(network: Network, options: HardwareOptions, axi: AxiOptions) -> tuple[SlotFormat, SlotFormat]:
    """Of the input and the output stream."""

    def port(name: str) -> Port:
        node = network.nodes[name]
        lanes, classes = event_lanes(network, options, name), event_classes(network, options, name)
        return Port(name, node.size, node.value_range, lanes, classes, node.shape)

    ports = [port(i.name) for i in network.inputs]
    if axi.learning is not None:
        ports.append(Port(LABEL, network.nodes[network.outputs[0]].size, (0, 1)))
    return SlotFormat(tuple(ports), axi.data_bits), SlotFormat(tuple(map(port, network.outputs)), axi.data_bits)


def sites(network: Network, options: HardwareOptions, axi: AxiOptions) -> tuple[Site | Store, ...]:
    """What the weight registers reach."""
    if not axi.writable and axi.learning is None:
        return ()
    found: list[Site | Store] = []
    projections = [q for q in network.projections if q.pattern != "pool"]
    if axi.learning is not None:
        projections = [*on_chip.chain(network, axi.learning).projections]
    for q in projections:
        found.append(
            Site(
                len(found),
                q.name,
                "dense" if q.geometry is None else "conv",
                tuple(q.weights.shape),
                q.weight_bits,
                options.lanes[q.target].synapse,
                event_classes(network, options, q.source),
                network.nodes[q.source].shape,
                network.nodes[q.target].shape,
                1 if q.geometry is None else q.geometry.groups,
                32 if axi.learning is not None else 8 if q.weight_bits <= 8 else 16,
            )
        )
    if axi.learning is not None:
        for q in projections:
            size, lanes = len(q.weights), options.lanes[q.target]
            words = Order(size, None, lanes).words
            found.append(Store(len(found), "errors", q.name, words, lanes.synapse, size, writable=False))
        for q in projections:
            found.append(Store(len(found), "threshold", q.name, 1, 1, 1))
        found.append(Store(len(found), "samples", network.name, 1, 1, 1))
    return tuple(found)


def counters(network: Network, axi: AxiOptions) -> tuple[str, ...]:
    """Counters, in the order of their registers."""
    if axi.learning is None:
        return network.counter_names
    return tuple(dict.fromkeys((*network.counter_names, *on_chip.OnChip(network, axi.learning).counters)))


def _flag(low: int, name: str, description: str, access: Access = "ro") -> Field:
    return Field(name, low, 1, description, access)


def _constants(name: str, address: int, description: str, *parts: tuple[str, int, int, int, str]) -> Register:
    fields = tuple(Field(n, low, bits, text, "ro", value, True) for n, low, bits, value, text in parts)
    for f in fields:
        if not 0 <= f.reset < 1 << f.bits:
            raise ValueError(f"register {name}.{f.name}: expected at most {(1 << f.bits) - 1}, got {f.reset}")
    return Register(name, address, description, fields)


def _number(name: str, address: int, value: int, description: str) -> Register:
    return _constants(name, address, description, ("VALUE", 0, 32, value, description))


def _log2(n: int) -> int:
    return n.bit_length() - 1


def _slot(name: str, address: int, slots: SlotFormat, which: str) -> Register:
    return _constants(
        name,
        address,
        f"Slots of the {which} stream.",
        ("SLOT_BITS", 0, 8, slots.slot_bits, "bits of a slot"),
        ("INDEX_BITS", 8, 8, slots.index_bits, "bits of the index"),
        ("VALUE_BITS", 16, 8, slots.value_bits, "bits of the value, 0 where there is none"),
        ("PORT_BITS", 24, 8, slots.port_bits, "bits of the port's number"),
    )


def _node(name: str, address: int, port: Port) -> list[Register]:
    channel, column = port.coordinate_bits[:2] if port.shape is not None else (0, 0)
    return [
        _number(f"{name}_SIZE", address, port.size, "Sources."),
        _constants(
            f"{name}_FORMAT",
            address + 4,
            "Events.",
            ("VALUE_BITS", 0, 6, port.value_bits, "bits of a value; 1 unsigned bit: spikes"),
            ("SIGNED", 6, 1, int(port.signed), "values may be negative"),
            ("MAP", 7, 1, int(port.shape is not None), "the index is coordinates"),
            ("CHANNEL_BITS", 8, 5, channel, "of a map's index"),
            ("COLUMN_BITS", 16, 5, column, "of a map's index"),
            ("LANES_LOG2", 24, 4, _log2(port.lanes), "events a cycle, logarithm"),
            ("CLASSES_LOG2", 28, 4, _log2(port.classes), "residue classes, logarithm"),
        ),
    ]


def _fixed(network: Network, axi: AxiOptions, inputs: SlotFormat, outputs: SlotFormat, counts: int, sites: int) -> Any:
    """Registers below `NODES`."""
    high, low = int(identity(network)[:8], 16), int(identity(network)[8:], 16)
    learns = axi.learning is not None
    yield _number("ID", 0x000, ID, "This is an apical AXI system.")
    yield _number("VERSION", 0x004, VERSION, "Version of the interface.")
    yield _number("IDENTITY_HIGH", 0x008, high, "The network's identity, first 8 hex digits.")
    yield _number("IDENTITY_LOW", 0x00C, low, "The network's identity, last 8 hex digits.")
    yield _number("MAP", 0x010, 0, "First 32 bits of the SHA-256 of this map's JSON.")
    yield _constants(
        "FEATURES",
        0x014,
        "What the design has.",
        ("WRITABLE", 0, 1, int(axi.writable), "weights can be loaded"),
        ("LEARNING", 1, 1, int(learns), "the chip learns"),
        ("POINTS", 16, 16, network.points, "operating points, 1 without gates"),
    )
    yield _constants(
        "PORTS",
        0x018,
        "Event streams.",
        ("INPUTS", 0, 16, len(network.inputs), "inputs"),
        ("OUTPUTS", 16, 16, len(network.outputs), "outputs"),
    )
    yield _constants(
        "UNITS",
        0x01C,
        "Size of the network.",
        ("POPULATIONS", 0, 16, len(network.populations), "populations"),
        ("PROJECTIONS", 16, 16, len(network.projections), "projections"),
    )
    yield _constants(
        "BLOCKS",
        0x020,
        "Blocks of registers and weights.",
        ("COUNTERS", 0, 16, counts, "counters"),
        ("SITES", 16, 16, sites, "sites of weights"),
    )
    yield _constants("STREAM", 0x024, "Words.", ("DATA_BITS", 0, 16, axi.data_bits, "bits of a word"))
    yield _slot("INPUT_SLOT", 0x028, inputs, "input")
    yield _slot("OUTPUT_SLOT", 0x02C, outputs, "output")
    enable = _flag(0, "ENABLE", "words go into the datapath", "rw")
    flush = _flag(1, "FLUSH", "words that wait and words that come are dropped", "rw")
    yield Register("CONTROL", 0x040, "What the input does.", (enable, flush))
    reset = _flag(0, "SOFT_RESET", "datapath, streams and counters begin anew", "wo")
    snapshot = _flag(1, "SNAPSHOT", "all counters are copied in one cycle", "wo")
    yield Register("COMMAND", 0x044, "Written 1, a bit acts once.", (reset, snapshot))
    yield Register(
        "STATUS",
        0x048,
        "What the system does.",
        (
            _flag(0, "BUSY", "a sample is under way, or words of it wait to leave"),
            _flag(1, "RESETTING", "the soft reset is on"),
            _flag(2, "STOPPED", "the input drops words after an error, until a soft reset"),
            _flag(3, "WAITING", "a word waits on m_axis"),
        ),
    )
    yield Register(
        "FRAMING",
        0x04C,
        "What TUSER and TLAST mean; write while not busy.",
        (
            _flag(0, "TUSER", "in: TUSER ends ticks", "rw"),
            _flag(1, "TLAST", "in: TLAST ends samples", "rw"),
            _flag(2, "OUT_TICKS", "out: TLAST ends each tick, not each sample", "rw"),
        ),
    )
    yield Register(
        "ERRORS",
        0x050,
        "Sticky errors.",
        (
            _flag(0, "MALFORMED", "a word with bits that must be 0, an unknown port, or part of a slot", "w1c"),
            _flag(1, "INDEX", "an event of a source that the port hasn't", "w1c"),
            _flag(2, "VALUE", "a value out of range, or 0", "w1c"),
            _flag(3, "FRAMING", "marks of ticks, samples and packets are at odds", "w1c"),
            _flag(4, "ACCESS", "an access got SLVERR", "w1c"),
            _flag(5, "WRAPPED", "a counter passed its end", "w1c"),
            _flag(6, "SATURATED", "a weight or error saturated while learning", "w1c"),
        ),
    )
    for name, address, access in (("INTERRUPT_ENABLE", 0x054, "rw"), ("INTERRUPT_PENDING", 0x058, "w1c")):
        sample = _flag(0, "SAMPLE", "a sample's last word was taken", access)  # type: ignore[arg-type]
        error = _flag(1, "ERROR", "a bit of ERRORS was set", access)  # type: ignore[arg-type]
        yield Register(name, address, "Interrupts.", (sample, error))
    yield Register("SAMPLES_IN", 0x05C, "Samples that went in.", (Field("VALUE", 0, 32, "samples"),))
    yield Register("SAMPLES_OUT", 0x060, "Samples that came out.", (Field("VALUE", 0, 32, "samples"),))
    if network.points > 1:
        yield _choice("POINT", 0x064, "Operating point of the gates.", network.points, network.point)
    if learns:
        yield Register("LEARN", 0x068, "Learning.", (_flag(0, "ENABLE", "samples are learned", "rw"),))
        yield _choice("LABEL", 0x06C, "Class of the sample.", network.nodes[network.outputs[0]].size)


def _choice(name: str, address: int, description: str, choices: int, reset: int = 0) -> Register:
    bits = max((choices - 1).bit_length(), 1)
    return Register(name, address, description, (Field("VALUE", 0, bits, "number", "rw", reset, most=choices - 1),))


def _weights(found: tuple[Site | Store, ...]) -> Iterable[Register]:
    rows, chunks = max(s.rows for s in found), max(s.chunks for s in found)
    yield _choice("SITE", 0x070, "Which weights; sets ROW and CHUNK to 0.", len(found))
    for name, address, most in (("ROW", 0x074, rows), ("CHUNK", 0x078, chunks)):
        place = Field("VALUE", 0, most.bit_length(), "number", "rw")
        yield Register(name, address, f"{name.capitalize()} of the next access to DATA.", (place,))
    yield Register("DATA", 0x07C, "The weights there; moves on.", (Field("VALUE", 0, 32, "fields", "rw"),), True)
    yield Register("SITE_ROWS", 0x080, "Rows of the site.", (Field("VALUE", 0, 32, "rows"),))
    yield Register("SITE_CHUNKS", 0x084, "Chunks of a row of the site.", (Field("VALUE", 0, 32, "chunks"),))


def register_map(network: Network, options: HardwareOptions, axi: AxiOptions | None = None) -> RegisterMap:
    """The registers of a design.

    :raises ValueError: options that exclude each other, or more registers than addresses; HardwareError: lanes.
    """
    axi = axi or AxiOptions()
    check_options(network, options)
    if axi.writable and axi.learning is not None:
        raise ValueError("AXI: expected writable weights or learning, got both; a learning design's are writable")
    inputs, outputs = slot_formats(network, options, axi)
    names, found = counters(network, axi), sites(network, options, axi)
    out: list[Register] = list(_fixed(network, axi, inputs, outputs, len(names), len(found)))
    out += _weights(found) if found else []
    at = NODES
    for kind, ports in (("INPUT", inputs.ports[: len(network.inputs)]), ("OUTPUT", outputs.ports)):
        for n, port in enumerate(ports):
            out += _node(f"{kind}{n}", at, port)
            at += 8
    for n, p in enumerate(network.populations):
        lanes = options.lanes[p.name]
        out.append(_number(f"POPULATION{n}_SIZE", at, p.size, "Neurons."))
        parts = (
            ("SYNAPSE", 0, 13, lanes.synapse, "synapse lanes"),
            ("NEURON", 16, 13, lanes.neuron, "neuron lanes"),
            ("EVENT_LOG2", 29, 3, _log2(lanes.event), "event lanes, logarithm"),
        )
        out.append(_constants(f"POPULATION{n}_LANES", at + 4, "Lanes.", *parts))
        at += 8
    at = -(-at // BLOCK) * BLOCK
    for n in range(len(names)):
        value = Field("VALUE", 0, 32, "count at the last snapshot")
        out.append(Register(f"COUNTER{n}", at + 4 * n, f"Counter {n}.", (value,)))
    last = at + 4 * len(names)
    if last > 1 << axi.address_bits:
        raise ValueError(f"AXI: the registers end at {last:#x}; expected more than {axi.address_bits} address bits")
    made = RegisterMap(tuple(out), axi, identity(network), inputs, outputs, names, found)
    digest = hashlib.sha256(json.dumps(made.plain(), sort_keys=True).encode()).hexdigest()[:8]
    hashed = _number("MAP", 0x010, int(digest, 16), made["MAP"].description)
    return RegisterMap(
        tuple(hashed if r.name == "MAP" else r for r in out), axi, made.identity, inputs, outputs, names, found
    )
