"""The optimiser: which parameters decay, which learn more slowly, and the update itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from unetkit.nets.build import UNet
from unetkit.nets.ops import Embed, Positions
from unetkit.plan.parts import OptimPlan

# Parameters of a network of the user's own that are places or single vectors, whatever their shape.
_PLACES = re.compile(r"(^|[._])(pos|position|positions|relative|cls|token)([._]|$)|pos_embed|position_bias")


def make_optimiser(net: nn.Module, plan: OptimPlan) -> torch.optim.Optimizer:
    """The optimiser of the plan. Norms, biases, embeddings and positions do not decay. `set_rate` sets the learning
    rate before every step."""
    groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
    scales = _scales(net, plan.layer_decay)
    for name, parameter, decays in _parameters(net):
        groups.setdefault((scales.get(name.partition(".")[0], 1.0), decays), []).append(parameter)
    listed = [
        {"params": params, "scale": scale, "weight_decay": plan.weight_decay if decays else 0.0}
        for (scale, decays), params in sorted(groups.items(), key=lambda entry: (-entry[0][0], not entry[0][1]))
    ]
    fused = next(net.parameters()).device.type in ("cpu", "cuda")
    if plan.name == "sgd":
        return torch.optim.SGD(listed, lr=plan.lr, fused=fused, momentum=plan.momentum, nesterov=plan.momentum > 0)
    if plan.name == "lion":
        return Lion(listed, lr=plan.lr)
    return torch.optim.AdamW(listed, lr=plan.lr, fused=fused)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Let every parameter learn at its share of the learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["scale"]


def clip_gradient(net: nn.Module, most: float | None) -> None:
    """Scale the gradient so that its norm over all parameters is at most `most`; none: leave it."""
    if most is not None:
        nn.utils.clip_grad_norm_(net.parameters(), most)


def _parameters(net: nn.Module) -> Iterator[tuple[str, nn.Parameter, bool]]:
    """Every parameter once: its name, and whether it decays."""
    seen: set[int] = set()
    for prefix, module in net.named_modules():
        vectors = isinstance(module, Embed | Positions | nn.Embedding)
        for own, parameter in module.named_parameters(recurse=False):
            name = f"{prefix}.{own}" if prefix else own
            if id(parameter) not in seen:
                seen.add(id(parameter))
                yield name, parameter, parameter.ndim > 1 and not vectors and not _PLACES.search(name)


def _scales(net: nn.Module, decay: float) -> dict[str, float]:
    """How fast each part of the network learns beside the last one, by name, in the order in which they run."""
    if decay == 1:
        return {}
    if isinstance(net, UNet):
        parts = [layer.module.partition(".")[0] for layer in net.program.layers]
    else:
        parts = [name for name, _ in net.named_children()]
    learning = {name for name, module in net.named_children() if next(module.parameters(), None) is not None}
    ordered = [name for name in dict.fromkeys(parts) if name in learning]
    return {name: decay ** (len(ordered) - 1 - n) for n, name in enumerate(ordered)}


class Lion(torch.optim.Optimizer):
    """Evolved sign momentum (Chen 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2): every weight
    moves by the learning rate, in the direction that a running mean of the gradient has."""

    def __init__(self, params: Any, lr: float, betas: tuple[float, float] = (0.9, 0.99)) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": 0.0})
        self.betas = betas

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        if closure is not None:
            raise ValueError("the gradients are computed before a step, not in it")
        first, second = self.betas
        for group in self.param_groups:
            params: list[Tensor] = [p for p in group["params"] if p.grad is not None]
            if not params:
                continue
            grads = [p.grad for p in params if p.grad is not None]
            for p in params:
                if "exp_avg" not in self.state[p]:
                    self.state[p]["exp_avg"] = torch.zeros_like(p)
            means = [self.state[p]["exp_avg"] for p in params]
            towards = torch._foreach_lerp(means, grads, 1 - first)
            torch._foreach_sign_(towards)
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(params, towards, alpha=-group["lr"])
            torch._foreach_lerp_(means, grads, 1 - second)
