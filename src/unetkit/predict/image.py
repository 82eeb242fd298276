"""One image from file to files: tiles, canvas, post-processing, products. Where it was interrupted it goes on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError, SpecError
from unetkit.core.events import Decided, Event, Saved, Warned
from unetkit.core.machine import release_memory, resident_memory
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats import ImageInfo, ImageReader
from unetkit.data.formats.maps.geotiff import valid
from unetkit.data.labels.legend import Legend
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.source import open_case
from unetkit.plan.parts import PostPlan
from unetkit.predict.canvas import Canvas, DiskCanvas, MemoryCanvas
from unetkit.predict.familiar import describe
from unetkit.predict.finished import Finished, Labels, Scores
from unetkit.predict.forecast import RESULT
from unetkit.predict.model import Model
from unetkit.predict.outputs import Job
from unetkit.predict.pipeline import Behind
from unetkit.predict.post.clean import postprocessed
from unetkit.predict.predictor import Planned, Predictor
from unetkit.predict.products import check, held, write_products
from unetkit.predict.quality import Sums, sums_of
from unetkit.predict.resume import begin, clear, digests, image_digest, left_behind
from unetkit.predict.review import Review, Tally, review
from unetkit.predict.work import places

# A prediction stays in memory, and begins anew where it is interrupted, if it is of so few steps and takes so small a
# share of the memory allowed.
FEW_STEPS, SMALL_SHARE = 16, 1 / 16


@dataclass(frozen=True)
class Part:
    """How much of an image is done, for whoever shows progress: a share below 1."""

    done: float


def predict_image(
    model: Model, predictor: Predictor, job: Job, out: Path
) -> Generator[Event | Part | Review, None, None]:
    """Predict one image, and write its files. out: the folder of results.

    What is to be said of the image (a `Review`) comes before its files are written, of a model that knows any of it.
    Raises DataError and SpecError where it cannot be predicted, MachineError where disk or memory do not suffice; what
    is done of a large image stays then, in a hidden folder beside the mask.
    """
    legend, wanted, tuned = model.legend.plain, job.probabilities is not None, model.tuned
    with CaseReader(job.case, model.prepare) as reader:
        info = reader.info
        yield from (Warned(message=f"{job.name}: {note}") for note in (*info.notes, *reader.notes))
        check(job, info, legend)
        try:
            canvas, sums = yield from _canvas_of(model, predictor, job, reader, wanted)
            near = None if tuned.familiar is None else tuned.familiar.familiarity(describe(reader))
        except (DataError, SpecError):
            clear(job.work)  # the image is to blame, and would be again
            raise
    if tuned.familiar is not None or tuned.quality is not None:
        yield review(model, job, out, sums, near)
    with open_case(job.case) as source:
        scores = canvas.probabilities if wanted else None
        finished = finished_of(model.legend, canvas.labels, info, source, scores)
        room = _room(predictor)
        finished = postprocessed(finished, model.post, job.work / "post", room)
        for path in write_products(job, finished, room):
            yield Saved(path=str(path), what="prediction")
    clear(job.work)


def _room(predictor: Predictor) -> int:
    """Bytes for what becomes of a complete prediction."""
    return max(1 << 26, predictor.host_memory // 4)


def _canvas_of(
    model: Model, predictor: Predictor, job: Job, reader: CaseReader, wanted: bool
) -> Generator[Event | Part, None, tuple[Canvas, Sums | None]]:
    """The whole prediction, on a canvas, and its sums where the model can tell anything by them. wanted: probabilities
    are kept."""
    classes = len(model.legend.classes) if wanted else 0
    judged = model.tuned.quality is not None
    size = math.prod(reader.info.shape) * (1 + 2 * classes)
    besides = size if size <= predictor.host_memory * SMALL_SHARE else 0
    predictor, planned, kept = yield from _planned(model, predictor, job, reader, wanted or judged, besides)
    work, on_disk = planned.work, kept or not besides or len(planned.work) > FEW_STEPS
    forecast = planned.forecast.without(RESULT) if on_disk else planned.forecast
    later = held(job, reader.info, model.legend.plain)
    if job.measurements is not None or model.post != PostPlan() or model.post.objects_of(model.legend) != "none":
        later = max(later, _room(predictor))
    forecast = replace(forecast, files=later)
    yield from predictor.remarks(replace(planned, forecast=forecast))
    first = done = 0
    if on_disk:
        begin(job.work, _parts(model, predictor, job), planned.layout, keep=kept)
        where = places(work)
        there = DiskCanvas(job.work, where, classes)
        canvas: Canvas = there
        first = there.missing()
        done = int(np.prod(where[:first, 1] - where[:first, 0], axis=1).sum())
        if first:
            yield Decided(what="resume", value=_goes_on(planned, first), why="the rest was done before")
    else:
        canvas = MemoryCanvas(reader.info.shape, classes)
    total, tally = math.prod(reader.info.shape), Tally(job.work if on_disk else None)
    with contextlib.ExitStack() as stack:
        # a reader of its own: the other is reading ahead
        holes = stack.enter_context(open_case(job.case)) if judged and may_have_holes(reader.info) else None
        behind = stack.enter_context(Behind(canvas.put))
        pieces = stack.enter_context(contextlib.closing(predictor.pieces(reader, work, wanted or judged, first)))
        for step, piece in pieces:
            if judged and piece.probabilities_KX is not None:
                label_X = piece.label_X if holes is None else held_only(piece.label_X, holes, piece.region)
                tally.put(step.number, sums_of(piece.probabilities_KX, label_X, model.legend))
            made = (step, piece if wanted else replace(piece, probabilities_KX=None))
            del piece
            behind.put(made)
            if resident_memory() > 1.05 * forecast.between:
                release_memory()
            done += made[1].region.size
            yield Part(min(done / total, 0.999))
    return canvas, tally.total([step.number for step in work if step.own.size]) if judged else None


def _planned(
    model: Model, predictor: Predictor, job: Job, reader: CaseReader, wanted: bool, besides: int
) -> Generator[Event, None, tuple[Predictor, Planned, bool]]:
    """How an image is predicted, by which predictor, and whether that goes on with what was done before."""
    if not job.work.is_dir():
        return predictor, predictor.plan(reader, wanted, besides), False
    left = left_behind(job.work, _parts(model, predictor, job), any_precision=predictor.options.precision == "auto")
    if left.precision is not None:
        predictor = predictor.with_precision(left.precision)
    planned, why = predictor.plan(reader, wanted, besides, left.layout), left.why
    if left.layout is not None and planned.forecast.total > 1.1 * predictor.allowed:
        planned = predictor.plan(reader, wanted, besides)
        if planned.layout != left.layout:
            why = "less memory is allowed than then, and tiles are smaller"
    if why:
        why = f"what was done of {job.name} is of no use: {why}"
        yield Decided(what="resume", value="begins anew", why=why)
    kept = left.layout is not None and not why
    if not kept:
        clear(job.work)
    return predictor, planned, kept


def _goes_on(planned: Planned, first: int) -> str:
    work, what = planned.work, "tile" if planned.work.exact else "row of tiles"
    if first == len(work):
        return f"all {first} {what}s are there; the files are written"
    return f"goes on at {what} {first + 1} of {len(work)}"


def _parts(model: Model, predictor: Predictor, job: Job) -> dict[str, str]:
    return {"the image": image_digest(job.case), **digests(model, predictor)}


def finished_of(
    legend: Legend, labels: Labels, info: ImageInfo, source: ImageReader, probabilities: Scores | None = None
) -> Finished:
    """A complete prediction of the image `source`, before any post-processing. Pixels of maps that hold nothing are
    `IGNORE`."""
    holes = may_have_holes(info)

    def held(region: Region) -> NDArray[np.uint8]:
        return held_only(labels(region), source, region) if holes else labels(region)

    return Finished(info, legend, held, probabilities, source.read)


def may_have_holes(info: ImageInfo) -> bool:
    """Whether there may be pixels of a map that hold nothing."""
    return info.nodata is not None or info.map is not None


def held_only(label_X: NDArray[np.uint8], source: ImageReader, region: Region) -> NDArray[np.uint8]:
    """The label of a region, `IGNORE` where the image holds nothing."""
    holds = valid(source, region)
    return label_X if holds is None else np.where(holds, label_X, np.uint8(IGNORE))
