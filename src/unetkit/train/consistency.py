"""Images without masks teach as well: the network shall say of a strongly changed patch what the running average of its
weights says of it unchanged (mean teacher; Tarvainen & Valpola 2017).

What changes patches most is another patch: a box of one is pasted into the next (CutMix), and the answers are pasted
alike. With changes of intensity alone, agreement teaches segmentation little (French et al. 2020, "Semi-supervised
semantic segmentation needs strong, varied perturbations", section 3).
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from unetkit.augment.draw import draw
from unetkit.augment.intensity import change_intensity
from unetkit.augment.plan import AugmentPlan
from unetkit.augment.warp import warp
from unetkit.core.rng import numpy_generator
from unetkit.data.case import IGNORE
from unetkit.data.prepared.patches import PatchSampler, PreparedCase
from unetkit.data.prepared.places import Places
from unetkit.nets.build import UNet, centred
from unetkit.plan.budget import arithmetic_of, autocast, placed
from unetkit.plan.plan import Plan
from unetkit.train.step import as_tensor

# Intensities of patches without masks are changed this many times as strongly as those of patches with masks.
STRONGER = 2.0


class Consistency:
    """What is added to the loss of each step: the disagreement on patches of images without masks.

    A patch is placed, turned and bent as those with masks are. The average sees it so; the network sees it with other
    intensities and with a box of the next patch in it. Batch norms do not count these patches: their running statistics
    stay those of the labelled ones, with which the network is used.
    """

    def __init__(self, cases: Sequence[PreparedCase], plan: Plan) -> None:
        self.plan, self.learn = plan, plan.learn
        self.count = max(1, round(self.learn.unlabelled * plan.sampling.batch))
        self.cases = tuple(anywhere(case) for case in cases)
        self.sampler = PatchSampler(self.cases, plan.sampling.patch, 0.0, plan.seed)
        self.strong = stronger(plan.augment)
        self.arithmetic = arithmetic_of(plan.machine)

    def loss(self, net: UNet, average: UNet, step: int, fraction: float) -> Tensor | None:
        """The weighted disagreement at `step`; None while its weight is nearly nothing. See `train.step.Also`."""
        weight = self.learn.weight * risen(fraction, self.learn.ramp)
        if weight < 1e-4:
            return None
        plain_BCX, strong_BCX, label_BX, box_BX = self.patches(step)
        device = torch.device(self.arithmetic.device)
        regions = self.plan.data.legend.regions
        with torch.no_grad(), autocast(self.arithmetic):
            logits_BKX = average(placed(plain_BCX, self.arithmetic))
            shares_BKX = torch.sigmoid(logits_BKX.float()) if regions else torch.softmax(logits_BKX.float(), 1)
        area = shares_BKX.shape[2:]
        label_BX, box_BX = centred(label_BX, area).to(device), centred(box_BX, area).to(device)
        shares_BKX, label_BX = pasted(shares_BKX, box_BX[:, None]), pasted(label_BX, box_BX)
        seen_BCX = placed(strong_BCX[: self.count], self.arithmetic)
        with steady_statistics(net), autocast(self.arithmetic):
            output = net(seen_BCX)
        logits_BKX = output if isinstance(output, Tensor) else output[0]
        valid_BX = label_BX[: self.count] != IGNORE
        return weight * disagreement(
            logits_BKX, shares_BKX[: self.count], valid_BX, self.learn.confidence, regions=regions
        )

    def patches(self, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Patches of `step`, of which the first `count` are shown: as the average sees them (B, C, *X), as the network
        does, labels (B, *X) that are `IGNORE` where an image holds nothing, and True where the next one is pasted."""
        batch = range(max(2, self.count))  # one more than is shown, where a single one has no neighbour to paste from
        patch, seed = self.plan.sampling.patch, self.plan.seed
        chosen = [self.sampler.choose(step, _OWN + index) for index in batch]
        draws = draw(self.strong, patch, [numpy_generator(seed, "unlabelled", step, index) for index in batch])
        plain_BCX, label_BX = warp(
            [as_tensor(self.cases[number].image_CX) for number, _ in chosen],
            [as_tensor(self.cases[number].label_X) for number, _ in chosen],
            [centre for _, centre in chosen],
            patch,
            draws,
        )
        box_BX = torch.stack([box(patch, numpy_generator(seed, "paste", step, index)) for index in batch])
        scales = [self.cases[number].scale for number, _ in chosen]
        strong_BCX = change_intensity(plain_BCX.clone(), draws, scales, self.strong.fixed)
        return plain_BCX, pasted(strong_BCX, box_BX[:, None]), label_BX, box_BX


# Patches without masks are numbered from here: the sampler draws theirs from other keys than those of labelled ones.
_OWN = 1 << 20


def disagreement(
    logits_BKX: Tensor, shares_BKX: Tensor, valid_BX: Tensor, confidence: float, regions: bool = False
) -> Tensor:
    """Squared difference of the probabilities of logits from `shares`, summed over the classes, where `shares` are
    sure; the mean over all valid pixels, so that it weighs less where little is sure (French 2020, section 4).

    regions: each class has a sigmoid of its own, and is sure by itself: near 0 or near 1.
    """
    own_BKX = torch.sigmoid(logits_BKX.float()) if regions else torch.softmax(logits_BKX.float(), 1)
    if regions:
        sure_BKX = torch.maximum(shares_BKX, 1 - shares_BKX) >= confidence
    else:
        sure_BKX = shares_BKX.amax(1, keepdim=True) >= confidence
    square_BX = ((own_BKX - shares_BKX).square() * sure_BKX).sum(1)
    return (square_BX * valid_BX).sum() / valid_BX.sum().clamp(min=1)


def risen(fraction: float, ramp: float) -> float:
    """The share of its weight that agreement has after `fraction` of the budget: exp(−5 (1 − t)²) with t from 0 to 1
    over `ramp` (Laine & Aila 2017, section 2.1)."""
    t = min(1.0, fraction / ramp) if ramp > 0 else 1.0
    return math.exp(-5 * (1 - t) ** 2)


def box(patch: Sequence[int], generator: np.random.Generator) -> Tensor:
    """A mask (*patch) of a box of half the patch, of any proportions and place (French 2020, section 3.3: CutMix)."""
    parts = generator.dirichlet(np.ones(len(patch)))
    inside = torch.zeros(tuple(patch), dtype=torch.bool)
    sides = [max(1, min(n, round(n * 0.5**part))) for n, part in zip(patch, parts, strict=True)]
    starts = [int(generator.integers(n - side + 1)) for n, side in zip(patch, sides, strict=True)]
    inside[tuple(slice(a, a + n) for a, n in zip(starts, sides, strict=True))] = True
    return inside


def pasted(of_BX: Tensor, box_BX: Tensor) -> Tensor:
    """Each of a batch with what the next one has in its box."""
    return torch.where(box_BX, of_BX.roll(-1, 0), of_BX)


def anywhere(case: PreparedCase) -> PreparedCase:
    """The case as one whose patches are taken anywhere, and the more of them the larger it is."""
    return replace(case, places=Places({}, {0: math.prod(case.shape)}))


def stronger(plan: AugmentPlan) -> AugmentPlan:
    """The same changes of shape and colour, and stronger ones of intensity. What is off stays off."""
    names = ("brightness", "contrast", "gamma", "noise", "blur")
    return plan.model_copy(update={name: STRONGER * getattr(plan, name) for name in names})


@contextlib.contextmanager
def steady_statistics(net: nn.Module) -> Iterator[None]:
    """Within this, batch norms in training mode normalise by their batch, but their running statistics stay."""
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
