"""Medical files for tests: a DICOM series of any array and affine, and where libraries say that a voxel lies."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from nibabel.orientations import inv_ornt_aff

LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
TILTED = np.array([[-0.8, 0.1, 0, 40], [0.1, 0.8, 0, -30], [0, 0, 2.5, 12], [0, 0, 0, 1]])
CODES = tuple(
    "".join(code)
    for order in itertools.permutations(("RL", "AP", "SI"))
    for code in itertools.product(*order)
)  # fmt: skip


def affine_of(code: str, shape: tuple[int, int, int], base: np.ndarray | None = None) -> np.ndarray:
    """The affine of a volume of `shape` whose axes point as `code` says: of `base` (default: 0.9, 1.1, 2.5 mm), whose
    voxels are put into the order of the code."""
    base = np.array([[0.9, 0, 0, -21.5], [0, 1.1, 0, 13.25], [0, 0, 2.5, -7], [0, 0, 0, 1.0]]) if base is None else base
    turn = nibabel.orientations.ornt_transform(
        nibabel.orientations.axcodes2ornt("RAS"), nibabel.orientations.axcodes2ornt(code)
    )
    before = [0, 0, 0]
    for axis, (to, _) in enumerate(turn):
        before[axis] = shape[int(to)]
    found: np.ndarray = base @ inv_ornt_aff(turn, before)
    assert "".join(nibabel.aff2axcodes(found)) == code
    return found


def oblique(degrees: tuple[float, float, float] = (20, -35, 50)) -> np.ndarray:
    """An affine turned about all three axes."""
    turn = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        one = np.eye(3)
        a, b = [k for k in range(3) if k != axis]
        one[[a, a, b, b], [a, b, a, b]] = np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)
        turn = turn @ one
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag([0.7, 0.8, 3.1])
    affine[:3, 3] = (-101.5, 33.25, 512.125)
    return affine


def point_of_info(affine: tuple[float, ...] | None, index: tuple[int, ...]) -> np.ndarray:
    """Where our reader says that a voxel lies (RAS)."""
    assert affine is not None
    return (np.reshape(affine, (4, 4)) @ [*index, *(0,) * (3 - len(index)), 1])[:3]


def point_in_sitk(path: Path, index: tuple[int, ...]) -> np.ndarray:
    """Where SimpleITK says that a voxel of a file lies (turned to RAS)."""
    import SimpleITK

    image = SimpleITK.ReadImage(str(path))
    full = (*index, 0, 0)[: image.GetDimension()]
    return np.array([*image.TransformIndexToPhysicalPoint(full), 0])[:3] * (-1, -1, 1)


def point_in_nibabel(path: Path, index: tuple[int, ...]) -> np.ndarray:
    """Where nibabel says that a voxel of a file lies."""
    return (nibabel.load(path).affine @ [*index, *(0,) * (3 - len(index)), 1])[:3]


def data_set(rows: int, columns: int, kind: str = "CT", **values: Any) -> Any:
    """A DICOM data set of one slice, without pixels; `values` replace or add attributes, None removes them."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, generate_uid

    found = Dataset()
    base = {
        "SOPClassUID": CTImageStorage if kind == "CT" else MRImageStorage, "SOPInstanceUID": generate_uid(),
        "StudyInstanceUID": "1.2.3.1", "SeriesInstanceUID": "1.2.3.2", "FrameOfReferenceUID": "1.2.3.3",
        "Modality": kind, "PatientID": "p1", "PatientName": "Test^Person", "PatientBirthDate": "", "PatientSex": "",
        "AccessionNumber": "", "StudyID": "", "StudyDate": "", "StudyTime": "", "ReferringPhysicianName": "",
        "PositionReferenceIndicator": "", "SeriesDescription": "thorax", "SeriesNumber": 1, "InstanceNumber": 1,
        "Rows": rows, "Columns": columns, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15, "PixelRepresentation": 1,
    }  # fmt: skip
    for name, value in (base | values).items():
        if value is not None:
            setattr(found, name, value)
    found.file_meta = FileMetaDataset()
    found.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return found


def decimal(value: float) -> str:
    """A number as DICOM writes it: at most 16 characters."""
    return next(text for digits in range(15, 3, -1) if len(text := f"{value:.{digits}g}") <= 16)


def write_series(folder: Path, array: np.ndarray, affine: np.ndarray, seed: int = 0, **values: Any) -> Path:
    """Write (X, Y, Z[, colours]) as a series, a file for each slice, whose names say nothing of their order."""
    folder.mkdir(parents=True, exist_ok=True)
    lps = LPS @ affine
    sizes = np.linalg.norm(lps[:3, :3], axis=0)
    names = np.random.default_rng(seed).permutation(array.shape[2])
    for k in range(array.shape[2]):
        pixels = np.ascontiguousarray(np.swapaxes(array[:, :, k], 0, 1))
        stored = {
            "BitsAllocated": 8 * pixels.itemsize, "BitsStored": 8 * pixels.itemsize, "HighBit": 8 * pixels.itemsize - 1,
            "PixelRepresentation": int(pixels.dtype.kind == "i"), "InstanceNumber": int(names[k]) + 1,
            "ImagePositionPatient": [decimal(v) for v in (lps @ [0, 0, k, 1])[:3]],
            "ImageOrientationPatient": [decimal(v) for v in (lps[:3, :2] / sizes[:2]).T.ravel()],
            "PixelSpacing": [decimal(sizes[1]), decimal(sizes[0])], "SliceThickness": decimal(sizes[2]),
        }  # fmt: skip
        one = {name: value[k] if isinstance(value, list) and len(value) == array.shape[2] else value
               for name, value in values.items()}  # fmt: skip
        found = data_set(pixels.shape[0], pixels.shape[1], **(stored | one))
        found.PixelData = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        found.save_as(folder / f"IM{names[k]:04d}.dcm", enforce_file_format=True)
    return folder


def multi_frame(path: Path, array: np.ndarray, heights: list[float] | None) -> Path:
    """An enhanced file of several frames; without heights, one that does not say where they lie."""
    from pydicom.dataset import Dataset
    from pydicom.uid import EnhancedMRImageStorage

    found = data_set(array.shape[1], array.shape[0], "MR", SOPClassUID=EnhancedMRImageStorage)
    found.NumberOfFrames = array.shape[2]
    found.PixelData = np.ascontiguousarray(array.T).tobytes()
    if heights is not None:
        shared, measures, turn = Dataset(), Dataset(), Dataset()
        measures.PixelSpacing, measures.SliceThickness = [1.5, 0.5], 3
        turn.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [turn]
        found.SharedFunctionalGroupsSequence = [shared]
        found.PerFrameFunctionalGroupsSequence = []
        for height in heights:
            frame, position, values = Dataset(), Dataset(), Dataset()
            position.ImagePositionPatient = [1, 2, height]
            values.RescaleSlope, values.RescaleIntercept = 2, 1
            frame.PlanePositionSequence, frame.PixelValueTransformationSequence = [position], [values]
            found.PerFrameFunctionalGroupsSequence.append(frame)
    found.save_as(path, enforce_file_format=True)
    return path
