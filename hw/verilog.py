"""Verilog text of a network: deterministic, names made of indices only, no paths in it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from typing import Any

from amaranth.hdl import Fragment

from apical.hw.accelerator import Top, check_options
from apical.hw.design import Design, HardwareOptions, Manifest
from apical.hw.verilog_text import convert, convert_rtlil
from apical.sw.network import Network


def generate_rtlil(network: Network, options: HardwareOptions) -> str:
    """The same design as `generate` in Yosys's own format, for synthesis: much quicker to read."""
    check_options(network, options)
    top = Top(network, options)
    fragment = Fragment.get(top, None)
    return convert_rtlil(fragment, top.manifest.top, list(top.ports.values()))


def plain_manifest(manifest: Manifest) -> dict[str, Any]:
    """The manifest as plain data; streams without a shape don't mention one."""
    plain = asdict(manifest)
    for stream in (*plain["inputs"], *plain["outputs"]):
        if stream["shape"] is None:
            del stream["shape"]
    return plain


def generate(network: Network, options: HardwareOptions) -> Design:
    """Generate the accelerator's Verilog.

    :returns: text, manifest and identity; equal for equal network and options.
    :raises HardwareError: options that don't fit the network.
    """
    check_options(network, options)
    top = Top(network, options)
    fragment = Fragment.get(top, None)  # elaborates once, which makes the ports
    text = convert(fragment, top.manifest.top, list(top.ports.values()))
    manifest = json.dumps(plain_manifest(top.manifest), sort_keys=True)
    digest = hashlib.sha256((manifest + text).encode()).hexdigest()[:16]
    return Design(text, top.manifest, digest, network, options)
