"""What both examples share: the text of Python's own standard library, as integers, and a clock for training.

The text is there wherever Python is, differs a little from version to version, and is split by file: whether a file is
held out depends on its name alone.
"""

from __future__ import annotations

import hashlib
import math
import sys
import sysconfig
import time
import tokenize
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

Integers = NDArray[np.integer[Any]]

# Every character of the text is one integer; those beyond plain ASCII share one.
ALPHABET = "\n\t" + "".join(map(chr, range(32, 127)))
OTHER = len(ALPHABET)
CHARACTERS = OTHER + 1

# Installed packages and tests are not the library; lib2to3 copies other files and holds what no Python accepts;
# encodings and pydoc_data are tables and texts written by programs, which would flatter the scores.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "encodings", "pydoc_data"}


@dataclass(frozen=True)
class Source:
    """A file: its name within the library, and its text with newlines as \\n."""

    name: str
    text: str

    @property
    def part(self) -> str:
        """By its name alone: one file in ten is for the test, and one in twenty validates; from the rest is learnt."""
        draw = hashlib.sha256(self.name.encode()).digest()[0]
        return "test" if draw < 26 else "val" if draw < 39 else "train"


def python_files(folder: Path | None = None) -> list[Source]:
    """The *.py files of a folder (unless one is given, of the standard library) that can be decoded, sorted by name."""
    folder = folder or Path(sysconfig.get_path("stdlib"))
    sources = []
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder)
        if LEFT_OUT.isdisjoint(name.parts):
            try:
                with tokenize.open(path) as file:  # which knows the encoding that a file declares
                    text = file.read()
            except (SyntaxError, UnicodeDecodeError) as error:
                print(f"{name} is left out: {error}")
                continue
            if text:
                sources.append(Source(name.as_posix(), text))
    return sources


def divide(sources: Collection[Source]) -> tuple[list[Source], list[Source]]:
    """Those to learn from (with those that validate) and those held out for the test; says how many. Exits if none."""
    learnt = [source for source in sources if source.part != "test"]
    held_out = [source for source in sources if source.part == "test"]
    sizes = [f"{len(part)} files with {sum(len(s.text) for s in part):,} characters" for part in (learnt, held_out)]
    print(f"{sizes[0]} to learn from, {sizes[1]} held out", flush=True)
    if not (learnt and held_out):
        sys.exit("too few files: one in ten is held out by its name, and some must be left to learn from")
    return learnt, held_out


def encode(text: str) -> NDArray[np.uint8]:
    """(L,) integers below CHARACTERS."""
    table = np.full(128, OTHER, np.uint8)
    table[[ord(character) for character in ALPHABET]] = np.arange(OTHER)
    codes = np.frombuffer(text.encode("utf-32-le"), np.uint32)
    return table[np.minimum(codes, 127)]  # 127 is no printable character


def decode(ids: Integers) -> str:
    """The text of integers: � for what is beyond the alphabet, ░ for what is not even a character (a mask)."""
    return "".join(ALPHABET[i] if i < OTHER else "�" if i == OTHER else "░" for i in ids.tolist())


def windows(length: int, total: int, count: int, generator: torch.Generator) -> torch.Tensor:
    """(count, length) places of windows drawn at random from `total` characters."""
    starts = torch.randint(max(total - length, 0) + 1, (count, 1), generator=generator)
    return starts + torch.arange(min(length, total))


def clock(optimiser: torch.optim.Optimizer, minutes: float, steps: int | None) -> Iterator[int]:
    """Count steps from 1 until the time, or the number of steps where one is given, is used up.

    The learning rate is set before every step: up to that of the optimiser over the first 3 %, then down to nothing
    along half a cosine.
    """
    peak = optimiser.param_groups[0]["lr"]
    start = time.monotonic()
    step = 0
    while (done := step / steps if steps else (time.monotonic() - start) / (60 * minutes)) < 1:
        rate = peak * min(1.0, (done + 1e-3) / 0.03) * 0.5 * (1 + math.cos(math.pi * done))
        for group in optimiser.param_groups:
            group["lr"] = rate
        step += 1
        yield step


def faster_precision(step: Callable[[torch.dtype], Any]) -> torch.dtype:
    """bfloat16 where `step` takes less time with it than with float32 on this machine, else float32."""
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        step(dtype)  # the first call prepares
        start = time.perf_counter()
        step(dtype)
        seconds[dtype] = time.perf_counter() - start
    return min(seconds, key=seconds.__getitem__)
