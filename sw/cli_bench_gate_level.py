"""`apical bench gate-level`: mapped netlists of small networks, one of each law and feature, against golden."""

from __future__ import annotations

from dataclasses import replace

from apical.sw import cli_common as common

SEEDS = (0, 1, 2)  # of the stimuli


def figures() -> dict[str, float | int | None]:
    """Per network and family: cells by kind, samples and ticks that ran, samples that differ in outputs or counters."""
    from apical.sim import gate_level as gates
    from apical.sim import gate_level_cases as cases

    out: dict[str, float | int | None] = {}
    for name in cases.cases():
        every = [cases.case(name, seed=seed) for seed in SEEDS]
        case = replace(every[0], runs=tuple(run for c in every for run in c.runs))
        for family in gates.FAMILIES:
            with common.progress(f"{name}, {family}"):
                results = gates.equality(case, family)
            samples = sum(r.samples for r in results)
            ticks = sum(r.samples * s.x.shape[1] for r, s in zip(results, case.runs, strict=True))
            different = sum(r.mismatches or int(not r.equal) for r in results)
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
