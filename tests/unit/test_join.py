"""Validation images judge first, and are learnt from afterwards, in folds too; never those that the data give."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import unetkit as uk
from unetkit.core.events import Event, Validated
from unetkit.data.samples import write_samples
from unetkit.train.loop import JUDGED

SMALL = {"net.channels": [4, 8], "sampling.patch": [32, 32], "machine.threads": 1}


def train(data: Path, run: Path, **changes: object) -> tuple[uk.Run, list[Event]]:
    events: list[Event] = []
    request = uk.Request(**({"steps": 20, "precision": "fp32", "settings": SMALL} | changes))
    return uk.train(data, run, request, listen=events.append), events


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("join")
    write_samples(folder, 8, 64)
    return folder


def test_they_join_after_they_were_judged(data: Path, tmp_path: Path) -> None:
    run, events = train(data / "train", tmp_path / "run")
    joined = next(e for e in events if e.kind == "decided" and e.what == "joined")
    assert joined.value == "step 14"
    assert [e.step for e in events if isinstance(e, Validated)][-1] == 14
    assert json.loads((run.path / "metrics.json").read_text())["joined"] == 14
    assert run.plan.reasons["budget.join"].startswith("then scores are taken")
    assert "before they were learnt from as well (step 14)" in events[-1].message


def test_until_then_they_change_nothing(data: Path, tmp_path: Path) -> None:
    joining, _ = train(data / "train", tmp_path / "joining")
    apart, _ = train(data / "train", tmp_path / "apart", settings=SMALL | {"budget.join": 1})
    assert not (apart.path / JUDGED).exists()
    assert (joining.path / "weights.safetensors").read_bytes() != (apart.path / "weights.safetensors").read_bytes()
    early, _ = train(data / "train", tmp_path / "early", settings=SMALL | {"budget.join": 0.5})
    from unetkit.nets.weights import read_weights

    one, other = (read_weights(r.path / JUDGED)[0] for r in (joining, early))
    assert any(not np.array_equal(one[name], other[name]) for name in one)


def test_those_that_the_data_give_never_join(data: Path, tmp_path: Path) -> None:
    given = tmp_path / "given"
    for side, name in (("train", "train"), ("val", "test")):
        for kind in ("images", "masks"):
            (given / side / kind).mkdir(parents=True)
            for file in (data / name / kind).iterdir():
                (given / side / kind / file.name).symlink_to(file)
    run, events = train(given, tmp_path / "run")
    assert run.plan.budget.join == 1
    assert not (run.path / JUDGED).exists()
    assert [e.step for e in events if isinstance(e, Validated)][-1] == 20


def test_the_networks_of_folds_judge_first_and_learn_from_all_then(data: Path, tmp_path: Path) -> None:
    run, events = train(data / "train", tmp_path / "run", folds=2)
    assert len(list(run.path.rglob(JUDGED))) == 2
    assert len([e for e in events if e.kind == "decided" and e.what == "joined"]) == 2
    # what is scored is what each network said before
    from unetkit.core.events import drain
    from unetkit.job.scoring import predict_case
    from unetkit.job.sides import Side, fold_folder
    from unetkit.job.understand import understand

    cases = {case.id: case for case in drain(understand(data / "train", run.plan.request), None).discovery.cases}
    rows = [row.split(",") for row in (run.path / "split.csv").read_text().splitlines()]
    column, first = rows[0].index("fold"), next(row for row in rows[1:] if row[rows[0].index("fold")] == "1")
    assert column
    case = cases[first[0]]
    model, predictor = Side(fold_folder(run.path, 1), run.plan, (case,)).open()
    label_X, _ = predict_case(predictor, model, case)
    found = run.path / "out-of-fold" / f"{case.id}.png"
    from PIL import Image

    assert np.mean(np.asarray(Image.open(found)) == model.legend.plain.decode(label_X)) > 0.97
