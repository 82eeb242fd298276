"""Values of masks to classes and back: the mapping, and what the rules make of masks as people have them."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageDraw

from unetkit.core.errors import DataError, PlanError
from unetkit.data.case import IGNORE, Case
from unetkit.data.labels.legend import Legend, LegendClass, display_colour
from unetkit.data.labels.masks import read_label, read_raw_label
from unetkit.data.labels.survey import MaskSurvey, infer_legend


def discs(seed: int, values: Sequence[int] = (255,), background: int = 0, n: int = 8, size: int = 96) -> np.ndarray:
    """Discs of the given values in turn on a background."""
    rng = np.random.default_rng(seed)
    image = Image.new("I", (size, size), background)
    draw = ImageDraw.Draw(image)
    for k in range(n):
        x, y, r = *rng.integers(10, size - 10, 2).tolist(), int(rng.integers(5, 12))
        draw.ellipse((x - r, y - r, x + r, y + r), fill=int(values[k % len(values)]))
    return np.asarray(image).astype(np.int32)


def infer(
    folder: Path, masks: Sequence[np.ndarray | Image.Image], suffix: str = ".png", **options: object
) -> tuple[Legend, MaskSurvey]:
    """Save the masks and infer."""
    cases = []
    for k, mask in enumerate(masks):
        path = folder / f"m{k}{suffix}"
        if suffix == ".tif":
            tifffile.imwrite(path, mask)
        else:
            (mask if isinstance(mask, Image.Image) else Image.fromarray(mask)).save(path)
        cases.append(Case(f"m{k}", (path,), path))
    return infer_legend(cases, **options)  # type: ignore[arg-type]


def u8(array: np.ndarray) -> np.ndarray:
    return array.astype(np.uint8)


def values(legend: Legend) -> list[object]:
    return [c.value for c in legend.classes]


@pytest.mark.parametrize("pair", [(0, 255), (0, 1), (0, 128), (1, 2), (7, 40000)])
def test_two_values(tmp_path: Path, pair: tuple[int, int]) -> None:
    masks = [discs(s, pair[1:], pair[0]).astype(np.uint16) for s in range(3)]
    legend, survey = infer(tmp_path, masks, ".tif")
    assert values(legend) == list(pair)
    assert (legend.kind, legend.background, legend.names) == ("values", 0, ("background", "foreground"))
    assert survey.strays == 0
    assert survey.counts == (sum((m == pair[0]).sum() for m in masks), sum((m == pair[1]).sum() for m in masks))


def test_codes_are_kept_even_where_rare(tmp_path: Path) -> None:
    masks = [u8(discs(s, (1, 2, 5))) for s in range(6)]
    masks[0][masks[0] == 3] = 0
    masks[0][:4, :4] = 3  # 16 pixels, 0.03 % of the set
    legend, _ = infer(tmp_path, masks)
    assert values(legend) == [0, 1, 2, 3, 5]
    assert legend.names == ("background", "class 1", "class 2", "class 3", "class 5")


def test_stray_values_go_to_the_nearest_class(tmp_path: Path) -> None:
    masks = [u8(discs(s, (127, 255))) for s in range(4)]
    masks[1][masks[1] == 127] = 128
    masks[2][0, :5] = 130
    masks[2][1, :4] = 233
    legend, survey = infer(tmp_path, masks)
    assert values(legend) == [0, 127, 255]
    assert legend.classes[1].also == (128,)
    assert survey.strays == 9
    assert survey.cases[2].stray_values == ((130, 5), (233, 4))
    assert "use 128" not in survey.notes[0]
    assert "1 mask (e.g. m1.png) uses 128 where the others use 127" in survey.notes[0]
    label, strays = legend.encode(masks[2])
    assert strays == 9
    assert label[0, 0] == 1
    assert label[1, 0] == 2


@pytest.mark.parametrize("blur", [2, 4])
def test_soft_edges(tmp_path: Path, blur: int) -> None:
    masks = []
    for seed in range(3):
        large = Image.fromarray(u8(discs(seed, size=96)))
        masks.append(
            large.resize((96 // blur, 96 // blur), Image.Resampling.BOX).resize((96, 96), Image.Resampling.BILINEAR)
        )
    legend, survey = infer(tmp_path, masks)
    assert values(legend) == [0, 255]
    assert survey.strays > 100
    assert "soft or damaged edges" in legend.reason


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("quality", [40, 75, 95])
def test_jpeg_damage(tmp_path: Path, quality: int, mode: str) -> None:
    clean = [u8(discs(s, (127, 255) if quality > 90 else (255,))) for s in range(3)]
    damaged = []
    for mask in clean:
        buffer = io.BytesIO()
        Image.fromarray(mask).convert(mode).save(buffer, "JPEG", quality=quality)
        damaged.append(Image.open(buffer))
    cases = []
    for k, image in enumerate(damaged):
        path = tmp_path / f"{k}.jpg"
        path.write_bytes(image.fp.getvalue() if isinstance(image.fp, io.BytesIO) else b"")
        cases.append(Case(str(k), (path,), path))
    legend, _ = infer_legend(cases)
    assert [round(v / 127) for v in values(legend)] == ([0, 1, 2] if quality > 90 else [0, 2])  # type: ignore[operator]
    truth, _ = Legend(kind="values", classes=legend.classes, background=0).encode(clean[0])
    label, strays = legend.encode(read_raw_label(cases[0].images[0]))
    assert strays > 0
    assert (truth == label).mean() > 0.985


def test_thin_lines_with_soft_edges(tmp_path: Path) -> None:
    masks = []
    for seed in range(2):
        image = Image.new("L", (400, 400))
        rng = np.random.default_rng(seed)
        for _ in range(6):
            ImageDraw.Draw(image).line([tuple(p) for p in rng.integers(0, 400, (4, 2)).tolist()], fill=255, width=3)
        masks.append(image.resize((200, 200), Image.Resampling.BILINEAR))
    legend, _ = infer(tmp_path, masks)
    assert values(legend) == [0, 255]


def test_many_codes_beside_255(tmp_path: Path) -> None:
    masks = [u8(discs(s, (*range(1, 21), 255), n=42, size=200)) for s in range(4)]
    legend, survey = infer(tmp_path, masks)
    assert values(legend) == [*range(21), 255]
    assert survey.notes == (
        "the value 255 stands far from the others (0 … 20); if it marks unlabelled pixels, pass --ignore 255",
    )
    legend, survey = infer(tmp_path, masks, ignore=255)
    assert values(legend) == [*range(21)]
    assert (legend.encode(masks[0])[0] == IGNORE).sum() == (masks[0] == 255).sum()
    np.testing.assert_array_equal(legend.decode(legend.encode(masks[0])[0]), masks[0])


def test_two_codings_of_one_foreground(tmp_path: Path) -> None:
    masks = [u8(discs(s, (1 if s == 1 else 255,))) for s in range(4)]
    legend, survey = infer(tmp_path, masks)
    assert [(c.value, c.also) for c in legend.classes] == [(0, ()), (255, (1,))]
    assert "1 mask (e.g. m1.png) uses 1 where the others use 255" in survey.notes[0]
    legend, _ = infer(tmp_path, [u8(discs(s, (1, 255))) for s in range(4)])
    assert values(legend) == [0, 1, 255]


def numbered(seed: int, n: int) -> np.ndarray:
    mask = np.zeros((120, 120), np.uint16)
    order = np.random.default_rng(seed).permutation(36)[:n]
    for number, place in enumerate(order, 1):
        mask[place // 6 * 20 + 3 :, place % 6 * 20 + 2 :][:15, :14] = number
    return mask


def test_instance_numbers(tmp_path: Path) -> None:
    masks = [numbered(s, n) for s, n in enumerate((30, 1, 12, 0, 7))]
    legend, survey = infer(tmp_path, masks, ".tif")
    assert (legend.kind, values(legend), legend.background) == ("instances", [0, 255], 0)
    assert survey.strays == 0
    label, _ = legend.encode(masks[0])
    np.testing.assert_array_equal(label, masks[0] > 0)
    assert survey.cases[3].constant
    assert infer(tmp_path, masks, ".tif", names=["cell"])[0].names == ("background", "cell")
    assert infer(tmp_path, masks, ".tif", background="none")[0].background is None
    with pytest.raises(
        PlanError, match="--background 3: the masks hold instance numbers, of which 0 is the background"
    ):
        infer(tmp_path, masks, ".tif", background=3)


def test_few_instances_differing_from_mask_to_mask(tmp_path: Path) -> None:
    assert infer(tmp_path, [numbered(s, n) for s, n in enumerate((5, 3, 6, 4))], ".tif")[0].kind == "instances"


def test_organs_are_no_instances(tmp_path: Path) -> None:
    legend, _ = infer(tmp_path, [numbered(s, 6) for s in range(4)], ".tif")  # the same six values in every mask
    assert legend.kind == "values"
    legend, _ = infer(tmp_path, [numbered(s, n) for s, n in enumerate((8, 5, 7))], ".tif", names=list("abcdefgh"))
    assert legend.names == ("background", *"abcdefgh")


def test_instances_in_random_colours(tmp_path: Path) -> None:
    masks = []
    for seed in range(3):
        table = np.random.default_rng(seed).integers(1, 256, (40, 3), dtype=np.uint8)
        table[0] = 0
        masks.append(table[numbered(seed, 9 + seed)])
    legend, _ = infer(tmp_path, masks)
    assert legend.kind == "instances"
    raw = np.moveaxis(masks[0], 2, 0)
    np.testing.assert_array_equal(legend.encode(raw)[0], raw.any(0))


COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 0, 255), (10, 200, 30)], np.uint8)


def test_colours(tmp_path: Path) -> None:
    masks = [COLOURS[discs(s, (1, 2, 3, 1, 1))] for s in range(3)] + [np.zeros((30, 30, 3), np.uint8)]
    legend, survey = infer(tmp_path, masks)
    assert legend.kind == "colours"
    assert legend.names == ("background", "red", "blue", "colour #0ac81e")
    assert legend.classes[1].colour == (255, 0, 0)
    assert legend.background == 0
    raw = np.moveaxis(masks[0], 2, 0)
    label, strays = legend.encode(raw)
    assert strays == 0
    np.testing.assert_array_equal(legend.decode(label), raw)
    assert survey.cases[3].counts == (900, 0, 0, 0)
    assert not legend.encode(np.zeros((4, 4), np.uint8))[0].any()


def test_colours_damaged_by_jpeg(tmp_path: Path) -> None:
    clean = [COLOURS[discs(s, (1, 2, 3))].repeat(3, 0).repeat(3, 1) for s in range(3)]
    legend, survey = infer(tmp_path, clean, ".jpg")
    assert len(legend.classes) == 4
    assert survey.strays > 0
    path = tmp_path / "m0.jpg"
    label, _ = legend.encode(read_raw_label(path))
    shown = np.array([c.value for c in legend.classes], int)[label]
    assert (np.abs(shown - clean[0].astype(int)).max(-1) < 40).mean() > 0.95


def test_palette_gives_indices_and_colours(tmp_path: Path) -> None:
    masks = []
    for seed in range(2):
        image = Image.fromarray(u8(discs(seed, (1, 2))))
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 200])
        masks.append(image)
    legend, _ = infer(tmp_path, masks)
    assert values(legend) == [0, 1, 2]
    assert [c.colour for c in legend.classes] == [(0, 0, 0), (200, 0, 0), (0, 0, 200)]


def test_palettes_that_contradict_each_other(tmp_path: Path) -> None:
    masks = []
    for seed in range(2):
        image = Image.fromarray(u8(discs(seed, (1, 2))))
        image.putpalette([0, 0, 0, 200, 0, 0, 0, 0, 200] if seed else [0, 0, 0, 0, 0, 200, 200, 0, 0])
        masks.append(image)
    _, survey = infer(tmp_path, masks)
    assert "palette index 1 is #0000c8 in m0.png but #c80000 in m1.png" in survey.notes[0]


def test_grey_palette_gives_greys(tmp_path: Path) -> None:
    image = Image.fromarray(u8(discs(0, (1,))))
    image.putpalette([255, 255, 255, 0, 0, 0])  # index 0 is white
    image.save(tmp_path / "a.gif")
    raw = read_raw_label(tmp_path / "a.gif")
    np.testing.assert_array_equal(raw, np.where(discs(0, (1,)) == 1, 0, 255))


def test_alpha_is_the_mask_where_colours_are_constant(tmp_path: Path) -> None:
    alpha = u8(discs(0))
    rgba = np.full((96, 96, 4), 77, np.uint8)
    rgba[..., 3] = alpha
    Image.fromarray(rgba).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_raw_label(tmp_path / "a.png"), alpha)
    rgba[..., :3], rgba[..., 3] = alpha[..., None], 255
    Image.fromarray(rgba).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_raw_label(tmp_path / "b.png"), alpha)


def test_float_masks(tmp_path: Path) -> None:
    masks = [discs(s, (1, 2)).astype(np.float32) for s in range(2)]
    masks[0][5, 5:8] = 0.4
    legend, survey = infer(tmp_path, masks, ".tif")
    assert values(legend) == [0, 1, 2]
    assert survey.strays == 3
    masks[0][0, 0] = np.inf
    with pytest.raises(
        DataError, match=r"m0\.tif: 1 pixels of the mask are infinite; replace them by NaN where nothing is annotated"
    ):
        infer(tmp_path, masks, ".tif")


def test_thin_zeros_are_what_is_looked_for(tmp_path: Path) -> None:
    masks = []
    for seed in range(2):
        image = Image.new("L", (256, 256), 255)
        for k in range(0, 256, 32):
            ImageDraw.Draw(image).line((k + seed, 0, k, 256), fill=0, width=4)
            ImageDraw.Draw(image).line((0, k, 256, k), fill=0, width=4)
        masks.append(image)
    legend, _ = infer(tmp_path, masks)
    assert legend.background == 1
    assert legend.names == ("foreground", "background")
    assert "0 is taken as the structure of interest" in legend.reason
    assert infer(tmp_path, masks, background=0)[0].background == 0
    assert infer(tmp_path, masks, background="none")[0].background is None


def test_a_large_object_does_not_make_the_rest_the_object(tmp_path: Path) -> None:
    mask = np.zeros((100, 100), np.uint8)
    mask[10:95, 5:98] = 255
    assert infer(tmp_path, [mask])[0].background == 0


def test_background_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="--background 9: no class has this value; the values are 0, 255, or say none"):
        infer(tmp_path, [u8(discs(0))], background=9)


def test_no_zero_no_background(tmp_path: Path) -> None:
    legend, _ = infer(tmp_path, [u8(discs(s, (2, 3), 1)) for s in range(2)])
    assert (legend.background, legend.foreground) == (None, (0, 1, 2))
    assert "every class counts" in legend.reason


def test_names_of_classes(tmp_path: Path) -> None:
    masks = [u8(discs(s, (127, 255))) for s in range(3)]
    assert infer(tmp_path, masks, names=["axon", "myelin"])[0].names == ("background", "axon", "myelin")
    assert infer(tmp_path, masks, names=["sky", "axon", "myelin"])[0].names == ("sky", "axon", "myelin")
    with pytest.raises(
        PlanError,
        match=r"--classes names 4 classes \(a, b, c, d\), but .* hold 3 values: 0 \(\d+ % of the pixels\), 127",
    ):
        infer(tmp_path, masks, names=["a", "b", "c", "d"])
    with pytest.raises(PlanError, match="'a' stands there twice"):
        infer(tmp_path, masks, names=["a", "a"])


def test_values_stated_by_the_set_itself(tmp_path: Path) -> None:
    masks = [u8(discs(s, (1, 2, 2))) for s in range(3)]
    legend, _ = infer(tmp_path, masks, given={0: "background", 1: "liver", 2: "tumour", 3: "cyst"})
    assert legend.names == ("background", "liver", "tumour", "cyst")


def test_nothing_to_learn(tmp_path: Path) -> None:
    empty = np.zeros((9, 9), np.uint8)
    with pytest.raises(
        DataError, match=r"m0\.png and all other masks hold only the value 0: there is nothing to learn"
    ):
        infer(tmp_path, [empty, empty])
    with pytest.raises(DataError, match="every mask is unlabelled throughout: all pixels have the ignore value 0"):
        infer(tmp_path, [empty], ignore=0)
    with pytest.raises(DataError, match="there is no mask to learn from"):
        infer_legend([])


def test_photographs_are_no_masks(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(100, 30, (2, 64, 64)).clip(0, 255)
    with pytest.raises(DataError, match=r"m0\.png: this looks like a photograph or a map of probabilities"):
        infer(tmp_path, list(u8(noise)))
    colour = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    with pytest.raises(DataError, match="this looks like a photograph"):
        infer(tmp_path, [colour])


def test_bands_are_no_mask(tmp_path: Path) -> None:
    bands = np.random.default_rng(0).integers(0, 9, (5, 8, 8), dtype=np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", bands, photometric="minisblack", planarconfig="separate")
    with pytest.raises(
        DataError,
        match=r"a\.tif: a mask has one channel, or is RGB, or has a channel of 0 and 1 for each class; of the 5 "
        r"channels of this file, number 1 holds more than two values",
    ):
        read_raw_label(tmp_path / "a.tif")


def test_an_ignore_value_that_never_occurs_is_noted(tmp_path: Path) -> None:
    assert infer(tmp_path, [u8(discs(0))], ignore=9)[1].notes == ("the ignore value 9 occurs in no mask",)


def test_ignore_values_that_masks_cannot_have(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="--ignore #ffffff: the masks hold numbers, not colours"):
        infer(tmp_path, [u8(discs(0))], ignore=(255, 255, 255))
    coloured = [COLOURS[discs(s, (1, 2))] for s in range(2)]
    with pytest.raises(PlanError, match="--ignore 300: the masks are coloured; give a colour such as #ffffff"):
        infer(tmp_path, coloured, ignore=300)
    legend, survey = infer(tmp_path, coloured, ignore=(255, 0, 0))
    assert (legend.ignore, len(legend.classes)) == ((255, 0, 0), 2)
    assert survey.cases[0].ignored == (coloured[0] == (255, 0, 0)).all(-1).sum()


def test_ignored_pixels_are_counted(tmp_path: Path) -> None:
    mask = u8(discs(0, (1,)))
    mask[:10] = 255
    legend, survey = infer(tmp_path, [mask], ignore=255)
    assert survey.cases[0].ignored == 960
    assert values(legend) == [0, 1]


def legend_of(*classes: int, **options: object) -> Legend:
    entries = tuple(LegendClass(name=str(v), value=v, colour=(0, 0, 0)) for v in classes)
    return Legend.model_validate({"kind": "values", "classes": entries, "background": 0} | options)


def test_values_beyond_lookup_tables() -> None:
    legend = legend_of(0, 70_000, 2_000_000_000, ignore=-1)
    raw = np.array([[0, 70_000, 2_000_000_000, -1, 69_000, 40_000]])
    label, strays = legend.encode(raw)
    assert label.tolist() == [[0, 1, 2, IGNORE, 1, 1]]
    assert strays == 2
    assert legend.decode(label)[0, :4].tolist() == raw[0, :4].tolist()
    assert legend.dtype == np.int32


def test_types_of_decoded_masks() -> None:
    assert legend_of(0, 255).dtype == np.uint8
    assert legend_of(0, 256).dtype == np.uint16
    with pytest.raises(ValueError, match="the label has the index 2, but the legend has 2 classes"):
        legend_of(0, 1).decode(np.array([[2]], np.uint8))


def test_what_encode_refuses() -> None:
    with pytest.raises(DataError, match="the mask is coloured"):
        legend_of(0, 1).encode(np.zeros((3, 4, 4), np.uint8))
    with pytest.raises(DataError, match="the mask has pixels that are infinite; replace them by a value"):
        legend_of(0, 1).encode(np.full((4, 4), np.inf))
    assert (legend_of(0, 1).encode(np.full((4, 4), np.nan))[0] == IGNORE).all()
    assert legend_of(0, 1).encode(np.ones((2, 2), bool))[0].all()
    assert legend_of(0, 1).encode(np.zeros((0, 2), np.uint8))[0].shape == (0, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ignore": 1}, "each value belongs to one class"),
        ({"background": 5}, "background is a class index below 2"),
        ({"kind": "colours"}, "a legend of kind 'colours' cannot have the values"),
        (
            {"kind": "instances", "classes": legend_of(1, 2).classes},
            "instances have two classes, of which the first is 0",
        ),
        ({"classes": ()}, "classes"),
    ],
)
def test_legends_that_contradict_themselves(changes: dict[str, object], message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Legend.parse(legend_of(0, 1).model_dump() | changes, "plan.json")


def test_display_colours_differ() -> None:
    colours = [display_colour(k) for k in range(60)]
    assert len(set(colours)) == 60
    assert (0, 0, 0) not in colours


@pytest.mark.parametrize(
    ("name", "kind", "expected", "background"),
    [
        ("em", "values", [0, 255], 1),
        ("axons", "values", [0, 127, 255], 0),
        ("nuclei", "instances", [0, 255], 0),
        ("phase", "instances", [0, 255], 0),
        ("geo", "values", [0, 1], 0),
    ],
)
def test_real_sets(
    shared_data: Callable[[str], Path], name: str, kind: str, expected: list[int], background: int
) -> None:
    paths = sorted((shared_data(name) / "masks").iterdir())[:24]
    legend, survey = infer_legend([Case(p.stem, (p,), p) for p in paths])
    assert (legend.kind, values(legend.plain), legend.background) == (kind, expected, background)
    assert survey.strays == (9 if name == "axons" else 0)
    assert Legend.model_validate_json(legend.model_dump_json()) == legend
    for path, case in zip(paths[:3], survey.cases, strict=False):
        label, strays = read_label(Case(path.stem, (), path), legend)
        assert tuple(np.bincount(label.reshape(-1), minlength=len(legend.classes))) == case.counts
        assert strays == case.strays
