"""The loop, interrupted anywhere and gone on with, ends with the weights of an uninterrupted one, whatever is kept."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from unetkit.core.events import Validated
from unetkit.data.labels.legend import Legend, LegendClass
from unetkit.data.prepared.patches import PreparedCase
from unetkit.data.prepared.places import find_places
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.spec import NetSpec
from unetkit.plan.plan import DataPlan, Plan, Request
from unetkit.train.log import EventLog
from unetkit.train.loop import BEST, LAST, fit
from unetkit.train.state import read_position

LEGEND = Legend(
    kind="values",
    classes=tuple(LegendClass(name=n, value=k, colour=(k, k, k)) for k, n in enumerate(("other", "spot"))),
    background=0,
    ignore=None,
)
STEPS = 16


def cases() -> list[PreparedCase]:
    found = []
    for n in range(5):
        field = ndimage.gaussian_filter(np.random.default_rng(n).normal(size=(40, 44)), 3)
        label = (field > np.quantile(field, 0.8)).astype(np.uint8)
        image = label + np.random.default_rng(50 + n).normal(0, 0.3 + 0.2 * n, label.shape)
        places = find_places(label, 0, str(n), areas=True)
        found.append(PreparedCase(str(n), image[None].astype(np.float32), label, places))
    return found


def plan(**settings: Any) -> Plan:
    given = Plan(
        request=Request(steps=STEPS),
        data=DataPlan(path=".", legend=LEGEND, cases=5, digest=""),
        prepare=PreparePlan(mean=(0.0,), std=(1.0,)),
        net=NetSpec(channels=(4, 8), dropout=0.1),
    )
    short = {"sampling.patch": (16, 16), "budget.steps": STEPS, "budget.validations": 3, "optim.ema": 0.9}
    return given.override(short | {name.replace("__", "."): value for name, value in settings.items()}, "test")


def train(given: Plan, run: Path, stop: Callable[[int], bool] = lambda _: False) -> list[Any]:
    """Until it is finished; each time that `stop` says so of the steps done in a sitting, it is interrupted."""
    run.mkdir(exist_ok=True)
    events = []
    for _ in range(50):
        done = iter(range(1, STEPS + 1))
        work = fit(given, cases(), [], run, EventLog(run), should_stop=lambda done=done: stop(next(done)))
        outcome = None
        while outcome is None:
            try:
                events.append(next(work))
            except StopIteration as end:
                outcome = end.value
        if outcome.finished:
            return events
    raise AssertionError("it never finished")


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"sampling__hard": 1.0, "sampling__by_area": 0.5, "sampling__repeat": 0.5, "optim__average": "swa"},
        {"optim__name": "sgd", "optim__schedule": "restarts", "optim__average": "swa", "optim__swa_from": 0.3},
        {"optim__name": "lion", "optim__schedule": "level", "optim__average": "none", "optim__layer_decay": 0.8},
    ],
    ids=["as planned", "hard cases", "sgd", "lion"],
)
def test_interrupted_again_and_again_the_weights_are_the_same(tmp_path: Path, settings: dict[str, Any]) -> None:
    given = plan(**settings)
    whole = train(given, tmp_path / "whole")
    train(given, tmp_path / "parts", stop=lambda done: done == 6)
    for name in (BEST, LAST):
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "parts" / name).read_bytes()
    ends = [read_position(tmp_path / folder) for folder in ("whole", "parts")]
    assert ends[0].step == ends[1].step == STEPS  # type: ignore[union-attr]
    assert ends[0].loss == ends[1].loss  # type: ignore[union-attr]
    assert sum(isinstance(event, Validated) for event in whole) == 3


def test_each_way_of_sampling_and_changing_weights_is_another_run(tmp_path: Path) -> None:
    """What a setting names is done: none of them is without effect."""
    ways = [{}, {"sampling__hard": 2.0}, {"optim__average": "swa"}, {"optim__average": "none"}]
    ways += [{"optim__schedule": name} for name in ("poly", "linear", "level", "constant", "restarts")]
    ways += [{"optim__name": "sgd"}, {"optim__name": "lion"}, {"optim__layer_decay": 0.5}, {"optim__clip": None}]
    ways += [{"sampling__by_area": 1.0, "sampling__oversample": 1.0}, {"sampling__oversample": 1.0}]
    for n, settings in enumerate(ways):
        train(plan(**settings), tmp_path / str(n))
    assert len({(tmp_path / str(n) / LAST).read_bytes() for n in range(len(ways))}) == len(ways)
