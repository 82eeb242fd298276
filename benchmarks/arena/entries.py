"""Entries: what one contestant reached on one set in so many minutes, a JSON file that appears when it is finished."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from unetkit.core.files import write_text
from unetkit.core.machine import cores, processor

PACKAGES = ("torch", "numpy", "unetkit", "monai", "segmentation-models-pytorch", "nnunetv2", "batchgeneratorsv2",
            "dynamic-network-architectures", "torchvision", "timm")  # fmt: skip
Entry = dict[str, Any]


@dataclass(frozen=True)
class Name:
    """Which entry: set, contestant, minutes, seed."""

    set: str
    contestant: str
    minutes: float
    seed: int = 0

    def __str__(self) -> str:
        seed = f"-seed{self.seed}" if self.seed else ""
        return f"{self.set}-{self.minutes:g}min-{self.contestant}{seed}"

    def file(self, out: Path) -> Path:
        return out / "entries" / f"{self}.json"


def digest(settings: Any) -> str:
    """Short digest of plain values: entries whose settings have changed since are run again."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:12]


def read(file: Path) -> Entry | None:
    """The entry, or None where it is not there (an unfinished one leaves no file)."""
    try:
        entry: Entry = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return entry


def write(file: Path, entry: Entry) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, json.dumps(entry, indent=1, ensure_ascii=False) + "\n")


def set_aside(file: Path) -> None:
    """Keep an entry that is run again, in entries/earlier, under its name and the time when it was begun."""
    entry = read(file)
    if entry is not None:
        stamp = "".join(c for c in str(entry.get("began", "")) if c.isdigit())
        target = file.parent / "earlier" / f"{file.stem}-{stamp}.json"
        target.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)


def versions() -> dict[str, str]:
    """Of the packages that are there."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    return {"processor": processor(), "cores": cores(), "system": f"{platform.system()} {platform.machine()}"}


def source() -> dict[str, Any]:
    """The commit of this checkout, and whether its source differs from it; empty without git."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", "-C", str(here), *words], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "--short=12", "HEAD"),
                "changed": bool(git("status", "--porcelain", "--", f"{here.parents[1]}/src"))}  # fmt: skip
    except (OSError, subprocess.CalledProcessError):
        return {}
