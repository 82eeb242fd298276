"""Reading ahead and writing behind: in order, one at a time, errors where they are waited for."""

from __future__ import annotations

import threading
import time

import pytest

from unetkit.predict.pipeline import Behind, ahead


def test_what_is_made_ahead_comes_in_order_and_never_more_than_one():
    made: list[int] = []

    def make(n: int) -> int:
        made.append(n)
        return n * n

    taken = []
    for item, value in ahead(iter(range(6)), make):
        time.sleep(0.01)
        assert len(made) <= len(taken) + 2  # this one, and the next
        taken.append((item, value))
    assert taken == [(n, n * n) for n in range(6)]
    assert list(ahead([], make)) == []
    assert list(ahead([7], lambda n: threading.current_thread() is threading.main_thread())) == [(7, True)]


def test_an_error_while_reading_ahead_comes_with_its_item():
    def make(n: int) -> int:
        if n == 2:
            raise KeyError(n)
        return n

    parts = ahead(range(5), make)
    assert [next(parts), next(parts)] == [(0, 0), (1, 1)]
    with pytest.raises(KeyError):
        next(parts)


def test_leaving_early_waits_for_what_is_under_way():
    ended: list[int] = []

    def make(n: int) -> int:
        time.sleep(0.02)
        ended.append(n)
        return n

    parts = ahead(range(100), make)
    assert next(parts) == (0, 0)
    parts.close()
    assert ended == [0, 1]
    assert threading.active_count() == 1 or not any("ahead" in t.name for t in threading.enumerate())


def test_what_is_handed_on_is_done_in_order_behind():
    done: list[int] = []
    with Behind(lambda n: (time.sleep(0.01), done.append(n))[1]) as behind:
        for n in range(5):
            behind.put(n)
            assert len(done) >= n - 1  # one waits at the most
    assert done == list(range(5))


def test_an_error_behind_is_raised_at_the_next_or_at_the_end():
    def refuse(n: int) -> None:
        raise ValueError(n)

    def hand_on(*numbers: int, interrupted: bool = False) -> None:
        with Behind(refuse) as behind:
            for n in numbers:
                behind.put(n)
            if interrupted:
                raise KeyboardInterrupt

    with pytest.raises(ValueError, match="1"):
        hand_on(1, 2)
    with pytest.raises(ValueError, match="3"):
        hand_on(3)
    with pytest.raises(KeyboardInterrupt):  # what interrupts is not hidden by it
        hand_on(4, interrupted=True)
