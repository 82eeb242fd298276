"""The strengths of augmentation, as settings."""

from __future__ import annotations

from pydantic import Field, field_validator

from unetkit.core.config import Config


class AugmentPlan(Config):
    """How far each random change may go; 0 (or False) turns it off. Intensities are in units of the normalised image,
    whose standard deviation is about one; lengths are in pixels of the image.
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
    """Axes, counted from 0, along which nothing is turned, scaled or bent (thick slices): only in the plane of the
    others, in all slices alike."""
    rotate: float = Field(default=180.0, ge=0, le=180)
    """Any angle between −rotate and +rotate degrees."""
    scale: float = Field(default=0.25, ge=0, le=1)
    """Zoom between e^−scale and e^+scale."""
    stretch: float = Field(default=0.08, ge=0, le=1)
    """Zoom that differs between the axes, between e^−stretch and e^+stretch."""
    elastic: float = Field(default=6.0, ge=0)
    """Standard deviation of the largest elastic displacement, on a coarse grid (Ronneberger 2015, section 3.1)."""
    elastic_spacing: int = Field(default=32, ge=4)
    """Pixels between the points of the coarse grid (the paper divides the image in 3 × 3; smaller follows texture)."""
    brightness: float = Field(default=0.4, ge=0)
    """Shift between −brightness and +brightness."""
    contrast: float = Field(default=0.3, ge=0)
    """Factor between e^−contrast and e^+contrast."""
    gamma: float = Field(default=0.35, ge=0)
    """Exponent between e^−gamma and e^+gamma, on the image scaled to its own range."""
    noise: float = Field(default=0.2, ge=0)
    """Largest standard deviation of Gaussian noise."""
    blur: float = Field(default=1.0, ge=0)
    """Largest standard deviation of a Gaussian blur; one sample in five is blurred."""

    def flips(self, ndim: int) -> tuple[bool, ...]:
        """Whether each of `ndim` axes may be mirrored."""
        return self.flip if isinstance(self.flip, tuple) else (self.flip,) * ndim

    def lengths(self, ndim: int) -> tuple[float, ...]:
        """The length of a pixel along each of `ndim` axes, in units of the shortest."""
        return self.aspect or (1.0,) * ndim

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
