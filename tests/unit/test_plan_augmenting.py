"""What augmentation is planned: off where it would lie, with the reason; objects that could be pasted."""

from __future__ import annotations

import pytest

from unetkit.augment.plan import AugmentPlan
from unetkit.core.errors import PlanError
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.plan import augmenting
from unetkit.plan.fingerprint import CaseFacts, ClassFacts, Fingerprint


def facts(
    names: tuple[str, ...] = ("background", "cell"), ndim: int = 2, rare: float = 0.3, colour: bool = False
) -> Fingerprint:
    one = CaseFacts(id="a", shape=(200,) * ndim, channels=3 if colour else 1, dtype="uint8", mean=0.0, std=1.0)
    shares = (1 - rare * (len(names) - 1), *(rare,) * (len(names) - 1))
    classes = tuple(
        ClassFacts(name=name, fraction=share, cases=9, thickness=9.0) for name, share in zip(names, shares, strict=True)
    )
    return Fingerprint(cases=(one,) * 9, classes=classes, colour=colour, ignored=0.0)


def legend(kind: str, *names: str, **fields: int) -> Legend:
    classes = tuple(LegendClass(name=n, value=k, colour=(k, 0, 0)) for k, n in enumerate(names))
    return Legend.model_validate({"kind": kind, "classes": classes, "background": 0, **fields})


@pytest.mark.parametrize("name", ["left_lung", "Right ventricle", "upper-lip", "lungLeft", "ventral horn"])
def test_images_of_named_sides_are_neither_mirrored_nor_turned(name: str) -> None:
    plan, why = augmenting.augment(facts(("background", name)), (128, 128))
    assert (plan.flip, plan.turn, plan.rotate) == (False, False, 15.0)
    assert why["augment.flip"] == f"'{name}' is a side: of a mirrored image its mask would be wrong"


@pytest.mark.parametrize(
    ("names", "folder"), [(("paper", "text lines"), "scans"), (("ink", "paper"), "old_manuscripts")]
)
def test_writing_is_not_mirrored(names: tuple[str, ...], folder: str) -> None:
    plan, why = augmenting.augment(facts(names), (128, 128), folder=folder)
    assert (plan.flip, plan.turn, plan.rotate) == (False, False, 10.0)
    assert "which nobody reads mirrored" in why["augment.flip"]


@pytest.mark.parametrize("name", ["leftover", "rooftop", "bright cell", "texture", "context", "password"])
def test_words_are_whole_words(name: str) -> None:
    plan, why = augmenting.augment(facts(("background", name)), (128, 128), folder=f"{name} images")
    assert plan.flip is plan.turn is True
    assert "augment.flip" not in why


def test_colours_are_left_as_they_are_and_said_to_be() -> None:
    plan, why = augmenting.augment(facts(colour=True), (128, 128))
    assert (plan.hue, plan.saturation, plan.stain) == (0, 0, 0)
    assert "set augment.saturation, hue or stain" in why["augment.hue"]
    assert "augment.hue" not in augmenting.augment(facts(), (128, 128))[1]


def test_what_could_be_pasted_follows_from_the_masks_and_nothing_is_unless_asked() -> None:
    def of(given: Legend, rare: float = 0.3) -> AugmentPlan:
        return augmenting.augment(facts(given.names, rare=rare), (128, 128), legend=given)[0]

    cells = of(legend("instances", "background", "object"))
    assert (cells.paste, cells.paste_classes, cells.paste_border) == (0, (1,), 0)
    border = Legend.model_validate(
        {
            "kind": "instances",
            "border": 2,
            "background": 0,
            "classes": [{"name": n, "value": v, "colour": (0, 0, v)} for n, v in (("b", 0), ("o", 1), ("border", 2))],
        }
    )
    assert (of(border).paste_classes, of(border).paste_border) == ((1, 2), 2)
    assert of(legend("values", "background", "organ", "lesion")).paste_classes == ()
    assert of(legend("values", "background", "organ", "lesion"), rare=0.01).paste_classes == (1, 2)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hue": 20.0}, r"augment\.hue is of colours, and these images are not RGB; set it to 0"),
        ({"channel_drop": 0.5}, r"augment\.channel_drop blanks one of several channels, and there is one"),
        ({"paste": 0.5}, r"augment\.paste needs objects: set augment\.paste_classes"),
        ({"paste": 0.5, "paste_classes": (7,)}, r"augment\.paste_classes holds 7, but labels are from 0 to 2"),
        ({"flip": (True,)}, r"augment\.flip has 1 entries, but the network has 2 axes"),
    ],
)
def test_what_does_not_fit_the_images_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AugmentPlan().model_copy(update=changes).check(2, 1, False, 3)
    AugmentPlan(hue=20, channel_drop=0.5, paste=0.5, paste_classes=(1,)).check(2, 3, True, 3)


@pytest.mark.parametrize(
    "wrong",
    [
        {"shear": 50},
        {"low_resolution": 1},
        {"paste": 2},
        {"cut_out_label": "drop"},
        {"paste_classes": [255]},
        {"hue": -1},
    ],
)
def test_impossible_strengths_are_refused_by_name(wrong: dict[str, object]) -> None:
    with pytest.raises(PlanError, match=next(iter(wrong))):
        AugmentPlan.parse(wrong, "--set augment")
