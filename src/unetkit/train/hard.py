"""Which cases are hard: the running loss of each beside that of all, and how much more often it is met for that."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

# How quickly the loss of all, and what is known of a case, follow a new patch.
FOLLOW_ALL, FOLLOW_CASE = 0.02, 0.2


class HardCases:
    """The running loss of every case as a share of the running loss of all at the same time: what was seen early, when
    every loss was large, does not look hard for it. Cases that were not seen yet count as neither hard nor easy."""

    def __init__(self, cases: int, power: float, most: float) -> None:
        """power, most: `sampling.hard` and `sampling.hard_most` of the plan."""
        self.power, self.most = power, most
        self.ratio_N = np.full(cases, np.nan)
        self.mean = float("nan")

    def note(self, numbers: Sequence[int], losses: Sequence[float]) -> None:
        """The losses of patches of these cases."""
        for number, loss in zip(numbers, losses, strict=True):
            self.mean = loss if np.isnan(self.mean) else self.mean + FOLLOW_ALL * (loss - self.mean)
            ratio = loss / self.mean if self.mean > 0 else 1.0
            before = 1.0 if np.isnan(self.ratio_N[number]) else self.ratio_N[number]
            self.ratio_N[number] = before + FOLLOW_CASE * (ratio - before)

    def factors(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        """How many times as often as otherwise each case (N,) is met: more often than the median case by its loss, but
        never more than `most` times, for what stays hard may be labelled wrongly, nor less than once in so many."""
        if np.isnan(self.ratio_N).all():
            return np.ones_like(self.ratio_N)
        # beside the median, not the mean, which one hopeless case would raise over all others
        beside = self.ratio_N / max(float(np.nanmedian(self.ratio_N)), 1e-12)
        beside[np.isnan(beside)] = 1.0
        return np.clip(np.maximum(beside, 0) ** self.power, 1 / self.most, self.most)

    def state(self) -> dict[str, Tensor]:
        """What a resumed run needs."""
        return {"ratio": torch.from_numpy(self.ratio_N.copy()), "mean": torch.tensor(self.mean, dtype=torch.float64)}

    def restore(self, state: dict[str, Tensor]) -> None:
        """Put back what `state` gave."""
        self.ratio_N, self.mean = state["ratio"].numpy().copy(), float(state["mean"])
