"""`apical bench on-chip-learning`: digits learned from scratch on the RTL, and what the learning engine costs.

`samples_equal`: samples after which the RTL's outputs, weights, errors, thresholds and counters equalled golden's.
`accuracy`: of golden's identical trajectory, gone on to the end of the training images. `write_saving`: the updates
that learning without any gate would write (each candidate of each sample) over those that the gated chip wrote;
`write_saving_over_ungated`: the same for a chip without gates that leaves out only the updates that round to 0.
`joules_per_…`: at 45 nm, and (`_pcm`) with the weights in phase-change memory (docs/reference/energy.md, "Learning");
of a learned sample its inference included.
`two_point_…`: the same chip with two-point cells, without gates, equal over fewer samples.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from apical.sw import cli_common as common
from apical.sw import datasets, golden, learning_energy, on_chip_recipe
from apical.sw.cli_common import CliError
from apical.sw.network import IntArray, Network
from apical.sw.on_chip import OnChip

if TYPE_CHECKING:
    from apical.hw.design import HardwareOptions
    from apical.sim.learning import Learned
    from apical.sw.on_chip import Learning

CELLS, SEED = 100, 0
TECHNOLOGIES = {"": "horowitz-45nm", "_pcm": "pcm-weights"}
RTL_SAMPLES, PERIOD, TWO_POINT_SAMPLES = 20_000, 1000, 2000
LANES = (100, 5)  # synapse and neuron lanes at most, of the learning and of the plain design


def digits(split: str, network: Network) -> tuple[IntArray, IntArray]:
    """Encoded images in an order drawn once and their labels; those that ship where the whole set isn't there."""
    names = {"train": ("mnist:train", "mnist:sample-train"), "test": ("mnist:test", "mnist:sample")}[split]
    data = datasets.load(next(n for n in names if datasets.available(n)))
    order = np.random.default_rng(SEED).permutation(len(data.labels))
    return data.encode(network.encoding)[order].astype(np.int64), np.asarray(data.labels, np.int64)[order]


def accuracy(chip: OnChip, test: tuple[IntArray, IntArray]) -> float:
    """Right answers of the network as it is now."""
    outputs = golden.run(chip.network(), test[0]).outputs["read"][:, 0]
    return float((outputs.argmax(axis=1) == test[1]).mean())


def goes_on(chip: OnChip, train: tuple[IntArray, IntArray], begin: int, text: str) -> None:
    """Golden over the rest of the training images."""
    x, labels = train
    with common.progress(text) as update:
        for at in range(begin, len(labels), PERIOD):
            chip.learn(x[at : at + PERIOD], labels[at : at + PERIOD])
            update(min(at + PERIOD, len(labels)), len(labels))


def proven(
    network: Network, learning: Learning, options: HardwareOptions, train: tuple[IntArray, IntArray], samples: int
) -> tuple[OnChip, Learned, int]:
    """The first samples on the RTL, equal to golden, which has learned them too; and the cycles of as many answers.

    :raises CliError: a difference.
    """
    from apical.sim.learning import LearningRun, divergence

    with common.progress(f"learning on the RTL, {samples} samples") as update:
        run = LearningRun(network, learning, options)
        x, labels = (a[:samples] for a in train)
        learned = run.run(x, labels, period=PERIOD, progress=update)
    chip = OnChip(network, learning)
    with common.progress("golden"):
        difference = divergence(chip, x, labels, learned)
    if difference is not None:
        raise CliError(f"bench: golden and RTL differ, so there is no figure: {difference}")
    few = min(samples, PERIOD)
    return chip, learned, run.run(x[:few], labels[:few], learn=False).cycles // few


def joules(gated: OnChip, plain: OnChip) -> dict[str, float | int | None]:
    """Energy per sample of what two chips have done, on each of `TECHNOLOGIES`."""
    out: dict[str, float | int | None] = {}
    for suffix, table in TECHNOLOGIES.items():
        ours, other = (
            learning_energy.report(chip.start, chip.learning, chip.counters, table)["joules_per_sample"]
            for chip in (gated, plain)
        )
        out |= {
            f"joules_per_inference{suffix}": ours["inference"],
            f"joules_per_learned_sample{suffix}": ours["total"],
            f"joules_per_learned_sample_ungated{suffix}": other["total"],
            f"joules_of_writes_per_sample{suffix}": ours["writes"],
            f"joules_of_writes_per_sample_ungated{suffix}": other["writes"],
            f"learning_joules_saving{suffix}": (other["total"] - other["inference"])
            / (ours["total"] - ours["inference"]),
        }
    return out


def two_point(train: tuple[IntArray, IntArray], test: tuple[IntArray, IntArray]) -> dict[str, float | int | None]:
    """Cells that learn through both compartments; the encoding is the same."""
    from apical.hw.learning import learning_options

    network = on_chip_recipe.network(CELLS, SEED, "two_point")
    options, samples = learning_options(network, *LANES), min(TWO_POINT_SAMPLES, len(train[1]))
    chip, learned, inference = proven(network, on_chip_recipe.learning(law="two_point"), options, train, samples)
    goes_on(chip, train, samples, "golden, two-point cells")
    writes = sum(chip.counters[f"projection {p.name}: weight writes"] for p in chip.projections)
    return {
        "two_point_samples_equal": samples,
        "two_point_accuracy": accuracy(chip, test),
        "two_point_writes_per_sample": writes / len(train[1]),
        "two_point_cycles_per_learned_sample": learned.cycles / samples,
        "two_point_cycles_per_inference": inference,
    }


def figures() -> dict[str, float | int | None]:
    """Flat figures."""
    from apical.hw import utilization, verilog
    from apical.hw.learning import learning_options
    from apical.sim import learning as rtl

    network = on_chip_recipe.network(CELLS, SEED)
    options = learning_options(network, *LANES)
    train, test = digits("train", network), digits("test", network)
    samples = min(RTL_SAMPLES, len(train[1]))
    gated, all_gates = on_chip_recipe.learning("all"), on_chip_recipe.learning("none")
    chip, learned, inference = proven(network, gated, options, train, samples)
    out: dict[str, float | int | None] = {
        "samples": len(train[1]),
        "samples_equal": samples,
        "accuracy_at_equal": accuracy(chip, test),
        "cycles_per_sample_gated": learned.cycles / samples,
        "backward_share": chip.counters["learning: backward passes"] / samples,
        "cycles_per_inference": inference,
    }
    goes_on(chip, train, samples, "golden, gated")
    plain, each, _ = proven(network, all_gates, options, train, min(PERIOD, samples))
    out["cycles_per_learned_sample"] = each.cycles / min(PERIOD, samples)
    out["cycles_ratio"] = each.cycles / min(PERIOD, samples) / inference
    goes_on(plain, train, min(PERIOD, samples), "golden, without gates")
    names = [p.name for p in chip.projections]

    def total(of: OnChip, kind: str) -> int:
        return sum(of.counters[f"projection {n}: {kind}"] for n in names)

    writes = total(chip, "weight writes")
    out |= {
        "accuracy": accuracy(chip, test),
        "accuracy_ungated": accuracy(plain, test),
        "writes_per_sample": writes / len(train[1]),
        "writes_per_sample_ungated": total(plain, "weight writes") / len(train[1]),
        "candidates_per_sample_ungated": total(plain, "candidates") / len(train[1]),
        "write_saving": total(plain, "candidates") / writes,
        "write_saving_over_ungated": total(plain, "weight writes") / writes,
        "saturations": total(chip, "saturations"),
        **joules(chip, plain),
    }
    out |= two_point(train, test)
    with common.progress("area"):
        design, _ = rtl.generate(network, gated, options)
        found = utilization.synthesize_xcup(design.verilog, design.manifest.top).summary()
        alone = utilization.synthesize_xcup(verilog.generate(network, options)).summary()
    for key in ("lut", "ff", "dsp", "bram"):
        out |= {f"{key}_learning": found[key], f"{key}_inference": alone[key]}
    return out
