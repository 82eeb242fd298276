"""Cases that are one file or one folder: both inside a file, channels beside a mask, columns of a table."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

from unetkit.core.errors import DataError
from unetkit.data.find.discover import discover, images_of
from unetkit.data.formats import Reading, open_image
from unetkit.data.labels.masks import read_label
from unetkit.data.labels.survey import infer_legend
from unetkit.data.source import open_case

RANDOM = np.random.default_rng(0)


def hdf5(path: Path, **arrays: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


def both(path: Path) -> Path:
    mask = np.zeros((6, 20, 24), np.uint8)
    mask[2:4, 5:9, 5:9] = 1
    return hdf5(path, raw=RANDOM.integers(0, 255, mask.shape).astype(np.uint16), label=mask)


def test_a_file_with_image_and_label_inside_is_a_case(tmp_path: Path) -> None:
    for name in ("b", "a10", "a2"):
        both(tmp_path / "volumes" / f"{name}.h5")
    found = discover(tmp_path)
    assert [case.id for case in found.cases] == ["volumes/a2", "volumes/a10", "volumes/b"]
    assert found.layout == "HDF5 files that hold the image and its label"
    case = found.cases[0]
    assert case.images == (tmp_path / "volumes/a2.h5/raw",)
    assert case.label == tmp_path / "volumes/a2.h5/label"
    with open_case(case) as reader:
        assert reader.info.shape == (6, 20, 24)
    legend, _ = infer_legend(found.cases)
    assert read_label(case, legend)[0].sum() == 2 * 4 * 4


def test_one_such_file_is_a_set_of_one(tmp_path: Path) -> None:
    path = both(tmp_path / "a.h5")
    found = discover(path)
    assert [case.id for case in found.cases] == ["a"]
    assert found.root == path


def test_which_of_several_must_be_said(tmp_path: Path) -> None:
    zeros = np.zeros((4, 8, 8), np.uint8)
    hdf5(tmp_path / "a.h5", raw=zeros, other=zeros, label=zeros)
    with pytest.raises(DataError) as error:
        discover(tmp_path)
    assert str(error.value).startswith(f"{tmp_path / 'a.h5'}: holds 2 images and 1 labels: ")
    assert "say in a CSV of image,mask which belong together: " in str(error.value)
    (tmp_path / "set.csv").write_text("image,mask\na.h5/raw,a.h5/label\n")
    assert discover(tmp_path).cases[0].images == (tmp_path / "a.h5/raw",)


def test_a_table_may_name_channels_in_files_of_their_own(tmp_path: Path) -> None:
    for name in ("a1", "a2", "m"):
        Image.fromarray(RANDOM.integers(0, 255, (8, 9), dtype=np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "set.csv").write_text("image,image2,mask\na1.png,a2.png,m.png\n")
    (case,) = discover(tmp_path).cases
    assert [p.name for p in case.images if isinstance(p, Path)] == ["a1.png", "a2.png"]
    with open_case(case) as reader:
        assert reader.info.channels == 2
    (tmp_path / "set.csv").write_text("image,image2,mask\na1.png,,m.png\n")
    with pytest.raises(DataError, match=r"set\.csv, line 2: no file is named in the column 'image2'"):
        discover(tmp_path)


def test_a_folder_for_each_case_with_its_channels(tmp_path: Path) -> None:
    for case in ("brain_1", "brain_2"):
        (tmp_path / case).mkdir()
        for part in ("flair", "t1", "seg"):
            array = RANDOM.integers(0, 2, (8, 9), dtype=np.uint8)
            Image.fromarray(array).save(tmp_path / case / f"{case}_{part}.png")
    found = discover(tmp_path)
    assert [case.id for case in found.cases] == ["brain_1", "brain_2"]
    assert found.layout == "a folder for each case, with its mask and its channels (flair, t1)"
    assert [p.name for p in found.cases[1].images if isinstance(p, Path)] == ["brain_2_flair.png", "brain_2_t1.png"]
    assert found.cases[1].label == tmp_path / "brain_2/brain_2_seg.png"


def test_what_was_said_of_reading_reaches_every_case(tmp_path: Path) -> None:
    both(tmp_path / "a.h5")
    reading = Reading("ZYX")
    assert discover(tmp_path, reading).cases[0].reading == reading
    with open_image(tmp_path / "a.h5/raw", reading) as reader:
        assert reader.info.axes == "ZYX"


def test_what_is_predicted_may_lie_inside_a_file_or_be_a_folder(tmp_path: Path) -> None:
    path = both(tmp_path / "a.h5")
    assert images_of(path / "raw") == [path / "raw"]
    assert images_of(path) == [path]
