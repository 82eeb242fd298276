"""Parts of a plan that training and prediction follow: what one step sees, what is minimised and how, for how long, on
what, and what becomes of a prediction."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from unetkit.core.config import Config
from unetkit.core.errors import nearest
from unetkit.data.labels.legend import Legend

Precision = Literal["fp32", "bf16"]
Layout = Literal["contiguous", "channels_last"]


class SamplingPlan(Config):
    """What one step sees."""

    patch: tuple[int, ...] = (256, 256)
    """Pixels of a patch along every axis: multiples of the network's divisor."""
    batch: int = Field(default=2, ge=1)
    """Patches in a step."""
    oversample: float = Field(default=0.33, ge=0, le=1)
    """Share of the patches centred near a pixel of a class drawn evenly (rare classes are met more often)."""
    by_area: float = Field(default=0.0, ge=0, le=1)
    """Share of these for which a connected area of the class is drawn evenly (small objects are met as often as large
    ones), and not a pixel."""
    repeat: float = Field(default=0.0, ge=0, le=1)
    """Images with a class that a smaller share of the images has than this are met more often (Gupta 2019, LVIS)."""
    hard: float = Field(default=0.0, ge=0, le=2)
    """Cases whose loss runs above the median are met more often: in proportion to this power of it; 0: they are
    not."""
    hard_most: float = Field(default=3.0, ge=1)
    """So many times as often as usual at the most (what cannot be learnt may be labelled wrongly), and as seldom."""

    @model_validator(mode="after")
    def _areas_are_centred_on(self) -> Self:
        if self.by_area and not self.oversample:
            raise ValueError(
                "by_area is a share of the patches that oversample centres on a class: set oversample, too"
            )
        return self


class LossPlan(Config):
    """What is minimised: a sum of terms, and the weight of each class in the cross-entropy."""

    terms: str = "ce + dice"
    """A sum such as "ce + dice" or "0.5*ce + tversky(alpha=0.7)"; `unetkit plan --losses` lists what there is."""
    class_weights: tuple[float, ...] | None = None
    """One weight per class in losses of single pixels (cross-entropy and its kin); none: all alike."""
    scales: tuple[float, ...] | None = None
    """Weights of the results of deep supervision, finest first; none: half as much at half the resolution."""

    @field_validator("scales")
    @classmethod
    def _are_weights(cls, value: tuple[float, ...] | None) -> tuple[float, ...] | None:
        if value is not None and (min(value, default=-1.0) < 0 or sum(value) <= 0):
            raise ValueError("weights are 0 or more, and not all 0")
        return value


Fall = Literal["cosine", "poly", "linear", "level", "constant", "restarts"]


class OptimPlan(Config):
    """How weights are changed: the optimiser, a warm-up and a fall of the learning rate over the budget, and an average
    of the weights."""

    name: Literal["adamw", "sgd", "lion"] = "adamw"
    """adamw (Loshchilov 2019); sgd: with Nesterov momentum, as nnU-Net (Isensee 2021); lion (Chen 2023)."""
    lr: float = Field(default=2e-3, gt=0)
    """Largest learning rate."""
    weight_decay: float = Field(default=1e-2, ge=0)
    """Not applied to norms, biases, embeddings and positions."""
    momentum: float = Field(default=0.99, ge=0, lt=1)
    """Of sgd."""
    layer_decay: float = Field(default=1.0, gt=0, le=1)
    """Each part of the network learns so many times as fast as the one after it (Howard 2018, section 3.2): for weights
    that training begins with; 1: all alike."""
    schedule: Fall = "cosine"
    """How the rate falls after the warm-up: cosine (Loshchilov 2017), poly (to the power 0.9; Chen 2018), linear, level
    (only in the last part, `decay`; Hägele 2024), constant (not at all), restarts (several cosines, `cycles`)."""
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Fraction of the budget over which the learning rate rises from zero."""
    decay: float = Field(default=0.25, gt=0, le=1)
    """Of the schedule level: the last fraction of the budget, in which the rate falls."""
    cycles: int = Field(default=3, ge=1)
    """Of restarts: how many."""
    growth: float = Field(default=1.0, ge=1)
    """Of restarts: how many times as long each is as the one before (Loshchilov 2017, T_mult)."""
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the gradient; none: any."""
    average: Literal["ema", "swa", "none"] = "ema"
    """What is validated, kept and used: an exponential average of the weights (ema), the mean over the end of training
    (swa; Izmailov 2018), or the weights as they are."""
    ema: float = Field(default=0.99, ge=0, lt=1)
    """Share of the old average that stays at every step."""
    swa_from: float = Field(default=0.75, ge=0, lt=1)
    """Of swa: the fraction of the budget from which the weights of every step count alike; before, it is ema."""


def one_budget(minutes: float | None, steps: int | None) -> None:
    """Raise ValueError where both are given."""
    if minutes is not None and steps is not None:
        raise ValueError("minutes and steps exclude each other: give one of them")


class BudgetPlan(Config):
    """How long: minutes, or steps, or (neither) until validation has settled, at the longest `limit` minutes."""

    minutes: float | None = Field(default=None, gt=0)
    """Minutes for everything, from reading the data to the report."""
    steps: int | None = Field(default=None, ge=1)
    """Training steps, however long they take."""
    limit: float = Field(default=60.0, gt=0)
    """Without minutes or steps: minutes after which training ends even if validation has not settled."""
    validations: int = Field(default=12, ge=1)
    """How often whole images are validated, evenly over the budget."""
    validation_cases: int = Field(default=16, ge=1)
    """Most cases used on the way; at the end all are."""
    join: float = Field(default=1.0, gt=0, le=1)
    """Share of the budget after which the validation images are learnt from as well: scores are of the network as it
    was before, and the one that is used has seen all images. 1: never."""
    save_every: float = Field(default=5.0, ge=0)
    """Seconds of work that a kill may cost: the state is saved this often (more seldom only where saving is slow)."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        one_budget(self.minutes, self.steps)
        return self


class MachinePlan(Config):
    """How the arithmetic is done: chosen by timed steps on this machine, kept by a resumed run."""

    device: str = "cpu"
    """cpu, cuda, cuda:1 or mps."""
    precision: Precision = "fp32"
    """Of the network's arithmetic; weights, loss and updates are always float32."""
    layout: Layout = "contiguous"
    """Order of a feature map's values in memory."""
    threads: int = Field(default=1, ge=1)
    """Processors used."""
    checkpointing: bool = False
    """Compute feature maps a second time in the backward pass instead of keeping them: slower, with less memory."""
    processor: str = ""
    """The processor on which precision and layout were chosen; elsewhere prediction chooses anew."""


Size = Annotated[float, Field(ge=0)]


class PostPlan(Config):
    """What becomes of a predicted label: areas are removed and filled, objects told apart. Sizes are lengths, areas or
    volumes in the unit of the image's spacing (mm², µm³, s …), or pixels where that is not known."""

    objects: Literal["auto", "none", "components", "watershed"] = "auto"
    """What gets a number of its own: connected areas, or objects that touch, grown from what is inside their borders
    (watershed). auto: of instances, as they were learnt; else none."""
    ground: float = Field(default=0.5, ge=0, lt=1)
    """Of objects by watershed: the probability above which a pixel belongs to one; higher makes them smaller."""
    sure: float = Field(default=0.9, ge=0, lt=1)
    """Of objects by watershed: how deep, of 1, a pixel lies that is surely inside; each connected area of them grows to
    an object. 0: objects are told apart by depth, as `neck` and `dip` say."""
    neck: float = Field(default=0.2, ge=0, le=1)
    """Two hills of depth are two objects if the way between them is lower than the lesser of them by more than this
    share of its height; higher keeps more together."""
    dip: float = Field(default=0.0, ge=0)
    """And by more than so many pixels."""
    keep_largest: tuple[str, ...] | Literal["all"] = ()
    """Classes of which only the largest connected area stays."""
    smallest: Size | dict[str, Size] = 0.0
    """Connected areas (objects) below this size become background; one size for all, or one per class."""
    fill_holes: Size | Literal["all"] = 0.0
    """Background up to this size that one class (or object) surrounds is filled."""

    def objects_of(self, legend: Legend) -> Literal["none", "components", "watershed"]:
        """What gets a number of its own in predictions of such a legend."""
        if self.objects != "auto":
            return self.objects
        return "none" if legend.kind != "instances" else "watershed" if legend.touching else "components"

    def smallest_of(self, name: str) -> float:
        """The size below which areas of a class are removed; 0: none is."""
        return self.smallest.get(name, 0.0) if isinstance(self.smallest, dict) else self.smallest

    def keeps_one(self, name: str) -> bool:
        """Whether only the largest area of a class stays."""
        return self.keep_largest == "all" or name in self.keep_largest

    def check(self, legend: Legend) -> None:
        """Raise ValueError for classes that the legend does not have, and for what it does not allow."""
        names = legend.plain.names
        named = [*([] if self.keep_largest == "all" else self.keep_largest), *_keys(self.smallest)]
        for name in named:
            if name not in names:
                raise ValueError(
                    f"there is no class '{name}'; the classes are {', '.join(names)}{nearest(name, names)}"
                )
        if self.objects == "watershed" and not legend.touching:
            raise ValueError("watershed needs the border of objects as a class, and none was learnt; use components")
        if self.objects == "components" and legend.regions:
            raise ValueError("regions that may overlap cannot be numbered in one mask; leave objects out")
        changes = named or self.keep_largest or self.smallest or self.fill_holes
        if changes and legend.background is None and legend.kind in ("values", "colours"):
            raise ValueError("what is removed becomes background, and here every class counts; leave it out")


def _keys(value: float | dict[str, float]) -> list[str]:
    return list(value) if isinstance(value, dict) else []


class PredictPlan(Config):
    """How the model is used unless the user says otherwise."""

    tta: bool = False
    """Average the predictions of the flips and quarter turns that training showed (eight of an image)."""
    post: PostPlan = PostPlan()
