"""A digit classifier that begins with random weights and learns on the chip: its formats and its learning options.

===========================  ====  =============  ========================================
value                        bits  fraction bits  follows from
===========================  ====  =============  ========================================
pixel                        4     4              ``graded`` encoding, and a constant event
weight                       16    12
sent by a hidden cell        8     6              `Relu.shift` = 4 + 12 - 6
output                       24    8              `LeakyIntegrator.shift` = 6 + 12 - 8
error of an output           9     7              error_shift = 8 - 7
error of a hidden cell       9     10             back_shift = 12 + 7 - 10
===========================  ====  =============  ========================================

With two-point cells both compartments read the pixels. R and C have 6 fraction bits (`TwoPoint.shift` = 4 + 12 - 6), a
cell sends 5 (`LeakyIntegrator.shift` = 5 + 12 - 8), its slopes have 6 (back_shift = 12 + 7 + 6 - 10).

An update of learning rate 2^-k is its product over 2^S: S = k + 2 for the first projection (4 + 10 - 12), k + 1 for the
second (6 + 7 - 12), k after two-point cells (5 + 7 - 12).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from apical.sw.laws import Format, LeakyIntegrator, Relu, TwoPoint
from apical.sw.network import Input, Network, Population, Projection
from apical.sw.on_chip import Learning, Rounding, Site

PIXELS, CLASSES = 784, 10
WEIGHT_BITS, FRACTION = 16, 12
TARGET = 1 << 8  # 1.0 of an output
ENCODING: dict[str, str | int | float] = {"kind": "graded", "bits": 4, "constant": 1}
START = 0.03  # standard deviation of the start weights, as in the software protocol
MARGIN = TARGET // 2
WRITES = (400, 40)  # of a backward pass, that thresholds steer to
Gates = Literal["none", "lazy", "all"]
Cells = Literal["relu", "two_point"]


def network(cells: int = 100, seed: int = 0, law: Cells = "relu") -> Network:
    """784 pixels and a constant - `cells` - 10, with random weights."""
    random = np.random.default_rng(seed)

    def weights(targets: int, sources: int) -> np.ndarray:
        return np.rint(random.normal(0, START * (1 << FRACTION), (targets, sources))).astype(np.int64)

    def wire(compartment: str) -> Projection:
        name = "pixels-hidden" if compartment == "basal" else "context-hidden"
        return Projection(name, "pixels", "hidden", weights(cells, PIXELS + 1), compartment, weight_bits=WEIGHT_BITS)

    zero, sent = np.zeros(1, np.int64), 6 if law == "relu" else 5
    if law == "relu":
        hidden = Population("hidden", cells, Relu(value_bits=8, shift=4 + FRACTION - 6), {"bias": zero})
        first = [wire("basal")]
    else:
        bias = {"bias_basal": zero, "bias_apical": zero}
        hidden = Population("hidden", cells, TwoPoint(shift=4 + FRACTION - 6), bias)
        first = [wire("basal"), wire("apical")]
    read_law = LeakyIntegrator(state_bits=24, shift=sent + FRACTION - 8)
    read = Population("read", CLASSES, read_law, {"decay": zero, "bias": zero})
    second = Projection("hidden-read", "hidden", "read", weights(CLASSES, cells), weight_bits=WEIGHT_BITS)
    pixels = Input("pixels", PIXELS + 1, Format(4, signed=False))
    return Network((pixels,), (hidden, read), (*first, second), ("read",), "last", ENCODING, "learning-digits")


def learning(
    gates: Gates = "none", rounding: Rounding = "nearest", rate: int | None = None, law: Cells = "relu"
) -> Learning:
    """Options of `network`.

    :param gates: ``lazy``: a margin; ``all``: also thresholds on the projections.
    :param rate: k of the learning rate 2^-k; by default 7, with thresholds 6, which large updates alone can stand.
    """
    writes = WRITES if gates == "all" else (None, None)
    k = rate if rate is not None else (6 if gates == "all" else 7)
    first = Site(k + 2, 0, writes[0])
    sites = (first, Site(k + 1, 9, writes[1])) if law == "relu" else (first, first, Site(k, 15, writes[1]))
    return Learning(sites, TARGET, 1, 9, rounding, None if gates == "none" else MARGIN)
