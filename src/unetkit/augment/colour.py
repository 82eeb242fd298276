"""Colours: saturation and hue of RGB images, and amounts of stain in tissue. In the colours of the file, not in those
of the normalised image, whose channels were shifted and scaled each for itself.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.augment.draw import Draws

Scale: TypeAlias = NDArray[np.float32]
"""(2, 3): what black (0) and white (the largest value of the file's type) became by normalising, per channel."""

# The darkest value of a channel whose logarithm is taken: one step of 8 bits.
DARKEST = 1 / 255


def change_colour(image_CX: torch.Tensor, draws: Draws, row: int, scale: Scale | None) -> None:
    """Saturation, hue and stain of one RGB image (float32, three channels), in place. Without a scale the values are
    taken for colours between 0 and 1. Raises ValueError: other than three channels."""
    colour, stain = draws.colour_B33, draws.stain_B32
    if colour is None and stain is None:
        return
    if len(image_CX) != 3:
        raise ValueError(f"colours are changed in images of three channels, not {len(image_CX)}")
    black, white = (np.zeros(3), np.ones(3)) if scale is None else np.asarray(scale, np.float64)
    shape = (3, *[1] * (image_CX.ndim - 1))
    black_C, span_C = (torch.from_numpy(v).to(image_CX).reshape(shape) for v in (black, white - black))
    image_CX.sub_(black_C).div_(span_C)
    if colour is not None:
        image_CX.copy_(_times(torch.from_numpy(colour[row]), image_CX))
    if stain is not None:
        image_CX.copy_(_stained(image_CX, torch.from_numpy(stain[row])))
    image_CX.mul_(span_C).add_(black_C)


def _stained(image_CX: torch.Tensor, stain_32: torch.Tensor) -> torch.Tensor:
    """Other amounts of the three stains (Tellez et al. 2018, section III-B; stains of Ruifrok and Johnston 2001): the
    absorbance of each pixel is taken apart, each part changed, and all put together again."""
    absorbance_CX = image_CX.clamp(DARKEST, 1).log_().neg_()
    apart_33 = _unmixing()
    there = torch.linalg.inv(apart_33) @ torch.diag(stain_32[:, 0]) @ apart_33
    changed_CX = _times(there, absorbance_CX)
    added = torch.linalg.inv(apart_33) @ stain_32[:, 1]
    return changed_CX.add_(added.to(changed_CX).reshape(3, *[1] * (changed_CX.ndim - 1))).neg_().exp_().clamp_(max=1)


@lru_cache(maxsize=1)
def _unmixing() -> torch.Tensor:
    """(3, 3) float64: from absorbances of red, green and blue to amounts of haematoxylin, eosin and DAB."""
    from skimage.color import hed_from_rgb  # takes its time, and few need it

    return torch.from_numpy(np.array(hed_from_rgb, np.float64).T)


def _times(matrix_33: torch.Tensor, image_CX: torch.Tensor) -> torch.Tensor:
    return (matrix_33.to(image_CX) @ image_CX.reshape(3, -1)).reshape(image_CX.shape)
