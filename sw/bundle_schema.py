"""What a bundle's `network.yaml` may say: its schema, and how shapes and geometries are written there."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal

import pydantic

from apical.sw.geometry import Geometry, Shape
from apical.sw.network import Node, Projection


class Strict(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


class ArrayEntry(Strict):
    file: Annotated[str, pydantic.StringConstraints(pattern=r"^[a-z0-9][a-z0-9_.]{0,80}\.npy$")]
    shape: list[int]
    dtype: Literal["int8", "int16", "int32", "int64"]
    sha256: Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class InputEntry(Strict):
    name: str
    size: int
    bits: int
    signed: bool
    shape: list[int] | None = None


class PopulationEntry(Strict):
    name: str
    size: int
    law: str
    options: dict[str, str | int | bool]
    params: dict[str, ArrayEntry]
    initial: dict[str, ArrayEntry]
    shape: list[int] | None = None


class GeometryEntry(Strict):
    source: list[int]
    channels: int
    kernel: list[int]
    stride: list[int]
    padding: list[int]
    dilation: list[int]
    groups: int


class ProjectionEntry(Strict):
    name: str
    source: str
    target: str
    compartment: str
    pattern: Literal["dense", "conv", "pool"]
    weight_bits: int
    delay: int
    weights: ArrayEntry | None = None  # a pool has none
    geometry: GeometryEntry | None = None


class GateEntry(Strict):
    source: str
    target: str
    window: int
    weight_bits: int
    weights: ArrayEntry
    bias: ArrayEntry


class BundleEntry(Strict):
    apical_bundle: Literal[1, 2]
    name: str
    inputs: list[InputEntry]
    populations: list[PopulationEntry]
    projections: list[ProjectionEntry]
    outputs: list[str]
    decoder: str | None
    encoding: dict[str, str | int | float]
    recipe: dict[str, str | int | float | bool]
    gates: list[GateEntry] = []
    point: int = 0


def shape_entry(node: Node) -> dict[str, list[int]]:
    """What is written of a node's shape."""
    return {} if node.shape is None else {"shape": list(node.shape)}


def geometry_entry(p: Projection) -> dict[str, Any]:
    """What is written of a projection's geometry."""
    if p.geometry is None:
        return {}
    given = asdict(p.geometry)
    return {"geometry": {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}}


def shape_of(shape: list[int] | None) -> Shape | None:
    """A shape as it was written; the network checks it."""
    return None if shape is None else tuple(shape)  # type: ignore[return-value]


def geometry_of(p: ProjectionEntry) -> Geometry | None:
    """A geometry as it was written.

    :raises GeometryError: it can't be.
    """
    if p.geometry is None:
        return None
    given = p.geometry.model_dump()
    parts: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in given.items()}
    return Geometry(**parts)
