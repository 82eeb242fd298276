"""One thing that the doctor found."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from unetkit.core.config import Config
from unetkit.core.errors import DataError

SEVERITIES = ("error", "warning", "note")


class Finding(Config):
    """One thing the doctor found. severity: "error" stops training. code: the kind, e.g. "size-mismatch".

    file: where ("" for the set as a whole). message: what is wrong. fix: how to mend it ("" where nothing need be).
    """

    severity: Literal["error", "warning", "note"]
    code: str
    file: str
    message: str
    fix: str = ""


def from_error(error: DataError, code: str, path: Path | str) -> Finding:
    """A finding from "file: what is wrong; how to mend it"."""
    text = str(error).removeprefix(f"{path}: ")
    message, _, fix = text.rpartition("; ")
    return Finding(severity="error", code=code, file=str(path), message=message or fix, fix=fix if message else "")
