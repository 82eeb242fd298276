"""The one prediction loop. Everything that predicts goes through it: validation while training, files, arrays.

Read a tile, run the network, decide the labels of the part that is kept, hand it on. The class scores of the whole
image never exist. Networks whose output depends on a bounded neighbourhood give the whole-image result; the others are
blended.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.core.device import find_device
from unetkit.core.errors import MachineError, SpecError
from unetkit.core.events import Decided, Event, Warned
from unetkit.core.machine import format_memory, resident_memory
from unetkit.core.region import Region
from unetkit.nets.build import UNet
from unetkit.nets.geometry import format_shape, geometry
from unetkit.nets.ops import pad_end
from unetkit.predict.blend import blend
from unetkit.predict.lower import ready
from unetkit.predict.memory import allowed_memory, tile_pixels
from unetkit.predict.options import PredictOptions
from unetkit.predict.tiles import TileGrid, fit_tile, plan_tiles
from unetkit.predict.tta import IDENTITY, View, views


class Reader(Protocol):
    """An image that is read by regions, already normalised: float32 (channels, *region shape)."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    def read(self, region: Region) -> NDArray[np.float32]: ...


@dataclass(frozen=True)
class ArrayReader:
    """An image in memory as a Reader. `image_CX`: float32 (channels, *space), normalised."""

    image_CX: NDArray[np.float32]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.image_CX.shape[1:]

    def read(self, region: Region) -> NDArray[np.float32]:
        return self.image_CX[(slice(None), *region.slices)]


@dataclass(frozen=True)
class Piece:
    """A part of a prediction that is final. The regions of all pieces partition the image, row by row.

    `label_X`: class indices, uint8, region's shape. `probabilities_KX`: float32 (classes, *region's shape) where asked
    for, else None.
    """

    region: Region
    label_X: NDArray[np.uint8]
    probabilities_KX: NDArray[np.float32] | None


class Predictor:
    """A network made ready for inference on one device, in one precision. Reusable for any number of images.

    The network that is given is left as it is: a copy with its batch norm folded into the convolutions is run.
    `decisions`: events that say what was chosen and why. Raises MachineError for a device that is not there, and while
    predicting where memory does not suffice; SpecError for an image with other channels or axes than the network's.
    """

    def __init__(self, net: UNet, options: PredictOptions | None = None) -> None:
        self.options = options or PredictOptions()
        self.spec = net.spec
        self.geometry = geometry(net.spec)
        self.device = torch.device(find_device(self.options.device))
        self._net, self.precision, why = ready(net, self.options, self.device)
        self._memory = allowed_memory(self.options.memory, self.device)
        shown = views(self.geometry, self.options.flip, self.options.turn)
        self._views = shown if self.options.tta else (IDENTITY,)
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

    def grid(self, shape: tuple[int, ...]) -> TileGrid:
        """The tiles of an image of `shape`.

        Raises SpecError: another number of axes than the network's, `tile` with another number of sides.
        """
        if len(shape) != self.spec.ndim:
            raise SpecError(
                f"the network takes images with {self.spec.ndim} axes, this one has {len(shape)}; predict images like "
                "those it was trained on"
            )
        geo, asked = self.geometry, self.options.tile
        if asked is None:
            pixels = tile_pixels(self.spec, shape, self.precision, self._memory, self.device)
            tile = fit_tile(shape, pixels, self._context(None), geo.divisor)
        elif len(asked) in (1, len(shape)):
            tile = asked * (len(shape) // len(asked))
        else:
            raise SpecError(f"tile {asked} has {len(asked)} sides, the image {len(shape)} axes; give one side or all")
        return plan_tiles(shape, tile, self._context(tile), geo.divisor)

    def remarks(self, shape: tuple[int, ...]) -> Iterator[Event]:
        """What the user should know of how an image of `shape` will be predicted; nothing where it is one tile."""
        grid = self.grid(shape)
        if len(grid) == 1:
            return
        memory, largest = format_memory(self._memory), grid.largest
        yield Decided(
            what="tiles",
            value=f"{len(grid)} of {format_shape(largest)}",
            why=f"the image has {format_shape(shape)}, {memory} of memory may be held; "
            f"{grid.work - 1:.0%} is computed twice, for the seams",
        )
        if math.prod(largest) > 2 * tile_pixels(self.spec, shape, self.precision, self._memory, self.device):
            yield Warned(
                message=f"{memory} of memory is little for this network: its smallest tile of {format_shape(largest)} "
                "may need more; allow more with --memory"
            )
        if not self.geometry.local:
            yield Warned(
                message=f"this network cannot be tiled exactly ({self.geometry.why_not_local}): tiles overlap by half "
                "and are blended, and the result depends a little on their size"
            )

    def regions(self, reader: Reader, probabilities: bool = False) -> Iterator[Piece]:
        """Predict an image of any size, piece by piece.

        Networks that are local (`geometry(spec).local`) give in tiles what they give on the whole image, to rounding,
        for every tile size. Raises SpecError and MachineError as the class says, and what the reader raises.
        """
        grid = self.grid(tuple(reader.shape))
        if self.geometry.local or len(grid) == 1:
            for tile in grid:
                keep = (slice(None), slice(None), *tile.write.within(tile.read).slices)
                scores = self._scores(reader, tile.read)[keep]
                yield _piece(tile.write, scores, mean=self.options.tta, probabilities=probabilities)
        else:
            for region, blended in blend(grid, self.spec.classes, lambda read: self._probabilities(reader, read)):
                yield _piece(region, torch.from_numpy(blended)[None], mean=True, probabilities=probabilities)

    def array(self, image_CX: NDArray[np.float32], probabilities: bool = False) -> NDArray[np.generic]:
        """Predict an image in memory, float32 (channels, *space), normalised as the network was trained.

        Returns uint8 class indices (*space), or float32 probabilities (classes, *space).
        """
        shape = image_CX.shape[1:]
        label_X = np.empty(shape, np.uint8)
        result_KX = np.empty((self.spec.classes, *shape), np.float32) if probabilities else None
        for piece in self.regions(ArrayReader(image_CX), probabilities):
            label_X[piece.region.slices] = piece.label_X
            if result_KX is not None and piece.probabilities_KX is not None:
                result_KX[(slice(None), *piece.region.slices)] = piece.probabilities_KX
        return label_X if result_KX is None else result_KX

    def _context(self, tile: tuple[int, ...] | None) -> tuple[int, ...]:
        """Pixels that neighbouring tiles share on each side: the halo; a quarter of the tile where tiles are blended.

        Nothing for unpadded convolutions: there each tile is read with its margin, beyond its own borders.
        """
        geo = self.geometry
        if not geo.local:
            return (
                geo.divisor if tile is None else tuple(max(t // 4, d) for t, d in zip(tile, geo.divisor, strict=True))
            )
        return (0,) * len(geo.halo) if any(geo.margin) else geo.halo

    def _probabilities(self, reader: Reader, read: Region) -> NDArray[np.float32]:
        scores = self._scores(reader, read)
        result: NDArray[np.float32] = (scores if self.options.tta else torch.softmax(scores, 1))[0].cpu().numpy()
        return result

    def _scores(self, reader: Reader, read: Region) -> torch.Tensor:
        """Float32 (1, classes, *read shape): logits, or with `tta` mean probabilities (both have the same maximum)."""
        image = np.ascontiguousarray(self._read(reader, read), dtype=np.float32)
        if image.shape[0] != self.spec.in_channels:
            raise SpecError(
                f"the network takes {self.spec.in_channels} channel(s), this image has {image.shape[0]}; "
                "predict images like those it was trained on"
            )
        try:
            with torch.inference_mode():
                scores = self._run(torch.from_numpy(image)[None].to(self.device))
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise MachineError(
                    f"memory does not suffice for a tile of {format_shape(read.shape)}; allow less with --memory, so "
                    "that tiles become smaller"
                ) from error
            raise
        return scores[(slice(None), slice(None), *(slice(0, n) for n in read.shape))]

    def _read(self, reader: Reader, read: Region) -> NDArray[np.float32]:
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

    def _run(self, image_BCX: torch.Tensor) -> torch.Tensor:
        if self._views == (IDENTITY,):
            logits: torch.Tensor = self._net(image_BCX)
            return logits
        first, *others = self._views
        total = self._view(image_BCX, first)
        for view in others:
            total += self._view(image_BCX, view)
        return total / len(self._views)

    def _view(self, image_BCX: torch.Tensor, view: View) -> torch.Tensor:
        return view.undo(torch.softmax(self._net(view.apply(image_BCX)), 1))


def _piece(region: Region, scores_BKX: torch.Tensor, *, mean: bool, probabilities: bool) -> Piece:
    """`mean`: the scores are mean probabilities already, not logits."""
    with torch.inference_mode():
        label_X = best_class(scores_BKX[0]).cpu().numpy()
        if not probabilities:
            return Piece(region, label_X, None)
        scores_BKX = scores_BKX if mean else torch.softmax(scores_BKX.contiguous(), 1)
        return Piece(region, label_X, scores_BKX[0].cpu().numpy())


def mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Pixel numbers beyond an axis of `length` pixels, reflected into it; the edge pixel is not repeated."""
    period = max(1, 2 * (length - 1))
    folded = index % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(index)


def best_class(scores_KX: torch.Tensor) -> torch.Tensor:
    """The class of the highest score, uint8 (*space); the first of equals. Much faster than argmax over few classes."""
    best, label = scores_KX[0], torch.zeros(scores_KX.shape[1:], dtype=torch.uint8, device=scores_KX.device)
    for k in range(1, scores_KX.shape[0]):
        higher = scores_KX[k] > best
        label.masked_fill_(higher, k)
        best = torch.where(higher, scores_KX[k], best) if k + 1 < scores_KX.shape[0] else best
    return label


def predict_array(
    net: UNet, image_CX: NDArray[np.float32], options: PredictOptions | None = None, probabilities: bool = False
) -> NDArray[np.generic]:
    """Predict one image in memory; see `Predictor.array`. For many images make one `Predictor`."""
    return Predictor(net, options).array(image_CX, probabilities)
