"""environment.json: on what, with what, by which commands and in what time a run was made."""

from __future__ import annotations

import importlib.metadata
import platform
import shlex
import sys
from pathlib import Path
from typing import Any

from unetkit.core.files import read_json, write_json
from unetkit.core.machine import cores, processor
from unetkit.train.state import read_position

NAME = "environment.json"
FINDINGS, SPLIT, FINGERPRINT = "findings.json", "split.csv", "fingerprint.json"


def record_command(run: Path) -> None:
    """Note versions, machine and this process's command line (each command once)."""
    known = _known(run)
    commands = known.get("commands", [])
    # a notebook or script has no command that a reader could repeat
    program = Path(sys.argv[0]).name if sys.argv else ""
    if program in ("unetkit", "__main__.py"):
        command = shlex.join(["unetkit", *sys.argv[1:]])
        commands = [*commands, *([] if command in commands else [command])]
    facts = {
        name: importlib.metadata.version(name) for name in ("unetkit", "torch", "numpy", "scikit-image", "pydantic")
    }
    facts |= {
        "python": platform.python_version(),
        "platform": platform.platform(terse=True),
        "cpu": processor(),
        "cores": str(cores()),
    }
    write_json(run / NAME, {**known, **facts, "commands": commands})


def first_command(run: Path) -> str:
    """' (unetkit train …)' as the run was started, where it was started by a command; else an empty string."""
    commands = _known(run).get("commands", [])
    return f" ({commands[0]})" if commands else ""


def is_trained(run: Path) -> bool:
    """Whether training in this folder came to its end. Raises RunError for a damaged state."""
    position = read_position(run)
    return position is not None and position.finished


def record_timing(run: Path, what: str, seconds: float) -> None:
    """Note how long a part of the job took, the last time it was done."""
    known = _known(run)
    write_json(run / NAME, {**known, "timings": {**known.get("timings", {}), what: round(seconds, 2)}})


def _known(run: Path) -> dict[str, Any]:
    path = run / NAME
    if not path.exists():
        return {}
    known: dict[str, Any] = read_json(path, "the record of the environment")
    return known
