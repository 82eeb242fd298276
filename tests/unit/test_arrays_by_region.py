"""Of every format of stacks and arrays: regions are parts of the whole, writers hold a band, kills leave nothing."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.core.files import remove_partial
from unetkit.core.region import Region
from unetkit.data.formats import create_image, open_image
from unetkit.data.formats.arrays.chunks import ChunkBuffer, aligned_bands

h5py = pytest.importorskip("h5py")

WRITTEN = ["a.tif", "a.ome.tif", "a.zarr", "a.h5", "a.npy"]


def _ome_tiff(path: Path, array: np.ndarray) -> None:
    tifffile.imwrite(
        path, array, tile=(16, 32), compression="zlib", metadata={"axes": "ZCYX"}, photometric="minisblack"
    )


def _imagej(path: Path, array: np.ndarray) -> None:
    tifffile.imwrite(path, array, imagej=True, metadata={"axes": "ZCYX"})


def _zarr(path: Path, array: np.ndarray) -> None:
    zarr.create_array(path, data=array, chunks=(3, 1, 8, 8), dimension_names=list("zcyx"))


def _hdf5(path: Path, array: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        data = file.create_dataset("raw", data=array, chunks=(2, 1, 2, 2), compression="gzip")
        data.attrs["axes"] = "ZCYX"


MADE: dict[str, Callable[[Path, np.ndarray], None]] = {
    "a.ome.tif": _ome_tiff, "a.tif": _imagej, "a.zarr": _zarr, "a.h5": _hdf5,
}  # fmt: skip


@st.composite
def shapes_and_regions(draw: st.DrawFn) -> tuple[tuple[int, int, int], list[Region]]:
    shape = (draw(st.integers(2, 9)), draw(st.integers(2, 40)), draw(st.integers(2, 50)))
    regions = []
    for _ in range(3):
        ends = [sorted((draw(st.integers(0, n)), draw(st.integers(0, n)))) for n in shape]
        regions.append(Region(tuple(a for a, _ in ends), tuple(b for _, b in ends)))
    return shape, regions


@pytest.mark.parametrize("name", MADE)
@settings(deadline=None, max_examples=12)
@given(shapes_and_regions(), st.integers(2, 3))
def test_a_region_is_a_part_of_the_whole(
    name: str, case: tuple[tuple[int, int, int], list[Region]], channels: int
) -> None:
    (depth, height, width), regions = case
    array = np.random.default_rng(0).integers(0, 999, (depth, channels, height, width)).astype(np.uint16)
    with tempfile.TemporaryDirectory() as folder:
        MADE[name](Path(folder) / name, array)
        with open_image(Path(folder) / name) as reader:
            assert (reader.info.shape, reader.info.channels) == ((depth, height, width), channels)
            np.testing.assert_array_equal(reader.read(), array.swapaxes(0, 1))
            for region in regions:
                np.testing.assert_array_equal(reader.read(region), array.swapaxes(0, 1)[(slice(None), *region.slices)])


@pytest.mark.parametrize("name", WRITTEN)
@settings(deadline=None, max_examples=6)
@given(
    st.tuples(st.integers(2, 70), st.integers(2, 90), st.integers(2, 600)),
    st.tuples(st.integers(20, 70), st.integers(20, 90), st.integers(100, 600)),
    st.sampled_from([(1, "uint8"), (2, "float32")]),
    st.randoms(use_true_random=False),
)
def test_written_in_any_order_is_the_whole(  # type: ignore[no-untyped-def]
    name: str, shape: tuple[int, int, int], step: tuple[int, int, int], kind: tuple[int, str], random
) -> None:
    channels, dtype = kind
    array = np.random.default_rng(0).integers(0, 99, (channels, *shape)).astype(dtype)
    counts = [range(0, n, s) for n, s in zip(shape, step, strict=True)]
    boxes = [
        Region((z, y, x), tuple(min(n, a + s) for n, a, s in zip(shape, (z, y, x), step, strict=True)))
        for z in counts[0] for y in counts[1] for x in counts[2]
    ]  # fmt: skip
    random.shuffle(boxes)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        with create_image(path, shape, channels, dtype) as writer:
            for box in boxes:
                writer.write(box, array[(slice(None), *box.slices)])
        stored = {
            ".tif": lambda: tifffile.imread(path).reshape(shape[0], channels, *shape[1:]).swapaxes(0, 1),
            ".zarr": lambda: zarr.open_group(path, mode="r")["0"][...],
            ".h5": lambda: _first(path),
            ".npy": lambda: np.load(path),
        }[path.suffix]()
        np.testing.assert_array_equal(stored.reshape(array.shape), array)


def _first(path: Path) -> np.ndarray:
    with h5py.File(path) as file:
        return np.asarray(next(iter(file.values()))[()])


@given(
    st.lists(st.tuples(st.integers(1, 40), st.integers(1, 15)), min_size=1, max_size=3),
    st.integers(1, 4000),
)
def test_bands_are_whole_chunks_and_partition(sides: list[tuple[int, int]], pixels: int) -> None:
    shape, chunk = tuple(n for n, _ in sides), tuple(min(c, n) for n, c in sides)
    seen = np.zeros(shape, int)
    for band in aligned_bands(shape, chunk, pixels):
        seen[band.slices] += 1
        assert all(a % c == 0 and (b % c == 0 or b == n)
                   for a, b, c, n in zip(band.start, band.stop, chunk, shape, strict=True))  # fmt: skip
        assert band.size <= max(pixels, np.prod(chunk))
    assert (seen == 1).all()


def test_chunks_that_are_begun_are_held_and_no_others() -> None:
    puts: list[Region] = []
    buffer = ChunkBuffer((10, 10), (4, 4), 1, np.dtype(np.uint8), lambda region, _: puts.append(region))
    array = np.zeros((1, 10, 10), np.uint8)
    buffer.add(Region((0, 0), (8, 10)), array[:, :8])
    assert puts == [Region((0, 0), (8, 10))]
    buffer.add(Region((8, 0), (9, 10)), array[:, :1])
    assert (len(puts), len(buffer._held)) == (1, 3)
    buffer.add(Region((9, 0), (10, 10)), array[:, :1])
    assert (len(puts), len(buffer._held)) == (4, 0)


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("shape", [(192, 256, 512), (8192, 3072)])
def test_a_writer_that_is_fed_by_bands_holds_little_more_than_one(
    tmp_path: Path, name: str, shape: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unetkit.data.formats.arrays.zarr_write._CHUNK", {2: (512, 512), 3: (64, 64, 64)})
    monkeypatch.setattr("unetkit.data.formats.arrays.zarr_write._STEP", 1 << 18)
    pattern = np.arange(shape[-1], dtype=np.uint8)

    def write(path: Path) -> None:
        with create_image(path, shape, 1, "uint8") as writer:  # 24 MB, in bands of half a megabyte
            for region in writer.bands(1 << 19):
                writer.write(region, np.broadcast_to(pattern[region.slices[-1]], (1, *region.shape)))

    write(tmp_path / "first" / name)  # what is loaded on first use does not count
    tracemalloc.start()
    write(tmp_path / name)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * 2**20  # a row of tiles of the image has 1.5 MB; a chunk of a coarser level is made of 2 MB
    with open_image(tmp_path / name) as reader:
        np.testing.assert_array_equal(reader.read(Region((3,) * len(shape), (5,) * len(shape)))[0, ..., 0], 3)


KILLED = """
import os, signal, sys
import numpy as np
from pathlib import Path
from unetkit.core.region import Region
from unetkit.data.formats import create_image
with create_image(Path(sys.argv[1]), (70, 80, 90), 1, "uint8") as writer:
    writer.write(Region((0, 0, 0), (64, 80, 90)), np.ones((64, 80, 90), np.uint8))
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("name", ["a.ome.tif", "a.zarr", "a.h5", "a.npy"])
def test_a_kill_leaves_no_half_file(tmp_path: Path, name: str) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / name)], check=False)
    assert done.returncode == -signal.SIGKILL
    left = list(tmp_path.iterdir())
    assert left
    assert all(p.name.startswith(".") for p in left)
    remove_partial(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a.npy", "a.tif"])
def test_pages_of_a_mapping_do_not_pile_up(tmp_path: Path, name: str) -> None:
    """Reading a file of 64 MB through region by region adds little to what the process holds."""
    import psutil

    array = np.ones((64, 1024, 1024), np.uint8)
    np.save(tmp_path / name, array) if name == "a.npy" else tifffile.imwrite(
        tmp_path / name, array, imagej=True, metadata={"axes": "ZYX"}
    )
    del array
    process = psutil.Process()
    with open_image(tmp_path / name) as reader:
        reader.read(Region((0, 0, 0), (1, 1024, 1024)))
        before = process.memory_info().rss
        for z in range(64):
            reader.read(Region((z, 0, 0), (z + 1, 1024, 1024)))
        assert process.memory_info().rss - before < 24 * 2**20
