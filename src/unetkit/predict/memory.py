"""How many pixels may go through the network at once in the memory that is allowed."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from unetkit.core.machine import free_memory, resident_memory
from unetkit.nets.geometry import activation_memory, geometry
from unetkit.nets.spec import NetSpec
from unetkit.predict.lower import Precision

DEFAULT = 1_500_000_000  # bytes that a process holds on a CPU unless told otherwise
# Beyond this a tile gains nothing more: the halo is a few percent of it, and its maps are far larger than any cache.
MOST_PIXELS = 2048 * 2048
# What a tile costs beside the maps inside the network, bytes per pixel: the image and its normalised copy, the label;
# and for each class logits and probabilities.
_PER_PIXEL, _PER_PIXEL_AND_CLASS = 24, 12
_LEAST_SHARE = 0.25  # of the memory allowed goes to tiles, however much the process holds already
# The convolution library keeps reordered copies and scratch memory that no formula knows.
_SCRATCH = 1.25
_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2}


def allowed_memory(asked: int | None, device: torch.device) -> int:
    """Bytes that may be held. On a CPU by the whole process: as asked, or half of what is free and 1.5 GB at most.
    On a GPU of its memory: as asked, or half of what is free; never more than is free."""
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
        return min(asked, free) if asked else free // 2
    return asked or min(DEFAULT, resident_memory() + free_memory() // 2)


def tile_pixels(spec: NetSpec, shape: Sequence[int], precision: Precision, allowed: int, device: torch.device) -> int:
    """Pixels of the largest tile for images of `shape` that keeps the process (on a GPU: its memory) within `allowed`
    bytes. At least a quarter of it is given to tiles, however much the process holds already."""
    facts = geometry(spec)
    sample = facts.fit(tuple(8 * d for d in facts.divisor))
    held = activation_memory(spec, 1, sample, _BYTES[precision], training=False)
    per_pixel = held / math.prod(sample) * _SCRATCH + _PER_PIXEL + _PER_PIXEL_AND_CLASS * spec.classes
    if device.type == "cuda":
        return _written(max(1, min(MOST_PIXELS, int(allowed / per_pixel))), facts.margin)
    room = max(allowed - resident_memory(), allowed * _LEAST_SHARE)
    # Results wait in bands of rows: labels and half-precision probabilities until a row of the file's own tiles
    # (512 pixels) is complete, blended probabilities until no further tile reaches them.
    per_row = math.prod(shape[1:]) * (1 + 2 * spec.classes + (0 if facts.local else 8 * (spec.classes + 1)))
    pixels = float(MOST_PIXELS)
    while pixels > 1 and pixels * per_pixel + (pixels ** (1 / len(shape)) + 512) * per_row > room:
        pixels *= 0.9
    return _written(max(1, int(pixels)), facts.margin)


def _written(pixels: int, margin: Sequence[int]) -> int:
    """Of `pixels` that go through the network those that come out: unpadded convolutions take a margin away."""
    if not any(margin):
        return pixels
    side = pixels ** (1 / len(margin))
    return max(1, int(math.prod(max(1.0, side - 2 * m) for m in margin)))
