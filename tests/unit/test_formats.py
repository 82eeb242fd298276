"""Every mode and depth is read as it was written; every bad file gets one message that names it."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from unetkit.core.errors import DataError, MachineError
from unetkit.core.region import Region
from unetkit.data.formats import create_image, image_paths, natural_key, open_image, probe


def noise(shape: tuple[int, ...], dtype: str = "uint8", top: int | None = None) -> np.ndarray:
    rng = np.random.default_rng(0)
    if np.dtype(dtype).kind == "f":
        return rng.normal(size=shape).astype(dtype)
    info = np.iinfo(dtype)
    return rng.integers(info.min, info.max if top is None else top, size=shape, dtype=dtype, endpoint=True)


def essence(path: Path) -> tuple[object, ...]:
    """Size, channels, alpha, type and meaning of the channels of a file."""
    info = probe(path)
    return info.shape, info.channels, info.alpha, info.dtype, info.mode


def read(path: Path, **options: object) -> np.ndarray:
    with open_image(path) as reader:
        return reader.read(**options)  # type: ignore[arg-type]


# ---- Pillow formats


@pytest.mark.parametrize(
    ("mode", "channels", "alpha", "meaning"),
    [("L", 1, False, "grey"), ("LA", 1, True, "grey"), ("RGB", 3, False, "rgb"), ("RGBA", 3, True, "rgb")],
)
def test_png_of_8_bits(tmp_path: Path, mode: str, channels: int, alpha: bool, meaning: str) -> None:
    pixels = noise((7, 5, len(mode))) if len(mode) > 1 else noise((7, 5))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert essence(tmp_path / "a.png") == ((7, 5), channels, alpha, "uint8", meaning)
    planes = np.moveaxis(np.atleast_3d(pixels), -1, 0)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), planes[:channels])
    np.testing.assert_array_equal(read(tmp_path / "a.png", alpha=True), planes)


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tif"])
def test_one_bit_is_0_and_255(tmp_path: Path, suffix: str) -> None:
    pixels = noise((9, 13), top=1) * 255
    Image.fromarray(pixels).convert("1").save(tmp_path / f"a{suffix}")
    got = read(tmp_path / f"a{suffix}")
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, pixels[None])


def test_one_bit_fax_tiff_whose_white_is_0(tmp_path: Path) -> None:
    pixels = noise((9, 16), top=1) * 255
    tifffile.imwrite(tmp_path / "a.tif", pixels == 0, photometric="miniswhite")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels[None])


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_written_is_read(tmp_path: Path, suffix: str, dtype: str, channels: int) -> None:
    pixels = noise((channels, 37, 53), dtype)
    path = tmp_path / f"a{suffix}"
    with create_image(path, (37, 53), channels, dtype) as writer:
        for top in range(0, 37, 10):
            box = Region((top, 0), (min(37, top + 10), 53))
            writer.write(box, pixels[(slice(None), *box.slices)])
    info = probe(path)
    assert (info.shape, info.channels, info.alpha, info.dtype) == (
        (37, 53),
        channels - 1 + channels % 2,
        channels in (2, 4),
        dtype,
    )
    assert info.mode == ("rgb" if channels >= 3 else "grey")
    np.testing.assert_array_equal(read(path, alpha=True), pixels)
    np.testing.assert_array_equal(read(path), pixels[: info.channels])


def test_16_bit_colours_keep_their_16_bits(tmp_path: Path) -> None:
    pixels = np.full((3, 4, 4), 0x1234, np.uint16)
    with create_image(tmp_path / "a.png", (4, 4), 3, "uint16") as writer:
        writer.write(Region.of((4, 4)), pixels)
    assert read(tmp_path / "a.png").max() == 0x1234


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_palette_is_colours_or_indices(tmp_path: Path, suffix: str) -> None:
    path, indices = tmp_path / f"a{suffix}", noise((6, 8), top=2)
    colours = [(0, 0, 0), (250, 10, 20), (1, 2, 3)]
    with create_image(path, (6, 8), 1, "uint8", palette=colours) as writer:
        writer.write(Region.of((6, 8)), indices)
    assert essence(path) == ((6, 8), 3, False, "uint8", "palette")
    np.testing.assert_array_equal(read(path, palette="indices"), indices[None])
    np.testing.assert_array_equal(read(path), np.moveaxis(np.array(colours, np.uint8)[indices], -1, 0))


def test_palette_with_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(noise((6, 8), top=1)).convert("P")
    image.info["transparency"] = 0
    image.save(tmp_path / "a.png", transparency=0)
    assert probe(tmp_path / "a.png").alpha
    assert set(np.unique(read(tmp_path / "a.png", alpha=True)[3])) == {0, 255}


def test_first_frame_of_a_gif(tmp_path: Path) -> None:
    first, second = (Image.fromarray(np.full((8, 8), v, np.uint8)) for v in (40, 200))
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    assert read(tmp_path / "a.gif").min() == read(tmp_path / "a.gif").max() == 40


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg(tmp_path: Path, mode: str) -> None:
    Image.fromarray(np.full((16, 16, 3), (200, 100, 50), np.uint8)).convert(mode).save(tmp_path / "a.jpg", quality=95)
    info = probe(tmp_path / "a.jpg")
    assert (info.channels, info.mode) == ((1, "grey") if mode == "L" else (3, "rgb"))
    if mode != "L":
        np.testing.assert_allclose(read(tmp_path / "a.jpg")[:, 3, 3], (200, 100, 50), atol=4)


def test_orientation_is_reported_and_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(noise((10, 20))).save(tmp_path / "a.jpg", exif=exif)
    assert (probe(tmp_path / "a.jpg").orientation, probe(tmp_path / "a.jpg").shape) == (6, (10, 20))


def test_content_decides_and_not_the_name(tmp_path: Path) -> None:
    Image.fromarray(noise((10, 20))).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").rename(tmp_path / "a.png")
    np.testing.assert_array_equal(read(tmp_path / "a.png"), noise((10, 20))[None])


def test_what_is_read_is_the_callers_own(tmp_path: Path) -> None:
    Image.fromarray(noise((4, 4))).save(tmp_path / "a.png")
    with open_image(tmp_path / "a.png") as reader:
        reader.read()[:] = 0
        np.testing.assert_array_equal(reader.read(), noise((4, 4))[None])


def test_large_png_is_not_taken_for_a_bomb(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((10_000, 20_000), np.uint8)).save(tmp_path / "a.png", compress_level=1)
    assert probe(tmp_path / "a.png").shape == (10_000, 20_000)  # Pillow's own guard raises from 179 million pixels


# ---- TIFF


@pytest.mark.parametrize(
    "dtype", ["uint8", "int8", "uint16", "int16", "uint32", "int32", "int64", "float16", "float32", "float64"]
)
def test_tiff_of_every_type(tmp_path: Path, dtype: str) -> None:
    pixels = noise((21, 34), dtype)
    tifffile.imwrite(tmp_path / "theirs.tif", pixels, byteorder=">")
    with create_image(tmp_path / "ours.tif", (21, 34), 1, dtype) as writer:
        writer.write(Region.of((21, 34)), pixels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "ours.tif"), pixels)
    for name in ("theirs.tif", "ours.tif"):
        got = read(tmp_path / name)
        assert got.dtype == np.dtype(dtype)
        assert essence(tmp_path / name) == ((21, 34), 1, False, dtype, "grey")
        np.testing.assert_array_equal(got, pixels[None])


@pytest.mark.parametrize("compression", [None, "lzw", "zlib", "zstd", "packbits", "lzma", "png", "jpeg2000"])
@pytest.mark.parametrize("tile", [None, (16, 32)])
def test_tiff_of_every_compression(tmp_path: Path, compression: str | None, tile: tuple[int, int] | None) -> None:
    pixels = noise((45, 70))
    options = {"compressionargs": {"reversible": True, "level": 0}} if compression == "jpeg2000" else {}
    tifffile.imwrite(
        tmp_path / "a.tif", pixels, compression=compression, tile=tile, rowsperstrip=None if tile else 7, **options
    )
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels[None])
    box = Region((13, 15), (34, 66))
    np.testing.assert_array_equal(read(tmp_path / "a.tif", region=box), pixels[box.slices][None])


@pytest.mark.parametrize("photometric", ["rgb", "minisblack"])
def test_jpeg_compressed_tiff(tmp_path: Path, photometric: str) -> None:
    pixels = np.broadcast_to(np.arange(64, dtype=np.uint8)[:, None] * 3, (64, 64))
    pixels = np.stack([pixels] * 3, -1) if photometric == "rgb" else pixels
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression="jpeg", tile=(32, 32), photometric=photometric)
    got = read(tmp_path / "a.tif")
    assert got.shape == ((3, 64, 64) if photometric == "rgb" else (1, 64, 64))
    np.testing.assert_allclose(got[0].astype(float), np.atleast_3d(pixels)[..., 0], atol=6)


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize(("channels", "alpha"), [(3, False), (4, True), (5, False)])
def test_tiff_channels_together_and_apart(
    tmp_path: Path, planar: str, channels: int, alpha: bool, compression: str | None
) -> None:
    pixels = noise((channels, 30, 40), "uint16")
    stored = np.moveaxis(pixels, 0, -1) if planar == "contig" else pixels
    extra = {4: ["unassalpha"], 5: ["unspecified", "unspecified"]}.get(channels)
    tifffile.imwrite(
        tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar, extrasamples=extra, compression=compression
    )
    info = probe(tmp_path / "a.tif")
    assert (info.shape, info.channels, info.alpha) == ((30, 40), channels - alpha, alpha)
    assert info.mode == ("bands" if channels == 5 else "rgb")
    np.testing.assert_array_equal(read(tmp_path / "a.tif", alpha=True), pixels)
    box = Region((3, 5), (20, 39))
    np.testing.assert_array_equal(read(tmp_path / "a.tif", region=box), pixels[(slice(channels - alpha), *box.slices)])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("axes", ["CYX of tifffile", "YXC of tifffile", "CYX of OME", "CYX of ImageJ"])
def test_stacks_of_channels(tmp_path: Path, axes: str, compression: str | None) -> None:
    pixels = noise((4, 40, 30), "uint16")
    name = "a.ome.tif" if "OME" in axes else "a.tif"
    if "ImageJ" in axes:
        if compression:
            pytest.skip("ImageJ's own files are not compressed")
        tifffile.imwrite(tmp_path / name, pixels, imagej=True, metadata={"axes": "CYX"})
    elif "OME" in axes:
        tifffile.imwrite(
            tmp_path / name, pixels, metadata={"axes": "CYX"}, compression=compression, photometric="minisblack"
        )
    elif axes.startswith("C"):
        tifffile.imwrite(tmp_path / name, pixels, compression=compression, photometric="minisblack")
    else:
        stored = np.moveaxis(pixels, 0, -1)
        tifffile.imwrite(tmp_path / name, stored, compression=compression, photometric="minisblack", planarconfig=None)
    assert essence(tmp_path / name) == ((40, 30), 4, False, "uint16", "bands")
    np.testing.assert_array_equal(read(tmp_path / name), pixels)
    box = Region((7, 11), (40, 12))
    np.testing.assert_array_equal(read(tmp_path / name, region=box), pixels[(slice(None), *box.slices)])


def test_probabilities_are_planes_that_others_read(tmp_path: Path) -> None:
    pixels = noise((3, 600, 530), "float16")
    with create_image(tmp_path / "a.tif", (600, 530), 3, "float16") as writer:
        writer.write(Region.of((600, 530)), pixels)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif"), pixels)
    assert essence(tmp_path / "a.tif") == ((600, 530), 3, False, "float16", "bands")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels)


@pytest.mark.parametrize("compression", ["deflate", "none", "lzw", "zstd"])
def test_tiff_is_written_with_every_compression(tmp_path: Path, compression: str) -> None:
    pixels = noise((3, 600, 30), top=3)
    with create_image(tmp_path / "a.tif", (600, 30), 3, "uint8", compression=compression) as writer:
        writer.write(Region.of((600, 30)), pixels)
    np.testing.assert_array_equal(np.moveaxis(tifffile.imread(tmp_path / "a.tif"), -1, 0), pixels)


def test_big_tiff_where_4_gigabytes_do_not_suffice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetkit.data.formats.pictures.tiff_write._BIG", 1000)
    pixels = noise((5, 64, 80), "uint16")
    with create_image(tmp_path / "a.tif", (64, 80), 5, "uint16") as writer:
        writer.write(Region.of((64, 80)), pixels)
    with tifffile.TiffFile(tmp_path / "a.tif") as tif:
        assert tif.is_bigtiff
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), pixels)


def test_empty_tiles_are_zero(tmp_path: Path) -> None:
    tiles = iter([np.ones((16, 16), np.uint8), None])
    tifffile.imwrite(tmp_path / "a.tif", tiles, shape=(16, 32), dtype="uint8", tile=(16, 16), compression="zlib")
    np.testing.assert_array_equal(read(tmp_path / "a.tif")[0].sum(axis=0), [16] * 16 + [0] * 16)


def test_strips_are_kept_within_bounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unetkit.data.formats.pictures.tiff_pages.CACHE_BYTES", 3 * 64)
    pixels = noise((64, 64))
    tifffile.imwrite(tmp_path / "a.tif", pixels, compression="zlib", rowsperstrip=1)
    with open_image(tmp_path / "a.tif") as reader:
        np.testing.assert_array_equal(reader.read(), pixels[None])
        assert reader.pages.cached <= 3 * 64  # type: ignore[attr-defined]


def test_one_giant_strip_is_decoded_once(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((64, 64)), compression="zlib", rowsperstrip=64)
    with open_image(tmp_path / "a.tif") as reader:
        first = reader.read(Region((0, 0), (5, 5)))
        (tmp_path / "a.tif").write_bytes(b"")  # whatever comes now does not come from the file
        np.testing.assert_array_equal(reader.read(Region((0, 0), (5, 5))), first)


# ---- errors


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        read(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert "\n" not in text
    return text


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".tif"])
@pytest.mark.parametrize("keep", [0.1, 0.5, 0.9])
def test_truncated(tmp_path: Path, suffix: str, keep: float) -> None:
    path = tmp_path / f"a{suffix}"
    Image.fromarray(noise((64, 64, 3))).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert "truncated or damaged" in refusal(path)
    assert refusal(path).endswith("copy or export it again, or leave it out")


@pytest.mark.parametrize("compression", [None, "zlib", "lzw"])
@pytest.mark.parametrize("cut", [20, 4000])
def test_truncated_tiff(tmp_path: Path, compression: str | None, cut: int) -> None:
    tifffile.imwrite(tmp_path / "a.tif", noise((64, 64), "uint16"), compression=compression)
    (tmp_path / "a.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:-cut])
    assert "truncated or damaged" in refusal(tmp_path / "a.tif")


def test_truncated_16_bit_colours(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with create_image(path, (64, 64), 3, "uint16") as writer:
        writer.write(Region.of((64, 64)), noise((3, 64, 64), "uint16"))
    path.write_bytes(path.read_bytes()[:9000])
    assert "truncated or damaged" in refusal(path)


def test_damaged_in_the_middle(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, noise((64, 64)), compression="zlib")
    content = bytearray(path.read_bytes())
    start = content.index(zlib.compress(b"")[:1], 300)
    content[start : start + 200] = bytes(200)
    path.write_bytes(bytes(content))
    assert "truncated or damaged" in refusal(path)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.png", b"", "the file is empty (0 bytes); copy or export it again, or leave it out"),
        ("a.png", b"hello, world\n", "this is not an image, whatever its suffix says (it begins with b'hello, w')"),
        ("a.jxl", b"x", "the suffix '.jxl' is not read; images are .png, .tif, "),
        ("readme", b"x", "a name without suffix is not read; images are .png"),
    ],
)
def test_what_is_not_an_image(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    (tmp_path / name).write_bytes(content)
    assert says in refusal(tmp_path / name)


def test_absent_and_folder(tmp_path: Path) -> None:
    assert "there is no such file" in refusal(tmp_path / "a.png")
    (tmp_path / "b.png").mkdir()
    assert "this is a folder, not an image" in refusal(tmp_path / "b.png")


def test_complex_values_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((4, 4), np.complex64))
    assert "values of type complex64 are not read; save the file as integers or floats" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("name", "channels", "dtype", "options", "says"),
    [
        ("a.jpg", 1, "uint8", {}, "images are written as .png, .tif or .tiff, not as '.jpg', which may lose values"),
        ("a", 1, "uint8", {}, "not as a name without suffix"),
        ("a.png", 1, "float32", {}, "a PNG holds 1 to 4 channels of uint8 or uint16, not 1 of float32; use .tif"),
        ("a.png", 5, "uint8", {}, "not 5 of uint8; use .tif"),
        ("a.png", 1, "uint8", {"compression": "lzw"}, "a PNG is compressed by deflate or none, not by lzw; use .tif"),
        ("a.tif", 1, "uint8", {"compression": "gzip"}, "the compression 'gzip' is not one of none, lzw, deflate, zstd"),
        ("a.tif", 1, "complex64", {}, "a TIFF is written from integers or floats, not from complex64"),
        (
            "a.tif",
            2,
            "uint8",
            {"palette": [(0, 0, 0)]},
            "a palette (1 to 256 colours) needs 1 channel of uint8 indices",
        ),
        ("a.tif", 0, "uint8", {}, "an image of 4 × 4 pixels and 0 channels cannot be written"),
    ],
)
def test_what_cannot_be_written(
    tmp_path: Path, name: str, channels: int, dtype: str, options: dict[str, object], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        create_image(tmp_path / name, (4, 4), channels, dtype, **options)  # type: ignore[arg-type]
    assert says in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / name}: ")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_nothing_half_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"before")
    part = Region((0, 0), (512, 4))

    def interrupted() -> None:
        with create_image(path, (600, 4), 1, "uint8") as writer:
            writer.write(part, noise((1, 512, 4)))
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        interrupted()
    with (
        pytest.raises(ValueError, match="352 pixels of \\(600, 4\\) were never written"),
        create_image(path, (600, 4), 1, "uint8") as writer,
    ):
        writer.write(part, noise((1, 512, 4)))
    assert path.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(MachineError, match="a file stands where a folder is needed"):
        create_image(tmp_path / "file" / "a.tif", (4, 4), 1, "uint8").__enter__()


def test_mistakes_of_the_caller(tmp_path: Path) -> None:
    Image.fromarray(noise((4, 6))).save(tmp_path / "a.png")
    with open_image(tmp_path / "a.png") as reader, pytest.raises(ValueError, match="leaves the image"):
        reader.read(Region((0, 0), (4, 7)))
    whole, array = Region.of((4, 6)), noise((1, 4, 6))
    for region, given, says in [
        (Region((0, 0), (5, 6)), array, "leaves the image"),
        (whole, array[:, :3], "does not fit"),
        (whole, array.astype(float), "the file holds uint8"),
    ]:
        with pytest.raises(ValueError, match=says), create_image(tmp_path / "b.tif", (4, 6), 1, "uint8") as writer:
            writer.write(region, given)
    with create_image(tmp_path / "c.tif", (4, 6), 1, "uint8") as writer:
        writer.write(whole, array)
        with pytest.raises(ValueError, match="was written before"):
            writer.write(whole, array)
        writer._missing = 0
    assert not (tmp_path / "b.tif").exists()


# ---- paths


def test_natural_order_and_hidden_files(tmp_path: Path) -> None:
    for name in ["b10.png", "b9.PNG", "a.tif", ".b1.png", "notes.txt", ".b-x.unetkit-partial.png", "B2.jpg"]:
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [p.name for p in image_paths(tmp_path)] == ["a.tif", "B2.jpg", "b9.PNG", "b10.png"]
    assert sorted(["x10", "x9", "x09", "x"], key=natural_key) == ["x", "x09", "x9", "x10"]


def test_real_images(shared_data) -> None:  # type: ignore[no-untyped-def]
    for name, dtype in [("em", "uint8"), ("nuclei", "uint8"), ("axons", "uint8"), ("phase", "uint16")]:
        path = image_paths(shared_data(name) / "images")[0]
        got = read(path)
        info = probe(path)
        assert got.shape == (info.channels, *info.shape)
        assert got.dtype == dtype == info.dtype
        assert got.max() > got.min()
