"""A run folder as a model."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from unetkit.core.errors import PlanError, RunError
from unetkit.nets.build import UNet, build
from unetkit.nets.parts import trust as trusted_spec
from unetkit.nets.spec import NetSpec
from unetkit.nets.weights import load_weights
from unetkit.plan.plan import Plan
from unetkit.predict.model import Model
from unetkit.predict.options import PredictOptions
from unetkit.predict.tuned import Tuned

PLAN, WEIGHTS, LAST = "plan.json", "weights.safetensors", "last.safetensors"
FOLDS = "folds"
"""The folder in a run in folds that holds a run folder for each: 1, 2, …"""


def load_model(
    run: Path,
    weights: str = WEIGHTS,
    *,
    trust: bool = False,
    net: NetSpec | None = None,
    fold: int | None = None,
    tuned: bool = True,
) -> tuple[Model, Plan]:
    """The trained model in a run folder, and its plan. Nothing in the folder is executed; code of the user's own that
    the network names is imported only with `trust`. `net`: the spec, where the caller has it already. Of a run in folds
    the networks of all that are trained, or of one `fold` (1, 2, …) alone. `tuned`: with what held-out predictions
    taught, where that is known; else as planned.

    Raises RunError: no such folder, not a run, not trained yet, damaged weights. Raises PlanError: a plan of another
    version or damaged, no such fold. Raises SpecError: code of the user's own without `trust`.
    """
    run = Path(run)
    plan = load_plan(run)
    if net is not None or trust:
        plan = plan.model_copy(update={"net": net or trusted_spec(plan.net)})
    network, *others = (_network(plan.net, folder / weights) for folder in members(run, plan, fold))
    model = Model(network, plan.data.legend, plan.prepare, plan.predict.post, tuple(others))
    return with_tuned(model, plan, Tuned.load(run)) if tuned else model, plan


def with_tuned(model: Model, plan: Plan, tuned: Tuned) -> Model:
    """The model with what held-out predictions taught, instead of what it had."""
    return replace(model, tuned=tuned, post=tuned.decoding.after(plan.predict.post))


def members(run: Path, plan: Plan, fold: int | None = None) -> tuple[Path, ...]:
    """The folders whose networks make the model of a run: its own; of a run in folds those that are trained (while none
    is, that which is being trained), or of one `fold`. Raises PlanError: no such fold."""
    if plan.data.folds == 1:
        if fold is not None:
            raise PlanError(f"--fold {fold}: {run} was not trained in folds; leave it out")
        return (run,)
    folders = [run / FOLDS / str(number) for number in range(1, plan.data.trained + 1)]
    if fold is not None:
        if not 1 <= fold <= len(folders):
            raise PlanError(f"--fold {fold}: {run} has the folds 1 to {len(folders)}; name one of them")
        return (folders[fold - 1],)
    return tuple(folder for folder in folders if (folder / LAST).is_file()) or (folders[0],)


def _network(spec: NetSpec, weights: Path) -> UNet:
    if not weights.is_file():
        raise RunError(f"{weights}: there are no weights yet; go on with the `unetkit train` that made this folder")
    network = build(spec)
    load_weights(network, weights)
    return network.eval()


def options_of(plan: Plan, tta: bool | None = None, model: Model | None = None) -> PredictOptions:
    """How a plan's network is run where it was trained, and what is decided: of a model with what it was taught
    afterwards, without one as planned. `tta`: None is as the plan says."""
    machine, augment = plan.machine, plan.augment
    taught = Tuned() if model is None else model.tuned
    return PredictOptions(
        calibration=taught.calibration,
        rule=taught.decoding.rule(plan.data.legend, plan.predict.post) if model is None else model.rule,
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
