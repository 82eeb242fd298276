"""The strengths of augmentation, as settings."""

from __future__ import annotations

from pydantic import Field

from unetkit.core.config import Config


class AugmentPlan(Config):
    """How far each random change may go; 0 (or False) turns it off. Intensities are in units of the normalised image,
    whose standard deviation is about one; lengths are in pixels of the image.
    """

    flip: bool = True
    """Mirror along each axis, every second sample; off where left and right differ in meaning."""
    turn: bool = True
    """Quarter turns; off where up and down differ in meaning."""
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
