"""The register map: declared once, consistent, and every text made from it says the same."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from apical.hw import register_text
from apical.hw.design import HardwareOptions, Lanes
from apical.hw.register_map import AxiOptions, RegisterMap, register_map
from apical.sw.axi_weights import Site
from apical.sw.axi_words import Port
from apical.sw.bundle import identity
from apical.sw.laws import Format, Lif
from apical.sw.network import Input, Network, Population, Projection

HOSTILE = '*/ "x" \\ endmodule'


def network() -> Network:
    params = {"decay": np.array([240]), "threshold": np.array([5]), "bias": np.array([0])}
    weights = np.ones((6, 12), np.int64)
    return Network(
        (Input("image", 12, Format(4), (3, 2, 2)), Input(HOSTILE, 12)),
        (Population("h", 6, Lif(state_bits=10), params),),
        (Projection("p", "image", "h", weights), Projection("q", HOSTILE, "h", weights, weight_bits=12)),
        ("h",),
    )


LANES = HardwareOptions({"h": Lanes(4, 2, 2)}, {"image": 2})


@pytest.fixture
def registers() -> RegisterMap:
    return register_map(network(), LANES, AxiOptions(writable=True))


def test_no_two_registers_or_fields_share_a_place(registers: RegisterMap) -> None:
    addresses = [r.address for r in registers.registers]
    assert addresses == sorted(set(addresses)) and not any(a % 4 for a in addresses)
    for r in registers.registers:
        used = 0
        for f in r.fields:
            assert not used & f.mask and f.mask < 1 << 32 and f.reset < 1 << f.bits
            used |= f.mask


def test_names_are_made_of_indices(registers: RegisterMap) -> None:
    for r in registers.registers:
        assert all(re.fullmatch(r"[A-Z][A-Z0-9_]*", name) for name in (r.name, *(f.name for f in r.fields)))


def test_fixed_addresses_are_those_of_the_reference_page(registers: RegisterMap) -> None:
    page = (Path(__file__).parent.parent / "docs" / "reference" / "axi.md").read_text(encoding="utf-8")
    told: dict[str, int] = {}
    for addresses, names in re.findall(r"^\| (0x[0-9A-F]{3}(?:, 0x[0-9A-F]{3})?) \| (`[^|]*`) \|", page, re.MULTILINE):
        told |= dict(zip(re.findall(r"`(\w+)`", names), (int(a, 16) for a in addresses.split(", ")), strict=True))
    assert {r.name: r.address for r in registers.registers if r.address < 0x100}.items() <= told.items()
    assert set(told) - {r.name for r in registers.registers} == {"POINT", "LEARN", "LABEL"}


def test_constants_say_what_the_network_is(registers: RegisterMap) -> None:
    assert f"{registers['IDENTITY_HIGH'].reset:08x}{registers['IDENTITY_LOW'].reset:08x}" == identity(network())
    assert registers["PORTS"].reset == 2 | 1 << 16
    image = registers["INPUT0_FORMAT"]
    assert image.reset == 4 | 1 << 6 | 1 << 7 | 2 << 8 | 1 << 16 | 1 << 24
    assert registers["POPULATION0_LANES"].reset == 4 | 2 << 16 | 1 << 29


def test_the_map_hash_tells_maps_apart(registers: RegisterMap) -> None:
    same = register_map(network(), LANES, AxiOptions(writable=True))
    others = [register_map(network(), LANES), register_map(network(), LANES, AxiOptions(128, writable=True))]
    assert same["MAP"].reset == registers["MAP"].reset
    assert len({m["MAP"].reset for m in (registers, *others)}) == 3


def test_json_has_what_a_host_needs(registers: RegisterMap) -> None:
    text = register_text.as_json(registers)
    assert text.isascii()
    plain = json.loads(text)
    assert {r["name"]: r["address"] for r in plain["registers"]} == {r.name: r.address for r in registers.registers}
    ports = [Port(**{**p, "value_range": tuple(p["value_range"])}) for p in plain["inputs"]["ports"][1:]]
    assert tuple(ports) == registers.inputs.ports[1:]
    first = {k: v for k, v in plain["sites"][1].items() if k != "what"}
    assert Site(**{**first, "shape": tuple(first["shape"])}) == registers.sites[1]
    assert plain["counters"] == list(network().counter_names)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
def test_the_c_header_compiles_and_has_the_addresses(registers: RegisterMap, tmp_path: Path) -> None:
    header = register_text.as_header(registers)
    assert HOSTILE not in header and header.isascii()
    (tmp_path / "apical.h").write_text(header)
    checks = [f'_Static_assert(APICAL_{r.name} == {r.address}, "");' for r in registers.registers]
    checks.append('_Static_assert(APICAL_STATUS_STOPPED_MASK == 4, "");')
    checks.append('_Static_assert(APICAL_IN0_INDEX(2, 1, 0) == 10, "");')
    (tmp_path / "t.c").write_text('#include "apical.h"\n#include "apical.h"\n' + "\n".join(checks))
    command = ["gcc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", "t.c"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)


def test_markdown_and_systemrdl_list_every_register(registers: RegisterMap) -> None:
    table, rdl = register_text.as_markdown(registers), register_text.as_rdl(registers)
    for r in registers.registers:
        assert f"| 0x{r.address:03x} | `{r.name}` |" in table
        assert f"}} {r.name} @ 0x{r.address:x};" in rdl
        for f in r.fields:
            assert f"}} {f.name}[{f.low + f.bits - 1}:{f.low}]" in rdl
    assert rdl.count("{") == rdl.count("}") and HOSTILE not in rdl + table
    assert all(line.count("|") == 8 for line in table.splitlines())


def test_a_field_that_cannot_hold_its_constant_is_refused() -> None:
    many = HardwareOptions({"h": Lanes(4096, 4096, 4096)})
    with pytest.raises(ValueError, match=r"^register POPULATION0_LANES.EVENT_LOG2: expected at most 7, got 12$"):
        register_map(network(), many)
