"""What a run folder says about itself: its files read once, tolerantly, into one value.

Only plan.json must be there. Any other file may be absent (the run was stopped, or never evaluated) or damaged (the
process was killed); then the fact is empty and a sentence in `Facts.absent` says which, and how to get it.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from unetkit.core.errors import RunError
from unetkit.core.files import read_json

# Okabe & Ito's colour-blind-safe palette (2008), bright enough over grey images; for classes whose own colour is black.
FALLBACK_COLOURS = ("#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#0072b2")

# What data of so many axes are called, and what they are made of.
KINDS = {1: ("signal", "samples"), 2: ("image", "pixels"), 3: ("volume", "voxels")}

# What each optional file holds, and how a user gets it.
_ABSENT = {
    "fingerprint.json": "sizes and class fractions of the data are not recorded",
    "findings.json": "the doctor's findings are not recorded; `unetkit check DATA` shows them",
    "split.csv": "the split into training and validation is not recorded",
    "events.jsonl": "there are no events, hence no curves",
    "metrics.json": "no validation has finished yet",
    "scores.json": "scores per case are not there yet; they are written when training ends, or by `unetkit evaluate`",
    "environment.json": "machine, versions and timings are not recorded",
    "examples/examples.json": "there are no example images; they are written when training ends",
}


@dataclass(frozen=True)
class ClassFact:
    """A class of the legend: index in the network's output, name, CSS colour, whether it counts, value in masks."""

    index: int
    name: str
    colour: str
    foreground: bool
    value: str


@dataclass(frozen=True)
class Facts:
    """The run folder's records. Mappings are plain JSON; empty where the file is absent or damaged."""

    run: Path
    plan: Mapping[str, Any]
    classes: tuple[ClassFact, ...]
    fingerprint: Mapping[str, Any] = field(default_factory=dict)
    findings: tuple[Mapping[str, Any], ...] | None = None  # None: not recorded; (): recorded, and clean
    split: tuple[Mapping[str, str], ...] = ()
    events: tuple[Mapping[str, Any], ...] = ()
    metrics: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, Any] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    suspects: Mapping[str, Any] = field(default_factory=dict)
    folds: tuple[tuple[Mapping[str, Any], ...], ...] = ()  # of a run in folds: the events of each
    absent: tuple[str, ...] = ()

    @property
    def joined(self) -> bool:
        """Whether the validation images were learnt from as well, after they had judged."""
        return get(self.metrics, "joined") is not None

    @property
    def foreground(self) -> tuple[ClassFact, ...]:
        """The classes that count in means."""
        return tuple(c for c in self.classes if c.foreground)

    @property
    def regions(self) -> bool:
        """Whether the classes may overlap: labels are bit masks."""
        return bool(get(self.plan, "data.legend.kind") == "regions")

    @property
    def name(self) -> str:
        """What to call the data: the last part of its path."""
        return Path(text(get(self.plan, "data.path"), "")).name or self.run.name

    @property
    def ndim(self) -> int:
        """Axes of the data."""
        ndim = get(self.plan, "net.ndim")
        return ndim if isinstance(ndim, int) and ndim in KINDS else 2

    @property
    def trained(self) -> int:
        """Networks that were, or are to be, trained: one for each fold."""
        trained = number(get(self.plan, "data.trained"))
        return int(trained) if trained else 1

    @property
    def noun(self) -> str:
        """What one of them is called."""
        return KINDS[self.ndim][0]

    @property
    def unit(self) -> str:
        """What they are made of."""
        return KINDS[self.ndim][1]

    @property
    def synthetic(self) -> bool:
        """Whether the data were generated, and do not show anything real."""
        return get(self.plan, "data.synthetic") is True

    def events_of(self, kind: str) -> list[Mapping[str, Any]]:
        """All events of one kind, in order of time."""
        return [event for event in self.events if event.get("kind") == kind]


def read_facts(run: Path) -> Facts:
    """Read every record of the run folder `run`. Raises RunError: plan.json is missing or is no plan."""
    run = Path(run)
    plan = read_json(run / "plan.json", "the plan")
    classes = _classes(plan, run / "plan.json")
    absent: list[str] = []

    def optional(name: str, kind: type) -> Any:
        try:
            value = read_json(run / name, "this record")
        except RunError:
            value = None
        except OSError as error:
            absent.append(f"{name} cannot be read ({error.strerror}): {_ABSENT[name]}.")
            return None
        if isinstance(value, kind):
            return value
        state = "is damaged" if (run / name).exists() else "is absent"
        absent.append(f"{name} {state}: {_ABSENT[name]}.")
        return None

    findings = optional("findings.json", list)
    split = _read_split(run / "split.csv")
    if split is None:
        absent.append(f"split.csv is absent: {_ABSENT['split.csv']}.")
    events = _read_events(run / "events.jsonl")
    if events is None:
        absent.append(f"events.jsonl is absent: {_ABSENT['events.jsonl']}.")
    return Facts(
        run=run,
        plan=plan,
        classes=classes,
        fingerprint=optional("fingerprint.json", dict) or {},
        findings=None if findings is None else tuple(list_of_mappings(findings)),
        split=split or (),
        events=events or (),
        metrics=optional("metrics.json", dict) or {},
        scores=optional("scores.json", dict) or {},
        environment=optional("environment.json", dict) or {},
        examples=tuple(list_of_mappings(optional("examples/examples.json", list))),
        suspects=_quietly(run / "suspects.json"),
        folds=_read_folds(run),
        absent=tuple(absent),
    )


def get(values: Any, dotted: str, default: Any = None) -> Any:
    """The value at a dotted path of nested mappings, or `default` where any part of the path is missing."""
    for part in dotted.split("."):
        if not isinstance(values, Mapping) or part not in values:
            return default
        values = values[part]
    return values


def number(value: Any) -> float | None:
    """A finite number, or None for anything else (absent, text, true/false, NaN)."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if abs(value) < float("inf") else None


def list_of_mappings(value: Any) -> list[Mapping[str, Any]]:
    """The mappings in a list; empty for anything else."""
    return [entry for entry in value if isinstance(entry, Mapping)] if isinstance(value, list) else []


def text(value: Any, default: str) -> str:
    """A non-empty text, or `default`."""
    return value if isinstance(value, str) and value else default


def _classes(plan: Any, path: Path) -> tuple[ClassFact, ...]:
    legend = get(plan, "data.legend") or get(plan, "data.classes")
    entries = get(legend, "classes")
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise RunError(f"{path}: the plan names no classes (data.legend); is it the plan of `unetkit train`?")
    if get(legend, "border") or get(legend, "levels"):  # help of the network's: masks and scores count it as objects
        entries = entries[:2]
    background = get(legend, "background")
    classes, spare = [], iter(FALLBACK_COLOURS * (1 + len(entries) // len(FALLBACK_COLOURS)))
    for index, entry in enumerate(entries):
        foreground = index != background
        colour = _css_colour(entry.get("colour"))
        if colour is None or (foreground and colour == "#000000"):
            colour = next(spare) if foreground else "#000000"
        value = entry.get("value")
        shown = ", ".join(str(v) for v in value) if isinstance(value, list) else str(value)
        if get(legend, "kind") == "instances" and foreground:
            shown = "the number of the object"
        classes.append(ClassFact(index, text(entry.get("name"), f"class {index}"), colour, foreground, shown))
    return tuple(classes)


def _css_colour(value: Any) -> str | None:
    if isinstance(value, list | tuple) and len(value) == 3 and all(isinstance(v, int) and 0 <= v <= 255 for v in value):
        return "#{:02x}{:02x}{:02x}".format(*value)
    return None


def _read_split(path: Path) -> tuple[Mapping[str, str], ...] | None:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return None
    rows = [{str(k): v or "" for k, v in line.items() if isinstance(v, str | None)} for line in lines]
    return tuple(row for row in rows if "case" in row and "split" in row)


def _quietly(path: Path) -> Mapping[str, Any]:
    """A record that older runs do not have."""
    try:
        value = read_json(path, "this record")
    except (RunError, OSError):
        return {}
    return value if isinstance(value, Mapping) else {}


def _read_folds(run: Path) -> tuple[tuple[Mapping[str, Any], ...], ...]:
    found: list[tuple[Mapping[str, Any], ...]] = []
    while (events := _read_events(run / "folds" / str(len(found) + 1) / "events.jsonl")) is not None:
        found.append(events)
    return tuple(found)


def _read_events(path: Path) -> tuple[Mapping[str, Any], ...] | None:
    """Every whole line. The last may be half-written (the process was killed): such lines are passed over."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return None
    events = []
    for line in lines:
        try:
            event = json.loads(line)
        except (json.JSONDecodeError, UnicodeDecodeError):
            continue
        if isinstance(event, dict):
            events.append(event)
    return tuple(events)
