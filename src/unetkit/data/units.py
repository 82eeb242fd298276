"""What must stay together when cases are parted, and how like the whole set a part of it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from unetkit.data.groups import Groups


def units_of(ids: Sequence[str], groups: Groups, hashes: Mapping[str, str]) -> list[list[str]]:
    """Cases that must stay together, directly or through others (a copy may tie two groups), in order of appearance."""
    parent = {i: i for i in ids}

    def root(i: str) -> str:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for of in (groups.of, hashes):
        first: dict[str, str] = {}
        for i in ids:
            if i in of:
                parent[root(i)] = root(first.setdefault(of[i], i))
    together: dict[str, list[str]] = {}
    for i in ids:
        together.setdefault(root(i), []).append(i)
    return list(together.values())


def features_of(units: Sequence[Sequence[str]], label_counts: Mapping[str, Sequence[int]]) -> NDArray[np.float64]:
    """Per unit: cases that hold each class, and the share of each class in their pixels, summed: (U, 2·K)."""
    classes = max((len(counts) for counts in label_counts.values()), default=0)
    rows = np.zeros((len(units), 2 * classes))
    for row, unit in zip(rows, units, strict=True):
        for case in unit:
            counts = np.asarray(label_counts.get(case, (0,) * classes), float)
            row[:classes] += counts > 0
            row[classes:] += counts / max(1, counts.sum())
    return rows


def unlikeness(
    chosen: NDArray[np.bool_], sizes: NDArray[np.int64], features: NDArray[np.float64], target: float
) -> float:
    """0 for a validation side of the wanted size whose classes are exactly as in the set; a class that one side lacks,
    although both could have it, weighs most."""
    n, total = int(sizes[chosen].sum()), features.sum(0)
    expected = total * n / sizes.sum()
    part = features[chosen].sum(0)
    differ = float((np.abs(part - expected) / np.maximum(total, 1e-9))[total > 0].sum()) / max(1, len(total) // 2)
    presence = len(total) // 2
    could = (features[:, :presence] > 0).sum(0) > 1
    lacks = could & ((part[:presence] == 0) | (part[:presence] == total[:presence]))
    return differ + 2.0 * int(lacks.sum()) + 2.0 * abs(n - target) / int(sizes.sum())
