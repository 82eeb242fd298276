"""The prediction drawn over its image: transparent colours with solid outlines, of each object where there are any.

At most 4096 pixels a side: of larger images every n-th pixel is shown. Of a volume, its three middle planes are drawn
side by side.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats import create_image
from unetkit.data.labels.legend import Legend
from unetkit.predict.finished import Finished

LONGEST = 4096
OPACITY = 0.35
SIDE = 512  # pixels of the longest side of a volume
GAP = 8  # black pixels between planes
BAND = 1 << 22  # pixels read at once


def write_overlay(path: Path, finished: Finished) -> None:
    """Draw a prediction over its image into `path` (PNG, RGB). Raises ValueError: the image is not at hand, or a
    signal."""
    ndim = len(finished.info.shape)
    if finished.image is None or ndim not in (2, 3):
        raise ValueError(f"overlays are drawn of images and volumes, with the image; this has {ndim} axes")
    picture = _image(finished) if ndim == 2 else _planes(finished)
    with create_image(path, picture.shape[1:], 3, "uint8") as writer:
        writer.write(Region.of(picture.shape[1:]), picture)


def _image(finished: Finished) -> NDArray[np.uint8]:
    """Every n-th pixel, read band by band."""
    shape = finished.info.shape
    step = -(-max(shape) // LONGEST)
    small = tuple(-(-n // step) for n in shape)
    label_YX, ids_YX = np.full(small, IGNORE, np.uint8), np.zeros(small, np.uint32)
    image: list[NDArray[Any]] = []  # one canvas per channel, made when their type is known
    for rows, region in _bands(shape, step):
        label_YX[rows] = finished.labels(region)[::step, ::step]
        ids_YX[rows] = label_YX[rows] if finished.objects is None else finished.objects(region)[::step, ::step]
        channels = _pixels(finished, region)
        if not image:
            image.extend(np.zeros(small, channels.dtype) for _ in (range(3) if len(channels) == 3 else range(1)))
        for canvas, pixels in zip(image, channels, strict=False):
            canvas[rows] = pixels[::step, ::step]
    return draw(image, label_YX, finished.legend, ids_YX=ids_YX)


def _bands(shape: tuple[int, ...], step: int) -> Iterator[tuple[slice, Region]]:
    """Rows of the small picture, and what of the image they show."""
    rows = max(1, BAND // (step * shape[1]))
    for start in range(0, shape[0], rows * step):
        stop = min(start + rows * step, shape[0])
        yield slice(start // step, -(-stop // step)), Region((start, 0), (stop, shape[1]))


def _planes(finished: Finished) -> NDArray[np.uint8]:
    """The three planes through the middle, side by side, as large as they are.

    Each plane is seen along one axis of the array, the later of the other two upwards. Voxels that are not cubes are
    drawn as long as they are. Of several channels, the first is shown.
    """
    shape = finished.info.shape
    parts: list[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]] = []
    for axis in range(3):
        sides = [a for a in range(3) if a != axis]
        thin = Region(
            tuple(shape[a] // 2 if a == axis else 0 for a in range(3)),
            tuple(shape[a] // 2 + 1 if a == axis else shape[a] for a in range(3)),
        )
        label_X = finished.labels(thin).squeeze(axis)
        ids_X = label_X if finished.objects is None else finished.objects(thin).squeeze(axis)
        image_X = _pixels(finished, thin)[0].squeeze(axis)
        index = np.ix_(*(_places(a, shape, finished.info.spacing) for a in sides))
        parts.append((np.rot90(image_X[index]), np.rot90(label_X[index]), np.rot90(ids_X[index])))
    contrast = _contrast([image_X for image_X, _, _ in parts])
    planes = [draw([image_X], label_X, finished.legend, contrast, ids_X) for image_X, label_X, ids_X in parts]
    height = max(plane.shape[1] for plane in planes)
    width = sum(plane.shape[2] for plane in planes) + 2 * GAP
    picture, left = np.zeros((3, height, width), np.uint8), 0
    for plane in planes:
        picture[:, : plane.shape[1], left : left + plane.shape[2]] = plane
        left += plane.shape[2] + GAP
    return picture


def _pixels(finished: Finished, region: Region) -> NDArray[Any]:
    """The raw pixels of a region (C, *region), in a type that is no larger than needed."""
    if finished.image is None:
        raise ValueError("the image itself is needed, and is not at hand")
    image_CX = finished.image(region)
    return image_CX if image_CX.dtype.kind in "iub" else image_CX.astype(np.float32, copy=False)


def _places(axis: int, shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> NDArray[np.int64]:
    """The voxel that each pixel of a plane shows along an axis: about `SIDE` pixels for the longest of the volume."""
    lengths = [n * s for n, s in zip(shape, spacing or (1.0,) * len(shape), strict=True)]
    pixels = max(1, round(SIDE * lengths[axis] / max(lengths)))
    return np.arange(pixels) * shape[axis] // pixels


def draw(
    image_CYX: Sequence[NDArray[Any]] | NDArray[Any],
    label_YX: NDArray[np.uint8],
    legend: Legend,
    contrast: tuple[float, float] | None = None,
    ids_YX: NDArray[Any] | None = None,
    strength: tuple[float, float] = (OPACITY, 1.0),
) -> NDArray[np.uint8]:
    """An image (1 or 3 channels, any range) with its labels drawn over it: (3, h, w) uint8.

    contrast: the values that are shown black and white; None: the 0.5 and 99.5 percentiles. ids_YX: of the objects,
    each of which is outlined; None: every class is. The background class (where there is one) and unlabelled pixels
    show the image alone. strength: of the colours, and of the outlines.
    """
    colour, shown = legend.display()
    outlined = label_YX if ids_YX is None else ids_YX
    edge = np.zeros(label_YX.shape, bool)
    for one, two in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        differs = outlined[one] != outlined[two]
        edge[one] |= differs
        edge[two] |= differs
    inside, outline = (np.float32(v) for v in strength)
    share = np.where(shown, inside, np.float32(0))[label_YX]
    share[edge & (share > 0)] = outline
    low, high = contrast or _contrast(list(image_CYX))
    result = np.empty((3, *label_YX.shape), np.uint8)
    for channel in range(3):
        base = np.nan_to_num(image_CYX[channel if len(image_CYX) == 3 else 0].astype(np.float32))
        grey = np.clip((base - low) / max(high - low, 1e-6), 0, 1) * 255
        result[channel] = np.round(grey + (colour[label_YX, channel] - grey) * share)
    return result


def _contrast(channels: Sequence[NDArray[Any]]) -> tuple[float, float]:
    """The 0.5 and 99.5 percentiles of what is finite, from a part of the pixels."""
    step = max(1, math.isqrt(max(channel.size for channel in channels) >> 20))
    values = np.concatenate([channel[::step, ::step].reshape(-1) for channel in channels]).astype(np.float32)
    values = values[np.isfinite(values)]
    low, high = np.percentile(values, (0.5, 99.5)) if values.size else (0.0, 1.0)
    return float(low), float(high)
