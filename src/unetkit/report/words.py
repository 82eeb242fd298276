"""Numbers and names as one speaks them."""

from __future__ import annotations


def amount(count: float) -> str:
    """`34 560`, or `6.29 M` from a hundred thousand on."""
    return f"{count / 1e6:.3g} M" if count >= 1e5 else f"{count:,.0f}".replace(",", "\u202f")


def plural(count: float, noun: str) -> str:
    """`1 image`, `24 images`."""
    return f"{count:.0f} {noun}{'' if count == 1 else 's'}"


def listed(names: list[str]) -> str:
    """Names as one speaks them: `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}" if names else "nothing"
