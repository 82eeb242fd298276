"""The legend: which value or colour of a mask is which class, both ways, and which class is background.

Masks are anything: 0 and 255, codes, colours, instance numbers, a file for each class. A network knows classes
0 … K-1, or K regions that may overlap, whose label is a bit mask. The legend is recorded with the model, so that
predictions come back as the user's masks were.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Literal, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from unetkit.core.config import Config
from unetkit.core.errors import DataError
from unetkit.data.case import IGNORE
from unetkit.data.labels import borders, depths
from unetkit.data.labels.borders import BORDER, INSIDE
from unetkit.data.labels.depths import level_depths
from unetkit.data.labels.values import Array, Colour, Ints, Value, code, display_colour, pack, percent, show, unpack

__all__ = [
    "MOST_CLASSES",
    "MOST_REGIONS",
    "UNANNOTATED",
    "Array",
    "Colour",
    "Ints",
    "Label",
    "Legend",
    "LegendClass",
    "Value",
    "code",
    "display_colour",
    "folder_name",
    "pack",
    "percent",
    "show",
    "unpack",
]

Label: TypeAlias = NDArray[np.uint8]

MOST_CLASSES = 254
MOST_REGIONS = 7
"""Regions that may overlap: a bit each, and the bit mask of all stays apart from `IGNORE`."""
UNANNOTATED = -(1 << 31)
"""Pixels of a mask that carry no value at all (NaN), whatever the legend's ignore value: `IGNORE` in a label."""
TABLE = (-(1 << 15), 1 << 16)  # range of values that a lookup table covers


class LegendClass(Config):
    """One class: its name, the value or RGB colour it has in masks, other values that mean the same (`also`, e.g. 128
    beside 127), and the RGB colour it is shown in. codes: of a region in masks of numbers, the values of its pixels."""

    name: str
    value: Value
    colour: Colour
    also: tuple[int, ...] = ()
    codes: tuple[int, ...] = ()


class Legend(Config):
    """What the values of a set's masks mean. The index in `classes` is the class index of the network.

    kind: "values" (integers), "colours" (RGB), "instances" (0 is background, any other number an object), or "regions":
    up to 7 classes that may overlap, whose label is a bit mask (bit k set where class k is). Regions have a file each
    (`folders`), or are made of the `codes` of one mask, in which each writes its value over those before it.
    background: the class that is left out of means; None: every class counts. ignore: the value of unlabelled pixels.
    border: of instances that touch, the width in pixels of a third class, the border of each object, by which a network
    tells them apart (`labels/borders.py`); 0: there is none. levels: instead of it, the relative depths that part
    further classes, from the middle of each object to its edge, and radius: where the deepest is looked for
    (`labels/depths.py`). Both are a help, not a thing of their own: masks and scores know objects only (`plain`,
    `merge`). least, most: pixels of the smallest and the largest instances (1 in 100 is smaller, larger); 0: not known.
    reason: how this was understood, in words. A legend survives JSON unchanged.
    """

    kind: Literal["values", "colours", "instances", "regions"]
    classes: tuple[LegendClass, ...] = Field(min_length=1, max_length=MOST_CLASSES)
    background: int | None
    ignore: Value | None = None
    border: int = Field(default=0, ge=0)
    levels: tuple[float, ...] = ()
    radius: int = Field(default=0, ge=0)
    least: int = Field(default=0, ge=0)
    most: int = Field(default=0, ge=0)
    reason: str = ""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.kind == "regions":
            _check_regions(self.classes, self.background, self.ignore)
            return self
        used: list[Value] = [v for c in self.classes for v in (c.value, *c.also)]
        used += [] if self.ignore is None else [self.ignore]
        if len(set(used)) != len(used):
            raise ValueError(f"each value belongs to one class, or is ignored; given were {used}")
        if any(isinstance(v, int) == (self.kind == "colours") for v in used):
            raise ValueError(f"a legend of kind '{self.kind}' cannot have the values {used}")
        if self.background is not None and not 0 <= self.background < len(self.classes):
            raise ValueError(f"background is a class index below {len(self.classes)} or null, not {self.background}")
        if self.touching and self.kind != "instances":
            raise ValueError(f"a border tells instances apart; a legend of kind '{self.kind}' has none")
        if self.levels:
            _check_levels(self.levels, self.radius, self.border)
        wanted = [True, False] + [False] * (len(self.levels) or bool(self.border))
        if self.kind == "instances" and [c.value == 0 for c in self.classes] != wanted:
            number = "three classes, of which the last is the border and" if self.border else "two classes, of which"
            number = f"{len(wanted)} classes for {len(self.levels)} depths, of which" if self.levels else number
            raise ValueError(f"instances have {number} the first is 0")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the classes, in order."""
        return tuple(c.name for c in self.classes)

    @property
    def foreground(self) -> tuple[int, ...]:
        """The class indices that count in means."""
        return tuple(k for k in range(len(self.classes)) if k != self.background and not (self.touching and k > INSIDE))

    @property
    def plain(self) -> Legend:
        """The legend of masks and scores: without the border, which belongs to the objects (`merge` says so of labels);
        otherwise this one."""
        if not self.touching:
            return self
        return self.model_copy(update={"classes": self.classes[:BORDER], "border": 0, "levels": (), "radius": 0})

    @property
    def touching(self) -> bool:
        """Whether objects are learnt with help classes, by which predictions tell those apart that touch."""
        return self.border > 0 or bool(self.levels)

    @property
    def depths(self) -> tuple[float, ...]:
        """How deep in an object each class is, 0 to 1, the background's 0 first; empty without help classes."""
        return level_depths(self.levels) if self.levels else (0.0, 1.0, 0.0) if self.border else ()

    def reach(self, ndim: int, spacing: Sequence[float] | None = None) -> tuple[int, ...]:
        """Pixels beside a region of a mask, along each axis, that decide the classes in it."""
        if self.levels:
            return depths.reach(ndim, self.radius, spacing)
        return borders.reach(ndim, self.border, spacing) if self.border else (0,) * ndim

    def merge(self, label_X: Label) -> Label:
        """A label in the classes of this legend, or of expected depths (`labels/depths.py`), in those of `plain`."""
        if not self.touching:
            return label_X
        return np.where((label_X > INSIDE) & (label_X != IGNORE), np.uint8(INSIDE), label_X)

    @property
    def regions(self) -> bool:
        """Whether classes may overlap, and labels are bit masks."""
        return self.kind == "regions"

    @property
    def folders(self) -> tuple[str, ...]:
        """Where masks are written, below the folder of results: one file in it (`("",)`), or one in a folder of its own
        for each region."""
        return tuple(folder_name(name) for name in self.names) if self.apart else ("",)

    @property
    def channels(self) -> int:
        """Channels of a decoded mask: 3 for colours, one per region where each has a file of its own, else 1."""
        return 3 if self.kind == "colours" else len(self.classes) if self.apart else 1

    @property
    def apart(self) -> bool:
        """Whether each region has a mask of its own."""
        return self.regions and not self.classes[0].codes

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a decoded mask: uint8 where the values fit, else uint16, else int32."""
        values = [c.value for c in self.classes] + ([] if self.ignore is None else [self.ignore])
        numbers = [v for v in values if isinstance(v, int)] or [0]
        for kind in (np.uint8, np.uint16):
            if min(numbers) >= 0 and max(numbers) <= np.iinfo(kind).max:
                return np.dtype(kind)
        return np.dtype(np.int32)

    def encode(
        self, raw: Array, coloured: bool | None = None, spacing: Sequence[float] | None = None
    ) -> tuple[Label, int]:
        """A mask, (*space) integers or (3, h, w) colours, as class indices (*space) uint8; and its stray pixels.

        coloured: whether the first axis of `raw` is that of RGB; None: yes where there are three axes (volumes have
        three, too: say False). spacing: of pixels along each axis, for the border of objects; in a part of a mask, it
        is right at `reach` pixels from where the part was cut.
        Stray pixels have a value that belongs to no class (soft edges, JPEG damage); they get the class whose value is
        nearest (colours: in RGB). Pixels of the ignore value, NaN and `UNANNOTATED` become `IGNORE`.
        Raises DataError: colours where the legend has numbers, values that are infinite.
        """
        coloured = raw.ndim == 3 if coloured is None else coloured
        if coloured and self.kind != "colours":
            if self.kind != "instances":
                raise DataError(
                    "the mask is coloured, but the masks of this model hold numbers; save it in one channel"
                )
            raw, coloured = pack(raw), False
        strays = 0
        if raw.dtype.kind == "f":
            if np.isinf(raw).any():
                raise DataError("the mask has pixels that are infinite; replace them by a value")
            known = np.isfinite(raw)
            whole = np.rint(raw)
            strays = int(np.count_nonzero((whole != raw) & known))
            raw = np.where(known, whole, UNANNOTATED).astype(np.int64)
        elif raw.dtype == np.bool_:
            raw = raw.view(np.uint8)
        if self.kind == "colours":
            label_YX, stray = self._encode_colours(pack(raw) if coloured else raw.astype(np.int64) * 0x010101)
        else:
            label_YX, stray = self._encode_numbers(raw)
        if self.border:
            label_YX = borders.with_borders(raw, label_YX, self.border, spacing)
        if self.levels:
            label_YX = depths.with_levels(raw, label_YX, self.levels, self.radius, spacing)
        return label_YX, strays or stray

    def lookup(self, codes: Ints) -> tuple[Label, NDArray[np.bool_]]:
        """Class index of each value (colours packed as by `pack`), and whether it is a stray."""
        if (hole := codes == UNANNOTATED).any():
            label, stray = self.lookup(np.where(hole, self._attractors()[0][0], codes))
            return np.where(hole, np.uint8(IGNORE), label), stray
        values, classes = self._attractors()
        if self.kind == "colours":
            distance = ((unpack(codes)[:, :, None] - unpack(values)[:, None, :]) ** 2).sum(0)
            return classes[distance.argmin(1)], ~np.isin(codes, values)
        if self.kind == "instances":
            return self._objects(codes), np.zeros(codes.shape, bool)
        middles = (values[:-1] + values[1:]) / 2
        return classes[np.searchsorted(middles, codes)], ~np.isin(codes, values)

    def decode(self, label_YX: Label) -> Array:
        """Class indices (*space) as a mask: (*space) numbers, or (3, h, w) uint8 colours; `IGNORE` as the ignore value.
        Regions with files of their own: (K, *space), the value of each where it is and else 0.

        Raises ValueError: an index that is no class of this legend, a bit that is no region.
        """
        table = np.zeros((256, self.channels), self.dtype)
        known = np.zeros(256, bool)
        if self.regions:
            known[: 1 << len(self.classes)] = True
            for k, region in enumerate(self.classes):
                table[self._bits() >> k & 1 > 0, k if self.apart else 0] = region.value
        values = [*enumerate(c.value for c in self.classes)] if not self.regions else []
        if self.touching:
            values[BORDER:] = [(k, self.classes[INSIDE].value) for k in range(BORDER, len(self.classes))]
        for index, value in [*values, (IGNORE, None if self.apart else self.ignore)]:
            if value is not None:
                table[index], known[index] = value, True
        used = np.bincount(label_YX.reshape(-1), minlength=256) > 0
        if (unknown := np.flatnonzero(used & ~known)).size:
            raise ValueError(f"the label has the index {unknown[0]}, but the legend has {len(self.classes)} classes")
        if self.channels == 1 and not self.apart:
            return table[:, 0][label_YX]
        return np.stack([table[:, channel][label_YX] for channel in range(self.channels)])

    def files(self, label_X: Label) -> tuple[tuple[str, Array], ...]:
        """What is written of a label: (one of `folders`, the mask as it is written there). Raises as `decode`."""
        mask = self.decode(label_X)
        return tuple(zip(self.folders, mask, strict=True)) if self.apart else (("", mask),)

    def count(self, label_X: Label) -> Ints:
        """Pixels of each class of a label, (K,); pixels of several regions count in each."""
        return self.tally(np.bincount(label_X.reshape(-1), minlength=256))

    def tally(self, counts: Array) -> Array:
        """As `count`, from a number for each of the 256 values that a label may have."""
        if not self.regions:
            return counts[: len(self.classes)]
        inside = np.arange(256) < 1 << len(self.classes)
        return np.array([counts[inside & (np.arange(256) >> k & 1 > 0)].sum() for k in range(len(self.classes))])

    def where(self, label_X: Label, index: int) -> NDArray[np.bool_]:
        """Whether each pixel of a label belongs to class `index`."""
        if not self.regions:
            return np.equal(label_X, index)
        inside: NDArray[np.bool_] = (label_X >> index & 1 > 0) & (label_X != IGNORE)
        return inside

    def display(self) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """The colour (256, 3) in which each value of a label is shown, and whether it is: the background and what is
        unlabelled are not. Of several regions the last one shows; they come in the order of their size."""
        colours, shown = np.zeros((256, 3), np.uint8), np.zeros(256, bool)
        for k, entry in enumerate(self.classes):
            if k != self.background:
                value = (self._bits() >> k & 1 > 0) if self.regions else k
                colours[value], shown[value] = entry.colour, True
        return colours, shown

    def _objects(self, raw: Array) -> Label:
        label: Label = (raw != 0).astype(np.uint8)
        if self.ignore is not None:
            label[raw == self.ignore] = IGNORE
        return label

    def _bits(self) -> Ints:
        """The values of a label that are bit masks of the regions; 0 for the others."""
        values = np.arange(256)
        return np.where(values < 1 << len(self.classes), values, 0)

    def _attractors(self) -> tuple[Ints, Label]:
        """All values that mean something, ascending (colours packed), and the class index (or bit mask) of each."""
        if self.apart:
            return np.arange(1 << len(self.classes)), np.arange(1 << len(self.classes)).astype(np.uint8)
        pairs: list[tuple[Value, int]] = []
        if self.regions:
            for value in sorted({0, *(v for c in self.classes for v in c.codes)}):
                pairs.append((value, sum(1 << k for k, c in enumerate(self.classes) if value in c.codes)))
        else:
            pairs += [(v, k) for k, c in enumerate(self.classes) for v in (c.value, *c.also)]
        pairs += [] if self.ignore is None else [(self.ignore, IGNORE)]
        coded = sorted((code(v), k) for v, k in pairs)
        return np.array([v for v, _ in coded], np.int64), np.array([k for _, k in coded], np.uint8)

    def _encode_numbers(self, raw_YX: Array) -> tuple[Label, int]:
        """One table lookup where the values are small; else each distinct value is looked up once."""
        if raw_YX.size == 0:
            return np.zeros(raw_YX.shape, np.uint8), 0
        low, high = int(raw_YX.min()), int(raw_YX.max())
        if low == UNANNOTATED:
            hole_YX = raw_YX == UNANNOTATED
            label_YX, strays = self._encode_numbers(np.where(hole_YX, self._attractors()[0][0], raw_YX))
            label_YX[hole_YX] = IGNORE
            return label_YX, strays
        if self.kind == "instances":
            return self._objects(raw_YX), 0
        if TABLE[0] <= low and high < TABLE[1]:
            table, stray = self.lookup(np.arange(low, high + 1))
            index_YX = raw_YX if low == 0 else raw_YX.astype(np.int64) - low
            label_YX = table[index_YX]
            if not stray.any():
                return label_YX, 0
            return label_YX, int(np.bincount(index_YX.reshape(-1), minlength=len(stray))[stray].sum())
        values, inverse, counts = np.unique(raw_YX.astype(np.int64), return_inverse=True, return_counts=True)
        table, stray = self.lookup(values)
        return table[inverse.reshape(raw_YX.shape)], int(counts[stray].sum())

    def _encode_colours(self, packed_YX: Ints) -> tuple[Label, int]:
        """Exact colours by binary search; the few others are looked up one distinct colour at a time."""
        values, classes = self._attractors()
        position = np.minimum(np.searchsorted(values, packed_YX), len(values) - 1)
        label_YX = classes[position]
        stray_YX = values[position] != packed_YX
        strays = int(np.count_nonzero(stray_YX))
        if strays:
            distinct, inverse = np.unique(packed_YX[stray_YX], return_inverse=True)
            nearest = np.concatenate(
                [self.lookup(part)[0] for part in np.array_split(distinct, len(distinct) // 4096 + 1)]
            )
            label_YX[stray_YX] = nearest[inverse]
        return label_YX, strays


def _check_levels(levels: Sequence[float], radius: int, border: int) -> None:
    """Raise ValueError where depths cannot be levels."""
    if border:
        raise ValueError("objects are told apart by a border or by levels of depth, not by both")
    if list(levels) != sorted(set(levels)) or not 0 < levels[0] <= levels[-1] < 1:
        raise ValueError(f"levels are relative depths between 0 and 1, ascending, not {tuple(levels)}")
    if radius < 1:
        raise ValueError(f"the radius in which depth is compared is at least 1 element, not {radius}")


def _check_regions(classes: Sequence[LegendClass], background: int | None, ignore: Value | None) -> None:
    """Raise ValueError where classes cannot be regions."""
    names, folders = {c.name for c in classes}, {folder_name(c.name).casefold() for c in classes}
    if len(classes) > MOST_REGIONS:
        raise ValueError(f"at most {MOST_REGIONS} regions fit a label, not {len(classes)}")
    if background is not None:
        raise ValueError("regions have no background: it is where none of them is")
    if len(names) < len(classes) or len(folders) < len(classes):
        raise ValueError(f"each region has a name of its own, by which a folder can be called: {sorted(names)}")
    if len({bool(c.codes) for c in classes}) > 1:
        raise ValueError("either every region has codes, or none has")
    coded = [v for c in classes for v in (*c.codes, c.value)]
    if any(not isinstance(v, int) or v == 0 for v in coded) or isinstance(ignore, tuple) or ignore in coded:
        raise ValueError(f"the values of regions are numbers other than 0 and the ignore value, not {coded}")


def folder_name(name: str) -> str:
    """A folder's name from a class's: what file systems refuse becomes an underscore."""
    return re.sub(r'[\x00-\x1f<>:"/\\|?*]|^\.+|[. ]+$', "_", name) or "_"
