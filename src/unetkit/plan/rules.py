"""The rules: pure functions from the fingerprint and the request to a value and the reason for it, in one sentence."""

from __future__ import annotations

import math

import numpy as np

from unetkit.augment.plan import AugmentPlan
from unetkit.data.prepare import PreparePlan
from unetkit.nets.spec import NetSpec
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.plan import LossPlan, OptimPlan, SamplingPlan

# A structure thinner than this many pixels needs the network's finest level at full resolution.
THIN = 3.0
# Structures about this thick or more are seen well at a quarter of the resolution.
THICK = 48.0
# Patches: large enough for context, small enough that a batch has several.
PATCH = 256
# A class below this share is met more often, and weighs more.
RARE = 0.05


# Width of the finest level, batch, and the fewest steps with which they are worth their cost, in rising cost. With
# fewer, the narrower network reaches more: on membranes in six minutes width 16 (4138 steps) beat width 32 (1835
# steps), see benchmarks/README.md.
CAPACITIES = ((8, 2, 0), (16, 2, 400), (16, 4, 1000), (24, 4, 3500), (32, 4, 5000), (48, 4, 10_000), (64, 4, 20_000))


def prepare(facts: Fingerprint) -> tuple[PreparePlan, dict[str, str]]:
    """How images become the network's input."""
    most = max(c.channels for c in facts.cases)
    if most > 3 or most == 2:
        channels, mode, why = most, "bands", f"images have {most} channels"
    elif facts.colour:
        channels, mode, why = 3, "rgb", "some images are coloured; grey ones are repeated to three channels"
    else:
        grey = "are grey" if most == 1 else "are grey, though some are stored as colour"
        channels, mode, why = 1, "grey", f"all images {grey}"
    means = np.array([c.mean for c in facts.cases])
    spread = float(np.median([c.std for c in facts.cases]))
    differs = float(means.std()) > 0.35 * max(spread, 1e-6)
    types = facts.dtypes()
    deep = any(t not in ("uint8", "bool") for t in types)
    per_image = differs or deep or len(types) > 1
    if deep or len(types) > 1:
        why_normal = f"{' and '.join(types)} images have no common range"
    elif differs:
        why_normal = (
            f"brightness differs between images (their means by ±{means.std():.0f}, their pixels by ±{spread:.0f})"
        )
    else:
        why_normal = f"images are alike (their means differ by ±{means.std():.1f}, their pixels by ±{spread:.0f})"
    method = "percentile" if deep else "zscore"
    why_method = (
        "16-bit and float images may hold a few extreme values: cut at the 0.5 and 99.5 percentile"
        if deep
        else "8-bit images: minus the mean, over the standard deviation"
    )
    plan = PreparePlan(channels=channels, colour=mode, normalise="image" if per_image else "set", method=method)
    return plan, {
        "prepare.channels": why,
        "prepare.normalise": why_normal,
        "prepare.method": why_method,
    }


def resolution(facts: Fingerprint, foreground: tuple[int, ...]) -> tuple[int, str]:
    """Stride of the stem: 1 (full resolution), 2 or 4, from the thickness of the thinnest class of interest."""
    thin = min(
        ((c.thickness, c.name) for k, c in enumerate(facts.classes) if k in foreground and c.thickness is not None),
        default=None,
    )
    if thin is None:
        return 2, "no structure could be measured: half resolution inside, full resolution out"
    thickness, name = thin
    if thickness < THIN:
        return 1, f"'{name}' is only about {thickness:.1f} pixels thick: every pixel is kept"
    if thickness >= THICK and facts.smallest_side() >= 512:
        return (
            4,
            f"even '{name}', the thinnest, is about {thickness:.0f} pixels thick: a quarter resolution sees it whole",
        )
    return 2, (
        f"'{name}', the thinnest, is about {thickness:.0f} pixels thick: half resolution inside trains"
        " several times faster, a learned upsampling restores the pixels"
    )


def patch(facts: Fingerprint, stem: int) -> tuple[int, str]:
    """Side of the square patch in pixels, a multiple of 16 · stem where images allow it."""
    wanted = PATCH if stem < 4 else 2 * PATCH
    unit = 8 * stem
    side = min(facts.median_size())
    if side >= wanted:
        return wanted, f"{wanted} pixels give context; the images (median side {side}) hold several"
    value = max(unit, side // unit * unit)
    return value, f"the median image is only {side} pixels on its short side"


def levels(patch_side: int, stem: int) -> tuple[int, str]:
    """Number of resolution levels: the coarsest keeps at least 8 pixels of the patch."""
    n = max(2, min(5, int(math.log2(max(patch_side // stem, 8) / 8)) + 1))
    coarse = patch_side // (stem * 2 ** (n - 1))
    return n, f"{n} levels, down to {coarse} × {coarse} pixels of a {patch_side}-pixel patch"


def sampling(facts: Fingerprint, side: int, batch: int) -> tuple[SamplingPlan, dict[str, str]]:
    """Patch, batch and how often rare classes are met."""
    seen = [c for c in facts.classes if c.cases]
    rarest = min(seen, key=lambda c: c.fraction, default=None)
    if rarest is not None and rarest.fraction < RARE:
        share, why = (
            0.5,
            f"'{rarest.name}' covers {rarest.fraction:.1%} of the pixels: half of the patches look for rare classes",
        )
    else:
        share, why = 0.25, "no class is rare: a quarter of the patches is centred on a class, the rest anywhere"
    return SamplingPlan(patch=(side, side), batch=batch, oversample=share), {"sampling.oversample": why}


def loss(facts: Fingerprint) -> tuple[LossPlan, dict[str, str]]:
    """Cross-entropy and Dice; class weights where a class is rare."""
    fractions = np.array([c.fraction for c in facts.classes])
    reasons = {
        "loss.terms": "cross-entropy is right per pixel, Dice per structure; the sum trains steadily on few images"
    }
    occurring = fractions[fractions > 0]
    if len(occurring) and occurring.min() < RARE:
        # fourth root: a class a hundred times rarer weighs about three times as much
        weights = np.where(fractions > 0, np.maximum(fractions, 1e-4) ** -0.25, 0.0)
        weights = weights / weights[fractions > 0].mean()
        reasons["loss.class_weights"] = "rare classes weigh more (fourth root of one over their share)"
        return LossPlan(class_weights=tuple(round(float(w), 3) for w in weights)), reasons
    reasons["loss.class_weights"] = f"every class covers at least {RARE:.0%} of the pixels"
    return LossPlan(), reasons


def augment(facts: Fingerprint, side: int) -> tuple[AugmentPlan, dict[str, str]]:
    """Strengths of the random changes."""
    n = len(facts.cases)
    thin = min((c.thickness for c in facts.classes if c.thickness is not None), default=8.0)
    # displacements larger than a structure tear it; few images need more change than many
    elastic = round(min(8.0, max(1.0, 0.75 * thin)) * (1.0 if n < 100 else 0.5), 1)
    reasons = {
        "augment.elastic": f"{n} images; the thinnest structure is about {thin:.0f} pixels, so bends stay below it",
        "augment.rotate": "nothing in the data tells up from down; set augment.rotate, turn and flip where it does",
    }
    plan = AugmentPlan(elastic=elastic, elastic_spacing=max(16, side // 8))
    if n >= 100:
        plan = plan.model_copy(update={"scale": 0.2})
    return plan, reasons


def network(classes: int, channels: int, width: int, depth: int, stem: int) -> NetSpec:
    """A residual U-Net of `width` channels at its finest level, doubled at every level up to 16 times."""
    return NetSpec(
        in_channels=channels,
        classes=classes,
        channels=tuple(width * min(2**level, 16) for level in range(depth)),
        block="residual",
        stem_stride=stem,
    )


def optim(steps: int | None) -> tuple[OptimPlan, dict[str, str]]:
    """Optimiser settings for a schedule of about `steps` steps."""
    # the average looks back over about 3 % of the schedule
    memory = 100 if steps is None else min(max(0.03 * steps, 10), 500)
    plan = OptimPlan(ema=round(1 - 1 / memory, 4))
    return plan, {
        "optim.lr": "steady for networks with batch norm and AdamW on every set we measured",
        "optim.ema": f"the weights are averaged over about {memory:.0f} steps, which evens out the last small batches",
    }
