"""The compiled batch engine: stalls, resets and sharding don't change a result; builds are cached; trouble is told."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from apical.hw import tools
from apical.hw.design import Design, default_options
from apical.hw.verilog import generate
from apical.sim import verilated
from apical.sim.model_header import model_header
from apical.sim.scoreboard import first_divergence
from apical.sim.verilated import SimulationError, Stalls, build, run_design, simulate
from apical.sw import cache, golden
from apical.sw.golden import Trace
from apical.sw.network import IntArray, Network, NetworkError


@pytest.fixture
def design(two_point: Network) -> Design:
    """Graded events, several words, two event lanes."""
    options = default_options(two_point, synapse_lanes=2, neuron_lanes=2, event_lanes=2)
    return generate(two_point, replace(options, monitor=True, monitor_states=True))


@pytest.fixture
def x(two_point: Network, make_input: Callable[..., IntArray]) -> IntArray:
    return make_input(two_point, 6, 5, seed=3)


def run(design: Design, x: IntArray, workers: int = 1, stalls: Stalls | None = None, reset_at: int = 0) -> Trace:
    return run_design(design, x, workers=workers, stalls=stalls, reset_at=reset_at, fast_build=True)


def mutated(design: Design, pattern: str, new: str) -> Design:
    """The design with every match of a pattern in its Verilog replaced; at least one."""
    text, count = re.subn(pattern, new, design.verilog)
    assert count, f"no {pattern!r} in the Verilog"
    return replace(design, verilog=text)


def test_the_trace_has_every_population_output_and_counter(design: Design, x: IntArray) -> None:
    trace = run(design, x)
    expected = golden.run(design.network, x, states=True)
    assert first_divergence(expected, trace) is None
    assert set(trace.values) == {"cells", "out"} and set(trace.outputs) == {"out"}
    assert set(trace.counters) == set(expected.counters)
    assert trace.engine == "verilated" and trace.cycles is not None and trace.cycles > x.shape[0] * x.shape[1]


@pytest.mark.parametrize("stalls", [Stalls(0.6, 0.0, 1), Stalls(0.0, 0.8, 2), Stalls(0.5, 0.5, 3)])
def test_stalls_cost_cycles_and_change_nothing_else(design: Design, x: IntArray, stalls: Stalls) -> None:
    free, held = run(design, x), run(design, x, stalls=stalls)
    assert first_divergence(free, held) is None
    assert held.cycles is not None and free.cycles is not None and held.cycles > free.cycles


def test_the_same_stall_seed_gives_the_same_cycles(design: Design, x: IntArray) -> None:
    one, same, other = (run(design, x, stalls=Stalls(0.5, 0.5, seed)) for seed in (7, 7, 8))
    assert one.cycles == same.cycles != other.cycles


@pytest.mark.parametrize("cycle", [1, 7, 40, 101])
def test_a_reset_in_the_middle_leaves_nothing_behind(design: Design, x: IntArray, cycle: int) -> None:
    free, restarted = run(design, x), run(design, x, reset_at=cycle)
    assert first_divergence(free, restarted) is None
    assert restarted.cycles == free.cycles


@pytest.mark.parametrize("workers", [2, 3, 50])
def test_workers_share_the_samples_and_the_trace_is_the_same(design: Design, x: IntArray, workers: int) -> None:
    assert first_divergence(run(design, x), run(design, x, workers)) is None


def test_progress_ends_with_all_samples(design: Design, x: IntArray) -> None:
    calls: list[tuple[int, int]] = []
    run_design(design, x, workers=1, fast_build=True, progress=lambda *done: calls.append(done))
    assert all(total == 6 and 0 <= done <= 6 for done, total in calls)
    assert calls[-1] == (6, 6)


def test_states_are_recorded_only_when_asked_for(lif: Network, make_input: Callable[..., IntArray]) -> None:
    options, x = default_options(lif, synapse_lanes=4, neuron_lanes=2), make_input(lif, 3, 6)
    plain = simulate(lif, options, x, workers=1, fast_build=True)
    full = simulate(lif, options, x, workers=1, fast_build=True, states=True)
    assert plain.states == {} and set(full.states) == {"hidden", "out"}
    assert first_divergence(golden.run(lif, x, states=True), full) is None
    assert first_divergence(full, plain) is None


def test_input_that_does_not_fit_is_refused_before_anything_is_built(
    design: Design, x: IntArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verilated, "build", lambda *_, **__: pytest.fail("built"))
    with pytest.raises(NetworkError, match=r"^input 'left': expected values 0 to 15, got 16 at sample 0"):
        run(design, np.where(np.arange(8) == 2, 16, x))


def test_a_second_build_finds_the_first(design: Design, monkeypatch: pytest.MonkeyPatch) -> None:
    first = build(design, fast_build=True)
    monkeypatch.setattr(tools, "run_tool", lambda *_, **__: pytest.fail("a tool ran"))
    folders = sorted(first.parent.parent.iterdir())
    assert build(design, fast_build=True) == first
    assert sorted(p for p in first.parent.parent.iterdir() if p in folders) == folders


def test_other_verilog_is_another_build(design: Design, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []

    def cached(kind: str, key_parts: tuple[str, ...], make: object) -> Path:
        made.append("\0".join(key_parts))
        return tmp_path

    monkeypatch.setattr(verilated, "made", cached)
    build(design, fast_build=True)
    build(replace(design, verilog=design.verilog + "// other\n"), fast_build=True)
    build(design)
    assert len(set(made)) == 3


def test_a_failed_build_leaves_nothing_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("APICAL_CACHE", str(tmp_path))

    def make(work: Path) -> None:
        (work / "keep" / "half").write_text("")
        raise RuntimeError("no compiler")

    with pytest.raises(RuntimeError, match=r"^no compiler$"):
        cache.made("kind", ("key",), make)
    assert list((tmp_path / "kind").iterdir()) == []


def test_an_input_that_is_never_taken_is_a_deadlock_with_what_is_left(design: Design, x: IntArray) -> None:
    deaf = mutated(design, r"(\w+\(|= )in0_ready([;)])", r"\1never_ready\2")
    deaf = mutated(deaf, r"  wire in0_ready;", "  wire never_ready;\n  wire in0_ready = 1'b0;")
    deaf = mutated(deaf, r"\(in0_valid\)", "(1'b0)")
    with pytest.raises(SimulationError) as error:
        run(deaf, x)
    assert re.match(r"deadlock: nothing moved for 200000 cycles before cycle \d+; ", str(error.value))
    assert re.search(r"; input 0 has (\d+) of \1 beats left; ", str(error.value))
    assert str(error.value).endswith("; output 0 closed 0 of 30 ticks")


def test_a_sample_mark_out_of_place_is_told_with_its_tick(design: Design, x: IntArray) -> None:
    unmarked = mutated(design, r"assign out0_final = [^;]+;", "assign out0_final = 1'b0;")
    with pytest.raises(SimulationError, match=r"^output 0: sample mark out of place at tick 4$"):
        run(unmarked, x)


def test_a_neuron_that_does_not_exist_is_told(design: Design, x: IntArray) -> None:
    ports = replace(design.manifest.outputs[0], size=1)
    small = replace(design, manifest=replace(design.manifest, outputs=(ports,)))
    with pytest.raises(SimulationError, match=r"^output 0: an event of a neuron that doesn't exist, at tick \d+$"):
        run(small, x)


def test_a_simulator_that_dies_is_told_with_its_status(
    design: Design, x: IntArray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "simulate"
    program.write_text("#!/bin/sh\necho out of memory >&2\nexit 3\n")
    program.chmod(0o755)
    monkeypatch.setattr(verilated, "build", lambda *_, **__: program)
    with pytest.raises(SimulationError, match=r"^the simulator ended with status 3: out of memory$"):
        run(design, x)


def test_the_header_is_made_of_indices_only(lif: Network, awkward: Network) -> None:
    headers = [
        model_header(generate(n, default_options(n, monitor=True, monitor_states=True)).manifest)
        for n in (lif, awkward)
    ]
    assert headers[0] == headers[1]


STUCK = """
import sys
from pathlib import Path
import numpy as np
from apical.hw.design import default_options
from apical.hw import tools
from apical.sim import verilated
from apical.sim.model_header import model_header
from apical.sw import bundle
network = bundle.load(Path(sys.argv[1]))
verilated.build = lambda *a, **k: Path(sys.argv[2])
x = np.zeros((4, 3, network.input_size), int)
verilated.simulate(network, default_options(network), x, workers=2)
"""


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").is_file(), reason="reads process states from /proc")
def test_ctrl_c_ends_the_simulators(lif_bundle: Path, tmp_path: Path) -> None:
    program = tmp_path / "simulate"
    program.write_text(f'#!/bin/sh\ntrap "" INT\necho $$ >> "{tmp_path}/pids"\nwhile :; do sleep 1; done\n')
    program.chmod(0o755)
    argv = [sys.executable, "-c", STUCK, str(lif_bundle), str(program)]
    process = subprocess.Popen(argv, stderr=subprocess.PIPE, text=True)
    pids: list[int] = []
    try:
        deadline = time.monotonic() + 120
        while len(pids) < 2 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.05)
            if (tmp_path / "pids").is_file():
                pids = [int(line) for line in (tmp_path / "pids").read_text().split()]
        assert len(pids) == 2, process.communicate()[1] if process.poll() is not None else "two simulators must start"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
        assert "KeyboardInterrupt" in said
        assert not any(_alive(pid) for pid in pids)
    finally:
        process.kill()
        for pid in pids:
            if _alive(pid):
                os.killpg(pid, signal.SIGKILL)
