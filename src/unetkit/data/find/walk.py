"""Folders and what is in them, in the order that people expect."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from unetkit.data.formats import image_paths, is_image, natural_key


def folders(folder: Path) -> list[Path]:
    """The folders directly in one, those left out that are hidden, or an image (.zarr, a DICOM series)."""
    found = [p for p in folder.iterdir() if p.is_dir() and not p.name.startswith((".", "__")) and not is_image(p)]
    return sorted(found, key=lambda p: natural_key(p.name))


def walk(folder: Path, listed: Callable[[Path], list[Path]] = image_paths) -> Iterator[Path]:
    """All images below a folder, hidden ones left out, in natural order; or what else is `listed`."""
    yield from listed(folder)
    for child in folders(folder):
        yield from walk(child, listed)


def files(folder: Path) -> Iterator[Path]:
    """All files below a folder, hidden ones left out."""
    yield from (p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    for child in folders(folder):
        yield from files(child)


def below(folder: Path) -> Iterator[Path]:
    """All folders below one."""
    for child in folders(folder):
        yield child
        yield from below(child)
