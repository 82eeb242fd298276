"""The metadata of OME-Zarr, both ways: multiscales, labels, channels. Values in, values out; no files.

Read: versions 0.1 to 0.5 (https://ngff.openmicroscopy.org/). Written: 0.5.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetkit.core.errors import DataError
from unetkit.data.formats.axes import letter_of
from unetkit.data.formats.base import TargetClass
from unetkit.data.formats.geometry import Geometry

VERSION = "0.5"
_UNITS = {"nm": "nanometer", "µm": "micrometer", "mm": "millimeter", "cm": "centimeter", "m": "meter",
          "s": "second", "ms": "millisecond"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Multiscale:
    """A pyramid. axes: a letter for each axis. units: of each, or "". paths: of the arrays in the group, the finest
    first. scales, translations: for each level, of each axis. channel_names: or none."""

    axes: str
    units: tuple[str, ...]
    paths: tuple[str, ...]
    scales: tuple[tuple[float, ...], ...]
    translations: tuple[tuple[float, ...], ...]
    channel_names: tuple[str, ...] = ()

    @property
    def sized(self) -> bool:
        """Whether the size of elements is known: writers that do not know it put 1, without a unit."""
        return any(self.units) or any(s != 1 for s in self.scales[0])

    def level(self, path: str) -> int | None:
        """The level that an array of the group is."""
        return self.paths.index(path) if path in self.paths else None


def multiscale(where: Path, attributes: Mapping[str, Any]) -> Multiscale | None:
    """The pyramid that the attributes of a group describe; None: none. Raises DataError: described wrongly."""
    ome = attributes.get("ome")
    inner: Mapping[str, Any] = ome if isinstance(ome, Mapping) else attributes
    if "multiscales" not in inner:
        return None
    try:
        first = inner["multiscales"][0]
        paths = tuple(str(d["path"]) for d in first["datasets"])
        found = [_transform(d.get("coordinateTransformations", ()), first) for d in first["datasets"]]
        ndim = max([len(first.get("axes", ())), *(len(s) for s, _ in found)])
        axes = first.get("axes") or list("tczyx"[-(ndim or 5) :])
        names = [axis.get("name", "") if isinstance(axis, Mapping) else axis for axis in axes]
        kinds = [axis.get("type", "") if isinstance(axis, Mapping) else "" for axis in axes]
        units = tuple(str(axis.get("unit") or "") if isinstance(axis, Mapping) else "" for axis in axes)
        letters = "".join(
            {"channel": "C", "time": "T"}.get(kind, letter_of(name)) for name, kind in zip(names, kinds, strict=True)
        )
        scales = tuple(s or (1.0,) * len(axes) for s, _ in found)
        translations = tuple(t or (0.0,) * len(axes) for _, t in found)
        if not paths or any(len(v) != len(axes) for v in (*scales, *translations)):
            raise ValueError("scales that do not fit the axes")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise DataError(
            f"{where}: its OME-Zarr metadata are not as the specification asks ({error!r}); export the image again"
        ) from None
    return Multiscale(letters, units, paths, scales, translations, _channels(inner))


def is_label(attributes: Mapping[str, Any]) -> bool:
    """Whether a group says that it is a label image."""
    ome = attributes.get("ome")
    return "image-label" in attributes or (isinstance(ome, Mapping) and "image-label" in ome)


def label_names(attributes: Mapping[str, Any]) -> tuple[str, ...]:
    """The images that a group `labels` lists."""
    ome = attributes.get("ome")
    names = (ome if isinstance(ome, Mapping) else attributes).get("labels", ())
    return tuple(n for n in names if isinstance(n, str)) if isinstance(names, list) else ()


def _transform(
    own: Sequence[Mapping[str, Any]], image: Mapping[str, Any]
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """(scale, translation) of a level: its own transformations, then those of all levels; () where there is none."""
    scale: tuple[float, ...] = ()
    translation: tuple[float, ...] = ()
    for step in itertools.chain(own, image.get("coordinateTransformations") or ()):
        if step.get("type") == "scale":
            values = tuple(float(v) for v in step["scale"])
            scale = tuple(a * b for a, b in zip(scale, values, strict=True)) if scale else values
            translation = tuple(a * b for a, b in zip(translation, values, strict=True)) if translation else ()
        elif step.get("type") == "translation":
            values = tuple(float(v) for v in step["translation"])
            translation = tuple(a + b for a, b in zip(translation, values, strict=True)) if translation else values
    return scale, translation


def _channels(inner: Mapping[str, Any]) -> tuple[str, ...]:
    omero = inner.get("omero")
    channels = omero.get("channels", ()) if isinstance(omero, Mapping) else ()
    names = tuple(str(c.get("label") or "") for c in channels if isinstance(c, Mapping))
    return names if all(names) else ()


# ---- written


@dataclass(frozen=True, slots=True)
class Level:
    """A level of a pyramid that is written: where its array lies, and how much coarser than the finest it is."""

    path: str
    factors: tuple[int, ...]
    mean: bool


def described(
    name: str, levels: Sequence[Level], place: Geometry, translation: Sequence[float] | None, channels: int,
    channel_names: Sequence[str] = (), top: float = 1.0,
) -> dict[str, Any]:  # fmt: skip
    """The `multiscales` (and `omero`) of an image: (channels where there are several, then the axes of `place`).

    top: the largest of its values, for viewers.
    """
    several = channels > 1
    axes: list[dict[str, str]] = [{"name": "c", "type": "channel"}] if several else []
    for letter in place.axes:
        axis = {"name": letter.lower(), "type": "time" if letter == "T" else "space"}
        if place.spacing is not None and place.unit in _UNITS:
            axis["unit"] = _UNITS[place.unit]
        axes.append(axis)
    sizes = place.spacing or (1.0,) * len(place.axes)
    origin = tuple(translation) if translation is not None else (0.0,) * len(place.axes)
    datasets = []
    for level in levels:
        scale = [s * f for s, f in zip(sizes, level.factors, strict=True)]
        steps: list[dict[str, Any]] = [{"type": "scale", "scale": [1.0] * several + scale}]
        # the mean of elements lies at the centre of them; one that is picked stays where it is
        shift = [(f - 1) / 2 * s * level.mean for s, f in zip(sizes, level.factors, strict=True)]
        moved = [a + b for a, b in zip(origin, shift, strict=True)]
        if any(moved):
            steps.append({"type": "translation", "translation": [0.0] * several + moved})
        datasets.append({"path": level.path, "coordinateTransformations": steps})
    image: dict[str, Any] = {"name": name, "axes": axes, "datasets": datasets}
    if len(levels) > 1:
        image["type"] = "local mean" if levels[-1].mean else "nearest"
    found: dict[str, Any] = {"version": VERSION, "multiscales": [image]}
    if several and len(channel_names) == channels:
        window = {"min": 0, "max": top, "start": 0, "end": top}
        found["omero"] = {
            "channels": [{"label": n, "color": "FFFFFF", "active": True, "window": window} for n in channel_names]
        }
    return found


def label_description(classes: Sequence[TargetClass], group: Path, like: Path | None) -> dict[str, Any]:
    """The `image-label` of a mask: colours and names of its values, and where its image is."""
    found: dict[str, Any] = {}
    if classes:
        # what is 0 is not shown: background
        found["colors"] = [{"label-value": c.value, "rgba": [*c.colour, 0 if c.value == 0 else 255]} for c in classes]
        found["properties"] = [{"label-value": c.value, "class": c.name} for c in classes]
    if like is not None:
        found["source"] = {"image": Path(os.path.relpath(like, group)).as_posix()}
    return found
