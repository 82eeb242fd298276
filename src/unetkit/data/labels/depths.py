"""How deep in its object a pixel lies, as labels say it: by classes, or finer, as an expected value.

A label of objects that touch has the network's classes: 0 background, then the help classes, each at a depth of its own
between 0 (the object's edge) and 1 (its middle). What a network expects lies between them: such a label has, above the
K classes, the values K … `DEEPEST` for depths of 0 … 1. Both may be read by one table.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from unetkit.data.case import IGNORE

DEEPEST = IGNORE - 1


def depth_table(depths: Sequence[float]) -> NDArray[np.float32]:
    """The depth (256,) that each value of a label stands for, below 0 where there is no object or nobody knows.

    depths: of the network's classes, the background's 0 first.
    """
    table = np.full(IGNORE + 1, -1, np.float32)
    classes = len(depths)
    table[1:classes] = depths[1:]
    table[classes:IGNORE] = np.linspace(0, 1, IGNORE - classes, dtype=np.float32)
    return table
