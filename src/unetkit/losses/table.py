"""Every loss there is: what it is for, its parameters, its source. Expressions, messages and docs are made of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor

from unetkit.losses.distances import boundary, hausdorff
from unetkit.losses.lovasz import lovasz
from unetkit.losses.overlap import dice, generalised_dice, jaccard, tversky
from unetkit.losses.pair import Target
from unetkit.losses.pointwise import border_cross_entropy, cross_entropy, focal
from unetkit.losses.skeleton import cldice

Value = float | int | bool | None


@dataclass(frozen=True)
class Parameter:
    """A parameter in brackets. Without `low` and `high` it is true or false; a default of None may stay none."""

    name: str
    default: Value
    says: str
    low: float | None = None
    high: float = math.inf
    whole: bool = False

    @property
    def shown(self) -> str:
        """The default as a user writes it."""
        if self.default is None or isinstance(self.default, bool):
            return str(self.default).lower()
        return f"{self.default:g}"

    @property
    def allowed(self) -> str:
        """What may be given, in words."""
        if self.low is None:
            return "true or false"
        text = f"{'a whole number' if self.whole else 'a number'} "
        text += f"from {self.low:g} to {self.high:g}" if math.isfinite(self.high) else f"of at least {self.low:g}"
        return f"{text}, or none" if self.default is None else text


@dataclass(frozen=True)
class KnownLoss:
    """A loss by its name. of: the function of a `Pair` and all parameters. refuses: what is wrong with such values for
    such a target, or an empty text."""

    name: str
    says: str
    formula: str
    source: str
    of: Callable[..., Tensor]
    parameters: tuple[Parameter, ...] = ()
    notes: str = ""
    refuses: Callable[[Mapping[str, Value], Target], str] = lambda _values, _target: ""

    @property
    def defaults(self) -> dict[str, Value]:
        """The value of every parameter that is not given."""
        return {p.name: p.default for p in self.parameters}


def _smooth(default: float) -> Parameter:
    return Parameter("smooth", default, "added above and below the fraction", 1e-12)


_IMAGE = Parameter("image", False, "each image for itself, not the batch as a whole")
_SQUARED = Parameter("squared", False, "squares of the probabilities below the fraction, as V-Net has it")
_BACKGROUND = Parameter("background", True, "the background is one of the classes")
_NO_BACKGROUND = Parameter("background", False, "the background is one of the classes")
_ABSENT = Parameter("absent", False, "classes that do not occur in the truth count too, as in MONAI and nnU-Net")
_SHARES = (
    Parameter("alpha", 0.3, "weight of what is predicted and not true", 0),
    Parameter("beta", 0.7, "weight of what is true and not predicted", 0),
)

RAMP = Parameter("ramp", 0.0, "share of the budget over which the weight grows from 0, evenly; 0: full at once", 0, 1)
"""A parameter that every loss takes: the sum knows it, and not the loss itself."""


def _no_positive(values: Mapping[str, Value], target: Target) -> str:
    if values["positive"] == 1 or target.regions or target.classes == 2:
        return ""
    return f"of {target.classes} classes none is the positive one; set loss.class_weights"


def _no_background(values: Mapping[str, Value], target: Target) -> str:
    if values["alpha"] is None or target.regions or target.background is not None:
        return ""
    return "alpha weighs classes against the background, and here every class counts; set loss.class_weights"


def _no_gap(values: Mapping[str, Value], target: Target) -> str:
    gap = values["gap"]
    if gap is not None and target.regions:
        return "regions have nothing between them but where they are not; leave gap out"
    if gap is not None and gap >= target.classes:
        return f"gap is the number of a class, and they are 0 … {target.classes - 1}"
    if gap is None and target.background is None and not target.regions:
        return "every class counts here: say which lies between the cells, such as border_ce(gap=0)"
    return ""


_ALL = (
    KnownLoss(
        "ce",
        "cross-entropy: right per pixel; of regions binary, one question each",
        "mean of −log p of the truth; with class weights a weighted mean",
        "Szegedy 2016, Rethinking the Inception architecture, section 7 (label smoothing)",
        cross_entropy,
        (
            Parameter("smoothing", 0.0, "share of the truth that is spread over all classes", 0, 1),
            Parameter("positive", 1.0, "weight of the pixels of regions, or of the one class beside the background", 0),
        ),
        "Equal to torch's `cross_entropy(weight, label_smoothing)`; of regions to `BCEWithLogitsLoss(pos_weight)`,"
        " where class weights are weights of positive pixels too.",
        _no_positive,
    ),
    KnownLoss(
        "focal",
        "cross-entropy that looks away from what is easy",
        "mean of −(1 − p)^gamma · log p of the truth",
        "Lin 2017, Focal loss for dense object detection, equations 4 and 5",
        focal,
        (
            Parameter("gamma", 2.0, "how much less an easy pixel counts; 0 is cross-entropy", 0),
            Parameter("alpha", None, "weight of what is there; what is not, the background, weighs 1 − alpha", 0, 1),
        ),
        "MONAI's `FocalLoss(use_softmax=True)` divides by the number of classes too; of regions both are equal. Class"
        " weights act as in `ce`.",
        _no_background,
    ),
    KnownLoss(
        "dice",
        "Dice of soft areas: right per structure, however small",
        "1 − mean over classes of (2 I + s) / (P + T + s)",
        "Milletari 2016, V-Net, section 3 (with squared=true)",
        dice,
        (_IMAGE, _SQUARED, _BACKGROUND, _ABSENT, _smooth(1e-5)),
        "MONAI's `DiceLoss` is `dice(image=true, absent=true)`, its `batch=True` leaves image out. nnU-Net's is"
        " `dice(background=false, absent=true)`, with image=true where it has no batch Dice. smp's `DiceLoss` is"
        " `dice(smooth=1e-12)`.",
    ),
    KnownLoss(
        "jaccard",
        "intersection over union of soft areas",
        "1 − mean over classes of (I + s) / (P + T − I + s)",
        "Rahman and Wang 2016, Optimizing intersection-over-union",
        jaccard,
        (_IMAGE, _SQUARED, _BACKGROUND, _ABSENT, _smooth(1e-5)),
        "As smp's `JaccardLoss`. MONAI's `DiceLoss(jaccard=True)` doubles both areas: its smooth is twice this one.",
    ),
    KnownLoss(
        "tversky",
        "Dice that prefers to find too much (beta above alpha), or too little",
        "1 − mean over classes of (I + s) / (I + alpha (P − I) + beta (T − I) + s)",
        "Salehi 2017, Tversky loss function for image segmentation using 3D fully convolutional deep networks",
        tversky,
        (*_SHARES, _IMAGE, _BACKGROUND, _ABSENT, _smooth(1e-5)),
        "alpha and beta as in MONAI and smp. With 0.5 and 0.5 it is Dice.",
    ),
    KnownLoss(
        "focal_tversky",
        "Tversky to a power: below 1 classes that are nearly right keep their pull, above 1 bad ones count more",
        "mean over classes of (1 − (I + s) / (I + alpha (P − I) + beta (T − I) + s))^gamma",
        "Abraham and Khan 2019, A novel focal Tversky loss function with improved attention U-Net",
        tversky,
        (
            *_SHARES,
            Parameter("gamma", 0.75, "the power: 1 / γ of the paper, with its γ = 4/3", 0.1, 10),
            _IMAGE,
            _BACKGROUND,
            _ABSENT,
            _smooth(1e-5),
        ),
        "The paper's α is the weight of what is missed, our beta. gamma as in smp's `TverskyLoss`.",
    ),
    KnownLoss(
        "gdice",
        "generalised Dice: one fraction of all classes, rare ones weighted up",
        "1 − (2 Σ w I + s) / (Σ w (P + T) + s), w = (smallest T / T)^power",
        "Sudre 2017, Generalised Dice overlap as a deep learning loss function",
        generalised_dice,
        (
            Parameter("power", 2.0, "0: all classes weigh alike; 1: one over their area; 2: one over its square", 0, 4),
            _IMAGE,
            _BACKGROUND,
            _smooth(1e-5),
        ),
        "MONAI's `GeneralizedDiceLoss` (w_type square, simple, uniform is power 2, 1, 0) without its smoothing, which"
        " is as large as its weights of large classes: ours are scaled so that the rarest class weighs 1. A class that"
        " does not occur weighs as much as the rarest.",
    ),
    KnownLoss(
        "lovasz",
        "the surface of the Jaccard index itself: good for a last stretch, slow at first",
        "mean over classes of Σ sorted errors · growth of the Jaccard loss; of regions the hinge",
        "Berman 2018, The Lovász-softmax loss, algorithm 1; Yu and Blaschko 2015 (hinge)",
        lovasz,
        (_IMAGE, _BACKGROUND, _ABSENT),
        "As the authors' code (`classes='present'`), and smp's `LovaszLoss(mode='multiclass')`. For regions the"
        " authors' hinge counts regions that do not occur: absent=true.",
    ),
    KnownLoss(
        "boundary",
        "distance of what is predicted wrongly to the true border; beside another loss, and ramped up",
        "mean of φ · p, φ the signed distance to the true border in pixels",
        "Kervadec 2019, Boundary loss for highly unbalanced segmentation, equation 5",
        boundary,
        (_NO_BACKGROUND,),
        "Equal to MONAI's `BoundaryLoss(include_background=False)`. It is not bounded and"
        " may be negative: the paper begins with 0.01 of it, such as `dice + 0.1*boundary(ramp=1)`.",
    ),
    KnownLoss(
        "hausdorff",
        "squared errors weighted with their distance to both borders; beside another loss, with a small weight",
        "mean of (p − t)² · (d_p^alpha + d_t^alpha), d the distances to the predicted and the true border in pixels",
        "Karimi and Salcudean 2019, Reducing the Hausdorff distance (by distance transforms)",
        hausdorff,
        (Parameter("alpha", 2.0, "how much more far errors count", 0, 4), _NO_BACKGROUND),
        "Equal to MONAI's `HausdorffDTLoss`. Distances of the prediction are computed anew in every step.",
    ),
    KnownLoss(
        "cldice",
        "whether the middle lines of thin structures are found: vessels, roads, nerve fibres; beside another loss",
        "1 − mean over classes of 2 · precision · sensitivity / (precision + sensitivity) of soft skeletons",
        "Shit 2021, clDice, algorithm 1 and equations 1 and 2",
        cldice,
        (
            Parameter("iterations", 3, "pixels: at least half the thickness of the structures", 0, 50, whole=True),
            _IMAGE,
            _NO_BACKGROUND,
            _ABSENT,
            Parameter("smooth", 1.0, "added above and below both fractions", 1e-12),
        ),
        "MONAI's `SoftclDiceLoss` pools all its classes in one sum per image; of one class it is `cldice(image=true)`.",
    ),
    KnownLoss(
        "border_ce",
        "cross-entropy with the weight map of the 2015 paper: keeps cells apart that nearly touch",
        "weighted mean of −log p of the truth, w = w_c + w0 · exp(−(d1 + d2)² / (2 sigma²)) between cells",
        "Ronneberger 2015, U-Net, equations 1 and 2",
        border_cross_entropy,
        (
            Parameter("w0", 10.0, "weight of a pixel where two cells touch", 0),
            Parameter("sigma", 5.0, "pixels over which it falls off", 0.1, 1000),
            Parameter("balance", True, "w_c is one over the share of the class in the batch, else 1"),
            Parameter("gap", None, "number of the class between cells; none: the background", 0, whole=True),
        ),
        "Cells are the connected areas of all other classes (of instances that touch, of what is inside their borders),"
        " d1 and d2 the distances to the two nearest. Where loss.class_weights are set they are w_c. The mean is"
        " weighted, so that the map shifts weight and does not add to it.",
        _no_gap,
    ),
)

LOSSES: Mapping[str, KnownLoss] = {loss.name: loss for loss in _ALL}
"""By name, in the order in which they are listed."""
