"""The loss of a plan, as a function."""

from __future__ import annotations

from unetkit.losses.expression import Loss, make_loss
from unetkit.plan.plan import Plan


def loss_of(plan: Plan) -> Loss:
    """What a run with this plan minimises. Raises PlanError: unknown or senseless terms (`losses.make_loss`)."""
    legend = plan.data.legend
    return make_loss(
        plan.loss.terms,
        plan.net.classes,
        plan.loss.class_weights,
        regions=legend.regions,
        background=legend.background,
        cells=legend.foreground,
        spacing=plan.augment.aspect,
    )
