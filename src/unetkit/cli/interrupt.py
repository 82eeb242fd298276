"""Ctrl-C while training: before the first step there is nothing to keep; after it, the step is finished and saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING

from unetkit.core.interrupt import stop_on_signal

if TYPE_CHECKING:
    from unetkit.cli.terminal import Terminal


@contextlib.contextmanager
def stoppable(terminal: Terminal) -> Iterator[Callable[[], bool]]:
    """As `stop_on_signal`, but Ctrl-C interrupts at once where no step is being done, and is answered where one is."""
    with stop_on_signal() as stopped:
        if threading.current_thread() is not threading.main_thread():
            yield stopped
            return
        finish_step = signal.getsignal(signal.SIGINT)

        def ask(number: int, frame: FrameType | None) -> None:
            if not terminal.saves or not callable(finish_step):
                raise KeyboardInterrupt
            terminal.stopping()
            finish_step(number, frame)

        signal.signal(signal.SIGINT, ask)
        try:
            yield stopped
        finally:
            signal.signal(signal.SIGINT, finish_step)
