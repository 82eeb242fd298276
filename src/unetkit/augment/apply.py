"""A batch from whole images: the only function that training calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unetkit.augment.draw import draw
from unetkit.augment.intensity import change_intensity
from unetkit.augment.plan import AugmentPlan
from unetkit.augment.warp import Pixels, warp


def augment(
    images_CX: Sequence[Pixels],
    labels_X: Sequence[Pixels],
    centres: Sequence[Sequence[int]],
    patch: Sequence[int],
    plan: AugmentPlan,
    generators: Sequence[np.random.Generator],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random patches around the centres of whole images: (image_BCP float32, label_BP uint8).

    One generator per sample: what a sample becomes depends on its own generator alone.
    """
    draws = draw(plan, patch, generators)
    image, label = warp(images_CX, labels_X, centres, patch, draws)
    return change_intensity(image, draws), label
