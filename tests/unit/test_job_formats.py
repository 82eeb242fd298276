"""One set of volumes in every format, through the verbs: checked, trained, predicted, evaluated; results in place."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import nibabel
import numpy as np
import pytest
import SimpleITK
import tifffile
import zarr

import unetkit as uk
from medical_files import write_series
from unetkit.predict.options import OutputOptions

SHAPE = (20, 22, 18)
TURN = np.array([[-0.96, 0.28, 0], [0.28, 0.96, 0], [0, 0, 1.0]]) @ np.array([[1, 0, 0], [0, 0.8, -0.6], [0, 0.6, 0.8]])
AFFINE = np.block([[TURN * (0.9, 0.9, 1.5), np.array([[12], [-30], [7.0]])], [np.zeros((1, 3)), np.ones((1, 1))]])
SETTINGS = {"net.channels": [4, 8], "machine.threads": 1}
COUNT = 4

Pair = tuple[np.ndarray, np.ndarray]


def volumes() -> list[Pair]:
    """(image, mask), a bright block in noise, somewhere else in each."""
    random = np.random.default_rng(3)
    made = []
    for _ in range(COUNT):
        mask = np.zeros(SHAPE, np.uint8)
        a, b, c = (int(random.integers(1, n // 2)) for n in SHAPE)
        mask[a : a + 7, b : b + 8, c : c + 6] = 1
        made.append(((100 + 400.0 * mask + random.normal(0, 40, SHAPE)).astype(np.int16), mask))
    return made


def nifti(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nibabel.save(nibabel.Nifti1Image(array, AFFINE), path)


def itk(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = SimpleITK.GetImageFromArray(array.T)
    lps = np.diag([-1.0, -1, 1, 1]) @ AFFINE
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetSpacing(spacing.tolist())
    image.SetDirection((lps[:3, :3] / spacing).ravel().tolist())
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def as_nifti_with_nrrd(folder: Path) -> str:
    for k, (image, mask) in enumerate(volumes()):
        nifti(folder / "images" / f"v{k}.nii.gz", image)
        itk(folder / "masks" / f"v{k}.nrrd", mask)
    return ".nii.gz"


def as_metaimage(folder: Path) -> str:
    for k, (image, mask) in enumerate(volumes()):
        itk(folder / "images" / f"v{k}.mha", image)
        nifti(folder / "masks" / f"v{k}.nii", mask)
    return ".mha"


def as_dicom(folder: Path) -> str:
    square = np.array([[-0.8, 0, 0, 5], [0, -0.8, 0, 6], [0, 0, 2, 7], [0, 0, 0, 1.0]])
    for k, (image, mask) in enumerate(volumes()):
        write_series(folder / "images" / f"v{k}", image, square, seed=k)
        (folder / "masks").mkdir(exist_ok=True)
        nibabel.save(nibabel.Nifti1Image(mask, square), folder / "masks" / f"v{k}.nii.gz")
    return ".nii.gz"


def as_ome_tiff(folder: Path) -> str:
    for k, (image, mask) in enumerate(volumes()):
        for kind, array in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            sizes = {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2, "PhysicalSizeZ": 0.5}
            units = {f"{name}Unit": "µm" for name in sizes}
            tifffile.imwrite(
                folder / kind / f"v{k}.ome.tif", array, ome=True, metadata={"axes": "ZYX", **sizes, **units}
            )
    return ".ome.tif"


def as_ome_zarr(folder: Path) -> str:
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "zyx"]
    scale = [{"type": "scale", "scale": [0.5, 0.2, 0.2]}]
    for k, (image, mask) in enumerate(volumes()):
        group = zarr.open_group(folder / f"v{k}.zarr", mode="w")
        for place, array in ((group, image), (group.create_group("labels/blocks"), mask)):
            place["0"] = array
            multiscales = [{"axes": axes, "datasets": [{"path": "0", "coordinateTransformations": scale}]}]
            place.attrs["ome"] = {"version": "0.5", "multiscales": multiscales}
        group["labels"].attrs["ome"] = {"version": "0.5", "labels": ["blocks"]}
    return ".zarr"


def as_hdf5(folder: Path) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    for k, (image, mask) in enumerate(volumes()):
        with h5py.File(folder / f"v{k}.h5", "w") as file:
            file["raw"], file["label"] = image, mask
    return ".h5"


def as_numpy(folder: Path) -> str:
    for k, (image, mask) in enumerate(volumes()):
        for kind, array in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            np.save(folder / kind / f"v{k}.npy", array)
    return ".npy"


KINDS = [as_nifti_with_nrrd, as_metaimage, as_dicom, as_ome_tiff, as_ome_zarr, as_hdf5, as_numpy]


@pytest.mark.parametrize("write", KINDS, ids=lambda write: write.__name__.removeprefix("as_"))
def test_every_format_goes_through_the_plain_verbs(write: Callable[[Path], str], tmp_path: Path) -> None:
    data = tmp_path / "data"
    ending = write(data)
    diagnosis = uk.check(data)
    assert [f for f in diagnosis.findings if f.severity == "error"] == []
    request = uk.Request(steps=60, precision="fp32", settings=SETTINGS)
    run = uk.train(data, tmp_path / "run", request)
    assert run.finished
    assert run.plan.net.ndim == 3
    images = data / "images" if (data / "images").is_dir() else data
    sources = sorted(images.iterdir())
    found = uk.predict(tmp_path / "run", sources, tmp_path / "out", outputs=OutputOptions(probabilities=True))
    assert found.failed == ()
    assert [path.name for path in found.done] == [f"v{k}{ending}" for k in range(COUNT)]
    truth = data / "masks" if (data / "masks").is_dir() else data
    scores = uk.evaluate(tmp_path / "out", data if truth == data else truth)
    assert len(scores.cases) == COUNT
    again = uk.evaluate(tmp_path / "run", data)
    assert again.mean().mean == pytest.approx(scores.mean().mean, abs=1e-6)
    assert scores.mean().mean > 0.3


def test_results_lie_where_their_images_do_in_every_medical_format(tmp_path: Path) -> None:
    as_nifti_with_nrrd(tmp_path / "data")
    request: dict[str, Any] = {"steps": 2, "precision": "fp32", "settings": SETTINGS}
    uk.train(tmp_path / "data", tmp_path / "run", uk.Request(**request))
    source = tmp_path / "data" / "images" / "v0.nii.gz"
    for suffix in (".nii.gz", ".nrrd", ".mha"):
        uk.predict(tmp_path / "run", source, tmp_path / suffix, outputs=OutputOptions(format=suffix))
        result = SimpleITK.ReadImage(str(tmp_path / suffix / f"v0{suffix}"))
        assert result.GetSize() == SHAPE
        index = (3, 5, 2)
        point = np.array(result.TransformIndexToPhysicalPoint(index)) * [-1, -1, 1]  # LPS to RAS
        assert np.allclose(point, (AFFINE @ [*index, 1])[:3], atol=1e-4)
