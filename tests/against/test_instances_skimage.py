"""Measurements and objects against scikit-image, on whole images, from blocks of other sizes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import regionprops_table
from skimage.segmentation import watershed

from unetkit.core.region import Region
from unetkit.data.formats.base import ImageInfo
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.predict.finished import Finished
from unetkit.predict.measure import measurements
from unetkit.predict.post.flood import Relief, flooded
from unetkit.predict.post.room import Room

LEGEND = Legend(
    kind="values",
    classes=(LegendClass(name="back", value=0, colour=(0, 0, 0)), LegendClass(name="cell", value=1, colour=(9, 9, 9))),
    background=0,
)


def blobs(shape: tuple[int, ...], seed: int, level: float = 0.55) -> np.ndarray:
    noise = ndimage.gaussian_filter(np.random.default_rng(seed).random(shape), 1.5)
    return noise > np.quantile(noise, level)


@pytest.mark.parametrize(
    ("shape", "spacing", "block"),
    [
        ((61, 47), None, (13, 20)),
        ((61, 47), (0.5, 0.5), (61, 1)),
        ((40, 52), (2.0, 0.25), (7, 52)),
        ((20, 30, 25), (3.0, 0.5, 0.7), (6, 11, 9)),
    ],
)
def test_measurements_are_those_of_regionprops(
    tmp_path: Path, shape: tuple[int, ...], spacing: tuple[float, ...] | None, block: tuple[int, ...]
) -> None:
    ids = ndimage.label(blobs(shape, 3))[0].astype(np.uint32)
    generator = np.random.default_rng(1)
    image = generator.normal(1000, 30, (2, *shape))
    share = generator.random((2, *shape)).astype(np.float32)
    info = ImageInfo(shape, 2, False, "float64", "bands", spacing=spacing, unit="µm", channel_names=("DAPI", "b c"))
    finished = Finished(
        info,
        LEGEND,
        labels=lambda region: (ids[region.slices] > 0).astype(np.uint8),
        probabilities=lambda region: share[(slice(None), *region.slices)],
        image=lambda region: image[(slice(None), *region.slices)],
        objects=lambda region: ids[region.slices],
        count=int(ids.max()),
    )
    table = measurements(finished, Room(tmp_path, 10**9, block))

    ndim, unit = len(shape), "px" if spacing is None else "um"
    scale = spacing or (1.0,) * ndim
    names = ["area", "centroid", "bbox", "intensity_mean", "intensity_min", "intensity_max"]
    names += ["equivalent_diameter_area", "extent", "axis_major_length", "axis_minor_length"]
    names += ["eccentricity"] if ndim == 2 else []
    names += ["perimeter"] if ndim == 2 and len(set(scale)) == 1 else []
    theirs = regionprops_table(ids.astype(int), np.moveaxis(image, 0, -1), properties=names, spacing=scale)
    axes = {2: "yx", 3: "zyx"}[ndim]

    def same(ours: str, key: str) -> None:
        np.testing.assert_allclose(np.asarray(table[ours], float), theirs[key], rtol=1e-6, atol=1e-6, err_msg=ours)

    if spacing is not None:
        same({2: "area_um2", 3: "volume_um3"}[ndim], "area")
    for k, axis in enumerate(axes):
        same(f"centroid_{axis}_{unit}", f"centroid-{k}")
        same(f"box_{axis}_start_px", f"bbox-{k}")
        same(f"box_{axis}_stop_px", f"bbox-{ndim + k}")
    for k, channel in enumerate(("DAPI", "b_c")):
        for what in ("mean", "min", "max"):
            same(f"intensity_{channel}_{what}", f"intensity_{what}-{k}")
        spread = ndimage.standard_deviation(image[k], ids, np.arange(1, ids.max() + 1))
        np.testing.assert_allclose(table[f"intensity_{channel}_std"], spread, rtol=1e-9)
    for ours, key in (
        (f"equivalent_diameter_{unit}", "equivalent_diameter_area"),
        (f"axis_major_{unit}", "axis_major_length"),
        (f"axis_minor_{unit}", "axis_minor_length"),
        ("eccentricity", "eccentricity"),
        (f"perimeter_{unit}", "perimeter"),
        ("extent", "extent"),
    ):
        assert (ours in table) == (key in theirs), ours
        if key in theirs:
            same(ours, key)
    mean = ndimage.mean(share[1], ids, np.arange(1, ids.max() + 1))
    np.testing.assert_allclose(table["probability_mean"], mean, rtol=1e-6)
    assert list(table["object"]) == list(range(1, int(ids.max()) + 1))


@pytest.mark.parametrize("shape", [(60, 50), (24, 20, 16)])
def test_flooding_is_a_watershed_with_seeds_as_sources(tmp_path: Path, shape: tuple[int, ...]) -> None:
    ground, seeds = blobs(shape, 5, 0.3), blobs(shape, 5, 0.8)
    height = ndimage.gaussian_filter(np.random.default_rng(7).random(shape), 1).astype(np.float32)
    relief = Relief(
        lambda region: seeds[region.slices], lambda region: ground[region.slices], lambda region: height[region.slices]
    )
    parts = flooded(relief, shape, Room(tmp_path, 10**9))
    markers = ndimage.label(seeds, np.ones((3,) * len(shape)))[0]
    low = np.where(seeds, height.min() - 1, height)
    theirs = watershed(low, markers, connectivity=np.ones((3,) * len(shape)), mask=ground)
    ours = parts.read(Region.of(shape))
    reached = theirs > 0
    # who takes a pixel that two seeds reach at once is left open by skimage
    assert np.mean(ours[reached] == theirs[reached]) > 0.99
    assert (ours > 0).sum() == ground.sum()
    assert np.array_equal(parts.sizes[1:], np.bincount(ours.reshape(-1))[1:])
