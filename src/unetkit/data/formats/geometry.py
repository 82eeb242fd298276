"""What a file that is written takes from the image it lies over: names of axes, size of pixels."""

from __future__ import annotations

from dataclasses import dataclass

from unetkit.data.formats import open_image
from unetkit.data.formats.base import ImageInfo, Target
from unetkit.data.formats.spacing import of_level

_USUAL = {1: "T", 2: "YX", 3: "ZYX"}


@dataclass(frozen=True, slots=True)
class Geometry:
    """axes: a letter for each axis of space. spacing: in `unit`, for each of them; None: not known. level: of the
    pyramid over which it lies."""

    axes: str
    spacing: tuple[float, ...] | None = None
    unit: str = ""
    level: int = 0


def geometry(target: Target) -> Geometry:
    """The geometry of what is written. Raises DataError: the image it lies over cannot be opened; ValueError: it does
    not lie over it."""
    usual = _USUAL[len(target.shape)]
    if target.like is None:
        return Geometry(usual)
    with open_image(target.like, target.reading) as reader:
        info = reader.info
    spacing = _spacing(info, target.shape)
    if spacing is None and info.shape != target.shape and target.shape not in info.levels:
        raise ValueError(f"{target.path}: {target.shape} does not lie over {target.like} of {info.shape}")
    axes = info.axes if len(info.axes) == len(target.shape) and len(set(info.axes)) == len(info.axes) else usual
    level = info.levels.index(target.shape) if target.shape in info.levels else 0
    return Geometry(axes, spacing, info.unit if spacing is not None else "", level)


def _spacing(info: ImageInfo, shape: tuple[int, ...]) -> tuple[float, ...] | None:
    if info.shape == shape:
        return info.spacing
    return (
        of_level(info.spacing, info.levels[0], shape) if shape in info.levels and info.shape == info.levels[0] else None
    )


def is_mask(target: Target) -> bool:
    """Whether what is written are numbers of classes or objects, so that they are never averaged."""
    if target.channels > 1 or target.dtype.kind not in "ui":
        return False
    return bool(target.classes) or target.palette is not None or target.like is not None
