"""What is predicted: an image that is read by regions, prepared as the network was trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.prepared.grid import Grid

Float: TypeAlias = NDArray[np.float32]


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


def grid_of(reader: Reader) -> Grid:
    """How the image of a reader lies over its file's; the same where it does not say."""
    found = getattr(reader, "grid", None)
    return found if isinstance(found, Grid) else Grid.same(reader.shape)


def keeps(reader: Reader) -> int:
    """Bytes that a reader may come to keep in memory as it is read, where it says so."""
    return int(getattr(reader, "grows", 0))


def mirrored(index: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Pixel numbers beyond an axis of `length` pixels, reflected into it; the edge pixel is not repeated."""
    period = max(1, 2 * (length - 1))
    folded = index % period
    return np.minimum(folded, period - folded) if length > 1 else np.zeros_like(index)
