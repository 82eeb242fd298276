"""The one prediction loop. Everything that predicts goes through it: validation while training, files, arrays.

Read a tile, run the network, decide the labels of the part that is kept, hand it on. The class scores of the whole
image never exist. Networks whose output depends on a bounded neighbourhood give the whole-image result; the others are
blended.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.core.device import find_device
from unetkit.core.errors import MachineError, SpecError
from unetkit.core.events import Decided, Event, Warned
from unetkit.core.machine import format_memory, release_memory, resident_memory
from unetkit.core.region import Region
from unetkit.data.grid import Grid
from unetkit.nets.build import UNet
from unetkit.nets.geometry import format_shape, geometry
from unetkit.nets.ops import pad_end
from unetkit.predict.blend import Blender
from unetkit.predict.decide import decide, shares
from unetkit.predict.forecast import (
    AIM,
    CAUTION,
    LEAST_SHARE,
    MOST_PIXELS,
    Costs,
    Forecast,
    Watch,
    allowed_memory,
    formula,
    high_water,
)
from unetkit.predict.lower import ready
from unetkit.predict.options import PredictOptions
from unetkit.predict.pipeline import ahead
from unetkit.predict.sizing import BLENDED_PIXELS, Layout, Sizes, slabs
from unetkit.predict.tiles import fit_tile
from unetkit.predict.tta import IDENTITY, View, views
from unetkit.predict.work import Step, Work

Float = NDArray[np.float32]

_SMALL = 32e6  # bytes, by a cautious formula, of tiles whose costs need no trial
_MANY = 12  # tiles, beside which the time of one more does not count
_FIRST_TRIAL = 48e6  # bytes, by the formula, of the tile that shows roughly what tiles cost


class Reader(Protocol):
    """An image that is read by regions, already normalised: float32 (channels, *region shape).

    Where it has a `grid` (`data.grid.Grid`), that is how the image as it is read lies over that of the file, on whose
    grid results come back.
    """

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self, region: Region) -> Float: ...


@dataclass(frozen=True)
class ArrayReader:
    """An image in memory as a Reader. `image_CX`: float32 (channels, *space), normalised."""

    image_CX: Float

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image_CX.shape[1:]

    def read(self, region: Region) -> Float:
        return self.image_CX[(slice(None), *region.slices)]


@dataclass(frozen=True)
class Piece:
    """A part of a prediction that is final, on the image's own grid, which the regions of all pieces partition.

    `label_X`: class indices, uint8, region's shape (of overlapping regions a bit for each). `probabilities_KX`: float32
    (classes, *region's shape) where asked for, else None.
    """

    region: Region
    label_X: NDArray[np.uint8]
    probabilities_KX: Float | None


@dataclass(frozen=True)
class Planned:
    """How an image will be predicted. forecast: what will be held then."""

    work: Work
    layout: Layout
    forecast: Forecast


class Predictor:
    """A network made ready for inference on one device, in one precision. Reusable for any number of images.

    The network that is given is left as it is: a copy with its batch norm folded into the convolutions is run.
    `regions`: its classes may overlap; each has a sigmoid of its own, and labels are bit masks.
    `decisions`: events that say what was chosen and why. Raises MachineError for a device that is not there, and while
    predicting where memory does not suffice; SpecError for an image with other channels or axes than the network's.
    """

    def __init__(self, net: UNet, options: PredictOptions | None = None, regions: bool = False) -> None:
        self.options = options or PredictOptions()
        self.overlapping = regions
        self.spec = net.spec
        self.geometry = geometry(net.spec)
        self.device = torch.device(find_device(self.options.device))
        self._net, self.precision, why = ready(net, self.options, self.device)
        self.allowed = allowed_memory(self.options.memory, self.device)
        shown = views(self.geometry, self.options.flip, self.options.turn)
        self._views = shown if self.options.tta else (IDENTITY,)
        self._run_costs: dict[bool, float] = {}
        self.decisions = (Decided(what="precision", value=self.precision, why=why), *self._doubts())

    def _doubts(self) -> Iterator[Event]:
        held = resident_memory()
        if self.options.tta and len(self._views) == 1:
            yield Warned(message="nothing is averaged (--tta): training showed this network nothing flipped or turned")
        if self.device.type == "cpu" and self.options.memory is not None and self.options.memory < 1.2 * held:
            yield Warned(
                message=f"{format_memory(self.options.memory)} of memory cannot be kept to: the program itself holds "
                f"{format_memory(held)} already; the smallest tiles are used. Allow {format_memory(2 * held)} or more"
            )

    @cached_property
    def digest(self) -> str:
        """Changes with the weights, and with the precision they are used in."""
        found = hashlib.blake2b(digest_size=16)
        for name, value in self._net.net.state_dict().items():
            found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return found.hexdigest()

    # --- before it begins

    def plan(
        self, reader: Reader, probabilities: bool = False, besides: float = 0, layout: Layout | None = None
    ) -> Planned:
        """How an image will be predicted: tiles that fit into the memory allowed, and what will be held.

        besides: bytes that the caller will hold for it meanwhile. layout: one to keep to, of an earlier call.
        Raises SpecError: another number of axes than the network's, `tile` with another number of sides.
        """
        shape = tuple(reader.shape)
        if len(shape) != self.spec.ndim:
            raise SpecError(
                f"the network takes images with {self.spec.ndim} axes, this one has {len(shape)}; predict images like "
                "those it was trained on"
            )
        sizes = Sizes(self.geometry, grid_of(reader), self.spec.classes, probabilities)
        costs = Costs(formula(self.spec, self.precision) * CAUTION[self._net.layout], 16.0 * self.spec.in_channels)
        room, given = self._room(besides), layout is not None
        if layout is None and self.options.tile is not None:
            layout = sizes.asked(self.options.tile, room, costs)
        elif layout is None and self._goes_at_once(sizes, costs, room):
            layout = sizes.whole()
        if layout is None or self._wants_trial(sizes, costs, layout):
            costs = self._measured(reader, sizes, room, layout)
            room = self._room(besides)
            if layout is None:
                layout = sizes.fitting(room, costs)
            elif self.options.tile is not None and not given:
                layout = sizes.asked(self.options.tile, room, costs)
        work = sizes.work(layout)
        tiles = (*sizes.parts(work, costs), ("the result so far", besides))
        so_far = high_water() if self.device.type == "cpu" else 0
        return Planned(work, layout, Forecast(self.allowed, self._held(), tiles, so_far=so_far))

    def remarks(self, planned: Planned) -> Iterator[Event]:
        """What the user should know of how an image will be predicted; nothing where it is one tile."""
        work, forecast = planned.work, planned.forecast
        if len(work.tiles) == 1:
            return
        shape, largest = work.tiles.shape, work.tiles.largest
        how = "exact: the result is that of the whole image" if work.exact else "blended where they overlap"
        cut = (
            f" at their seams and those of {len(work.columns)} columns" if len(work.columns) > 1 else ", for the seams"
        )
        yield Decided(
            what="tiles",
            value=f"{len(work.tiles)} of {format_shape(largest)}",
            why=f"the image has {format_shape(shape)}; {how}; {work.twice:.0%} is computed twice{cut}",
        )
        yield Decided(what="memory", value=forecast.value, why=forecast.why)
        if forecast.total > 1.02 * self.allowed:
            yield Warned(
                message=f"{format_memory(self.allowed)} of memory is little for this network and image: tiles of "
                f"{format_shape(largest)} may need {format_memory(forecast.total)}; allow more with --memory"
            )
        if not work.exact:
            yield Warned(
                message=f"this network cannot be tiled exactly ({self.geometry.why_not_local}): tiles overlap by half "
                "and are blended, and the result depends a little on their size"
            )

    def _held(self) -> int:
        return torch.cuda.memory_allocated(self.device) if self.device.type == "cuda" else resident_memory()

    def _room(self, besides: float) -> float:
        return max(self.allowed * AIM - self._held() - besides, self.allowed * LEAST_SHARE)

    @staticmethod
    def _wants_trial(sizes: Sizes, costs: Costs, layout: Layout) -> bool:
        work = sizes.work(layout)
        return len(work.tiles) > 1 and sizes.pixels(work) * costs.both > _SMALL

    def _goes_at_once(self, sizes: Sizes, costs: Costs, room: float) -> bool:
        pixels = sizes.through(sizes.shape)
        most = MOST_PIXELS if self.geometry.local else BLENDED_PIXELS
        return pixels <= most and pixels * (costs.both + sizes.result) <= room

    def _measured(self, reader: Reader, sizes: Sizes, room: float, layout: Layout | None) -> Costs:
        """What a pixel of a tile costs, seen on parts of this very image: a small one, which also wakes all libraries;
        one of about half a tile; and, of an image of many tiles, one as large as they will be. Costs grow a little less
        than in proportion: what is freed in small blocks is kept, what is freed in large ones is not."""
        reader.read(Region.of((1,) * len(reader.shape)))  # the image's statistics are measured now, and not in a trial
        release_memory()
        least = formula(self.spec, self.precision)
        most = MOST_PIXELS if layout is None else sizes.pixels(sizes.work(layout))
        costs = self._trial(reader, sizes, min(most, int(_FIRST_TRIAL / least)))
        # small tiles fit into memory that was let go before: they may seem to cost nothing
        pixels = min(most, MOST_PIXELS // 2, int(room / 2 / (1.3 * max(costs.both, least))))
        if pixels * least > _FIRST_TRIAL:
            costs = self._trial(reader, sizes, pixels)
        work = sizes.work(layout or sizes.fitting(room, Costs(max(costs.run, least), costs.read)))
        if work.runs >= _MANY and sizes.pixels(work) > pixels:
            costs = self._trial(reader, sizes, sizes.pixels(work))
        release_memory()
        self._run_costs.setdefault(probabilities := sizes.probabilities, max(costs.run, least))
        return Costs(self._run_costs[probabilities], costs.read)

    def _trial(self, reader: Reader, sizes: Sizes, pixels: int) -> Costs:
        shape = tuple(reader.shape)
        tile = fit_tile(shape, max(1, pixels), (0,) * len(shape), self.geometry.divisor)
        start = tuple((n - min(t, n)) // 2 // d * d for n, t, d in zip(shape, tile, self.geometry.divisor, strict=True))
        region = Region(start, tuple(a + t for a, t in zip(start, tile, strict=True))).intersect(Region.of(shape))
        with Watch(torch.device("cpu")) as reading:
            image_CX = self._read(reader, region)
        through = math.prod(image_CX.shape[1:])
        run = self._run_costs.get(sizes.probabilities)
        if run is None:
            with Watch(self.device) as running:
                scores = self._scores(image_CX, region, self._views[:2])
                if self.geometry.local:
                    self._piece(region, scores, sizes.probabilities)
                else:
                    self._shares(scores)
            run = running.peak / through + 4 * self.spec.in_channels
        # short peaks may be missed: read, converted, normalised, each is a copy
        read = max(reading.peak / through, 12.0 * self.spec.in_channels)
        return Costs(run, read if self.device.type == "cpu" else 0.0)

    # --- the loop

    def regions(self, reader: Reader, probabilities: bool = False) -> Iterator[Piece]:
        """Predict an image of any size, piece by piece.

        Networks that are local (`geometry(spec).local`) give in tiles what they give on the whole image, to rounding,
        for every tile size. Raises SpecError and MachineError as the class says, and what the reader raises.
        """
        work = self.plan(reader, probabilities).work
        return (piece for _, piece in self.pieces(reader, work, probabilities))

    def pieces(
        self, reader: Reader, work: Work, probabilities: bool = False, first: int = 0
    ) -> Generator[tuple[Step, Piece], None, None]:
        """The pieces of all steps from number `first` on, in order; steps without a pixel of the image are left out."""
        if work.columns:
            yield from self._blended(reader, work, probabilities, first)
            return
        steps = (step for step in itertools.islice(work, first, None) if step.own.size)
        with closing(ahead(steps, lambda step: self._read(reader, step.tiles[0]))) as tiles:
            for step, image_CX in tiles:
                scores = self._scores(image_CX, step.tiles[0])
                keep = (slice(None), slice(None), *step.read.within(step.tiles[0]).slices)
                yield step, self._own_piece(work.grid, step, scores[keep], probabilities)

    def array(self, image_CX: Float, probabilities: bool = False) -> NDArray[np.generic]:
        """Predict an image in memory, float32 (channels, *space), normalised as the network was trained.

        Returns uint8 class indices (*space), or float32 probabilities (classes, *space).
        """
        return self.whole(ArrayReader(image_CX), probabilities)

    def whole(self, reader: Reader, probabilities: bool = False) -> NDArray[np.generic]:
        """A whole prediction in memory, on the image's own grid: uint8 class indices (*space), or float32
        probabilities (classes, *space)."""
        shape = grid_of(reader).own
        label_X = np.empty(shape, np.uint8)
        result_KX = np.empty((self.spec.classes, *shape), np.float32) if probabilities else None
        for piece in self.regions(reader, probabilities):
            label_X[piece.region.slices] = piece.label_X
            if result_KX is not None and piece.probabilities_KX is not None:
                result_KX[(slice(None), *piece.region.slices)] = piece.probabilities_KX
        return label_X if result_KX is None else result_KX

    def _blended(self, reader: Reader, work: Work, probabilities: bool, first: int) -> Iterator[tuple[Step, Piece]]:
        def runs() -> Iterator[tuple[Step, Region, bool]]:
            """(step, tile, whether it is the last of its step)"""
            if first < len(work):
                yield from ((work[first], tile, False) for tile in work.lead(work[first]))
            for step in itertools.islice(work, first, None):
                yield from ((step, tile, tile == step.tiles[-1]) for tile in step.tiles)

        context, blender, column = work.grid.context()[0], None, -1
        with closing(ahead(runs(), lambda run: self._read(reader, run[1]))) as tiles:
            for (step, tile, last), image_CX in tiles:
                if blender is None or column != step.column:
                    column, wide = step.column, work.column(step.column)
                    wanted = Region((step.read.start[0], *wide.start[1:]), wide.stop)
                    blender = Blender(wanted, self.spec.classes, work.rows)
                blender.add(tile, self._shares(self._scores(image_CX, tile)))
                if not last:
                    continue
                blender.finish(step.done)
                if step.own.size:
                    scores = torch.from_numpy(blender.rows(step.read.start[0], step.read.stop[0]))[None]
                    yield step, self._own_piece(work.grid, step, scores, probabilities, mean=True)
                blender.forget(max(0, step.write.stop[0] - context))

    # --- one tile

    def _scores(self, image_CX: Float, read: Region, shown: tuple[View, ...] | None = None) -> torch.Tensor:
        """Float32 (1, classes, *read shape): logits, or with `tta` mean probabilities (both have the same maximum)."""
        if image_CX.shape[0] != self.spec.in_channels:
            raise SpecError(
                f"the network takes {self.spec.in_channels} channel(s), this image has {image_CX.shape[0]}; "
                "predict images like those it was trained on"
            )
        try:
            with torch.inference_mode():
                image_BCX = torch.from_numpy(np.ascontiguousarray(image_CX, np.float32))[None].to(self.device)
                scores = self._run(image_BCX, shown or self._views)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise MachineError(
                    f"memory does not suffice for a tile of {format_shape(read.shape)}; allow less with --memory, so "
                    "that tiles become smaller"
                ) from error
            raise
        return scores[(slice(None), slice(None), *(slice(0, n) for n in read.shape))]

    def _read(self, reader: Reader, read: Region) -> Float:
        """The pixels that the network needs for the scores of `read`, (channels, *a size that it takes).

        The image is continued beyond its end as `UNet.forward` does. For unpadded convolutions it is mirrored all
        around (the overlap-tile strategy, Ronneberger et al. 2015, fig. 2).
        """
        geo = self.geometry
        if not any(geo.margin):
            image = torch.from_numpy(np.ascontiguousarray(reader.read(read), dtype=np.float32))[None]
            missing = [f - n for f, n in zip(geo.fit(read.shape), read.shape, strict=True)]
            return pad_end(image, missing)[0].numpy()
        wide = read.grow(geo.margin)
        fitted = geo.fit(wide.shape)
        index = [
            mirrored(np.arange(start, start + n), length)
            for start, n, length in zip(wide.start, fitted, reader.shape, strict=True)
        ]
        inside = Region(tuple(int(i.min()) for i in index), tuple(int(i.max()) + 1 for i in index))
        image_CX = reader.read(inside)
        for axis, (i, start) in enumerate(zip(index, inside.start, strict=True), start=1):
            image_CX = image_CX.take(i - start, axis=axis)
        return image_CX

    def _run(self, image_BCX: torch.Tensor, shown: tuple[View, ...]) -> torch.Tensor:
        if not self.options.tta:
            logits: torch.Tensor = self._net(image_BCX)
            return logits
        first, *others = shown
        total = self._view(image_BCX, first)
        for view in others:
            total += self._view(image_BCX, view)
        return total / len(shown)

    def _view(self, image_BCX: torch.Tensor, view: View) -> torch.Tensor:
        return view.undo(shares(self._net(view.apply(image_BCX)), self.overlapping))

    # --- what is decided

    def _shares(self, scores_BKX: torch.Tensor) -> Float:
        """Probabilities (K, *space) of the scores of one tile."""
        with torch.inference_mode():
            found = scores_BKX if self.options.tta else shares(scores_BKX.contiguous(), self.overlapping)
            result: Float = found[0].cpu().numpy()
            return result

    def _piece(self, region: Region, scores_BKX: torch.Tensor, probabilities: bool, mean: bool = False) -> Piece:
        """`mean`: the scores are mean probabilities already, not logits."""
        mean = mean or self.options.tta
        with torch.inference_mode():
            label_X = decide(scores_BKX[0], self.overlapping, not mean, self.options.sure).cpu().numpy()
            if not probabilities:
                return Piece(region, label_X, None)
            return Piece(region, label_X, scores_BKX[0].cpu().numpy().copy() if mean else self._shares(scores_BKX))

    def _own_piece(
        self, grid: Grid, step: Step, scores_BKX: torch.Tensor, probabilities: bool, mean: bool = False
    ) -> Piece:
        """The piece of a step, from the scores of what it reads."""
        if grid.identity:
            return self._piece(step.own, scores_BKX, probabilities, mean)
        if not grid.moved:  # exact: decided on the prepared grid, and turned
            piece = self._piece(step.read, scores_BKX, probabilities, mean)
            label_X, kept_KX = grid.back_label(piece.label_X, step.read, step.own), piece.probabilities_KX
            return Piece(step.own, label_X, None if kept_KX is None else grid.back(kept_KX, step.read, step.own))
        shares_KX = scores_BKX[0].numpy() if mean else self._shares(scores_BKX)
        label_X = np.empty(step.own.shape, np.uint8)
        kept = np.empty((len(shares_KX), *step.own.shape), np.float32) if probabilities else None
        for slab in slabs(step.write, math.prod(grid.own) * len(shares_KX) // math.prod(grid.shape) + 1):
            own = grid.covers(slab)
            if not own.size:
                continue
            needed = grid.needed(own)
            part_KX = grid.back(shares_KX[(slice(None), *needed.within(step.read).slices)], needed, own)
            where = own.within(step.own).slices
            label_X[where] = decide(torch.from_numpy(part_KX), self.overlapping, False, self.options.sure).numpy()
            if kept is not None:
                kept[(slice(None), *where)] = part_KX
        return Piece(step.own, label_X, kept)


def grid_of(reader: Reader) -> Grid:
    """How the image of a reader lies over its file's; the same where it does not say."""
    found = getattr(reader, "grid", None)
    return found if isinstance(found, Grid) else Grid.same(reader.shape)


def mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Pixel numbers beyond an axis of `length` pixels, reflected into it; the edge pixel is not repeated."""
    period = max(1, 2 * (length - 1))
    folded = index % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(index)


def predict_array(
    net: UNet, image_CX: Float, options: PredictOptions | None = None, probabilities: bool = False
) -> NDArray[np.generic]:
    """Predict one image in memory; see `Predictor.array`. For many images make one `Predictor`."""
    return Predictor(net, options).array(image_CX, probabilities)
