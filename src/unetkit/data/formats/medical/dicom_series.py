"""The slices of a DICOM series, put in order by where they lie, and checked: complete, evenly spaced, of one series."""

from __future__ import annotations

import functools
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from unetkit.core.errors import DataError
from unetkit.data.formats.base import unreadable
from unetkit.data.formats.medical.dicom_files import SEGMENTATIONS, DicomFile, Slice, is_dicom, read_file, refuse_pixels
from unetkit.data.formats.order import natural_key

_TURNED = 1e-3  # of the direction of an axis: more is another orientation
_UNEVEN = 0.02  # of the distance of slices, beside which positions are rounded to 0.01 mm


@dataclass(frozen=True, slots=True)
class Series:
    """Slices in order, from the lowest along their normal. lps: (4, 4) from (column, row, slice) to millimetres in LPS;
    None: not known. spacing: (X, Y, Z) in mm; None: not known. notes: what was remarkable, in sentences."""

    files: dict[Path, DicomFile]
    slices: tuple[Slice, ...]
    lps: NDArray[np.float64] | None
    spacing: tuple[float, ...] | None
    notes: tuple[str, ...]

    @property
    def first(self) -> DicomFile:
        """The file of the first slice."""
        return self.files[self.slices[0].path]


def read_series(path: Path) -> Series:
    """The slices of a folder, or of one file. The headers of what was just read are remembered.

    Raises DataError: no slices, several series, slices of unequal size, orientation or spacing, missing or doubled
    ones, no position; MachineError: no pydicom.
    """
    paths = [path] if not path.is_dir() else [p for p in path.iterdir() if p.is_file() and not p.name.startswith(".")]
    paths.sort(key=lambda p: natural_key(p.name))
    stats = [p.stat() for p in paths]
    return _read(path, tuple((p, s.st_size, s.st_mtime_ns) for p, s in zip(paths, stats, strict=True)))


@functools.lru_cache(maxsize=8)
def _read(where: Path, state: tuple[tuple[Path, int, int], ...]) -> Series:
    files, others = [], []
    for path, size, _ in state:
        found = read_file(path) if size else None
        if found is None or found.kind in SEGMENTATIONS:
            others.append(path)
        else:
            files.append(found)
    if not files:
        raise _nothing(where, others)
    by_series: defaultdict[str, list[DicomFile]] = defaultdict(list)
    for file in files:
        by_series[file.series].append(file)
    if len(by_series) > 1:
        listed = "; ".join(_described(group) for group in by_series.values())
        raise DataError(
            f"{where}: {len(by_series)} series are mixed here: {listed}; move the files of each series into a folder "
            "of its own, and name that"
        )
    _alike(where, files, lambda f: (f.columns, f.rows), "size", lambda v: f"{v[0]} × {v[1]} pixels")
    _alike(where, files, lambda f: f.samples, "colour", lambda v: f"{v} value{'s' * (v != 1)} for each pixel")
    for file in files:
        refuse_pixels(file)
    slices, lps, spacing, notes = _ordered(where, [s for f in files for s in f.slices])
    if others:
        names = ", ".join(p.name for p in others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
        notes.append(f"left out, for they are no slices: {names}")
    if any(f.photometric == "MONOCHROME1" for f in files):
        notes.append("high values are meant to be shown dark (MONOCHROME1); they are read as they are stored")
    return Series({f.path: f for f in files}, tuple(slices), lps, spacing, tuple(notes))


def _nothing(where: Path, others: Sequence[Path]) -> DataError:
    if not where.is_dir():
        if is_dicom(where):
            return DataError(f"{where}: this DICOM file holds no image; name the folder of the slices")
        return DataError(f"{where}: this is not a DICOM file, whatever its suffix says; export it again")
    inner = sorted(p.name for p in where.iterdir() if p.is_dir())
    hint = f"; are they in {inner[0]}? A series is named by the folder of its slices" if inner else ""
    return DataError(f"{where}: none of its {len(others)} files is a slice of a DICOM series{hint}")


def _described(files: Sequence[DicomFile]) -> str:
    one, count = files[0], sum(len(f.slices) for f in files)
    name = f"'{one.description}'" if one.description else "without description"
    return f"{name} ({one.modality or 'no modality'}, {count} slice{'s' * (count != 1)}, such as {one.path.name})"


def _alike(
    where: Path,
    things: Sequence[DicomFile] | Sequence[Slice],
    key: Callable[..., Hashable],
    what: str,
    text: Callable[..., str],
) -> None:
    """Raises DataError where not all have the same `key`."""
    counts = Counter(key(thing) for thing in things)
    if len(counts) == 1:
        return
    (usual, _), *rest = counts.most_common()
    odd = next(thing for thing in things if key(thing) == rest[0][0])
    raise DataError(
        f"{where}: its slices differ in {what}: {counts[usual]} have {text(usual)}, {odd.path.name} has "
        f"{text(rest[0][0])}; keep those that belong together in a folder of their own"
    )


def _ordered(
    where: Path, slices: list[Slice]
) -> tuple[list[Slice], NDArray[np.float64] | None, tuple[float, ...] | None, list[str]]:
    """(slices in order, their affine in LPS, spacing, notes)."""
    placed = [s for s in slices if s.position is not None and s.orientation is not None]
    several = len({s.path for s in slices}) > 1
    if len(placed) < len(slices):
        lost = next(s for s in slices if s.position is None or s.orientation is None)
        if several:
            raise DataError(
                f"{lost.path}: nothing says where this slice lies (it has no ImagePositionPatient or no "
                "ImageOrientationPatient), so it cannot be put in order; export the series again, as NIfTI perhaps"
            )
        notes = (
            [] if len(slices) == 1 else ["nothing says where its frames lie; they are read as slices in their order"]
        )
        return slices, None, _unplaced_spacing(slices), notes
    _alike(where, slices, lambda s: _rounded(s.spacing), "spacing", lambda v: "no spacing" if v is None else
           f"{v[1]:g} × {v[0]:g} mm")  # fmt: skip
    first = np.reshape(slices[0].orientation or (), (2, 3))
    for each in slices:
        if np.abs(np.reshape(each.orientation or (), (2, 3)) - first).max() > _TURNED:
            raise DataError(
                f"{where}: its slices differ in orientation: {_name(each)} is turned against {_name(slices[0])} (a "
                "localizer among them?); keep those of one orientation in a folder of their own"
            )
    row, column = (v / np.linalg.norm(v) for v in first)
    normal = np.cross(row, column)
    if not 0.99 < np.linalg.norm(normal) < 1.01:
        raise unreadable(slices[0].path, f"ImageOrientationPatient {slices[0].orientation} is no orientation")
    slices = sorted(slices, key=lambda s: float(np.dot(s.position or (), normal)))
    at = np.array([s.position for s in slices])
    notes = []
    if len(slices) > 1:
        _check_steps(where, slices, at @ normal)
        step = (at[-1] - at[0]) / (len(slices) - 1)
        notes += _check_line(where, slices, at, step, normal)
    else:
        step = normal * (slices[0].distance or 1.0)
    if slices[0].spacing is None:
        return slices, None, None, [*notes, "nothing says how far apart its pixels are"]
    lps = np.eye(4)
    between_rows, between_columns = slices[0].spacing
    lps[:3] = np.stack([row * between_columns, column * between_rows, step, at[0]], axis=1)
    spacing = tuple(round(float(v), 6) for v in np.linalg.norm(lps[:3, :3], axis=0))
    return slices, lps, spacing, notes


def _rounded(spacing: tuple[float, ...] | None) -> tuple[float, ...] | None:
    return None if spacing is None else tuple(float(f"{s:.4g}") for s in spacing)


def _unplaced_spacing(slices: Sequence[Slice]) -> tuple[float, ...] | None:
    one = slices[0]
    if one.spacing is None or min(one.spacing) <= 0 or (len(slices) > 1 and not one.distance):
        return None
    return (one.spacing[1], one.spacing[0], one.distance or 1.0)


def _check_steps(where: Path, slices: Sequence[Slice], along: NDArray[np.float64]) -> None:
    """Raises DataError: two slices at one position, missing ones, uneven distances."""
    steps = np.diff(along)
    usual = float(np.median(steps[steps > 0.01])) if (steps > 0.01).any() else 0.0
    double = np.flatnonzero(steps <= max(0.01, 0.05 * usual))
    if double.size:
        one, other = (_name(slices[double[0] + k]) for k in (0, 1))
        more = f", and so are {double.size - 1} more (several times, echoes or doses?)" if double.size > 1 else ""
        raise DataError(
            f"{where}: two slices are at one position: {one} and {other} (both at {along[double[0]]:.2f} mm){more}; "
            "keep one for each position in a folder of its own"
        )
    allowed = max(0.01, _UNEVEN * usual)
    odd = np.flatnonzero(np.abs(steps - usual) > allowed)
    if not odd.size:
        return
    times = np.rint(steps[odd] / usual)
    if (np.abs(steps[odd] - times * usual) <= allowed * np.maximum(times, 1)).all() and (times >= 2).all():
        count, at = int((times - 1).sum()), int(odd[0])
        raise DataError(
            f"{where}: {count} slice{'s are' if count > 1 else ' is'} missing: {_name(slices[at])} and "
            f"{_name(slices[at + 1])} are {steps[at]:.4g} mm apart, the others {usual:.4g} mm; copy the whole series"
        )
    raise DataError(
        f"{where}: its slices are unevenly spaced, from {steps.min():.4g} mm to {steps.max():.4g} mm (between "
        f"{_name(slices[int(odd[0])])} and {_name(slices[int(odd[0]) + 1])}, for one); resample them to one distance, "
        "as NIfTI (dcm2niix does it)"
    )


def _check_line(
    where: Path,
    slices: Sequence[Slice],
    at: NDArray[np.float64],
    step: NDArray[np.float64],
    normal: NDArray[np.float64],
) -> list[str]:
    """Notes on slices that do not stand one above the other. Raises DataError: shifted without a rule."""
    length = float(np.linalg.norm(step))
    away = np.abs(at - at[0] - np.arange(len(at))[:, None] * step).max(1)
    if (worst := int(away.argmax())) and away[worst] > 0.1 * length + 0.01:
        raise DataError(
            f"{where}: its slices are shifted against each other: {_name(slices[worst])} lies {away[worst]:.3g} mm "
            "beside the line from the first to the last; resample them as NIfTI (dcm2niix does it)"
        )
    tilt = float(np.degrees(np.arccos(np.clip(np.dot(step, normal) / length, -1, 1))))
    return [f"its slices are tilted by {tilt:.1f}° (gantry tilt); the affine says so"] if tilt > 0.1 else []


def _name(one: Slice) -> str:
    return one.path.name if one.index == 0 else f"{one.path.name}, frame {one.index + 1}"
