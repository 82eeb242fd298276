"""A batch from whole images: the only function that training calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from unetkit.augment.draw import draw
from unetkit.augment.intensity import change_intensity
from unetkit.augment.plan import AugmentPlan
from unetkit.augment.warp import Pixels, warp


@dataclass(frozen=True)
class Augmented:
    """A batch to learn from: image_BCX float32 and label_BX uint8.

    With mix-up (Zhang et al. 2018, "mixup: Beyond Empirical Risk Minimization", equation 1) the image is `mix` parts of
    one sample and 1 − mix of another, whose label is `other_BX`: the loss is mix · loss(label) + (1 − mix) ·
    loss(other). None: nothing is mixed.
    """

    image_BCX: torch.Tensor
    label_BX: torch.Tensor
    other_BX: torch.Tensor | None = None
    mix: float = 1.0


def augment(
    images_CX: Sequence[Pixels],
    labels_X: Sequence[Pixels],
    centres: Sequence[Sequence[int]],
    patch: Sequence[int],
    plan: AugmentPlan,
    generators: Sequence[np.random.Generator],
) -> Augmented:
    """Random patches around the centres of whole images, changed at random.

    One generator per sample: what a sample becomes depends on its own generator alone.
    """
    draws = draw(plan, patch, generators)
    image, label = warp(images_CX, labels_X, centres, patch, draws)
    return Augmented(change_intensity(image, draws), label)
