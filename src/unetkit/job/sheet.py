"""A sheet of what training will see: of some training cases a patch as it is, and as augmentation changes it."""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Generator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.augment.apply import Augmented, augment
from unetkit.augment.plan import AugmentPlan
from unetkit.core.errors import PlanError
from unetkit.core.events import Decided, Event, Saved, Started
from unetkit.core.files import atomic
from unetkit.core.rng import numpy_generator
from unetkit.data.case import Case
from unetkit.data.prepared.patches import PatchSampler, PreparedCase
from unetkit.data.prepared.store import prepare_cases
from unetkit.job.sheet_picture import Cell, Row, compose
from unetkit.job.understand import DataSource, understand
from unetkit.plan.augmenting import STILL
from unetkit.plan.make import show, untimed
from unetkit.plan.own import with_code
from unetkit.plan.plan import Plan, Request
from unetkit.train.step import as_tensor

MOST_ROWS, MOST_COLUMNS = 24, 16


def draw_sheet(
    data: DataSource, out: Path, request: Request, rows: int = 4, columns: int = 5
) -> Generator[Event, None, Path]:
    """Understand and plan as training does, and draw the sheet into the PNG file `out`; nothing is trained.

    rows: training cases, evenly over the set; columns: changed samples of each. request.seed: others of both. Raises
    PlanError: no PNG, an impossible number; and what `planning` raises.
    """
    if out.suffix.lower() != ".png":
        raise PlanError(f"-o {out}: a sheet is a PNG; for example -o {out.stem or 'sheet'}.png")
    for name, value, most in (("--rows", rows, MOST_ROWS), ("--columns", columns, MOST_COLUMNS)):
        if not 1 <= value <= most:
            raise PlanError(f"{name} {value}: must be from 1 to {most}")
    request = with_code(request)
    understood = yield from understand(data, request)
    yield Started(task="plan")
    cases, legend = understood.cases("train"), understood.diagnosis.legend
    plan, _, why = untimed(cases, legend, understood.data, request)
    for name, reason in (why | dict.fromkeys(request.settings, "as asked")).items():
        if name.startswith(("augment.", "sampling.patch", "prepare.")):
            yield Decided(what=name, value=show(plan, name), why=reason)
    yield Started(task="augment", total=rows * columns)
    chosen = _spread(cases, rows, request.seed)
    with tempfile.TemporaryDirectory() as folder:
        prepared = prepare_cases(chosen, legend, plan.prepare, plan.seed, Path(folder), keep="originals")
        picture = compose(_rows(prepared, plan, columns), plan, f"{len(cases)} of {understood.data.cases} cases train")
    with atomic(out) as temporary:
        picture.save(temporary, format="PNG")
    yield Saved(path=str(out), what="the sheet")
    return out


def _spread(cases: Sequence[Case], count: int, seed: int) -> list[Case]:
    """Some of the cases, evenly over their order; another seed begins elsewhere."""
    count = min(count, len(cases))
    first = int(numpy_generator(seed, "sheet").random() * len(cases) / count) if seed else 0
    return [cases[(first + k * len(cases) // count) % len(cases)] for k in range(count)]


def _rows(cases: Sequence[PreparedCase], plan: Plan, columns: int) -> list[Row]:
    """Every patch as it is and as it is changed: all cases are one batch, so that what needs another patch has one."""
    centres = [_centre(case, plan, row) for row, case in enumerate(cases)]

    def batch(changes: AugmentPlan, *key: int | str) -> Augmented:
        return augment(
            [as_tensor(case.image_CX) for case in cases],
            [as_tensor(case.label_X) for case in cases],
            centres,
            plan.sampling.patch,
            changes,
            [numpy_generator(plan.seed, "sheet", *key, row) for row in range(len(cases))],
            [case.scale for case in cases],
        )

    torch.set_num_threads(1)
    plain = batch(STILL, "plain")
    changed = [batch(plan.augment, column) for column in range(columns)]
    rows = []
    for n, (case, centre) in enumerate(zip(cases, centres, strict=True)):
        cells = [_cell(done, n) for done in (plain, *changed)]
        rows.append(Row(case.id, centre, case.shape, case.spacing, case.scale, cells))
    return rows


def _centre(case: PreparedCase, plan: Plan, row: int) -> tuple[int, ...]:
    """Where training may take a patch to see something of the classes that are shown."""
    shown, places = plan.data.legend.display()[1], case.places
    wanted = [k for k in places.of if shown[k]]
    if wanted:
        of, counts = {k: places.of[k] for k in wanted}, {k: places.counts[k] for k in wanted}
        case = dataclasses.replace(case, places=dataclasses.replace(places, of=of, counts=counts))
    return PatchSampler([case], plan.sampling.patch, 1.0, plan.seed).choose(0, row)[1]


def _cell(done: Augmented, row: int) -> Cell:
    label: NDArray[np.uint8] = done.label_BX[row].numpy()
    return Cell(done.image_BCX[row].numpy(), label, done.mix if done.other_BX is not None else 1.0)
