"""Lighter copies of a trained network for inference: batch norm folded away, columns of a nested network left out."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from unetkit.core.errors import SpecError
from unetkit.nets.build import UNet, build
from unetkit.nets.ops import EPSILON
from unetkit.nets.program import without_batch_norm


@torch.no_grad()
def fold_batch_norm(net: UNet) -> UNet:
    """A copy for inference, in evaluation mode, whose batch norms are folded into the convolutions before them.

    Equal to the network in evaluation mode up to rounding; faster and smaller. Heads for deep supervision are left
    out. A network without batch norm is only copied.
    """
    program, folded = without_batch_norm(net.program.inference)
    copy = deepcopy(net)
    copy.install(program)
    first = next(net.parameters())
    copy.to(device=first.device, dtype=first.dtype)
    for layer in program.layers:
        if layer.weights:
            continue
        source, target = net.get_submodule(layer.name), copy.get_submodule(layer.name)
        if layer.name not in folded:
            target.load_state_dict(source.state_dict())
            continue
        state = {name: value.double() for name, value in source.state_dict().items()}
        scale_C, shift_C = _affine(net.get_submodule(folded[layer.name]))
        out_axis = 1 if layer.kind == "transposed" else 0
        shape = [-1 if axis == out_axis else 1 for axis in range(state["weight"].ndim)]
        bias_C = shift_C + scale_C * state.get("bias", torch.zeros_like(scale_C))
        target.load_state_dict({"weight": state["weight"] * scale_C.view(shape), "bias": bias_C})
    return copy.eval()


def prune(net: UNet, columns: int) -> UNet:
    """A copy of a nested network (U-Net++) that uses its first `columns` columns, and gives the logits of their head.

    Equal to that head of the whole network (Zhou 2018, section 3.3: L1 … L4). Raises SpecError: not a nested network,
    or one that was built without deep supervision, so that its inner columns have no heads.
    """
    spec = net.spec.replace({"prune": columns})
    if not (spec.deep_supervision or columns == spec.levels - 1):
        raise SpecError("this network has no heads for its inner columns; build it with deep_supervision=True")
    smaller = build(spec, strict=net.strict)
    first = next(net.parameters())
    smaller.to(device=first.device, dtype=first.dtype)
    state = net.state_dict()
    smaller.load_state_dict({name: state[name] for name in smaller.state_dict()})
    return smaller.train(net.training)


def _affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """The scale and the shift, in double precision, that a batch norm is in evaluation mode."""
    state = {name: value.double() for name, value in norm.state_dict().items()}
    scale_C = state.get("weight", 1.0) / (state["running_var"] + EPSILON).sqrt()
    return scale_C, state.get("bias", 0.0) - state["running_mean"] * scale_C
