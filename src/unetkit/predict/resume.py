"""A large prediction that was interrupted goes on: what belongs to it, and how it is told from another one.

Its hidden folder holds a manifest and a file for each step that is done. The manifest names everything that decides the
result, part by part, by digests; the same command later finds it, and goes on where nothing of that has changed.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np

from unetkit.core.config import Config
from unetkit.core.errors import UnetkitError
from unetkit.core.files import read_json, remove_partial, write_json
from unetkit.data.case import Case
from unetkit.data.formats import files_behind
from unetkit.predict.model import Model
from unetkit.predict.predictor import Predictor
from unetkit.predict.sizing import Layout

MANIFEST = "manifest.json"


class Manifest(Config):
    """What a folder of pieces belongs to. parts: what decides the result → its digest. tile, columns: the `Layout`."""

    parts: dict[str, str]
    tile: tuple[int, ...]
    columns: tuple[int, ...] = ()

    @property
    def layout(self) -> Layout:
        """How the image was cut."""
        return Layout(self.tile, self.columns)


@dataclass(frozen=True)
class Left:
    """What an earlier run left of an image. layout: how it was cut, where it can go on; else why not, in words."""

    layout: Layout | None
    why: str = ""


def digests(model: Model, predictor: Predictor) -> dict[str, str]:
    """What of a model and its options decides a prediction, in words → digest."""
    options = predictor.options
    chosen = options.model_dump(mode="json", exclude={"memory", "tile", "precision", "layout"})
    plan = [predictor.spec.model_dump_json(), model.legend.model_dump_json(), model.prepare.model_dump_json()]
    return {
        "the weights or their precision": predictor.runner.digest,
        "the plan": _digest("\n".join(plan)),
        "the options": _digest(f"{chosen} {predictor.runner.overlapping}"),
        "the version of unetkit or torch": _digest(f"{version('unetkit')} {version('torch')}"),
    }


def image_digest(case: Case) -> str:
    """Changes where the image is another, or was written anew: by names, sizes and times of files. Raises DataError."""
    found: list[str] = [f"{case.reading} {case.channel}"]
    for source in case.images:
        if isinstance(source, Path):
            for file in files_behind(source):
                state = file.stat()
                found.append(f"{file.resolve()} {state.st_size} {state.st_mtime_ns}")
        else:
            found.append(hashlib.blake2b(np.ascontiguousarray(source).data, digest_size=16).hexdigest())
    return _digest("\n".join(found))


def left_behind(folder: Path, parts: Mapping[str, str]) -> Left:
    """What an interrupted run left in `folder`, where it belongs to `parts`. Nothing is changed."""
    if not (folder / MANIFEST).is_file():
        return Left(None)
    try:
        manifest = Manifest.parse(read_json(folder / MANIFEST, "the manifest"), str(folder / MANIFEST))
    except UnetkitError:
        return Left(None, "its manifest is damaged")
    changed = [name for name in parts if manifest.parts.get(name) != parts[name]]
    return Left(None, f"{' and '.join(changed)} changed since") if changed else Left(manifest.layout)


def begin(folder: Path, parts: Mapping[str, str], layout: Layout, keep: bool) -> None:
    """Make the folder ready for the pieces of a layout; `keep`: those that are there are of this prediction."""
    if keep:
        remove_partial(folder)
        return
    clear(folder)
    write_json(folder / MANIFEST, {"parts": dict(parts), "tile": list(layout.tile), "columns": list(layout.columns)})


def clear(folder: Path) -> None:
    """Remove what was kept: the files are written, or it is of no use."""
    shutil.rmtree(folder, ignore_errors=True)


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
