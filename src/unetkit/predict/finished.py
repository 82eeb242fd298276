"""A complete prediction of one image, as what follows it sees it: post-processing, masks, tables, polygons."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.legend import Legend

Labels: TypeAlias = Callable[[Region], NDArray[np.uint8]]
Scores: TypeAlias = Callable[[Region], NDArray[np.float32]]
Pixels: TypeAlias = Callable[[Region], NDArray[Any]]
Ids: TypeAlias = Callable[[Region], NDArray[np.uint32]]


@dataclass(frozen=True)
class Finished:
    """A complete prediction of one image, read by region on the image's own grid; nothing of it need be in memory.

    info: what the image's header says (of the level that was predicted): shape, spacing, affine, map. legend: what the
    classes are. labels: class indices (*region) uint8; of a legend of kind "regions", a bit for each region.
    probabilities: (classes, *region) float32, where they were kept. image: the raw pixels (channels, *region), for
    intensities. objects: ids 1 … count of objects (*region) uint32, 0 where there is none; count: how many there are.
    """

    info: ImageInfo
    legend: Legend
    labels: Labels
    probabilities: Scores | None
    image: Pixels | None
    objects: Ids | None = None
    count: int = 0
