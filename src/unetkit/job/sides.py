"""Who judges which cases: every case is judged by a model that never saw it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from unetkit.data.case import Case
from unetkit.plan.plan import Plan
from unetkit.predict.load import FOLDS, WEIGHTS, load_model, options_of, with_tuned
from unetkit.predict.model import Model
from unetkit.predict.predictor import Predictor
from unetkit.predict.tuned import Tuned
from unetkit.train.loop import JUDGED


@dataclass(frozen=True)
class Side:
    """A folder with a network that was trained on other cases than these (of one that learnt from them later: as it was
    before). plan: of the run, which all share."""

    folder: Path
    plan: Plan
    cases: tuple[Case, ...]

    def open(self, tuned: Tuned | None = None) -> tuple[Model, Predictor]:
        """The model, made ready: as planned, or with what held-out predictions taught. Not kept: networks of many folds
        need not be in memory at a time."""
        weights = JUDGED if (self.folder / JUDGED).is_file() else WEIGHTS
        model, _ = load_model(self.folder, weights, net=self.plan.net, tuned=False)
        model = with_tuned(model, self.plan, tuned or Tuned())
        return model, Predictor(model.nets, options_of(self.plan, model=model), regions=model.legend.regions)


def fold_folder(run: Path, number: int) -> Path:
    """The run folder of fold 1, 2, …"""
    return run / FOLDS / str(number)
