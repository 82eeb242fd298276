"""Likely label errors of a run: the list, a table, and pictures of the first of them, in its folder."""

from __future__ import annotations

import csv
import io
from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from unetkit.core.errors import RunError
from unetkit.core.events import Event, Saved
from unetkit.core.files import atomic, read_json, write_json, write_text
from unetkit.core.region import Region
from unetkit.data.case import Case
from unetkit.data.labels.legend import Legend
from unetkit.evaluate.suspects import Suspect, Suspects, find_suspects
from unetkit.job.examples import show_part
from unetkit.job.sides import Side
from unetkit.predict.heldout import HeldOut
from unetkit.predict.model import Model

NAME, TABLE, FOLDER = "suspects.json", "suspects.csv", "suspects"
# Areas that are shown as pictures, and the least side of what is shown around each, by number of axes.
PICTURES, LEAST = 8, {1: 1024, 2: 96, 3: 32}


def write_suspects(
    run: Path, sides: Sequence[Side], held: Sequence[HeldOut], legend: Legend
) -> Generator[Event, None, None]:
    """Write suspects.json, suspects.csv and pictures into the run folder.

    sides: who judges which cases; held: what they said of them; legend: of the networks. Raises MachineError.
    """
    found = find_suspects(held, legend)
    cases = {case.id: case for side in sides for case in side.cases}
    pictures = _write_pictures(run, sides, cases, held, found.areas[:PICTURES]) if found.areas else []
    write_text(run / TABLE, _table(found, cases))
    areas = [{"rank": rank, **plain(area)} for rank, area in enumerate(found.areas, start=1)]
    totals = [{"case": case, "score": round(score, 2)} for case, score in found.cases]
    write_json(run / NAME, {"examined": found.examined, "areas": areas, "cases": totals, "pictures": pictures})
    if found.areas:
        images = f"{len(found.cases)} of {found.examined} cases"
        yield Saved(path=str(run / TABLE), what=f"areas of {images} whose mask the model doubts, the worst first")


def read_suspects(run: Path) -> Suspects:
    """The list in a run folder. Raises RunError: there is none, or it is damaged."""
    if not (run / NAME).is_file():
        raise RunError(
            f"{run}: holds no list of likely label errors ({NAME}); it is written when `unetkit train` ends, from cases"
            " that the model did not learn from"
        )
    values = read_json(run / NAME, "the list of likely label errors")
    try:
        areas = tuple(
            Suspect(
                case=entry["case"],
                kind=entry["kind"],
                given=entry["given"],
                suggested=entry["suggested"],
                region=Region(tuple(entry["start"]), tuple(entry["stop"])),
                pixels=entry["pixels"],
                confidence=entry["confidence"],
                score=entry["score"],
            )
            for entry in values["areas"]
        )
        return Suspects(areas, tuple((c["case"], c["score"]) for c in values["cases"]), values["examined"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{run / NAME}: the list is damaged ({error}); train again into a new folder") from None


def of_cases(found: Suspects, ids: Collection[str], run: Path) -> Suspects:
    """What of the list is about these cases. Raises RunError where nothing can be: the run learnt from other data."""
    areas = tuple(area for area in found.areas if area.case in ids)
    if found.areas and not areas:
        raise RunError(
            f"{run}: was trained on other data: none of the cases that it doubts, such as '{found.areas[0].case}', is"
            " among these; name the data that it learnt from"
        )
    return replace(found, areas=areas, cases=tuple(entry for entry in found.cases if entry[0] in ids))


def plain(area: Suspect) -> dict[str, Any]:
    """An area as JSON has it."""
    return {
        "case": area.case,
        "kind": area.kind,
        "given": area.given,
        "suggested": area.suggested,
        "pixels": area.pixels,
        "confidence": round(area.confidence, 4),
        "score": round(area.score, 2),
        "start": list(area.region.start),
        "stop": list(area.region.stop),
    }


def _table(found: Suspects, cases: Mapping[str, Case]) -> str:
    """A row for each area; places are first and last pixel along each axis of the file, joined by `;`."""
    text = io.StringIO()
    columns = ["rank", "case", "kind", "given", "suggested", "pixels", "confidence", "score", "start", "stop", "mask"]
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    for rank, area in enumerate(found.areas, start=1):
        place = {name: ";".join(map(str, getattr(area.region, name))) for name in ("start", "stop")}
        mask = {"mask": str(cases[area.case].mask_where)}
        writer.writerow({"rank": rank, **plain(area), **place, **mask})
    return text.getvalue()


def _write_pictures(
    run: Path,
    sides: Sequence[Side],
    cases: Mapping[str, Case],
    held: Sequence[HeldOut],
    areas: Sequence[Suspect],
) -> list[dict[str, object]]:
    """Image, truth and prediction around each area, as examples/ holds them."""
    model = sides[0].open()[0]  # its legend and preparation, which all share
    of = {case.id: case for case in held}
    entries = []
    for rank, area in enumerate(areas, start=1):
        part = _around(area.region, of[area.case].window)
        prediction_X = _likeliest(of[area.case], model, part)
        wanted_X = np.zeros(part.shape, bool)
        wanted_X[area.region.within(part).slices] = True
        shown = show_part(cases[area.case], model, part, prediction_X, wanted_X=wanted_X)
        entry: dict[str, object] = {"area": rank, "case": area.case, "size": shown.size}
        pictures = {
            "image": shown.image,
            "truth": Image.fromarray(shown.truth),
            "prediction": Image.fromarray(shown.prediction),
        }
        for kind, picture in pictures.items():
            entry[kind] = f"{FOLDER}/{rank}-{kind}.png"
            with atomic(run / FOLDER / f"{rank}-{kind}.png") as temporary:
                picture.save(temporary, format="PNG")
        entries.append(entry)
    return entries


def _around(region: Region, window: Region) -> Region:
    """The area and what lies around it, inside of the window: on each side as much again, but no less than `LEAST`."""
    least = LEAST[len(region.shape)]
    return region.grow([max(n // 2, -(-(least - n) // 2)) for n in region.shape]).intersect(window)


def _likeliest(case: HeldOut, model: Model, part: Region) -> NDArray[np.uint8]:
    """The likeliest classes of a part, in the classes of masks."""
    shares_KX = case.probabilities()[(slice(None), *part.within(case.window).slices)]
    if model.legend.regions:
        bits = [(shares_X > 0.5).astype(np.uint8) << k for k, shares_X in enumerate(shares_KX)]
        label_X: NDArray[np.uint8] = np.bitwise_or.reduce(bits)
        return label_X
    likeliest_X: NDArray[np.uint8] = shares_KX.argmax(0).astype(np.uint8)
    if len(shares_KX) > len(model.legend.plain.classes):  # what helps to tell objects apart belongs to them
        likeliest_X = (shares_KX[0] < 0.5).astype(np.uint8)
    return likeliest_X
