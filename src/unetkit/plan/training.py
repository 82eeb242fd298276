"""The rules of training: what one step sees, what is minimised, and how; each with its reason in one sentence."""

from __future__ import annotations

from typing import Literal

import numpy as np

from unetkit.data.sizes import units
from unetkit.nets.spec import NetSpec
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.parts import LossPlan, OptimPlan, SamplingPlan
from unetkit.plan.rules import learning_rate

# A class below this share is met more often, and weighs more.
RARE = 0.05


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


def optim(
    steps: int | None, net: NetSpec, name: Literal["adamw", "sgd", "lion"] = "adamw"
) -> tuple[OptimPlan, dict[str, str]]:
    """Optimiser settings for a schedule of about `steps` steps of this network, with this optimiser."""
    # the average looks back over about 3 % of the schedule
    memory = 100 if steps is None else min(max(0.03 * steps, 10), 500)
    rate, why = learning_rate(net)
    plan = OptimPlan(name=name, lr=rate, ema=round(1 - 1 / memory, 4))
    reasons = {
        "optim.lr": why,
        "optim.ema": f"the weights are averaged over about {memory:.0f} steps, which evens out the last small batches",
    }
    if name == "sgd":
        plan = plan.model_copy(update={"lr": 0.01, "weight_decay": 3e-5, "clip": 12.0})
        reasons["optim.lr"] = "as nnU-Net with SGD and Nesterov momentum; weight decay and clipping, too"
    if name == "lion":
        # every weight moves by the whole rate: a tenth, and a decay ten times as strong (Chen 2023, section 5)
        plan = plan.model_copy(update={"lr": rate / 10, "weight_decay": 10 * plan.weight_decay})
        reasons["optim.lr"] = "a tenth of that of AdamW, and ten times its weight decay: signs move every weight alike"
    return plan, reasons


# What follows from the optimiser and the steps, unless the user sets it.
FOLLOWS = ("lr", "weight_decay", "clip", "ema")
