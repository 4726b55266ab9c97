"""The network as a layered drawing: positions of boxes and paths of edges, for the report's SVG."""

from __future__ import annotations

from dataclasses import dataclass

from apical.sw.network import Input, Network, Projection

BOX_WIDTH, BOX_HEIGHT, COLUMN, ROW, MARGIN = 178, 74, 368, 128, 24


@dataclass(frozen=True)
class Box:
    """An input or population: corner, and up to three lines of text."""

    x: float
    y: float
    title: str
    lines: tuple[str, str]
    kind: str
    full: str

    @property
    def middle(self) -> float:
        """Height of the box's middle."""
        return self.y + BOX_HEIGHT / 2


@dataclass(frozen=True)
class Edge:
    """A projection: SVG path, a label of two lines at x, each with its y."""

    path: str
    x: float
    y: tuple[float, float]
    lines: tuple[str, str]
    delayed: bool
    compartment: str
    full: str


@dataclass(frozen=True)
class Drawing:
    """A drawing of `width` × `height` units."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    edges: tuple[Edge, ...]
    description: str


def short(text: str, most: int = 18) -> str:
    """Text cut to `most` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def _layers(network: Network) -> dict[str, int]:
    """Column of each node: the longest way from an input through projections without delay."""
    layer = {i.name: 0 for i in network.inputs}
    for name in network.order:
        layer[name] = max((layer[p.source] + 1 for p in network.incoming(name) if p.delay == 0), default=1)
    return layer


def _boxes(network: Network, layer: dict[str, int], top: float) -> dict[str, Box]:
    columns: dict[int, list[str]] = {}
    for name in network.nodes:
        columns.setdefault(layer[name], []).append(name)
    tallest = max(len(names) for names in columns.values())
    out = {}
    for column, names in columns.items():
        for k, name in enumerate(names):
            node = network.nodes[name]
            y = top + (k + (tallest - len(names)) / 2) * ROW
            bits = f"{node.format.bits}-bit" if isinstance(node, Input) else node.law.name.replace("_", " ")
            size = f"{node.size:,} {'channels' if isinstance(node, Input) else 'neurons'}"
            kind = "input" if isinstance(node, Input) else "output" if name in network.outputs else "hidden"
            out[name] = Box(MARGIN + column * COLUMN, y, short(name), (size, bits), kind, name)
    return out


def _edge(p: Projection, source: Box, target: Box, span: int, below: float) -> Edge:
    rows = (-8, 17)
    x0, y0, x1, y1 = source.x + BOX_WIDTH, source.middle, target.x, target.middle
    if p.source == p.target:  # a loop over the box
        left, right, top = source.x + 40, source.x + BOX_WIDTH - 40, source.y
        path = f"M{right} {top} C{right + 10} {top - 56} {left - 10} {top - 56} {left} {top}"
        at = (source.x + BOX_WIDTH / 2, top - 62)
    elif span >= 1:
        bend = (x1 - x0) / 2
        drop = ROW * 0.72 if span > 1 and abs(y0 - y1) < ROW / 2 else 0  # under the boxes between
        path = f"M{x0} {y0} C{x0 + bend} {y0 + drop} {x1 - bend} {y1 + drop} {x1} {y1}"
        at = ((x0 + x1) / 2, (y0 + y1) / 2 + 0.75 * drop)
        if y0 != y1 and not drop:  # beside a sloped edge, on the outside of converging ones
            at = (at[0] + 34, at[1])
            rows = (-32, -15) if y1 > y0 else (24, 41)
    else:  # back: under everything
        x0, x1 = source.x + BOX_WIDTH / 2, target.x + BOX_WIDTH / 2
        y0, y1 = source.y + BOX_HEIGHT, target.y + BOX_HEIGHT
        path = f"M{x0} {y0} C{x0} {below} {x1} {below} {x1} {y1}"
        at = ((x0 + x1) / 2, (y0 + y1) / 8 + 0.75 * below)
    first = f"{p.weights.size:,} × {p.weight_bits}-bit" if p.weights.size else "windows, no"
    second = p.compartment + (f", delay {p.delay}" if p.delay else "")
    full = f"{p.name}: {p.source} to {p.target}, {p.pattern}, {first} weights, {second}"
    return Edge(path, at[0], (at[1] + rows[0], at[1] + rows[1]), (first, second), p.delay > 0, p.compartment, full)


def draw(network: Network) -> Drawing:
    """Lay the network out in columns, inputs on the left."""
    layer = _layers(network)
    loops = any(p.source == p.target for p in network.projections)
    top = MARGIN + (76 if loops else 0)
    boxes = _boxes(network, layer, top)
    bottom = max(b.y for b in boxes.values()) + BOX_HEIGHT
    back = any(p.source != p.target and layer[p.target] <= layer[p.source] for p in network.projections)
    skips = any(layer[p.target] - layer[p.source] > 1 for p in network.projections)
    edges = tuple(
        _edge(p, boxes[p.source], boxes[p.target], layer[p.target] - layer[p.source], bottom + 90)
        for p in network.projections
    )
    width = 2 * MARGIN + max(layer.values()) * COLUMN + BOX_WIDTH
    height = bottom + MARGIN + (76 if back else 50 if skips else 0)
    parts = [f"{b.full} ({', '.join(b.lines)})" for b in boxes.values()] + [e.full for e in edges]
    return Drawing(width, height, tuple(boxes.values()), edges, "; ".join(parts))
