"""The doctor: looks at every file of a set once, and says what is wrong, where, and how to mend it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unetkit.core.errors import DataError
from unetkit.data.case import Case, Discovery
from unetkit.data.doctor import remarks
from unetkit.data.doctor.finding import SEVERITIES, Finding, from_error
from unetkit.data.doctor.images import ImageFacts, image_facts
from unetkit.data.groups import Groups, find_groups
from unetkit.data.labels.legend import Legend, Value
from unetkit.data.labels.mask_facts import MaskFacts, mask_facts
from unetkit.data.labels.survey import Background, MaskSurvey, legend_from


@dataclass(frozen=True)
class Diagnosis:
    """All findings, gravest first, and what was learnt of the set on the way. Only readable files are in the facts."""

    findings: tuple[Finding, ...]
    groups: Groups
    images: tuple[ImageFacts, ...]
    understood: tuple[Legend, MaskSurvey] | None

    @property
    def stops(self) -> bool:
        """Whether a finding stops training."""
        return any(finding.severity == "error" for finding in self.findings)

    @property
    def legend(self) -> Legend:
        """What the masks mean. Raises DataError where that could not be told; a finding says why."""
        return self._understood()[0]

    @property
    def survey(self) -> MaskSurvey:
        """Pixels of each class in each mask. Raises DataError as `legend`."""
        return self._understood()[1]

    @property
    def label_counts(self) -> dict[str, tuple[int, ...]]:
        """Pixels of each class, by case; empty where the masks could not be understood."""
        return self.understood[1].label_counts if self.understood else {}

    @property
    def hashes(self) -> dict[str, str]:
        """A digest of each image's pixels, by case; equal for copies."""
        return {image.case: image.digest for image in self.images}

    def count(self, severity: str) -> int:
        """Number of findings of this severity."""
        return sum(finding.severity == severity for finding in self.findings)

    def to_json(self) -> dict[str, Any]:
        """Plain values: findings, the legend, groups, classes."""
        return {
            "stops": self.stops,
            "findings": [finding.model_dump(mode="json") for finding in self.findings],
            "legend": self.understood[0].model_dump(mode="json") if self.understood else None,
            "pixels": dict(zip(self.legend.names, self.survey.counts, strict=True)) if self.understood else None,
            "groups": {"reason": self.groups.reason, "ordered": self.groups.ordered, "of": dict(self.groups.of)},
            "images": len(self.images),
        }

    def _understood(self) -> tuple[Legend, MaskSurvey]:
        if self.understood is None:
            errors = [f for f in self.findings if f.severity == "error"]
            why = next((f for f in errors if f.code == "no-legend"), errors[0])
            raise DataError(f"{why.file}: {why.message}; {why.fix}")
        return self.understood


def examine(
    discovery: Discovery,
    names: Sequence[str] | None = None,
    ignore: Value | None = None,
    background: Background = "auto",
    progress: Callable[[int, int], object] | None = None,
) -> Diagnosis:
    """Examine a set: every image and mask is decoded once, one after the other.

    names, ignore, background: as for `infer_legend`; where the set itself states class names or an ignore value
    (nnU-Net's `dataset.json`), those hold unless the user says otherwise. progress: told (done, total) after each case.

    Bad files become findings. Raises PlanError: names or a background that do not fit the masks' values.
    """
    findings: list[Finding] = []
    images: list[ImageFacts] = []
    masks: list[MaskFacts] = []
    total = len(discovery.cases) + len(discovery.unlabelled_cases)
    ignore = discovery.ignore if ignore is None else ignore
    for done, case in enumerate((*discovery.cases, *discovery.unlabelled_cases), 1):
        image, mask = _image(case, findings), _mask(case, ignore, discovery.class_names, findings)
        if image is not None:
            images.append(image)
        if mask is not None:
            masks.append(mask)
        if progress is not None:
            progress(done, total)
    understood = _understand(discovery, masks, names, ignore, background, findings)
    groups = find_groups(discovery.cases, len(images[0].shape) if images else 2)
    by_case = {image.case: image for image in images}
    findings += remarks.on_layout(discovery)
    findings += remarks.on_images(images)
    findings += remarks.on_sizes(by_case, masks)
    findings += remarks.on_places(by_case, masks)
    findings += remarks.on_copies(discovery.cases, by_case, groups, masks)
    findings += remarks.on_groups(discovery.cases, groups)
    if understood is not None:
        findings += remarks.on_masks(*understood)
    findings.sort(key=lambda finding: SEVERITIES.index(finding.severity))
    return Diagnosis(tuple(findings), groups, tuple(images), understood)


def _image(case: Case, findings: list[Finding]) -> ImageFacts | None:
    try:
        return image_facts(case)
    except DataError as error:
        # of several channel files, the one that the message names
        files = (source for source in case.images if isinstance(source, Path))
        path = next((path for path in files if str(error).startswith(f"{path}: ")), case.where)
        findings.append(from_error(error, "bad-image", path))
        return None


def _mask(case: Case, ignore: Value | None, stated: Mapping[int, str], findings: list[Finding]) -> MaskFacts | None:
    if case.label is None:
        return None
    try:
        return mask_facts(case, ignore, {name: value for value, name in stated.items()} or None)
    except DataError as error:
        # of several files, the one that the message names
        path = next((path for path in case.label_files if str(error).startswith(f"{path}: ")), case.mask_where)
        findings.append(from_error(error, "bad-mask", path))
        return None


def _understand(
    discovery: Discovery,
    masks: Sequence[MaskFacts],
    names: Sequence[str] | None,
    ignore: Value | None,
    background: Background,
    findings: list[Finding],
) -> tuple[Legend, MaskSurvey] | None:
    given: Mapping[int, str] | None = discovery.class_names or None
    if not masks:
        return None  # each unreadable mask has its own finding
    try:
        return legend_from(masks, names, ignore, background, given, discovery.regions)
    except DataError as error:
        path = next((m.path for m in masks if str(error).startswith(str(m.path))), discovery.root)
        findings.append(from_error(error, "no-legend", path))
        return None
