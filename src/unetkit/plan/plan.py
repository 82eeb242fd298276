"""The plan: everything that decides a run, as one frozen value that is saved beside the weights."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import Field, PlainSerializer, field_serializer, field_validator, model_validator

from unetkit.augment.plan import AugmentPlan
from unetkit.core.config import Config
from unetkit.core.errors import PlanError
from unetkit.core.files import read_json, write_json
from unetkit.data.formats.base import Reading
from unetkit.data.labels.legend import Legend
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.spec import NetSpec, reference
from unetkit.plan.learning import LearnPlan
from unetkit.plan.parts import (
    BudgetPlan,
    LossPlan,
    MachinePlan,
    OptimPlan,
    PredictPlan,
    SamplingPlan,
    one_budget,
)

VERSION = 1


class DataPlan(Config):
    """What is learnt from: the folder, what its masks mean, and what its files contained when the run began."""

    path: str
    legend: Legend
    cases: int = Field(ge=0)
    """Pairs of image and mask; 0: the weights were imported, and no data were seen."""
    digest: str
    """A digest of the names and contents of all images and masks: a resumed run refuses data that changed."""
    layout: str = ""
    """How images and masks were paired."""
    split: str = ""
    """Who trains and who validates, and why."""
    folds: int = Field(default=1, ge=1)
    """Parts that the cases are divided into, of which each validates a training of its own on the others; 1: none."""
    trained: int = Field(default=1, ge=1)
    """Of the folds, those that are trained: fewer where the time is too short for all."""
    unlabelled: int = Field(default=0, ge=0)
    """Images without a mask that are learnt from as well."""
    unlabelled_digest: str = ""
    """A digest of their names and contents."""
    given: bool = False
    """Whether the data say themselves who validates: these images are never learnt from."""
    synthetic: bool = False


def _plain_model(model: Any) -> Any:
    """What stands for a network in a file: its name, its spec, or `module:name`."""
    if isinstance(model, NetSpec):
        return model.model_dump(mode="json")
    return reference(model) if callable(model) else model


class Request(Config):
    """What the user asked for. A command that asks for the same goes on with the run; another is refused."""

    minutes: float | None = Field(default=None, gt=0)
    steps: int | None = Field(default=None, ge=1)
    seed: int = 0
    classes: tuple[str, ...] | None = None
    ignore: int | tuple[int, int, int] | None = None
    background: int | tuple[int, int, int] | Literal["auto", "none"] = "auto"
    model: Annotated[Any, PlainSerializer(_plain_model, when_used="json")] = None
    """A named network; in Python also a NetSpec, or a class of torch module (or `module:name` of one, with `trust`)."""
    trust: bool = Field(default=False, exclude=True)
    """Whether code named `module:name` may be imported. Never written down: every command says it again."""
    axes: str | None = None
    """What the axes of the files are, in their order, such as ZCYX; none: as the files say."""
    level: int = Field(default=0, ge=0)
    """Level of pyramids that is read; 0: full resolution."""
    pixel_size: float | None = Field(default=None, gt=0)
    """Instead of a level: the one whose pixels are nearest to this size, in the unit of the file."""
    annotator: str | None = None
    """Of recordings: the annotation file that is read, by its suffix."""
    beat_width: float | None = Field(default=None, gt=0)
    """Of recordings whose beats are marked as points: seconds around each that are the beat."""
    view: Literal["auto", "2d", "2.5d", "3d"] = "auto"
    """How a network sees volumes: slice by slice, slices with their neighbours, or whole."""
    store: bool = Field(default=True, exclude=True)
    """Whether what does not fit in memory is copied, prepared, into the run folder; else it is read where it is."""
    folds: int | None = Field(default=None, ge=1)
    """Folds to train, each validated on the cases that the others learn from; 1: one split; none: as decided."""
    start: str | None = None
    """The run folder whose network and weights training begins with."""
    unlabelled: str | None = None
    """Images without masks that are learnt from as well: a folder, a file or a pattern; the data folder itself (or
    "samples", of samples in memory) means those of its images that have no mask."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    layout: Literal["auto", "contiguous", "channels_last"] = "auto"
    device: str = "auto"
    settings: dict[str, Any] = {}
    """Fields of the plan that were set by flag or file, by their dotted names."""

    @field_validator("model", mode="before")
    @classmethod
    def _is_network(cls, value: Any) -> Any:
        if isinstance(value, dict):
            return NetSpec.parse(value, "model")
        if value is None or isinstance(value, str | NetSpec) or callable(value):
            return value
        raise ValueError("must be the name of a network, a NetSpec, or a class of torch module")

    @property
    def reading(self) -> Reading:
        """How files are read."""
        return Reading((self.axes or "").upper(), self.level, self.pixel_size, self.annotator or "", self.beat_width)

    @field_validator("axes")
    @classmethod
    def _are_axes(cls, value: str | None) -> str | None:
        if value is not None and (not value or set(value.upper()) - set("TCZYXS") or len(set(value)) < len(value)):
            raise ValueError(
                "axes are letters, each once, in the order of the file: X, Y, Z for space, C for channels, T for time,"
                " such as ZCYX"
            )
        return value

    @field_serializer("settings", when_used="json")
    def _plain_settings(self, settings: dict[str, Any]) -> dict[str, Any]:
        return {name: reference(value) if callable(value) else value for name, value in settings.items()}

    @model_validator(mode="before")
    @classmethod
    def _budget_of_settings(cls, values: Any) -> Any:
        """`budget.minutes` and `budget.steps` among the settings are the budget, unless one is given beside them."""
        if not isinstance(values, dict):
            return values
        settings = dict(values.get("settings") or {})
        named = {name: settings.pop(f"budget.{name}", None) for name in ("minutes", "steps")}
        if all(values.get(name) is None for name in named):
            values = values | {name: value for name, value in named.items() if value is not None}
        return values | {"settings": settings}

    @model_validator(mode="after")
    def _check(self) -> Self:
        one_budget(self.minutes, self.steps)
        return self


class Plan(Config):
    """All decisions of a run. `reasons` maps a dotted field name to one sentence that says why it has its value."""

    version: Literal[1] = 1
    request: Request
    data: DataPlan
    prepare: PreparePlan
    net: NetSpec
    augment: AugmentPlan = AugmentPlan()
    loss: LossPlan = LossPlan()
    sampling: SamplingPlan = SamplingPlan()
    optim: OptimPlan = OptimPlan()
    learn: LearnPlan = LearnPlan()
    budget: BudgetPlan = BudgetPlan()
    machine: MachinePlan = MachinePlan()
    predict: PredictPlan = PredictPlan()
    seed: int = 0
    reasons: dict[str, str] = {}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        classes = len(self.data.legend.classes)
        if self.net.classes != classes:
            raise ValueError(f"net.classes is {self.net.classes}, but the masks have {classes} classes; set it so")
        if self.net.in_channels != self.prepare.channels:
            raise ValueError(
                f"net.in_channels is {self.net.in_channels}, but images are prepared with {self.prepare.channels}"
                " channels (prepare.channels); make them equal"
            )
        if len(self.sampling.patch) != self.net.ndim:
            raise ValueError(
                f"sampling.patch has {len(self.sampling.patch)} lengths, but the network has {self.net.ndim} axes"
            )
        ndim = self.net.ndim
        values = 1 << classes if self.data.legend.regions else classes
        self.augment.check(ndim, self.prepare.channels, self.prepare.colour == "rgb", values)
        if self.prepare.spacing is not None and len(self.prepare.spacing) != ndim:
            raise ValueError(
                f"prepare.spacing has {len(self.prepare.spacing)} lengths, but the network has {ndim} axes"
            )
        if [head.kind for head in self.net.heads] not in ([], ["classes"]):
            raise ValueError(
                "net.heads: masks teach one set of classes, and this network has other tasks; train it in a loop of"
                " your own (unetkit.UNet), or leave heads out"
            )
        if self.learn.unlabelled > 0 and not self.data.unlabelled:
            raise ValueError(
                f"learn.unlabelled is {self.learn.unlabelled:g}, but there are no images without masks; name them with"
                " --unlabelled"
            )
        if self.learn.masked > 0 and self.net.vocabulary:
            raise ValueError("learn.masked: tokens stand for things and cannot be painted in; leave --pretrain out")
        self.predict.post.check(self.data.legend)
        weights = self.loss.class_weights
        if weights is not None and len(weights) != classes:
            raise ValueError(f"loss.class_weights has {len(weights)} values, but there are {classes} classes")
        return self

    def save(self, path: Path) -> None:
        """Write plan.json, whole or not at all. Raises MachineError where the disk refuses."""
        write_json(path, self.model_dump(mode="json"))

    @classmethod
    def load(cls, path: Path) -> Plan:
        """Read plan.json. Raises RunError (absent, damaged) or PlanError (unknown or wrong field, newer version)."""
        values = read_json(path, "the plan")
        if isinstance(values, dict) and values.get("version", VERSION) != VERSION:
            raise PlanError(
                f"{path}: version {values['version']} of the plan was written by another unetkit; this one reads"
                f" version {VERSION}; install the unetkit that wrote it"
            )
        return cls.parse(values, str(path))

    def digest(self) -> str:
        """Changes when any decision changes (reasons and the place of the data left out)."""
        values = self.model_dump(
            mode="json", exclude={"reasons": True, "data": {"path", "layout", "split"}, "machine": {"processor"}}
        )
        return hashlib.blake2b(json.dumps(values, sort_keys=True).encode(), digest_size=16).hexdigest()


# The parts of a plan that a user may set, by flag or file. The rest is read off the data or is a record.
SETTABLE = ("prepare", "net", "augment", "loss", "sampling", "optim", "learn", "budget", "machine", "predict")


def read_settings(path: Path) -> dict[str, Any]:
    """Settings from a YAML or JSON file, as dotted names. Raises PlanError: absent, not YAML, not a mapping."""
    try:
        values = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise PlanError(f"{path}: there is no such settings file") from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise PlanError(f"{path}: cannot be read as YAML or JSON: {reason}") from None
    if not isinstance(values, dict):
        raise PlanError(f"{path}: must hold settings such as 'optim: {{lr: 0.001}}', not {type(values).__name__}")
    if "version" in values and "request" in values:
        # a whole plan: everything that can be set is taken as it stands there
        values = {name: values[name] for name in SETTABLE if name in values}
    return flatten(values)


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{'optim': {'lr': 1}} → {'optim.lr': 1}."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
