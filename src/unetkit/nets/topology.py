"""Topologies: which part follows which. Each writes a whole network and returns its results, full-size logits first.

In training mode with deep supervision a network gives them all, in evaluation mode the first alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from unetkit.nets.blocks import BLOCKS, Block
from unetkit.nets.bottlenecks import BOTTLENECKS, Bottleneck
from unetkit.nets.downs import DOWNS, Down
from unetkit.nets.heads import HEADS, Head, full, stem
from unetkit.nets.parts import resolve
from unetkit.nets.program import Program, Value, Writer
from unetkit.nets.skips import SKIPS, Skip
from unetkit.nets.spec import NetSpec
from unetkit.nets.ups import UPS, Up

Topology = Callable[[Writer], tuple[Value, ...]]


@dataclass(frozen=True)
class _Parts:
    """The functions that a spec names."""

    block: Block
    decoder_block: Block
    down: Down | None
    up: Up
    skip: Skip
    bottleneck: Bottleneck
    head: Head


def _parts(spec: NetSpec) -> _Parts:
    return _Parts(
        block=resolve("block", spec.block, BLOCKS),
        decoder_block=resolve("decoder_block", spec.decoder_block or spec.block, BLOCKS),
        down=None if spec.down == "block" else resolve("down", spec.down, DOWNS),
        up=resolve("up", spec.up, UPS),
        skip=resolve("skip", spec.skip, SKIPS),
        bottleneck=resolve("bottleneck", spec.bottleneck, BOTTLENECKS),
        head=resolve("head", spec.head, HEADS),
    )


def _encoder(w: Writer, parts: _Parts) -> list[Value]:
    """What every level gives, finest first; of the coarsest, what follows its bottleneck."""
    spec, bottom = w.spec, w.spec.levels - 1
    with w.part("stem"):
        x = stem(w)
    kept: list[Value] = []
    for level, channels in enumerate(spec.channels):
        stride: Sequence[int] = w.ones
        if level > 0 and parts.down is None:
            stride = spec.stride(level - 1)
        elif level > 0 and parts.down is not None:
            with w.part(f"down{level}"):
                x = parts.down(w, x, channels, spec.stride(level - 1))
        with w.part(f"encoder{level}"):
            x = w.drop("blocks", parts.block(w, x, channels, spec.kernel(level), spec.repeats(level), stride))
            if level >= max(1, bottom - 1) or level == bottom:
                x = w.drop("bottom", x)
        if level == bottom:
            with w.part("bottleneck"):
                x = parts.bottleneck(w, x, spec.kernel(level))
        kept.append(x)
    return kept


def _rise(w: Writer, parts: _Parts, level: int, x: Value, kept: Value) -> Value:
    """What comes from the level below `level`, at the size of that level."""
    width = w.spec.channels[level] if w.spec.up_width == "skip" else x.channels
    return parts.up(w, x, width, w.spec.stride(level), kept)


def _decode(w: Writer, parts: _Parts, level: int, x: Value) -> Value:
    spec = w.spec
    repeats = spec.repeats(level, decoder=True)
    y = parts.decoder_block(w, x, spec.decoder_width(level), spec.kernel(level), repeats, w.ones)
    return w.drop("blocks", y)


def chain(w: Writer) -> tuple[Value, ...]:
    """The U of Ronneberger 2015 (figure 1): down the left side, up the right side, a skip at every level."""
    spec, parts = w.spec, _parts(w.spec)
    kept = _encoder(w, parts)
    results: list[Value] = []
    x = kept[-1]
    for level in range(spec.levels - 2, -1, -1):
        coarse = x
        with w.part(f"up{level}"):
            x = _rise(w, parts, level, coarse, kept[level])
        with w.part(f"skip{level}"):
            x = parts.skip(w, kept[level], x, coarse, spec.stride(level))
        with w.part(f"decoder{level}"):
            x = _decode(w, parts, level, x)
        if spec.deep_supervision and level > 0:
            with w.part(f"head{level}"):
                results.insert(0, parts.head(w, x, spec.classes))
    with w.part("head"):
        logits = full(w, parts.head, x)
    return (logits, *results)


def nested(w: Writer) -> tuple[Value, ...]:
    """U-Net++ (Zhou 2018, figure 1): node (i, j) joins all nodes before it at its level i with the one below, j−1.

    The results are full-size logits of the last column; with deep supervision also of the others, last but one first.
    `prune` leaves columns out; the weights of the others keep their names, so that a trained network can be pruned.
    """
    spec, parts = w.spec, _parts(w.spec)
    columns = spec.prune or spec.levels - 1
    kept = _encoder(w, parts)
    rows: list[list[Value]] = [[x] for x in kept]
    results: list[Value] = []
    for column in range(1, columns + 1):
        for level in range(columns - column, -1, -1):
            node, coarse = f"{level}_{column}", rows[level + 1][column - 1]
            with w.part(f"up{node}"):
                below = _rise(w, parts, level, coarse, rows[level][0])
            with w.part(f"skip{node}"):
                before = w.concat(*rows[level]) if len(rows[level]) > 1 else rows[level][0]
                x = parts.skip(w, before, below, coarse, spec.stride(level))
            with w.part(f"node{node}"):
                rows[level].append(_decode(w, parts, level, x))
        if spec.deep_supervision or column == columns:
            with w.part(f"head{column}"):
                results.insert(0, parts.head(w, rows[0][column], spec.classes))
    return tuple(results)


def full_scale(w: Writer) -> tuple[Value, ...]:
    """U-Net 3+ (Huang 2020, figure 1c and section 2.1): every decoder level reads every encoder level that is as fine
    or finer, pooled, and every coarser decoder level, interpolated; each brought to the width of the finest level."""
    spec, parts = w.spec, _parts(w.spec)
    kept = _encoder(w, parts)
    width, bottom = spec.channels[0], spec.levels - 1
    results: list[Value] = []
    decoded: dict[int, Value] = {bottom: kept[bottom]}
    if spec.deep_supervision:  # of all scales, the coarsest included (section 2.2)
        with w.part(f"head{bottom}"):
            results.append(parts.head(w, kept[bottom], spec.classes))

    def factor(fine: int, coarse: int) -> tuple[int, ...]:
        total = [1] * spec.ndim
        for level in range(fine, coarse):
            total = [t * s for t, s in zip(total, spec.stride(level), strict=True)]
        return tuple(total)

    for level in range(bottom - 1, -1, -1):
        with w.part(f"skip{level}"):
            sources = [w.pool("max", kept[fine], factor(fine, level)) for fine in range(level)]
            sources.append(kept[level])
            narrow = [w.unit(x, width, spec.kernel(level)) for x in sources]
            for coarse in range(level + 1, bottom + 1):
                x = w.enlarge("linear", decoded[coarse], factor(level, coarse))
                narrow.append(w.unit(x, width, spec.kernel(level)))
        with w.part(f"decoder{level}"):
            joined = w.concat(*narrow)
            decoded[level] = w.drop("blocks", w.unit(joined, joined.channels, spec.kernel(level)))
        if spec.deep_supervision and level > 0:
            with w.part(f"head{level}"):
                results.insert(0, parts.head(w, decoded[level], spec.classes))
    with w.part("head"):
        logits = full(w, parts.head, decoded[0])
    return (logits, *results)


def scores(w: Writer) -> tuple[Value, ...]:
    """FCN (Long 2015, figure 3): no decoder; class scores of the three coarsest levels are interpolated by transposed
    convolutions and added, and the sum is interpolated to full size."""
    spec, parts = w.spec, _parts(w.spec)
    kept = _encoder(w, parts)
    bottom = spec.levels - 1
    finest = max(0, bottom - 2)
    with w.part(f"head{bottom}"):
        x = w.conv(kept[bottom], spec.classes, 1, bias=True)
    results: list[Value] = [x]
    for level in range(bottom - 1, finest - 1, -1):
        with w.part(f"up{level}"):
            below = w.transposed(x, spec.classes, spec.stride(level), overlap=True)
        with w.part(f"head{level}"):
            x = w.add(w.conv(kept[level], spec.classes, 1, bias=True), below)
        results.insert(0, x)
    with w.part("head"):
        rest = [1] * spec.ndim
        for level in range(finest):
            rest = [r * s for r, s in zip(rest, spec.stride(level), strict=True)]
        logits = w.enlarge("linear", x, rest)
    coarser = results if logits.name != x.name else results[1:]
    return (logits, *(coarser if spec.deep_supervision else ()))


TOPOLOGIES: dict[str, Topology] = {"chain": chain, "nested": nested, "full-scale": full_scale, "scores": scores}


@lru_cache(maxsize=64)
def program(spec: NetSpec) -> Program:
    """The layers of a spec, in the order in which they run. Raises SpecError: a part named `module:name` that nobody
    trusted (see `parts.trust`), a part of the user's own that does not fit."""
    writer = Writer(spec)
    outputs = resolve("topology", spec.topology, TOPOLOGIES)(writer)
    names = tuple(value.name for value in outputs)
    return Program(tuple(writer.layers), names).needed(names)
