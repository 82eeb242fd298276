"""After the last step: cases that the networks never saw are predicted as users will predict; they teach what is tuned,
and are scored and shown in the report."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from unetkit.core.events import Done, Event, Saved, Started
from unetkit.core.files import write_json
from unetkit.core.machine import format_duration
from unetkit.data.case import Case
from unetkit.data.source import image_info
from unetkit.job.examples import write_examples
from unetkit.job.heldout import FOLDER, forget, hold_out
from unetkit.job.out_of_fold import OutOfFold
from unetkit.job.record import record_timing
from unetkit.job.scoring import Prediction, predict_case, score_cases
from unetkit.job.sides import Side
from unetkit.job.suspects import write_suspects
from unetkit.job.tuning import crossed, decoded, honesty, teach
from unetkit.metrics.scores import Scores
from unetkit.metrics.summary import Summary
from unetkit.nets.geometry import geometry
from unetkit.plan.plan import Plan
from unetkit.predict.familiar import fit_familiar
from unetkit.predict.heldout import HeldOut
from unetkit.predict.tuned import Tuned
from unetkit.report.card import write_model_card
from unetkit.report.page import write_report
from unetkit.train.state import Position


def finish(
    run: Path,
    plan: Plan,
    sides: tuple[Side, ...],
    trained: Sequence[Case],
    groups: Mapping[str, str],
    position: Position,
) -> Generator[Event, None, None]:
    """Write scores.csv, scores.json, metrics.json, suspects.json, examples/, README.md and report.html into the run
    folder, and of a run in folds the masks out-of-fold/.

    `sides`: models, each with the cases that it never saw. `trained`: the cases that were learnt from. `groups`: case
    id → patient, slide …: intervals are over groups where they are known. `position`: where training ended.
    """
    began = time.perf_counter()
    cases = [case for side in sides for case in side.cases]
    yield Started(task="score", total=len(cases))
    held = list[HeldOut]()
    for number, side in enumerate(sides):
        model, predictor = side.open()
        held += yield from hold_out(predictor, model, side.cases, groups, run / FOLDER / str(number), "predict")
        del model, predictor
    tuned, others = teach(held, plan), crossed(held, plan)
    tuned = tuned.model_copy(update={"familiar": fit_familiar(trained, plan.prepare, groups)})
    tuned.save(run)
    masks = OutOfFold(run, plan.data.legend, cases) if plan.data.folds > 1 else None
    predictions = _predictions(sides, held, others, plan, masks)
    scores: Scores = yield from score_cases(cases, predictions, plan.data.legend, groups, "score")
    scores.write(run)
    if masks is not None:
        yield from masks.remarks()
    write_examples(run, sides, scores, tuned)
    yield from write_suspects(run, sides, held, plan.data.legend)
    honest = honesty(held, plan, tuned, others)
    forget(run / FOLDER)
    mean = scores.mean("dice")
    write_json(
        run / "metrics.json",
        {
            "best": {"step": position.best_step, "dice": position.best},
            "steps": position.step,
            "seconds": round(position.elapsed, 1),
            "loss": position.loss,
            "parameters": geometry(plan.net).parameters,
            "dice": {"mean": _number(mean.mean), "low": _number(mean.low), "high": _number(mean.high)},
            "cases": len(cases),
            "joined": position.joined,
            **honest,
        },
    )
    record_timing(run, "score", time.perf_counter() - began)
    write_model_card(run)
    page = write_report(run)
    yield Saved(path=str(page), what="the report")
    images = f"{len(cases)} validation image{'s' * (len(cases) != 1)}"
    steps = f"{position.step} step{'s' * (position.step != 1)} in {format_duration(position.elapsed)}"
    objects = scores.mean("ap50")
    yield Done(
        task="train",
        message=f"{_reached(mean, objects)} on {images}{_joined(position)}, after {steps}"
        if cases
        else f"no image validates it, after {steps}",
        seconds=position.elapsed,
    )


def _predictions(
    sides: Sequence[Side], held: Sequence[HeldOut], taught: Sequence[Tuned], plan: Plan, masks: OutOfFold | None
) -> Iterator[Prediction]:
    """Of every case its label and objects, decided by what other cases taught; `masks` keeps them."""
    kept = iter(zip(held, taught, strict=True))
    for side in sides:
        for case in side.cases:
            found, tuned = next(kept)
            if found.window.shape == image_info(case).shape:
                prediction = decoded(found, plan, tuned)
            else:  # of a huge image only a part was kept: it is predicted once more
                model, predictor = side.open(tuned)
                prediction = predict_case(predictor, model, case)
            if masks is not None:
                masks.write(case, *prediction)
            yield prediction


def _joined(position: Position) -> str:
    return "" if position.joined is None else f" before they were learnt from as well (step {position.joined})"


def _reached(mean: Summary, objects: Summary) -> str:
    """Dice, and where there are objects, their average precision."""
    if np.isnan(mean.mean):
        return "no class of interest occurs"
    interval = "" if np.isnan(mean.low) else f" (95 % interval {mean.low:.3f} to {mean.high:.3f})"
    found = "" if np.isnan(objects.mean) else f", objects found with AP {objects.mean:.3f} at IoU 0.5,"
    return f"Dice {mean.mean:.3f}{interval}{found}"


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
