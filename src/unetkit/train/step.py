"""One training step, from pixels to updated weights. Read this file first.

Everything random in a step comes from the key (seed, step, index of the sample): a step is the same whether the steps
before it ran in this process or in one that was killed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from unetkit.augment.apply import Augmented, augment
from unetkit.core.errors import PlanError
from unetkit.core.rng import numpy_generator
from unetkit.data.prepared.patches import PatchSampler, Pixels, PreparedCase
from unetkit.losses.expression import Loss, make_loss
from unetkit.nets.build import UNet, centred
from unetkit.plan.budget import Arithmetic, autocast, placed
from unetkit.plan.plan import Plan
from unetkit.train.hard import HardCases
from unetkit.train.optim import clip_gradient


class Also(Protocol):
    """What a run learns from beside its labels (unlabelled images, for example)."""

    def loss(self, net: UNet, average: UNet, step: int, fraction: float) -> Tensor | None:
        """What is added to the loss of step number `step` (from 0), a float32 scalar; None: nothing.

        net: what learns, in training mode. average: its running average, in evaluation mode, without gradients.
        fraction: share of the budget that is spent, in [0, 1]. What is random comes from a key (`core/rng.py`).
        """
        ...


class Batches:
    """Patches of every step: chosen, warped out of their images and changed in one go."""

    def __init__(self, cases: Sequence[PreparedCase], plan: Plan, later: Sequence[PreparedCase] = ()) -> None:
        """`later`: cases that are not seen before they `join`."""
        self.cases = (*cases, *later)
        self.plan = plan
        sampling = plan.sampling
        self.sampler = self._sampler(len(cases))
        self.hard = HardCases(len(self.cases), sampling.hard, sampling.hard_most) if sampling.hard else None
        self.numbers: list[int] = []
        """The case of each sample of the batch that was given last."""
        self._loss = make_loss("ce + dice", plan.net.classes, regions=plan.data.legend.regions)
        self.images = [as_tensor(case.image_CX) for case in self.cases]
        self.labels = [as_tensor(case.label_X) for case in self.cases]

    def _sampler(self, count: int) -> PatchSampler:
        """Of the first so many cases."""
        plan = self.plan.sampling
        cases = self.cases[:count]
        return PatchSampler(cases, plan.patch, plan.oversample, self.plan.seed, plan.by_area, plan.repeat)

    def join(self) -> None:
        """From now on all cases are seen."""
        self.sampler = self._sampler(len(self.cases))

    def __call__(self, step: int) -> Augmented:
        """The batch of `step`."""
        batch = range(self.plan.sampling.batch)
        if self.hard is not None:
            self.sampler.reweigh(self.hard.factors()[: len(self.sampler.cases)])
        chosen = [self.sampler.choose(step, index) for index in batch]
        self.numbers = [number for number, _ in chosen]
        return augment(
            [self.images[number] for number, _ in chosen],
            [self.labels[number] for number, _ in chosen],
            [centre for _, centre in chosen],
            self.plan.sampling.patch,
            self.plan.augment,
            [numpy_generator(self.plan.seed, "augment", step, index) for index in batch],
            [self.cases[number].scale for number, _ in chosen],
        )

    def watch(self, logits_BKX: Tensor, label_BX: Tensor) -> None:
        """Take note of how hard the batch that was given last was: of cross-entropy and Dice of each sample, whatever
        the loss that is minimised."""
        if self.hard is not None:
            pairs = zip(logits_BKX, label_BX, strict=True)
            self.hard.note(self.numbers, [float(self._loss(logits[None], label[None])) for logits, label in pairs])


def as_tensor(pixels: Pixels) -> Tensor | Pixels:
    """What is in memory as a tensor of the same memory; what lies on a disk as it is."""
    return torch.from_numpy(pixels) if isinstance(pixels, np.ndarray) else pixels


def train_step(
    net: UNet,
    optimiser: torch.optim.Optimizer,
    loss: Loss,
    batch: Augmented,
    arithmetic: Arithmetic,
    clip: float | None,
    scales: Sequence[float] | None = None,
    also: Callable[[], Tensor | None] | None = None,
    watch: Callable[[Tensor, Tensor], None] | None = None,
) -> float:
    """Forward, loss, backward, update. Returns the loss. The loss is computed in float32 whatever the precision.

    Of a mixture of two samples it is that of both labels, each in its share (Zhang 2018, equation 2).
    also: gives what is added to the loss, or None. It is called when the network's own feature maps are free again.
    watch: is given the logits (of the finest result, float32) and the label that they speak of, without gradients. Of
    mixtures it is not: they say nothing of one case.
    """
    device = next(net.parameters()).device
    with autocast(arithmetic):
        output = net(placed(batch.image_BCX, arithmetic))
    value = supervise(loss, output, batch.label_BX.to(device), net.geometry.strides, scales)
    if batch.other_BX is not None:
        other = supervise(loss, output, batch.other_BX.to(device), net.geometry.strides, scales)
        value = batch.mix * value + (1 - batch.mix) * other
    elif watch is not None:
        logits_BKX = (output if isinstance(output, Tensor) else output[0]).detach().float()
        watch(logits_BKX, centred(batch.label_BX.to(device), logits_BKX.shape[2:]))
    optimiser.zero_grad(set_to_none=True)
    torch.autograd.backward(value)
    added = None if also is None else also()
    if added is not None:
        torch.autograd.backward(added)
        value = value.detach() + added.detach()
    clip_gradient(net, clip)
    optimiser.step()
    return float(value.detach())


def supervise(
    loss: Loss,
    output: Tensor | list[Tensor],
    label_BX: Tensor,
    strides: Sequence[Sequence[int]],
    scales: Sequence[float] | None = None,
) -> Tensor:
    """The loss of the logits; with deep supervision the mean over all results, weighted with `scales` (finest first).

    `label_BX` is that of the whole input; `strides`: input pixels per pixel of each result. With valid convolutions
    each result speaks of its own middle part of the input.

    Without scales a result of half the resolution weighs half as much (Isensee 2021), and results of equal size weigh
    alike (Zhou 2018, U-Net++). Raises PlanError: another number of scales than of results.
    """
    results = [output] if isinstance(output, Tensor) else output
    sizes = [tuple(logits.shape[2:]) for logits in results]
    if scales is None:
        scales = [0.5 ** round(math.log2(max(f / n for f, n in zip(sizes[0], size, strict=True)))) for size in sizes]
    elif len(scales) != len(results):
        raise PlanError(f"loss.scales has {len(scales)} weights, but this network gives {len(results)} results")
    each = []
    for weight, logits, size, stride in zip(scales, results, sizes, strides, strict=True):
        area = [min(n * s, whole) for n, s, whole in zip(size, stride, label_BX.shape[1:], strict=True)]
        each.append(weight * loss(logits, shrink(centred(label_BX, area), size), stride=stride))
    return torch.stack(each).sum() / sum(scales)


def shrink(label_BX: Tensor, shape: Sequence[int]) -> Tensor:
    """The label at a coarser level: the pixel nearest to the middle of every coarse pixel."""
    for axis, n in enumerate(shape, start=1):
        length = label_BX.shape[axis]
        places = ((torch.arange(n, device=label_BX.device) + 0.5) * (length / n)).long().clamp_(max=length - 1)
        label_BX = label_BX.index_select(axis, places)
    return label_BX
