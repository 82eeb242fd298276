"""The label of a case as training sees it: class indices on the grid of the prepared image, read by region."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from unetkit.core.closing import Closing
from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.case import IGNORE, Case
from unetkit.data.labels.legend import Legend
from unetkit.data.labels.masks import OpenLabel
from unetkit.data.prepared.prepare import CaseReader
from unetkit.data.sizes import extent, size


def label_of(case: Case, legend: Legend, image: CaseReader) -> LabelReader | NoLabel:
    """The label of a case over its prepared `image`; of a case without one, what says so. Raises as `LabelReader`."""
    return NoLabel(image) if case.label is None else LabelReader(case, legend, image)


class NoLabel(Closing):
    """What stands for the label of an image without one: 0 everywhere, IGNORE where a map holds nothing."""

    def __init__(self, image: CaseReader) -> None:
        self._image, self.shape = image, image.shape

    @property
    def whole(self) -> Region:
        """The region of all prepared pixels."""
        return Region.of(self.shape)

    def read(self, region: Region) -> NDArray[np.uint8]:
        """0 or IGNORE of a region of the prepared image."""
        grid = self._image.grid
        own = grid.own_for(region)
        label_X = np.zeros(own.shape, np.uint8)
        if (something_X := self._image.valid(own)) is not None:
            label_X[~something_X] = IGNORE
        return grid.bring_label(label_X, own, region, False)


class LabelReader(Closing):
    """Class indices of a case, uint8, over its prepared `image` (which stays open as long as this is used).

    Where a map holds nothing (nodata), nothing is learnt: there the label is IGNORE. shape: of the prepared image.
    Raises DataError as `OpenLabel`, and where mask and image are not of one size.
    """

    def __init__(self, case: Case, legend: Legend, image: CaseReader) -> None:
        self._label, self._image, self._bits = OpenLabel(case, legend), image, legend.regions
        self.shape = image.shape
        if self._label.shape != image.info.shape:
            self.close()
            raise DataError(
                f"{case.mask_where}: {extent(self._label.shape)}, but its image {case.where.name} has"
                f" {size(image.info.shape)}; make them equal"
            )

    @property
    def whole(self) -> Region:
        """The region of all prepared pixels."""
        return Region.of(self.shape)

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Class indices of a region of the prepared image."""
        grid = self._image.grid
        own = grid.own_for(region)
        label_X = self._label.read(own)
        if (something_X := self._image.valid(own)) is not None:
            label_X = np.where(something_X, label_X, np.uint8(IGNORE))
        return grid.bring_label(label_X, own, region, self._bits)

    def close(self) -> None:
        """Let go of the files."""
        self._label.close()
