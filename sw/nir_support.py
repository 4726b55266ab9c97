"""The generated page of what NIR import supports, from the profiles and primitives themselves."""

from __future__ import annotations

from dataclasses import fields

from apical.sw.nir_profiles import NUMBERS, PROFILES, Profile
from apical.sw.nir_read import LIMIT_DEPTH, LIMIT_EDGES, LIMIT_FILE, LIMIT_NODES, LIMIT_NUMBERS, PRIMITIVES
from apical.sw.nir_shapes import CELLS

BECOMES = {
    "Input": "input; events of the width that the calibration data need",
    "Output": "the cell before it; behind a linear node a read-out without memory",
    "Affine": "weights, and the cell's bias", "Linear": "weights", "Scale": "folded into the weights beside it",
    "Conv1d": "a kernel between maps of one row (stride, padding, dilation, groups)",
    "Conv2d": "a kernel between maps; to a single position, or where no kernel says it: dense weights",
    "SumPool2d": "folded into the kernel or weights beside it",
    "AvgPool2d": "as SumPool2d, over the window, padding counted",
    "Flatten": "no cost", "Identity": "no cost", "Delay": "delay of a projection, in whole ticks",
    "Threshold": "`lif` without memory", "LIF": "`lif`", "LI": "`leaky_integrator`", "CubaLIF": "`cuba_lif`",
    "CubaLI": "`cuba_li`", "IF": "`if`", "I": "`leaky_integrator` that loses nothing",
}  # fmt: skip
REFUSED = {
    "any other node type": "unknown meaning; the message lists what is known",
    "dt/τ above 2 (Euler)": "the cell diverges; a smaller dt, or `--set tau_unit=…` where the file has another unit",
    "dt/τ from 1 to 2, on the chip": "decay below 0: no law has it; the float twin computes it; a smaller dt",
    "thresholds below 0, on the chip": "no law has them; the float twin computes them",
    "graded spikes with a late reset": "no source has both",
    "values that aren't integers as input": "events are integers: multiply, and divide the first weights",
    "a membrane that is read and spikes that are used, of one node": "a population sends one value",
    "an LI, CubaLI or I that feeds other cells": "cells take spikes; put it at the end, or into its targets' synapse",
    "a wire of more than 2^25 dense weights": "it isn't one convolution between maps; move pools and borders",
    "values that overflow": "weights, gains or biases too large for the source's floats",
    "a bias that a Delay would delay": "put the Delay before the Affine",
    "a nested graph of several inputs or outputs": "its meaning isn't in the format",
    "links, virtual and external data sets": "they leave the file",
}
NOT_IN_FILE = {
    "snntorch": "reset mechanism and `reset_delay`; graded_spikes_factor, state_quant, inhibition, which the live "
    "importer refuses",
    "norse": "v_reset; τ is written too small by a factor dt (before 1.0 in seconds: `--set tau_unit=seconds`)",
    "sinabs": "`norm_input` (false: `--set membrane_gain=one`), spike_fn (`--set spike=single`), reset_fn, min_v_mem "
    "(`--set floor=-1`)",
    "rockpool": "the cells' bias (`--set NODE.bias=…`) and recurrent weights: use the live importer",
    "spikingjelly": "soft resets: its exporter refuses them; the live importer takes them",
    "nir": "nothing: the equations of the format's own page, forward Euler",
}


def page() -> str:
    """The page as Markdown."""
    out = [
        "# NIR: supported, and not", "",
        "What the words mean: [Networks of other tools](nir.md). A field of a profile is overridden by",
        "`--set FIELD=VALUE`, for one node by `--set NODE.FIELD=VALUE`; so are the numbers",
        ", ".join(f"`{n}`" for n in NUMBERS) + ";",
        "`--set NODE.read=membrane` reads an output's membrane in place of its spikes.", "",
        "## Source profiles", "",
    ]  # fmt: skip
    names = list(PROFILES)
    out += ["| field | " + " | ".join(names) + " |", "|---|" + "---|" * len(names)]
    for f in fields(Profile):
        if f.name != "name":
            out.append(f"| `{f.name}` | " + " | ".join(f"{getattr(PROFILES[n], f.name)}" for n in names) + " |")
    out += ["", "What a file of each source loses or bends:", "", "| source | lost |", "|---|---|"]
    out += [f"| {name} | {NOT_IN_FILE[name]} |" for name in names]
    out += ["", "## Primitives", "", "| primitive | fields | becomes |", "|---|---|---|"]
    for kind, (need, may) in PRIMITIVES.items():
        text = ", ".join([*need, *(f"[{k}]" for k in may)]) or "none"
        out.append(f"| {kind}{' (cell)' if kind in CELLS else ''} | {text} | {BECOMES[kind]} |")
    out += ["", "## Refused", "", "| what | why, and what to do |", "|---|---|"]
    out += [f"| {what} | {why} |" for what, why in REFUSED.items()]
    out += [
        "", "## Limits", "",
        f"File {LIMIT_FILE >> 20} MiB; {LIMIT_NUMBERS:,} numbers; {LIMIT_NODES} nodes, {LIMIT_EDGES} edges, "
        f"{LIMIT_DEPTH} nested graphs.",
    ]  # fmt: skip
    return "\n".join(out)
