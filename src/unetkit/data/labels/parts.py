"""Masks in parts: a file, a channel or an array for each class, read as one bit mask, and what its bits mean."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.data.labels.legend import UNANNOTATED, Array, Ints, Legend, code

MOST_PARTS = 62
"""Bits of a whole number, the sign and one more left out."""


def numbered_parts(count: int) -> tuple[str, ...]:
    """The names of parts that have none."""
    return tuple(f"region {n + 1}" for n in range(count))


def empty_bits(shape: tuple[int, ...], parts: int) -> Array:
    """A bit mask for so many parts, with room for `UNANNOTATED` where that needs no more memory."""
    return np.zeros(shape, np.uint8 if parts <= 8 else np.int32 if parts <= 30 else np.int64)


def with_unannotated(bits: Array, nowhere: NDArray[np.bool_]) -> Array:
    """The bit mask with `UNANNOTATED` where nothing is annotated."""
    if not nowhere.any():
        return bits
    if bits.dtype.kind == "u" or bits.dtype.itemsize < 4:
        bits = bits.astype(np.int32 if bits.dtype.itemsize < 4 else np.int64)
    bits[nowhere] = UNANNOTATED
    return bits


def rearranged(values: Ints, parts: Sequence[str], order: Sequence[str]) -> Ints:
    """Bit masks of `parts` as bit masks of `order`, which holds all of them; `UNANNOTATED` stays."""
    result = np.zeros(len(values), np.int64)
    for bit, name in enumerate(parts):
        result |= (values >> bit & 1) << order.index(name)
    result[values == UNANNOTATED] = UNANNOTATED
    return result


def in_legend(bits: Array, parts: Sequence[str], legend: Legend) -> tuple[Array, NDArray[np.bool_]]:
    """A bit mask of `parts` as a mask that `legend.encode` takes; and whether a pixel is a stray: of several classes
    that exclude each other. The last of them has it.

    Where a part is the class of the value 0, pixels of no part are `UNANNOTATED`.
    Raises DataError: a part that is no class of the legend, a legend of colours or objects.
    """
    if legend.kind not in ("values", "regions"):
        raise DataError(f"the mask has a part for each class, but the masks of the model hold {legend.kind}")
    where = _classes_of(parts, legend)
    values, inverse = _distinct(bits)
    result, several = np.zeros(len(values), np.int64), np.zeros(len(values), bool)
    for bit, index in sorted(enumerate(where), key=lambda pair: pair[1]):
        has = (values >> bit & 1 > 0) & (values != UNANNOTATED)
        if legend.regions:
            result[has] |= 1 << index
        else:
            several |= has & (result != 0)
            result[has] = index + 1
    if not legend.regions:
        zero = [k for k, entry in enumerate(legend.classes) if entry.value == 0 and k not in where]
        coded = [code(legend.classes[k].value) for k in (*zero, *range(len(legend.classes)))]
        result = np.array(coded if zero else [UNANNOTATED, *coded], np.int64)[result]
    elif not legend.apart:
        result = legend.decode(result.astype(np.uint8)).astype(np.int64)
    result[values == UNANNOTATED] = UNANNOTATED
    return result[inverse], several[inverse]


def _classes_of(parts: Sequence[str], legend: Legend) -> list[int]:
    """The class index of every part, by name; of parts that only have numbers, by those."""
    if tuple(parts) == numbered_parts(len(parts)) and not set(parts) <= set(legend.names):
        implied = len(legend.classes) - len(parts)  # a background that is no part comes first
        if implied in ((0,) if legend.regions else (0, 1)):
            return list(range(implied, len(legend.classes)))
        raise DataError(f"the mask has {len(parts)} parts, but the model the classes {', '.join(legend.names)}")
    for name in parts:
        if name not in legend.names:
            raise DataError(
                f"there is no class '{name}' among those of the model ({', '.join(legend.names)}); give its files the "
                "name of a class, or leave them out"
            )
    return [legend.names.index(name) for name in parts]


def _distinct(values_X: Array) -> tuple[Ints, Array]:
    """Values that occur (all that can, of 8 bits), and the index among them of each element."""
    if values_X.dtype == np.uint8:
        return np.arange(256), values_X
    values, inverse = np.unique(values_X.astype(np.int64), return_inverse=True)
    return values, inverse.reshape(values_X.shape)
