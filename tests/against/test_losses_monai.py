"""Soft Dice against MONAI's, of classes and of regions, where every one occurs and nothing is ignored (MONAI has no
ignored label)."""

from __future__ import annotations

import warnings

import pytest
import torch

from unetkit.losses import dice, make_loss, region_cross_entropy, region_dice

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its imports warn about their own dependencies
    losses = pytest.importorskip("monai.losses")


@pytest.mark.parametrize("space", [(40,), (12, 13), (6, 7, 8)])
@pytest.mark.parametrize("classes", [2, 4])
def test_equal_to_monai(space: tuple[int, ...], classes: int) -> None:
    generator = torch.Generator().manual_seed(classes)
    logits = torch.randn(3, classes, *space, generator=generator)
    label = torch.randint(0, classes, (3, *space), generator=generator)
    options = {"softmax": True, "to_onehot_y": True, "batch": True}
    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    ours, theirs = dice(a, label), losses.DiceLoss(**options)(b, label[:, None])
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-8)
    both = losses.DiceCELoss(**options)(logits, label[:, None])
    torch.testing.assert_close(make_loss("ce + dice", classes)(logits, label), both)


@pytest.mark.parametrize("space", [(40,), (12, 13), (6, 7, 8)])
def test_regions_equal_to_monai(space: tuple[int, ...]) -> None:
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(3, 4, *space, generator=generator)
    label = torch.randint(0, 16, (3, *space), generator=generator)
    targets = torch.stack([(label >> k & 1).float() for k in range(4)], 1)
    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    ours, theirs = region_dice(a, label), losses.DiceLoss(sigmoid=True, batch=True)(b, targets)
    ours.backward()
    theirs.backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-8)
    crossed = torch.nn.BCEWithLogitsLoss()(logits, targets)
    torch.testing.assert_close(region_cross_entropy(logits, label), crossed)
    torch.testing.assert_close(make_loss("ce + dice", 4, regions=True)(logits, label), crossed + theirs)
