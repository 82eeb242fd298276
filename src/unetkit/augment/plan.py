"""The strengths of augmentation, as settings."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from unetkit.core.config import Config

Share = Field(default=0.0, ge=0, le=1)


class AugmentPlan(Config):
    """How far each random change may go; 0 (or False) turns it off. Intensities are in units of the normalised image,
    whose standard deviation is about one; lengths are in pixels of the image. A share is that of the samples.
    """

    flip: bool | tuple[bool, ...] = True
    """Mirror along each axis, every second sample; off where left and right differ in meaning. One for all, or one per
    axis."""
    turn: bool = True
    """Quarter turns in the plane of the last two axes; off where up and down differ in meaning."""
    aspect: tuple[float, ...] = ()
    """Lengths of a pixel along each axis, in units of the shortest (volumes of thick slices: 3, 1, 1): turns happen in
    space, not in the grid, and lengths below are in that unit. Empty: all alike."""
    fixed: tuple[int, ...] = ()
    """Axes, counted from 0, along which nothing is turned, scaled, slanted or bent (thick slices): only in the plane of
    the others, in all slices alike."""
    rotate: float = Field(default=180.0, ge=0, le=180)
    """Any angle between −rotate and +rotate degrees."""
    scale: float = Field(default=0.25, ge=0, le=1)
    """Zoom between e^−scale and e^+scale."""
    stretch: float = Field(default=0.08, ge=0, le=1)
    """Zoom that differs between the axes, between e^−stretch and e^+stretch."""
    shear: float = Field(default=0.0, ge=0, le=45)
    """Slant between −shear and +shear degrees, of every axis towards every other."""
    elastic: float = Field(default=6.0, ge=0)
    """Standard deviation of the largest elastic displacement, on a coarse grid (Ronneberger 2015, section 3.1)."""
    elastic_spacing: int = Field(default=32, ge=4)
    """Pixels between the points of the coarse grid (the paper divides the image in 3 × 3; smaller follows texture)."""
    paste: float = Share
    """Share into which whole objects of another patch are pasted, image and label alike (Ghiasi et al. 2021)."""
    paste_most: int = Field(default=4, ge=1, le=64)
    """Of those samples: objects that are pasted, at most."""
    paste_classes: tuple[int, ...] = ()
    """Values of the label that make up objects: of classes their index, of instances inside and border, of regions that
    may overlap their bit masks. What of them is connected is one object."""
    paste_border: int = Field(default=0, ge=0)
    """Of instances with a border: where an object covers another, so many pixels beside it become border."""
    brightness: float = Field(default=0.4, ge=0)
    """Shift between −brightness and +brightness."""
    contrast: float = Field(default=0.3, ge=0)
    """Factor between e^−contrast and e^+contrast."""
    gamma: float = Field(default=0.35, ge=0)
    """Exponent between e^−gamma and e^+gamma, on the image scaled to its own range."""
    gamma_share: float = Field(default=0.5, ge=0, le=1)
    """Share whose gamma is changed."""
    gamma_inverted: float = Share
    """Of those the share whose bright and dark change roles for it (Isensee 2021, nnU-Net, supplementary note 4)."""
    noise: float = Field(default=0.2, ge=0)
    """Largest standard deviation of Gaussian noise."""
    noise_share: float = Field(default=0.5, ge=0, le=1)
    """Share that is noisy."""
    blur: float = Field(default=1.0, ge=0)
    """Largest standard deviation of a Gaussian blur."""
    blur_share: float = Field(default=0.2, ge=0, le=1)
    """Share that is blurred."""
    low_resolution: float = Field(default=0.0, ge=0, lt=1)
    """Resolution that is lost at most: 0.5 is every second pixel along each axis. Sampled down, and up again."""
    low_resolution_share: float = Field(default=0.25, ge=0, le=1)
    """Share of low resolution, where there is any."""
    bias: float = Field(default=0.0, ge=0)
    """Uneven brightness: a smooth field of factors between e^−bias and e^+bias (MRI coils, uneven light)."""
    bias_share: float = Field(default=0.3, ge=0, le=1)
    """Share of uneven brightness, where there is any."""
    saturation: float = Field(default=0.0, ge=0)
    """RGB: distance from grey times e^−saturation to e^+saturation."""
    hue: float = Field(default=0.0, ge=0, le=180)
    """RGB: colours turned about grey between −hue and +hue degrees. Off where colours have a meaning, as stains do."""
    stain: float = Field(default=0.0, ge=0, lt=1)
    """RGB of stained tissue: amounts of haematoxylin, eosin and DAB times 1 ± stain, plus ± stain (Tellez 2018)."""
    channel_drop: float = Share
    """Of images of several channels: share of which one is blanked, so that none is relied on alone."""
    cut_out: float = Share
    """Share from which boxes are cut out: filled with the mean (DeVries and Taylor 2017)."""
    cut_out_most: int = Field(default=3, ge=1, le=64)
    """Of those samples: boxes, at most."""
    cut_out_size: float = Field(default=0.25, gt=0, lt=1)
    """Sides of a box at most, as a share of those of the patch; at least half of it."""
    cut_out_label: Literal["ignore", "keep"] = "ignore"
    """What is under a box: ignored, for nothing is left that tells it (French et al. 2020 leave such pixels out of the
    loss), or kept, to be guessed from what surrounds it."""
    mix_up: float = Field(default=0.0, ge=0)
    """Two patches are mixed, by a share from a Beta(mix_up, mix_up) distribution (Zhang et al. 2018); 0.2 is usual."""
    mix_up_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the batches that are mixtures, where there are any."""

    def flips(self, ndim: int) -> tuple[bool, ...]:
        """Whether each of `ndim` axes may be mirrored."""
        return self.flip if isinstance(self.flip, tuple) else (self.flip,) * ndim

    def lengths(self, ndim: int) -> tuple[float, ...]:
        """The length of a pixel along each of `ndim` axes, in units of the shortest."""
        return self.aspect or (1.0,) * ndim

    def check(self, ndim: int, channels: int, rgb: bool, values: int) -> None:
        """Raise ValueError for what does not fit images of `ndim` axes and so many channels, whose labels are below
        `values`. rgb: whether the channels are red, green and blue."""
        for name, entry in (("flip", self.flip), ("aspect", self.aspect)):
            if isinstance(entry, tuple) and len(entry) not in ((ndim,) if name == "flip" else (0, ndim)):
                raise ValueError(f"augment.{name} has {len(entry)} entries, but the network has {ndim} axes")
        if any(axis >= ndim for axis in self.fixed):
            raise ValueError(f"augment.fixed names axis {max(self.fixed)}, but axes count from 0 to {ndim - 1}")
        for name in ("saturation", "hue", "stain"):
            if getattr(self, name) and not rgb:
                raise ValueError(f"augment.{name} is of colours, and these images are not RGB; set it to 0")
        if self.channel_drop and channels < 2:
            raise ValueError("augment.channel_drop blanks one of several channels, and there is one; set it to 0")
        if self.paste and not self.paste_classes:
            raise ValueError("augment.paste needs objects: set augment.paste_classes to the classes that they are of")
        if max(self.paste_classes, default=0) >= values:
            raise ValueError(
                f"augment.paste_classes holds {max(self.paste_classes)}, but labels are from 0 to {values - 1}"
            )

    @field_validator("fixed")
    @classmethod
    def _are_axes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(axis not in (0, 1, 2) for axis in value):
            raise ValueError("axes are counted from 0, and there are three at most")
        return value

    @field_validator("aspect")
    @classmethod
    def _are_lengths(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(v <= 0 for v in value):
            raise ValueError("every length must be above 0")
        return value

    @field_validator("paste_classes")
    @classmethod
    def _are_classes(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if any(not 0 <= v < 255 for v in value):
            raise ValueError("classes are counted from 0, and 255 is what nobody labelled")
        return value
