"""What augmentation costs: milliseconds of it for each batch, beside the training step that learns from the batch.

    python benchmarks/augment_cost.py ../shared/data/em ../shared/data/hippocampus ../shared/data/ecg [--minutes 6]

Each set is planned as `unetkit train SET --minutes M` plans it (network, patch, batch, precision, threads), and some of
its cases are prepared. Then batches are drawn and learnt from in turns, so that both meet the same machine; medians
after a warm-up. `augment`: choosing the patches, drawing, warping, changing intensities, on the CPU. `step`: forward,
loss, backward, update. `share`: of augmentation in both together. The second line of each set has every change on that
is off by default (the shares as given below).
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from unetkit.augment.plan import AugmentPlan
from unetkit.core.events import drain
from unetkit.data.prepared.store import prepare_cases
from unetkit.job.understand import understand
from unetkit.losses.expression import make_loss
from unetkit.nets.build import build
from unetkit.plan.budget import arithmetic_of, place
from unetkit.plan.make import make_plan
from unetkit.plan.plan import Plan, Request
from unetkit.train.loop import spread
from unetkit.train.optim import make_optimiser
from unetkit.train.step import Batches, train_step

CASES, WARM_UP = 16, 5
MORE = {
    "shear": 10.0,
    "low_resolution": 0.5,
    "bias": 0.3,
    "gamma_inverted": 0.25,
    "cut_out": 0.3,
    "mix_up": 0.2,
    "mix_up_share": 0.5,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=Path, nargs="+", help="folders of images and masks")
    parser.add_argument("--minutes", type=float, default=6.0, help="the budget that is planned for")
    parser.add_argument("--steps", type=int, default=40, help="batches that are timed")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a setting of the plan")
    args = parser.parse_args()
    settings = dict(item.split("=", 1) for item in args.set)
    print("| set | changes | patch | batch | channels | precision, threads | augment, ms | step, ms | share |")
    print("|---|---|---|---|---|---|---|---|---|")
    for folder in args.sets:
        understood = drain(understand(folder, Request()))
        cases, legend = understood.cases("train"), understood.diagnosis.legend
        request = Request(minutes=args.minutes, settings=settings)
        plan = drain(make_plan(cases, legend, understood.data, request)).plan
        more = AugmentPlan.parse(plan.augment.model_dump() | MORE, "more")
        for name, changes in (("planned", plan.augment), ("all", more)):
            with tempfile.TemporaryDirectory() as temporary:
                print(
                    row(
                        folder.name,
                        name,
                        plan.model_copy(update={"augment": changes}),
                        cases,
                        Path(temporary),
                        args.steps,
                    )
                )


def row(name: str, changes: str, plan: Plan, cases: list, folder: Path, steps: int) -> str:
    """One line of the table."""
    chosen = spread(cases, CASES)
    batches = Batches(prepare_cases(chosen, plan.data.legend, plan.prepare, plan.seed, folder), plan)
    arithmetic = arithmetic_of(plan.machine)
    torch.set_num_threads(arithmetic.threads)
    net = place(build(plan.net, seed=0), arithmetic).train()
    optimiser = make_optimiser(net, plan.optim)
    loss = make_loss("ce + dice", plan.net.classes, plan.loss.class_weights, regions=plan.data.legend.regions)
    augmenting, stepping = [], []
    for step in range(WARM_UP + steps):
        began = time.perf_counter()
        batch = batches(step)
        drawn = time.perf_counter()
        train_step(net, optimiser, loss, batch, arithmetic, plan.optim.clip, plan.loss.scales)
        learnt = time.perf_counter()
        if step >= WARM_UP:
            augmenting.append(1000 * (drawn - began))
            stepping.append(1000 * (learnt - drawn))
    a, s = statistics.median(augmenting), statistics.median(stepping)
    patch = " × ".join(map(str, plan.sampling.patch))
    widths = ", ".join(map(str, plan.net.channels))
    machine = f"{plan.machine.precision}, {plan.machine.threads}"
    cells = [
        name,
        changes,
        patch,
        str(plan.sampling.batch),
        widths,
        machine,
        f"{a:.1f}",
        f"{s:.0f}",
        f"{a / (a + s):.1%}",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    main()
