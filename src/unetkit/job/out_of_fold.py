"""Masks of the cases that were learnt from, each predicted by a network that never saw it: RUN/out-of-fold/."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.core.events import Event, Saved, Warned
from unetkit.data.case import Case
from unetkit.data.labels.legend import Legend
from unetkit.data.source import open_case
from unetkit.predict.image import finished_of
from unetkit.predict.options import OutputOptions
from unetkit.predict.outputs import Job, plan_jobs
from unetkit.predict.products import write_products

FOLDER = "out-of-fold"
# Bytes that writing may hold.
MEMORY = 1 << 28


class OutOfFold:
    """Writes masks with the legend's own values, in the format of their image, as `predict` does.

    legend: the network's. What cannot be written (a format that does not hold it) is left out, and remarked at the end:
    a training is not lost for it. Raises MachineError: the disk refuses.
    """

    def __init__(self, run: Path, legend: Legend, cases: Sequence[Case]) -> None:
        self._legend, self._problems, self._folder = legend.plain, list[str](), run / FOLDER
        self._jobs: dict[str, Job] = {}
        try:
            self._jobs = {job.name: job for job in plan_jobs(cases, self._folder, legend, OutputOptions())}
        except DataError as error:
            self._problems.append(str(error))

    def write(self, case: Case, label_X: NDArray[np.uint8], ids_X: NDArray[np.uint32] | None = None) -> None:
        """Write one case: its label in the classes of masks, and its objects where they are told apart."""
        job = self._jobs.get(case.id)
        if job is None:
            return
        try:
            with open_case(case) as source:
                finished = finished_of(self._legend, lambda region: label_X[region.slices], source.info, source)
                if ids_X is not None:
                    count = int(ids_X.max(initial=0))
                    finished = replace(finished, objects=lambda region: ids_X[region.slices], count=count)
                for _ in write_products(job, finished, MEMORY):
                    pass
        except DataError as error:
            self._problems.append(str(error))

    def remarks(self) -> Iterator[Event]:
        """Where the masks are, and what could not be written."""
        yield Saved(path=str(self._folder), what="masks of all cases, each by the network that never saw it")
        for problem in self._problems:
            yield Warned(message=f"a mask in {FOLDER}/ is left out: {problem}")
