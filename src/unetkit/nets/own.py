"""What can be found out about a torch module of the user's own: by building it without memory, and by running it so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from unetkit.core.errors import SpecError
from unetkit.nets.program import Layer


def built(make: Callable[[], Any]) -> nn.Module:
    """The module. Raises SpecError where what was made is none."""
    module = make()
    if not isinstance(module, nn.Module):
        raise SpecError(f"a part of your own gave {type(module).__name__}; it must give a torch.nn.Module")
    return module


def count_parameters(layer: Layer) -> int:
    """Learned numbers."""
    assert layer.make is not None
    with torch.device("meta"):
        return sum(p.numel() for p in built(layer.make).parameters())


def count_flops(layer: Layer, space: Sequence[int]) -> int:
    """Floating point operations on one map of that size, as torch counts them. With several inputs all have the
    channels of the first, and nothing is counted."""
    assert layer.make is not None
    if len(layer.inputs) > 1:
        return 0
    with torch.device("meta"), FlopCounterMode(display=False) as counter, torch.no_grad():
        built(layer.make).eval()(torch.empty(1, layer.in_channels, *space))
    return int(counter.get_total_flops())


def result_channels(make: Callable[[], Any], channels: Sequence[int], ndim: int, side: int = 32) -> int:
    """Channels of what the module makes of maps with `channels`. Raises SpecError where it changes their size."""
    with torch.device("meta"), torch.no_grad():
        module = built(make).eval()
        maps = [torch.empty(1, n, *(side,) * ndim) for n in channels]
        result: Any = module(*maps)
    if not isinstance(result, Tensor) or result.shape[2:] != maps[0].shape[2:]:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise SpecError(
            f"{type(module).__name__}: for maps of {tuple(maps[0].shape)} it gives {shape}; a part of your own must "
            "give one map of the same size"
        )
    return int(result.shape[1])
