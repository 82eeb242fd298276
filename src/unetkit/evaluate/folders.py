"""`evaluate PREDICTIONS TRUTH`: masks on both sides, scores out. Never a network: whoever has one predicts first."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from unetkit.core.config import Config
from unetkit.core.errors import DataError, PlanError, nearest
from unetkit.core.events import Done, Event, Progress, Started, Warned, drain
from unetkit.data.case import IGNORE, Case, WordLabel
from unetkit.data.doctor.places import apart
from unetkit.data.formats import AS_THEY_ARE, Reading, open_image, stem, suffix, suffixes
from unetkit.data.formats.signals.rows import is_mask_table
from unetkit.data.labels.legend import UNANNOTATED, Legend
from unetkit.data.labels.masks import case_mask, encode
from unetkit.data.labels.survey import infer_legend
from unetkit.data.labels.words import read_prediction_rows
from unetkit.data.sizes import extent, units
from unetkit.evaluate.objects import scores_of_objects
from unetkit.evaluate.pairs import Pair, pair, predictions_in, truth_cases
from unetkit.metrics import CaseScores, Scores, membrane_scores, score_case
from unetkit.metrics.boundary import TOLERANCE
from unetkit.metrics.scores import MORE
from unetkit.metrics.scoring import possible


class EvaluateOptions(Config):
    """How to read the masks and what to score.

    legend: what the values mean (that of a run); None: inferred from the truth, with `names` (of the classes), `ignore`
    (value of unlabelled pixels) and `background` (value, "none" or "auto") as for training.
    tolerance: of the boundary F1, in pixels (of the finest axis, where voxels are no cubes). groups: case id → patient,
    slide … where the data itself does not say. metrics: names of `metrics.scores.MORE` that are computed beside the
    others, or "all"; None: what is usual for images, volumes or signals.
    membrane: name of the class that divides the image into cells; adds V_rand and V_info from the probabilities that
    `predict --probabilities` wrote beside the masks. reading: how the files of the truth are read.
    """

    legend: Legend | None = None
    names: tuple[str, ...] | None = None
    ignore: int | tuple[int, int, int] | None = None
    background: int | tuple[int, int, int] | Literal["none", "auto"] = "auto"
    tolerance: float = Field(default=TOLERANCE, ge=0)
    groups: Mapping[str, str] = {}
    metrics: tuple[str, ...] | None = None
    membrane: str | None = None
    reading: Reading = AS_THEY_ARE


def evaluate_folders(
    prediction: Path,
    truth: Path,
    options: EvaluateOptions | None = None,
    listen: Callable[[Event], Any] | None = None,
) -> Scores:
    """Run `evaluate` to its end, handing its events to `listen`. Returns and raises what `evaluate` does."""
    return drain(evaluate(prediction, truth, options), listen)


def evaluate(prediction: Path, truth: Path, options: EvaluateOptions | None = None) -> Generator[Event, None, Scores]:
    """Compare a folder of predicted masks with the truth: a data set in any layout, or a plain folder of masks.

    Files are matched by name; what finds no partner is named in a Warned event and in the scores' notes.
    Raises DataError: nothing to compare, sizes that differ, unreadable files. PlanError: options that do not fit.
    """
    options = options or EvaluateOptions()
    begin = time.monotonic()
    found = truth_cases(truth, options.reading, options.legend)
    legend = options.legend.plain if options.legend is not None else None
    if legend is None:
        ignore = options.ignore if options.ignore is not None else found.ignore
        inferred, _ = infer_legend(
            found.cases, options.names, ignore, options.background, found.class_names, found.regions
        )
        legend = inferred.plain
    pairing = pair(predictions_in(prediction, legend), prediction, found.cases, truth)
    membrane = None if options.membrane is None else _class_index(options.membrane, legend)

    yield Started(task="evaluate", total=len(pairing.pairs))
    notes = []
    if pairing.truths:
        notes.append(_unpaired(f"{truth}: no prediction for", [case.id for case in pairing.truths]))
    if pairing.predictions:
        notes.append(_unpaired(f"{prediction}: no truth for", [one.path.name for one in pairing.predictions]))
    for note in notes:
        yield Warned(message=note)
    results = []
    for number, entry in enumerate(pairing.pairs, start=1):
        result, remark = _score(entry, legend, membrane, prediction, options)
        results.append(result)
        if remark:
            notes.append(remark)
            yield Warned(message=remark)
        yield Progress(task="evaluate", done=number, fraction=number / len(pairing.pairs), note=entry.case.id)
    scores = Scores(legend.names, legend.foreground, tuple(results), tuple(notes))
    mean = scores.mean("dice").mean
    yield Done(
        task="evaluate",
        message=f"{len(results)} image{'s' * (len(results) != 1)} scored; mean Dice "
        + ("has no value: no class occurs" if np.isnan(mean) else f"{mean:.3f}"),
        seconds=time.monotonic() - begin,
    )
    return scores


def _score(
    entry: Pair, legend: Legend, membrane: int | None, folder: Path, options: EvaluateOptions
) -> tuple[CaseScores, str]:
    """Scores of one pair, and a remark on its prediction where there is something to say."""
    case, path = entry.case, entry.prediction.path
    truth, mask = case_mask(case, legend), case_mask(Case(case.id, (), entry.prediction.label), legend)
    if isinstance(case.label, WordLabel) and is_mask_table(path):  # what is a word in the truth, goes by its name here
        known = {entry.name: entry.value for entry in legend.classes if isinstance(entry.value, int)}
        mask = replace(mask, array=read_prediction_rows(path, known))
    label_X, _ = encode(truth, legend, case.mask_where)
    raw, space = mask.array, units(label_X.ndim)
    if mask.shape != label_X.shape:
        raise DataError(
            f"{path} is {extent(mask.shape)} but its truth {case.mask_where} is {extent(label_X.shape)}; predict the "
            "image that the mask belongs to, at its own size"
        )
    if truth.info is not None and mask.info is not None and (how := apart(truth.info, mask.info)):
        raise DataError(
            f"{path} does not lie where its truth {case.mask_where} does: {how}; predict the image that "
            "the mask belongs to, or resample one to the other"
        )
    prediction_X, strays = encode(mask, legend, path)
    remark = ""
    numbered = (
        legend.kind == "values"
        and not (mask.coloured or mask.parts)
        and 0 <= raw.min() <= raw.max() < len(legend.classes)
    )
    if strays and numbered:
        prediction_X = raw.astype(np.uint8)
        values = ", ".join(str(c.value) for c in legend.classes)
        remark = f"{path}: its values are no values of the truth ({values}); read as class numbers from 0"
    elif strays:
        remark = f"{path}: {strays} {space} have a value that is no class; each was given the nearest class"
    if mask.info is not None and mask.info.map is not None and not mask.coloured:  # its image held nothing there
        label_X = np.where(raw == UNANNOTATED, np.uint8(IGNORE), label_X)
    if entry.prediction.missing:
        lacking = ", ".join(f"'{name}'" for name in entry.prediction.missing)
        remark = f"{path}: there is no file for {lacking} beside it: taken not to occur"
    unsaid = int(np.count_nonzero((prediction_X == IGNORE) & (label_X != IGNORE)))
    if unsaid:
        raise DataError(
            f"{path}: {unsaid} {space} have the ignore value where the truth has a class; a prediction names "
            f"a class for every {units(label_X.ndim, 1)}"
        )
    more = wanted_metrics(options.metrics, label_X.ndim)
    image = scores_of_objects(truth, mask, label_X, legend)
    if membrane is not None:
        if label_X.ndim != 2:
            raise PlanError(
                f"--membrane: cells are divided in images, and {path} is {extent(label_X.shape)}; leave it out"
            )
        found = membrane_scores(
            _probability(path, folder, membrane, label_X.shape), legend.where(label_X, membrane), label_X == IGNORE
        )
        image |= {
            "v_rand": found.v_rand,
            "v_info": found.v_info,
            "v_rand_threshold": found.rand_threshold,
            "v_info_threshold": found.info_threshold,
        }
    group = options.groups.get(case.id, case.group)
    scores = score_case(
        case.id,
        label_X,
        prediction_X,
        len(legend.classes),
        group=group,
        image=image,
        tolerance=options.tolerance,
        spacing=truth.info.spacing if truth.info is not None else None,
        regions=legend.regions,
        more=more,
    )
    return scores, remark


def wanted_metrics(names: Sequence[str] | None, ndim: int) -> tuple[str, ...] | None:
    """What is computed beside the usual overlap of images with so many axes; None: what is usual.

    Raises PlanError: a metric that there is not, or not for such images.
    """
    if names is None:
        return None
    if tuple(names) == ("all",):
        return possible(ndim)
    for name in names:
        if name not in MORE:
            raise PlanError(
                f"--metrics: there is no metric '{name}'; there are {', '.join(MORE)}, or all{nearest(name, MORE)}"
            )
        if name not in possible(ndim):
            kind = {1: "signals", 2: "images", 3: "volumes"}[ndim]
            raise PlanError(f"--metrics: {name} is not for {kind}; for these there are {', '.join(possible(ndim))}")
    return tuple(dict.fromkeys(names))


def _probability(path: Path, folder: Path, index: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Probability (h, w) of one class, from the file that predict wrote for the mask `path`."""
    ending = suffix(path) if suffix(path).lower() in suffixes("volume") else ".tif"
    file = Path(folder) / "probabilities" / path.relative_to(folder).with_name(f"{stem(path)}{ending}")
    if not file.is_file():
        raise DataError(
            f"{file}: membranes are scored from probabilities, and this file is missing; predict with --probabilities"
        )
    with open_image(file) as reader:
        if reader.info.shape != shape or index >= reader.info.channels:
            raise DataError(
                f"{file} holds {reader.info.channels} classes of {extent(reader.info.shape)}, which does not fit class "
                f"{index} of the truth with {extent(shape)}; predict again with --probabilities"
            )
        probability_YX: NDArray[np.float32] = reader.read()[index].astype(np.float32)
        return probability_YX


def _class_index(name: str, legend: Legend) -> int:
    if name not in legend.names:
        hint = nearest(name, legend.names)
        raise PlanError(f"--membrane: there is no class '{name}'; the classes are {', '.join(legend.names)}{hint}")
    return legend.names.index(name)


def _unpaired(text: str, names: list[str]) -> str:
    shown = ", ".join(names[:5])
    return f"{text} {shown}" + (f" and {len(names) - 5} more" if len(names) > 5 else "") + "; left out of the scores"
