"""Voxel (i, j, k) of image, label and prediction lie at one point in space: nibabel and SimpleITK say so, for every
orientation code and an oblique affine, whichever formats image and result have. Types and spacing survive."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest

from medical_files import (
    CODES,
    LPS,
    TILTED,
    affine_of,
    oblique,
    point_in_nibabel,
    point_in_sitk,
    point_of_info,
    write_series,
)
from unetkit.core.region import Region
from unetkit.data.doctor.places import apart
from unetkit.data.formats import TargetClass, create_image, open_image
from unetkit.data.formats.medical.dicom_seg_read import label_over

SimpleITK = pytest.importorskip("SimpleITK", reason="SimpleITK is not installed")
pytest.importorskip("pydicom", reason="pydicom is not installed")

SHAPE = (5, 4, 3)
PLACES = [*CODES, "oblique"]
SUFFIXES = (".nii.gz", ".nrrd", ".mha")
CORNERS = tuple(itertools.product(*((0, n - 1) for n in SHAPE)))
CLASSES = (TargetClass("background", 0, (0, 0, 0)), TargetClass("left", 1, (230, 159, 0)))
CLASSES = (*CLASSES, TargetClass("right", 2, (86, 180, 233)))


def affine(place: str) -> np.ndarray:
    return oblique() if place == "oblique" else affine_of(place, SHAPE)


def volume(place: str, dtype: str = "int16") -> np.ndarray:
    return np.random.default_rng(len(place) + ord(place[0])).integers(-900, 900, SHAPE).astype(dtype)


def by_sitk(array: np.ndarray, at: np.ndarray) -> SimpleITK.Image:
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(array.T))
    lps = LPS @ at
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    return image


def write_image(folder: Path, suffix: str, array: np.ndarray, at: np.ndarray) -> Path:
    """An image of a format, written by the library that the format belongs to."""
    path = folder / f"image{suffix}"
    if suffix == "series":
        return write_series(path, array, at)
    if suffix == ".nii.gz":
        nibabel.save(nibabel.Nifti1Image(array, at), path)
    else:
        SimpleITK.WriteImage(by_sitk(array, at), str(path), suffix == ".mha")
    return path


def in_sitk(path: Path) -> np.ndarray:
    found = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path)))
    return found.T if found.ndim == 3 else np.moveaxis(found, -1, 0).transpose(0, 3, 2, 1)


@pytest.mark.parametrize("place", PLACES)
def test_results_lie_where_their_images_lie(tmp_path: Path, place: str) -> None:
    at, array = affine(place), volume(place)
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 2:, 1:], label[4, 0, 0] = 1, 2
    for suffix in SUFFIXES:
        source = write_image(tmp_path, suffix, array, at)
        with open_image(source) as reader:
            info = reader.info
            np.testing.assert_array_equal(reader.read()[0], array)
        assert (info.shape, info.dtype, info.axes, info.unit) == (SHAPE, "int16", "XYZ", "mm")
        assert info.spacing == pytest.approx(np.linalg.norm(at[:3, :3], axis=0), abs=1e-4)
        for result in SUFFIXES:
            mask = tmp_path / f"mask{result}"
            with create_image(mask, SHAPE, 1, "uint8", like=source) as writer:
                for band in writer.bands(15):
                    writer.write(band, label[band.slices])
            with open_image(mask) as reader:
                assert reader.info.dtype == "uint8"
                assert reader.info.spacing == pytest.approx(info.spacing, abs=1e-4)
                assert apart(reader.info, info) == apart(info, reader.info) == ""
                np.testing.assert_array_equal(reader.read()[0], label)
                found = reader.info.affine
            np.testing.assert_array_equal(in_sitk(mask), label)
            for corner in CORNERS:
                true = (at @ [*corner, 1])[:3]
                np.testing.assert_allclose(point_of_info(found, corner), true, atol=1e-3)
                if result == ".nii.gz":
                    np.testing.assert_allclose(point_in_nibabel(mask, corner), true, atol=1e-3)
            for corner in (CORNERS[0], CORNERS[3], CORNERS[-1]):
                np.testing.assert_allclose(point_in_sitk(mask, corner), (at @ [*corner, 1])[:3], atol=1e-3)


@pytest.mark.parametrize("place", ["RAS", "PIR", "oblique"])
@pytest.mark.parametrize("suffix", [*SUFFIXES, ".nii", ".nhdr", ".mhd"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_probabilities_and_types(tmp_path: Path, place: str, suffix: str, dtype: str) -> None:
    at = affine(place)
    source = write_image(tmp_path, ".nrrd", volume(place), at)
    array = np.random.default_rng(5).integers(0, 200, (3, *SHAPE)).astype(dtype)
    path = tmp_path / f"p{suffix}"
    with create_image(path, SHAPE, 3, dtype, like=source) as writer:
        for k in (2, 0, 1):
            writer.write(Region((0, 0, k), (*SHAPE[:2], k + 1)), array[..., k : k + 1])
    with open_image(path) as reader:
        assert (reader.info.shape, reader.info.channels, reader.info.dtype) == (SHAPE, 3, dtype)
        np.testing.assert_array_equal(reader.read(), array)
        np.testing.assert_allclose(np.reshape(reader.info.affine, (4, 4)), at, atol=1e-4)
    if suffix.startswith(".nii"):
        np.testing.assert_array_equal(np.moveaxis(np.asarray(nibabel.load(path).dataobj), -1, 0), array)
        assert nibabel.load(path).get_data_dtype() == dtype
    else:
        np.testing.assert_array_equal(in_sitk(path), array)
        assert in_sitk(path).dtype == dtype


@pytest.mark.parametrize("place", PLACES)
def test_a_series_lies_where_its_slices_say(tmp_path: Path, place: str) -> None:
    at, array = affine(place), volume(place)
    folder = write_image(tmp_path, "series", array, at)
    with open_image(folder) as reader:
        info, found = reader.info, reader.read()[0]
    assert (info.shape, info.dtype) == (SHAPE, "int16")
    for index in np.ndindex(SHAPE):  # slices may stand in the other order than in the array that they were made of
        point = point_of_info(info.affine, index)
        there = np.rint((np.linalg.inv(at) @ [*point, 1])[:3]).astype(int)
        np.testing.assert_allclose((at @ [*there, 1])[:3], point, atol=1e-3)
        assert found[index] == array[tuple(there)]
    names = SimpleITK.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder))
    image = SimpleITK.ReadImage(names)
    np.testing.assert_array_equal(SimpleITK.GetArrayFromImage(image).T, found)
    for corner in CORNERS:
        theirs = np.multiply(image.TransformIndexToPhysicalPoint(corner), (-1, -1, 1))
        np.testing.assert_allclose(point_of_info(info.affine, corner), theirs, atol=1e-3)
    for suffix in SUFFIXES:  # and so do masks over it
        mask = tmp_path / f"mask{suffix}"
        with create_image(mask, SHAPE, 1, "uint8", like=folder) as writer:
            writer.write(Region.of(SHAPE), (found > 0).astype(np.uint8))
        np.testing.assert_array_equal(in_sitk(mask), found > 0)
        for corner in (CORNERS[0], CORNERS[-1]):
            np.testing.assert_allclose(point_in_sitk(mask, corner), point_of_info(info.affine, corner), atol=1e-3)


@pytest.mark.parametrize("place", ["LPS", "RAS", "SLA", "IPR", "oblique"])
def test_a_segmentation_lies_over_its_series(tmp_path: Path, place: str) -> None:
    highdicom = pytest.importorskip("highdicom", reason="highdicom is not installed")
    folder = write_image(tmp_path, "series", volume(place), affine(place))
    with open_image(folder) as reader:
        info = reader.info
    label = np.zeros(SHAPE, np.uint8)
    label[1:3, 2:, 1:], label[4, 0, 1] = 1, 2
    path = tmp_path / "seg.dcm"
    with create_image(path, SHAPE, 1, "uint8", like=folder, classes=CLASSES) as writer:
        writer.write(Region.of(SHAPE), label)
    with open_image(path) as reader:
        np.testing.assert_array_equal(reader.read()[0], label)
        np.testing.assert_allclose(reader.info.affine, info.affine, atol=1e-6)
    there = highdicom.seg.segread(path).get_volume(combine_segments=True)
    assert {int(n) for n in np.unique(there.array)} == {0, 1, 2}
    to_ours = np.linalg.inv(LPS @ np.reshape(info.affine, (4, 4))) @ there.affine
    for index in np.ndindex(there.array.shape):
        ours = np.rint((to_ours @ [*index, 1])[:3]).astype(int)
        assert there.array[index] == label[tuple(ours)]
    with label_over(path, info) as reader:
        np.testing.assert_array_equal(reader.read(Region((1, 0, 1), (5, 4, 3)))[0], label[1:, :, 1:])


def test_sheared_volumes_keep_their_place(tmp_path: Path) -> None:
    tilted = TILTED.copy()
    tilted[1, 2] = 0.6  # as of a tilted gantry: slices are shifted against each other
    folder = write_series(tmp_path / "ct", volume("RAS"), tilted)
    with open_image(folder) as reader:
        info = reader.info
    assert "its slices are tilted by 13.5° (gantry tilt); the affine says so" in info.notes
    for suffix in SUFFIXES:
        mask = tmp_path / f"mask{suffix}"
        with create_image(mask, SHAPE, 1, "uint8", like=folder) as writer:
            writer.write(Region.of(SHAPE), np.zeros(SHAPE, np.uint8))
        with open_image(mask) as reader:
            np.testing.assert_allclose(reader.info.affine, info.affine, atol=1e-4)
        if suffix == ".nii.gz":
            np.testing.assert_allclose(nibabel.load(mask).affine, np.reshape(info.affine, (4, 4)), atol=1e-4)
        else:
            np.testing.assert_allclose(point_in_sitk(mask, (4, 3, 2)), point_of_info(info.affine, (4, 3, 2)), atol=1e-3)
