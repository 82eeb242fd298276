"""A trained model as prediction sees it: its networks, what classes are called in masks, how images are made."""

from __future__ import annotations

from dataclasses import dataclass, field

from unetkit.data.labels.legend import Legend
from unetkit.data.prepared.plan import PreparePlan
from unetkit.nets.build import UNet
from unetkit.plan.parts import PostPlan
from unetkit.predict.decide import Rule
from unetkit.predict.tuned import Tuned


@dataclass(frozen=True)
class Model:
    """Everything that turns image files into mask files. Loading one from a run folder is the business of layers above.

    net: the network, weights loaded. legend: from class indices to the values or colours of masks.
    prepare: from the pixels of a file to the network's input. post: what becomes of predicted areas and objects.
    others: networks of the same spec whose probabilities are averaged with its own (of a run in folds). tuned: what
    held-out predictions taught.
    """

    net: UNet
    legend: Legend
    prepare: PreparePlan
    post: PostPlan = field(default_factory=PostPlan)
    others: tuple[UNet, ...] = ()
    tuned: Tuned = field(default_factory=Tuned)

    @property
    def nets(self) -> tuple[UNet, ...]:
        """Every network of the model."""
        return (self.net, *self.others)

    @property
    def rule(self) -> Rule:
        """How labels are decided."""
        return self.tuned.decoding.rule(self.legend, self.post)
