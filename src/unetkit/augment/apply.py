"""A batch from drawn parameters: the only function that training calls."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from unetkit.augment.draw import draw, reach
from unetkit.augment.intensity import change_intensity
from unetkit.augment.plan import AugmentPlan
from unetkit.augment.warp import warp

__all__ = ["augment", "reach"]


def augment(
    windows_BCX: torch.Tensor,
    labels_BX: torch.Tensor,
    patch: Sequence[int],
    plan: AugmentPlan,
    generators: Sequence[np.random.Generator],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random patches from windows of at least twice `reach(plan, patch)` pixels: (image_BCP float32, label_BP uint8).

    One generator per sample: what a sample becomes depends on its own generator alone.
    """
    draws = draw(plan, patch, generators)
    image, label = warp(windows_BCX, labels_BX, patch, draws)
    return change_intensity(image, draws), label
