"""The pictures that a run keeps of its best, its median and its worst case: the image, its truth, the prediction.

Truth and prediction are pictures of class indices (of regions that overlap: of bit masks), drawn as `drawing.py` does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unetkit.core.files import atomic, write_json
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.labels.borders import with_seams
from unetkit.data.labels.masks import case_mask, encode
from unetkit.data.prepared.prepare import CaseReader
from unetkit.evaluate.objects import ids_of
from unetkit.job.drawing import Label, draw_case
from unetkit.job.scoring import predict_case
from unetkit.job.sides import Side
from unetkit.metrics.scores import Scores
from unetkit.predict.model import Model
from unetkit.predict.tuned import Tuned


@dataclass(frozen=True)
class Shown:
    """One case as pictures of equal size, and what of it they show."""

    image: Image.Image
    truth: Label
    prediction: Label
    size: str


def write_examples(run: Path, sides: Sequence[Side], scores: Scores, tuned: Tuned) -> None:
    """Write examples/ into the run folder: pictures, and examples.json that tells what they are. sides: who predicts
    the cases that were scored, in their order; tuned: how."""
    cases = [(case, side) for side in sides for case in side.cases]
    dice = [scores.case_mean(row) for row in scores.cases]
    order = sorted((k for k in range(len(cases)) if not np.isnan(dice[k])), key=lambda k: dice[k], reverse=True)
    ranks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]} if order else {}
    seen: set[int] = set()
    entries = []
    for rank, k in ranks.items():
        if k in seen:  # of one or two images
            continue
        seen.add(k)
        case, side = cases[k]
        entry: dict[str, object] = {"case": case.id, "rank": rank, "dice": dice[k]}
        model, predictor = side.open(tuned)
        shown = show(case, model, *predict_case(predictor, model, case))
        pictures = {
            "image": shown.image,
            "truth": Image.fromarray(shown.truth),
            "prediction": Image.fromarray(shown.prediction),
        }
        for kind, picture in pictures.items():
            name = f"{rank}-{kind}.png"
            with atomic(run / "examples" / name) as temporary:
                picture.save(temporary, format="PNG")
            entry[kind] = name
        entries.append(entry | {"size": shown.size})
    write_json(run / "examples" / "examples.json", entries)


def show(case: Case, model: Model, prediction_X: Label, ids_X: NDArray[np.uint32] | None = None) -> Shown:
    """The pictures of a case of any number of axes. prediction_X, ids_X: as `predict_case` gives them. Where objects
    that touch were told apart, the seams between them have the class of the border."""
    return show_part(case, model, Region.of(prediction_X.shape), prediction_X, ids_X)


def show_part(
    case: Case,
    model: Model,
    part: Region,
    prediction_X: Label,
    ids_X: NDArray[np.uint32] | None = None,
    wanted_X: NDArray[np.bool_] | None = None,
) -> Shown:
    """As `show`, of a part of the case; prediction_X, ids_X and wanted_X are of that part. wanted_X: what is to be
    seen, of volumes and long signals; None: whatever is not background in the truth, else in the prediction."""
    with CaseReader(case, model.prepare) as reader:
        image_CX, spacing = reader.channels(part), reader.info.spacing
    legend = model.legend.plain
    truth = case_mask(case, legend)
    truth_X = encode(truth, legend, case.mask_where)[0]
    if model.legend.touching:
        truth_X = with_seams(truth_X, ids_of(truth, legend))
        prediction_X = prediction_X if ids_X is None else with_seams(prediction_X, ids_X)
    truth_X = np.ascontiguousarray(truth_X[part.slices])
    if wanted_X is None:
        shown = legend.display()[1]
        wanted_X = shown[truth_X] if shown[truth_X].any() else shown[prediction_X]
    drawn = draw_case(image_CX, (truth_X, prediction_X), wanted_X, spacing)
    truth_YX, prediction_YX = drawn.labels
    return Shown(drawn.image, truth_YX, prediction_YX, drawn.size)
