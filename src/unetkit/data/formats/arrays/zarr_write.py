"""OME-Zarr 0.5, written by region: an image with its pyramid or, of a mask, a store of labels.

The store of a mask holds its pyramid once, under `labels/segmentation`, with names and colours of its classes as the
specification asks of labels. The store itself is an OME-Zarr image, too, whose levels are those same arrays: viewers
that know no labels open it like any image, those that do show names and colours, and nothing is stored twice.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from unetkit.core.errors import DataError
from unetkit.core.files import atomic_folder, disk_errors
from unetkit.core.region import Region
from unetkit.data.formats.arrays.chunks import ChunkBuffer, aligned_bands
from unetkit.data.formats.arrays.ome_zarr import VERSION, Level, described, label_description
from unetkit.data.formats.arrays.zarr_arrays import METADATA, pyramid_of
from unetkit.data.formats.base import Array, ImageWriter, Target
from unetkit.data.formats.geometry import Geometry, geometry, is_mask
from unetkit.data.formats.paths import stem
from unetkit.data.formats.table import format_of, split_address

LABELS = "segmentation"
_CHUNK = {1: (1 << 20,), 2: (1024, 1024), 3: (128, 128, 128)}
"""Of values of one byte; large, since each is a file. Wider values have half as many on each side."""
_SMALLEST = 256  # no level has sides that are all shorter than half of this
_STEP = 1 << 20  # elements that are read for a coarser level, and that are averaged at once
_OURS = {"_creator": {"name": "unetkit"}}


class ZarrWriter(ImageWriter):
    """Compresses each chunk once, as soon as it is complete; fed by `bands`, it holds nothing besides.

    The store is made in a hidden folder beside its place and renamed when it is complete, with its coarser levels.
    """

    def __init__(self, target: Target) -> None:
        if target.dtype.kind not in "uif":
            raise DataError(f"{target.path}: a Zarr is written from integers or floats, not from {target.dtype}")
        _refuse_to_replace(target)
        super().__init__(target.path, target.shape, target.channels, target.dtype)
        self._target, self._geometry = target, geometry(target)
        self._mask = is_mask(target)
        sides = (c // (1 if target.dtype.itemsize == 1 else 2) for c in _CHUNK[len(target.shape)])
        self._chunk = tuple(min(c, n) for c, n in zip(sides, target.shape, strict=True))
        self._levels = pyramid(target.shape, self._geometry, mean=not self._mask)
        self._buffer = ChunkBuffer(target.shape, self._chunk, target.channels, target.dtype, self._put)

    def bands(self, pixels: int) -> Iterator[Region]:
        """As `ImageWriter.bands`: whole chunks."""
        return aligned_bands(self.shape, self._chunk, pixels)

    def _open(self) -> None:
        folder = self._cleanup.enter_context(atomic_folder(self.path))
        with disk_errors(self.path):
            self._root = zarr.create_group(folder, zarr_format=3)
            self._group = self._root.create_group(f"labels/{LABELS}") if self._mask else self._root
            self._array = self._create(self._levels[0], self.shape)

    def _create(self, level: Level, shape: Sequence[int]) -> Any:
        several, letters = self.channels > 1, self._geometry.axes.lower()
        chunk = tuple(min(c, n) for c, n in zip(self._chunk, shape, strict=True))
        packed = zarr.codecs.BloscCodec(cname="zstd", clevel=5, shuffle="shuffle", typesize=self.dtype.itemsize)
        return self._group.create_array(
            level.path, shape=(self.channels, *shape) if several else tuple(shape), dtype=self.dtype,
            chunks=(1, *chunk) if several else chunk, fill_value=0,
            compressors=None if self._target.compression == "none" else packed,
            dimension_names=["c"] * several + list(letters),
        )  # fmt: skip

    def _write(self, region: Region, array_CX: Array) -> None:
        with disk_errors(self.path):
            self._buffer.add(region, array_CX)

    def _put(self, region: Region, array_CX: Array) -> None:
        if self.channels > 1:
            self._array[(slice(None), *region.slices)] = array_CX
        else:
            self._array[region.slices] = array_CX[0]

    def _finish(self) -> None:
        with disk_errors(self.path):
            finer, shape = self._array, self.shape
            for before, level in itertools.pairwise(self._levels):
                steps = tuple(b // a for a, b in zip(before.factors, level.factors, strict=True))
                shape = tuple(-(-n // step) for n, step in zip(shape, steps, strict=True))
                coarser = self._create(level, shape)
                self._coarsen(finer, coarser, steps)
                finer = coarser
            self._describe()

    def _coarsen(self, finer: Any, coarser: Any, steps: tuple[int, ...]) -> None:
        full = finer.shape[-len(steps) :]
        for channel in range(self.channels):
            at: tuple[Any, ...] = () if self.channels == 1 else (channel,)
            for region in aligned_bands(coarser.shape[-len(steps) :], self._chunk, _STEP // math.prod(steps)):
                source = tuple(
                    slice(a * s, min(b * s, n))
                    for a, b, s, n in zip(region.start, region.stop, steps, full, strict=True)
                )
                part = np.asarray(finer[(*at, *source)])
                coarser[(*at, *region.slices)] = _picked(part, steps) if self._mask else _mean(part, steps)

    def _describe(self) -> None:
        target, place = self._target, self._geometry
        moved = _translation(target, place.level)
        top = 1.0 if self.dtype.kind == "f" else float(np.iinfo(self.dtype).max)
        levels, name = self._levels, stem(self.path)
        if self._mask:
            label = described(LABELS, levels, place, moved, 1)
            like = target.like if target.like is not None and _is_zarr(target.like) else None
            label["image-label"] = label_description(target.classes, self.path / "labels" / LABELS, like)
            self._group.attrs.update({"ome": label})
            self._root["labels"].attrs.update({"ome": {"version": VERSION, "labels": [LABELS]}})
            levels = [Level(f"labels/{LABELS}/{level.path}", level.factors, level.mean) for level in levels]
        whole = described(name, levels, place, moved, self.channels, target.channel_names, top)
        self._root.attrs.update({"ome": whole, **_OURS})


def pyramid(shape: Sequence[int], place: Geometry, mean: bool) -> list[Level]:
    """The levels of what is written: each halves the axes whose elements are not yet coarser than the others."""
    levels = [Level("0", (1,) * len(shape), mean)]
    sizes, spacing = list(shape), list(place.spacing or (1.0,) * len(shape))
    while len(shape) > 1 and max(sizes[-2:]) > _SMALLEST:
        finest = min(s for s, n in zip(spacing, sizes, strict=True) if n > 1)
        steps = [2 if n > 1 and s < 1.5 * finest else 1 for s, n in zip(spacing, sizes, strict=True)]
        sizes = [-(-n // step) for n, step in zip(sizes, steps, strict=True)]
        spacing = [s * step for s, step in zip(spacing, steps, strict=True)]
        factors = tuple(f * step for f, step in zip(levels[-1].factors, steps, strict=True))
        levels.append(Level(str(len(levels)), factors, mean))
    return levels


def _picked(array: Array, steps: Sequence[int]) -> Array:
    return array[tuple(slice(None, None, step) for step in steps)]


def _mean(array: Array, steps: Sequence[int]) -> Array:
    """Means over 1 or 2 elements on each axis; at odd ends the last elements count again. Integers are rounded."""
    out = np.empty([-(-n // step) for n, step in zip(array.shape, steps, strict=True)], array.dtype)
    rows = max(1, _STEP // (out[0].size * math.prod(steps)))
    for row in range(0, len(out), rows):
        part = array[row * steps[0] : (row + rows) * steps[0]]
        odd = [(0, -n % step) for n, step in zip(part.shape, steps, strict=True)]
        padded = np.pad(part, odd, "edge") if any(b for _, b in odd) else part
        kind = np.float32 if array.dtype.itemsize <= 2 or array.dtype == np.float32 else np.float64
        means: Array = padded.astype(kind)
        for axis, step in enumerate(steps):
            if step == 2:
                before = (slice(None),) * axis
                means = (means[(*before, slice(0, None, 2))] + means[(*before, slice(1, None, 2))]) * kind(0.5)
        out[row : row + rows] = np.rint(means) if array.dtype.kind in "ui" else means
    return out


def _translation(target: Target, level: int) -> tuple[float, ...] | None:
    """Where the image begins over which this lies, if that is an OME-Zarr image."""
    if target.like is None or not _is_zarr(target.like):
        return None
    found = pyramid_of(target.like)
    if found is None or len(found.axes) < len(target.shape):
        return None
    space = [a for a, letter in enumerate(found.axes) if letter in "ZYX"][-len(target.shape) :]
    return tuple(found.translations[level][a] for a in space)


def _is_zarr(path: Path) -> bool:
    kind = format_of(split_address(path)[0])
    return kind is not None and kind.name == "Zarr"


def _refuse_to_replace(target: Target) -> None:
    """Raises DataError: what stands there is the image itself, or not ours."""
    path = target.path
    if target.like is not None and split_address(target.like)[0].resolve() == path.resolve():
        raise DataError(f"{path}: this is the image itself, which is never written into; choose another folder (-o)")
    if not path.exists():
        return
    ours = False
    if any((path / file).is_file() for file in METADATA):
        try:
            ours = zarr.open(store=path, mode="r").attrs.asdict().get("_creator") == _OURS["_creator"]
        except (OSError, ValueError, KeyError):
            ours = False
    if not ours:
        raise DataError(
            f"{path}: something that unetkit did not write stands here, and is not replaced; choose another folder "
            "(-o), or move it away"
        )
