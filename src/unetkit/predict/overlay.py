"""The prediction drawn over its image: transparent colours with solid outlines. At most 4096 pixels a side."""

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


@contextmanager
def overlay_sink(path: Path, shape: tuple[int, int], legend: Legend) -> Iterator[Callable[[Piece, Reader], None]]:
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


def draw(image_CYX: NDArray[Any], label_YX: NDArray[np.uint8], legend: Legend) -> NDArray[np.uint8]:
    """An image (1 or 3 channels, any range) with its labels drawn over it: (3, h, w) uint8.

    The background class (where the legend has one) and unlabelled pixels show the image alone.
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
    low, high = np.percentile(image_CYX[:, :: max(1, image_CYX.shape[1] // 512)].astype(np.float32), (0.5, 99.5))
    result = np.empty((3, *label_YX.shape), np.uint8)
    for channel in range(3):
        base = image_CYX[channel if len(image_CYX) == 3 else 0].astype(np.float32)
        shown = np.clip((base - low) / max(float(high - low), 1e-6), 0, 1) * 255
        result[channel] = np.round(shown + (colour[label_YX, channel] - shown) * strength)
    return result
