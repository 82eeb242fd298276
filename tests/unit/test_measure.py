"""The table of what was found: its columns and units, by hand; files; regions; what is not known."""

from __future__ import annotations

import csv
import math
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetkit.core.errors import MachineError
from unetkit.data.formats.base import ImageInfo, MapGrid
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.predict.finished import Finished
from unetkit.predict.measure import measurements, write_measurements
from unetkit.predict.post.room import Room

CELLS = np.array([[0, 1, 1, 0, 0], [0, 1, 1, 0, 2], [0, 0, 0, 0, 2]], np.uint8)


def finished(label: np.ndarray = CELLS, image: np.ndarray | None = None, **more: Any) -> Finished:
    classes = tuple(LegendClass(name=n, value=k, colour=(k, 0, 0)) for k, n in enumerate(("back", "a", "b")))
    pixels = np.arange(label.size, dtype=np.uint16).reshape(1, *label.shape) if image is None else image
    return Finished(
        ImageInfo(label.shape, len(pixels), False, str(pixels.dtype), "grey", **more),
        Legend(kind="values", classes=classes, background=0),
        lambda region: label[region.slices],
        None,
        lambda region: pixels[(slice(None), *region.slices)],
    )


def table_of(found: Finished, block: tuple[int, ...] | None = None) -> dict[str, Any]:
    return {name: list(column) for name, column in measurements(found, Room(Path(), 10**8, block)).items()}


@pytest.mark.parametrize("block", [None, (1, 2)])
def test_connected_areas_are_measured_where_there_are_no_objects(block: tuple[int, ...] | None) -> None:
    table = table_of(finished(spacing=(2.0, 0.5), unit="µm"), block)
    assert table["object"] == [1, 2]
    assert table["class"] == ["a", "b"]
    assert table["pixels"] == [4, 2]
    assert table["area_um2"] == [4.0, 2.0]
    assert table["centroid_y_px"] == [0.5, 1.5]
    assert table["centroid_x_um"] == [0.75, 2.0]
    assert (table["box_x_start_px"], table["box_x_stop_px"]) == ([1, 4], [3, 5])
    assert table["extent"] == [1, 1]
    assert table["intensity_mean"] == [4.0, 11.5]
    assert (table["intensity_min"], table["intensity_max"]) == ([1, 9], [7, 14])
    assert table["intensity_std"] == pytest.approx([np.std([1, 2, 6, 7]), 2.5])
    assert "perimeter_um" not in table  # of pixels that are not square it is not defined
    assert "probability_mean" not in table


def test_lengths_of_signals_are_in_seconds() -> None:
    table = table_of(finished(np.array([0, 1, 1, 1, 0, 2], np.uint8), spacing=(0.002,), unit="s", axes="T"))
    assert table["length_s"] == pytest.approx([0.006, 0.002])
    assert table["centroid_t_s"] == pytest.approx([0.004, 0.01])
    assert not [name for name in table if name.startswith(("axis_", "perimeter", "equivalent", "extent"))]


def test_without_a_spacing_there_are_pixels_only() -> None:
    table = table_of(finished())
    assert table["perimeter_px"] == [4.0, 0.0]
    assert table["equivalent_diameter_px"] == pytest.approx([math.sqrt(16 / math.pi), math.sqrt(8 / math.pi)])
    assert not [name for name in table if name.endswith(("_um", "_mm", "_units"))]


def test_places_on_maps_and_in_scanners() -> None:
    table = table_of(
        finished(spacing=(0.5, 0.5), unit="m", map=MapGrid("EPSG:32616", (0.5, 0, 733601, 0, -0.5, 3725139)))
    )
    assert table["map_x"] == [733601 + 0.5 * 2.0, 733601 + 0.5 * 4.5]
    assert table["map_y"] == [3725139 - 0.5 * 1.0, 3725139 - 0.5 * 2.0]
    label = np.zeros((4, 3, 2), np.uint8)
    label[1, 2, 0] = 1
    affine = (0, -2.0, 0, 10, 3.0, 0, 0, 20, 0, 0, 4.0, 30, 0, 0, 0, 1)
    table = table_of(finished(label, spacing=(3.0, 2.0, 4.0), unit="mm", affine=affine, axes="XYZ"))
    assert [table[f"ras_{axis}_mm"] for axis in "xyz"] == [[6.0], [23.0], [30.0]]
    assert table["volume_mm3"] == [24.0]
    assert table["centroid_x_px"] == [1.0]


def test_values_that_say_nothing_are_left_out() -> None:
    image = np.arange(15.0).reshape(1, 3, 5)
    image[0, 0, 1], image[0, 1:, 4] = np.nan, -9999
    table = table_of(finished(image=image, nodata=-9999.0))
    assert table["intensity_mean"][0] == pytest.approx((2 + 6 + 7) / 3)
    assert np.isnan(table["intensity_mean"][1])
    assert np.isnan(table["intensity_min"][1])


def test_channels_go_by_their_names() -> None:
    image = np.zeros((2, 3, 5), np.uint8)
    names = list(table_of(finished(image=image, channel_names=("DAPI", "GFP 2"))))
    assert "intensity_DAPI_mean" in names
    assert "intensity_GFP_2_std" in names
    assert "intensity_2_max" in list(table_of(finished(image=image)))


def test_regions_that_overlap_are_measured_one_after_the_other() -> None:
    bits = np.array([[1, 3, 3, 0, 2]], np.uint8)
    base = finished(bits)
    classes = tuple(LegendClass(name=n, value=k, colour=(k, 0, 0)) for k, n in enumerate(("whole", "core"), 1))
    share = np.stack([bits & 1, bits >> 1]).astype(np.float32) * 0.5
    regions = replace(
        base,
        legend=Legend(kind="regions", classes=classes, background=None),
        probabilities=lambda region: share[(slice(None), *region.slices)],
    )
    table = table_of(regions)
    assert table["class"] == ["whole", "core", "core"]
    assert table["pixels"] == [3, 2, 1]
    assert table["object"] == [1, 2, 3]
    assert table["probability_mean"] == [0.5, 0.5, 0.5]


def test_files_hold_the_table(tmp_path: Path) -> None:
    found = finished(spacing=(0.25, 0.25), unit="mm", map=MapGrid("", (0.25, 0, 733601.125, 0, -0.25, 3725139.5)))
    write_measurements(tmp_path / "t.csv", found)
    with (tmp_path / "t.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == ["a", "b"]
    assert float(rows[0]["map_x"]) == 733601.625  # what a map's coordinates need is not rounded away
    pytest.importorskip("pyarrow")
    import pyarrow.parquet

    write_measurements(tmp_path / "t.parquet", found)
    table = pyarrow.parquet.read_table(tmp_path / "t.parquet").to_pydict()
    assert list(table) == list(rows[0])
    assert table["pixels"] == [4, 2]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["t.csv", "t.parquet"]


def test_an_image_without_anything_has_an_empty_table(tmp_path: Path) -> None:
    write_measurements(tmp_path / "t.csv", finished(CELLS * 0))
    text = (tmp_path / "t.csv").read_text()
    assert text.startswith("object,class,pixels,")
    assert len(text.splitlines()) == 1


def test_a_missing_package_is_named_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MachineError, match=r"not installed: pip install 'unetkit\[tables\]'; or ask for csv"):
        write_measurements(tmp_path / "t.parquet", finished())
