"""DICOM SEG: masks that refer to the series they lie over, written with highdicom.

A segment for each class but the background, and in each all slices of the series: so the label that is read again
(`dicom_seg_read.py`) has the grid of its image. Writing holds the whole mask, a byte for each voxel, and what highdicom
makes of it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import Any

import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.files import atomic
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageWriter, Target, TargetClass
from unetkit.data.formats.medical.dicom_series import Series, read_series
from unetkit.data.formats.medical.volumes import bands_of, needed
from unetkit.data.formats.medical.voxels import Layout, Voxels, scratch
from unetkit.data.formats.table import format_of

_MAKER = "unetkit"


class SegWriter(ImageWriter):
    """Collects the mask, in a temporary file where it is large, and makes the segmentation of it at the end."""

    def __init__(self, target: Target) -> None:
        """One channel of the classes' values, or a channel of zeros and ones for each class (they may overlap then)."""
        super().__init__(target.path, target.shape, target.channels, target.dtype)
        like = target.like
        if like is None or not (like.name.lower().endswith(".dcm") or (like.is_dir() and format_of(like) is None)):
            raise DataError(
                f"{target.path}: a DICOM SEG refers to the DICOM series that it lies over, and "
                f"{like or 'the image'} is none; write another format, such as .nii.gz"
            )
        if target.dtype.kind not in "ub":
            raise DataError(
                f"{target.path}: a DICOM SEG holds classes, not values of {target.dtype}; write .nii.gz for these"
            )
        self._classes = tuple(sorted((c for c in target.classes if c.value != 0), key=lambda c: c.value))
        if target.channels not in (1, len(self._classes)):
            raise ValueError(f"{target.path}: {target.channels} channels for {len(self._classes)} classes")
        self._like = like
        self._highdicom = needed("highdicom", target.path, "DICOM segmentations are written")
        self._series = read_series(like)
        first, count = self._series.first, len(self._series.slices)
        if (first.columns, first.rows, count) != (*target.shape, 1)[:3]:
            raise ValueError(f"{target.path}: {target.shape} does not lie over {target.like}")
        if self._series.lps is None:
            raise DataError(
                f"{target.path}: nothing says where the slices of {target.like} lie, so that no DICOM SEG can refer to "
                "them; write another format, such as .nii.gz"
            )
        self._layout = Layout(target.shape, target.channels, target.dtype)

    def bands(self, pixels: int) -> Iterator[Region]:
        """As `ImageWriter.bands`, along the last axis."""
        return bands_of(self._layout, pixels)

    def _open(self) -> None:
        self._temporary = self._cleanup.enter_context(atomic(self.path))
        self._voxels = Voxels(self._layout, scratch(self._layout.nbytes))
        self._cleanup.callback(self._voxels.close)

    def _write(self, region: Region, array_CX: Array) -> None:
        self._voxels.write(region, array_CX)

    def _finish(self) -> None:
        masks = self._masks()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of names in the series that break a rule of the standard
            try:
                made = _segmentation(self._highdicom, self._series, masks, self._classes)
            except (AttributeError, KeyError, ValueError, TypeError, NotImplementedError) as error:
                raise DataError(
                    f"{self.path}: no DICOM SEG can refer to the series {self._like} ({error}); write another format, "
                    "such as .nii.gz"
                ) from error
            made.save_as(self._temporary)

    def _masks(self) -> Array:
        """The numbers of segments (slices, rows, columns) uint8; zeros and ones, with an axis of segments behind, where
        they may overlap."""
        sides = self._layout.sides
        if self.channels > 1:
            masks = np.empty((*sides[::-1], self.channels), np.uint8)
            for number in range(sides[2]):
                masks[number] = (self._plane(number) != 0).transpose(2, 1, 0)
            return masks
        if not self._classes:
            self._classes = tuple(TargetClass(f"class {v}", v, (0, 0, 0)) for v in self._values() if v)
        if not 0 < len(self._classes) <= 255:
            raise DataError(
                f"{self.path}: a DICOM SEG is written of 1 to 255 classes, not of {len(self._classes)}; write another "
                "format, such as .nii.gz"
            )
        values = [c.value for c in self._classes]
        numbers = np.zeros(max(values) + 1, np.uint8)
        numbers[values] = np.arange(1, len(values) + 1)
        masks = np.empty(sides[::-1], np.uint8)
        for number in range(sides[2]):
            plane_XY = self._plane(number)[0]
            if strange := sorted(set(np.unique(plane_XY).tolist()) - {0, *values}):
                raise ValueError(f"{self.path}: the mask has the value {strange[0]}, which is no class")
            masks[number] = numbers[plane_XY.T.astype(np.intp)]
        return masks

    def _plane(self, number: int) -> Array:
        ends = ((0, 0, number), (*self._layout.sides[:2], number + 1))
        plane_CX = self._voxels.read(Region(ends[0][: len(self.shape)], ends[1][: len(self.shape)]))
        return plane_CX.reshape(self.channels, *self._layout.sides[:2])

    def _values(self) -> list[int]:
        found: set[int] = set()
        for number in range(self._layout.sides[2]):
            found.update(np.unique(self._plane(number)).tolist())
        return sorted(int(v) for v in found)


def _segmentation(hd: Any, series: Series, masks: Array, classes: Sequence[TargetClass]) -> Any:
    """The data set of a segmentation over a series, of masks in the order of its slices."""
    import pydicom
    from pydicom.sr.codedict import codes

    sources = [pydicom.dcmread(path, stop_before_pixels=True) for path in dict.fromkeys(s.path for s in series.slices)]
    if len(series.files) == 1 and len(series.slices) > 1:  # frames, in the order of their file
        masks = masks[np.argsort([s.index for s in series.slices])]
    family = hd.AlgorithmIdentificationSequence(
        name=_MAKER, family=codes.DCM.ArtificialIntelligence, version=version("unetkit")
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=entry.name[:64],
            segmented_property_category=codes.SCT.Tissue,  # what the classes are, names say; codes have to be there
            segmented_property_type=codes.SCT.Tissue,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=family,
            display_color=hd.color.CIELabColor.from_rgb(*entry.colour),
        )
        for number, entry in enumerate(classes, start=1)
    ]
    return hd.seg.Segmentation(
        source_images=sources,
        pixel_array=masks,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=segments,
        series_instance_uid=pydicom.uid.generate_uid(),
        series_number=1000,
        sop_instance_uid=pydicom.uid.generate_uid(),
        instance_number=1,
        manufacturer=_MAKER,
        manufacturer_model_name=_MAKER,
        software_versions=version("unetkit"),
        device_serial_number="1",
        series_description="Segmentation by unetkit",
        omit_empty_frames=False,  # so that the grid of the mask is that of its image
    )
