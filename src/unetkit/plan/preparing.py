"""How images become what a network sees: channels, intensity by modality, and the grid that all are brought to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from unetkit.data.prepared.plan import PreparePlan
from unetkit.plan.fingerprint import Fingerprint
from unetkit.plan.resampling import with_grid

Colour = Literal["grey", "rgb", "bands"]


def prepare(
    facts: Fingerprint, vocabulary: int = 0, foreground: Sequence[int] = ()
) -> tuple[PreparePlan, dict[str, str]]:
    """How images become the network's input, and why. `vocabulary`: above 0 for sequences of integers; `foreground`:
    the classes of interest."""
    plan, why = _pixels(facts, vocabulary, foreground)
    plan, why_grid = with_grid(plan, facts)
    return plan, why | why_grid


def _pixels(facts: Fingerprint, vocabulary: int, foreground: Sequence[int]) -> tuple[PreparePlan, dict[str, str]]:
    """Channels and intensity."""
    if vocabulary:
        why_tokens = f"integers below {vocabulary} (net.vocabulary) are looked up in a table, not measured"
        return PreparePlan(channels=1, colour="tokens", normalise="none"), {"prepare.colour": why_tokens}
    if facts.ndim == 1:
        return _prepare_signals(facts)
    most = max(c.channels for c in facts.cases)
    mode: Colour
    if most > 3 or most == 2:
        mode = "bands"
        channels, why = most, f"images have {most} channels"
    elif facts.colour:
        mode = "rgb"
        channels, why = 3, "some images are coloured; grey ones are repeated to three channels"
    else:
        grey = "are grey" if most == 1 else "are grey, though some are stored as colour"
        mode = "grey"
        channels, why = 1, f"all images {grey}"
    if known := _by_modality(facts, channels, mode, foreground):
        return known[0], known[1] | {"prepare.channels": why}
    means = np.array([c.mean for c in facts.cases])
    spread = float(np.median([c.std for c in facts.cases]))
    differs = float(means.std()) > 0.35 * max(spread, 1e-6)
    types = facts.dtypes()
    deep = any(t not in ("uint8", "bool") for t in types)
    per_image = differs or deep or len(types) > 1
    if deep or len(types) > 1:
        why_normal = f"{' and '.join(types)} images have no common range"
    elif differs:
        why_normal = (
            f"brightness differs between images (their means by ±{means.std():.0f}, their pixels by ±{spread:.0f})"
        )
    else:
        why_normal = f"images are alike (their means differ by ±{means.std():.1f}, their pixels by ±{spread:.0f})"
    method = "percentile" if deep else "zscore"
    why_method = (
        "16-bit and float images may hold a few extreme values: cut at the 0.5 and 99.5 percentile"
        if deep
        else "8-bit images: minus the mean, over the standard deviation"
    )
    plan = PreparePlan(channels=channels, colour=mode, normalise="image" if per_image else "set", method=method)
    return plan, {
        "prepare.channels": why,
        "prepare.normalise": why_normal,
        "prepare.method": why_method,
    }


def _by_modality(
    facts: Fingerprint, channels: int, mode: Colour, foreground: Sequence[int]
) -> tuple[PreparePlan, dict[str, str]] | None:
    """Of images whose values mean something in themselves, one scale for all; None of others."""
    marked = any(facts.classes[k].fraction > 0 for k in foreground if k < len(facts.classes))
    if np.mean([c.ct for c in facts.cases]) > 0.5:
        method: Literal["window", "percentile"] = "window" if marked else "percentile"
        measured = "the classes of interest" if marked else "all images, for nothing of interest is marked"
        return PreparePlan(channels=channels, colour=mode, normalise="set", method=method), {
            "prepare.normalise": "the values look like those of a CT (air near -1000, water near 0): one scale for all",
            "prepare.method": f"cut at the 0.5 and 99.5 percentile of {measured}, then minus their mean, over their"
            " deviation",
        }
    if not all(c.map for c in facts.cases):
        return None
    method_of_maps: Literal["zscore", "percentile"] = (
        "zscore" if set(facts.dtypes()) <= {"uint8", "bool"} else "percentile"
    )
    return PreparePlan(channels=channels, colour=mode, normalise="set", method=method_of_maps), {
        "prepare.normalise": "the values of maps mean the same everywhere: each band by the mean and the deviation of"
        " the set; what holds nothing is left out",
        "prepare.method": "a few extreme values are cut, at the 0.5 and 99.5 percentile of the set"
        if method_of_maps == "percentile"
        else "8-bit images: minus the mean, over the standard deviation",
    }


def _prepare_signals(facts: Fingerprint) -> tuple[PreparePlan, dict[str, str]]:
    """Channels as they are; each by its own mean and deviation, for baselines and gains differ between recordings. Not
    clipped: of a signal that rests most of the time the peaks are what matters."""
    most = max(c.channels for c in facts.cases)
    return PreparePlan(channels=most, colour="grey" if most == 1 else "bands", normalise="image", method="zscore"), {
        "prepare.channels": f"the signals have {most} channel{'s' * (most != 1)}",
        "prepare.normalise": "gain and baseline differ between recordings",
        "prepare.method": "minus the mean, over the standard deviation; peaks are kept",
    }
