"""How true probabilities are, and how well the Dice of an image is foretold, on the held-out cases of finished runs.

    python benchmarks/calibration.py RUN [RUN …]
    python benchmarks/calibration.py RUN --on DATA     on cases that the run never saw, as the arena has them

Prints a row for each run. Its own validation cases are judged crosswise: by what was fitted on the other half of them
(whole groups). Data that it never saw are judged as users have it: by its last weights and by what it keeps. Data are
found where the plan says they lie.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
from pathlib import Path

import numpy as np

from unetkit.core.events import drain
from unetkit.data.find.discover import discover
from unetkit.job.heldout import hold_out
from unetkit.job.sides import Side
from unetkit.plan.plan import Plan
from unetkit.predict.calibration import Calibration, fit_calibration
from unetkit.predict.confidence import calibration_report, quality_report
from unetkit.predict.decide import Rule
from unetkit.predict.heldout import HeldOut, halves
from unetkit.predict.load import load_model, load_plan, options_of, with_tuned
from unetkit.predict.predictor import Predictor
from unetkit.predict.quality import Quality, fit_quality, raw_and_true
from unetkit.predict.tuned import Tuned

HEAD = (
    "| run | cases | groups | ECE | calibrated | of it | Brier | calibrated | Dice by arg-max | calibrated | ± "
    "| Spearman of predicted Dice | error | in interval |"
)


def row(run: Path, on: Path | None) -> str:
    plan = load_plan(run)
    legend = plan.data.legend
    with tempfile.TemporaryDirectory() as folder:
        if on is None:
            held, rule, taught = _crossed(run, plan, Path(folder))
        else:
            plain, _ = load_model(run, tuned=False)
            predictor = Predictor(plain.nets, options_of(plan, model=plain), regions=legend.regions)
            held = drain(hold_out(predictor, plain, discover(on).cases, {}, Path(folder), "predict"))
            model = with_tuned(plain, plan, Tuned.load(run))
            rule, taught = model.rule, [(model.tuned.calibration, model.rule, model.tuned.quality)] * len(held)
        if not taught:
            return f"| {run.name} | {len(held)} | too few cases |"
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


Taught = tuple[Calibration, Rule, Quality | None]
"""What judges a case."""


def _crossed(run: Path, plan: Plan, folder: Path) -> tuple[list[HeldOut], Rule, list[Taught]]:
    """The validation cases, how they are decided, and what the other half teaches of each; nothing of too few."""
    with (run / "split.csv").open(encoding="utf-8", newline="") as file:
        split = {line["case"]: line for line in csv.DictReader(file)}
    cases = tuple(c for c in discover(Path(plan.data.path)).cases if split.get(c.id, {}).get("split") == "val")
    groups = {name: line["group"] for name, line in split.items() if line["group"]}
    model, predictor = Side(run, plan, cases).open()
    held = drain(hold_out(predictor, model, cases, groups, folder, "predict"))
    parts, rule, legend = halves(held), model.rule, plan.data.legend
    taught: list[Taught] = [] if parts is None else [(Calibration(), rule, None)] * len(held)
    for mine, others in () if parts is None else (parts, parts[::-1]):
        fitted = [held[k] for k in others]
        calibration = fit_calibration(fitted, legend)
        quality = fit_quality(fitted, legend, calibration, rule)
        for k in mine:
            taught[k] = (calibration, rule, quality)
    return held, rule, taught


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+")
    parser.add_argument("--on", type=Path, help="data that the runs never saw, in place of their validation cases")
    args = parser.parse_args()
    print(HEAD)
    print("|" + "---|" * HEAD.count(" | ") + "---|")
    for run in args.runs:
        print(row(run, args.on), flush=True)


if __name__ == "__main__":
    main()
