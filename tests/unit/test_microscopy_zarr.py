"""Zarr and OME-Zarr: arrays, pyramids and labels read by region; images and masks written as the standard asks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

from array_files import noise, read, refusal
from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats import Reading, TargetClass, contents, create_image, probe, stem

BOX = Region((2, 11, 5), (9, 60, 40))
AXES = [
    {"name": n, "type": t} | ({"unit": "micrometer"} if t == "space" else {})
    for n, t in zip("tczyx", ("time", "channel", "space", "space", "space"), strict=True)
]
CLASSES = (TargetClass("background", 0, (0, 0, 0)), TargetClass("cell", 1, (230, 159, 0)))


def put(group: zarr.Group, version: int, values: dict[str, Any]) -> None:
    group.attrs.update(values if version == 2 else {"ome": {"version": "0.5", **values}})


def pyramid(group: zarr.Group, version: int, pixels: np.ndarray, **more: object) -> None:
    datasets = []
    for level, step in enumerate((1, 2)):
        names = {"dimension_names": list("tczyx")} if version == 3 else {}
        part = np.ascontiguousarray(pixels[..., ::step, ::step])
        group.create_array(str(level), data=part, chunks=(1, 1, 8, 32, 32), **names)
        moves = [
            {"type": "scale", "scale": [1, 1, 2, 0.5 * step, 0.5 * step]},
            {"type": "translation", "translation": [0, 0, 7, 1, 1]},
        ]
        datasets.append({"path": str(level), "coordinateTransformations": moves})
    put(group, version, {"multiscales": [{"axes": AXES, "datasets": datasets, "version": "0.4"}], **more})


def ome_zarr(path: Path, version: int = 3) -> np.ndarray:
    """An image of two channels and 12 × 70 × 50 in two levels, with its labels, as OME-Zarr 0.4 or 0.5."""
    pixels = noise((1, 2, 12, 70, 50))
    group = zarr.create_group(path, zarr_format=version)
    pyramid(group, version, pixels, omero={"channels": [{"label": "DAPI"}, {"label": "GFP"}]})
    labels = group.create_group("labels")
    put(labels, version, {"labels": ["nuclei"]})
    pyramid(labels.create_group("nuclei"), version, (pixels[:, :1] > 125).astype(np.uint8), **{"image-label": {}})
    return pixels[0]


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("chunks", [(8, 32, 32), (12, 70, 50)])
def test_arrays_by_themselves_and_by_name(tmp_path: Path, version: int, chunks: tuple[int, ...]) -> None:
    pixels = noise((12, 70, 50))
    zarr.create_array(tmp_path / "a.zarr", data=pixels, chunks=chunks, zarr_format=version)
    group = zarr.create_group(tmp_path / "b.zarr", zarr_format=version)
    group.create_group("volumes").create_array("raw", data=pixels, chunks=chunks)
    group.create_group("volumes/empty")
    for path in (tmp_path / "a.zarr", tmp_path / "b.zarr", tmp_path / "b.zarr" / "volumes" / "raw"):
        info = probe(path)
        assert (info.shape, info.channels, info.axes, info.dtype, info.chunk) == (
            (12, 70, 50),
            1,
            "ZYX",
            "uint16",
            chunks,
        )
        assert "are taken as Z, Y, X (nothing says so)" in info.notes[0]
        np.testing.assert_array_equal(read(path, BOX)[0], pixels[BOX.slices])
    assert probe(tmp_path / "a.zarr", Reading(axes="CYX")).channels == 12
    assert [i.address for i in contents(tmp_path / "b.zarr")] == [tmp_path / "b.zarr/volumes/raw"]
    assert stem(tmp_path / "b.zarr/volumes/raw") == "b"


def test_names_of_dimensions_and_sizes_in_attributes(tmp_path: Path) -> None:
    array = zarr.create_array(tmp_path / "a.zarr", data=noise((3, 70, 50)), dimension_names=["z", "y", "x"])
    array.attrs.update({"voxel_size": [40, 4, 4], "units": ["nm", "nm", "nm"]})
    info = probe(tmp_path / "a.zarr")
    assert (info.axes, info.shape, info.spacing, info.unit, info.notes) == ("ZYX", (3, 70, 50), (40, 4, 4), "nm", ())


@pytest.mark.parametrize("version", [2, 3])
def test_ome_zarr_04_and_05(tmp_path: Path, version: int) -> None:
    pixels = ome_zarr(tmp_path / "a.zarr", version)
    info = probe(tmp_path / "a.zarr")
    assert (info.shape, info.channels, info.axes) == ((12, 70, 50), 2, "ZYX")
    assert (info.spacing, info.unit, info.channel_names) == ((2, 0.5, 0.5), "µm", ("DAPI", "GFP"))
    assert (info.levels, info.chunk, info.notes) == (((12, 70, 50), (12, 35, 25)), (8, 32, 32), ())
    np.testing.assert_array_equal(read(tmp_path / "a.zarr", BOX), pixels[(slice(None), *BOX.slices)])
    for reading in (Reading(level=1), Reading(pixel_size=1.2)):
        assert probe(tmp_path / "a.zarr", reading).spacing == (2, 1, 1)
        np.testing.assert_array_equal(read(tmp_path / "a.zarr", reading=reading), pixels[..., ::2, ::2])
    assert probe(tmp_path / "a.zarr" / "1").spacing == (2, 1, 1)  # a level by its name
    assert "there is no level 2; it has 2 (0: 12 × 70 × 50; 1: 12 × 35 × 25)" in refusal(
        tmp_path / "a.zarr", Reading(level=2)
    )
    inside = contents(tmp_path / "a.zarr")
    assert [(i.address, i.label) for i in inside] == [
        (tmp_path / "a.zarr", False),
        (tmp_path / "a.zarr/labels/nuclei", True),
    ]
    np.testing.assert_array_equal(read(tmp_path / "a.zarr/labels/nuclei")[0], pixels[0] > 125)


def test_older_metadata_and_sizes_that_nobody_knows(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr", zarr_format=2)
    group.create_array("0", data=noise((1, 2, 12, 70, 50)))
    group.attrs.update({"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]})
    info = probe(tmp_path / "a.zarr")
    assert (info.shape, info.channels, info.axes, info.spacing, info.unit) == ((12, 70, 50), 2, "ZYX", None, "")


def test_several_images_must_be_named(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr")
    for name in ("first", "second"):
        group.create_array(name, data=noise((70, 50)))
    assert refusal(tmp_path / "a.zarr").endswith(
        "it holds 2 images: first (70 × 50, uint16), second (70 × 50, uint16); name one: a.zarr/first"
    )
    group.create_array("mask", data=noise((70, 50)))
    del group["second"]
    assert read(tmp_path / "a.zarr").shape == (1, 70, 50)  # the only one that is no mask
    with pytest.raises(DataError, match=r"there is no image 'frist' in it; it holds first .*; did you mean 'first'\?"):
        read(tmp_path / "a.zarr" / "frist")


def test_stores_that_are_not_whole(tmp_path: Path) -> None:
    (tmp_path / "none.zarr" / "0").mkdir(parents=True)
    assert "the folder holds no Zarr metadata (zarr.json, .zarray, .zgroup): it was not written to its end" in refusal(
        tmp_path / "none.zarr"
    )
    zarr.create_group(tmp_path / "empty.zarr")
    assert "the file holds no image (no array of numbers with 1 to 5 axes)" in refusal(tmp_path / "empty.zarr")
    ome_zarr(tmp_path / "half.zarr")
    (tmp_path / "half.zarr" / "1" / "zarr.json").unlink()
    assert "level 1 of its pyramid (1) is missing: it was not written to its end" in refusal(tmp_path / "half.zarr")
    ome_zarr(tmp_path / "cut.zarr")
    chunk = next(p for p in (tmp_path / "cut.zarr" / "0" / "c").rglob("*") if p.is_file())
    chunk.write_bytes(chunk.read_bytes()[:20])
    assert "truncated or damaged" in refusal(tmp_path / "cut.zarr")
    ome_zarr(tmp_path / "text.zarr")
    (tmp_path / "text.zarr" / "zarr.json").write_text('{"zarr_for')
    assert "truncated or damaged" in refusal(tmp_path / "text.zarr")


def test_metadata_that_do_not_fit(tmp_path: Path) -> None:
    group = zarr.create_group(tmp_path / "a.zarr")
    group.create_array("0", data=noise((70, 50)))
    put(group, 3, {"multiscales": [{"axes": AXES, "datasets": [{"path": "0"}]}]})
    assert "its metadata name 5 axes (TCZYX), its array has 2 (70 × 50); export it again" in refusal(
        tmp_path / "a.zarr"
    )
    put(group, 3, {"multiscales": [{"axes": AXES}]})
    assert "its OME-Zarr metadata are not as the specification asks (KeyError('datasets'))" in refusal(
        tmp_path / "a.zarr"
    )
    several = zarr.create_group(tmp_path / "t.zarr")
    several.create_array("0", data=noise((3, 1, 2, 70, 50)), dimension_names=list("tczyx"))
    put(several, 3, {"multiscales": [{"axes": AXES, "datasets": [{"path": "0"}]}]})
    assert "3 points in time" in refusal(tmp_path / "t.zarr")
    assert probe(tmp_path / "t.zarr", Reading(axes="CZYX")).channels == 3
    zarr.create_array(tmp_path / "c.zarr", data=noise((7, 5)).astype(np.complex64))
    assert "values of type complex64 are not read; save integers or floats" in refusal(tmp_path / "c.zarr")


# ---- written


def written(path: Path, pixels: np.ndarray, like: Path | None = None, **more: Any) -> None:
    with create_image(path, pixels.shape[1:], len(pixels), pixels.dtype, like=like, **more) as writer:
        for region in writer.bands(20_000):
            writer.write(region, pixels[(slice(None), *region.slices)])


def ome(path: Path) -> dict[str, Any]:
    return json.loads((path / "zarr.json").read_text())["attributes"]["ome"]  # type: ignore[no-any-return]


def test_a_mask_is_a_store_of_labels_that_any_viewer_opens(tmp_path: Path) -> None:
    ome_zarr(tmp_path / "in" / "a.zarr")
    before = {p: p.read_bytes() for p in (tmp_path / "in").rglob("*") if p.is_file()}
    mask, path = noise((1, 12, 70, 50), "uint8", 2), tmp_path / "out" / "a.zarr"
    written(path, mask, tmp_path / "in" / "a.zarr", classes=CLASSES)
    assert {p: p.read_bytes() for p in (tmp_path / "in").rglob("*") if p.is_file()} == before
    assert ome(path / "labels") == {"version": "0.5", "labels": ["segmentation"]}
    label = ome(path / "labels" / "segmentation")
    assert label["image-label"] == {
        "colors": [{"label-value": 0, "rgba": [0, 0, 0, 0]}, {"label-value": 1, "rgba": [230, 159, 0, 255]}],
        "properties": [{"label-value": 0, "class": "background"}, {"label-value": 1, "class": "cell"}],
        "source": {"image": "../../../../in/a.zarr"},
    }
    assert (path / "labels/segmentation" / label["image-label"]["source"]["image"]).resolve() == (
        tmp_path / "in" / "a.zarr"
    )
    scale, move = label["multiscales"][0]["datasets"][0]["coordinateTransformations"]
    assert (scale["scale"], move["translation"]) == ([2.0, 0.5, 0.5], [7.0, 1.0, 1.0])
    assert [d["path"] for d in ome(path)["multiscales"][0]["datasets"]] == ["labels/segmentation/0"]
    np.testing.assert_array_equal(read(path), mask)
    np.testing.assert_array_equal(read(path / "labels" / "segmentation"), mask)
    assert [(i.address, i.label) for i in contents(path)] == [(path / "labels/segmentation", True)]
    info = probe(path)
    assert (info.spacing, info.unit, info.axes) == ((2.0, 0.5, 0.5), "µm", "ZYX")


def test_pyramids_pick_labels_and_average_images(tmp_path: Path) -> None:
    mask, image = noise((1, 601, 530), "uint8", 5), noise((3, 601, 530), "float32")
    written(tmp_path / "m.zarr", mask, classes=CLASSES)
    written(tmp_path / "p.zarr", image, channel_names=("a", "b", "c"))
    assert probe(tmp_path / "m.zarr").levels == ((601, 530), (301, 265), (151, 133))
    np.testing.assert_array_equal(read(tmp_path / "m.zarr", reading=Reading(level=2)), mask[:, ::4, ::4])
    odd = np.pad(image, ((0, 0), (0, 1), (0, 0)), "edge").reshape(3, 301, 2, 265, 2).mean(axis=(2, 4))
    np.testing.assert_allclose(read(tmp_path / "p.zarr", reading=Reading(level=1)), odd, rtol=1e-6)
    moves = [d["coordinateTransformations"] for d in ome(tmp_path / "p.zarr")["multiscales"][0]["datasets"]]
    assert moves[1] == [
        {"type": "scale", "scale": [1.0, 2.0, 2.0]},
        {"type": "translation", "translation": [0.0, 0.5, 0.5]},  # the centre of four pixels
    ]
    assert [c["label"] for c in ome(tmp_path / "p.zarr")["omero"]["channels"]] == ["a", "b", "c"]
    assert (probe(tmp_path / "p.zarr").spacing, probe(tmp_path / "p.zarr").channel_names) == (None, ("a", "b", "c"))


def test_thick_planes_are_halved_later(tmp_path: Path) -> None:
    from unetkit.data.formats.arrays.zarr_write import pyramid as levels
    from unetkit.data.formats.geometry import Geometry

    found = levels((64, 2000, 2000), Geometry("ZYX", (4.0, 1.0, 1.0), "µm"), mean=False)
    assert [level.factors for level in found] == [(1, 1, 1), (1, 2, 2), (1, 4, 4), (2, 8, 8)]


def test_each_chunk_is_written_once_whatever_the_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unetkit.data.formats.arrays.zarr_write import ZarrWriter

    pixels, put_regions = noise((1, 70, 1100), "uint8"), []
    original = ZarrWriter._put
    monkeypatch.setattr(ZarrWriter, "_put", lambda self, r, a: (put_regions.append(r), original(self, r, a))[1])
    boxes = [Region((y, x), (min(70, y + 33), min(1100, x + 300))) for x in range(0, 1100, 300) for y in (0, 33, 66)]
    with create_image(tmp_path / "a.zarr", (70, 1100), 1, "uint8") as writer:
        for box in np.random.default_rng(1).permutation(len(boxes)):
            writer.write(boxes[box], pixels[(slice(None), *boxes[box].slices)])
    assert sorted(r.start for r in put_regions) == [(0, 0), (0, 1024)]
    np.testing.assert_array_equal(read(tmp_path / "a.zarr"), pixels)


def test_nothing_half_written_and_nothing_foreign_replaced(tmp_path: Path) -> None:
    ome_zarr(tmp_path / "a.zarr")
    mask = noise((1, 12, 70, 50), "uint8", 2)
    with pytest.raises(DataError, match="this is the image itself, which is never written into; choose another folder"):
        written(tmp_path / "a.zarr", mask, tmp_path / "a.zarr")
    with pytest.raises(DataError, match="something that unetkit did not write stands here, and is not replaced"):
        written(tmp_path / "a.zarr", mask)
    written(tmp_path / "m.zarr", mask)
    half = Region((0, 0, 0), (6, 70, 50))

    def interrupted() -> None:
        with create_image(tmp_path / "m.zarr", (12, 70, 50), 1, "uint8") as writer:
            writer.write(half, mask[:, :6])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    np.testing.assert_array_equal(read(tmp_path / "m.zarr"), mask)
    written(tmp_path / "m.zarr", 1 - mask)  # one of ours is replaced
    np.testing.assert_array_equal(read(tmp_path / "m.zarr"), 1 - mask)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.zarr", "m.zarr"]


def test_a_signal_and_an_empty_mask(tmp_path: Path) -> None:
    signal = noise((1, 100_000), "uint8", 3)
    written(tmp_path / "s.zarr", signal)
    assert (probe(tmp_path / "s.zarr").axes, probe(tmp_path / "s.zarr").shape) == ("T", (100_000,))
    np.testing.assert_array_equal(read(tmp_path / "s.zarr"), signal)
    written(tmp_path / "e.zarr", np.zeros((1, 70, 50), np.uint8), classes=CLASSES)
    assert not read(tmp_path / "e.zarr").any()
    with pytest.raises(DataError, match="a Zarr is written from integers or floats, not from complex64"):
        create_image(tmp_path / "c.zarr", (4, 4), 1, "complex64")
