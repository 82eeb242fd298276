"""Options that several commands share, as values; and the Request that they make."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Group, Parameter, Token

from unetkit.core.errors import PlanError, nearest

if TYPE_CHECKING:
    from unetkit.cli.terminal import Terminal
    from unetkit.plan.plan import Request

_BUDGET = Group("How long", sort_key=1)
_MASKS = Group("What the masks mean", sort_key=2)
_FILES = Group("How files are read", sort_key=3)
_CHOICES = Group("Decided for you unless given", sort_key=4)


def whole(kind: object, tokens: Sequence[Token]) -> int:  # noqa: ARG001
    """A whole number; 1.5 is refused, not rounded. Raises PlanError."""
    token = tokens[0]
    try:
        return int(token.value)
    except ValueError:
        raise PlanError(f"{token.keyword or 'the argument'} {token.value}: must be a whole number") from None


Quiet = Annotated[bool, Parameter(name=["--quiet", "-q"], help="Print only warnings, results and errors.")]
Json = Annotated[bool, Parameter(name="--json", help="Print one JSON value instead of tables.")]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """How long to train."""

    minutes: Annotated[
        float | None,
        Parameter(group=_BUDGET, metavar="M", help="Minutes for everything; the size of the network follows."),
    ] = None
    steps: Annotated[
        int | None,
        Parameter(
            group=_BUDGET,
            metavar="N",
            converter=whole,
            help="Training steps instead. Without either: until validation settles.",
        ),
    ] = None

    def values(self) -> dict[str, Any]:
        """As fields of a Request. Raises PlanError: both are given, or not above zero."""
        if self.minutes is not None and self.steps is not None:
            raise PlanError("--minutes and --steps exclude each other; give one of them")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise PlanError(f"--minutes {self.minutes:g}: must be above 0, for example --minutes 6")
        if self.steps is not None and self.steps < 1:
            raise PlanError(f"--steps {self.steps}: must be 1 or more, for example --steps 2000")
        return {"minutes": self.minutes, "steps": self.steps}


@dataclass(frozen=True, kw_only=True)
class Masks:
    """How the values in masks are read."""

    classes: Annotated[
        str | None,
        Parameter(group=_MASKS, metavar="A,B,…", help="Names of the classes, in ascending order of their values."),
    ] = None
    ignore: Annotated[
        int | None,
        Parameter(group=_MASKS, metavar="VALUE", converter=whole, help="Value of pixels that nobody labelled."),
    ] = None
    background: Annotated[
        str,
        Parameter(group=_MASKS, metavar="VALUE", help="Value that is left out of means, or none; else decided."),
    ] = "auto"
    annotator: Annotated[
        str | None,
        Parameter(group=_MASKS, metavar="SUFFIX", help="Of WFDB recordings: the annotations to learn, such as atr."),
    ] = None
    beat_width: Annotated[
        float | None,
        Parameter(group=_MASKS, metavar="SECONDS", help="Of beats that are marked as points: how wide each is."),
    ] = None

    def values(self) -> dict[str, Any]:
        """As fields of a Request. Raises PlanError: an empty or repeated name, a background that is no whole number, a
        width that is not above 0."""
        if self.beat_width is not None and not 0 < self.beat_width < float("inf"):
            raise PlanError(f"--beat-width {self.beat_width:g}: must be above 0, for example --beat-width 0.1")
        values = {"classes": class_names(self.classes), "ignore": self.ignore, "background": self._background()}
        return values | {"annotator": self.annotator, "beat_width": self.beat_width}

    def _background(self) -> int | str:
        text = self.background.strip().lower()
        if text in ("auto", "none"):
            return text
        try:
            return int(text)
        except ValueError:
            hint = nearest(text, ("auto", "none"))
            raise PlanError(f"--background {self.background}: write a value of the masks, or none{hint}") from None


@dataclass(frozen=True, kw_only=True)
class Files:
    """How files are read where they leave a choice."""

    axes: Annotated[
        str | None,
        Parameter(group=_FILES, metavar="ZCYX", help="What the axes of the files are; else as they say, or guessed."),
    ] = None
    level: Annotated[
        int | None,
        Parameter(group=_FILES, metavar="N", converter=whole, help="Level of pyramids; 0 is the full resolution."),
    ] = None
    pixel_size: Annotated[
        float | None,
        Parameter(group=_FILES, metavar="SIZE", help="Level with pixels nearest to this size, in the file's unit."),
    ] = None

    def values(self) -> dict[str, Any]:
        """As fields of a Request: those that are given. Raises PlanError: a level and a size, below 0."""
        if self.level is not None and self.pixel_size is not None:
            raise PlanError("--level and --pixel-size exclude each other; give one of them")
        if self.level is not None and self.level < 0:
            raise PlanError(f"--level {self.level}: must be 0 or more; 0 is the full resolution")
        if self.pixel_size is not None and not 0 < self.pixel_size < float("inf"):
            raise PlanError(f"--pixel-size {self.pixel_size:g}: must be above 0")
        names = ("axes", "level", "pixel_size")
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}


RunFolder = Annotated[Path, Parameter(name="RUN", help="a folder that `unetkit train` wrote")]
Trust = Annotated[bool, Parameter(name="--trust", help="Import, and so run, code named module:name in the network.")]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Decisions that the user takes instead of the rules."""

    seed: Annotated[
        int,
        Parameter(group=_CHOICES, metavar="N", converter=whole, help="Another seed: another split, another start."),
    ] = 0
    precision: Annotated[
        Literal["auto", "fp32", "bf16"], Parameter(group=_CHOICES, help="Arithmetic; auto: the faster here, timed.")
    ] = "auto"
    layout: Annotated[
        Literal["auto", "contiguous", "channels_last"],
        Parameter(group=_CHOICES, help="Order in memory; auto: the faster here, timed."),
    ] = "auto"
    device: Annotated[
        str, Parameter(group=_CHOICES, metavar="NAME", help="cpu, cuda, cuda:1, mps; else the fastest here.")
    ] = "auto"
    model: Annotated[
        str | None,
        Parameter(
            group=_CHOICES, metavar="NAME", help="A named network (`unetkit models`), or your own as module:name."
        ),
    ] = None
    trust: Trust = False
    view: Annotated[
        Literal["auto", "2d", "2.5d", "3d"],
        Parameter(group=_CHOICES, help="Volumes by slices, slices with neighbours, or whole; auto: by their spacing."),
    ] = "auto"
    store: Annotated[
        bool,
        Parameter(
            negative="--no-store",
            group=_CHOICES,
            help="Copy what does not fit in memory, prepared, into RUN; --no-store: read it where it is, each time.",
        ),
    ] = True
    folds: Annotated[
        int | None,
        Parameter(
            group=_CHOICES,
            metavar="K",
            converter=whole,
            help="Train K times, each time without another part of the cases; all are scored, K networks predict.",
        ),
    ] = None
    start: Annotated[
        Path | None,
        Parameter(group=_CHOICES, metavar="RUN", help="Begin with the network and weights of this run (fine-tuning)."),
    ] = None
    unlabelled: Annotated[
        str | None,
        Parameter(
            group=_CHOICES,
            metavar="DIR",
            help="Images without masks to learn from as well: a folder; DATA itself: those of it without a mask.",
        ),
    ] = None
    pretrain: Annotated[
        float | None,
        Parameter(
            group=_CHOICES,
            metavar="SHARE",
            help="Share of the budget to learn from images alone first, painting in hidden blocks: 0.2.",
        ),
    ] = None
    settings: Annotated[
        Path | None, Parameter(group=_CHOICES, metavar="FILE", help="YAML or JSON file of fields, such as a plan.yaml.")
    ] = None
    fields: Annotated[
        tuple[str, ...],
        Parameter(
            name="--set",
            group=_CHOICES,
            metavar="FIELD=VALUE",
            help="Set a field; may be repeated. `unetkit plan --fields` lists them.",
        ),
    ] = ()

    def values(self) -> dict[str, Any]:
        """As fields of a Request. Raises PlanError or SpecError: unknown field or network, unreadable file."""
        from unetkit.cli.fields import check_names
        from unetkit.nets.presets import preset
        from unetkit.nets.spec import REFERENCE
        from unetkit.plan.plan import read_settings

        settings: dict[str, Any] = {}
        if self.settings is not None:
            settings |= read_settings(self.settings)
            check_names(settings, str(self.settings))
        given = set_fields(self.fields)
        if self.pretrain is not None:
            if not 0 <= self.pretrain < 1:
                raise PlanError(f"--pretrain {self.pretrain:g}: must be a share from 0 to below 1, such as 0.2")
            given = {"learn.masked": self.pretrain} | given
        if self.model is not None and not REFERENCE.fullmatch(self.model):
            preset(self.model)
        if self.folds is not None and self.folds < 1:
            raise PlanError(f"--folds {self.folds}: must be 2 or more, for example --folds 5; 1 is one split")
        names = ("seed", "precision", "layout", "device", "model", "trust", "view", "store", "unlabelled", "folds")
        start = None if self.start is None else str(self.start)
        return {name: getattr(self, name) for name in names} | {"start": start, "settings": settings | given}


# What holds where the user gives no option of a group.
BUDGET, MASKS, FILES, CHOICES = Budget(), Masks(), Files(), Choices()


def make_request(*parts: Masks | Budget | Files | Choices) -> Request:
    """The Request that the options make. Raises PlanError, SpecError."""
    from unetkit.plan.plan import Request

    values: dict[str, Any] = {}
    for part in parts:
        values |= part.values()
    return Request.parse(values, "the options")


def class_names(text: str | None) -> tuple[str, ...] | None:
    """('background', 'cell') from 'background,cell'. Raises PlanError: an empty or repeated name."""
    names = None if text is None else tuple(name.strip() for name in text.split(","))
    if names is not None and not all(names):
        raise PlanError(f"--classes {text!r} holds an empty name; write it like background,cell,membrane")
    if names is not None and len(set(names)) < len(names):
        raise PlanError(f"--classes {text!r} holds a name twice; every class needs its own")
    return names


def set_fields(texts: Sequence[str]) -> dict[str, Any]:
    """Settings from the values of `--set`. Raises PlanError: not FIELD=VALUE, or no such field."""
    from unetkit.cli.fields import check_names

    given = dict(_setting(text) for text in texts)
    check_names(given, "--set")
    return given


def _setting(text: str) -> tuple[str, Any]:
    """('sampling.patch', [128, 128]) from 'sampling.patch=128,128'."""
    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise PlanError(f"--set {text}: write it as FIELD=VALUE, such as --set optim.lr=0.001")
    value = value.strip()
    pieces = value.split(",")
    if len(pieces) > 1 and all(_is_number(piece) for piece in pieces):
        return name.strip(), [json.loads(piece) for piece in pieces]
    return name.strip(), value


def _is_number(text: str) -> bool:
    try:
        value = json.loads(text)
    except json.JSONDecodeError:
        return False
    return isinstance(value, int | float) and not isinstance(value, bool)


def missing(command: str, name: str, what: str, example: str) -> PlanError:
    """The error for an argument that a command cannot do without."""
    return PlanError(f"unetkit {command} needs {name} ({what}), for example:\n  {example}")


def start_terminal(quiet: bool = False, json: bool = False) -> Terminal:
    """The terminal that a command speaks to; imported when there is something to say."""
    from unetkit.cli.terminal import open_terminal

    return open_terminal(quiet=quiet, json=json)
