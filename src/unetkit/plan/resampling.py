"""Whether images are brought to one grid before a network sees them, and to which: spacing, and where axes point."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from unetkit.data.prepared.grid import THICK, TOLERANCE
from unetkit.data.prepared.placing import unit_scale
from unetkit.data.prepared.plan import PreparePlan
from unetkit.plan.fingerprint import CaseFacts, Fingerprint

# Resampling may make of the set at most so many times the pixels that it has; a finer spacing than that is refused.
GROWTH = 4.0
# Where thick slices differ in thickness, nearly the thinnest are what all are brought to (Isensee 2021, nnU-Net,
# supplementary note 2: the 10th percentile).
THIN_SLICES = 10


def with_grid(plan: PreparePlan, facts: Fingerprint) -> tuple[PreparePlan, dict[str, str]]:
    """The plan with the orientation and the spacing that all images are brought to, and why."""
    if plan.colour == "tokens":
        return plan, {}
    orientation, why = _orientation(facts.cases)
    oriented = plan.model_copy(update={"orientation": orientation, "spacing": None})
    spacing, unit, why_spacing = _spacing(facts, oriented)
    return oriented.model_copy(update={"spacing": spacing, "unit": unit}), why | why_spacing


def _orientation(cases: Sequence[CaseFacts]) -> tuple[str, dict[str, str]]:
    """Where axes of volumes shall point: as they all do; where they do not, right, front and top."""
    known = Counter(case.orientation for case in cases if case.orientation)
    if len(known) < 2:
        # kept, so that a volume that lies otherwise is turned before it is predicted
        return next(iter(known), ""), {}
    listed = ", ".join(f"{n} {codes}" for codes, n in known.most_common())
    unknown = len(cases) - sum(known.values())
    rest = f"; of {unknown} it is not known, they stay as they are" if unknown else ""
    return "RAS", {"prepare.orientation": f"axes point differently ({listed}): all are reordered to RAS{rest}"}


def _spacing(facts: Fingerprint, plan: PreparePlan) -> tuple[tuple[float, ...] | None, str, dict[str, str]]:
    """(target, its unit, why): none where spacings agree, or cannot be compared."""
    cases = facts.cases
    known = [case for case in cases if case.spacing is not None and (facts.ndim != 2 or case.unit)]
    if not known:
        return None, "", {}
    units = Counter(case.unit for case in known if case.unit)
    unit = units.most_common(1)[0][0] if units else ""
    if odd := sorted({u for u in units if unit_scale(u, unit) is None}):
        said = f"some spacings are in {unit}, others in {', '.join(odd)}: images are taken as they are"
        return None, "", {"prepare.spacing": said}
    probe = plan.model_copy(update={"unit": unit})
    own = np.array([(unit_scale(case.unit, unit) or 1.0) * _turned(case, probe) for case in known])
    median = np.median(own, axis=0)
    differ = np.maximum(own / median, median / own).max()
    if differ <= 1 + TOLERANCE and len(known) == len(cases):
        # kept, so that an image of another spacing is resampled before it is predicted
        one = " × ".join(f"{v:g}" for v in _rounded(median))
        return (
            _rounded(median),
            unit,
            {"prepare.spacing": f"all images have {one} {unit}".rstrip() + ": none is resampled"},
        )
    low, high = (" × ".join(f"{v:.3g}" for v in f(own, axis=0)) for f in (np.min, np.max))
    seen = f"spacings differ ({low} … {high} {unit})".replace(" )", ")")
    if len(known) < len(cases):
        lacking = f"of {len(cases) - len(known)} images the spacing is not known: all are taken as they are"
        return None, "", {"prepare.spacing": lacking}
    target, how = _thin_slices(own, median, facts.prepared(plan).median_size())
    pixels = sum(math.prod(case.shape) for case in cases)
    growth = _pixels(cases, probe, target) / pixels
    if growth > GROWTH:
        target = target * (growth / GROWTH) ** (1 / len(target))
        how += f", coarsened so that images have no more than {GROWTH:g} times their pixels"
    return _rounded(target), unit, {"prepare.spacing": f"{seen}: resampled to {how}"}


def _rounded(spacing: np.ndarray) -> tuple[float, ...]:
    return tuple(float(f"{v:.5g}") for v in spacing)


def _turned(case: CaseFacts, plan: PreparePlan) -> np.ndarray:
    return np.array(case.grid(plan).spacing(case.spacing or ()))


def _thin_slices(own: np.ndarray, median: np.ndarray, size: Sequence[int]) -> tuple[np.ndarray, str]:
    """The median spacing; of an axis of thick and few slices nearly the thinnest."""
    axis = int(np.argmax(median))
    others = [a for a in range(len(median)) if a != axis]
    if not others or median[axis] <= THICK * median[others].max() or THICK * size[axis] >= min(size[a] for a in others):
        return median, "their median"
    target = median.copy()
    target[axis] = max(np.percentile(own[:, axis], THIN_SLICES), median[others].max())
    return target, f"their median, along the thick axis to the {THIN_SLICES}th percentile"


def _pixels(cases: Sequence[CaseFacts], plan: PreparePlan, target: np.ndarray) -> float:
    aimed = plan.model_copy(update={"spacing": tuple(float(v) for v in target)})
    return float(sum(math.prod(case.grid(aimed).shape) for case in cases))
