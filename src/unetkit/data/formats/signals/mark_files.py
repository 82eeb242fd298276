"""Annotation files of WFDB in the MIT format: the sample, code and text of every mark.

The format: https://wfdb.io/spec/annotation-files.html. Words of 16 bits: 6 of a code, 10 of the samples since the mark
before; codes from 59 on are not marks, but say more of one. Read here because the wfdb package parses the header of the
recording anew for each file, and there may be twelve for one recording.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, replace
from pathlib import Path

from unetkit.data.formats.base import decoding, unreadable

# https://wfdb.io/spec/annotation-codes.html
_SYMBOLS = {
    1: "N", 2: "L", 3: "R", 4: "a", 5: "V", 6: "F", 7: "J", 8: "A", 9: "S", 10: "E", 11: "j", 12: "/", 13: "Q", 14: "~",
    16: "|", 18: "s", 19: "T", 20: "*", 21: "D", 22: '"', 23: "=", 24: "p", 25: "B", 26: "^", 27: "t", 28: "+", 29: "u",
    30: "?", 31: "!", 32: "[", 33: "]", 34: "e", 35: "n", 36: "@", 37: "x", 38: "f", 39: "(", 40: ")", 41: "r",
}  # fmt: skip
_RESOLUTION = "## time resolution: "
_SKIP, _NUMBER, _SUBTYPE, _CHANNEL, _TEXT = 59, 60, 61, 62, 63


@dataclass(frozen=True, slots=True)
class Marks:
    """The marks of an annotation file, by sample. notes: the text that stands at a mark. rate: by which the samples are
    counted, where the file says so; None: by that of the recording."""

    samples: tuple[int, ...]
    symbols: tuple[str, ...]
    notes: tuple[str, ...]
    rate: float | None = None

    def at(self, rate: float | None) -> Marks:
        """The marks by the samples of a recording of `rate`."""
        if rate is None or self.rate is None or self.rate == rate:
            return self
        return replace(self, samples=tuple(round(n * rate / self.rate) for n in self.samples), rate=rate)


def read_marks(path: Path) -> Marks:
    """All marks of an annotation file. Raises DataError: absent, cut short, or no annotations."""
    with decoding(path, OSError):
        raw = path.read_bytes()
    samples: list[int] = []
    symbols: list[str] = []
    notes: list[str] = []
    place, now = 0, 0
    while True:
        if place + 2 > len(raw):
            raise unreadable(path, "it does not end as annotation files do")
        word = raw[place] | raw[place + 1] << 8
        place += 2
        code, value = word >> 10, word & 0x3FF
        if word == 0:
            return _without_definitions(samples, symbols, notes)
        if code == _SKIP:  # 32 bits, the higher half first
            high, low = raw[place : place + 2], raw[place + 2 : place + 4]
            now += int.from_bytes(high, "little", signed=True) * 65536 + int.from_bytes(low, "little")
            place += 4
        elif code == _TEXT:
            if notes:
                notes[-1] = raw[place : place + value].decode("latin-1").strip("\x00 \n")
            place += value + value % 2
        elif code not in (_NUMBER, _SUBTYPE, _CHANNEL):
            now += value
            if code:  # 0 only moves on
                samples.append(now)
                symbols.append(_SYMBOLS.get(code, f"code {code}"))
                notes.append("")


def _without_definitions(samples: list[int], symbols: list[str], notes: list[str]) -> Marks:
    """Comments at the first sample, of which the first begins with ##, speak of the file itself."""
    first, rate = 0, None
    if notes and notes[0].startswith("## "):
        while first < len(samples) and samples[first] == 0 and symbols[first] == '"':
            if notes[first].startswith(_RESOLUTION):
                with contextlib.suppress(ValueError):
                    rate = float(notes[first].removeprefix(_RESOLUTION))
            first += 1
    return Marks(tuple(samples[first:]), tuple(symbols[first:]), tuple(notes[first:]), rate or None)
