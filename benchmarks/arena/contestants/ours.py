"""unetkit as it comes: `unetkit train DATA -o RUN --minutes M` and `unetkit predict`, no other flag."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from arena.contestants.task import Outcome, Task, timed
from arena.scoring import write_prediction
from arena.sets import Array, Case, membranes, nerve_classes

TITLE = "unetkit"
SETS = ("em", "nuclei", "hippocampus", "axons", "ecg")
WORDS = {
    "network": "planned from the data and the minutes",
    "loss": "planned",
    "optimiser": "planned",
    "augmentation": "planned",
    "patch and batch": "planned",
    "prediction": "as planned by the run",
    "validation": "its own, taken from the training cases and from the minutes",
    "precision": "auto: the faster here, timed by the run",
    "source": "`unetkit train DATA -o RUN --minutes M`, then `unetkit predict`",
}


def settings(name: str) -> dict[str, Any]:  # noqa: ARG001  (the same command for every set)
    """flags: further flags of `unetkit train`, as one string; none unless something is tried out. steps: a budget in
    steps in place of minutes; 0: minutes."""
    return {"flags": "", "steps": 0}


def compete(task: Task) -> Outcome:
    run, masks = task.out / "run", task.out / "masks"
    for folder in (run, masks):
        shutil.rmtree(folder, ignore_errors=True)
    seed = ["--seed", str(task.seed)] if task.seed else []
    steps = task.settings["steps"]
    budget = ["--steps", str(steps)] if steps else ["--minutes", f"{task.minutes:g}"]
    began = time.time()
    _unetkit("train", task.data / "train", "-o", run, *budget, *seed,
             *str(task.settings["flags"]).split())  # fmt: skip
    trained = time.time()
    images = task.data / "test" if task.kind.name == "ecg" else task.data / "test" / "images"
    probabilities = ["--probabilities"] if task.kind.name == "em" else []
    _unetkit("predict", run, images, "-o", masks, *probabilities)
    predicted = time.time()
    plan = json.loads((run / "plan.json").read_text(encoding="utf-8"))
    for case in task.test_cases:
        write_prediction(
            task.out, case, _label(task, case, masks), _membrane(case, masks, plan) if probabilities else None
        )
    outcome = timed(task, trained, _steps(run))
    parts = {
        part: plan.get(part) for part in ("net", "loss", "sampling", "optim", "augment", "learn", "predict", "machine")
    }
    return Outcome(trained - began, predicted - trained, outcome.steps, {"plan": parts})


def _unetkit(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "unetkit", *map(str, words)], check=True)


def _steps(run: Path) -> int:
    return int(json.loads((run / "metrics.json").read_text(encoding="utf-8"))["steps"])


def _label(task: Task, case: Case, masks: Path) -> Array:
    """The mask that predict wrote, which has the values of the masks learnt from, as classes (of nuclei: numbers)."""
    if task.kind.name == "ecg":
        with (masks / f"{case.id}.csv").open(encoding="utf-8", newline="") as table:
            return np.array([int(row["value"]) for row in csv.DictReader(table)], np.uint8)
    file = masks / case.mask.name
    if task.kind.name == "hippocampus":
        import nibabel

        return np.asarray(nibabel.load(file).dataobj).astype(np.uint8)
    from PIL import Image

    with Image.open(file) as picture:
        values = np.asarray(picture)
    return {"em": membranes, "axons": nerve_classes, "nuclei": lambda ids: ids}[task.kind.name](values)


def _membrane(case: Case, masks: Path, plan: dict[str, Any]) -> Array:
    """Probability of membrane, the class whose value is 0."""
    from unetkit.data.formats import open_image

    number = next(k for k, entry in enumerate(plan["data"]["legend"]["classes"]) if entry["value"] == 0)
    with open_image(masks / "probabilities" / f"{case.id}.tif") as reader:
        return reader.read()[number].astype(np.float32)
