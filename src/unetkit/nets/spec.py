"""NetSpec: a U-Net as a value. Everything else in this folder is derived from it. Does not import torch."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import Field, PlainSerializer, ValidationInfo, field_validator, model_validator

from unetkit.core.config import Config
from unetkit.core.errors import PlanError, SpecError, nearest

# Code of the user's own, as files and flags name it.
REFERENCE = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")

Norm = Literal["batch", "instance", "group", "layer", "none"]
Activation = Literal["relu", "leaky_relu", "prelu", "elu", "gelu", "silu"]
Padding = Literal["same", "reflect", "replicate", "valid"]
DropoutAt = Literal["bottom", "blocks", "convolutions"]
DropoutOf = Literal["values", "maps"]
UpWidth = Literal["skip", "same"]

# One number for all, one per level, or one per level and axis.
PerLevel = int | tuple[int | tuple[int, ...], ...]

# The parts, by name; `blocks.BLOCKS` and its neighbours hold the functions under the same names (a test compares them).
PARTS: dict[str, tuple[str, ...]] = {
    "block": (
        "plain",
        "tapered",
        "doubling",
        "residual",
        "preactivation",
        "basic",
        "bottleneck",
        "squeeze-excite",
        "vnet",
        "dense",
        "recurrent",
        "recurrent-residual",
        "convnext",
        "separable",
        "inception",
        "multires",
    ),
    "skip": ("concat", "add", "attention", "attention-up", "fusion", "none"),
    "topology": ("chain", "nested", "full-scale", "scores"),
    "down": ("max", "average", "strided", "blur", "transition", "block"),
    "up": (
        "transposed",
        "transposed-unit",
        "overlapping",
        "overlapping-unit",
        "linear",
        "nearest",
        "interpolate",
        "corners",
        "shuffle",
        "unpool",
    ),
    "bottleneck": ("convolution", "pyramid", "transformer"),
    "head": ("point", "conv", "block"),
}
PARTS["decoder_block"] = PARTS["block"]

# Fields that a topology has no use for: setting one would do nothing, and is refused.
_OWN_WAY = ("skip", "up", "up_width", "decoder_block", "decoder_blocks", "decoder_channels")
_UNUSED = {"full-scale": (*_OWN_WAY, "up_bias"), "scores": (*_OWN_WAY, "head")}

_NAMED: dict[str, tuple[str, ...]] = {
    "norm": get_args(Norm),
    "activation": get_args(Activation),
    "padding": get_args(Padding),
    "dropout_at": get_args(DropoutAt),
    "dropout_of": get_args(DropoutOf),
    "up_width": get_args(UpWidth),
}


def _reference(part: Any) -> Any:
    """What stands for a part in a file: its name, or `module:name` of the user's own."""
    return part if part is None or isinstance(part, str) else reference(part)


def reference(part: Callable[..., Any]) -> str:
    """`module:name` of a callable: how a file names it. A `functools.partial` is named after what it wraps."""
    named: Any = getattr(part, "func", part)
    return f"{getattr(named, '__module__', '')}:{getattr(named, '__qualname__', type(named).__qualname__)}"


# The name of a part, `module:name` of the user's own (inert until `parts.trust`), or the user's own callable.
Part = Annotated[Any, PlainSerializer(_reference, when_used="json")]


class Head(Config):
    """One task of several: `channels` of the logits, in the order of the heads.

    classes   one class per pixel (softmax)
    regions   overlapping regions, each yes or no (sigmoid)
    values    numbers, such as distances (as they are)
    """

    name: str
    channels: int = Field(ge=1)
    kind: Literal["classes", "regions", "values"] = "classes"


class NetSpec(Config):
    """A U-Net: an encoder, a decoder, and skips between equal levels. Level 0 is the finest.

    ndim            spatial axes: 1 (signals), 2 (images), 3 (volumes)
    in_channels     channels of the input
    classes         channels of the logits, all heads together
    heads           what the logits mean: none given is one head of softmax classes
    vocabulary      above 0: the input is integers below this (tokens), embedded before the first level
    channels        width of each level, finest first; their number is the number of levels
    decoder_channels  width of each decoder level, finest first, where it is not that of the encoder (one fewer entry)
    kernels         convolution kernel, odd: one number, one per level, or one per level and axis
    strides         reduction between neighbouring levels: one number, one per transition, or per transition and axis
    stem            above 0: a convolution of this width before the first level
    stem_stride     1, 2 or 4: a strided convolution before the first level, and a learned upsampling (convolution and
                    pixel shuffle) after the last: fewer pixels at the finest level, for short budgets
    blocks          how often the unit of the block repeats (its convolutions, or its residual units): one number or one
                    per level
    decoder_blocks  the same in the decoder (one entry fewer), where it differs
    block           what happens in a level; a name of `blocks.BLOCKS`, each with its paper, or a callable of yours
    decoder_block   the same in the decoder, where it differs
    bias            whether convolutions have one; unless said, where no norm follows
    recurrences     steps of recurrent blocks after the first (t in Alom 2018)
    skip            how encoder and decoder meet: a name of `skips.SKIPS`, or a callable of yours
    topology        which levels are joined: a name of `topology.TOPOLOGIES`, or a whole network of yours
    prune           nested topology: use only the first `prune` columns (0: all; Zhou 2018, section 3.3)
    down            a name of `downs.DOWNS`, or block: the first convolution of the block has the stride
    up              a name of `ups.UPS`
    up_bias         whether transposed convolutions have a bias
    up_width        skip: going up changes the width to that of the level which it reaches; same: it keeps the width
    bottleneck      what follows the coarsest block: convolution (nothing more), pyramid, transformer
    bottleneck_layers  of the transformer
    head            point: 1×1 convolution; conv: with the kernel of the finest level; block: both, norm and activation
                    between
    norm            batch, instance, group (8 groups where they divide the width), layer (over the channels of every
                    pixel), or none
    norm_scale      whether norms learn a scale as well as a shift
    activation      after every norm
    padding         same: zeros; reflect; replicate; valid: none, and the output is smaller (Ronneberger 2015)
    dropout         probability
    dropout_at      bottom: at the end of the two coarsest encoder levels (Ronneberger 2015, section 3.1); blocks: after
                    every block; convolutions: after every activation in a block
    dropout_of      values: each by itself; maps: whole feature maps (Tompson 2015, spatial dropout)
    deep_supervision  in training mode the network also gives logits of the other decoder levels
    """

    ndim: Literal[1, 2, 3] = 2
    in_channels: int = Field(default=1, ge=1)
    classes: int = Field(default=2, ge=1)
    heads: tuple[Head, ...] = ()
    vocabulary: int = Field(default=0, ge=0)
    channels: tuple[int, ...] = (16, 32, 64, 128, 256)
    decoder_channels: tuple[int, ...] | None = None
    kernels: PerLevel = 3
    strides: PerLevel = 2
    stem: int = Field(default=0, ge=0)
    stem_stride: Literal[1, 2, 4] = 1
    blocks: int | tuple[int, ...] = 2
    decoder_blocks: int | tuple[int, ...] | None = None
    block: Part = "plain"
    decoder_block: Part = None
    bias: bool | None = None
    recurrences: int = Field(default=2, ge=1)
    skip: Part = "concat"
    topology: Part = "chain"
    prune: int = Field(default=0, ge=0)
    down: Part = "max"
    up: Part = "transposed"
    up_bias: bool = True
    up_width: UpWidth = "skip"
    bottleneck: Part = "convolution"
    bottleneck_layers: int = Field(default=4, ge=1)
    head: Part = "point"
    norm: Norm = "batch"
    norm_scale: bool = True
    activation: Activation = "relu"
    padding: Padding = "same"
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0)
    dropout_at: DropoutAt = "bottom"
    dropout_of: DropoutOf = "values"
    deep_supervision: bool = False

    @field_validator(*PARTS, mode="before")
    @classmethod
    def _known_part(cls, value: Any, info: ValidationInfo) -> Any:
        names = PARTS[str(info.field_name)]
        if value is None and info.field_name == "decoder_block":
            return value
        if isinstance(value, str):
            if value in names or REFERENCE.fullmatch(value):
                return value
        elif callable(value):
            if hasattr(value, "state_dict") and not isinstance(value, type):
                raise ValueError(
                    f"a network or layer that is built already ({type(value).__name__}) cannot be copied and trained "
                    "anew; give its class, or a function that builds it"
                )
            return value
        raise ValueError(
            f"must be one of {', '.join(names)}, or code of your own as module:name or a callable"
            f"{nearest(str(value), names)}"
        )

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
        for name, given, count in (
            ("blocks", self.blocks, levels),
            ("decoder_blocks", self.decoder_blocks, levels - 1),
            ("decoder_channels", self.decoder_channels, levels - 1),
        ):
            numbers = given if isinstance(given, tuple) else () if given is None else (given,)
            if isinstance(given, tuple) and len(given) != count:
                raise ValueError(f"{name}: {len(given)} numbers were given for {count} levels")
            if min(numbers, default=1) < 1:
                raise ValueError(f"{name}: every level needs at least one (given: {given})")
        if self.padding == "valid" and self.stem_stride > 1:
            raise ValueError("stem_stride: padding 'valid' works without a stem; use stem_stride 1 or padding 'same'")
        if self.padding == "valid" and self.down == "block":
            raise ValueError("down: 'block' needs padded convolutions; use down 'max' or padding 'same'")
        if self.padding == "valid" and self.topology not in ("chain",):
            raise ValueError(f"topology: '{_reference(self.topology)}' needs padded convolutions; use padding 'same'")
        if self.up == "unpool" and self.down != "max":
            raise ValueError("up: 'unpool' goes back to where 'max' pooling took its values; use down 'max'")
        if self.up == "unpool" and self.padding == "valid":
            raise ValueError("up: 'unpool' needs padded convolutions; use up 'transposed' or padding 'same'")
        if self.up == "unpool" and self.topology != "chain":
            raise ValueError("up: 'unpool' works in topology 'chain', where every level has its own pooling")
        if self.topology in ("nested", "scores") and self.stem_stride > 1:
            raise ValueError(f"stem_stride: topology '{self.topology}' works without a stem; use stem_stride 1")
        if self.topology == "nested" and levels < 2:
            raise ValueError("topology: 'nested' joins two levels or more, channels has 1; use topology 'chain'")
        if self.prune and self.topology != "nested":
            raise ValueError("prune: only topology 'nested' has columns to leave out; use prune 0")
        if self.prune >= levels:
            raise ValueError(
                f"prune: there are {levels - 1} columns, not {self.prune}; give a number below {levels}, or 0 for all"
            )
        for name in _UNUSED.get(self.topology, ()) if isinstance(self.topology, str) else ():
            if getattr(self, name) != type(self).model_fields[name].default:
                raise ValueError(f"{name}: topology '{self.topology}' has no use for it; leave it out")
        if self.head != "point" and self.stem_stride > 1:
            raise ValueError("head: behind a stem stride it is a convolution and a pixel shuffle; use head 'point'")
        if self.vocabulary and (self.in_channels != 1 or self.stem_stride > 1):
            raise ValueError("vocabulary: sequences of integers have one channel (in_channels 1) and stem_stride 1")
        if self.heads and sum(head.channels for head in self.heads) != self.classes:
            total = sum(head.channels for head in self.heads)
            raise ValueError(
                f"heads: they have {total} channels together, but classes is {self.classes}; make them equal"
            )
        if len({head.name for head in self.heads}) < len(self.heads):
            raise ValueError("heads: two have the same name")
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

    def repeats(self, level: int, decoder: bool = False) -> int:
        """How often the unit of the block repeats in the encoder, or in the decoder, of a level."""
        given = self.decoder_blocks if decoder and self.decoder_blocks is not None else self.blocks
        return given if isinstance(given, int) else given[level]

    def decoder_width(self, level: int) -> int:
        """Width of the decoder block of a level."""
        return (self.decoder_channels or self.channels)[level]

    def widths(self, factor: float) -> Self:
        """A copy with every width multiplied; rounded to a multiple of 8 where it is 8 or more, else at least 1."""

        def scaled(n: int) -> int:
            m = n * factor
            return max(1, round(m)) if m < 8 else round(m / 8) * 8

        changes: dict[str, Any] = {"channels": tuple(map(scaled, self.channels))}
        if self.decoder_channels is not None:
            changes["decoder_channels"] = tuple(map(scaled, self.decoder_channels))
        if self.stem:
            changes["stem"] = scaled(self.stem)
        return self.replace(changes)


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
