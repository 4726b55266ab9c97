"""The peers' nets compute and train, so that their times are those of real training steps."""

from __future__ import annotations

import sys

import pytest
import torch

from apical.sw import cli_bench, cli_bench_training, peers
from apical.sw.peers import Loop

PEERS = {"snntorch": peers.SnnTorch, "norse": peers.Norse}


@pytest.mark.filterwarnings("ignore")  # the libraries' own
@pytest.mark.parametrize("name", sorted(PEERS))
def test_every_parameter_of_a_peer_trains(name: str) -> None:
    pytest.importorskip(name)
    torch.manual_seed(0)
    net: Loop = PEERS[name]([5, 8, 7, 3])
    x = (torch.rand(12, 4, 5) < 0.7).float() * 3
    y = net(x)
    assert y.shape == (12, 4, 3)
    y.square().sum().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None or not bool(p.grad.any())] == []


def test_a_missing_peer_is_said_and_ours_still_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "norse.torch", None)
    monkeypatch.setitem(sys.modules, "snntorch", None)
    monkeypatch.setattr(cli_bench_training, "TRAINED", {"": "ecg-srnn"})
    monkeypatch.setattr(cli_bench_training, "TICKS", 8)
    monkeypatch.setattr(cli_bench_training, "TURNS", 1)
    found = cli_bench.training()
    assert found.peers == {name: "not installed: pip install -e '.[peers]'" for name in PEERS}
    assert found.figures["ticks_per_second_compiled"] > 0  # type: ignore[operator]
    assert set(found.figures) >= {"ticks_per_second_eager", "ratio_eager"}
