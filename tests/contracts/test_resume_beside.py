"""Killed while it learns from images alone, or beside its labels: the same command ends with the same weights."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from unetkit.train.state import read_position


def write_images(folder: Path, first: int, count: int, masks: Path | None = None) -> None:
    """Blobs on noise, perhaps with masks of 0 and 255."""
    for k in range(first, first + count):
        field = ndimage.gaussian_filter(np.random.default_rng(k).normal(size=(48, 48)), 4)
        mask = field > np.quantile(field, 0.7)
        noise = np.random.default_rng(100 + k).normal(0, 12, (48, 48))
        for place, pixels in ((folder, np.clip(90 + 60 * mask + noise, 0, 255)), (masks, mask * 255)):
            if place is not None:
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{k}.png")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    base = tmp_path_factory.mktemp("sets")
    write_images(base / "data" / "images", 0, 6, base / "data" / "masks")
    write_images(base / "more", 20, 5)
    return base / "data", base / "more"


def command(folders: tuple[Path, Path], run: Path) -> list[str]:
    words = [sys.executable, "-m", "unetkit", "train", str(folders[0]), "-o", str(run), "--steps", "60", "--seed", "3"]
    words += ["--unlabelled", str(folders[1]), "--pretrain", "0.4", "--precision", "fp32"]
    for setting in ("net.channels=[4, 8]", "sampling.patch=[32, 32]", "budget.save_every=0", "net.dropout=0.1"):
        words += ["--set", setting]
    return [*words, "--set", "machine.threads=1"]


def test_killed_in_each_part_the_weights_are_those_of_an_uninterrupted_run(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    done = subprocess.run(command(folders, whole), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for folder, step in ((run / "masked", 6), (run, 5), (run, 20)):
        process = subprocess.Popen(command(folders, run), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            position = read_position(folder)
            if position is not None and position.step >= step:
                break
            time.sleep(0.002)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    done = subprocess.run(command(folders, run), capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    for name in ("start.safetensors", "weights.safetensors", "last.safetensors"):
        assert (run / name).read_bytes() == (whole / name).read_bytes(), name
    lines = [json.loads(line) for line in (run / "events.jsonl").read_text().splitlines()]
    validated = [line["step"] for line in lines if line["kind"] == "validated"]
    assert validated == sorted(set(validated))
    assert [line["what"] for line in lines if line["kind"] == "decided"].count("masked") == 1
    assert not (run / "masked").exists()
