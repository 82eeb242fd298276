"""A run folder as a model."""

from __future__ import annotations

from pathlib import Path

from unetkit.core.errors import RunError
from unetkit.nets.build import build
from unetkit.nets.parts import trust as trusted_spec
from unetkit.nets.spec import NetSpec
from unetkit.nets.weights import load_weights
from unetkit.plan.plan import Plan
from unetkit.predict.model import Model
from unetkit.predict.options import PredictOptions

PLAN, WEIGHTS = "plan.json", "weights.safetensors"


def load_model(
    run: Path, weights: str = WEIGHTS, *, trust: bool = False, net: NetSpec | None = None
) -> tuple[Model, Plan]:
    """The trained model in a run folder, and its plan. Nothing in the folder is executed; code of the user's own that
    the network names is imported only with `trust`. `net`: the spec, where the caller has it already.

    Raises RunError: no such folder, not a run, not trained yet, damaged weights. Raises PlanError: a plan of another
    version or damaged. Raises SpecError: code of the user's own without `trust`.
    """
    run = Path(run)
    plan = load_plan(run)
    if not (run / weights).is_file():
        raise RunError(
            f"{run / weights}: there are no weights yet; go on with the `unetkit train` that made this folder"
        )
    if net is not None or trust:
        plan = plan.model_copy(update={"net": net or trusted_spec(plan.net)})
    network = build(plan.net)
    load_weights(network, run / weights)
    return Model(net=network.eval(), legend=plan.data.legend, prepare=plan.prepare, post=plan.predict.post), plan


def options_of(plan: Plan, tta: bool | None = None) -> PredictOptions:
    """How a plan's network is run where it was trained. `tta`: None is as the plan says."""
    machine, augment = plan.machine, plan.augment
    return PredictOptions(
        sure=plan.predict.post.sure if plan.data.legend.border else 0.0,
        tta=plan.predict.tta if tta is None else tta,
        flip=augment.flips(plan.net.ndim),
        turn=augment.turn,
        device=machine.device,
        precision=machine.precision,
        layout=machine.layout,
    )


def load_plan(run: Path) -> Plan:
    """The plan of a run folder. Raises RunError: no such folder, not a run."""
    run = Path(run)
    if not run.is_dir():
        raise RunError(f"{run}: there is no such folder; name a folder that `unetkit train` wrote")
    return Plan.load(run / PLAN)
