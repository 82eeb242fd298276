"""Read by region is read whole; written by region, in any order, is written whole."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unetkit.core.region import Region
from unetkit.data.formats import create_image, open_image


@st.composite
def sizes_and_regions(draw: st.DrawFn) -> tuple[tuple[int, int], list[Region]]:
    shape = (draw(st.integers(1, 90)), draw(st.integers(1, 90)))
    regions = []
    for _ in range(3):
        ends = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
        regions.append(Region(tuple(a for a, _ in ends), tuple(b for _, b in ends)))
    return shape, regions


@settings(deadline=None, max_examples=60)
@given(
    sizes_and_regions(),
    st.sampled_from(["uint8", ">u2", "float32"]),
    st.integers(1, 4),
    st.sampled_from([None, "zlib", "lzw"]),
    st.sampled_from([None, (16, 16), (32, 48)]),
    st.sampled_from(["contig", "separate"]),
    st.integers(1, 20),
)
def test_tiff_regions(
    case: tuple[tuple[int, int], list[Region]], dtype: str, channels: int, compression: str | None,
    tile: tuple[int, int] | None, planar: str, rows: int,
) -> None:  # fmt: skip
    shape, regions = case
    pixels = np.random.default_rng(1).integers(0, 255, (channels, *shape)).astype(dtype)
    stored = pixels[0] if channels == 1 else np.moveaxis(pixels, 0, -1) if planar == "contig" else pixels
    extra = ["unspecified"] * (channels - 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        tifffile.imwrite(
            path, stored, photometric="minisblack", planarconfig=planar if channels > 1 else None,
            compression=compression, extrasamples=extra, tile=tile, rowsperstrip=None if tile else rows, metadata=None,
        )  # fmt: skip
        with open_image(path) as reader:
            assert reader.info.channels == channels
            np.testing.assert_array_equal(reader.read(), pixels)
            for region in regions:
                got = reader.read(region)
                assert got.dtype == np.dtype(dtype).newbyteorder("=")
                np.testing.assert_array_equal(got, pixels[(slice(None), *region.slices)])


@settings(deadline=None, max_examples=25)
@given(sizes_and_regions(), st.sampled_from(["L", "RGB", "P", "1"]), st.sampled_from(["png", "bmp", "gif"]))
def test_raster_regions(case: tuple[tuple[int, int], list[Region]], mode: str, suffix: str) -> None:
    shape, regions = case
    pixels = np.random.default_rng(2).integers(0, 255, (*shape, 3), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"a.{suffix}"
        Image.fromarray(pixels).convert(mode).save(path)
        with open_image(path) as reader:
            whole = reader.read()
            for region in regions:
                np.testing.assert_array_equal(reader.read(region), whole[(slice(None), *region.slices)])


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 1200),
    st.integers(1, 700),
    st.integers(1, 5),
    st.sampled_from(["uint8", "uint16", "float16"]),
    st.integers(1, 600),
    st.integers(1, 600),
    st.randoms(use_true_random=False),
)
def test_tiff_written_by_tiles_in_any_order(
    height: int, width: int, channels: int, dtype: str, high: int, wide: int, random,  # type: ignore[no-untyped-def]
) -> None:  # fmt: skip
    high, wide = max(high, height // 8), max(wide, width // 8)
    pixels = np.random.default_rng(3).integers(0, 99, (channels, height, width)).astype(dtype)
    boxes = [
        Region((y, x), (min(height, y + high), min(width, x + wide)))
        for y in range(0, height, high)
        for x in range(0, width, wide)
    ]
    random.shuffle(boxes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.tif"
        with create_image(path, (height, width), channels, dtype, compression="zstd") as writer:
            for box in boxes:
                writer.write(box, pixels[(slice(None), *box.slices)])
        with open_image(path) as reader:
            np.testing.assert_array_equal(reader.read(alpha=True), pixels)
