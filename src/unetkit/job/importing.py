"""Weights from elsewhere, and the network that they are said to be of, as a run folder that predicts and fine-tunes."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from unetkit.core.config import Config
from unetkit.core.errors import PlanError, RunError
from unetkit.core.files import locked, write_json
from unetkit.data.labels.legend import Legend, LegendClass, display_colour
from unetkit.data.prepared.plan import PreparePlan
from unetkit.job.record import record_command
from unetkit.nets.build import UNet, build
from unetkit.nets.checkpoint import Checkpoint, read_checkpoint
from unetkit.nets.geometry import geometry
from unetkit.nets.matching import Matching, fill, infer, match, patterns, with_absorbed
from unetkit.nets.presets import preset
from unetkit.nets.spec import NetSpec
from unetkit.nets.weights import save_weights
from unetkit.plan.parts import SamplingPlan
from unetkit.plan.plan import DataPlan, Plan, Request
from unetkit.predict.load import PLAN, WEIGHTS

RECORD = "import.json"
# The parts of a plan that matter to a network that is only used; the others are decided when it is trained on.
SETTABLE = ("net", "prepare", "predict")
# Nobody trained here: the plan still names a patch, of about this side, by number of axes.
SIDE = {1: 2048, 2: 256, 3: 64}


class ImportRequest(Config):
    """What a checkpoint is said to be. None: as the checkpoint itself tells.

    classes: names, in the order of the outputs. settings: fields of net, prepare and predict by their dotted names.
    partial: what finds nothing in the checkpoint may stay as drawn.
    """

    model: str
    classes: tuple[str, ...] | None = None
    channels: int | None = Field(default=None, ge=1)
    ndim: int | None = Field(default=None, ge=1, le=3)
    settings: dict[str, Any] = {}
    partial: bool = False


@dataclass(frozen=True)
class Imported:
    """What of a checkpoint became what of a network.

    `run` holds the result. `notes`: what was taken for granted; `doubts`: what the user should check.
    """

    run: Path
    net: NetSpec
    checkpoint: Checkpoint
    matching: Matching
    notes: tuple[str, ...]
    doubts: tuple[str, ...]


class UnfilledError(RunError):
    """Tensors of the network found nothing in the checkpoint; nothing was written. `imported` says what matched."""

    def __init__(self, message: str, imported: Imported) -> None:
        super().__init__(message)
        self.imported = imported


def import_weights(checkpoint: Path, run: Path, request: ImportRequest) -> Imported:
    """Read a checkpoint, match it with the network, and write the run folder: plan, weights, and what matched.

    Raises RunError (a file that is no checkpoint, or would run code; a folder that holds something), PlanError (a
    setting; channels or classes that the checkpoint does not tell), SpecError (an unknown or impossible network),
    UnfilledError (a part of the network found nothing, without `partial`).
    """
    _refuse_full(run)
    theirs = read_checkpoint(checkpoint)
    spec, channels = _network(theirs, request)
    net, matching, notes = _matched(theirs, spec, channels, request)
    names = request.classes or tuple(f"class{k}" for k in range(net.spec.classes))
    if request.classes is None:
        notes.append(f"the classes are called {names[0]} … {names[-1]}; --classes A,B,… names them")
    plan = _plan(net.spec, names, theirs, request)
    if not any(name.startswith("prepare.") for name in request.settings):
        notes.append(
            f"images are prepared as {plan.prepare.colour}{_normalised(plan.prepare)}; the checkpoint does not say what"
            " its network was trained on: --set prepare.… sets it"
        )
    imported = Imported(run, net.spec, theirs, matching, tuple(notes), tuple(_doubts(matching, request.partial)))
    if matching.missing and not request.partial:
        total = len(matching.matches) + len(matching.missing)
        raise UnfilledError(
            f"{checkpoint}: fills {len(matching.matches)} of the {total} tensors of '{request.model}'; nothing was"
            " written; name the network that it is of (--model, --set net.channels=… and other fields of net), or leave"
            " the rest as drawn with --partial",
            imported,
        )
    with locked(run):
        save_weights(net, run / WEIGHTS)
        write_json(run / RECORD, _record(imported, request))
        record_command(run)
        plan.save(run / PLAN)  # last: a folder with a plan is whole
    return imported


def _network(theirs: Checkpoint, request: ImportRequest) -> tuple[NetSpec, int | None]:
    """The named network, in as many axes as the checkpoint's convolutions have; and its channels where given."""
    foreign = [name for name in request.settings if name.split(".")[0] not in SETTABLE]
    if foreign:
        raise PlanError(f"--set {foreign[0]}: an import takes only fields of {', '.join(SETTABLE)}")
    named = preset(request.model)
    axes = Counter(value.ndim - 2 for value in theirs.tensors.values() if 3 <= value.ndim <= 5)
    spec = named.form(request.ndim or (axes.most_common(1)[0][0] if axes else None))
    changes = {name: value for name, value in request.settings.items() if name.startswith("net.")}
    spec = _Net(net=spec).override(changes, "--set").net
    return spec, spec.in_channels if "net.in_channels" in changes else request.channels


class _Net(Config):
    net: NetSpec


def _matched(
    theirs: Checkpoint, spec: NetSpec, channels: int | None, request: ImportRequest
) -> tuple[UNet, Matching, list[str]]:
    """The network, filled with what matches; what did; and what was concluded on the way."""
    told_channels, told_classes = infer(patterns(spec), theirs)
    given = None if request.classes is None else len(request.classes)
    if "net.classes" in request.settings or spec.heads:
        given = given or spec.classes
    if spec.vocabulary:
        channels = 1
    channels, classes = channels or told_channels, given or told_classes
    for value, what, flag in (
        (channels, "channels its images have", "--channels N"),
        (classes, "classes it knows", "--classes A,B,…"),
    ):
        if value is None:
            raise PlanError(
                f"{theirs.path}: how many {what} cannot be told: no layer of it is like that of '{request.model}' with"
                f" widths {', '.join(map(str, spec.channels))}; name its network (--model, --set net.channels=…), or"
                f" give {flag}"
            )
    notes = [f"{spec.ndim} axes, {channels} channel{'s' * (channels != 1)}, {classes} output{'s' * (classes != 1)}"]
    # one output is the logit of the foreground against 0: a softmax over two of which the first is 0
    single = told_classes == 1 and given in (None, 2)
    matching = match(patterns(spec, channels, 1 if single else classes), theirs)
    net = build(spec.replace({"in_channels": channels, "classes": 2 if single else classes}))
    matching = with_absorbed(net, matching)
    fill(net, matching, theirs)
    if single:
        notes.append("its one output became two classes, of which the first, the background, always has the logit 0")
    if matching.absorbed:
        n = len(matching.absorbed)
        notes.append(f"{n} bias{'es' * (n > 1)} went into the norm behind the convolution: the same function")
    return net, matching, notes


def _doubts(matching: Matching, partial: bool) -> list[str]:
    doubts = []
    if guesses := [m for m in matching.matches if m.how == "guess"]:
        doubts.append(
            f"{len(guesses)} tensors are guesses: the checkpoint has their shape more or less often than the network,"
            " or its order is not known; compare a prediction with one from where it comes"
        )
    if matching.left:
        doubts.append(
            f"{len(matching.left)} tensors of the checkpoint found no place ({_some(matching.left)}): its network may"
            " be another one"
        )
    if matching.missing and partial:
        doubts.append(f"{len(matching.missing)} tensors stay as drawn ({_some(matching.missing)}): train before use")
    return doubts


def _plan(spec: NetSpec, names: tuple[str, ...], theirs: Checkpoint, request: ImportRequest) -> Plan:
    """The plan of a model that was not trained here."""
    first = 1 if len(names) > 1 else 0
    classes = tuple(
        LegendClass(name=name, value=k, colour=(0, 0, 0) if k < first else display_colour(k - first))
        for k, name in enumerate(names)
    )
    why = f"the order of the outputs of {theirs.path.name}: value k is output k"
    with theirs.path.open("rb") as file:
        digest = hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    plan = Plan(
        request=Request(model=request.model, classes=request.classes, settings=request.settings),
        data=DataPlan(
            path="imported",
            legend=Legend(kind="values", classes=classes, background=0 if first else None, reason=why),
            cases=0,
            digest=digest,
            layout=f"imported from {theirs.path.name}: no images were seen",
        ),
        prepare=_prepare(spec),
        net=spec,
        sampling=SamplingPlan(patch=tuple(geometry(spec).fit((SIDE[spec.ndim],) * spec.ndim))),
        reasons={"net.channels": f"imported from {theirs.path.name} as '{request.model}'"},
    )
    later = {name: value for name, value in request.settings.items() if not name.startswith("net.")}
    return plan.override(later, "--set") if later else plan


def _prepare(spec: NetSpec) -> PreparePlan:
    if spec.vocabulary:
        return PreparePlan(colour="tokens", normalise="none")
    if spec.in_channels == 1:
        return PreparePlan()
    return PreparePlan(channels=spec.in_channels, colour="rgb" if spec.in_channels == 3 and spec.ndim == 2 else "bands")


def _normalised(prepare: PreparePlan) -> str:
    return "" if prepare.normalise == "none" else ", each by its own mean and deviation"


def _record(imported: Imported, request: ImportRequest) -> Mapping[str, Any]:
    matching, theirs = imported.matching, imported.checkpoint
    return {
        "checkpoint": theirs.path.name,
        "format": theirs.format,
        "entry": theirs.nested,
        "model": request.model,
        "partial": request.partial,
        "matched": [{"ours": m.ours, "theirs": m.theirs, "how": m.how} for m in matching.matches],
        "missing": list(matching.missing),
        "left": list(matching.left),
        "aliases": list(matching.aliases),
        "absorbed": dict(matching.absorbed),
        "skipped": list(theirs.skipped),
        "notes": list(imported.notes),
        "doubts": list(imported.doubts),
    }


def _refuse_full(run: Path) -> None:
    if run.is_file():
        raise RunError(f"{run}: is a file; name a new folder with -o")
    if run.is_dir() and (held := sorted(p.name for p in run.iterdir() if not p.name.startswith("."))):
        raise RunError(
            f"{run}: holds files ({', '.join(held[:3])}); nothing was written; name a new or empty folder with -o"
        )


def is_imported(run: Path) -> bool:
    """Whether a run folder holds weights from elsewhere, which nothing here was trained or scored on."""
    return (Path(run) / RECORD).is_file()


def refuse_report(run: Path) -> None:
    """Raises RunError for a folder of imported weights: there is nothing that a report could tell."""
    if is_imported(run):
        raise RunError(
            f"{run}: its weights were imported; nothing was trained or scored here, so there is nothing to report."
            f" `unetkit evaluate {run} HELD_OUT` scores it; `unetkit train DATA -o NEW --start {run}` trains it further"
        )


def _some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
