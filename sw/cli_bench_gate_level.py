"""`apical bench gate-level`: mapped netlists of small networks, one of each law and feature, against golden."""

from __future__ import annotations

from apical.sw import cli_common as common

SEEDS = (0, 1, 2)  # of the stimuli


def figures() -> dict[str, float | int | None]:
    """Per network and family: cells by kind, samples and ticks that ran, samples that differ in outputs or counters."""
    from apical.sim import gate_level as gates
    from apical.sim import gate_level_cases as cases

    out: dict[str, float | int | None] = {}
    for name in cases.cases():
        for family in gates.FAMILIES:
            samples = ticks = different = 0
            with common.progress(f"{name}, {family}") as update:
                for n, seed in enumerate(SEEDS):
                    case = cases.case(name, seed=seed)
                    for result, stimulus in zip(gates.equality(case, family), case.runs, strict=True):
                        samples += result.samples
                        ticks += result.samples * stimulus.x.shape[1]
                        different += result.mismatches or int(not result.equal)
                    update(n + 1, len(SEEDS))
            cells = gates.synthesize(gates.unmonitored(case.network, case.options), family)[1]
            key = f"{name.replace(' ', '_')}_{family}"
            out |= {f"{key}_cells": sum(cells.values()), f"{key}_dsp": gates.count(family, cells, "dsp")}
            out |= {
                f"{key}_bram": gates.count(family, cells, "bram"),
                f"{key}_lut_ram": gates.count(family, cells, "lut ram"),
            }
            out |= {f"{key}_samples": samples, f"{key}_ticks": ticks, f"{key}_mismatches": different}
    out["mismatches"] = sum(int(v or 0) for k, v in out.items() if k.endswith("_mismatches"))
    return out
