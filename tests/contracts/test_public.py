"""The public surface: its names, what importing it loads, and that verbs stay callable beside folders of their name."""

from __future__ import annotations

import subprocess
import sys

import pytest

import unetkit

NAMES = [
    "NetSpec", "Plan", "Request", "Run", "Sample", "UNet", "UnetkitError",
    "augment", "check", "evaluate", "events", "import_weights", "open_run", "plan", "predict", "report",
    "suspects", "train",
]  # fmt: skip


def test_the_names_are_these() -> None:
    assert unetkit.__all__ == NAMES
    for name in NAMES:
        assert callable(getattr(unetkit, name)) or name == "events", name
        assert name in dir(unetkit)


@pytest.mark.parametrize("first", ["unetkit.train.loop", "unetkit.augment.apply", "unetkit.report.page", "unetkit"])
def test_verbs_stay_functions_whatever_was_imported_first(first: str) -> None:
    code = (
        f"import {first}, unetkit as uk; print([type(getattr(uk, n)).__name__ for n in ('train', 'plan', 'augment')])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['function', 'function', 'function']"


def test_importing_loads_neither_torch_nor_numpy() -> None:
    code = "import sys, unetkit; print([m for m in ('torch', 'numpy', 'scipy', 'pydantic') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "[]"


def test_events_are_a_module_of_values() -> None:
    assert unetkit.events.Warned(message="late").message == "late"


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'fit'; it has NetSpec, Plan"):
        _ = unetkit.fit
