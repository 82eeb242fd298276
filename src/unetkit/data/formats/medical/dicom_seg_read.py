"""DICOM SEG files read as labels, on their own grid or on that of an image."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from unetkit.core.errors import DataError, UnetkitError
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, ImageInfo, ImageReader, PaletteAs, decoding, unreadable
from unetkit.data.formats.medical.dicom import SlicesReader
from unetkit.data.formats.medical.dicom_files import (
    ERRORS,
    SEGMENTATIONS,
    DicomFile,
    is_dicom,
    read_file,
    stored_pixels,
)
from unetkit.data.formats.medical.volumes import LPS_RAS, as_sixteen, needed, space_axes
from unetkit.data.formats.order import natural_key


def is_segmentation(path: Path) -> bool:
    """Whether a file is a DICOM SEG. Never raises: what cannot be read is none."""
    try:
        found = read_file(path) if path.is_file() and is_dicom(path) else None
    except UnetkitError:
        return False
    return found is not None and found.kind in SEGMENTATIONS


def class_names(paths: Iterable[Path]) -> dict[int, str]:
    """Value → name of the segments of all these files, with 0 for what no segment covers.

    Values are the numbers of the segments where these say the same in every file; else names are numbered from 1 in
    their natural order. Raises DataError: damaged, no DICOM SEG.
    """
    found = [segment_names(path) for path in paths]
    pairs = {pair for names in found for pair in names.items()}
    names = {name for _, name in pairs}
    if len(pairs) > len(names) or len(pairs) > len({number for number, _ in pairs}):
        pairs = set(enumerate(sorted(names, key=natural_key), 1))
    return {0: "background"} | dict(sorted(pairs))


def segment_names(path: Path) -> dict[int, str]:
    """Number → name of the segments of a DICOM SEG. Raises DataError: damaged, none."""
    pydicom = needed("pydicom", path, "DICOM files are read")
    with decoding(path, *ERRORS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SegmentSequence"], force=True)
        return _names(data)


def _names(data: Any) -> dict[int, str]:
    return {int(s.SegmentNumber): str(s.SegmentLabel).strip() for s in data.SegmentSequence if int(s.SegmentNumber)}


def open_segmentation(path: Path, names: Mapping[str, int] | None = None) -> SegReader:
    """Open a DICOM SEG as a label. names: the value of each segment by its name; None: its number.

    Raises DataError: fractions, tiles, uneven slices, a segment that is none of `names`.
    """
    header = read_file(path)
    if header is None:
        raise unreadable(path, "it has no image")
    with decoding(path, *ERRORS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SegReader(header, needed("pydicom", path, "DICOM files are read").dcmread(path, force=True), names)


class SegReader(SlicesReader):
    """A label of the numbers of segments, on the grid of the slices that the file has (and of empty ones between)."""

    def __init__(self, header: DicomFile, data: Any, names: Mapping[str, int] | None) -> None:
        """header, data: of the file, the latter whole: a bit for each voxel and segment. names: as above."""
        path, kind = header.path, str(data.get("SegmentationType") or "BINARY")
        if kind not in ("BINARY", "LABELMAP"):
            raise DataError(
                f"{path}: a segmentation of the type {kind} holds probabilities; export it as BINARY, or as NIfTI"
            )
        if "TotalPixelMatrixRows" in data:
            raise DataError(f"{path}: the segmentation of a whole slide in tiles is not read; export it as a TIFF")
        self._names = _names(data)
        self._value = {number: number if names is None else names.get(name) for number, name in self._names.items()}
        if unknown := next((n for number, n in sorted(self._names.items()) if self._value[number] is None), ""):
            raise DataError(
                f"{path}: the segment '{unknown}' is none of the classes that are known ({', '.join(names or ())}); "
                "rename it, or train with it"
            )
        self._header, self._binary = header, kind == "BINARY"
        self._pixels = bytes(data.PixelData) if self._binary else b""
        self._segments = [_segment_of(frame, data) for frame in data.PerFrameFunctionalGroupsSequence]
        lps, numbers = _planes(header)
        self._frames: defaultdict[int, list[int]] = defaultdict(list)
        for frame, number in enumerate(numbers):
            self._frames[number].append(frame)
        count = max(numbers) + 1
        shape = (header.columns, header.rows) if count == 1 else (header.columns, header.rows, count)
        values = sorted((value or 0, self._names[number]) for number, value in self._value.items())
        info = ImageInfo(
            shape=shape,
            channels=1,
            alpha=False,
            dtype="uint8" if max(values, default=(0, ""))[0] < 256 else "uint16",
            mode="grey",
            spacing=tuple(round(float(v), 6) for v in np.linalg.norm(lps[:3, :3], axis=0)[: len(shape)]),
            affine=as_sixteen(LPS_RAS @ lps),
            axes=space_axes(shape),
            unit="mm",
            notes=("segments: " + ", ".join(f"{value} {name}" for value, name in values),),
        )
        super().__init__(path, info)

    def _slice(self, number: int) -> Array:
        rows, columns = self._header.rows, self._header.columns
        label = np.zeros((rows, columns, 1), self.info.dtype)
        by = np.zeros((rows, columns, 1), np.uint16)  # the segment that each voxel is of
        for frame in self._frames.get(number, ()):
            if not self._binary:
                by[:] = stored_pixels(self._header, frame)
                continue
            mask = self._bits(frame * rows * columns, rows * columns).reshape(rows, columns, 1)
            if (taken := by[mask & (by != 0)]).size:
                one, other = (self._names.get(int(n), str(n)) for n in (taken[0], self._segments[frame]))
                raise DataError(
                    f"{self.path}: the segments '{one}' and '{other}' overlap, and a label has one class for each "
                    "voxel; export each segment as a file of its own, and name their folders"
                )
            by[mask] = self._segments[frame]
        for segment in np.unique(by[by != 0]):
            label[by == segment] = self._value.get(int(segment), int(segment))
        return label

    def _bits(self, begin: int, count: int) -> Array:
        """Bits of the packed pixels, as booleans: frames follow each other without a gap, the lowest bit first."""
        first, last = begin // 8, -(-(begin + count) // 8)
        packed = np.frombuffer(self._pixels[first:last], np.uint8)
        if len(packed) < last - first:
            raise unreadable(self.path, f"pixels end at byte {last}, there are {len(self._pixels)}")
        return np.unpackbits(packed, bitorder="little")[begin - 8 * first :][:count].astype(bool)


def _segment_of(frame: Any, data: Any) -> int:
    for place in (frame, *data.get("SharedFunctionalGroupsSequence", ())):
        if "SegmentIdentificationSequence" in place:
            return int(place.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
    return 0


def _planes(header: DicomFile) -> tuple[Array, list[int]]:
    """(affine in LPS, the slice that each frame is of), of slices at even distances of which some may be absent."""
    one = header.slices[0]
    if any(s.position is None or s.orientation is None or s.spacing is None for s in header.slices):
        raise DataError(f"{header.path}: nothing says where the frames of this segmentation lie; export it as NIfTI")
    row, column = np.reshape(one.orientation or (), (2, 3))
    if any(np.abs(np.subtract(s.orientation or (), one.orientation or ())).max() > 1e-3 for s in header.slices):
        raise DataError(f"{header.path}: the frames of this segmentation are turned; export one orientation, or NIfTI")
    normal = np.cross(row, column)
    at = np.array([s.position for s in header.slices])
    along = at @ normal
    first = int(along.argmin())
    gaps = np.diff(np.unique(np.round(along - along.min(), 3)))
    gaps = gaps[gaps > 0.01]
    step = float(gaps.min()) if gaps.size else one.distance or 1.0
    if gaps.size and one.distance and abs(step / one.distance - round(step / one.distance)) < 0.02:
        step = step / max(1, round(step / one.distance))  # every second slice may be empty
    numbers = np.rint((along - along[first]) / step)
    off = np.abs(along - along[first] - numbers * step)
    if off.max() > 0.1 * step:
        raise DataError(
            f"{header.path}: the slices of this segmentation are unevenly spaced ({off.max():.3g} mm off a grid of "
            f"{step:.4g} mm); resample it, as NIfTI"
        )
    last = int(along.argmax())
    way = normal * step if numbers[last] == 0 else (at[last] - at[first]) / numbers[last]
    lps = np.eye(4)
    between_rows, between_columns = one.spacing or (1.0, 1.0)
    lps[:3] = np.stack([row * between_columns, column * between_rows, way, at[first]], axis=1)
    return lps, [int(n) for n in numbers]


def label_over(path: Path, info: ImageInfo, names: Mapping[str, int] | None = None) -> ImageReader:
    """A DICOM SEG as a label on the grid of an image, whose slices it may have only some of: zeros elsewhere.

    info: of the image. names: as for `open_segmentation`. Raises DataError: the voxels of the two do not coincide.
    """
    reader = open_segmentation(path, names)
    if info.affine is None:
        if reader.info.shape == info.shape:
            return reader
        raise DataError(f"{path}: its image does not say where it lies, so that the two cannot be brought together")
    one, other = (np.reshape(i.affine or (), (4, 4)) for i in (reader.info, info))
    between = np.linalg.inv(other) @ one
    offset = np.rint(between[:3, 3])
    away = max(np.abs(between[:3, :3] - np.eye(3)).max() * max(info.shape), np.abs(between[:3, 3] - offset).max())
    if away > 0.1 or len(reader.info.shape) > len(info.shape):
        raise DataError(
            f"{path}: this segmentation lies on another grid than its image; it belongs to another series, or was made "
            "at another resolution: export it on the grid of the image"
        )
    return _OverReader(reader, info, tuple(int(n) for n in offset))


class _OverReader(ImageReader):
    """A label moved by whole voxels."""

    def __init__(self, reader: SegReader, info: ImageInfo, offset: tuple[int, ...]) -> None:
        self._reader, self._offset = reader, offset[: len(info.shape)]
        kept = reader.info
        super().__init__(
            reader.path,
            ImageInfo(
                shape=info.shape, channels=1, alpha=False, dtype=kept.dtype, mode="grey", spacing=info.spacing,
                affine=info.affine, axes=info.axes, unit=info.unit, notes=kept.notes,
            ),
        )  # fmt: skip

    def _read(self, region: Region, palette: PaletteAs, alpha: bool) -> Array:  # noqa: ARG002  (labels have neither)
        out = np.zeros((1, *region.shape), self.info.dtype)
        inner = self._reader.info.shape
        there = Region(self._offset, tuple(o + n for o, n in zip(self._offset, (*inner, 1), strict=False)))
        common = region.intersect(there)
        if common.size:
            part = common.within(there)
            flat = Region(part.start[: len(inner)], part.stop[: len(inner)])
            inside = common.within(region)
            out[(slice(None), *inside.slices)] = self._reader.read(flat).reshape(1, *common.shape)
        return out

    def close(self) -> None:
        """As `ImageReader.close`."""
        self._reader.close()
