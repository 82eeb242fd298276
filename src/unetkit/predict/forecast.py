"""What a prediction will hold in memory, told before it begins; and from that how large its tiles may be.

What the network needs for a pixel depends on the convolution library, the layout and the precision, by a factor of
five: it is measured on this machine, on parts of the image. Everything else is counted.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import torch

from unetkit.core.machine import format_memory, free_memory, resident_memory
from unetkit.nets.geometry import activation_memory, geometry
from unetkit.nets.spec import NetSpec
from unetkit.predict.lower import Precision

# Beyond this a tile gains nothing more: the halo is a few percent of it, and its maps are far larger than any cache.
MOST_PIXELS = 2048 * 2048
# Of the memory allowed a forecast takes so much: measured costs err by some percent on either side.
AIM = 0.9
LEAST_SHARE = 0.25  # of the memory allowed goes to tiles, however much the process holds already
# What the formula of the network's maps leaves out at the most: copies in another order, scratch of convolutions.
CAUTION = {"channels_last": 2.0, "contiguous": 4.0}
# Besides, per pixel of a tile: the image and its copies, the label; and for each class logits and probabilities.
_PER_PIXEL, _PER_PIXEL_AND_CLASS = 24, 12
NETWORK = "the network"
"""The part of a forecast that is held only while the network runs."""
RESULT = "the result so far"
"""The part of a forecast that grows until the image is complete, where it stays in memory."""
_BYTES: dict[Precision, int] = {"fp32": 4, "bf16": 2}


@dataclass(frozen=True)
class Forecast:
    """The most bytes that the process will hold, and for what; in the order in which a user is told.

    program: what it holds anyway. tiles: parts that are held while tiles go through, by name. files: what is held when
    they are through and files are written. so_far: the most that was held before, measuring the image included.
    """

    allowed: int
    program: float
    tiles: tuple[tuple[str, float], ...]
    files: float = 0
    so_far: float = 0

    @property
    def total(self) -> int:
        """At the worst moment."""
        return round(max(self.so_far, self.program + max(sum(size for _, size in self.tiles), self.files)))

    def without(self, name: str) -> Forecast:
        """Less what is held for tiles by that name."""
        return replace(self, tiles=tuple(part for part in self.tiles if part[0] != name))

    @property
    def between(self) -> float:
        """What is held between two tiles, when the next has been read."""
        kept = sum(size for name, size in self.tiles if name != NETWORK)
        return self.program + kept

    @property
    def value(self) -> str:
        """'1.4 GB expected of 2.0 GB allowed'."""
        return f"{format_memory(self.total)} expected of {format_memory(self.allowed)} allowed"

    @property
    def why(self) -> str:
        """'the program 0.3 GB, the network 1.0 GB, …'."""
        later = self.files > sum(size for _, size in self.tiles)
        parts = (("the program", self.program), *((("writing files", self.files),) if later else self.tiles))
        return ", ".join(f"{name} {format_memory(size)}" for name, size in parts if size >= 1e6)


@dataclass(frozen=True)
class Costs:
    """Bytes per pixel that goes through the network: run: while it runs; read: while one is read ahead of it."""

    run: float
    read: float

    @property
    def both(self) -> float:
        """Of a pixel in a tile that runs, and one in the tile that is read meanwhile."""
        return self.run + self.read


def allowed_memory(asked: int | None, device: torch.device) -> int:
    """Bytes that may be held. On a CPU by the whole process: as asked, or, beside what it holds already, a quarter of
    what is free. On a GPU of its memory: as asked, or a quarter of what is free; never more than is free."""
    if device.type == "cuda":
        free = int(torch.cuda.mem_get_info(device)[0])
        return min(asked, free) if asked else free // 4
    return asked or resident_memory() + free_memory() // 4


def maps(spec: NetSpec, precision: Precision) -> float:
    """Bytes per pixel of a tile of the network's maps alone: the least that it can be."""
    facts = geometry(spec)
    sample = facts.fit(tuple(8 * d for d in facts.divisor))
    return activation_memory(spec, 1, sample, _BYTES[precision], training=False) / math.prod(sample)


def formula(spec: NetSpec, precision: Precision, averages: bool = False) -> float:
    """Bytes per pixel of a tile by counting: the network's maps, and what is made of its scores. averages: sums of
    several views or networks are kept meanwhile; the networks run one after the other, and their maps never meet."""
    return maps(spec, precision) + _PER_PIXEL + (_PER_PIXEL_AND_CLASS + 4 * averages) * spec.classes


def tile_pixels(room: float, per_pixel: float, margin: Sequence[int] = ()) -> int:
    """Pixels of the largest tile for which `room` bytes suffice. margin: what unpadded convolutions take away."""
    pixels = max(1, min(MOST_PIXELS, int(room / per_pixel)))
    if not any(margin):
        return pixels
    side = pixels ** (1 / len(margin))
    return max(1, int(math.prod(max(1.0, side - 2 * m) for m in margin)))


class Watch:
    """The most bytes held while a block runs, beyond what was held when it began. A context manager; then `.peak`.

    On a CPU physical memory of the whole process: by the kernel's own high-water mark where the block raises it, else
    by looking every millisecond. On a GPU what torch gave out.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self.peak = 0

    def __enter__(self) -> Self:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_allocated(self._device)
            return self
        self._marked, self._over = high_water(), threading.Event()
        self._before = self._seen = resident_memory()
        self._thread = threading.Thread(target=self._look, name="memory watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._device.type == "cuda":
            self.peak = torch.cuda.max_memory_allocated(self._device) - self._before
            return
        self._over.set()
        self._thread.join()
        marked = high_water()
        self.peak = max(0, (marked if marked > self._marked else max(self._seen, resident_memory())) - self._before)

    def _look(self) -> None:
        process = psutil.Process()
        while not self._over.wait(0.001):
            self._seen = max(self._seen, int(process.memory_info().rss))


def high_water() -> int:
    """The most bytes of physical memory that this process has held so far; what it holds now where that is not told."""
    try:
        words = Path("/proc/self/status").read_text().split()
        return int(words[words.index("VmHWM:") + 1]) * 1024
    except (OSError, ValueError):
        return resident_memory()
