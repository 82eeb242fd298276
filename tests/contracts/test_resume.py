"""Kill it at any moment, and the same command goes on: real processes, killed for real, compared bit by bit."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

STEPS = 60


def write_set(folder: Path, count: int = 6, size: int = 48) -> Path:
    """Blobs on noise, with masks of 0 and 255."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
    for k in range(count):
        field = ndimage.gaussian_filter(np.random.default_rng(k).normal(size=(size, size)), 4)
        mask = field > np.quantile(field, 0.7)
        noise = np.random.default_rng(100 + k).normal(0, 12, (size, size))
        Image.fromarray(np.clip(90 + 60 * mask + noise, 0, 255).astype(np.uint8)).save(folder / "images" / f"{k}.png")
        Image.fromarray((mask * 255).astype(np.uint8)).save(folder / "masks" / f"{k}.png")
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("data"))


def command(data: Path, run: Path, *extra: str, steps: int = STEPS) -> list[str]:
    words = [sys.executable, "-m", "unetkit", "train", str(data), "-o", str(run), "--steps", str(steps), "--seed", "3"]
    words += ["--precision", "fp32", "--set", "net.channels=[4, 8]", "--set", "sampling.patch=[32, 32]"]
    return [*words, "--set", "budget.save_every=0", "--set", "net.dropout=0.1", "--set", "machine.threads=1", *extra]


def finish(words: list[str], **options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=300, **options)  # type: ignore[call-overload, no-any-return]


def wait_for_step(run: Path, step: int, process: subprocess.Popen[bytes]) -> None:
    """Until the saved state has this step. Reads the state's header as a reader of safetensors would."""
    from unetkit.train.state import read_position

    for _ in range(20_000):
        if process.poll() is not None:
            return
        position = read_position(run) if (run / "state.safetensors").exists() else None
        if position is not None and position.step >= step:
            return
        time.sleep(0.005)
    pytest.fail("the run never reached its step")


@pytest.fixture(scope="module")
def uninterrupted(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("whole") / "run"
    done = finish(command(data, run))
    assert done.returncode == 0, done.stderr
    return run


def same_weights(a: Path, b: Path) -> bool:
    return all(
        (a / name).read_bytes() == (b / name).read_bytes() for name in ("weights.safetensors", "last.safetensors")
    )


def test_killed_again_and_again_the_weights_are_those_of_an_uninterrupted_run(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    for step in (5, 25, 45):
        process = subprocess.Popen(command(data, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for_step(run, step, process)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    done = finish(command(data, run))
    assert done.returncode == 0, done.stderr
    assert same_weights(run, uninterrupted)
    assert not [p for p in run.rglob("*") if "partial" in p.name]
    steps = [
        e["step"] for e in map(json.loads, (run / "events.jsonl").read_text().splitlines()) if e["kind"] == "validated"
    ]
    assert steps == sorted(set(steps)), "no validation is logged twice"


def test_ctrl_c_saves_says_how_to_go_on_and_the_same_command_does(
    data: Path, uninterrupted: Path, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(command(data, run), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_for_step(run, 3, process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130
    text = (out + err).decode()
    assert "everything is saved" in text
    assert "Traceback" not in text
    done = finish(command(data, run))
    assert done.returncode == 0, done.stderr
    assert same_weights(run, uninterrupted)


def test_a_finished_run_is_left_as_it_is(data: Path, uninterrupted: Path) -> None:
    before = (uninterrupted / "last.safetensors").stat().st_mtime_ns
    done = finish(command(data, uninterrupted))
    assert done.returncode == 0, done.stderr
    assert "this run is finished" in done.stdout
    assert (uninterrupted / "last.safetensors").stat().st_mtime_ns == before


def test_another_request_for_the_same_folder_is_refused(data: Path, uninterrupted: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in uninterrupted.iterdir() if p.name != ".lock"}
    done = finish(command(data, uninterrupted, steps=STEPS + 6))
    assert done.returncode == 2
    assert f"started with other settings (steps was {STEPS}, now {STEPS + 6}); nothing was overwritten" in " ".join(
        done.stderr.split()
    )
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_changed_data_are_refused(uninterrupted: Path, tmp_path: Path) -> None:
    data, run = write_set(tmp_path / "data"), tmp_path / "run"
    process = subprocess.Popen(command(data, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_step(run, 2, process)
    process.kill()
    process.wait()
    mask = np.array(Image.open(data / "masks" / "0.png"))
    Image.fromarray(255 - mask).save(data / "masks" / "0.png")
    done = finish(command(data, run))
    assert done.returncode == 2
    assert "the images or masks changed since this run began" in " ".join(done.stderr.split())


def test_a_changed_plan_is_refused(data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = subprocess.Popen(command(data, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_step(run, 2, process)
    process.kill()
    process.wait()
    plan = json.loads((run / "plan.json").read_text())
    plan["optim"]["lr"] = 0.5
    (run / "plan.json").write_text(json.dumps(plan))
    done = finish(command(data, run))
    assert done.returncode == 2
    assert "the plan changed after step" in " ".join(done.stderr.split())


def test_a_folder_with_other_files_is_refused(data: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("precious")
    done = finish(command(data, tmp_path))
    assert done.returncode == 2
    assert "holds other files (thesis.tex) and no plan.json; nothing was written" in " ".join(done.stderr.split())
    assert os.listdir(tmp_path) == ["thesis.tex"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_one_message(data: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    done = finish(command(data, tmp_path / "run"))
    assert done.returncode == 2
    assert "cannot write here" in done.stderr


def test_a_full_disk_is_one_message_and_nothing_is_lost(data: Path, uninterrupted: Path, tmp_path: Path) -> None:
    """The disk fills while training: a limit on the size of files stands in for it."""
    import resource

    run = tmp_path / "run"
    process = subprocess.Popen(command(data, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_step(run, 4, process)
    process.kill()
    process.wait()
    before = (run / "state.safetensors").read_bytes()

    def limit() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)  # writing beyond the limit then fails like a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))

    done = finish(command(data, run), preexec_fn=limit)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "the disk takes no more (File too large); free some space" in " ".join(done.stderr.split())
    assert (run / "state.safetensors").read_bytes() == before
    done = finish(command(data, run))
    assert done.returncode == 0, done.stderr
    assert same_weights(run, uninterrupted)
