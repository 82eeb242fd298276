"""`"ce + dice"`, `"0.5*ce + dice"`: a sum of weighted losses, written as text in the plan, as one function."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from unetkit.core.errors import PlanError, nearest
from unetkit.losses.region_sums import region_sums
from unetkit.losses.sums import Sums, soft_sums
from unetkit.losses.terms import cross_entropy_of, dice_of

Loss = Callable[[Tensor, Tensor], Tensor]

TERMS: Mapping[str, Callable[[Sums], Tensor]] = {"ce": cross_entropy_of, "dice": dice_of}

_TERM = re.compile(r"(?:(?P<weight>[^*]*)\*)?\s*(?P<name>[A-Za-z_]\w*)\s*")


def parse_loss(expression: str) -> tuple[tuple[float, str], ...]:
    """Weights and names of `"0.5*ce + dice"`: ((0.5, "ce"), (1.0, "dice")).

    Raises PlanError: unknown name (with the nearest), a weight that is not a positive number, an empty term.
    """
    terms = []
    # a plus sign inside a number, as in 1e+3, is no separator
    for text in re.split(r"(?<![0-9.][eE])\+", expression):
        match = _TERM.fullmatch(text)
        if match is None:
            raise PlanError(
                f"loss {expression!r}: cannot read the term '{text.strip()}'; write a sum like 'ce + dice' or "
                f"'0.5*ce + dice'; the losses are {', '.join(TERMS)}"
            )
        name = match["name"]
        if name not in TERMS:
            hint = nearest(name, TERMS)
            raise PlanError(f"loss {expression!r}: there is no loss '{name}'; the losses are {', '.join(TERMS)}{hint}")
        terms.append((1.0 if match["weight"] is None else _weight(match["weight"].strip(), expression), name))
    return tuple(terms)


def make_loss(
    expression: str, classes: int, class_weights: Sequence[float] | None = None, regions: bool = False
) -> Loss:
    """The function (logits (B, classes, *space), label (B, *space)) → scalar that `expression` describes.

    `class_weights`, one per class, weight the cross-entropy; Dice weighs its classes equally by itself. Labels of 255
    are ignored. regions: the classes may overlap, labels are bit masks, and each class has a sigmoid of its own; a
    weight is that of the class's own pixels beside all others. Raises PlanError: as `parse_loss`; class weights of the
    wrong number, negative or all zero.
    """
    terms = parse_loss(expression)
    weights_K = None
    if class_weights is not None:
        values = [float(w) for w in class_weights]
        if len(values) != classes or not all(math.isfinite(w) and w >= 0 for w in values) or not any(values):
            raise PlanError(
                f"class weights {values}: {classes} classes need {classes} numbers, none negative and not all 0"
            )
        weights_K = torch.tensor(values)

    sums_of = region_sums if regions else soft_sums

    def loss(logits_BKX: Tensor, label_BX: Tensor) -> Tensor:
        sums = sums_of(logits_BKX, label_BX, weights_K)
        total = terms[0][0] * TERMS[terms[0][1]](sums)
        for weight, name in terms[1:]:
            total = total + weight * TERMS[name](sums)
        return total

    return loss


def _weight(text: str, expression: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise PlanError(f"loss {expression!r}: the weight '{text}' is not a positive number")
    return weight
