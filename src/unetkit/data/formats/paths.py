"""Which files are images, what they are called, and in which order people expect them."""

from __future__ import annotations

from pathlib import Path

from unetkit.data.formats.order import natural_key
from unetkit.data.formats.table import format_of, split_address


def suffix(path: Path) -> str:
    """The suffix as it stands, `.nii.gz` and `.ome.tif` taken as one."""
    found = format_of(path)
    if found is None:  # the name of a series is the whole name of its folder
        return "" if path.is_dir() else path.suffix
    own = max((s for s in found.suffixes if path.name.lower().endswith(s)), key=len)
    before = path.name[: -len(own)]
    if before.lower().endswith(".ome"):
        own = f".ome{own}"
    return path.name[len(path.name) - len(own) :]


def stem(path: Path) -> str:
    """The name without its suffix: `brain` of `brain.nii.gz`; of an address, the name of the file that holds it."""
    outer, _ = split_address(path)
    return outer.name.removesuffix(suffix(outer))


def is_image_name(path: Path) -> bool:
    """Whether the name is that of an image: a suffix that is read, and not hidden (partial files are hidden)."""
    return format_of(path) is not None


def image_paths(folder: Path) -> list[Path]:
    """The images directly in `folder`, in natural order: files, and folders that are an image (.zarr, a DICOM series).

    Hidden and half-written files are left out.
    """
    found = [path for path in Path(folder).iterdir() if is_image(path)]
    return sorted(found, key=lambda path: natural_key(path.name))


def label_paths(folder: Path) -> list[Path]:
    """The labels directly in `folder`, in natural order: images, and what only labels are: outlines, tables."""
    found = [p for p in Path(folder).iterdir() if is_image(p) or (is_label_name(p) and p.is_file())]
    return sorted(found, key=lambda path: natural_key(path.name))


def is_label_name(path: Path) -> bool:
    """Whether the name is that of a label which is no image: outlines of objects, intervals of a signal."""
    return path.suffix.lower() in LABEL_SUFFIXES and not path.name.startswith(".") and path.name not in NO_LABELS


LABEL_SUFFIXES = (".geojson", ".gpkg", ".shp", ".json", ".csv", ".tsv")
NO_LABELS = ("dataset.json", "metadata.json", "scores.csv", "scores.json", "split.csv")
"""Files of these names are not labels, wherever they are."""


def is_image(path: Path) -> bool:
    """Whether there is an image at `path`, told by name (of a DICOM series, by its first files)."""
    found = format_of(path)
    if found is not None:
        return path.is_dir() if found.folder else path.is_file()
    return path.is_dir() and is_series(path)


def is_series(folder: Path) -> bool:
    """Whether a folder holds the slices of a DICOM series, or of several (which opening it refuses by name)."""
    if folder.name.startswith("."):
        return False
    names = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    dicom = [p for p in names if p.suffix.lower() in (".dcm", ".ima", "") and p.name.upper() != "DICOMDIR"]
    if len(dicom) < 2:
        return False
    from unetkit.data.formats.medical.dicom import are_slices

    return are_slices(dicom[:2])
