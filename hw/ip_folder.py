"""What a hardware team gets of a network on an UltraScale+ board: RTL, IP, scripts, constraints, driver, lists.

rtl/            apical_axi.v
vivado/         package_ip.tcl, system.tcl, project.tcl, non_project.tcl, out_of_context.tcl
constraints/    board.xdc, apical_axi_ooc.xdc
driver/         registers: C header, JSON (what a Python host reads), Markdown, SystemRDL; with a processing
                system drivers in Python and C, a sample and its result (`apical.hw.driver_files`)
apical.core, apical.eda.yml     FuseSoC, edalize
design.json     identity, lanes, options, clock, addresses
"""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from apical.hw import core_file, register_text, vivado
from apical.hw.axi_system import AxiSystem
from apical.hw.boards import Board
from apical.hw.design import HardwareOptions
from apical.hw.driver_files import driver_files
from apical.hw.register_map import AxiOptions
from apical.hw.vivado import BASES, Interface
from apical.sw.bundle import identity
from apical.sw.network import Network


def design_facts(
    board: Board, network: Network, options: HardwareOptions, axi: AxiOptions, mhz: float
) -> dict[str, Any]:
    """What the folder holds, as plain data; addresses as integers."""
    base, second, third = BASES[board.processor]
    more = {"dma": second} if board.processor else {"fifo": second, "fifo_words": third}
    return {
        "identity": identity(network),
        "board": board.name,
        "part": board.part,
        "clock_mhz": mhz,
        "lanes": {name: asdict(lanes) for name, lanes in options.lanes.items()},
        "input_event_lanes": dict(options.input_event_lanes),
        "data_bits": axi.data_bits,
        "address_bits": axi.address_bits,
        "writable": axi.writable,
        "addresses": {"registers": base, **more},
        "top": vivado.TOP,
    }


def texts(
    network: Network, board: Board, options: HardwareOptions, axi: AxiOptions | None = None, mhz: float | None = None
) -> dict[str, str]:
    """Every file by its path. Same network, board and options, same bytes.

    :param mhz: the design's clock; the board's `design_mhz` unless given.
    :raises VivadoError: a board that no Vivado project can be made for. :raises HardwareError: options that don't fit.
    """
    axi, clock = axi or AxiOptions(), float(mhz or board.design_mhz or 100.0)
    interface = Interface(identity(network), axi.address_bits, axi.data_bits)
    files = vivado.scripts(board, interface, clock)
    system = AxiSystem(network, options, axi)
    facts = design_facts(board, network, options, axi, clock)
    where = ", ".join(f"{name.replace('_', ' ')} at 0x{address:08X}" for name, address in facts["addresses"].items())
    readme = vivado.render(
        "readme.md",
        {
            "top": vivado.TOP,
            "title": vivado.Raw(board.title),
            "identity": interface.identity,
            "processor": board.processor,
            "core": core_file.CORE,
            "edam": core_file.EDAM,
            "mhz": clock,
            "where": vivado.Raw(where),
        },
    )
    return (
        files
        | (driver_files(network, options, axi, addresses=BASES[True][:2]) if board.processor else {})
        | {
            f"rtl/{vivado.TOP}.v": system.verilog(),
            "driver/apical_registers.h": register_text.as_header(system.map),
            "driver/registers.json": register_text.as_json(system.map),
            "driver/registers.md": register_text.as_markdown(system.map),
            "driver/registers.rdl": register_text.as_rdl(system.map),
            core_file.CORE: core_file.core(board, interface),
            core_file.EDAM: core_file.edam(board, interface),
            "design.json": json.dumps(facts, indent=1) + "\n",
            "README.md": readme,
        }
    )


def rtlil(network: Network, options: HardwareOptions, axi: AxiOptions | None = None) -> str:
    """The system in Yosys's format, for its area."""
    return AxiSystem(network, options, axi).rtlil()
