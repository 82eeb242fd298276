"""Every layout in which people keep images and masks is understood; what is not gets one message that helps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from unetkit.core.errors import DataError
from unetkit.data.case import Case, GivenRegion
from unetkit.data.find.discover import SYNTHETIC, discover, images_of


def make(root: Path, *names: str) -> Path:
    """Files of these names (discovery opens no image, so they may be empty)."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def ids(root: Path) -> list[str]:
    return [case.id for case in discover(root).cases]


def refusal(path: Path) -> str:
    with pytest.raises(DataError) as caught:
        discover(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("images", ["images", "image", "Images", "IMG", "raw"])
@pytest.mark.parametrize("masks", ["masks", "mask", "labels", "Label", "annotations", "annotation", "ground_truth"])
def test_two_folders(tmp_path: Path, images: str, masks: str) -> None:
    make(tmp_path, f"{images}/a10.png", f"{images}/a9.jpg", f"{masks}/a9.png", f"{masks}/a10.tif")
    found = discover(tmp_path)
    assert found.cases == (
        Case("a9", (tmp_path / images / "a9.jpg",), tmp_path / masks / "a9.png"),
        Case("a10", (tmp_path / images / "a10.png",), tmp_path / masks / "a10.tif"),
    )
    assert found.layout == f"{images}/ + {masks}/ paired by name"
    assert (found.unlabelled, found.orphans, found.notes, found.synthetic) == ((), (), (), False)


def test_what_does_not_pair_is_named(tmp_path: Path) -> None:
    make(tmp_path, "images/a.png", "images/b.png", "masks/a.png", "masks/c.png", "masks/.hidden.png", "masks/notes.txt")
    found = discover(tmp_path)
    assert found.unlabelled == (tmp_path / "images/b.png",)
    assert found.unlabelled_cases == (Case("b", (tmp_path / "images/b.png",)),)
    assert found.orphans == (tmp_path / "masks/c.png",)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a", "a_mask"), ("a", "mask_a"), ("a", "A_SEG"), ("a", "a-label"), ("a", "a.gt"), ("a_0000", "a"),
        ("img_a", "mask_a"), ("a_sat", "a_mask"), ("a", "a_ground_truth"), ("a", "a_L"),
    ],
)  # fmt: skip
def test_words_in_the_names(tmp_path: Path, image: str, mask: str) -> None:
    make(tmp_path, f"images/{image}.png", f"masks/{mask}.png")
    assert ids(tmp_path) == [image]


def test_the_part_that_varies(tmp_path: Path) -> None:
    make(tmp_path, *[f"images/{n}_training.tif" for n in (21, 22)], *[f"1st_manual/{n}_manual1.gif" for n in (21, 22)])
    found = discover(tmp_path)
    assert [(c.id, c.label.name) for c in found.cases if c.label] == [
        ("21_training", "21_manual1.gif"),
        ("22_training", "22_manual1.gif"),
    ]
    assert found.notes == ("paired by the part of the names that varies: 21_training.tif with 21_manual1.gif",)


def test_folders_below_become_part_of_the_id(tmp_path: Path) -> None:
    make(tmp_path, "images/p1/a.png", "images/p2/a.png", "masks/p1/a.png", "masks/p2/a.png")
    assert ids(tmp_path) == ["p1/a", "p2/a"]


def test_a_pair_of_folders_in_each_folder(tmp_path: Path) -> None:
    make(tmp_path, *[f"{p}/{kind}/a.png" for p in ("p1", "p2") for kind in ("images", "labels")])
    assert ids(tmp_path) == ["p1/a", "p2/a"]


def test_train_val_test(tmp_path: Path) -> None:
    make(tmp_path, *[f"{s}/{k}/a.png" for s in ("Train", "validation", "test") for k in ("images", "masks")])
    make(tmp_path, "test2/images/b.png")
    found = discover(tmp_path)
    assert [(c.id, c.split) for c in found.cases] == [("test/a", "test"), ("Train/a", "train"), ("validation/a", "val")]
    assert found.layout == "images/ + masks/ paired by name, in train, val, test"
    assert [c.id for c in found.unlabelled_cases] == ["test2/b"]


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("train", "trainannot"),
        ("train", "train_masks"),
        ("train_images", "train_labels"),
        ("images/train", "labels/train"),
    ],
)
def test_split_in_the_folders_names(tmp_path: Path, images: str, masks: str) -> None:
    make(tmp_path, f"{images}/a.png", f"{masks}/a.png")
    assert [(c.id, c.split) for c in discover(tmp_path).cases] == [("train/a", "train")]


def test_folders_with_more_words(tmp_path: Path) -> None:
    make(tmp_path, "original_images/a.png", "label_images/a.png")
    assert ids(tmp_path) == ["a"]


@pytest.mark.parametrize("word", ["mask", "seg", "label", "MASK", "labels", "segmentation"])
@pytest.mark.parametrize("separator", ["_", "-", "."])
def test_one_flat_folder(tmp_path: Path, word: str, separator: str) -> None:
    make(
        tmp_path,
        "a.jpg",
        f"a{separator}{word}.png",
        "b.png",
        f"c{separator}{word}.png",
        "sub/a.png",
        f"sub/a{separator}{word}.png",
    )
    found = discover(tmp_path)
    assert [c.id for c in found.cases] == ["a", "sub/a"]
    assert [c.id for c in found.unlabelled_cases] == ["b"]
    assert found.orphans == (tmp_path / f"c{separator}{word}.png",)
    assert found.layout == f"one folder, masks told by their names (a.jpg + a{separator}{word}.png)"


def test_one_folder_for_each_case(tmp_path: Path) -> None:
    make(tmp_path, *[f"{case}/{kind}.png" for case in ("c1", "c2") for kind in ("image", "mask")])
    found = discover(tmp_path)
    assert [(c.images[0].parent.name, c.label.name) for c in found.cases if c.label] == [
        ("c1", "mask.png"),
        ("c2", "mask.png"),
    ]


# ---- nnU-Net


def test_nnunet(tmp_path: Path) -> None:
    make(
        tmp_path,
        *[f"imagesTr/{n}_{c:04d}.png" for n in ("x_1", "x_2") for c in (0, 1)],
        "labelsTr/x_1.png",
        "labelsTr/x_2.png",
    )
    make(tmp_path, "imagesTs/y_0000.png", "imagesTs/y_0001.png", "labelsTr/z.png")
    labels = {"background": 0, "cell": 1, "gap": 2, "ignore": 3}
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "file_ending": ".png"}))
    found = discover(tmp_path)
    assert found.cases[0] == Case(
        "x_1", (tmp_path / "imagesTr/x_1_0000.png", tmp_path / "imagesTr/x_1_0001.png"), tmp_path / "labelsTr/x_1.png"
    )
    assert (found.class_names, found.ignore, found.regions) == ({0: "background", 1: "cell", 2: "gap"}, 3, ())
    assert [c.id for c in found.unlabelled_cases] == ["y"]
    assert found.orphans == (tmp_path / "labelsTr/z.png",)
    assert found.layout == "an nnU-Net raw folder (imagesTr/ + labelsTr/)"


def test_regions_of_nnunet(tmp_path: Path) -> None:
    make(tmp_path, "imagesTr/a_0000.png", "labelsTr/a.png")
    labels = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3, "ignore": 4}
    described = {"labels": labels, "regions_class_order": [1, 2, 3]}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    found = discover(tmp_path)
    regions = [("whole", (1, 2, 3), 1), ("core", (2, 3), 2), ("enhancing", (3,), 3)]
    assert found.regions == tuple(GivenRegion(*region) for region in regions)
    assert (found.class_names, found.ignore) == ({}, 4)
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": labels, "regions_class_order": [1, 2]}))
    assert refusal(tmp_path) == (
        f"{tmp_path / 'dataset.json'}: there are 3 regions (whole, core, enhancing), and regions_class_order is "
        "[1, 2]; give one whole number for each: what is written where it is the last of the regions"
    )
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"whole": ["a"]}}))
    assert refusal(tmp_path).endswith("the label 'whole' is ['a']; a region is a list of whole numbers")


def test_nnunet_of_old_and_with_test_labels(tmp_path: Path) -> None:
    make(tmp_path, "imagesTr/a_0000.tif", "labelsTr/a.tif", "imagesTs/b_0000.tif", "labelsTs/b.tif")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": {"0": "background", "1": "vessel"}}))
    found = discover(tmp_path)
    assert found.class_names == {0: "background", 1: "vessel"}
    assert [(c.id, c.split) for c in found.cases] == [("a", None), ("b", "test")]


@pytest.mark.parametrize(
    ("names", "described", "says"),
    [
        (["imagesTr/a_0000.png"], None, "there is imagesTr but no labelsTr; put the masks there"),
        (
            ["imagesTr/a_0000.png", "labelsTr/b.png"],
            None,
            "(imagesTr: a_0000.png; labelsTr: b.png); ID_0000.png in imagesTr",
        ),
        (
            ["imagesTr/a.nii", "labelsTr/a.nii"],
            '{"file_ending": ".b2nd"}',
            "files of the kind '.b2nd' are not read;",
        ),
        (["imagesTr/a_0000.png", "labelsTr/a.png"], "{", "dataset.json: this is not JSON"),
        (["imagesTr/a_0000.png", "labelsTr/a.png"], "[]", "dataset.json: this must be a JSON object with 'labels'"),
        (
            ["imagesTr/a_0000.png", "imagesTr/a_0001.png", "imagesTr/b_0000.png", "labelsTr/a.png", "labelsTr/b.png"],
            None,
            "b_0001.png: this channel file is missing; other cases of imagesTr have it",
        ),
        (["imagesTr/a_0000.png", "imagesTr/a_0000.tif", "labelsTr/a.png"], None, "2 files for one channel of 'a'"),
    ],
)
def test_nnunet_that_cannot_be_used(tmp_path: Path, names: list[str], described: str | None, says: str) -> None:
    make(tmp_path, *names)
    if described is not None:
        (tmp_path / "dataset.json").write_text(described)
    assert says in refusal(tmp_path)


# ---- tables


def table(root: Path, text: str, name: str = "set.csv") -> Path:
    make(root, "i/a.png", "i/b.png", "m/a.png", "m/b.png")
    (root / name).write_text(text, encoding="utf-8-sig")
    return root / name


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_table(tmp_path: Path, delimiter: str) -> None:
    rows = ["image,mask,group,split,age", "i/b.png,m/b.png,rat 2,Validation,3", "i/a.png, ,,,", ""]
    path = table(tmp_path, "\n".join(rows).replace(",", delimiter))
    found = discover(path)
    assert found.cases == (Case("b", (tmp_path / "i/b.png",), tmp_path / "m/b.png", "rat 2", "val"),)
    assert found.unlabelled_cases == (Case("a", (tmp_path / "i/a.png",)),)
    assert found.notes == ("columns of set.csv that are not used: age",)
    assert found.layout == "a table of image,mask (set.csv)"
    assert discover(tmp_path).cases == found.cases  # the folder in which it lies


def test_table_beside_other_tables(tmp_path: Path) -> None:
    table(tmp_path, "name,age\na,3\n", "patients.csv")
    make(tmp_path, "images/a.png", "masks/a.png")
    assert "paired by name" in discover(tmp_path).layout


def test_table_ids_are_unique(tmp_path: Path) -> None:
    make(tmp_path, "p1/x.png", "p2/x.png", "p2/x.tif", "m.png")
    (tmp_path / "s.csv").write_text("image,mask\np1/x.png,m.png\np2/x.png,m.png\np2/x.tif,m.png\n")
    assert ids(tmp_path / "s.csv") == ["p1/x", "p2/x.png", "p2/x.tif"]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "the table is empty; its first line must be image,mask (and group,split where known)"),
        ("image,msk\n", "there is no column 'msk'; did you mean 'mask'?"),
        ("image,mask,gruop\n", "there is no column 'gruop'; did you mean 'group'?"),
        ("image,age\n", "the column 'mask' is missing (its columns are image, age); the first line must be image,mask"),
        ("image,mask,label\n", "two columns for the mask: 'mask' and 'label'; keep one"),
        ("image,mask\n,m/a.png\n", "line 2: no image is named; fill in the column 'image'"),
        (
            "image,mask\ni/aa.png,m/a.png\n",
            "aa.png; did you mean 'a.png'?; paths are relative to the folder of the CSV",
        ),
        ("image,mask\ni/a.png,m/x.png\ni/b.png,q/y.png\n", "x.png (and 1 more)"),
        (
            "image,mask,split\ni/a.png,m/a.png,tran\n",
            "line 2: the split 'tran' is none of train, val, test; did you mean 'train'?",
        ),
        (
            "image,mask\ni/a.png,m/a.png\ni/a.png,m/b.png\n",
            "line 3: the image a.png is named before, in line 2; keep one",
        ),
        ("image,mask\ni/a.png,\n", "none of the 1 rows names a mask; fill in the column of masks"),
    ],
)
def test_table_that_cannot_be_used(tmp_path: Path, text: str, says: str) -> None:
    path = table(tmp_path, text)
    assert says in refusal(path)
    assert refusal(path).startswith(str(path))


def test_table_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00image")
    assert "this is not a text file in UTF-8; save the table as CSV (UTF-8)" in refusal(tmp_path / "a.csv")


# ---- what cannot be understood


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["images/a.png", "images/a.jpg", "masks/a.png"], "2 images for one case ('a'); keep one of them"),
        (["images/a.png", "masks/a.png", "masks/a.tif"], "2 masks for one case ('a'); keep one of them"),
        (["images/a.png", "masks/a.png", "masks/a_mask.png"], "a_mask.png: 2 masks for one case ('a')"),
        (["a.png", "a_mask.png", "a_seg.png"], "2 masks for one case"),
        (["images/a.png", "masks/a.png", "labels/a.png"], "two folders of masks, labels and masks; move one away"),
        (["images/a.png", "img/a.png", "labels/a.png"], "two folders of images, images and img; move one away"),
        (
            ["images/a.png", "images/b.png", "masks/c.png"],
            "mask: 2 images (images/a.png, images/b.png), 1 masks (masks/c.png)",
        ),
        (
            ["x/a.png", "x/b.png"],
            "no image pairs with a mask: 2 images (x/a.png, x/b.png), 0 masks. Understood are: images/",
        ),
        ([], "this folder is empty; images are .png, "),
        (["a.txt", "b.txt", "sub/c.mat"], "no images in this folder, only 2 × .txt, 1 × .mat; images are .png, "),
    ],
)
def test_refused(tmp_path: Path, names: list[str], says: str) -> None:
    assert says in refusal(make(tmp_path, *names))


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "nuclei").mkdir()
    assert (
        refusal(tmp_path / "nucli") == f"{tmp_path / 'nucli'}: there is no such file or folder; did you mean 'nuclei'?"
    )
    assert f"there is no such file or folder (in {tmp_path})" in refusal(tmp_path / "q" / "r")
    make(tmp_path, "a.png")
    assert "this is a file; give the folder of images and masks, or a CSV of image,mask" in refusal(tmp_path / "a.png")


# ---- the images to predict


def test_images_of(tmp_path: Path) -> None:
    make(tmp_path, "a10.png", "a9.png", "a9_mask.png", "lone_mask.png", "t.txt")
    assert [p.name for p in images_of(tmp_path)] == ["a9.png", "a10.png", "lone_mask.png"]
    assert images_of(tmp_path / "a9_mask.png") == [tmp_path / "a9_mask.png"]
    assert [p.name for p in images_of(f"{tmp_path}/a?.png")] == ["a9.png"]
    assert [p.name for p in images_of(f"{tmp_path}/**/a*.png")] == ["a9.png", "a9_mask.png", "a10.png"]


def test_images_of_a_data_folder(tmp_path: Path) -> None:
    make(tmp_path, "images/a.png", "masks/a.png")
    assert images_of(tmp_path) == [tmp_path / "images/a.png"]


def test_no_images(tmp_path: Path) -> None:
    for path, says in [
        (tmp_path, "there are no images in this folder; images are .png"),
        (f"{tmp_path}/*.png", "no image matches this pattern; images are .png"),
        (tmp_path / "none", "there is no such file or folder"),
    ]:
        with pytest.raises(DataError, match=says):
            images_of(path)
    make(tmp_path, "p1/a.png", "p2/a.png")
    with pytest.raises(DataError, match="there are no images in this folder; give one of its folders: p1, p2"):
        images_of(tmp_path)


def test_synthetic_is_said(tmp_path: Path) -> None:
    make(tmp_path, "train/images/a.png", "train/masks/a.png")
    (tmp_path / SYNTHETIC).write_text("Generated images.\nMore.\n")
    for folder in (tmp_path, tmp_path / "train"):
        assert discover(folder).synthetic
        assert discover(folder).notes == ("Generated images.",)


@pytest.mark.parametrize(("name", "count"), [("em", 24), ("nuclei", 300), ("axons", 8), ("phase", 5)])
def test_real_sets(shared_data, name: str, count: int) -> None:  # type: ignore[no-untyped-def]
    found = discover(shared_data(name))
    assert len(found.cases) == len({c.id for c in found.cases}) == count
    assert (found.unlabelled, found.orphans) == ((), ())
