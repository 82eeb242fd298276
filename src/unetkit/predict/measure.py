"""A table of what was found: one row for each object, or where none were told apart, for each connected area.

Lengths, areas and volumes are in pixels and, where the spacing is known, in its unit; each column carries its unit in
its name. Everything is summed over blocks, so an image of any size will do; held is a row for each object. Shapes are
those of `skimage.measure.regionprops`.
"""

from __future__ import annotations

import csv
import math
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import MachineError
from unetkit.core.files import atomic, disk_errors
from unetkit.core.region import Region
from unetkit.data.formats.base import ImageInfo
from unetkit.predict.finished import Finished, Ids
from unetkit.predict.moments import Moments, axes_of
from unetkit.predict.post.components import components
from unetkit.predict.post.room import Room

Column: TypeAlias = NDArray[Any] | list[str]

MEMORY = 256_000_000  # bytes for a block, unless told otherwise
ROWS = 10_000  # of the table are written at a time
_SIZE = {1: "length", 2: "area", 3: "volume"}
_AXES = {1: "x", 2: "yx", 3: "zyx"}
# Bytes per pixel of a block: ids, places, labels, and for each channel and class their values.
_COST, _COST_EACH = 96, 16


@dataclass(frozen=True)
class _Found:
    """What is measured: ids 1 … count by region; their class; how a class stands in labels."""

    ids: Ids
    count: int
    of: Callable[[Region], NDArray[np.uint8]]
    """Class index of every pixel of an object."""


def write_measurements(path: Path, finished: Finished, memory: int = MEMORY) -> None:
    """Write the table of `finished` as CSV or, where `path` ends in .parquet, as Parquet; whole or not at all.

    memory: bytes that may be held for a block. Raises MachineError: the disk refuses, pyarrow is not installed.
    """
    if path.suffix.lower() == ".parquet":
        _arrow()  # refuse before the work
    with tempfile.TemporaryDirectory(prefix="unetkit-") as scratch:
        table = measurements(finished, Room(Path(scratch), memory))
    _write(path, table)


def measurements(finished: Finished, room: Room) -> dict[str, Column]:
    """The columns of the table, by name; equally long.

    `object`: the number of each; `class`; `pixels`; `length`, `area` or `volume` in the unit; `centroid_` of each axis
    (centres of pixels lie at whole numbers), on a map in its coordinates (`map_x`, `map_y`), in a scanner's in mm
    towards right, front and top (`ras_x_mm` …); `box_` start and stop of each axis (stop is the first pixel beyond);
    `equivalent_diameter` (of the disk or ball of that size); of images `perimeter` (where pixels are square); of images
    and volumes `axis_major`, `axis_minor` (of the ellipse or ellipsoid with the same second moments), `extent` (share
    of its box), of images `eccentricity`; of each channel mean, min, max and std of its values (those that are finite,
    and not the image's nodata); `probability_mean` of its class, where probabilities were kept.
    """
    parts = list(_parts(finished, room))
    tables = [_table(found, finished, room) for found in parts]
    table = {
        name: np.concatenate([t[name] for t in tables]) if isinstance(tables[0][name], np.ndarray) else
        [text for t in tables for text in t[name]]
        for name in tables[0]
    }  # fmt: skip
    return {"object": np.arange(1, len(table["class"]) + 1), **table}


def _parts(finished: Finished, room: Room) -> Iterator[_Found]:
    """Objects; or connected areas of all classes but the background, of regions one after the other."""
    legend, shape, labels = finished.legend, finished.info.shape, finished.labels
    if finished.objects is not None:
        yield _Found(finished.objects, finished.count, labels)
    elif legend.regions:
        for k in range(len(legend.classes)):
            yield _region(finished, k, room)
    else:
        kinds = [k for k in range(len(legend.classes)) if k != legend.background]
        parts = components(labels, kinds, shape, room, "measured")
        yield _Found(parts.read, parts.count, labels)


def _region(finished: Finished, k: int, room: Room) -> _Found:
    """The connected areas of one of several regions that may overlap."""
    legend, labels = finished.legend, finished.labels

    def inside(region: Region) -> NDArray[np.bool_]:
        return legend.where(labels(region), k)

    parts = components(inside, (1,), finished.info.shape, room, f"measured-{k}")
    return _Found(parts.read, parts.count, lambda region: np.full(region.shape, k, np.uint8))


def _table(found: _Found, finished: Finished, room: Room) -> dict[str, Column]:
    info, names = finished.info, finished.legend.names
    moments, of_class = _measured(found, finished, room)
    rows = slice(1, None)
    table: dict[str, Column] = {"class": [names[k] for k in of_class[rows]]}
    table["pixels"] = moments.pixels[rows].astype(np.int64)
    table |= _places(moments, info) | _shapes(moments, info)
    table |= _intensities(moments, _channels(finished))
    if finished.probabilities is not None:
        table["probability_mean"] = moments.share[rows] / np.maximum(moments.pixels[rows], 1)
    return table


def _measured(found: _Found, finished: Finished, room: Room) -> tuple[Moments, NDArray[np.uint8]]:
    """All sums, and the class of each object."""
    info = finished.info
    ndim, channels, classes = len(info.shape), len(_channels(finished)), len(finished.legend.classes)
    moments = Moments.of(found.count, ndim, channels)
    of_class = np.zeros(found.count + 1, np.uint8)
    perimeter = ndim == 2 and _square(info)
    blocks = room.blocks(info.shape, _COST + _COST_EACH * (channels + classes))
    for block in blocks:
        wide = block.grow(2 * perimeter)
        inside = wide.intersect(Region.of(info.shape))
        ids_X = found.ids(inside)
        if perimeter:
            pad = [(a - b, d - c) for a, b, c, d in zip(inside.start, wide.start, inside.stop, wide.stop, strict=True)]
            ids_X = np.pad(ids_X, pad)
            moments.add_perimeter(ids_X)
            ids_X = ids_X[2:-2, 2:-2]
        if not ids_X.any():
            continue
        label_X = found.of(block)
        of_class[ids_X] = label_X
        moments.add(block, ids_X, _values(finished, block), _shares(finished, block, label_X))
    return moments, of_class


def _values(finished: Finished, block: Region) -> NDArray[np.floating] | None:
    if finished.image is None:
        return None
    values_CX = finished.image(block).astype(np.float64)
    if finished.info.nodata is not None:
        values_CX[values_CX == finished.info.nodata] = np.nan
    return values_CX


def _shares(finished: Finished, block: Region, label_X: NDArray[np.uint8]) -> NDArray[np.float32] | None:
    """The probability of the class of each pixel's object."""
    if finished.probabilities is None:
        return None
    known_X = np.minimum(label_X, len(finished.legend.classes) - 1).astype(np.intp)
    shares_X: NDArray[np.float32] = np.take_along_axis(finished.probabilities(block), known_X[None], 0)[0]
    return shares_X


def _channels(finished: Finished) -> tuple[str, ...]:
    """What the channels are called in columns."""
    if finished.image is None:
        return ()
    info = finished.info
    n = info.channels
    if len(info.channel_names) == n and len(set(info.channel_names)) == n:
        return tuple(f"intensity_{name.strip().replace(' ', '_')}" for name in info.channel_names)
    if n == 3 and info.mode in ("rgb", "palette"):
        return "intensity_red", "intensity_green", "intensity_blue"
    return ("intensity",) if n == 1 else tuple(f"intensity_{k + 1}" for k in range(n))


def _places(moments: Moments, info: ImageInfo) -> dict[str, Column]:
    axes, unit = _axes(info), _unit(info)
    centre = moments.centre[1:]
    table: dict[str, Column] = {f"centroid_{a}_px": centre[:, k] for k, a in enumerate(axes)}
    if info.spacing is not None:
        table |= {f"centroid_{a}_{unit}": centre[:, k] * info.spacing[k] for k, a in enumerate(axes)}
    if info.map is not None:
        a, b, c, d, e, f = info.map.transform
        row, column = centre[:, 0] + 0.5, centre[:, 1] + 0.5  # the transform is that of corners
        table |= {"map_x": a * column + b * row + c, "map_y": d * column + e * row + f}
    if info.affine is not None and len(axes) == 3:
        affine = np.asarray(info.affine).reshape(4, 4)
        points = centre @ affine[:3, :3].T + affine[:3, 3]
        table |= {f"ras_{a}_mm": points[:, k] for k, a in enumerate("xyz")}
    for k, name in enumerate(axes):
        table[f"box_{name}_start_px"], table[f"box_{name}_stop_px"] = moments.start[1:, k], moments.stop[1:, k]
    return table


def _shapes(moments: Moments, info: ImageInfo) -> dict[str, Column]:
    ndim, unit = len(info.shape), _unit(info)
    pixels, spacing = moments.pixels[1:], info.spacing or (1.0,) * len(info.shape)
    size = pixels * math.prod(spacing)
    table: dict[str, Column] = {}
    if info.spacing is not None:
        table[f"{_SIZE[ndim]}_{unit}{ndim if ndim > 1 else ''}"] = size
    if ndim == 1:
        return table
    table[f"equivalent_diameter_{unit}"] = (2 * ndim * size / math.pi) ** (1 / ndim)
    if ndim == 2 and _square(info):
        table[f"perimeter_{unit}"] = moments.perimeter[1:] * spacing[0]
    axes = axes_of(moments.scatter[1:], pixels, spacing)
    table[f"axis_major_{unit}"], table[f"axis_minor_{unit}"] = axes[:, 0], axes[:, -1]
    if ndim == 2:
        table["eccentricity"] = np.sqrt(1 - (axes[:, 1] / np.where(axes[:, 0] > 0, axes[:, 0], 1)) ** 2) * (
            axes[:, 0] > 0
        )
    table["extent"] = pixels / np.prod(moments.stop[1:] - moments.start[1:], axis=1)
    return table


def _intensities(moments: Moments, channels: Sequence[str]) -> dict[str, Column]:
    table: dict[str, Column] = {}
    for k, name in enumerate(channels):
        n = moments.counted[1:, k]
        known = n > 0
        for what, values in (
            ("mean", moments.mean[1:, k]),
            ("min", moments.low[1:, k]),
            ("max", moments.high[1:, k]),
            ("std", np.sqrt(moments.squares[1:, k] / np.maximum(n, 1))),
        ):
            table[f"{name}_{what}"] = np.where(known, values, np.nan)
    return table


def _axes(info: ImageInfo) -> str:
    ndim = len(info.shape)
    return info.axes.lower() if len(info.axes) == ndim else "xyz" if info.affine is not None else _AXES[ndim]


def _unit(info: ImageInfo) -> str:
    """The unit in columns: plain letters, for not every program that reads tables knows others."""
    return "px" if info.spacing is None else info.unit.replace("µ", "u").replace("μ", "u") or "units"


def _square(info: ImageInfo) -> bool:
    return info.spacing is None or max(info.spacing) <= min(info.spacing) * (1 + 1e-6)


def _write(path: Path, table: dict[str, Column]) -> None:
    if path.suffix.lower() == ".parquet":
        arrow, parquet = _arrow()
        with disk_errors(path), atomic(path) as temporary:
            parquet.write_table(arrow.table(table), temporary)
        return
    with disk_errors(path), atomic(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(table)
        for start in range(0, len(table["object"]), ROWS):  # texts take many times what numbers do
            part = [column[start : start + ROWS] for column in table.values()]
            writer.writerows([_text(value) for value in row] for row in zip(*part, strict=True))


def _text(value: Any) -> str:
    """A cell: ten significant digits, empty where there is no value."""
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.10g}"
    return str(value)


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MachineError(
            "Parquet is written by the pyarrow package, which is not installed: pip install 'unetkit[tables]'; or ask "
            "for csv"
        ) from None
    return pyarrow, pyarrow.parquet
