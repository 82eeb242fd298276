"""Masks in several files or channels as labels: classes that exclude each other, regions that overlap, objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import tifffile
from PIL import Image

from unetkit.core.errors import DataError, PlanError
from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case, ClassFiles, GivenRegion, ObjectFiles
from unetkit.data.doctor.examine import examine
from unetkit.data.find.sample import Sample, read_samples
from unetkit.data.formats import Reading
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.labels.mask_facts import mask_facts
from unetkit.data.labels.masks import OpenLabel, case_mask, read_label
from unetkit.data.labels.survey import infer_legend

Array = np.ndarray


def square(top: int, left: int, size: int, shape: tuple[int, int] = (40, 50)) -> Array:
    mask = np.zeros(shape, bool)
    mask[top : top + size, left : left + size] = True
    return mask


WHOLE, CORE, SPOT = square(5, 5, 25), square(10, 10, 12), square(12, 12, 4)
FAR = square(5, 35, 10)


def saved(path: Path, mask: Array, value: int = 255) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".tif":
        tifffile.imwrite(path, mask.astype(np.uint8) * value)
    else:
        Image.fromarray(mask.astype(np.uint8) * value).save(path)
    return path


def of_classes(folder: Path, name: str, **masks: Array) -> Case:
    files = tuple((called, saved(folder / called / f"{name}.png", mask)) for called, mask in masks.items())
    return Case(name, (), ClassFiles(files))


def naive_bits(masks: Sequence[Array]) -> Array:
    return sum((mask.astype(np.uint8) << k for k, mask in enumerate(masks)), np.zeros(masks[0].shape, np.uint8))


def test_classes_that_exclude_each_other_become_numbers(tmp_path: Path) -> None:
    cases = [of_classes(tmp_path, "a", nucleus=CORE, wall=FAR), of_classes(tmp_path, "b", nucleus=CORE)]
    legend, survey = infer_legend(cases)
    assert (legend.kind, legend.names, legend.background) == ("values", ("background", "nucleus", "wall"), 0)
    assert [c.value for c in legend.classes] == [0, 1, 2]
    assert survey.cases[0].counts == (2000 - 144 - 100, 144, 100)
    assert survey.cases[1].counts == (2000 - 144, 144, 0)
    label, strays = read_label(cases[0], legend)
    np.testing.assert_array_equal(label, CORE + 2 * FAR)
    assert strays == 0
    assert legend.files(label)[0][0] == ""
    assert infer_legend(cases, names=["wall", "nucleus"])[0].names == ("background", "wall", "nucleus")
    assert infer_legend(cases, background="none")[0].background is None
    np.testing.assert_array_equal(read_label(cases[0], infer_legend(cases, background="none")[0])[0], label)


def test_classes_that_overlap_become_regions(tmp_path: Path) -> None:
    cases = [of_classes(tmp_path, "a", core=CORE, spot=SPOT, whole=WHOLE), of_classes(tmp_path, "b", whole=FAR)]
    legend, survey = infer_legend(cases)
    assert (legend.kind, legend.names, legend.background) == ("regions", ("whole", "core", "spot"), None)
    assert legend.foreground == (0, 1, 2)
    assert legend.folders == ("whole", "core", "spot")
    assert survey.cases[0].counts == (625, 144, 16)
    assert (survey.cases[0].labelled, survey.cases[1].counts) == (2000, (100, 0, 0))
    label, strays = read_label(cases[0], legend)
    np.testing.assert_array_equal(label, naive_bits([WHOLE, CORE, SPOT]))
    assert strays == 0
    np.testing.assert_array_equal(legend.count(label), (625, 144, 16))
    for k, (folder, mask) in enumerate(legend.files(label)):
        assert folder == legend.names[k]
        np.testing.assert_array_equal(mask, np.array([WHOLE, CORE, SPOT][k], np.uint8) * 255)
    box = Region((9, 8), (20, 30))
    with OpenLabel(cases[0], legend) as opened:
        np.testing.assert_array_equal(opened.read(box), label[box.slices])
    assert Legend.model_validate_json(legend.model_dump_json()) == legend


def test_a_few_shared_pixels_make_no_regions(tmp_path: Path) -> None:
    touching = FAR.copy()
    touching[10, 21] = True  # one pixel of CORE
    legend, survey = infer_legend([of_classes(tmp_path, "a", one=CORE | WHOLE, two=FAR), of_classes(
        tmp_path, "b", one=WHOLE, two=touching)])  # fmt: skip
    assert legend.kind == "values"
    assert survey.notes == ("1 pixels belong to several classes, which otherwise exclude each other: the last has it",)


def test_what_the_class_of_nothing_marks_is_unlabelled(tmp_path: Path) -> None:
    cases = [of_classes(tmp_path, "a", nucleus=CORE, wall=FAR, ignore=SPOT)]
    legend, survey = infer_legend(cases)
    assert legend.names == ("background", "nucleus", "wall")
    label, _ = read_label(cases[0], legend)
    np.testing.assert_array_equal(label == IGNORE, SPOT)
    assert survey.cases[0].ignored == 16
    assert survey.cases[0].counts == (2000 - 144 - 100, 128, 100)
    regions = [of_classes(tmp_path / "r", "a", core=CORE, whole=WHOLE, Ignore=SPOT)]
    label, _ = read_label(regions[0], infer_legend(regions)[0])
    np.testing.assert_array_equal(label, np.where(SPOT, IGNORE, WHOLE + 2 * CORE))


def test_strokes_in_a_file_for_each_class(tmp_path: Path) -> None:
    cases = [of_classes(tmp_path, "a", cell=SPOT, gap=FAR)]
    legend, survey = infer_legend(cases, ignore=0)
    assert (legend.names, legend.background, legend.ignore) == (("cell", "gap"), None, 0)
    label, _ = read_label(cases[0], legend)
    np.testing.assert_array_equal(label, np.where(SPOT, 0, np.where(FAR, 1, IGNORE)))
    assert survey.cases[0].labelled == 116
    cases = [of_classes(tmp_path / "b", "a", background=FAR, cell=SPOT)]
    legend, survey = infer_legend(cases)
    assert (legend.names, legend.background) == (("background", "cell"), 0)
    np.testing.assert_array_equal(read_label(cases[0], legend)[0], np.where(SPOT, 1, np.where(FAR, 0, IGNORE)))
    assert survey.notes == (
        "94 % of the pixels belong to no class, not even to the background: they are taken as not annotated",
    )


@pytest.mark.parametrize("kind", ["soft", "jpeg", "ids"])
def test_what_files_of_classes_hold(tmp_path: Path, kind: str) -> None:
    """Soft edges and JPEG damage are cut in the middle; numbers of objects are the class all the same."""
    mask, exact = WHOLE.astype(np.uint8) * 255, True
    path = tmp_path / f"cell.{'jpg' if kind == 'jpeg' else 'png'}"
    if kind == "soft":
        mask[4, 5:30], mask[30, 5:30] = 100, 140
        Image.fromarray(mask).save(path)
    elif kind == "jpeg":
        Image.fromarray(mask).save(path, quality=60)
        exact = False
    else:
        Image.fromarray((WHOLE + 40 * CORE).astype(np.uint8)).save(path)
    case = Case("a", (), ClassFiles((("cell", path), ("wall", saved(tmp_path / "wall.png", FAR)))))
    label, _ = read_label(case, infer_legend([case])[0])
    expected = WHOLE | (square(30, 5, 25)[:, :] & (np.arange(40)[:, None] == 30) if kind == "soft" else False)
    assert ((label == 1) == expected).mean() > (0.9999 if exact else 0.99)


def test_messages_of_class_files(tmp_path: Path) -> None:
    case = of_classes(tmp_path, "a", core=CORE, whole=WHOLE)
    where = tmp_path / "core/a.png"
    with pytest.raises(PlanError, match="--ignore 255: the masks have a part for each class, and no values; say what "
                       "is not annotated in a part of the name 'ignore', or --ignore 0"):  # fmt: skip
        infer_legend([case], ignore=255)
    with pytest.raises(PlanError) as caught:
        infer_legend([case], names=["core", "hole"])
    assert str(caught.value) == (
        "--classes core,hole: the masks have a part for each class, and they are the classes whole, core; name these, "
        "in the order that you want, or leave --classes out"
    )
    with pytest.raises(PlanError, match="--background: classes that overlap have no background"):
        infer_legend([case], background=0)
    with pytest.raises(PlanError, match=r"--background 7: no class has this value; the values are 0 \(background\), 1"):
        infer_legend([of_classes(tmp_path, "d", core=CORE, far=FAR)], background=7)
    plain = Case("b", (), saved(tmp_path / "b.png", CORE))
    with pytest.raises(DataError) as wrong:
        infer_legend([case, plain])
    assert str(wrong.value) == (
        f"{tmp_path / 'b.png'}: this mask is one file of numbers, but {where} is one of several, a part for each "
        "class; save all masks in one way"
    )
    small = Case("c", (), ClassFiles((("core", where), ("whole", saved(tmp_path / "c.png", CORE[:30])))))
    with pytest.raises(DataError) as uneven:
        case_mask(small)
    assert str(uneven.value) == (
        f"{tmp_path / 'c.png'}: 50 × 30 pixels, but {where} of the same image has 50 × 40; the masks of all classes "
        "must have one size"
    )
    many = {f"c{k}": WHOLE for k in range(8)}
    with pytest.raises(
        DataError, match=r"8 classes overlap \(on 100 % of what is marked\); classes that overlap can be 7"
    ):
        infer_legend([of_classes(tmp_path / "many", "a", **many)])
    empty = of_classes(tmp_path / "empty", "a", one=CORE & FAR, two=CORE & FAR)
    with pytest.raises(DataError, match=r"a\.png and all other masks are empty: no class occurs"):
        infer_legend([empty])
    other = Legend(kind="values", background=0, classes=tuple(
        LegendClass(name=name, value=k, colour=(0, 0, 0)) for k, name in enumerate(("background", "core"))
    ))  # fmt: skip
    with pytest.raises(DataError) as strange:
        read_label(case, other)
    assert str(strange.value) == (
        f"{where}: there is no class 'whole' among those of the model (background, core); give its files the name of a "
        "class, or leave them out"
    )


def test_channels_of_a_tiff_are_parts(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    bands = np.stack([WHOLE, CORE, SPOT, FAR]).astype(np.uint8)
    tifffile.imwrite(path, bands, photometric="minisblack", planarconfig="separate", metadata={"axes": "CYX"})
    case = Case("a", (), path)
    legend, _ = infer_legend([case])
    assert (legend.kind, legend.names) == ("regions", ("region 1", "region 2", "region 3", "region 4"))
    expected = naive_bits([WHOLE, CORE, SPOT, FAR])
    np.testing.assert_array_equal(read_label(case, legend)[0], expected)
    named, _ = infer_legend([case], names=["whole", "core", "spot", "far"])
    assert named.names == ("whole", "core", "spot", "far")
    np.testing.assert_array_equal(read_label(case, named)[0], expected)
    with pytest.raises(PlanError, match=r"--classes a,b: .* they are 4 classes: region 1, region 2, .*; name each"):
        infer_legend([case], names=["a", "b"])


def test_one_axis_more_than_the_image_is_that_of_the_classes(tmp_path: Path) -> None:
    image, mask = tmp_path / "image.npy", tmp_path / "mask.npy"
    np.save(image, np.zeros((40, 50), np.float32))
    np.save(mask, np.stack([WHOLE, CORE]))
    case = Case("a", (image,), mask)
    legend, _ = infer_legend([case])
    assert legend.kind == "regions"
    label = read_label(case, legend)[0]
    np.testing.assert_array_equal(label, naive_bits([WHOLE, CORE]))
    box = Region((9, 0), (33, 20))
    with OpenLabel(case, legend) as opened:
        np.testing.assert_array_equal(opened.read(box), label[box.slices])
    one_hot = np.stack([~(CORE | FAR), CORE, FAR])
    np.save(mask, one_hot)
    legend, _ = infer_legend([case], names=["cell", "gap"])
    assert (legend.names, legend.background) == (("background", "cell", "gap"), 0)
    np.testing.assert_array_equal(read_label(case, legend)[0], one_hot.argmax(0))


def test_samples_with_a_label_for_each_class() -> None:
    label = np.stack([WHOLE, CORE])
    samples = [
        Sample(np.zeros((40, 50)), label, classes=("whole", "core")),
        Sample(np.zeros((3, 40, 50)), label.astype(np.float32), classes=("whole", "core")),
    ]
    found = read_samples(samples)
    legend, _ = infer_legend(found.cases)
    assert (legend.kind, legend.names, legend.folders) == ("regions", ("whole", "core"), ("whole", "core"))
    assert legend.classes[0].value == 1
    for case in found.cases:
        np.testing.assert_array_equal(read_label(case, legend)[0], naive_bits([WHOLE, CORE]))
    for image in (np.zeros((40, 50)), np.zeros((3, 40, 50)), np.zeros((40, 50, 4))):
        assert isinstance(read_samples([Sample(image, label)]).cases[0].label, ClassFiles)
    volume = read_samples([Sample(np.zeros((2, 40, 50)), label)]).cases[0]  # as many planes: it is one label
    assert isinstance(volume.label, np.ndarray)
    holes = label.astype(np.float32)
    holes[:, SPOT] = np.nan
    case = read_samples([Sample(np.zeros((40, 50)), holes)]).cases[0]
    assert (read_label(case, infer_legend([case])[0])[0] == IGNORE).sum() == SPOT.sum()
    with pytest.raises(DataError, match=r"sample 0: its label has 2 classes, and 1 names \(a\); name each"):
        read_samples([Sample(np.zeros((40, 50)), label, classes=("a",))])


def test_regions_of_numbers(tmp_path: Path) -> None:
    """BraTS: 1 necrosis, 2 oedema, 3 enhancing; regions are unions of them."""
    numbers = np.zeros((40, 50), np.uint8)
    numbers[WHOLE], numbers[CORE], numbers[SPOT], numbers[0, :9] = 2, 1, 3, 4
    case = Case("a", (), saved(tmp_path / "a.png", numbers, 1))
    given = (GivenRegion("whole", (1, 2, 3), 2), GivenRegion("core", (1, 3), 1), GivenRegion("enhancing", (3,), 3))
    legend, survey = infer_legend([case], ignore=4, regions=given)
    assert (legend.kind, legend.names, legend.folders, legend.channels) == (
        "regions", ("whole", "core", "enhancing"), ("",), 1,
    )  # fmt: skip
    assert survey.cases[0].counts == (625, 144, 16)
    assert survey.cases[0].ignored == 9
    label, _ = read_label(case, legend)
    np.testing.assert_array_equal(label[1:], naive_bits([WHOLE, CORE, SPOT])[1:])
    assert (label[0, :9] == IGNORE).all()
    np.testing.assert_array_equal(legend.decode(label), numbers)
    ((folder, mask),) = legend.files(label)
    assert folder == ""
    np.testing.assert_array_equal(mask, numbers)
    assert infer_legend([case], names=["core", "whole", "enhancing"], ignore=4, regions=given)[0].names[0] == "core"
    many = tuple(GivenRegion(f"r{k}", (k + 1,), k + 1) for k in range(8))
    with pytest.raises(DataError, match="the set defines 8 regions; classes that may overlap can be 7 at most"):
        infer_legend([case], regions=many)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"background": 0}, "regions have no background: it is where none of them is"),
        ({"classes": [("a", 1), ("a", 1)]}, "each region has a name of its own, by which a folder can be called"),
        ({"classes": [("a:b", 1), ("a?b", 1)]}, "each region has a name of its own, by which a folder can be called"),
        ({"classes": [("a", 0)]}, "the values of regions are numbers other than 0 and the ignore value"),
        ({"classes": [(str(k), 1) for k in range(8)]}, "at most 7 regions fit a label, not 8"),
    ],
)
def test_legends_of_regions_that_cannot_be(changes: Mapping[str, object], message: str) -> None:
    values: dict[str, object] = {"classes": [("a", 1), ("b", 1)], "background": None} | dict(changes)
    classes = [{"name": name, "value": value, "colour": (1, 2, 3)} for name, value in values["classes"]]  # type: ignore[attr-defined]
    with pytest.raises(PlanError, match=message):
        Legend.parse({"kind": "regions", "classes": classes, "background": values["background"]}, "plan.json")


def test_objects_in_files_of_their_own(tmp_path: Path) -> None:
    files = tuple(saved(tmp_path / f"{k}.png", mask) for k, mask in enumerate((WHOLE, CORE, FAR)))
    case = Case("a", (), ObjectFiles(files))
    raw = case_mask(case)
    np.testing.assert_array_equal(raw.array, np.where(CORE, 2, np.where(WHOLE, 1, 3 * FAR)))
    assert raw.notes == ("objects overlap on 144 pixels, which the smaller of them have",)
    one = Case("b", (), ObjectFiles(files[2:]))
    legend, survey = infer_legend([case, one])
    assert (legend.kind, legend.plain.names) == ("instances", ("background", "foreground"))
    assert "each object has a file of its own" in legend.reason
    np.testing.assert_array_equal(read_label(case, legend.plain)[0], WHOLE | FAR)
    assert len(survey.cases) == 2
    saved(tmp_path / "0.png", WHOLE[:20])
    with pytest.raises(DataError, match=r"1\.png: 50 × 40 pixels, but 0\.png of the same image has 50 × 20"):
        case_mask(case)


@pytest.mark.parametrize("dtype", ["uint16", "uint32", "int64", "float32"])
def test_numbers_of_objects_of_any_type_in_volumes(tmp_path: Path, dtype: str) -> None:
    ids = np.zeros((24, 24, 24), dtype)
    for number, corner in enumerate(np.ndindex(3, 3, 3), 1):
        z, y, x = (8 * c + 1 for c in corner)
        ids[z : z + 5, y : y + 5, x : x + 5] = number + (70_000 if dtype in ("uint32", "int64") else 0)
    path = tmp_path / "ids.npy"
    np.save(path, ids)
    legend, _ = infer_legend([Case("a", (), path)])
    assert (legend.kind, legend.border) == ("instances", 0)
    np.testing.assert_array_equal(read_label(Case("a", (), path), legend)[0], ids > 0)


def test_a_label_in_another_format_than_its_image(tmp_path: Path) -> None:
    image = np.random.default_rng(0).normal(size=(9, 8, 7)).astype(np.float32)
    label = np.zeros((9, 8, 7), np.uint8)
    label[2:6, 3:7, 1:5] = 1
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    nib.save(nib.Nifti1Image(image, np.diag([1.0, 1.0, 2.0, 1.0])), tmp_path / "images/a.nii.gz")
    np.save(tmp_path / "labels/a.npy", label)
    from unetkit.data.find.discover import discover

    found = discover(tmp_path)
    assert [case.id for case in found.cases] == ["a"]
    diagnosis = examine(found)
    assert not diagnosis.stops
    np.testing.assert_array_equal(read_label(found.cases[0], diagnosis.legend)[0], label)


def test_the_facts_of_a_huge_mask_are_found_in_blocks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is looked at in parts is what is looked at whole; nothing larger than a part is read."""
    from unetkit.data.labels import mask_facts as module
    from unetkit.data.labels import mask_files

    rng = np.random.default_rng(0)
    mask = np.kron(rng.integers(0, 4, (30, 40)), np.ones((10, 10))).astype(np.uint8)
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, mask, tile=(64, 64))
    case = Case("a", (), path)
    whole = mask_facts(case)
    monkeypatch.setattr(mask_files, "blocks", lambda shape, chunk, backwards: (
        Region((a, b), (min(a + 37, shape[0]), min(b + 51, shape[1])))
        for a in range(0, shape[0], 37) for b in range(0, shape[1], 51)))  # fmt: skip
    parts = mask_facts(case)
    np.testing.assert_array_equal(parts.counts, whole.counts)
    np.testing.assert_array_equal(parts.solid, whole.solid)
    assert (parts.blobs, parts.low, parts.low_thick) == (whole.blobs, whole.low, whole.low_thick)
    monkeypatch.setattr(module, "MOST_SOLID", 30_000)
    monkeypatch.setattr(module, "MOST_BLOBS", 1000)
    sampled = mask_facts(case)
    assert sampled.blobs is None
    assert np.abs(sampled.solid / whole.solid - 1).max() < 0.1


def test_masks_are_read_by_the_axes_that_the_user_says_of_images(tmp_path: Path) -> None:
    """Axes without channels, in files of the image's format; other formats speak for themselves."""
    rng = np.random.default_rng(0)
    stack = rng.integers(0, 2, (4, 6, 7), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "image.tif", rng.integers(0, 9, (4, 2, 6, 7), dtype=np.uint8), photometric="minisblack")
    tifffile.imwrite(tmp_path / "mask.tif", stack, photometric="minisblack")
    np.save(tmp_path / "mask.npy", stack)
    for mask in ("mask.tif", "mask.npy"):
        case = Case("a", (tmp_path / "image.tif",), tmp_path / mask, reading=Reading(axes="ZCYX"))
        np.testing.assert_array_equal(case_mask(case).array, stack)
    flat = Case("a", (tmp_path / "image.tif",), tmp_path / "mask.tif", reading=Reading(axes="CQ"))
    with pytest.raises(DataError, match=r"mask\.tif"):
        case_mask(flat)


def test_masks_that_do_not_fit_the_model(tmp_path: Path) -> None:
    bands = np.stack([WHOLE, CORE]).astype(np.uint8)
    np.save(tmp_path / "image.npy", np.zeros((40, 50), np.float32))
    np.save(tmp_path / "mask.npy", bands)
    case = Case("a", (tmp_path / "image.npy",), tmp_path / "mask.npy")
    entries = [LegendClass(name=name, value=255, colour=(0, 0, 0)) for name in ("whole", "core", "spot")]
    three = Legend(kind="regions", background=None, classes=tuple(entries))
    where = tmp_path / "mask.npy"
    with pytest.raises(DataError) as caught:
        read_label(case, three)
    assert str(caught.value) == f"{where}: the mask has 2 parts, but the model the classes whole, core, spot"
    colours = tuple(LegendClass(name=str(k), value=(k, 0, 0), colour=(k, 0, 0)) for k in range(2))
    with pytest.raises(DataError) as coloured:
        read_label(case, Legend(kind="colours", background=0, classes=colours))
    assert str(coloured.value) == (
        f"{where}: the mask has a part for each class, but the masks of the model hold colours"
    )
    np.save(tmp_path / "mask.npy", np.zeros((70, 40, 50), np.uint8))
    with pytest.raises(DataError, match=r"this file has 70 channels; save the classes as one number per pixel"):
        case_mask(case)
    many = ClassFiles(tuple((f"c{k}", WHOLE) for k in range(63)))
    with pytest.raises(DataError, match="a mask in 63 files, one per class; there can be 62"):
        case_mask(Case("a", (), many))
    nested = ClassFiles((("cell", tmp_path / "mask.npy"),))
    np.save(tmp_path / "mask.npy", bands)
    with pytest.raises(DataError, match=r"mask\.npy: the mask of the class 'cell' alone has one channel, not several"):
        case_mask(Case("a", (tmp_path / "image.npy",), nested))
    (tmp_path / "areas.geojson").write_text('{"type": "FeatureCollection", "features": []}')
    with pytest.raises(DataError) as drawn:
        case_mask(Case("a", (), tmp_path / "areas.geojson"))
    assert str(drawn.value) == (
        f"{tmp_path / 'areas.geojson'}: areas are drawn over their image, and there is none; give the folder that "
        "holds the images, too"
    )


def test_empty_files_of_objects_are_named(tmp_path: Path) -> None:
    files = (saved(tmp_path / "1.png", CORE), saved(tmp_path / "2.png", CORE & FAR), saved(tmp_path / "3.png", FAR))
    raw = case_mask(Case("a", (), ObjectFiles(files)))
    assert raw.notes == ("1 object file holds nothing: 2.png",)
    np.testing.assert_array_equal(raw.array, CORE + 3 * FAR)
