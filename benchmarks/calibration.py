"""How true probabilities are, and how well the Dice of an image is foretold, on the held-out cases of finished runs.

    python benchmarks/calibration.py RUN [RUN …]

Prints a row for each run. Everything is crossed: what judges a case was fitted on the other half of the cases (whole
groups). Data are found where the plan says they lie.
"""

from __future__ import annotations

import csv
import sys
import tempfile
from pathlib import Path

import numpy as np

from unetkit.core.events import drain
from unetkit.data.find.discover import discover
from unetkit.job.heldout import hold_out
from unetkit.job.sides import Side
from unetkit.predict.calibration import Calibration, fit_calibration
from unetkit.predict.confidence import calibration_report, quality_report
from unetkit.predict.heldout import halves
from unetkit.predict.load import load_plan
from unetkit.predict.quality import fit_quality, raw_and_true

HEAD = (
    "| run | cases | groups | ECE | calibrated | of it | Brier | calibrated | Dice by arg-max | calibrated | ± "
    "| Spearman of predicted Dice | error | in interval |"
)


def row(run: Path) -> str:
    plan = load_plan(run)
    with (run / "split.csv").open(encoding="utf-8", newline="") as file:
        split = {line["case"]: line for line in csv.DictReader(file)}
    cases = tuple(c for c in discover(Path(plan.data.path)).cases if split.get(c.id, {}).get("split") == "val")
    groups = {name: line["group"] for name, line in split.items() if line["group"]}
    model, predictor = Side(run, plan, cases).open()
    legend = plan.data.legend
    with tempfile.TemporaryDirectory() as folder:
        held = drain(hold_out(predictor, model, cases, groups, Path(folder), "predict"))
        parts = halves(held)
        if parts is None:
            return f"| {run.name} | {len(held)} | too few cases |"
        rule, taught = model.rule, [(Calibration(), model.rule, None)] * len(held)
        for mine, others in (parts, parts[::-1]):
            fitted = [held[k] for k in others]
            calibration = fit_calibration(fitted, legend)
            quality = fit_quality(fitted, legend, calibration, rule)
            for k in mine:
                taught[k] = (calibration, rule, quality)
        report = calibration_report(held, legend, [calibration for calibration, _, _ in taught])
        foretold = quality_report(held, legend, taught)
        before, after = (
            np.array([raw_and_true(case, legend, c, rule)[1] for case, c in zip(held, each, strict=True)])
            for each in ([Calibration()] * len(held), [c for c, _, _ in taught])
        )
    change = (after - before)[~np.isnan(after - before)]
    values = [
        *(f"{v:.4f}" for v in (report.before.ece, report.after.ece)),
        f"{report.after.ece / report.before.ece:.2f}",
        *(f"{v:.4f}" for v in (report.before.brier, report.after.brier, np.nanmean(before), np.nanmean(after))),
        f"{change.std(ddof=1) / len(change) ** 0.5:.4f}",
    ]
    if foretold is not None:
        found = foretold.as_json()
        values += [f"{found['spearman']:.2f}", f"{found['error']:.3f}", f"{100 * found['inside']:.0f} %"]
    units = len({case.group or case.id for case in held})
    return f"| {run.name} | {len(held)} | {units} | {' | '.join(values)} |"


if __name__ == "__main__":
    print(HEAD)
    print("|" + "---|" * HEAD.count(" | ") + "---|")
    for name in sys.argv[1:]:
        print(row(Path(name)), flush=True)
