"""A case as one open image: its files' channels one after the other, or its array, or one channel of a recording."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.formats import ImageInfo, ImageReader, open_image
from unetkit.data.formats.base import Array, PaletteAs
from unetkit.data.formats.maps.map_places import same_map
from unetkit.data.sizes import extent, size


def open_case(case: Case) -> ImageReader:
    """Open the image of a case for reading by region: all its channels, without alpha. A context manager.

    Raises DataError: an unreadable file, channel files of different sizes, no such channel, no image at all.
    """
    if not case.images:
        raise DataError(f"the case '{case.id}' has no image file; give it one")
    with contextlib.ExitStack() as files:
        readers = [
            files.enter_context(
                open_image(source, case.reading)
                if isinstance(source, Path)
                else ArrayImage(case.where, source, case.spacing)
            )
            for source in case.images
        ]
        if len(readers) == 1 and case.channel is None:
            files.pop_all()
            return readers[0]
        return _Joined(readers, case.channel, files.pop_all())


def image_info(source: Case | Path) -> ImageInfo:
    """Size, channels and spacing of an image, from its header. Raises DataError as `open_case` and `open_image`."""
    with open_case(source) if isinstance(source, Case) else open_image(source) as reader:
        return reader.info


class ArrayImage(ImageReader):
    """An array (channels, *space) as an open image called `name`."""

    def __init__(self, name: Path, array_CX: Array, spacing: tuple[float, ...] | None = None) -> None:
        info = ImageInfo(array_CX.shape[1:], array_CX.shape[0], False, str(array_CX.dtype), "bands", spacing=spacing)
        super().__init__(name, info)
        self._array_CX = array_CX

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (arrays have neither)
        part_CX = self._array_CX[(slice(None), *region.slices)]
        return np.array(part_CX, part_CX.dtype.newbyteorder("="))


class _Joined(ImageReader):
    """Several readers as one image, or one channel of one."""

    def __init__(self, readers: Sequence[ImageReader], channel: int | None, files: contextlib.ExitStack) -> None:
        first = readers[0]
        with contextlib.ExitStack() as stack:
            stack.push(files)
            for reader in readers[1:]:
                if reader.info.shape != first.info.shape:
                    raise DataError(
                        f"{reader.path}: {extent(reader.info.shape)}, but {first.path.name} of the same case has "
                        f"{size(first.info.shape)}; the channel files of a case must have one size"
                    )
                if where := same_map(first.info, reader.info):
                    raise DataError(
                        f"{reader.path}: it does not lie over {first.path.name} of the same case: {where}; bring the "
                        f"bands onto one grid (`rio warp BAND OUT.tif --like {first.path.name}`)"
                    )
            has = sum(reader.info.channels for reader in readers)
            if channel is not None and not 0 <= channel < has:
                raise DataError(f"{first.path}: there is no channel {channel}; its {has} channels count from 0")
            stack.pop_all()
        super().__init__(
            first.path, dataclasses.replace(first.info, channels=has if channel is None else 1, alpha=False)
        )
        self._readers, self._channel, self._files = readers, channel, files

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (colours, no alpha)
        parts = [reader.read(region) for reader in self._readers]
        joined_CX = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return joined_CX if self._channel is None else joined_CX[self._channel : self._channel + 1]

    def masked(self, region: Region) -> Array | None:
        found = [mask for reader in self._readers if (mask := reader.masked(region)) is not None]
        return np.logical_or.reduce(found) if found else None

    @property
    def grows(self) -> int:
        return sum(reader.grows for reader in self._readers)

    def close(self) -> None:
        self._files.close()
