"""Where the pieces of a prediction go: mask, probabilities, overlay. Files appear whole, at the end, or not at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np

from unetkit.data.formats import create_image
from unetkit.data.legend import Legend
from unetkit.predict.outputs import Job
from unetkit.predict.overlay import overlay_sink
from unetkit.predict.predictor import Piece, Reader

Sink: TypeAlias = Callable[[Piece, Reader], None]
"""Takes one piece of a prediction, and the image, of which it may read the same region."""


@contextmanager
def label_sink(path: Path, shape: tuple[int, int], legend: Legend) -> Iterator[Sink]:
    """The mask, in the legend's own values (uint8 or uint16) or colours, in the format of `path`'s suffix."""
    with create_image(path, shape, legend.channels, legend.dtype) as writer:
        yield lambda piece, _: writer.write(piece.region, legend.decode(piece.label_X))


@contextmanager
def probability_sink(path: Path, shape: tuple[int, int], legend: Legend) -> Iterator[Sink]:
    """Probabilities as a TIFF of classes × height × width, float16, in the legend's order of classes."""
    with create_image(path, shape, len(legend.classes), "float16") as writer:

        def write(piece: Piece, _: Reader) -> None:
            if piece.probabilities_KX is None:
                raise ValueError("probabilities are written but were not asked of the predictor")
            writer.write(piece.region, piece.probabilities_KX.astype(np.float16))

        yield write


@contextmanager
def open_sinks(job: Job, shape: tuple[int, int], legend: Legend) -> Iterator[Sink]:
    """All files of a job as one sink. Leaving by an error leaves none of the files that are not complete."""
    with ExitStack() as files:
        sinks = [files.enter_context(label_sink(job.label, shape, legend))]
        if job.probabilities is not None:
            sinks.append(files.enter_context(probability_sink(job.probabilities, shape, legend)))
        if job.overlay is not None:
            sinks.append(files.enter_context(overlay_sink(job.overlay, shape, legend)))

        def write(piece: Piece, reader: Reader) -> None:
            for sink in sinks:
                sink(piece, reader)

        yield write
