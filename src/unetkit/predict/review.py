"""Which predictions a person should look at first: `review.csv` beside the masks, a row for each image.

What an image is said to be is known when its prediction is complete, a little before its masks are written. It goes
into a hidden journal at once, so that no row is lost where many images are interrupted, and into the table at the end.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from unetkit.core.errors import DataError
from unetkit.core.files import disk_errors, write_text
from unetkit.predict.familiar import UNLIKE
from unetkit.predict.model import Model
from unetkit.predict.outputs import WORK, Job
from unetkit.predict.quality import Sums, expected_dice

REVIEW = "review.csv"
COLUMNS = ("image", "mask", "predicted_dice", "low", "high", "familiarity", "look", "why")
_JOURNAL = f".review{WORK}"
_SUMS = "sums.jsonl"
_NAMED = 5


@dataclass(frozen=True)
class Review:
    """One image: the row of the table, as texts by column."""

    row: dict[str, str]

    @property
    def look(self) -> bool:
        """Whether a person should look at it."""
        return self.row["look"] == "yes"


def review(model: Model, job: Job, out: Path, sums: Sums | None, familiarity: float | None) -> Review:
    """What is to be said of an image. sums: of its prediction; familiarity: with the training images; None where they
    are not known. out: the folder of results, from which masks are named."""
    quality, reasons = model.tuned.quality, []
    expected = None
    if quality is not None and sums is not None:
        expected = quality.expected(expected_dice(sums, model.legend.plain.foreground))
        reasons += [why] if (why := quality.why(expected)) else []
    if familiarity is not None and familiarity < UNLIKE:
        reasons.append("it does not look like the training images")
    numbers = (None,) * 3 if expected is None else (expected.dice, expected.low, expected.high)
    texts = ["" if number is None else f"{number:.3f}" for number in (*numbers, familiarity)]
    values = (job.name, _place(job.label, out), *texts, "yes" if reasons else "no", "; ".join(reasons))
    return Review(dict(zip(COLUMNS, values, strict=True)))


class Reviews:
    """The table of a folder of results: rows of earlier commands stay until their mask is made anew.

    Raises DataError: a table that is none of ours, or a mask that would be written in its place.
    """

    def __init__(self, out: Path, jobs: Sequence[Job]) -> None:
        self.path, self._journal = out / REVIEW, out / _JOURNAL
        if any(target.resolve() == self.path.resolve() for job in jobs for target in job.targets):
            raise DataError(
                f"{self.path}: a mask would be written where the table of what to look at is; rename the image, or "
                "leave the table out with --no-review"
            )
        self._order = {_place(job.label, out): number for number, job in enumerate(jobs)}
        noted = self._noted()
        self._rows = {row["mask"]: row for row in (*self._written(), *noted)}
        self._changed = bool(noted)
        self.now: list[Review] = []

    def put(self, review: Review) -> None:
        """Note what is said of an image, in the journal at once. Raises MachineError: the disk is full."""
        self._rows[review.row["mask"]] = review.row
        self.now.append(review)
        self._changed = True
        with disk_errors(self._journal), self._journal.open("a", encoding="utf-8") as file:
            file.write(json.dumps(review.row, ensure_ascii=False) + "\n")

    def write(self) -> bool:
        """The table, whole or not at all; whether there is anything new in it. Raises MachineError."""
        if not self._changed:
            return False
        rows = [row for row in self._rows.values() if (self.path.parent / row["mask"]).exists()]
        rows.sort(key=lambda row: (self._order.get(row["mask"], -1), row["mask"]))
        if rows:
            text = io.StringIO()
            writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
            writer.writeheader()
            writer.writerows(rows)
            write_text(self.path, text.getvalue())
        self._journal.unlink(missing_ok=True)
        return bool(rows)

    def summary(self) -> str:
        """Which of the images of this command should be looked at, in a sentence; empty where none should."""
        look = [review for review in self.now if review.look]
        if not look:
            return ""
        named = [f"{Path(each.row['image']).name} ({each.row['why']})" for each in look[:_NAMED]]
        more = f" … and {len(look) - _NAMED} more" if len(look) > _NAMED else ""
        total = f"{len(look)} of {len(self.now)} images" if len(self.now) > 1 else "this image"
        return f"{total} should be looked at: {'; '.join(named)}{more} (all of them in {self.path})"

    def _written(self) -> list[dict[str, str]]:
        try:
            with self.path.open(encoding="utf-8", newline="") as file:
                rows = csv.DictReader(file)
                if tuple(rows.fieldnames or ()) != COLUMNS:
                    raise DataError(
                        f"{self.path}: a table that unetkit did not write is where that of what to look at would be; "
                        "move it, or leave the table out with --no-review"
                    )
                return [row for row in rows if all(isinstance(row[name], str) for name in COLUMNS)]
        except FileNotFoundError:
            return []
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            raise DataError(f"{self.path}: cannot be read ({error}); remove it") from None

    def _noted(self) -> list[dict[str, str]]:
        """Rows of a command that was killed; its last line may be cut off."""
        rows = []
        for line in self._journal.read_text(encoding="utf-8").splitlines() if self._journal.is_file() else ():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if isinstance(row, dict) and tuple(row) == COLUMNS:
                rows.append(row)
        return rows


class Tally:
    """Sums over the pieces of an image, by the number of their step; with a folder they outlive an interruption."""

    def __init__(self, folder: Path | None) -> None:
        self._path = None if folder is None else folder / _SUMS
        self._of: dict[int, Sums] = {}
        if self._path is not None and self._path.is_file():
            for line in self._path.read_text(encoding="utf-8").splitlines():
                try:
                    number, values = json.loads(line)
                except ValueError:
                    continue  # cut off: its step is done again
                self._of[int(number)] = np.array(values, np.float64)

    def put(self, number: int, sums: Sums) -> None:
        """Those of a step, before its piece is kept. Raises MachineError: the disk is full."""
        self._of[number] = sums
        if self._path is not None:
            with disk_errors(self._path), self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([number, sums.tolist()]) + "\n")

    def total(self, steps: Sequence[int]) -> Sums | None:
        """Of all these steps, in their order; None where one is missing."""
        if not steps or any(number not in self._of for number in steps):
            return None
        total: Sums = np.sum([self._of[number] for number in steps], axis=0)
        return total


def _place(mask: Path, out: Path) -> str:
    """The path of a mask in the folder of results."""
    return mask.relative_to(out).as_posix()
