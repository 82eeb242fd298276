"""What holds files open, and is a context manager for no other reason."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class Closing:
    """Leaving the `with` block closes it."""

    def close(self) -> None:
        """Let go of what is held open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
