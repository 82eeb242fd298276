"""Fixtures for every test: real data where it is present, and one thread so that tests side by side do not fight."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture
def shared_data() -> Callable[[str], Path]:
    """`shared_data("em")` is the folder of a real data set; the test skips, with the reason, where it is absent."""

    def folder(name: str) -> Path:
        path = SHARED / name
        if not path.is_dir():
            pytest.skip(f"real data '{name}' is not on this machine")
        return path

    return folder
