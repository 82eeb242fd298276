"""The order in which people expect names."""

from __future__ import annotations

import re


def natural_key(text: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key by which `slice2` comes before `slice10`; case does not matter, ties are broken by the text itself."""
    parts = re.split(r"([0-9]+)", text.casefold())
    key = [(0, int(part), part) if index % 2 else (1, 0, part) for index, part in enumerate(parts) if part]
    return (*key, (-1, 0, text))
