"""Amounts of memory and time as people write and read them."""

from __future__ import annotations

import pytest

from unetkit.core.errors import PlanError
from unetkit.core.machine import cores, format_duration, format_memory, free_memory, parse_memory, resident_memory


@pytest.mark.parametrize(
    ("text", "n"),
    [("1GB", 10**9), ("500 MB", 5 * 10**8), ("1.5GiB", 3 * 2**29), ("800000000", 8 * 10**8), ("2g", 2 * 10**9)],
)
def test_memory_is_read_as_written(text: str, n: int) -> None:
    assert parse_memory(text) == n


@pytest.mark.parametrize("text", ["", "much", "1XB", "-1GB", "1.2.3GB"])
def test_other_amounts_are_refused(text: str) -> None:
    with pytest.raises(PlanError, match=r"is not an amount of memory; write it like 800MB, 1GB or 1.5GiB"):
        parse_memory(text)


def test_durations_and_sizes_read_well() -> None:
    assert [format_duration(s) for s in (0.4, 59.4, 60, 365, 7380)] == [
        "0 s",
        "59 s",
        "1 min 00 s",
        "6 min 05 s",
        "2 h 03 min",
    ]
    assert [format_memory(n) for n in (12, 1500, 2.34e9, 8e11)] == ["12 B", "1.5 kB", "2.3 GB", "800 GB"]


def test_the_machine_has_something() -> None:
    assert cores() >= 1
    assert free_memory() > 10**7
    assert 10**6 < resident_memory() < 10**11
