"""What becomes of predicted objects, from what the masks showed of them."""

from __future__ import annotations

import math

import numpy as np

from unetkit.data.labels.legend import Legend
from unetkit.data.sizes import units
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.parts import PostPlan

NECK, DIP = 0.2, 0.3
"""How objects part, DIP times the radius of the smallest. AP at IoU 0.5, with growing from sure insides in brackets:
nuclei, 400 steps, 45 images 0.751 (0.716), 600 steps 0.752 (0.707); cells in phase contrast, 300 steps, one image 0.40
and 0.39 (0.18). Necks from 0.15 to 0.3 and dips from 0.2 to 0.4 are all within 0.015 on nuclei; on the cells dips of
0.3 and 0.4 are alike, 0.2 finds 0.29."""
LEAST = 0.5
"""Of the size of the smallest objects of the masks, so much must a predicted one have. All of it gives 0.005 more AP on
nuclei and 0.02 on cells, but where all objects are nearly of one size, half of them would go: held-out cases decide."""


def post(facts: Fingerprint, legend: Legend) -> tuple[PostPlan, dict[str, str]]:
    """Post-processing by rule: of instances, numbered objects that are not smaller than nearly all that were drawn; of
    everything else none. facts: on the images' own grid."""
    plan = PostPlan()
    if legend.kind != "instances":
        return plan, {}
    how, spacing = plan.objects_of(legend), facts.spacing() or (1.0,) * facts.ndim
    plan = plan.model_copy(update={"objects": how})
    reasons = {"predict.post.objects": "objects do not touch: connected areas are objects"}
    if how == "watershed":
        dip = DIP * radius(legend.least * math.prod(spacing) / min(spacing) ** facts.ndim, facts.ndim)
        plan = plan.model_copy(update={"sure": 0.0, "neck": NECK, "dip": float(f"{dip:.2g}")})
        reasons |= {
            "predict.post.objects": "objects touch: they part where the way from one to the other is narrow, or the"
            " network sees a border",
            "predict.post.neck": f"by a fifth of the lesser one's depth, and by {plan.dip:g} {units(facts.ndim)}: a"
            " third of the radius of the smallest objects",
        }
    if legend.least > 1:
        size = LEAST * legend.least * math.prod(spacing)
        plan = plan.model_copy(update={"smallest": float(f"{size:.3g}")})
        reasons["predict.post.smallest"] = (
            f"1 in 100 objects of the masks has less than {legend.least} {units(facts.ndim)}: what is found below half"
            " of that is no object"
        )
    return plan, reasons


def radius(size: float, ndim: int) -> float:
    """Of an interval, a disc or a ball of this length, area or volume."""
    ball = (2.0, np.pi, 4 / 3 * np.pi)[ndim - 1]
    return float((size / ball) ** (1 / ndim))
