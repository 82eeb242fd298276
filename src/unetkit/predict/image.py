"""One image from file to files: tiles, canvas, post-processing, products. Where it was interrupted it goes on."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError, SpecError
from unetkit.core.events import Decided, Event, Saved, Warned
from unetkit.core.machine import release_memory, resident_memory
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats import ImageInfo, ImageReader
from unetkit.data.formats.maps.geotiff import valid
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.source import open_case
from unetkit.predict.canvas import Canvas, DiskCanvas, MemoryCanvas
from unetkit.predict.finished import Finished
from unetkit.predict.model import Model
from unetkit.predict.outputs import Job
from unetkit.predict.pipeline import Behind
from unetkit.predict.post.clean import postprocessed
from unetkit.predict.predictor import Planned, Predictor
from unetkit.predict.products import check, held, write_products
from unetkit.predict.resume import begin, clear, digests, image_digest, left_behind
from unetkit.predict.work import places

# A prediction stays in memory, and begins anew where it is interrupted, if it is of so few steps and takes so small a
# share of the memory allowed.
FEW_STEPS, SMALL_SHARE = 16, 1 / 16


@dataclass(frozen=True)
class Part:
    """How much of an image is done, for whoever shows progress: a share below 1."""

    done: float


def predict_image(model: Model, predictor: Predictor, job: Job) -> Generator[Event | Part, None, None]:
    """Predict one image, and write its files.

    Raises DataError and SpecError where it cannot be predicted, MachineError where disk or memory do not suffice; what
    is done of a large image stays then, in a hidden folder beside the mask.
    """
    legend, wanted = model.legend.plain, job.probabilities is not None
    with CaseReader(job.case, model.prepare) as reader:
        info = reader.info
        yield from (Warned(message=f"{job.name}: {note}") for note in reader.notes)
        check(job, info, legend)
        try:
            canvas = yield from _canvas_of(model, predictor, job, reader, wanted)
        except (DataError, SpecError):
            clear(job.work)  # the image is to blame, and would be again
            raise
    with open_case(job.case) as source:
        finished = _finished(model, canvas, info, source, wanted)
        room = max(1 << 26, predictor.host_memory // 4)
        finished = postprocessed(finished, model.post, job.work / "post", room)
        for path in write_products(job, finished, room):
            yield Saved(path=str(path), what="prediction")
    clear(job.work)


def _canvas_of(
    model: Model, predictor: Predictor, job: Job, reader: CaseReader, wanted: bool
) -> Generator[Event | Part, None, Canvas]:
    """The whole prediction, on a canvas. wanted: probabilities are kept."""
    info, classes = reader.info, len(model.legend.classes) if wanted else 0
    size = math.prod(info.shape) * (1 + 2 * classes)
    small = size <= predictor.host_memory * SMALL_SHARE
    parts: dict[str, str] = {}
    layout = None
    if job.work.is_dir():
        parts = _parts(model, predictor, job)
        found = left_behind(job.work, parts, any_precision=predictor.options.precision == "auto")
        layout = found.layout
        if found.precision is not None:
            predictor = predictor.with_precision(found.precision)
            parts = _parts(model, predictor, job)
        if found.why:
            yield Decided(
                what="resume", value="begins anew", why=f"what was done of {job.name} is of no use: {found.why}"
            )
    besides = size if small else 0
    planned = predictor.plan(reader, wanted, besides, layout)
    if layout is not None and planned.forecast.total > 1.1 * predictor.allowed:
        again = predictor.plan(reader, wanted, besides)
        if again.layout != layout:
            why = "less memory is allowed now than for what was done, so tiles are smaller"
            yield Decided(what="resume", value="begins anew", why=why)
            planned, layout = again, None
    forecast = replace(planned.forecast, files=held(job, info, model.legend.plain))
    yield from predictor.remarks(replace(planned, forecast=forecast))
    work = planned.work
    if layout is None and small and len(work) <= FEW_STEPS:
        clear(job.work)
        canvas: MemoryCanvas | DiskCanvas = MemoryCanvas(info.shape, classes)
        first = 0
    else:
        parts = parts or _parts(model, predictor, job)
        begin(job.work, parts, planned.layout, keep=layout is not None)
        canvas = DiskCanvas(job.work, places(work), classes)
        first = canvas.missing
        if first:
            yield Decided(what="resume", value=_goes_on(planned, first), why="the rest was done before")
    pixels, total = sum(math.prod(work[n].own.shape) for n in range(first)), math.prod(info.shape)
    with Behind(canvas.put) as behind, contextlib.closing(predictor.pieces(reader, work, wanted, first)) as pieces:
        for made in pieces:
            behind.put(made)
            if resident_memory() > 1.05 * planned.forecast.between:
                release_memory()
            pixels += made[1].region.size
            yield Part(min(pixels / total, 0.999))
    return canvas


def _goes_on(planned: Planned, first: int) -> str:
    work, what = planned.work, "tile" if planned.work.exact else "row of tiles"
    if first == len(work):
        return f"all {first} {what}s are there; the files are written"
    return f"goes on at {what} {first + 1} of {len(work)}"


def _parts(model: Model, predictor: Predictor, job: Job) -> dict[str, str]:
    return {"the image": image_digest(job.case), **digests(model, predictor)}


def _finished(model: Model, canvas: Canvas, info: ImageInfo, source: ImageReader, wanted: bool) -> Finished:
    """What is on the canvas, before any post-processing. Pixels of maps that hold nothing are `IGNORE`."""
    holes = info.nodata is not None or info.map is not None

    def labels(region: Region) -> NDArray[np.uint8]:
        label_X = canvas.labels(region)
        if holes and (holds := valid(source, region)) is not None:
            label_X = np.where(holds, label_X, np.uint8(IGNORE))
        return label_X

    return Finished(info, model.legend, labels, canvas.probabilities if wanted else None, source.read)
