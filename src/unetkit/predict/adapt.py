"""Adaptation to another scanner or stain, from the new images alone, without labels: off unless it is asked for.

`norm`: the statistics of batch norms are measured again on the new images and mixed with those of training (Schneider
et al. 2020, "Improving robustness against common corruptions by covariate shift adaptation", equation 3): those of n
tiles weigh n / (n + N). `entropy`: besides, the scales and shifts of all norms follow the gradient of the mean entropy
of predictions for a few steps (TENT; Wang et al. 2021, section 3), by the statistics that prediction will use. So that
rare classes do not die out on the way, the proportions of classes are held where they were (Bateson et al. 2020,
"Source-relaxed domain adaptation for image segmentation", there with proportions that are known).

Both are for a set of images: tiles are taken evenly from all images of a command, never of one image alone, whose share
of each class would be taken for that of the set. What comes out is a network like any other; its norms are folded as
ever. It depends on nothing but the weights, the images and the choice, so that an interrupted prediction goes on.
"""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from unetkit.core.device import find_device
from unetkit.core.errors import DataError, PlanError
from unetkit.core.events import Decided, Event, Warned
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.prepared.statistics import GOLDEN
from unetkit.nets.build import UNet
from unetkit.nets.ops import EPSILON, GroupNorm, InstanceNorm, LayerNorm
from unetkit.predict.decide import shares
from unetkit.predict.model import Model
from unetkit.predict.options import PredictOptions
from unetkit.predict.reader import mirrored

# Tiles that the statistics of training weigh as much as. Of classified images, of which each is one example, the paper
# wants more; of tiles every place is one (tests/unit/test_predict_adapt.py: adapted to four tiles of images of less
# contrast, blobs are found with a Dice of 0.96 with 2, and of 0.07 with 16).
PRIOR = 2
# Most tiles that are looked at, about how many pixels a side they have by number of axes, and the most pixels and tiles
# that go through the network together.
TILES, SIDE, TOGETHER, MOST = 64, {1: 2048, 2: 256, 3: 48}, 1 << 18, 16
# Of entropy: steps, their size (Wang 2021, section 4.1, takes Adam and 1e-3), and the weight of the proportions. Of
# membranes on held-out slices, as they are / with noise / of less contrast, Dice was 0.762 / 0.624 / 0.494 without
# adaptation, 0.759 / 0.736 / 0.758 with norm, and with entropy 0.684 / 0.622 / 0.686 at a weight of 0, 0.722 / 0.686 /
# 0.725 of 1, 0.759 / 0.735 / 0.760 of 10.
STEPS, RATE, HOLD = 16, 1e-3, 10.0

_Norms = nn.modules.batchnorm._BatchNorm


@dataclass(frozen=True)
class Moved:
    """How far adaptation moved a network. means: of each channel, in standard deviations of training; spreads: factors
    of the standard deviations. entropy: mean of the predictions before and after, in nats; None: not looked at."""

    means: tuple[float, ...]
    spreads: tuple[float, ...]
    entropy: tuple[float, float] | None = None


def adapt(model: Model, cases: Sequence[Case], options: PredictOptions) -> Generator[Event, None, Model]:
    """The model adapted to a set of images as `options.adapt` says; events tell what was done. Images that cannot be
    read are left out. The model that is given stays as it was.

    Raises PlanError: its networks have no norms that could be adapted.
    """
    if options.adapt == "none":
        return model
    _refuse(model.nets[0], options.adapt)
    tiles_CX, images = take(model, cases)
    if not tiles_CX:
        return model  # none can be read: prediction will say so of each
    device = torch.device(find_device(options.device))
    results = [adapted(net, tiles_CX, options.adapt, device, model.legend.regions) for net in model.nets]
    moved = [m for _, m in results]
    norms = len(batch_norms(model.net))
    of = f"{len(tiles_CX)} tile{'s' * (len(tiles_CX) != 1)} of {images} image{'s' * (images != 1)}"
    yield Decided(what="adapt", value=f"{options.adapt}: {norms} batch norms, by {of}", why=_how_far(moved))
    yield Warned(
        message=f"the network was adapted (--adapt {options.adapt}) to {images} images taken together: every mask"
        " depends on which images are predicted with it, and no label says that it is better; compare with masks"
        " made without"
    )
    first, *others = [net for net, _ in results]
    return replace(model, net=first, others=tuple(others))


def take(model: Model, cases: Sequence[Case]) -> tuple[list[Tensor], int]:
    """Tiles (C, *X) of equal size, taken evenly from all images and in turn, and how many images they are of."""
    facts, ndim = model.net.geometry, model.net.spec.ndim
    size = facts.fit((SIDE[ndim],) * ndim)
    chosen = [cases[k * len(cases) // TILES] for k in range(TILES)] if len(cases) > TILES else list(cases)
    per_image = max(1, TILES // max(1, len(chosen)))
    rounds: list[list[Tensor]] = [[] for _ in range(per_image)]
    images = 0
    for case in chosen:
        with contextlib.suppress(DataError), CaseReader(case, model.prepare) as reader:
            if len(reader.shape) != ndim:
                continue
            found = [_tile(reader, region, size) for region in spots(reader.shape, size, per_image)]
            images += 1
            for number, tile_CX in enumerate(found):
                rounds[number].append(tile_CX)
    # in turn, so that tiles that go through the network together are of different images
    return [tile_CX for part in rounds for tile_CX in part], images


def spots(shape: Sequence[int], size: Sequence[int], most: int) -> list[Region]:
    """At most so many regions of `size` (smaller where the image is) scattered evenly over an image; as many as would
    cover it where that is fewer."""
    count = min(most, math.prod(-(-n // s) for n, s in zip(shape, size, strict=True)))
    found = []
    for k in range(count):
        start = []
        for axis, (n, s) in enumerate(zip(shape, size, strict=True)):
            # along the first axis in equal steps, along the others by powers of the golden ratio
            share = (k + 0.5) / count if axis == 0 else (0.5 + (k + 1) * GOLDEN**axis) % 1
            start.append(round(share * max(0, n - s)))
        found.append(Region(tuple(start), tuple(a + min(n, s) for a, n, s in zip(start, shape, size, strict=True))))
    return found


def _tile(reader: CaseReader, region: Region, size: Sequence[int]) -> Tensor:
    """The pixels of a region, mirrored as often as it takes to fill `size`: other padding would be other texture."""
    tile_CX = reader.read(region)
    for axis, (length, n) in enumerate(zip(size, region.shape, strict=True), start=1):
        tile_CX = tile_CX.take(mirrored(np.arange(length), n), axis=axis)
    return torch.from_numpy(np.ascontiguousarray(tile_CX, np.float32))


def adapted(
    net: UNet, tiles_CX: Sequence[Tensor], how: str, device: torch.device, regions: bool = False
) -> tuple[UNet, Moved]:
    """A copy of a network in evaluation mode, adapted to tiles (C, *X) of equal size; and how far it moved.

    how: "norm" or "entropy". regions: its classes may overlap.
    """
    batches = list(_batches(tiles_CX))
    own = copy.deepcopy(net).eval().requires_grad_(False).to(device)
    before = {name: copy.deepcopy(norm.state_dict()) for name, norm in batch_norms(net).items()}
    if before:
        mix_statistics(own, batches, len(tiles_CX) / (len(tiles_CX) + PRIOR), device)
    entropies = lower_entropy(own, batches, device, regions) if how == "entropy" else None
    own = own.to("cpu")
    means: list[float] = []
    spreads: list[float] = []
    for name, state in before.items():
        now = own.get_submodule(name).state_dict()
        spread = (state["running_var"] + EPSILON).sqrt()
        means += ((now["running_mean"] - state["running_mean"]).abs() / spread).tolist()
        spreads += ((now["running_var"] + EPSILON).sqrt() / spread).tolist()
    return own, Moved(tuple(means), tuple(spreads), entropies)


@torch.inference_mode()
def mix_statistics(net: UNet, batches: Sequence[Tensor], share: float, device: torch.device) -> None:
    """Set the statistics of batch norms to those of training and those of the batches (B, C, *X), mixed in this share,
    in place. While they are measured, every layer sees what the mixed statistics of its batch make of the ones before
    it."""
    watches = [_Watch(norm, share) for norm in batch_norms(net).values()]
    handles = [watch.norm.register_forward_hook(watch) for watch in watches]
    try:
        for batch_BCX in batches:
            net(batch_BCX.to(device))
    finally:
        for handle in handles:
            handle.remove()
    for watch in watches:
        watch.settle()


class _Watch:
    """A hook that makes a batch norm use the mixed statistics of its batch, and sums them up."""

    def __init__(self, norm: nn.Module, share: float) -> None:
        self.norm, self.share = norm, share
        self.mean_C, self.var_C = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
        self._first_C, self._second_C = torch.zeros_like(self.mean_C), torch.zeros_like(self.mean_C)
        self._count = 0

    def __call__(self, norm: nn.Module, inputs: tuple[Tensor, ...], _: Tensor) -> Tensor:
        x_BCX = inputs[0]
        var_C, mean_C = torch.var_mean(x_BCX, [0, *range(2, x_BCX.ndim)], correction=0)
        self._first_C += mean_C * len(x_BCX)
        self._second_C += (var_C + mean_C.square()) * len(x_BCX)
        self._count += len(x_BCX)
        mixed = self.mean_C.lerp(mean_C, self.share), self.var_C.lerp(var_C, self.share)
        learned = norm._parameters
        return F.batch_norm(x_BCX, *mixed, learned.get("weight"), learned.get("bias"), False, 0.0, EPSILON)

    def settle(self) -> None:
        """Give the norm the statistics of all that was seen, mixed with its own."""
        mean_C = self._first_C / self._count
        var_C = (self._second_C / self._count - mean_C.square()).clamp(min=0)
        self.mean_C.lerp_(mean_C, self.share)
        self.var_C.lerp_(var_C, self.share)


def lower_entropy(net: UNet, batches: Sequence[Tensor], device: torch.device, regions: bool) -> tuple[float, float]:
    """Move the scales and shifts of all norms a few steps towards surer predictions, in place. Returns the mean entropy
    before and after, in nats."""
    parameters = affine(net)
    before = _mean_entropy(net, batches, device, regions)
    held = {
        step: [_proportions(net, tile_CX, device, regions) for tile_CX in batch_BCX]
        for step, batch_BCX in enumerate(batches[:STEPS])
    }
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(parameters, lr=RATE)
    for step in range(STEPS):
        optimiser.zero_grad(set_to_none=True)
        batch_BCX = batches[step % len(batches)]
        for tile_CX, share_K in zip(batch_BCX, held[step % len(batches)], strict=True):
            # one after the other: feature maps of one tile are kept at a time
            logits_BKX = net(tile_CX[None].to(device))
            value = entropy(logits_BKX, regions) + HOLD * apart(proportions(logits_BKX, regions), share_K)
            torch.autograd.backward(value / len(batch_BCX))
        optimiser.step()
    for parameter in parameters:
        parameter.requires_grad_(False)
        parameter.grad = None
    return before, _mean_entropy(net, batches, device, regions)


def batch_norms(net: nn.Module) -> dict[str, nn.Module]:
    """The batch norms of a network that have statistics of training, by name."""
    return {name: m for name, m in net.named_modules() if isinstance(m, _Norms) and m.running_mean is not None}


def affine(net: nn.Module) -> list[nn.Parameter]:
    """The scales and shifts of all norms of a network."""
    found = []
    for module in net.modules():
        if isinstance(module, (_Norms, InstanceNorm, GroupNorm, LayerNorm)):
            found += list(module.parameters(recurse=False))
    return found


def entropy(logits_BKX: Tensor, regions: bool) -> Tensor:
    """Mean entropy of the predictions, in nats; of regions that may overlap the mean of each by itself."""
    if regions:
        return (F.softplus(logits_BKX) - logits_BKX * torch.sigmoid(logits_BKX)).mean()
    log_BKX = torch.log_softmax(logits_BKX, 1)
    return -(log_BKX.exp() * log_BKX).sum(1).mean()


def proportions(logits_BKX: Tensor, regions: bool) -> Tensor:
    """Mean probability (K,) of each class."""
    return shares(logits_BKX, regions).transpose(0, 1).flatten(1).mean(1)


def apart(now_K: Tensor, before_K: Tensor) -> Tensor:
    """The Kullback-Leibler divergence, in nats, of proportions of classes from those before; each class beside all
    others, so that one that is rare counts, and regions that may overlap do as well."""
    now_K, before_K = now_K.clamp(1e-6, 1 - 1e-6), before_K.clamp(1e-6, 1 - 1e-6)
    inside_K = before_K * (before_K / now_K).log()
    outside_K = (1 - before_K) * ((1 - before_K) / (1 - now_K)).log()
    return (inside_K + outside_K).sum()


@torch.no_grad()
def _proportions(net: UNet, tile_CX: Tensor, device: torch.device, regions: bool) -> Tensor:
    return proportions(net(tile_CX[None].to(device)), regions)


@torch.inference_mode()
def _mean_entropy(net: UNet, batches: Sequence[Tensor], device: torch.device, regions: bool) -> float:
    values = [float(entropy(net(batch_BCX.to(device)), regions)) * len(batch_BCX) for batch_BCX in batches]
    return sum(values) / sum(map(len, batches))


def _batches(tiles_CX: Sequence[Tensor]) -> Iterator[Tensor]:
    together = max(1, min(MOST, TOGETHER // math.prod(tiles_CX[0].shape[1:])))
    for first in range(0, len(tiles_CX), together):
        yield torch.stack(list(tiles_CX[first : first + together]))


def _refuse(net: UNet, how: str) -> None:
    """Raise PlanError where a network has nothing that could be adapted so."""
    if how == "norm" and not batch_norms(net):
        raise PlanError(
            f"--adapt norm: this network has no batch norm (its norm is '{net.spec.norm}'), whose statistics could be"
            " measured again; leave --adapt out"
        )
    if how == "entropy" and not affine(net):
        raise PlanError(
            f"--adapt entropy: this network has no norm with a scale and a shift (its norm is '{net.spec.norm}'), which"
            " alone are adapted; leave --adapt out"
        )


def _how_far(moved: Sequence[Moved]) -> str:
    """'means moved by 0.31 standard deviations on average …'"""
    parts = []
    means, spreads = [v for m in moved for v in m.means], [v for m in moved for v in m.spreads]
    if means:
        factor = math.exp(float(np.mean([abs(math.log(max(v, 1e-9))) for v in spreads])))
        parts.append(
            f"their means moved by {np.mean(means):.2f} standard deviations (at most {max(means):.1f}), their"
            f" deviations by a factor of {factor:.2f}; what was measured weighs as its tiles beside {PRIOR} of training"
        )
    told = [m.entropy for m in moved if m.entropy is not None]
    if told:
        before, after = (float(np.mean([pair[k] for pair in told])) for k in (0, 1))
        parts.append(f"in {STEPS} steps the mean entropy of predictions went from {before:.3f} to {after:.3f} nats")
    return "; ".join(parts)
