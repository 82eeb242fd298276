"""What the axes of an array are: as the file says, as the user says, or guessed and said; pixel sizes and levels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats import Reading
from unetkit.data.formats.axes import letter_of, understand
from unetkit.data.formats.spacing import chosen_level, in_one_unit, of_level, unit_of

PATH = Path("data/a.tif")


@pytest.mark.parametrize(
    ("sizes", "names", "axes", "shape", "channels"),
    [
        ((7, 20, 30), "ZYX", "ZYX", (7, 20, 30), 1),
        ((2, 7, 20, 30), "CZYX", "ZYX", (7, 20, 30), 2),
        ((7, 20, 30, 3), "ZYXS", "ZYX", (7, 20, 30), 3),
        ((1, 1, 7, 20, 30, 1), "TCZYXS", "ZYX", (7, 20, 30), 1),
        ((1, 5, 1, 20, 30), "TCZYX", "YX", (20, 30), 5),
        ((1, 1, 1, 1, 30), "TCZYX", "YX", (1, 30), 1),
        ((30, 20, 7), "XYZ", "XYZ", (30, 20, 7), 1),  # the order of the file stays
        ((12, 5000), "CT", "T", (5000,), 12),
        ((5000,), "T", "T", (5000,), 1),
    ],
)
def test_axes_that_the_file_names(
    sizes: tuple[int, ...], names: str, axes: str, shape: tuple[int, ...], channels: int
) -> None:
    found = understand(PATH, sizes, names, Reading())
    assert (found.names, found.shape, found.channels, found.notes) == (axes, shape, channels, ())


@pytest.mark.parametrize(
    ("sizes", "names", "taken"),
    [
        ((512, 400), "??", "YX"),
        ((3, 512, 400), "???", "CYX"),
        ((40, 512, 400), "???", "ZYX"),
        ((12, 512, 400), "???", "ZYX"),  # a stack of a few slices is more common than as many channels
        ((512, 400, 12), "???", "YXC"),
        ((2, 40, 512, 400), "????", "CZYX"),
        ((40, 2, 512, 400), "????", "ZCYX"),
        ((40, 512, 400, 3), "????", "ZYXC"),
        ((5000,), "?", "T"),
        ((12, 5000), "??", "CT"),
        ((5000, 12), "??", "TC"),
        ((40, 512, 400), "IYX", "ZYX"),  # the pages of a TIFF
        ((3, 512, 400), "IYX", "CYX"),
        ((3, 512, 400, 3), "IYXS", "ZYXS"),
        ((40, 2, 512, 400), "IRYX", "ZCYX"),
    ],
)
def test_what_nothing_names_is_guessed_and_said(sizes: tuple[int, ...], names: str, taken: str) -> None:
    found = understand(PATH, sizes, names, Reading())
    assert found.notes == (
        f"a.tif: its {' × '.join(map(str, sizes))} are taken as {', '.join(taken)} (nothing says so); "
        "--axes tells otherwise",
    )
    assert found.names == "".join(a for a in taken if a in "ZYX") or found.names == "T"
    assert found.channels == next((n for n, a in zip(sizes, taken, strict=True) if a in "CS"), 1)


@pytest.mark.parametrize(
    ("sizes", "names", "asked", "axes", "shape", "channels"),
    [
        ((40, 20, 30), "TYX", "ZYX", "ZYX", (40, 20, 30), 1),
        ((3, 20, 30), "???", "zyx", "ZYX", (3, 20, 30), 1),
        ((1, 3, 20, 30), "????", "ZYX", "ZYX", (3, 20, 30), 1),  # axes of length 1 may be left out
        ((1, 3, 20, 30), "????", "T,C,Y,X", "YX", (20, 30), 3),
        ((30, 20, 7, 2), "????", "XYZC", "XYZ", (30, 20, 7), 2),
        ((30, 20, 7), "???", "XYZC", "XYZ", (30, 20, 7), 1),  # the mask of that image
    ],
)
def test_axes_that_the_user_names(
    sizes: tuple[int, ...], names: str, asked: str, axes: str, shape: tuple[int, ...], channels: int
) -> None:
    found = understand(PATH, sizes, names, Reading(axes=asked))
    assert (found.names, found.shape, found.channels, found.notes) == (axes, shape, channels, ())


@pytest.mark.parametrize(
    ("sizes", "names", "asked", "says"),
    [
        ((40, 20, 30), "ZYX", "TZYX", "--axes TZYX names 4 axes, but it has 40 × 20 × 30 (Z, Y, X): name each of them"),
        ((40, 20, 30), "???", "YX", "--axes YX names 2 axes, but it has 40 × 20 × 30: name each of them"),
        ((40, 20, 30), "???", "ZZX", "--axes ZZX names Z twice; it has 40 × 20 × 30"),
        ((40, 20, 30), "???", "ZYQ", "--axes ZYQ: 'Q' is no axis; they are Z, Y, X (space), C (channels), T (time)"),
        (
            (9, 20, 30), "TYX", "",
            "9 points in time (its axes are 9 × 20 × 30 (T (time), Y, X)); an image is one point in time: save each as "
            "a file of its own or, if they are the slices of a volume, call the axis Z: --axes ZYX",
        ),
        ((2, 3, 20, 30), "CYXS", "CSYX", "two axes of channels"),
        ((20, 30), "CS", "", "no axis of space among its 20 × 30 (C (channels), S (samples of a pixel))"),
        ((20, 21, 22, 23), "????", "", "nothing says what its axes are (20 × 21 × 22 × 23); name each, in this order: "
         "--axes CZYX, for example"),
        ((20, 0, 3), "ZYX", "", "the file holds no pixel (its shape is 20 × 0 × 3); export it again"),
    ],
)  # fmt: skip
def test_axes_that_do_not_fit(sizes: tuple[int, ...], names: str, asked: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        understand(PATH, sizes, names, Reading(axes=asked))
    assert str(caught.value).startswith(f"{PATH}: ")
    assert says in str(caught.value)


@given(st.permutations("TCZYX"), st.data())
def test_any_order_of_axes_is_cut_and_arranged(names: list[str], data: st.DataObject) -> None:
    sizes = dict(zip("TCZYX", (1, 2, 3, 4, 5), strict=True))
    array = np.arange(120).reshape([sizes[n] for n in names])
    axes = understand(PATH, array.shape, "".join(names), Reading())
    ends = [sorted((data.draw(st.integers(0, n)), data.draw(st.integers(0, n)))) for n in axes.shape]
    region = Region(tuple(a for a, _ in ends), tuple(b for _, b in ends))
    space = [n for n in names if n in "ZYX"]
    whole = np.einsum(f"{''.join(names)}->TC{''.join(space)}", array)[0]
    np.testing.assert_array_equal(axes.arranged(array[axes.index(region)]), whole[(slice(None), *region.slices)])


def test_names_of_axes() -> None:
    assert [letter_of(n) for n in ("z", "Y", "channel", "time", "depth", "", None, "phi", "c")] == list("ZYCTZ???C")


def test_units_have_one_spelling() -> None:
    assert {unit_of(u) for u in ("µm", "um", "micron", "Micrometer", "μm", "\\u00B5m")} == {("µm", 1.0)}
    assert unit_of("angstrom") == ("nm", 0.1)
    assert unit_of("pixel") == ("", 1.0)
    assert in_one_unit([2000, 0.5, 0.5], ["nm", "µm", "µm"]) == ((2.0, 0.5, 0.5), "µm")
    assert in_one_unit([None, 0.5], ["µm", "µm"]) == (None, "")
    assert in_one_unit([1, 0.5], ["pixel", "µm"]) == (None, "")
    assert in_one_unit([2.0, 1.0], ["", ""]) == ((2.0, 1.0), "")


def test_levels_by_number_and_by_pixel_size() -> None:
    shapes = [(4000, 3000), (1000, 750), (250, 188)]
    spacings = [of_level((0.25, 0.25), shapes[0], s) for s in shapes]
    assert spacings == [(0.25, 0.25), (1.0, 1.0), (4.0, 4.0)]
    assert chosen_level(PATH, Reading(level=2), shapes, spacings) == 2
    assert [chosen_level(PATH, Reading(pixel_size=s), shapes, spacings) for s in (0.1, 0.6, 3.0, 99)] == [0, 1, 2, 2]
    with pytest.raises(DataError, match="there is no level 3; it has 3 \\(0: 4000 × 3000; 1: 1000 × 750; 2: 250 × 188"):
        chosen_level(PATH, Reading(level=3), shapes, spacings)
    with pytest.raises(DataError, match="the file does not tell the size of its pixels; choose by --level"):
        chosen_level(PATH, Reading(pixel_size=1.0), shapes, [None, None, None])
