"""Which cases belong together (one patient, one animal, one slide), read from their names; whether they are a stack.

Cases of a group resemble each other: with one in training and its sibling in validation, scores flatter. Nothing is
forced: where names say nothing, there are no groups.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Literal

from unetkit.data.case import Case

# From the largest whole to the smallest: a patient has slides, a slide has tiles. With a number or letter: `rat3`.
WORDS = (
    "sub", "subject", "subj", "patient", "pat", "person", "donor", "case", "animal", "mouse", "rat", "monkey", "fish",
    "fly", "embryo", "organoid", "plant", "scanner", "site", "batch", "plate", "slide", "specimen", "sample", "section",
    "scene", "video", "movie", "sequence", "seq", "volume", "vol", "stack", "scan", "well", "field", "fov", "roi",
)  # fmt: skip
ORDERED = ("slice", "sl", "slc", "z", "frame", "layer", "plane", "section", "time", "t", "depth", "page")

_TILE = re.compile(
    r"^(?P<whole>.+?)[-_. ](?:(?:x|col|c)?\d+[-_x, ]+(?:y|row|r)?\d+|(?:row|r|y)\d+[-_ ]*(?:col|c|x)\d+"
    r"|(?:tile|patch|crop|part)[-_ ]?\d+)$",
    re.IGNORECASE,
)
_LETTER_NUMBER = re.compile(r"^(?P<group>[A-Za-z]{1,3}\d{1,4})[-_. ](?=.)")
_RUNNING = re.compile(r"^(?P<before>.*?)(?P<number>\d+)(?P<after>\D*)$")


@dataclass(frozen=True)
class Groups:
    """The group of each case that has one (by case id), and why.

    ordered: the cases, in natural order, are one stack or sequence, in which neighbours resemble each other; they are
    then split in contiguous blocks. source: "given" by the user, read from the "names", or "none".
    """

    of: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    ordered: bool = False
    source: Literal["given", "names", "none"] = "none"
    reason: str = "the names tell no groups: every case stands for itself"

    @property
    def count(self) -> int:
        """Number of groups."""
        return len(set(self.of.values()))


def find_groups(cases: Sequence[Case], ndim: int = 2) -> Groups:
    """The groups that the user gave, else those that the names tell, else none.

    A reading counts only if it makes at least two groups, and fewer groups than cases. Slices, tiles and stacks are
    looked for among images alone: volumes and signals (`ndim` 3 and 1) are wholes.
    """
    given = {case.id: case.group for case in cases if case.group is not None}
    if given:
        n = len(set(given.values()))
        alone = len(cases) - len(given)
        rest = f"; the {alone} without one stand for themselves" if alone else ""
        return Groups(MappingProxyType(given), False, "given", f"{n} group{'s' * (n != 1)} as given{rest}")
    ids = [case.id for case in cases]
    for read, what, most in _readings():
        if ndim != 2 and read in (_tile, _volume):
            continue
        found = {i: group for i in ids if (group := read(i)) is not None}
        n = len(set(found.values()))
        if len(found) >= 0.8 * len(ids) and 2 <= n < len(found) and n <= most * len(found):
            example = next(iter(found.items()))
            return Groups(
                MappingProxyType(found),
                False,
                "names",
                f"{n} groups of {len(found)} cases by {what} in the names ('{example[0]}' → '{example[1]}')",
            )
    return (_stack(ids) if ndim == 2 else None) or Groups()


def _readings() -> list[tuple[Callable[[str], str | None], str, float]]:
    """Ways to read a group from an id, the most telling first; what each goes by; and how many groups per case at most
    (names that merely look alike now and then are no groups)."""
    return [
        *((_word(word), f"'{word}'", 1.0) for word in WORDS),
        (_folder, "the folder", 1.0),
        (_tile, "the image that tiles were cut from", 0.7),
        (_volume, "the volume that slices belong to", 0.7),
        (_letter_number, "the first part", 0.7),
        (_numbered_stem, "what stands before the running number", 0.7),
    ]


def _word(word: str) -> Callable[[str], str | None]:
    # `sub-rat3_…` (BIDS: what follows the dash up to the next underscore), `patient_003_…`, `rat3-…`, `Slide A …`
    bids = re.compile(r"(?:^|[-_./ ])sub-(?P<group>[A-Za-z0-9]+)(?=[-_./ ]|$)")
    plain = re.compile(
        rf"(?:^|[-_./ ])(?P<group>{word}(?:[-_ ]?\d+[A-Za-z]?|[-_ ][A-Za-z]\d*|[A-Z]\d*))(?=[-_./ ]|$)", re.IGNORECASE
    )
    # an upper-case letter may follow the word at once (slideA), a lower-case one would only spell another word (slides)
    glued = re.compile(rf"(?:^|[-_./ ])(?i:{word})[a-z](?=[-_./ ]|$)")

    def read(case: str) -> str | None:
        match = bids.search(case) if word == "sub" else None
        if match is None:
            match = plain.search(case)
            if match is not None and glued.search(case):
                return None
        if match is None:
            return None
        folder = _folder(case[: match.start("group")])
        return f"{folder}/{match['group']}" if folder else match["group"]  # every patient has a scan 1

    return read


def _folder(case: str) -> str | None:
    """The folder, where it is numbered: `P07/scan1`. Folders such as `benign/` are kinds, not wholes."""
    folder, slash, _ = case.rpartition("/")
    return folder if slash and re.search(r"\d", folder) else None


def _tile(case: str) -> str | None:
    match = _TILE.match(case)
    return match["whole"] if match else None


def _volume(case: str) -> str | None:
    match = _RUNNING.match(case)
    if match is None:
        return None
    stem, word = _last_word(match["before"])
    return stem or None if word in ORDERED and stem else None


def _letter_number(case: str) -> str | None:
    match = _LETTER_NUMBER.match(case)
    return match["group"] if match else None


def _numbered_stem(case: str) -> str | None:
    """`Seq05VD_f00330` → `Seq05VD_f`. Stems without any digit (`cat_`, `dog_`) are kinds, not wholes."""
    match = _RUNNING.match(case)
    stem = match["before"].rstrip("-_. ") if match else ""
    return stem if re.search(r"\d", stem) and re.search(r"[-_. ]", match["before"] if match else "") else None


def _last_word(text: str) -> tuple[str, str]:
    """'brain1_slice_' → ('brain1', 'slice')."""
    match = re.match(r"^(?P<stem>.*?)[-_. /]*(?P<word>[A-Za-z]*)[-_. ]*$", text)
    return (match["stem"], match["word"].lower()) if match else ("", "")


def _stack(ids: Sequence[str]) -> Groups | None:
    """One common stem with a word such as slice, z or frame and a running number: one stack, in order."""
    matches = [m for m in map(_RUNNING.match, ids) if m is not None]
    stems = Counter((m["before"], m["after"]) for m in matches)
    if not stems:
        return None
    (before, after), n = stems.most_common(1)[0]
    if n < 3 or n < 0.9 * len(ids):
        return None
    tiles = [m["whole"] for m in map(_TILE.match, ids) if m is not None]
    word = _last_word(before)[1]
    numbers = sorted(int(m["number"]) for m in matches if (m["before"], m["after"]) == (before, after))
    dense = max(b - a for a, b in pairwise(numbers)) <= max(5, (numbers[-1] - numbers[0]) / 3)
    if not dense or (word not in ORDERED and len(tiles) != len(ids)):
        return None
    what = f"'{before}{{number}}{after}'"
    return Groups(
        ordered=True,
        source="names",
        reason=(
            f"the names {what} run from {numbers[0]} to {numbers[-1]}: adjacent parts of one whole, where neighbours "
            "resemble each other"
        ),
    )
