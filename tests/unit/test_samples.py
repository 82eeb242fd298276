"""The sample set is what it says: seeded, synthetic, three classes in every part, and found by discovery."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from unetkit.core.errors import DataError
from unetkit.data.find.discover import discover, images_of
from unetkit.data.formats import open_image
from unetkit.data.samples import BACKGROUND, INTERIOR, MEMBRANE, NOTICE, micrograph, write_samples


def test_layout_and_notice(tmp_path: Path) -> None:
    files = write_samples(tmp_path / "set", count=8, size=96)
    found = discover(tmp_path / "set")
    assert len(files) == len(found.cases) == 8
    assert [c.split for c in found.cases].count("train") == 6
    assert [c.split for c in found.cases].count("test") == 2
    assert found.synthetic
    assert found.notes == (NOTICE.partition("\n")[0],)
    assert discover(tmp_path / "set" / "test").synthetic
    assert [p.name for p in images_of(tmp_path / "set" / "test")] == ["cells4.png", "cells8.png"]
    for case in found.cases:
        assert case.label is not None
        with open_image(case.images[0]) as image, open_image(case.label) as mask:
            assert (image.info.shape, image.info.dtype, image.info.mode) == ((96, 96), "uint8", "grey")
            assert mask.info.shape == (96, 96)
            assert set(np.unique(mask.read())) <= {BACKGROUND, INTERIOR, MEMBRANE}


def test_the_same_for_the_same_seed() -> None:
    first, again, other = micrograph(96, 3, 1), micrograph(96, 3, 1), micrograph(96, 4, 1)
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    assert (first[0] != other[0]).any()


def test_the_masks_make_sense() -> None:
    shares = np.zeros(3)
    for index in range(6):
        image, mask = micrograph(160, 0, index)
        shares += [(mask == value).mean() / 6 for value in (BACKGROUND, INTERIOR, MEMBRANE)]
        by_class = [image[mask == v].mean() for v in (BACKGROUND, INTERIOR, MEMBRANE) if (mask == v).sum() > 200]
        assert by_class == sorted(by_class)
        assert image.max() > 200
        # membranes close: the insides of the cells are many separate pieces, and no cell touches the background
        assert ndimage.label(mask == INTERIOR)[1] > 8
        touching = ndimage.binary_dilation(mask == BACKGROUND) & (mask == INTERIOR)
        assert touching.sum() <= 0.002 * mask.size
        # one threshold does not do it: grey values of membrane and inside overlap
        low, high = np.quantile(image[mask == MEMBRANE], 0.25), np.quantile(image[mask == INTERIOR], 0.9)
        assert low < high
    assert 0.05 < shares[0] < 0.5
    assert 0.1 < shares[2] < 0.3


@pytest.mark.parametrize(("count", "size"), [(1, 96), (4, 63)])
def test_too_few_or_too_small(tmp_path: Path, count: int, size: int) -> None:
    with pytest.raises(DataError, match="at least 2 samples of 64 pixels are needed"):
        write_samples(tmp_path / "set", count=count, size=size)
    assert not (tmp_path / "set").exists()
