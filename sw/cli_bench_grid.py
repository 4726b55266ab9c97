"""`apical bench grid`: what the stored study of cooperating streams says, and the shipped bundles on the RTL today."""

from __future__ import annotations

from apical.sw import cli_common as common
from apical.sw.cli_common import CliError
from apical.sw.cooperative import transmissions

BASE = "grid-point"  # of the savings
TECHNOLOGIES = {"joules_per_transmission": "ultrascale-two-point", "joules_counted": "horowitz-45nm-sized"}
LANES = (128, 8, 1)
PEERS = {
    "energy": {
        "saving": 0.62,
        "what": "semi-supervised, published: 62 % less energy than point neurons, 8e-5 µJ per transmission",
        "source": "Adeel et al., arXiv 2211.01950",
    },
    "transmissions": {
        "ratio": 1250,
        "what": "supervised, published: up to 1250 times fewer transmissions per feed-forward pass",
        "source": "Adeel et al., arXiv 2211.01950",
    },
}


def measure(name: str) -> dict[str, float | int | None]:
    """One bundle on the RTL, on the test part if it is there: equality, error, transmissions and joules per frame."""
    from apical.sim import equivalence
    from apical.sw import datasets, energy, zoo

    network = zoo.load(name)
    data = "grid:test" if datasets.available("grid:test") else "grid:sample"
    x, truth = common.load_input(network, None, data, None)
    options = common.hardware_options(network, *LANES)
    with common.progress(f"{name}: cosim") as update:
        result = equivalence.cosim(network, x, options=options, labels=truth, reuse=True, progress=update)
    if not result.equal:
        raise CliError(f"bench: golden and RTL differ, so there is no figure: {result.divergence}")
    found: dict[str, float | int | None] = {
        "samples": result.samples,
        "mismatches": result.mismatches,
        "error": result.error,
        "cycles_per_tick": result.cycles_per_tick,
        "lane_utilization": result.lane_utilization,
    }
    sent = transmissions(network, result.rtl.counters, x.shape[0] * x.shape[1])
    found |= {"transmissions": sent["hidden"], "transmissions_with_input": sent["hidden"] + sent["input"]}
    for kind, technology in TECHNOLOGIES.items():
        found[kind] = energy.report(network, result.rtl, technology)["joules_per_sample"] / x.shape[1]
    return found


def figures() -> dict[str, float | int | None]:
    """The study's figures, and of each bundle what the RTL's counters say; savings are over ``grid-point``."""
    from apical.sw import cooperative_study as study
    from apical.sw.cooperative_recipes import SHIPPED

    out: dict[str, float | int | None] = dict(study.figures(study.stored()))
    found = {name: measure(name) for name in SHIPPED}
    for name, own in found.items():
        out |= {f"bundle_{name.replace('-', '_')}_{k}": v for k, v in own.items()}
    base = found[BASE]
    for name in (n for n in SHIPPED if n != BASE):
        for kind in ("transmissions", "transmissions_with_input", *TECHNOLOGIES):
            saving = 1 - (found[name][kind] or 0) / (base[kind] or 1)
            out[f"bundle_{name.replace('-', '_')}_saving_{kind}"] = saving
    return out
