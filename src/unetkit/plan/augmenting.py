"""The rules of augmentation: how strongly patches are changed at random, with the reason in one sentence."""

from __future__ import annotations

from collections.abc import Sequence

from unetkit.augment.plan import AugmentPlan
from unetkit.data.prepared.grid import THICK
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.view import Look


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
