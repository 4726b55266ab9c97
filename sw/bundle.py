"""Bundles: what export writes and everything downstream starts from.

A bundle is a directory: `network.yaml` (schema below, no aliases, read by a safe loader) and one `.npy` file per
array under `arrays/`, each with shape, type and SHA-256 in the YAML. No pickles. The identity is a hash of all of
it, independent of paths and time.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pydantic
import yaml

from apical.sw.bundle_schema import (
    ArrayEntry,
    BundleEntry,
    GateEntry,
    ProjectionEntry,
    geometry_entry,
    geometry_of,
    shape_entry,
    shape_of,
)
from apical.sw.geometry import GeometryError
from apical.sw.laws import Format, make_law
from apical.sw.network import Gate, Input, IntArray, Network, NetworkError, Population, Projection

VERSION = 2  # written where a network has maps, else 1: identities of older bundles stay
LIMIT_YAML = 1 << 20  # bytes; ours are a few kilobytes
LIMIT_ARRAY = 1 << 30


class BundleError(ValueError):
    """A bundle that can't be trusted or read; the message names file and field."""


class _Loader(yaml.SafeLoader):
    """Safe loader that refuses aliases (no expansion bombs) and repeated keys."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            raise BundleError("expected no YAML aliases, got one")
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(k, deep=True) for k, _ in node.value]
        for key in keys:
            if not isinstance(key, str) or keys.count(key) > 1:
                raise BundleError(f"expected distinct text keys, got {key!r}")
        return super().construct_mapping(node, deep)


def read_yaml(path: Path, limit: int = LIMIT_YAML) -> Any:
    """Parse a small YAML file safely.

    :raises BundleError: missing, too large, not UTF-8, aliases, repeated keys, or not YAML.
    """
    try:
        if path.stat().st_size > limit:
            raise BundleError(f"expected at most {limit} bytes, got {path.stat().st_size}")
        if not path.is_file():
            raise BundleError("expected a plain file")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)
    except BundleError as error:
        raise BundleError(f"{path.name}: {error}") from None
    except FileNotFoundError:
        raise BundleError(f"{path.parent}: expected a bundle directory with {path.name}, found none") from None
    except (OSError, UnicodeDecodeError) as error:
        raise BundleError(f"{path.name}: can't be read: {error}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: impossible dates, endless digits
        raise BundleError(f"{path.name}: not YAML: {str(error).splitlines()[0]}") from None


def _check_replaceable(old: Path, new: Path) -> None:
    """Refuse to replace a folder that holds anything else than what is written: it may be someone's home."""
    names = {p.name for p in old.iterdir()} if old.is_dir() else {f"{old.name}, a file"}
    if other := sorted(names - {p.name for p in new.iterdir()}):
        raise BundleError(f"{old}: expected a new folder or an older one of the same kind, found {other[0]!r} in it")


def write_directory(final: Path, fill: Callable[[Path], None]) -> None:
    """Write a directory under a temporary name by `fill`, then move it to `final`.

    An older directory there is replaced where all that it holds is among what is written. Where anything fails,
    nothing half-written is left under the final name and an older directory stays.

    :raises BundleError: `final` holds other things.
    """
    final = final.resolve()
    final.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", dir=final.parent))
    try:
        fill(temporary)
        temporary.chmod(0o755)
        if final.exists():
            _check_replaceable(final, temporary)
            old = Path(tempfile.mkdtemp(prefix=f".{final.name}.old.", dir=final.parent))
            final.replace(old / "was")
            temporary.replace(final)
            shutil.rmtree(old)
        else:
            temporary.replace(final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def write_file(final: Path, data: bytes | str) -> None:
    """Write a file under a temporary name and move it to `final`; a failure leaves nothing there."""
    final.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{final.name}.", dir=final.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data.encode() if isinstance(data, str) else data)
        Path(name).chmod(0o644)
        Path(name).replace(final)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _smallest(array: IntArray) -> np.ndarray:
    for dtype in (np.int8, np.int16, np.int32):
        info = np.iinfo(dtype)
        if info.min <= array.min() and array.max() <= info.max:
            return np.ascontiguousarray(array.astype(dtype))
    return np.ascontiguousarray(array)


def _hash(array: np.ndarray) -> str:
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(f"{array.dtype.name}{array.shape}".encode() + little.tobytes()).hexdigest()


class _Writer:
    def __init__(self) -> None:
        self.arrays: dict[str, np.ndarray] = {}

    def add(self, file: str, array: IntArray) -> dict[str, Any]:
        small = _smallest(array)
        self.arrays[file] = small
        return {"file": file, "shape": list(small.shape), "dtype": small.dtype.name, "sha256": _hash(small)}


def _describe(network: Network, recipe: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    w = _Writer()
    maps = any(n.shape for n in network.nodes.values())
    document = {
        "apical_bundle": VERSION if maps else 1,
        "name": network.name,
        "inputs": [
            {"name": i.name, "size": i.size, "bits": i.format.bits, "signed": i.format.signed, **shape_entry(i)}
            for i in network.inputs
        ],
        "populations": [
            {
                "name": p.name,
                "size": p.size,
                "law": p.law.name,
                "options": p.law.options(),
                "params": {k: w.add(f"population{n}.{k}.npy", a) for k, a in sorted(p.params.items())},
                "initial": {k: w.add(f"population{n}.initial.{k}.npy", a) for k, a in sorted(p.initial.items())},
                **shape_entry(p),
            }
            for n, p in enumerate(network.populations)
        ],
        "projections": [
            {
                "name": p.name,
                "source": p.source,
                "target": p.target,
                "compartment": p.compartment,
                "pattern": p.pattern,
                "weight_bits": p.weight_bits,
                "delay": p.delay,
                **({"weights": w.add(f"projection{n}.weights.npy", p.weights)} if p.weights.size else {}),
                **geometry_entry(p),
            }
            for n, p in enumerate(network.projections)
        ],
        "outputs": list(network.outputs),
        "decoder": network.decoder,
        "encoding": dict(network.encoding),
        "recipe": dict(recipe),
    }
    if network.gates:
        document["gates"] = [
            {
                "source": g.source,
                "target": g.target,
                "window": g.window,
                "weight_bits": g.weight_bits,
                "weights": w.add(f"gate{n}.weights.npy", g.weights),
                "bias": w.add(f"gate{n}.bias.npy", g.bias),
            }
            for n, g in enumerate(network.gates)
        ]
        document["point"] = network.point
    return document, w.arrays


def identity(network: Network) -> str:
    """Content hash of a network (16 hex digits): same numbers and structure, same identity."""
    document, _ = _describe(network, {})
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:16]


def save(network: Network, path: Path, recipe: Mapping[str, str | int | float | bool] | None = None) -> str:
    """Write a bundle directory (under a temporary name, then moved) and return its identity.

    :param recipe: how it was made (command, seed, figures), kept beside the network, outside the identity.
    """
    document, arrays = _describe(network, recipe or {})

    def fill(folder: Path) -> None:
        (folder / "arrays").mkdir()
        for file, array in arrays.items():
            np.save(folder / "arrays" / file, array, allow_pickle=False)
        (folder / "network.yaml").write_text(
            yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=120), encoding="utf-8"
        )

    write_directory(path, fill)
    return identity(network)


def _npy_header(path: Path) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Shape and type that a `.npy` file claims, without reading (or allocating) its content."""
    with path.open("rb") as stream:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise ValueError(f"format version {version}")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(stream)
        return shape, dtype


def _load_array(folder: Path, spec: ArrayEntry, where: str) -> IntArray:
    path = folder / "arrays" / spec.file
    if path.is_symlink() or not path.is_file():
        raise BundleError(f"{where}: array file arrays/{spec.file} is missing")
    if path.stat().st_size > LIMIT_ARRAY:
        raise BundleError(f"{where}: arrays/{spec.file} has {path.stat().st_size} bytes, more than {LIMIT_ARRAY}")
    try:
        shape, dtype = _npy_header(path)
        fits = dtype.kind in "iuf" and path.stat().st_size >= dtype.itemsize * math.prod(shape)
        array = np.load(path, allow_pickle=False) if fits else np.zeros(0, np.int8)
    except (ValueError, OSError, EOFError) as error:
        raise BundleError(f"{where}: arrays/{spec.file} is not a plain .npy array: {error}") from None
    if dtype.kind != "i":
        nan = " with NaN" if dtype.kind == "f" and bool(np.isnan(array).any()) else ""
        raise BundleError(f"{where}: expected integers ({spec.dtype}), got {dtype}{nan}")
    if not fits or list(shape) != spec.shape or dtype.name != spec.dtype:
        short = "" if fits else ", more than the file holds"
        raise BundleError(
            f"{where}: expected {spec.dtype} of shape {spec.shape}, got {dtype.name} of shape {list(shape)}{short}"
        )
    if _hash(array) != spec.sha256:
        raise BundleError(f"{where}: arrays/{spec.file} doesn't have the SHA-256 that network.yaml states")
    return array.astype(np.int64)


def _parse(path: Path) -> BundleEntry:
    raw = read_yaml(path / "network.yaml")
    if not isinstance(raw, dict):
        raise BundleError(f"network.yaml: expected a mapping, got {type(raw).__name__}")
    if type(raw.get("apical_bundle")) is not int or not 1 <= raw["apical_bundle"] <= VERSION:
        raise BundleError(f"network.yaml: expected apical_bundle: 1 or {VERSION}, got {raw.get('apical_bundle')!r}")
    try:
        return BundleEntry.model_validate(raw)
    except pydantic.ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"network.yaml: {field}: {first['msg']}, got {str(first['input'])[:80]!r}") from None


def _weights(folder: Path, p: ProjectionEntry) -> IntArray:
    where = f"projection {p.name!r}, weights"
    if (p.weights is None) != (p.pattern == "pool"):
        raise BundleError(f"{where}: expected an array, and none of a pool, got {p.weights} of a {p.pattern}")
    return np.zeros(0, np.int64) if p.weights is None else _load_array(folder, p.weights, where)


def _projection(folder: Path, p: ProjectionEntry) -> Projection:
    weights = _weights(folder, p)
    try:
        geometry = geometry_of(p)
    except GeometryError as error:
        raise BundleError(f"projection {p.name!r}, geometry: {error}") from None
    return Projection(p.name, p.source, p.target, weights, p.compartment, p.weight_bits, p.delay, p.pattern, geometry)


def _gate(folder: Path, g: GateEntry) -> Gate:
    weights, bias = (
        _load_array(folder, a, f"gate of {g.target!r}, {n}") for n, a in (("weights", g.weights), ("bias", g.bias))
    )
    return Gate(g.source, g.target, weights, bias, g.window, g.weight_bits)


def load(path: Path) -> Network:
    """Read and check a bundle.

    :raises BundleError: anything missing, extra, out of schema, or different from its hash.
    :raises NetworkError: a readable bundle whose network breaks a rule.
    """
    bundle = _parse(path)
    specs = [a for p in bundle.populations for a in (*p.params.values(), *p.initial.values())]
    specs += [a for g in bundle.gates for a in (g.weights, g.bias)]
    named = {a.file for a in (*specs, *(p.weights for p in bundle.projections if p.weights is not None))}
    if (path / "arrays").is_symlink():
        raise BundleError("arrays: expected a folder of the bundle, got a link")
    present = {f.name for f in (path / "arrays").iterdir()} if (path / "arrays").is_dir() else set()
    if extra := sorted(present - named):
        raise BundleError(f"arrays/{extra[0]}: an extra file that network.yaml doesn't name")
    populations = []
    for p in bundle.populations:
        where = f"population {p.name!r}"
        try:
            law = make_law(p.law, p.options)
        except (ValueError, TypeError) as error:
            raise BundleError(f"{where}: {error}") from None
        params = {k: _load_array(path, a, f"{where}, parameter {k!r}") for k, a in p.params.items()}
        initial = {k: _load_array(path, a, f"{where}, start state {k!r}") for k, a in p.initial.items()}
        populations.append(Population(p.name, p.size, law, params, initial, shape_of(p.shape)))
    projections = [_projection(path, p) for p in bundle.projections]
    try:
        inputs = tuple(Input(i.name, i.size, Format(i.bits, i.signed), shape_of(i.shape)) for i in bundle.inputs)
    except NetworkError:
        raise
    except ValueError as error:
        raise BundleError(f"network.yaml: inputs: {error}") from None
    return Network(
        inputs,
        tuple(populations),
        tuple(projections),
        tuple(bundle.outputs),
        bundle.decoder,
        bundle.encoding,
        bundle.name,
        tuple(_gate(path, g) for g in bundle.gates),
        bundle.point,
    )


def load_recipe(path: Path) -> dict[str, str | int | float | bool]:
    """The recipe that a bundle keeps: how it was made and its proven figures."""
    return _parse(path).recipe


def safe_file_name(name: str) -> str:
    """A file name that any system takes, from any text."""
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", name).strip("._")[:60] or "unnamed"
