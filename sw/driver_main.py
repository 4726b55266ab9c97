"""The check that goes with a design's driver: run its own sample on the board, compare with golden.

On a board, with a design's `driver/python` on the path: ``python -m apical.sw.driver_main BITSTREAM``. Not run on
silicon.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from apical.sw.geometry import IntArray
from apical.sw.pynq_driver import Accelerator, DriverError
from apical.sw.trace import Trace, classes, differences


def read_sample(file: Path) -> tuple[IntArray, Trace, str | None]:
    """Input [1, ticks, inputs], golden's trace and the decoder of `sample.json`."""
    plain = json.loads(file.read_text(encoding="utf-8"))
    outputs = {name: np.asarray(values, np.int64)[None] for name, values in plain["outputs"].items()}
    return np.asarray(plain["x"], np.int64)[None], Trace(dict(outputs), outputs, plain["counters"]), plain["decoder"]


def check_sample(accelerator: Accelerator, file: Path) -> list[str]:
    """Run the sample that came with the design; what differs from golden, and nothing where all is equal."""
    x, expected, _ = read_sample(file)
    return differences(expected, accelerator.run(x))


def main(arguments: list[str] | None = None) -> int:
    """Load a bitstream, run samples; the status is 0 only where the design's own sample equals golden."""
    folder = Path(__file__).resolve().parents[3]
    parser = argparse.ArgumentParser(prog="python -m apical.sw.driver_main", description=main.__doc__)
    parser.add_argument("bitstream", type=Path, help="NAME.bit, with NAME.hwh beside it")
    parser.add_argument("--folder", type=Path, default=folder, help="where registers.json and sample.json are")
    parser.add_argument("--input", type=Path, help=".npz with x [samples, ticks, inputs]: prints their classes")
    given = parser.parse_args(arguments)
    import pynq  # type: ignore[import-not-found]

    try:
        accelerator = Accelerator(pynq.Overlay(str(given.bitstream)), given.folder / "registers.json")
        wrong = check_sample(accelerator, given.folder / "sample.json")
        print("\n".join(wrong) if wrong else "equal: the design's own sample, every output, every counter")
        if given.input is not None:
            _, _, decoder = read_sample(given.folder / "sample.json")
            with np.load(given.input, allow_pickle=False) as file:
                trace = accelerator.run(file["x"])
            found = classes(decoder, next(iter(trace.outputs.values())))
            print("classes:", *(found if found is not None else ["this network has no decoder"]))
    except (DriverError, ValueError, OSError, KeyError) as error:
        print(f"driver: {error}", file=sys.stderr)
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
