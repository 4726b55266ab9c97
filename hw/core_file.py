"""The IP for a hardware team's own flow: a FuseSoC core file (CAPI2) and an edalize file list (EDAM).

Both name the files of `apical.hw.vivado` relative to their own folder. Nothing of a model's names is in them.
"""

from __future__ import annotations

from typing import Any

import yaml

from apical.hw.boards import Board
from apical.hw.vivado import Interface, word

CORE, EDAM = "apical.core", "apical.eda.yml"
VERILOG, XDC = "verilogSource-2005", "xdc"


def _files(interface: Interface) -> tuple[str, str]:
    return f"rtl/{interface.top}.v", f"constraints/{interface.top}_ooc.xdc"


def core(board: Board, interface: Interface) -> str:
    """CAPI2 text, with the targets `default`, `lint` (Verilator) and `synth` (Vivado, out of context)."""
    rtl, constraints = _files(interface)
    top, part = word(interface.top), word(board.part)
    content = {
        "name": f"apical:user:{top}:1.0.0",
        "description": f"Apical accelerator, network {word(interface.identity)}; not run on silicon",
        "filesets": {
            "rtl": {"files": [rtl], "file_type": VERILOG},
            "constraints": {"files": [constraints], "file_type": XDC},
        },
        "targets": {
            "default": {"filesets": ["rtl"], "toplevel": top},
            "lint": {
                "description": "Verilator's lint",
                "filesets": ["rtl"],
                "flow": "lint",
                "flow_options": {"tool": "verilator", "verilator_options": ["-Wno-fatal", "-Wno-lint"]},
                "toplevel": top,
            },
            "synth": {
                "description": f"Vivado for {part}, out of context",
                "filesets": ["rtl", "constraints"],
                "flow": "vivado",
                "flow_options": {"part": part, "pnr": "none", "synth": "vivado"},
                "toplevel": top,
            },
        },
    }
    return "CAPI=2:\n" + yaml.safe_dump(content, sort_keys=False, width=120)


def edam(board: Board, interface: Interface) -> str:
    """EDAM text: what `edalize.flows` takes."""
    rtl, constraints = _files(interface)
    content: dict[str, Any] = {
        "version": "0.2.1",
        "name": word(interface.top),
        "toplevel": word(interface.top),
        "files": [
            {"name": rtl, "file_type": VERILOG},
            {"name": constraints, "file_type": XDC},
        ],
        "parameters": {},
        "flow_options": {"part": word(board.part), "pnr": "none", "synth": "vivado"},
    }
    return yaml.safe_dump(content, sort_keys=False, width=120)
