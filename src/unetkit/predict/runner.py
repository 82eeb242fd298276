"""One tile: read, run through the network or several, decided. Knows nothing of how tiles make an image."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from unetkit.core.device import find_device
from unetkit.core.errors import MachineError, SpecError
from unetkit.core.region import Region
from unetkit.data.prepared.grid import Grid
from unetkit.nets.build import UNet
from unetkit.nets.geometry import format_shape, geometry
from unetkit.nets.ops import pad_end
from unetkit.predict.decide import decide, shares
from unetkit.predict.lower import Lowered, ready_all
from unetkit.predict.options import PredictOptions
from unetkit.predict.reader import Float, Reader, mirrored
from unetkit.predict.sizing import slabs
from unetkit.predict.tta import IDENTITY, View, views
from unetkit.predict.work import Step


@dataclass(frozen=True)
class Piece:
    """A part of a prediction that is final, on the image's own grid, which the regions of all pieces partition.

    `label_X`: class indices, uint8, region's shape (of overlapping regions a bit for each). `probabilities_KX`: float32
    (classes, *region's shape) where asked for, else None.
    """

    region: Region
    label_X: NDArray[np.uint8]
    probabilities_KX: Float | None


class Runner:
    """Networks made ready for inference on one device, in one precision.

    nets: of one spec; what several of them say of a tile is averaged. `overlapping`: their classes may overlap; each
    has a sigmoid of its own, and labels are bit masks. `averages`: scores are mean probabilities, over networks, views
    or both, and not logits.
    Raises MachineError for a device that is not there, and where memory does not suffice for a tile; SpecError for an
    image with other channels than the network's, and for networks of several specs.
    """

    def __init__(self, nets: Sequence[UNet], options: PredictOptions, overlapping: bool) -> None:
        if any(net.spec != nets[0].spec for net in nets):
            raise SpecError(
                "networks of different form cannot be averaged tile by tile; predict with each, and average the files"
            )
        self.options = options
        self.overlapping = overlapping
        self.spec = nets[0].spec
        self.geometry = geometry(self.spec)
        self.device = torch.device(find_device(options.device))
        self.nets, self.precision, self.why = ready_all(nets, options, self.device)
        self.layout = self.nets[0].layout
        shown = views(self.geometry, options.flip, options.turn)
        self.views = shown if options.tta else (IDENTITY,)
        self.averages = options.tta or len(self.nets) > 1

    def scores(self, image_CX: Float, read: Region, few: bool = False) -> torch.Tensor:
        """Float32 (1, classes, *read shape): logits, or mean probabilities where it `averages` (both have the same
        maximum). few: by two views and networks at most, which takes as much memory as all of them."""
        if image_CX.shape[0] != self.spec.in_channels:
            raise SpecError(
                f"the network takes {self.spec.in_channels} channel(s), this image has {image_CX.shape[0]}; "
                "predict images like those it was trained on"
            )
        try:
            with torch.inference_mode():
                image_BCX = torch.from_numpy(np.ascontiguousarray(image_CX, np.float32))[None].to(self.device)
                scores = self._run(image_BCX, few)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error):
                raise MachineError(
                    f"memory does not suffice for a tile of {format_shape(read.shape)}; allow less with --memory, so "
                    "that tiles become smaller"
                ) from error
            raise
        return scores[(slice(None), slice(None), *(slice(0, n) for n in read.shape))]

    def read(self, reader: Reader, read: Region) -> Float:
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

    def _run(self, image_BCX: torch.Tensor, few: bool) -> torch.Tensor:
        if not self.averages:
            logits: torch.Tensor = self.nets[0](image_BCX)
            return logits
        each = list(itertools.product(self.nets, self.views))
        each = each[:2] if few else each
        total = self._shares(image_BCX, *each[0])
        for net, view in each[1:]:
            total += self._shares(image_BCX, net, view)
        return total / len(each)

    def _shares(self, image_BCX: torch.Tensor, net: Lowered, view: View) -> torch.Tensor:
        return view.undo(shares(net(view.apply(image_BCX)), self.overlapping))

    def shares(self, scores_BKX: torch.Tensor) -> Float:
        """Probabilities (K, *space) of the scores of one tile."""
        with torch.inference_mode():
            found = scores_BKX if self.averages else shares(scores_BKX.contiguous(), self.overlapping)
            result: Float = found[0].cpu().numpy()
            return result

    def piece(self, region: Region, scores_BKX: torch.Tensor, probabilities: bool, mean: bool = False) -> Piece:
        """`mean`: the scores are mean probabilities already, not logits."""
        mean = mean or self.averages
        with torch.inference_mode():
            if not self.options.calibration.neutral:
                scores_BKX = self.options.calibration.logits(scores_BKX[0], self.overlapping, not mean)[None]
                mean = False
            label_X = decide(scores_BKX[0], self.overlapping, not mean, self.options.rule).cpu().numpy()
            if not probabilities:
                return Piece(region, label_X, None)
            shares_KX = scores_BKX[0] if mean else shares(scores_BKX.contiguous(), self.overlapping)[0]
            return Piece(region, label_X, shares_KX.cpu().numpy().copy() if mean else shares_KX.cpu().numpy())

    def own_piece(
        self, grid: Grid, step: Step, scores_BKX: torch.Tensor, probabilities: bool, mean: bool = False
    ) -> Piece:
        """The piece of a step, from the scores of what it reads."""
        if grid.identity:
            return self.piece(step.own, scores_BKX, probabilities, mean)
        if not grid.moved:  # exact: decided on the prepared grid, and turned
            piece = self.piece(step.read, scores_BKX, probabilities, mean)
            label_X, kept_KX = grid.back_label(piece.label_X, step.read, step.own), piece.probabilities_KX
            return Piece(step.own, label_X, None if kept_KX is None else grid.back(kept_KX, step.read, step.own))
        shares_KX = scores_BKX[0].numpy() if mean else self.shares(scores_BKX)
        label_X = np.empty(step.own.shape, np.uint8)
        kept = np.empty((len(shares_KX), *step.own.shape), np.float32) if probabilities else None
        for slab in slabs(step.write, math.prod(grid.own) * len(shares_KX) // math.prod(grid.shape) + 1):
            own = grid.covers(slab)
            if not own.size:
                continue
            needed = grid.needed(own)
            part_KX = grid.back(shares_KX[(slice(None), *needed.within(step.read).slices)], needed, own)
            part_KX = self.options.calibration.apply(part_KX, self.overlapping)
            where = own.within(step.own).slices
            label_X[where] = decide(torch.from_numpy(part_KX), self.overlapping, False, self.options.rule).numpy()
            if kept is not None:
                kept[(slice(None), *where)] = part_KX
        return Piece(step.own, label_X, kept)
