"""Cases predicted by a model that never saw them: what calibration and decoding are learnt from, and honest scores."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region


@dataclass(frozen=True)
class HeldOut:
    """One case, its truth, and what a network that never saw it says of it, on the grid of the case's own file.

    Of a huge image only a window is kept (`window`, a region of the image's grid; else the whole image).
    truth_X: uint8 (*window), class indices of the masks' legend without the border of objects, 255 where nobody judged;
    of overlapping regions bit masks. ids_X: the object that each pixel belongs to, where the masks number objects.
    probabilities: reads float32 (K, *window), the network's own classes, the border included, before any calibration.
    """

    id: str
    group: str | None
    window: Region
    truth_X: NDArray[np.uint8]
    probabilities: Callable[[], NDArray[np.float32]]
    ids_X: NDArray[Any] | None = None
    spacing: tuple[float, ...] | None = None


def halves(cases: Sequence[HeldOut]) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """The indices of two halves that share no group, for fitting on one and scoring the other; None where there are
    fewer than four units (groups, or cases without one), which are too few to say anything."""
    units: dict[str, list[int]] = {}
    for number, case in enumerate(cases):
        units.setdefault(f"group {case.group}" if case.group is not None else f"case {case.id}", []).append(number)
    if len(units) < 4:
        return None
    sides: tuple[list[int], list[int]] = ([], [])
    # the largest units first, each to the smaller side
    for unit in sorted(units.values(), key=lambda u: (-len(u), u)):
        min(sides, key=len).extend(unit)
    return tuple(sorted(sides[0])), tuple(sorted(sides[1]))
