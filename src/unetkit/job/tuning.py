"""What held-out predictions teach: true probabilities, and how labels are decided; and honest scores of the result.

The values that are kept are fitted on every held-out case. Scores and curves are cross-fitted: what decides a case was
learnt from the other half of the cases (whole groups), so that nothing is scored on what it was tuned to.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.legend import Legend
from unetkit.plan.plan import Plan
from unetkit.predict.calibration import fit_calibration
from unetkit.predict.confidence import calibration_report, quality_report
from unetkit.predict.decide import decide
from unetkit.predict.heldout import HeldOut, halves
from unetkit.predict.post import cleaned_array
from unetkit.predict.quality import fit_quality
from unetkit.predict.tuned import Tuned
from unetkit.predict.tuning import tune_decoding

SECONDS, SHARE = 20.0, 0.02
"""About the longest that decoding is tuned, on one core, and its share of a budget in minutes; done three times (once
on all cases, once on each half)."""


def teach(cases: Sequence[HeldOut], plan: Plan) -> Tuned:
    """Fitted on these cases; neutral where there is none."""
    if not cases:
        return Tuned()
    legend, part = plan.data.legend, "predict.post."
    asked = [name.removeprefix(part) for name in plan.request.settings if name.startswith(part)]
    calibration = fit_calibration(cases, legend)
    minutes = plan.budget.minutes
    seconds = SECONDS if minutes is None else min(SECONDS, SHARE * 60 * minutes)
    decoding = tune_decoding(cases, legend, plan.predict.post, calibration, asked, seconds)
    quality = fit_quality(cases, legend, calibration, decoding.rule(legend, decoding.after(plan.predict.post)))
    return Tuned(calibration=calibration, decoding=decoding, quality=quality)


def crossed(cases: Sequence[HeldOut], plan: Plan) -> list[Tuned]:
    """For each case what the other half of the cases teaches; neutral where there are too few to be parted."""
    parts = halves(cases)
    result = [Tuned()] * len(cases)
    if parts is not None:
        for mine, others in (parts, parts[::-1]):
            taught = teach([cases[k] for k in others], plan)
            for k in mine:
                result[k] = taught
    return result


def honesty(cases: Sequence[HeldOut], plan: Plan, tuned: Tuned, others: Sequence[Tuned]) -> dict[str, Any]:
    """For metrics.json: how true probabilities are, before and after calibration, and the Dice that is predicted.

    tuned: fitted on all cases; others: for each case what the other half teaches. Of too few cases to be parted
    probabilities are judged by what they were fitted to (the record says so), and no Dice is predicted.
    """
    if not cases:
        return {"calibration": None, "quality": None}
    legend, each = plan.data.legend, others if halves(cases) is not None else [tuned] * len(cases)
    calibration = calibration_report(cases, legend, [one.calibration for one in each])
    taught = [
        (one.calibration, one.decoding.rule(legend, one.decoding.after(plan.predict.post)), one.quality)
        for one in others
    ]
    quality = quality_report(cases, legend, taught)
    return {"calibration": calibration.as_json(), "quality": None if quality is None else quality.as_json()}


def decoded(case: HeldOut, plan: Plan, tuned: Tuned) -> tuple[NDArray[np.uint8], NDArray[np.uint32] | None]:
    """What the probabilities of a case become, as users get it: the label (*window) in the classes of masks, and the
    ids of objects where they are told apart."""
    legend: Legend = plan.data.legend
    post = tuned.decoding.after(plan.predict.post)
    shares_KX = tuned.calibration.apply(case.probabilities(), legend.regions)
    label_X = decide(torch.from_numpy(shares_KX), legend.regions, False, tuned.decoding.rule(legend, post)).numpy()
    info = ImageInfo(
        shape=case.window.shape, channels=1, alpha=False, dtype="float32", mode="grey", spacing=case.spacing
    )
    return cleaned_array(label_X, legend, post, info)
