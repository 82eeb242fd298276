"""What becomes of predicted objects, from what the masks showed of them."""

from __future__ import annotations

import math

from unetkit.data.labels.legend import Legend
from unetkit.data.sizes import units
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.parts import PostPlan

# Of the size of the smallest objects of the masks, so much must a predicted one have.
LEAST = 0.5


def post(facts: Fingerprint, legend: Legend) -> tuple[PostPlan, dict[str, str]]:
    """Post-processing by rule: of instances, numbered objects that are not smaller than any that was ever drawn; of
    everything else none. facts: on the images' own grid."""
    plan = PostPlan()
    if legend.kind != "instances":
        return plan, {}
    how = plan.objects_of(legend)
    plan = plan.model_copy(update={"objects": how})
    reasons = {
        "predict.post.objects": "objects touch: each grows from what is surely inside of it, and keeps its number"
        if how == "watershed"
        else "objects do not touch: connected areas are objects"
    }
    if legend.least > 1:
        size = LEAST * legend.least * math.prod(facts.spacing() or (1.0,))
        plan = plan.model_copy(update={"smallest": float(f"{size:.3g}")})
        reasons["predict.post.smallest"] = (
            f"1 in 100 objects of the masks has less than {legend.least} {units(facts.ndim)}: what is found below half"
            " of that is no object"
        )
    return plan, reasons
