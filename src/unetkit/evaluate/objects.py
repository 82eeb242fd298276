"""The objects of a mask, for scores of objects one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.data.case import IGNORE
from unetkit.data.labels.legend import Label, Legend, pack
from unetkit.data.labels.mask_files import RawMask
from unetkit.metrics.instances import image_scores


def scores_of_objects(truth: RawMask, prediction: RawMask, truth_X: Label, legend: Legend) -> dict[str, float]:
    """`image_scores` of two masks of instances, truth_X the label of the first; nothing of other masks.

    A prediction that has one value only beside 0 (and more than one connected area) numbers nothing: there, as in masks
    of programs that know no objects, the connected areas are the objects.
    """
    if legend.kind != "instances":
        return {}
    found_X = ids_of(prediction, legend)
    if len(np.unique(found_X[found_X != 0])) == 1:
        found_X = areas_of(found_X != 0)
    return dict(image_scores(ids_of(truth, legend), found_X, truth_X == IGNORE))


def ids_of(mask: RawMask, legend: Legend) -> NDArray[Any]:
    """The number of the object that each pixel (*space) belongs to; 0 where there is none, or it is not known."""
    ids_X = pack(mask.array) if mask.coloured else mask.array
    label_X = legend.plain.encode(ids_X, False)[0]
    return np.where((label_X == 0) | (label_X == IGNORE), 0, ids_X)


def areas_of(inside_X: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Connected areas (by corners too), numbered from 1."""
    from scipy import ndimage

    areas_X: NDArray[np.int32] = ndimage.label(inside_X, np.ones((3,) * inside_X.ndim), output=np.int32)[0]
    return areas_X
