"""Where an image lies, by its header, and on which grid the plan sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unetkit.core.errors import DataError
from unetkit.data.formats import ImageInfo
from unetkit.data.prepared.grid import Grid, make_grid, orientation_codes

if TYPE_CHECKING:
    from unetkit.data.prepared.plan import PreparePlan

# Units of length in metres: spacings in one are turned into another.
UNITS = {
    **dict.fromkeys(("nm", "nanometer"), 1e-9),
    **dict.fromkeys(("µm", "um", "micron", "micrometer"), 1e-6),
    **dict.fromkeys(("mm", "millimeter"), 1e-3),
    **dict.fromkeys(("cm", "centimeter"), 1e-2),
    **dict.fromkeys(("m", "meter", "metre"), 1.0),
}


def grid_of(info: ImageInfo, plan: PreparePlan) -> Grid:
    """The prepared grid over that of an image. Raises DataError: a plan for images of other axes."""
    if plan.spacing is not None and len(plan.spacing) != len(info.shape):
        raise DataError(
            f"images are resampled to {len(plan.spacing)} spacings (prepare.spacing), but this one has "
            f"{len(info.shape)} axes; predict images like those it was trained on"
        )
    return planned_grid(plan, info.shape, info.spacing, info.unit, codes_of(info))


def planned_grid(
    plan: PreparePlan, shape: tuple[int, ...], spacing: tuple[float, ...] | None, unit: str, codes: str
) -> Grid:
    """`grid_of` from the facts of a header. codes: where the axes of a volume point; "": not known."""
    if plan.spacing is None and not plan.orientation:
        return Grid.same(shape)
    scale = unit_scale(unit, plan.unit)
    own = None if spacing is None or scale is None else [scale * v for v in spacing]
    return make_grid(shape, own, codes, plan.spacing, plan.orientation, plan.thick)


def codes_of(info: ImageInfo) -> str:
    """Where the axes of a volume point, such as "LPS"; "" where it is not known."""
    return "" if info.affine is None or len(info.shape) != 3 else orientation_codes(info.affine)


def is_backwards(info: ImageInfo) -> bool:
    """Whether the first axis lies closest in a file, as in medical volumes."""
    return len(info.shape) > 1 and (info.axes.startswith("X") or (not info.axes and info.affine is not None))


def unit_scale(unit: str, wanted: str) -> float | None:
    """From one unit to another; None where they measure different things. What is not stated is taken to be alike."""
    if not unit or not wanted or unit == wanted:
        return 1.0
    return UNITS[unit] / UNITS[wanted] if unit in UNITS and wanted in UNITS else None


def doubts(info: ImageInfo, plan: PreparePlan, array: bool) -> tuple[str, ...]:
    """What the plan asks of an image and its header does not tell; an `array` has no header to tell."""
    if array:
        return ()
    target = "" if plan.spacing is None else f"{' × '.join(f'{v:g}' for v in plan.spacing)} {plan.unit}".rstrip()
    notes = []
    if target and info.spacing is None:
        notes.append(f"its spacing is not known: it is taken to be {target}, as the network expects")
    elif target and unit_scale(info.unit, plan.unit) is None:
        notes.append(f"its spacing is in {info.unit}, the network's in {plan.unit}: it is taken to be {target}")
    if plan.orientation and not codes_of(info) and len(info.shape) == 3:
        notes.append(f"where its axes point is not known: they are taken to be {plan.orientation}")
    return tuple(notes)
