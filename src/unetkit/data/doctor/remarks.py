"""The doctor's judgements: from the facts of a set to findings. Pure functions, no files are opened."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from unetkit.data.case import Case, Discovery
from unetkit.data.doctor.finding import Finding
from unetkit.data.doctor.images import ImageFacts, spacing_text
from unetkit.data.doctor.places import apart, nowhere
from unetkit.data.groups import Groups
from unetkit.data.labels.legend import Legend, percent, show
from unetkit.data.labels.mask_facts import MaskFacts
from unetkit.data.labels.survey import MaskSurvey
from unetkit.data.sizes import extent, size, units

RARE = 0.001  # a class on less than this share of the labelled pixels hardly occurs
FEW_CASES = 3  # … as does one in fewer masks than this
_KINDS = {1: "a signal", 2: "an image", 3: "a volume"}
_MIXED = {
    "mixed-channels": "channels",
    "mixed-depth": "kinds of numbers",
    "mixed-sizes": "sizes",
    "mixed-spacing": "spacings",
}
MANY_STRAYS = 0.01  # of a mask's pixels: from here on strays are a warning, below a note


def on_layout(discovery: Discovery) -> Iterator[Finding]:
    """What has no partner, what discovery remarked, and a set of one."""
    for case in discovery.unlabelled_cases:
        if case.channel is not None:
            yield Finding(
                severity="warning", code="missing-mask", file=str(case.where), message="the lead has no marked waves",
                fix="mark them in a file of its name; until then the lead is not used for training",
            )  # fmt: skip
            continue
        for source in case.images:
            yield Finding(
                severity="warning", code="missing-mask", file=str(source if isinstance(source, Path) else case.where),
                message="the image has no mask",
                fix="add a mask with the same name; until then the image is not used for training",
            )  # fmt: skip
    for path in discovery.orphans:
        yield Finding(
            severity="warning", code="missing-image", file=str(path), message="the mask has no image",
            fix="add the image with the same name, or remove the mask; it is not used",
        )  # fmt: skip
    for note in discovery.notes:
        yield Finding(severity="note", code="layout", file=str(discovery.root), message=note)
    if len(discovery.cases) == 1:
        yield Finding(
            severity="warning", code="one-case", file=str(discovery.root),
            message="there is one image with a mask: nothing can validate what is learned from it",
            fix="add annotated images, or cut this one into parts",
        )  # fmt: skip


def on_images(images: Sequence[ImageFacts]) -> Iterator[Finding]:
    """Images without content, with pixels that are no numbers, turned by their EXIF; kinds and sizes that differ."""
    for image in images:
        if image.constant:
            yield Finding(
                severity="warning", code="constant-image", file=str(image.path),
                message=f"the image is empty: every {units(len(image.shape), 1)} has the value {image.low:g}",
                fix="export it again, or remove it with its mask",
            )  # fmt: skip
        if image.not_finite:
            yield Finding(
                severity="warning", code="not-finite", file=str(image.path),
                message=f"{image.not_finite} {units(len(image.shape))} are not numbers (NaN or infinite)",
                fix="they are read as the image's mean; replace them, and set the mask there to the ignore value",
            )  # fmt: skip
        if image.orientation != 1:
            yield Finding(
                severity="warning", code="orientation", file=str(image.path),
                message=f"the camera's orientation tag (EXIF {image.orientation}) turns the image in viewers; pixels "
                "are read as stored",
                fix="compare image and mask in the report; if they do not lie on each other, save the image turned",
            )  # fmt: skip
    yield from _mixed(
        images, "mixed-channels", "warning", lambda i: f"{i.channels} channel{'s' * (i.channels != 1)}",
        "all are read as grey, or all as RGB; save them in one mode if colour matters",
    )  # fmt: skip
    yield from _mixed(
        images,
        "mixed-depth",
        "warning",
        lambda i: i.dtype,
        "save all with one bit depth, or normalise each image by itself",
    )
    if (several := sorted({len(image.shape) for image in images}))[1:]:
        first, other = (next(i for i in images if len(i.shape) == ndim) for ndim in several[:2])
        yield Finding(
            severity="error", code="mixed-dimensions", file=str(other.path),
            message=f"this is {_KINDS[several[1]]} ({extent(other.shape)}), but {first.path} is {_KINDS[several[0]]} "
            f"({extent(first.shape)})",
            fix="a network works in one number of dimensions; put each kind into a folder of its own",
        )  # fmt: skip
        return
    yield from _mixed(images, "mixed-sizes", "note", lambda i: size(i.shape), "")
    yield from _mixed(images, "mixed-spacing", "note", _spacing, "")
    yield from _guessed(images)


def on_sizes(images: Mapping[str, ImageFacts], masks: Iterable[MaskFacts]) -> Iterator[Finding]:
    """Masks that are not as large as their images."""
    for mask in masks:
        image = images.get(mask.case)
        if image is None or image.shape == mask.shape:
            continue
        order = " (width × height)" if len(image.shape) == len(mask.shape) == 2 else ""
        turned = image.shape == mask.shape[::-1]
        yield Finding(
            severity="error", code="size-mismatch", file=str(mask.path),
            message=f"the mask is {extent(mask.shape)}, its image {image.path.name} {size(image.shape)}{order}",
            fix="turn the mask (or the image) by a quarter" if turned else
            "export the mask at the image's size (resize without interpolation), or check that it is this image's",
        )  # fmt: skip


def on_places(images: Mapping[str, ImageFacts], masks: Iterable[MaskFacts]) -> Iterator[Finding]:
    """Masks that lie elsewhere than their images, and what was unclear in them."""
    for mask in masks:
        image, info = images.get(mask.case), mask.info
        if image is not None and info is not None and image.shape == info.shape and (how := apart(image, info)):
            lost = nowhere(info) or nowhere(image)
            where = "the header of one of them knows no place; " if lost else ""
            yield Finding(
                severity="warning" if lost else "error", code="other-grid", file=str(mask.path),
                message=f"it does not lie over its image {image.path.name}: {how}",
                fix=where + ("they are paired as stored; look at both in a viewer" if lost else
                "resample the mask onto the image's grid without interpolation, or save it with the image's geometry"),
            )  # fmt: skip
        for note in mask.notes:
            yield Finding(severity="note", code="unclear-mask", file=str(mask.path), message=note)


def on_copies(
    cases: Sequence[Case], images: Mapping[str, ImageFacts], groups: Groups, masks: Iterable[MaskFacts]
) -> Iterator[Finding]:
    """Images with the same pixels; graver where they lie in different groups or splits. Empty images do not count."""
    of = {case.id: case for case in cases}
    same: dict[str, list[ImageFacts]] = defaultdict(list)
    for image in images.values():
        if image.case in of and not image.constant:
            same[image.digest].append(image)
    pixels = {mask.case: (mask.values.tobytes(), mask.counts.tobytes()) for mask in masks}
    for copies in same.values():
        first = copies[0]
        for copy in copies[1:]:
            where = f"the same pixels as {first.path}"
            sides = [of[i.case].split for i in (first, copy)]
            parts = [groups.of.get(i.case) for i in (first, copy)]
            labels = [pixels.get(i.case) for i in (first, copy)]
            fix = "remove one of the two; until then both stay on one side of the split"
            if sides[0] != sides[1] and all(sides):
                where += f", but this one is in '{sides[1]}' and that in '{sides[0]}': scores flatter"
                fix = "remove one of the two"
            elif parts[0] != parts[1] and all(parts):
                where += f", but the groups differ ('{parts[1]}' and '{parts[0]}')"
            if None not in labels and labels[0] != labels[1]:
                where += "; their masks differ"
            yield Finding(severity="warning", code="duplicate", file=str(copy.path), message=where, fix=fix)


def on_groups(cases: Sequence[Case], groups: Groups) -> Iterator[Finding]:
    """Groups and stacks that the names tell, and groups that a given split tears apart."""
    if groups.source == "names":
        yield Finding(
            severity="note", code="groups", file="", message=groups.reason,
            fix="the split respects this; to say otherwise, give a CSV with a column 'group' or 'split'",
        )  # fmt: skip
    sides: dict[str, dict[str, str]] = defaultdict(dict)
    for case in cases:
        if case.split is not None and case.id in groups.of:
            sides[groups.of[case.id]].setdefault(case.split, case.id)
    for group, found in sides.items():
        if len(found) > 1:
            where = " and ".join(f"'{side}' ({case})" for side, case in found.items())
            yield Finding(
                severity="warning", code="leak", file="", message=f"the group '{group}' is in {where}: scores flatter",
                fix="put all cases of a group on one side",
            )  # fmt: skip


def on_masks(legend: Legend, survey: MaskSurvey) -> Iterator[Finding]:
    """Strays, masks that hold one class only, classes that hardly occur, and what was remarkable about the set."""
    yield Finding(severity="note", code="legend", file="", message=legend.reason)
    for note in survey.notes:
        message, _, fix = (
            note.rpartition("; ") if "pass --ignore" in note or "save the masks" in note else (note, "", "")
        )
        yield Finding(severity="warning", code="masks", file="", message=message, fix=fix)
    for case in survey.cases:
        n = case.labelled + case.ignored
        if case.strays:
            values = ", ".join(f"{show(v)} ({k} {units(len(case.shape), k)})" for v, k in case.stray_values)
            more = " and others" if sum(k for _, k in case.stray_values) < case.strays else ""
            yield Finding(
                severity="warning" if case.strays >= MANY_STRAYS * n else "note",
                code="stray-values", file=str(case.path),
                message=f"{case.strays} {units(len(case.shape))} ({percent(case.strays / n)} of the mask) have values "
                f"of no class: {values or 'not whole numbers'}{more}",
                fix="they are read as the nearest class; save masks as PNG or TIFF, without smoothing, to be exact",
            )  # fmt: skip
        present = [k for k, pixels in enumerate(case.counts) if pixels]
        if not case.labelled:
            yield Finding(
                severity="warning", code="unlabelled-mask", file=str(case.path),
                message=f"every {units(len(case.shape), 1)} of the mask has the ignore value: nothing can be learned "
                "from it",
                fix="annotate it, or remove it",
            )  # fmt: skip
        elif present == [legend.background] or not present:
            yield Finding(
                severity="note", code="empty-mask", file=str(case.path),
                message="the mask holds background only" if present else "none of the classes occurs in the mask",
                fix="nothing, if there is nothing to see in the image; else annotate it",
            )  # fmt: skip
        elif len(present) == 1 and case.counts[present[0]] == case.labelled:
            yield Finding(
                severity="warning", code="constant-mask", file=str(case.path),
                message=f"every {units(len(case.shape), 1)} of the mask is '{legend.names[present[0]]}'",
                fix="check that the mask belongs to this image",
            )  # fmt: skip
    yield from _unlabelled(survey)
    yield from _rare(legend, survey)


def _unlabelled(survey: MaskSurvey) -> Iterator[Finding]:
    ignored = sum(case.ignored for case in survey.cases)
    if ignored:
        unit = units(len(survey.cases[0].shape))
        yield Finding(
            severity="note", code="unlabelled", file="",
            message=f"{percent(ignored / (ignored + survey.labelled))} of the {unit} carry no label: nothing is "
            "learned from them, and they are not scored",
        )  # fmt: skip


def _rare(legend: Legend, survey: MaskSurvey) -> Iterator[Finding]:
    total = survey.labelled
    unit = units(len(survey.cases[0].shape))
    for index in legend.foreground:
        pixels, name = survey.counts[index], legend.names[index]
        masks = sum(case.counts[index] > 0 for case in survey.cases)
        if not pixels:
            yield Finding(
                severity="warning", code="absent-class", file="", message=f"the class '{name}' occurs in no mask",
                fix="annotate it, or leave it out",
            )  # fmt: skip
        elif pixels < RARE * total or (masks < FEW_CASES <= len(survey.cases)):
            yield Finding(
                severity="warning", code="rare-class", file="",
                message=f"the class '{name}' hardly occurs: {percent(pixels / total)} of the {unit}, in {masks} of "
                f"{len(survey.cases)} masks",
                fix="annotate more images that show it, or join it with another class",
            )  # fmt: skip


def _spacing(image: ImageFacts) -> str:
    """The spacing in words; differences that are below what a scanner's header rounds to do not count."""
    return "not known" if image.spacing is None else spacing_text(image.spacing, image.unit)


def _guessed(images: Sequence[ImageFacts]) -> Iterator[Finding]:
    """What readers had to guess of the files, once for all files of which it is the same."""
    said: dict[str, list[ImageFacts]] = defaultdict(list)
    for image in images:
        for note in image.notes:
            said[note.replace(str(image.path), "").replace(image.path.name, "").lstrip(": ")].append(image)
    for note, of in said.items():
        more = f" (and {len(of) - 1} more files)" if len(of) > 1 else ""
        yield Finding(severity="note", code="as-read", file=str(of[0].path), message=note + more)


def _mixed(
    images: Sequence[ImageFacts], code: str, severity: str, kind: Callable[[ImageFacts], str], fix: str
) -> Iterator[Finding]:
    kinds = Counter(kind(image) for image in images).most_common()
    if len(kinds) < 2:
        return
    shown = ", ".join(f"{name}: {n}" for name, n in kinds[:4]) + (
        f" and {len(kinds) - 4} more" if len(kinds) > 4 else ""
    )
    odd = next(image for image in images if kind(image) == kinds[-1][0])
    what = _MIXED[code]
    yield Finding.model_validate(
        {
            "severity": severity,
            "code": code,
            "file": str(odd.path),
            "message": f"the images have {len(kinds)} {what} ({shown})",
            "fix": fix,
        }
    )
