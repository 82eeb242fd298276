"""DICOM SEG: masks that refer to their series, and such files as labels, on their own grid and on that of an image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medical_files import TILTED, affine_of, multi_frame, write_series
from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover
from unetkit.data.formats import TargetClass, create_image, open_image, probe
from unetkit.data.formats.medical.dicom_seg_read import class_names, is_segmentation, label_over, segment_names
from unetkit.data.labels.masks import read_label
from unetkit.evaluate import evaluate_folders

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")
highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")

SHAPE = (9, 7, 6)
AXIAL = affine_of("LPS", SHAPE)
CLASSES = (
    TargetClass("background", 0, (0, 0, 0)),
    TargetClass("liver", 127, (230, 159, 0)),
    TargetClass("tumour", 255, (86, 180, 233)),
)


def label() -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[2:5, 1:4, 2:4], found[6, 5, 3] = 127, 255
    return found


def series(tmp_path: Path, **values: Any) -> Path:
    array = np.random.default_rng(1).integers(-500, 500, SHAPE).astype(np.int16)
    return write_series(tmp_path / "ct", array, AXIAL, **values)


def segment(path: Path, like: Path, array: np.ndarray, classes: tuple[TargetClass, ...] = CLASSES) -> Path:
    array_CX = array if array.ndim > 3 else array[None]
    with create_image(path, SHAPE, len(array_CX), array.dtype, like=like, classes=classes) as writer:
        for band in writer.bands(70):
            writer.write(band, array_CX[(slice(None), *band.slices)])
    return path


def by_highdicom(path: Path, like: Path, masks_ZYXK: np.ndarray, kind: str = "BINARY", **options: Any) -> Path:
    """A segmentation as other programs write it."""
    files = sorted((pydicom.dcmread(p) for p in like.iterdir()), key=lambda d: d.ImagePositionPatient[2])
    code = pydicom.sr.codedict.codes.SCT.Tissue
    segments = [
        highdicom.seg.SegmentDescription(n + 1, f"part {n + 1}", code, code, "MANUAL")
        for n in range(masks_ZYXK.shape[-1])
    ]
    uid = pydicom.uid.generate_uid
    made = highdicom.seg.Segmentation(
        files, masks_ZYXK, kind, segments, uid(), 7, uid(), 1, "maker", "model", "1", "2", **options
    )
    made.save_as(path)
    return path


def test_a_mask_is_a_segment_for_each_class(tmp_path: Path) -> None:
    like = series(tmp_path)
    path = segment(tmp_path / "seg.dcm", like, label())
    assert is_segmentation(path)
    found = pydicom.dcmread(path)
    assert (found.SegmentationType, found.Modality, found.NumberOfFrames) == ("BINARY", "SEG", 12)
    sources = {pydicom.dcmread(p).SOPInstanceUID for p in like.iterdir()}
    (referred,) = found.ReferencedSeriesSequence
    assert referred.SeriesInstanceUID == "1.2.3.2"
    assert {r.ReferencedSOPInstanceUID for r in referred.ReferencedInstanceSequence} == sources
    assert (found.PatientID, found.StudyInstanceUID, found.FrameOfReferenceUID) == ("p1", "1.2.3.1", "1.2.3.3")
    first = found.SegmentSequence[0]
    assert (first.SegmentLabel, first.SegmentAlgorithmType, first.SegmentAlgorithmName) == (
        "liver", "AUTOMATIC", "unetkit",
    )  # fmt: skip
    colour = highdicom.color.CIELabColor.from_rgb(230, 159, 0)
    assert tuple(first.RecommendedDisplayCIELabValue) == colour.value
    assert segment_names(path) == {1: "liver", 2: "tumour"}
    with open_image(path) as reader:
        assert (reader.info.shape, reader.info.dtype, reader.info.notes) == (
            SHAPE, "uint8", ("segments: 1 liver, 2 tumour",),
        )  # fmt: skip
        np.testing.assert_array_equal(reader.read()[0], np.searchsorted([0, 127, 255], label()))


def test_equal_masks_differ_in_identifiers_alone(tmp_path: Path) -> None:
    like = series(tmp_path)
    one, other = (pydicom.dcmread(segment(tmp_path / name, like, label())) for name in ("a.dcm", "b.dcm"))
    differ = {e.keyword for e in one if e != other.get(e.tag)}
    assert differ <= {
        "SOPInstanceUID", "SeriesInstanceUID", "DimensionOrganizationSequence", "DimensionIndexSequence",
        "ContributingEquipmentSequence", "InstanceCreationTime", "ContentTime",
        "SeriesTime", "InstanceCreationDate", "ContentDate", "SeriesDate",
    }  # fmt: skip


def test_classes_that_overlap_and_masks_of_nothing(tmp_path: Path) -> None:
    like = series(tmp_path)
    both = np.zeros((2, *SHAPE), np.uint8)
    both[0, 2:6, 2:5, 1:4], both[1, 4:8, 2:5, 2:5] = 1, 1
    path = segment(tmp_path / "both.dcm", like, both)
    whole = highdicom.seg.segread(path).get_volume()
    np.testing.assert_array_equal(np.moveaxis(whole.array, -1, 0).sum((1, 2, 3)), both.sum((1, 2, 3)))
    with pytest.raises(DataError) as error, open_image(path) as reader:
        reader.read()
    assert str(error.value) == (
        f"{path}: the segments 'liver' and 'tumour' overlap, and a label has one class for each voxel; export each "
        "segment as a file of its own, and name their folders"
    )
    path = segment(tmp_path / "nothing.dcm", like, label() * 0)
    with open_image(path) as reader:
        assert reader.info.shape == SHAPE
        assert not reader.read().any()
    segment(tmp_path / "unnamed.dcm", like, label(), ())
    assert segment_names(tmp_path / "unnamed.dcm") == {1: "class 127", 2: "class 255"}


def test_a_mask_of_one_slice_and_of_a_file_of_frames(tmp_path: Path) -> None:
    path = sorted(series(tmp_path).iterdir())[2]
    with create_image(tmp_path / "seg.dcm", SHAPE[:2], 1, "uint8", like=path, classes=CLASSES) as writer:
        writer.write(Region.of(SHAPE[:2]), label()[..., 2])
    with open_image(tmp_path / "seg.dcm") as reader:
        np.testing.assert_array_equal(reader.read()[0], label()[..., 2] // 127)
        for index in ([0, 0, 0, 1], [8, 6, 0, 1]):
            ours, true = (np.reshape(i.affine, (4, 4)) @ index for i in (reader.info, probe(path)))
            np.testing.assert_allclose(ours, true, atol=1e-6)
    like = multi_frame(tmp_path / "frames.dcm", np.zeros(SHAPE, np.int16), [9.0, 6.0, 12.0, 0.0, 3.0, 15.0])
    with open_image(segment(tmp_path / "segs.dcm", like, label())) as reader:
        np.testing.assert_array_equal(reader.read()[0], np.searchsorted([0, 127, 255], label()))
        np.testing.assert_allclose(reader.info.affine, probe(like).affine, atol=1e-6)


def test_segmentations_of_others_lack_empty_slices(tmp_path: Path) -> None:
    like = series(tmp_path)
    masks = np.zeros((*SHAPE[::-1], 2), np.uint8)
    masks[1, 2:4, 3:6, 0] = masks[4, 5, 5, 1] = 1  # slices 1 and 4 of 0 … 5
    path = by_highdicom(tmp_path / "other.dcm", like, masks)
    assert pydicom.dcmread(path).NumberOfFrames == 2
    true = np.zeros(SHAPE, np.uint8)
    true[3:6, 2:4, 1], true[5, 5, 4] = 1, 2
    info = probe(like)
    with open_image(path) as reader:
        assert reader.info.shape == (9, 7, 4)
        np.testing.assert_array_equal(reader.read()[0], true[..., 1:5])
    with label_over(path, info) as reader:
        assert (reader.info.shape, reader.info.affine) == (SHAPE, info.affine)
        np.testing.assert_array_equal(reader.read()[0], true)
        part = Region((2, 1, 0), (8, 6, 3))
        np.testing.assert_array_equal(reader.read(part)[0], true[part.slices])
    masks[4] = 0
    with label_over(by_highdicom(tmp_path / "single.dcm", like, masks[..., :1]), info) as reader:
        np.testing.assert_array_equal(reader.read()[0], np.where(true == 1, 1, 0))
    other = write_series(tmp_path / "elsewhere", np.zeros(SHAPE, np.int16), TILTED)
    with pytest.raises(
        DataError, match=r"other.dcm: this segmentation lies on another grid than its image; it belongs"
    ):
        label_over(path, probe(other))


def test_segmentations_that_are_no_labels(tmp_path: Path) -> None:
    like = series(tmp_path)
    masks = np.random.default_rng(0).random((*SHAPE[::-1], 1)).astype(np.float32)
    path = by_highdicom(tmp_path / "f.dcm", like, masks, "FRACTIONAL")
    with pytest.raises(DataError) as error:
        open_image(path)
    assert str(error.value) == (
        f"{path}: a segmentation of the type FRACTIONAL holds probabilities; export it as BINARY, or as NIfTI"
    )
    path = by_highdicom(tmp_path / "cut.dcm", like, (masks > 0.5).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"cut.dcm: the file is truncated or damaged \(pixels end at byte"):
        open_image(path)
    assert not is_segmentation(next(like.iterdir()))
    assert not is_segmentation(tmp_path / "absent.dcm")


def test_label_maps_are_labels(tmp_path: Path) -> None:
    like = series(tmp_path)
    masks = np.zeros((*SHAPE[::-1], 2), np.uint8)
    masks[1, 2:4, 3:6, 0] = masks[4, 5, 5, 1] = 1
    with open_image(by_highdicom(tmp_path / "map.dcm", like, masks, "LABELMAP", omit_empty_frames=False)) as reader:
        np.testing.assert_array_equal(reader.read()[0], (masks[..., 0] + 2 * masks[..., 1]).T)


def test_masks_that_cannot_be_segmentations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    like = series(tmp_path)
    with create_image(tmp_path / "image.nii.gz", SHAPE, 1, "int16") as writer:
        writer.write(Region.of(SHAPE), np.zeros(SHAPE, np.int16))
    with pytest.raises(DataError) as error:
        create_image(tmp_path / "m.dcm", SHAPE, 1, "uint8", like=tmp_path / "image.nii.gz", classes=CLASSES)
    assert str(error.value) == (
        f"{tmp_path}/m.dcm: a DICOM SEG refers to the DICOM series that it lies over, and {tmp_path}/image.nii.gz is "
        "none; write another format, such as .nii.gz"
    )
    with pytest.raises(
        DataError, match=r"m.dcm: a DICOM SEG holds classes, not values of float32; write .nii.gz for these"
    ):
        create_image(tmp_path / "m.dcm", SHAPE, 1, "float32", like=like, classes=CLASSES)
    with pytest.raises(ValueError, match="has the value 9, which is no class"):
        segment(tmp_path / "m.dcm", like, label() // 127 * 9)
    with pytest.raises(
        DataError, match=r"m.dcm: a DICOM SEG is written of 1 to 255 classes, not of 0; write another format"
    ):
        segment(tmp_path / "m.dcm", like, label() * 0, ())
    for path in like.iterdir():
        found = pydicom.dcmread(path)
        del found.StudyInstanceUID
        found.save_as(path)
    with pytest.raises(
        DataError, match=r"m.dcm: no DICOM SEG can refer to the series .*ct \(.*StudyInstanceUID.*\); write"
    ):
        segment(tmp_path / "m.dcm", like, label())
    assert not (tmp_path / "m.dcm").exists()

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    monkeypatch.setattr("unetkit.data.formats.medical.volumes.importlib.import_module", missing)
    from unetkit.data.formats.base import Target
    from unetkit.data.formats.medical.dicom_seg import SegWriter

    with pytest.raises(MachineError) as missed:
        SegWriter(Target(tmp_path / "m.dcm", SHAPE, 1, np.dtype(np.uint8), like=like, classes=CLASSES))
    assert str(missed.value) == (
        f"{tmp_path}/m.dcm: DICOM segmentations are written with the highdicom package, which is not installed: "
        "pip install 'unetkit[medical]'"
    )


def test_segmentations_are_the_masks_of_a_data_set(tmp_path: Path) -> None:
    true = np.searchsorted([0, 127, 255], label()).astype(np.uint8)
    for number in range(3):
        array = np.random.default_rng(number).integers(-500, 500, SHAPE).astype(np.int16)
        like = write_series(tmp_path / "set" / "images" / f"p{number}", array, AXIAL, SeriesInstanceUID=f"1.2.{number}")
        classes = CLASSES if number else (TargetClass("tumour", 127, (0, 0, 0)), TargetClass("liver", 255, (0, 0, 0)))
        mask = label() if number else np.select([label() == 255, label() == 127], [127, 255]).astype(np.uint8)
        (tmp_path / "set" / "masks").mkdir(exist_ok=True)
        segment(tmp_path / "set" / "masks" / f"p{number}.dcm", like, mask, classes)
    masks = sorted((tmp_path / "set" / "masks").iterdir())
    assert [segment_names(path)[1] for path in masks] == ["tumour", "liver", "liver"]
    found = discover(tmp_path / "set")
    assert found.class_names == class_names(masks) == {0: "background", 1: "liver", 2: "tumour"}
    diagnosis = examine(found)
    assert not diagnosis.stops
    assert diagnosis.legend.names == ("background", "liver", "tumour")
    for case in found.cases:  # by name, whatever numbers the segments have in each file
        np.testing.assert_array_equal(read_label(case, diagnosis.legend)[0], true)
    assert evaluate_folders(tmp_path / "set" / "masks", tmp_path / "set").mean("dice").mean == pytest.approx(1)
    with pytest.raises(DataError) as error:
        label_over(masks[0], probe(found.cases[0].images[0]), {"background": 0, "liver": 1})
    assert str(error.value) == (
        f"{masks[0]}: the segment 'tumour' is none of the classes that are known (background, liver); rename it, or "
        "train with it"
    )
