"""Train the float ECG network of Yin, Corradi and Bohté in their parameterization: the importer's test subject.

Their published ECG recipe (ECG/adapt_srnn_0.844_gpu-v1.py): 4-36 recurrent-6, b0 = 0.01, Adam at 0.01 (time
constants 3 x and 2 x that, all halved every quarter of the epochs), batches of 64, negative log-likelihood of the
output membranes in every tick from the tenth on, gradients through the resets, 400 epochs. Two changes: the model is
chosen on the validation split (theirs on training accuracy), and each array's gradient is clipped to twice its
running median norm.

The state dict that comes out has the keys and shapes of theirs. Run: python tests/make_float_srnn.py OUT.pth
"""

from __future__ import annotations

import statistics
import sys
from collections import defaultdict

import torch
from torch import Tensor

from apical.sw import datasets, fused
from apical.sw.laws import AdaptiveLif
from apical.sw.surrogate import multi_gaussian

INPUTS, HIDDEN, OUTPUTS = 4, 36, 6
B0, BETA, ETA = 0.01, 1.8, 0.01
RATE, BATCH, SKIP = 1e-2, 64, 10
SPEEDS = {"tau_m_h": 3.0, "tau_adp_h": 3.0, "tau_m_o": 2.0, "tau_adp_o": 2.0}


def initial() -> dict[str, Tensor]:
    """Their start: orthogonal recurrence, Xavier elsewhere, time constants of 20, 7 and 100 ticks."""
    out = {
        "i2h.weight": torch.nn.init.xavier_uniform_(torch.empty(HIDDEN, INPUTS)),
        "h2h.weight": torch.nn.init.orthogonal_(torch.empty(HIDDEN, HIDDEN)),
        "h2o.weight": torch.nn.init.xavier_uniform_(torch.empty(OUTPUTS, HIDDEN)),
        "i2h.bias": torch.zeros(HIDDEN),
        "h2h.bias": torch.zeros(HIDDEN),
        "h2o.bias": torch.zeros(OUTPUTS),
        "tau_m_h": torch.full((HIDDEN,), 20.0),
        "tau_adp_h": torch.full((HIDDEN,), 7.0),  # in their file, but of no effect: the hidden cells don't adapt
        "tau_m_o": torch.full((OUTPUTS,), 20.0),
        "tau_adp_o": torch.full((OUTPUTS,), 100.0),
    }
    return {name: tensor.requires_grad_() for name, tensor in out.items()}


class Net:
    """Forward pass of the state dict, by the compiled step in real arithmetic."""

    def __init__(self) -> None:
        self.laws = AdaptiveLif(), AdaptiveLif(sends="membrane")
        units = [
            fused.Unit(fused.Kind(law, multi_gaussian, True), n)
            for law, n in zip(self.laws, (HIDDEN, OUTPUTS), strict=True)
        ]
        links = [fused.Link(0, 0, 0, 0), fused.Link(1, 0, 0, 1), fused.Link(1, 1, 0, 0)]
        self.plan = fused.Plan([INPUTS], units, links, True, torch.float32)

    def __call__(self, p: dict[str, Tensor], x: Tensor) -> Tensor:
        """Output membranes [samples, ticks, classes] of spikes [samples, ticks, channels]."""
        samples, fill = x.shape[0], -x.shape[0] % fused.PAD
        one = float(1 << self.laws[0].decay_bits)
        alpha, alpha_o = torch.exp(-1 / p["tau_m_h"]), torch.exp(-1 / p["tau_m_o"])
        rho_o = torch.exp(-1 / p["tau_adp_o"])
        b0, none = torch.tensor([B0]), torch.zeros(1)
        hidden = {
            "decay": alpha * one,
            "adaptation_decay": none,
            "threshold": b0,
            "adaptation": none,
            "bias": (1 - alpha) * (p["i2h.bias"] + p["h2h.bias"]),
        }
        output = {
            "decay": alpha_o * one,
            "adaptation_decay": rho_o * one,
            "threshold": b0,
            "adaptation": BETA * (1 - rho_o),
            "bias": (1 - alpha_o) * p["h2o.bias"],
        }
        starts = [{"v": B0 / 2, "a": 0.0, "s": 0.0}, {"v": B0 / 2, "a": BETA * ETA, "s": 0.0}]
        states = [
            [torch.full((u.size, samples + fill), starts[n][k]) for k in self.plan.code(n).states]
            for n, u in enumerate(self.plan.units)
        ]
        params = [[given[k] for k in self.plan.code(n).params] for n, given in enumerate((hidden, output))]
        weights = [
            (1 - alpha)[:, None] * p["i2h.weight"],
            (1 - alpha)[:, None] * p["h2h.weight"],
            (1 - alpha_o)[:, None] * p["h2o.weight"],
        ]
        inward = torch.nn.functional.pad(x.permute(1, 2, 0), (0, fill))
        past = [torch.zeros(1, n, samples + fill) for n in (INPUTS, HIDDEN, OUTPUTS)]
        widths = [torch.ones(1), torch.ones(1)]  # their surrogate isn't scaled to the threshold
        values, _ = fused.run(self.plan, [inward], past, states, params, widths, weights)
        return values[1].permute(2, 0, 1)[:samples]


def accuracy(net: Net, p: dict[str, Tensor], data: datasets.Data) -> float:
    with torch.no_grad():
        classes = net(p, torch.from_numpy(data.images).float()).argmax(2).numpy()
    return data.truth.accuracy(classes) or 0.0


def train(epochs: int, seed: int) -> dict[str, Tensor]:
    """The state dict that is best on the validation split."""
    torch.manual_seed(seed)
    net, p = Net(), initial()
    data, judged = datasets.load("ecg-qtdb:train"), datasets.load("ecg-qtdb:validation")
    groups = [{"params": [tensor], "lr": RATE * SPEEDS.get(name, 1.0)} for name, tensor in p.items()]
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, max(epochs // 4, 1), 0.5)
    norms: defaultdict[str, list[float]] = defaultdict(list)
    best, kept = 0.0, {name: tensor.detach().clone() for name, tensor in p.items()}
    for epoch in range(epochs):
        total = 0.0
        order = torch.randperm(len(data)).numpy()
        for first in range(0, len(data), BATCH):
            rows = order[first : first + BATCH]
            x = torch.from_numpy(data.images[rows]).float()
            labels = torch.from_numpy(data.labels[rows])
            scores = net(p, x)[:, SKIP:]
            loss = torch.nn.functional.cross_entropy(scores.transpose(1, 2), labels[:, SKIP:])
            optimizer.zero_grad()
            (loss * scores.shape[1]).backward()  # type: ignore[no-untyped-call]
            for name, tensor in p.items():
                if tensor.grad is None:
                    continue
                norm = float(tensor.grad.norm())
                if len(norms[name]) > 10:
                    limit = 2 * statistics.median(norms[name][-50:])
                    tensor.grad.mul_(min(1.0, limit / max(norm, 1e-30)))
                norms[name].append(norm)
            optimizer.step()
            total += float(loss.detach()) * len(rows)
        schedule.step()
        now = accuracy(net, p, judged)
        if now > best:
            best, kept = now, {name: tensor.detach().clone() for name, tensor in p.items()}
        print(
            f"epoch {epoch + 1}/{epochs}: loss {total / len(data):.4f}, validation {now:.4f}, best {best:.4f}",
            flush=True,
        )
    print(f"test {accuracy(net, kept, datasets.load('ecg-qtdb:test')):.4f}")
    return kept


if __name__ == "__main__":
    epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 400
    seed = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    torch.save(train(epochs, seed), sys.argv[1])
