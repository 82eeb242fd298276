"""Layers of the examples: differences, contours, palettes, and files that are not what they should be."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from unetkit.report.facts import read_facts
from unetkit.report.pictures import CONFUSED, EXTRA, MISSED, UNLABELLED, contour, difference, read_pictures


def pixels(uri: str) -> np.ndarray:
    head, data = uri.split(",")
    assert head in ("data:image/png;base64", "data:image/jpeg;base64")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGBA"))


def test_difference_has_a_code_for_every_kind_of_error() -> None:
    truth = np.array([[0, 0, 1, 1, 1, 2, 255]], np.uint8)
    found = np.array([[0, 1, 1, 0, 2, 2, 1]], np.uint8)
    assert difference(truth, found, [1, 2]).tolist() == [[0, EXTRA, 0, MISSED, CONFUSED, 0, UNLABELLED]]


def test_without_background_every_error_is_another_class() -> None:
    codes = difference(np.array([[0, 1]], np.uint8), np.array([[1, 1]], np.uint8), [0, 1])
    assert codes.tolist() == [[CONFUSED, 0]]


@pytest.mark.parametrize(("width", "count"), [(1, 2), (2, 4), (3, 6)])
def test_contour_lies_on_both_sides_of_an_edge(width: int, count: int) -> None:
    mask = np.zeros((5, 12), np.uint8)
    mask[:, 6:] = 1
    edge = contour(mask, width)
    assert edge.sum(1).tolist() == [count] * 5
    assert np.array_equal(edge, edge[:, ::-1])
    assert not contour(np.ones((1, 1), np.uint8)).any()


def test_layers_show_classes_in_their_colours(made_run: Callable[..., Path]) -> None:
    run = made_run()
    facts = read_facts(run)
    pictures, problems = read_pictures(facts)
    assert problems == []
    picture = pictures[0]
    truth = np.asarray(Image.open(run / "examples" / "case00-truth.png"))
    layer = pixels(picture.truth)
    assert layer.shape == (72, 96, 4)
    assert (layer[truth == 0][:, 3] == 0).all()  # background: transparent
    assert (layer[truth == 1] == [230, 159, 0, 255]).all()
    assert (layer[truth == 255][:, 3] == 255).all()  # not annotated: shown as such
    line = pixels(picture.truth_line)
    assert 0 < (line[..., 3] > 0).sum() < (layer[..., 3] > 0).sum()
    assert pixels(picture.image).shape == (72, 96, 4)
    codes = difference(truth, np.asarray(Image.open(run / "examples" / "case00-prediction.png")), [1, 2])
    assert picture.missed == pytest.approx((codes == MISSED).sum() / (truth != 255).sum())


def test_a_heavy_image_goes_in_as_jpeg(made_run: Callable[..., Path]) -> None:
    run = made_run()
    noise = np.random.default_rng(1).integers(0, 256, (500, 500, 3), np.uint8)
    Image.fromarray(noise).save(run / "examples" / "case00-image.png")
    for part in ("truth", "prediction"):
        Image.fromarray(np.zeros((500, 500), np.uint8)).save(run / "examples" / f"case00-{part}.png")
    pictures, _ = read_pictures(read_facts(run))
    assert pictures[0].image.startswith("data:image/jpeg")


def test_files_outside_of_the_run_are_not_shown(made_run: Callable[..., Path]) -> None:
    run = made_run()
    secret = run.parent / "secret.png"
    Image.fromarray(np.zeros((72, 96), np.uint8)).save(secret)
    (run / "examples" / "link.png").symlink_to(secret)
    examples = json.loads((run / "examples/examples.json").read_text())
    for entry, name in zip(examples, ["../../secret.png", str(secret), "link.png"], strict=True):
        entry["image"] = name
    (run / "examples/examples.json").write_text(json.dumps(examples))
    pictures, problems = read_pictures(read_facts(run))
    assert pictures == []
    assert [p.endswith("lies outside the run folder.") for p in problems] == [True] * 3


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (Image.new("L", (50, 40)), "its truth is 50 × 40, its image 96 × 72"),
        (Image.new("RGB", (96, 72)), "case00-truth.png holds no class indices (its mode is RGB)"),
        (Image.new("1", (5000, 4000)), "case00-truth.png is too large (5000 × 4000)"),
    ],
    ids=["size", "colour", "huge"],
)
def test_masks_that_do_not_fit(made_run: Callable[..., Path], image: Image.Image, message: str) -> None:
    run = made_run()
    image.save(run / "examples" / "case00-truth.png")
    pictures, problems = read_pictures(read_facts(run))
    assert len(pictures) == 2
    assert problems == [f"Example case00 cannot be shown: {message}."]


def test_entries_without_files(made_run: Callable[..., Path]) -> None:
    run = made_run()
    (run / "examples/examples.json").write_text(json.dumps([{"case": "a"}, {"image": 3, "truth": None}]))
    pictures, problems = read_pictures(read_facts(run))
    assert pictures == []
    assert problems == [
        "Example a cannot be shown: it has no 'image'.",
        "Example 1 cannot be shown: examples.json gives no file name.",
    ]


def test_regions_that_overlap_are_filled_and_outlined_one_by_one(made_run: Callable[..., Path]) -> None:
    """Bit masks: the last region of a pixel gives the colour, and every region has an outline of its own."""
    run = made_run(classes=("whole", "core", "spot"))
    plan = json.loads((run / "plan.json").read_text())
    plan["data"]["legend"] |= {"kind": "regions", "background": None}
    colours = [[10, 20, 30], [86, 180, 233], [0, 158, 115]]
    for entry, colour in zip(plan["data"]["legend"]["classes"], colours, strict=True):
        entry["colour"] = colour
    (run / "plan.json").write_text(json.dumps(plan))
    truth = np.zeros((72, 96), np.uint8)
    truth[10:60, 10:80] |= 1
    truth[20:50, 20:60] |= 2
    truth[30:40, 30:40] |= 4
    truth[:5] = 255
    found = np.where(truth == 7, 1, truth).astype(np.uint8)
    found[65:70], found[12:14, 12:14] = 1, 0
    for name, mask in (("truth", truth), ("prediction", found)):
        Image.fromarray(mask).save(run / "examples" / f"case00-{name}.png")
    pictures, problems = read_pictures(read_facts(run))
    assert problems == []
    fill, line, errors = (pixels(getattr(pictures[0], part)) for part in ("truth", "truth_line", "errors"))
    for value, colour in ((1, 0), (3, 1), (7, 2)):
        assert (fill[truth == value] == [*colours[colour], 255]).all()
    assert (fill[truth == 0][:, 3] == 0).all()
    assert line[10, 40].tolist() == [*colours[0], 255]
    assert line[20, 40].tolist() == [*colours[1], 255]
    assert line[30, 35].tolist() == [*colours[2], 255]
    assert line[35, 35, 3] == line[25, 40, 3] == 0
    assert (errors[66, 50, 3], errors[13, 13, 3], errors[35, 35, 3], errors[55, 50, 3]) == (255, 255, 255, 0)
    assert pictures[0].extra == pytest.approx(5 * 96 / (67 * 96))
    assert pictures[0].missed == pytest.approx(4 / (67 * 96))
    assert pictures[0].confused == pytest.approx(100 / (67 * 96))
