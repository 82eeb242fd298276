"""The label of a case as training sees it: class indices on the grid of the prepared image, read by region."""

from __future__ import annotations

from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.legend import Legend
from unetkit.data.masks import read_label
from unetkit.data.prepare import PreparePlan


class LabelReader:
    """Class indices of a case, uint8. own_shape: size of the mask; shape: that of the prepared image.

    Raises DataError as `read_label`.
    """

    def __init__(self, case: Case, legend: Legend, plan: PreparePlan) -> None:  # noqa: ARG002
        self._label_X = read_label(case, legend)[0]
        self.own_shape = self.shape = self._label_X.shape

    @property
    def whole(self) -> Region:
        """The region of all pixels."""
        return Region.of(self.shape)

    def read(self, region: Region) -> NDArray[np.uint8]:
        """Class indices of a region."""
        return self._label_X[region.slices]

    def close(self) -> None:
        """Let go of the files."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
