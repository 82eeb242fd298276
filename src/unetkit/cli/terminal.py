"""Events → terminal: a live line with a bar where somebody watches, plain lines at a modest rate where nobody does."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn
from rich.text import Text

from unetkit.cli.lines import decided_line, decisions_table, estimate, progress_facts, validated_line
from unetkit.core import events
from unetkit.core.events import Event, task_name

# Where nobody watches: at most one line of progress in so many seconds.
PLAIN_EVERY = 10.0
# Files that the last lines of a command name anyway.
NAMED_LATER = ("prediction", "the report", "the sheet")
# What is decided while these go on is shown together, as a table.
PLANNING = ("check", "plan")
# What is saved when it is stopped.
LEARNING = ("masked", "train")


class Terminal:
    """A listener of events, and where a command prints its results. Use it as a context manager."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        self.console = console
        self.quiet = quiet
        self.saves = False
        """Whether a training step is being done, whose work a stop must save."""
        self._task = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, event: Event) -> None:
        """Show one event."""
        match event:
            case events.Started():
                self._task = event.task
                self._started(event)
                self.saves = event.task in LEARNING
            case events.Decided(what="cost"):
                self._estimate(event)
            case events.Decided():
                self._decided(event)
            case events.Progress():
                self._progress(event)
            case events.Validated():
                self._validated(event)
            case events.Saved() if event.what not in NAMED_LATER:
                self._line(Text(f"saved {event.path}: {event.what}"))
            case events.Warned():
                self._warn(event.message)
            case events.Done():
                self.saves = False
                self._done(event)
            case _:
                pass

    def doing(self, what: str) -> None:
        """Say what goes on before the first event comes."""

    def stopping(self) -> None:
        """Answer a Ctrl-C: the step is being finished."""
        self._warn("stopping after this step, then saving; Ctrl-C again stops at once")

    def result(self, text: str) -> None:
        """A line that the user asked for: where something was written."""
        self._print(Text(text))

    def hint(self, text: str) -> None:
        """A line that helps on; left out when quiet."""
        self._line(Text(text, style="dim"))

    def problem(self, text: str) -> None:
        """An error among things that went well, on stderr."""
        self.console.file.flush()
        print(text, file=sys.stderr)

    def _started(self, event: events.Started) -> None: ...

    def _estimate(self, event: events.Decided) -> None:
        self._line(estimate(event))

    def _decided(self, event: events.Decided) -> None:
        self._line(decided_line(event))

    def _progress(self, event: events.Progress) -> None: ...

    def _validated(self, event: events.Validated) -> None:
        self._line(validated_line(event))

    def _warn(self, message: str) -> None:
        self._print(Text.assemble(("warning: ", "bold yellow"), (message, "yellow")))

    def _done(self, event: events.Done) -> None:
        self._line(Text(event.message, style="bold"))

    def _close(self) -> None: ...

    def _line(self, text: Text) -> None:
        if not self.quiet:
            self._print(text)

    def _print(self, text: Text) -> None:
        self.console.print(text, soft_wrap=True)


class PlainTerminal(Terminal):
    """One line per event, progress at a modest rate; no control codes, no tables that wrap."""

    def __init__(self, console: Console, quiet: bool = False, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__(console, quiet)
        self._clock = clock
        self._said = clock()

    def _started(self, event: events.Started) -> None:  # noqa: ARG002
        self._said = self._clock()

    def _progress(self, event: events.Progress) -> None:
        if self._clock() - self._said >= PLAIN_EVERY:
            self._said = self._clock()
            facts = progress_facts(event)
            self._line(Text(f"{task_name(event.task)} {event.fraction:.0%}{f' · {facts}' if facts else ''}"))

    def _print(self, text: Text) -> None:
        super()._print(text)
        self.console.file.flush()


class LiveTerminal(Terminal):
    """A bar that is redrawn in place, lines that stay above it, decisions as a table."""

    def __init__(self, console: Console, quiet: bool = False) -> None:
        super().__init__(console, quiet)
        self._decisions: list[events.Decided] = []
        self._bar: Progress | None = None
        self._row = TaskID(0)

    def doing(self, what: str) -> None:
        self._show(what, 0)

    def stopping(self) -> None:
        if self._bar is None:
            super().stopping()
        else:
            self._bar.update(self._row, facts="finishing this step, then saving; Ctrl-C again: at once")

    def _started(self, event: events.Started) -> None:
        if event.task not in PLANNING:
            self._flush()
            if event.task in LEARNING:
                self._line(Text("Ctrl-C saves and stops; the same command goes on.", style="dim"))
        self._show(task_name(event.task), 0)

    def _estimate(self, event: events.Decided) -> None:
        self._flush()
        self._line(Text())
        super()._estimate(event)
        self._line(Text())

    def _decided(self, event: events.Decided) -> None:
        if self._task in PLANNING:
            self._decisions.append(event)
        else:
            super()._decided(event)

    def _progress(self, event: events.Progress) -> None:
        if self._bar is None:
            self._show(task_name(event.task), 0)
        if self._bar is not None:
            self._bar.update(self._row, total=1.0, completed=event.fraction, facts=progress_facts(event))

    def _validated(self, event: events.Validated) -> None:
        if not self.quiet:  # one line each: a column that the eye runs down
            self.console.print(validated_line(event), no_wrap=True, overflow="ellipsis")

    def _done(self, event: events.Done) -> None:
        self._hide()
        self._flush()
        super()._done(event)

    def _close(self) -> None:
        self._hide()
        self._flush()

    def _flush(self) -> None:
        if self._decisions and not self.quiet:
            self.console.print(decisions_table(self._decisions, self.console.width))
        self._decisions = []

    def _show(self, what: str, done: float) -> None:
        self._hide()
        if self.quiet:
            return
        self._bar = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[facts]}", markup=False),
            console=self.console,
            transient=True,
            expand=True,
            refresh_per_second=8,
        )
        self._row = self._bar.add_task(what, total=None, completed=int(done), facts="")
        self._bar.start()

    def _hide(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _print(self, text: Text) -> None:
        self.console.print(text)


class _Console(Console):
    """Rich's console, but a reader that went away is an error for the entry point, not an exit of its own."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def open_terminal(quiet: bool = False, json: bool = False) -> Terminal:
    """The terminal of this process. With `json` stdout is kept for the result, and warnings go to stderr."""
    stream = sys.stderr if json else sys.stdout
    console = _Console(file=stream, highlight=False, emoji=False, markup=False)
    if console.is_terminal and stream.isatty() and not console.is_dumb_terminal:
        return LiveTerminal(console, quiet)
    return PlainTerminal(console, quiet or json)
