"""Logits and labels in, one number out: any number of axes, ignored pixels everywhere, float32 inside."""

from unetkit.losses.expression import Loss, Term, make_loss, parse_loss
from unetkit.losses.table import LOSSES, KnownLoss, Parameter

__all__ = ["LOSSES", "KnownLoss", "Loss", "Parameter", "Term", "make_loss", "parse_loss"]
