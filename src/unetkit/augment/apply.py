"""A batch from whole images: the only function that training calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from unetkit.augment.colour import Scale
from unetkit.augment.draw import draw
from unetkit.augment.erase import cut_out
from unetkit.augment.intensity import change_intensity
from unetkit.augment.paste import paste
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
    scales: Sequence[Scale | None] | None = None,
    device: torch.device | None = None,
) -> Augmented:
    """Random patches around the centres of whole images, changed at random.

    One generator per sample: what a sample becomes depends on its own generator alone, but for objects that are pasted
    and for mixtures, which need another sample of the batch as well. scales: of each image its black and its white,
    where colours are changed. device: where it is computed and where the batch lies (none: where the first image is).
    """
    draws = draw(plan, patch, generators)
    image, label = warp(images_CX, labels_X, centres, patch, draws, device)
    paste(image, label, draws, plan)
    change_intensity(image, draws, scales, plan.fixed)
    cut_out(image, label, draws, keep=plan.cut_out_label == "keep")
    if draws.mix == 1 or len(image) == 1:
        return Augmented(image, label)
    mixed = image.mul(draws.mix).add_(image.roll(-1, 0), alpha=1 - draws.mix)
    return Augmented(mixed, label, label.roll(-1, 0), draws.mix)
