"""Who competes. Each module has TITLE, SETS, WORDS (what the table of settings says of it), `settings(set)` and
`compete(task)`, and imports what it competes with only there."""

from __future__ import annotations

import importlib
from types import ModuleType

MODULES = {"unetkit": "ours", "monai": "monai_basic", "smp": "smp_unet", "nnunet": "nnunet_plain", "plain1d": "plain1d"}
"""In the order in which they run."""


def contestant(name: str) -> ModuleType:
    return importlib.import_module(f"arena.contestants.{MODULES[name]}")


def competing(name: str) -> list[str]:
    """The contestants of a set."""
    return [one for one in MODULES if name in contestant(one).SETS]
