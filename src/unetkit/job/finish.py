"""After the last step: the validation images are predicted as users will predict, scored, and shown in the report."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unetkit.core.events import Done, Event, Progress, Saved, Started
from unetkit.core.files import atomic, write_json
from unetkit.core.machine import format_duration
from unetkit.data.case import Case
from unetkit.data.masks import read_label
from unetkit.data.prepare import CaseReader
from unetkit.job.record import record_timing
from unetkit.metrics.scores import CaseScores, Scores, score_case
from unetkit.metrics.summary import Summary
from unetkit.nets.geometry import geometry
from unetkit.plan.plan import Plan
from unetkit.predict.load import load_model
from unetkit.predict.options import PredictOptions
from unetkit.predict.predictor import Predictor
from unetkit.report.card import write_model_card
from unetkit.report.page import write_report
from unetkit.train.state import Position

# Longest side (pixels) of the pictures kept for the report.
PICTURE = 1024


def finish(
    run: Path, plan: Plan, cases: Sequence[Case], groups: Mapping[str, str], position: Position
) -> Generator[Event, None, None]:
    """Write scores.csv, scores.json, metrics.json, examples/, README.md and report.html into the run folder.

    `groups`: case id → patient, slide …: intervals are over groups where they are known.
    """
    began = time.perf_counter()
    yield Started(task="score", total=len(cases))
    model, _ = load_model(run)
    machine = plan.machine
    predictor = Predictor(
        model.net,
        PredictOptions(device=machine.device, precision=machine.precision, layout=machine.layout, tta=plan.predict.tta),
    )
    rows: list[CaseScores] = []
    legend = plan.data.legend
    for number, case in enumerate(cases, start=1):
        prediction_YX = _predict(predictor, case, plan)
        rows.append(score_case(case.id, _truth(case, plan), prediction_YX, len(legend.classes), groups.get(case.id)))
        yield Progress(task="score", done=number, fraction=number / len(cases), note=case.id)
    scores = Scores(legend.names, legend.foreground, tuple(rows))
    scores.write(run)
    _write_examples(run, plan, cases, scores, predictor)
    mean = scores.mean("dice")
    write_json(
        run / "metrics.json",
        {
            "best": {"step": position.best_step, "dice": position.best},
            "steps": position.step,
            "seconds": round(position.elapsed, 1),
            "loss": position.loss,
            "parameters": geometry(plan.net).parameters,
            "dice": {"mean": _number(mean.mean), "low": _number(mean.low), "high": _number(mean.high)},
            "cases": len(cases),
        },
    )
    record_timing(run, "score", time.perf_counter() - began)
    write_model_card(run)
    page = write_report(run)
    yield Saved(path=str(page), what="the report")
    images = f"{len(cases)} validation image{'s' * (len(cases) != 1)}"
    steps = f"{position.step} step{'s' * (position.step != 1)} in {format_duration(position.elapsed)}"
    yield Done(
        task="train",
        message=f"{_reached(mean)} on {images}, after {steps}" if cases else f"no image validates it, after {steps}",
        seconds=position.elapsed,
    )


def _reached(mean: Summary) -> str:
    if np.isnan(mean.mean):
        return "no class of interest occurs"
    interval = "" if np.isnan(mean.low) else f" (95 % interval {mean.low:.3f} to {mean.high:.3f})"
    return f"Dice {mean.mean:.3f}{interval}"


def _predict(predictor: Predictor, case: Case, plan: Plan) -> NDArray[np.uint8]:
    with CaseReader(case, plan.prepare) as reader:
        return predictor.array(reader.read(reader.whole)).astype(np.uint8)


def _truth(case: Case, plan: Plan) -> NDArray[np.uint8]:
    return read_label(case, plan.data.legend)[0]


def _write_examples(run: Path, plan: Plan, cases: Sequence[Case], scores: Scores, predictor: Predictor) -> None:
    """Pictures of the best, the median and the worst case: image, truth and prediction (class indices)."""
    dice = [scores.case_mean(row) for row in scores.cases]
    order = sorted((k for k in range(len(cases)) if not np.isnan(dice[k])), key=lambda k: dice[k], reverse=True)
    ranks = {"best": order[0], "median": order[len(order) // 2], "worst": order[-1]} if order else {}
    shown: set[int] = set()
    entries = []
    for rank, k in ranks.items():
        if k in shown:  # of one or two images
            continue
        shown.add(k)
        with CaseReader(cases[k], plan.prepare) as reader:
            image_CYX = reader.channels(reader.whole)
        pictures = {
            "image": _picture(image_CYX),
            "truth": Image.fromarray(_truth(cases[k], plan)),
            "prediction": Image.fromarray(_predict(predictor, cases[k], plan)),
        }
        entry: dict[str, object] = {"case": cases[k].id, "rank": rank, "dice": dice[k]}
        for kind, picture in pictures.items():
            name = f"{rank}-{kind}.png"
            picture = _shrink(picture, smooth=kind == "image")
            with atomic(run / "examples" / name) as temporary:
                picture.save(temporary, format="PNG")
            entry[kind] = name
        entries.append(entry)
    write_json(run / "examples" / "examples.json", entries)


def _picture(image_CYX: NDArray[np.float32]) -> Image.Image:
    """8-bit grey or RGB, stretched from the 0.5 to the 99.5 percentile."""
    shown = image_CYX[:3] if len(image_CYX) >= 3 else image_CYX[:1]
    finite = np.nan_to_num(shown, posinf=0, neginf=0)
    low, high = np.percentile(finite, (0.5, 99.5))
    scaled = np.clip((finite - low) / max(high - low, 1e-6), 0, 1) * 255
    pixels = scaled.astype(np.uint8)
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1).copy())


def _shrink(picture: Image.Image, smooth: bool) -> Image.Image:
    factor = PICTURE / max(picture.size)
    if factor >= 1:
        return picture
    size = (max(1, round(picture.width * factor)), max(1, round(picture.height * factor)))
    return picture.resize(size, Image.Resampling.LANCZOS if smooth else Image.Resampling.NEAREST)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else float(value)
