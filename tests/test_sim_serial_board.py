"""The host's program against the serial design's RTL through a pseudo-terminal, on good lines and bad ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import serial

from apical.hw.design import HardwareOptions, Lanes
from apical.sim.serial_board import SerialBoard
from apical.sw import bundle, golden, host_uart
from apical.sw.bundle import identity
from apical.sw.laws import Format, LeakyIntegrator, Lif
from apical.sw.network import Input, IntArray, Network, Population, Projection
from apical.sw.streaming import Stream
from apical.sw.trace import differences


def make_network(seed: int = 0) -> Network:
    """Small values in, spikes between, signed values out."""
    rng = np.random.default_rng(seed)
    lif = {"decay": rng.integers(200, 256, 5), "threshold": np.array([90]), "bias": np.array([3])}
    return Network(
        (Input("in", 6, Format(3, signed=False)),),
        (
            Population("hidden", 5, Lif(), lif),
            Population("out", 3, LeakyIntegrator(), {"decay": np.array([240]), "bias": np.array([0])}),
        ),
        (
            Projection("a", "in", "hidden", rng.integers(-40, 80, (5, 6))),
            Projection("b", "hidden", "out", rng.integers(-90, 90, (3, 5))),
        ),
        ("out",),
        "sum",
    )


LANES = HardwareOptions({"hidden": Lanes(5, 1), "out": Lanes(3, 1)})
NETWORK = make_network()


def make_input(samples: int = 4, ticks: int = 5, seed: int = 0) -> IntArray:
    rng = np.random.default_rng(seed)
    return rng.integers(0, 8, (samples, ticks, 6)) * rng.integers(0, 2, (samples, ticks, 6))


@pytest.fixture(scope="module")
def board() -> Iterator[SerialBoard]:
    with SerialBoard(NETWORK, LANES, fast_build=True) as b:
        yield b


@pytest.fixture
def link(board: SerialBoard) -> Iterator[host_uart.Link]:
    with serial.Serial(board.port, 1_000_000, timeout=0.3) as port:
        yield host_uart.Link(port, NETWORK, tries=6)


def test_the_hosts_program_says_equal(board: SerialBoard, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bundle.save(NETWORK, tmp_path / "net")
    x = make_input(samples=20)
    np.savez(tmp_path / "x.npz", x=x)
    words = ["--port", board.port, "--bundle", str(tmp_path / "net"), "--input", str(tmp_path / "x.npz")]
    assert host_uart.main(words) == 0
    expected = golden.decode(NETWORK, golden.run(NETWORK, x))
    assert expected is not None
    equal = "equal: 20 of 20 samples, every output, every counter"
    assert capsys.readouterr().out.splitlines() == [f"classes: {' '.join(map(str, expected))}", equal]

    other = make_network(seed=1)
    bundle.save(other, tmp_path / "other")
    words[3] = str(tmp_path / "other")
    assert host_uart.main(words) == 1
    assert f"expected the bitstream of network {identity(other)}, the board carries" in capsys.readouterr().err


@pytest.mark.parametrize(("to_board", "from_board"), [(40, 0), (0, 60), (200, 150)])
def test_a_flipped_bit_either_way_costs_a_repeat_and_no_result(
    board: SerialBoard, link: host_uart.Link, to_board: int, from_board: int
) -> None:
    x = make_input(samples=8)
    board.damage(to_board, from_board)
    assert differences(golden.run(NETWORK, x), link.run(x)) == []


def test_results_through_noise_are_equal_or_refused(board: SerialBoard, link: host_uart.Link) -> None:
    """One byte of 300 is damaged; what gets through is right, and no wrong result ever is."""
    x = make_input(samples=12, seed=1)
    board.noise(1 / 300, 1 / 300)
    try:
        for n in range(0, 12, 2):
            part = x[n : n + 2]
            try:
                got = link.run(part, batch=1)
            except (host_uart.LinkError, host_uart.WrongBoard):
                continue
            assert differences(golden.run(NETWORK, part), got) == []
    finally:
        board.noise(0, 0)
    assert differences(golden.run(NETWORK, x), link.run(x)) == []


def test_a_line_of_noise_alone_is_told_and_a_good_one_works_again(board: SerialBoard, link: host_uart.Link) -> None:
    board.noise(0.9, 0.9)
    link.tries = 2
    with pytest.raises(host_uart.WrongBoard, match=r"^the board doesn't answer; check the port"):
        link.hello()
    board.noise(0, 0)
    x = make_input(seed=2)
    assert differences(golden.run(NETWORK, x), link.run(x)) == []


def test_an_endless_stream_through_the_terminal_equals_golden(link: host_uart.Link) -> None:
    stream, x = Stream(NETWORK), make_input(samples=1, ticks=7)[0]
    link.hello()
    link.reset()
    for part in (x[:1], x[1:5], x[5:]):
        assert np.array_equal(link.push(part), stream.push(part))


def test_an_unplugged_board_is_told(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    bundle.save(NETWORK, tmp_path / "net")
    np.savez(tmp_path / "x.npz", x=make_input())
    with SerialBoard(NETWORK, LANES, fast_build=True) as board:
        board.unplug()
        words = ["--port", board.port, "--bundle", str(tmp_path / "net"), "--input", str(tmp_path / "x.npz")]
        assert host_uart.main(words) == 1
    assert capsys.readouterr().err.startswith(f"host_uart: {board.port}: ")
