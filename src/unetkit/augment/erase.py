"""Boxes are cut out of patches: an object that is partly hidden is still to be found."""

from __future__ import annotations

import torch

from unetkit.augment.draw import Draws

IGNORE = 255
"""The label of pixels that nobody judged."""


def cut_out(image_BCX: torch.Tensor, label_BX: torch.Tensor, draws: Draws, keep: bool = False) -> None:
    """Fill the drawn boxes with the mean of each channel, in place (DeVries and Taylor 2017, section 3); what lies
    under them is ignored unless `keep`."""
    if draws.boxes_BND2 is None:
        return
    space = label_BX.shape[1:]
    for image_CX, label_X, boxes_ND2 in zip(image_BCX, label_BX, draws.boxes_BND2, strict=True):
        edges = [
            [(round(a * n), round(b * n)) for (a, b), n in zip(box_D2, space, strict=True)]
            for box_D2 in boxes_ND2.tolist()
        ]
        boxes = [tuple(slice(a, b) for a, b in box) for box in edges if all(a < b for a, b in box)]
        if not boxes:
            continue
        mean_C = image_CX.mean(dim=tuple(range(1, image_CX.ndim)), keepdim=True)
        for box in boxes:
            image_CX[(slice(None), *box)] = mean_C
            if not keep:
                label_X[box] = IGNORE
