"""The strengths of augmentation in words that a person reads: what is on, how strong, and what is off. Plain letters:
they are drawn into pictures, too."""

from __future__ import annotations

import math

from unetkit.augment.plan import AugmentPlan


def in_words(plan: AugmentPlan, ndim: int, channels: int = 1) -> tuple[list[str], list[str]]:
    """What is on, each with its strength and the share of the samples, and the names of what is off, for images of
    `ndim` axes. What such images cannot have (turns of a signal, colours of a grey image) is in neither."""
    light, contrast, brightness = (
        ("uneven gain", "gain", "baseline") if ndim == 1 else ("uneven light", "contrast", "brightness")
    )
    on: list[str] = []
    off: list[str] = []

    def tell(name: str, strength: float, text: str) -> None:
        (on if strength else off).append(text if strength else name)

    flips = [axis for axis, flip in enumerate(plan.flips(ndim)) if flip]
    along = "each axis" if len(flips) == ndim else "axis " + " and ".join(map(str, flips))
    tell("mirrored", len(flips), f"mirrored along {along}, every second time")
    if ndim > 1:
        plane = " in the plane of the slices" if plan.fixed else ""
        tell("quarter turns", plan.turn, "quarter turns")
        tell("turned", plan.rotate, f"turned by up to ±{plan.rotate:g}°{plane}")
    tell("zoom", plan.scale, f"zoom {_factor(plan.scale)}")
    if ndim > 1:
        tell("stretched", plan.stretch, f"stretched {_factor(plan.stretch)}")
        tell("slanted", plan.shear, f"slanted by up to ±{plan.shear:g}°")
    grid = f"on a grid of {_long(plan.elastic_spacing, ndim)}"
    tell("bent", plan.elastic, f"bent by about {_long(plan.elastic, ndim)} {grid}")
    tell("objects pasted", plan.paste, f"up to {plan.paste_most} objects pasted ({_every(plan.paste)})")
    tell(light, plan.bias * plan.bias_share, f"{light} {_factor(plan.bias)} ({_every(plan.bias_share)})")
    tell("blur", plan.blur * plan.blur_share, f"blur up to {_long(plan.blur, ndim)} ({_every(plan.blur_share)})")
    lost = plan.low_resolution * plan.low_resolution_share
    share = _every(plan.low_resolution_share)
    tell("low resolution", lost, f"resolution down to {1 - plan.low_resolution:.0%} ({share})")
    if channels == 3:
        tell("saturation", plan.saturation, f"saturation {_factor(plan.saturation)}")
        tell("hue", plan.hue, f"hue ±{plan.hue:g}°")
        tell("stain", plan.stain, f"stain ±{plan.stain:.0%}")
    inverted = f", {plan.gamma_inverted:.0%} of them inverted" if plan.gamma_inverted else ""
    tell("gamma", plan.gamma * plan.gamma_share, f"gamma {_factor(plan.gamma)} ({_every(plan.gamma_share)}{inverted})")
    tell(contrast, plan.contrast, f"{contrast} {_factor(plan.contrast)}")
    tell(brightness, plan.brightness, f"{brightness} ±{plan.brightness:g}")
    tell("noise", plan.noise * plan.noise_share, f"noise up to {plan.noise:g} ({_every(plan.noise_share)})")
    if channels > 1:
        tell("channel blanked", plan.channel_drop, f"a channel blanked ({_every(plan.channel_drop)})")
    label = "their label ignored" if plan.cut_out_label == "ignore" else "their label kept"
    boxes = f"up to {plan.cut_out_most} boxes cut out ({_every(plan.cut_out)}), {label}"
    tell("boxes cut out", plan.cut_out, boxes)
    mixed = f"two patches mixed ({_every(plan.mix_up_share)})"
    tell("mixtures", plan.mix_up * plan.mix_up_share, mixed)
    return on, off


def _long(length: float, ndim: int) -> str:
    unit = {1: "sample", 2: "pixel", 3: "voxel"}[ndim]
    return f"{length:g} {unit}{'s' * (length != 1)}"


def _factor(strength: float) -> str:
    """0.78 to 1.28, from a logarithm."""
    return f"{math.exp(-strength):.2f} to {math.exp(strength):.2f}"


def _every(share: float) -> str:
    return "all" if share >= 1 else f"{share:.0%}"
