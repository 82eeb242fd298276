"""Cases in folds: each validates once, groups and copies stay whole, classes are spread, stacks give blocks."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.core.errors import DataError
from unetkit.data.case import Case
from unetkit.data.folds import fold_cases
from unetkit.data.groups import Groups, find_groups
from unetkit.data.split import leaks, read_split, write_split


def cases(*ids: str, split: str | None = None) -> list[Case]:
    return [Case(i, (Path(f"{i}.png"),), Path(f"{i}_mask.png"), split=split) for i in ids]


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(2, 25), st.integers(2, 6), st.integers(0, 2**31), st.booleans())
def test_every_case_validates_once_and_nothing_leaks(
    data: st.DataObject, n: int, folds: int, seed: int, ordered: bool
) -> None:
    ids = [f"c{k}" for k in range(n)]
    of = data.draw(st.dictionaries(st.sampled_from(ids), st.sampled_from("ABCD"))) if not ordered else {}
    hashes = data.draw(st.dictionaries(st.sampled_from(ids), st.sampled_from("xyz")))
    counts = {i: data.draw(st.tuples(*[st.integers(0, 9)] * 3)) for i in ids}
    groups = Groups(of, ordered, "given" if of else "none")
    try:
        split = fold_cases(cases(*ids), groups, counts, seed, folds, hashes)
    except DataError:  # copies may tie all cases together
        assert hashes
        return
    assert split == fold_cases(cases(*ids), groups, counts, seed, folds, hashes)
    assert 2 <= split.count <= folds
    parts = [split.fold(k) for k in range(1, split.count + 1)]
    assert sorted(i for part in parts for i in part.val) == sorted(ids)
    one_group = len(of) == n and len(set(of.values())) == 1
    for part in parts:
        assert part.train
        assert part.val
        assert sorted(part.train + part.val) == sorted(ids)
        assert not leaks(part, Groups() if one_group else groups, hashes)


def test_folds_are_of_equal_size_and_of_like_classes() -> None:
    ids = [f"c{k:02d}" for k in range(40)]
    counts = {i: (90, 10 if k < 10 else 0) for k, i in enumerate(ids)}  # a quarter of the cases holds the second class
    split = fold_cases(cases(*ids), Groups(), counts, 0, 5)
    sizes = [len(split.fold(k).val) for k in range(1, 6)]
    rare = [sum(counts[i][1] > 0 for i in split.fold(k).val) for k in range(1, 6)]
    assert sizes == [8] * 5
    assert rare == [2] * 5
    assert fold_cases(cases(*ids), Groups(), counts, 1, 5).folds != split.folds


def test_groups_are_whole_and_folds_nearly_equal() -> None:
    ids = [f"rat{k}_{j}" for k in range(7) for j in range(1 + k % 3)]
    groups = find_groups(cases(*ids))
    assert groups.count == 7
    split = fold_cases(cases(*ids), groups, {}, 0, 3)
    assert "whole groups are kept together" in split.reason
    assert sorted(len(split.fold(k).val) for k in (1, 2, 3)) == [4, 4, 5]
    for k in (1, 2, 3):
        assert not leaks(split.fold(k), groups)


def test_a_stack_gives_contiguous_blocks() -> None:
    ids = [f"slice{k:02d}" for k in range(11)]
    groups = find_groups(cases(*ids))
    split = fold_cases(cases(*ids), groups, {}, 0, 3)
    assert [split.folds[i] for i in ids] == [1] * 4 + [2] * 3 + [3] * 4
    assert "each fold is a contiguous block" in split.reason
    assert all(0 <= b - a <= 1 for a, b in pairwise(split.folds[i] for i in ids))


def test_fewer_groups_than_folds_give_as_many_folds_and_say_so() -> None:
    ids = [f"{g}_{k}" for g in ("rat1", "rat2", "rat3") for k in range(4)]
    split = fold_cases(cases(*ids), find_groups(cases(*ids)), {}, 0, 5)
    assert split.count == 3
    assert "5 folds were asked for, and there are 3 parts that may be in different ones" in split.reason


def test_one_group_is_parted_all_the_same_and_warned_of() -> None:
    ids = list("abcdef")
    split = fold_cases(cases(*ids), Groups(dict.fromkeys(ids, "rat1"), source="given"), {}, 0, 3)
    assert [split.folds[i] for i in ids] == [1, 1, 2, 2, 3, 3]
    assert "all cases are one group (rat1), and scores will flatter" in split.reason


def test_test_cases_are_in_no_fold() -> None:
    found = [*cases(*"abcd"), *cases("t", split="test")]
    split = fold_cases(found, Groups(), {}, 0, 2)
    assert split.test == ("t",)
    assert set(split.folds) == set("abcd")
    assert split.fold(1).test == ("t",)
    assert split.reason.startswith("test as the data gives it; of the rest, ")


def test_a_given_validation_is_refused() -> None:
    found = [*cases(*"abcd"), *cases("v", "w", split="val")]
    message = "--folds 5: the data give who validates (2 cases, such as 'v'); leave --folds out, or give all cases"
    with pytest.raises(DataError, match=re.escape(message)):
        fold_cases(found, Groups(), {}, 0, 5)


def test_what_cannot_be_parted_is_refused() -> None:
    with pytest.raises(DataError, match="--folds 5: there is one case only, so that nothing can be parted; leave"):
        fold_cases(cases("a"), Groups(), {}, 0, 5)
    with pytest.raises(DataError, match="--folds 2: copies of images tie all cases together"):
        fold_cases(cases("a", "b"), Groups(), {}, 0, 2, {"a": "x", "b": "x"})


def test_the_file_holds_the_fold_of_each_case(tmp_path: Path) -> None:
    found = [*cases(*"abcdef"), *cases("t", split="test")]
    split = fold_cases(found, Groups(), {}, 0, 3)
    write_split(tmp_path / "split.csv", found, split)
    lines = (tmp_path / "split.csv").read_text().splitlines()
    assert lines[0] == "case,split,group,image,mask,fold"
    assert lines[-1] == "t,test,,t.png,t_mask.png,"
    assert read_split(tmp_path / "split.csv", found).folds == split.folds


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("a,train,1\nb,train,", "the case 'b' has no fold, as others have; give it one, or none to any"),
        ("a,train,1\nb,train,3", "no case is in fold 2; number the folds 1, 2, 3"),
        ("a,train,1\nb,train,1", "no case is in fold 2; number the folds"),
        ("a,train,0\nb,train,1", "line 2: the fold '0' must be a whole number from 1 on, of a case in 'train'"),
        ("a,train,1\nb,val,2", "line 3: the fold '2' must be a whole number from 1 on, of a case in 'train'"),
        ("a,train,x\nb,train,2", "line 2: the fold 'x' must be a whole number"),
    ],
)
def test_an_edited_file_that_is_wrong_is_refused_with_its_line(tmp_path: Path, rows: str, message: str) -> None:
    (tmp_path / "split.csv").write_text(f"case,split,fold\n{rows}\n")
    with pytest.raises(DataError, match=re.escape(message)):
        read_split(tmp_path / "split.csv", cases("a", "b"))
