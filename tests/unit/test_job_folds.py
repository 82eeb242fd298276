"""A run in folds, in one process: what is planned once, who judges whom, what is written, how it is used."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import unetkit as uk
from unetkit.cli import main
from unetkit.core.errors import DataError, PlanError, RunError
from unetkit.core.events import Decided, Event, Warned
from unetkit.data.prepared import store
from unetkit.job import preparing, tuning
from unetkit.plan import folding, make
from unetkit.plan.budget import Candidate
from unetkit.plan.plan import Plan
from unetkit.predict.load import load_model
from unetkit.predict.tuned import Tuned
from unetkit.train.loop import JUDGED

SMALL = {"net.channels": "[4, 8]", "sampling.patch": "[32, 32]", "machine.threads": "1", "predict.tta": "false"}


def write_set(folder: Path, count: int = 8, erased: str = "") -> Path:
    """Bright blobs on noise, with masks of 0 and 255; one blob of the case `erased` is left out of its mask."""
    for k in range(count):
        random = np.random.default_rng(k)
        mask = ndimage.gaussian_filter(random.normal(size=(56, 48)), 5)
        mask = mask > np.quantile(mask, 0.7)
        image = np.clip(80 + 100 * mask + random.normal(0, 10, mask.shape), 0, 255)
        if f"im{k}" == erased:
            areas, _ = ndimage.label(mask)
            mask = mask & (areas != np.bincount(areas.ravel())[1:].argmax() + 1)
        for kind, pixels in (("images", image), ("masks", mask * 255)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"im{k}.png")
    return folder


def request(**changes: Any) -> uk.Request:
    values: dict[str, Any] = {"steps": 50, "precision": "fp32", "folds": 3, "settings": SMALL}
    return uk.Request(**(values | changes))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("set"), erased="im5")


@pytest.fixture(scope="module")
def made(data: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Event], dict[str, int]]:
    """A run in three folds, what it said, and how often things were done that are done once."""
    run, events, counts = tmp_path_factory.mktemp("runs") / "run", list[Event](), dict[str, int]()
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((make, "fingerprint"), (preparing, "prepare_cases"), (store, "CaseReader")):
            original = getattr(module, name)

            def counted(*args: Any, original: Any = original, name: str = name, **options: Any) -> Any:
                counts[name] = counts.get(name, 0) + 1
                return original(*args, **options)

            patch.setattr(module, name, counted)
        # decided as planned: what is tuned on cases of other networks would blur who judged whom
        patch.setattr(tuning, "teach", lambda *_: Tuned())
        uk.train(data, run, request(), listen=events.append)
    return run, events, counts


def rows_of(run: Path) -> dict[str, dict[str, Any]]:
    return {row["case"]: row for row in json.loads((run / "scores.json").read_text())["cases"]}


def folds_in(run: Path) -> dict[str, int]:
    lines = (run / "split.csv").read_text().splitlines()
    assert lines[0] == "case,split,group,image,mask,fold"
    return {line.split(",")[0]: int(line.rpartition(",")[2]) for line in lines[1:]}


def test_it_is_planned_and_prepared_once(made: tuple[Path, list[Event], dict[str, int]]) -> None:
    run, events, counts = made
    assert counts == {"fingerprint": 1, "prepare_cases": 2, "CaseReader": 8}  # labelled, and (none) unlabelled
    whole = Plan.load(run / "plan.json")
    assert (whole.data.folds, whole.data.trained) == (3, 3)
    plans = [Plan.load(run / "folds" / k / "plan.json") for k in "123"]
    for k, plan in enumerate(plans, start=1):
        same = {"seed", "data"}
        assert plan.model_dump(exclude=same | {"budget"}) == whole.model_dump(exclude=same | {"budget"})
        assert plan.budget.steps == 50
        assert plan.data.folds == 1
        assert re.match(rf"\d train, \d val: fold {k} of 8 cases in 3 folds: ", plan.data.split)
    assert len({plan.seed for plan in plans} | {whole.seed}) == 4
    told = [event.value for event in events if isinstance(event, Decided) and event.what == "fold"]
    assert told == ["1 of 3", "2 of 3", "3 of 3"]


def test_every_case_is_scored_and_masked_by_the_network_that_never_saw_it(
    data: Path, made: tuple[Path, list[Event], dict[str, int]], tmp_path: Path
) -> None:
    run, _, _ = made
    folds, rows = folds_in(run), rows_of(run)
    assert sorted(rows) == sorted(folds) == [f"im{k}" for k in range(8)]
    judges = {k: tmp_path / f"judge {k}" for k in (1, 2, 3)}
    for k, judge in judges.items():  # the networks as they were before they learnt from all
        shutil.copytree(run / "folds" / str(k), judge)
        shutil.copyfile(judge / JUDGED, judge / "weights.safetensors")
    for k in (1, 2, 3):
        own = [case for case, fold in folds.items() if fold == k]
        part = (run / "folds" / str(k) / "split.csv").read_text()
        assert [line.split(",")[0] for line in part.splitlines()[1:] if ",val," in line] == own
        for other in (1, 2, 3):
            folder = tmp_path / f"{other} of {k}"
            uk.predict(judges[other], [data / "images" / f"{case}.png" for case in own], folder)
        for case in own:
            mask = np.asarray(Image.open(run / "out-of-fold" / f"{case}.png"))
            assert set(np.unique(mask)) <= {0, 255}
            alike = {
                other: float((mask == np.asarray(Image.open(tmp_path / f"{other} of {k}" / f"{case}.png"))).mean())
                for other in (1, 2, 3)
            }
            assert max(alike, key=lambda other: alike[other]) == k
            assert alike[k] > 0.97
    scores = uk.evaluate(run / "out-of-fold", data)
    assert {case.case: scores.case_mean(case) for case in scores.cases} == {
        case: pytest.approx(row["dice"]) for case, row in rows.items()
    }
    metrics = json.loads((run / "metrics.json").read_text())
    assert (metrics["steps"], metrics["cases"]) == (150, 8)


def test_predictions_are_the_mean_of_all_folds_or_of_one(
    data: Path, made: tuple[Path, list[Event], dict[str, int]], tmp_path: Path
) -> None:
    run, _, _ = made
    image = np.asarray(Image.open(data / "images" / "im0.png"))
    each = [uk.open_run(run / "folds" / k).predict(image, probabilities=True) for k in "123"]
    assert np.abs(each[0] - each[1]).max() > 0.01
    assert len(uk.open_run(run).model().nets) == 3
    (run / "tuned.json").rename(run / "kept.json")  # what was learnt of held-out cases afterwards is another matter
    np.testing.assert_allclose(uk.open_run(run).predict(image, probabilities=True), np.mean(each, 0), atol=2e-6)
    for fold in (None, 2):
        uk.predict(run, data / "images" / "im0.png", tmp_path / str(fold), fold=fold)
    (run / "kept.json").rename(run / "tuned.json")
    masks = [np.asarray(Image.open(tmp_path / fold / "im0.png")) for fold in ("None", "2")]
    np.testing.assert_array_equal(masks[0], np.where(np.mean(each, 0).argmax(0) > 0, 255, 0))
    np.testing.assert_array_equal(masks[1], np.where(each[1].argmax(0) > 0, 255, 0))
    with pytest.raises(PlanError, match=r"--fold 4: .*run has the folds 1 to 3; name one of them"):
        uk.predict(run, data / "images" / "im0.png", tmp_path, fold=4)
    with pytest.raises(PlanError, match=r"--fold 1: .* was not trained in folds; leave it out"):
        uk.predict(run / "folds" / "1", data / "images" / "im0.png", tmp_path, fold=1)


def test_the_erased_blob_is_the_first_suspect(made: tuple[Path, list[Event], dict[str, int]]) -> None:
    run, _, _ = made
    found = uk.suspects(run)
    assert found.examined == 8
    first = found.areas[0]
    assert (first.case, first.kind) == ("im5", "missing")
    assert found.cases[0][0] == "im5"
    listed = (run / "suspects.csv").read_text().splitlines()
    assert listed[0] == "rank,case,kind,given,suggested,pixels,confidence,score,start,stop,mask"
    assert listed[1].startswith("1,im5,missing,background,foreground,")
    page = (run / "report.html").read_text()
    assert "Likely label errors" in page
    assert "&#39;foreground&#39; seems to be missing" in page
    assert page.count('id="s0"') == 1


def test_check_prints_what_a_run_doubts(
    data: Path,
    made: tuple[Path, list[Event], dict[str, int]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run, _, _ = made
    assert main(["check", str(data), "--run", str(run)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert f"likely label errors, by what {run} says of cases that it did not learn from" in out
    assert re.search(r"1\. im5: 'foreground' seems to be missing, at x \d+–\d+, y \d+–\d+ \(\d+ pixels, sure by", out)
    assert main(["check", str(data), "--run", str(run), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["suspects"]["areas"][0]["case"] == "im5"
    for k in range(2):
        for kind in ("images", "masks"):
            (tmp_path / "other" / kind).mkdir(parents=True, exist_ok=True)
            (tmp_path / "other" / kind / f"new{k}.png").write_bytes((data / kind / f"im{k}.png").read_bytes())
    assert main(["check", str(tmp_path / "other"), "--run", str(run)]) == 2
    assert "was trained on other data: none of the cases that it doubts, such as 'im5', is among" in " ".join(
        capsys.readouterr().err.split()
    )
    with pytest.raises(RunError, match="holds no list of likely label errors"):
        uk.suspects(run / "folds" / "1")


def test_what_follows_works_with_folds(
    data: Path, made: tuple[Path, list[Event], dict[str, int]], tmp_path: Path
) -> None:
    run, _, _ = made
    assert uk.evaluate(run, data).mean("dice").n == 8
    page = uk.report(run).read_text()
    assert "3 networks learnt" in page
    assert "training and validation, in 3 folds" in page
    assert "fold 3" in page
    assert "each left to a network that never saw it" in (run / "README.md").read_text()
    said: list[Event] = []
    uk.train(data, tmp_path / "next", request(steps=2, folds=None, start=str(run)), listen=said.append)
    warned = [event.message for event in said if isinstance(event, Warned)]
    assert f"{run} was trained in folds: training begins with the network of the first alone" in warned
    (begun,) = [event.value for event in said if isinstance(event, Decided) and event.what == "start"]
    assert begun.endswith(f"tensors from {run / 'folds' / '1'}")


def test_a_run_that_was_killed_while_it_was_scored_is_scored_again(
    data: Path, made: tuple[Path, list[Event], dict[str, int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, _, _ = made
    monkeypatch.setattr(tuning, "teach", lambda *_: Tuned())
    before = (run / "scores.csv").read_text()
    weights = (run / "folds" / "2" / "weights.safetensors").stat().st_mtime_ns
    for name in ("report.html", "scores.csv", "suspects.csv"):
        (run / name).unlink()
    said: list[Event] = []
    assert uk.train(data, run, request(), listen=said.append).finished
    assert (run / "scores.csv").read_text() == before
    assert (run / "report.html").is_file()
    assert (run / "folds" / "2" / "weights.safetensors").stat().st_mtime_ns == weights
    assert not [event for event in said if isinstance(event, Decided) and event.what == "fold"]
    assert not (run / "held-out").exists()


def test_a_single_run_doubts_its_validation_cases(data: Path, tmp_path: Path) -> None:
    uk.train(data, tmp_path / "run", request(folds=None, steps=2))
    found = uk.suspects(tmp_path / "run")
    assert found.examined == 2
    assert not (tmp_path / "run" / "out-of-fold").exists()
    assert not (tmp_path / "run" / "folds").exists()


def write_given(path: Path, data: Path, count: int, val: int | None = None) -> Path:
    """A list of the first so many cases, of which one validates; none: it gives no split."""
    lines = ["image,mask,split" if val is not None else "image,mask"]
    for k in range(count):
        side = [] if val is None else ["val" if k == val else "train"]
        lines.append(",".join([f"{data / 'images' / f'im{k}.png'}", f"{data / 'masks' / f'im{k}.png'}", *side]))
    path.write_text("\n".join(lines))
    return path


def test_a_given_validation_is_refused(data: Path, tmp_path: Path) -> None:
    write_given(tmp_path / "set.csv", data, 4, val=3)
    with pytest.raises(DataError, match=r"--folds 3: the data give who validates \(1 case, such as 'im3'\); leave --f"):
        uk.train(tmp_path / "set.csv", tmp_path / "run", request())
    assert main(["train", str(tmp_path / "set.csv"), "--folds", "0"]) == 2


def test_of_a_short_budget_only_as_many_folds_are_trained_as_are_of_use(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = uk.plan(data, request(folds=5)).plan
    candidates = [Candidate(plan.net, 2, least) for least in (0, 400, 1000)]
    monkeypatch.setattr(folding, "seconds_per_step", lambda *_: 0.1)
    found = {
        seconds: folding.folds_in_time(plan, candidates, (32, 32), seconds) for seconds in (10, 39, 100, 199, 200, 999)
    }
    assert {seconds: count for seconds, (count, _) in found.items()} == {10: 1, 39: 1, 100: 2, 199: 4, 200: 5, 999: 5}
    assert found[39][1] == (
        "only one fold is trained: each needs 400 steps to be of use, and there are 39 s; 400 steps of 100 ms"
        " (width 4 batch 2) take 40 s"
    )
    assert found[100][1].startswith("only 2 folds are trained: each needs 400 steps to be of use, and there are 1 min")
    assert found[999][1].startswith("each has 3 min 20 s; ")


@pytest.mark.parametrize(
    ("minutes", "most", "folds"), [(39, 20, 1), (40, 20, 5), (40, 4, 4), (40, 2, 1), (None, 20, 1), (600, 1, 1)]
)
def test_many_minutes_are_divided_among_folds_unasked(minutes: float | None, most: int, folds: int) -> None:
    assert folding.folds_of(uk.Request(minutes=minutes), most) == folds
    assert folding.folds_of(uk.Request(minutes=minutes, folds=1), most) == 1
    assert folding.folds_of(uk.Request(minutes=minutes, folds=7), most) == 7


def test_unasked_each_fold_has_time_for_a_network_of_fair_size(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = uk.plan(data, request(folds=None, steps=None, minutes=60.0)).plan
    assert plan.data.folds == 5
    candidates = [Candidate(plan.net, 2, least) for least in (0, 400, 1000, 3500, 5000)]
    monkeypatch.setattr(folding, "seconds_per_step", lambda *_: 0.1)
    found = {s: folding.folds_in_time(plan, candidates, (32, 32), s) for s in (350, 1049, 1050, 1400, 1750, 9999)}
    assert {s: count for s, (count, _) in found.items()} == {350: 1, 1049: 1, 1050: 3, 1400: 4, 1750: 5, 9999: 5}
    assert found[1049][1].startswith("only one fold is trained: each needs 3500 steps to be of use")
    assert found[1750][1].startswith("several networks together know more than one that has all the time; each has 5 m")


def test_a_given_validation_or_too_few_cases_keep_one_split(data: Path, tmp_path: Path) -> None:
    write_given(tmp_path / "given.csv", data, 8, val=3)
    write_given(tmp_path / "two.csv", data, 2)
    for name in ("given.csv", "two.csv"):
        assert uk.plan(tmp_path / name, request(folds=None, steps=None, minutes=60.0)).plan.data.folds == 1


def test_a_run_of_which_one_fold_fits(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "seconds_per_step", lambda *_: 1.0)
    run, said = tmp_path / "run", list[Event]()
    uk.train(data, run, request(steps=None, minutes=0.03), listen=said.append)
    (event,) = [event for event in said if isinstance(event, Decided) and event.what == "data.trained"]
    assert event.value == "1"
    assert event.why.startswith("only one fold is trained: each needs 400 steps to be of use")
    assert [path.name for path in sorted((run / "folds").iterdir())] == ["1"]
    own = [case for case, fold in folds_in(run).items() if fold == 1]
    assert sorted(rows_of(run)) == own
    assert sorted(path.stem for path in (run / "out-of-fold").glob("*.png")) == own
    assert len(load_model(run)[0].nets) == 1


def test_minutes_are_shared_by_the_folds(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folding, "seconds_per_step", lambda *_: 1e-4)
    run = tmp_path / "run"
    uk.train(data, run, request(steps=None, minutes=0.1, folds=2))
    shares = [60 * (Plan.load(run / "folds" / k / "plan.json").budget.minutes or 0) for k in "12"]
    assert sum(shares) < 60 * 0.1
    assert shares[0] == pytest.approx(shares[1], rel=0.7)
