"""Whole objects of one patch are pasted into another, image and label alike (Ghiasi et al. 2021, "Simple Copy-Paste",
section 3): rare objects are met more often, and beside others.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from unetkit.augment.draw import Draws
from unetkit.augment.plan import AugmentPlan

INSIDE, BORDER = 1, 2
"""Of objects whose border is learnt: the classes of a label."""
# Pixels of the smallest object worth pasting: what is smaller is what a warp left of one.
LEAST = 4

Place = tuple[slice, ...]


def paste(image_BCX: torch.Tensor, label_BX: torch.Tensor, draws: Draws, plan: AugmentPlan) -> None:
    """Paste the drawn number of objects into each patch, in place.

    An object is what is connected of `plan.paste_classes` and lies whole in another patch of the batch (in a batch of
    one: in the same), as that was before anything was pasted. It comes to lie anywhere within the patch; along axes
    where slices are alike (`plan.fixed`) it stays at its place. With `plan.paste_border` it brings its border along,
    and what it covers in part gets a border beside it.
    """
    if draws.paste_B is None or draws.paste_seed_B is None or not draws.paste_B.any():
        return
    before_BCX, before_BX = image_BCX.clone(), label_BX.clone()
    for row in np.flatnonzero(draws.paste_B):
        g = np.random.Generator(np.random.PCG64(int(draws.paste_seed_B[row])))
        others = max(1, len(image_BCX) - 1)
        donor = (int(row) + 1 + int(g.integers(others))) % len(image_BCX)
        wanted = int(draws.paste_B[row])
        for there, here, whole_X in _objects(before_BX[donor], wanted, plan, g):
            mask_X = torch.from_numpy(whole_X).to(label_BX.device)
            image_CX, label_X = image_BCX[row][(slice(None), *here)], label_BX[row][here]
            image_CX.copy_(torch.where(mask_X, before_BCX[donor][(slice(None), *there)], image_CX))
            label_X.copy_(torch.where(mask_X, before_BX[donor][there], label_X))
            if plan.paste_border:
                _part(label_BX[row], here, whole_X, plan.paste_border)


def _objects(
    label_X: torch.Tensor, most: int, plan: AugmentPlan, g: np.random.Generator
) -> Iterator[tuple[Place, Place, NDArray[np.bool_]]]:
    """Objects that lie whole in a patch, at most so many: where each is, where it comes to lie, and which pixels of
    that box it is."""
    wanted = np.zeros(256, bool)
    wanted[list(plan.paste_classes)] = True
    found_X, _ = ndimage.label(wanted[label_X.cpu().numpy()])
    boxes = [box for box in enumerate(ndimage.find_objects(found_X), start=1) if _inside(box[1], found_X.shape, plan)]
    for k in g.permutation(len(boxes))[:most]:
        number, there = boxes[k]
        here = []
        for axis, (n, span) in enumerate(zip(found_X.shape, there, strict=True)):
            length = span.stop - span.start
            start = int(g.integers(n - length + 1))
            here.append(span if axis in plan.fixed else slice(start, start + length))
        whole_X = found_X[there] == number
        if whole_X.sum() >= LEAST:
            yield there, tuple(here), whole_X


def _inside(box: Sequence[slice], shape: Sequence[int], plan: AugmentPlan) -> bool:
    """Whether nothing of an object is cut off by the edge of the patch."""
    free = [axis for axis, n in enumerate(shape) if n > 1 and axis not in plan.fixed]
    return all(box[axis].start > 0 and box[axis].stop < shape[axis] for axis in free)


def _part(label_X: torch.Tensor, here: Place, whole_X: NDArray[np.bool_], width: int) -> None:
    """Inside of other objects that lies within `width` pixels of what was pasted becomes border, in place."""
    around = tuple(
        slice(max(0, span.start - width), min(n, span.stop + width))
        for span, n in zip(here, label_X.shape, strict=True)
    )
    pad = [(span.start - wide.start, wide.stop - span.stop) for span, wide in zip(here, around, strict=True)]
    whole_X = np.pad(whole_X, pad)
    near_X = (ndimage.distance_transform_edt(~whole_X) <= width) & ~whole_X
    part_X = label_X[around]
    part_X.masked_fill_(torch.from_numpy(near_X).to(label_X.device) & (part_X == INSIDE), BORDER)
