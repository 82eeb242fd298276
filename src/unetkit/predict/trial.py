"""What tiles of an image cost: tried on parts of that very image, with that very network."""

from __future__ import annotations

import math

import torch

from unetkit.core.machine import release_memory
from unetkit.core.region import Region
from unetkit.predict.forecast import MOST_PIXELS, Costs, Watch, formula, maps
from unetkit.predict.reader import Reader
from unetkit.predict.runner import Runner
from unetkit.predict.sizing import Layout, Sizes
from unetkit.predict.tiles import fit_tile

SMALL = 32e6  # bytes, by a cautious formula, of tiles whose costs need no trial
_MANY = 12  # tiles, beside which the time of one more does not count
_FIRST = 48e6  # bytes, by the formula, of the tile that shows roughly what tiles cost


class Trials:
    """Remembers what the network of a runner costs; what reading costs is another matter for every image."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._least = maps(runner.spec, runner.precision)
        self._counted = formula(runner.spec, runner.precision, runner.averages)
        self._run: dict[bool, float] = {}

    def costs(self, reader: Reader, sizes: Sizes, room: float, layout: Layout | None) -> Costs:
        """What a pixel of a tile costs, seen on a small part of the image, which also wakes all libraries; on one of
        about half a tile; and, of an image of many tiles, on one as large as they will be. Costs grow a little less
        than in proportion: what is freed in small blocks is kept, what is freed in large ones is not."""
        reader.read(Region.of((1,) * len(reader.shape)))  # the image's statistics are measured now, and not in a trial
        most = MOST_PIXELS if layout is None else sizes.pixels(sizes.work(layout))
        costs, pixels = Costs(self._run.get(sizes.probabilities, 0.0), 0.0), 0
        if not costs.run:
            pixels = min(most, int(min(_FIRST, room / 3) / self._counted))
            costs = self._trial(reader, sizes, pixels)
        half = min(most, MOST_PIXELS // 2, int(room / 2 / (1.3 * max(costs.both, self._least))))
        if half > pixels:
            pixels, costs = half, self._trial(reader, sizes, half)
        if sizes.probabilities not in self._run:
            work = sizes.work(layout or sizes.fitting(room, costs))
            if work.runs >= _MANY and sizes.pixels(work) > pixels:
                costs = self._trial(reader, sizes, sizes.pixels(work))
        self._run[sizes.probabilities] = costs.run
        release_memory()
        return costs

    def _trial(self, reader: Reader, sizes: Sizes, pixels: int) -> Costs:
        runner, shape = self._runner, tuple(reader.shape)
        divisor, channels = runner.geometry.divisor, runner.spec.in_channels
        tile = fit_tile(shape, max(1, pixels), (0,) * len(shape), divisor)
        start = tuple((n - min(t, n)) // 2 // d * d for n, t, d in zip(shape, tile, divisor, strict=True))
        region = Region(start, tuple(a + t for a, t in zip(start, tile, strict=True))).intersect(Region.of(shape))
        release_memory()  # what is freed but kept would be used again, and seem to cost nothing
        with Watch(torch.device("cpu")) as reading:
            image_CX = runner.read(reader, region)
        through = math.prod(image_CX.shape[1:])
        run = self._run.get(sizes.probabilities)
        if run is None:
            release_memory()
            with Watch(runner.device) as running:
                scores = runner.scores(image_CX, region, few=True)
                if runner.geometry.local:
                    runner.piece(region, scores, sizes.probabilities)
                else:
                    runner.shares(scores)
            run = max(running.peak / through + 4 * channels, self._least)
        # short peaks may be missed: read, converted, normalised, each is a copy
        read = max(reading.peak / through, 12.0 * channels)
        return Costs(run, read if runner.device.type == "cpu" else 0.0)
