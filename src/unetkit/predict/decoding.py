"""From calibrated probabilities to labels, as held-out predictions taught it."""

from __future__ import annotations

from unetkit.core.config import Config


class Decoding(Config):
    """How labels are decided; the defaults are arg-max, and one half for regions that may overlap."""

    bias: tuple[float, ...] = ()
    """Added to the log-probability of each class before the largest is taken; empty: nothing."""
    thresholds: tuple[float, ...] = ()
    """Of regions that may overlap: the probability above which each is there; empty: one half."""
