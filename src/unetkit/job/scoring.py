"""The model predicts images as users predict, and the masks are scored: what follows training, and `evaluate RUN`."""

from __future__ import annotations

import tempfile
from collections.abc import Generator, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import PlanError
from unetkit.core.events import Event, Progress, Started
from unetkit.data.case import Case
from unetkit.data.find.discover import discover
from unetkit.data.find.sample import Sample
from unetkit.data.labels.legend import Legend
from unetkit.data.labels.mask_files import RawMask
from unetkit.data.labels.masks import case_mask, encode
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.source import image_info
from unetkit.evaluate.folders import EvaluateOptions, evaluate, wanted_metrics
from unetkit.evaluate.objects import scores_of_objects
from unetkit.metrics.scores import CaseScores, Scores
from unetkit.metrics.scoring import score_case
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.post import cleaned_array
from unetkit.predict.predictor import Predictor
from unetkit.predict.run import predict

Prediction: TypeAlias = tuple[NDArray[np.uint8], NDArray[np.uint32] | None]
"""Of a case its label (*space) in the classes of masks, and the ids of its objects where they are told apart."""


def scoring(
    model: Model, truth: Path, predicting: PredictOptions, options: EvaluateOptions, out: Path | None = None
) -> Generator[Event, None, Scores]:
    """Predict every labelled image of `truth` into `out` (None: a folder that is removed afterwards), then score.

    Raises what `discover`, `predict` and `evaluate` raise.
    """
    with tempfile.TemporaryDirectory(prefix="unetkit-") as temporary:
        folder = Path(temporary) if out is None else out
        outputs = OutputOptions(probabilities=options.membrane is not None, overwrite=True, review=out is not None)
        yield from predict(model, discover(truth, options.reading).cases, folder, predicting, outputs)
        return (yield from evaluate(folder, truth, options.model_copy(update={"legend": model.legend})))


def scoring_samples(
    model: Model, samples: Sequence[Sample], predicting: PredictOptions, options: EvaluateOptions
) -> Generator[Event, None, Scores]:
    """Predict every labelled sample and score it; nothing is written.

    Raises what `discover` raises; PlanError: options that only files have.
    """
    if options.membrane is not None:
        raise PlanError("membrane scores are computed for files; write the samples as images, and give the folder")
    found = discover(samples)
    groups = {case.id: case.group for case in found.cases if case.group is not None}
    yield Started(task="evaluate", total=len(found.cases))
    predictor = Predictor(model.nets, predicting, regions=model.legend.regions)
    predictions = (predict_case(predictor, model, case) for case in found.cases)
    return (yield from score_cases(found.cases, predictions, model.legend, groups, "evaluate", options.metrics))


def score_cases(
    cases: Sequence[Case],
    predictions: Iterable[Prediction],
    legend: Legend,
    groups: Mapping[str, str],
    task: str,
    metrics: Sequence[str] | None = None,
) -> Generator[Event, None, Scores]:
    """Score every case. `predictions`: of each, in their order, made as they are needed. `groups`: case id → patient,
    slide … `metrics`: what is computed beside the overlap, as `EvaluateOptions.metrics`."""
    legend, rows = legend.plain, list[CaseScores]()
    for number, (case, (prediction_X, ids_X)) in enumerate(zip(cases, predictions, strict=True), start=1):
        truth, group, spacing = case_mask(case, legend), groups.get(case.id), image_info(case).spacing
        truth_X = encode(truth, legend, case.mask_where)[0]
        found = RawMask(prediction_X if ids_X is None else ids_X)
        rows.append(
            score_case(
                case.id,
                truth_X,
                prediction_X,
                len(legend.classes),
                group,
                scores_of_objects(truth, found, truth_X, legend),
                spacing=spacing,
                regions=legend.regions,
                more=wanted_metrics(metrics, truth_X.ndim),
            )
        )
        yield Progress(task=task, done=number, fraction=number / len(cases), note=case.id)
    return Scores(legend.names, legend.foreground, tuple(rows))


def predict_case(predictor: Predictor, model: Model, case: Case) -> Prediction:
    """A whole case on the grid of its file, as users get it: the label (*space) in the classes of masks, and the ids of
    objects where they are told apart. The image itself is read tile by tile."""
    with CaseReader(case, model.prepare) as reader:
        label_X = predictor.whole(reader).astype(np.uint8, copy=False)
        return cleaned_array(label_X, model.legend, model.post, reader.info)
