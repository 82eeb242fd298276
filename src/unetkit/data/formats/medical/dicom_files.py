"""DICOM files: what their headers say of the slices in them, and the pixels of a slice.

DICOM PS3.3 names every attribute; C.7.6.2 says how position, orientation and spacing place a pixel.
"""

from __future__ import annotations

import functools
import struct
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np

from unetkit.core.errors import DataError
from unetkit.data.formats.base import Array, decoding, unreadable
from unetkit.data.formats.medical.volumes import needed

ERRORS = (
    OSError, EOFError, ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, RuntimeError,
    NotImplementedError, AssertionError, struct.error, zlib.error,
)  # fmt: skip
SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
_IMAGES = "1.2.840.10008.5.1.4.1.1."
_ALONE = ("1", "3", "6", "12", "66", "77", "88", "104")  # PS3.6, table A-1: storage classes of what is no slice
_TAGS = [
    "SOPClassUID", "SeriesInstanceUID", "SeriesDescription", "SeriesNumber", "Modality", "Rows", "Columns",
    "NumberOfFrames", "SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored",
    "PixelRepresentation", "ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "ImagerPixelSpacing",
    "SliceThickness", "SpacingBetweenSlices", "RescaleSlope", "RescaleIntercept", "ModalityLUTSequence",
    "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence",
]  # fmt: skip
_LOSSLESS_JPEG = ("1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70")  # not among those that pydicom decodes alone
_DEFLATED = "1.2.840.10008.1.2.1.99"


@dataclass(frozen=True, slots=True)
class Slice:
    """One slice. path, index: its file, and which frame of it. position: of the centre of its first pixel; orientation:
    directions along a row and along a column (six numbers); both LPS, in mm. spacing: between rows, between columns.
    distance: to the next slice, or the thickness, where the file says. slope, intercept: of its values.
    """

    path: Path
    index: int
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    distance: float | None
    slope: float
    intercept: float


@dataclass(frozen=True, slots=True)
class DicomFile:
    """A file of slices. series: its UID. signed, bits: of the stored values; syntax: how they are compressed."""

    path: Path
    kind: str
    series: str
    description: str
    modality: str
    rows: int
    columns: int
    samples: int
    photometric: str
    signed: bool
    bits: int
    allocated: int
    syntax: str
    slices: tuple[Slice, ...]


def is_dicom(path: Path) -> bool:
    """Whether a file is DICOM, told by its first bytes. Never raises."""
    try:
        with path.open("rb") as file:
            head = file.read(132)
    except OSError:
        return False
    if head[128:] == b"DICM":
        return True
    # files without a preamble begin with their first elements: groups 0002 or 0008, with a type or a small length
    first = head[:2] in (b"\x02\x00", b"\x08\x00") and head[3:4] == b"\0"
    typed = head[4:6].isalpha() and head[4:6].isupper()
    return first and (typed or 0 < int.from_bytes(head[4:8], "little") < 1024)


def is_slice(path: Path) -> bool:
    """Whether a file may be one of the slices of a volume, told by its first bytes: DICOM, and no radiograph, sonogram,
    photograph, report or segmentation, each of which is an image (or none) alone. Never raises."""
    if not is_dicom(path):
        return False
    try:
        with path.open("rb") as file:
            head = file.read(1024)
    except OSError:
        return False
    begin = head.find(b"\x02\x00\x02\x00UI")  # MediaStorageSOPClassUID
    if begin < 0:
        return True
    kind = head[begin + 8 :][: int.from_bytes(head[begin + 6 : begin + 8], "little")].rstrip(b"\0 ").decode("latin-1")
    return not kind.startswith(_IMAGES) or kind.removeprefix(_IMAGES).split(".")[0] not in _ALONE


def read_file(path: Path) -> DicomFile | None:
    """The header of a DICOM file; None: it holds no image (a report, a plan) or is no DICOM at all.

    Raises DataError: damaged, without pixels, values that are not read; MachineError: no pydicom.
    """
    pydicom = needed("pydicom", path, "DICOM files are read")
    if not is_dicom(path):
        return None
    with decoding(path, *ERRORS), warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # of values that break a rule of the standard and are understood
        data = pydicom.dcmread(file, stop_before_pixels=True, specific_tags=_TAGS, force=True)
        if "Rows" not in data or "Columns" not in data:
            return None
        found = _understood(path, data)
        if found.syntax != _DEFLATED:
            _check_pixels(path, file, data, found)
    return found


def _understood(path: Path, data: Any) -> DicomFile:
    count = int(data.get("NumberOfFrames") or 1)
    shared = _first(data, "SharedFunctionalGroupsSequence")
    frames = data.get("PerFrameFunctionalGroupsSequence") or [None] * count
    slices = tuple(_slice(path, index, data, shared, own) for index, own in enumerate(frames[:count]))
    meta = getattr(data, "file_meta", None)
    return DicomFile(
        path=path,
        kind=str(data.get("SOPClassUID") or ""),
        series=str(data.get("SeriesInstanceUID") or ""),
        description=str(data.get("SeriesDescription") or "").strip(),
        modality=str(data.get("Modality") or "").strip(),
        rows=int(data.Rows),
        columns=int(data.Columns),
        samples=int(data.get("SamplesPerPixel") or 1),
        photometric=str(data.get("PhotometricInterpretation") or "MONOCHROME2"),
        signed=bool(data.get("PixelRepresentation")),
        bits=int(data.get("BitsStored") or data.get("BitsAllocated") or 0),
        allocated=int(data.get("BitsAllocated") or 0),
        syntax=str(meta.get("TransferSyntaxUID") or "") if meta is not None else "",
        slices=slices,
    )


def _slice(path: Path, index: int, data: Any, shared: Any, own: Any) -> Slice:
    """Of one frame: what its file says, or all frames share, or it says itself (the last is the most particular)."""

    def find(group: str, name: str) -> Any:
        for place in (own, shared):
            inner = _first(place, group)
            if inner is not None and inner.get(name) is not None:
                return inner.get(name)
        return data.get(name)

    transform, measures = "PixelValueTransformationSequence", "PixelMeasuresSequence"
    slope, intercept = find(transform, "RescaleSlope"), find(transform, "RescaleIntercept")
    if slope is None and "ModalityLUTSequence" in data:
        raise DataError(
            f"{path}: what its values mean is in a table (Modality LUT), which is not read; export it again with a "
            "rescale slope and intercept, or as NIfTI"
        )
    distance = find(measures, "SpacingBetweenSlices") or find(measures, "SliceThickness")
    return Slice(
        path,
        index,
        _numbers(find("PlanePositionSequence", "ImagePositionPatient"), 3),
        _numbers(find("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        _numbers(find(measures, "PixelSpacing") or data.get("ImagerPixelSpacing"), 2),
        abs(float(distance)) if distance else None,
        1.0 if slope is None else float(slope),
        0.0 if intercept is None else float(intercept),
    )


def _first(data: Any, name: str) -> Any:
    sequence = None if data is None else data.get(name)
    return sequence[0] if sequence else None


def _numbers(values: Any, count: int) -> tuple[float, ...] | None:
    if values is None or isinstance(values, str) or len(values) != count:
        return None
    found = tuple(float(v) for v in values)
    return found if all(np.isfinite(found)) else None


def _check_pixels(path: Path, file: Any, data: Any, found: DicomFile) -> None:
    """That the pixels are there, all of them, where that can be told. `file` stands where they begin."""
    implicit, little = data.original_encoding
    order: Literal["little", "big"] = "little" if little is not False else "big"
    head = file.read(12)
    tag = tuple(int.from_bytes(head[k : k + 2], order) for k in (0, 2))
    if tag != (0x7FE0, 0x0010):
        raise DataError(
            f"{path}: the file has no pixel data (a header alone, or pixels of floats); export it again with its pixels"
        )
    long = implicit or head[4:6] not in (b"OB", b"OW", b"UN")
    begin = file.tell() - (4 if long else 0)
    length = int.from_bytes(head[4:8] if long else head[8:12], order)
    size = path.stat().st_size
    if length == 0xFFFFFFFF:  # compressed frames, which say themselves how long they are
        return
    bits = len(found.slices) * found.rows * found.columns * found.samples * found.allocated
    if found.photometric == "YBR_FULL_422":
        bits = bits * 2 // 3
    if begin + -(-bits // 8) > size:
        raise unreadable(path, f"pixels end at byte {begin + -(-bits // 8)}, the file at byte {size}")


def refuse_pixels(file: DicomFile) -> None:
    """Raises DataError where the values of a file are of a kind that is not read, or compressed in an unknown way."""
    path = file.path
    if file.photometric == "PALETTE COLOR":
        raise DataError(f"{path}: its values stand for colours of a table; export it as grey or RGB")
    if file.samples not in (1, 3) or file.allocated not in (8, 16, 32):
        raise DataError(
            f"{path}: {file.samples} values of {file.allocated} bits for each pixel are not read; export it as grey of "
            "8 or 16 bits, or as RGB"
        )
    _check_decoder(path, file.syntax)


@functools.lru_cache(maxsize=64)
def _decoded_by_pydicom(syntax: str) -> str | None:
    """ "" where it can decode a compression; else its name. None: no such is known."""
    from pydicom.pixels import get_decoder
    from pydicom.uid import UID

    uid = UID(syntax)
    try:
        if not uid or syntax == _DEFLATED or not uid.is_compressed:
            return ""
        return "" if get_decoder(uid).is_available else str(uid.name)
    except (NotImplementedError, ValueError):
        return None


def _check_decoder(path: Path, syntax: str) -> None:
    name = "" if syntax in _LOSSLESS_JPEG else _decoded_by_pydicom(syntax)
    if name is None:
        raise DataError(f"{path}: pixels compressed as {syntax} are not read; export it uncompressed")
    if name:
        raise DataError(
            f"{path}: its pixels are compressed as '{name}', which needs a decoder that is not installed: "
            "pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
        )


def stored_pixels(file: DicomFile, index: int) -> Array:
    """The pixels (rows, columns, samples) of a frame as stored. Raises DataError: damaged."""
    import pydicom

    with decoding(file.path, *ERRORS), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        decode = _lossless if file.syntax in _LOSSLESS_JPEG else _by_pydicom
        return np.asarray(decode(file, index, pydicom)).reshape(file.rows, file.columns, file.samples)


def _by_pydicom(file: DicomFile, index: int, pydicom: Any) -> Array:
    source: Any = file.path
    if file.syntax in ("", _DEFLATED):  # not to be entered in the middle
        source = pydicom.dcmread(file.path, force=True)
    if not file.syntax:  # without a preamble, nothing says how it is stored but how it was understood
        implicit, uid = source.original_encoding[0], pydicom.uid
        source.file_meta = pydicom.dataset.FileMetaDataset()
        source.file_meta.TransferSyntaxUID = uid.ImplicitVRLittleEndian if implicit else uid.ExplicitVRLittleEndian
    pixels: Array = pydicom.pixels.pixel_array(source, index=index)
    return pixels


def _lossless(file: DicomFile, index: int, pydicom: Any) -> Array:
    data = pydicom.dcmread(file.path, specific_tags=["PixelData"], force=True)
    packed = pydicom.encaps.get_frame(data.PixelData, index, number_of_frames=len(file.slices))
    try:
        pixels: Array = imagecodecs.jpeg8_decode(packed)
    except imagecodecs.Jpeg8Error as error:
        raise unreadable(file.path, error) from None
    if file.signed:
        spare = 8 * pixels.dtype.itemsize - file.bits  # the sign stands in the highest bit that is stored
        signed = pixels.view(f"i{pixels.dtype.itemsize}")
        pixels = (signed << spare) >> spare
    return pixels


def range_of(files: Sequence[DicomFile]) -> np.dtype[Any]:
    """The type that holds the values of slices after their slope and intercept: integers where they stay integers."""
    low, high, whole, plain = 0.0, 0.0, True, True
    for file in files:
        least, most = (-(2 ** (file.bits - 1)), 2 ** (file.bits - 1) - 1) if file.signed else (0, 2**file.bits - 1)
        for each in file.slices:
            ends = (least * each.slope + each.intercept, most * each.slope + each.intercept)
            low, high = min(low, *ends), max(high, *ends)
            whole = whole and each.slope.is_integer() and each.intercept.is_integer()
            plain = plain and (each.slope, each.intercept) == (1, 0)
    if plain and len({(f.signed, f.allocated) for f in files}) == 1:
        return np.dtype(f"{'i' if files[0].signed else 'u'}{files[0].allocated // 8}")
    for kind in (np.int16, np.int32):
        if whole and np.iinfo(kind).min <= low and high <= np.iinfo(kind).max:
            return np.dtype(kind)
    return np.dtype(np.float32)
