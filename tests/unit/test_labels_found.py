"""Which files are the masks of which image, where it has several: a file for each class, or one for each object."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetkit.core.errors import DataError
from unetkit.data.case import Case, ClassFiles, ObjectFiles
from unetkit.data.find.discover import discover, images_of


def touch(root: Path, names: Sequence[str]) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(root / name)
    return root


def classes(case: Case) -> dict[str, str]:
    assert isinstance(case.label, ClassFiles)
    return {name: path.name if isinstance(path, Path) else "" for name, path in case.label.files}


IMAGES = ("images/a.png", "images/b.png", "images/c.png")


@pytest.mark.parametrize(
    "mask",
    [
        "masks/{c}/{i}.png", "masks/{i}/{c}.png", "masks/{i}_{c}.png", "masks/{c}_{i}.png", "masks/{i}_{c}_mask.png",
        "masks/{i}_mask_{c}.png", "labels/{c}/{i}_label.png", "{c}/{i}.png", "{c}/{i}_mask.png",
    ],
)  # fmt: skip
def test_a_file_for_each_class(tmp_path: Path, mask: str) -> None:
    touch(tmp_path, [*IMAGES, *(mask.format(i=i, c=c) for i in "abc" for c in ("membrane", "nuclei"))])
    found = discover(tmp_path)
    assert [case.id for case in found.cases] == ["a", "b", "c"]
    assert [list(classes(case)) for case in found.cases] == [["membrane", "nuclei"]] * 3
    assert all(case.id in name for case in found.cases for name in classes(case).values()) or "{i}/" in mask
    assert "each class has a file of its own: membrane, nuclei" in found.notes
    assert not found.orphans


def test_in_splits_and_folders(tmp_path: Path) -> None:
    for split in ("train", "val"):
        touch(tmp_path / split, [*IMAGES, *(f"masks/{c}/{i}.png" for i in "abc" for c in ("cell", "gap"))])
    found = discover(tmp_path)
    assert [(case.id, case.split) for case in found.cases][::3] == [("train/a", "train"), ("val/a", "val")]
    images = ["images/rat1/a.png", "images/rat2/a.png"]
    touch(tmp_path / "other", [*images, *(f"masks/{r}/{c}/a.png" for r in ("rat1", "rat2") for c in ("cell", "gap"))])
    assert [case.id for case in discover(tmp_path / "other").cases] == ["rat1/a", "rat2/a"]


def test_one_folder_with_a_mask_for_each_class(tmp_path: Path) -> None:
    for k, pattern in enumerate(("{i}_{c}_mask.png", "{i}_mask_{c}.png")):
        names = [f"{i}.png" for i in "ab"] + [pattern.format(i=i, c=c) for i in "ab" for c in ("cell", "gap")]
        folder = touch(tmp_path / str(k), names)
        found = discover(folder)
        assert [list(classes(case)) for case in found.cases] == [["cell", "gap"]] * 2
        assert [path.name for path in images_of(folder)] == ["a.png", "b.png"]


def test_a_class_without_a_file_is_said(tmp_path: Path) -> None:
    masks = [f"masks/{c}/{i}.png" for i in "abc" for c in ("cell", "gap") if (i, c) != ("b", "gap")]
    found = discover(touch(tmp_path, [*IMAGES, *masks]))
    assert list(classes(found.cases[1])) == ["cell"]
    assert found.notes == (
        "each class has a file of its own: cell, gap; 'gap' has no file for 1 image (e.g. b.png), where it is taken "
        "not to occur",
    )


def test_a_file_for_each_object(tmp_path: Path) -> None:
    masks = [f"masks/{i}/obj{k}.png" for i, n in (("a", 3), ("b", 1), ("c", 2)) for k in range(1, n + 1)]
    found = discover(touch(tmp_path, [*IMAGES, *masks]))
    labels = [case.label for case in found.cases]
    assert all(isinstance(label, ObjectFiles) for label in labels)
    assert [len(case.label_files) for case in found.cases] == [3, 1, 2]
    assert found.notes == ("each object has a file of its own, 6 in 3 images",)


def test_the_data_science_bowl_as_it_was_published(tmp_path: Path) -> None:
    names = []
    for number, digest in enumerate(("00ae65", "0121d6", "01d44a")):
        names.append(f"{digest}/images/{digest}.png")
        names += [f"{digest}/masks/{digest[::-1]}{7 * k:x}.png" for k in range(number + 1)]
    found = discover(touch(tmp_path, names))
    assert {case.id: len(case.label_files) for case in found.cases} == {"00ae65": 1, "0121d6": 2, "01d44a": 3}
    assert all(isinstance(case.label, ObjectFiles) for case in found.cases)


def test_classes_in_a_folder_for_each_image(tmp_path: Path) -> None:
    names = [f"{i}/images/{i}.png" for i in "abc"] + [f"{i}/masks/{c}.png" for i in "abc" for c in ("cell", "gap")]
    assert [list(classes(case)) for case in discover(touch(tmp_path, names)).cases] == [["cell", "gap"]] * 3


def test_equal_names_come_first(tmp_path: Path) -> None:
    names = [*IMAGES, *(f"masks/{i}.png" for i in "abc"), "masks/a_cell.png", "masks/b_cell.png"]
    found = discover(touch(tmp_path, names))
    assert [case.label for case in found.cases] == [tmp_path / f"masks/{i}.png" for i in "abc"]
    assert len(found.orphans) == 2


def test_masks_by_several_people_are_no_classes(tmp_path: Path) -> None:
    touch(tmp_path, [*IMAGES, *(f"masks/{i}_{c}.png" for i in "abc" for c in ("annotator1", "annotator2"))])
    with pytest.raises(DataError) as caught:
        discover(tmp_path)
    a, b = tmp_path / "masks/a_annotator1.png", tmp_path / "masks/a_annotator2.png"
    assert str(caught.value) == (
        f"{a} and {b}: several masks of one image, by several people it seems (annotator1, annotator2); keep one of "
        "them, or say in a CSV of image,mask which to use"
    )


@pytest.mark.parametrize(
    "masks",
    [
        ["masks/a_1.png", "masks/a_2.png", "masks/b_1.png", "masks/b_2.png"],  # of what?
        ["masks/x/a.png", "masks/y/b.png", "masks/y/c.png"],  # one mask each: kinds of images, perhaps
        ["masks/nuclei.png", "masks/membrane.png"],  # of which image?
    ],
)
def test_what_is_not_clear_is_no_family(tmp_path: Path, masks: Sequence[str]) -> None:
    with pytest.raises(DataError, match="no image pairs with a mask"):
        discover(touch(tmp_path, [*IMAGES, *masks]))


def test_two_files_for_one_class(tmp_path: Path) -> None:
    masks = [f"masks/{c}/{i}.png" for i in "abc" for c in ("cell", "gap")]
    touch(tmp_path, [*IMAGES, *masks])
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "masks/cell/a.tif")
    with pytest.raises(DataError, match=r"a\.png and .*a\.tif: 2 masks of the class 'cell' for one image"):
        discover(tmp_path)
