"""The size of pixels: units as files write them, and the levels of pyramids."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.formats.base import Reading

_METRES = {"nm": 1e-9, "µm": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0, "s": 1.0, "ms": 1e-3}
_UNITS = {
    "nm": "nm nanometer nanometers nanometre nanometres",
    "µm": "µm μm um micron microns micrometer micrometers micrometre micrometres \\u00b5m",
    "mm": "mm millimeter millimeters millimetre millimetres",
    "cm": "cm centimeter centimeters centimetre centimetres",
    "m": "m meter meters metre metres",
    "s": "s sec second seconds",
    "ms": "ms millisecond milliseconds msec",
}
_UNIT_OF = {word: unit for unit, words in _UNITS.items() for word in words.split()}
_FACTORS = {"å": ("nm", 0.1), "angstrom": ("nm", 0.1), "pm": ("nm", 1e-3), "inch": ("mm", 25.4), "in": ("mm", 25.4)}


def unit_of(text: str) -> tuple[str, float]:
    """(the unit as we write it, what values are to be multiplied with); ("", 1.0) where it is none that we know."""
    word = text.strip().strip('"').lower()
    if word in _FACTORS:
        return _FACTORS[word]
    return _UNIT_OF.get(word, ""), 1.0


def in_one_unit(sizes: Sequence[float | None], units: Sequence[str]) -> tuple[tuple[float, ...] | None, str]:
    """(spacing, unit) from a size and a unit of each axis, in the unit of the last; (None, "") where one is unknown."""
    found: list[tuple[float, str]] = []
    for size, text in zip(sizes, units, strict=True):
        unit, factor = unit_of(text)
        if size is None or not np.isfinite(size) or size <= 0 or (not unit and text):
            return None, ""
        found.append((float(size) * factor, unit))
    last = found[-1][1] if found else ""
    if not found or any((unit == "") != (last == "") for _, unit in found):
        return None, ""
    if any((unit in ("s", "ms")) != (last in ("s", "ms")) for _, unit in found):
        return None, ""
    scale = [1.0 if unit == last else _METRES[unit] / _METRES[last] for _, unit in found]
    return tuple(float(f"{size * s:.9g}") for (size, _), s in zip(found, scale, strict=True)), last


def chosen_level(
    path: Path, reading: Reading, shapes: Sequence[tuple[int, ...]], spacings: Sequence[tuple[float, ...] | None]
) -> int:
    """Which level of a pyramid the user means. Raises DataError: there is no such level, or pixel sizes are unknown."""
    sizes = "; ".join(f"{n}: {' × '.join(map(str, shape))}" for n, shape in enumerate(shapes))
    if reading.pixel_size is not None:
        if any(s is None for s in spacings):
            raise DataError(f"{path}: the file does not tell the size of its pixels; choose by --level ({sizes})")
        wanted = np.log(reading.pixel_size)
        return int(np.argmin([abs(np.log(spacing[-1]) - wanted) for spacing in spacings if spacing]))
    if not 0 <= reading.level < len(shapes):
        raise DataError(f"{path}: there is no level {reading.level}; it has {len(shapes)} ({sizes})")
    return reading.level


def of_level(
    spacing: tuple[float, ...] | None, full: tuple[int, ...], shape: tuple[int, ...]
) -> tuple[float, ...] | None:
    """The spacing of a level of a pyramid, from that of the full resolution."""
    if spacing is None:
        return None
    # levels are rounded to whole pixels: a factor near a whole number is that number
    factors = [n / m for n, m in zip(full, shape, strict=True)]
    factors = [float(round(f)) if abs(f - round(f)) < 0.02 * f else f for f in factors]
    return tuple(s * f for s, f in zip(spacing, factors, strict=True))
