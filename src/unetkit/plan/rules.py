"""The rules: pure functions from the fingerprint and the request to a value and the reason for it, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetkit.augment.plan import AugmentPlan
from unetkit.data.prepared.grid import THICK
from unetkit.data.sizes import units
from unetkit.nets.spec import NetSpec
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.plan import LossPlan, OptimPlan, SamplingPlan
from unetkit.plan.shape import UNEQUAL, kernels, strides
from unetkit.plan.view import Look

# A structure thinner than this many pixels needs the network's finest level at full resolution.
THIN = 3.0
# Structures about this thick or more are seen well at a quarter of the resolution.
BULKY = 48.0
# The same beside images, where the stem has two steps: from this thickness on, half resolution.
HALVED = {1: 12.0, 3: 8.0}
# A class below this share is met more often, and weighs more.
RARE = 0.05


# Width of the finest level, batch, and the fewest steps with which they are worth their cost, in rising cost, by number
# of axes. With fewer, the narrower network reaches more: on membranes in six minutes width 16 (4138 steps) beat width
# 32 (1835 steps), see benchmarks/README.md.
CAPACITIES = {
    1: ((8, 8, 0), (16, 8, 400), (16, 16, 1000), (32, 16, 2500), (48, 16, 8000), (64, 16, 16_000)),
    2: ((8, 2, 0), (16, 2, 400), (16, 4, 1000), (24, 4, 3500), (32, 4, 5000), (48, 4, 10_000), (64, 4, 20_000)),
    3: ((8, 2, 0), (16, 2, 400), (24, 2, 2500), (32, 2, 4000), (48, 2, 10_000), (64, 2, 20_000)),
}
# How much wider than the finest the coarser levels become at most, by number of axes. In a signal a level has half as
# many pixels as the one before, not a quarter: doubling on and on would put all the work into the coarsest levels.
WIDEST = {1: 4, 2: 16, 3: 16}


def resolution(facts: Fingerprint, foreground: tuple[int, ...], look: Look | None = None) -> tuple[int, str]:
    """Stride of the stem: 1 (full resolution), 2 or 4, from the thickness of the thinnest class of interest."""
    if facts.ndim == 3 and ((look is not None and look.slices) or max(facts.aspect()) >= UNEQUAL):
        return 1, "a stem would halve all axes alike, and there is nothing to spare across slices"
    thin = min(
        ((c.thickness, c.name) for k, c in enumerate(facts.classes) if k in foreground and c.thickness is not None),
        default=None,
    )
    if thin is None:
        return 2, "no structure could be measured: half resolution inside, full resolution out"
    thickness, name = thin
    if facts.ndim != 2:
        return _resolution_beside_images(facts.ndim, name, thickness)
    if thickness < THIN:
        return 1, f"'{name}' is only about {thickness:.1f} pixels thick: every pixel is kept"
    if thickness >= BULKY and facts.smallest_side() >= 512:
        return (
            4,
            f"even '{name}', the thinnest, is about {thickness:.0f} pixels thick: a quarter resolution sees it whole",
        )
    return 2, (
        f"'{name}', the thinnest, is about {thickness:.0f} pixels thick: half resolution inside trains"
        " several times faster, a learned upsampling restores the pixels"
    )


def _resolution_beside_images(ndim: int, name: str, thickness: float) -> tuple[int, str]:
    """Of signals and volumes: where the thinnest structure spans many pixels, half of them tell as much."""
    unit = units(ndim)
    if thickness < HALVED[ndim]:
        return 1, f"'{name}', the thinnest, is about {thickness:.0f} {unit} thick: every one is kept"
    return 2, f"'{name}', the thinnest, is about {thickness:.0f} {unit} thick: half resolution inside sees it whole"


def sampling(facts: Fingerprint, patch: tuple[int, ...], batch: int) -> tuple[SamplingPlan, dict[str, str]]:
    """Patch, batch and how often rare classes are met."""
    seen = [c for c in facts.classes if c.cases]
    rarest = min(seen, key=lambda c: c.fraction, default=None)
    if rarest is not None and rarest.fraction < RARE:
        share, why = (
            0.5,
            f"'{rarest.name}' covers {rarest.fraction:.1%} of the {units(facts.ndim)}: half of the patches look for"
            " rare classes",
        )
    else:
        share, why = 0.25, "no class is rare: a quarter of the patches is centred on a class, the rest anywhere"
    return SamplingPlan(patch=patch, batch=batch, oversample=share), {"sampling.oversample": why}


def loss(facts: Fingerprint) -> tuple[LossPlan, dict[str, str]]:
    """Cross-entropy and Dice; class weights where a class is rare."""
    fractions = np.array([c.fraction for c in facts.classes])
    reasons = {
        "loss.terms": "cross-entropy is right per pixel, Dice per structure; the sum trains steadily on few images"
    }
    if facts.ndim == 3:
        # hippocampi at equal steps: a Dice of 0.875 without weights, 0.866 with them; what was found was too large
        reasons["loss.class_weights"] = "Dice sees to small structures; weights make them too large in volumes"
        return LossPlan(), reasons
    occurring = fractions[fractions > 0]
    if len(occurring) and occurring.min() < RARE:
        # fourth root: a class a hundred times rarer weighs about three times as much
        weights = np.where(fractions > 0, np.maximum(fractions, 1e-4) ** -0.25, 0.0)
        weights = weights / weights[fractions > 0].mean()
        reasons["loss.class_weights"] = "rare classes weigh more (fourth root of one over their share)"
        return LossPlan(class_weights=tuple(round(float(w), 3) for w in weights)), reasons
    reasons["loss.class_weights"] = f"every class covers at least {RARE:.0%} of the pixels"
    return LossPlan(), reasons


def augment(
    facts: Fingerprint, patch: Sequence[int], vocabulary: int = 0, look: Look | None = None
) -> tuple[AugmentPlan, dict[str, str]]:
    """Strengths of the random changes."""
    if vocabulary:
        return STILL, {"augment.noise": "integers stand for themselves: nothing is changed but where a patch is taken"}
    if facts.ndim == 1:
        return _augment_signals()
    n = len(facts.cases)
    thin = min((c.thickness for c in facts.classes if c.thickness is not None), default=8.0)
    # displacements larger than a structure tear it; few images need more change than many
    elastic = round(min(8.0, max(1.0, 0.75 * thin)) * (1.0 if n < 100 else 0.5), 1)
    if facts.ndim == 3:
        return _augment_volumes(facts, elastic, thin, patch, look)
    reasons = {
        "augment.elastic": f"{n} images; the thinnest structure is about {thin:.0f} pixels, so bends stay below it",
        "augment.rotate": "nothing in the data tells up from down; set augment.rotate, turn and flip where it does",
    }
    plan = AugmentPlan(elastic=elastic, elastic_spacing=max(16, patch[0] // 8))
    if n >= 100:
        plan = plan.model_copy(update={"scale": 0.2})
    return plan, reasons


STILL = AugmentPlan(
    flip=False, turn=False, rotate=0, scale=0, stretch=0, elastic=0, brightness=0, contrast=0, gamma=0, noise=0, blur=0
)


def _augment_signals() -> tuple[AugmentPlan, dict[str, str]]:
    changes = {"scale": 0.15, "brightness": 0.3, "contrast": 0.3, "noise": 0.1, "blur": 1.0}
    return STILL.model_copy(update=changes), {
        "augment.flip": "time has a direction",
        "augment.scale": "the same rhythm comes faster and slower, by up to a sixth",
        "augment.contrast": "gain, baseline and noise differ between recordings",
    }


def _augment_volumes(
    facts: Fingerprint, elastic: float, thin: float, patch: Sequence[int], look: Look | None
) -> tuple[AugmentPlan, dict[str, str]]:
    aspect = facts.aspect()
    fixed = [a for a in range(3) if aspect[a] >= THICK or (look is not None and a == look.axis)]
    # what a coarse grid of displacements is to span: the whole median volume, of slices the patch
    spanned = [n for a, n in enumerate(patch) if a not in fixed] if fixed else facts.median_size()
    plan = AugmentPlan(
        flip=False,
        turn=False,
        rotate=15.0,
        scale=0.2,
        elastic=min(elastic, 3.0),
        elastic_spacing=max(8, min(spanned, default=0) // 4),
        fixed=tuple(fixed),
        aspect=() if set(aspect) == {1.0} else aspect,
        brightness=0.2,
        noise=0.1,
    )
    reasons = {"augment.fixed": "slices are thick: turned, scaled and bent in their plane alone"} if fixed else {}
    return plan, reasons | {
        "augment.flip": "volumes are taken to lie alike: front and back, left and right may be classes of their own;"
        " set augment.flip where they are not",
        "augment.rotate": "subjects lie a little tilted, not upside down",
        "augment.elastic": f"{len(facts.cases)} volumes; the thinnest structure is about {thin:.0f} voxels",
    }


def network(
    facts: Fingerprint,
    classes: int,
    channels: int,
    width: int,
    patch: Sequence[int],
    stem: int,
    look: Look | None = None,
) -> NetSpec:
    """A residual U-Net of `width` channels at its finest level, doubled at every level up to `WIDEST` times."""
    aspect = (1.0,) * facts.ndim if facts.ndim < 3 else facts.aspect() if look is None else look.aspect
    steps = strides(patch, aspect, stem)
    net = NetSpec(
        ndim=facts.ndim,
        in_channels=channels,
        classes=classes,
        channels=widths(width, len(steps) + 1, facts.ndim),
        strides=2 if all(set(step) == {2} for step in steps) else steps,
        block="residual",
        stem_stride=stem,
    )
    return net.replace({"kernels": kernels(net, aspect, look is not None and look.view == "2.5d")})


def capacities(net: NetSpec) -> tuple[tuple[int, int, int], ...]:
    """The widths and batches for a network, in rising cost: one of slices, each for itself, is one of images."""
    each = [*map(net.kernel, range(net.levels)), *map(net.stride, range(net.levels - 1))]
    slices = net.ndim == 3 and any(all(entry[axis] == 1 for entry in each) for axis in range(3))
    return CAPACITIES[2 if slices else net.ndim]


def widths(width: int, levels: int, ndim: int) -> tuple[int, ...]:
    """Widths of all levels, from that of the finest."""
    return tuple(width * min(2**level, WIDEST[ndim]) for level in range(levels))


def optim(steps: int | None, net: NetSpec) -> tuple[OptimPlan, dict[str, str]]:
    """Optimiser settings for a schedule of about `steps` steps of this network."""
    # the average looks back over about 3 % of the schedule
    memory = 100 if steps is None else min(max(0.03 * steps, 10), 500)
    rate, why = learning_rate(net)
    return OptimPlan(lr=rate, ema=round(1 - 1 / memory, 4)), {
        "optim.lr": why,
        "optim.ema": f"the weights are averaged over about {memory:.0f} steps, which evens out the last small batches",
    }


def learning_rate(net: NetSpec) -> tuple[float, str]:
    """The largest learning rate that such a network bears, by what keeps its feature maps in bounds."""
    if net.norm == "none":
        return 1e-3, "without norm layers twice this was worse on membranes"
    if net.bottleneck == "transformer":
        return 1e-3, "attention layers bear smaller steps than convolutions: twice this was less steady on membranes"
    return 2e-3, f"steady for networks with {net.norm} norm and AdamW on every set we measured"
