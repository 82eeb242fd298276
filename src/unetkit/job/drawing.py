"""Drawings of a case of any number of axes, as a grey or coloured picture and layers of class indices over it: an image
whole, a volume as three planes through what is to be found, a signal as a trace in front of which every sample's class
fills its column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unetkit.data.sizes import extent
from unetkit.report.pictures import OUTSIDE

# Longest side (pixels) of a picture.
PICTURE = 1024
# Pixels between the planes of a volume.
GAP = 8
# Width of a signal's picture, height of each channel in it, the most channels and the most samples in a column.
WIDTH, HEIGHT, CHANNELS, DENSITY = 1600, 220, 3, 8
PAPER, GRID, INK = 250, 225, 40

Label = NDArray[np.uint8]
Contrast = tuple[float, float]
"""The values that are shown black and white; of a trace, those at the bottom and at the top."""


@dataclass(frozen=True)
class Drawn:
    """A picture, labels on its pixels, and what of the case they show."""

    image: Image.Image
    labels: tuple[Label, ...]
    size: str


def draw_case(
    image_CX: NDArray[np.float32],
    labels_X: Sequence[Label],
    wanted_X: NDArray[np.bool_],
    spacing: tuple[float, ...] | None,
) -> Drawn:
    """A case of any number of axes. wanted_X: what is to be seen, of volumes and long signals."""
    if wanted_X.ndim == 3:
        return draw_planes(image_CX[0], labels_X, wanted_X, spacing or (1.0, 1.0, 1.0))
    if wanted_X.ndim == 1:
        return draw_trace(image_CX, labels_X, wanted_X, None if spacing is None else spacing[0])
    layers = tuple(np.asarray(_shrink(Image.fromarray(label_X), smooth=False)) for label_X in labels_X)
    return Drawn(_shrink(_picture(image_CX), smooth=True), layers, extent(wanted_X.shape))


def draw_planes(
    image_X: NDArray[np.float32],
    labels_X: Sequence[Label],
    wanted_X: NDArray[np.bool_],
    spacing: tuple[float, ...],
    width: int = PICTURE,
    gap: int = GAP,
    contrast: Contrast | None = None,
) -> Drawn:
    """For each axis the plane across it that holds most of what is wanted, side by side, enlarged to be seen."""
    places = []
    for axis in range(3):
        count = wanted_X.sum(axis=tuple(a for a in range(3) if a != axis))
        # of equal ones (or where nothing is) the one nearest to the middle
        best = np.flatnonzero(count == count.max())
        places.append(int(best[np.argmin(np.abs(best - (len(count) - 1) / 2))]))
    shape, least = wanted_X.shape, min(spacing)
    lengths = [n * s / least for n, s in zip(shape, spacing, strict=True)]
    wide, room = sum(lengths[b] for b, _ in _AXES), width - 2 * gap
    zoom = max(1.0, room // wide) if wide <= room else room / wide
    grey_X = eight_bits(image_X, contrast)

    def montage(volume_X: NDArray[np.uint8], outside: int) -> NDArray[np.uint8]:
        planes = []
        for axis, (b, c) in enumerate(_AXES):
            # the later axis upwards, as scanners name them: of a standing subject feet to head
            plane = np.flip(volume_X.take(places[axis], axis).T, 0)
            size = (max(1, round(lengths[b] * zoom)), max(1, round(lengths[c] * zoom)))
            planes.append(np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.NEAREST)))
        height = max(p.shape[0] for p in planes)
        canvas = np.full((height, sum(p.shape[1] for p in planes) + 2 * gap), outside, np.uint8)
        left = 0
        for plane in planes:
            top = (height - plane.shape[0]) // 2
            canvas[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
            left += plane.shape[1] + gap
        return canvas

    where = ", ".join(f"{name} = {place}" for name, place in zip("xyz", places, strict=True))
    layers = tuple(montage(label_X, OUTSIDE) for label_X in labels_X)
    return Drawn(Image.fromarray(montage(grey_X, 0)), layers, f"{extent(shape)}, planes {where}")


# The two axes that are seen in the plane across each axis: to the right, and upwards.
_AXES = ((1, 2), (0, 2), (0, 1))


def draw_trace(
    image_CX: NDArray[np.float32],
    labels_X: Sequence[Label],
    wanted_X: NDArray[np.bool_],
    spacing: float | None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    channels: int = CHANNELS,
    ranges: Sequence[Contrast] | None = None,
    whole: bool = False,
) -> Drawn:
    """The first channels over time; of a long signal (unless `whole`) the part that holds most of what is wanted. size:
    of each channel (pixels). ranges: of each channel the values at the bottom and at the top; None: its own."""
    n, (width, height) = len(wanted_X), size
    length = n if whole else min(n, width * DENSITY // 2)
    found = np.concatenate([[0], np.cumsum(wanted_X)])
    start = int(np.argmax(found[length:] - found[: n - length + 1]))
    part = slice(start, start + length)
    shown_CX = image_CX[:channels, part]
    picture = Image.new("L", (width, height * len(shown_CX)), PAPER)
    draw = ImageDraw.Draw(picture)
    step = _grid(length * (spacing or 1.0)) / (spacing or 1.0)
    for k in range(1, int(length / step) + 1):
        x = round(k * step / length * width)
        draw.line([(x, 0), (x, picture.height)], fill=GRID)
    x_N = (np.arange(length) + 0.5) / length * width
    for row, signal in enumerate(np.nan_to_num(shown_CX, posinf=0, neginf=0)):
        low, high = (float(signal.min()), float(signal.max())) if ranges is None else ranges[row]
        y_N = height * (row + 0.05 + 0.9 * np.clip((high - signal) / max(high - low, 1e-9), 0, 1))
        points = [(float(x), float(y)) for x, y in zip(x_N, y_N, strict=True)]
        draw.line(points if len(points) > 1 else [(0.0, points[0][1]), (float(width), points[0][1])], fill=INK, width=2)
    columns = start + ((np.arange(width) + 0.5) * length / width).astype(int)
    text = extent(wanted_X.shape)
    if spacing is not None:
        text += f" ({n * spacing:.4g} s, a line every {step * spacing:.3g} s)"
    if length < n:
        text += f", samples {start} to {start + length}"
    bands = tuple(np.repeat(label_X[columns][None], picture.height, axis=0) for label_X in labels_X)
    return Drawn(picture, bands, text)


def _grid(length: float) -> float:
    """A round distance (1, 2 or 5 times a power of ten) of about eight to sixteen lines over `length`."""
    rough = length / 16
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= rough))


def contrast_of(image_CX: NDArray[np.float32]) -> Contrast:
    """The 0.5 and the 99.5 percentile."""
    low, high = np.percentile(np.nan_to_num(image_CX, posinf=0, neginf=0), (0.5, 99.5))
    return float(low), float(high)


def eight_bits(image_CX: NDArray[np.float32], contrast: Contrast | None = None) -> NDArray[np.uint8]:
    """Stretched between the values of `contrast`; None: its own."""
    finite = np.nan_to_num(image_CX, posinf=0, neginf=0)
    low, high = contrast or contrast_of(finite)
    scaled: NDArray[Any] = np.clip((finite - low) / max(high - low, 1e-6), 0, 1) * 255
    return scaled.astype(np.uint8)


def _picture(image_CYX: NDArray[np.float32]) -> Image.Image:
    """8-bit grey or RGB."""
    pixels = eight_bits(image_CYX[:3] if len(image_CYX) >= 3 else image_CYX[:1])
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1).copy())


def _shrink(picture: Image.Image, smooth: bool) -> Image.Image:
    factor = PICTURE / max(picture.size)
    if factor >= 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)
