"""Progress in a notebook: one block of HTML that is updated in place."""

from __future__ import annotations

import sys
from collections.abc import Callable
from html import escape
from typing import Any

from unetkit.core.events import Decided, Done, Event, Progress, Started, Validated, Warned, task_name
from unetkit.core.machine import format_duration


def notebook_listener() -> Callable[[Event], None] | None:
    """A listener that shows events below the cell, or None where this process is no kernel of a notebook.

    IPython is never imported where the user's environment has not done so.
    """
    ipython = sys.modules.get("IPython")
    if ipython is None:
        return None
    shell = ipython.get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import HTML, display

    return _Block(lambda html: display(HTML(html), display_id=True), HTML)


class _Block:
    """What is shown: the task, a bar, loss, Dice and the time left, the last decision, and all warnings."""

    def __init__(self, show: Callable[[str], Any], html: Callable[[str], Any]) -> None:
        self._show, self._html = show, html
        self._handle: Any = None
        self._title = ""
        self._fraction: float | None = None
        self._facts: list[str] = []
        self._estimate = ""
        self._best: float | None = None
        self._warnings: list[str] = []

    def __call__(self, event: Event) -> None:
        match event:
            case Started():
                self._title, self._fraction, self._facts = task_name(event.task), None, []
            case Decided(what="cost"):
                self._estimate = event.value
            case Progress():
                self._fraction = event.fraction
                self._facts = _facts(event, self._best)
            case Validated():
                self._best = event.dice if event.best else self._best
            case Warned():
                self._warnings.append(event.message)
            case Done():
                self._title, self._fraction, self._facts = event.message, 1.0, []
            case _:
                return
        self._draw()

    def _draw(self) -> None:
        html = self.render()
        if self._handle is None:
            self._handle = self._show(html)
        else:
            self._handle.update(self._html(html))

    def render(self) -> str:
        """The block as HTML; text that came with events is escaped."""
        done = self._fraction
        value = "" if done is None else f' value="{done:.4f}"'
        percent = "" if done is None else f"{done:.0%}"
        facts = " · ".join(self._facts)
        lines = [
            f"<div><b>{escape(self._title)}</b></div>",
            f'<div><progress max="1"{value} style="width:20em;vertical-align:middle"></progress> {percent}'
            f" <span>{escape(facts)}</span></div>",
        ]
        if self._estimate:
            lines.append(f'<div style="opacity:.7">estimate: {escape(self._estimate)}</div>')
        lines += [f'<div style="color:#b35900">warning: {escape(message)}</div>' for message in self._warnings]
        return f'<div style="font-variant-numeric:tabular-nums">{"".join(lines)}</div>'


def _facts(event: Progress, best: float | None) -> list[str]:
    facts = [f"step {event.done}"] if event.task in ("masked", "train") else []
    if event.loss is not None:
        facts.append(f"loss {event.loss:.3f}")
    dice = event.dice if event.dice is not None else best
    if dice is not None:
        facts.append(f"Dice {dice:.3f}")
    if event.note:
        facts.append(event.note)
    if event.eta is not None:
        facts.append(f"{format_duration(event.eta)} left")
    return facts
