"""Values of masks: numbers, or RGB colours packed into numbers; how they are told to people, and shown."""

from __future__ import annotations

import colorsys
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
Ints: TypeAlias = NDArray[np.int64]
Colour: TypeAlias = tuple[int, int, int]
Value: TypeAlias = int | Colour

# Okabe and Ito, "Color Universal Design" (2008): distinguishable with any colour vision
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (0, 114, 178),
    (213, 94, 0),
    (204, 121, 167),
)


def pack(colours_CX: Array) -> Ints:
    """(3, …) 8-bit colours as one integer each: red · 65536 + green · 256 + blue."""
    red, green, blue = colours_CX.astype(np.int64)
    packed: Ints = (red << 16) | (green << 8) | blue
    return packed


def unpack(packed_X: Ints) -> Ints:
    """Inverse of `pack`: (…) integers as (3, …) colours."""
    return np.stack([packed_X >> 16 & 255, packed_X >> 8 & 255, packed_X & 255])


def code(value: Value) -> int:
    """A class value as one integer: itself, or the packed colour."""
    return value if isinstance(value, int) else value[0] << 16 | value[1] << 8 | value[2]


def show(value: Value) -> str:
    """A class value as the user knows it: `127`, or `#ff0000`."""
    return str(value) if isinstance(value, int) else f"#{code(value):06x}"


def percent(share: float) -> str:
    """A share in [0, 1] in words: '22 %', '0.74 %', 'under 0.001 %'."""
    value = 100 * share
    if 0 < value < 0.001:
        return "under 0.001 %"
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"


def display_colour(index: int) -> Colour:
    """The colour in which foreground class number `index` (from 0) is shown; the same on every machine."""
    if index < len(PALETTE):
        return PALETTE[index]
    # golden-ratio steps around the colour circle keep any number of further classes apart
    turn = (index - len(PALETTE)) * 0.61803398875 % 1
    red, green, blue = colorsys.hsv_to_rgb(turn, 0.55 + 0.4 * (index % 2), 0.95 - 0.25 * (index % 3))
    return round(255 * red), round(255 * green), round(255 * blue)
