"""The directories of a TIFF (TIFF 6.0, section 2; BigTIFF), and how ImageJ and OME describe what is in its pages."""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TypeAlias

import numpy as np
import tifffile

from unetkit.core.errors import DataError
from unetkit.data.formats.geometry import Geometry

BYTE, ASCII, SHORT, LONG, RATIONAL, LONG8 = 1, 2, 3, 4, 5, 16
_FORMATS = {BYTE: "B", SHORT: "H", LONG: "I", LONG8: "Q"}
Tag: TypeAlias = tuple[int, int, int, bytes]
"""(code, type, count, values)"""

_DESCRIPTION, _X, _Y, _UNIT, _SOFTWARE = 270, 282, 283, 296, 305
_METRES = {"nm": 1e-9, "µm": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0}


def tag(code: int, kind: int, values: Sequence[int]) -> Tag:
    """A tag of whole numbers."""
    return code, kind, len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)


def directory(tags: Sequence[Tag], start: int, big: bool, last: bool) -> bytes:
    """The directory of a page that begins at byte `start`, with the values that do not fit in it behind it. That of the
    next page follows at once, unless it is the last."""
    count, entry, inline, pointer = ("<Q", "<HHQ", 8, "<Q") if big else ("<H", "<HHI", 4, "<I")
    head = struct.calcsize(count) + len(tags) * (struct.calcsize(entry) + inline) + inline
    body, tail = struct.pack(count, len(tags)), b""
    for code, kind, number, values in sorted(tags):
        if len(values) > inline:
            position = start + head + len(tail)
            tail += values + b"\0" * (-len(values) % 8)
            values = struct.pack(pointer, position)
        body += struct.pack(entry, code, kind, number) + values.ljust(inline, b"\0")
    end = start + head + len(tail)
    pad = -end % 8
    return body + struct.pack(pointer, 0 if last else end + pad) + tail + b"\0" * pad


def imagej(shape: Sequence[int], axes: str, place: Geometry, names: Sequence[str], palette: bool) -> list[Tag]:
    """Tags of the first page by which ImageJ, tifffile and Bio-Formats know the axes (of TZCYXS) of all pages, the size
    of pixels and the names of channels."""
    more: dict[str, object] = {}
    tags: list[Tag] = []
    if place.spacing is not None and place.unit in _METRES:
        sizes = dict(zip(place.axes, place.spacing, strict=True))
        *depth, high, wide = place.spacing
        tags += [_resolution(_X, wide), _resolution(_Y, high), tag(_UNIT, SHORT, [1])]
        more["unit"] = "um" if place.unit == "µm" else place.unit
        if depth and sizes:
            more["spacing"] = depth[0]
    text = tifffile.imagej_description(tuple(shape), axes=axes, colormapped=palette, **more)
    tags.append(_text(_DESCRIPTION, text))
    if names:
        planes = dict(zip(axes, shape, strict=True)).get("Z", 1)
        for code, kind, count, values, _ in tifffile.imagej_metadata_tag({"Labels": list(names) * planes}, "<"):
            tags.append((code, kind, count, values))
    return tags


def ome(
    path: Path, shape: Sequence[int], axes: str, dtype: np.dtype[np.generic], pages: int, place: Geometry,
    names: Sequence[str],
) -> list[Tag]:  # fmt: skip
    """Tags of the first page that hold the OME-XML. Raises DataError: values that OME does not know."""
    more: dict[str, object] = {"Name": path.name.split(".")[0]}
    if place.spacing is not None and place.unit in _METRES:
        for letter, size in zip("ZYX"[-len(place.spacing) :], place.spacing, strict=True):
            more |= {f"PhysicalSize{letter}": size, f"PhysicalSize{letter}Unit": place.unit}
    if names:
        more["Channel"] = {"Name": list(names)}
    sizes = dict(zip(axes, shape, strict=True))
    # equal results are equal files: no random name
    name = uuid.uuid5(uuid.NAMESPACE_URL, f"unetkit {path.name} {tuple(shape)}")
    xml = tifffile.OmeXml(Creator="unetkit", UUID=f"urn:uuid:{name}")
    try:
        xml.addimage(
            dtype=dtype, shape=tuple(shape), axes=axes,
            storedshape=(pages, 1, 1, sizes["Y"], sizes["X"], sizes.get("S", 1)), **more,
        )  # fmt: skip
    except tifffile.OmeXmlError:
        raise DataError(
            f"{path}: an OME-TIFF does not hold {dtype}; write uint8, uint16, uint32 or float32, or a plain .tif"
        ) from None
    return [_text(_DESCRIPTION, xml.tostring())]


def _text(code: int, text: str) -> Tag:
    data = text.encode("ascii", "xmlcharrefreplace") + b"\0"
    return code, ASCII, len(data), data


def _resolution(code: int, size: float) -> Tag:
    """Pixels per unit, as a fraction from which the size of a pixel comes back to nine digits."""
    found = Fraction(size).limit_denominator(10**6)
    if abs(float(found) - size) > 1e-9 * size or found.numerator >= 2**32:
        found = 1 / Fraction(1 / size).limit_denominator(10**6)
    return code, RATIONAL, 1, struct.pack("<II", found.denominator, found.numerator)
