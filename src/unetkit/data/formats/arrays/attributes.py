"""What the attributes of an array in HDF5 or Zarr say of its axes and the size of its pixels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from unetkit.data.formats.axes import UNKNOWN, Axes, letter_of
from unetkit.data.formats.spacing import in_one_unit

_SIZES = ("element_size_um", "spacing", "voxel_size", "pixel_size", "resolution")


def axes_of(attributes: Mapping[str, Any], ndim: int, labels: Sequence[object] = ()) -> str:
    """A letter for each axis ("?": nothing is said). labels: names that the format itself gives to the axes."""
    said = attributes.get("axes", attributes.get("axistags", attributes.get("_ARRAY_DIMENSIONS", "")))
    for given in (labels, _names(said)):
        letters = "".join(letter_of(name) for name in given)
        if len(letters) == ndim and letters != UNKNOWN * ndim:
            return letters
    if ndim == 3 and np.size(attributes.get("element_size_um", ())) == ndim:
        return "ZYX"  # its sizes are those of a volume, in this order
    return UNKNOWN * ndim


def size_of(attributes: Mapping[str, Any], axes: Axes) -> tuple[tuple[float, ...] | None, str]:
    """(spacing, unit) of the axes of space."""
    for key in _SIZES:
        if key not in attributes:
            continue
        try:
            sizes = np.asarray(attributes[key], float).ravel()
        except (TypeError, ValueError):
            continue
        if len(sizes) == len(axes.sizes):
            sizes = sizes[list(axes.space)]
        elif len(sizes) != len(axes.space):
            continue
        unit = "µm" if key.endswith("_um") else _text(attributes.get("unit", attributes.get("units", "")))
        return in_one_unit([float(s) for s in sizes], [unit] * len(sizes))
    return None, ""


def _names(said: Any) -> Sequence[object]:
    """Names of axes from "ZYX", ["z", "y", "x"], or the JSON that ilastik and vigra write."""
    if isinstance(said, bytes | np.bytes_):
        said = said.decode("utf-8", "replace")
    if isinstance(said, str) and said.lstrip().startswith("{"):
        try:
            return [axis.get("key", "") for axis in json.loads(said)["axes"]]
        except (ValueError, KeyError, TypeError, AttributeError):
            return ()
    if isinstance(said, str):
        return said.replace(",", "").replace(" ", "")
    return [_text(name) for name in said] if isinstance(said, Sequence | np.ndarray) else ()


def _text(value: Any) -> str:
    if isinstance(value, np.ndarray | list | tuple):
        value = value[0] if len(value) else ""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
