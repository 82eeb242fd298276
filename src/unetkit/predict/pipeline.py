"""Reading ahead and writing behind: while the network runs, the next tile is read and the last one is written.

One thread each, and one thing at a time in it: what is under way never exceeds one tile on either side. What a thread
raises is raised where its result is waited for. Leaving early, by an error or Ctrl-C, waits for what is under way.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, Self, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def ahead(items: Iterable[T], make: Callable[[T], R]) -> Generator[tuple[T, R], None, None]:
    """(item, make(item)) of each in order; while the caller has one, the next is made. A single one is made here."""
    todo = iter(items)
    first, second = next(todo, _END), next(todo, _END)
    if isinstance(first, _End):
        return
    if isinstance(second, _End):
        yield first, make(first)
        return
    with ThreadPoolExecutor(1, "read ahead") as thread:
        here: T = first
        coming: Future[R] | None = thread.submit(make, here)
        following: T | _End = second
        while coming is not None:
            made = coming.result()
            item, coming = here, None
            if not isinstance(following, _End):
                here, following = following, next(todo, _END)
                coming = thread.submit(make, here)
            yield item, made
            del made  # before the next is waited for


class Behind(Generic[T]):
    """Hands things to `take` in a thread of its own, in order. A context manager: leaving it waits for the last one."""

    def __init__(self, take: Callable[[T], None]) -> None:
        self._take = take
        self._thread = ThreadPoolExecutor(1, "write behind")
        self._under_way: Future[None] | None = None

    def put(self, item: T) -> None:
        """Hand on `item`, as soon as the one before is done. Raises what `take` raised of that one."""
        self.wait()
        self._under_way = self._thread.submit(self._take, item)

    def wait(self) -> None:
        """Until all is done. Raises what `take` raised."""
        last, self._under_way = self._under_way, None
        if last is not None:
            last.result()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self.wait()
        finally:
            self._thread.shutdown(wait=True)


class _End:
    """Behind the last item."""


_END = _End()
