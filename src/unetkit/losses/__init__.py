"""Logits and labels in, one number out: any number of axes, ignored pixels everywhere, float32 inside."""

from unetkit.losses.expression import TERMS, Loss, make_loss, parse_loss
from unetkit.losses.terms import cross_entropy, dice, region_cross_entropy, region_dice

__all__ = ["TERMS", "Loss", "cross_entropy", "dice", "make_loss", "parse_loss", "region_cross_entropy", "region_dice"]
