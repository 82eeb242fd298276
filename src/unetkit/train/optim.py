"""The optimiser and the running average of the weights."""

from __future__ import annotations

import copy

import torch
from torch import nn

from unetkit.nets.build import UNet
from unetkit.plan.parts import OptimPlan


def make_optimiser(net: nn.Module, plan: OptimPlan) -> torch.optim.AdamW:
    """AdamW (Loshchilov 2019); norms and biases do not decay. The learning rate is set before every step."""
    decay = [p for p in net.parameters() if p.ndim > 1]
    rest = [p for p in net.parameters() if p.ndim <= 1]
    groups = [{"params": decay, "weight_decay": plan.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    device = next(net.parameters()).device.type
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=plan.lr, fused=device in ("cpu", "cuda"))


class Average:
    """Exponential moving average of parameters and floating-point buffers: what is validated, saved and used.

    At step n the decay is min(decay, n / (n + 10)), so that the first steps are forgotten quickly.
    """

    def __init__(self, net: UNet, decay: float) -> None:
        self.net = copy.deepcopy(net).eval().requires_grad_(False)
        self.decay = decay

    @torch.no_grad()
    def update(self, net: UNet, steps_done: int) -> None:
        """Move a little towards `net`, after its step number `steps_done` (from 1)."""
        decay = min(self.decay, steps_done / (steps_done + 10))
        mine, theirs = _floats(self.net), _floats(net)
        torch._foreach_lerp_(mine, theirs, 1 - decay)
        for own, other in zip(_counters(self.net), _counters(net), strict=True):
            own.copy_(other)


def _floats(net: nn.Module) -> list[torch.Tensor]:
    return [t for t in (*net.parameters(), *net.buffers()) if t.is_floating_point()]


def _counters(net: nn.Module) -> list[torch.Tensor]:
    return [t for t in net.buffers() if not t.is_floating_point()]
