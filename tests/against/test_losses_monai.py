"""Losses against MONAI's, value and gradient, wherever both define the same, in the parameters that make them the same;
everything is labelled (MONAI has no ignored label in most). Where definitions differ, docs/losses.md says how."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from unetkit.losses import make_loss

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its imports warn about their own dependencies
    losses = pytest.importorskip("monai.losses")

SPACES = pytest.mark.parametrize("space", [(40,), (12, 13), (6, 7, 8)])
PLANES = pytest.mark.parametrize("space", [(12, 13), (6, 7, 8)])  # some of MONAI's know no signals


def batch(space: tuple[int, ...], regions: bool, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, the label, and its targets one by one; areas that reach over several pixels."""
    generator = torch.Generator().manual_seed(classes + len(space))
    logits = torch.randn(3, classes, *space, generator=generator)
    noise = torch.rand(3, classes, *space, generator=generator).numpy()
    smooth = torch.from_numpy(ndimage.gaussian_filter(noise, (0, 0, *(1,) * len(space))))
    if regions:
        targets = (smooth > 0.5).float()
        label = sum(targets[:, k].long() << k for k in range(classes))
        assert isinstance(label, Tensor)
    else:
        label = smooth.argmax(1)
        targets = torch.nn.functional.one_hot(label, classes).movedim(-1, 1).float()
    return logits, label.to(torch.uint8), targets


def equal(text: str, theirs: Any, space: tuple[int, ...], regions: bool, classes: int = 3, times: float = 1.0) -> None:
    logits, label, targets = batch(space, regions, classes)
    a, b = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    one, other = make_loss(text, classes, regions=regions)(a, label), times * theirs(b, targets)
    one.backward()
    other.backward()
    torch.testing.assert_close(one, other)
    torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-8)


KINDS = pytest.mark.parametrize("regions", [False, True])


def options(regions: bool) -> dict[str, bool]:
    return {"sigmoid": True} if regions else {"softmax": True}


@SPACES
@KINDS
def test_overlap(space: tuple[int, ...], regions: bool) -> None:
    kind = options(regions)
    equal("dice", losses.DiceLoss(**kind, batch=True), space, regions)
    equal("dice(image=true, absent=true)", losses.DiceLoss(**kind), space, regions)
    equal("dice(squared=true, absent=true)", losses.DiceLoss(**kind, batch=True, squared_pred=True), space, regions)
    smooth = losses.DiceLoss(**kind, jaccard=True, smooth_nr=2.0, smooth_dr=2.0)
    equal("jaccard(image=true, absent=true, smooth=1)", smooth, space, regions)
    equal("tversky(alpha=0.2, beta=0.9)", losses.TverskyLoss(**kind, alpha=0.2, beta=0.9, batch=True), space, regions)
    equal("tversky(image=true,absent=true)", losses.TverskyLoss(**kind, alpha=0.3, beta=0.7), space, regions)
    for power, name in enumerate(("uniform", "simple", "square")):
        tiny = {"smooth_nr": 1e-12, "smooth_dr": 1e-12, "w_type": name}
        equal(f"gdice(power={power})", losses.GeneralizedDiceLoss(**kind, **tiny, batch=True), space, regions)
        equal(f"gdice(power={power}, image=true)", losses.GeneralizedDiceLoss(**kind, **tiny), space, regions)
    if not regions:
        bare = losses.DiceLoss(**kind, include_background=False)
        equal("dice(image=true, background=false, absent=true)", bare, space, regions)
        equal("ce + dice", losses.DiceCELoss(**kind, batch=True), space, regions)


@SPACES
def test_binary_cross_entropy_is_that_of_torch(space: tuple[int, ...]) -> None:
    equal("ce", torch.nn.BCEWithLogitsLoss(), space, True)
    equal("ce(positive=3)", torch.nn.BCEWithLogitsLoss(pos_weight=torch.tensor(3.0)), space, True)


@SPACES
def test_focal(space: tuple[int, ...]) -> None:
    """MONAI divides the sum over classes of softmax by their number."""
    equal("focal", losses.FocalLoss(use_softmax=True), space, False, times=3)
    equal("focal(gamma=3, alpha=0.25)", losses.FocalLoss(use_softmax=True, gamma=3, alpha=0.25), space, False, times=3)
    equal("focal", losses.FocalLoss(), space, True)
    equal("focal(gamma=0.5, alpha=0.25)", losses.FocalLoss(gamma=0.5, alpha=0.25), space, True)


@PLANES
@KINDS
def test_distances(space: tuple[int, ...], regions: bool) -> None:
    kind, all_classes = options(regions), "" if regions else "background=true"
    bare = {"include_background": regions}
    equal(f"boundary({all_classes})", losses.BoundaryLoss(**kind), space, regions)
    equal("boundary", losses.BoundaryLoss(**kind, **bare), space, regions)
    equal(f"hausdorff({all_classes})", losses.HausdorffDTLoss(**kind, include_background=True), space, regions)
    equal("hausdorff(alpha=1)", losses.HausdorffDTLoss(**kind, **bare, alpha=1.0), space, regions)


@PLANES
def test_cldice_of_one_class(space: tuple[int, ...]) -> None:
    one = losses.SoftclDiceLoss(sigmoid=True, smooth=1e-12)
    equal("cldice(image=true, absent=true)", one, space, True, classes=1)
    two = losses.SoftclDiceLoss(softmax=True, include_background=False, smooth=1e-12, iter_=5)
    equal("cldice(image=true, absent=true, iterations=5)", two, space, False, classes=2)
