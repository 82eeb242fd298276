"""What the axes of an array in a file are: as the file says, as the user says, or guessed, and then said.

Letters: Z, Y, X of space; T time; C channels, S samples of a pixel (RGB); anything else is not known. The axes of space
keep the order that they have in the file; channels come first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from unetkit.core.errors import DataError
from unetkit.core.region import Region
from unetkit.data.formats.base import Array, Reading
from unetkit.data.formats.table import split_address

MAX_CHANNELS = 16
"""The longest last axis (of images) that is taken for channels where nothing says so."""
FIRST_CHANNELS = 4
"""The longest first axis of three that is: a stack of a few slices looks the same, and is more common."""
SIGNAL_CHANNELS = 32
"""The shortest of two axes that is taken for space; a shorter one beside a long one holds the channels of a signal."""

_SPACE, _CHANNELS, _TIME, UNKNOWN = "ZYX", "CS", "T", "?"
_WORDS = {"T": "T (time)", "C": "C (channels)", "S": "S (samples of a pixel)"}


@dataclass(frozen=True, slots=True)
class Axes:
    """The axes of an array in a file.

    sizes: of the array, in the order of the file. space: which of them are space (1 to 3). channel: which holds the
    channels, None where there is but one. names: one letter for each axis of space. notes: what was guessed.
    The remaining axes have length 1.
    """

    sizes: tuple[int, ...]
    space: tuple[int, ...]
    channel: int | None
    names: str
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Of space."""
        return self.of(self.sizes)

    @property
    def channels(self) -> int:
        """Number of channels."""
        return 1 if self.channel is None else self.sizes[self.channel]

    def of(self, values: Sequence[int]) -> tuple[int, ...]:
        """The entries that belong to space, of one entry for each axis of the file."""
        return tuple(int(values[axis]) for axis in self.space)

    def index(self, region: Region) -> tuple[slice, ...]:
        """Where a region of space lies in the array of the file, all channels."""
        found = [slice(0, n) for n in self.sizes]
        for axis, part in zip(self.space, region.slices, strict=True):
            found[axis] = part
        return tuple(found)

    def arranged(self, array: Array) -> Array:
        """A view (C, *space) of what `index` cut out of the array of the file."""
        if self.channel is not None:
            order = [self.channel, *(a for a in range(array.ndim) if a != self.channel)]
            array = array.transpose(order)
        else:
            array = array[None]
        keep = (0, *(1 + a - (self.channel is not None and a > self.channel) for a in self.space))
        return array.reshape([array.shape[a] for a in keep])


def understand(path: Path, sizes: Sequence[int], names: str, reading: Reading) -> Axes:
    """The axes of an array of `sizes`. names: a letter for each as the file has it ("?": the file does not say).

    Raises DataError: `reading.axes` does not fit, several time points, more axes than an image has.
    """
    sizes = tuple(int(n) for n in sizes)
    if 0 in sizes or not sizes:
        raise DataError(f"{path}: the file holds no pixel (its shape is {_times(sizes)}); export it again")
    notes: tuple[str, ...] = ()
    if reading.axes:
        names = _asked(path, sizes, names, reading.axes)
    else:
        names = _without_doubles("".join(n if n in _SPACE + _CHANNELS + _TIME else UNKNOWN for n in names.upper()))
        if (
            any(n == UNKNOWN and size > 1 for n, size in zip(names, sizes, strict=True))
            or UNKNOWN * len(names) == names
        ):
            names = _guessed(path, sizes, names)
            long = [a for a, n in enumerate(names) if n in "YX" or (n != UNKNOWN and sizes[a] > 1)] or [len(sizes) - 1]
            where = path.relative_to(split_address(path)[0].parent)
            taken = f"its {_times([sizes[a] for a in long])} are taken as {', '.join(names[a] for a in long)}"
            notes = (f"{where}: {taken} (nothing says so); --axes tells otherwise",)
    return _placed(path, sizes, names, notes)


def _asked(path: Path, sizes: tuple[int, ...], names: str, asked: str) -> str:
    """The user's letters, one for each axis: those of length 1 may be left out, a C be named where there is none."""
    letters = "".join(asked.upper().replace(",", "").split())
    has = f"it has {_described(sizes, names)}"
    if strange := sorted(set(letters) - set(_SPACE + _CHANNELS + _TIME)):
        raise DataError(
            f"{path}: --axes {asked}: {strange[0]!r} is no axis; they are Z, Y, X (space), C (channels), T (time)"
        )
    if twice := next((c for c in letters if letters.count(c) > 1), ""):
        raise DataError(f"{path}: --axes {asked} names {twice} twice; {has}")
    long = [a for a, n in enumerate(sizes) if n > 1]
    if len(letters) not in (len(sizes), len(long)) and len(letters) - 1 in (len(sizes), len(long)):
        letters = letters.replace("C", "")  # the mask of an image of several channels has none
    if len(letters) == len(sizes):
        return letters
    if len(letters) != len(long):
        raise DataError(
            f"{path}: --axes {asked} names {len(letters)} axes, but {has}: name each of them, in this order"
        )
    found = [UNKNOWN] * len(sizes)
    for axis, letter in zip(long, letters, strict=True):
        found[axis] = letter
    return "".join(found)


def _guessed(path: Path, sizes: tuple[int, ...], names: str) -> str:
    """Letters for the long axes that have none, by their lengths and those that are known."""
    open_ = [a for a, n in enumerate(names) if n == UNKNOWN and sizes[a] > 1]
    if not open_ and all(n == UNKNOWN for n in names):  # a single value
        open_ = [len(sizes) - 1]
    known = {n for a, n in enumerate(names) if n != UNKNOWN and (sizes[a] > 1 or n in "YX")}
    lengths = [sizes[a] for a in open_]
    letters = ""
    if known == {"Y", "X"} and len(open_) == 1:
        letters = "C" if lengths[0] <= FIRST_CHANNELS else "Z"
    elif known >= {"Y", "X"} and known <= {"Y", "X", "C", "S"} and len(open_) == 1:
        letters = "Z"
    elif known == {"Y", "X"} and len(open_) == 2 and min(lengths) <= MAX_CHANNELS:
        letters = "CZ" if lengths[0] < lengths[1] else "ZC"
    else:  # as if nothing were known, if that agrees with what is
        long = [a for a, n in enumerate(sizes) if n > 1 or a in open_]
        whole = _all_guessed([sizes[a] for a in long])
        if all(names[a] in (UNKNOWN, letter) for a, letter in zip(long, whole, strict=bool(whole))):
            letters = "".join(letter for a, letter in zip(long, whole, strict=bool(whole)) if a in open_)
    if not letters:
        raise DataError(
            f"{path}: nothing says what its axes are ({_described(sizes, names)}); name each, in this order: "
            f"--axes {'TCZYX'[-sum(n > 1 for n in sizes) :]}, for example"
        )
    found = list(names)
    for axis, letter in zip(open_, letters, strict=True):
        found[axis] = letter
    return "".join(found)


def _all_guessed(lengths: Sequence[int]) -> str:
    few, last = MAX_CHANNELS, lengths[-1]
    if len(lengths) == 1:
        return "T"
    if len(lengths) == 2:
        short, long = sorted(lengths)
        if short <= SIGNAL_CHANNELS and long >= 16 * short and long > 16 * few:
            return "CT" if lengths[0] == short else "TC"
        return "YX"
    if len(lengths) == 3:
        if last <= few < min(lengths[:2]):
            return "YXC"
        return "CYX" if lengths[0] <= FIRST_CHANNELS < min(lengths[1:]) else "ZYX"
    if len(lengths) == 4:
        if last <= few < min(lengths[:3]):
            return "ZYXC"
        if lengths[0] <= few < min(lengths[1:]):
            return "CZYX"
        if lengths[1] <= few < min(lengths[0], *lengths[2:]):
            return "ZCYX"
    return ""


def _placed(path: Path, sizes: tuple[int, ...], names: str, notes: tuple[str, ...]) -> Axes:
    long = [a for a, n in enumerate(names) if sizes[a] > 1 and n != UNKNOWN]
    space = tuple(a for a in range(len(names)) if names[a] in _SPACE and (sizes[a] > 1 or names[a] in "YX"))
    if not any(sizes[a] > 1 for a in space) and any(names[a] == _TIME for a in long):
        space = ()  # T is the one axis of a signal
    time = [a for a, n in enumerate(names) if n == _TIME]
    if not space and time:
        space, time = (time[0],), time[1:]
    if not space:
        raise DataError(
            f"{path}: no axis of space among its {_described(sizes, names)}; name the axes, such as --axes CYX"
        )
    if frames := next((sizes[a] for a in time if sizes[a] > 1), 0):
        raise DataError(
            f"{path}: {frames} points in time (its axes are {_described(sizes, names)}); an image is one point in "
            f"time: save each as a file of its own or, if they are the slices of a volume, call the axis Z: "
            f"--axes {''.join('Z' if n == _TIME else n for a, n in enumerate(names) if a in long)}"
        )
    channels = [a for a in long if names[a] in _CHANNELS]
    if len(channels) > 1:
        raise DataError(
            f"{path}: two axes of channels (its axes are {_described(sizes, names)}); save the image with one of them, "
            "or each of the others as a file of its own"
        )
    return Axes(sizes, space, channels[0] if channels else None, "".join(names[a] for a in space), notes)


def _without_doubles(names: str) -> str:
    """A letter that stands twice says nothing."""
    return "".join(UNKNOWN if names.count(n) > 1 else n for n in names)


def _described(sizes: Sequence[int], names: str) -> str:
    """`40 × 512 × 512 (Z, Y, X)`, without axes of length 1 that have no name."""
    kept = [(n, name) for n, name in zip(sizes, names, strict=True) if n > 1 or name in "YX"]
    kept = kept or [(n, UNKNOWN) for n in sizes]
    known = any(name != UNKNOWN for _, name in kept)
    return _times([n for n, _ in kept]) + (f" ({', '.join(_WORDS.get(a, a) for _, a in kept)})" if known else "")


def _times(sizes: Sequence[int]) -> str:
    return " × ".join(str(n) for n in sizes)


_LETTERS = {"channel": "C", "channels": "C", "time": "T", "depth": "Z", "height": "Y", "width": "X"}


def letter_of(name: object) -> str:
    """The letter of an axis that a file calls so; "?" where the name is none that we know."""
    word = str(name or "").strip().lower()
    letter = word.upper() if len(word) == 1 else _LETTERS.get(word, UNKNOWN)
    return letter if letter in _SPACE + _CHANNELS + _TIME else UNKNOWN
