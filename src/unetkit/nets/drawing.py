"""A network as a picture: its maps as boxes, level under level, and what happens between them. SVG as text, no torch.

Drawn from the outline, not from names: chains in the manner of Ronneberger 2015 (figure 1), every map a box; nested
and full-scale topologies with a box per part (`drawing_grid`); parts of the user's own wherever they stand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from unetkit.nets.drawing_grid import grid, is_grid
from unetkit.nets.outline import Map, Outline, Part, format_count
from unetkit.nets.program import INPUT
from unetkit.nets.scene import (
    CONV,
    DOWN,
    HEAD,
    SIGNAL,
    SKIP,
    STYLES,
    UP,
    Box,
    Scene,
    caption_of,
    format_size,
    height,
    style_of,
    thickness,
)
from unetkit.nets.svg import Canvas, text_width

GAP = 17.0  # between boxes of a row
REACH = 56.0  # the shortest arrow of a skip
SIGNS = {"add": "+", "fuse": "w", "module": "f"}
MERGES = ("concat", *SIGNS)


def draw(found: Outline, name: str) -> str:
    """The picture of a network called `name`, as an SVG document."""
    scene = grid(found) if is_grid(found) else _Chain(found).scene
    canvas = scene.draw()
    title = _title(found)
    _legend(canvas, found, scene)
    top = canvas.top - 34
    canvas.text((canvas.left, top), name, size=16, anchor="start", bold=True)
    canvas.text((canvas.left, top + 17), title, anchor="start", colour="#4b5563")
    return canvas.document(f"{name}: {title}", "; ".join(f"{part.name}: {part.what}" for part in found.parts))


def _title(found: Outline) -> str:
    spec = found.spec
    unit = ("samples", "pixels", "voxels")[spec.ndim - 1]
    size = "" if found.padded == found.shape else f" (padded to {format_size(found.padded)})"
    return (
        f"{format_size(found.shape)} {unit}{size}, {spec.in_channels} channel{'s' * (spec.in_channels > 1)} in; "
        f"{spec.classes} out; {format_count(found.parameters)} parameters; {format_count(found.flops)}FLOPs"
    )


class _Chain:
    """Down the left side, up the right side; every map a box, side by side in the row of its level."""

    def __init__(self, found: Outline) -> None:
        self.found = found
        self.scene = Scene()
        self.parts = {part.name: part for part in found.parts}
        image = Map(found.spec.in_channels, found.padded)
        self.ends: dict[str, Box] = {INPUT: self.scene.add(self._box(image, 0, "input", 0.0, INPUT))}
        for part in found.parts:
            self._part(part)

    def _part(self, part: Part) -> None:
        if part.role == "up":
            return  # a part of its own only together with what it meets
        rises = [self.parts[name] for name in part.reads if name in self.parts and self.parts[name].role == "up"]
        if part.role == "skip" or (rises and part.kinds[-1] in MERGES):
            self.ends[part.name] = self._merge(part, rises[0] if rises else None)
            return
        source = self._risen(rises[0]) if rises else self.ends[part.reads[0]]
        style = "pooled" if part.role == "down" else style_of(part)
        maps, several = part.maps, len(part.maps) == 1 and part.repeats > 2
        if len(maps) > 3:
            maps, several = maps[-1:], True
        for k, value in enumerate(maps):
            caption = caption_of(part, self.found) if k == len(maps) - 1 else ""
            source = self._after(source, value, part, style, *([f"{part.repeats} conv"] * several), caption)
            source.stacked = several
        self.ends[part.name] = source

    def _after(self, source: Box, value: Map, part: Part, style: str, *captions: str) -> Box:
        """The box of a map that is made of `source`: beside it, or in another row under or above it."""
        box = self._box(value, part.level, style, source.x, *captions)
        head = style in ("head", "training")
        if part.level == source.row:
            box.x = self._beside(source, box)
            self.scene.link("beside", source, box, HEAD if head else CONV, dashed=style == "training")
        elif part.level < source.row:
            box.x = source.x
            self.scene.link("up", source, box, UP)
        elif part.role == "down":
            self.scene.link("down", source, box, DOWN)
        else:  # the block itself goes down
            box.x = max(source.x + 16 + box.span / 2, self._free(part.level) + GAP + box.span / 2)
            self.scene.link("elbow", source, box, DOWN)
        return self.scene.add(box)

    def _risen(self, rise: Part) -> Box:
        """What came up from below, where no skip meets it."""
        source = self._source(rise)
        box = self._box(rise.result, rise.level, "up", source.x)
        self._make_room(source, box, REACH)
        self.scene.add(box)
        self.scene.link("up", source, box, UP)
        for kept in self._kept(rise, source):  # the places of the maxima
            self.scene.link("skip", kept, box, DOWN, dashed=True)
        return box

    def _merge(self, part: Part, rise: Part | None) -> Box:
        """What was kept and what comes from below, put together."""
        below = self._source(rise) if rise else self.ends[part.reads[-1]]
        kept = self._kept(part, below)
        gated = "sigmoid" in part.kinds and "multiply" in part.kinds
        room = REACH + (34 if gated else 0)
        if part.kinds[-1] == "concat":
            up = rise.result.channels if rise else below.map.channels
            pieces = ((thickness(part.result.channels - up), "kept"), (thickness(up), "up"))
            entry = self._box(part.result, part.level, "up", 0.0)
            entry.pieces, entry.width = pieces, sum(width for width, _ in pieces)
            entry.x = below.x - entry.width / 2 + pieces[-1][0] / 2
            self._make_room(below, entry, room)
            self.scene.add(entry)
            last = entry
        else:
            entry = Box(below.x, part.level, part.result, "sign", 17, 17, sign=SIGNS.get(part.kinds[-1], "f"))
            self._make_room(below, entry, room)
            self.scene.add(entry)
            last = self._after(
                entry,
                part.result,
                part,
                "decoder" if part.role == "skip" else style_of(part),
                caption_of(part, self.found),
            )
            last.style = "up" if part.role == "skip" else last.style
        self.scene.link("up", below, entry, UP)
        for source in kept:
            target = entry
            if gated:
                target = self.scene.add(Box(entry.left - 30, part.level, part.result, "sign", 17, 17, sign="α"))
                self.scene.link("beside", target, entry, SKIP)
                own = rise is None or len(part.reads) > 2  # the signal is the coarser map itself
                self.scene.link("signal" if own else "branch", below, target, SIGNAL)
            self.scene.link("skip", source, target, SKIP)
        return last

    def _source(self, rise: Part) -> Box:
        """What goes up: the deepest of what is read."""
        return max((self.ends[name] for name in rise.reads if name in self.ends), key=lambda box: box.row)

    def _kept(self, part: Part, below: Box) -> list[Box]:
        boxes = [self.ends[name] for name in part.reads if name in self.ends]
        return [box for box in boxes if box is not below and box.row <= part.level]

    def _make_room(self, source: Box, box: Box, room: float) -> None:
        """Move `source`, the last of its row, and `box` above it to the right, until a skip has room before it."""
        missing = self._free(box.row) + room - min(box.left, box.x - box.span / 2)
        if missing > 0:
            source.x += missing
            box.x += missing

    def _free(self, row: int) -> float:
        """Where a row ends."""
        return max((max(box.right, box.x + box.span / 2) for box in self.scene.row(row)), default=-1e9)

    def _beside(self, source: Box, box: Box) -> float:
        return max(source.right + box.width / 2, source.x + source.span / 2 + box.span / 2 - 8) + GAP

    def _box(self, value: Map, row: int, style: str, x: float, *captions: str) -> Box:
        """A box with its channels above it. Below it its size: under the first of a row, or under all where unpadded
        convolutions or a stem change it within a row."""
        tall = height(value.shape, self.found.padded)
        varies = any(self.found.geometry.margin) or self.found.spec.stem_stride > 1
        size = format_size(value.shape) if varies or not self.scene.row(row) else ""
        below = tuple(line for line in (size, *captions) if line)
        return Box(x, row, value, style, thickness(value.channels), tall, str(value.channels), below)


def _legend(canvas: Canvas, found: Outline, scene: Scene) -> None:
    """What the arrows and colours mean: only what occurs, in rows under the picture."""
    left, width, y = canvas.left, max(canvas.right - canvas.left, 560.0), canvas.bottom + 34
    x = left
    for glyph, text in [*_arrows(found), *_colours(scene)]:
        taken = 34 + text_width(text) + 18
        if x > left and x + taken > left + width:
            x, y = left, y + 21
        if glyph in STYLES:
            fill, stroke = STYLES[glyph]
            canvas.box(x + 8, y - 9, 12, 13, fill, stroke, dashed=glyph == "training")
        else:
            canvas.line([(x, y - 3), (x + 26, y - 3)], glyph.rstrip("-"), dashed=glyph.endswith("-"))
        canvas.text((x + 34, y + 1), text, anchor="start")
        x += taken


def _arrows(found: Outline) -> list[tuple[str, str]]:
    spec = found.spec
    roles = {role: [part for part in found.parts if part.role == role] for role in ("down", "up", "skip", "head")}
    then = ", ".join([*([f"{spec.norm} norm"] if spec.norm != "none" else []), spec.activation.replace("_", " ")])
    rows = [(CONV, f"{_name(spec.block)} block: convolution, {then}")]
    if spec.decoder_block is not None and spec.decoder_block != spec.block:
        rows[0] = (CONV, f"{_name(spec.block)} blocks, {_name(spec.decoder_block)} in the decoder: {then}")
    whole = all(part.role in ("other", "head") for part in found.parts)  # a network of the user's own
    down = "" if whole else _whats(roles["down"]) or ("strided convolution of the block" if spec.levels > 1 else "")
    up = _whats(roles["up"])
    signs = {"add": "; +: sum", "fuse": "; w: weighted mean", "module": "; f: code of your own"}
    skip = f"skip: {_name(spec.skip)}{signs.get(roles['skip'][0].kinds[-1], '')}" if roles["skip"] else ""
    if any(part.gives > 1 for part in roles["skip"]):  # full-scale
        down, up = f"{down}; finer levels pooled, convolution", "coarser levels interpolated, convolution"
        skip = "same level, convolution"
    merging = [part for part in roles["head"] if part.kinds[-1] in MERGES]
    if merging:
        skip = f"skip: {_whats(merging)}"
    final = _whats(part for part in roles["head"] if not part.training and part not in merging)
    places = "places of the maxima" if any("unpool" in part.kinds for part in roles["up"]) else ""
    gate = "attention gate α, driven from below" if any("sigmoid" in part.kinds for part in roles["skip"]) else ""
    if gate and is_grid(found):  # there the gates are on the arrows
        skip, gate = "", f"{skip}, gated from below"
    rows += [
        (DOWN, down),
        (f"{DOWN}-", places),
        (UP, up),
        (SKIP, skip),
        (SIGNAL, gate),
        (HEAD, final and f"head: {final}"),
    ]
    return [(colour, text) for colour, text in rows if text]


def _whats(parts: Iterable[Part]) -> str:
    words = list(dict.fromkeys(part.what for part in parts if part.what))
    return " / ".join([*words[:2], *(["…"] if len(words) > 2 else [])])


def _name(part: object) -> str:
    return part if isinstance(part, str) else getattr(part, "__name__", type(part).__name__)


def _colours(scene: Scene) -> list[tuple[str, str]]:
    words: Sequence[tuple[str, str]] = (
        ("encoder", "encoder"),
        ("pooled", "from above"),
        ("kept", "copied"),
        ("up", "from below"),
        ("decoder", "decoder"),
        ("bottleneck", "bottleneck"),
        ("head", "logits: scores of the classes"),
        ("training", "the same, in training only (deep supervision)"),
    )
    present = {box.style for box in scene.boxes} | {style for box in scene.boxes for _, style in box.pieces}
    return [(style, text) for style, text in words if style in present]
