"""Progress in a notebook, with a stand-in for IPython."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from unetkit.core.events import Decided, Done, Progress, Saved, Started, Validated, Warned
from unetkit.report.notebook import notebook_listener


class Page:
    """What the notebook shows: blocks, each updated in place."""

    def __init__(self) -> None:
        self.blocks: list[str] = []

    def display(self, html: Any, display_id: bool) -> Any:
        assert display_id
        self.blocks.append(html.data)
        return SimpleNamespace(update=self.update)

    def update(self, html: Any) -> None:
        self.blocks[-1] = html.data


def install(monkeypatch: pytest.MonkeyPatch, shell: object) -> Page:
    page = Page()
    display = ModuleType("IPython.display")
    display.HTML = lambda data: SimpleNamespace(data=data)  # type: ignore[attr-defined]
    display.display = page.display  # type: ignore[attr-defined]
    package = ModuleType("IPython")
    package.get_ipython = lambda: shell  # type: ignore[attr-defined]
    package.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", package)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    return page


@pytest.mark.parametrize("shell", [None, SimpleNamespace(), SimpleNamespace(kernel=None)])
def test_no_kernel_no_listener(shell: object, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, shell)
    assert notebook_listener() is None


def test_ipython_is_not_imported_for_its_sake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert notebook_listener() is None
    assert "IPython" not in sys.modules


def test_one_block_is_updated_in_place(monkeypatch: pytest.MonkeyPatch) -> None:
    page = install(monkeypatch, SimpleNamespace(kernel=object()))
    listen = notebook_listener()
    assert listen is not None
    listen(Started(task="train"))
    assert "training" in page.blocks[0]
    assert "value=" not in page.blocks[0]  # how far it is, is not known yet
    listen(Decided(what="cost", value="about 6 min", why=""))
    listen(Validated(step=1, fraction=0.1, seconds=1, loss=1, lr=0.1, dice=0.75, best=True))
    listen(Progress(task="train", done=7, fraction=0.25, eta=65.0, loss=0.5))
    block = page.blocks[0]
    assert 'value="0.2500"' in block
    assert "25% <span>step 7 · loss 0.500 · Dice 0.750 · 1 min 05 s left</span>" in block
    assert "estimate: about 6 min" in block
    listen(Warned(message="one image is small"))
    listen(Warned(message="another too"))
    listen(Saved(path="run/plan.json", what="the plan"))
    listen(Done(task="train", message="Dice 0.8 on 3 images"))
    assert len(page.blocks) == 1
    assert "Dice 0.8 on 3 images" in page.blocks[0]
    assert page.blocks[0].count("warning: ") == 2


def test_text_is_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    page = install(monkeypatch, SimpleNamespace(kernel=object()))
    listen = notebook_listener()
    assert listen is not None
    listen(Warned(message="<script>alert(1)</script>.png: odd"))
    listen(Progress(task="predict", done=1, fraction=0.5, note="<b>.png"))
    listen(Started(task="<i>"))
    assert "<script>" not in page.blocks[0]
    assert "&lt;script&gt;" in page.blocks[0]
    assert "<b>.png" not in page.blocks[0]
    assert "<i>" not in page.blocks[0]
