"""DICOM series as volumes: in order whatever their names say, values by slope and intercept, and every way in which a
folder of slices is none, by the message that it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest

from medical_files import TILTED, affine_of, data_set, multi_frame, write_series
from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.doctor.examine import examine
from unetkit.data.find.discover import discover
from unetkit.data.formats import Reading, create_image, image_paths, is_series, open_image, probe
from unetkit.data.formats.medical import voxels as raw
from unetkit.data.formats.medical.dicom import are_slices
from unetkit.data.formats.medical.dicom import open_image as open_dicom

pydicom = pytest.importorskip("pydicom", reason="pydicom is not installed")

SHAPE = (9, 7, 5)
AXIAL = affine_of("LPS", SHAPE)


def array_of(dtype: str = "int16", shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 120, shape).astype(dtype)


def change(path: Path, **values: Any) -> Path:
    """Attributes of a file replaced; None removes one."""
    found = pydicom.dcmread(path)
    for name, value in values.items():
        if value is None:
            delattr(found, name)
        else:
            setattr(found, name, value)
    found.save_as(path)
    return path


def in_order(folder: Path) -> list[Path]:
    """The files from the lowest slice to the highest."""
    return sorted(folder.iterdir(), key=lambda p: float(pydicom.dcmread(p).ImagePositionPatient[2]))


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as error:
        probe(path)
    return str(error.value)


def test_slices_come_in_the_order_of_their_positions(tmp_path: Path) -> None:
    array = array_of()
    folder = write_series(tmp_path / "ct", array, AXIAL, seed=5)
    numbers = [int(pydicom.dcmread(p).InstanceNumber) for p in in_order(folder)]
    assert numbers != sorted(numbers)
    with open_image(folder) as reader:
        assert (reader.info.shape, reader.info.dtype, reader.info.channels) == (SHAPE, "int16", 1)
        assert (reader.info.axes, reader.info.unit, reader.info.spacing) == ("XYZ", "mm", (0.9, 1.1, 2.5))
        np.testing.assert_array_equal(reader.read()[0], array)
        np.testing.assert_allclose(np.reshape(reader.info.affine, (4, 4)), AXIAL, atol=1e-9)
    for file in list(folder.iterdir()):  # names without suffix, as scanners write them
        file.rename(file.with_suffix(""))
    assert is_series(folder)
    np.testing.assert_array_equal(open_image(folder).read()[0], array)


def test_only_the_slices_of_a_region_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unetkit.data.formats.medical import dicom

    array, decoded = array_of(), []
    decode = dicom.stored_pixels
    monkeypatch.setattr(dicom, "stored_pixels", lambda f, n: decoded.append(f.path) or decode(f, n))
    for memory in (10**9, 0):
        monkeypatch.setattr(raw, "IN_MEMORY", memory)
        with open_image(write_series(tmp_path / "ct", array, AXIAL)) as reader:
            decoded.clear()
            for part in (Region((2, 1, 1), (8, 6, 3)), Region((0, 0, 2), (9, 7, 3)), Region((4, 4, 1), (4, 4, 1))):
                np.testing.assert_array_equal(reader.read(part)[0], array[part.slices])
            assert len(decoded) == 2
            np.testing.assert_array_equal(reader.read()[0], array)
            assert len(decoded) == len(set(decoded)) == 5


@pytest.mark.parametrize(
    ("stored", "bits", "slope", "intercept", "dtype"),
    [
        ("uint8", 8, None, None, "uint8"), ("uint16", 16, None, None, "uint16"), ("int16", 16, 1, 0, "int16"),
        ("uint16", 12, 1, -1024, "int16"), ("uint16", 16, 1, -1024, "int32"), ("int16", 16, 2, 0, "int32"),
        ("uint16", 16, 0.5, 0, "float32"), ("uint16", 16, [1, 2, 0.25, 1, 1], 0, "float32"),
    ],
)  # fmt: skip
def test_values_are_those_of_slope_and_intercept(tmp_path, stored, bits, slope, intercept, dtype) -> None:
    array = array_of(stored)
    values: dict[str, Any] = {} if slope is None else {"RescaleSlope": slope, "RescaleIntercept": intercept}
    folder = write_series(tmp_path / "ct", array, AXIAL, BitsStored=bits, HighBit=bits - 1, **values)
    with open_image(folder) as reader:
        assert reader.info.dtype == dtype
        true = array * np.array(1 if slope is None else slope, float) + (intercept or 0)
        np.testing.assert_array_equal(reader.read()[0], true)


def test_colours_and_inverted_greys(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "grey", array_of("uint8"), AXIAL, PhotometricInterpretation="MONOCHROME1")
    assert probe(folder).notes == (
        "high values are meant to be shown dark (MONOCHROME1); they are read as they are stored",
    )
    colours = array_of("uint8", (*SHAPE, 3))
    kinds = {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    with open_image(write_series(tmp_path / "rgb", colours, AXIAL, **kinds)) as reader:
        assert (reader.info.channels, reader.info.mode) == (3, "rgb")
        np.testing.assert_array_equal(reader.read(), np.moveaxis(colours, -1, 0))
    folder = write_series(tmp_path / "palette", array_of("uint8"), AXIAL, PhotometricInterpretation="PALETTE COLOR")
    assert "its values stand for colours of a table; export it as grey or RGB" in refusal(folder)


def test_one_slice_is_an_image(tmp_path: Path) -> None:
    array = array_of()
    path = in_order(write_series(tmp_path / "ct", array, AXIAL))[3]
    with open_image(path) as reader:
        assert (reader.info.shape, reader.info.axes, reader.info.spacing) == ((9, 7), "XY", (0.9, 1.1))
        np.testing.assert_array_equal(reader.read(Region((1, 2), (5, 6)))[0], array[1:5, 2:6, 3])
        np.testing.assert_allclose(
            np.reshape(reader.info.affine, (4, 4)) @ [1, 1, 0, 1], AXIAL @ [1, 1, 3, 1], atol=1e-9
        )
    with create_image(tmp_path / "m.nii.gz", (9, 7), 1, "uint8", like=path) as writer:
        writer.write(Region.of((9, 7)), np.ones((9, 7), np.uint8))
    info = probe(tmp_path / "m.nii.gz")
    assert info.shape == (9, 7)
    np.testing.assert_allclose(info.affine, reader.info.affine, atol=1e-5)


def test_files_of_several_frames(tmp_path: Path) -> None:
    array = array_of()
    path = multi_frame(tmp_path / "a.dcm", array, [9.0, 6.0, 12.0, 0.0, 3.0])
    with open_image(path) as reader:
        assert (reader.info.shape, reader.info.spacing, reader.info.dtype) == (SHAPE, (0.5, 1.5, 3.0), "int32")
        np.testing.assert_array_equal(reader.read()[0], array[:, :, [3, 4, 1, 0, 2]] * 2 + 1)
        np.testing.assert_allclose(
            np.reshape(reader.info.affine, (4, 4)), [[-0.5, 0, 0, -1], [0, -1.5, 0, -2], [0, 0, 3, 0], [0, 0, 0, 1]]
        )
    info = probe(multi_frame(tmp_path / "b.dcm", array, None))
    assert (info.shape, info.affine, info.spacing) == (SHAPE, None, None)
    assert info.notes == ("nothing says where its frames lie; they are read as slices in their order",)
    path = multi_frame(tmp_path / "c.dcm", array, [0.0, 3.0, 3.0, 6.0, 9.0])
    assert "two slices are at one position: c.dcm, frame 2 and c.dcm, frame 3 (both at 3.00 mm)" in refusal(path)


@pytest.mark.parametrize("kind", ["rle", "lossless jpeg", "deflated", "implicit", "big endian", "bare"])
def test_ways_to_store_pixels(tmp_path: Path, kind: str) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import (
        DeflatedExplicitVRLittleEndian,
        ExplicitVRBigEndian,
        ImplicitVRLittleEndian,
        JPEGLosslessSV1,
        RLELossless,
    )

    array = array_of("int16") - 60
    folder = write_series(tmp_path / "ct", array, AXIAL)
    for path in folder.iterdir():
        found = pydicom.dcmread(path)
        meta = found.file_meta
        if kind == "rle":
            found.compress(RLELossless)
        elif kind == "lossless jpeg":
            packed = imagecodecs.jpeg8_encode(found.pixel_array.view(np.uint16), lossless=True, bitspersample=16)
            found.PixelData, meta.TransferSyntaxUID = encapsulate([packed]), JPEGLosslessSV1
            found["PixelData"].VR = "OB"
        elif kind == "deflated":
            meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        elif kind == "big endian":
            found.PixelData, meta.TransferSyntaxUID = found.pixel_array.astype(">i2").tobytes(), ExplicitVRBigEndian
            found["PixelData"].VR = "OW"
        else:
            meta.TransferSyntaxUID = ImplicitVRLittleEndian
        if kind == "bare":  # as before DICOM had a preamble
            del found.file_meta, found.preamble
            found.save_as(path, implicit_vr=True, little_endian=True)
            assert path.read_bytes()[128:132] != b"DICM"
        elif kind == "big endian":
            pydicom.dcmwrite(path, found, implicit_vr=False, little_endian=False, force_encoding=True)
        else:
            found.save_as(path, enforce_file_format=True)
    assert is_series(folder)
    with open_image(folder) as reader:
        np.testing.assert_array_equal(reader.read()[0], array)


def test_compressions_that_cannot_be_decoded(tmp_path: Path) -> None:
    from pydicom.encaps import encapsulate
    from pydicom.uid import HTJ2KLossless

    folder = write_series(tmp_path / "ct", array_of(), AXIAL)
    path = in_order(folder)[0]
    found = pydicom.dcmread(path)
    found.PixelData, found.file_meta.TransferSyntaxUID = encapsulate([b"1234"]), HTJ2KLossless
    found["PixelData"].VR = "OB"
    found.save_as(path)
    assert refusal(folder) == (
        f"{path}: its pixels are compressed as 'High-Throughput JPEG 2000 Image Compression (Lossless Only)', which "
        "needs a decoder that is not installed: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg"
    )
    found.file_meta.TransferSyntaxUID = "1.2.3.4"
    found.save_as(path, implicit_vr=False, little_endian=True)
    assert refusal(path) == (f"{path}: pixels compressed as 1.2.3.4 are not read; export it uncompressed")


def test_missing_slices(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", array_of(shape=(9, 7, 9)), AXIAL)
    files = in_order(folder)
    files[3].unlink()
    assert refusal(folder) == (
        f"{folder}: 1 slice is missing: {files[2].name} and {files[4].name} are 5 mm apart, the others 2.5 mm; "
        "copy the whole series"
    )
    files[6].unlink()
    files[7].unlink()
    assert f"{folder}: 3 slices are missing: {files[2].name} and {files[4].name} are 5 mm apart" in refusal(folder)


def test_two_slices_at_one_position(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", array_of(), AXIAL)
    one, *others = in_order(folder)
    twin = folder / "ITWIN.dcm"
    twin.write_bytes(one.read_bytes())
    assert refusal(folder) == (
        f"{folder}: two slices are at one position: {one.name} and ITWIN.dcm (both at -7.00 mm); keep one for each "
        "position in a folder of its own"
    )
    for number, other in enumerate(others):
        (folder / f"T{number}.dcm").write_bytes(other.read_bytes())
    assert "(both at -7.00 mm), and so are 4 more (several times, echoes or doses?); keep one" in refusal(folder)


def test_uneven_and_shifted_slices(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", array_of(), AXIAL)
    files = in_order(folder)
    x, y, z = pydicom.dcmread(files[3]).ImagePositionPatient
    change(files[3], ImagePositionPatient=[x, y, z + 0.008])  # rounding
    assert probe(folder).shape == SHAPE
    change(files[3], ImagePositionPatient=[x, y, z + 1])
    assert refusal(folder) == (
        f"{folder}: its slices are unevenly spaced, from 1.5 mm to 3.5 mm (between {files[2].name} and {files[3].name}"
        ", for one); resample them to one distance, as NIfTI (dcm2niix does it)"
    )
    change(files[3], ImagePositionPatient=[x + 4, y, z])
    assert refusal(folder) == (
        f"{folder}: its slices are shifted against each other: {files[3].name} lies 4 mm beside the line from the "
        "first to the last; resample them as NIfTI (dcm2niix does it)"
    )


def test_mixed_series(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "all", array_of(), AXIAL)
    write_series(tmp_path / "mr", array_of(), TILTED, SeriesInstanceUID="1.2.9", SeriesDescription="", Modality="MR")
    for number in (0, 1):
        (tmp_path / "mr" / f"IM{number:04d}.dcm").rename(folder / f"MR{number}.dcm")
    assert refusal(folder) == (
        f"{folder}: 2 series are mixed here: 'thorax' (CT, 5 slices, such as IM0000.dcm); without description (MR, 2 "
        "slices, such as MR0.dcm); move the files of each series into a folder of its own, and name that"
    )


def test_slices_that_differ(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", array_of(), AXIAL)
    files = in_order(folder)
    kept = files[2].read_bytes()
    change(files[2], PixelSpacing=[1.1, 0.8])
    assert refusal(folder) == (
        f"{folder}: its slices differ in spacing: 4 have 0.9 × 1.1 mm, {files[2].name} has 0.8 × 1.1 mm; keep those "
        "that belong together in a folder of their own"
    )
    change(files[2], PixelSpacing=[1.1, 0.9], ImageOrientationPatient=[1, 0, 0, 0, 0, -1])
    assert "its slices differ in orientation: " in refusal(folder)
    assert "(a localizer among them?); keep those of one orientation in a folder of their own" in refusal(folder)
    files[2].write_bytes(kept)
    change(files[2], Rows=3, PixelData=b"\0" * 54)
    assert f"its slices differ in size: 4 have 9 × 7 pixels, {files[2].name} has 9 × 3 pixels; keep" in refusal(folder)
    files[2].write_bytes(kept)
    change(files[2], ImagePositionPatient=None)
    assert refusal(folder) == (
        f"{files[2]}: nothing says where this slice lies (it has no ImagePositionPatient or no "
        "ImageOrientationPatient), so it cannot be put in order; export the series again, as NIfTI perhaps"
    )


def test_files_that_are_no_slices(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", array_of(), AXIAL)
    report = data_set(1, 1, "SR", Rows=None, Columns=None)
    report.save_as(folder / "report.dcm", enforce_file_format=True)
    (folder / "readme.txt").write_text("of the export")
    assert probe(folder).shape == SHAPE
    assert probe(folder).notes == ("left out, for they are no slices: readme.txt, report.dcm",)
    assert refusal(folder / "report.dcm") == (
        f"{folder}/report.dcm: this DICOM file holds no image; name the folder of the slices"
    )
    (tmp_path / "text.dcm").write_text("nothing of the kind" * 20)
    assert "text.dcm: this is not a DICOM file, whatever its suffix says; export it again" in refusal(
        tmp_path / "text.dcm"
    )
    with pytest.raises(
        DataError, match=r"none of its 1 files is a slice of a DICOM series; are they in ct\? A series is"
    ):
        open_dicom(tmp_path, Reading())


def test_damaged_files(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", array_of(), AXIAL)
    path = in_order(folder)[1]
    content = path.read_bytes()
    path.write_bytes(content[:-30])
    assert f"{path}: the file is truncated or damaged (pixels end at byte {len(content)}, the file at" in refusal(
        folder
    )
    change(in_order(folder)[0], PixelData=None)
    assert "the file has no pixel data (a header alone, or pixels of floats); export it again with" in refusal(folder)
    path.write_bytes(b"")
    assert f"{path}: the file is empty" in refusal(path)
    table = data_set(7, 9, ModalityLUTSequence=[pydicom.Dataset()], PixelData=array_of().tobytes()[:126])
    table.save_as(tmp_path / "lut.dcm", enforce_file_format=True)
    assert "lut.dcm: what its values mean is in a table (Modality LUT), which is not read; export" in refusal(
        tmp_path / "lut.dcm"
    )


def test_quick_looks_never_raise(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_series(tmp_path / "ct", array_of(), AXIAL)

    def missing(name: str) -> None:
        raise ModuleNotFoundError(name)

    files = in_order(folder)
    monkeypatch.setattr("unetkit.data.formats.medical.volumes.importlib.import_module", missing)
    (tmp_path / "short").write_bytes(b"\x08\x00")
    assert are_slices(files)
    assert not are_slices([*files, tmp_path / "short"])
    assert not are_slices([tmp_path / "absent"])
    assert not are_slices([tmp_path])
    assert not are_slices([])
    from pydicom.uid import DigitalXRayImageStorageForPresentation

    for number in range(2):  # each an image of its own
        radiograph = data_set(7, 9, "DX", SOPClassUID=DigitalXRayImageStorageForPresentation, PixelData=b"\0" * 126)
        (tmp_path / "rays").mkdir(exist_ok=True)
        radiograph.save_as(tmp_path / "rays" / f"{number}.dcm", enforce_file_format=True)
    assert not is_series(tmp_path / "rays")
    assert [p.name for p in image_paths(tmp_path / "rays")] == ["0.dcm", "1.dcm"]
    assert image_paths(tmp_path) == [folder]
    with pytest.raises(MachineError) as error:
        open_dicom(write_series(tmp_path / "other", array_of(), AXIAL), Reading())
    assert str(error.value).endswith(
        ".dcm: DICOM files are read with the pydicom package, which is not installed: pip install 'unetkit[medical]'"
    )


def test_a_folder_that_changes_is_read_again(tmp_path: Path) -> None:
    folder = write_series(tmp_path / "ct", array_of(), AXIAL)
    assert probe(folder).shape == SHAPE
    in_order(folder)[-1].unlink()
    assert probe(folder).shape == (9, 7, 4)


def test_folders_of_series_are_a_data_set(tmp_path: Path) -> None:
    for number, suffix in enumerate((".nii.gz", ".nrrd", ".mha")):
        series = write_series(
            tmp_path / "images" / f"p{number}", array_of() + number, TILTED, SeriesInstanceUID=f"1.2.{number}"
        )
        with create_image(tmp_path / "masks" / f"p{number}{suffix}", SHAPE, 1, "uint8", like=series) as writer:
            writer.write(Region.of(SHAPE), (array_of() > 60).astype(np.uint8))
    found = discover(tmp_path)
    assert [case.id for case in found.cases] == ["p0", "p1", "p2"]
    diagnosis = examine(found)
    assert not diagnosis.stops
    assert not {f.code for f in diagnosis.findings} & {"affine-mismatch", "size-mismatch"}
