"""Where the pieces of a prediction go: mask, probabilities, overlay. Files appear whole, at the end, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np

from unetkit.data.formats import ImageInfo, create_image, suffix, suffixes
from unetkit.data.formats.records import write_waves
from unetkit.data.formats.rows import write_mask_rows, write_probability_rows
from unetkit.data.legend import Legend
from unetkit.data.source import image_info
from unetkit.predict.outputs import SIGNAL, Job, waves_of
from unetkit.predict.overlay import overlay_sink, planes_sink
from unetkit.predict.predictor import Piece, Reader

Sink: TypeAlias = Callable[[Piece, Reader], None]
"""Takes one piece of a prediction, and the image, of which it may read the same region."""


@contextmanager
def label_sink(path: Path, shape: tuple[int, ...], legend: Legend, like: Path | None = None) -> Iterator[Sink]:
    """The mask, in the legend's own values (uint8 or uint16) or colours, in the format of `path`'s suffix.

    like: of a volume, the NIfTI file whose geometry it takes.
    """
    with create_image(path, shape, legend.channels, legend.dtype, like=like) as writer:
        yield lambda piece, _: writer.write(piece.region, legend.decode(piece.label_X))


@contextmanager
def probability_sink(path: Path, shape: tuple[int, ...], legend: Legend, like: Path | None = None) -> Iterator[Sink]:
    """Probabilities with a channel per class in the legend's order: a TIFF of float16, or a NIfTI of float32."""
    kind = "float32" if suffix(path).lower() in suffixes("volume") else "float16"
    with create_image(path, shape, len(legend.classes), kind, like=like) as writer:
        yield lambda piece, _: writer.write(piece.region, _probabilities(piece).astype(kind))


@contextmanager
def signal_sink(job: Job, shape: tuple[int, ...], legend: Legend, info: ImageInfo) -> Iterator[Sink]:
    """All that is written of a signal: the mask and its probabilities as CSV, the marks of its waves."""
    label_X = np.zeros(shape, np.uint8)
    signal_X = np.zeros(shape, np.float32)
    probabilities_KX = np.zeros((len(legend.classes) if job.probabilities else 0, *shape), np.float32)

    def write(piece: Piece, reader: Reader) -> None:
        label_X[piece.region.slices] = piece.label_X
        if job.marks is not None:
            signal_X[piece.region.slices] = reader.read(piece.region)[0]
        if job.probabilities is not None:
            probabilities_KX[(slice(None), *piece.region.slices)] = _probabilities(piece)

    yield write
    names = {entry.value: entry.name for entry in legend.classes if isinstance(entry.value, int)}
    if job.marks is not None:
        write_waves(job.marks, label_X, signal_X, waves_of(legend), info.spacing)
    if job.probabilities is not None:
        write_probability_rows(job.probabilities, probabilities_KX, legend.names, info.spacing)
    write_mask_rows(job.label, legend.decode(label_X), names, info.spacing)


@contextmanager
def open_sinks(job: Job, shape: tuple[int, ...], legend: Legend) -> Iterator[Sink]:
    """All files of a job as one sink. Leaving by an error leaves none of the files that are not complete."""
    with ExitStack() as files:
        sinks: list[Sink] = []
        if job.label.suffix == SIGNAL:
            sinks.append(files.enter_context(signal_sink(job, shape, legend, image_info(job.source))))
        else:
            sinks.append(files.enter_context(label_sink(job.label, shape, legend, job.like)))
            if job.probabilities is not None:
                sinks.append(files.enter_context(probability_sink(job.probabilities, shape, legend, job.like)))
        if job.overlay is not None:
            if len(shape) == 3:
                spacing = image_info(job.source).spacing
                sinks.append(files.enter_context(planes_sink(job.overlay, shape, legend, spacing)))
            else:
                sinks.append(files.enter_context(overlay_sink(job.overlay, shape, legend)))

        def write(piece: Piece, reader: Reader) -> None:
            for sink in sinks:
                sink(piece, reader)

        yield write


def _probabilities(piece: Piece) -> np.ndarray:
    if piece.probabilities_KX is None:
        raise ValueError("probabilities are written but were not asked of the predictor")
    return piece.probabilities_KX
