"""Calibration: from real numbers to integers, population by population, on training data.

All that a neuron adds up shares one scale (steps per real unit): weights of every projection onto it, bias, threshold,
adaptation. A large scale clips weights, a small one makes thresholds coarse; and since a leak is floored in every
tick, half a step is lost per tick, which the bias can give back. Where a neuron sends spikes its scale is its own
business, so each one has its own; read-outs whose membranes are compared share one.

The search is local: each candidate (scale, bias offset) of every neuron runs on the integer semantics with the events
that reach it in the float network (from populations below: in the integer network so far), and what it then sends is
compared with what the float neuron sends. All candidates of a population are one feed-forward network. Of a map the
neurons of a channel share weights, so a scale and an offset too; its candidates run one after the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from apical.sw import golden
from apical.sw.laws import Format
from apical.sw.network import Input, Network
from apical.sw.real_network import FLAG, RealArray, RealNetwork, RealPopulation, RealProjection
from apical.sw.rounding import compensated, moments

MARGINS = 2.0 ** np.linspace(-1.5, 1.5, 13)  # scales to try, relative to the one at which the largest weight just fits
OFFSETS = (0.0, 0.5, 1.0)  # added to the bias in steps; 0.5 is what the floor takes on average
WINDOW = 8  # ticks over which spikes are counted before they are compared
MAP_MARGINS, MAP_OFFSETS = 2.0 ** np.linspace(-1.5, 1.0, 6), (0.0, 0.5)
LIMIT_TRIED = 1 << 27  # weights of all candidates together; above it one candidate per neuron
LIMIT_MOMENTS = 1 << 23  # numbers of the second moments; above it every factor is rounded by itself
HEADROOM = 0.9  # share of a state's format that calibration data may fill

# Judges a network's output: [samples, ticks, neurons] of the first output population, in real units.
Judge = Callable[[np.ndarray], float | None]


@dataclass(frozen=True)
class Cost:
    """What one kind of rounding costs.

    :param error: root mean square of the change of the first output's values (spikes in windows), relative to theirs.
    :param score: the judge's figure; None without one.
    """

    rounded: str
    error: float
    score: float | None


@dataclass(frozen=True)
class Calibrated:
    """A calibrated network.

    :param scales: steps per real unit of every neuron, by population.
    :param offsets: steps added to its bias before rounding.
    :param steps: the network in integer steps; weights, thresholds and biases of spiking cells are integers already.
    """

    network: Network
    scales: Mapping[str, RealArray]
    offsets: Mapping[str, RealArray]
    steps: RealNetwork


def _windows(values: np.ndarray) -> np.ndarray:
    """Means over windows of ticks, [samples, windows, neurons]."""
    ticks = values.shape[1] - values.shape[1] % WINDOW or values.shape[1]
    width = min(WINDOW, ticks)
    parts = values[:, :ticks].reshape(values.shape[0], ticks // width, width, values.shape[2])
    return np.asarray(parts.mean(axis=2, dtype=np.float32))


def _largest_scale(cell: RealPopulation, reached: float) -> RealArray:
    """Scale at which states and current parameters just fit their formats."""
    states = [fmt.bounds[1] for fmt in cell.law.states().values() if fmt != FLAG]
    room = np.full(cell.size, HEADROOM * min(states) / max(reached, 1e-9)) if states else np.full(cell.size, np.inf)
    for name, spec in cell.law.parameters().items():
        if spec.unit == "current":
            room = np.minimum(room, spec.high / np.maximum(np.abs(cell.params[name]), 1e-12))
    return room


def _full_scale(cell: RealPopulation, wires: list[RealProjection]) -> RealArray:
    """Scale at which each neuron's largest weight just fits its bits."""
    out = np.full(cell.size, np.inf)
    for p in wires:
        largest = np.abs(p.weights).reshape(len(p.weights), -1).max(axis=1)  # of each target, or channel of targets
        largest = np.repeat(largest, cell.size // len(largest))
        out = np.minimum(out, Format(p.bits).bounds[1] / np.maximum(largest, 1e-12))
    return np.asarray(out if cell.spikes else np.full(cell.size, out.min()))


def _sent_format(real: RealNetwork, name: str) -> Format:
    """Format of the events that a node sends."""
    for node in real.inputs:
        if node.name == name:
            return node.format
    return Format(real.population(name).law.value_range()[1].bit_length(), signed=False)


def _with_offset(cell: RealPopulation, offset: RealArray) -> RealPopulation:
    """A scaled population whose biases are moved by `offset` steps."""
    return replace(cell, params={**cell.params, "bias": cell.params["bias"] + offset})


@dataclass(frozen=True)
class _Candidates:
    """Every candidate of every neuron of a population: candidate k of neuron n is neuron k * size + n of `network`."""

    scales: RealArray  # [candidates, size]
    offsets: RealArray
    network: RealNetwork  # feed-forward, in integer steps, weights, thresholds and biases rounded

    def pick(self, best: npt.NDArray[np.int64], wires: list[RealProjection]) -> _Chosen:
        """The network of one candidate per neuron."""
        (cell,), columns = self.network.populations, np.arange(best.size)
        rows = best * best.size + columns
        params, initial = ({k: a[rows] for k, a in given.items()} for given in (cell.params, cell.initial))
        return _Chosen(
            self.scales[best, columns],
            self.offsets[best, columns],
            replace(cell, size=best.size, params=params, initial=initial),
            [replace(p, weights=q.weights[rows]) for p, q in zip(wires, self.network.projections, strict=True)],
        )


@dataclass(frozen=True)
class _Chosen:
    scale: RealArray
    offset: RealArray
    cell: RealPopulation
    wires: list[RealProjection]


def _grid(wires: list[RealProjection]) -> tuple[npt.NDArray[np.float64], tuple[float, ...]]:
    """Margins and offsets to try; one of each where the candidates would be too large."""
    count = sum(p.weights.size for p in wires)
    if count * len(MARGINS) * len(OFFSETS) > LIMIT_TRIED:
        return np.ones(1), (0.5,)
    return MARGINS, OFFSETS


def _candidates(
    real: RealNetwork, cell: RealPopulation, sent: Mapping[str, np.ndarray], wanted: np.ndarray, reached: float
) -> _Candidates:
    wires = real.incoming(cell.name)
    most, full = _largest_scale(cell, reached), _full_scale(cell, wires)
    if not cell.spikes:
        most = np.full(cell.size, most.min())
    margins, offsets_ = _grid(wires)
    pairs = [(np.minimum(full * m, most), np.full(cell.size, o)) for m in margins for o in offsets_]
    scales, offsets = np.array([s for s, _ in pairs]), np.array([o for _, o in pairs])

    def repeat(array: RealArray) -> RealArray:
        return np.tile(array, (len(pairs),) + (1,) * (array.ndim - 1))

    many = replace(
        cell,
        size=cell.size * len(pairs),
        params={k: repeat(a) for k, a in cell.params.items()},
        initial={k: repeat(a) for k, a in cell.initial.items()},
    )
    flat = scales.reshape(-1)
    many = _with_offset(many.scaled(flat), offsets.reshape(-1))
    wide = [replace(p, source=p.name, weights=repeat(p.weights) * flat[:, None]) for p in wires]
    many, wide = _rounded(cell, many, wide, [sent[p.source] for p in wires], wanted)
    sources = tuple(Input(p.name, p.weights.shape[1], _sent_format(real, p.source)) for p in wires)
    return _Candidates(scales, offsets, RealNetwork(sources, (many,), tuple(wide), (cell.name,)))


def _rounded(
    cell: RealPopulation,
    many: RealPopulation,
    wide: list[RealProjection],
    events: list[np.ndarray],
    wanted: np.ndarray,
) -> tuple[RealPopulation, list[RealProjection]]:
    """Candidates with threshold, weights and bias rounded together (`apical.sw.rounding`).

    :param events: what reaches each projection. :param wanted: what the float neurons send.
    """
    delays = [p.delay for p in wide for _ in range(p.weights.shape[1])]
    own = wanted if cell.spikes and "threshold" in cell.params else None
    specs = cell.law.parameters()
    names = ["bias"] if own is None else ["threshold", "bias"]
    parts = [p.weights for p in wide]
    columns = [many.params[name][:, None] for name in names]
    ends = [(specs[name].low, specs[name].high) for name in names]
    bounds = [*ends[:-1], *(Format(p.bits).bounds for p in wide for _ in range(p.weights.shape[1])), ends[-1]]
    factors = torch.from_numpy(np.concatenate([*columns[:-1], *parts, columns[-1]], axis=1))
    low, high = torch.tensor(bounds, dtype=torch.float64).T
    if cell.size * factors.shape[1] ** 2 > LIMIT_MOMENTS:
        out = factors.round().clamp(low, high).numpy()
    else:
        second = moments(cell, np.concatenate(events, axis=2), delays, own)
        out = compensated(factors.view(-1, cell.size, factors.shape[1]), low, high, second).view(factors.shape).numpy()
    first = len(names) - 1
    cuts = np.cumsum([first, *(p.shape[1] for p in parts)])
    params = {**many.params, "bias": out[:, -1].copy()}
    if own is not None:
        params["threshold"] = out[:, 0].copy()
    wires = [replace(p, weights=out[:, a:b].copy()) for p, a, b in zip(wide, cuts[:-1], cuts[1:], strict=True)]
    return replace(many, params=params), wires


def _choose(
    real: RealNetwork, cell: RealPopulation, sent: Mapping[str, np.ndarray], wanted: np.ndarray, reached: float
) -> _Chosen:
    """The best scale and bias offset of every neuron.

    :param sent: by node, the events that reach it.
    :param wanted: what the float neurons send.
    """
    wires = real.incoming(cell.name)
    if cell.shape is not None:
        return _choose_map(real, cell, sent, wanted, reached)
    tried = _candidates(real, cell, sent, wanted, reached)
    x = np.rint(np.concatenate([sent[p.source] for p in wires], axis=2)).astype(np.int64)
    ours = golden.run(tried.network.integers(), x, batch=16).outputs[cell.name]
    target = _windows(wanted)
    errors = np.empty_like(tried.scales)
    for k in range(len(errors)):
        part = _windows(ours[:, :, k * cell.size : (k + 1) * cell.size])
        if not cell.spikes:
            part = part / tried.scales[k].astype(np.float32)
        errors[k] = ((part - target) ** 2).mean(axis=(0, 1))
    if cell.spikes:
        best = errors.argmin(axis=0)
    else:  # one scale for all: the best offset of each neuron, then the best margin of all
        margins, offsets = _grid(wires)
        by_margin = errors.reshape(len(margins), len(offsets), cell.size)
        margin = int(by_margin.min(axis=1).sum(axis=1).argmin())
        best = margin * len(offsets) + by_margin[margin].argmin(axis=0)
    return tried.pick(best, wires)


def _choose_map(
    real: RealNetwork, cell: RealPopulation, sent: Mapping[str, np.ndarray], wanted: np.ndarray, reached: float
) -> _Chosen:
    """The same for a map: one scale and offset for each channel, one scale for all channels of a read-out."""
    assert cell.shape is not None
    wires, channels = real.incoming(cell.name), cell.shape[0]
    positions = cell.size // channels
    most, full = _largest_scale(cell, reached), _full_scale(cell, wires)

    def least(each: RealArray) -> RealArray:
        by_channel = each.reshape(channels, -1).min(axis=1)
        return np.repeat(by_channel if cell.spikes else np.full(channels, by_channel.min()), positions)

    most, full = least(most), least(full)
    sources = tuple(
        Input(p.name, p.sizes[1], _sent_format(real, p.source), None if p.geometry is None else p.geometry.source)
        for p in wires
    )
    x = np.rint(np.concatenate([sent[p.source] for p in wires], axis=2)).astype(np.int64)
    target = _windows(wanted)

    def candidate(scale: RealArray, offset: RealArray) -> tuple[RealPopulation, list[RealProjection]]:
        one = _with_offset(cell.scaled(scale), offset).rounded(fractions=False, currents=True)
        return one, [p.scaled(scale).rounded() for p in wires]

    pairs = [(np.minimum(full * m, most), np.full(cell.size, o)) for m in MAP_MARGINS for o in MAP_OFFSETS]
    errors = np.empty((len(pairs), channels))
    for k, (scale, offset) in enumerate(pairs):
        one, weighted = candidate(scale, offset)
        fed = tuple(replace(p, source=p.name) for p in weighted)
        network = RealNetwork(sources, (one,), fed, (cell.name,)).integers()
        values = _windows(golden.run(network, x, batch=16).outputs[cell.name])
        values = values if cell.spikes else values / scale.astype(np.float32)
        errors[k] = ((values - target) ** 2).mean(axis=(0, 1)).reshape(channels, -1).mean(axis=1)
    best = errors.argmin(axis=0) if cell.spikes else np.full(channels, errors.sum(axis=1).argmin())
    rows, columns = np.repeat(best, positions), np.arange(cell.size)
    scale, offset = (np.array([pair[k] for pair in pairs])[rows, columns] for k in range(2))
    return _Chosen(scale, offset, *candidate(scale, offset))


def _below(real: RealNetwork, count: int) -> RealNetwork:
    """The first `count` populations alone; the last of them is the output."""
    kept = real.populations[:count]
    names = {i.name for i in real.inputs} | {p.name for p in kept}
    wires = tuple(p for p in real.projections if p.target in names and p.source in names)
    return replace(real, populations=kept, projections=wires, outputs=(kept[-1].name,), decoder=None)


def calibrate(real: RealNetwork, x: np.ndarray, progress: golden.Progress | None = None) -> Calibrated:
    """Choose every neuron's scale and bias, and round.

    :param real: laws with a parameter ``bias``; spikes between populations.
    :param x: training events, [samples, ticks, channels]; a few samples do.
    :param progress: called with (populations done, populations).
    :raises ValueError: a law without a bias.
    """
    for cell in real.populations:
        if "bias" not in cell.params:
            raise ValueError(f"population {cell.name!r}: calibration needs a law with a bias, got {cell.law.name}")
    values, largest = real.run(x)
    sent: dict[str, np.ndarray] = dict(values)
    chosen: dict[str, _Chosen] = {}
    for n, cell in enumerate(real.populations, 1):
        chosen[cell.name] = _choose(real, cell, sent, values[cell.name], largest[cell.name])
        so_far = _assembled(_below(real, n), chosen).integers()
        sent[cell.name] = golden.run(so_far, x).outputs[cell.name]
        if progress is not None:
            progress(n, len(real.populations))
    steps = _assembled(real, chosen)
    scales, offsets = ({k: getattr(c, what) for k, c in chosen.items()} for what in ("scale", "offset"))
    return Calibrated(steps.integers(), scales, offsets, steps)


def _assembled(real: RealNetwork, chosen: Mapping[str, _Chosen]) -> RealNetwork:
    """The network of what was chosen."""
    wires = {p.name: p for c in chosen.values() for p in c.wires}
    return replace(
        real,
        populations=tuple(chosen[p.name].cell for p in real.populations),
        projections=tuple(wires[p.name] for p in real.projections),
    )


def costs(real: RealNetwork, done: Calibrated, x: np.ndarray, judge: Judge | None = None) -> list[Cost]:
    """What each rounding costs by itself, in real arithmetic with nothing else rounded, and all together.

    Floors are taken with the biases' offsets, which make up for them.
    """
    name = real.outputs[0]
    scale = 1.0 if real.population(name).spikes else done.scales[name]
    reference = real.run(x)[0][name]
    target = _windows(reference)
    plain = real.scaled(done.scales)
    lifted = replace(plain, populations=tuple(_with_offset(p, done.offsets[p.name]) for p in plain.populations))
    runs: dict[str, Callable[[], np.ndarray]] = {
        "nothing": lambda: reference,
        "weights": lambda: replace(plain, projections=done.steps.projections).run(x)[0][name] / scale,
        "decays": lambda: plain.rounded(fractions=True).run(x)[0][name] / scale,
        "thresholds and biases": lambda: plain.rounded(currents=True).run(x)[0][name] / scale,
        "states": lambda: lifted.run(x, floor=True)[0][name] / scale,
        "all": lambda: golden.run(done.network, x).outputs[name] / scale,
    }
    out = []
    for what, run in runs.items():
        values = run()
        error = np.sqrt(((_windows(values) - target) ** 2).mean() / max(float((target**2).mean()), 1e-30))
        out.append(Cost(what, float(error), None if judge is None else judge(values)))
    return out
