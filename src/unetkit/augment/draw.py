"""Draw every random parameter first: a record of arrays, one row per sample, that can be stored and replayed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from unetkit.augment.plan import AugmentPlan

# Shares of the samples that are blurred, noisy, and of changed gamma: plain images stay among those that are seen.
BLURRED, NOISY, BENT = 0.2, 0.5, 0.5
# Elastic amplitudes beyond this many standard deviations are cut: stronger ones fold the image over itself.
ELASTIC_CUT = 2.0


@dataclass(frozen=True)
class Draws:
    """Parameters of B samples in D dimensions. Everything that the warp and the intensity pass do is in here.

    matrix_BDD: maps an offset from the patch centre (pixels of the patch) to an offset in the image (pixels).
    elastic_BDG: displacements in pixels on a coarse grid of shape G, or None where there are none.
    gain_B, shift_B, gamma_B, noise_B (standard deviation), blur_B (standard deviation, 0: none), noise_seed_B.
    """

    matrix_BDD: np.ndarray
    elastic_BDG: np.ndarray | None
    gain_B: np.ndarray
    shift_B: np.ndarray
    gamma_B: np.ndarray
    noise_B: np.ndarray
    blur_B: np.ndarray
    noise_seed_B: np.ndarray


def draw(plan: AugmentPlan, patch: Sequence[int], generators: Sequence[np.random.Generator]) -> Draws:
    """Draw the parameters of one batch. One generator per sample: its draws depend on nothing else."""
    grid = elastic_grid(plan, patch)
    rows = [_draw_one(plan, len(patch), grid, g) for g in generators]
    columns = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    elastic = columns.pop("elastic")
    return Draws(elastic_BDG=elastic if plan.elastic > 0 else None, **columns)


def elastic_grid(plan: AugmentPlan, patch: Sequence[int]) -> tuple[int, ...]:
    """Points of the coarse displacement grid that spans the patch: at least 4, which cubic interpolation needs; one
    along a fixed axis, where all bends alike."""
    lengths = plan.lengths(len(patch))
    return tuple(
        1 if axis in plan.fixed else max(4, math.ceil(n * a / plan.elastic_spacing) + 1)
        for axis, (n, a) in enumerate(zip(patch, lengths, strict=True))
    )


def _draw_one(plan: AugmentPlan, ndim: int, grid: tuple[int, ...], g: np.random.Generator) -> dict[str, np.ndarray]:
    # Every number is drawn whether it is used or not: turning one change off leaves the others as they were.
    flips = np.where((g.random(ndim) < 0.5) & np.array(plan.flips(ndim)), -1.0, 1.0)
    quarter = int(g.integers(4))
    angles = np.radians(g.uniform(-plan.rotate, plan.rotate, size=max(1, ndim * (ndim - 1) // 2)))
    zoom = np.exp(g.uniform(-plan.scale, plan.scale) + g.uniform(-plan.stretch, plan.stretch, size=ndim))
    fixed = list(plan.fixed)
    zoom[fixed] = 1
    matrix = np.diag(flips)
    if ndim > 1:
        planes = [(a, b) for a in range(ndim) for b in range(a + 1, ndim)]
        for (a, b), angle in zip(planes, angles, strict=True):
            if a in fixed or b in fixed:
                continue
            # quarter turns act in the plane of the last two axes
            extra = quarter * math.pi / 2 if plan.turn and (a, b) == (ndim - 2, ndim - 1) else 0.0
            matrix = _rotation(ndim, a, b, angle + extra) @ matrix
    matrix = np.diag(zoom) @ matrix
    amplitude = min(abs(g.normal()), ELASTIC_CUT) * plan.elastic
    field = g.uniform(-1, 1, size=(ndim, *grid))
    field[fixed] = 0
    if plan.aspect:  # from pixels to lengths, there changed, and back
        lengths = np.array(plan.aspect)
        matrix = matrix * lengths / lengths[:, None]
        field = field / lengths.reshape(-1, *[1] * ndim)
    blurred, noisy, bent = g.random(3) < (BLURRED, NOISY, BENT)
    gamma, noise, blur = g.uniform(-plan.gamma, plan.gamma), g.uniform(0, plan.noise), g.uniform(0, plan.blur)
    return {
        "matrix_BDD": matrix,
        "elastic": amplitude * field,
        "gain_B": np.exp(g.uniform(-plan.contrast, plan.contrast)),
        "shift_B": np.float64(g.uniform(-plan.brightness, plan.brightness)),
        "gamma_B": np.exp(gamma) if bent else np.float64(1),
        "noise_B": np.float64(noise * noisy),
        "blur_B": np.float64(blur * blurred),
        "noise_seed_B": g.integers(2**62),
    }


def _rotation(ndim: int, a: int, b: int, angle: float) -> np.ndarray:
    matrix = np.eye(ndim)
    # exact for quarter turns, so that they move pixels onto pixels
    c, s = round(math.cos(angle), 15), round(math.sin(angle), 15)
    matrix[a, a], matrix[b, b], matrix[a, b], matrix[b, a] = c, c, -s, s
    return matrix
