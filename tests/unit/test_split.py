"""Training and validation: who goes where, the CSV and what it may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from unetkit.core.errors import DataError
from unetkit.data.case import Case
from unetkit.data.groups import Groups, find_groups
from unetkit.data.split import Split, leaks, read_split, split_cases, write_split


def cases(*ids: str) -> list[Case]:
    return [Case(i, (Path(f"{i}.png"),), Path(f"{i}_mask.png")) for i in ids]


def test_about_a_fifth_validates() -> None:
    split = split_cases(cases(*[f"im{k}" for k in range(50)]), Groups(), {}, seed=0)
    assert (len(split.train), len(split.val)) == (40, 10)
    assert "drawn with seed 0" in split.reason


def test_a_stack_gives_one_block() -> None:
    ids = [f"slice{k:02d}" for k in range(1, 25)]
    set_ = cases(*ids)
    starts = set()
    for seed in range(8):
        split = split_cases(set_, find_groups(set_), {}, seed)
        first = ids.index(split.val[0])
        assert split.val == tuple(ids[first : first + 5])
        assert f"one contiguous block validates ({split.val[0]} … {split.val[-1]})" in split.reason
        starts.add(first)
    assert len(starts) > 1


def test_whole_groups() -> None:
    set_ = cases(*[f"patient_{p}_{s}" for p in range(5) for s in range(p + 1)])
    groups = find_groups(set_)
    split = split_cases(set_, groups, {}, seed=3)
    assert not leaks(split, groups)
    assert split.val
    assert "whole groups are kept together: 5 groups of 15 cases" in split.reason


def test_copies_stay_together() -> None:
    set_ = cases(*"abcdefgh")
    hashes = {i: "same" if i in "aceg" else i for i in "abcdefgh"}
    for seed in range(5):
        split = split_cases(set_, Groups(), {}, seed, hashes=hashes)
        assert len({split.of(i) for i in "aceg"}) == 1
        assert "3 copies of other images stay on the side of the original" in split.reason


def test_a_rare_class_is_on_both_sides() -> None:
    set_ = cases(*[f"im{k}" for k in range(30)])
    counts = {c.id: (900, 100, 30 if k in (4, 9, 21) else 0) for k, c in enumerate(set_)}
    for seed in range(10):
        split = split_cases(set_, Groups(), counts, seed)
        assert 1 <= len({"im4", "im9", "im21"} & set(split.val)) <= 2


def test_given_splits_are_kept() -> None:
    set_ = [Case(str(k), (), split=("train", "val", "test", None)[k % 4]) for k in range(8)]
    split = split_cases(set_, Groups(), {}, 0)
    assert split == Split(("0", "3", "4", "7"), ("1", "5"), ("2", "6"), "as the data gives it")
    set_ = [Case(str(k), (), split="test" if k > 7 else "train") for k in range(10)]
    split = split_cases(set_, Groups(), {}, 0)
    assert split.test == ("8", "9")
    assert len(split.val) == 2
    assert split.reason.startswith("test as the data gives it; of the rest,")


def test_too_few_to_split() -> None:
    split = split_cases(cases("a"), Groups(), {}, 0)
    assert (split.train, split.val) == (("a",), ())
    assert "there is one case only" in split.reason
    assert len(split_cases(cases("a", "b"), Groups(), {}, 0).val) == 1
    split = split_cases(cases("a", "b"), Groups(), {}, 0, hashes={"a": "x", "b": "x"})
    assert split.val == ()
    assert "all images are copies of one" in split.reason
    split = split_cases(cases(*"abcdef"), Groups(dict.fromkeys("abcdef", "rat1"), source="given"), {}, 0)
    assert split.val == ("f",)
    assert "all cases are one group (rat1): the last 1 validate, and their scores will flatter" in split.reason


def test_leaks_are_named() -> None:
    split = Split(("a", "b"), ("c",), ("d",))
    found = leaks(split, Groups({"a": "g", "c": "g"}), {"b": "h", "d": "h", "a": "other"})
    assert found == ("the group 'g' is in train (a) and val (c)", "the same image is in train (b) and test (d)")


def test_written_and_read(tmp_path: Path) -> None:
    set_ = [*cases("a", "b,c", "d"), Case("e", (Path("e_0000.png"), Path("e_0001.png")), Path("e.png"))]
    groups = Groups({"a": "rat1"})
    split = split_cases(set_, groups, {}, 0)
    write_split(tmp_path / "split.csv", set_, split)
    text = (tmp_path / "split.csv").read_text().splitlines()
    assert text[0] == "case,split,group,image,mask"
    assert text[1].endswith(",rat1,a.png,a_mask.png")
    assert "e_0000.png;e_0001.png" in text[4]
    read = read_split(tmp_path / "split.csv", set_)
    assert (read.train, read.val, read.test) == (split.train, split.val, split.test)
    assert read.groups == split.groups == {"a": "rat1"}
    assert read.reason == "as split.csv gives it"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,splt\na,train\n", "the column 'split' is missing; did you mean 'splt'"),
        ("", "the column 'case' is missing; needed are case and split"),
        (
            "case,split\nimage1,train\nimage3,val\n",
            "line 3: there is no case 'image3' in the data; did you mean 'image",
        ),
        ("case,split\nimage1,train\nimage1,val\n", "line 3: the case 'image1' stands there a second time"),
        ("case,split\nimage1,valid\n", "line 2: the split 'valid' is none of train, val, test; did you mean 'val'"),
        ("case,split\nimage1\n", "line 2: the split '' is none of"),
        ("case,split\nimage1,train\n", "the case 'image2' of the data is missing"),
        ("case,split\nimage1,val\nimage2,test\n", "no case is on the side 'train'"),
    ],
)
def test_mistakes_in_the_csv(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "split.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        read_split(path, cases("image1", "image2"))


def test_files_that_are_no_csv(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no such file; leave it out, and the cases are split anew"):
        read_split(tmp_path / "split.csv", cases("a"))
    (tmp_path / "split.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="cannot be read as text"):
        read_split(tmp_path / "split.csv", cases("a"))


def test_a_csv_from_a_spreadsheet(tmp_path: Path) -> None:
    (tmp_path / "split.csv").write_bytes("\ufeffcase,split\r\na, Train \r\nb,VAL\r\n".encode())
    assert read_split(tmp_path / "split.csv", cases("a", "b")).val == ("b",)
