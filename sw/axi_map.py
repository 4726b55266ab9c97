"""What `registers.json` of a design says, for hosts (docs/reference/axi.md); standard library and numpy alone."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from apical.sw.axi_weights import Site, Store
from apical.sw.axi_words import Port, SlotFormat

VERSION = 1  # of the interface that these files speak
Source = str | Path | Mapping[str, Any]


class MapError(ValueError):
    """A file that isn't the registers of a design."""


@dataclass(frozen=True)
class Bits:
    """A field of a register."""

    low: int
    mask: int
    access: str
    meaning: str


@dataclass(frozen=True)
class AxiMap:
    """The registers, streams, counters and weights of a design.

    :param addresses: byte offset of each register. :param constants: values of those that never change.
    :param fields: by register and name.
    """

    identity: str
    addresses: Mapping[str, int]
    constants: Mapping[str, int]
    fields: Mapping[str, Mapping[str, Bits]]
    inputs: SlotFormat
    outputs: SlotFormat
    counters: tuple[str, ...]
    sites: tuple[Site | Store, ...]

    @property
    def ports(self) -> tuple[Port, ...]:
        """The network's inputs, without the label."""
        return self.inputs.ports[: len(self.inputs.ports) - self.learns]

    @property
    def learns(self) -> bool:
        """The chip learns."""
        return "LEARN" in self.addresses

    def get(self, register: str, field: str, value: int) -> int:
        """A field of a register's value."""
        bits = self.fields[register][field]
        return (value & bits.mask) >> bits.low

    def names(self, register: str, value: int) -> tuple[str, ...]:
        """Fields of a register that aren't 0."""
        return tuple(name for name, bits in self.fields[register].items() if value & bits.mask)

    @classmethod
    def read(cls, source: Source) -> AxiMap:
        """From a path, or from the file's content.

        :raises MapError: missing, of another version, or changed since it was made.
        """
        if isinstance(source, Mapping):
            plain, where = dict(source), "registers"
        else:
            where = str(source)
            try:
                plain = json.loads(Path(source).read_text(encoding="utf-8"))
            except (OSError, ValueError) as error:
                raise MapError(f"{where}: expected a design's registers.json: {error}") from None
        try:
            if plain["version"] != VERSION:
                raise MapError(f"{where}: expected version {VERSION}, got {plain['version']}")
            made = cls._of(plain)
            digest = _digest(plain)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, MapError):
                raise
            raise MapError(f"{where}: expected a design's registers.json: {type(error).__name__} {error}") from None
        if digest != made.constants["MAP"]:
            raise MapError(f"{where}: expected hash {made.constants['MAP']:08x}, got {digest:08x}: changed since made")
        return made

    @classmethod
    def _of(cls, plain: Mapping[str, Any]) -> AxiMap:
        registers = plain["registers"]
        fields = {
            r["name"]: {
                f["name"]: Bits(f["low"], ((1 << f["bits"]) - 1) << f["low"], f["access"], f["description"])
                for f in r["fields"]
            }
            for r in registers
        }
        constants = {
            r["name"]: sum(f["reset"] << f["low"] for f in r["fields"])
            for r in registers
            if all(f["constant"] for f in r["fields"])
        }
        return cls(
            plain["identity"],
            {r["name"]: r["address"] for r in registers},
            constants,
            fields,
            _slots(plain["inputs"]),
            _slots(plain["outputs"]),
            tuple(plain["counters"]),
            tuple(map(_site, plain["sites"])),
        )


def _digest(plain: Mapping[str, Any]) -> int:
    """The map's hash, which register MAP holds: of the map with 0 there."""
    registers = [
        {**r, "fields": [{**f, "reset": 0} for f in r["fields"]]} if r["name"] == "MAP" else r
        for r in plain["registers"]
    ]
    text = json.dumps({**plain, "registers": registers}, sort_keys=True)
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16)


def _slots(plain: Mapping[str, Any]) -> SlotFormat:
    return SlotFormat(tuple(Port(**_tuples(p)) for p in plain["ports"]), plain["data_bits"])


def _site(plain: Mapping[str, Any]) -> Site | Store:
    if plain["what"] != "weights":
        return Store(**plain)
    return Site(**_tuples({k: v for k, v in plain.items() if k != "what"}))


def _tuples(plain: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(v) if isinstance(v, list) else v for k, v in plain.items()}
