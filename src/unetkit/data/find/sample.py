"""`Sample`: an image in memory with its label; a list of them is a data set like any folder."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.data.case import Annotation, Case, ClassFiles, Discovery
from unetkit.data.find.pairs import SPLITS
from unetkit.data.labels.parts import numbered_parts
from unetkit.data.sizes import extent

Array = NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One image as an array, with its label: a signal, an image or a volume.

    image: (*space) or (channels, *space), real numbers, in the units that new images will have.
    label: (*space) of whole numbers, one per class (or instance numbers), NaN where nothing is annotated; or (classes,
    *space), 0 and 1 for each class, which may overlap; None: not used for training.
    id: its name (None: its number). group: patient, slide … (groups are never split between training and validation).
    split: "train", "val" or "test"; None: unetkit decides. spacing: distance of neighbouring elements on each axis (mm,
    seconds); None: not known. classes: the names of a label of (classes, *space); without them it is one where it has
    an axis more than the image, or is of booleans and has another number of classes than the image of channels.
    """

    image: Array
    label: Array | None = None
    id: str | None = None
    group: str | None = None
    split: str | None = None
    spacing: tuple[float, ...] | None = None
    classes: tuple[str, ...] = ()


def read_samples(samples: Sequence[Sample]) -> Discovery:
    """The cases of a list of samples, in its order. The labels tell how many axes space has.

    Raises DataError: none has a label, two of one name, axes or sizes or types that do not fit, an unknown split.
    """
    odd = next((type(item).__name__ for item in cast(Sequence[object], samples) if not isinstance(item, Sample)), "")
    if odd:
        raise DataError(f"{odd} is no Sample; give a folder, or a list of unetkit.Sample(image, label)")
    items = list(samples)
    names = [item.id if item.id is not None else str(number) for number, item in enumerate(items)]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise DataError(f"two samples are called '{name}'; give each an id of its own")
        seen.add(name)
    labelled = [
        (name, np.ndim(item.label) - _in_parts(item))
        for name, item in zip(names, items, strict=True)
        if item.label is not None
    ]
    if not labelled:
        raise DataError(
            f"none of the {len(items)} samples has a label; give Sample(image, label) for those to learn from"
        )
    first, ndim = labelled[0]
    for name, other in labelled:
        if other != ndim:
            raise DataError(
                f"the label of sample {first} has {ndim} axes and that of sample {name} {other}; train on signals, "
                "images or volumes, one kind at a time"
            )
    if not 1 <= ndim <= 3:
        raise DataError(f"the label of sample {first} has {ndim} axes; signals have 1, images 2, volumes 3")
    cases = [_case(name, item, ndim) for name, item in zip(names, items, strict=True)]
    return Discovery(
        root=Path("samples"),
        layout=f"{len(items)} arrays in memory",
        cases=tuple(case for case in cases if case.label is not None),
        unlabelled_cases=tuple(case for case in cases if case.label is None),
    )


def _in_parts(sample: Sample) -> bool:
    """Whether the first axis of the label is that of classes."""
    array = np.asarray(sample.label)
    image, label = np.shape(sample.image), array.shape
    if sample.classes or len(label) > len(image):
        return True
    if array.dtype != np.bool_ or len(label) != len(image) or len(label) < 2:
        return False
    return label != image and label[1:] in (image[1:], image[:-1])


def _case(name: str, sample: Sample, ndim: int) -> Case:
    where = f"sample {name}"
    image, label = np.asarray(sample.image), None if sample.label is None else np.asarray(sample.label)
    for what, array in (("image", image), ("label", label)):
        if array is not None and (array.dtype.kind not in "buif" or 0 in array.shape):
            raise DataError(
                f"{where}: its {what} has the shape {array.shape} and the type {array.dtype}; give real numbers, and "
                "at least one"
            )
    parts = label if label is not None and _in_parts(sample) else None
    label = parts[0] if parts is not None else label
    if image.ndim == ndim:
        image_CX = image[None]
    elif image.ndim == ndim + 1:
        # colours come last in many libraries; where the label's shape says so, that is what is meant
        last = label is not None and image.shape[:-1] == label.shape and image.shape[1:] != label.shape
        image_CX = np.moveaxis(image, -1, 0) if last else image
    else:
        raise DataError(
            f"{where}: its image has the shape {image.shape}, but labels here have {ndim} axes; give (*space) or "
            "(channels, *space)"
        )
    if label is not None and image_CX.shape[1:] != label.shape:
        raise DataError(
            f"{where}: its image has {extent(image_CX.shape[1:])} and its label {extent(label.shape)}; make them equal"
        )
    if sample.split is not None and sample.split not in SPLITS.values():
        raise DataError(f"{where}: the split '{sample.split}' is none of train, val, test")
    spacing = None if sample.spacing is None else tuple(float(s) for s in sample.spacing)
    if spacing is not None and (len(spacing) != ndim or not all(0 < s < np.inf for s in spacing)):
        raise DataError(f"{where}: its spacing is {spacing}; give one distance above 0 for each of the {ndim} axes")
    annotation: Annotation | None = label
    if parts is not None:
        called = sample.classes or numbered_parts(len(parts))
        if len(called) != len(parts):
            raise DataError(
                f"{where}: its label has {len(parts)} classes, and {len(called)} names ({', '.join(called)}); name each"
            )
        annotation = ClassFiles(tuple(zip(called, parts, strict=True)))
    return Case(name, (image_CX,), annotation, sample.group, sample.split, spacing=spacing)
