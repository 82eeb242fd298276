"""The held-out pass: cases predicted by a model that never saw them, kept as probabilities while a run is finished.

What is kept lies on the disk, in half precision; of a huge image only a window. Scores, calibration, decoding and the
search for label errors all read the same predictions, so that every image is predicted once.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.events import Event, Progress
from unetkit.core.files import disk_errors
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.labels.legend import Legend
from unetkit.data.labels.masks import case_mask, encode
from unetkit.data.prepared.prepare import CaseReader
from unetkit.evaluate.objects import ids_of
from unetkit.predict.heldout import HeldOut
from unetkit.predict.model import Model
from unetkit.predict.predictor import Predictor

FOLDER = "held-out"
# Values (classes × pixels) of one case that are kept at most: of larger images a window of the middle.
MOST_VALUES = 1 << 28
# Half precision cannot hold a probability below this; its logarithm must be finite.
LEAST = 6e-8


def hold_out(
    predictor: Predictor, model: Model, cases: Sequence[Case], groups: Mapping[str, str], folder: Path, task: str
) -> Generator[Event, None, list[HeldOut]]:
    """Predict every case, tile by tile, and keep the probabilities in `folder` (made; the caller removes it).

    `groups`: case id → patient, slide … Raises what reading and predicting raise; MachineError: the disk refuses.
    """
    found = []
    for number, case in enumerate(cases):
        found.append(_held_out(predictor, model, case, groups.get(case.id), folder / f"{number}.npy"))
        yield Progress(task=task, done=number + 1, fraction=(number + 1) / len(cases), note=case.id)
    return found


def window_of(shape: Sequence[int], classes: int, most: int = MOST_VALUES) -> Region:
    """The middle of an image of `shape`, as much of it as may be kept; the whole where it is small enough."""
    lengths = list(shape)
    while classes * math.prod(lengths) > most:
        longest = int(np.argmax(lengths))
        lengths[longest] = max(1, lengths[longest] // 2)
    start = tuple((n - kept) // 2 for n, kept in zip(shape, lengths, strict=True))
    return Region(start, tuple(a + kept for a, kept in zip(start, lengths, strict=True)))


def _held_out(predictor: Predictor, model: Model, case: Case, group: str | None, path: Path) -> HeldOut:
    legend = model.legend.plain
    with CaseReader(case, model.prepare) as reader:
        window, spacing = window_of(reader.grid.own, predictor.spec.classes), reader.info.spacing
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            shape = (predictor.spec.classes, *window.shape)
            kept_KX = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
            for piece in predictor.regions(reader, probabilities=True):
                part = piece.region.intersect(window)
                if part.size and piece.probabilities_KX is not None:
                    inside = (slice(None), *part.within(piece.region).slices)
                    kept_KX[(slice(None), *part.within(window).slices)] = piece.probabilities_KX[inside]
            kept_KX.flush()
            del kept_KX
    truth_X, ids_X = _truth(case, legend)
    return HeldOut(
        id=case.id,
        group=group,
        window=window,
        truth_X=np.ascontiguousarray(truth_X[window.slices]),
        probabilities=_reading(path),
        ids_X=None if ids_X is None else np.ascontiguousarray(ids_X[window.slices]),
        spacing=spacing,
    )


def _truth(case: Case, legend: Legend) -> tuple[NDArray[np.uint8], NDArray[np.generic] | None]:
    mask = case_mask(case, legend)
    truth_X = encode(mask, legend, case.mask_where)[0]
    return truth_X, ids_of(mask, legend) if legend.kind == "instances" else None


def _reading(path: Path) -> Callable[[], NDArray[np.float32]]:
    def read() -> NDArray[np.float32]:
        kept_KX = np.load(path, mmap_mode="r", allow_pickle=False)
        found_KX: NDArray[np.float32] = np.maximum(kept_KX.astype(np.float32), np.float32(LEAST))
        return found_KX

    return read


def forget(folder: Path) -> None:
    """Remove what was kept."""
    shutil.rmtree(folder, ignore_errors=True)
