"""A run in folds, killed and stopped in one fold after the other: the same command ends with the same weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from unetkit.train.state import read_position

STEPS = 24


def write_set(folder: Path, count: int = 6) -> Path:
    """Blobs on noise, with masks of 0 and 255."""
    for k in range(count):
        field = ndimage.gaussian_filter(np.random.default_rng(k).normal(size=(48, 48)), 4)
        mask = field > np.quantile(field, 0.7)
        noise = np.random.default_rng(100 + k).normal(0, 12, (48, 48))
        for kind, pixels in (("images", np.clip(90 + 60 * mask + noise, 0, 255)), ("masks", mask * 255)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / kind / f"{k}.png")
    return folder


def command(data: Path, run: Path) -> list[str]:
    words = [sys.executable, "-m", "unetkit", "train", str(data), "-o", str(run), "--steps", str(STEPS), "--seed", "3"]
    words += ["--folds", "3", "--precision", "fp32"]
    for setting in ("net.channels=[4, 8]", "sampling.patch=[32, 32]", "budget.save_every=0", "net.dropout=0.1"):
        words += ["--set", setting]
    return [*words, "--set", "machine.threads=1"]


def interrupted(words: list[str], folder: Path, step: int, how: signal.Signals) -> tuple[int, str]:
    """Start, wait until the saved state of a fold has this step, interrupt; the exit status, and what was said."""
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        position = read_position(folder)
        if position is not None and position.step >= step:
            break
        time.sleep(0.002)
    process.send_signal(how)
    said = process.communicate(timeout=120)[0].decode()
    return process.returncode, " ".join(said.split())


def test_interrupted_in_every_fold_the_weights_are_those_of_an_uninterrupted_run(tmp_path: Path) -> None:
    data, whole, run = write_set(tmp_path / "data"), tmp_path / "whole", tmp_path / "run"
    done = subprocess.run(command(data, whole), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    words = command(data, run)
    status, said = interrupted(words, run / "folds" / "1", 5, signal.SIGKILL)
    assert status == -signal.SIGKILL, said
    assert not (run / "folds" / "2").exists()
    status, said = interrupted(words, run / "folds" / "2", 7, signal.SIGKILL)
    assert status == -signal.SIGKILL, said
    status, said = interrupted(words, run / "folds" / "3", 2, signal.SIGINT)
    assert status == 130, said
    assert "of fold 3 of 3, everything is saved; the same command goes on" in said
    assert "Traceback" not in said
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for fold in ("1", "2", "3"):
        for name in ("plan.json", "split.csv", "weights.safetensors", "last.safetensors"):
            found, expected = ((folder / "folds" / fold / name).read_text("latin-1") for folder in (run, whole))
            assert found == expected, f"fold {fold}, {name}"
        lines = [json.loads(x) for x in (run / "folds" / fold / "events.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if line["kind"] == "validated"]
        assert steps == sorted(set(steps)), "no validation is logged twice"
    for name in ("scores.csv", "split.csv"):
        assert (run / name).read_text() == (whole / name).read_text(), name
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    assert [line["what"] for line in lines if line["kind"] == "decided"].count("data.trained") == 1
    assert not [line for line in lines if line["kind"] == "validated"], "each fold has its own"
    assert not (run / "prepared").exists()
    again = subprocess.run(words, capture_output=True, text=True, check=False, timeout=300)
    assert "this run is finished" in again.stdout
