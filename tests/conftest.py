"""Networks, inputs and ways to run the command line that several test files share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import hypothesis
import numpy as np
import pytest
import torch

from apical.sw import bundle
from apical.sw.laws import AdaptiveLif, Format, Lif, Relu, TwoPoint
from apical.sw.network import Input, IntArray, Network, Population, Projection

# pytest runs one process per core: more threads than that only fight each other.
torch.set_num_threads(1)

# A machine that is busy with other work is no fault of a test.
hypothesis.settings.register_profile("apical", deadline=None)
hypothesis.settings.load_profile("apical")

# A job that a script started in the background ignores Ctrl-C, and so would every program that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

AWKWARD = ("module", 'say "hi" [0] {x} $y; \\z', "été 日本", "endmodule -- ../..", "puts [exec ls]", "wire reg")


def ints(*values: int) -> IntArray:
    """An int64 vector."""
    return np.array(values, np.int64)


def make_lif(
    sizes: tuple[int, int, int] = (6, 5, 3), *, seed: int = 0, bits: int = 8, names: tuple[str, ...] = ()
) -> Network:
    """Two LIF layers with a `sum` decoder; `names`: network, input, populations, projections."""
    random = np.random.default_rng(seed)
    network, source, hidden, out, first, second = names or ("small", "in", "hidden", "out", "in-hidden", "hidden-out")
    limit = 1 << (bits - 1)

    def weights(n: int, m: int) -> IntArray:
        return random.integers(-limit // 2, limit, (n, m))

    def population(name: str, n: int) -> Population:
        params = {"decay": random.integers(128, 257, n), "threshold": ints(limit), "bias": ints(3)}
        return Population(name, n, Lif(), params)

    return Network(
        (Input(source, sizes[0]),),
        (population(hidden, sizes[1]), population(out, sizes[2])),
        (
            Projection(first, source, hidden, weights(sizes[1], sizes[0]), weight_bits=bits),
            Projection(second, hidden, out, weights(sizes[2], sizes[1]), weight_bits=bits),
        ),
        (out,),
        decoder="sum",
        name=network,
    )


def make_two_point(seed: int = 0) -> Network:
    """Two graded inputs into two-point cells and a relu read-out."""
    random = np.random.default_rng(seed)
    values = Format(4, signed=False)
    cells = Population("cells", 4, TwoPoint(shift=2), {"bias_basal": ints(0), "bias_apical": ints(-8, 0, 8, 16)})
    return Network(
        (Input("left", 5, values), Input("right", 3, values)),
        (cells, Population("out", 2, Relu(shift=3), {"bias": ints(1)})),
        (
            Projection("basal", "left", "cells", random.integers(-20, 40, (4, 5))),
            Projection("apical", "right", "cells", random.integers(-20, 40, (4, 3)), compartment="apical"),
            Projection("read", "cells", "out", random.integers(-20, 40, (2, 4))),
        ),
        ("out",),
        decoder="last",
        name="two-point",
    )


def make_monitor(seed: int = 0, decoder: str = "tick", outputs: tuple[str, ...] = ("read",)) -> Network:
    """The shape of the ECG monitor with random weights: 4 inputs, 36 recurrent LIF cells, 6 adaptive read-outs."""
    random = np.random.default_rng(seed)
    hidden = {"decay": random.integers(800, 1024, 36), "threshold": ints(200), "bias": random.integers(-2, 9, 36)}
    law = AdaptiveLif(sends="membrane", shift=2)
    read = {
        k: ints(min(max(int(p.initial * (1 << p.fraction_bits)), p.low), p.high)) for k, p in law.parameters().items()
    }
    return Network(
        (Input("leads", 4),),
        (
            Population("hidden", 36, Lif(decay_bits=10), hidden, {"v": random.integers(-50, 50, 36)}),
            Population("read", 6, law, read),
        ),
        (
            Projection("in", "leads", "hidden", random.integers(-128, 128, (36, 4))),
            Projection("back", "hidden", "hidden", random.integers(-40, 40, (36, 36)), delay=1),
            Projection("out", "hidden", "read", random.integers(-60, 60, (6, 36))),
        ),
        outputs,
        decoder=decoder,
    )


def make_spikes(ticks: int, share: float = 0.2, seed: int = 0) -> IntArray:
    """Events of the ECG monitor's four channels, [ticks, 4]."""
    return (np.random.default_rng(seed).random((ticks, 4)) < share).astype(np.int64)


def random_input(network: Network, samples: int = 4, ticks: int = 5, seed: int = 0) -> IntArray:
    """Half zeros, half values over the inputs' whole range, [samples, ticks, inputs]."""
    random = np.random.default_rng(seed)
    parts = []
    for node in network.inputs:
        low, high = node.value_range
        values = random.integers(low, high + 1, (samples, ticks, node.size))
        parts.append(values * random.integers(0, 2, values.shape))
    return np.concatenate(parts, axis=2)


@pytest.fixture
def lif() -> Network:
    return make_lif()


@pytest.fixture
def two_point() -> Network:
    return make_two_point()


@pytest.fixture
def awkward() -> Network:
    """A network whose every name is hostile to some text format."""
    return make_lif(names=AWKWARD)


@pytest.fixture
def make_input() -> Callable[..., IntArray]:
    return random_input


@pytest.fixture
def monitor() -> Callable[..., Network]:
    return make_monitor


@pytest.fixture
def spikes() -> Callable[..., IntArray]:
    return make_spikes


@pytest.fixture
def lif_bundle(lif: Network, tmp_path: Path) -> Path:
    bundle.save(lif, tmp_path / "net")
    return tmp_path / "net"


@pytest.fixture
def lif_input(lif: Network, tmp_path: Path) -> Path:
    np.savez(tmp_path / "input.npz", x=random_input(lif), labels=ints(0, 1, 2, 0))
    return tmp_path / "input.npz"


@dataclass
class Ran:
    """What a command left behind."""

    status: int
    out: str
    err: str


@pytest.fixture
def apical(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Ran]]:
    """Run the command line in this process: `apical("golden", path, "--json")`."""
    from apical.sw import cli

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def run(*words: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["apical", *map(str, words)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capfd.readouterr()
        status = ended.value.code
        return Ran(status if isinstance(status, int) else int(status is not None), out, err)

    yield run
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def apical_process() -> Callable[..., subprocess.Popen[str]]:
    """Start the command line as a process of its own."""

    def start(*words: object, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-c", "from apical.sw.cli import main; main()", *map(str, words)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environment},
        )

    return start
