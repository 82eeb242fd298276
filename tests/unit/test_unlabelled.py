"""`--unlabelled` and `--pretrain` from a folder to a finished run: which images are taken, what is said, what is
refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import unetkit as uk
from unetkit.cli.flags import Choices, make_request
from unetkit.core.errors import DataError, PlanError, RunError, UnetkitError
from unetkit.core.events import Decided, Event, Started

SMALL = {"net.channels": "[4, 8]", "sampling.patch": "[32, 32]", "machine.threads": "1"}


def picture(seed: int, size: int = 48) -> tuple[np.ndarray, np.ndarray]:
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(size, size)), 4)
    mask = field > np.quantile(field, 0.7)
    noise = np.random.default_rng(100 + seed).normal(0, 12, (size, size))
    return np.clip(90 + 60 * mask + noise, 0, 255).astype(np.uint8), (mask * 255).astype(np.uint8)


def write_data(folder: Path, labelled: int = 5, without: int = 0) -> Path:
    """Images with masks, and some more in the same folder without."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for k in range(labelled + without):
        image, mask = picture(k)
        Image.fromarray(image).save(folder / "images" / f"{k}.png")
        if k < labelled:
            Image.fromarray(mask).save(folder / "masks" / f"{k}.png")
    return folder


def write_more(folder: Path, count: int = 4) -> Path:
    folder.mkdir()
    for k in range(count):
        Image.fromarray(picture(50 + k)[0]).save(folder / f"u{k}.png")
    return folder


def request(**changes: Any) -> uk.Request:
    return uk.Request(**({"steps": 8, "precision": "fp32", "settings": SMALL} | changes))


def decided(events: list[Event]) -> dict[str, Decided]:
    return {e.what: e for e in events if isinstance(e, Decided)}


def test_the_plan_says_what_is_learnt_without_masks(tmp_path: Path) -> None:
    data, more = write_data(tmp_path / "data"), write_more(tmp_path / "more")
    Image.open(data / "images" / "2.png").save(more / "copy.bmp")
    events: list[Event] = []
    plan = uk.plan(data, request(unlabelled=str(more)), listen=events.append).plan
    told = decided(events)
    assert told["data.unlabelled"].value == "4 images"
    assert told["data.unlabelled"].why == (
        f"without masks, in {more}; 1 more is a copy of images with masks, and left out"
    )
    assert (plan.data.unlabelled, plan.learn.unlabelled) == (4, 0.5)
    assert plan.reasons["learn.unlabelled"] == (
        f"4 images without masks ({more}) beside 5 with masks: they take about 40% of the time"
    )
    plain = uk.plan(data, request()).plan
    assert (plain.data.unlabelled, plain.learn.unlabelled, plain.learn.masked) == (0, 0.0, 0.0)
    assert plain.data.digest == plan.data.digest


def test_images_of_the_data_without_a_mask_are_meant_by_the_folder_itself(tmp_path: Path) -> None:
    data = write_data(tmp_path / "data", labelled=4, without=3)
    assert uk.plan(data, request(unlabelled=str(data))).plan.data.unlabelled == 3
    samples = [uk.Sample(*picture(k)) for k in range(4)] + [uk.Sample(picture(9)[0])]
    assert uk.plan(samples, request(unlabelled="samples")).plan.data.unlabelled == 1


def test_what_cannot_be_learnt_from_is_one_message(tmp_path: Path) -> None:
    data, more = write_data(tmp_path / "data"), write_more(tmp_path / "more")
    with pytest.raises(DataError, match=r"--unlabelled .*data: every image in there has a mask; name a folder of"):
        uk.plan(data, request(unlabelled=str(data)))
    with pytest.raises(DataError, match=r"--unlabelled .*images: every image in there has a mask"):
        uk.plan(data, request(unlabelled=str(data / "images")))
    with pytest.raises(DataError, match="there is no such file or folder"):
        uk.plan(data, request(unlabelled=str(tmp_path / "mor")))
    (more / "bad.png").write_bytes(b"nothing")
    Image.fromarray(picture(1)[0]).save(more / "worse.png")
    (more / "worse.png").write_bytes((more / "worse.png").read_bytes()[:300])
    with pytest.raises(DataError, match=r"2 of 6 images cannot be learnt from; mend them, or move them away:\n") as bad:
        uk.plan(data, request(unlabelled=str(more)))
    assert "bad.png" in str(bad.value)
    assert "worse.png" in str(bad.value)


def test_other_channels_are_named(tmp_path: Path) -> None:
    data = [uk.Sample(np.random.default_rng(k).normal(size=(2, 48, 48)), picture(k)[1]) for k in range(4)]
    with pytest.raises(DataError, match=r"1 of 1 images cannot be learnt from") as caught:
        uk.plan([*data, uk.Sample(np.zeros((5, 48, 48)))], request(unlabelled="samples"))
    assert "the image has 5 channels" in str(caught.value)
    assert "takes images with exactly 2 channels" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"settings": {**SMALL, "learn.unlabelled": "0.5"}}, "there are no images without masks; name them with"),
        (
            {"settings": {**SMALL, "learn.masked": "0.2"}, "steps": None},
            "--pretrain (learn.masked) is a share of the budget; give one with --minutes or --steps",
        ),
        ({"settings": {**SMALL, "learn.masked": "0.2"}, "start": "run"}, "leave one of them out"),
        ({"settings": {**SMALL, "learn.masked": "1.5"}}, "'learn.masked': input should be less than 1"),
    ],
)
def test_what_makes_no_sense_together_is_refused(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    with pytest.raises(PlanError) as caught:
        uk.plan(write_data(tmp_path / "data"), request(**changes))
    assert text in str(caught.value)


def test_the_flags_are_the_request() -> None:
    made = make_request(Choices(unlabelled="more", pretrain=0.25))
    assert (made.unlabelled, made.settings["learn.masked"]) == ("more", 0.25)
    assert make_request(Choices()).unlabelled is None
    with pytest.raises(PlanError, match=r"--pretrain 1: must be a share from 0 to below 1, such as 0\.2"):
        make_request(Choices(pretrain=1.0))


def test_a_run_learns_from_everything_and_leaves_no_trace_of_the_parts(tmp_path: Path) -> None:
    data, more = write_data(tmp_path / "data"), write_more(tmp_path / "more")
    events: list[Event] = []
    settings = {**SMALL, "learn.masked": "0.25"}
    run = uk.train(data, tmp_path / "run", request(settings=settings), unlabelled=more, listen=events.append)
    assert run.finished
    assert [e.task for e in events if isinstance(e, Started)] == ["check", "plan", "masked", "train", "score"]
    assert [e.total for e in events if isinstance(e, Started)][2:4] == [2, 6]
    assert "begins with what it learnt there" in decided(events)["masked"].why
    assert json.loads((run.path / "metrics.json").read_text())["steps"] == 6
    assert not (run.path / "masked").exists()
    assert not (run.path / "prepared").exists()


def test_fine_tuning_learns_from_images_without_masks_too(tmp_path: Path) -> None:
    data, more = write_data(tmp_path / "data"), write_more(tmp_path / "more")
    uk.train(data, tmp_path / "first", request())
    plain = uk.train(data, tmp_path / "plain", request(), start=tmp_path / "first")
    both = uk.train(data, tmp_path / "both", request(), start=tmp_path / "first", unlabelled=more)
    begun = [(run.path / "start.safetensors").read_bytes() for run in (plain, both)]
    assert begun[0] == begun[1]
    assert (plain.path / "last.safetensors").read_bytes() != (both.path / "last.safetensors").read_bytes()


def test_a_run_whose_images_without_masks_changed_does_not_go_on(tmp_path: Path) -> None:
    data, more, run = write_data(tmp_path / "data"), write_more(tmp_path / "more"), tmp_path / "run"
    work = uk.api.training_events(data, run, request(unlabelled=str(more)), lambda: True)
    assert [*work]
    assert (run / "state.safetensors").exists()
    (more / "u3.png").unlink()
    with pytest.raises(RunError, match=r"the images without masks changed since this run began \(4 then, 3 now\)"):
        uk.train(data, run, request(), unlabelled=more)
    with pytest.raises(UnetkitError, match="this run was started with other settings"):
        uk.train(data, run, request())


def test_what_does_not_fit_in_memory_teaches_as_well(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from unetkit.data.prepared import store

    monkeypatch.setattr(store, "SHARE", 0.0)
    data, more = write_data(tmp_path / "data"), write_more(tmp_path / "more")
    copied = uk.train(data, tmp_path / "copied", request(), unlabelled=more)
    there = uk.train(data, tmp_path / "there", request(store=False), unlabelled=more)
    assert (copied.path / "last.safetensors").read_bytes() == (there.path / "last.safetensors").read_bytes()
