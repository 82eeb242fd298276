"""`"ce + dice"`, `"0.5*ce + tversky(alpha=0.7, beta=0.3)"`: a sum of weighted losses, written as text in the plan, as
one function."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from unetkit.core.errors import PlanError, nearest
from unetkit.losses.pair import Pair, Target
from unetkit.losses.table import LOSSES, RAMP, KnownLoss, Parameter, Value

# a plus sign inside a number, as in 1e+3, is no separator, and none inside brackets
_PLUS = re.compile(r"(?<![0-9.][eE])\+(?![^(]*\))")
_TERM = re.compile(r"(?:(?P<weight>[^*(]*)\*)?\s*(?P<name>[A-Za-z_]\w*)\s*(?:\((?P<inside>[^()]*)\))?\s*")


class Loss(Protocol):
    """Logits and a label in, one number out."""

    def __call__(
        self,
        logits_BKX: Tensor,
        label_BX: Tensor,
        fraction: float = 1.0,
        stride: Sequence[float] | None = None,
    ) -> Tensor:
        """The loss, a float32 scalar (float64 for float64 logits).

        logits (B, K, *space) of any float type; label (B, *space), uint8 or int64: classes 0 … K−1, or bit masks of
        regions; 255 is ignored. fraction: share of the budget that is spent, for weights that grow. stride: pixels of
        the full grid per pixel of these logits (deep supervision), for distances; none: they are the full grid.

        Raises ValueError: shapes that do not belong together, a label that is none of the classes.
        """
        ...


@dataclass(frozen=True)
class Term:
    """One part of a sum: weight, name, the parameters that were given, and over which share of the budget it grows."""

    weight: float
    name: str
    values: tuple[tuple[str, Value], ...] = ()
    ramp: float = 0.0

    def weight_at(self, fraction: float) -> float:
        """The weight when this share of the budget is spent."""
        return self.weight * (min(1.0, fraction / self.ramp) if self.ramp else 1.0)


def parse_loss(expression: str) -> tuple[Term, ...]:
    """The terms of `"0.5*ce + tversky(alpha=0.7)"`.

    Raises PlanError: unknown loss or parameter (with the nearest name), a value out of range, a weight that is not a
    positive number, an unreadable or empty term.
    """
    return tuple(_term(text, expression) for text in _PLUS.split(expression))


def make_loss(
    expression: str,
    classes: int,
    class_weights: Sequence[float] | None = None,
    regions: bool = False,
    *,
    background: int | None = 0,
    cells: Sequence[int] = (),
    spacing: Sequence[float] = (),
) -> Loss:
    """The function that `expression` describes.

    class_weights, one per class, weigh the cross-entropies; losses of overlap weigh their classes equally by
    themselves. regions: the classes may overlap, labels are bit masks, and each class has a sigmoid of its own; a
    weight is that of the class's own pixels beside all others. background: the class where nothing is, or None. cells:
    the classes that are the inside of cells (`border_ce`); empty: all but the background. spacing: lengths of a pixel
    along each axis, in units of the finest; empty: all alike.

    Where every pixel is ignored the loss is 0, and so is its gradient. Raises PlanError: as `parse_loss`; class weights
    of the wrong number, negative or all zero; a parameter that makes no sense for such classes.
    """
    terms = parse_loss(expression)
    weights = None if class_weights is None else tuple(float(w) for w in class_weights)
    if weights is not None and (
        len(weights) != classes or not all(math.isfinite(w) and w >= 0 for w in weights) or not any(weights)
    ):
        raise PlanError(
            f"class weights {list(weights)}: {classes} classes need {classes} numbers, none negative and not all 0"
        )
    target = Target(classes, weights, regions, None if regions else background, tuple(cells), tuple(spacing))
    for term in terms:
        if reason := _refusal(LOSSES[term.name], dict(term.values), target):
            raise PlanError(f"loss {expression!r}: {term.name}: {reason}")
    return _Sum(terms, target)


@dataclass(frozen=True)
class _Sum:
    terms: tuple[Term, ...]
    target: Target

    def __call__(
        self,
        logits_BKX: Tensor,
        label_BX: Tensor,
        fraction: float = 1.0,
        stride: Sequence[float] | None = None,
    ) -> Tensor:
        pair = Pair(logits_BKX, label_BX, self.target, stride)
        total = self._weighted(self.terms[0], pair, fraction)
        for term in self.terms[1:]:
            total = total + self._weighted(term, pair, fraction)
        return total

    def _weighted(self, term: Term, pair: Pair, fraction: float) -> Tensor:
        known = LOSSES[term.name]
        return term.weight_at(fraction) * known.of(pair, **(known.defaults | dict(term.values)))


def _refusal(known: KnownLoss, given: Mapping[str, Value], target: Target) -> str:
    """Why a loss makes no sense for such a target; empty where it does."""
    if "background" in given and target.regions:
        return "regions have no background: it is where none of them is; leave background out"
    if given.get("background") is False and target.background is None:
        return "every class counts here, none is the background; leave background out"
    values = {**known.defaults, **given}
    if not target.counted(bool(values.get("background", True))):
        return "there is no class but the background; say background=true"
    return known.refuses(values, target)


def _term(text: str, expression: str) -> Term:
    match = _TERM.fullmatch(text)
    if match is None:
        raise PlanError(
            f"loss {expression!r}: cannot read the term '{text.strip()}'; write a sum like 'ce + dice' or "
            f"'0.5*ce + tversky(alpha=0.7, beta=0.3)'; {_known()}"
        )
    name = match["name"]
    if name not in LOSSES:
        raise PlanError(f"loss {expression!r}: there is no loss '{name}'; {_known()}{nearest(name, LOSSES)}")
    weight = 1.0 if match["weight"] is None else _weight(match["weight"].strip(), expression)
    values = _values(match["inside"] or "", LOSSES[name], expression)
    ramp = values.pop(RAMP.name, 0.0)
    return Term(weight, name, tuple(values.items()), float(ramp or 0.0))


def _known() -> str:
    return f"the losses are {', '.join(LOSSES)} (`unetkit plan --losses` explains them)"


def _values(inside: str, known: KnownLoss, expression: str) -> dict[str, Value]:
    values: dict[str, Value] = {}
    parameters = {p.name: p for p in (*known.parameters, RAMP)}
    for text in inside.split(",") if inside.strip() else ():
        name, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not name or not value:
            raise PlanError(
                f"loss {expression!r}: cannot read '{text.strip()}' in the brackets of {known.name}; write parameters"
                f" as NAME=VALUE, such as {known.name}({known.parameters[0].name}={known.parameters[0].shown})"
            )
        if name not in parameters:
            raise PlanError(
                f"loss {expression!r}: {known.name} has no parameter '{name}'; it takes {', '.join(parameters)}"
                f"{nearest(name, parameters)}"
            )
        if name in values:
            raise PlanError(f"loss {expression!r}: {name} is given twice in the brackets of {known.name}")
        values[name] = _value(value, parameters[name], known, expression)
    return values


def _value(text: str, parameter: Parameter, known: KnownLoss, expression: str) -> Value:
    if parameter.default is None and text == "none":
        return None
    if parameter.low is None:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
    else:
        try:
            number = float(text)
        except ValueError:
            number = math.nan
        if math.isfinite(number) and parameter.low <= number <= parameter.high:
            if not parameter.whole:
                return number
            if number == int(number):
                return int(number)
    raise PlanError(f"loss {expression!r}: {parameter.name} of {known.name} is {parameter.allowed}, not '{text}'")


def _weight(text: str, expression: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = math.nan
    if not (math.isfinite(weight) and weight > 0):
        raise PlanError(f"loss {expression!r}: the weight '{text}' is not a positive number")
    return weight
