"""What the tests of stacks and arrays share: noise, reading a region, and the message of a refusal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats import Reading, open_image


def noise(shape: tuple[int, ...], dtype: str = "uint16", top: int = 250) -> np.ndarray:
    return np.random.default_rng(0).integers(0, top, shape).astype(dtype)


def read(path: Path, region: Region | None = None, reading: Reading | None = None) -> np.ndarray:
    with open_image(path, reading or Reading()) as reader:
        return reader.read(region)


def refusal(path: Path, reading: Reading | None = None, file: Path | None = None) -> str:
    """The message, which is one line that begins with the path (of something inside a file: perhaps with the file)."""
    with pytest.raises(DataError) as caught:
        read(path, reading=reading)
    assert str(caught.value).startswith(f"{file or path}: ")
    assert "\n" not in str(caught.value)
    return str(caught.value)
