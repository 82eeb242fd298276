"""From a folder to a plan and to a finished run, in one process: what is decided, written, refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import unetkit as uk
from unetkit.core.errors import DataError, MachineError, PlanError, RunError
from unetkit.core.events import Decided, Event, Validated

SMALL = {"net.channels": "[4, 8]", "sampling.patch": "[32, 32]", "machine.threads": "1"}


def write_set(
    folder: Path, count: int = 5, size: tuple[int, int] = (48, 40), values: tuple[int, int] = (0, 255)
) -> Path:
    random = np.random.default_rng(0)
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for k in range(count):
        mask = np.zeros(size, bool)
        mask[8 + k : 30, 10:30] = True
        image = np.clip(80 + 80 * mask + random.normal(0, 10, size), 0, 255).astype(np.uint8)
        Image.fromarray(image).save(folder / "images" / f"im{'abcdefghij'[k]}.png")
        Image.fromarray(np.where(mask, values[1], values[0]).astype(np.uint8)).save(
            folder / "masks" / f"im{'abcdefghij'[k]}.png"
        )
    return folder


def request(**changes: Any) -> uk.Request:
    values: dict[str, Any] = {"steps": 4, "precision": "fp32", "settings": SMALL}
    return uk.Request(**(values | changes))


def test_a_plan_decides_everything_with_a_reason(tmp_path: Path) -> None:
    events: list[Event] = []
    planned = uk.plan(write_set(tmp_path / "data"), request(), listen=events.append)
    plan = planned.plan
    assert plan.net.channels == (4, 8)
    assert plan.reasons["net.channels"] == "as asked"
    assert plan.data.legend.names == ("background", "foreground")
    decided = {e.what: e for e in events if isinstance(e, Decided)}
    for name in (
        "data.layout",
        "data.legend",
        "data.split",
        "prepare.normalise",
        "net.stem_stride",
        "loss.terms",
        "cost",
    ):
        assert decided[name].value, name
    for name in plan.reasons:
        assert plan.reasons[name], name
    assert uk.Plan.parse(json.loads(plan.model_dump_json()), "again") == plan


def test_the_same_request_in_steps_decides_alike(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data")
    first, again = (uk.plan(data, uk.Request(steps=500, precision="bf16")).plan for _ in range(2))
    assert first == again


@pytest.mark.parametrize(
    ("changes", "kind", "text"),
    [
        ({"settings": {"optim.rl": "1"}}, PlanError, "--set: there is no field 'optim.rl'; did you mean 'optim.lr'?"),
        (
            {"settings": {"optimm.lr": "1"}},
            PlanError,
            "--set optimm.lr: only these parts of a plan can be set: prepare, net, augment, loss, sampling, optim,"
            " learn, budget, machine, predict; did you mean 'optim'?",
        ),
        ({"settings": {"optim.lr": "-1"}}, PlanError, "--set: 'optim.lr': input should be greater than 0"),
        ({"settings": {"loss.terms": "ce + dise"}}, PlanError, "there is no loss 'dise'"),
        (
            {"settings": {"net.channels": "[4, 8]", "sampling.patch": "[30, 30]"}},
            PlanError,
            "sampling.patch (30, 30): this network needs multiples of (4, 4); (32, 32) would fit",
        ),
        ({"settings": {"net.classes": "3"}}, PlanError, "net.classes is 3, but the masks have 2 classes; set it so"),
        ({"settings": {"net.skip": "concta"}}, PlanError, "did you mean 'concat'?"),
        ({"device": "cuda"}, MachineError, "--device cuda: this machine has"),
        ({"model": "unett"}, Exception, "unet"),
        ({"background": 7}, PlanError, "7"),
    ],
)
def test_what_cannot_be_planned_is_one_message(
    tmp_path: Path, changes: dict[str, Any], kind: type[Exception], text: str
) -> None:
    import torch

    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    with pytest.raises(kind) as caught:
        uk.plan(write_set(tmp_path / "data"), request(**changes))
    assert isinstance(caught.value, uk.UnetkitError)
    assert text in str(caught.value)


def test_minutes_and_steps_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="minutes and steps exclude each other: give one of them"):
        uk.plan(write_set(tmp_path / "data"), request(), minutes=1.0)


def test_a_run_leaves_everything_that_users_look_for(tmp_path: Path) -> None:
    events: list[Event] = []
    run = uk.train(write_set(tmp_path / "data"), tmp_path / "run", request(), listen=events.append)
    assert run.finished
    names = {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if p.is_file()}
    assert names >= {
        "plan.json", "weights.safetensors", "last.safetensors", "state.safetensors", "fingerprint.json",
        "findings.json", "split.csv", "events.jsonl", "metrics.json", "scores.json", "scores.csv",
        "environment.json", "report.html", "README.md", "examples/examples.json",
    }  # fmt: skip
    assert not list(run.path.glob("prepared*"))
    logged = [json.loads(line)["kind"] for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert logged == [e.kind for e in events]
    # at 70 % the validation images join the others, and tell nothing more
    assert [e.step for e in events if isinstance(e, Validated)][-1] == 3
    assert (run.path / "judged.safetensors").read_bytes() != (run.path / "weights.safetensors").read_bytes()
    assert (run.path / "last.safetensors").read_bytes() == (run.path / "weights.safetensors").read_bytes()
    image = np.array(Image.open(tmp_path / "data" / "images" / "ima.png"))
    mask = run.predict(image)
    assert mask.shape == image.shape
    assert set(np.unique(mask)) <= {0, 255}
    probabilities = run.predict(image, probabilities=True, tta=False)
    assert probabilities.shape == (2, *image.shape)
    assert np.allclose(probabilities.sum(0), 1, atol=1e-3)
    assert uk.open_run(run.path).plan == run.plan
    scores = uk.evaluate(run.path, tmp_path / "data")
    assert len(scores.cases) == 5


def test_training_in_minutes_ends_with_its_learning_rate_at_zero(tmp_path: Path) -> None:
    settings = {**SMALL, "budget.join": 1}
    run = uk.train(write_set(tmp_path / "data"), tmp_path / "run", request(steps=None, minutes=0.05, settings=settings))
    metrics = json.loads((run.path / "metrics.json").read_text())
    assert metrics["steps"] > 0
    assert metrics["seconds"] < 60  # of 3; a busy machine may take long over its last step
    last = [json.loads(line) for line in (run.path / "events.jsonl").read_text().splitlines()]
    assert [e["lr"] for e in last if e["kind"] == "validated"][-1] < 1e-9


def test_without_a_budget_the_bound_is_announced_and_kept(tmp_path: Path) -> None:
    events: list[Event] = []
    settings = {**SMALL, "budget.limit": "0.05"}
    uk.train(
        write_set(tmp_path / "data"), tmp_path / "run", request(steps=None, settings=settings), listen=events.append
    )
    cost = next(e for e in events if isinstance(e, Decided) and e.what == "cost")
    assert "at most 3 s" in cost.value


def test_one_image_trains_and_says_that_nothing_validates_it(tmp_path: Path) -> None:
    run = uk.train(write_set(tmp_path / "data", count=1), tmp_path / "run", request())
    assert run.finished
    assert json.loads((run.path / "metrics.json").read_text())["dice"]["mean"] is None
    assert (run.path / "report.html").exists()


def test_data_with_errors_are_refused_with_the_file_and_the_fix(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data")
    (data / "images" / "ima.png").write_bytes(b"not an image")
    with pytest.raises(
        DataError, match=r"1 finding must be mended before training \(`unetkit check` shows all\)"
    ) as caught:
        uk.train(data, tmp_path / "run", request())
    assert "ima.png" in str(caught.value)
    assert not (tmp_path / "run" / "plan.json").exists()


def test_folders_that_are_no_runs_are_named(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no such folder; name a folder that `unetkit train` wrote"):
        uk.open_run(tmp_path / "nothing")
    with pytest.raises(RunError, match=r"plan\.json: the plan is missing"):
        uk.open_run(tmp_path)


def test_a_run_without_weights_is_named(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data")
    uk.train(data, tmp_path / "run", request())
    (tmp_path / "run" / "weights.safetensors").unlink()
    with pytest.raises(
        RunError, match=r"there are no weights yet; go on with the `unetkit train` that made this folder"
    ):
        uk.open_run(tmp_path / "run").model()


def test_a_plan_of_another_version_is_named(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_text('{"version": 9}')
    with pytest.raises(
        PlanError, match="version 9 of the plan was written by another unetkit; this one reads version 1"
    ):
        uk.open_run(tmp_path)


def test_a_plan_file_is_the_run_and_flags_win_over_it(tmp_path: Path) -> None:
    from unetkit.plan.plan import read_settings

    data = write_set(tmp_path / "data")
    first = uk.plan(data, request(steps=None, minutes=0.5, settings={**SMALL, "optim.lr": "0.003"})).plan
    first.save(tmp_path / "plan.json")
    settings = read_settings(tmp_path / "plan.json")
    again = uk.plan(data, uk.Request(settings=settings)).plan
    same = ("prepare", "net", "augment", "loss", "sampling", "optim", "budget", "predict")
    assert all(getattr(again, part) == getattr(first, part) for part in same)
    assert again.request.minutes == 0.5
    assert uk.plan(data, uk.Request(steps=7, settings=settings)).plan.budget.steps == 7


def test_a_budget_among_the_settings_is_the_budget(tmp_path: Path) -> None:
    plan = uk.plan(write_set(tmp_path / "data"), request(steps=None, settings={**SMALL, "budget.steps": "9"})).plan
    assert (plan.budget.steps, plan.request.steps) == (9, 9)


def test_what_is_pinned_stays_and_the_rest_is_decided(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data")
    base = {"sampling.patch": "[32, 32]", "machine.threads": "1"}

    def decided(**settings: str) -> uk.Plan:
        return uk.plan(
            data, request(steps=1200, settings={**base, **{k.replace("__", "."): v for k, v in settings.items()}})
        ).plan

    batch = decided(sampling__batch="3")
    assert (batch.net.channels[0], batch.sampling.batch) == (16, 3)
    width = decided(net__channels="[4, 8]")
    assert (width.net.channels, width.sampling.batch) == ((4, 8), 4)
    stem = decided(net__stem_stride="1", net__block="plain")
    assert (stem.net.stem_stride, stem.net.block, stem.net.channels[0]) == (1, "plain", 16)


def test_the_cost_is_told_for_every_budget(tmp_path: Path) -> None:
    data = write_set(tmp_path / "data")
    assert "4 steps of" in str(uk.plan(data, request()).cost)
    assert str(uk.plan(data, request(steps=None)).cost).startswith("at most 1 h 00 min")
    assert str(uk.plan(data, request(steps=None, minutes=3)).cost).startswith("about 3 min 00 s")
