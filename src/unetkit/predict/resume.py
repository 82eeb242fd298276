"""A large prediction that was interrupted goes on: what belongs to it, and how it is told from another one.

Its hidden folder holds a manifest and a file for each step that is done. The manifest names everything that decides the
result, part by part, by digests; the same command later finds it, and goes on where nothing of that has changed.
"""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from unetkit.core.config import Config
from unetkit.core.errors import UnetkitError
from unetkit.core.files import read_json, remove_partial, write_json
from unetkit.data.case import Case
from unetkit.data.formats import files_behind
from unetkit.predict.lower import Precision
from unetkit.predict.model import Model
from unetkit.predict.predictor import Predictor
from unetkit.predict.sizing import Layout

MANIFEST = "manifest.json"
PRECISION = "the precision"


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
    """What an earlier run left of an image. layout: how it was cut, where it can go on; else why not, in words.
    precision: the one to go on in, where it is not that of now."""

    layout: Layout | None
    why: str = ""
    precision: Precision | None = None


def digests(model: Model, predictor: Predictor) -> dict[str, str]:
    """What of a model and its options decides a prediction, in words → digest."""
    options = predictor.options
    chosen = options.model_dump(mode="json", exclude={"memory", "tile", "precision", "layout"})
    plan = [predictor.spec.model_dump_json(), model.legend.model_dump_json(), model.prepare.model_dump_json()]
    return {
        "the weights": _weights(model.nets),
        PRECISION: predictor.runner.precision,
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


def left_behind(folder: Path, parts: Mapping[str, str], any_precision: bool) -> Left:
    """What an interrupted run left in `folder`, where it belongs to `parts`. Nothing is changed.

    any_precision: the user asked for none, so that of then will do: which is faster is a matter of chance where they
    are nearly equal.
    """
    if not (folder / MANIFEST).is_file():
        return Left(None)
    try:
        manifest = Manifest.parse(read_json(folder / MANIFEST, "the manifest"), str(folder / MANIFEST))
    except UnetkitError:
        return Left(None, "its manifest is damaged")
    changed = [name for name in parts if manifest.parts.get(name) != parts[name]]
    if any_precision and changed == [PRECISION]:
        then = manifest.parts.get(PRECISION)
        return Left(manifest.layout, precision="fp32" if then == "fp32" else "bf16")
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


def _weights(nets: Sequence[nn.Module]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for name, value in itertools.chain.from_iterable(net.state_dict().items() for net in nets):
        found.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        found.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return found.hexdigest()


def _digest(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
