"""Soft Dice against MONAI's, where every class occurs and nothing is ignored (MONAI has no ignored label)."""

from __future__ import annotations

import warnings

import pytest
import torch

from unetkit.losses import dice, make_loss

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
