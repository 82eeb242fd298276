"""The prediction drawn over its image: transparent colours with solid outlines. At most 4096 pixels a side.

Of a volume, its three middle planes are drawn side by side.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats import create_image
from unetkit.data.legend import Legend
from unetkit.predict.predictor import Piece, Reader

LONGEST = 4096
OPACITY = 0.35
SIDE = 512  # pixels of the longest side of a volume
GAP = 8  # black pixels between planes


@contextmanager
def overlay_sink(path: Path, shape: tuple[int, ...], legend: Legend) -> Iterator[Callable[[Piece, Reader], None]]:
    """Collects every n-th pixel of the image and of its labels, and draws them into `path` (PNG, RGB) at the end."""
    step = -(-max(shape) // LONGEST)
    small = tuple(-(-n // step) for n in shape)
    label_YX = np.full(small, IGNORE, np.uint8)
    image: list[NDArray[np.float16]] = []  # one canvas per channel, made when the channels are known

    def write(piece: Piece, reader: Reader) -> None:
        start = tuple(-(-a // step) for a in piece.region.start)
        stop = tuple(-(-b // step) for b in piece.region.stop)
        where = tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
        take = tuple(slice(a * step - b, None, step) for a, b in zip(start, piece.region.start, strict=True))
        channels = reader.read(piece.region)
        if not image:
            image.extend(np.zeros(small, np.float16) for _ in (range(3) if len(channels) == 3 else range(1)))
        label_YX[where] = piece.label_X[take]
        for number, canvas in enumerate(image):
            canvas[where] = np.clip(channels[number][take], -1000, 1000)

    with create_image(path, (small[0], small[1]), 3, "uint8") as writer:
        yield write
        writer.write(Region.of(small), draw(np.stack(image), label_YX, legend))


@contextmanager
def planes_sink(
    path: Path, shape: tuple[int, ...], legend: Legend, spacing: tuple[float, ...] | None
) -> Iterator[Callable[[Piece, Reader], None]]:
    """Collects the three planes through the middle of a volume, and draws them side by side, as large as they are.

    Each plane is seen along one axis of the array, the later of the other two upwards. Voxels that are not cubes are
    drawn as long as they are. Of several channels, the first is shown.
    """
    middle = tuple(n // 2 for n in shape)
    labels = [np.full(shape[:axis] + shape[axis + 1 :], IGNORE, np.uint8) for axis in range(3)]
    images = [np.zeros(label.shape, np.float32) for label in labels]

    def write(piece: Piece, reader: Reader) -> None:
        region, image_X = piece.region, None
        for axis, number in enumerate(middle):
            if region.start[axis] <= number < region.stop[axis]:
                image_X = reader.read(region)[0] if image_X is None else image_X
                where = tuple(part for a, part in enumerate(region.slices) if a != axis)
                labels[axis][where] = piece.label_X.take(number - region.start[axis], axis)
                images[axis][where] = image_X.take(number - region.start[axis], axis)

    yield write
    contrast = np.percentile(np.concatenate([image.reshape(-1) for image in images]), (0.5, 99.5))
    planes = []
    for axis, (image_X, label_X) in enumerate(zip(images, labels, strict=True)):
        sides = [a for a in range(3) if a != axis]
        index = np.ix_(*(_places(a, shape, spacing) for a in sides))
        drawn = draw(np.rot90(image_X[index])[None], np.rot90(label_X[index]), legend, contrast)
        planes.append(drawn)
    height = max(plane.shape[1] for plane in planes)
    pad = [np.zeros((3, height, GAP), np.uint8)] * 2
    parts: list[NDArray[np.uint8]] = []
    for plane, gap in zip(planes, [*pad, np.zeros((3, height, 0), np.uint8)], strict=True):
        parts += [np.pad(plane, ((0, 0), (0, height - plane.shape[1]), (0, 0))), gap]
    picture = np.concatenate(parts, axis=2)
    with create_image(path, picture.shape[1:], 3, "uint8") as writer:
        writer.write(Region.of(picture.shape[1:]), picture)


def _places(axis: int, shape: tuple[int, ...], spacing: tuple[float, ...] | None) -> NDArray[np.int64]:
    """The voxel that each pixel of a plane shows along an axis: about `SIDE` pixels for the longest of the volume."""
    lengths = [n * s for n, s in zip(shape, spacing or (1.0,) * len(shape), strict=True)]
    pixels = max(1, round(SIDE * lengths[axis] / max(lengths)))
    return np.arange(pixels) * shape[axis] // pixels


def draw(
    image_CYX: NDArray[Any],
    label_YX: NDArray[np.uint8],
    legend: Legend,
    contrast: NDArray[np.float64] | None = None,
) -> NDArray[np.uint8]:
    """An image (1 or 3 channels, any range) with its labels drawn over it: (3, h, w) uint8.

    contrast: the values that are shown black and white; None: the 0.5 and 99.5 percentiles. The background class (where
    the legend has one) and unlabelled pixels show the image alone.
    """
    colour, opacity = np.zeros((256, 3), np.float32), np.zeros(256, np.float32)
    for index, entry in enumerate(legend.classes):
        if index != legend.background:
            colour[index], opacity[index] = entry.colour, OPACITY
    edge = np.zeros(label_YX.shape, bool)
    edge[:, 1:] |= label_YX[:, 1:] != label_YX[:, :-1]
    edge[1:] |= label_YX[1:] != label_YX[:-1]
    edge[:, :-1] |= label_YX[:, 1:] != label_YX[:, :-1]
    edge[:-1] |= label_YX[1:] != label_YX[:-1]
    strength = opacity[label_YX]
    strength[edge & (strength > 0)] = 1
    if contrast is None:
        contrast = np.percentile(image_CYX[:, :: max(1, image_CYX.shape[1] // 512)].astype(np.float32), (0.5, 99.5))
    low, high = contrast
    result = np.empty((3, *label_YX.shape), np.uint8)
    for channel in range(3):
        base = image_CYX[channel if len(image_CYX) == 3 else 0].astype(np.float32)
        shown = np.clip((base - low) / max(float(high - low), 1e-6), 0, 1) * 255
        result[channel] = np.round(shown + (colour[label_YX, channel] - shown) * strength)
    return result
