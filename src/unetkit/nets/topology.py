"""Topologies: which part follows which. Each writes a whole network and returns its results, full-size logits first."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from unetkit.nets.blocks import BLOCKS
from unetkit.nets.downs import DOWNS
from unetkit.nets.heads import coarse_head, head, stem
from unetkit.nets.program import Program, Value, Writer
from unetkit.nets.skips import SKIPS
from unetkit.nets.spec import NetSpec
from unetkit.nets.ups import UPS

Topology = Callable[[Writer], tuple[Value, ...]]


def chain(w: Writer) -> tuple[Value, ...]:
    """The U of Ronneberger 2015 (figure 1): down the left side, up the right side, a skip at every level."""
    spec = w.spec
    block, down, up, skip = BLOCKS[spec.block], DOWNS[spec.down], UPS[spec.up], SKIPS[spec.skip]
    bottom = spec.levels - 1

    with w.part("stem"):
        x = stem(w)
    kept: list[Value] = []
    for level, channels in enumerate(spec.channels):
        if level > 0:
            with w.part(f"down{level}"):
                x = down(w, x, spec.stride(level - 1))
        with w.part(f"encoder{level}"):
            x = block(w, x, channels, spec.kernel(level), spec.convolutions(level))
            if level >= max(1, bottom - 1) or level == bottom:
                x = w.dropout(x)
        kept.append(x)

    results: list[Value] = []
    for level in range(bottom - 1, -1, -1):
        channels = spec.channels[level]
        with w.part(f"up{level}"):
            x = up(w, x, channels, spec.stride(level))
        with w.part(f"skip{level}"):
            x = skip(w, kept[level], x)
        with w.part(f"decoder{level}"):
            x = block(w, x, channels, spec.kernel(level), spec.convolutions(level))
        if spec.deep_supervision and level > 0:
            with w.part(f"head{level}"):
                results.insert(0, coarse_head(w, x))
    with w.part("head"):
        logits = head(w, x)
    return (logits, *results)


TOPOLOGIES: dict[str, Topology] = {"chain": chain}


@lru_cache(maxsize=64)
def program(spec: NetSpec) -> Program:
    """The layers of a spec, in the order in which they run."""
    writer = Writer(spec)
    outputs = TOPOLOGIES[spec.topology](writer)
    return Program(tuple(writer.layers), tuple(value.name for value in outputs))
