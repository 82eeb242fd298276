"""NumPy arrays: .npy mapped by region, .npz by name; nothing is unpickled."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from array_files import noise, read, refusal
from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats import Reading, contents, create_image, probe

BOX = Region((2, 11, 5), (9, 60, 40))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["uint8", ">i2", "float16", "float64", "bool"])
def test_npy_of_every_kind(tmp_path: Path, dtype: str, order: str) -> None:
    pixels = (noise((12, 70, 50)) % 2).astype(dtype)
    np.save(tmp_path / "a.npy", np.asarray(pixels, order=order))  # type: ignore[call-overload]
    expected = pixels.astype(np.uint8) * 255 if dtype == "bool" else pixels.astype(np.dtype(dtype).newbyteorder("="))
    for region in (None, BOX):
        got = read(tmp_path / "a.npy", region)
        assert (got.dtype, type(got), got.flags.c_contiguous) == (expected.dtype, np.ndarray, True)
        np.testing.assert_array_equal(got[0], expected if region is None else expected[region.slices])
    assert probe(tmp_path / "a.npy").notes == (
        "a.npy: its 12 × 70 × 50 are taken as Z, Y, X (nothing says so); --axes tells otherwise",
    )


@pytest.mark.parametrize(
    ("axes", "shape", "channels"),
    [("ZYXC", (12, 70, 5), 4), ("CZYX", (70, 5, 4), 12), ("XYZC", (12, 70, 5), 4), ("TCYX", None, 0)],
)
def test_axes_by_the_user(tmp_path: Path, axes: str, shape: tuple[int, ...] | None, channels: int) -> None:
    pixels = noise((12, 70, 5, 4))
    np.save(tmp_path / "a.npy", pixels)
    if shape is None:
        assert "12 points in time" in refusal(tmp_path / "a.npy", Reading(axes=axes))
        return
    info = probe(tmp_path / "a.npy", Reading(axes=axes))
    assert (info.shape, info.channels, info.axes, info.notes) == (shape, channels, axes.replace("C", ""), ())
    moved = np.moveaxis(pixels, axes.index("C"), 0)
    np.testing.assert_array_equal(read(tmp_path / "a.npy", reading=Reading(axes=axes)), moved)


@pytest.mark.parametrize("compressed", [False, True])
def test_npz_holds_several(tmp_path: Path, compressed: bool) -> None:
    pixels, path = noise((12, 70, 50)), tmp_path / "a.npz"
    save = np.savez_compressed if compressed else np.savez
    save(path, image=pixels, cell_mask=pixels > 125, name=np.array("text"))
    assert [(i.address, i.label, i.shape, i.dtype) for i in contents(path)] == [
        (path / "image", False, (12, 70, 50), "uint16"),
        (path / "cell_mask", True, (12, 70, 50), "bool"),
    ]
    np.testing.assert_array_equal(read(path)[0], pixels)
    np.testing.assert_array_equal(read(path / "image", BOX)[0], pixels[BOX.slices])
    np.testing.assert_array_equal(read(path / "cell_mask")[0] > 0, pixels > 125)
    save(path, first=pixels, second=pixels)
    says = "it holds 2 images: first (12 × 70 × 50, uint16), second (12 × 70 × 50, uint16); name one: a.npz/first"
    assert says in refusal(path)
    with pytest.raises(DataError, match="there is no image 'third' in it; it holds first"):
        read(path / "third")


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, ...]:
            return (print, ("executed",))

    np.save(tmp_path / "a.npy", np.array([Bomb()], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "b.npz", image=np.array([Bomb()], dtype=object))
    for name in ("a.npy", "b.npz"):
        says = "an array of Python objects is not read, since that could run code; save numbers: "
        assert says in refusal(tmp_path / name)


@pytest.mark.parametrize("name", ["a.npy", "a.npz"])
@pytest.mark.parametrize("keep", [0.001, 0.5, 0.99])
def test_truncated(tmp_path: Path, name: str, keep: float) -> None:
    path = tmp_path / name
    np.save(path, noise((12, 70, 50))) if name == "a.npy" else np.savez_compressed(path, image=noise((12, 70, 50)))
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * keep)])
    assert "truncated or damaged" in refusal(path)


def test_what_is_no_image(tmp_path: Path) -> None:
    np.save(tmp_path / "c.npy", np.zeros((4, 4), np.complex64))
    assert "values of type complex64 are not read; save integers or floats" in refusal(tmp_path / "c.npy")
    np.save(tmp_path / "e.npy", np.zeros((0, 4)))
    assert "the file holds no pixel (its shape is 0 × 4)" in refusal(tmp_path / "e.npy")
    np.save(tmp_path / "s.npy", np.zeros((20, 30, 40, 50), np.uint8))
    assert "nothing says what its axes are (20 × 30 × 40 × 50); name each" in refusal(tmp_path / "s.npy")
    assert "there is no level 2; it has 1 (0: 20 × 30 × 40)" in refusal(
        tmp_path / "s.npy", Reading(axes="ZYXC", level=2)
    )


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (3, "float32")])
@pytest.mark.parametrize("shape", [(1000,), (70, 50), (12, 70, 50)])
def test_written_by_region(tmp_path: Path, shape: tuple[int, ...], channels: int, dtype: str) -> None:
    pixels = noise((channels, *shape), dtype)
    with create_image(tmp_path / "a.npy", shape, channels, dtype) as writer:
        middle = tuple(n // 2 for n in shape)
        for corner in np.ndindex(*(2,) * len(shape)):
            start = tuple(m if c else 0 for c, m in zip(corner, middle, strict=True))
            stop = tuple(n if c else m for c, m, n in zip(corner, middle, shape, strict=True))
            region = Region(start, stop)
            writer.write(region, pixels[(slice(None), *region.slices)])
    stored = np.load(tmp_path / "a.npy")
    assert stored.shape == (shape if channels == 1 else (channels, *shape))
    np.testing.assert_array_equal(stored.reshape(pixels.shape), pixels)


def test_what_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"an \.npy is written from integers or floats, not from complex64"):
        create_image(tmp_path / "a.npy", (4, 4), 1, "complex64")
    with pytest.raises(DataError, match=r"not as '\.npz'"):
        create_image(tmp_path / "a.npz", (4, 4), 1, "uint8")
