"""What holds for every split: nothing leaks, nothing is lost, both sides have cases, and it is the same again."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from unetkit.data.case import Case
from unetkit.data.groups import Groups
from unetkit.data.split import leaks, split_cases


@settings(deadline=None, max_examples=100)
@given(st.data(), st.integers(1, 25), st.integers(0, 2**31), st.sampled_from([0.05, 0.2, 0.5]), st.booleans())
def test_splits(data: st.DataObject, n: int, seed: int, fraction: float, ordered: bool) -> None:
    ids = [f"c{k}" for k in range(n)]
    set_ = [Case(i, ()) for i in ids]
    of = data.draw(st.dictionaries(st.sampled_from(ids), st.sampled_from("ABCD"))) if not ordered else {}
    hashes = data.draw(st.dictionaries(st.sampled_from(ids), st.sampled_from("xyz")))
    counts = {i: data.draw(st.tuples(*[st.integers(0, 9)] * 3)) for i in ids}
    groups = Groups(of, ordered, "given" if of else "none")
    split = split_cases(set_, groups, counts, seed, fraction, hashes)
    assert sorted(split.train + split.val) == sorted(ids)
    assert split.train
    assert split == split_cases(set_, groups, counts, seed, fraction, hashes)
    units = {frozenset(j for j in ids if j == i or _tied(i, j, of, hashes)) for i in ids}
    one_group = len(set(of.values())) == 1 and len(of) == n
    if not one_group:
        assert not leaks(split, groups, hashes)
    connected = any(a != b and a & b for a in units for b in units)
    if n > 1 and len(units) > 1 and not connected:
        assert split.val


def _tied(i: str, j: str, *maps: dict[str, str]) -> bool:
    return any(i in of and of[i] == of.get(j) for of in maps)
