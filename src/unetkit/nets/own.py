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
    with torch.device("meta"), torch.random.fork_rng():  # it may draw
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


# What code that does not fit raises when it is built or run.
_FAILURES = (RuntimeError, NotImplementedError, TypeError, ValueError, IndexError)


def result_channels(
    name: str, make: Callable[[], Any], channels: Sequence[int], space: tuple[int, ...], integers: bool = False
) -> int:
    """Channels of what the module called `name` makes of maps of size `space` with `channels`.

    Tried without memory where the module can run so, else with zeros. Raises SpecError: it fails, or changes the size.
    """
    try:
        with torch.device("meta"):
            maps, result = _tried(make, channels, space, integers)
    except _FAILURES:  # the values of its input may matter to it
        try:
            maps, result = _tried(make, channels, space, integers)
        except _FAILURES as error:
            shapes = " and ".join(str((1, n, *space)) for n in channels)
            raise SpecError(f"{name}: built and run on {shapes} it fails: {type(error).__name__}: {error}") from error
    if not isinstance(result, Tensor) or result.shape[2:] != maps[0].shape[2:]:
        shape = tuple(result.shape) if isinstance(result, Tensor) else type(result).__name__
        raise SpecError(
            f"{name}: for maps of {tuple(maps[0].shape)} it gives {shape}; a part of your own must give one map of the "
            "same size"
        )
    return int(result.shape[1])


def _tried(
    make: Callable[[], Any], channels: Sequence[int], space: tuple[int, ...], integers: bool
) -> tuple[list[Tensor], Any]:
    with torch.random.fork_rng(), torch.no_grad():  # it may draw
        module = built(make).eval()
        maps = [torch.zeros(1, n, *space, dtype=torch.long if integers else torch.float32) for n in channels]
        return maps, module(*maps)
