"""Nested and full-scale topologies: a box per part, since the arrows between them are what matters."""

from __future__ import annotations

from unetkit.nets.outline import Map, Outline, Part
from unetkit.nets.program import INPUT
from unetkit.nets.scene import (
    CONV,
    DOWN,
    HEAD,
    SIGNAL,
    SKIP,
    UP,
    Box,
    Scene,
    caption_of,
    format_size,
    height,
    style_of,
    thickness,
)

STEP = 66.0  # between neighbouring places of the grid
TALL = 84.0
_PASSED = ("up", "skip", "down")  # parts that are arrows here


def is_grid(found: Outline) -> bool:
    """Whether levels are joined in more ways than by one skip each."""
    return any(part.role == "node" or (part.role == "skip" and part.gives > 1) for part in found.parts)


def grid(found: Outline) -> Scene:
    """The boxes and arrows of such a network."""
    scene = Scene()
    parts = {part.name: part for part in found.parts}
    gated = any(part.role == "skip" and "sigmoid" in part.kinds for part in found.parts)
    nested = any(part.role == "node" for part in found.parts)
    image = Map(found.spec.in_channels, found.padded)
    boxes: dict[str, Box] = {INPUT: scene.add(_box(found, image, -STEP, 0, "input", ("input",)))}
    for part in found.parts:
        if part.role in _PASSED:
            continue
        sources = [boxes[name] for name in _sources(part, parts)]
        box = scene.add(_place(found, part, sources, nested))
        boxes[part.name] = box
        arcs = [s for s in sources if s.row == box.row and _between(scene, s, box)]
        # from top to bottom: finer levels, the same, then coarser ones, the farthest first, so that few arrows cross
        arriving = sorted(sources, key=lambda s: s.row if s.row <= box.row else 2 * found.spec.levels - s.row)
        for source in sources:
            colour = CONV if len(sources) == 1 and source.row == box.row else _colour(source, box, gated)
            if part.role == "head":
                scene.link("straight", source, box, HEAD, dashed=part.training)
            elif nested and source in arcs:
                scene.link("arc", source, box, colour, slot=(arcs.index(source), len(arcs)))
            elif nested or len(sources) == 1:
                scene.link("straight", source, box, colour)
            else:
                kind = "climb" if source.row > box.row else "sweep"
                scene.link(kind, source, box, colour, slot=(arriving.index(source), len(arriving)))
    for row in {box.row for box in scene.boxes}:
        first = min(scene.row(row), key=lambda box: box.x)
        if first.style != "training":
            first.below = (format_size(first.map.shape), *first.below)
    return scene


def _sources(part: Part, parts: dict[str, Part]) -> list[str]:
    """The boxes that a part reads, directly or through parts that are arrows here."""
    found: dict[str, None] = {}
    for name in part.reads:
        through = name in parts and parts[name].role in _PASSED
        found.update(dict.fromkeys(_sources(parts[name], parts) if through else [name]))
    return list(found)


def _place(found: Outline, part: Part, sources: list[Box], nested: bool) -> Box:
    levels = found.spec.levels
    shifted = any(p.role == "bottleneck" for p in found.parts)
    style, row = style_of(part), part.level
    if part.role == "head":
        if nested and part.training:
            x, row = sources[0].x, sources[0].row - 1
        else:
            x = sources[0].x + 0.95 * STEP
    elif part.role == "bottleneck":
        x = part.level + 1.0
    elif part.role == "decoder":
        x = 2 * (levels - 1) - part.level + shifted
    elif part.role == "node":
        x = part.level + 2.0 * part.column
    elif part.role == "encoder":
        x = float(part.level)
    else:
        x = max(box.x for box in sources) / STEP + 0.5
    x = x if part.role == "head" else x * STEP
    caption = caption_of(part, found)
    return _box(found, part.result, x, row, style, (caption,) if caption else ())


def _box(found: Outline, value: Map, x: float, row: int, style: str, below: tuple[str, ...]) -> Box:
    narrow = style in ("input", "head", "training")
    width = 20.0 if narrow else 22 + 0.6 * thickness(value.channels)
    tall = max(22.0, height(value.shape, found.padded, TALL)) if style != "training" else 22.0
    return Box(x, row, value, style, width, tall, str(value.channels), below, inside=True)


def _between(scene: Scene, a: Box, b: Box) -> bool:
    """Whether a box of their row stands between two."""
    return any(a.x < box.x < b.x for box in scene.row(b.row))


def _colour(source: Box, target: Box, gated: bool) -> str:
    if source.row == target.row:
        return SIGNAL if gated else SKIP
    return DOWN if source.row < target.row else UP
