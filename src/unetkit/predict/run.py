"""Predict many files: skip what is done, go on past a bad one, name it at the end. A generator of events."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from unetkit.core.errors import DataError, SpecError
from unetkit.core.events import Done, Event, Progress, Saved, Started, Warned
from unetkit.core.files import locked, remove_partial
from unetkit.data.case import Case
from unetkit.data.find.discover import images_of
from unetkit.predict.adapt import adapt
from unetkit.predict.image import Part, predict_image
from unetkit.predict.model import Model
from unetkit.predict.options import OutputOptions, PredictOptions
from unetkit.predict.outputs import Job, plan_jobs
from unetkit.predict.predictor import Predictor
from unetkit.predict.resume import clear
from unetkit.predict.review import Review, Reviews

OFTEN = 3  # images of which the same is said
_REPORT_EVERY = 0.5  # seconds between two progress events within an image


@dataclass(frozen=True)
class PredictResult:
    """What became of the images. `done`: masks written now. `skipped`: masks that were there already.

    `failed`: images that could not be predicted, each with its message. `look`: those predicted now that a person
    should look at, each with why; all of it is in review.csv.
    """

    done: tuple[Path, ...]
    skipped: tuple[Path, ...]
    failed: tuple[tuple[str, str], ...]
    look: tuple[tuple[str, str], ...] = ()


def predict(
    model: Model,
    images: str | Path | Sequence[Case | Path],
    out: Path,
    options: PredictOptions | None = None,
    outputs: OutputOptions | None = None,
) -> Generator[Event, None, PredictResult]:
    """Write a mask for each image into the folder `out`; returns a `PredictResult`.

    `images`: a file, a folder, a pattern such as `images/*.png`, or what `discover` found. A file that is bad is
    warned of and left out. Files appear whole or not at all; what is complete is skipped by the next run. With
    `options.adapt` the networks are adapted to all of the images first. A model that knows how well it does, or what it
    was trained on, says in `review.csv` what of each image (`predict.review`).

    Raises DataError before anything starts: nothing found, two images with the same name, results among the images,
    a table of another kind called review.csv.
    Raises MachineError: the disk is full, the folder not writable, memory or the device missing.
    """
    outputs = outputs or OutputOptions()
    sources = images_of(images) if isinstance(images, str | Path) else images
    reading = (options or PredictOptions()).reading
    jobs = plan_jobs(sources, Path(out), model.legend, outputs, reading, model.net.spec.in_channels)
    started = time.monotonic()
    with locked(Path(out)):
        for folder in {target.parent for job in jobs for target in job.targets}:
            remove_partial(folder)
        skipped = tuple(job for job in jobs if not outputs.overwrite and all(t.exists() for t in job.targets))
        todo = [job for job in jobs if job not in skipped]
        for job in skipped:
            clear(job.work)  # left by a process that was killed between its last file and this
        known = outputs.review and (model.tuned.quality is not None or model.tuned.familiar is not None)
        reviews = Reviews(Path(out), jobs) if known else None
        yield Started(task="predict", total=len(todo))
        if options is not None and options.adapt != "none" and todo:
            # to all images, those done before as well, so that what was interrupted goes on with the same weights
            model = yield from adapt(model, [job.case for job in jobs], options)
            if skipped:
                yield Warned(
                    message=f"{len(skipped)} masks were there already and stay as they are, whatever they were adapted"
                    " to; --overwrite makes all alike"
                )
        try:
            done, failed = (yield from _predict_all(model, todo, options, Path(out), reviews)) if todo else ([], [])
        finally:
            written = reviews is not None and reviews.write()
        if reviews is not None and written:
            yield Saved(path=str(reviews.path), what="what to look at")
            if summary := reviews.summary():
                yield Warned(message=summary)
    look = () if reviews is None else tuple((r.row["image"], r.row["why"]) for r in reviews.now if r.look)
    result = PredictResult(tuple(done), tuple(job.label for job in skipped), tuple(failed), look)
    yield Done(task="predict", message=_summary(result), seconds=time.monotonic() - started)
    return result


def _predict_all(
    model: Model, jobs: Sequence[Job], options: PredictOptions | None, out: Path, reviews: Reviews | None
) -> Generator[Event, None, tuple[list[Path], list[tuple[str, str]]]]:
    predictor = Predictor(model.nets, options, regions=model.legend.regions)
    yield from predictor.decisions
    clock = _Clock(len(jobs))
    done: list[Path] = []
    failed: list[tuple[str, str]] = []
    heard: Counter[str] = Counter()
    for number, job in enumerate(jobs):
        try:
            for event in predict_image(model, predictor, job, out):
                if isinstance(event, Part):
                    if clock.due():
                        yield clock.progress(number, event.done, job.name)
                elif isinstance(event, Review):
                    if reviews is not None:
                        reviews.put(event)
                elif isinstance(event, Warned):
                    yield from _not_often(event, job, heard)
                else:
                    yield event
        except (DataError, SpecError, MemoryError) as error:
            message = _message(job, error)
            failed.append((job.name, message))
            yield Warned(message=message)
        else:
            done.append(job.label)
        yield clock.progress(number + 1, 1.0, job.name)
    return done, failed


def _not_often(event: Warned, job: Job, heard: Counter[str]) -> Iterator[Warned]:
    """What is said of one image after the other is said of the first few."""
    note = event.message.removeprefix(f"{job.name}: ")
    heard[note] += 1
    if heard[note] < OFTEN:
        yield event
    elif heard[note] == OFTEN:
        yield Warned(message=f"{event.message} (and so it may be with further images: it is not said again)")


class _Clock:
    """Progress of a list of images, with the time that is left by what has been done so far."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._start = self._last = time.monotonic()

    def due(self) -> bool:
        return time.monotonic() - self._last >= _REPORT_EVERY

    def progress(self, done: int, part: float, note: str) -> Progress:
        """`done` images are complete; of the current one (when `part` < 1) this part."""
        self._last = time.monotonic()
        fraction = min(1.0, (done + (part if part < 1 else 0)) / self._total)
        eta = (self._last - self._start) * (1 - fraction) / fraction if fraction > 0 else None
        return Progress(task="predict", done=done, fraction=fraction, eta=eta, note=note)


def _message(job: Job, error: Exception) -> str:
    if isinstance(error, MemoryError):
        return (
            f"{job.name}: memory does not suffice to hold this image; save it as a tiled TIFF, which is read in parts"
        )
    return str(error) if job.name in str(error) else f"{job.name}: {error}"


def _summary(result: PredictResult) -> str:
    def images(n: int) -> str:
        return f"{n} image{'s' * (n != 1)}"

    parts = [f"{images(len(result.done))} predicted"]
    if result.skipped:
        parts.append(f"{images(len(result.skipped))} done before (--overwrite predicts them again)")
    if result.failed:
        names = ", ".join(name for name, _ in result.failed[:5]) + (" …" if len(result.failed) > 5 else "")
        parts.append(f"{images(len(result.failed))} could not be predicted: {names}")
    return "; ".join(parts)
