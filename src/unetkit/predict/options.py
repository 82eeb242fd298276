"""What a user may choose about a prediction. The engine's choices and the files' choices are separate values."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from unetkit.core.config import Config
from unetkit.data.formats.base import Reading
from unetkit.predict.calibration import Calibration
from unetkit.predict.decide import Rule

Side = Annotated[int, Field(ge=1)]


class PredictOptions(Config):
    """How images are read, and how the network is run over them. The defaults suit every machine.

    precision: `auto` times bf16 against fp32 on this machine and takes the faster. tta: average over flips and turns
    (8 × the time in 2-D); flip, turn: those that training showed (flip: one for each axis; None: all). memory: bytes
    that the whole process may hold (on a GPU: of its memory); tiles are chosen to fit; None: a quarter of what is free,
    beside what it holds already. tile: pixels read at once along each axis, instead of what memory allows. device:
    `auto`, `cpu`, `cuda`, `cuda:1`, `mps`. adapt: to the images of a command together, see `predict.adapt`.
    calibration: of the probabilities, before anything is decided; rule: how labels are decided from them. axes, level,
    pixel_size: as in `data.formats.Reading`.
    """

    precision: Literal["auto", "fp32", "bf16"] = "auto"
    layout: Literal["auto", "channels_last", "contiguous"] = "auto"
    device: str = "cpu"
    tta: bool = False
    flip: tuple[bool, ...] | None = None
    turn: bool = True
    memory: Annotated[int, Field(ge=1)] | None = None
    tile: Annotated[tuple[Side, ...], Field(min_length=1, max_length=3)] | None = None
    adapt: Literal["none", "norm", "entropy"] = "none"
    calibration: Calibration = Calibration()
    rule: Rule = Rule()
    axes: str = ""
    level: Annotated[int, Field(ge=0)] = 0
    pixel_size: Annotated[float, Field(gt=0)] | None = None

    @property
    def reading(self) -> Reading:
        """How the files are read where they leave a choice."""
        return Reading(axes=self.axes, level=self.level, pixel_size=self.pixel_size)


class OutputOptions(Config):
    """Which files a prediction writes beside the masks, and whether it redoes what is there.

    format: suffix of the masks (".nrrd", ".ome.tif", ".zarr"); None: that of the image, or the nearest that can be
    written. polygons: outlines of areas. measurements: a table of objects. intervals: of signals. review: the table of
    what a person should look at, of models that can tell.
    """

    probabilities: bool = False
    overlay: bool = False
    overwrite: bool = False
    format: str | None = None
    polygons: Literal["geojson", "gpkg"] | None = None
    measurements: Literal["csv", "parquet"] | None = None
    intervals: bool = False
    review: bool = True

    @field_validator("format")
    @classmethod
    def _is_suffix(cls, value: str | None) -> str | None:
        return value if value is None or value.startswith(".") else f".{value}"
