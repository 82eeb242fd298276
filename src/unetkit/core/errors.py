"""The tree of errors. Every error a user can cause is a UnetkitError: one message that names the file and the value,
what is allowed, and the fix. The command line prints the message and exits with status 2; nothing else is caught.

    UnetkitError
    ├── DataError      a file or folder of the user's data cannot be used
    ├── PlanError      a setting is unknown, out of range or contradicts another
    ├── SpecError      a network that cannot be built, or an input size it cannot take
    ├── RunError       a run folder is missing, foreign, locked, damaged or does not fit the data
    └── MachineError   the disk is full, a folder is not writable, memory or a device is missing
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UnetkitError(Exception):
    """Base of every error that a user can cause and mend."""


class DataError(UnetkitError):
    """A file or folder of the user's data cannot be used."""


class PlanError(UnetkitError):
    """A setting is unknown, out of range, or contradicts another."""


class SpecError(UnetkitError):
    """A network that cannot be built, or an input size that it cannot take."""


class RunError(UnetkitError):
    """A run folder is missing, foreign, locked, damaged, or does not fit the data."""


class MachineError(UnetkitError):
    """The disk is full, a folder is not writable, memory or a device is missing."""


def nearest(name: str, allowed: Iterable[str]) -> str:
    """A clause `; did you mean 'x'?` for the name in `allowed` that is closest to `name`, or an empty string."""
    close = difflib.get_close_matches(name, list(allowed), n=1, cutoff=0.5)
    return f"; did you mean '{close[0]}'?" if close else ""
