"""The pictures that a run keeps of its best, its median and its worst case: the image, its truth, the prediction.

Truth and prediction are pictures of class indices (of regions that overlap: of bit masks). An image is shown whole, a
volume as three planes through what is to be found, a signal as a trace in front of which every sample's class fills its
column.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unetkit.core.files import atomic, write_json
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.labels.borders import with_seams
from unetkit.data.labels.masks import case_mask, encode
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.sizes import extent
from unetkit.evaluate.objects import ids_of
from unetkit.job.scoring import predict_case
from unetkit.job.sides import Side
from unetkit.metrics.scores import Scores
from unetkit.predict.model import Model
from unetkit.report.pictures import OUTSIDE

# Longest side (pixels) of a picture.
PICTURE = 1024
# Pixels between the planes of a volume.
GAP = 8
# Width of a signal's picture, height of each channel in it, the most channels and the most samples in a column.
WIDTH, HEIGHT, CHANNELS, DENSITY = 1600, 220, 3, 8
PAPER, GRID, INK = 250, 225, 40

Label = NDArray[np.uint8]


@dataclass(frozen=True)
class Shown:
    """One case as pictures of equal size, and what of it they show."""

    image: Image.Image
    truth: Label
    prediction: Label
    size: str


def write_examples(run: Path, sides: Sequence[Side], scores: Scores) -> None:
    """Write examples/ into the run folder: pictures, and examples.json that tells what they are. sides: who predicts
    the cases that were scored, in their order."""
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
        model, predictor = side.open()
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
    if model.legend.border:
        truth_X = with_seams(truth_X, ids_of(truth, legend))
        prediction_X = prediction_X if ids_X is None else with_seams(prediction_X, ids_X)
    truth_X = np.ascontiguousarray(truth_X[part.slices])
    if wanted_X is None:
        shown = legend.display()[1]
        wanted_X = shown[truth_X] if shown[truth_X].any() else shown[prediction_X]
    if truth_X.ndim == 3:
        return _planes(image_CX[0], truth_X, prediction_X, wanted_X, spacing or (1.0, 1.0, 1.0))
    if truth_X.ndim == 1:
        return _trace(image_CX, truth_X, prediction_X, wanted_X, None if spacing is None else spacing[0])
    labels = [np.asarray(_shrink(Image.fromarray(label_X), smooth=False)) for label_X in (truth_X, prediction_X)]
    return Shown(_shrink(_picture(image_CX), smooth=True), labels[0], labels[1], extent(truth_X.shape))


def _planes(
    image_X: NDArray[np.float32],
    truth_X: Label,
    prediction_X: Label,
    wanted_X: NDArray[np.bool_],
    spacing: tuple[float, ...],
) -> Shown:
    """For each axis the plane across it that holds most of what is wanted, side by side, enlarged to be seen."""
    places = []
    for axis in range(3):
        count = wanted_X.sum(axis=tuple(a for a in range(3) if a != axis))
        # of equal ones (or where nothing is) the one nearest to the middle
        best = np.flatnonzero(count == count.max())
        places.append(int(best[np.argmin(np.abs(best - (len(count) - 1) / 2))]))
    shape, least = truth_X.shape, min(spacing)
    lengths = [n * s / least for n, s in zip(shape, spacing, strict=True)]
    wide = sum(lengths[b] for b, _ in _AXES)
    zoom = max(1.0, (PICTURE - 2 * GAP) // wide) if wide + 2 * GAP <= PICTURE else (PICTURE - 2 * GAP) / wide
    grey_X = np.asarray(_eight_bits(image_X[None]))[0]

    def montage(volume_X: NDArray[np.uint8], outside: int) -> NDArray[np.uint8]:
        planes = []
        for axis, (b, c) in enumerate(_AXES):
            # the later axis upwards, as scanners name them: of a standing subject feet to head
            plane = np.flip(volume_X.take(places[axis], axis).T, 0)
            size = (max(1, round(lengths[b] * zoom)), max(1, round(lengths[c] * zoom)))
            planes.append(np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.NEAREST)))
        height = max(p.shape[0] for p in planes)
        canvas = np.full((height, sum(p.shape[1] for p in planes) + 2 * GAP), outside, np.uint8)
        left = 0
        for plane in planes:
            top = (height - plane.shape[0]) // 2
            canvas[top : top + plane.shape[0], left : left + plane.shape[1]] = plane
            left += plane.shape[1] + GAP
        return canvas

    where = ", ".join(f"{name} = {place}" for name, place in zip("xyz", places, strict=True))
    return Shown(
        Image.fromarray(montage(grey_X, 0)),
        montage(truth_X, OUTSIDE),
        montage(prediction_X, OUTSIDE),
        f"{extent(shape)}, planes {where}",
    )


# The two axes that are seen in the plane across each axis: to the right, and upwards.
_AXES = ((1, 2), (0, 2), (0, 1))


def _trace(
    image_CX: NDArray[np.float32],
    truth_X: Label,
    prediction_X: Label,
    wanted_X: NDArray[np.bool_],
    spacing: float | None,
) -> Shown:
    """The first channels over time; of a long signal the part that holds most of what is wanted."""
    n = len(truth_X)
    length = min(n, WIDTH * DENSITY // 2)
    found = np.concatenate([[0], np.cumsum(wanted_X)])
    start = int(np.argmax(found[length:] - found[: n - length + 1]))
    part = slice(start, start + length)
    channels = image_CX[:CHANNELS, part]
    picture = Image.new("L", (WIDTH, HEIGHT * len(channels)), PAPER)
    draw = ImageDraw.Draw(picture)
    step = _grid(length * (spacing or 1.0)) / (spacing or 1.0)
    for k in range(1, int(length / step) + 1):
        x = round(k * step / length * WIDTH)
        draw.line([(x, 0), (x, picture.height)], fill=GRID)
    x_N = (np.arange(length) + 0.5) / length * WIDTH
    for row, signal in enumerate(np.nan_to_num(channels, posinf=0, neginf=0)):
        low, high = float(signal.min()), float(signal.max())
        y_N = HEIGHT * (row + 0.05 + 0.9 * (high - signal) / max(high - low, 1e-9))
        points = [(float(x), float(y)) for x, y in zip(x_N, y_N, strict=True)]
        draw.line(points if len(points) > 1 else [(0.0, points[0][1]), (float(WIDTH), points[0][1])], fill=INK, width=2)
    columns = start + ((np.arange(WIDTH) + 0.5) * length / WIDTH).astype(int)
    size = extent(truth_X.shape)
    if spacing is not None:
        size += f" ({n * spacing:.4g} s, a line every {step * spacing:.3g} s)"
    if length < n:
        size += f", samples {start} to {start + length}"

    def band(label_X: Label) -> Label:
        return np.repeat(label_X[columns][None], picture.height, axis=0)

    return Shown(picture, band(truth_X), band(prediction_X), size)


def _grid(length: float) -> float:
    """A round distance (1, 2 or 5 times a power of ten) of about eight to sixteen lines over `length`."""
    rough = length / 16
    power = 10.0 ** np.floor(np.log10(rough))
    return float(next(m * power for m in (1, 2, 5, 10) if m * power >= rough))


def _eight_bits(image_CX: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Stretched from the 0.5 to the 99.5 percentile."""
    finite = np.nan_to_num(image_CX, posinf=0, neginf=0)
    low, high = np.percentile(finite, (0.5, 99.5))
    scaled: NDArray[Any] = np.clip((finite - low) / max(high - low, 1e-6), 0, 1) * 255
    return scaled.astype(np.uint8)


def _picture(image_CYX: NDArray[np.float32]) -> Image.Image:
    """8-bit grey or RGB."""
    pixels = _eight_bits(image_CYX[:3] if len(image_CYX) >= 3 else image_CYX[:1])
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1).copy())


def _shrink(picture: Image.Image, smooth: bool) -> Image.Image:
    factor = PICTURE / max(picture.size)
    if factor >= 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)
