"""Probabilities that are true: temperatures fitted on held-out predictions."""

from __future__ import annotations

from unetkit.core.config import Config


class Calibration(Config):
    """Temperatures by class (Guo 2017, section 4.2); empty: probabilities are as the network gives them."""

    temperatures: tuple[float, ...] = ()
