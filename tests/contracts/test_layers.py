"""Imports go strictly down, and the parts that must stay light load no torch."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIGHT = [
    "core.events",
    "data.doctor",
    "metrics.scores",
    "nets.geometry",
    "plan.plan",
    "plan.rules",
    "plan.training",
    "report.page",
    "evaluate",
]


def test_imports_go_strictly_down() -> None:
    command = Path(sys.executable).with_name("lint-imports")
    if not command.exists() and shutil.which("lint-imports") is None:
        pytest.skip("import-linter is not installed")
    done = subprocess.run([str(command)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_light_parts_load_no_torch() -> None:
    lines = [f"import unetkit.{name}; assert 'torch' not in sys.modules, '{name}'" for name in LIGHT]
    code = "import sys\n" + "\n".join(lines)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
