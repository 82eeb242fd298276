"""The rules: pure functions from the fingerprint and the request to a value and the reason for it, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from unetkit.augment.plan import AugmentPlan
from unetkit.data.prepare import PreparePlan
from unetkit.data.sizes import units
from unetkit.nets.spec import NetSpec
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.plan import LossPlan, OptimPlan, SamplingPlan
from unetkit.plan.shape import strides

# A structure thinner than this many pixels needs the network's finest level at full resolution.
THIN = 3.0
# Structures about this thick or more are seen well at a quarter of the resolution.
THICK = 48.0
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


def prepare(facts: Fingerprint, vocabulary: int = 0) -> tuple[PreparePlan, dict[str, str]]:
    """How images become the network's input. `vocabulary`: above 0 for sequences of integers."""
    if vocabulary:
        why_tokens = f"integers below {vocabulary} (net.vocabulary) are looked up in a table, not measured"
        return PreparePlan(channels=1, colour="tokens", normalise="none"), {"prepare.colour": why_tokens}
    if facts.ndim == 1:
        return _prepare_signals(facts)
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


def _prepare_signals(facts: Fingerprint) -> tuple[PreparePlan, dict[str, str]]:
    """Channels as they are; each by its own mean and deviation, for baselines and gains differ between recordings. Not
    clipped: of a signal that rests most of the time the peaks are what matters."""
    most = max(c.channels for c in facts.cases)
    return PreparePlan(channels=most, colour="grey" if most == 1 else "bands", normalise="image", method="zscore"), {
        "prepare.channels": f"the signals have {most} channel{'s' * (most != 1)}",
        "prepare.normalise": "gain and baseline differ between recordings",
        "prepare.method": "minus the mean, over the standard deviation; peaks are kept",
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
    if facts.ndim != 2:
        return _resolution_beside_images(facts.ndim, name, thickness)
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


def augment(facts: Fingerprint, patch: Sequence[int], vocabulary: int = 0) -> tuple[AugmentPlan, dict[str, str]]:
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
        return _augment_volumes(facts, elastic, thin)
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


def _augment_volumes(facts: Fingerprint, elastic: float, thin: float) -> tuple[AugmentPlan, dict[str, str]]:
    aspect = facts.aspect()
    plan = AugmentPlan(
        flip=False,
        turn=False,
        rotate=15.0,
        scale=0.2,
        elastic=min(elastic, 3.0),
        elastic_spacing=max(8, min(facts.median_size()) // 4),
        aspect=() if set(aspect) == {1.0} else aspect,
        brightness=0.2,
        noise=0.1,
    )
    return plan, {
        "augment.flip": "volumes are taken to lie alike: front and back, left and right may be classes of their own;"
        " set augment.flip where they are not",
        "augment.rotate": "subjects lie a little tilted, not upside down",
        "augment.elastic": f"{len(facts.cases)} volumes; the thinnest structure is about {thin:.0f} voxels",
    }


def network(facts: Fingerprint, classes: int, channels: int, width: int, patch: Sequence[int], stem: int) -> NetSpec:
    """A residual U-Net of `width` channels at its finest level, doubled at every level up to `WIDEST` times."""
    steps = strides(patch, facts.aspect() if facts.ndim == 3 else (1.0,) * facts.ndim, stem)
    return NetSpec(
        ndim=facts.ndim,
        in_channels=channels,
        classes=classes,
        channels=widths(width, len(steps) + 1, facts.ndim),
        strides=2 if all(set(step) == {2} for step in steps) else steps,
        block="residual",
        stem_stride=stem,
    )


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
