"""The rules of augmentation: how strongly patches are changed at random, with the reason in one sentence."""

from __future__ import annotations

import re
from collections.abc import Sequence

from unetkit.augment.plan import AugmentPlan
from unetkit.data.labels.borders import INSIDE
from unetkit.data.labels.legend import Legend
from unetkit.data.prepared.grid import THICK
from unetkit.plan.fingerprint import ClassFacts, Fingerprint
from unetkit.plan.view import Look

# Words of class names after which a mirrored or turned image is another one.
SIDES = re.compile("left|right|upper|lower|top|bottom|anterior|posterior|dorsal|ventral|cranial|caudal")
# Words of class names, or of the folder's, that tell of writing.
WRITING = re.compile("(text|textline|letter|character|digit|word|document|manuscript)s?|hand(writing|written)")
# A class below this share of the pixels is one whose objects are worth pasting.
RARE = 0.05


def augment(
    facts: Fingerprint,
    patch: Sequence[int],
    vocabulary: int = 0,
    look: Look | None = None,
    legend: Legend | None = None,
    folder: str = "",
) -> tuple[AugmentPlan, dict[str, str]]:
    """Strengths of the random changes. folder: the name of the data's, for what it may tell."""
    if vocabulary:
        return STILL, {"augment.noise": "integers stand for themselves: nothing is changed but where a patch is taken"}
    if facts.ndim == 1:
        return _augment_signals()
    plan, reasons = _augment_volumes(facts, patch, look) if facts.ndim == 3 else _augment_images(facts, patch, folder)
    return plan.model_copy(update=_objects(facts, legend)), reasons


def _augment_images(facts: Fingerprint, patch: Sequence[int], folder: str) -> tuple[AugmentPlan, dict[str, str]]:
    n, (elastic, thin) = len(facts.cases), _elastic(facts)
    reasons = {
        "augment.elastic": f"{n} images; the thinnest structure is about {thin:.0f} pixels, so bends stay below it",
        "augment.rotate": "nothing in the data tells up from down; set augment.rotate, turn and flip where it does",
    }
    plan = AugmentPlan(elastic=elastic, elastic_spacing=max(16, patch[0] // 8))
    if n >= 100:
        plan = plan.model_copy(update={"scale": 0.2})
    if facts.colour:
        reasons["augment.hue"] = "colours may have a meaning; set augment.saturation, hue or stain where they do not"
    names = [c.name for c in facts.classes]
    if written := _word_of(WRITING, [*names, folder]):
        reasons |= {
            "augment.flip": f"'{written}' tells of writing, which nobody reads mirrored",
            "augment.rotate": "writing is a little tilted, not upside down",
        }
        return plan.model_copy(update={"flip": False, "turn": False, "rotate": 10.0}), reasons
    if sided := _word_of(SIDES, names):
        reasons |= {
            "augment.flip": f"'{sided}' is a side: of a mirrored image its mask would be wrong",
            "augment.rotate": f"'{sided}' is a side: images are tilted a little, not turned",
        }
        return plan.model_copy(update={"flip": False, "turn": False, "rotate": 15.0}), reasons
    if leaning := [c for c in facts.classes if any(c.lean)]:
        most = max(leaning, key=lambda c: max(map(abs, c.lean)))
        reasons |= {
            "augment.flip": f"{_where(most)}: images are not mirrored so that it would lie elsewhere",
            "augment.rotate": f"{_where(most)}: images are tilted a little, not turned",
        }
        free = tuple(not any(c.lean[axis] for c in leaning) for axis in range(2))
        return plan.model_copy(update={"flip": free, "turn": False, "rotate": 15.0}), reasons
    return plan, reasons


def _where(found: ClassFacts) -> str:
    """ "'sky' lies above the middle in nearly all images"."""
    axis = max(range(2), key=lambda a: abs(found.lean[a]))
    side = (("above", "below"), ("left of", "right of"))[axis][found.lean[axis] > 0]
    return f"'{found.name}' lies {side} the middle in nearly all images"


def _elastic(facts: Fingerprint) -> tuple[float, float]:
    """Size of elastic displacements, and the thickness of the thinnest structure, in pixels."""
    thin = min((c.thickness for c in facts.classes if c.thickness is not None), default=8.0)
    # displacements larger than a structure tear it; few images need more change than many
    return round(min(8.0, max(1.0, 0.75 * thin)) * (1.0 if len(facts.cases) < 100 else 0.5), 1), thin


def _word_of(words: re.Pattern[str], names: Sequence[str]) -> str:
    """The first name that has one of the words in it as a word of its own (left_lung, Left-Lung, leftLung); or ""."""
    for name in names:
        apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
        if any(words.fullmatch(word) for word in re.findall("[a-z]+", apart.lower())):
            return name
    return ""


def _objects(facts: Fingerprint, legend: Legend | None) -> dict[str, object]:
    """What can be pasted, where the user asks for it: instances, regions, or classes that are rare."""
    if legend is None:
        return {}
    if legend.kind == "instances":
        parts = range(INSIDE, len(legend.classes))  # an object comes with its border, or with all of its depths
        return {"paste_classes": tuple(parts), "paste_border": legend.border}
    if legend.regions:
        return {"paste_classes": tuple(range(1, 1 << len(legend.classes)))}
    return {"paste_classes": tuple(k for k in legend.foreground if 0 < facts.classes[k].fraction < RARE)}


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


def _augment_volumes(facts: Fingerprint, patch: Sequence[int], look: Look | None) -> tuple[AugmentPlan, dict[str, str]]:
    aspect, (elastic, thin) = facts.aspect(), _elastic(facts)
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
