"""From a finished prediction to files: masks, probabilities, overlay, outlines, tables. All of it by region.

Files appear whole, at the end, or not at all; regions come in the order in which each format holds least.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.case import IGNORE
from unetkit.data.formats import ImageInfo, ImageWriter, TargetClass, create_image, format_of, suffix
from unetkit.data.formats.signals.rows import write_mask_rows, write_probability_rows
from unetkit.data.labels.legend import Legend
from unetkit.predict.canvas import KEPT
from unetkit.predict.finished import Finished
from unetkit.predict.outputs import SIGNAL, Job
from unetkit.predict.overlay import write_overlay

# Bytes of what is read of a prediction, and made of it, at once; most formats hold a row of their tiles besides.
BAND = 1 << 25
# Bytes per pixel besides the values that are written: labels, and the numbers they are counted by.
_PER_PIXEL = 12
_MOST_OBJECTS = {".png": 65535}


def check(job: Job, info: ImageInfo, legend: Legend) -> None:
    """Raise DataError for what cannot be written of such an image, before hours are spent on predicting it."""
    ndim = len(info.shape)
    if job.polygons is not None and ndim != 2:
        raise DataError(f"{job.name}: outlines are drawn of images with 2 axes, and this has {ndim}; leave them out")
    if job.intervals is not None and ndim != 1:
        raise DataError(f"{job.name}: intervals are written of signals, and this has {ndim} axes; leave them out")
    if job.overlay is not None and ndim == 1:
        raise DataError(f"{job.name}: overlays are drawn of images and volumes, and this is a signal; leave them out")
    for _, path in job.labels:
        if path.suffix == SIGNAL:
            if ndim != 1:
                raise DataError(f"{path}: a table has one row per sample of a signal, and this has {ndim} axes")
        else:
            _mask_writer(job, path, info.shape, legend, legend.dtype)
    if job.probabilities is not None and job.probabilities.suffix != SIGNAL:
        _scores_writer(job, job.probabilities, info.shape, legend)


def held(job: Job, info: ImageInfo, legend: Legend) -> int:
    """About the most bytes that writing the files of a prediction holds."""
    itemsize = legend.dtype.itemsize * legend.channels
    each = [_cost(job.label, info.shape, itemsize)]
    if job.probabilities is not None:
        each.append(_cost(job.probabilities, info.shape, 2 * len(legend.classes)))
    if job.overlay is not None:
        each.append(30 * min(math.prod(info.shape[-2:]), 4096 * 4096))
    return max(each)


def write_products(job: Job, finished: Finished, memory: int) -> Iterator[Path]:
    """Write every file of a job, and name each when it is there; the masks come last. memory: bytes that
    tables may hold for it.

    Raises DataError: what a format cannot hold, an image that cannot be read any more; MachineError: the disk is full.
    """
    signal = job.label.suffix == SIGNAL
    if job.probabilities is not None:
        if job.probabilities.suffix == SIGNAL:
            names, spacing = finished.legend.names, finished.info.spacing
            write_probability_rows(job.probabilities, _parts(finished, _scores(finished)), names, spacing)
        else:
            _write_scores(job, job.probabilities, finished)
        yield job.probabilities
    if job.overlay is not None:
        write_overlay(job.overlay, finished)
        yield job.overlay
    if job.polygons is not None:
        from unetkit.predict.polygons import write_polygons

        write_polygons(job.polygons, finished)
        yield job.polygons
    if job.measurements is not None:
        from unetkit.predict.measure import write_measurements

        write_measurements(job.measurements, finished, memory)
        yield job.measurements
    if job.intervals is not None:
        from unetkit.predict.intervals import write_intervals

        write_intervals(job.intervals, finished)
        yield job.intervals
    if job.marks is not None:
        from unetkit.predict.marks import write_marks

        write_marks(job.marks, finished)
        yield job.marks
    if signal:
        yield from _write_rows(job, finished)
    else:
        yield from _write_masks(job, finished)


def _write_masks(job: Job, finished: Finished) -> Iterator[Path]:
    legend, shape = finished.legend, finished.info.shape
    dtype = legend.dtype if finished.objects is None else np.dtype(np.uint16 if finished.count < 1 << 16 else np.uint32)
    most = _MOST_OBJECTS.get(job.label.suffix.lower())
    if finished.objects is not None and most is not None and finished.count > most:
        raise DataError(
            f"{job.label}: {finished.count} objects were found, and a PNG counts up to {most}; choose the format .tif"
        )
    with ExitStack() as files:
        writers = [
            files.enter_context(_mask_writer(job, path, shape, legend, dtype, finished.objects is not None))
            for _, path in job.labels
        ]
        for region in _bands(writers[0], dtype.itemsize * legend.channels):
            for writer, (_, mask) in zip(writers, _masks(finished, region, dtype), strict=True):
                writer.write(region, mask)
    yield from (path for _, path in job.labels)


def _masks(finished: Finished, region: Region, dtype: np.dtype[Any]) -> tuple[tuple[str, NDArray[Any]], ...]:
    """What is written of a region: (folder, mask) of each mask."""
    if finished.objects is not None:
        return (("", finished.objects(region).astype(dtype)),)
    legend, label_X = finished.legend, finished.labels(region)
    if legend.ignore is None or legend.apart:
        # nothing is there, and there is no value that says so: background. Writers of maps know better by themselves.
        label_X = np.where(label_X == IGNORE, np.uint8(legend.background or 0), label_X)
    return legend.files(label_X)


def _write_rows(job: Job, finished: Finished) -> Iterator[Path]:
    """Masks of signals: a row per sample."""
    legend, spacing = finished.legend, finished.info.spacing
    dtype = legend.dtype if finished.objects is None else np.dtype(np.uint32)
    for number, (_, path) in enumerate(job.labels):
        entries = legend.classes[number : number + 1] if legend.apart else legend.classes
        names = {entry.value: entry.name for entry in entries if isinstance(entry.value, int)}

        def mask(region: Region, number: int = number) -> NDArray[Any]:
            return _masks(finished, region, dtype)[number][1]

        write_mask_rows(path, _parts(finished, mask), {} if finished.objects else names, spacing)
        yield path


def _write_scores(job: Job, path: Path, finished: Finished) -> None:
    """A channel per class in the legend's order: float16, or float32 where the format has no half precision."""
    scores, legend = _scores(finished), finished.legend
    with _scores_writer(job, path, finished.info.shape, legend) as writer:
        for region in _bands(writer, 6 * len(legend.classes)):
            writer.write(region, scores(region).astype(writer.dtype))


def _scores(finished: Finished) -> Callable[[Region], NDArray[np.float32]]:
    if finished.probabilities is None:
        raise ValueError("probabilities are written but were not kept")
    return finished.probabilities


def _mask_writer(
    job: Job, path: Path, shape: tuple[int, ...], legend: Legend, dtype: np.dtype[Any], objects: bool = False
) -> ImageWriter:
    number = [p for _, p in job.labels].index(path)
    entries = legend.classes[number : number + 1] if legend.apart else legend.classes
    named = tuple(TargetClass(name=e.name, value=e.value, colour=e.colour) for e in entries if isinstance(e.value, int))
    channels = 3 if legend.kind == "colours" and not objects else 1
    known = () if objects or legend.kind == "colours" else named
    return create_image(path, shape, channels, dtype, like=job.like, classes=known, reading=job.case.reading)


def _scores_writer(job: Job, path: Path, shape: tuple[int, ...], legend: Legend) -> ImageWriter:
    found = format_of(path)
    # an OME-TIFF holds what the OME model has types for
    half = found is not None and found.kind in ("image", "array") and not suffix(path).lower().startswith(".ome")
    return create_image(
        path,
        shape,
        len(legend.classes),
        "float16" if half else "float32",
        like=job.like,
        channel_names=legend.names,
        reading=job.case.reading,
    )


def _bands(writer: ImageWriter, per_pixel: int) -> Iterator[Region]:
    return writer.bands(max(1, BAND // (_PER_PIXEL + 3 * per_pixel)))


def _cost(path: Path, shape: tuple[int, ...], itemsize: int) -> int:
    """About what writing one file holds: what is unpacked, a band and its copies, a row of tiles; a PNG is kept whole,
    twice."""
    band = min(BAND, (_PER_PIXEL + 3 * itemsize) * math.prod(shape)) + min(KEPT, itemsize * math.prod(shape))
    if suffix(path).lower() == ".png":
        return band + 3 * itemsize * math.prod(shape)
    return band + 2 * itemsize * min(512, shape[0]) * math.prod(shape[1:]) if len(shape) == 2 else 2 * band


def _parts(finished: Finished, values: Callable[[Region], NDArray[Any]]) -> Iterator[NDArray[Any]]:
    """The values of a signal, part by part in order."""
    return (values(region) for region in _rows(finished.info.shape, 1 << 20))


def _rows(shape: tuple[int, ...], pixels: int) -> Iterator[Region]:
    """Bands along the first axis, of about so many pixels."""
    rows = max(1, pixels // math.prod(shape[1:]))
    for start in range(0, shape[0], rows):
        yield Region((start, *(0,) * (len(shape) - 1)), (min(shape[0], start + rows), *shape[1:]))
