"""The mask of a case, whatever it is, as numbers and as class indices: whole, or by region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unetkit.core.closing import Closing
from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.case import Case, ClassFiles, ObjectFiles, WordLabel
from unetkit.data.formats import AS_THEY_ARE, ImageInfo, ImageReader, Reading, format_of, open_image, suffixes
from unetkit.data.formats.maps.vector import is_vector, open_vector
from unetkit.data.formats.signals.intervals import is_interval_table, read_intervals
from unetkit.data.labels.label_files import open_class_files, open_object_files
from unetkit.data.labels.legend import Label, Legend
from unetkit.data.labels.mask_files import MaskReader, RawMask, array_mask, drawn_mask, open_mask_file
from unetkit.data.labels.parts import in_legend
from unetkit.data.labels.words import read_word_label
from unetkit.data.source import image_info

Array: TypeAlias = NDArray[Any]


def read_label(case: Case, legend: Legend) -> tuple[Label, int]:
    """The label of a case as class indices (*space) uint8, and its number of stray pixels, as `Legend.encode` says.

    Raises DataError as `read_raw_label`, ValueError for a case without a label.
    """
    with OpenLabel(case, legend) as label:
        return label.encoded(Region.of(label.shape))


class OpenLabel(Closing):
    """The label of a case, open, read by region as class indices. A context manager.

    shape: of the mask, on its own grid. Raises as `read_label`.
    """

    def __init__(self, case: Case, legend: Legend) -> None:
        self._mask = open_mask(case, legend)
        self._legend, self._where = legend, case.mask_where
        self.shape: tuple[int, ...] = self._mask.shape

    def read(self, region: Region) -> Label:
        """Class indices of a region, uint8."""
        return self.encoded(region)[0]

    def encoded(self, region: Region) -> tuple[Label, int]:
        """Class indices of a region, uint8, and its stray pixels."""
        spacing = self._mask.info.spacing if self._mask.info is not None else None
        if not self._legend.touching:
            return encode(self._mask.read(region), self._legend, self._where)
        # what lies beside the region decides what in it is border
        around = region.grow(self._legend.reach(len(self.shape), spacing)).intersect(Region.of(self.shape))
        label_X, strays = encode(self._mask.read(around), self._legend, self._where, spacing)
        return label_X[region.within(around).slices], strays

    def close(self) -> None:
        """Let go of the files."""
        self._mask.close()


def encode(mask: RawMask, legend: Legend, where: Path, spacing: Sequence[float] | None = None) -> tuple[Label, int]:
    """`Legend.encode` of a mask. Raises DataError, naming `where`."""
    try:
        if not mask.parts:
            return legend.encode(mask.array, mask.coloured, spacing)
        raw_X, stray_X = in_legend(mask.array, mask.parts, legend)
        return legend.encode(raw_X, False)[0], int(np.count_nonzero(stray_X))
    except DataError as error:
        raise DataError(f"{where}: {error}") from None


def open_mask(case: Case, legend: Legend | None = None, names: Mapping[str, int] | None = None) -> MaskReader:
    """Open the label of a case, whatever it is, for reading by region as it is. legend: where there is one already,
    the values of the classes that outlines are named by; names: else those of the whole set. Raises as `read_label`."""
    label = case.label
    values = names
    if legend is not None:
        values = {entry.name: entry.value for entry in legend.classes if isinstance(entry.value, int)}
    if label is None:
        raise ValueError(f"the case '{case.id}' has no mask")
    if isinstance(label, ClassFiles):
        return open_class_files(label, case.mask_where, AS_THEY_ARE, _over(case))
    if isinstance(label, ObjectFiles):
        return open_object_files(label, case.mask_where)
    if isinstance(label, WordLabel):
        info = image_info(case) if case.images else None
        label_X, notes = read_word_label(label, info, values)
        return array_mask(label_X, case.mask_where, info, notes)
    if isinstance(label, np.ndarray):
        return array_mask(label, case.mask_where)
    if is_vector(label):
        return drawn_mask(open_vector(label, _image(case, "areas"), values))
    if _is_segmentation(label):
        return drawn_mask(_segments(case, label, values))
    if is_interval_table(label):
        info = _image(case, "intervals")
        return array_mask(read_intervals(label, info, values)[0], label, info)
    return open_mask_file(label, _reading(case, label), _over(case))


def _is_segmentation(label: Path) -> bool:
    if label.suffix.lower() != ".dcm":
        return False
    from unetkit.data.formats.medical.dicom_seg_read import is_segmentation

    return is_segmentation(label)


def _segments(case: Case, label: Path, names: Mapping[str, int] | None) -> ImageReader:
    """A DICOM SEG, on the grid of the image, whose slices it may have only some of."""
    from unetkit.data.formats.medical.dicom_seg_read import label_over, open_segmentation

    return label_over(label, image_info(case), names) if case.images else open_segmentation(label, names)


def case_mask(case: Case, legend: Legend | None = None) -> RawMask:
    """The label of a case as it is, whole. Raises as `open_mask`."""
    with open_mask(case, legend) as mask:
        return mask.read()


def read_raw_label(path: Path) -> Array:
    """A mask file as (*space) integers, or as (3, h, w) uint8 colours where it is truly coloured.

    Raises DataError as `open_mask_file`.
    """
    return read_mask(path).array


def read_mask(path: Path) -> RawMask:
    """As `read_raw_label`, with what was found on the way."""
    with open_mask_file(path) as mask:
        return mask.read()


def _image(case: Case, what: str) -> ImageInfo:
    """What the header of the image says, over which a label is drawn."""
    if not case.images:
        raise DataError(
            f"{case.mask_where}: {what} are drawn over their image, and there is none; give the folder that holds the "
            "images, too"
        )
    return image_info(case)


def _reading(case: Case, label: Path) -> Reading:
    """How the mask is read where the user said it of the image: the same level, and of a like file the same axes."""
    asked, image = case.reading, next((source for source in case.images if isinstance(source, Path)), None)
    if asked == AS_THEY_ARE or image is None or format_of(image) != format_of(label):
        return AS_THEY_ARE
    return Reading(asked.axes.replace("C", ""), asked.level, asked.pixel_size)


def _over(case: Case) -> ImageInfo | None:
    """What the header of the image says, where a mask may need it: pictures in two dimensions seldom do."""
    image = next((source for source in case.images if isinstance(source, Path)), None)
    masks = case.label_files
    if image is None or not masks or format_of(masks[0]) is None:
        return None
    if masks[0].name.lower().endswith(suffixes("image")) and not masks[0].name.lower().endswith((".tif", ".tiff")):
        return None
    if image in masks:
        return None
    try:
        with open_image(image, case.reading) as reader:
            return reader.info
    except DataError:
        return None  # what is wrong with the image is said where it is read
