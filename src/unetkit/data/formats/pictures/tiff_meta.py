"""What the metadata of a TIFF say besides the axes: size of pixels, names of channels, other files of an OME set.

OME-XML: https://www.openmicroscopy.org/Schemas/OME/2016-06. ImageJ: TiffDecoder and FileInfo of ImageJ 1.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from unetkit.core.errors import DataError
from unetkit.data.formats.axes import UNKNOWN
from unetkit.data.formats.spacing import in_one_unit

_CENTIMETRE = 3  # ResolutionUnit
_FINEST_PRINT = 500.0  # pixels per cm; printers and screens have fewer, microscopes and slide scanners more
_SLIDE_KINDS = ("svs", "ndpi", "scn", "bif", "philips", "qpi", "avs")  # their further series: label, macro, thumbnail


def letters(series: Any) -> str:
    """A letter for each axis of a series, "?" where nothing in the file says what it is."""
    names = str(series.get_axes(squeeze=False))
    sizes = series.get_shape(squeeze=False)
    long = [a for a, n in zip(names, sizes, strict=True) if n > 1]
    if "Q" in long and "S" not in long:  # written by tifffile without a word: not even Y and X are said
        return UNKNOWN * len(names)
    return names


def ome_root(tif: Any) -> ElementTree.Element | None:
    """The OME-XML of a file; None: there is none that can be read."""
    if not tif.is_ome or not tif.ome_metadata:
        return None
    try:
        return ElementTree.fromstring(tif.ome_metadata)
    except ElementTree.ParseError:
        return None


def set_files(path: Path, root: ElementTree.Element | None) -> tuple[Path, ...]:
    """The files that an OME-TIFF is made of, itself first. Raises DataError: one of them is missing."""
    if root is None:
        return (path,)
    for element in _all(root, "BinaryOnly"):
        first = element.attrib.get("MetadataFile", "")
        raise DataError(
            f"{path}: this is one file of an OME set that is described in {first or 'another file'}; "
            + (f"name {first} instead" if first.lower().endswith((".tif", ".tiff")) else "save the set as one OME-TIFF")
        )
    found = [path]
    for element in _all(root, "UUID"):
        name = element.attrib.get("FileName", "")
        other = path.parent / name
        if not name or name.lower() == path.name.lower() or other in found or not _elsewhere(root, element):
            continue
        if not other.is_file():
            raise DataError(
                f"{path}: its OME set lacks the file {name}; put all files of the set into one folder, under their "
                "own names, or save the set as one file"
            )
        found.append(other)
    return tuple(found)


def _elsewhere(root: ElementTree.Element, uuid: ElementTree.Element) -> bool:
    """Whether planes lie in another file: a file that was renamed still speaks of itself by its own UUID."""
    return uuid.text is None or uuid.text != root.attrib.get("UUID")


def pixel_size(tif: Any, series: Any, names: str) -> tuple[tuple[float, ...] | None, str, str]:
    """(spacing, unit, "") of the axes `names` at full resolution; (None, "", what is lacking) where a part is known."""
    root = ome_root(tif)
    meta: Mapping[str, Any] = tif.imagej_metadata or {}
    sizes: dict[str, float | None] = {}
    units: dict[str, str] = {}
    page = series.keyframe
    if series.kind == "ome" and root is not None:
        pixels = _all(root, "Pixels")[0]  # tifffile made the series of it
        for axis in "XYZ":
            sizes[axis] = _number(pixels.attrib.get(f"PhysicalSize{axis}"))
            units[axis] = pixels.attrib.get(f"PhysicalSize{axis}Unit", "µm")
    elif series.kind == "svs":
        if found := re.search(r"\bMPP\s*=\s*([\d.]+)", str(page.description)):
            sizes = dict.fromkeys("YX", float(found[1]))
            units = dict.fromkeys("YX", "µm")
    elif meta.get("unit"):
        unit = str(meta["unit"])
        sizes = {axis: _length(page, axis) for axis in "XY"} | {"Z": _number(meta.get("spacing"))}
        units = {axis: str(meta.get(f"{axis.lower()}unit", unit)) for axis in "XYZ"}
    elif _tag(page, "ResolutionUnit") == _CENTIMETRE:
        lengths = {axis: _length(page, axis) for axis in "XY"}
        if all(n is not None and n <= 1 / _FINEST_PRINT for n in lengths.values()):
            sizes = {axis: n and n * 1e4 for axis, n in lengths.items()}
            units = dict.fromkeys("XY", "µm")
    spacing, unit = in_one_unit([sizes.get(a) for a in names], [units.get(a, "") for a in names])
    if spacing is not None and unit:
        return spacing, unit, ""
    known = [a for a in names if sizes.get(a)]
    lacking = [a for a in names if a not in known]
    partly = known and lacking and in_one_unit([sizes[a] for a in known], [units[a] for a in known])[1]
    return (
        None,
        "",
        f"the size of its pixels is known in {', '.join(known)}, not in {', '.join(lacking)}" * bool(partly),
    )


def channel_names(tif: Any, series: Any, channels: int) -> tuple[str, ...]:
    """Names of the channels where the file gives one to each."""
    names: list[str] = []
    root = ome_root(tif)
    if series.kind == "ome" and root is not None:
        names = [c.attrib.get("Name", "") for c in _all(_all(root, "Pixels")[0], "Channel")]
    elif series.kind == "imagej":
        names = _plane_labels(tif.imagej_metadata or {}, series, channels)
    return tuple(names) if len(names) == channels > 1 and all(names) else ()


def _plane_labels(meta: Mapping[str, Any], series: Any, channels: int) -> list[str]:
    """The labels of the first plane's channels, as ImageJ keeps them: one for each plane."""
    labels = meta.get("Labels")
    sizes = dict(zip(series.get_axes(squeeze=False), series.get_shape(squeeze=False), strict=True))
    if not isinstance(labels, list) or sizes.get("C") != channels or series.get_axes(squeeze=True).find("C") > 1:
        return []
    if len(labels) not in (channels, channels * sizes.get("Z", 1) * sizes.get("T", 1)):
        return []
    return [str(label) for label in labels[:channels]]


def remarks(path: Path, tif: Any, series: Any) -> tuple[str, ...]:
    """What is left unread: further images in the file."""
    others = [s for s in tif.series[1:] if not s.keyframe.is_reduced]
    if not others or series.kind in _SLIDE_KINDS:
        return ()
    return (f"{path.name}: of its {1 + len(others)} images the first is read",)


def _length(page: Any, axis: str) -> float | None:
    """The size of a pixel in the unit of the resolution tags."""
    value = _tag(page, f"{axis}Resolution")
    if not isinstance(value, tuple) or len(value) != 2 or not value[0] or not value[1]:
        return None
    return float(value[1]) / float(value[0])


def _tag(page: Any, name: str) -> Any:
    tag = page.tags.get(name)
    return tag.value if tag is not None else None


def _number(text: object) -> float | None:
    try:
        return float(text) if isinstance(text, str | int | float) else None
    except ValueError:
        return None


def _all(element: ElementTree.Element, name: str) -> list[ElementTree.Element]:
    """Descendants of a local name, whatever their namespace."""
    return [e for e in element.iter() if str(e.tag).rpartition("}")[2] == name]
