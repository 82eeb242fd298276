"""Skips: how what the encoder kept meets what comes from below. Each takes (writer, kept value, value from below)."""

from __future__ import annotations

from collections.abc import Callable

from unetkit.nets.program import Value, Writer

Skip = Callable[[Writer, Value, Value], Value]


def concat(w: Writer, kept: Value, below: Value) -> Value:
    """Side by side, the encoder's channels first (Ronneberger 2015)."""
    return w.concat(w.crop(kept, like=below), below)


def add(w: Writer, kept: Value, below: Value) -> Value:
    """The sum."""
    return w.add(w.crop(kept, like=below), below)


def none(w: Writer, kept: Value, below: Value) -> Value:  # noqa: ARG001 - every skip has the same signature
    """Only what comes from below: an encoder-decoder without skips."""
    return below


SKIPS: dict[str, Skip] = {"concat": concat, "add": add, "none": none}
