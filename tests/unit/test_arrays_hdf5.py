"""HDF5: data sets by name, their axes and sizes; masks written as `label`."""

from __future__ import annotations

import builtins
import json
from pathlib import Path

import numpy as np
import pytest

from array_files import noise, read, refusal
from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.formats import Reading, TargetClass, contents, create_image, open_image, probe, stem

h5py = pytest.importorskip("h5py")

BOX = Region((2, 11, 5), (9, 60, 40))


@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float32", "float16", "bool"])
@pytest.mark.parametrize("chunks", [None, (4, 16, 16)])
def test_volumes_of_every_kind(tmp_path: Path, dtype: str, chunks: tuple[int, ...] | None) -> None:
    pixels = (noise((12, 70, 50)) % 2).astype(dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", data=pixels, chunks=chunks, compression="gzip" if chunks else None)
    expected = pixels.astype(np.uint8) * 255 if dtype == "bool" else pixels.astype(np.dtype(dtype).newbyteorder("="))
    for region in (None, BOX):
        got = read(tmp_path / "a.h5", region)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got[0], expected if region is None else expected[region.slices])
    info = probe(tmp_path / "a.h5")
    assert (info.shape, info.axes, info.chunk, info.dtype) == ((12, 70, 50), "ZYX", chunks, expected.dtype.name)
    assert info.notes == ("a.h5: its 12 × 70 × 50 are taken as Z, Y, X (nothing says so); --axes tells otherwise",)


def test_image_and_label_in_one_file(tmp_path: Path) -> None:
    pixels = noise((12, 70, 50))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["volumes/raw"] = pixels
        file["volumes/neuron_ids_gt"] = pixels > 125
        file["a name"] = np.bytes_("text is no image")
        file["scalar"] = 3.0
        file["volumes/raw"].dims[0].label = "z"
    inside = contents(tmp_path / "a.h5")
    assert [(i.address, i.label, i.shape, i.dtype) for i in inside] == [
        (tmp_path / "a.h5/volumes/neuron_ids_gt", True, (12, 70, 50), "bool"),
        (tmp_path / "a.h5/volumes/raw", False, (12, 70, 50), "uint16"),
    ]
    np.testing.assert_array_equal(read(tmp_path / "a.h5")[0], pixels)
    np.testing.assert_array_equal(read(tmp_path / "a.h5/volumes/neuron_ids_gt")[0] > 0, pixels > 125)
    assert stem(tmp_path / "a.h5/volumes/raw") == "a"


@pytest.mark.parametrize(
    ("attributes", "axes", "channels", "spacing", "unit"),
    [
        ({"axes": "ZYX", "spacing": [2.0, 0.5, 0.5], "unit": "micron"}, "ZYX", 1, (2.0, 0.5, 0.5), "µm"),
        ({"element_size_um": [2.0, 0.5, 0.5]}, "ZYX", 1, (2.0, 0.5, 0.5), "µm"),
        ({"axes": ["z", "y", "x"], "resolution": [40, 4, 4], "units": "nm"}, "ZYX", 1, (40, 4, 4), "nm"),
        ({"axes": "CYX"}, "YX", 3, None, ""),
        ({"axistags": json.dumps({"axes": [{"key": k} for k in "cyx"]})}, "YX", 3, None, ""),
    ],
)
def test_what_attributes_say(
    tmp_path: Path, attributes: dict[str, object], axes: str, channels: int, spacing: object, unit: str
) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = noise((3, 70, 50))
        for key, value in attributes.items():
            file["raw"].attrs[key] = value
    info = probe(tmp_path / "a.h5")
    assert (info.axes, info.channels, info.spacing, info.unit, info.notes) == (axes, channels, spacing, unit, ())
    assert probe(tmp_path / "a.h5", Reading(axes="ZYX")).shape == (3, 70, 50)


def test_labels_of_dimensions(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["raw"] = noise((70, 50, 30))
        for dim, label in zip(file["raw"].dims, "xyz", strict=True):
            dim.label = label
    assert (probe(tmp_path / "a.h5").axes, probe(tmp_path / "a.h5").shape) == ("XYZ", (70, 50, 30))


def test_files_without_one_image(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_group("nothing")
    assert "the file holds no image (no array of numbers with 1 to 5 axes)" in refusal(path)
    with h5py.File(path, "w") as file:
        file["t1"], file["deep/t2"] = noise((12, 70, 50)), noise((70, 50), "uint8")
    assert refusal(path) == (
        f"{path}: it holds 2 images: deep/t2 (70 × 50, uint8), t1 (12 × 70 × 50, uint16); name one: a.h5/deep/t2"
    )
    assert "there is no image 't3' in it; it holds deep/t2 (70 × 50, uint8)" in refusal(path / "t3", file=path)
    assert "there is no image 'deep' in it" in refusal(path / "deep", file=path)
    assert "--axes TZYX names 4 axes, but it has 12 × 70 × 50" in refusal(path / "t1", Reading(axes="TZYX"))
    assert "there is no level 1; it has 1" in refusal(path / "t1", Reading(level=1))


def test_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("raw", data=noise((12, 70, 50)), chunks=(4, 16, 16), compression="gzip")
    path.write_bytes(path.read_bytes()[:-5000])
    assert "truncated or damaged" in refusal(path)
    path.write_bytes(b"no HDF5 at all, and longer than eight bytes")
    assert "truncated or damaged" in refusal(path)


def test_a_missing_package_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.h5").write_bytes(b"x")
    original = builtins.__import__

    def without(name: str, *rest: object) -> object:
        if name == "h5py":
            raise ModuleNotFoundError(name)
        return original(name, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(MachineError) as caught:
        open_image(tmp_path / "a.h5")
    assert str(caught.value).endswith("h5py package, which is not installed: pip install 'unetkit[microscopy]'")


def test_masks_are_written_as_label(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "like.h5", "w") as file:
        file["raw"] = noise((12, 70, 50))
        file["raw"].attrs["element_size_um"] = [2.0, 0.5, 0.5]
    mask, classes = noise((1, 12, 70, 50), "uint8"), (TargetClass("cell", 1, (1, 2, 3)),)
    like = tmp_path / "like.h5"
    with create_image(tmp_path / "m.h5", (12, 70, 50), 1, "uint8", like=like, classes=classes) as writer:
        for region in writer.bands(9000):
            writer.write(region, mask[(slice(None), *region.slices)])
    with h5py.File(tmp_path / "m.h5") as file:
        data = file["label"]
        np.testing.assert_array_equal(data[()], mask[0])
        assert (data.compression, list(data.attrs["element_size_um"])) == ("gzip", [2.0, 0.5, 0.5])
        assert json.loads(data.attrs["classes"]) == {"1": "cell"}
        assert [d.label for d in data.dims] == ["z", "y", "x"]
    info = probe(tmp_path / "m.h5")
    assert (info.axes, info.spacing, info.unit, info.notes) == ("ZYX", (2.0, 0.5, 0.5), "µm", ())
    np.testing.assert_array_equal(read(tmp_path / "m.h5"), mask)


@pytest.mark.parametrize("shape", [(100_000,), (600, 530), (12, 70, 50)])
def test_probabilities_keep_their_names(tmp_path: Path, shape: tuple[int, ...]) -> None:
    pixels, names = noise((3, *shape), "float16"), ("a", "b", "c")
    with create_image(tmp_path / "p.h5", shape, 3, "float16", channel_names=names) as writer:
        writer.write(Region.of(shape), pixels)
    info = probe(tmp_path / "p.h5")
    assert (info.shape, info.channels, info.channel_names) == (shape, 3, names)
    np.testing.assert_array_equal(read(tmp_path / "p.h5" / "probabilities"), pixels)
    with pytest.raises(DataError, match="an HDF5 file is written from integers or floats, not from complex64"):
        create_image(tmp_path / "c.h5", shape, 1, "complex64")
