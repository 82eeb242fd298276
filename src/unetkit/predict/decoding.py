"""From calibrated probabilities to labels and objects, as held-out predictions taught it."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from unetkit.core.config import Config
from unetkit.data.labels.legend import Legend
from unetkit.plan.parts import PostPlan
from unetkit.predict.decide import Rule, Share


class Decoding(Config):
    """How labels are decided; the defaults are arg-max, one half for regions that may overlap, and areas and objects as
    planned."""

    bias: tuple[float, ...] = ()
    """Added to the log-probability of each class before the largest is taken; empty: nothing."""
    thresholds: tuple[Share, ...] = ()
    """Of regions that may overlap: the probability above which each is there; empty: one half."""
    post: PostPlan | None = None
    """What becomes of areas and objects, instead of what the plan says."""
    why: str = ""
    """What was chosen from, and what it gained, in a sentence."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Self:
        if self.bias and self.thresholds:
            raise ValueError("bias (of classes) and thresholds (of regions) exclude each other")
        return self

    @property
    def neutral(self) -> bool:
        """Whether it changes nothing."""
        return self == Decoding(why=self.why)

    def after(self, planned: PostPlan) -> PostPlan:
        """What becomes of areas and objects: as held-out predictions taught, else as planned."""
        return self.post or planned

    def rule(self, legend: Legend, post: PostPlan) -> Rule:
        """How each pixel is decided. post: what becomes of areas and objects (of these, or as a user changed it)."""
        if legend.touching:
            return Rule(depths=legend.depths, ground=post.ground)
        return Rule(bias=self.bias, thresholds=self.thresholds)
