"""The arena of benchmarks/: what is held out, how it is scored, what is run again, and the tables made of entries."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from unetkit.metrics.membrane import membrane_scores
from unetkit.metrics.overlap import confusion, per_class
from unetkit.metrics.overlap import dice as dice_of_counts

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))  # the benchmarks are scripts, and no part of the package

import skips  # noqa: E402
from arena import entries, scoring, table  # noqa: E402
from arena.contestants import MODULES, competing, contestant  # noqa: E402
from arena.process import Order  # noqa: E402
from arena.sets import SETS, Case, files_of, membranes, natural, nerve_classes, prepare  # noqa: E402


def folder_of(root: Path, names: list[str]) -> Path:
    for name in names:
        for part in ("images", "masks"):
            (root / part).mkdir(parents=True, exist_ok=True)
            (root / part / f"{name}.png").write_bytes(b"")
    return root


@pytest.mark.parametrize("name", SETS)
def test_parts_of_the_real_sets_share_no_group_and_are_linked_whole(
    name: str, shared_data: Callable[[str], Path], tmp_path: Path
) -> None:
    kind, source, folder = SETS[name], shared_data(name), tmp_path / "some"
    found = kind.cases(source)
    groups = list(dict.fromkeys(case.group for case in found))[:12]  # all of them are long to read
    for path in (path for case in found if case.group in groups for path in files_of(case)):
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_symlink():
            target.symlink_to(path)
    cases = kind.cases(folder)
    held = kind.held_out(cases)
    place = prepare(kind, folder, tmp_path / "work")
    train, test = (kind.cases(place / part) for part in ("train", "test"))
    assert {case.id for case in test} == {case.id for case in held}
    assert {case.id for case in train} == {case.id for case in cases} - {case.id for case in held}
    assert not {case.group for case in train} & {case.group for case in test}
    assert len(cases) / 8 < len(test) < len(cases) / 3
    image, label = kind.read_image(test[0]), kind.read_label(test[0])
    assert image.shape == (kind.channels, *label.shape)
    assert image.ndim == kind.ndim + 1
    assert image.dtype == np.float32


def test_every_fifth_slice_is_held_out_in_natural_order(tmp_path: Path) -> None:
    folder = folder_of(tmp_path, [f"slice{n}" for n in range(12)])
    kind = SETS["em"]
    assert [case.id for case in kind.held_out(kind.cases(folder))] == ["slice3", "slice8"]
    assert sorted(["a10", "a9", "b1"], key=natural) == ["a9", "a10", "b1"]


def test_too_few_cases_to_hold_some_out_are_refused(tmp_path: Path) -> None:
    kind = SETS["em"]
    with pytest.raises(ValueError, match="em: 3 cases are too few to hold some out"):
        kind.held_out(kind.cases(folder_of(tmp_path, ["a", "b", "c"])))


def test_rats_are_held_out_whole(tmp_path: Path) -> None:
    kind = SETS["axons"]
    folder = folder_of(tmp_path, [f"sub-rat{rat}_{image}" for rat in (1, 2, 3) for image in (1, 2)])
    assert {case.group for case in kind.held_out(kind.cases(folder))} == {"sub-rat2"}


def test_values_of_masks_become_classes() -> None:
    assert membranes(np.array([[0, 255]])).tolist() == [[1, 0]]
    strays = np.array([[0, 127, 128, 130, 233, 255]], np.uint8)
    assert nerve_classes(strays).tolist() == [[0, 1, 1, 1, 2, 2]]
    assert nerve_classes(np.stack([strays, np.full_like(strays, 255)], -1)).tolist() == [[0, 1, 1, 1, 2, 2]]  # alpha


def given(kind: str, truth: np.ndarray) -> tuple[Any, Case]:
    case = Case("one/ii", Path("image"), Path("mask"), "one")
    return dataclasses.replace(SETS[kind], read_label=lambda _: truth), case


def test_dice_is_that_of_the_package_and_ignores_what_nobody_judged(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    truth, found = random.integers(0, 4, 500).astype(np.uint8), random.integers(0, 4, 500).astype(np.uint8)
    truth[:50] = 255
    kind, case = given("ecg", truth)
    scoring.write_prediction(tmp_path, case, found)
    row = scoring.score(kind, case, tmp_path)
    expected = per_class(dice_of_counts, confusion(truth, found, 4, 255))
    assert [row["f1_P"], row["f1_QRS"], row["f1_T"]] == pytest.approx(expected[1:].tolist())
    assert row["f1"] == pytest.approx(expected[1:].mean())


def test_a_class_that_is_nowhere_has_no_score_and_one_that_is_missed_has_none_right(tmp_path: Path) -> None:
    truth = np.array([[[0, 1, 1, 0]]], np.uint8)
    kind, case = given("hippocampus", truth)
    scoring.write_prediction(tmp_path, case, np.zeros_like(truth))
    assert scoring.score(kind, case, tmp_path) == {"dice": 0.0, "dice_anterior": 0.0, "dice_posterior": None}


def test_membranes_have_the_challenges_scores_at_every_threshold(tmp_path: Path) -> None:
    truth = np.zeros((64, 64), np.uint8)
    truth[:, 30:33] = truth[20:23] = 1
    probability = np.clip(truth * 0.6 + np.random.default_rng(1).random((64, 64)) * 0.35, 0, 1).astype(np.float32)
    kind, case = given("em", truth)
    scoring.write_prediction(tmp_path, case, (probability > 0.5).astype(np.uint8), probability)
    row = scoring.score(kind, case, tmp_path)
    best = membrane_scores(probability, truth == 1)
    assert (row["v_rand"], row["v_info"]) == (best.v_rand, best.v_info)
    assert row[f"v_rand@{best.rand_threshold:g}"] == best.v_rand


def test_nuclei_are_scored_as_objects(tmp_path: Path) -> None:
    truth = np.zeros((20, 20), np.uint16)
    truth[2:8, 2:8], truth[10:16, 10:16] = 1, 2
    kind, case = given("nuclei", truth)
    scoring.write_prediction(tmp_path, case, np.where(truth == 1, 7, 0))
    row = scoring.score(kind, case, tmp_path)
    assert (row["ap50"], row["ap50_90"], row["dice"]) == (0.5, 0.5, pytest.approx(2 / 3))


def test_a_prediction_of_another_size_is_refused(tmp_path: Path) -> None:
    kind, case = given("ecg", np.zeros(10, np.uint8))
    scoring.write_prediction(tmp_path, case, np.zeros(9, np.uint8))
    with pytest.raises(ValueError, match=r"ecg/one/ii: predicted \(9,\), the truth is \(10,\)"):
        scoring.score(kind, case, tmp_path)


def test_changed_settings_or_held_out_cases_change_the_digest(tmp_path: Path) -> None:
    folder_of(tmp_path / "em", [f"slice{n}" for n in range(12)])
    order = Order("em", "monai", 6.0, 0, 2, {"batch": 2, "patch": (256, 256)})
    as_read = dataclasses.replace(order, settings=json.loads(json.dumps(order.settings)))
    assert order.digest(tmp_path) == as_read.digest(tmp_path)
    changed = (("minutes", 20.0), ("threads", 1), ("seed", 1), ("settings", {"batch": 4, "patch": (256, 256)}))
    digests = {dataclasses.replace(order, **{name: value}).digest(tmp_path) for name, value in changed}
    digests.add(order.digest(tmp_path))
    folder_of(tmp_path / "em", ["slice00"])
    digests.add(order.digest(tmp_path))
    assert len(digests) == 6


def made_up(name: str, contestant_name: str, level: float, cases: int = 6, **more: Any) -> dict[str, Any]:
    """An entry as run.py writes it, with scores about `level` that differ from case to case."""
    measures = list(SETS[name].measures)
    if name == "em":
        measures += [f"{m}@{t / 10:g}" for m in ("v_rand", "v_info") for t in range(1, 10)]
    scores = {f"case{n}": dict.fromkeys(measures, level + 0.01 * n) for n in range(cases)}
    about = {
        "set": name,
        "contestant": contestant_name,
        "minutes": 6.0,
        "seed": 0,
        "threads": 2,
        "settings": {},
        "digest": "0" * 12,
        "began": "2026-01-02T03:04:05",
        "versions": {"torch": "2"},
        "machine": {"processor": "some", "cores": 2, "system": "some"},
        "load": {"before": 0.1, "mean": 2.0, "most": 2.1},
        "train_seconds": 360.0,
        "predict_seconds": 4.0,
        "steps": 100,
        "remarks": {},
        "processor_seconds": 700.0,
        "groups": {case: case for case in scores},
        "scores": scores,
    }
    return about | more


def test_the_tables_name_the_best_and_the_lead_with_its_interval(tmp_path: Path) -> None:
    for entry in (made_up("em", "monai", 0.7), made_up("em", "unetkit", 0.8)):
        name = entries.Name(entry["set"], entry["contestant"], entry["minutes"])
        entries.write(name.file(tmp_path), entry)
    text = table.write(tmp_path)
    assert text.index("| unetkit |") < text.index("| MONAI BasicUNet |")
    assert "**0.8250** (" in text
    assert "unetkit's lead in V_rand, case by case: MONAI BasicUNet +0.1000 (+0.100 to +0.100)." in text
    assert "1.92 of 2" in text
    plain = json.loads((tmp_path / "table.json").read_text())
    assert [row["contestant"] for row in plain] == ["unetkit", "monai"]
    assert plain[0]["v_rand"][0] == pytest.approx(0.825)
    assert plain[0]["v_rand, common threshold"] == [pytest.approx(0.825), 0.1]
    assert (tmp_path / "contestants.md").is_file()


def test_contestants_that_were_scored_on_other_cases_are_not_compared() -> None:
    with pytest.raises(ValueError, match="had different held-out cases"):
        table.ahead(made_up("axons", "unetkit", 0.8), made_up("axons", "smp", 0.8, cases=5), "dice")


def test_an_entry_that_is_run_again_is_kept(tmp_path: Path) -> None:
    file = entries.Name("em", "unetkit", 6.0).file(tmp_path)
    assert file.name == "em-6min-unetkit.json"
    entries.set_aside(file)
    entries.write(file, made_up("em", "unetkit", 0.8))
    entries.set_aside(file)
    assert entries.read(file) is None
    assert [path.name for path in (file.parent / "earlier").iterdir()] == ["em-6min-unetkit-20260102030405.json"]
    assert table.load(tmp_path) == []


def test_every_contestant_says_all_that_the_table_of_settings_asks() -> None:
    assert competing("ecg") == ["unetkit", "plain1d"]
    assert competing("hippocampus") == ["unetkit", "monai", "nnunet"]
    asked = set(contestant("unetkit").WORDS)
    for name in MODULES:
        module = contestant(name)
        assert asked - set(module.WORDS) <= {"patch and batch"}
        for kind in module.SETS:
            assert entries.digest(module.settings(kind))
    text = table.contestants()
    assert "40 × 56 × 40, 2 (hippocampus)" in text
    assert "2000, 16" in text


def test_the_interval_of_seeds_and_cases_is_wider_than_that_of_cases_alone() -> None:
    random = np.random.default_rng(0)
    cases = random.normal(0.8, 0.05, 20)
    seeds = np.array([[-0.05], [0.0], [0.05]])
    mean, low, high = skips.interval(cases + seeds)
    _, low_alone, high_alone = skips.interval(cases[None])
    assert mean == pytest.approx(cases.mean())
    assert high - low > high_alone - low_alone
    assert low < mean < high


def test_the_page_of_the_skip_study_is_made_of_its_entries() -> None:
    net = {"ndim": 2, "in_channels": 1, "classes": 2, "channels": [16, 32]}
    runs = [
        made_up("em", "unetkit", level, seed=seed, remarks={"plan": {"net": net | {"skip": skip}}},
                settings={"skip": skip, "budget": "minutes", "steps": 0})
        for seed in (0, 1) for skip, level in (("none", 0.7), ("concat", 0.8))
    ]  # fmt: skip
    text = skips.page(runs)
    assert "## em, 6 minutes each" in text
    row = next(line for line in text.splitlines() if line.startswith("| none |"))
    assert row.endswith("| -0.1000 (-0.100 to -0.100) | 2 |")
    assert "0.8250 (" in next(line for line in text.splitlines() if line.startswith("| concatenated |"))
