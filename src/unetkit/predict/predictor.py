"""The one prediction loop. Everything that predicts goes through it: validation while training, files, arrays.

Read a tile, run the network, decide the labels of the part that is kept, hand it on. The class scores of the whole
image never exist. Networks whose output depends on a bounded neighbourhood give the whole-image result; the others are
blended.
"""

from __future__ import annotations

import itertools
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.core.errors import SpecError
from unetkit.core.events import Decided, Event, Warned
from unetkit.core.machine import format_memory, resident_memory
from unetkit.core.region import Region
from unetkit.nets.build import UNet
from unetkit.nets.geometry import format_shape
from unetkit.predict.blend import Blender
from unetkit.predict.forecast import (
    AIM,
    CAUTION,
    LEAST_SHARE,
    MOST_PIXELS,
    RESULT,
    Costs,
    Forecast,
    allowed_memory,
    formula,
    high_water,
)
from unetkit.predict.lower import Precision
from unetkit.predict.options import PredictOptions
from unetkit.predict.pipeline import ahead
from unetkit.predict.reader import ArrayReader, Float, Reader, grid_of, keeps
from unetkit.predict.runner import Piece, Runner
from unetkit.predict.sizing import BLENDED_PIXELS, Layout, Sizes
from unetkit.predict.trial import SMALL, Trials
from unetkit.predict.work import Step, Work


@dataclass(frozen=True)
class Planned:
    """How an image will be predicted. forecast: what will be held then."""

    work: Work
    layout: Layout
    forecast: Forecast


class Predictor:
    """A network made ready for inference on one device, in one precision. Reusable for any number of images.

    Of several networks of one spec, each runs over every tile that is read, and their probabilities are averaged.
    What is given is left as it is: copies with batch norm folded into the convolutions are run.
    `regions`: its classes may overlap; each has a sigmoid of its own, and labels are bit masks.
    `decisions`: events that say what was chosen and why. `allowed`: bytes that may be held on its device;
    `host_memory`: by the process. Raises MachineError for a device that is not there, and while predicting where memory
    does not suffice; SpecError for an image with other channels or axes than the network's, and for networks of
    different specs.
    """

    def __init__(
        self, nets: UNet | Sequence[UNet], options: PredictOptions | None = None, regions: bool = False
    ) -> None:
        self._nets, self._marked = (nets,) if isinstance(nets, UNet) else tuple(nets), high_water()
        self.options = options or PredictOptions()
        self.runner = Runner(self._nets, self.options, regions)
        self.spec, self.geometry, self.device = self.runner.spec, self.runner.geometry, self.runner.device
        self.allowed = allowed_memory(self.options.memory, self.device)
        self.host_memory = self.allowed if self.device.type == "cpu" else allowed_memory(None, torch.device("cpu"))
        self._trials = Trials(self.runner)
        chosen = [Decided(what="precision", value=self.runner.precision, why=self.runner.why)]
        if len(self._nets) > 1:
            why = "one for each fold; their probabilities are averaged"
            chosen.append(Decided(what="ensemble", value=f"{len(self._nets)} networks", why=why))
        self.decisions = (*chosen, *self._doubts())

    def with_precision(self, precision: Precision) -> Predictor:
        """The same networks and options in a precision that is told."""
        return Predictor(self._nets, self.options.model_copy(update={"precision": precision}), self.runner.overlapping)

    def _doubts(self) -> Iterator[Event]:
        held = resident_memory()
        if self.options.tta and len(self.runner.views) == 1:
            yield Warned(message="nothing is averaged (--tta): training showed this network nothing flipped or turned")
        if self.device.type == "cpu" and self.options.memory is not None and self.options.memory < 1.2 * held:
            yield Warned(
                message=f"{format_memory(self.options.memory)} of memory cannot be kept to: the program itself holds "
                f"{format_memory(held)} already; the smallest tiles are used. Allow {format_memory(2 * held)} or more"
            )

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
        costs = Costs(
            formula(self.spec, self.runner.precision, self.runner.averages) * CAUTION[self.runner.layout],
            16.0 * self.spec.in_channels,
        )
        room, given = self._room(besides + keeps(reader)), layout is not None
        if layout is None and self.options.tile is not None:
            layout = sizes.asked(self.options.tile, room, costs)
        elif layout is None and self._goes_at_once(sizes, costs, room):
            layout = sizes.whole()
        if layout is None or self._wants_trial(sizes, costs, layout):
            costs = self._trials.costs(reader, sizes, room, layout)
            room = self._room(besides + keeps(reader))
            if layout is None:
                layout = sizes.fitting(room, costs)
            elif self.options.tile is not None and not given:
                layout = sizes.asked(self.options.tile, room, costs)
        work = sizes.work(layout)
        tiles = (*sizes.parts(work, costs), ("what readers keep", keeps(reader)), (RESULT, besides))
        raised = self.device.type == "cpu" and high_water() > self._marked
        return Planned(work, layout, Forecast(self.allowed, self._held(), tiles, so_far=high_water() if raised else 0))

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
        return len(work.tiles) > 1 and sizes.pixels(work) * costs.both > SMALL

    def _goes_at_once(self, sizes: Sizes, costs: Costs, room: float) -> bool:
        pixels = sizes.through(sizes.shape)
        most = MOST_PIXELS if self.geometry.local else BLENDED_PIXELS
        return pixels <= most and pixels * (costs.both + sizes.result) <= room

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
        with closing(ahead(steps, lambda step: self.runner.read(reader, step.tiles[0]))) as tiles:
            for step, image_CX in tiles:
                piece = self._piece_of(work, step, image_CX, probabilities)
                del image_CX  # before the next is waited for
                yield step, piece
                del piece

    def _piece_of(self, work: Work, step: Step, image_CX: Float, probabilities: bool) -> Piece:
        scores = self.runner.scores(image_CX, step.tiles[0])
        keep = (slice(None), slice(None), *step.read.within(step.tiles[0]).slices)
        return self.runner.own_piece(work.grid, step, scores[keep], probabilities)

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
        with closing(ahead(runs(), lambda run: self.runner.read(reader, run[1]))) as tiles:
            for (step, tile, last), image_CX in tiles:
                if blender is None or column != step.column:
                    column, wide = step.column, work.column(step.column)
                    wanted = Region((step.read.start[0], *wide.start[1:]), wide.stop)
                    blender = None  # before the next is made
                    blender = Blender(wanted, self.spec.classes, work.rows)
                blender.add(tile, self.runner.shares(self.runner.scores(image_CX, tile)))
                del image_CX
                if not last:
                    continue
                blender.finish(step.done)
                if step.own.size:
                    scores = torch.from_numpy(blender.rows(step.read.start[0], step.read.stop[0]))[None]
                    piece = self.runner.own_piece(work.grid, step, scores, probabilities, mean=True)
                    del scores  # a view, which would keep the sums of this column beside those of the next
                    yield step, piece
                    del piece
                blender.forget(max(0, step.write.stop[0] - context))
