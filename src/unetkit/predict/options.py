"""What a user may choose about a prediction. The engine's choices and the files' choices are separate values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from unetkit.core.config import Config

Side = Annotated[int, Field(ge=1)]


class PredictOptions(Config):
    """How the network is run over an image. The defaults suit every machine.

    precision: `auto` times bf16 against fp32 on this machine and takes the faster. tta: average over flips and turns
    (8 × the time in 2-D); flip, turn: those that training showed (flip: one for each axis; None: all). memory: bytes
    that the whole process may hold (on a GPU: of its memory); tiles are chosen to fit; None: half of what is free, 1.5
    GB at most on a CPU. tile: pixels read at once along each axis, instead of what memory allows. device: `auto`,
    `cpu`, `cuda`, `cuda:1`, `mps`. sure: of objects that were learnt with their borders (classes background, inside,
    border): the probability above which a pixel of an object is inside, else on its border; 0: the likeliest class.
    """

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    layout: Literal["auto", "channels_last", "contiguous"] = "auto"
    device: str = "cpu"
    tta: bool = False
    flip: tuple[bool, ...] | None = None
    turn: bool = True
    memory: Annotated[int, Field(ge=1)] | None = None
    sure: Annotated[float, Field(ge=0, lt=1)] = 0.0
    tile: Annotated[tuple[Side, ...], Field(min_length=1, max_length=3)] | None = None


class OutputOptions(Config):
    """Which files a prediction writes beside the label images, and whether it redoes what is there."""

    probabilities: bool = False
    overlay: bool = False
    overwrite: bool = False
