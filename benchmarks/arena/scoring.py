"""Scores of the held-out cases: the same code for every contestant, from files of the same form.

A contestant leaves one file per case, `predictions/NAME.npz`, with `label` (classes 0 … K−1 of the set, of nuclei the
number of the object of each pixel) and, of em, `probability` of membrane.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from arena.sets import IGNORE, ArenaSet, Array, Case
from unetkit.core.files import write_bytes
from unetkit.metrics.instances import image_scores
from unetkit.metrics.membrane import THRESHOLDS, components, segment_scores, segments_between

Row = dict[str, float | None]


def prediction_file(folder: Path, case: Case) -> Path:
    return folder / "predictions" / f"{case.id.replace('/', '__')}.npz"


def write_prediction(folder: Path, case: Case, label: Array, probability: Array | None = None) -> None:
    """Write what a contestant predicts for a case, atomically."""
    import io

    file = io.BytesIO()
    parts = {"label": label} if probability is None else {"label": label, "probability": probability.astype(np.float32)}
    np.savez_compressed(file, **parts)
    path = prediction_file(folder, case)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, file.getvalue())


def score(kind: ArenaSet, case: Case, folder: Path) -> Row:
    """All scores of one held-out case, None where there is nothing to score. Raises ValueError: another size."""
    with np.load(prediction_file(folder, case)) as found:
        label = found["label"]
        probability = found.get("probability")
    truth = kind.read_label(case)
    if label.shape != truth.shape:
        raise ValueError(f"{kind.name}/{case.id}: predicted {label.shape}, the truth is {truth.shape}")
    if kind.name == "nuclei":
        objects = image_scores(truth, label)
        return _plain({"dice": dice(truth > 0, label > 0), "ap50": objects["ap50"], "ap50_90": objects["ap50_90"]})
    known = truth != IGNORE
    row = {name: dice((truth == k) & known, (label == k) & known) for k, name in enumerate(kind.classes) if k > 0}
    if kind.name == "em":
        if probability is None:
            raise ValueError(f"em/{case.id}: the probability of membrane is missing")
        return _plain({"dice": row["membrane"], **membrane(probability, truth == 1)})
    measure = kind.measures[0]
    values = [value for value in row.values() if not math.isnan(value)]
    mean = sum(values) / len(values) if values else math.nan
    return _plain({measure: mean, **{f"{measure}_{name}": value for name, value in row.items()}})


def dice(truth: Array, found: Array) -> float:
    """2 |A ∩ B| / (|A| + |B|), which is F1 of the elements; NaN where both are empty."""
    both = int(truth.sum()) + int(found.sum())
    return 2 * int((truth & found).sum()) / both if both else math.nan


def membrane(probability: Array, truth: Array) -> dict[str, float]:
    """V_rand and V_info at every threshold (`v_rand@0.3`), and the best for this image (`v_rand`), as the challenge has
    it: see unetkit.metrics.membrane."""
    cells = components(~truth)
    at = [segment_scores(segments_between(probability >= t), cells) for t in THRESHOLDS]
    row = {"v_rand": max(one.v_rand for one in at), "v_info": max(one.v_info for one in at)}
    for t, one in zip(THRESHOLDS, at, strict=True):
        row |= {f"v_rand@{t:g}": one.v_rand, f"v_info@{t:g}": one.v_info}
    return row


def _plain(row: Mapping[str, float]) -> Row:
    return {name: None if math.isnan(value) else float(value) for name, value in row.items()}
