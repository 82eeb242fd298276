"""Zarr, version 2 and 3, through zarr: a folder that is an array, or holds arrays or OME-Zarr images by name.

`x.zarr` is its only image, `x.zarr/labels/nuclei` and `x.zarr/0` what is called so inside. Of an OME-Zarr image a level
is read; an array that is a level of one has its axes and size. Only the chunks that a region touches are decoded.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats.arrays import ome_zarr
from unetkit.data.formats.arrays.attributes import axes_of, size_of
from unetkit.data.formats.arrays.inside import is_called_label, missing, the_one
from unetkit.data.formats.arrays.ome_zarr import Multiscale
from unetkit.data.formats.axes import understand
from unetkit.data.formats.base import (
    Array,
    ImageInfo,
    ImageReader,
    ImageWriter,
    Inside,
    PaletteAs,
    Reading,
    Target,
    decoding,
)
from unetkit.data.formats.spacing import chosen_level, in_one_unit
from unetkit.data.formats.table import split_address

# zarr's own errors are ValueErrors or OSErrors; those of codecs are RuntimeErrors
_ERRORS = (OSError, ValueError, TypeError, KeyError, IndexError, RuntimeError, OverflowError, NotImplementedError)
METADATA = ("zarr.json", ".zarray", ".zgroup")
_MOST_AXES = 5


def open_image(path: Path, reading: Reading) -> ZarrReader:
    """Open an array or an OME-Zarr image. Raises DataError: no metadata, no array, several and none named, levels that
    are missing, damaged, axes or a level that do not fit."""
    outer, name = split_address(path)
    with decoding(outer, *_ERRORS):
        node = _node(outer, name)
        if isinstance(node, zarr.Group) and ome_zarr.multiscale(path, node.attrs.asdict()) is None:
            found = tuple(_images(path, node, name))
            if name and not found:
                raise DataError(
                    f"{path}: the group holds no array of numbers with 1 to {_MOST_AXES} axes; name another"
                )
            name = the_one(path, found).address.relative_to(outer).as_posix()
            node = _node(outer, name)
        return ZarrReader(path, _opened(outer, name, node), reading)


def contents(path: Path) -> tuple[Inside, ...]:
    """The images in a store (an OME-Zarr image is one, whatever its levels), labels marked. Raises DataError."""
    with decoding(path, *_ERRORS):
        node = _node(path, "")
        if isinstance(node, zarr.Array):
            return (Inside(path, False, tuple(node.shape), str(node.dtype)),)
        return tuple(_images(path, node, ""))


def create_image(target: Target) -> ImageWriter:
    """Begin an OME-Zarr image or, of a mask, a store with labels. Raises DataError: what cannot be held or replaced."""
    from unetkit.data.formats.arrays.zarr_write import ZarrWriter

    return ZarrWriter(target)


@dataclass(frozen=True, slots=True)
class Opened:
    """Arrays of an image, the finest first, and what says what they are; None: the attributes of the one array."""

    levels: tuple[Any, ...]
    first: int
    pyramid: Multiscale | None


class ZarrReader(ImageReader):
    """Reads from one level."""

    def __init__(self, path: Path, opened: Opened, reading: Reading) -> None:
        pyramid, first = opened.pyramid, opened.levels[0]
        if first.dtype.kind not in "buif":
            raise DataError(f"{path}: values of type {first.dtype} are not read; save integers or floats")
        if pyramid is None:
            attributes = first.attrs.asdict()
            names = axes_of(attributes, first.ndim, _dimension_names(first))
        else:
            attributes, names = {}, pyramid.axes
            if len(names) != first.ndim:
                raise DataError(
                    f"{path}: its metadata name {len(names)} axes ({names}), its array has {first.ndim} "
                    f"({' × '.join(map(str, first.shape))}); export it again"
                )
        full = understand(path, first.shape, names, reading)
        shapes = [full.of(level.shape) for level in opened.levels]
        if pyramid is None:
            sizes = [size_of(attributes, full)]
        else:
            units = [pyramid.units[a] for a in full.space]
            scales = pyramid.scales[opened.first : opened.first + len(shapes)]
            sizes = [in_one_unit([s[a] for a in full.space], units) if pyramid.sized else (None, "") for s in scales]
        level = chosen_level(path, reading, shapes, [spacing for spacing, _ in sizes])
        self._array = opened.levels[level]
        self._axes = dataclasses.replace(full, sizes=tuple(self._array.shape))
        spacing, unit = sizes[level]
        names_of_channels = pyramid.channel_names if pyramid is not None else ()
        super().__init__(
            path,
            ImageInfo(
                shape=shapes[level],
                channels=full.channels,
                alpha=False,
                dtype="uint8" if first.dtype.kind == "b" else first.dtype.newbyteorder("=").name,
                mode="grey" if full.channels == 1 else "bands",
                spacing=spacing,
                axes=full.names,
                unit=unit,
                channel_names=names_of_channels if len(names_of_channels) == full.channels > 1 else (),
                levels=tuple(shapes) if len(shapes) > 1 else (),
                chunk=self._axes.of(self._array.chunks),
                notes=full.notes,
            ),
        )

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (Zarr has neither)
        with decoding(self.path, *_ERRORS):
            array = self._axes.arranged(np.asarray(self._array[self._axes.index(region)]))
        if array.dtype.kind == "b":
            return array.astype(np.uint8) * np.uint8(255)
        return np.ascontiguousarray(array, array.dtype.newbyteorder("="))


def pyramid_of(path: Path) -> Multiscale | None:
    """How an OME-Zarr image is described; None: it is none. Raises DataError."""
    outer, name = split_address(path)
    with decoding(outer, *_ERRORS):
        node = _node(outer, name)
        return ome_zarr.multiscale(path, node.attrs.asdict()) if isinstance(node, zarr.Group) else None


def _node(outer: Path, name: str) -> Any:
    """The array or group of a name. Raises DataError: there is none."""
    if not any((outer / file).is_file() for file in METADATA):
        raise DataError(
            f"{outer}: the folder holds no Zarr metadata ({', '.join(METADATA)}): it was not written to its end, or is "
            "something else; export it again, or leave it out"
        )
    if name and not any((outer / name / file).is_file() for file in METADATA):
        root = zarr.open(store=outer, mode="r")
        found = tuple(_images(outer, root, "")) if isinstance(root, zarr.Group) else ()
        raise missing(outer, name, found)
    return zarr.open(store=outer, path=name, mode="r")


def _opened(outer: Path, name: str, node: Any) -> Opened:
    """The arrays of an image: the levels of a pyramid, an array by itself, or one that is a level."""
    if isinstance(node, zarr.Group):
        pyramid = ome_zarr.multiscale(outer / name, node.attrs.asdict())
        assert pyramid is not None
        levels = []
        for number, path in enumerate(pyramid.paths):
            if not any((outer / name / path / file).is_file() for file in METADATA):
                raise DataError(
                    f"{outer / name}: level {number} of its pyramid ({path}) is missing: it was not written to its "
                    "end, or not copied whole; export it again"
                )
            levels.append(node[path])
        return Opened(tuple(levels), 0, pyramid)
    above, _, last = name.rpartition("/")
    if name and (above == "" or any((outer / above / file).is_file() for file in METADATA)):
        group = _node(outer, above)
        pyramid = ome_zarr.multiscale(outer / above, group.attrs.asdict()) if isinstance(group, zarr.Group) else None
        level = pyramid.level(last) if pyramid is not None else None
        if level is not None:
            return Opened((node,), level, pyramid)
    return Opened((node,), 0, None)


def _images(outer: Path, group: Any, name: str) -> Iterator[Inside]:
    """The images below a group, which is called `name` in the store."""
    attributes = group.attrs.asdict()
    pyramid = ome_zarr.multiscale(outer / name, attributes)
    if pyramid is not None:
        first = group.get(pyramid.paths[0])
        # of a store of labels the image is one of them, seen as an image
        if first is not None and not pyramid.paths[0].startswith("labels/"):
            label = ome_zarr.is_label(attributes) or is_called_label(name)
            yield Inside(outer / name, label, tuple(first.shape), str(first.dtype))
    taken = {path.split("/")[0] for path in pyramid.paths} if pyramid is not None else set()
    for key, member in sorted(group.members()):
        inner = f"{name}/{key}" if name else key
        if isinstance(member, zarr.Group):
            if key == "labels" or key not in taken:
                yield from _images(outer, member, inner)
        elif key not in taken and _suits(member):
            yield Inside(outer / inner, is_called_label(inner), tuple(member.shape), str(member.dtype))


def _suits(array: Any) -> bool:
    return array.dtype.kind in "buif" and 1 <= array.ndim <= _MOST_AXES and 0 not in array.shape


def _dimension_names(array: Any) -> tuple[object, ...]:
    return tuple(getattr(array.metadata, "dimension_names", None) or ())
