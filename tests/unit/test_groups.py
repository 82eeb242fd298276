"""Groups and stacks read from names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from unetkit.data.case import Case
from unetkit.data.groups import Groups, find_groups


def groups(*ids: str) -> Groups:
    return find_groups([Case(i, ()) for i in ids])


@pytest.mark.parametrize(
    ("ids", "first", "count"),
    [
        ([f"patient_{p:03d}_slice_{s}" for p in range(3) for s in range(4)], "patient_000", 3),
        ([f"Patient-{p}_{s}" for p in range(3) for s in range(4)], "Patient-0", 3),
        ([f"P{p:02d}-{s}" for p in range(3) for s in range(4)], "P00", 3),
        ([f"sub-rat{p}_sample-{s}_SEM" for p in range(3) for s in range(2)], "rat0", 3),
        ([f"slide{p}_x{x}_y{y}" for p in "ABC" for x in (0, 100) for y in (0, 100)], "slideA", 3),
        ([f"photo{p}_tile{s}" for p in range(3) for s in range(3)], "photo0", 3),
        ([f"north{p}_{r}_{c}" for p in range(3) for r in range(3) for c in range(2)], "north0", 3),
        ([f"brain{b}_z{z:03d}" for b in (1, 2) for z in range(9)], "brain1", 2),
        ([f"P{p}/scan{s}" for p in range(3) for s in range(3)], "P0", 3),
        ([f"P{p}/scan{s}_{t}" for p in range(3) for s in range(2) for t in "ab"], "P0/scan0", 6),
        ([f"{k}/patient_{p}_{k[0]}" for k in ("benign", "malignant") for p in range(3)], "patient_0", 3),
        ([f"{d}TP_{f:06d}" for d in ("01", "16") for f in range(30, 300, 30)], "01TP", 2),
        ([f"mouse 7_{p}" for p in "ab"] + [f"mouse 8_{p}" for p in "ab"], "mouse 7", 2),
    ],
)
def test_names_that_tell_groups(ids: list[str], first: str, count: int) -> None:
    found = groups(*ids)
    assert found.count == count
    assert found.of[ids[0]] == first
    assert found.source == "names"
    assert not found.ordered
    assert f"'{ids[0]}' → '{first}'" in found.reason


@pytest.mark.parametrize(
    "ids",
    [
        [f"img_{k:03d}" for k in range(9)],
        [f"{k:03d}" for k in range(9)],
        [f"case_{k:03d}" for k in range(9)],  # every case its own
        [f"2018_photo_{k}" for k in range(9)],
        [f"slides_{k}_a" for k in range(3)],
        [f"benign/im{k}" for k in range(3)] + [f"malignant/im{k}" for k in range(3)],  # kinds, not wholes
        ["cat_1", "cat_2", "dog_1", "dog_2"],
        ["00ae65c1c6", "0121d6759c", "0280fa8f60", "03398329ce"],
        ["patient_1_a", "patient_1_b"],  # one group is none
        ["a"],
        [],
    ],
)
def test_names_that_tell_nothing(ids: list[str]) -> None:
    found = groups(*ids)
    assert (found.count, found.ordered, found.source) == (0, False, "none")
    assert "every case stands for itself" in found.reason


@pytest.mark.parametrize("template", ["slice{:02d}", "volA_z{:03d}", "video1_frame{}", "t{:02d}_mouse"])
def test_stacks(template: str) -> None:
    found = groups(*[template.format(k) for k in (1, 2, 3, 5, 6, 8)])
    assert found.ordered
    assert found.count == 0
    assert "run from 1 to 8: adjacent parts of one whole, where neighbours resemble each other" in found.reason


def test_given_groups_come_first() -> None:
    cases = [Case(f"patient_{k // 2}_{k}", (), group="x" if k < 3 else None) for k in range(6)]
    found = find_groups(cases)
    assert found.source == "given"
    assert set(found.of.values()) == {"x"}
    assert found.reason == "1 group as given; the 3 without one stand for themselves"


@pytest.mark.parametrize(
    ("name", "count", "ordered"), [("em", 0, True), ("axons", 6, False), ("nuclei", 0, False), ("phase", 0, False)]
)
def test_real_sets(shared_data: Callable[[str], Path], name: str, count: int, ordered: bool) -> None:
    found = groups(*sorted(p.stem for p in (shared_data(name) / "masks").iterdir()))
    assert (found.count, found.ordered) == (count, ordered)
