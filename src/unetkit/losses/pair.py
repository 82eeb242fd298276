"""A batch's logits beside its label: what the terms of a loss share, each part computed when a term first asks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from unetkit.losses.sums import IGNORE, Sums, count, region_targets, sums_of


@dataclass(frozen=True)
class Target:
    """What the logits speak of.

    classes: their number. weights: one per class (region), or None. regions: classes may overlap, labels are bit masks.
    background: the class that is where nothing is, or None. cells: the classes that are the inside of cells; empty: all
    but the background. spacing: lengths of a pixel along each axis, in units of the finest; empty: all alike.
    """

    classes: int
    weights: tuple[float, ...] | None = None
    regions: bool = False
    background: int | None = 0
    cells: tuple[int, ...] = ()
    spacing: tuple[float, ...] = ()

    @property
    def positive(self) -> int:
        """Of two classes the one that is there, and not the background."""
        return 0 if self.background == 1 else 1

    def counted(self, background: bool) -> tuple[int, ...]:
        """The classes over which a term takes its mean: all, or (background False) all but the background."""
        return tuple(k for k in range(self.classes) if background or self.regions or k != self.background)


class Pair:
    """Logits (B, K, *space) of any float type, and their label (B, *space), uint8 or int64: classes 0 … K−1, or bit
    masks of K ≤ 7 regions; `IGNORE` where nothing is known.

    stride: pixels of the full grid per pixel of these logits, along each axis; none: they are the full grid.
    Everything is float32 (float64 for float64 logits): bf16 sums of a million pixels would be noise.
    Raises ValueError: shapes that do not belong together, a label that is none of the classes.
    """

    def __init__(
        self, logits_BKX: Tensor, label_BX: Tensor, target: Target, stride: Sequence[float] | None = None
    ) -> None:
        if logits_BKX.ndim < 3 or label_BX.shape != (logits_BKX.shape[0], *logits_BKX.shape[2:]):
            raise ValueError(
                f"logits {tuple(logits_BKX.shape)} need a label of shape (B, *space), not {tuple(label_BX.shape)}"
            )
        if logits_BKX.shape[1] != target.classes:
            raise ValueError(f"logits {tuple(logits_BKX.shape)}: this loss is one of {target.classes} classes")
        self.target = target
        self.space = tuple(label_BX.shape[1:])
        lengths = target.spacing or (1.0,) * len(self.space)
        self.spacing = tuple(a * b for a, b in zip(lengths, stride or (1,) * len(self.space), strict=True))
        dtype = torch.promote_types(logits_BKX.dtype, torch.float32)
        # classes apart, pixels side by side: softmax over two or three interleaved values would be slow
        self.z_BKN = logits_BKX.to(dtype, memory_format=torch.contiguous_format).flatten(2)
        self.label_BN = label_BX.flatten(1)
        truth_BK, labelled_B = count(self.label_BN, target.classes, target.regions)
        self.truth_BK, self.labelled_B = truth_BK.to(dtype), labelled_B.to(dtype)

    @cached_property
    def weights(self) -> Tensor | None:
        """The weight of every class, (K,), where they are not all alike."""
        return None if self.target.weights is None else self.z_BKN.new_tensor(self.target.weights)

    @cached_property
    def sums(self) -> Sums:
        """The sums of one pass: what needs only these is quick."""
        return sums_of(self.z_BKN, self.label_BN, self.truth_BK, self.weights, self.target.regions)

    @cached_property
    def valid(self) -> Tensor:
        """1 where a pixel counts, 0 where it is ignored, (B, N)."""
        return (self.label_BN != IGNORE).to(self.z_BKN.dtype)

    @cached_property
    def index(self) -> Tensor:
        """The class of every pixel, (B, N) int64; 0 where it is ignored."""
        return self.label_BN.to(torch.int64) * (self.label_BN != IGNORE)

    @cached_property
    def truth(self) -> Tensor:
        """1 where the truth is class k, else 0, (B, K, N); 0 where it is ignored."""
        if self.target.regions:
            return region_targets(self.label_BN, self.target.classes).to(self.z_BKN.dtype)
        return torch.zeros_like(self.z_BKN).scatter_(1, self.index[:, None], self.valid[:, None])

    @cached_property
    def log_p(self) -> Tensor:
        """Logarithms of the probabilities of classes (of regions: that each is there), (B, K, N), with gradient."""
        return torch.nn.functional.logsigmoid(self.z_BKN) if self.target.regions else self.z_BKN.log_softmax(1)

    @cached_property
    def p(self) -> Tensor:
        """Probabilities, (B, K, N), with their gradient."""
        return self.z_BKN.sigmoid() if self.target.regions else self.z_BKN.softmax(1)

    def whole(self, values_BKN: Tensor) -> Tensor:
        """Values of pixels in a row, in their place in space again."""
        return values_BKN.reshape(*values_BKN.shape[:-1], *self.space)
