"""Where the pieces of a prediction wait until it is complete: in memory, or in a file for each on disk."""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import MachineError
from unetkit.core.files import write_bytes
from unetkit.core.region import Region
from unetkit.predict.runner import Piece
from unetkit.predict.work import Step

KEPT = 1 << 26  # bytes of unpacked pieces that are kept, so that neighbouring regions do not unpack them again
LABELS, SCORES = "labels", "scores"
_LEVEL = 1  # of zstd: labels shrink to a hundredth anyway


class Canvas(Protocol):
    """A prediction on the image's own grid. Probabilities are kept in half precision (11 bits)."""

    def put(self, made: tuple[Step, Piece]) -> None:
        """Keep the piece of a step."""

    def labels(self, region: Region) -> NDArray[np.uint8]:
        """(*region); complete where all pieces that touch it are there."""

    def probabilities(self, region: Region) -> NDArray[np.float32]:
        """(classes, *region)."""


class MemoryCanvas:
    """Everything in memory. classes: whose probabilities are kept; 0: none are."""

    def __init__(self, shape: tuple[int, ...], classes: int = 0) -> None:
        self._label_X = np.zeros(shape, np.uint8)
        self._scores_KX = np.zeros((classes, *shape), np.float16)

    def put(self, made: tuple[Step, Piece]) -> None:
        """Keep the piece of a step."""
        _, piece = made
        self._label_X[piece.region.slices] = piece.label_X
        if piece.probabilities_KX is not None:
            self._scores_KX[(slice(None), *piece.region.slices)] = piece.probabilities_KX

    def labels(self, region: Region) -> NDArray[np.uint8]:
        """(*region)."""
        return self._label_X[region.slices]

    def probabilities(self, region: Region) -> NDArray[np.float32]:
        """(classes, *region)."""
        return self._scores_KX[(slice(None), *region.slices)].astype(np.float32)


class DiskCanvas:
    """A compressed file for the labels of each step, and one for its probabilities, each of which appears whole.

    places: the own regions of all steps, (steps, 2, axes). classes: whose probabilities are kept; 0: none are.
    """

    def __init__(self, folder: Path, places: NDArray[np.int64], classes: int = 0) -> None:
        self._folder, self._places, self._classes = folder, places, classes
        self._unpacked: OrderedDict[tuple[int, int], NDArray[Any]] = OrderedDict()
        self._held = 0

    def missing(self) -> int:
        """The first step whose piece is not there; the number of steps where all are."""
        for number in range(len(self._places)):
            if self._size(number) and not self._path(number, LABELS).exists():
                return number
        return len(self._places)

    def put(self, made: tuple[Step, Piece]) -> None:
        """Keep the piece of a step. Raises MachineError: the disk is full."""
        step, piece = made
        if piece.probabilities_KX is not None:
            parts = [_packed(scores_X.astype(np.float16)) for scores_X in piece.probabilities_KX]
            index = struct.pack(f"<{len(parts)}Q", *map(len, parts))
            write_bytes(self._path(step.number, SCORES), index + b"".join(parts))
        # last: where there are labels, the step is done
        write_bytes(self._path(step.number, LABELS), _packed(piece.label_X))

    def labels(self, region: Region) -> NDArray[np.uint8]:
        """(*region)."""
        label_X = np.zeros(region.shape, np.uint8)
        for number, there, here in self._touching(region):
            label_X[here] = self._piece(number, -1)[there]
        return label_X

    def probabilities(self, region: Region) -> NDArray[np.float32]:
        """(classes, *region)."""
        scores_KX = np.zeros((self._classes, *region.shape), np.float32)
        for number, there, here in self._touching(region):
            for k in range(self._classes):
                scores_KX[k][here] = self._piece(number, k)[there]
        return scores_KX

    def _touching(self, region: Region) -> Iterator[tuple[int, tuple[slice, ...], tuple[slice, ...]]]:
        """(step, where in its piece, where in the region) of all pieces that touch a region."""
        starts, stops = self._places[:, 0], self._places[:, 1]
        touching = ((starts < region.stop) & (stops > region.start)).all(1)
        for number in np.flatnonzero(touching).tolist():
            own = self._region(number)
            part = own.intersect(region)
            yield number, part.within(own).slices, part.within(region).slices

    def _piece(self, number: int, k: int) -> NDArray[Any]:
        """The labels (k = -1) or the probabilities of class k of a step."""
        if (number, k) in self._unpacked:
            self._unpacked.move_to_end((number, k))
            return self._unpacked[number, k]
        path = self._path(number, LABELS if k < 0 else SCORES)
        try:
            content = path.read_bytes() if k < 0 else self._of_class(path, k)
            flat = np.frombuffer(imagecodecs.zstd_decode(content), np.uint8 if k < 0 else np.float16)
            piece: NDArray[Any] = flat.reshape(self._region(number).shape)
        except (OSError, ValueError, struct.error, RuntimeError) as error:
            raise MachineError(
                f"{path}: what was kept of this prediction is damaged ({error}); remove {self._folder} and run the "
                "same command again"
            ) from error
        self._unpacked[number, k] = piece
        self._held += piece.nbytes
        while self._held > KEPT and len(self._unpacked) > 1:
            self._held -= self._unpacked.popitem(last=False)[1].nbytes
        return piece

    def _of_class(self, path: Path, k: int) -> bytes:
        with path.open("rb") as file:
            sizes = struct.unpack(f"<{self._classes}Q", file.read(8 * self._classes))
            file.seek(sum(sizes[:k]), 1)
            return file.read(sizes[k])

    def _path(self, number: int, what: str) -> Path:
        return self._folder / f"{number:06d}.{what}"

    def _region(self, number: int) -> Region:
        start, stop = self._places[number].tolist()
        return Region(tuple(start), tuple(stop))

    def _size(self, number: int) -> int:
        return int(np.prod(self._places[number, 1] - self._places[number, 0]))


def _packed(array: NDArray[Any]) -> bytes:
    return bytes(imagecodecs.zstd_encode(np.ascontiguousarray(array).tobytes(), level=_LEVEL))
