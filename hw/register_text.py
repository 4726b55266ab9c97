"""A register map as text: C header, JSON, Markdown table, SystemRDL. Nothing of a model's names gets in raw."""

from __future__ import annotations

import json
import re

from apical.hw.register_map import Field, Register, RegisterMap
from apical.sw.axi_words import Port, SlotFormat

PREFIX = "APICAL"


def plain_name(name: str) -> str:
    """A model's name for a comment: letters, digits and a few marks; anything else becomes `?`."""
    return re.sub(r"[^A-Za-z0-9 _.:+-]", "?", name)


def as_json(registers: RegisterMap) -> str:
    """Everything a host needs, as `RegisterMap.plain` says; ASCII."""
    return json.dumps(registers.plain(), indent=1, sort_keys=True) + "\n"


def _slots(name: str, slots: SlotFormat) -> list[str]:
    out = []
    for what, value in (
        ("SLOT_BITS", slots.slot_bits),
        ("SLOTS", slots.slots),
        ("INDEX_BITS", slots.index_bits),
        ("VALUE_BITS", slots.value_bits),
        ("PORT_SHIFT", slots.index_bits + slots.field_bits),
    ):
        out.append(f"#define {PREFIX}_{name}_{what} {value}u")
    for what, flag in (("EVENT", slots.event), ("LAST", slots.last), ("FINAL", slots.final)):
        out.append(f"#define {PREFIX}_{name}_{what} 0x{flag:x}{'ull' if slots.slot_bits > 32 else 'u'}")
    for n, port in enumerate(slots.ports):
        out.append(f"/* {name.lower()} port {n}: {plain_name(port.name)}, {_port(port)} */")
        if port.shape is not None:
            channel, column, _ = port.coordinate_bits
            index = f"((uint32_t)(row) << {column + channel} | (uint32_t)(column) << {channel} | (uint32_t)(channel))"
            out.append(f"#define {PREFIX}_{name}{n}_INDEX(channel, row, column) {index}")
    return out


def _port(port: Port) -> str:
    kind = "spikes" if port.binary else f"values {port.value_range[0]} to {port.value_range[1]}"
    shape = "" if port.shape is None else f", map of {port.shape[0]} x {port.shape[1]} x {port.shape[2]}"
    return f"{port.size} sources{shape}, {kind}"


def as_header(registers: RegisterMap) -> str:
    """A C header: an offset per register, mask and shift per field, the slots of both streams; C99 with stdint.h."""
    out = [
        "/* Registers of an apical AXI system; generated. Offsets are in bytes. */",
        f"#ifndef {PREFIX}_REGISTERS_H",
        f"#define {PREFIX}_REGISTERS_H",
        "#include <stdint.h>",
        "",
        f"#define {PREFIX}_NETWORK_IDENTITY 0x{registers.identity}ull",
        f"#define {PREFIX}_MAP_HASH 0x{registers['MAP'].reset:08x}u",
        f"#define {PREFIX}_COUNTERS {len(registers.counters)}u",
        "",
    ]
    for r in registers.registers:
        out.append(f"#define {PREFIX}_{r.name} 0x{r.address:03x}u{_comment(registers, r)}")
        for f in r.fields:
            if len(r.fields) > 1 or f.bits < 32:
                out.append(f"#define {PREFIX}_{r.name}_{f.name}_SHIFT {f.low}u")
                out.append(f"#define {PREFIX}_{r.name}_{f.name}_MASK 0x{f.mask:08x}u")
    out += ["", *_slots("IN", registers.inputs), *_slots("OUT", registers.outputs), "", "#endif", ""]
    return "\n".join(out)


def _comment(registers: RegisterMap, register: Register) -> str:
    return f" /* {_says(registers, register)} */"


def _says(registers: RegisterMap, register: Register) -> str:
    """A register's description; a counter's own name."""
    if register.name.startswith("COUNTER"):
        return plain_name(registers.counters[int(register.name.removeprefix("COUNTER"))])
    return register.description


def as_markdown(registers: RegisterMap) -> str:
    """A table of registers and fields."""
    out = ["| address | register | bits | field | access | reset | meaning |", "|---|---|---|---|---|---|---|"]
    for r in registers.registers:
        for n, f in enumerate(r.fields):
            first = f"0x{r.address:03x} | `{r.name}`" if n == 0 else " | "
            meaning = _says(registers, r) if len(r.fields) == 1 else f.description
            out.append(f"| {first} | {_bits(f)} | `{f.name}` | {f.access} | 0x{f.reset:x} | {meaning} |")
    return "\n".join(out) + "\n"


def _bits(f: Field) -> str:
    return f"{f.low}" if f.bits == 1 else f"{f.low + f.bits - 1}:{f.low}"


RDL = {
    "ro": "sw = r; hw = w;",
    "rw": "sw = rw; hw = r;",
    "w1c": "sw = rw; onwrite = woclr; hw = w; hwset;",
    "wo": "sw = w; singlepulse; hw = r;",
}


def as_rdl(registers: RegisterMap) -> str:
    """SystemRDL 2.0: one address map."""
    out = ["// Registers of an apical AXI system; generated.", "addrmap apical_axi {"]
    out += ["    default regwidth = 32;", "    default accesswidth = 32;", "    littleendian;"]
    for r in registers.registers:
        out += ["    reg {", f'        desc = "{_says(registers, r)}";']
        for f in r.fields:
            access = "sw = r; hw = na;" if f.constant else RDL[f.access]
            # A window's value is no storage of the register's own.
            reset = "" if r.window or (f.access == "ro" and not f.constant) else f" = 0x{f.reset:x}"
            span = f"[{f.low + f.bits - 1}:{f.low}]"
            out.append(f'        field {{ desc = "{f.description}"; {access} }} {f.name}{span}{reset};')
        out.append(f"    }} {r.name} @ 0x{r.address:x};")
    return "\n".join([*out, "};", ""])
