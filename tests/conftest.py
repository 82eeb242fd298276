"""Fixtures for every test: real data where it is present, and one thread so that tests side by side do not fight."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

from unetkit.core.settings import patient_threads
from unetkit.metrics.scores import METRICS, CaseScores, Scores

# the same examples at every run: a suite that fails now and then says nothing about the change at hand
settings.register_profile("repeatable", derandomize=True)
settings.load_profile("repeatable")

# before torch is loaded: tests side by side, on machines with other work to do, must not spin for each other
patient_threads()

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """`shared_data("em")` is the folder of a real data set; the test skips, with the reason, where it is absent."""

    def folder(name: str) -> Path:
        path = SHARED / name
        if not path.is_dir():
            pytest.skip(f"real data '{name}' is not on this machine")
        return path

    return folder


def write_run(run: Path, classes: tuple[str, ...] = ("background", "cell", "debris"), cases: int = 6) -> Path:
    """Write every file that a finished run leaves and the report reads, about small made-up images. Gives `run`."""
    rng = np.random.default_rng(7)
    colours = [[0, 0, 0], [230, 159, 0], [86, 180, 233], [0, 158, 115], [204, 121, 167]]
    legend = {
        "kind": "values",
        "classes": [{"name": name, "value": 100 * k, "colour": colours[k]} for k, name in enumerate(classes)],
        "background": 0,
        "ignore": None,
        "reason": "the masks hold the values 0, 100 and 200: one class each",
    }
    plan = {
        "version": 1,
        "data": {"path": "data/made-up", "legend": legend, "cases": 4 * cases, "digest": "0f1e", "synthetic": False},
        "prepare": {"channels": 1, "colour": "grey", "normalise": "image"},
        "net": {"ndim": 2, "channels": [16, 32, 64], "classes": len(classes), "in_channels": 1},
        "loss": {"terms": "ce + dice", "class_weights": [0.5, 1.0, 2.0]},
        "sampling": {"patch": [96, 96], "batch": 4, "oversample": 0.33},
        "optim": {"lr": 0.002, "ema": 0.99},
        "budget": {"minutes": 6.0, "steps": None},
        "machine": {"device": "cpu", "precision": "bf16", "layout": "channels_last", "threads": 2},
        "seed": 0,
        "reasons": {
            "net.channels": "width 16 allows about 840 steps in six minutes; width 32 allows 310, which is too few",
            "machine.precision": "a step takes 0.43 s in bf16 and 0.81 s in fp32 on this machine",
        },
    }
    ids = [f"case{n:02d}" for n in range(cases)]
    fingerprint = {
        "cases": [{"id": i, "shape": [72, 96], "channels": 1, "dtype": "uint8"} for i in ids],
        "classes": [
            {"name": name, "fraction": 0.3 / (len(classes) - 1) if k else 0.7, "cases": cases, "thickness": 9.5}
            for k, name in enumerate(classes)
        ],
    }
    findings = [
        {"severity": "note", "code": "size", "file": "b.png", "message": "another size", "fix": "nothing to do"},
        {"severity": "warning", "code": "stray", "file": "a.png", "message": "3 stray values", "fix": "none needed"},
    ]
    split = ["case,split,group,image,mask"]
    split += [f"train{n:02d},train,rat{n % 3},images/t{n}.png,masks/t{n}.png" for n in range(3 * cases)]
    split += [f"{i},val,rat9,images/{i}.png,masks/{i}.png" for i in ids]
    events: list[dict[str, Any]] = [{"kind": "started", "task": "train", "total": 400, "time": 0.0}]
    for step in range(1, 401):
        loss = 1.4 * math.exp(-step / 90) + 0.25 + 0.08 * rng.standard_normal()
        progress = {"task": "train", "done": step, "fraction": step / 400, "loss": loss}
        events.append({"kind": "progress", **progress, "time": step * 0.9})
        if step % 40 == 0:
            dice = 0.82 - 0.6 * math.exp(-step / 80)
            per_class = {name: min(1.0, dice + 0.05 * k) for k, name in enumerate(classes)}
            validated = {"step": step, "fraction": step / 400, "seconds": step * 0.9, "loss": loss, "dice": dice}
            validated |= {"lr": 0.001 * (1 + math.cos(math.pi * step / 400)), "per_class": per_class, "best": True}
            events.append({"kind": "validated", **validated, "time": step * 0.9})
    events.append({"kind": "warned", "message": "one image is very small", "time": 361.0})
    scored = []
    for case in ids:
        values = np.clip(0.75 + 0.05 * np.arange(len(classes)) + 0.06 * rng.standard_normal(len(classes)), 0, 1)
        columns = {metric: tuple(float(v) for v in values) for metric in METRICS}
        scored.append(CaseScores(case, columns, (100,) * len(classes), group="rat9"))
    scores = Scores(classes, tuple(range(1, len(classes))), tuple(scored)).as_json()
    for row in scores["summary"]:  # plain numbers that tests can look for
        row.update(mean=0.8, low=0.75, high=0.85, n=cases)
    environment = {
        "unetkit": "0.1.0", "torch": "2.13.0+cpu", "python": "3.11.9", "platform": "Linux", "cpu": "a processor",
        "cores": 2, "commands": ["unetkit train data/made-up -o runs/made-up --minutes 6"],
        "timings": {"training steps": 331.0, "validation": 21.5, "reading and checking": 4.2},
    }  # fmt: skip
    examples = []
    (run / "examples").mkdir(parents=True)
    for rank, case in (("best", ids[0]), ("median", ids[cases // 2]), ("worst", ids[-1])):
        y, x = np.mgrid[:72, :96]
        truth = np.zeros((72, 96), np.uint8)
        for k in range(1, len(classes)):
            truth[(y - 20 * k) ** 2 + (x - 28 * k) ** 2 < 170] = k
        prediction = np.roll(truth, (2, -3), (0, 1))
        truth[:6] = 255
        image = np.clip(90 + 40 * (truth % 255) + 12 * rng.standard_normal(truth.shape), 0, 255).astype(np.uint8)
        names = {}
        for part, pixels in (("image", image), ("truth", truth), ("prediction", prediction)):
            names[part] = f"{case}-{part}.png"
            Image.fromarray(pixels).save(run / "examples" / names[part])
        examples.append({"case": case, "rank": rank, "dice": 0.8, **names})
    best = {"step": 400, "dice": 0.8, "per_class": {}}
    metrics = {"best": best, "steps": 400, "seconds": 360.0, "parameters": 483_000}
    records = {"plan": plan, "fingerprint": fingerprint, "findings": findings, "environment": environment}
    records |= {"metrics": metrics, "scores": scores, "examples/examples": examples}
    for name, value in records.items():
        (run / f"{name}.json").write_text(json.dumps(value))
    (run / "split.csv").write_text("\n".join(split) + "\n")
    (run / "events.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    return run


@pytest.fixture
def made_run(tmp_path: Path) -> Callable[..., Path]:
    """`made_run(classes=…, cases=…)` is a run folder with every file that the report reads; nothing was trained."""

    def make(**options: Any) -> Path:
        return write_run(tmp_path / "runs" / "made-up", **options)

    return make
