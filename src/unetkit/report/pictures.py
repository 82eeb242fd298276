"""Example cases as layers for the page: the image, and truth, prediction and differences as transparent colour layers.

Masks are written as palette PNGs (a few kB each), so that the page can mix them over the image at any strength.
"""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from unetkit.data.labels.borders import BORDER
from unetkit.report.facts import Facts, get, number, text

IGNORE = 255  # class index of unlabelled pixels
OUTSIDE = 254  # no part of the image: the gaps between the planes of a volume
EXTRA, MISSED, CONFUSED, UNLABELLED = 1, 2, 3, 4
# Vermilion against blue is told apart under every common colour blindness; yellow differs from both in lightness.
ERROR_COLOURS = {EXTRA: "#ff5a36", MISSED: "#35a7ff", CONFUSED: "#ffee58", UNLABELLED: "#8a8f98"}
MOST_PIXELS = 4096 * 4096  # an example larger than this is not one that a run wrote
LARGE_PNG = 400_000  # bytes: an image above this goes into the page as JPEG

Mask = NDArray[np.uint8]


@dataclass(frozen=True)
class Picture:
    """One example case. The layers are data URIs; shares are of the labelled pixels (`unlabelled`: of all)."""

    key: str
    case: str
    rank: str
    dice: float | None
    size: str
    width: int
    height: int
    image: str
    truth: str
    truth_line: str
    prediction: str
    prediction_line: str
    errors: str
    extra: float
    missed: float
    confused: float
    unlabelled: float


def read_pictures(facts: Facts) -> tuple[list[Picture], list[str]]:
    """All examples of the run that can be read, and a sentence for each that cannot."""
    pictures, problems = pictures_of(facts, facts.examples, "e")
    return [picture for picture in pictures if picture is not None], problems


def pictures_of(facts: Facts, entries: Sequence[Mapping[str, Any]], key: str) -> tuple[list[Picture | None], list[str]]:
    """The picture of each entry (files of the run folder), None where it cannot be read; a sentence for each of those.
    key: what the names of the pictures in the page begin with."""
    pictures: list[Picture | None] = []
    problems = []
    for n, entry in enumerate(entries):
        try:
            pictures.append(_picture(facts, entry, f"{key}{n}"))
        except (OSError, ValueError, KeyError, TypeError, UnidentifiedImageError) as error:
            reason = f"it has no {error}" if isinstance(error, KeyError) else str(error)
            problems.append(f"Example {text(entry.get('case'), str(n))} cannot be shown: {reason}.")
            pictures.append(None)
    return pictures, problems


def difference(truth_YX: Mask, prediction_YX: Mask, foreground: Sequence[int], regions: bool = False) -> Mask:
    """Per pixel 0 (right), EXTRA (foreground where truth has none), MISSED, CONFUSED (another class, or other regions)
    or UNLABELLED. regions: the masks hold bit masks, and every bit is foreground."""
    values = range(1, OUTSIDE) if regions else foreground
    true_fg, predicted_fg = np.isin(truth_YX, values), np.isin(prediction_YX, values)
    codes = np.zeros(truth_YX.shape, np.uint8)
    codes[~true_fg & predicted_fg] = EXTRA
    codes[true_fg & ~predicted_fg] = MISSED
    codes[true_fg & predicted_fg & (truth_YX != prediction_YX)] = CONFUSED
    codes[truth_YX == IGNORE] = UNLABELLED
    return codes


def contour(mask_YX: Mask, width: int = 1) -> NDArray[np.bool_]:
    """Pixels within `width` pixels of another class (the four neighbours, repeated)."""
    edge = np.zeros(mask_YX.shape, bool)
    vertical, horizontal = mask_YX[1:] != mask_YX[:-1], mask_YX[:, 1:] != mask_YX[:, :-1]
    edge[1:] |= vertical
    edge[:-1] |= vertical
    edge[:, 1:] |= horizontal
    edge[:, :-1] |= horizontal
    for _ in range(width - 1):
        grown = edge.copy()
        grown[1:] |= edge[:-1]
        grown[:-1] |= edge[1:]
        grown[:, 1:] |= edge[:, :-1]
        grown[:, :-1] |= edge[:, 1:]
        edge = grown
    return edge


def _picture(facts: Facts, entry: Mapping[str, Any], key: str) -> Picture:
    image = _open(facts.run, entry["image"]).convert("RGB")
    truth, prediction = _indices(facts.run, entry["truth"]), _indices(facts.run, entry["prediction"])
    size = (image.height, image.width)
    for name, mask in (("truth", truth), ("prediction", prediction)):
        if mask.shape != size:
            raise ValueError(f"its {name} is {mask.shape[1]} × {mask.shape[0]}, its image {size[1]} × {size[0]}")
    touching = get(facts.plan, "data.legend.border") or get(facts.plan, "data.legend.levels")
    objects = [c.index for c in facts.foreground] + ([BORDER] if touching else [])
    codes = difference(truth, prediction, objects, facts.regions)
    inside = max(1, int(np.count_nonzero(truth != OUTSIDE)))
    labelled = max(1, int(np.count_nonzero((codes != UNLABELLED) & (truth != OUTSIDE))))
    width = max(1, round(max(size) / 400))  # so that a contour is seen when the picture is a third of the page
    return Picture(
        key=key,
        case=text(entry.get("case"), key),
        rank=text(entry.get("rank"), ""),
        dice=number(entry.get("dice")),
        size=text(entry.get("size"), f"{size[1]} × {size[0]} pixels"),
        width=size[1],
        height=size[0],
        image=_image_uri(image),
        truth=_mask_uri(truth, facts),
        truth_line=_mask_uri(_outlined(truth, facts, width), facts),
        prediction=_mask_uri(prediction, facts),
        prediction_line=_mask_uri(_outlined(prediction, facts, width), facts),
        errors=_palette_uri(codes, ERROR_COLOURS),
        extra=np.count_nonzero(codes == EXTRA) / labelled,
        missed=np.count_nonzero(codes == MISSED) / labelled,
        confused=np.count_nonzero(codes == CONFUSED) / labelled,
        unlabelled=np.count_nonzero(codes == UNLABELLED) / inside,
    )


def _open(run: Path, name: Any) -> Image.Image:
    """Open a PNG of the run folder, and only of the run folder: a run from elsewhere cannot pull in other files."""
    if not isinstance(name, str):
        raise ValueError("examples.json gives no file name")
    found = next((p for p in (run / "examples" / name, run / name) if p.is_file()), None)
    if found is None:
        raise ValueError(f"{name} is absent")
    if not found.resolve().is_relative_to(run.resolve()):
        raise ValueError(f"{name} lies outside the run folder")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked before a pixel is read
        image = Image.open(found, formats=("PNG",))
    with image:
        if image.width * image.height > MOST_PIXELS:
            raise ValueError(f"{name} is too large ({image.width} × {image.height})")
        image.load()
    return image


def _indices(run: Path, name: Any) -> Mask:
    image = _open(run, name)
    if image.mode not in ("L", "P", "1"):
        raise ValueError(f"{name} holds no class indices (its mode is {image.mode})")
    return np.asarray(image).astype(np.uint8)


def _outlined(mask: Mask, facts: Facts, width: int) -> Mask:
    """The mask with everything but contours set to a value that no colour is given to; each region has a contour of its
    own, those of later ones over those before."""
    if facts.regions:
        lines = np.zeros(mask.shape, np.uint8)
        for c in facts.classes:
            inside = ((mask >> c.index & 1) * (mask < OUTSIDE)).astype(np.uint8)
            lines[contour(inside, width) & (inside > 0)] = 1 << c.index
        return lines
    transparent = next((c.index for c in facts.classes if not c.foreground), IGNORE - 1)
    return np.where(contour(mask, width) & (mask != IGNORE), mask, np.uint8(transparent)).astype(np.uint8)


def _mask_uri(mask: Mask, facts: Facts) -> str:
    """A mask in the colours of its classes; where regions overlap, in that of the last one."""
    colours = {c.index: c.colour for c in facts.foreground}
    if facts.regions:
        last = {value: value.bit_length() - 1 for value in range(1, 1 << len(facts.classes))}
        colours = {value: facts.classes[k].colour for value, k in last.items()}
    return _palette_uri(mask, {**colours, IGNORE: ERROR_COLOURS[UNLABELLED]})


def _palette_uri(indices: Mask, colours: Mapping[int, str]) -> str:
    """A palette PNG: each index in its colour, indices without a colour fully transparent."""
    palette, alpha = bytearray(768), bytearray(256)
    for index, colour in colours.items():
        palette[3 * index : 3 * index + 3] = bytes.fromhex(colour[1:])
        alpha[index] = 255
    image = Image.fromarray(indices)
    image.putpalette(bytes(palette))
    return _uri(image, "PNG", transparency=bytes(alpha), optimize=True)


def _image_uri(image: Image.Image) -> str:
    """The image as PNG; as JPEG where that would weigh too much in the page (the file itself stays in examples/)."""
    red, green, blue = image.split()
    grey = red.tobytes() == green.tobytes() == blue.tobytes()
    uri = _uri(red if grey else image, "PNG", optimize=True)
    return uri if len(uri) * 3 // 4 <= LARGE_PNG else _uri(red if grey else image, "JPEG", quality=90)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"
