"""Stacks, hyperstacks, OME-TIFF, pyramids and slides: read by region with their geometry, written for other readers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import tifffile

from array_files import noise, read, refusal
from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats import ImageInfo, Reading, create_image, files_behind, open_image, probe

BOX = Region((2, 11, 5), (5, 60, 40))


def known(info: ImageInfo) -> tuple[object, ...]:
    return info.shape, info.channels, info.axes, info.spacing, info.unit


@pytest.mark.parametrize("tile", [None, (32, 16)])
@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["ZYX", "CZYX", "ZCYX", "TZCYX"])
def test_ome_tiff_says_axes_sizes_and_names(
    tmp_path: Path, axes: str, compression: str | None, tile: tuple[int, int] | None
) -> None:
    sizes = {"T": 1, "C": 2, "Z": 6, "Y": 70, "X": 50}
    pixels = noise(tuple(sizes[a] for a in axes))
    channels = {"Channel": {"Name": ["DAPI", "GFP"]}} if "C" in axes else {}
    tifffile.imwrite(
        tmp_path / "a.ome.tif", pixels, compression=compression, tile=tile, photometric="minisblack",
        metadata={"axes": axes, "PhysicalSizeX": 325, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 325,
                  "PhysicalSizeYUnit": "nm", "PhysicalSizeZ": 2.0, **channels},
    )  # fmt: skip
    info = probe(tmp_path / "a.ome.tif")
    assert known(info) == ((6, 70, 50), 1 + ("C" in axes), "ZYX", (2000.0, 325.0, 325.0), "nm")
    assert info.channel_names == (("DAPI", "GFP") if "C" in axes else ())
    assert info.notes == ()
    assert info.chunk == ((1, *(tile or (70, 50))) if tile or compression else None)
    whole = np.einsum(f"{axes}->{'T' if 'T' in axes else ''}{'C' if 'C' in axes else ''}ZYX", pixels)
    whole = whole.reshape(-1, 6, 70, 50)
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif"), whole)
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif", BOX), whole[(slice(None), *BOX.slices)])


@pytest.mark.parametrize("truncate", [False, True])
def test_imagej_hyperstacks(tmp_path: Path, truncate: bool) -> None:
    pixels = noise((6, 2, 70, 50))
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, imagej=True, truncate=truncate, resolution=(4.0, 4.0),
        metadata={"axes": "ZCYX", "unit": "um", "spacing": 2.0, "Labels": ["a", "b"] * 6},
    )  # fmt: skip
    # truncated: one directory before one block of pixels, as ImageJ writes more than 4 GB
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert len(tif.pages) == (1 if truncate else 12)
    info = probe(tmp_path / "a.tif")
    assert known(info) == ((6, 70, 50), 2, "ZYX", (2.0, 0.25, 0.25), "µm")
    assert info.channel_names == ("a", "b")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", BOX), pixels.swapaxes(0, 1)[(slice(None), *BOX.slices)])


def test_frames_that_are_slices(tmp_path: Path) -> None:
    pixels = noise((9, 70, 50))
    tifffile.imwrite(tmp_path / "a.tif", pixels, imagej=True, metadata={"axes": "TYX"})
    assert "9 points in time (its axes are 9 × 70 × 50 (T (time), Y, X))" in refusal(tmp_path / "a.tif")
    assert refusal(tmp_path / "a.tif").endswith("call the axis Z: --axes ZYX")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", reading=Reading(axes="ZYX"))[0], pixels)
    assert "--axes TZYX names 4 axes, but it has 9 × 70 × 50" in refusal(tmp_path / "a.tif", Reading(axes="TZYX"))


@pytest.mark.parametrize(("pages", "shape", "channels", "axes"), [(9, (9, 70, 50), 1, "Z"), (3, (70, 50), 3, "C")])
def test_pages_without_a_word_are_guessed(
    tmp_path: Path, pages: int, shape: tuple[int, ...], channels: int, axes: str
) -> None:
    pixels = noise((pages, 70, 50))
    with tifffile.TiffWriter(tmp_path / "a.tif") as tif:
        for page in pixels:
            tif.write(page, metadata=None, contiguous=False, compression="zlib")
    info = probe(tmp_path / "a.tif")
    assert (info.shape, info.channels) == (shape, channels)
    assert info.notes == (
        f"a.tif: its {pages} × 70 × 50 are taken as {axes}, Y, X (nothing says so); --axes tells otherwise",
    )
    np.testing.assert_array_equal(read(tmp_path / "a.tif").reshape(pages, 70, 50), pixels)
    assert probe(tmp_path / "a.tif", Reading(axes="ZYX")).notes == ()


def test_colour_stacks_and_deep_tiles(tmp_path: Path) -> None:
    colours = noise((6, 70, 50, 3), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", colours, photometric="rgb", compression="zlib", metadata={"axes": "ZYXS"})
    assert (probe(tmp_path / "a.tif").mode, probe(tmp_path / "a.tif").shape) == ("rgb", (6, 70, 50))
    np.testing.assert_array_equal(
        read(tmp_path / "a.tif", BOX), np.moveaxis(colours, -1, 0)[(slice(None), *BOX.slices)]
    )
    deep = noise((20, 70, 50))
    tifffile.imwrite(
        tmp_path / "b.tif", deep, photometric="minisblack", volumetric=True, tile=(16, 32, 32), compression="zlib",
        metadata={"axes": "ZYX"},
    )  # fmt: skip
    assert probe(tmp_path / "b.tif").chunk == (16, 32, 32)
    np.testing.assert_array_equal(read(tmp_path / "b.tif", BOX), deep[BOX.slices][None])


def test_only_what_a_region_touches_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((6, 64, 64)), tile=(16, 16), compression="zlib",
                     metadata={"axes": "ZYX"}, photometric="minisblack")  # fmt: skip
    with open_image(tmp_path / "a.ome.tif") as reader:
        reader.read(Region((2, 0, 0), (4, 17, 16)))
        assert len(reader.pages.cache) == 2 * 2 * 1  # type: ignore[attr-defined]


def pyramid(path: Path, kind: str) -> list[np.ndarray]:
    full = noise((256, 200, 3), "uint8")
    levels = [full, np.ascontiguousarray(full[::2, ::2]), np.ascontiguousarray(full[::4, ::4])]
    options = {"tile": (64, 64), "compression": "zlib", "photometric": "rgb"}
    with tifffile.TiffWriter(path) as tif:
        if kind == "slide":  # as Aperio writes: baseline, thumbnail, levels
            said = "Aperio Image Library v1\n256x200 |AppMag = 20|MPP = 0.5"
            tif.write(full, **options, description=said, metadata=None)
            tif.write(full[::8, ::8], photometric="rgb", metadata=None, rowsperstrip=8)
            for level in levels[1:]:
                tif.write(level, **options, metadata=None, description="Aperio Image Library v1")
        elif kind == "SubIFDs":
            meta = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            tif.write(full, **options, subifds=2, metadata=meta)
            for level in levels[1:]:
                tif.write(level, **options, subfiletype=1)
        else:  # overviews, as GDAL and vips write them; the resolution is that of a microscope
            tif.write(full, **options, metadata=None, resolution=(20000, 20000), resolutionunit="CENTIMETER")
            for level in levels[1:]:
                tif.write(level, **options, subfiletype=1, metadata=None)
    return levels


@pytest.mark.parametrize(("name", "kind"), [("a.svs", "slide"), ("a.ome.tif", "SubIFDs"), ("a.tif", "overviews")])
def test_levels_of_pyramids(tmp_path: Path, name: str, kind: str) -> None:
    levels = pyramid(tmp_path / name, kind)
    shapes = ((256, 200), (128, 100), (64, 50))
    box = Region((10, 7), (50, 45))
    for level, (pixels, size) in enumerate(zip(levels, (0.5, 1.0, 2.0), strict=True)):
        for reading in (Reading(level=level), Reading(pixel_size=size * 1.1)):
            info = probe(tmp_path / name, reading)
            assert (info.levels, info.shape, info.spacing, info.unit) == (shapes, shapes[level], (size, size), "µm")
            assert info.chunk is not None
            got = read(tmp_path / name, box, reading)
            np.testing.assert_array_equal(got, np.moveaxis(pixels, -1, 0)[(slice(None), *box.slices)])
    says = "there is no level 3; it has 3 (0: 256 × 200; 1: 128 × 100; 2: 64 × 50)"
    assert says in refusal(tmp_path / name, Reading(level=3))


def test_one_level_and_no_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((20, 30)))
    assert "there is no level 1; it has 1 (0: 20 × 30)" in refusal(tmp_path / "a.tif", Reading(level=1))
    says = "the file does not tell the size of its pixels; choose by --level (0: 20 × 30)"
    assert says in refusal(tmp_path / "a.tif", Reading(pixel_size=0.5))


def test_the_resolution_of_a_printer_is_no_pixel_size(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((20, 30)), resolution=(118, 118), resolutionunit="CENTIMETER")
    tifffile.imwrite(tmp_path / "b.tif", noise((20, 30)), resolution=(72, 72), resolutionunit="INCH")
    assert [probe(tmp_path / n).spacing for n in ("a.tif", "b.tif")] == [None, None]


def test_a_size_that_is_known_in_part_is_left_out_and_said(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((6, 20, 30)), photometric="minisblack",
                     metadata={"axes": "ZYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5})  # fmt: skip
    info = probe(tmp_path / "a.ome.tif")
    assert info.spacing is None
    assert info.notes == ("a.ome.tif: the size of its pixels is known in Y, X, not in Z: left out",)


def ome_set(folder: Path) -> np.ndarray:
    """An OME-TIFF whose second half of planes lies in another file."""
    pixels = noise((6, 40, 30))
    for number, name in enumerate(("a.ome.tif", "b.ome.tif")):
        data = "".join(
            f'<TiffData IFD="0" FirstZ="{first}" PlaneCount="3"><UUID FileName="{file}">urn:uuid:{key}</UUID>'
            "</TiffData>"
            for first, file, key in ((0, "a.ome.tif", "1"), (3, "b.ome.tif", "2"))
        )
        xml = (
            '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
            f'UUID="urn:uuid:{number + 1}"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
            'Type="uint16" SizeX="30" SizeY="40" SizeZ="6" SizeC="1" SizeT="1"><Channel ID="Channel:0:0"/>'
            f"{data}</Pixels></Image></OME>"
        )
        with tifffile.TiffWriter(folder / name) as tif:
            for page in pixels[3 * number : 3 * number + 3]:
                tif.write(page, description=xml, metadata=None, contiguous=False, compression="zlib")
                xml = ""
    return pixels


def test_a_set_of_files_is_one_image(tmp_path: Path) -> None:
    pixels = ome_set(tmp_path)
    for name in ("a.ome.tif", "b.ome.tif"):
        np.testing.assert_array_equal(read(tmp_path / name)[0], pixels)
    assert set(files_behind(tmp_path / "a.ome.tif")) == {tmp_path / "a.ome.tif", tmp_path / "b.ome.tif"}
    (tmp_path / "b.ome.tif").unlink()
    assert refusal(tmp_path / "a.ome.tif").endswith(
        "its OME set lacks the file b.ome.tif; put all files of the set into one folder, under their own names, or "
        "save the set as one file"
    )


def test_a_part_of_a_set_points_to_its_head(tmp_path: Path) -> None:
    xml = (
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:2">'
        '<BinaryOnly MetadataFile="head.ome.tif" UUID="urn:uuid:1"/></OME>'
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((20, 30)), description=xml, metadata=None)
    assert refusal(tmp_path / "a.ome.tif").endswith("described in head.ome.tif; name head.ome.tif instead")


def test_planes_that_were_never_written(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tifffile.imwrite(tmp_path / "a.ome.tif", noise((6, 20, 30)), metadata={"axes": "ZYX"}, photometric="minisblack",
                     compression="zlib")  # fmt: skip
    content = (tmp_path / "a.ome.tif").read_bytes()
    content = content.replace(b'SizeZ="6"', b'SizeZ="8"').replace(b'PlaneCount="6"', b'PlaneCount="8"')
    (tmp_path / "a.ome.tif").write_bytes(content)
    assert refusal(tmp_path / "a.ome.tif").endswith("2 of its 8 planes are missing; export it again, whole")


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_truncated_stacks(tmp_path: Path, compression: str | None) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((6, 64, 64)), metadata={"axes": "ZYX"}, compression=compression)
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-3000])
    assert "truncated or damaged" in refusal(tmp_path / "a.tif")


# ---- written


def image_with_geometry(folder: Path) -> Path:
    tifffile.imwrite(
        folder / "like.ome.tif", noise((6, 70, 50)), photometric="minisblack",
        metadata={"axes": "ZYX", "PhysicalSizeX": 0.325, "PhysicalSizeY": 0.325, "PhysicalSizeZ": 2.0},
    )  # fmt: skip
    return folder / "like.ome.tif"


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "uint8"), (2, "uint16"), (4, "float32")])
def test_volumes_are_written_for_others(tmp_path: Path, name: str, channels: int, dtype: str) -> None:
    like, pixels = image_with_geometry(tmp_path), noise((channels, 6, 70, 50), dtype)
    names = ("back & ground", "cell", "wall", "rest")[:channels] if channels > 1 else ()
    with create_image(tmp_path / name, (6, 70, 50), channels, dtype, like=like, channel_names=names) as writer:
        for region in writer.bands(2000):
            writer.write(region, pixels[(slice(None), *region.slices)])
    info = probe(tmp_path / name)
    assert known(info) == ((6, 70, 50), channels, "ZYX", (2.0, 0.325, 0.325), "µm")
    assert info.channel_names == (names if channels in (2, 4) else ())  # three of uint8 are colours
    np.testing.assert_array_equal(read(tmp_path / name), pixels)
    with tifffile.TiffFile(tmp_path / name) as tif:
        series = tif.series[0]
        axes = {1: "ZYX", 3: "ZYXS"}.get(channels, "ZCYX")
        assert (series.kind, series.axes) == ("ome" if "ome" in name else "imagej", axes)
        channels_first = f"{axes}->{axes.replace('Z', '').replace('YX', '')}ZYX"
        theirs = np.einsum(channels_first, series.asarray()).reshape(pixels.shape)
        np.testing.assert_array_equal(theirs, pixels)
        if "ome" in name:
            said = tifffile.xml2dict(tif.ome_metadata)["OME"]["Image"]["Pixels"]
            assert [said[f"PhysicalSize{a}"] for a in "ZYX"] == [2.0, 0.325, 0.325]
            assert said["PhysicalSizeXUnit"] == "µm"
        else:
            meta = tif.imagej_metadata
            assert (meta["unit"], meta["spacing"]) == ("um", 2.0)
            assert tif.pages[0].tags["XResolution"].value == (40, 13)


@pytest.mark.parametrize("name", ["out.tif", "out.ome.tif"])
@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (5, "float32")])
def test_images_keep_the_size_of_their_pixels(tmp_path: Path, name: str, channels: int, dtype: str) -> None:
    tifffile.imwrite(tmp_path / "like.tif", noise((70, 50)), imagej=True, resolution=(4, 4), metadata={"unit": "um"})
    pixels = noise((channels, 70, 50), dtype)
    with create_image(tmp_path / name, (70, 50), channels, dtype, like=tmp_path / "like.tif") as writer:
        writer.write(Region.of((70, 50)), pixels)
    assert known(probe(tmp_path / name)) == ((70, 50), channels, "YX", (0.25, 0.25), "µm")
    np.testing.assert_array_equal(read(tmp_path / name), pixels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / name).reshape(pixels.shape), pixels)


def test_narrow_images_in_strips_and_wide_ones_in_tiles(tmp_path: Path) -> None:
    """ImageJ opens no tiles; strips as wide as a slide would be decoded for every small region."""
    for width, tiled in ((3000, False), (5000, True)):
        pixels = noise((1, 300, width), "uint8")
        with create_image(tmp_path / "a.tif", (300, width), 1, "uint8") as writer:
            writer.write(Region.of((300, width)), pixels)
        with tifffile.TiffFile(tmp_path / "a.tif") as tif:
            assert tif.pages[0].is_tiled == tiled
            np.testing.assert_array_equal(tif.asarray(), pixels[0])
        assert probe(tmp_path / "a.tif").chunk == ((300, 512) if tiled else (87, 3000))


def test_equal_results_are_equal_files(tmp_path: Path) -> None:
    contents = []
    for folder in ("a", "b"):
        with create_image(tmp_path / folder / "m.ome.tif", (6, 70, 50), 1, "uint8") as writer:
            writer.write(Region.of((6, 70, 50)), noise((6, 70, 50), "uint8"))
        contents.append((tmp_path / folder / "m.ome.tif").read_bytes())
    assert contents[0] == contents[1]


def test_a_result_over_a_level_has_its_pixel_size(tmp_path: Path) -> None:
    pyramid(tmp_path / "like.ome.tif", "SubIFDs")
    like, reading = tmp_path / "like.ome.tif", Reading(level=1)
    with create_image(tmp_path / "m.tif", (128, 100), 1, "uint8", like=like, reading=reading) as writer:
        writer.write(Region.of((128, 100)), noise((128, 100), "uint8"))
    assert probe(tmp_path / "m.tif").spacing == (1.0, 1.0)
    with pytest.raises(ValueError, match="does not lie over"):
        create_image(tmp_path / "m.tif", (99, 100), 1, "uint8", like=like)


def test_volumes_of_more_than_4_gigabytes_are_big(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetkit.data.formats.pictures.tiff_write._BIG", 1000)
    pixels = noise((2, 6, 70, 50))
    with create_image(tmp_path / "a.ome.tif", (6, 70, 50), 2, "uint16") as writer:
        writer.write(Region.of((6, 70, 50)), pixels)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as tif:
        assert tif.is_bigtiff
        np.testing.assert_array_equal(tif.asarray(), pixels.swapaxes(0, 1))
    np.testing.assert_array_equal(read(tmp_path / "a.ome.tif"), pixels)


@pytest.mark.parametrize(
    ("name", "shape", "dtype", "says"),
    [
        (
            "a.ome.tif",
            (6, 7, 8),
            "float16",
            "an OME-TIFF does not hold float16; write uint8, uint16, uint32 or float32",
        ),
        ("a.png", (6, 7, 8), "uint8", "a volume is written as .tif, .zarr, .h5, .npy or .nii.gz, not as '.png'"),
        ("a.tif", (50,), "uint8", "a signal is written as .csv, .npy, .zarr or .h5, not as '.tif'"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, name: str, shape: tuple[int, ...], dtype: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        create_image(tmp_path / name, shape, 1, dtype)
    assert says in str(caught.value)


def test_a_picture_has_one_level_and_its_own_axes(tmp_path: Path) -> None:
    with create_image(tmp_path / "a.png", (7, 8), 1, "uint8") as writer:
        writer.write(Region.of((7, 8)), noise((7, 8), "uint8"))
    assert "the axes of this file are YX, as its header says" in refusal(tmp_path / "a.png", Reading(axes="ZYX"))
    assert "there is no level 1; it has 1 (0: 7 × 8)" in refusal(tmp_path / "a.png", Reading(level=1))


def test_real_stacks_of_the_set(shared_data, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """The phase-contrast images as a stack: values and order survive both writers."""
    files = sorted((shared_data("phase") / "images").iterdir())[:3]
    stack = np.stack([read(file, Region((100, 100), (400, 300)))[0] for file in files])
    for name in ("a.tif", "a.ome.tif"):
        with create_image(tmp_path / name, stack.shape, 1, stack.dtype) as writer:
            writer.write(Region.of(stack.shape), stack)
        np.testing.assert_array_equal(tifffile.imread(tmp_path / name), stack)
        assert known(probe(tmp_path / name))[:3] == (stack.shape, 1, "ZYX")
