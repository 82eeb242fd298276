"""How pixels become the network's input, as settings: a part of every plan."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from unetkit.core.config import Config
from unetkit.data.prepared.grid import DIRECTIONS
from unetkit.data.prepared.resample import Kernel


class PreparePlan(Config):
    """How pixels become the network's input.

    colour: "grey" (1 channel, colours by luminance), "rgb" (3 channels, grey repeated), "bands" (as they are), or
    "tokens": whole numbers from 0 that stand for things (characters), never normalised.
    normalise: "image" (each by its own statistics), "set" (by `mean` … `high` below, one value per channel), "none".
    method: "zscore"; "percentile": clipped to the `clip` percentiles first, for 16 bits and floats with outliers;
    "window": the same, measured on the foreground of the set alone, for scales that mean something (Hounsfield units;
    Isensee 2021, nnU-Net, online methods).
    spacing: what images are resampled to, one length per axis in `unit`; None: they stay. unit: "": that of the images.
    orientation: where the axes of volumes shall point ("RAS": right, front, top); "": they stay as they are.
    thick: how images are resampled along an axis of far longer voxels than the others.
    """

    channels: int = Field(1, ge=1)
    colour: Literal["grey", "rgb", "bands", "tokens"] = "grey"
    normalise: Literal["image", "set", "none"] = "image"
    method: Literal["zscore", "percentile", "window"] = "zscore"
    clip: tuple[float, float] = (0.5, 99.5)
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    spacing: tuple[float, ...] | None = None
    unit: str = ""
    orientation: str = ""
    thick: Kernel = "nearest"

    @property
    def clips(self) -> bool:
        """Whether values are cut to a range."""
        return self.method != "zscore"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.colour != "bands" and self.channels != (needed := 3 if self.colour == "rgb" else 1):
            raise ValueError(f"colour '{self.colour}' goes with channels {needed}, not {self.channels}")
        if self.colour == "tokens" and self.normalise != "none":
            raise ValueError(f"tokens are numbers of things: normalise must be none, not {self.normalise}")
        if self.colour == "tokens" and self.spacing is not None:
            raise ValueError("tokens are numbers of things, and cannot be resampled: spacing must be none")
        if self.method == "window" and self.normalise == "image":
            raise ValueError("method 'window' is one window for all images: it goes with normalise 'set', not 'image'")
        if self.spacing is not None and not all(0 < v < float("inf") for v in self.spacing):
            raise ValueError(f"spacing holds one length above 0 per axis, not {self.spacing}")
        named = [directions for code in self.orientation for directions in DIRECTIONS if code in directions]
        if self.orientation and (len(self.orientation) != 3 or sorted(named) != sorted(DIRECTIONS)):
            raise ValueError(
                f"orientation is three letters, one of L or R, one of P or A, one of I or S, such as RAS, not "
                f"'{self.orientation}'"
            )
        if not 0 <= self.clip[0] < self.clip[1] <= 100:
            raise ValueError(f"clip holds two percentiles in ascending order between 0 and 100, not {self.clip}")
        for name in ("mean", "std", "low", "high"):
            if len(values := getattr(self, name)) not in (0, self.channels):
                raise ValueError(f"{name} needs one value per channel ({self.channels}), not {len(values)}")
        return self
