"""What the header of a map says, from an open dataset of rasterio."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.formats.base import ImageInfo, MapGrid, Mode


def bits(dataset: Any) -> tuple[int, int] | None:
    """What 0 and 1 are as grey values, where pixels are stored as single bits; else None."""
    if dataset.tags(1, ns="IMAGE_STRUCTURE").get("NBITS") != "1":
        return None
    if dataset.colorinterp[0].name != "palette":
        return 0, 255
    colours = dataset.colormap(1)
    return int(colours[0][0]), int(colours[1][0])


def pixel_size(dataset: Any) -> tuple[tuple[float, ...] | None, str]:
    """(height, width) of a pixel and its unit: degrees, or metres whatever the length the map counts in."""
    t = dataset.transform
    if t.is_identity:
        return None, ""
    size = (float(np.hypot(t.b, t.e)), float(np.hypot(t.a, t.d)))
    if dataset.crs is None:
        return size, ""
    if dataset.crs.is_geographic:
        return size, "degree"
    try:
        factor = float(dataset.crs.linear_units_factor[1])
    except (ValueError, RuntimeError):  # a local system without a known unit
        return size, ""
    return tuple(s * factor for s in size), "m"


def header(path: Path, dataset: Any) -> ImageInfo:
    """The header of an open dataset, without the levels. Raises DataError: no image, complex numbers."""
    if not dataset.count:
        raise DataError(f"{path}: the file holds no image of its own; name one of the files that it refers to")
    kind = np.result_type(*(np.dtype(str(d)) for d in dataset.dtypes if not str(d).startswith("complex")), np.uint8)
    if any("complex" in str(d) for d in dataset.dtypes) or kind.kind not in "iuf":
        raise DataError(
            f"{path}: values of type {dataset.dtypes[0]} are not read; save amplitudes or intensities as real numbers"
        )
    colours = tuple(colour.name for colour in dataset.colorinterp)
    alpha = len(colours) > 1 and colours[-1] == "alpha"
    channels = len(colours) - alpha
    mode: Mode = "grey" if channels == 1 else "rgb" if colours[:channels] == ("red", "green", "blue") else "bands"
    greys = bits(dataset)
    if colours == ("palette",) and greys is None:
        mode, channels, kind = "palette", 3, np.dtype(np.uint8)
    nodata = None if dataset.nodata is None else float(dataset.nodata)
    if nodata in (0, 1) and greys is not None:
        nodata = float(greys[int(nodata)])
    spacing, unit = pixel_size(dataset)
    height, width = dataset.shape
    return ImageInfo(
        (height, width), channels, alpha, kind.name, mode,
        spacing=spacing, axes="YX", unit=unit, channel_names=_band_names(dataset.descriptions[:channels]),
        map=_grid(dataset), nodata=nodata, chunk=tuple(int(n) for n in dataset.block_shapes[0]),
        notes=tuple(_notes(dataset)),
    )  # fmt: skip


def _grid(dataset: Any) -> MapGrid | None:
    t = dataset.transform
    if t.is_identity:
        return None
    return MapGrid("" if dataset.crs is None else dataset.crs.to_wkt(), (t.a, t.b, t.c, t.d, t.e, t.f))


def _band_names(descriptions: Iterable[str | None]) -> tuple[str, ...]:
    names = tuple(descriptions)
    return tuple(name or f"band {n}" for n, name in enumerate(names, 1)) if any(names) else ()


def _notes(dataset: Any) -> Iterable[str]:
    if dataset.transform.is_identity:
        if dataset.gcps[0]:
            yield (
                "the map has ground control points instead of a transform: results carry the points, but areas and "
                "sizes count in pixels; warp the image (gdalwarp) to have them in its coordinates"
            )
    elif dataset.crs is None:
        yield (
            "the file says where its pixels lie, but not in which coordinate reference system (CRS): results have none "
            "either; set it with `rio edit-info --crs EPSG:… FILE`"
        )
    if any(scale != 1 for scale in dataset.scales) or any(offset != 0 for offset in dataset.offsets):
        yield "the bands have scales or offsets (metadata): values are read as stored"
    if dataset.driver == "GTiff" and dataset.subdatasets:
        yield f"the file holds {len(dataset.subdatasets)} images: the first is read"
