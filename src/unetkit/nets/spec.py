"""NetSpec: a U-Net as a value. Everything else in this folder is derived from it. Does not import torch."""

from __future__ import annotations

from typing import Any, Literal, Self, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator

from unetkit.core.config import Config
from unetkit.core.errors import PlanError, SpecError, nearest

Block = Literal["plain", "residual"]
Skip = Literal["concat", "add", "none"]
Topology = Literal["chain"]
Down = Literal["max", "average", "strided"]
Up = Literal["transposed", "linear", "nearest", "shuffle"]
Norm = Literal["batch", "instance", "group", "none"]
Activation = Literal["relu", "leaky_relu", "gelu", "silu"]
Padding = Literal["same", "reflect", "replicate", "valid"]

# One number for all, one per level, or one per level and axis.
PerLevel = int | tuple[int | tuple[int, ...], ...]

_NAMED: dict[str, tuple[str, ...]] = {
    "block": get_args(Block),
    "skip": get_args(Skip),
    "topology": get_args(Topology),
    "down": get_args(Down),
    "up": get_args(Up),
    "norm": get_args(Norm),
    "activation": get_args(Activation),
    "padding": get_args(Padding),
}


class NetSpec(Config):
    """A U-Net: an encoder, a decoder, and skips between equal levels. Level 0 is the finest.

    ndim            spatial axes: 1 (signals), 2 (images), 3 (volumes)
    in_channels     channels of the input
    classes         channels of the logits
    channels        width of each level, finest first; their number is the number of levels
    kernels         convolution kernel, odd: one number, one per level, or one per level and axis
    strides         reduction between neighbouring levels: one number, one per transition, or per transition and axis
    stem_stride     1, 2 or 4: a strided convolution before the first level, and a learned upsampling (convolution and
                    pixel shuffle) after the last: fewer pixels at the finest level, for short budgets
    blocks          convolutions per level: one number or one per level
    block           plain: convolution, norm, activation, repeated; residual: the same around an identity (a 1×1
                    projection where the width changes), activation after the sum
    skip            concat (Ronneberger 2015), add, or none
    topology        chain: the U of Ronneberger 2015
    down            max or average pooling, or a strided convolution whose kernel is its stride
    up              transposed: kernel = stride (Ronneberger 2015); linear or nearest interpolation after a 1×1
                    convolution; shuffle: sub-pixel convolution (Shi 2016)
    norm            batch, instance, group (8 groups where they divide the width), or none (convolutions get a bias)
    activation      after every norm
    padding         same: zeros; reflect; replicate; valid: none, and the output is smaller (Ronneberger 2015)
    dropout         probability, at the end of the two coarsest encoder levels (Ronneberger 2015, section 3.1)
    deep_supervision  in training mode the network also gives logits of the coarser decoder levels
    """

    ndim: Literal[1, 2, 3] = 2
    in_channels: int = Field(default=1, ge=1)
    classes: int = Field(default=2, ge=1)
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    kernels: PerLevel = 3
    strides: PerLevel = 2
    stem_stride: Literal[1, 2, 4] = 1
    blocks: int | tuple[int, ...] = 2
    block: Block = "plain"
    skip: Skip = "concat"
    topology: Topology = "chain"
    down: Down = "max"
    up: Up = "transposed"
    norm: Norm = "batch"
    activation: Activation = "relu"
    padding: Padding = "same"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    deep_supervision: bool = False

    @field_validator(*_NAMED, mode="before")
    @classmethod
    def _known_name(cls, value: Any, info: ValidationInfo) -> Any:
        names = _NAMED[str(info.field_name)]
        if value not in names:
            raise ValueError(f"must be one of {', '.join(names)}{nearest(str(value), names)}")
        return value

    @field_validator("channels")
    @classmethod
    def _some_levels(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if not value:
            raise ValueError("at least one level is needed, for example (16, 32, 64)")
        if min(value) < 1:
            raise ValueError("every level needs at least one channel")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        levels = len(self.channels)
        _check_per_level("kernels", self.kernels, levels, self.ndim, "levels")
        _check_per_level("strides", self.strides, levels - 1, self.ndim, "transitions between levels")
        for level in range(levels):
            if any(k % 2 == 0 for k in self.kernel(level)):
                raise ValueError(
                    f"kernels: {self.kernel(level)} at level {level} is even; kernels must be odd (1, 3, 5, …)"
                )
        if not isinstance(self.blocks, int) and len(self.blocks) != levels:
            raise ValueError(f"blocks: {len(self.blocks)} numbers were given for {levels} levels")
        if min(self.convolutions(level) for level in range(levels)) < 1:
            raise ValueError("blocks: every level needs at least one convolution")
        if self.padding == "valid" and self.stem_stride > 1:
            raise ValueError("stem_stride: padding 'valid' works without a stem; use stem_stride 1 or padding 'same'")
        if self.deep_supervision and levels < 3:
            raise ValueError(f"deep_supervision: needs three levels or more, channels has {levels}")
        return self

    @classmethod
    def make(cls, values: dict[str, Any], source: str = "NetSpec") -> Self:
        """As `parse`, for Python callers that speak of networks: raises SpecError in place of PlanError."""
        try:
            return cls.parse(values, source)
        except PlanError as error:
            raise SpecError(str(error)) from None

    def replace(self, changes: dict[str, Any]) -> Self:
        """A checked copy with some fields changed. Raises SpecError: unknown field, wrong value."""
        return self.make({**self.model_dump(), **changes})

    @property
    def levels(self) -> int:
        """Number of levels, the bottom included."""
        return len(self.channels)

    def kernel(self, level: int) -> tuple[int, ...]:
        """Convolution kernel of a level, one number per axis."""
        return _at(self.kernels, level, self.ndim)

    def stride(self, level: int) -> tuple[int, ...]:
        """Reduction between `level` and `level + 1`, one number per axis."""
        return _at(self.strides, level, self.ndim)

    def convolutions(self, level: int) -> int:
        """Number of convolutions in the encoder block and in the decoder block of a level."""
        return self.blocks if isinstance(self.blocks, int) else self.blocks[level]


def _at(values: PerLevel, level: int, ndim: int) -> tuple[int, ...]:
    value = values if isinstance(values, int) else values[level]
    return (value,) * ndim if isinstance(value, int) else value


def _check_per_level(field: str, values: PerLevel, count: int, ndim: int, what: str) -> None:
    if not isinstance(values, int) and len(values) != count:
        raise ValueError(
            f"{field}: {len(values)} entries were given for {count} {what}; give {count}, or one number for all"
        )
    for level in range(count):
        entry = _at(values, level, ndim)
        if len(entry) != ndim:
            raise ValueError(
                f"{field}: {entry} at position {level} has {len(entry)} numbers, the network has {ndim} axes"
            )
        if min(entry) < 1:
            raise ValueError(f"{field}: {entry} at position {level} must be 1 or more")
