"""Named networks: a paper, or a size that has proven itself, as a value. Does not import torch."""

from __future__ import annotations

from dataclasses import dataclass

from unetkit.core.errors import SpecError, nearest
from unetkit.nets.geometry import geometry
from unetkit.nets.spec import NetSpec


@dataclass(frozen=True)
class Preset:
    """A named spec, where it comes from, and what is unusual about it. `year` 0: not from a paper."""

    name: str
    spec: NetSpec
    paper: str
    year: int
    note: str

    @property
    def parameters(self) -> int:
        """Learned numbers."""
        return geometry(self.spec).parameters


_TABLE = (
    Preset(
        "unet2015",
        NetSpec(channels=(64, 128, 256, 512, 1024), norm="none", padding="valid", dropout=0.5),
        "Ronneberger, Fischer, Brox: U-Net: Convolutional Networks for Biomedical Image Segmentation",
        2015,
        "unpadded convolutions, so the output is smaller than the input: 572 × 572 gives 388 × 388; no norm; 23 "
        "convolutional layers; dropout at the end of the contracting path",
    ),
    Preset(
        "unet",
        NetSpec(channels=(32, 64, 128, 256, 512)),
        "Ronneberger et al. 2015, in the form of today's textbooks",
        2015,
        "padded convolutions, so the output is as large as the input; batch norm; half the widths of the paper",
    ),
    Preset(
        "resunet-small",
        NetSpec(channels=(16, 32, 64, 128, 256), block="residual"),
        "plain U-Net with the basic residual blocks of He et al. 2016",
        2016,
        "small: trains in minutes on a laptop",
    ),
)

PRESETS: dict[str, Preset] = {entry.name: entry for entry in _TABLE}


def preset(name: str) -> Preset:
    """The preset of that name. Raises SpecError naming the nearest."""
    if name not in PRESETS:
        hint = nearest(name, PRESETS)
        raise SpecError(f"there is no network called '{name}'{hint}; the presets are {', '.join(PRESETS)}")
    return PRESETS[name]
