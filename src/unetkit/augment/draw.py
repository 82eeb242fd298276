"""Draw every random parameter first: a record of arrays, one row per sample, that can be stored and replayed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from unetkit.augment.plan import AugmentPlan

# Elastic amplitudes beyond this many standard deviations are cut: stronger ones fold the image over itself.
ELASTIC_CUT = 2.0
# Points along each axis of the grid of a smooth bias field: the fewest of a cubic interpolation.
BIAS_POINTS = 4

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Draws:
    """Parameters of B samples in D dimensions. Everything that the warp and the intensity pass do is in here. None:
    the plan has it off.

    matrix_BDD: maps an offset from the patch centre (pixels of the patch) to an offset in the image (pixels).
    elastic_BDG: displacements in pixels on a coarse grid of shape G.
    gain_B, shift_B, gamma_B, noise_B (standard deviation), blur_B (standard deviation, 0: none), noise_seed_B.
    inverted_B: whether gamma is of the inverted image. bias_BG: logarithm of the factor on a coarse grid.
    resolution_B: pixels that are left along each axis, as a share; 1: all.
    colour_B33: what colours are multiplied with. stain_B32: factor and shift of the amount of each stain.
    channel_B: which channel is blanked, as a share of their number; negative: none.
    boxes_BND2: start and stop of boxes that are cut out, in 0 … 1; empty ones: none.
    paste_B: objects that are pasted; paste_seed_B: of which, and where.
    mix: share of each sample in its mixture with the next one of the batch.
    """

    matrix_BDD: Floats
    elastic_BDG: Floats | None
    gain_B: Floats
    shift_B: Floats
    gamma_B: Floats
    noise_B: Floats
    blur_B: Floats
    noise_seed_B: NDArray[np.int64]
    inverted_B: NDArray[np.bool_] | None = None
    bias_BG: Floats | None = None
    resolution_B: Floats | None = None
    colour_B33: Floats | None = None
    stain_B32: Floats | None = None
    channel_B: Floats | None = None
    boxes_BND2: Floats | None = None
    paste_B: NDArray[np.int64] | None = None
    paste_seed_B: NDArray[np.int64] | None = None
    mix: float = 1.0


def draw(plan: AugmentPlan, patch: Sequence[int], generators: Sequence[np.random.Generator]) -> Draws:
    """Draw the parameters of one batch. One generator per sample: its draws depend on nothing else (a batch is mixed by
    a share that its first sample draws)."""
    grid = elastic_grid(plan, patch)
    rows = [_draw_one(plan, len(patch), grid, g) for g in generators]
    columns: dict[str, Any] = {name: np.stack([row[name] for row in rows]) for name in rows[0] if name != "mix"}
    if not plan.elastic:
        columns["elastic_BDG"] = None
    return Draws(**columns, mix=float(rows[0].get("mix", 1.0)))


def elastic_grid(plan: AugmentPlan, patch: Sequence[int]) -> tuple[int, ...]:
    """Points of the coarse displacement grid that spans the patch: at least 4, which cubic interpolation needs; one
    along a fixed axis, where all bends alike."""
    lengths = plan.lengths(len(patch))
    return tuple(
        1 if axis in plan.fixed else max(4, math.ceil(n * a / plan.elastic_spacing) + 1)
        for axis, (n, a) in enumerate(zip(patch, lengths, strict=True))
    )


def _draw_one(plan: AugmentPlan, ndim: int, grid: tuple[int, ...], g: np.random.Generator) -> Mapping[str, Any]:
    # Every number is drawn whether it is used or not: turning one change off leaves the others as they were.
    flips = np.where((g.random(ndim) < 0.5) & np.array(plan.flips(ndim)), -1.0, 1.0)
    quarter = int(g.integers(4))
    angles = np.radians(g.uniform(-plan.rotate, plan.rotate, size=max(1, ndim * (ndim - 1) // 2)))
    zoom = np.exp(g.uniform(-plan.scale, plan.scale) + g.uniform(-plan.stretch, plan.stretch, size=ndim))
    fixed = list(plan.fixed)
    zoom[fixed] = 1
    amplitude = min(abs(g.normal()), ELASTIC_CUT) * plan.elastic
    field = g.uniform(-1, 1, size=(ndim, *grid))
    field[fixed] = 0
    blurred, noisy, bent = g.random(3) < (plan.blur_share, plan.noise_share, plan.gamma_share)
    gamma, noise, blur = g.uniform(-plan.gamma, plan.gamma), g.uniform(0, plan.noise), g.uniform(0, plan.blur)
    row = {
        "gain_B": np.exp(g.uniform(-plan.contrast, plan.contrast)),
        "shift_B": np.float64(g.uniform(-plan.brightness, plan.brightness)),
        "gamma_B": np.exp(gamma) if bent else np.float64(1),
        "noise_B": np.float64(noise * noisy),
        "blur_B": np.float64(blur * blurred),
        "noise_seed_B": g.integers(2**62),
    }
    slant_DD = g.uniform(-plan.shear, plan.shear, size=(ndim, ndim))
    matrix = _matrix(plan, flips, quarter, angles, zoom, slant_DD)
    if plan.aspect:  # from pixels to lengths, there changed, and back
        lengths = np.array(plan.aspect)
        matrix = matrix * lengths / lengths[:, None]
        field = field / lengths.reshape(-1, *[1] * ndim)
    return row | {"matrix_BDD": matrix, "elastic_BDG": amplitude * field} | _draw_more(plan, ndim, g)


def _matrix(
    plan: AugmentPlan, flips: Floats, quarter: int, angles: Floats, zoom: Floats, slant_DD: Floats
) -> NDArray[np.float64]:
    """Mirrored, turned, slanted, zoomed: in that order, as one matrix."""
    ndim, matrix = len(flips), np.diag(flips)
    planes = [(a, b) for a in range(ndim) for b in range(a + 1, ndim)]
    for (a, b), angle in zip(planes, angles, strict=False):
        if a in plan.fixed or b in plan.fixed:
            continue
        # quarter turns act in the plane of the last two axes
        extra = quarter * math.pi / 2 if plan.turn and (a, b) == (ndim - 2, ndim - 1) else 0.0
        matrix = _rotation(ndim, a, b, angle + extra) @ matrix
    if plan.shear:
        for a, b in [*planes, *((b, a) for a, b in planes)]:
            if a not in plan.fixed and b not in plan.fixed:  # one after the other: what they hold keeps its size
                matrix[a] += math.tan(math.radians(slant_DD[a, b])) * matrix[b]
    return np.asarray(zoom[:, None] * matrix)


def _draw_more(plan: AugmentPlan, ndim: int, g: np.random.Generator) -> dict[str, Any]:
    """What came after the first changes, drawn after them: in one go, and only what is on is worked out. The boxes are
    last, because how many there are depends on the plan."""
    points, most = BIAS_POINTS**ndim, plan.cut_out_most
    u, colours, stains, field, boxes = np.split(
        g.random(21 + points + 2 * most * ndim), (13, 15, 21, 21 + points)
    )  # even numbers in 0 … 1
    mixed, share, inverted, coarse, lost, dropped, channel, pasted, objects, seed, biased, cut, count = u
    row: dict[str, Any] = {}
    if plan.mix_up:
        row["mix"] = _larger_share(plan.mix_up, share) if mixed < plan.mix_up_share else 1.0
    if plan.gamma_inverted:
        row["inverted_B"] = inverted < plan.gamma_inverted
    if plan.low_resolution:
        row["resolution_B"] = np.float64(1 - plan.low_resolution * lost * (coarse < plan.low_resolution_share))
    if plan.channel_drop:
        row["channel_B"] = np.float64(channel if dropped < plan.channel_drop else -1)
    if plan.paste:
        row["paste_B"] = np.int64(1 + int(objects * plan.paste_most) if pasted < plan.paste else 0)
        row["paste_seed_B"] = np.int64(seed * 2**53)
    if plan.saturation or plan.hue:
        saturation, hue = (2 * colours - 1) * (plan.saturation, plan.hue)
        row["colour_B33"] = colour_matrix(float(saturation), float(hue))
    if plan.stain:
        row["stain_B32"] = plan.stain * (2 * stains.reshape(3, 2) - 1) + np.array([1.0, 0.0])
    if plan.bias:
        strength = plan.bias * (biased < plan.bias_share)
        whole = strength * (2 * field - 1).reshape((BIAS_POINTS,) * ndim)
        row["bias_BG"] = whole[tuple(slice(1 if axis in plan.fixed else None) for axis in range(ndim))]
    if plan.cut_out:
        there = np.arange(most) < (1 + int(count * most) if cut < plan.cut_out else 0)
        middle, length = boxes.reshape(2, most, ndim)
        half = (1 + length) / 2 * (plan.cut_out_size / 2) * there[:, None]
        row["boxes_BND2"] = np.stack([middle - half, middle + half], axis=-1).clip(0, 1)
    return row


def _larger_share(alpha: float, u: float) -> float:
    """The larger of the two shares that a Beta(alpha, alpha) distribution gives, from an even number in 0 … 1."""
    if alpha <= 0:
        return 1.0
    share = float(betaincinv(alpha, alpha, u))
    return max(share, 1 - share)


def colour_matrix(saturation: float, hue: float) -> Floats:
    """(3, 3) that multiplies the distance from grey by e^saturation and turns it about grey by `hue` degrees; what is
    grey stays."""
    angle, grey = math.radians(hue), np.full((3, 3), 1 / 3)
    axis = 1 / math.sqrt(3)
    cross = np.array([[0, -axis, axis], [axis, 0, -axis], [-axis, axis, 0]])
    turn = math.cos(angle) * (np.eye(3) - grey) + math.sin(angle) * cross
    return np.asarray(grey + math.exp(saturation) * turn)


def _rotation(ndim: int, a: int, b: int, angle: float) -> Floats:
    matrix = np.eye(ndim)
    # exact for quarter turns, so that they move pixels onto pixels
    c, s = round(math.cos(angle), 15), round(math.sin(angle), 15)
    matrix[a, a], matrix[b, b], matrix[a, b], matrix[b, a] = c, c, -s, s
    return matrix
